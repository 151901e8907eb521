"""Look at an instance: its database, its files, and how they go together."""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.checks import check_database
from ops.comparison import compare_trees
from ops.errors import DestinationError, OpsError
from ops.model import Entry, Finding, Instance, Kind, Progress, ReportProgress, Severity
from ops.names import display
from ops.profile import Profile
from ops.references import (
    ReferenceCounts,
    check_references,
    known_references,
    read_references,
)
from ops.report import CheckCounts
from ops.sqlite.connection import connect
from ops.sqlite.content import NamedFile, list_tables
from ops.sqlite.source import Way
from ops.tree.compare import read_tree
from ops.tree.metadata import lenient_xattrs


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """What was learnt of a database.

    `named` are the rows that name files, None where no column is known that does, so that rows
    and files cannot be matched. `way` is None for a database that cannot be opened.
    """

    findings: tuple[Finding, ...]
    named: tuple[NamedFile, ...] | None
    tables: int
    way: Way | None


def check_pair(
    copy: Instance,
    *,
    profile: Profile,
    expected: Mapping[bytes, Entry],
    progress: ReportProgress,
) -> tuple[CheckCounts, tuple[Finding, ...]]:
    """Check a private copy, which nobody else has open, by reading all of it again.

    Args:
        copy: The copy.
        profile: What the application's rows mean.
        expected: What was read from the source, by path.
        progress: Called as the work goes on.

    Returns:
        What was looked at, and everything wrong; symbolic links are not judged again.

    Raises:
        DestinationError: The copy cannot be read.
    """
    entries = read_entries(
        copy.attachments, expected.values(), DestinationError, progress, contents=True
    )
    progress(Progress(step="check database"))
    try:
        connection = connect(copy.database, "mode=ro&immutable=1", 0)
    except sqlite3.Error as error:
        return CheckCounts(), (unreadable(display(str(error))),)
    try:
        database = judge_database(connection, profile, quick=False, private=True)
    finally:
        connection.close()
    found, references = match_files(database.named, entries)
    return (
        count_checks(database, entries, references),
        (
            *database.findings,
            *found,
            *compare_with(expected, entries, copy.attachments),
        ),
    )


def compare_with(
    expected: Mapping[bytes, Entry], entries: Mapping[bytes, Entry], root: Path
) -> Iterator[Finding]:
    """Compare trees, fairly: what this process or file system cannot keep is a warning.

    Args:
        expected: The entries that should be there, by path.
        entries: Those that are.
        root: The tree that they are in.
    """
    privileged = os.geteuid() == 0
    names = frozenset(name for entry in expected.values() for name, _ in entry.xattrs)
    yield from compare_trees(
        expected,
        entries,
        unknown_xattrs=lenient_xattrs(root, names, privileged=privileged),
    )


def unreadable(message: str) -> Finding:
    """Return the finding for a database that SQLite cannot make sense of."""
    return Finding(
        kind="integrity",
        severity=Severity.ERROR,
        where="database",
        expected="a sound SQLite database",
        found=message,
    )


def judge_database(
    connection: sqlite3.Connection,
    profile: Profile,
    *,
    quick: bool,
    private: bool = False,
    way: Way | None = None,
) -> DatabaseFacts:
    """Judge an open database, and list its rows that name files.

    Args:
        connection: To a database that does not change meanwhile.
        profile: What the application's rows mean.
        quick: Leave the indexes out.
        private: Nobody else has the file (see `check_integrity`).
        way: How it was opened, for the report.
    """
    findings = tuple(check_database(connection, profile, quick=quick, private=private))
    named: tuple[NamedFile, ...] | None = None
    tables = 0
    try:
        tables = len(list_tables(connection))
        if known_references(connection, profile):
            named = read_references(connection, profile)
    except sqlite3.DatabaseError as error:
        findings = (*findings, unreadable(display(f"rows that name files: {error}")))
    return DatabaseFacts(findings=findings, named=named, tables=tables, way=way)


def match_files(
    named: tuple[NamedFile, ...] | None, entries: Mapping[bytes, Entry]
) -> tuple[tuple[Finding, ...], ReferenceCounts]:
    """Compare rows with files, where any column that names files is known."""
    return ((), ReferenceCounts()) if named is None else check_references(named, entries)


def read_entries(
    root: Path,
    expected: Iterable[Entry],
    error: type[OpsError],
    progress: ReportProgress,
    *,
    contents: bool,
) -> dict[bytes, Entry]:
    """Read a tree into memory, telling progress against what is expected to be there."""
    sizes = [entry.size for entry in expected if entry.kind is Kind.FILE]
    bytes_total, files_total = sum(sizes), len(sizes)
    bytes_read = files_done = 0
    entries: dict[bytes, Entry] = {}

    def advance(count: int) -> None:
        nonlocal bytes_read
        bytes_read += count
        progress(
            Progress(
                step="re-read attachments",
                bytes_done=bytes_read,
                bytes_total=bytes_total,
                files_done=files_done,
                files_total=files_total,
            )
        )

    for entry in read_tree(root, error=error, contents=contents, advance=advance):
        entries[entry.path] = entry
        files_done += entry.kind is Kind.FILE
    return entries


def count_checks(
    database: DatabaseFacts, entries: Mapping[bytes, Entry], references: ReferenceCounts
) -> CheckCounts:
    """Add up what was looked at."""
    files = [entry for entry in entries.values() if entry.kind is Kind.FILE]
    return CheckCounts(
        tables=database.tables,
        files=len(files),
        bytes_read=sum(entry.size for entry in files if entry.digest),
        referenced=references.referenced,
        digests_right=references.digests_right,
        digests_wrong=references.digests_wrong,
        missing=references.missing,
        orphans=references.orphans,
    )
