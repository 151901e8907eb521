"""Copy a database with its WAL or journal while nobody writes them, to be recovered apart."""

import os
import sqlite3
from pathlib import Path

from ops.errors import DestinationError, SourceError, os_failure
from ops.names import display
from ops.sqlite.connection import connect, primary_code, sqlite_failure
from ops.sqlite.header import file_state, sidecar

_TRIES = 3
_PIECE_BYTES = 1 << 20

_WRITING_CODES = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    }
)
"""Primary result codes by which SQLite says of a private copy that it could not write it."""


def copy_still_files(database: Path, scratch: Path) -> Path | None:
    """Copy the main file, its WAL and its journal, all as they are at one time.

    To be called while this process has no connection to the database.

    Args:
        database: The real path of the database.
        scratch: Where the copies go, under the same names, in a directory of their own.

    Returns:
        The path of the copy, None when the files changed each time they were copied.

    Raises:
        SourceError: One of them cannot be read.
        DestinationError: There is no room for the copy.
    """
    directory = scratch / "recovery"
    names = [database, *(sidecar(database, suffix) for suffix in ("-wal", "-journal"))]
    for _ in range(_TRIES):
        _make_empty(directory)
        before = [file_state(name) for name in names]
        for name in names:
            _copy_file(name, directory / name.name)
        if before == [file_state(name) for name in names]:
            return directory / database.name
    return None


def _make_empty(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        for left_over in directory.iterdir():
            left_over.unlink()
    except OSError as error:
        raise os_failure(DestinationError, "use the scratch directory", directory, error) from error


def _copy_file(source: Path, copy: Path) -> None:
    try:
        reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # not every database has them; the states tell what went meanwhile
    except OSError as error:
        raise os_failure(SourceError, "read", source, error) from error
    try:
        with copy.open("xb") as writer:
            while piece := _read(reader, source):
                writer.write(piece)
    except OSError as error:
        raise os_failure(DestinationError, "copy the database to", copy, error) from error
    finally:
        os.close(reader)


def _read(reader: int, source: Path) -> bytes:
    try:
        return os.read(reader, _PIECE_BYTES)
    except OSError as error:
        raise os_failure(SourceError, "read", source, error) from error


def connect_copy(copy: Path, original: Path) -> sqlite3.Connection:
    """Open a private copy, which makes SQLite recover it.

    Raises:
        DestinationError: It cannot be written: its disk is full, or fails.
        OpsError: It is damaged, which the original then is.
    """
    try:
        return connect(copy, "mode=rw", 0)
    except sqlite3.Error as error:
        if primary_code(error) in _WRITING_CODES:
            raise DestinationError(
                f"cannot recover a copy of {display(original)} in {display(copy.parent)}: {error}",
                hint="make room there",
            ) from error
        raise sqlite_failure(original, error) from error
