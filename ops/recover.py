"""Finish or remove what a killed run or a power cut left at a destination."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ops.claims import claim
from ops.destination import real_place
from ops.disk import DISK, Disk
from ops.errors import DestinationError
from ops.interrupts import held_signals
from ops.settlement import Left, Settled, find_left, settle
from ops.tree.removal import remove_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What was found at each place, and what was done about it."""

    found: tuple[tuple[Path, Left], ...]
    done: Settled


def examine_places(places: Iterable[Path]) -> Recovery:
    """Tell what is to be recovered at some places; nothing is changed.

    Raises:
        BusyError: A run is at work on one of them.
        UnfinishedSwapError: What is there cannot be settled without help.
        DestinationError: A place cannot be looked at.
    """
    real = [real_place(place) for place in places]
    left = find_left(real)
    found = tuple((place, left.get(place, Left.NOTHING)) for place in real)
    return Recovery(found=found, done=Settled.NOTHING)


def recover(places: Iterable[Path], disk: Disk = DISK) -> Recovery:
    """Settle what a killed run left at some places: an unfinished swap, or its private files.

    Raises:
        BusyError: A run is at work on one of the places, or a place is in use.
        UnfinishedSwapError: What is there cannot be settled without help.
        DestinationError: Something cannot be moved or removed.
    """
    examined = examine_places(places)
    to_settle = [place for place, left in examined.found if left is not Left.NOTHING]
    with ExitStack() as locks, held_signals():
        claims = [locks.enter_context(claim(place)) for place in to_settle]
        done = settle(claims, disk)
        for one in reversed(claims):
            remove_tree(one.space, error=DestinationError)
    return Recovery(found=examined.found, done=done)
