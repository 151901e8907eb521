"""Open a database for reading so that nobody, and nothing beside it, notices."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias, TypeVar

from ops.errors import BusyError, OpsError, SourceError, os_failure
from ops.names import display
from ops.sqlite.connection import connect, primary_code, sqlite_failure
from ops.sqlite.header import DatabaseFile, inspect_database, sidecar

_Read = TypeVar("_Read")

_COPY_TRIES = 3
_MOST_TRIES = 8
_TICK_NANOSECONDS = 50_000_000
"""More than the coarsest clock that a local file system's times come from (10 ms)."""

_NEEDS_RECOVERY = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
"""Primary result codes by which SQLite says that it would have to write to read this."""


_State: TypeAlias = tuple[int, int, int, int]


def _state(path: Path) -> _State | None:
    """Return inode, size, mtime and ctime of a file, by which a change shows; or None."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class Way(StrEnum):
    """How a database is read."""

    LIVE = "with a write-ahead log"
    REST = "at rest"
    ROLLBACK = "in rollback journal mode"
    COPY = "recovered in a private copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDatabase:
    """A connection to a database that is only read, and how it is read.

    `opened_ns` is the time of the opening in nanoseconds, by the clock that file times have.
    """

    connection: sqlite3.Connection
    file: DatabaseFile
    way: Way
    opened_ns: int

    def still_right(self) -> bool:
        """Tell whether what was read since the opening is one state of the database.

        SQLite's own locks see to it, except for a database at rest, which is read without any
        lock: there the main file must be the one it was. `stat` is safe while connections are
        open. A file that was written just before the opening proves nothing, since a change
        within the same tick of the clock would not show.
        """
        if self.way is not Way.REST:
            return True
        before = self.file.entry
        then = (before.identity[1], before.size, before.modified_ns, before.changed_ns)
        settled = _is_settled(self.file, self.opened_ns)
        return settled and _state(self.file.path) == then


def _is_settled(file: DatabaseFile, now_ns: int) -> bool:
    return abs(now_ns - file.entry.modified_ns) > _TICK_NANOSECONDS


def read_steadily(
    path: Path,
    read: Callable[[OpenDatabase], _Read],
    *,
    scratch: Path,
    timeout_seconds: float,
) -> _Read:
    """Open a database, read it pinned at one instant, and make sure that it was one state.

    Args:
        path: The database.
        read: Does the reading; called again when the database changed in a way that no lock
            guards against (see `OpenDatabase.still_right`).
        scratch: As for `open_source`.
        timeout_seconds: As for `open_source`.

    Returns:
        What `read` returned.

    Raises:
        BusyError: It changed at each of many tries, or stayed locked.
        OpsError: It cannot be read.
    """
    for _ in range(_MOST_TRIES):
        with open_source(path, scratch=scratch, timeout_seconds=timeout_seconds) as database:
            try:
                with pinned(database):
                    result = read(database)
            except OpsError:
                if database.still_right():
                    raise
            else:
                if database.still_right():
                    return result
    raise restless(path)


def restless(path: Path) -> BusyError:
    """Return the failure for a database that never held still."""
    return BusyError(
        f"the database changed at each of {_MOST_TRIES} tries: {display(path)}",
        hint="try again when the application is less busy",
    )


@contextmanager
def pinned(database: OpenDatabase) -> Iterator[None]:
    """Hold the database at this instant: every read in between sees one state.

    A read transaction begins with its first read (https://www.sqlite.org/lang_transaction.html,
    "deferred"), so one is made. In WAL mode writers go on undisturbed.

    Raises:
        OpsError: The database is locked or cannot be read.
    """
    try:
        database.connection.execute("BEGIN")
        database.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        raise sqlite_failure(database.file.path, error) from error
    try:
        yield
    finally:
        if database.connection.in_transaction:
            database.connection.execute("ROLLBACK")


@contextmanager
def open_source(path: Path, *, scratch: Path, timeout_seconds: float) -> Iterator[OpenDatabase]:
    """Open a database that may be live, crashed, at rest or not ours, without changing it.

    Neither its bytes nor its sidecars, their times or the directory change, and a running
    application sees at most one more reader.

    A WAL in use is read with `readonly_shm=1`: SQLite takes a shared lock and, where no other
    process keeps the wal-index, builds one in its own memory (SQLite source, `wal.c`,
    `walBeginShmUnreliable`). Plain `mode=ro` would rewrite the `-shm` of a crashed server. A
    WAL-mode database without a WAL is at rest: it is read as immutable, and
    `OpenDatabase.still_right` tells afterwards whether it stayed so. What needs recovery (a
    hot journal, a WAL without its `-shm`) is copied to `scratch` and recovered there.

    Args:
        path: The database.
        scratch: A private directory with room for a copy of the database.
        timeout_seconds: How long to wait for a lock.

    Yields:
        The open database. Its connection is in autocommit mode and text comes as it is.

    Raises:
        SourceError: It cannot be read, or is not a database.
        BusyError: It stayed locked.
    """
    for _ in range(_MOST_TRIES):
        file = inspect_database(path)
        os.utime(scratch)
        opened_ns = scratch.stat().st_mtime_ns
        at_rest = file.header.wal and not file.sidecars
        if at_rest and not _is_settled(file, opened_ns):
            time.sleep(_TICK_NANOSECONDS / 10**9)  # sooner or later it must be still for a tick
            continue
        found = _connect(file, scratch, timeout_seconds)
        if found is not None:
            break
    else:
        raise restless(path)
    connection, way = found
    try:
        yield OpenDatabase(connection=connection, file=file, way=way, opened_ns=opened_ns)
    finally:
        connection.close()


def _connect(
    file: DatabaseFile, scratch: Path, timeout_seconds: float
) -> tuple[sqlite3.Connection, Way] | None:
    """Open a database as it was found; None when it is not any more as it was found."""
    wal = sidecar(file.path, "-wal")
    before = _state(wal)
    if file.header.wal and ("-wal" in file.sidecars) != (before is not None):
        return None
    if not file.header.wal:
        options, way = "mode=ro", Way.ROLLBACK
    elif before is not None:
        options, way = "mode=ro&readonly_shm=1", Way.LIVE
    else:
        options, way = "mode=ro&immutable=1", Way.REST
    try:
        return connect(file.path, options, timeout_seconds), way
    except sqlite3.OperationalError as error:
        if primary_code(error) not in _NEEDS_RECOVERY:
            raise sqlite_failure(file.path, error) from error
    except sqlite3.DatabaseError as error:
        raise sqlite_failure(file.path, error) from error
    if way is Way.LIVE and _take_back_stray_wal(file.path, before, timeout_seconds):
        return None
    copy = _copy_at_rest(file, scratch)
    try:
        return connect(copy, "mode=rw", timeout_seconds), Way.COPY
    except sqlite3.Error as error:
        raise sqlite_failure(file.path, error) from error


def _take_back_stray_wal(path: Path, before: _State | None, timeout_seconds: float) -> bool:
    """Undo what SQLite does when the last user of a database leaves while we open it.

    It makes an empty WAL and then gives up for want of a `-shm`. That WAL is taken away by
    SQLite's own means: whoever closes last removes it, under its locks.

    Returns:
        Whether there was one.
    """
    after = _state(sidecar(path, "-wal"))
    if after == before:
        return False
    if after is not None and after[1] == 0:
        try:
            connect(path, "mode=rw", timeout_seconds).close()
        except sqlite3.Error as error:
            raise sqlite_failure(path, error) from error
    return True


def _copy_at_rest(file: DatabaseFile, scratch: Path) -> Path:
    """Copy the database file with its WAL or journal while nobody writes them."""
    copy = scratch / file.path.name
    names = [file.path, *(sidecar(file.path, suffix) for suffix in ("-wal", "-journal"))]
    for _ in range(_COPY_TRIES):
        before = [_state(name) for name in names]
        for name in names:
            part = scratch / name.name
            part.unlink(missing_ok=True)
            try:
                with name.open("rb") as reader, part.open("xb") as writer:
                    shutil.copyfileobj(reader, writer)
            except FileNotFoundError:
                continue  # a sidecar that is not there, or is gone: the states tell
            except OSError as error:
                raise os_failure(SourceError, "copy the database", name, error) from error
        if before == [_state(name) for name in names]:
            return copy
    raise BusyError(
        f"the database changes without a readable WAL index: {display(file.path)}",
        hint="run as the owner of the database, or as root",
    )
