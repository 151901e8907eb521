"""Read all rows of a private database, a lot at a time."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from ops.sanitise.private import raw_text
from ops.sanitise.schema import Table
from ops.sqlite.content import quote

Row: TypeAlias = tuple[Any, ...]

_LOT_ROWS = 2_000
_LOT_BYTES = 8 << 20
"""A look at one large piece takes less time than many at small ones."""


def read_lots(
    connection: sqlite3.Connection, table: Table, columns: Sequence[str]
) -> Iterator[list[Row]]:
    """Read columns of a table, with the key of each row behind them.

    Text and blobs come as bytes. Rows of a lot may be changed before the next is taken.

    Raises:
        sqlite3.Error: The table cannot be read.
    """
    names = ", ".join((*(quote(column) for column in columns), *table.row_key))
    if not table.has_rowid:
        with raw_text(connection):
            rows = connection.execute(f"SELECT {names} FROM {table.sql}").fetchall()  # noqa: S608 - quoted
        for at in range(0, len(rows), _LOT_ROWS):
            yield rows[at : at + _LOT_ROWS]
        return
    rowid = table.row_key[0]
    statement = f"SELECT {names} FROM {table.sql} WHERE {rowid} > ? ORDER BY {rowid} LIMIT ?"  # noqa: S608 - quoted
    first = f"SELECT {names} FROM {table.sql} ORDER BY {rowid} LIMIT ?"  # noqa: S608 - quoted
    after: int | None = None
    limit = 16
    while True:
        with raw_text(connection):
            if after is None:
                lot = connection.execute(first, (limit,)).fetchall()
            else:
                lot = connection.execute(statement, (after, limit)).fetchall()
        if not lot:
            return
        after = lot[-1][-1]
        limit = _next_limit(lot, limit)
        yield lot


def _next_limit(lot: list[Row], limit: int) -> int:
    """Take as many rows as make a lot of the bytes that are wanted."""
    size = sum(len(value) for row in lot for value in row if isinstance(value, bytes)) + 1
    return max(1, min(_LOT_ROWS, limit * 4, len(lot) * _LOT_BYTES // size))


def joined(lot: Sequence[Row], count: int) -> bytes:
    """Put the text and blobs of a lot's first columns together, to be looked at as one."""
    return b"\0".join(value for row in lot for value in row[:count] if isinstance(value, bytes))


def change_values(
    connection: sqlite3.Connection,
    table: Table,
    changes: Sequence[tuple[str, tuple[Any, ...], bytes]],
) -> None:
    """Write values anew: column, row key, and the new bytes; text stays text, a blob a blob.

    Raises:
        sqlite3.Error: One is not taken.
    """
    for column, key, new in changes:
        name = quote(column)
        given: Any = new
        ((kind,),) = connection.execute(
            f"SELECT typeof({name}) FROM {table.sql} WHERE {table.row_condition}",  # noqa: S608 - quoted
            key,
        )
        value = "?"
        if kind == "text":
            try:
                given = new.decode()
            except UnicodeDecodeError:
                value = "CAST(? AS TEXT)"
        connection.execute(
            f"UPDATE {table.sql} SET {name} = {value} WHERE {table.row_condition}",  # noqa: S608 - quoted
            (given, *key),
        )
