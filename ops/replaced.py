"""Keep what a restore is about to replace, as a snapshot of its own."""

from ops.backup import BackupRequest, plan_backup, run_backup
from ops.errors import DestinationError, OpsError
from ops.model import Clock, Instance, ReportProgress
from ops.names import display
from ops.restore import RestorePlan
from ops.snapshot import REPLACED
from ops.source import Location
from ops.store import Snapshot


def keep_replaced(
    plan: RestorePlan, *, lock_timeout_seconds: float, clock: Clock, progress: ReportProgress
) -> Snapshot | None:
    """Make a snapshot of the pair that stands at the destination; None where there is none.

    It is marked, so that nothing takes it for a nightly one.

    Raises:
        OpsError: It cannot be made, for example because the pair is damaged; a note tells how to
            go on without.
    """
    request = plan.request
    standing = plan.destination.instance
    database, files = _has_content(standing), _holds_any(standing)
    if not (database or files):
        return None
    if not database or not standing.attachments.is_dir():
        missing = display(standing.attachments if database else standing.database)
        raise DestinationError(
            f"half a pair stands at the destination, and cannot be kept: there is no {missing}",
            hint="move it away, or add --no-keep to replace it without keeping it",
        )
    backup = BackupRequest(
        source=Location(instance=standing, origin="what a restore replaces"),
        store=request.snapshot.path.parent,
        profile=request.profile,
        purpose=REPLACED,
        lock_timeout_seconds=lock_timeout_seconds,
        jobs=request.jobs,
    )
    try:
        planned = plan_backup(backup, progress=progress)
        return run_backup(planned, clock=clock, progress=progress).snapshot
    except OpsError as error:
        error.add_note(
            "the pair at the destination could not be kept, and nothing was restored; "
            "--no-keep restores without keeping it"
        )
        raise


def _holds_any(instance: Instance) -> bool:
    try:
        return any(instance.attachments.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return False


def _has_content(instance: Instance) -> bool:
    return instance.database.is_file() and instance.database.stat().st_size > 0
