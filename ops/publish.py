"""Make a finished copy visible at its destination, replacing what was there."""

import time

from ops.disk import DISK, Disk
from ops.errors import BusyError, DestinationError, OpsError, UnfinishedSwapError
from ops.holders import describe_holders, find_holders
from ops.journal import Swap, commit, forget
from ops.model import Clock, Instance, Progress, ReportProgress
from ops.names import display
from ops.settlement import recover_hint, require_unused
from ops.sqlite.retire import retire_database
from ops.swap import complete, is_complete, parts_in_place, undo

_LOOK_SECONDS = 0.2


def make_ready(
    destination: Instance,
    *,
    wait_seconds: float,
    clock: Clock,
    progress: ReportProgress,
    disk: Disk = DISK,
) -> None:
    """See that nobody uses the old pair, and bring its database into one file.

    Args:
        destination: Where the pair stands that is to be replaced, if any does.
        wait_seconds: How long to wait until nobody does.
        clock: The time.
        progress: Called while waiting.
        disk: What makes it durable.

    Raises:
        BusyError: Somebody still does.
        DestinationError: The database cannot be merged.
    """
    deadline = clock.seconds() + wait_seconds
    while True:
        try:
            require_unused((destination.database, destination.attachments))
            retire_database(destination.database)
            break
        except BusyError:
            if clock.seconds() >= deadline:
                raise
        progress(Progress(step="wait until the destination is free"))
        time.sleep(_LOOK_SECONDS)
    disk.sync(destination.database.parent)


def publish(swap: Swap, disk: Disk = DISK) -> None:
    """Put the parts of a swap in place; the old ones come back on any error.

    What the spaces hold must be durable. Afterwards the new parts are in place, durably, and
    the old ones are in their spaces, for the owner to remove. The caller holds signals.

    Raises:
        BusyError: Somebody opened the old pair just before; it is back.
        UnfinishedSwapError: Something could not be moved, and not all could be moved back.
        DestinationError: Something could not be moved; all is as it was.
    """
    try:
        commit(swap, disk)
        complete(swap, disk)
        _require_old_unused(swap)
    except BaseException as error:
        _take_back(swap, disk, error)
        raise
    forget(swap, disk)


def _take_back(swap: Swap, disk: Disk, error: BaseException) -> None:
    """Bring the old parts back, unless somebody has begun to use the new ones by their names.

    His commits would go: then what is done stays, and what is half done waits for him to stop.
    """
    if not swap.journal.exists():
        return  # nothing was moved
    cause = error.message if isinstance(error, OpsError) else repr(error)
    holders = find_holders(parts_in_place(swap))
    if holders and is_complete(swap):
        raise DestinationError(
            f"{cause}; the new pair is in use as well{describe_holders(holders)}",
            hint="restart all of them: what is written to the old pair is lost",
        ) from error
    if holders:
        raise UnfinishedSwapError(
            f"{cause}; and what is in place already is in use{describe_holders(holders)}",
            hint=f"stop it; then {recover_hint(swap)}",
        ) from error
    try:
        undo(swap, disk)
        forget(swap, disk)
    except OpsError as failure:
        raise UnfinishedSwapError(
            f"{cause}; and then {failure.message}", hint=recover_hint(swap)
        ) from error


def _require_old_unused(swap: Swap) -> None:
    """Look once more, now that nobody can open the old pair by its names any longer.

    Raises:
        BusyError: Somebody opened it since it was last looked at.
    """
    for part in swap.parts:
        holders = find_holders([part.old])
        if holders:
            raise BusyError(
                f"the destination was opened while it was replaced: {display(part.place)}"
                f"{describe_holders(holders)}",
                hint="stop the application that has it open, or add --dest-in-use wait",
            )
