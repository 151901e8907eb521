"""Compare what a tree should hold with what it holds."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ops.model import Entry, Finding, Kind, Severity, narrowed_mode
from ops.names import display
from ops.tree.metadata import ACCESS_LIST, lenient_xattrs, mode_without_acl

Mismatch: TypeAlias = tuple[bytes, str, str, str, str]
"""An error: the path, and kind, place, expected and found of its finding."""

Excused: TypeAlias = tuple[str, str, str, int]
"""A sort of difference that nobody here can help: field, expected, found, how many entries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One way in which two entries of the same path differ, ready to print."""

    field: str
    expected: str
    found: str


def differences(expected: Entry, found: Entry) -> tuple[Difference, ...]:
    """List how an entry differs from what it should be.

    Access times are left out, since reading changes them. Digests count where both sides have
    one. "xattrs lost" means that some are missing and the rest are right, as on a file system
    that has none. A mode counts as kept when it is the narrowed one that a copy gets whose
    owner or group could not be kept (see `narrowed_mode`); the owner itself is a difference of
    its own.
    """
    if expected.kind is not found.kind:
        return (Difference(field="kind", expected=expected.kind.value, found=found.kind.value),)
    pairs = [("size", str(expected.size), str(found.size))]
    if expected.digest and found.digest:
        pairs.append(("content", expected.digest, found.digest))
    pairs.append(("link", display(expected.target), display(found.target)))
    pairs.append(("device", str(expected.device), str(found.device)))
    if expected.kind is not Kind.SYMLINK:  # Linux gives symbolic links no mode of their own
        mode = expected.mode
        if found.mode != mode:
            mode = narrowed_mode(
                mode_without_acl(expected) if _lost_acl(expected, found) else mode,
                owner_kept=expected.uid == found.uid,
                group_kept=expected.gid == found.gid,
            )
        pairs.append(("mode", f"{mode:04o}", f"{found.mode:04o}"))
    pairs.append(("mtime", _seconds(expected.modified_ns), _seconds(found.modified_ns)))
    pairs.append(("hard link", display(expected.link), display(found.link)))
    lost = set(found.xattrs) < set(expected.xattrs)
    name = "xattrs lost" if lost else "xattrs"
    pairs.append((name, _xattrs(expected), _xattrs(found)))
    pairs.append(("owner", f"{expected.uid}:{expected.gid}", f"{found.uid}:{found.gid}"))
    return tuple(
        Difference(field=field, expected=before, found=after)
        for field, before, after in pairs
        if before != after
    )


def _lost_acl(expected: Entry, found: Entry) -> bool:
    return ACCESS_LIST in dict(expected.xattrs) and ACCESS_LIST not in dict(found.xattrs)


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"


def _xattrs(entry: Entry) -> str:
    # Values may be long or binary: a short digest of each is enough to see a difference.
    return " ".join(
        f"{display(name)}={hashlib.sha256(value).hexdigest()[:12]}" for name, value in entry.xattrs
    )


class Comparison:
    """Collects in what a tree differs from what it should be.

    Other owners, as the copy of anybody but root has them, and attributes that the file system
    does not know are warnings, one for each sort.

    Args:
        root: The tree that was found, to ask its file system about attributes.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.mismatches: list[Mismatch] = []
        self._sorts: dict[tuple[str, str, str], int] = {}
        self._root = root
        self._excusable: dict[frozenset[str], bool] = {}

    def missing(self, path: bytes, kind: Kind) -> None:
        """Note an entry that is not there."""
        self.mismatches.append((path, "missing", _where(path), kind.value, "nothing"))

    def unexpected(self, path: bytes, kind: Kind) -> None:
        """Note an entry that should not be there."""
        self.mismatches.append((path, "unexpected", _where(path), "nothing", kind.value))

    def compare(self, before: Entry, after: Entry) -> None:
        """Compare an entry with what it should be."""
        for difference in differences(before, after):
            field, wanted, got = difference.field, difference.expected, difference.found
            lost = field == "xattrs lost" and self._excuses(before, after)
            if field == "owner" or lost:
                self.excuse([(field, wanted, got, 1)])
            else:
                where = f"{_where(before.path)}: {field}"
                self.mismatches.append((before.path, "changed", where, wanted, got))

    def relinked(self, path: bytes, before: bytes, after: bytes) -> None:
        """Note an entry that is not a name of the file that it should be one of."""
        where = f"{_where(path)}: hard link"
        self.mismatches.append((path, "changed", where, display(before), display(after)))

    def excuse(self, excused: Iterable[Excused]) -> None:
        """Count differences that nobody here can help."""
        for field, wanted, got, count in excused:
            key = (field, wanted, got)
            self._sorts[key] = self._sorts.get(key, 0) + count

    @property
    def excused(self) -> list[Excused]:
        """The sorts of differences that were excused, each with its number."""
        return [(*key, count) for key, count in sorted(self._sorts.items())]

    def findings(self) -> tuple[Finding, ...]:
        """Return all as findings, in order of the paths."""
        errors = [
            Finding(kind=kind, severity=Severity.ERROR, where=where, expected=wanted, found=got)
            for _, kind, where, wanted, got in sorted(self.mismatches, key=lambda one: one[0])
        ]
        warnings = [
            Finding(
                kind="changed",
                severity=Severity.WARNING,
                where=f"{count} {'entry' if count == 1 else 'entries'}: {field}",
                expected=wanted,
                found=got,
            )
            for field, wanted, got, count in self.excused
        ]
        return (*errors, *warnings)

    def _excuses(self, before: Entry, after: Entry) -> bool:
        lost = frozenset(dict(before.xattrs)) - frozenset(dict(after.xattrs))
        if lost not in self._excusable:
            self._excusable[lost] = self._root is not None and lost <= lenient_xattrs(
                self._root, lost, privileged=os.geteuid() == 0
            )
        return self._excusable[lost]


def compare_trees(
    expected: Mapping[bytes, Entry], found: Mapping[bytes, Entry], *, root: Path | None = None
) -> tuple[Finding, ...]:
    """List everything in which a tree differs from what it should be, in order of the paths.

    Args:
        expected: The entries that should be there, by path.
        found: Those that are.
        root: Where they are, to ask about attributes that may be missing; none may without it.
    """
    comparison = Comparison(root)
    for path, before in expected.items():
        after = found.get(path)
        if after is None:
            comparison.missing(path, before.kind)
        else:
            comparison.compare(before, after)
    for path, after in found.items():
        if path not in expected:
            comparison.unexpected(path, after.kind)
    return comparison.findings()


def _where(path: bytes) -> str:
    return display(path) if path else "the attachments directory itself"
