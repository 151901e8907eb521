"""The pipeline: plan a clone, then capture, check and publish it."""

import stat
from dataclasses import dataclass, replace
from pathlib import Path

from ops import __version__
from ops.capture import Capture, capture
from ops.destination import DestinationSurvey, survey_destination
from ops.errors import SourceError
from ops.flusher import flushing
from ops.inspection import check_pair, forget_database
from ops.manifest import Head
from ops.model import Clock, Finding, Instance, Progress, ReportProgress
from ops.overlap import refuse_overlap
from ops.profile import Profile
from ops.record import place_of_record, refuse_other_file, write_record
from ops.replacing import Replacement, put_in_place
from ops.report import CheckCounts, Room, Totals
from ops.room import measure_rooms, require_room
from ops.settlement import find_left, refuse_unsettled, require_unused
from ops.source import Location
from ops.sqlite.pages import digest_pages
from ops.survey import SourceSurvey, refuse_damage, survey_source
from ops.tree.crew import crew, fitting_jobs
from ops.tree.work import Trees
from ops.verdict import capture_findings, require_sound
from ops.workspace import Workspace, workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the operator asked for: from where, to where, and the optional manifest.

    `home` is a directory that is never replaced. `wait_seconds` is how long to wait for a
    destination that is in use; `hold_seconds` how long the source's writers may be held up when
    nothing else helps. `jobs` processes copy and check, 0 leaves it to us; `from_disk` has the
    kernel forget what it has of the copy in memory before that is read again.
    """

    source: Location
    destination: Instance
    profile: Profile
    manifest: Path | None = None
    home: Path | None = None
    lock_timeout_seconds: float = 30.0
    wait_seconds: float = 0.0
    hold_seconds: float = 0.0
    jobs: int = 0
    from_disk: bool = False


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
    def jobs(self) -> int:
        """How many processes copy and check."""
        size = self.source.size
        return fitting_jobs(self.request.jobs, files=size.files, size=size.bytes)

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


def plan_clone(
    request: Request,
    *,
    quick: bool = False,
    may_be_in_use: bool = False,
    progress: ReportProgress,
) -> Plan:
    """Validate source and destination and decide what a clone will do; nothing is written.

    Args:
        request: What was asked for.
        quick: Leave the indexes of the source's database to the check of its copy, where that
            follows at once.
        may_be_in_use: The destination may be, as it is planned again once something freed it.
        progress: Called as the work goes on.

    Raises:
        SourceError: The source cannot be used.
        DestinationError: The destination cannot be used, overlaps the source, or has no room.
        BusyError: The database stayed locked, or the destination is in use.
    """
    destination = survey_destination(request.destination, home=request.home)
    manifest = request.manifest and place_of_record(request.manifest)
    places = [destination.instance.database, destination.instance.attachments]
    left = find_left(places if manifest is None else [*places, manifest])
    if not (request.wait_seconds or may_be_in_use):
        require_unused(places)
    wanted = request.source.instance
    unknown = refuse_unsettled((wanted.database, wanted.attachments), SourceError)
    source = survey_source(
        wanted,
        request.profile,
        quick=quick,
        lock_timeout_seconds=request.lock_timeout_seconds,
        progress=progress,
    )
    source = replace(source, findings=(*unknown, *source.findings))
    refuse_overlap(source.instance, destination.instance, manifest)
    if manifest is not None:
        refuse_other_file(manifest)
    rooms = measure_rooms(source, destination.instance, left)
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
    tried = Replacement()
    try:
        with workspace(
            destination, plan.request.manifest, tell_settled=tried.settled.append
        ) as space:
            with (
                crew(_trees(plan, space), jobs=plan.jobs, keep=space.locks) as workers,
                flushing(space.sync, background=workers.parallel) as flusher,
            ):
                captured = capture(
                    plan.source.instance,
                    space.copy,
                    workers,
                    profile=plan.request.profile,
                    size=plan.source.size,
                    scratch=space.scratch,
                    lock_timeout_seconds=plan.request.lock_timeout_seconds,
                    hold_seconds=plan.request.hold_seconds,
                    clock=clock,
                    progress=progress,
                )
                _write_record(plan, space, captured)
                progress(Progress(step="write to disk"))
                flusher.start()
                if plan.request.from_disk:
                    flusher.finish()
                    forget_database(space.copy.database)
                counts, found = check_pair(
                    space.copy,
                    workers,
                    profile=plan.request.profile,
                    expected=captured.tree.entries,
                    progress=progress,
                )
                progress(Progress(step="write to disk"))
            totals = Totals(
                database_bytes=space.copy.database.stat().st_size,
                files=counts.files,
                entries=len(captured.tree.entries),
                attachments_bytes=counts.bytes_read,
            )
            findings = (*plan.source.findings, *capture_findings(captured), *found)
            if any(finding.kind == "integrity" for finding in found):
                refuse_damage(
                    plan.source.instance,
                    plan.request.profile,
                    scratch=space.scratch,
                    lock_timeout_seconds=plan.request.lock_timeout_seconds,
                )
            require_sound(findings)
            progress(Progress(step="publish"))
            put_in_place(
                space, tried, wait_seconds=plan.request.wait_seconds, clock=clock, progress=progress
            )
    except BaseException as error:
        error.add_note(tried.state)
        raise
    return Outcome(
        plan=plan,
        capture=captured,
        totals=totals,
        counts=counts,
        findings=findings,
        seconds=clock.seconds() - began,
    )


def _trees(plan: Plan, space: Workspace) -> Trees:
    return Trees(
        source=plan.source.instance.attachments,
        copy=space.copy.attachments,
        from_disk=plan.request.from_disk,
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
