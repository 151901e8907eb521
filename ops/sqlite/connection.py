"""Connections to databases, and what their errors mean to the operator."""

import os
import sqlite3
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ops.errors import (
    BusyError,
    DamagedError,
    DestinationError,
    OpsError,
    SourceError,
    os_failure,
)
from ops.interrupts import held_signals
from ops.names import display
from ops.sqlite.header import SIDECARS, sidecar

BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
"""Primary result codes of a lock that somebody else holds."""

_STEPS_BETWEEN_LOOKS = 10_000
"""Instructions of SQLite's virtual machine: a few milliseconds."""


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
    except UnicodeDecodeError as error:
        # SQLite's complaint quotes the schema, and the damage in it is no text.
        connection.close()
        said = bytes(error.object).decode("utf-8", "backslashreplace")
        raise sqlite3.DatabaseError(said) from error
    return connection


def query(
    connection: sqlite3.Connection, statement: str, parameters: tuple[str, ...] = ()
) -> Iterator[tuple[Any, ...]]:
    """Run a statement, also on a schema whose damage is no text.

    Raises:
        sqlite3.Error: It cannot be run. What Python says of names and messages that are not
            UTF-8 becomes a `DatabaseError`, for that is what they show.
    """
    try:
        # Not `yield from`, which would close the cursor where the connection is closed already.
        for row in connection.execute(statement, parameters):  # noqa: UP028
            yield row
    except UnicodeError as error:
        raise sqlite3.DatabaseError(f"the schema holds what is no text: {error}") from error


@contextmanager
def interruptible(
    connection: sqlite3.Connection, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Let a signal end a statement that takes long, and something else go on meanwhile.

    Python runs its signal handlers between its own instructions only, and what a handler raises
    inside a callback of SQLite is lost: so the statement is stopped first, and the signal
    delivered after it.
    """
    with held_signals() as arrived:

        def look() -> bool:
            meanwhile()
            return bool(arrived)

        connection.set_progress_handler(look, _STEPS_BETWEEN_LOOKS)
        try:
            yield
        except sqlite3.OperationalError as error:
            if not arrived or primary_code(error) != sqlite3.SQLITE_INTERRUPT:
                raise
        finally:
            connection.set_progress_handler(None, 0)


def remove_database(path: Path) -> None:
    """Remove a database of our own with its sidecars; what is not there is no error.

    Raises:
        DestinationError: One of them cannot be removed.
    """
    for name in (path, *(sidecar(path, suffix) for suffix in SIDECARS)):
        try:
            name.unlink(missing_ok=True)
        except NotADirectoryError:
            return  # below a file nothing can be
        except OSError as error:
            raise os_failure(DestinationError, "remove", name, error) from error


def primary_code(error: sqlite3.Error) -> int:
    """Return the primary result code of an error (https://www.sqlite.org/rescode.html)."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)
    return code & 0xFF


def sqlite_failure(path: Path, error: sqlite3.Error) -> OpsError:
    """Turn an error of SQLite into a failure that names the database and the cause.

    Returns:
        `BusyError` for a lock that was not given up in time, `SourceError` otherwise.
    """
    if primary_code(error) in BUSY_CODES:
        return BusyError(
            f"the database stayed locked: {display(path)}: {error}",
            hint="try again when the application is less busy, or raise ops.lock_timeout",
        )
    message = f"cannot read the database {display(path)}: {error}"
    # "unsupported file format" is SQLITE_ERROR: a damaged header.
    if isinstance(error, sqlite3.OperationalError) and primary_code(error) != sqlite3.SQLITE_ERROR:
        return SourceError(message)
    return DamagedError(
        message,
        hint="the file is damaged: restore another copy, or try `sqlite3 DATABASE .recover`",
    )
