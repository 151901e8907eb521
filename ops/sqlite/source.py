"""Open a database for reading so that nobody, and nothing beside it, notices."""

import os
import shutil
import sqlite3
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias

from ops.errors import BusyError, DamagedError, OpsError, SourceError, os_failure
from ops.names import display
from ops.sqlite.header import SIDECARS, DatabaseFile, inspect_database, sidecar

_COPY_TRIES = 3
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_NEEDS_RECOVERY = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
"""Primary result codes by which SQLite says that it would have to write to read this."""


class Way(StrEnum):
    """How a database is read."""

    LIVE = "with a write-ahead log"
    REST = "at rest"
    ROLLBACK = "in rollback journal mode"
    COPY = "recovered in a private copy"


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
        return _state(self.file.path) == then


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
    file = inspect_database(path)
    connection, way = _connect(file, scratch, timeout_seconds)
    try:
        yield OpenDatabase(connection=connection, file=file, way=way)
    finally:
        connection.close()


def _connect(
    file: DatabaseFile, scratch: Path, timeout_seconds: float
) -> tuple[sqlite3.Connection, Way]:
    if not file.header.wal:
        options, way = "mode=ro", Way.ROLLBACK
    elif "-wal" in file.sidecars:
        options, way = "mode=ro&readonly_shm=1", Way.LIVE
    else:
        options, way = "mode=ro&immutable=1", Way.REST
    try:
        return connect(file.path, options, timeout_seconds), way
    except sqlite3.OperationalError as error:
        if _primary(error) not in _NEEDS_RECOVERY:
            raise sqlite_failure(file.path, error) from error
    except sqlite3.DatabaseError as error:
        raise sqlite_failure(file.path, error) from error
    copy = _copy_at_rest(file, scratch)
    try:
        return connect(copy, "mode=rw", timeout_seconds), Way.COPY
    except sqlite3.Error as error:
        raise sqlite_failure(file.path, error) from error


def connect(path: Path, options: str, timeout_seconds: float) -> sqlite3.Connection:
    """Open a database by URI and make sure that it can be read.

    Raises:
        sqlite3.Error: It cannot; the connection is closed.
    """
    uri = f"file:{urllib.parse.quote(os.fsencode(path))}?{options}"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=timeout_seconds, check_same_thread=False
    )
    try:
        # Text that is not UTF-8 must not stop a check: it is read as bytes in disguise.
        connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        connection.execute("PRAGMA query_only = 1")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


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


_State: TypeAlias = tuple[int, int, int, int]


def _state(path: Path) -> _State | None:
    """Return inode, size, mtime and ctime of a file, by which a change shows; or None."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def remove_database(path: Path) -> None:
    """Remove a database of our own with its sidecars; what is not there is no error.

    Raises:
        OSError: One of them cannot be removed.
    """
    for suffix in ("", *SIDECARS):
        sidecar(path, suffix).unlink(missing_ok=True)


def _primary(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def sqlite_failure(path: Path, error: sqlite3.Error) -> OpsError:
    """Turn an error of SQLite into a failure that names the database and the cause.

    Returns:
        `BusyError` for a lock that was not given up in time, `SourceError` otherwise.
    """
    if _primary(error) in _BUSY:
        return BusyError(
            f"the database stayed locked: {display(path)}: {error}",
            hint="try again when the application is less busy, or raise ops.lock_timeout",
        )
    message = f"cannot read the database {display(path)}: {error}"
    if isinstance(error, sqlite3.OperationalError):
        return SourceError(message)
    return DamagedError(
        message,
        hint="the file is damaged: restore another copy, or try `sqlite3 DATABASE .recover`",
    )
