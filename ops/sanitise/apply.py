"""Apply rules to the rows of a private database, and collect what they remove."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ops.rules import Action, Kind, Rule, Scalar
from ops.sanitise.binding import Binding, Bound
from ops.sanitise.documents import read_document, scrub, write_document
from ops.sanitise.naming import choose_names
from ops.sanitise.originals import Originals
from ops.sanitise.pseudonyms import Pseudonyms
from ops.sanitise.schema import Column, ForeignKey, Table
from ops.sanitise.values import AS_TEXT, NOT_EMPTY, as_text, read_values, where_of
from ops.sqlite.content import quote

_REWRITTEN = frozenset({Action.PSEUDONYM, Action.JSON_KEYS})
"""Actions that look at each value; the others have the same for all."""

_DIFFERENT = "{0} IS NOT NULL AND {0} IS NOT ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A rule, and how many rows it touched."""

    bound: Bound
    rows: int


def count_touched(connection: sqlite3.Connection, binding: Binding) -> Iterator[Applied]:
    """Count the rows that each rule would touch; nothing is changed.

    Raises:
        sqlite3.Error: A table cannot be read.
    """
    for bound in binding.bound:
        values: tuple[Scalar | None, ...]
        condition, values = where_of(bound.rule)
        if bound.rule.action in _REWRITTEN and bound.column is not None:
            condition += f" AND {NOT_EMPTY.format(quote(bound.column.name))}"
        elif bound.rule.action is not Action.DELETE_ROWS and bound.column is not None:
            condition += f" AND {_DIFFERENT.format(quote(bound.column.name))}"
            values = (*values, _constant(bound.rule, bound.column))
        statement = f"SELECT count(*) FROM {bound.table.sql} WHERE {condition}"  # noqa: S608 - quoted
        ((count,),) = connection.execute(statement, values)
        yield Applied(bound=bound, rows=0 if bound.rule.action is Action.KEEP else int(count))


def apply_rules(
    connection: sqlite3.Connection,
    binding: Binding,
    pseudonyms: Pseudonyms,
    originals: Originals,
) -> tuple[Applied, ...]:
    """Do to each column what its rule says.

    All values are collected before the first row changes: a rule may empty what another reads.

    Args:
        connection: To a private database.
        binding: The rules for it.
        pseudonyms: Makes them.
        originals: Gets what was there.

    Raises:
        sqlite3.Error: A rule does not suit the table.
    """
    acting = [one for one in binding.bound if one.rule.action is not Action.KEEP]
    for bound in acting:
        _collect(connection, bound, pseudonyms, originals)
    _collect_people(connection, acting, pseudonyms, originals)
    names = choose_names(connection, acting, pseudonyms)
    done = {
        id(bound): Applied(bound=bound, rows=_change(connection, bound, names, originals))
        for bound in sorted(acting, key=lambda one: one.rule.action is Action.DELETE_ROWS)
    }
    return tuple(done[id(bound)] for bound in acting)


def _collect(
    connection: sqlite3.Connection, bound: Bound, pseudonyms: Pseudonyms, originals: Originals
) -> None:
    rule = bound.rule
    if rule.kind is Kind.EMAIL:
        for value in read_values(connection, bound):
            originals.add_address(value, pseudonyms.of(rule.kind, value))
    elif rule.kind is not None and (rule.kind is not Kind.NAME or rule.secret):
        for value in read_values(connection, bound):
            originals.add(value, pseudonyms.of(rule.kind, value))
    elif rule.secret and rule.action is not Action.JSON_KEYS:
        new = str(rule.value) if rule.action is Action.SET else ""
        for value in read_values(connection, bound):
            if value != new:
                originals.add_secret(value)


def _collect_people(
    connection: sqlite3.Connection,
    bound: Iterable[Bound],
    pseudonyms: Pseudonyms,
    originals: Originals,
) -> None:
    """Collect the full names of those tables that hold the names of people in parts."""
    parts: dict[str, list[str]] = {}
    for one in bound:
        if one.rule.kind is Kind.NAME and one.column is not None:
            parts.setdefault(one.table.sql, []).append(quote(one.column.name))
    for table, columns in parts.items():
        rows = connection.execute(f"SELECT DISTINCT {', '.join(columns)} FROM {table}")  # noqa: S608 - quoted
        for row in rows:
            names = tuple(name for name in row if isinstance(name, str) and name)
            instead = tuple(pseudonyms.of(Kind.NAME, name) for name in names)
            originals.add_person(names, instead)


def _change(
    connection: sqlite3.Connection,
    bound: Bound,
    names: Mapping[int, Callable[[str], str]],
    originals: Originals,
) -> int:
    """Carry a rule out; return the number of rows."""
    rule, table, column = bound.rule, bound.table, bound.column
    condition, values = where_of(rule)
    if rule.action is Action.DELETE_ROWS:
        return connection.execute(f"DELETE FROM {table.sql} WHERE {condition}", values).rowcount  # noqa: S608 - quoted
    if column is None:
        raise ValueError(f"the rule for {rule.name} needs a column")
    if rule.kind is not None:
        return _rewrite(connection, bound, names[id(bound)])
    if rule.action is Action.JSON_KEYS:
        return _scrub(connection, bound, originals)
    name = quote(column.name)
    new = _constant(rule, column)
    return connection.execute(
        f"UPDATE {table.sql} SET {name} = ? WHERE {condition} AND {_DIFFERENT.format(name)}",  # noqa: S608 - quoted
        (new, *values, new),
    ).rowcount


def _constant(rule: Rule, column: Column) -> Scalar | None:
    if rule.action is Action.SET:
        return rule.value
    if rule.action in {Action.NULL, Action.DROP_FILE} and not column.not_null:
        return None
    return ""


def _scrub(connection: sqlite3.Connection, bound: Bound, originals: Originals) -> int:
    rule = bound.rule

    def scrubbed(value: str) -> str:
        removed: set[str] = set()
        try:
            new = write_document(
                scrub(read_document(value), rule.keys, dict(rule.members), removed)
            )
        except (ValueError, RecursionError):
            removed, new = {value}, "{}"  # what cannot be read may hold anything
        if rule.secret:
            for one in removed:
                originals.add_secret(one)
        return new

    return _rewrite(connection, bound, scrubbed)


def _rewrite(connection: sqlite3.Connection, bound: Bound, new: Callable[[str], str]) -> int:
    """Write a column anew, row by row; what is empty stays so."""
    table, column = bound.table, bound.column
    if column is None:
        raise ValueError(f"the rule for {bound.rule.name} needs a column")
    name = quote(column.name)
    condition, values = where_of(bound.rule)
    keys = ", ".join(table.row_key)
    rows = connection.execute(
        f"SELECT {AS_TEXT.format(name)}, {keys} FROM {table.sql}"  # noqa: S608 - quoted
        f" WHERE {condition} AND {NOT_EMPTY.format(name)}",
        values,
    ).fetchall()
    changes: list[tuple[Any, ...]] = []
    for value, *key in rows:
        made = new(as_text(value))
        if made != value:
            changes.append((made, *key))
    connection.executemany(
        f"UPDATE {table.sql} SET {name} = ? WHERE {table.row_condition}",  # noqa: S608 - quoted
        changes,
    )
    return len(changes)


def mend_keys(
    connection: sqlite3.Connection, tables: Iterable[Table], shortened: Iterable[str]
) -> int:
    """Mend rows that refer to rows which are gone; return how many.

    A column that may be empty becomes empty, otherwise the row goes as well, as Django's cascade
    would have it, and what refers to either is mended in turn. What referred to nothing in the
    source already is left as it is where its key is no other's business.

    Args:
        connection: To a private database.
        tables: All of its tables.
        shortened: The names of those that lost rows.

    Raises:
        sqlite3.Error: A table cannot be read or changed.
    """
    by_name = {table.name: table for table in tables}
    waiting = [name.lower() for name in shortened]
    mended = 0
    while waiting:
        parent = waiting.pop()
        for table in by_name.values():
            for key in table.foreign_keys:
                if key.parent.lower() != parent:
                    continue
                count = _mend(connection, table, key, by_name)
                mended += count
                if count:
                    waiting.append(table.name.lower())
    return mended


def _mend(
    connection: sqlite3.Connection, table: Table, key: ForeignKey, tables: dict[str, Table]
) -> int:
    """Mend what one key breaks; return the number of rows."""
    parent = next((one for name, one in tables.items() if name.lower() == key.parent.lower()), None)
    if parent is None or len(key.parent_columns) != len(key.columns):
        return 0  # a mismatch that the check of the copy names
    own = [f"child.{quote(column)}" for column in key.columns]
    matches = " AND ".join(
        f"parent.{quote(target)} = {column}"
        for target, column in zip(key.parent_columns, own, strict=True)
    )
    broken = " AND ".join(
        [f"{column} IS NOT NULL" for column in own]
        + [f"NOT EXISTS (SELECT 1 FROM {parent.sql} AS parent WHERE {matches})"]  # noqa: S608 - quoted
    )
    found = [table.column(column) for column in key.columns]
    loose = [column for column in found if column is not None and not column.not_null]
    if loose and not any(column.key for column in loose):
        changes = ", ".join(f"{quote(column.name)} = NULL" for column in loose)
        statement = f"UPDATE {table.sql} AS child SET {changes} WHERE {broken}"  # noqa: S608 - quoted
    else:
        statement = f"DELETE FROM {table.sql} AS child WHERE {broken}"  # noqa: S608 - quoted
    return max(connection.execute(statement).rowcount, 0)
