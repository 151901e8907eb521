"""Look for originals in a finished copy, by other means than those that removed them."""

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from ops.errors import DestinationError, os_failure
from ops.model import Finding, Severity
from ops.names import display
from ops.sanitise.finder import Finder
from ops.sanitise.reading import joined, read_lots
from ops.sanitise.schema import Table

_PIECE_BYTES = 4 << 20


def search_rows(
    connection: sqlite3.Connection,
    tables: Mapping[str, Table],
    finder: Finder,
    advance: Callable[[int], None],
) -> Iterator[Finding]:
    """Look into every value of a database, and into its schema.

    A finding names the column, never the value.

    Raises:
        sqlite3.Error: A table cannot be read.
    """
    for name, statement in connection.execute("SELECT name, sql FROM sqlite_schema").fetchall():
        if finder.found_in(f"{name} {statement}".encode("utf-8", "surrogateescape")):
            yield left_over(f"the schema of {display(name)}")
    for table in tables.values():
        columns = [column.name for column in table.columns]
        found: set[str] = set()
        for lot in read_lots(connection, table, columns):
            whole = joined(lot, len(columns))
            advance(len(whole))
            if not finder.found_in(whole):
                continue
            for row in lot:
                for column, value in zip(columns, row, strict=False):
                    if isinstance(value, bytes) and finder.found_in(value):
                        found.add(column)
        for column in sorted(found):
            yield left_over(f"{display(table.name)}.{display(column)}")


def search_file(descriptor: int, finder: Finder) -> bool:
    """Tell whether the bytes of a file hold an original, wherever in them.

    Args:
        descriptor: The open file.
        finder: What to look for.

    Raises:
        OSError: It cannot be read.
    """
    position, tail = 0, b""
    while piece := os.pread(descriptor, _PIECE_BYTES, position):
        position += len(piece)
        data = tail + piece
        if finder.found_in(data):
            return True
        tail = data[-finder.longest :]
    return False


def search_raw(database: Path, finder: Finder) -> Iterator[Finding]:
    """Look into a database as a file: free pages, and what is left in pages that are used.

    Raises:
        DestinationError: It cannot be read.
    """
    try:
        descriptor = os.open(database, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = search_file(descriptor, finder)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise os_failure(DestinationError, "read", database, error) from error
    if found:
        yield left_over("the bytes of the database file")


def search_names(paths: Iterable[bytes], finder: Finder) -> Iterator[Finding]:
    """Look into the names of attachments."""
    if any(finder.found_in(path) for path in paths):
        yield left_over("the name of an attachment")


def left_over(where: str) -> Finding:
    """Return the finding for an original that is still there."""
    return Finding(
        kind="original-left",
        severity=Severity.ERROR,
        where=where,
        expected="no e-mail address and no secret of the source",
        found="at least one",
    )
