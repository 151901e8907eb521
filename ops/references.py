"""Rows that name files, and the files themselves: compare them both ways."""

import posixpath
import re
import sqlite3
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter

from ops.model import Entry, Finding, Kind, Severity
from ops.names import display
from ops.profile import Profile
from ops.sqlite.content import NamedFile, list_columns, named_files
from ops.staging import MARKER
from ops.tree.catalogue import Catalogue
from ops.tree.directories import join_path
from ops.tree.records import DIGEST, MODE, Record
from ops.tree.scan import leaves_tree

_MOST_LINKS = 40
"""As many as Linux follows (path_resolution(7))."""

_MOST_ORPHANS = 1000
"""Files without a row that are listed one by one; the rest are counted."""

_SORTED_ROWS = 20_000
_ROWS_BETWEEN = 1000

_ODD = re.compile(rb"(?:^|/)\.{0,2}(?:/|$)|\0")
"""What a path has that is not written in its shortest form, or leads out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceCounts:
    """Files that rows name: how many, of how many the recorded digest is right or wrong."""

    referenced: int = 0
    digests_right: int = 0
    digests_wrong: int = 0
    missing: int = 0
    orphans: int = 0


def read_references(connection: sqlite3.Connection, profile: Profile) -> Iterator[NamedFile]:
    """List the rows that name files, over every column of the profile that is there.

    Raises:
        sqlite3.Error: A table cannot be read.
    """
    for reference in profile.references:
        yield from named_files(connection, reference.table, reference.column, reference.digest)


def by_path(named: Iterable[NamedFile]) -> Iterator[NamedFile]:
    """Put rows in order of their paths, a lot of them at a time.

    So the part of a catalogue that one needs is mostly the one that the last one needed.
    """
    rows = iter(named)
    while lot := list(islice(rows, _SORTED_ROWS)):
        lot.sort(key=attrgetter("path"))
        yield from lot


def known_references(connection: sqlite3.Connection, profile: Profile) -> bool:
    """Tell whether the database has any column of the profile that names files.

    Raises:
        sqlite3.Error: The schema cannot be read.
    """
    return any(
        reference.column in list_columns(connection, reference.table)
        for reference in profile.references
    )


def normal_path(path: bytes) -> bytes | None:
    """Return the path that a row's value means below the attachments, None if it is outside."""
    if not _ODD.search(path):
        return path
    normal = posixpath.normpath(path)
    outside = normal == b".." or normal.startswith((b"/", b"../"))
    return None if outside or b"\0" in normal else normal


def resolve(path: bytes, entries: Catalogue) -> tuple[bytes, Record] | None:
    """Return the path and record of what a path leads to, as `follow_links` finds it."""
    record = entries.record(path)
    if record is None or stat.S_ISLNK(record[MODE]):
        entry = follow_links(path, entries)
        if entry is None:
            return None
        path, record = entry.path, entries.record(entry.path)
    return None if record is None else (path, record)


def follow_links(path: bytes, entries: Mapping[bytes, Entry]) -> Entry | None:
    """Return the entry that a path leads to, through symbolic links within the tree.

    Returns:
        The entry, which is a symbolic link only if it leads out of the tree, where nothing can
        be said of it; None if there is none.
    """
    for _ in range(_MOST_LINKS):
        entry = entries.get(path)
        if entry is not None and entry.kind is not Kind.SYMLINK:
            return entry
        resolved = b""
        for name in path.split(b"/"):
            resolved = join_path(resolved, name)
            entry = entries.get(resolved)
            if entry is None or entry.kind is Kind.SYMLINK:
                break
        if entry is None or entry.kind is not Kind.SYMLINK or leaves_tree(entry):
            return entry
        rest = path[len(resolved) :]
        path = posixpath.normpath(posixpath.dirname(resolved) + b"/" + entry.target + rest)
        path = path.lstrip(b"/")
    return None


def check_references(
    named: Iterable[NamedFile],
    entries: Catalogue,
    meanwhile: Callable[[], None] = lambda: None,
) -> tuple[tuple[Finding, ...], ReferenceCounts]:
    """Compare rows with files, both ways.

    A row whose file is missing is an error. A recorded digest that differs is a warning: the
    application itself records the wrong one when names collide. A file that no row names (an
    orphan) is a note: deleting rows leaves them behind.

    Args:
        named: The rows that name files.
        entries: What is in the attachments directory, by path; digests may be empty.
        meanwhile: Called now and then.
    """
    findings: list[Finding] = []
    files: set[bytes] = set()
    missing: set[bytes] = set()
    right: set[bytes] = set()
    wrong: set[bytes] = set()
    for number, row in enumerate(by_path(named)):
        if not number % _ROWS_BETWEEN:
            meanwhile()
        path = normal_path(row.path)
        found = None if path is None else resolve(path, entries)
        record = None if found is None else found[1]
        if path is None:
            findings.append(_outside(_place(row)))
        elif record is None or stat.S_IFMT(record[MODE]) not in {stat.S_IFREG, stat.S_IFLNK}:
            missing.add(path)
            findings.append(_missing(_place(row), entries.get(path)))
        else:
            files.add(path)
            if row.digest and record[DIGEST]:
                digest = record[DIGEST].hex()
                if row.digest == digest:
                    right.add(path)
                else:
                    wrong.add(path)
                    findings.append(_wrong_digest(_place(row), row.digest, digest))
    orphans = [path for path in entries.files() if path not in files and path != MARKER]
    findings.extend(_orphan(display(path)) for path in orphans[:_MOST_ORPHANS])
    if len(orphans) > _MOST_ORPHANS:
        findings.append(_orphan(f"{len(orphans) - _MOST_ORPHANS} more files"))
    counts = ReferenceCounts(
        referenced=len(files),
        digests_right=len(right - wrong),
        digests_wrong=len(wrong),
        missing=len(missing),
        orphans=len(orphans),
    )
    return tuple(findings), counts


def _place(row: NamedFile) -> str:
    return f"{display(row.path)} ({row.table} {display(row.row)})"


def _missing(where: str, entry: Entry | None) -> Finding:
    return Finding(
        kind="missing-file",
        severity=Severity.ERROR,
        where=where,
        expected="a file",
        found=entry.kind if entry else "nothing",
    )


def _wrong_digest(where: str, recorded: str, digest: str) -> Finding:
    return Finding(
        kind="recorded-digest",
        severity=Severity.WARNING,
        where=where,
        expected=recorded,
        found=digest,
    )


def _orphan(where: str) -> Finding:
    return Finding(
        kind="orphan",
        severity=Severity.NOTE,
        where=where,
        expected="a row that names it",
        found="none",
    )


def _outside(where: str) -> Finding:
    return Finding(
        kind="outside",
        severity=Severity.ERROR,
        where=where,
        expected="a path below the attachments",
        found="a path that leads out of them",
    )
