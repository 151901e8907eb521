"""Settle what a killed run or a power cut left at a destination: finish it, or remove it."""

import os
import shlex
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path

from ops.claims import Claim, claim, claimed_failure, is_claimed
from ops.disk import DISK, Disk
from ops.errors import (
    BusyError,
    DestinationError,
    OpsError,
    UnfinishedSwapError,
    os_failure,
)
from ops.holders import describe_holders, find_holders
from ops.interrupts import held_signals
from ops.journal import PartKind, Swap, find_swap, forget
from ops.model import Finding, Severity
from ops.names import display
from ops.spaces import PLACES, read_places, space_beside
from ops.sqlite.retire import retire_database
from ops.swap import complete, is_complete, is_in_place, is_untouched, undo
from ops.tree.removal import empty_tree, remove_tree
from ops.tree.scan import TreeMeter, scan_tree

_MOST_LOOKS = 100
_LOOK_SECONDS = 0.05


class Left(StrEnum):
    """What a run left at a place, if anything."""

    NOTHING = "nothing"
    RUNNING = "running"
    LITTER = "litter"
    UNFINISHED = "unfinished"


class Settled(StrEnum):
    """What was done about it.

    A dropped swap is one of which nothing was in place yet; the old parts stay.
    """

    NOTHING = "nothing"
    REMOVED = "removed"
    DROPPED = "dropped"
    COMPLETED = "completed"


def look_at(place: Path) -> Left:
    """Tell what a run left at a place; nothing is changed.

    Raises:
        UnfinishedSwapError: It cannot be settled without help.
        DestinationError: It cannot be looked at.
    """
    space = space_beside(place)
    try:
        if not os.path.lexists(space):
            return Left.NOTHING
        if is_claimed(space):
            return Left.RUNNING
    except OSError as error:
        raise os_failure(DestinationError, "look at the workspace", space, error) from error
    return Left.LITTER if find_swap(space) is None else Left.UNFINISHED


def find_left(places: Iterable[Path]) -> dict[Path, Left]:
    """List those of some places at which a killed run left something.

    Raises:
        BusyError: A run is at work on one of them.
        UnfinishedSwapError: What is there cannot be settled without help.
    """
    left = {place: look_at(place) for place in places}
    for place, what in left.items():
        if what is Left.RUNNING:
            raise claimed_failure(place)
    return {place: what for place, what in left.items() if what is not Left.NOTHING}


def left_bytes(place: Path) -> int:
    """Return the room on disk that left-overs at a place take.

    Raises:
        DestinationError: They cannot be looked at.
    """
    meter = TreeMeter()
    for entry in scan_tree(space_beside(place), error=DestinationError):
        meter.add(entry)
    return meter.size.room


def settle(
    claims: Iterable[Claim],
    disk: Disk = DISK,
    *,
    tell: Callable[[Settled], None] = lambda _settled: None,
) -> Settled:
    """Finish or drop the swaps that claimed spaces know of, then empty the spaces.

    Each keeps its list of places until it is removed: whoever is stopped here has the others
    found by the next run.

    A swap of which nothing is in place yet is dropped: whoever used the old pair since the
    crash loses nothing. Any other is completed.

    Args:
        claims: The claimed places.
        disk: Makes the changes.
        tell: Called with what was done about a swap, as soon as it is.

    Raises:
        BusyError: A place is in use, or another run has a part of the swap.
        UnfinishedSwapError: A swap cannot be settled.
        DestinationError: Something cannot be moved or removed.
    """
    held = frozenset(claim.space for claim in claims)
    done = Settled.NOTHING
    for space in held:
        swap = find_swap(space)
        if swap is not None:
            with held_signals():
                done = _resolve(swap, held, disk)
                tell(done)
    for space in held:
        for place in read_places(space):
            if space_beside(place) not in held:
                _clear_away(place)
    for space in held:
        if done is Settled.NOTHING and any(path.name != PLACES for path in space.iterdir()):
            done = Settled.REMOVED
    _empty_all(held)
    return done


def _empty_all(spaces: Iterable[Path]) -> None:
    """Empty some spaces, each whatever happens to the others."""
    failures: list[DestinationError] = []
    for space in spaces:
        try:
            empty_tree(space, error=DestinationError, keep=frozenset({PLACES}))
        except DestinationError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


def _clear_away(place: Path) -> None:
    """Remove what the same killed run left at another place, unless it is somebody else's now."""
    space = space_beside(place)
    if not os.path.lexists(space) or space.lstat().st_uid != os.geteuid():
        return
    try:
        with claim(place) as other:
            if find_swap(other.space) is None:
                remove_tree(other.space, error=DestinationError)
    except (BusyError, UnfinishedSwapError):
        return  # another run has it, or it is another swap's, which the next run there settles


def _resolve(swap: Swap, held: frozenset[Path], disk: Disk) -> Settled:
    for part in swap.parts:
        if not os.path.lexists(part.space) and not is_in_place(part):
            raise UnfinishedSwapError(
                f"the other half of an unfinished swap is not there: {display(part.space)}",
                hint="mount its file system; or put the pair right by hand and remove "
                f"{display(swap.journal.parent)}",
            )
    with ExitStack() as locks:
        others = [
            locks.enter_context(claim(part.place)) for part in swap.parts if part.space not in held
        ]
        if is_untouched(swap):
            undo(swap, disk)
            done = Settled.DROPPED
        else:
            if not is_complete(swap):
                _make_ready(swap)
            complete(swap, disk)
            done = Settled.COMPLETED
        forget(swap, disk)
        for other in others:
            remove_tree(other.space, error=DestinationError)
    return done


def _make_ready(swap: Swap) -> None:
    require_unused(part.place for part in swap.parts)
    for part in swap.parts:
        if part.kind is PartKind.DATABASE and os.path.lexists(part.new):
            retire_database(part.place)


def require_unused(paths: Iterable[Path]) -> None:
    """Refuse to replace what another process has open.

    Raises:
        BusyError: One has; it is named.
    """
    for path in paths:
        holders = find_holders([path])
        if holders:
            raise BusyError(
                f"the destination is in use: {display(path)} is open{describe_holders(holders)}",
                hint="stop the application that has it open, or add --dest-in-use wait",
            )


def refuse_unsettled(places: Iterable[Path], kind: type[OpsError]) -> tuple[Finding, ...]:
    """Refuse to read a pair that may be half replaced.

    Args:
        places: Where database and attachments stand; links are followed.
        kind: The class of failure.

    Returns:
        What cannot be known: whether a run of another user is at work.

    Raises:
        OpsError: Of the class given: a killed run left it so.
        BusyError: A run is replacing it, and takes long over it.
    """
    unknown: list[Finding] = []
    for place in places:
        space = space_beside(Path(os.path.realpath(place)))
        if not os.path.lexists(space):
            continue  # nothing is, or the whole place is out of reach, as its reader will tell
        if not os.access(
            space, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids
        ):
            unknown.append(_unknown(space))
            continue
        _wait_for_whole(place, space, kind)
    return tuple(unknown)


def _unknown(space: Path) -> Finding:
    return Finding(
        kind="unchecked",
        severity=Severity.WARNING,
        where=display(space),
        expected="checked whether a run has left this pair half replaced",
        found="it belongs to another user's run",
    )


def _wait_for_whole(place: Path, space: Path, kind: type[OpsError]) -> None:
    for _ in range(_MOST_LOOKS):
        try:
            swap = find_swap(space)
            running = swap is not None and is_claimed(space)
            if swap is not None and not running:
                swap = find_swap(space)  # it may just have ended
        except OSError as error:
            raise os_failure(kind, "look at the workspace", space, error) from error
        except DestinationError as error:
            raise kind(error.message, hint=error.hint) from error
        if swap is None or is_complete(swap) or _is_whole_and_single(swap):
            return
        if not running:
            raise kind(
                f"a run was killed while it replaced {display(place)}, and left it half done",
                hint=recover_hint(swap),
            )
        time.sleep(_LOOK_SECONDS)
    raise BusyError(f"a run is just replacing {display(place)}", hint="try again when it is done")


def _is_whole_and_single(swap: Swap) -> bool:
    """Tell whether the old pair stands untouched, its database under one name as SQLite needs."""
    return is_untouched(swap) and not any(os.path.lexists(part.old) for part in swap.parts)


def recover_hint(swap: Swap) -> str:
    """Say how an unfinished swap is finished."""
    database, attachments = (shlex.quote(display(part.place)) for part in swap.parts[:2])
    return f"`inv recover --dest-db {database} --dest-attachments {attachments}` finishes it"
