"""Walk a tree and describe what is there."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ops.errors import OpsError, os_failure
from ops.model import Entry, Kind
from ops.tree.directories import Directories, join_path
from ops.tree.metadata import entry_from_stat


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSize:
    """Totals of a tree: `files` and other `entries`, content in `bytes`, and room on disk.

    `room` is in bytes and counts whole blocks of 4 KiB, as a copy needs them; holes of sparse
    files and second names of hard links need none.
    """

    files: int = 0
    entries: int = 0
    bytes: int = 0
    room: int = 0


_BLOCK = 4096

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""What opening a directory answers when it vanished or became something else."""


def walk(tree: Directories) -> Iterator[Entry]:
    """Describe every entry of a tree, the root first, a directory before what it holds.

    Names are bytes, in order within each directory. Symbolic links are described with their
    target and never followed. Entries that vanish during the walk are left out. Extended
    attributes and digests are not read here.

    Raises:
        OSError: A directory cannot be read; `filename` is its full path.
    """
    pending = [b""]
    while pending:
        path = pending.pop()
        try:
            directory = tree.open(path)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            continue
        yield entry_from_stat(path, os.fstat(directory))
        names = sorted(os.fsencode(name) for name in _list(tree, path, directory))
        # All are described before any is handed out: whoever receives one may move the chain.
        entries = [_describe(tree, directory, join_path(path, name), name) for name in names]
        below: list[bytes] = []
        for entry in entries:
            if entry is None:
                continue
            if entry.kind is Kind.DIRECTORY:
                below.append(entry.path)
            else:
                yield entry
        pending.extend(reversed(below))


def _list(tree: Directories, path: bytes, directory: int) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError as error:
        error.filename = tree.full_path(path)
        raise


def _describe(tree: Directories, directory: int, path: bytes, name: bytes) -> Entry | None:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        entry = entry_from_stat(path, status)
        if entry.kind is Kind.SYMLINK:
            entry = replace(entry, target=os.readlink(name, dir_fd=directory))
    except FileNotFoundError:
        return None
    except OSError as error:
        error.filename = tree.full_path(path)
        raise
    return entry


def scan_tree(root: Path, *, error: type[OpsError]) -> Iterator[Entry]:
    """Walk the tree at `root`, raising `error` where it cannot be read.

    Raises:
        OpsError: Of the class given, naming the directory and the cause.
    """
    try:
        with Directories(root) as tree:
            yield from walk(tree)
    except OSError as failure:
        raise os_failure(error, "read", failure.filename or root, failure) from failure


def leaves_tree(entry: Entry) -> bool:
    """Tell whether a symbolic link points out of its tree.

    Judged by its text alone, as it would be resolved from where it stands: an absolute target
    leaves, a relative one leaves when it climbs over the root.
    """
    if entry.target.startswith(b"/"):
        return True
    depth = entry.path.count(b"/")
    for part in entry.target.split(b"/"):
        if part == b"..":
            depth -= 1
        elif part not in {b"", b"."}:
            depth += 1
        if depth < 0:
            return True
    return False


class TreeMeter:
    """Adds entries up to a `TreeSize`; keeps the inodes of hard links only."""

    def __init__(self) -> None:
        self._files = self._entries = self._bytes = self._room = 0
        self._linked: set[tuple[int, int]] = set()

    def add(self, entry: Entry) -> None:
        """Count one entry."""
        self._entries += 1
        if entry.kind is Kind.DIRECTORY:
            self._room += _BLOCK
        if entry.kind is not Kind.FILE:
            return
        self._files += 1
        self._bytes += entry.size
        if entry.links > 1:
            if entry.identity in self._linked:
                return
            self._linked.add(entry.identity)
        # A small file may live inside its inode and own no block of its own.
        used = min(entry.size, max(entry.allocated, _BLOCK))
        self._room += -(-used // _BLOCK) * _BLOCK

    @property
    def size(self) -> TreeSize:
        """The totals so far."""
        return TreeSize(
            files=self._files, entries=self._entries, bytes=self._bytes, room=self._room
        )
