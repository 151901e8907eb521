"""Put one file in place as a whole: made in a private directory beside it, named by one call."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.claims import claim
from ops.disk import DISK, Disk
from ops.errors import DestinationError
from ops.interrupts import held_signals
from ops.settlement import settle
from ops.spaces import add_places
from ops.tree.removal import remove_tree


@contextmanager
def private_beside(place: Path) -> Iterator[Path]:
    """Claim the place of a file, and yield a private directory that is removed afterwards.

    Raises:
        BusyError: Another run writes there.
        DestinationError: It cannot be made or removed.
    """
    with claim(place) as claimed:
        settle([claimed])  # what a killed run left; nothing of a swap is lost if this fails
        try:
            add_places(claimed.space, [place])
            yield claimed.space
        except BaseException as error:
            with held_signals():  # a second Ctrl-C must not leave half a file lying about
                try:
                    remove_tree(claimed.space, error=DestinationError)
                except DestinationError as failure:
                    error.add_note(failure.message)
            raise
        with held_signals():
            remove_tree(claimed.space, error=DestinationError)


def publish_file(new: Path, place: Path, *, replace: bool, disk: Disk = DISK) -> None:
    """Give a file its name, durably; without `replace`, never that of something that stands there.

    Raises:
        DestinationError: It cannot be given.
    """
    with held_signals():
        if replace:
            disk.rename(new, place, over=True)
        elif not disk.link(new, place):  # link(2) never replaces, but FAT has none
            disk.rename(new, place)
        disk.sync(place.parent)
