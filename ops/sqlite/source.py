"""Open a database for reading so that nobody, and nothing beside it, notices."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from ops.errors import BusyError, DestinationError, OpsError, os_failure
from ops.names import display
from ops.sqlite.connection import connect, primary_code, sqlite_failure
from ops.sqlite.header import DatabaseFile, FileState, file_state, inspect_database, sidecar
from ops.sqlite.locks import locked_files, require_locks
from ops.sqlite.recovery import connect_copy, copy_still_files

_Read = TypeVar("_Read")

_MOST_TRIES = 6
_MOST_GROWTH = 3
_POLL_SECONDS = 0.002
_TICK_SECONDS = 0.05
"""More than the coarsest clock that a local file system's times come from (10 ms)."""

_COARSE_SECONDS = 2.0

_NEEDS_RECOVERY = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
"""Primary result codes by which SQLite says that it would have to write to read this."""


class Way(StrEnum):
    """How a database is read."""

    LIVE = "with a write-ahead log"
    REST = "at rest"
    ROLLBACK = "in rollback journal mode"
    COPY = "recovered in a private copy"


_LOCKED = frozenset({Way.LIVE, Way.ROLLBACK})
"""Ways in which locks guard the reading; otherwise nobody else has the file, or it is compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDatabase:
    """A connection to a database that is only read, and how it is read."""

    connection: sqlite3.Connection
    file: DatabaseFile
    way: Way

    def still_right(self) -> bool:
        """Tell whether what was read since the opening is one state of the database.

        SQLite's own locks see to it, except for a database at rest, which is read without any
        lock: there the main file must be the one it was. `stat` is safe while connections are
        open.
        """
        if self.way is not Way.REST:
            return True
        before = self.file.entry
        then = (before.identity[1], before.size, before.modified_ns, before.changed_ns)
        return file_state(self.file.path) == then


def quiet_seconds(failures: int) -> float:
    """Return how long a database must have been at rest, after so many failures to read it.

    A change within the tick in which the file was last written would not show in its times, so
    it is never less than one. An application that comes and goes is met while it is there
    instead, where its locks guard the reading: each failure asks for four times the rest, up
    to 3.2 s.
    """
    return _TICK_SECONDS * float(4 ** min(failures, _MOST_GROWTH))


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
        BusyError: It changed at each of several tries, or stayed locked.
        OpsError: It cannot be read.
    """
    for failures in range(_MOST_TRIES):
        with open_source(
            path,
            scratch=scratch,
            timeout_seconds=timeout_seconds,
            rest_seconds=quiet_seconds(failures),
        ) as database:
            try:
                with pinned(database):
                    result = _read_or_fail(database, read)
            except OpsError:
                if database.still_right():
                    raise
            else:
                if database.still_right():
                    return result
    raise restless(path)


def _read_or_fail(database: OpenDatabase, read: Callable[[OpenDatabase], _Read]) -> _Read:
    try:
        return read(database)
    except sqlite3.Error as error:
        raise sqlite_failure(database.file.path, error) from error


def restless(path: Path) -> BusyError:
    """Return the failure for a database that never held still."""
    return BusyError(
        f"the database changed each time it was read: {display(path)}",
        hint="try again when the application is less busy",
    )


@contextmanager
def pinned(database: OpenDatabase) -> Iterator[None]:
    """Hold the database at this instant: every read in between sees one state.

    A read transaction begins with its first read (https://www.sqlite.org/lang_transaction.html,
    "deferred"), so one is made. In WAL mode writers go on undisturbed.

    Raises:
        OpsError: The database is locked or cannot be read, or the lock was lost meanwhile.
    """
    try:
        database.connection.execute("BEGIN")
        database.connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        let_go(database)
        raise sqlite_failure(database.file.path, error) from error
    try:
        locks = locked_files(database.file.path) if database.way in _LOCKED else frozenset()
        yield
        if database.connection.in_transaction:
            require_locks(locks, database.file.path)
    finally:
        let_go(database)


def let_go(database: OpenDatabase) -> None:
    """End a pin before its time; what is read then is the database as it is at each statement."""
    if database.connection.in_transaction:
        database.connection.execute("ROLLBACK")


@contextmanager
def open_source(
    path: Path,
    *,
    scratch: Path,
    timeout_seconds: float,
    rest_seconds: float = _TICK_SECONDS,
) -> Iterator[OpenDatabase]:
    """Open a database that may be live, crashed, at rest or not ours, without changing it.

    Neither its bytes nor its sidecars, their times or the directory change, and a running
    application sees at most one more reader.

    A WAL in use is read with `readonly_shm=1`: SQLite takes a shared lock and, where no other
    process keeps the wal-index, builds one in its own memory (SQLite source, `wal.c`,
    `walBeginShmUnreliable`). Plain `mode=ro` would rewrite the `-shm` of a crashed server. A
    WAL-mode database without a WAL is at rest: it is read as immutable, and
    `OpenDatabase.still_right` tells afterwards whether it stayed so. What needs recovery (a
    hot journal, a WAL without its `-shm` or beside a database in rollback mode) is copied to
    `scratch` and recovered there.

    Args:
        path: The database.
        scratch: A private directory with room for a copy of the database.
        timeout_seconds: How long to wait for a lock, and for a moment in which to open it.
        rest_seconds: How long the file must not have been written to count as at rest.

    Yields:
        The open database. Its connection is in autocommit mode and text comes as it is.

    Raises:
        SourceError: It cannot be read, or is not a database.
        BusyError: It stayed locked, or never held still.
    """
    most = (timeout_seconds + 2 * max(rest_seconds, _COARSE_SECONDS)) * 10**9
    began = _now(scratch)
    file = inspect_database(path)
    while (found := _connect(file, scratch, timeout_seconds, rest_seconds)) is None:
        if _now(scratch) - began > most:
            raise restless(path)
        time.sleep(_POLL_SECONDS)
        file = inspect_database(path)
    connection, way = found
    try:
        yield OpenDatabase(connection=connection, file=file, way=way)
    finally:
        connection.close()


def _connect(
    file: DatabaseFile, scratch: Path, timeout_seconds: float, rest_seconds: float
) -> tuple[sqlite3.Connection, Way] | None:
    """Open a database in the way that its state asks for; None when the state just changes."""
    wal = file_state(sidecar(file.path, "-wal"))
    journal = file_state(sidecar(file.path, "-journal"))
    if file.header.wal and journal is not None and journal[1]:
        return _connect_copy(file, scratch, rest_seconds)  # SQLite would roll it back first
    if not file.header.wal and wal is None:
        way, options = Way.ROLLBACK, "mode=ro"
    elif file.header.wal and wal is None:
        way, options = Way.REST, "mode=ro&immutable=1"
    elif file.header.wal and file_state(sidecar(file.path, "-shm")):
        way, options = Way.LIVE, "mode=ro&readonly_shm=1"
    else:
        return _connect_copy(file, scratch, rest_seconds)
    if way is Way.REST and not _is_quiet(file, None, scratch, rest_seconds):
        return None
    try:
        return connect(file.path, options, timeout_seconds), way
    except sqlite3.OperationalError as error:
        if primary_code(error) not in _NEEDS_RECOVERY:
            raise sqlite_failure(file.path, error) from error
    except sqlite3.DatabaseError as error:
        raise sqlite_failure(file.path, error) from error
    if way is Way.LIVE and _take_back_stray_wal(file.path, wal, timeout_seconds):
        return None
    return _connect_copy(file, scratch, rest_seconds)


def _connect_copy(
    file: DatabaseFile, scratch: Path, rest_seconds: float
) -> tuple[sqlite3.Connection, Way] | None:
    wal = file_state(sidecar(file.path, "-wal"))
    if not _is_quiet(file, wal, scratch, rest_seconds):
        return None  # somebody is about to open it: soon it can be read as what it then is
    copy = copy_still_files(file.path, scratch)
    if copy is None:
        return None
    return connect_copy(copy, file.path), Way.COPY


def _is_quiet(
    file: DatabaseFile, wal: FileState | None, scratch: Path, rest_seconds: float
) -> bool:
    """Tell whether database and WAL were last written long enough ago, by a file's clock."""
    written = max(file.entry.modified_ns, wal[2] if wal else 0)
    # A file system that keeps whole seconds tells less.
    least = rest_seconds if written % 10**9 else max(rest_seconds, _COARSE_SECONDS)
    return abs(_now(scratch) - written) > least * 10**9


def _now(scratch: Path) -> int:
    """Return the time in nanoseconds by the clock that file times have."""
    try:
        os.utime(scratch)
        return scratch.stat().st_mtime_ns
    except OSError as error:
        raise os_failure(DestinationError, "use the scratch directory", scratch, error) from error


def _take_back_stray_wal(path: Path, before: FileState | None, timeout_seconds: float) -> bool:
    """Undo what SQLite does when the last user of a database leaves while we open it.

    It makes an empty WAL and then gives up for want of a `-shm`. That WAL is taken away by
    SQLite's own means: whoever closes last removes it, under its locks.

    Returns:
        Whether the WAL is another one than before.
    """
    after = file_state(sidecar(path, "-wal"))
    # Not by ctime: as root, SQLite gives the file to the database's owner as it opens it.
    if after and before and after[:3] == before[:3]:
        return False
    if after is not None and after[1] == 0:
        try:
            connect(path, "mode=rw", timeout_seconds).close()
        except sqlite3.Error as error:
            raise sqlite_failure(path, error) from error
    return True
