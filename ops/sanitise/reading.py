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
    connection: sqlite3.Connection, table: Table, columns: Sequence[str], *, longer: int = 0
) -> Iterator[list[Row]]:
    """Read columns of a table, with the key of each row behind them.

    Text and blobs come as bytes. Rows of a lot may be changed before the next is taken.

    Args:
        connection: To the database.
        table: The table.
        columns: What to read of it.
        longer: Leave out rows with fewer bytes in all of these columns.

    Raises:
        sqlite3.Error: The table cannot be read.
    """
    enough = "1"
    if longer:
        lengths = (f"coalesce(length(CAST({quote(column)} AS BLOB)), 0)" for column in columns)
        enough = f"{' + '.join(lengths)} >= {longer}"
    names = ", ".join((*(quote(column) for column in columns), *table.row_key))
    if not table.has_rowid:
        with raw_text(connection, as_type=_Text):
            rows = connection.execute(f"SELECT {names} FROM {table.sql} WHERE {enough}").fetchall()  # noqa: S608 - quoted
        count = len(columns)
        rows = [(*row[:count], *map(_key_part, row[count:])) for row in rows]
        for at in range(0, len(rows), _LOT_ROWS):
            yield rows[at : at + _LOT_ROWS]
        return
    rowid = table.row_key[0]
    chosen = f"SELECT {names} FROM {table.sql} WHERE {enough}"  # noqa: S608 - quoted
    statement = f"{chosen} AND {rowid} > ? ORDER BY {rowid} LIMIT ?"
    first = f"{chosen} ORDER BY {rowid} LIMIT ?"
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


class _Text(bytes):
    """Text, told apart from a blob."""

    __slots__ = ()


def _key_part(value: Any) -> Any:
    """Return a part of a row's key as a condition has to have it: text is not equal to a blob."""
    return value.decode("utf-8", "surrogateescape") if isinstance(value, _Text) else value


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

    All values of a row are written at once: its key may be among them.

    Raises:
        sqlite3.Error: One is not taken.
    """
    by_row: dict[tuple[Any, ...], dict[str, bytes]] = {}
    for column, key, new in changes:
        by_row.setdefault(key, {})[column] = new
    for key, row in by_row.items():
        names = [quote(column) for column in row]
        kinds = connection.execute(
            f"SELECT {', '.join(f'typeof({name})' for name in names)} FROM {table.sql}"  # noqa: S608 - quoted
            f" WHERE {table.row_condition}",
            key,
        ).fetchone()
        written = [_written(kind, new) for kind, new in zip(kinds, row.values(), strict=True)]
        assigned = ", ".join(
            f"{name} = {place}" for name, (place, _) in zip(names, written, strict=True)
        )
        connection.execute(
            f"UPDATE {table.sql} SET {assigned} WHERE {table.row_condition}",  # noqa: S608 - quoted
            (*(value for _, value in written), *key),
        )


def _written(kind: str, new: bytes) -> tuple[str, str | bytes]:
    """Return a placeholder and what it stands for."""
    if kind != "text":
        return "?", new
    try:
        return "?", new.decode()
    except UnicodeDecodeError:
        return "CAST(? AS TEXT)", new
