"""The words of the trade as values: instances, entries of a tree, findings."""

import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One database and one attachments directory that belong together."""

    database: Path
    attachments: Path


class Kind(StrEnum):
    """What an entry of a tree is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"
    CHARACTER_DEVICE = "character-device"
    BLOCK_DEVICE = "block-device"


_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
    stat.S_IFCHR: Kind.CHARACTER_DEVICE,
    stat.S_IFBLK: Kind.BLOCK_DEVICE,
}


def kind_of(mode: int) -> Kind:
    """Return the kind that the file type bits of `st_mode` mean."""
    return _KINDS[stat.S_IFMT(mode)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One name in a tree with everything an exact copy keeps.

    `path` is relative to the root, in bytes; the root itself is `b""`. `mode` holds the twelve
    permission bits. `size` is in bytes and 0 for everything but files. `digest` is the SHA-256
    in hex of what was read, or empty. `link` is the path of an earlier entry that is the same
    inode (a hard link). `identity`, `changed_ns` and `links` describe the source's inode
    (device and number, ctime, link count): they tell whether it changed, and are not copied.
    """

    path: bytes
    kind: Kind
    mode: int = 0
    uid: int = 0
    gid: int = 0
    modified_ns: int = 0
    accessed_ns: int = 0
    size: int = 0
    device: int = 0
    target: bytes = b""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    digest: str = ""
    link: bytes = b""
    identity: tuple[int, int] = (0, 0)
    changed_ns: int = 0
    links: int = 1
    allocated: int = 0

    def same_inode_state(self, other: "Entry") -> bool:
        """Tell whether both were read from one inode that did not change in between."""
        return (
            self.identity == other.identity
            and self.changed_ns == other.changed_ns
            and self.modified_ns == other.modified_ns
            and self.size == other.size
            and self.kind == other.kind
        )


PAGE_DIGEST_BYTES = 8
"""Of each page's SHA-256: enough to find a page that changed, the file's digest proves it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageDigests:
    """A database file's size in bytes, SHA-256 in hex, page size and digest of each page."""

    size: int
    digest: str
    page_size: int
    pages: bytes

    def page(self, index: int) -> bytes:
        """Return the digest of a page, counted from 0; empty past the end."""
        return self.pages[index * PAGE_DIGEST_BYTES : (index + 1) * PAGE_DIGEST_BYTES]

    @property
    def count(self) -> int:
        """The number of pages."""
        return len(self.pages) // PAGE_DIGEST_BYTES


class Severity(StrEnum):
    """How much a finding weighs: an error means do not trust this copy."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One discrepancy: what it is, how much it weighs, where, what was expected and found.

    `where` is a path relative to the attachments directory, or a table and row, ready to
    print. `kind` is one of the words listed in `docs/findings.md`.
    """

    kind: str
    severity: Severity
    where: str
    expected: str = ""
    found: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a step is: bytes and files done, and of how many (0 when not known)."""

    step: str
    bytes_done: int = 0
    bytes_total: int = 0
    files_done: int = 0
    files_total: int = 0


ReportProgress: TypeAlias = Callable[[Progress], None]


def narrowed_mode(mode: int, *, owner_kept: bool, group_kept: bool) -> int:
    """Return the permission bits of a copy whose owner or group could not be kept.

    A copy is never more open than its source. Another group's members were among the others
    of the source, so they get at most what others had; set-user-ID and set-group-ID would lend
    the powers of somebody else, so they go.
    """
    if not group_kept:
        both = (mode >> 3) & mode & 0o007
        mode = (mode & ~(0o077 | stat.S_ISGID)) | both << 3 | both
    if not owner_kept:
        mode &= ~stat.S_ISUID
    return mode


def count_severity(findings: tuple[Finding, ...], severity: Severity) -> int:
    """Count the findings of one severity."""
    return sum(finding.severity is severity for finding in findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """The time, handed in: `now` tells it with its zone, `seconds` counts without jumps."""

    now: Callable[[], datetime]
    seconds: Callable[[], float]
