"""Put several new files and directories in the places of old ones: all of them, or none.

Each part is prepared in a private directory (its space) beside its place, and the journal tells
what is to go where, so each of these functions can be called again after a crash.
"""

import os

from ops.disk import Disk, same_file
from ops.errors import DestinationError, UnfinishedSwapError
from ops.journal import Part, PartKind, Swap
from ops.names import display
from ops.sqlite.header import SIDECARS, sidecar


def complete(swap: Swap, disk: Disk) -> None:
    """Put every part in place that is not there yet, durably; to be called again after a crash.

    Raises:
        UnfinishedSwapError: A part that was in place is not there any more.
        DestinationError: A part cannot be moved, or something else stands in its place.
    """
    for part in swap.parts:
        if os.path.lexists(part.new):
            _put_in_place(part, disk)
        else:
            _require_in_place(part)
    _sync_names(swap, disk)


def _put_in_place(part: Part, disk: Disk) -> None:
    for sidecar_path, aside in part.sidecars:
        disk.rename(sidecar_path, aside)
        for directory in (part.place.parent, part.space):
            disk.sync(directory)  # never beside a new database, whatever a crash forgets
    linked = same_file(part.place, part.old)
    if os.path.lexists(part.place) and not linked:
        expected = part.replaces and _is_of_kind(part)
        if os.path.lexists(part.old) or not expected:
            raise DestinationError(
                f"something appeared at {display(part.place)} while it was being replaced",
                hint="move it away, then try again",
            )
        linked = _set_aside(part, disk)
    disk.rename(part.new, part.place, over=linked)


def _is_of_kind(part: Part) -> bool:
    """Tell whether a directory stands where attachments go, or a file where a file goes."""
    is_directory = part.place.is_dir() and not part.place.is_symlink()
    return is_directory == (part.kind is PartKind.ATTACHMENTS)


def _set_aside(part: Part, disk: Disk) -> bool:
    """Keep the old one under another name; tell whether it is still in its place as well.

    A file gets a second name, so that there is never none in its place.
    """
    if part.kind is not PartKind.ATTACHMENTS and disk.link(part.place, part.old):
        return True
    disk.rename(part.place, part.old)
    return False


def _is_in_place(part: Part) -> bool:
    try:
        return part.place.lstat().st_ino == part.inode
    except FileNotFoundError:
        return False


def is_complete(swap: Swap) -> bool:
    """Tell whether every part is in its place."""
    return all(_is_in_place(part) for part in swap.parts)


def _require_in_place(part: Part) -> None:
    if not _is_in_place(part):
        raise UnfinishedSwapError(
            f"what was put at {display(part.place)} is not there any more",
            hint=f"put database and attachments right by hand, then remove {display(part.space)}",
        )


def is_untouched(swap: Swap) -> bool:
    """Tell whether nothing has been put in place yet, so that the swap can still be dropped."""
    return all(
        os.path.lexists(part.new) and (os.path.lexists(part.place) or not part.replaces)
        for part in swap.parts
    )


def undo(swap: Swap, disk: Disk) -> None:
    """Bring every old part back, durably; to be called again, or completed, after a crash.

    Raises:
        DestinationError: One cannot be moved.
    """
    moved = [_bring_back(part, disk) for part in reversed(swap.parts)]
    if any(moved):
        _sync_names(swap, disk)


def _bring_back(part: Part, disk: Disk) -> bool:
    """Bring one part's old content back; tell whether that took anything."""
    has_old = os.path.lexists(part.old)
    linked = has_old and same_file(part.place, part.old)
    is_in_place = not os.path.lexists(part.new)
    if is_in_place:
        disk.rename(part.place, part.new)
    if linked:
        disk.unlink(part.old)
    elif has_old:
        disk.rename(part.old, part.place)
    aside = [sidecar(part.old, suffix) for suffix in SIDECARS if part.kind is PartKind.DATABASE]
    aside = [path for path in aside if os.path.lexists(path)]
    for path in aside:
        disk.rename(path, part.place.with_name(part.place.name + path.name.removeprefix("old")))
    return is_in_place or has_old or bool(aside)


def _sync_names(swap: Swap, disk: Disk) -> None:
    parents = (path for part in swap.parts for path in (part.place.parent, part.space))
    for parent in dict.fromkeys(parents):
        disk.sync(parent)
