"""The pipeline: plan a clone, then capture, check and publish it."""

import stat
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from ops import __version__
from ops.capture import Capture, capture
from ops.destination import DestinationSurvey, survey_destination
from ops.errors import (
    UnfinishedSwapError,
    VerificationError,
)
from ops.inspection import check_pair
from ops.interrupts import held_signals
from ops.manifest import Head
from ops.model import Clock, Finding, Instance, Progress, ReportProgress, Severity
from ops.names import display
from ops.overlap import refuse_overlap
from ops.profile import Profile
from ops.publish import publish, sync_workspace
from ops.record import place_of_record, refuse_other_file, staged_record
from ops.report import CheckCounts, Room, Totals
from ops.room import measure_rooms, require_room
from ops.source import Location
from ops.sqlite.pages import digest_pages
from ops.survey import SourceSurvey, survey_source
from ops.workspace import Workspace, workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the operator asked for: from where, to where, and the optional manifest.

    `home` is a directory that is never replaced.
    """

    source: Location
    destination: Instance
    profile: Profile
    manifest: Path | None = None
    home: Path | None = None
    lock_timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a clone is going to do, decided before anything is written."""

    request: Request
    source: SourceSurvey
    destination: DestinationSurvey
    rooms: tuple[Room, ...]

    @property
    def totals(self) -> Totals:
        """What there is to copy, as it was counted."""
        return Totals(
            database_bytes=self.source.database.entry.size,
            files=self.source.size.files,
            entries=self.source.size.entries,
            attachments_bytes=self.source.size.bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a clone did: what was captured, the check's figures, all findings, seconds taken."""

    plan: Plan
    capture: Capture
    totals: Totals
    counts: CheckCounts
    findings: tuple[Finding, ...]
    seconds: float


def plan_clone(request: Request, *, progress: ReportProgress) -> Plan:
    """Validate source and destination and decide what a clone will do; nothing is written.

    Raises:
        SourceError: The source cannot be used.
        DestinationError: The destination cannot be used, overlaps the source, or has no room.
        BusyError: The database stayed locked.
    """
    destination = survey_destination(request.destination, home=request.home)
    manifest = request.manifest and place_of_record(request.manifest)
    source = survey_source(
        request.source.instance,
        request.profile,
        lock_timeout_seconds=request.lock_timeout_seconds,
        progress=progress,
    )
    refuse_overlap(source.instance, destination.instance, manifest)
    if manifest is not None:
        refuse_other_file(manifest)
    rooms = tuple(measure_rooms(source, destination.instance))
    for room in rooms:
        require_room(room)
    return Plan(
        request=replace(request, manifest=manifest),
        source=source,
        destination=destination,
        rooms=rooms,
    )


def run_clone(plan: Plan, *, clock: Clock, progress: ReportProgress) -> Outcome:
    """Carry a plan out: capture into a private workspace, check it there, publish it.

    Either the destination is replaced as a whole or it stays as it was.

    Raises:
        SourceError: The source cannot be read.
        DestinationError: The destination cannot be written.
        VerificationError: The copy is not right; nothing was published.
        BusyError: The database stayed locked, or the destination is in use.
    """
    began = clock.seconds()
    destination = plan.destination.instance
    published = False
    try:
        with workspace(destination) as space:
            captured = _capture(plan, space, clock=clock, progress=progress)
            progress(Progress(step="write to disk"))
            sync_workspace(space)
            counts, found = check_pair(
                space.stage,
                profile=plan.request.profile,
                expected=captured.tree.entries,
                progress=progress,
            )
            totals = Totals(
                database_bytes=space.stage.database.stat().st_size,
                files=counts.files,
                entries=len(captured.tree.entries),
                attachments_bytes=counts.bytes_read,
            )
            findings = (*plan.source.findings, *_capture_findings(captured), *found)
            _require_sound(findings)
            with _record(plan, space, captured):
                progress(Progress(step="publish"))
                with held_signals():  # a stop must not come between the deed and its record
                    publish(space, destination)
                    published = True
    except BaseException as error:
        error.add_note(_state_of_the_destination(error, published=published))
        raise
    return Outcome(
        plan=plan,
        capture=captured,
        totals=totals,
        counts=counts,
        findings=findings,
        seconds=clock.seconds() - began,
    )


def _state_of_the_destination(error: BaseException, *, published: bool) -> str:
    if isinstance(error, UnfinishedSwapError):
        return "the destination needs your hands"
    if published:
        return "the new pair is in place and was checked; only what came after that failed"
    return "nothing was published: the destination is as it was"


def _capture(plan: Plan, space: Workspace, *, clock: Clock, progress: ReportProgress) -> Capture:
    return capture(
        plan.source.instance,
        space.stage,
        profile=plan.request.profile,
        size=plan.source.size,
        scratch=space.scratch,
        lock_timeout_seconds=plan.request.lock_timeout_seconds,
        clock=clock,
        progress=progress,
    )


def _capture_findings(captured: Capture) -> Iterable[Finding]:
    """Tell what the copy could not keep, or could not read twice the same."""
    for path in sorted(captured.tree.unsettled):
        yield Finding(
            kind="unsettled",
            severity=Severity.WARNING,
            where=display(path),
            expected="the same bytes at each reading",
            found="a file that changed each time it was read",
        )
    kept = [*captured.tree.narrowed.values(), captured.database_kept]
    for what, lost in (
        ("owner", sum(not one.owner for one in kept)),
        ("group", sum(not one.group for one in kept)),
        ("extended attributes", sum(not one.xattrs for one in kept)),
    ):
        if lost:
            yield Finding(
                kind="not-kept",
                severity=Severity.WARNING,
                where=f"{lost} {'entry' if lost == 1 else 'entries'}: {what}",
                expected="as in the source",
                found="not allowed for this user, or unknown to the file system",
            )


def _require_sound(findings: tuple[Finding, ...]) -> None:
    """Stop before anything is published when the copy is not right.

    Raises:
        VerificationError: It is not; the findings are attached.
    """
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors:
        return
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if errors[1:] else ""
    hint = "try again; if it fails again, look at the disk"
    if {finding.kind for finding in errors} <= {"missing-file", "outside", "foreign-key"}:
        hint = "the source itself is like this: mend it, or copy it as it is with --profile none"
    raise VerificationError(
        f"the copy failed its check: {first.kind}: {first.where}: "
        f"expected {first.expected}, found {first.found}{more}",
        hint=hint,
        findings=findings,
    )


def _record(plan: Plan, space: Workspace, captured: Capture) -> AbstractContextManager[None]:
    """Make ready to record the copy, where that was asked for."""
    if plan.request.manifest is None:
        return nullcontext()
    head = Head(
        captured=captured.instant.isoformat(),
        tool=__version__,
        profile=plan.request.profile.name,
        database=digest_pages(space.stage.database),
        mode=stat.S_IMODE(space.stage.database.stat().st_mode),
    )
    return staged_record(plan.request.manifest, head, captured.tree.entries.values())
