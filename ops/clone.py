"""The pipeline: plan a clone, then capture, check and publish it."""

import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ops import __version__
from ops.capture import Capture, capture
from ops.destination import DestinationSurvey, survey_destination
from ops.errors import BusyError, SourceError, VerificationError
from ops.inspection import check_pair
from ops.interrupts import held_signals
from ops.journal import Swap
from ops.manifest import Head
from ops.model import Clock, Finding, Instance, Progress, ReportProgress, Severity
from ops.names import display
from ops.overlap import refuse_overlap
from ops.profile import Profile
from ops.publish import make_ready, publish
from ops.record import place_of_record, refuse_other_file, write_record
from ops.report import CheckCounts, Room, Totals
from ops.room import measure_rooms, require_room
from ops.settlement import Settled, find_left, refuse_unsettled, require_unused
from ops.source import Location
from ops.sqlite.pages import digest_pages
from ops.survey import SourceSurvey, survey_source
from ops.swap import is_complete
from ops.workspace import Workspace, workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the operator asked for: from where, to where, and the optional manifest.

    `home` is a directory that is never replaced. `wait_seconds` is how long to wait for a
    destination that is in use; `hold_seconds` how long the source's writers may be held up when
    nothing else helps.
    """

    source: Location
    destination: Instance
    profile: Profile
    manifest: Path | None = None
    home: Path | None = None
    lock_timeout_seconds: float = 30.0
    wait_seconds: float = 0.0
    hold_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a clone is going to do, decided before anything is written.

    `left` are the places at which a killed run left something, which is settled first.
    """

    request: Request
    source: SourceSurvey
    destination: DestinationSurvey
    left: tuple[Path, ...]
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
        BusyError: The database stayed locked, or the destination is in use.
    """
    destination = survey_destination(request.destination, home=request.home)
    manifest = request.manifest and place_of_record(request.manifest)
    places = [destination.instance.database, destination.instance.attachments]
    left = find_left(places if manifest is None else [*places, manifest])
    if not request.wait_seconds:
        require_unused(places)
    wanted = request.source.instance
    unknown = refuse_unsettled((wanted.database, wanted.attachments), SourceError)
    source = survey_source(
        wanted,
        request.profile,
        lock_timeout_seconds=request.lock_timeout_seconds,
        progress=progress,
    )
    source = replace(source, findings=(*unknown, *source.findings))
    refuse_overlap(source.instance, destination.instance, manifest)
    if manifest is not None:
        refuse_other_file(manifest)
    rooms = tuple(measure_rooms(source, destination.instance, left))
    for room in rooms:
        require_room(room)
    return Plan(
        request=replace(request, manifest=manifest),
        source=source,
        destination=destination,
        left=tuple(left),
        rooms=rooms,
    )


def run_clone(plan: Plan, *, clock: Clock, progress: ReportProgress) -> Outcome:
    """Carry a plan out: capture into a private workspace, check it there, publish it.

    Either the destination is replaced as a whole or it stays as it was. On return the new pair
    is durable.

    Raises:
        SourceError: The source cannot be read.
        DestinationError: The destination cannot be written.
        VerificationError: The copy is not right; nothing was published.
        BusyError: The database stayed locked, or the destination is in use.
    """
    began = clock.seconds()
    destination = plan.destination.instance
    swaps: list[Swap] = []
    settled: list[Settled] = []
    try:
        with workspace(destination, plan.request.manifest, tell_settled=settled.append) as space:
            captured = _capture(plan, space, clock=clock, progress=progress)
            _write_record(plan, space, captured)
            progress(Progress(step="write to disk"))
            space.sync()
            counts, found = check_pair(
                space.copy,
                profile=plan.request.profile,
                expected=captured.tree.entries,
                progress=progress,
            )
            totals = Totals(
                database_bytes=space.copy.database.stat().st_size,
                files=counts.files,
                entries=len(captured.tree.entries),
                attachments_bytes=counts.bytes_read,
            )
            findings = (*plan.source.findings, *_capture_findings(captured), *found)
            _require_sound(findings)
            progress(Progress(step="publish"))
            _publish(plan, space, swaps, clock=clock, progress=progress)
    except BaseException as error:
        error.add_note(_state_of_the_destination(swaps, settled))
        raise
    return Outcome(
        plan=plan,
        capture=captured,
        totals=totals,
        counts=counts,
        findings=findings,
        seconds=clock.seconds() - began,
    )


def _publish(
    plan: Plan, space: Workspace, swaps: list[Swap], *, clock: Clock, progress: ReportProgress
) -> None:
    """Put the copy in place once nobody uses what stands there; note each try in `swaps`."""
    deadline = clock.seconds() + plan.request.wait_seconds
    while True:
        make_ready(
            plan.destination.instance,
            wait_seconds=deadline - clock.seconds(),
            clock=clock,
            progress=progress,
        )
        swaps.append(space.swap())
        try:
            with held_signals():
                publish(swaps[-1])
        except BusyError:  # somebody opened the old pair meanwhile
            if clock.seconds() >= deadline:
                raise
        else:
            return


def _state_of_the_destination(swaps: list[Swap], settled: list[Settled]) -> str:
    """Tell what stands at the destination after a failure, by looking."""
    if swaps and is_complete(swaps[-1]):
        return "the new pair is in place and was checked; only what came after that failed"
    if swaps and swaps[-1].journal.exists():
        return "the destination is half replaced; the next run on it, or `inv recover`, finishes it"
    if not swaps and Settled.COMPLETED in settled:
        return "of this run nothing is in place; the swap of an earlier run was completed first"
    return "nothing was published: the destination is as it was"


def _capture(plan: Plan, space: Workspace, *, clock: Clock, progress: ReportProgress) -> Capture:
    return capture(
        plan.source.instance,
        space.copy,
        profile=plan.request.profile,
        size=plan.source.size,
        scratch=space.scratch,
        lock_timeout_seconds=plan.request.lock_timeout_seconds,
        hold_seconds=plan.request.hold_seconds,
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


def _write_record(plan: Plan, space: Workspace, captured: Capture) -> None:
    """Write the manifest of the copy beside its place, where one was asked for."""
    if space.record is None:
        return
    head = Head(
        captured=captured.instant.isoformat(),
        tool=__version__,
        profile=plan.request.profile.name,
        database=digest_pages(space.copy.database),
        mode=stat.S_IMODE(space.copy.database.stat().st_mode),
    )
    write_record(space.record, head, captured.tree.entries.values())
