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


def survey_tree(root: Path, meter: "TreeMeter", *, error: type[OpsError]) -> Iterator[Entry]:
    """Add a tree up, quickly, and describe all in it but its plain files.

    Args:
        root: The directory.
        meter: What is counted is added to it; nothing that is yielded needs to be.
        error: The class of failure to raise where it cannot be read.

    Raises:
        OpsError: Of the class given, naming the directory and the cause.
    """
    try:
        with Directories(root) as tree:
            pending = [b""]
            while pending:
                path = pending.pop()
                try:
                    directory = tree.open(path)
                except OSError as failure:
                    if failure.errno not in _GONE:
                        raise
                    continue
                odd, below = _survey_directory(tree, path, directory, meter)
                yield from odd
                pending.extend(reversed(below))
    except OSError as failure:
        raise os_failure(error, "read", failure.filename or root, failure) from failure


def _survey_directory(
    tree: Directories, path: bytes, directory: int, meter: "TreeMeter"
) -> tuple[list[Entry], list[bytes]]:
    """Add up one directory; return all but its files, itself first, and its directories."""
    odd = [entry_from_stat(path, os.fstat(directory))]
    below: list[bytes] = []
    name = b""
    try:
        with os.scandir(directory) as names:
            for one in names:
                name = os.fsencode(one.name)
                if one.is_dir(follow_symlinks=False):
                    below.append(join_path(path, name))
                elif one.is_file(follow_symlinks=False):
                    try:
                        meter.add_file(one.stat(follow_symlinks=False))
                    except FileNotFoundError:
                        continue
                elif entry := _describe(tree, directory, join_path(path, name), name):
                    odd.append(entry)
    except OSError as error:
        if not isinstance(error.filename, bytes):  # otherwise the path of an entry is there
            error.filename = tree.full_path(path)
        raise
    for entry in odd:
        meter.add(entry)
    return odd, sorted(below)


def measure_tree(root: Path, *, error: type[OpsError], files: int, size: int) -> TreeSize:
    """Add a tree up, until it is known to have that many files or bytes.

    Raises:
        OpsError: Of the class given; it cannot be read.
    """
    meter = TreeMeter()
    for entry in scan_tree(root, error=error):
        meter.add(entry)
        if meter.size.files >= files or meter.size.bytes >= size:
            break
    return meter.size


class TreeMeter:
    """Adds entries up to a `TreeSize`; keeps the inodes of hard links only."""

    def __init__(self) -> None:
        self._files = self._entries = self._bytes = self._room = 0
        self._linked: set[tuple[int, int]] = set()

    def add(self, entry: Entry) -> None:
        """Count one entry."""
        if entry.kind is Kind.FILE:
            self._add_file(entry.size, entry.allocated, entry.links, entry.identity)
            return
        self._entries += 1
        if entry.kind is Kind.DIRECTORY:
            self._room += _BLOCK

    def add_file(self, status: os.stat_result) -> None:
        """Count a file by what `stat` says of it."""
        identity = status.st_dev, status.st_ino
        self._add_file(status.st_size, status.st_blocks * 512, status.st_nlink, identity)

    def _add_file(self, size: int, allocated: int, links: int, identity: tuple[int, int]) -> None:
        self._entries += 1
        self._files += 1
        self._bytes += size
        if links > 1:
            if identity in self._linked:
                return
            self._linked.add(identity)
        # A small file may live inside its inode and own no block of its own.
        used = min(size, max(allocated, _BLOCK))
        self._room += -(-used // _BLOCK) * _BLOCK

    @property
    def size(self) -> TreeSize:
        """The totals so far."""
        return TreeSize(
            files=self._files, entries=self._entries, bytes=self._bytes, room=self._room
        )
