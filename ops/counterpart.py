"""Compare an instance with its counterpart: its source as it is now, or the record of its copy."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from ops.comparison import compare_databases
from ops.errors import DamagedError
from ops.inspection import Effort, read_entries
from ops.manifest import Head
from ops.model import Finding, Instance, PageDigests, ReportProgress, Severity
from ops.sqlite.backup import back_up
from ops.sqlite.connection import remove_database
from ops.sqlite.pages import changed_pages, digest_pages, page_owners
from ops.sqlite.source import OpenDatabase, Way, read_steadily
from ops.survey import find_attachments
from ops.tree.catalogue import Catalogue
from ops.tree.compare import compare_trees


def compare_with_manifest(
    database: Path, head: Head, *, scratch: Path, timeout_seconds: float
) -> Iterator[Finding]:
    """Compare a database with the pages that a manifest recorded.

    Args:
        database: The database to verify; it may be in use.
        head: What the manifest says of it.
        scratch: A private directory with room for a copy of the database.
        timeout_seconds: How long to wait for a lock.

    Raises:
        OpsError: The database cannot be read.
        OSError: The same.
    """
    file, _ = _pages_file(database, scratch, timeout_seconds)
    yield from _compare_modes(head.mode, database)
    found = digest_pages(file, page_size=head.database.page_size)
    yield from _compare_pages(head.database, found, file)


def compare_with_source(
    instance: Instance,
    entries: Catalogue,
    source: Instance,
    *,
    scratch: Path,
    timeout_seconds: float,
    effort: Effort,
    progress: ReportProgress,
) -> Iterator[Finding]:
    """Compare files and database with a source, which may be in use, as it is now.

    Args:
        instance: The instance to verify.
        entries: What is in its attachments directory.
        source: What it should equal.
        scratch: A private directory with room for copies of both databases.
        timeout_seconds: How long to wait for a lock.
        effort: How the files of the source are read.
        progress: Called as the work goes on.

    Raises:
        SourceError: The source cannot be read.
        OpsError: The database to verify cannot be read.
        OSError: The same.
    """
    attachments = find_attachments(source.attachments)
    expected = read_entries(
        attachments, blame="source", effort=effort, spill=scratch, progress=progress
    )
    yield from compare_trees(expected, entries, root=instance.attachments)
    backup = _private(scratch, "expected") / "backup"
    mode = read_steadily(
        source.database,
        lambda database: _back_up(database, backup),
        scratch=backup.parent,
        timeout_seconds=timeout_seconds,
    )
    yield from _compare_modes(mode, instance.database)
    file, original = _pages_file(instance.database, scratch, timeout_seconds)
    if original:
        _accept_counters(backup, source.database, file)
    else:
        _blank_counters(backup)
        _blank_counters(file)
    pages = digest_pages(backup)
    yield from _compare_pages(pages, digest_pages(file, page_size=pages.page_size), file)


def _private(scratch: Path, name: str) -> Path:
    directory = scratch / name
    directory.mkdir(exist_ok=True)
    return directory


def _pages_file(database: Path, scratch: Path, timeout_seconds: float) -> tuple[Path, bool]:
    """Return a file with the pages of a database, and whether it is the database itself.

    A database at rest, or one too damaged to be opened, is read as it lies there. One in use is
    backed up to the scratch directory, which sets the counters in its header anew.
    """
    copy = _private(scratch, "found") / "backup"
    try:
        in_use = read_steadily(
            database,
            lambda opened: _back_up_if_in_use(opened, copy),
            scratch=copy.parent,
            timeout_seconds=timeout_seconds,
        )
    except DamagedError:
        return database, True
    return (copy, False) if in_use else (database, True)


def _back_up_if_in_use(database: OpenDatabase, copy: Path) -> bool:
    in_use = database.way in {Way.LIVE, Way.COPY}
    if in_use:
        _back_up(database, copy)
    return in_use


def _back_up(database: OpenDatabase, copy: Path) -> int:
    """Copy a pinned database, and return the mode of its file."""
    remove_database(copy)
    back_up(database, copy, advance=lambda _done, _total: None)
    return database.file.entry.mode


_COUNTERS = ((24, 28), (40, 44), (92, 100))
"""Header fields that count changes: equal databases differ in them (fileformat2, 1.3).

They are the change counter, the schema cookie, and the version-valid-for number with the number
of the SQLite that wrote it: a backup sets them anew.
"""


def _blank_counters(file: Path) -> None:
    with file.open("r+b") as database:
        for start, end in _COUNTERS:
            os.pwrite(database.fileno(), bytes(end - start), start)


def _accept_counters(backup: Path, source: Path, found: Path) -> None:
    """Let a copy have the counters of the source's own file instead of a backup's.

    So has one that was made by copying the file. Read while nothing is open here.
    """
    with source.open("rb") as original, found.open("rb") as copy, backup.open("r+b") as expected:
        theirs, ours = original.read(100), copy.read(100)
        if all(theirs[start:end] == ours[start:end] for start, end in _COUNTERS):
            for start, end in _COUNTERS:
                os.pwrite(expected.fileno(), theirs[start:end], start)


def _compare_modes(mode: int, database: Path) -> Iterator[Finding]:
    found = stat.S_IMODE(database.stat().st_mode)
    if found & ~mode:
        yield Finding(
            kind="changed",
            severity=Severity.ERROR,
            where="database: mode",
            expected=f"{mode:04o}",
            found=f"{found:04o}",
        )


def _compare_pages(expected: PageDigests, found: PageDigests, file: Path) -> Iterator[Finding]:
    changed = frozenset(changed_pages(expected, found))
    owners = page_owners(file, expected.page_size, changed) if changed else {}
    yield from compare_databases(expected, found, owners)
