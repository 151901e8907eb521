"""The values of a column that a rule is for."""

import sqlite3
from typing import Any

from ops.rules import Rule, Scalar
from ops.sanitise.binding import Bound
from ops.sanitise.schema import matching
from ops.sqlite.content import quote

NOT_EMPTY = "{0} IS NOT NULL AND {0} <> '' AND {0} <> x''"
AS_TEXT = "CASE typeof({0}) WHEN 'blob' THEN {0} ELSE CAST({0} AS TEXT) END"
"""A number as SQLite writes it, and a blob as it is: a cast would take it for UTF-16 at times."""


def where_of(rule: Rule) -> tuple[str, tuple[Scalar, ...]]:
    """Return the condition, and its values, for the rows that a rule is for."""
    return matching(rule.where)


def read_values(connection: sqlite3.Connection, bound: Bound) -> list[str]:
    """List the different values of a rule's column that are not empty, as text.

    Raises:
        sqlite3.Error: The table cannot be read.
    """
    if bound.column is None:
        return []
    name = quote(bound.column.name)
    condition, values = where_of(bound.rule)
    rows = connection.execute(
        f"SELECT DISTINCT {AS_TEXT.format(name)} FROM {bound.table.sql}"  # noqa: S608 - quoted
        f" WHERE {condition} AND {NOT_EMPTY.format(name)}",
        values,
    )
    return [as_text(value) for (value,) in rows]


def as_text(value: Any) -> str:
    """Return text as it is, and a blob as text in UTF-8, with other bytes in disguise."""
    return value if isinstance(value, str) else bytes(value).decode("utf-8", "surrogateescape")
