"""Judge an instance: facts go in, findings come out."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator

from ops.model import Entry, Finding, Kind, Severity
from ops.names import display
from ops.profile import Profile
from ops.sqlite.content import (
    BrokenKey,
    broken_keys,
    check_integrity,
    list_tables,
)
from ops.tree.scan import leaves_tree

_MOST_KEYS = 100
"""Broken foreign keys listed one by one; the rest are counted."""


def check_database(
    connection: sqlite3.Connection,
    profile: Profile,
    *,
    quick: bool = False,
    private: bool = False,
    meanwhile: Callable[[], None] = lambda: None,
) -> Iterator[Finding]:
    """Check that a database is sound: SQLite's integrity check, the application's tables, keys.

    Broken foreign keys are errors for an application that is known, and warnings without one.
    """
    integrity = check_integrity(connection, quick=quick, private=private, meanwhile=meanwhile)
    for message in integrity.messages:
        yield Finding(
            kind="integrity",
            severity=Severity.ERROR,
            where="database",
            expected="ok",
            found=display(message),
        )
    for unchecked in integrity.unchecked:
        yield Finding(
            kind="unchecked",
            severity=Severity.WARNING,
            where="database",
            expected="checked",
            found=display(unchecked),
        )
    try:
        yield from _check_tables(connection, profile)
        yield from _check_keys(connection, profile)
    except sqlite3.DatabaseError as error:
        yield Finding(
            kind="integrity",
            severity=Severity.ERROR,
            where="database",
            expected="readable",
            found=display(str(error)),
        )


def missing_tables(connection: sqlite3.Connection, profile: Profile) -> tuple[str, ...]:
    """List the tables of the profile that a database lacks.

    Raises:
        sqlite3.Error: The schema cannot be read.
    """
    present = set(list_tables(connection))
    return tuple(table for table in profile.tables if table not in present)


def _check_tables(connection: sqlite3.Connection, profile: Profile) -> Iterator[Finding]:
    for table in missing_tables(connection, profile):
        yield Finding(
            kind="missing-table",
            severity=Severity.ERROR,
            where=f"table {display(table)}",
            expected=f"present in every {profile.title} database",
            found="absent",
        )


def _check_keys(connection: sqlite3.Connection, profile: Profile) -> Iterator[Finding]:
    severity = Severity.WARNING if profile.is_none else Severity.ERROR
    count = 0
    for table in list_tables(connection):
        try:
            for key in broken_keys(connection, table):
                count += 1
                if count <= _MOST_KEYS:
                    yield _broken_key(key, severity)
        except sqlite3.OperationalError as error:
            yield Finding(
                kind="unchecked",
                severity=Severity.WARNING,
                where=f"foreign keys of table {display(table)}",
                expected="checked",
                found=display(str(error)),
            )
    if count > _MOST_KEYS:
        yield Finding(
            kind="foreign-key",
            severity=severity,
            where=f"{count - _MOST_KEYS} more rows",
            expected="rows that they refer to",
            found="none",
        )


def _broken_key(key: BrokenKey, severity: Severity) -> Finding:
    row = "a row" if key.rowid is None else f"rowid {key.rowid}"
    return Finding(
        kind="foreign-key",
        severity=severity,
        where=f"table {display(key.table)}, {row}",
        expected=f"a row of {display(key.parent)}",
        found="none",
    )


def check_links(entries: Iterable[Entry]) -> Iterator[Finding]:
    """Warn of symbolic links that leave the tree: what they show is not part of the copy."""
    for entry in entries:
        if entry.kind is Kind.SYMLINK and leaves_tree(entry):
            yield Finding(
                kind="link-outside",
                severity=Severity.WARNING,
                where=display(entry.path),
                expected="a target inside the attachments",
                found=display(entry.target),
            )
