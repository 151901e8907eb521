"""Put several new files and directories in the places of old ones: all of them, or none.

Each part is prepared in a private directory (its space) beside its place, and the journal tells
what is to go where, so each of these functions can be called again after a crash.
"""

import os
import stat
from pathlib import Path

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
        if not os.path.lexists(part.new):
            _require_in_place(part)  # before anything is moved
    for part in swap.parts:
        if same_file(part.new, part.place):
            disk.unlink(part.new)  # it was just being brought back
        elif os.path.lexists(part.new):
            _put_in_place(part, disk)
    _sync_names(swap, disk)


def _put_in_place(part: Part, disk: Disk) -> None:
    for sidecar_path, aside in part.sidecars:
        _require_file(sidecar_path)
        disk.rename(sidecar_path, aside)
        for directory in (part.place.parent, part.space):
            disk.sync(directory)  # never beside a new database, whatever a crash forgets
    linked = same_file(part.place, part.old)
    if os.path.lexists(part.place) and not linked:
        expected = part.replaces and _is_of_kind(part)
        if os.path.lexists(part.old) or not expected:
            raise _appeared(part.place)
        linked = _set_aside(part, disk)
    disk.rename(part.new, part.place, over=linked)


def _appeared(path: Path) -> DestinationError:
    return DestinationError(
        f"something appeared at {display(path)} while it was being replaced",
        hint="move it away, then try again",
    )


def _require_file(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise _appeared(path)


def _is_of_kind(part: Part) -> bool:
    """Tell whether a directory stands where attachments go, or a file where a file goes."""
    mode = part.place.lstat().st_mode
    return stat.S_ISDIR(mode) if part.kind is PartKind.ATTACHMENTS else stat.S_ISREG(mode)


def _set_aside(part: Part, disk: Disk) -> bool:
    """Keep the old one under another name; tell whether it is still in its place as well.

    A file gets a second name, so that there is never none in its place.
    """
    if part.kind is not PartKind.ATTACHMENTS and disk.link(part.place, part.old):
        return True
    disk.rename(part.place, part.old)
    return False


def is_in_place(part: Part) -> bool:
    """Tell whether what was prepared for a place is there now."""
    try:
        return part.place.lstat().st_ino == part.inode
    except (FileNotFoundError, NotADirectoryError):
        return False


def is_complete(swap: Swap) -> bool:
    """Tell whether every part is in its place."""
    return all(is_in_place(part) for part in swap.parts)


def _require_in_place(part: Part) -> None:
    if not is_in_place(part):
        raise UnfinishedSwapError(
            f"what was put at {display(part.place)} is not there any more",
            hint=f"put database and attachments right by hand, then remove {display(part.space)}",
        )


def is_untouched(swap: Swap) -> bool:
    """Tell whether nothing has been put in place yet, so that the swap can still be dropped."""
    return all(map(_is_untouched, swap.parts))


def _is_untouched(part: Part) -> bool:
    if not os.path.lexists(part.new) or same_file(part.new, part.place):
        return False
    if os.path.lexists(part.old):
        return same_file(part.old, part.place)
    return os.path.lexists(part.place) or not part.replaces


def parts_in_place(swap: Swap) -> list[Path]:
    """List the places at which the new part is, and the sidecars that somebody gave it since."""
    done = [part for part in swap.parts if not os.path.lexists(part.new)]
    return [path for part in done for path in (part.place, *(one for one, _ in part.sidecars))]


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
    still_there = has_old and same_file(part.place, part.old)
    is_in_place = not os.path.lexists(part.new)
    if is_in_place:
        _take_away(part, disk)
    if still_there:
        disk.unlink(part.old)
    elif has_old:
        disk.rename(part.old, part.place, over=same_file(part.new, part.place))
    elif same_file(part.new, part.place):
        disk.unlink(part.place)
    returned = _bring_sidecars_back(part, disk)
    return is_in_place or has_old or returned


def _take_away(part: Part, disk: Disk) -> None:
    """Let a new part be in its space again, and with it what SQLite has put beside it since.

    A file gets its name there before it loses the other, so that there is never none in its
    place. A sidecar of the new database must not stay: SQLite would replay it onto the old one.
    """
    for path, _ in part.sidecars:
        suffix = path.name.removeprefix(part.place.name)
        disk.rename(path, sidecar(part.new, suffix))
    if part.kind is PartKind.ATTACHMENTS or not disk.link(part.place, part.new):
        disk.rename(part.place, part.new)


def _bring_sidecars_back(part: Part, disk: Disk) -> bool:
    suffixes = SIDECARS if part.kind is PartKind.DATABASE else ()
    aside = [one for one in suffixes if os.path.lexists(sidecar(part.old, one))]
    for suffix in aside:
        disk.rename(sidecar(part.old, suffix), sidecar(part.place, suffix))
    return bool(aside)


def _sync_names(swap: Swap, disk: Disk) -> None:
    parents = (path for part in swap.parts for path in (part.place.parent, part.space))
    for parent in dict.fromkeys(parents):
        disk.sync(parent)
