"""Put a snapshot back as an instance: the same pipeline as a clone, read from a store."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from ops.destination import DestinationSurvey, survey_destination
from ops.errors import DestinationError, SourceError
from ops.model import Clock, Finding, Instance, Progress, ReportProgress
from ops.names import display
from ops.overlap import refuse_overlap
from ops.profile import Profile
from ops.replacing import Replacement, put_in_place
from ops.report import CheckCounts, Room
from ops.room import Need, add_rooms, require_room
from ops.settlement import find_left, require_unused
from ops.snapshot import Summary
from ops.sqlite.connection import connect, sqlite_failure
from ops.staging import is_staging, staging_source
from ops.store import Snapshot
from ops.storing import used_snapshot
from ops.unpacking import unpack_snapshot
from ops.workspace import workspace

_SPARE_BYTES = 4 << 20
_BLOCK = 4096
_SPARE_INODES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreRequest:
    """Which snapshot to restore, and where to; the rest is as for a clone."""

    snapshot: Snapshot
    destination: Instance
    profile: Profile
    home: Path | None = None
    wait_seconds: float = 0.0
    jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """What a restore is going to do, decided before anything is written."""

    request: RestoreRequest
    summary: Summary
    destination: DestinationSurvey
    left: tuple[Path, ...]
    rooms: tuple[Room, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOutcome:
    """What was restored, what was checked, everything found, and the seconds it took."""

    plan: RestorePlan
    counts: CheckCounts
    findings: tuple[Finding, ...]
    seconds: float


def plan_restore(request: RestoreRequest, *, may_be_in_use: bool = False) -> RestorePlan:
    """Look at snapshot and destination and decide what a restore will do; nothing is written.

    Args:
        request: What was asked for.
        may_be_in_use: The destination may be, as it is planned again once something freed it.

    Raises:
        SourceError: The snapshot cannot be used.
        DestinationError: The destination cannot be used, overlaps the store, or has no room.
        BusyError: The destination is in use.
    """
    snapshot = request.snapshot
    if snapshot.summary is None or snapshot.problem:
        raise SourceError(
            f"the snapshot cannot be read: {display(snapshot.path)}: {snapshot.problem}",
            hint="restore another one; `inv snapshots` lists them",
        )
    destination = survey_destination(request.destination, home=request.home)
    places = [destination.instance.database, destination.instance.attachments]
    left = find_left(places)
    if not (request.wait_seconds or may_be_in_use):
        require_unused(places)
    store = snapshot.path.parent
    refuse_overlap(snapshot.instance, destination.instance)
    for place in places:
        if store in place.parents or place == store:
            raise DestinationError(
                f"the destination lies in the store: {display(place)}",
                hint="restore to a place outside of it",
            )
    rooms = rooms_for(snapshot.summary, destination.instance)
    for room in rooms:
        require_room(room)
    return RestorePlan(
        request=request,
        summary=snapshot.summary,
        destination=destination,
        left=tuple(left),
        rooms=rooms,
        findings=_label_of(snapshot),
    )


def _label_of(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Warn of a snapshot that was made of a copy for staging."""
    path = snapshot.instance.database
    try:
        connection = connect(path, "mode=ro&immutable=1", 0)
        try:
            return (staging_source("snapshot"),) if is_staging(connection) else ()
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise sqlite_failure(path, error) from error


def rooms_for(summary: Summary, destination: Instance) -> tuple[Room, ...]:
    """Add up what each file system must hold for a snapshot, whole blocks for every file.

    Raises:
        DestinationError: A place cannot be looked at.
    """
    tree = summary.attachments
    size = tree.bytes + tree.entries * _BLOCK
    needs = (
        Need(path=destination.database, bytes=summary.database.size, inodes=_SPARE_INODES),
        Need(path=destination.attachments, bytes=size, inodes=tree.entries),
    )
    return add_rooms(needs, spare_bytes=_SPARE_BYTES)


def run_restore(plan: RestorePlan, *, clock: Clock, progress: ReportProgress) -> RestoreOutcome:
    """Carry a plan out: make the pair in a private workspace, check it there, publish it.

    Either the destination is replaced as a whole or it stays as it was. On return the new pair
    is durable.

    Raises:
        SourceError: The snapshot cannot be read, or is damaged.
        DestinationError: The destination cannot be written.
        VerificationError: The copy is not right; nothing was published.
        BusyError: The destination is in use, or the snapshot is being removed.
    """
    began = clock.seconds()
    tried = Replacement()
    try:
        with (
            used_snapshot(plan.request.snapshot),
            workspace(plan.destination.instance, tell_settled=tried.settled.append) as space,
        ):
            counts, found = unpack_snapshot(
                plan.request.snapshot,
                plan.summary,
                space.copy,
                plan.request.profile,
                spill=space.scratch,
                keep=space.locks,
                jobs=plan.request.jobs,
                sync=space.sync,
                progress=progress,
            )
            progress(Progress(step="publish"))
            put_in_place(
                space, tried, wait_seconds=plan.request.wait_seconds, clock=clock, progress=progress
            )
    except BaseException as error:
        error.add_note(tried.state)
        raise
    return RestoreOutcome(
        plan=plan,
        counts=counts,
        findings=(*plan.findings, *found),
        seconds=clock.seconds() - began,
    )
