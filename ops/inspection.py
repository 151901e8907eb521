"""Look at an instance: its database, its files, and how they go together."""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from ops.checks import check_database
from ops.errors import DestinationError, os_failure
from ops.model import Finding, Instance, Progress, ReportProgress, Severity
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
from ops.tree.catalogue import Catalogue
from ops.tree.crew import Crew, crew
from ops.tree.reading import Checking, TreeCheck, read_tree
from ops.tree.transfer import forget_pages
from ops.tree.work import Trees, Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How thoroughly files are read, and by how many processes.

    `contents` reads what is in them, `from_disk` makes the kernel forget what it has of them
    first.
    """

    jobs: int = 1
    contents: bool = True
    from_disk: bool = False


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


class TreeWork(Work, Protocol):
    """The check of a tree, and what came of it."""

    def result(self, crew: Crew) -> TreeCheck:
        """Return what was found, once the work is done."""


MakeTreeWork: TypeAlias = Callable[[Callable[[int], None]], TreeWork]


def check_pair(
    copy: Instance,
    workers: Crew,
    *,
    profile: Profile,
    expected: Catalogue,
    checking: MakeTreeWork | None = None,
    progress: ReportProgress,
) -> tuple[CheckCounts, tuple[Finding, ...]]:
    """Check a private copy, which nobody else has open, by reading all of it again.

    Other processes, where there are any, read the files while this one checks the database.

    Args:
        copy: The copy.
        workers: Read its attachments.
        profile: What the application's rows mean.
        expected: What was read from the source, by path.
        checking: Makes the work of checking its attachments, given what to call with the number
            of files after each piece of it; by default they are an exact tree.
        progress: Called as the work goes on.

    Returns:
        What was looked at, and everything wrong; symbolic links are not judged again.

    Raises:
        DestinationError: The copy cannot be read.
    """
    reread = _Reread(expected, progress)
    workers.advance = reread.bytes
    work: TreeWork
    if checking is None:
        work = Checking(expected, copy.attachments, reread.files)
    else:
        work = checking(reread.files)
    workers.start(work)
    tables, findings, references = _check_database(copy, profile, expected, workers)
    workers.finish()
    tree = work.result(workers)
    return _counts(tables, tree, references), (*findings, *tree.findings)


def _check_database(
    copy: Instance, profile: Profile, entries: Catalogue, workers: Crew
) -> tuple[int, tuple[Finding, ...], ReferenceCounts]:
    try:
        connection = connect(copy.database, "mode=ro&immutable=1", 0)
    except sqlite3.Error as error:
        return 0, (unreadable(display(str(error))),), ReferenceCounts()
    try:
        return _check_rows(connection, profile, entries, workers.pump)
    finally:
        connection.close()


def _check_rows(
    connection: sqlite3.Connection,
    profile: Profile,
    entries: Catalogue,
    meanwhile: Callable[[], None],
) -> tuple[int, tuple[Finding, ...], ReferenceCounts]:
    """Judge a private database, and match its rows with files; count its tables."""
    findings = tuple(check_database(connection, profile, private=True, meanwhile=meanwhile))
    try:
        tables = len(list_tables(connection))
        if not known_references(connection, profile):
            return tables, findings, ReferenceCounts()
        rows = read_references(connection, profile)
        found, references = check_references(rows, entries, meanwhile)
    except sqlite3.DatabaseError as error:
        unread = unreadable(display(f"rows that name files: {error}"))
        return 0, (*findings, unread), ReferenceCounts()
    return tables, (*findings, *found), references


def _counts(tables: int, tree: TreeCheck, references: ReferenceCounts) -> CheckCounts:
    return CheckCounts(
        tables=tables,
        files=tree.files,
        bytes_read=tree.bytes,
        referenced=references.referenced,
        digests_right=references.digests_right,
        digests_wrong=references.digests_wrong,
        missing=references.missing,
        orphans=references.orphans,
    )


def forget_database(database: Path) -> None:
    """Have the kernel forget what it has of a database of ours in memory.

    Raises:
        DestinationError: It cannot be read.
    """
    try:
        with database.open("rb") as file:
            forget_pages(file.fileno())
    except OSError as error:
        raise os_failure(DestinationError, "read", database, error) from error


class _Reread:
    """What to tell while files are read again."""

    def __init__(self, expected: Catalogue | None, progress: ReportProgress) -> None:
        _, self._files_total, self._bytes_total, *_ = expected.tally() if expected else (0, 0, 0)
        self._progress = progress
        self._bytes = self._files = 0

    def bytes(self, count: int) -> None:
        self._bytes += count
        self._tell()

    def files(self, count: int) -> None:
        self._files += count
        self._tell()

    def _tell(self) -> None:
        self._progress(
            Progress(
                step="re-read attachments",
                bytes_done=self._bytes,
                bytes_total=self._bytes_total,
                files_done=self._files,
                files_total=self._files_total,
            )
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
    connection: sqlite3.Connection, profile: Profile, *, quick: bool, way: Way
) -> DatabaseFacts:
    """Judge an open database, and list its rows that name files.

    Args:
        connection: To a database that does not change meanwhile.
        profile: What the application's rows mean.
        quick: Leave the indexes out.
        way: How it was opened, for the report.
    """
    findings = tuple(check_database(connection, profile, quick=quick))
    named: tuple[NamedFile, ...] | None = None
    tables = 0
    try:
        tables = len(list_tables(connection))
        if known_references(connection, profile):
            named = tuple(read_references(connection, profile))
    except sqlite3.DatabaseError as error:
        findings = (*findings, unreadable(display(f"rows that name files: {error}")))
    return DatabaseFacts(findings=findings, named=named, tables=tables, way=way)


def match_files(
    named: Iterable[NamedFile] | None, entries: Catalogue
) -> tuple[tuple[Finding, ...], ReferenceCounts]:
    """Compare rows with files, where any column that names files is known."""
    return ((), ReferenceCounts()) if named is None else check_references(named, entries)


def read_entries(
    root: Path, *, blame: str, effort: Effort, spill: Path, progress: ReportProgress
) -> Catalogue:
    """Read a tree: every entry, and the SHA-256 of each file where contents are wanted.

    Args:
        root: The tree.
        blame: Whose failure it is when it cannot be read, "source" or "destination".
        effort: How it is read.
        spill: Where the record of a large tree is kept meanwhile.
        progress: Called as the work goes on.

    Raises:
        OpsError: It cannot be read.
    """
    reread = _Reread(None, progress)
    trees = Trees(source=root, blame=blame, digests=effort.contents, from_disk=effort.from_disk)
    with crew(trees, jobs=effort.jobs, advance=reread.bytes) as workers:
        return read_tree(workers, spill=spill, advance=reread.files)


def count_checks(
    database: DatabaseFacts, entries: Catalogue, references: ReferenceCounts
) -> CheckCounts:
    """Add up what was looked at."""
    _, files, read, *_ = entries.tally()
    return _counts(database.tables, TreeCheck(findings=(), files=files, bytes=read), references)
