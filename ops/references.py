"""Rows that name files, and the files themselves: compare them both ways."""

import posixpath
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ops.model import Entry, Finding, Kind, Severity
from ops.names import display
from ops.profile import Profile
from ops.sqlite.content import NamedFile, list_columns, named_files
from ops.tree.directories import join_path
from ops.tree.scan import leaves_tree

_MOST_LINKS = 40
"""As many as Linux follows (path_resolution(7))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceCounts:
    """Files that rows name: how many, of how many the recorded digest is right or wrong."""

    referenced: int = 0
    digests_right: int = 0
    digests_wrong: int = 0
    missing: int = 0
    orphans: int = 0


def read_references(connection: sqlite3.Connection, profile: Profile) -> tuple[NamedFile, ...]:
    """List the rows that name files, over every column of the profile that is there.

    Raises:
        sqlite3.Error: A table cannot be read.
    """
    return tuple(
        named
        for reference in profile.references
        for named in named_files(connection, reference.table, reference.column, reference.digest)
    )


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
    normal = posixpath.normpath(path)
    outside = normal == b".." or normal.startswith((b"/", b"../"))
    return None if outside or b"\0" in normal else normal


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
    named: Iterable[NamedFile], entries: Mapping[bytes, Entry]
) -> tuple[tuple[Finding, ...], ReferenceCounts]:
    """Compare rows with files, both ways.

    A row whose file is missing is an error. A recorded digest that differs is a warning: the
    application itself records the wrong one when names collide. A file that no row names (an
    orphan) is a note: deleting rows leaves them behind.

    Args:
        named: The rows that name files.
        entries: What is in the attachments directory, by path; digests may be empty.
    """
    findings: list[Finding] = []
    paths: dict[str, set[bytes]] = {"file": set(), "missing": set(), "right": set(), "wrong": set()}
    for row in named:
        where = f"{display(row.path)} ({row.table} {display(row.row)})"
        path = normal_path(row.path)
        entry = None if path is None else follow_links(path, entries)
        if path is None:
            findings.append(_outside(where))
        elif entry is None or entry.kind not in {Kind.FILE, Kind.SYMLINK}:
            paths["missing"].add(path)
            findings.append(_missing(where, entries.get(path)))
        else:
            paths["file"].add(path)
            if row.digest and entry.digest:
                right = row.digest == entry.digest
                paths["right" if right else "wrong"].add(path)
                if not right:
                    findings.append(_wrong_digest(where, row.digest, entry.digest))
    orphans = [
        path
        for path, entry in entries.items()
        if entry.kind is Kind.FILE and path not in paths["file"]
    ]
    findings.extend(_orphan(path) for path in orphans)
    counts = ReferenceCounts(
        referenced=len(paths["file"]),
        digests_right=len(paths["right"] - paths["wrong"]),
        digests_wrong=len(paths["wrong"]),
        missing=len(paths["missing"]),
        orphans=len(orphans),
    )
    return tuple(findings), counts


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


def _orphan(path: bytes) -> Finding:
    return Finding(
        kind="orphan",
        severity=Severity.NOTE,
        where=display(path),
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
