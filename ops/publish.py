"""Make a finished copy visible at its destination, replacing what was there."""

import ctypes
import errno
import os
import sqlite3
import stat
from pathlib import Path

from ops.errors import (
    BusyError,
    DestinationError,
    OpsError,
    UnfinishedSwapError,
    os_failure,
)
from ops.interrupts import held_signals
from ops.model import Instance
from ops.names import display
from ops.sqlite.connection import BUSY_CODES, primary_code
from ops.sqlite.header import MAGIC, SIDECARS, file_state, sidecar
from ops.tree.metadata import may_write
from ops.workspace import Workspace

_MERGE_TIMEOUT_SECONDS = 2.0


def sync_workspace(space: Workspace) -> None:
    """Flush everything written in a workspace to the disk: one call for each file system.

    Raises:
        DestinationError: The disk did not take it.
    """
    for directory in dict.fromkeys((space.database, space.attachments)):
        try:
            sync_file_system(directory)
        except OSError as error:
            raise os_failure(DestinationError, "write to the disk of", directory, error) from error


def sync_file_system(directory: Path) -> None:
    """Flush the file system that holds a directory (syncfs(2); sync(2) where there is none).

    Raises:
        OSError: Writing failed since the directory was opened here (Linux 5.8 and newer).
    """
    library = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if not hasattr(library, "syncfs"):  # pragma: no cover - not Linux
            os.sync()
        elif library.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def publish(space: Workspace, destination: Instance) -> None:
    """Put the staged pair in place of the old one; the old one comes back on any error.

    A WAL or journal of the old database is merged into it first: left behind, SQLite would
    replay it onto the new database. The old pair is moved into the workspace, which its owner
    removes. Signals wait until it is done.

    Raises:
        BusyError: The old database is in use.
        UnfinishedSwapError: Something could not be moved, and not all could be moved back.
        DestinationError: Something could not be moved; all is as it was.
    """
    merge_sidecars(destination.database)
    moves = [
        (destination.database, space.old.database),
        *(
            (sidecar(destination.database, suffix), sidecar(space.old.database, suffix))
            for suffix in SIDECARS
        ),
        (space.stage.database, destination.database),
        (destination.attachments, space.old.attachments),
        (space.stage.attachments, destination.attachments),
    ]
    with held_signals():
        _swap([(source, target) for source, target in moves if os.path.lexists(source)])


def _swap(moves: list[tuple[Path, Path]]) -> None:
    begun: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            begun.append((source, target))  # before the move: nothing may come between
            _move(source, target)
        for parent in dict.fromkeys(path.parent for move in moves for path in move):
            _sync_directory(parent)
    except BaseException as error:
        left = _move_back(begun)
        if left:
            source, target = left[-1]
            cause = error.message if isinstance(error, OpsError) else repr(error)
            raise UnfinishedSwapError(
                f"{cause}; and {display(source)} could not be put back",
                hint=f"it is whole, in {display(target)}: move it back by hand",
            ) from error
        raise


def _move_back(begun: list[tuple[Path, Path]]) -> list[tuple[Path, Path]]:
    """Undo moves, the last first, and return those that cannot be undone."""
    left: list[tuple[Path, Path]] = []
    for source, target in reversed(begun):
        never_moved = (source, target) == begun[-1] and os.path.lexists(source)
        if never_moved or not os.path.lexists(target):
            continue
        try:
            _move(target, source)
        except DestinationError:
            left.append((source, target))
    return left


def _move(source: Path, target: Path) -> None:
    try:
        mode = source.lstat().st_mode
        # Moving a directory rewrites its "..", which takes the right to write it.
        locked = stat.S_ISDIR(mode) and not may_write(source)
        if locked:
            source.chmod(stat.S_IMODE(mode) | 0o700)
        try:
            # rename(2) replaces silently; nothing may stand there by now.
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            source.rename(target)
        finally:
            if locked:
                (source if os.path.lexists(source) else target).chmod(stat.S_IMODE(mode))
    except OSError as error:
        action = f"move {display(source)} to"
        raise os_failure(DestinationError, action, target, error) from error


def _sync_directory(directory: Path) -> None:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise os_failure(DestinationError, "write to the disk of", directory, error) from error


def merge_sidecars(database: Path) -> None:
    """Bring an old database and what waits in its WAL or journal into one file.

    Leaving WAL mode fails while any other process has the database open, so this also tells
    whether it is in use. What is no database is left as it is.

    Raises:
        BusyError: It is in use.
        DestinationError: It cannot be merged.
    """
    present = [suffix for suffix in SIDECARS if file_state(sidecar(database, suffix))]
    if not present or not _is_database(database):
        return
    try:
        connection = sqlite3.connect(database, isolation_level=None, timeout=_MERGE_TIMEOUT_SECONDS)
        try:
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            if mode == "wal":
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        if primary_code(error) in BUSY_CODES:
            raise BusyError(
                f"the destination is in use by another process: {display(database)}",
                hint="stop the application that has it open, then try again",
            ) from error
        raise DestinationError(
            f"cannot merge the WAL of the old database {display(database)}: {error}",
            hint="move the old database away by hand, together with its -wal and -shm",
        ) from error
    except sqlite3.DatabaseError:
        return  # too damaged to be opened: it is replaced, sidecars and all


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except FileNotFoundError:
        return False
    except OSError as error:
        raise os_failure(DestinationError, "read the old database", path, error) from error
