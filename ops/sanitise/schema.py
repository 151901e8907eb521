"""What a database's schema says that matters here: columns, keys, what must be unique."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from ops.errors import SourceError
from ops.names import display
from ops.rules import Scalar
from ops.sqlite.content import quote

_GENERATED = frozenset({2, 3})
"""What `table_xinfo` says of generated columns: they follow from others, and cannot be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column that can be written."""

    name: str
    declared: str
    not_null: bool
    unique: bool
    key: bool

    @property
    def holds_text(self) -> bool:
        """Whether its declared type is one for text (https://www.sqlite.org/datatype3.html)."""
        declared = self.declared.upper()
        return any(word in declared for word in ("CHAR", "TEXT", "CLOB", "JSON")) or not declared


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """Columns of a table that refer to columns of another."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One table: its columns, how a row of it is named, and what it refers to."""

    name: str
    columns: tuple[Column, ...]
    row_key: tuple[str, ...]
    has_rowid: bool
    foreign_keys: tuple[ForeignKey, ...]

    @property
    def sql(self) -> str:
        """Its name for a statement."""
        return quote(self.name)

    @property
    def row_condition(self) -> str:
        """The condition that names a row, with a placeholder for each part of its key."""
        return " AND ".join(f"{key} IS ?" for key in self.row_key)

    def column(self, name: str) -> Column | None:
        """Return a column; None where there is none of that name."""
        return next((one for one in self.columns if one.name == name), None)


def matching(values: Iterable[tuple[str, Scalar]]) -> tuple[str, tuple[Scalar, ...]]:
    """Return the condition, and what it takes, for rows with these values in these columns."""
    listed = tuple(values)
    condition = " AND ".join(f"{quote(name)} IS ?" for name, _ in listed) or "1"
    return condition, tuple(value for _, value in listed)


def read_schema(connection: sqlite3.Connection) -> dict[str, Table]:
    """Describe all tables of a database but SQLite's own.

    Raises:
        SourceError: One is virtual: what it shows is kept where nobody could look. Or the names
            of its columns leave none for its rows.
        sqlite3.Error: The schema cannot be read.
    """
    tables: dict[str, Table] = {}
    rows = connection.execute("SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main'")
    for name, kind, without_rowid in rows.fetchall():
        if kind in {"virtual", "shadow"}:
            raise SourceError(
                f"a virtual table cannot be sanitised: {display(name)}",
                hint="drop it in the application, or refresh from an instance without it",
            )
        if kind == "table" and not name.startswith("sqlite_"):
            tables[name] = _table(connection, name, has_rowid=not without_rowid)
    return tables


def drop_samples(connection: sqlite3.Connection) -> None:
    """Drop the planner's samples: `ANALYZE` keeps values of indexed columns in them.

    Its counts stay, which hold no value (https://www.sqlite.org/fileformat2.html#stat4tab).

    Raises:
        sqlite3.Error: The schema cannot be changed.
    """
    rows = connection.execute(
        "SELECT name FROM sqlite_schema WHERE name IN ('sqlite_stat3', 'sqlite_stat4')"
    )
    for (name,) in rows.fetchall():
        connection.execute(f"DROP TABLE {name}")


def _table(connection: sqlite3.Connection, name: str, *, has_rowid: bool) -> Table:
    unique = _unique_columns(connection, name)
    columns: list[Column] = []
    primary: list[tuple[int, str]] = []
    for _, column, declared, not_null, _, position, hidden in connection.execute(
        "SELECT * FROM pragma_table_xinfo(?)", (name,)
    ).fetchall():
        if position:
            primary.append((position, column))
        if hidden in _GENERATED:
            continue
        columns.append(
            Column(
                name=column,
                declared=declared or "",
                not_null=bool(not_null),
                unique=column in unique or bool(position),
                key=bool(position),
            )
        )
    names = {column.name.lower() for column in columns}
    free = [name for name in ("rowid", "_rowid_", "oid") if name not in names]
    if has_rowid and free:
        row_key: tuple[str, ...] = (free[0],)
    else:
        row_key, has_rowid = tuple(quote(column) for _, column in sorted(primary)), False
    if not row_key:
        raise SourceError(
            f"the rows of {display(name)} cannot be told apart: it has no primary key, and its"
            " columns are called as the rowid is",
            hint="rename one of rowid, _rowid_ and oid in the application",
        )
    return Table(
        name=name,
        columns=tuple(columns),
        row_key=row_key,
        has_rowid=has_rowid,
        foreign_keys=_foreign_keys(connection, name),
    )


def _unique_columns(connection: sqlite3.Connection, table: str) -> set[str]:
    rows = connection.execute(
        "SELECT info.name FROM pragma_index_list(?) AS list, pragma_index_info(list.name) AS info"
        ' WHERE list."unique" AND info.name IS NOT NULL',
        (table,),
    )
    return {name for (name,) in rows.fetchall()}


def _foreign_keys(connection: sqlite3.Connection, table: str) -> tuple[ForeignKey, ...]:
    """List the keys of a table, with the parent's primary key where none is named."""
    found: dict[int, list[tuple[int, str, str, str | None]]] = {}
    for number, order, parent, column, target in connection.execute(
        'SELECT id, seq, "table", "from", "to" FROM pragma_foreign_key_list(?)', (table,)
    ).fetchall():
        found.setdefault(number, []).append((order, parent, column, target))
    return tuple(_foreign_key(connection, sorted(parts)) for parts in found.values())


def _foreign_key(
    connection: sqlite3.Connection, parts: list[tuple[int, str, str, str | None]]
) -> ForeignKey:
    parent = parts[0][1]
    targets: list[str] = [target for *_, target in parts if target is not None]
    if len(targets) < len(parts):
        rows = connection.execute(
            "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (parent,)
        )
        targets = [name for (name,) in rows.fetchall()]
    return ForeignKey(
        columns=tuple(column for _, _, column, _ in parts),
        parent=parent,
        parent_columns=tuple(targets),
    )
