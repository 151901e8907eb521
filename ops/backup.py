"""Make a snapshot of an instance in a store: capture, check, publish by one rename."""

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ops import __version__
from ops.bag import ATTACHMENTS, DATABASE, damaged_tags, finish_bag
from ops.errors import DestinationError, SourceError
from ops.making import Made, make_payload
from ops.model import Clock, Instance, Progress, ReportProgress
from ops.names import display
from ops.overlap import refuse_overlap
from ops.profile import Profile
from ops.report import Room, finding_document
from ops.room import Need, add_rooms, require_room
from ops.settlement import refuse_unsettled
from ops.snapshot import (
    DAILY,
    DAMAGED,
    Event,
    Shrinkage,
    Summary,
    TreeSummary,
    encode_summary,
    shrunk,
)
from ops.source import Location
from ops.store import (
    LATEST,
    Snapshot,
    append_event,
    check_store,
    list_snapshots,
    make_store,
    newest_sound,
)
from ops.storing import free_name, locked_store, new_snapshot, publish_snapshot
from ops.survey import SourceSurvey, survey_source
from ops.tree.scan import TreeSize

_SPARE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRequest:
    """What to back up, and where to.

    `independent` copies every file instead of sharing the unchanged ones with the newest verified
    snapshot. `purpose` is told by the snapshot; `instant` is what it shows, where the source is an
    older backup. `shrinkage` tells how much smaller than that one a snapshot may be without a flag.
    The rest is as for a clone.
    """

    source: Location
    store: Path
    profile: Profile
    purpose: str = DAILY
    instant: datetime | None = None
    independent: bool = False
    shrinkage: Shrinkage = field(default_factory=Shrinkage)
    lock_timeout_seconds: float = 30.0
    hold_seconds: float = 0.0
    jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupPlan:
    """What a backup is going to do; `base` is the snapshot to share files with, if any.

    `before` is the newest verified snapshot that is of the usual size, to compare with.
    """

    request: BackupRequest
    source: SourceSurvey
    base: Snapshot | None
    before: Snapshot | None
    room: Room


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupOutcome:
    """What came of it: the snapshot, and how it was made."""

    plan: BackupPlan
    snapshot: Snapshot
    made: Made


def plan_backup(request: BackupRequest, *, progress: ReportProgress) -> BackupPlan:
    """Validate the source and look at the store; nothing is written.

    Raises:
        SourceError: The source cannot be used.
        DestinationError: The store cannot be used, overlaps the source, or has no room.
        BusyError: The database stayed locked.
    """
    store = check_store(request.store)
    base, before = _earlier(store, request)
    wanted = request.source.instance
    unknown = refuse_unsettled((wanted.database, wanted.attachments), SourceError)
    source = survey_source(
        wanted,
        request.profile,
        quick=True,
        count=base is None,
        lock_timeout_seconds=request.lock_timeout_seconds,
        progress=progress,
    )
    source = replace(source, findings=(*unknown, *source.findings))
    for half in (source.instance.database, source.instance.attachments):
        if store == half or store in half.parents:
            raise DestinationError(
                f"the source lies in the store: {display(half)}",
                hint="name the application's own instance, or another store",
            )
    if base is not None and base.summary is not None:
        known = base.summary.attachments
        source = replace(
            source, size=TreeSize(files=known.files, entries=known.entries, bytes=known.bytes)
        )
    place = Instance(database=store / DATABASE, attachments=store / ATTACHMENTS)
    refuse_overlap(source.instance, place, None)
    room = _measure_room(store, source)
    require_room(room)
    return BackupPlan(request=request, source=source, base=base, before=before, room=room)


def _earlier(store: Path, request: BackupRequest) -> tuple[Snapshot | None, Snapshot | None]:
    """Return the snapshot to share files with, and the one to compare sizes with."""
    snapshots = list_snapshots(store) if store.is_dir() else ()
    base = None if request.independent else newest_sound(snapshots)
    return base, newest_sound(one for one in snapshots if not one.flagged)


def _measure_room(store: Path, source: SourceSurvey) -> Room:
    """Add up what is new for sure: the database, and the attachments that were counted."""
    size = source.database.room + source.size.room
    inodes = source.size.entries if source.size.room else 0
    need = Need(path=store / LATEST, bytes=size, inodes=inodes)
    (room,) = add_rooms([need], spare_bytes=_SPARE_BYTES)
    return room


def run_backup(plan: BackupPlan, *, clock: Clock, progress: ReportProgress) -> BackupOutcome:
    """Make a snapshot, check it, and publish it; on return it is durable.

    Raises:
        SourceError: The source cannot be read.
        DestinationError: The store cannot be written.
        VerificationError: The snapshot is not right; nothing was published.
        BusyError: Another run works in the store, or the database stayed locked.
    """
    store = make_store(plan.request.store)
    with locked_store(store) as lock:
        return back_up_locked(plan, store, lock, clock=clock, progress=progress)


def back_up_locked(
    plan: BackupPlan, store: Path, lock: int, *, clock: Clock, progress: ReportProgress
) -> BackupOutcome:
    """Do the same in a store that is locked already, through this descriptor.

    Raises:
        OpsError: As for `run_backup`.
    """
    began = clock.seconds()
    request = plan.request
    base, before = _earlier(store, request)  # another run may have made or pruned some meanwhile
    plan = replace(plan, base=_trusted(base, clock), before=before)
    with new_snapshot(store) as bag:
        made = make_payload(
            bag,
            plan.source,
            request.profile,
            base=plan.base,
            lock=lock,
            jobs=request.jobs,
            lock_timeout_seconds=request.lock_timeout_seconds,
            hold_seconds=request.hold_seconds,
            clock=clock,
            progress=progress,
        )
        summary = _summarise(plan, store, made, clock.seconds() - began)
        finish_bag(bag, encode_summary(summary), _info(summary, made), made.digests)
        progress(Progress(step="publish"))
        path = publish_snapshot(store, summary.name)
    return BackupOutcome(plan=plan, snapshot=Snapshot(path=path, summary=summary), made=made)


def _trusted(base: Snapshot | None, clock: Clock) -> Snapshot | None:
    """Return a snapshot whose ledger may be relied on; damage is written down, and shared by none.

    A digest that is carried over is only as good as the ledger it comes from.
    """
    if base is None:
        return None
    try:
        damaged = damaged_tags(base.path)
    except OSError as error:
        damaged = [f"{error.filename}: {error.strerror}"]
    if not damaged:
        return base
    details = {"first": damaged[0]}
    append_event(base, Event(what=DAMAGED, instant=clock.now(), details=details))
    return None


def _summarise(plan: BackupPlan, store: Path, made: Made, seconds: float) -> Summary:
    """Return what the snapshot says of itself."""
    summary = Summary(
        name="",
        captured=plan.request.instant or made.captured.instant,
        tool=__version__,
        profile=plan.request.profile.name,
        purpose=plan.request.purpose,
        database=made.database,
        attachments=TreeSummary(
            entries=len(made.captured.tree.entries),
            files=made.described.files,
            bytes=made.described.bytes,
            shared_files=made.described.shared_files,
            shared_bytes=made.described.shared_bytes,
        ),
        based_on=plan.base.name if plan.base else "",
        seconds=round(seconds, 6),
        details=_details(plan, made),
    )
    flagged = ""
    daily = plan.request.purpose == DAILY
    if daily and plan.before is not None and plan.before.summary is not None:
        flagged = shrunk(plan.before.summary, summary, plan.request.shrinkage)
    return replace(summary, name=free_name(store, summary), flagged=flagged)


def _details(plan: BackupPlan, made: Made) -> dict[str, Any]:
    source = plan.source.instance
    return {
        "source": {
            "database": display(source.database),
            "attachments": display(source.attachments),
            "origin": plan.request.source.origin,
        },
        "captured": made.captured.figures(),
        "checks": asdict(made.counts),
        "findings": [finding_document(finding) for finding in made.findings],
    }


def _info(summary: Summary, made: Made) -> dict[str, str]:
    """Return the fields of `bag-info.txt`; names of one file count each for Payload-Oxum."""
    size = summary.database.size + made.described.named_bytes
    return {
        "External-Identifier": summary.name,
        "Bagging-Date": summary.captured.date().isoformat(),
        "Bag-Software-Agent": f"ciso-ops {summary.tool}",
        "Payload-Oxum": f"{size}.{summary.attachments.files + 1}",
    }
