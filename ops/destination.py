"""Look at a destination before anything is written there."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ops.disk import same_file
from ops.errors import DestinationError, os_failure
from ops.model import Instance
from ops.mounts import list_mounts, mounts_below
from ops.names import display
from ops.spaces import space_beside
from ops.sqlite.header import MAGIC, SIDECARS, sidecar
from ops.tree.metadata import may_write
from ops.tree.scan import TreeMeter, TreeSize, scan_tree

_MOST_NAME_BYTES = 255
"""NAME_MAX of every file system that matters here (limits.h)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSurvey:
    """What stands at a destination: real paths, the old database's bytes and the old tree's size.

    `database_bytes` is None and `size` is None where nothing is.
    """

    instance: Instance
    database_bytes: int | None
    size: TreeSize | None


def survey_destination(destination: Instance, *, home: Path | None) -> DestinationSurvey:
    """Validate a destination: of the right kind, replaceable, in a place that can be written.

    Args:
        destination: Where the pair is to go.
        home: A directory that must not be replaced.

    Raises:
        DestinationError: It cannot be used; the message says which half and why.
    """
    database = real_place(destination.database)
    attachments = real_place(destination.attachments)
    _require_room_for_sidecars(database)
    old_bytes = _old_database(database)
    _require_plain_sidecars(database)
    old_size = _old_attachments(attachments, home)
    for path in (database, attachments):
        require_writable(nearest_directory(path.parent))
    return DestinationSurvey(
        instance=Instance(database=database, attachments=attachments),
        database_bytes=old_bytes,
        size=old_size,
    )


def real_place(path: Path) -> Path:
    """Resolve the parent of a path, not the path itself: that is what gets replaced.

    Raises:
        DestinationError: The path ends in no name.
    """
    if path.name in {"", ".", ".."}:
        raise DestinationError(
            f"not a name that can be written: {display(path)}", hint="name a file or a directory"
        )
    # Not Path.resolve, which before Python 3.13 raises RuntimeError for a loop of links: what
    # cannot be reached is told by whoever looks at it.
    return Path(os.path.realpath(path.parent)) / path.name


def _require_room_for_sidecars(database: Path) -> None:
    """Refuse a name to which SQLite could not add `-journal`.

    Raises:
        DestinationError: It is too long.
    """
    longest = sidecar(database, max(SIDECARS, key=len))
    if len(os.fsencode(longest.name)) > _MOST_NAME_BYTES:
        raise DestinationError(
            f"the name of the database is too long: {display(database)}",
            hint=f"SQLite adds up to {len('-journal')} bytes to it, and {_MOST_NAME_BYTES} are "
            "all that file systems take",
        )


def _require_plain_sidecars(database: Path) -> None:
    """Refuse names of sidecars that something else has: they are replaced with the database.

    Raises:
        DestinationError: One is no regular file.
    """
    for suffix in SIDECARS:
        path = sidecar(database, suffix)
        status = _lstat(path)
        if status is not None and not stat.S_ISREG(status.st_mode):
            raise DestinationError(
                f"this name is SQLite's, and something else has it: {display(path)}",
                hint="move it away, or choose another name for the database",
            )


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise os_failure(DestinationError, "look at", path, error) from error


def _is_set_aside(path: Path) -> bool:
    """Tell whether a killed run gave a database a second name in its space."""
    try:
        return same_file(path, space_beside(path) / "old")
    except PermissionError:
        return False  # a space of somebody else's, which the claim will refuse


def _old_database(path: Path) -> int | None:
    status = _lstat(path)
    if status is None:
        return None
    _refuse_symlink(path, status)
    if stat.S_ISDIR(status.st_mode):
        raise DestinationError(
            f"the destination of the database is a directory: {display(path)}",
            hint=f"name a file, for example {display(path / 'ciso-assistant.sqlite3')}",
        )
    if not stat.S_ISREG(status.st_mode):
        raise DestinationError(
            f"the destination of the database is not a regular file: {display(path)}"
        )
    # One may be that of a run that was killed, which is settled before anything is merged.
    names = status.st_nlink - _is_set_aside(path)
    if names > 1 and any(sidecar(path, suffix).exists() for suffix in SIDECARS):
        raise DestinationError(
            f"the old database has {names} hard links and a WAL: {display(path)}",
            hint="merging its WAL would change the other names too; remove them first",
        )
    _refuse_other_file(path, status)
    return status.st_size


def _refuse_other_file(path: Path, status: os.stat_result) -> None:
    """Refuse to replace a file that is no database: most likely it was named by mistake.

    Raises:
        DestinationError: It is none, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(len(MAGIC))
    except OSError as error:
        raise os_failure(DestinationError, "read the old database", path, error) from error
    if status.st_size and beginning != MAGIC:
        raise DestinationError(
            f"the file to replace is not a SQLite database: {display(path)}",
            hint="name another file, or remove this one first",
        )


def _old_attachments(path: Path, home: Path | None) -> TreeSize | None:
    status = _lstat(path)
    if status is None:
        return None
    _refuse_symlink(path, status)
    if not stat.S_ISDIR(status.st_mode):
        raise DestinationError(
            f"the destination of the attachments is not a directory: {display(path)}",
            hint="name a directory; it is created when it does not exist",
        )
    mounted = mounts_below(path, list_mounts())
    if mounted and mounted[0].point != path:
        raise DestinationError(
            f"a file system is mounted inside the destination: {display(mounted[0].point)}",
            hint="unmount it first: the old directory is deleted with all it holds",
        )
    is_home = home is not None and _lstat(home) is not None and path.samefile(home)
    if mounted or os.path.ismount(path) or is_home:
        raise DestinationError(
            f"this directory cannot be replaced as a whole: {display(path)}",
            hint=f"name a directory inside it, for example {display(path / 'attachments')}",
        )
    meter = TreeMeter()
    for entry in scan_tree(path, error=DestinationError):
        meter.add(entry)
    return meter.size


def _refuse_symlink(path: Path, status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise DestinationError(
            f"the destination is a symbolic link: {display(path)} -> {display(path.readlink())}",
            hint="name the place it points to, or remove the link",
        )


def nearest_directory(path: Path) -> Path:
    """Return the path itself or the closest of its parents that exists.

    Raises:
        DestinationError: That one is no directory.
    """
    while (status := _lstat(path)) is None and path != path.parent:
        path = path.parent
    if status is not None and not stat.S_ISDIR(status.st_mode):
        raise DestinationError(
            f"a file stands where a directory must be: {display(path)}",
            hint="remove it, or choose another destination",
        )
    return path


def require_writable(directory: Path) -> None:
    """Refuse a directory in which this process may not create anything.

    Raises:
        DestinationError: It may not, or the file system is mounted read-only.
    """
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise DestinationError(
            f"the destination is on a read-only file system: {display(directory)}",
            hint="choose another place, or mount it for writing",
        )
    if not may_write(directory):
        raise DestinationError(
            f"cannot write in {display(directory)}: Permission denied",
            hint="run as its owner or as root, or choose another place",
        )
