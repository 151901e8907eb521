"""Make an old database ready to be replaced: nobody uses it, and all it holds is in one file."""

import sqlite3
from pathlib import Path

from ops.errors import BusyError, DestinationError, os_failure
from ops.names import display
from ops.sqlite.connection import BUSY_CODES, primary_code
from ops.sqlite.header import (
    HEADER_BYTES,
    SIDECARS,
    Header,
    file_state,
    parse_header,
    sidecar,
)

_TIMEOUT_SECONDS = 2.0


def retire_database(database: Path) -> None:
    """Bring an old database and what waits in its WAL or journal into one file, if nobody uses it.

    A WAL left beside the new database would be replayed onto it. In WAL mode, leaving that mode
    fails while any other process has the database open, so this also tells whether it is in use;
    in rollback mode an exclusive lock fails while anybody reads or writes. Who has it open and
    is idle can be seen in neither. What is no database is left as it is.

    Raises:
        BusyError: It is in use.
        DestinationError: It cannot be merged.
    """
    header = _read_header(database)
    waiting = any(file_state(sidecar(database, suffix)) for suffix in SIDECARS)
    if header is None or (header.wal and not waiting):
        return  # no database, or one that nobody reads: there is nothing to merge
    try:
        connection = sqlite3.connect(database, isolation_level=None, timeout=_TIMEOUT_SECONDS)
        try:
            _merge(connection)
        finally:
            connection.close()
    except sqlite3.OperationalError as error:
        code = primary_code(error)
        if code in BUSY_CODES:
            raise BusyError(
                f"the destination is in use by another process: {display(database)}",
                hint="stop the application that has it open, or add --dest-in-use wait",
            ) from error
        if waiting:
            raise DestinationError(
                f"cannot merge the WAL of the old database {display(database)}: {error}",
                hint="move the old database away by hand, together with its -wal and -shm",
            ) from error
    except sqlite3.DatabaseError:
        return  # too damaged to be opened: it is replaced, sidecars and all


def _merge(connection: sqlite3.Connection) -> None:
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    connection.execute("BEGIN EXCLUSIVE")  # plays a hot journal back, too
    connection.execute("ROLLBACK")
    if mode == "wal":
        connection.execute("PRAGMA journal_mode = WAL").fetchone()


def _read_header(database: Path) -> Header | None:
    try:
        with database.open("rb") as file:
            return parse_header(file.read(HEADER_BYTES))
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise os_failure(DestinationError, "read the old database", database, error) from error
