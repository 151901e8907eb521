"""Databases of any shape in which secrets and people are planted, as descriptions."""

import html
import json
import sqlite3
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What a column is: how it is declared, which rule it has.
RULES: dict[str, dict[str, Any]] = {
    "email": {"action": "pseudonym", "kind": "e-mail"},
    "first": {"action": "pseudonym", "kind": "name"},
    "last": {"action": "pseudonym", "kind": "name"},
    "phone": {"action": "pseudonym", "kind": "phone"},
    "code": {"action": "pseudonym", "kind": "text"},
    "blanked": {"action": "blank", "secret": True},
    "nulled": {"action": "null", "secret": True},
    "fixed": {"action": "set", "value": "!staging", "secret": True},
    "document": {"action": "json-keys", "keys": ["key"], "members": {"on": False}, "secret": True},
    "gone": {"action": "delete-rows", "secret": True},
}
TYPES = {
    **dict.fromkeys(("free", "innocent", "parent"), "any"),
    "integer": "integer",
    "real": "real",
    "bytes": "blob",
}

WRITINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper": lambda text: text.upper() if text.isascii() else text,
    "json": lambda text: json.dumps({"m": f"to:\n{text}"}),
    "json in json": lambda text: json.dumps({"in": json.dumps({"m": f"\t{text}\n"})}),
    "json in utf-8": lambda text: json.dumps([text], ensure_ascii=False),
    "url": lambda text: "https://x.example/?q=" + urllib.parse.quote(text, safe="") + "&z=1",
    "url in json": lambda text: json.dumps({"u": "?q%3D" + urllib.parse.quote_plus(text)}),
    "html": lambda text: f"<p>to {html.escape(text)}</p>",
    "json for html": lambda text: json.dumps(f"<{text}>").replace("<", "\\u003c"),
    "quoted": lambda text: f"“{text}”",
    "long": lambda text: "lorem ipsum " * 1200 + text + " dolor sit" * 900,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column: its role is a rule, `free`, `innocent`, `parent` or how it is typed."""

    name: str
    role: str
    not_null: bool = False
    unique: bool = False
    parent: str = ""
    parent_column: str = ""
    nocase: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedTable:
    """One table with its rows, each a value for the id and for every column.

    `keyed` has the first column be a part of the primary key.
    """

    name: str
    columns: tuple[Column, ...]
    strict: bool
    without_rowid: bool
    keyed: bool
    rows: tuple[tuple[Any, ...], ...]
    deleted: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """A database: its tables, the addresses and the names in it, and how the file is."""

    tables: tuple[PlantedTable, ...]
    addresses: tuple[str, ...]
    names: tuple[str, ...]
    encoding: str
    page_size: int
    auto_vacuum: int
    wal: bool
    analyzed: bool

    def rules(self) -> Iterator[dict[str, Any]]:
        """Yield the rules for its columns."""
        for table in self.tables:
            for column in table.columns:
                if column.role in RULES:
                    yield {"column": f"{table.name}.{column.name}", **RULES[column.role]}


def quoted(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _declared(column: Column) -> str:
    parts = [quoted(column.name), TYPES.get(column.role, "text")]
    parts += ["NOT NULL"] * column.not_null + ["UNIQUE"] * column.unique
    parts += ["COLLATE NOCASE"] * column.nocase
    if column.parent:
        parts.append(f"REFERENCES {quoted(column.parent)} ({quoted(column.parent_column)})")
    return " ".join(parts)


def build(path: Path, world: Planted) -> None:
    """Write a database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in (
            f"encoding = '{world.encoding}'",
            f"page_size = {world.page_size}",
            f"auto_vacuum = {world.auto_vacuum}",
            f"journal_mode = {'wal' if world.wal else 'delete'}",
            "synchronous = off",
            "secure_delete = off",
            "wal_autocheckpoint = 0",
            "foreign_keys = on",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        connection.execute("BEGIN")
        for table in world.tables:
            columns = [
                "id integer NOT NULL UNIQUE" if table.keyed else "id integer PRIMARY KEY",
                *map(_declared, table.columns),
            ]
            if table.keyed:
                columns.append(f"PRIMARY KEY ({quoted(table.columns[0].name)}, id)")
            options = ["STRICT"] * table.strict + ["WITHOUT ROWID"] * table.without_rowid
            connection.execute(
                f"CREATE TABLE {quoted(table.name)} ({', '.join(columns)}) {', '.join(options)}"
            )
            for number, column in enumerate(table.columns):
                index = quoted(f"{table.name} {number}")
                on = f"{quoted(table.name)} ({quoted(column.name)})"
                connection.execute(f"CREATE INDEX {index} ON {on}")
        connection.execute("COMMIT")
        for table in world.tables:
            places = ", ".join("?" * (1 + len(table.columns)))
            statement = f"INSERT INTO {quoted(table.name)} VALUES ({places})"
            connection.execute("BEGIN")
            for row in (*table.rows, *table.deleted):
                with suppress(sqlite3.IntegrityError):  # the schema has the last word
                    connection.execute(statement, row)
            connection.execute("COMMIT")
            connection.execute(f"DELETE FROM {quoted(table.name)} WHERE id > 1000")
        if world.analyzed:
            connection.execute("ANALYZE")
