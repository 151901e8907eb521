"""Look for originals in a finished copy, by other means than those that removed them."""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ops.errors import DestinationError, os_failure
from ops.interrupts import steady_threads
from ops.model import Finding, Severity
from ops.names import display
from ops.sanitise.finder import Finder
from ops.sanitise.reading import joined, read_lots
from ops.sanitise.schema import Table

_PIECE_BYTES = 4 << 20
_SHARE, _KEYED_SHARE = 2, 8
"""A row of less than a page, or less than about a quarter of one in a table without rowid, lies
whole on a page (https://www.sqlite.org/fileformat2.html, 1.6): so what is shorter by far."""

_NUMBER_BYTES = 9
"""What a number takes at most, and more than what is noted of every value."""

_STORED = 3
"""What `table_xinfo` says of generated columns that lie in the file."""


def search_rows(
    connection: sqlite3.Connection,
    tables: Mapping[str, Table],
    finder: Finder,
    *,
    every: bool = False,
) -> Iterator[Finding]:
    """Look into every value of a database that may lie on more than one page, and its schema.

    Shorter rows lie whole on a page, and so does each of their values: a look at the file as it
    is finds what is in them. A finding names the column, never the value.

    Args:
        connection: To the database.
        tables: Its tables.
        finder: What to look for.
        every: Look into shorter rows as well, to tell the columns of what the file holds.

    Raises:
        sqlite3.Error: A table cannot be read.
    """
    ((page_size,),) = connection.execute("PRAGMA page_size")
    for name, statement in connection.execute("SELECT name, sql FROM sqlite_schema").fetchall():
        if finder.found_in(f"{name} {statement}".encode("utf-8", "surrogateescape")):
            yield left_over(f"the schema of {display(name)}")
    for table in tables.values():
        columns = [column.name for column in table.columns]
        found: set[str] = set()
        longer = 0 if every else _long_row(connection, table, page_size)
        for lot in read_lots(connection, table, columns, longer=longer):
            whole = joined(lot, len(columns))
            if not finder.found_in(whole):
                continue
            for row in lot:
                for column, value in zip(columns, row, strict=False):
                    if isinstance(value, bytes) and finder.found_in(value):
                        found.add(column)
        for column in sorted(found):
            yield left_over(f"{display(table.name)}.{display(column)}")


def _long_row(connection: sqlite3.Connection, table: Table, page_size: int) -> int:
    """Return how many bytes of text a row may have and still lie whole on a page."""
    rows = connection.execute("SELECT hidden FROM pragma_table_xinfo(?)", (table.name,)).fetchall()
    if (_STORED,) in rows:
        return 0  # what is generated may be longer than what it is made of
    share = page_size // (_SHARE if table.has_rowid else _KEYED_SHARE)
    return max(0, share - _NUMBER_BYTES * len(rows))


def search_file(descriptor: int, finder: Finder, begin: int = 0, end: int | None = None) -> bool:
    """Tell whether the bytes of a file, or of a part of it, hold an original, wherever in them.

    Args:
        descriptor: The open file.
        finder: What to look for.
        begin: Where to begin.
        end: Where to end; None is the file's end.

    Raises:
        OSError: It cannot be read.
    """
    return search_pieces(_pieces(descriptor, begin, end), finder)


def _pieces(descriptor: int, position: int, end: int | None) -> Iterator[bytes]:
    while end is None or position < end:
        wanted = _PIECE_BYTES if end is None else min(_PIECE_BYTES, end - position)
        piece = os.pread(descriptor, wanted, position)
        if not piece:
            return
        position += len(piece)
        yield piece


def search_pieces(pieces: Iterable[bytes], finder: Finder) -> bool:
    """Tell whether pieces that follow each other hold an original, also across their ends."""
    tail = b""
    for piece in pieces:
        data = tail + piece
        if finder.found_in(data):
            return True
        tail = data[-finder.longest :]
    return False


def search_raw(database: Path, finder: Finder) -> tuple[Finding, ...]:
    """Look into a database as a file: free pages, and what is left in pages that are used.

    Raises:
        DestinationError: It cannot be read.
    """
    try:
        descriptor = os.open(database, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            half = os.fstat(descriptor).st_size // 2
            with steady_threads(1) as beside:  # the finder works without Python's lock
                first = beside.submit(search_file, descriptor, finder, end=half + finder.longest)
                found = search_file(descriptor, finder, half)
                found |= first.result()
        finally:
            os.close(descriptor)
    except OSError as error:
        raise os_failure(DestinationError, "read", database, error) from error
    return (left_over("the bytes of the database file"),) if found else ()


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
