"""Copy a database at one instant, whoever writes meanwhile."""

import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ops.errors import BusyError, DestinationError, OpsError, os_failure
from ops.names import display
from ops.sqlite.connection import BUSY_CODES, primary_code, remove_database, sqlite_failure
from ops.sqlite.header import DatabaseFile, file_state, sidecar
from ops.sqlite.source import OpenDatabase
from ops.tree.metadata import Kept, apply_metadata

_STEP_PAGES = 1000
_BUSY_SLEEP_SECONDS = 0.25

_READING = frozenset(
    {
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_LOCK,
        sqlite3.SQLITE_IOERR_RDLOCK,
        sqlite3.SQLITE_IOERR_SHMLOCK,
        sqlite3.SQLITE_IOERR_SHMMAP,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
    }
)
_WRITING = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})


def back_up(
    database: OpenDatabase,
    copy: Path,
    *,
    advance: Callable[[int, int], None],
    busy_seconds: float = 10.0,
) -> None:
    """Copy a pinned database with SQLite's online backup (https://www.sqlite.org/backup.html).

    The pages come through the pinned connection, so the copy equals the pinned instant and the
    backup never starts over. The copy carries the source's journal mode in its header; it is
    not synced here.

    Args:
        database: The source, pinned by the caller.
        copy: Where to write; nothing may be there. Removed again on failure, since a failed
            backup leaves an empty file that passes `integrity_check`.
        advance: Called with pages done and pages in all, after each step of 1,000 pages.
        busy_seconds: How long the source may stay locked.

    Raises:
        BusyError: The source stayed locked.
        OpsError: The source cannot be read.
        DestinationError: The copy cannot be written.
    """
    _create(copy)
    busy_steps = 0

    def watch(code: int, remaining: int, total: int) -> None:
        # The backup itself retries a lock for ever; this is the one place to stop it.
        nonlocal busy_steps
        busy_steps = busy_steps + 1 if code in BUSY_CODES else 0
        if busy_steps * _BUSY_SLEEP_SECONDS > busy_seconds:
            raise BusyError(f"the database stayed locked: {display(database.file.path)}")
        advance(total - remaining, total)

    try:
        _back_up(database.connection, copy, watch)
    except sqlite3.Error as error:
        failure = _failure(error, database.file.path, copy)
        _discard(copy, failure)
        raise failure from error
    except BaseException as error:
        _discard(copy, error)
        raise


def _discard(copy: Path, failure: BaseException) -> None:
    try:
        remove_database(copy)
    except DestinationError as left:
        failure.add_note(left.message)


def _failure(error: sqlite3.Error, source: Path, copy: Path) -> OpsError:
    if not _is_write_failure(error):
        return sqlite_failure(source, error)
    return DestinationError(
        f"cannot write {display(copy)}: {error}",
        hint="free some space, or choose another file system"
        if primary_code(error) == sqlite3.SQLITE_FULL
        else "look at the directory and its disk",
    )


def _create(copy: Path) -> None:
    """Make the file here: SQLite would not say why it cannot."""
    try:
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise os_failure(DestinationError, "create", copy, error) from error


def _back_up(
    source: sqlite3.Connection, copy: Path, watch: Callable[[int, int, int], None]
) -> None:
    target = sqlite3.connect(copy, isolation_level=None)
    try:
        # The copy is private and thrown away on failure: no journal, and one sync at the end.
        target.execute("PRAGMA journal_mode = OFF")
        target.execute("PRAGMA synchronous = OFF")
        target.execute("PRAGMA locking_mode = EXCLUSIVE")
        source.backup(target, pages=_STEP_PAGES, progress=watch, sleep=_BUSY_SLEEP_SECONDS)
    finally:
        target.close()


def finish_backup(copy: Path, file: DatabaseFile) -> Kept:
    """Give the database its owner, mode and times: those of the last commit, WAL included.

    Raises:
        DestinationError: They cannot be set.
    """
    modified = file.entry.modified_ns
    for suffix in ("-wal", "-journal"):
        state = file_state(sidecar(file.path, suffix))
        if state is not None:
            modified = max(modified, state[2])
    try:
        descriptor = os.open(copy, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return apply_metadata(descriptor, replace(file.entry, modified_ns=modified))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise os_failure(DestinationError, "set the metadata of", copy, error) from error


def _is_write_failure(error: sqlite3.Error) -> bool:
    """Tell whether it was the copy that failed: the source is only locked and read."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF == sqlite3.SQLITE_IOERR:
        return code not in _READING
    return code & 0xFF in _WRITING
