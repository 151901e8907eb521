"""Mark a copy as one for staging, for people, for the application and for this tool."""

import sqlite3
from collections.abc import Mapping
from datetime import datetime

from ops.rules import Label
from ops.sanitise.schema import Table, matching
from ops.sqlite.content import quote
from ops.staging import LABEL_TABLE


def label_database(
    connection: sqlite3.Connection,
    tables: Mapping[str, Table],
    label: Label | None,
    *,
    made: datetime,
    tool: str,
) -> int:
    """Write the label's table, and the prefix where the application shows it; count the rows.

    Raises:
        sqlite3.Error: It cannot be written.
    """
    connection.execute(f"DROP TABLE IF EXISTS {LABEL_TABLE}")
    connection.execute(f"CREATE TABLE {LABEL_TABLE} (made text NOT NULL, tool text NOT NULL)")
    connection.execute(
        f"INSERT INTO {LABEL_TABLE} (made, tool) VALUES (?, ?)",  # noqa: S608 - a constant
        (made.isoformat(), f"ciso-ops {tool}"),
    )
    table = None if label is None else tables.get(label.table)
    if label is None or table is None or table.column(label.column) is None:
        return 0
    column = quote(label.column)
    condition, values = matching(label.where)
    return connection.execute(
        f"UPDATE {table.sql} SET {column} = ? || {column}"  # noqa: S608 - quoted
        f" WHERE {condition} AND substr({column}, 1, ?) <> ?",
        (label.prefix, *values, len(label.prefix), label.prefix),
    ).rowcount


def marker_text(made: datetime) -> bytes:
    """Return what the file says."""
    return (
        "STAGING: this is not production.\n\n"
        f"These attachments and their database are a sanitised copy, made on {made:%Y-%m-%d %H:%M}"
        " UTC by `inv staging-refresh`.\nNames, addresses and secrets were replaced."
        " Never restore it over production.\n"
    ).encode()
