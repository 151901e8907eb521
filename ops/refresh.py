"""Refresh staging: the pipeline of a clone, with the database made harmless in between."""

import os
import sqlite3
from dataclasses import dataclass, replace
from pathlib import Path

from ops import __version__
from ops.errors import DestinationError, SourceError, os_failure
from ops.harmless import refuse_suspects, require_harmless, search_copy
from ops.inspection import (
    Effort,
    count_checks,
    judge_database,
    match_files,
    read_entries,
    unreadable,
)
from ops.interrupts import steady_threads
from ops.model import Clock, Entry, Finding, Instance, Kind, Progress, ReportProgress
from ops.names import display
from ops.profile import Profile
from ops.refreshing import RefreshPlan, RefreshRequest
from ops.replacing import Replacement, put_in_place
from ops.report import CheckCounts
from ops.sanitise.account import new_password
from ops.sanitise.files import Attachments, Place
from ops.sanitise.label import marker_text
from ops.sanitise.transform import Sanitised, sanitise_database, write_afresh
from ops.sanitise.tree import (
    dress,
    finish_directories,
    move_files,
    write_file,
    write_placeholders,
)
from ops.spaces import space_beside
from ops.sqlite.connection import connect, remove_database
from ops.sqlite.header import inspect_database
from ops.sqlite.source import Way
from ops.staging import MARKER
from ops.taking import root_of, take_database, take_pair, take_snapshot
from ops.tree.catalogue import Catalogue
from ops.tree.removal import remove_tree
from ops.verdict import require_sound
from ops.workspace import Workspace, workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshOutcome:
    """What a refresh did.

    `password` is that of the administrator, told here and nowhere else; empty where the database
    has nobody for it. `files` is the number of attachments in the copy, `left_out` of those that
    no row names and that stayed behind.
    """

    plan: RefreshPlan
    sanitised: Sanitised
    password: str
    files: int
    left_out: int
    database_bytes: int
    counts: CheckCounts
    findings: tuple[Finding, ...]
    seconds: float


def run_refresh(plan: RefreshPlan, *, clock: Clock, progress: ReportProgress) -> RefreshOutcome:
    """Carry a plan out: take the source into a private workspace, sanitise, search, publish.

    Either the destination is replaced as a whole by a copy that was searched, or it stays as it
    was. What was not sanitised is only ever in the workspace, which nobody else can enter, and is
    removed with it.

    Raises:
        SourceError: The source cannot be read, or not be sanitised.
        DestinationError: The destination cannot be written.
        VerificationError: Something of the source is left in the copy, or the copy is not right;
            nothing was published.
        BusyError: The database stayed locked, or the destination is in use.
    """
    began = clock.seconds()
    tried = Replacement()
    try:
        with workspace(plan.destination.instance, tell_settled=tried.settled.append) as space:
            outcome = _make(plan, space, clock, progress)
            progress(Progress(step="write to disk"))
            space.sync()
            progress(Progress(step="publish"))
            put_in_place(
                space, tried, wait_seconds=plan.request.wait_seconds, clock=clock, progress=progress
            )
    except BaseException as error:
        error.add_note(tried.state)
        raise
    return replace(outcome, seconds=clock.seconds() - began)


def _make(
    plan: RefreshPlan, space: Workspace, clock: Clock, progress: ReportProgress
) -> RefreshOutcome:
    """Make the copy in the workspace, and see that it is harmless and whole."""
    request = plan.request
    raw = Instance(
        database=space_beside(space.destination.database) / "raw",
        attachments=space_beside(space.destination.attachments) / "raw",
    )
    taken, found = _take(plan, space, raw, clock, progress)
    wal = inspect_database(raw.database).header.wal
    password = new_password()
    made = clock.now()
    sanitised = sanitise_database(
        raw.database,
        request.profile,
        key=request.key,
        admin_email=request.admin_email,
        password=password,
        attachments=request.attachments,
        made=made,
        tool=__version__,
        progress=progress,
    )
    refuse_suspects(sanitised.findings, strict=request.strict)
    progress(Progress(step="write database afresh"))
    write_afresh(raw.database, space.copy.database, wal=wal)
    files, left_out = _place_files(
        request, sanitised.places, (raw.attachments, space.copy.attachments), taken, progress
    )
    write_file(space.copy.attachments, MARKER, marker_text(made), taken[1])
    finish_directories(space.copy.attachments, taken[1])
    _dress_database(plan, space.copy.database)
    kept = request.attachments is Attachments.KEEP
    with steady_threads(2) as beside:  # most of both does without Python's lock
        removing = beside.submit(_remove_raw, raw)
        searching = beside.submit(search_copy, sanitised, space.copy, contents=kept)
        counts, checked = _check(request.profile, space, progress)
        searched = searching.result()
        removing.result()
    findings = (*plan.findings, *found, *sanitised.findings, *searched, *checked)
    require_harmless(searched)
    require_sound(findings)
    return RefreshOutcome(
        plan=plan,
        sanitised=sanitised,
        password=password if sanitised.account is not None else "",
        files=files,
        left_out=left_out,
        database_bytes=space.copy.database.stat().st_size,
        counts=counts,
        findings=findings,
        seconds=0.0,
    )


def _take(
    plan: RefreshPlan, space: Workspace, raw: Instance, clock: Clock, progress: ReportProgress
) -> tuple[tuple[Catalogue, Entry], tuple[Finding, ...]]:
    """Bring what is needed of the source into the workspace; describe its attachments."""
    request = plan.request
    keep = request.attachments is Attachments.KEEP
    try:
        raw.attachments.mkdir(mode=0o700)
    except OSError as error:
        raise os_failure(DestinationError, "create", raw.attachments, error) from error
    if request.snapshot is not None and plan.summary is not None:
        entries = take_snapshot(
            request.snapshot,
            plan.summary,
            raw,
            request.profile,
            attachments=keep,
            spill=space.scratch,
            keep=space.locks,
            jobs=request.jobs,
            progress=progress,
        )
        return (entries, entries[b""]), ()
    if plan.source is None:
        raise ValueError("a plan has a source or a snapshot")
    like = root_of(plan.source.instance.attachments)
    if not keep:
        take_database(
            plan.source,
            raw.database,
            scratch=space.scratch,
            lock_timeout_seconds=request.lock_timeout_seconds,
            progress=progress,
        )
        return (Catalogue(), like), ()
    entries, found = take_pair(
        plan.source,
        raw,
        request.profile,
        scratch=space.scratch,
        keep=space.locks,
        jobs=request.jobs,
        lock_timeout_seconds=request.lock_timeout_seconds,
        hold_seconds=request.hold_seconds,
        clock=clock,
        progress=progress,
    )
    return (entries, like), found


def _place_files(
    request: RefreshRequest,
    places: tuple[Place, ...],
    trees: tuple[Path, Path],
    taken: tuple[Catalogue, Entry],
    progress: ReportProgress,
) -> tuple[int, int]:
    """Fill the tree of the copy; return how many files it has, and how many were left out.

    Args:
        request: What was asked for.
        places: The files that rows name.
        trees: The tree that was captured, where it was, and the one to fill.
        taken: What the source has, and how its root looks.
        progress: Called as the work goes on.
    """
    captured, root = trees
    entries, like = taken
    if request.attachments is Attachments.NONE:
        return 0, 0
    if request.attachments is Attachments.PLACEHOLDER:
        return write_placeholders(root, places, like, progress=progress), 0
    for place in places:
        if place.old not in entries or entries[place.old].kind is not Kind.FILE:
            raise SourceError(
                f"a row names what is no plain file: {display(place.old)}",
                hint="refresh with placeholders, or replace it by a file",
            )
    left_out = sum(1 for _ in entries.files()) - len({place.old for place in places})
    return move_files(captured, root, places), left_out


def _remove_raw(raw: Instance) -> None:
    """Remove what was not sanitised, as soon as nobody needs it."""
    remove_database(raw.database)
    remove_tree(raw.attachments, error=DestinationError)


def _dress_database(plan: RefreshPlan, copy: Path) -> None:
    """Give the database the owner and mode of the source's."""
    try:
        descriptor = os.open(copy, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            dress(descriptor, plan.database_entry, plan.database_entry.mode)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise os_failure(DestinationError, "set the metadata of", copy, error) from error


def _check(
    profile: Profile, space: Workspace, progress: ReportProgress
) -> tuple[CheckCounts, tuple[Finding, ...]]:
    """Check the copy as `inv verify` would: integrity, keys, every file and its digest."""
    progress(Progress(step="search and check the copy"))
    try:
        connection = connect(space.copy.database, "mode=ro&immutable=1", 0)
    except sqlite3.Error as error:
        return CheckCounts(), (unreadable(display(str(error))),)
    try:
        facts = judge_database(connection, profile, quick=False, way=Way.REST)
    finally:
        connection.close()
    entries = read_entries(
        space.copy.attachments,
        blame="destination",
        effort=Effort(),
        spill=space.scratch,
        progress=progress,
    )
    found, references = match_files(facts.named, entries)
    return count_checks(facts, entries, references), (*facts.findings, *found)
