"""A private database that is changed, and thrown away if that fails."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.errors import DestinationError, OpsError, SourceError
from ops.names import display
from ops.sqlite.connection import primary_code
from ops.sqlite.content import quote

_CACHE_KIBIBYTES = 200 * 1024
_DISK = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})


@contextmanager
def private_database(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that only this process has, and change it without a journal.

    Text comes as `str`, with bytes that are no UTF-8 in disguise (PEP 383). Foreign keys are not
    enforced and triggers not fired: whoever changes rows mends what that breaks. What fails here
    is thrown away, so nothing is synced.

    Raises:
        DestinationError: The disk did not take it.
        SourceError: The database cannot be changed as asked.
    """
    try:
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            connection.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
            for pragma in (
                "synchronous = OFF",
                "journal_mode = DELETE",
                "locking_mode = EXCLUSIVE",
                "journal_mode = OFF",
                "foreign_keys = OFF",
                f"cache_size = -{_CACHE_KIBIBYTES}",
                "temp_store = MEMORY",  # a temporary file would hold what is to be removed
            ):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            with _without_triggers(connection):
                yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise database_failure(path, error) from error
    except UnicodeEncodeError as error:
        raise SourceError(
            "the database cannot be sanitised: text that names a row or a file is no UTF-8",
            hint="see docs/staging.md; mend that text in the application",
        ) from error


def database_failure(path: Path, error: sqlite3.Error) -> OpsError:
    """Turn SQLite's complaint about the private copy into a failure."""
    if primary_code(error) in _DISK:
        return DestinationError(
            f"cannot write {display(path)}: {error}",
            hint="free some space, or choose another file system",
        )
    return SourceError(
        f"the database cannot be sanitised: {error}",
        hint="a rule of the profile does not suit this database; see docs/staging.md",
    )


@contextmanager
def _without_triggers(connection: sqlite3.Connection) -> Iterator[None]:
    """Take the triggers out, which would write what they see elsewhere, and put them back."""
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
    ).fetchall()
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {quote(name)}")
    yield
    for _, statement in triggers:
        connection.execute(statement)


@contextmanager
def raw_text(connection: sqlite3.Connection, *, as_type: type[bytes] = bytes) -> Iterator[None]:
    """Have text come as the bytes it is, in UTF-8, which is quicker and never fails."""
    before = connection.text_factory
    connection.text_factory = as_type
    try:
        yield
    finally:
        connection.text_factory = before
