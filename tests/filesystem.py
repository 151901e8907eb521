"""Build trees from descriptions and read them back, independently of `ops`.

A description is a dictionary from names (bytes) to nodes.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True)
class File:
    """A file: its content, mode and mtime in nanoseconds; `xattrs` are of the user namespace."""

    content: bytes = b""
    mode: int = 0o644
    mtime_ns: int = 1_700_000_000_123_456_789
    xattrs: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: bytes


@dataclass(frozen=True)
class Pipe:
    """A FIFO."""

    mode: int = 0o600


@dataclass(frozen=True)
class HardLink:
    """Another name of a file: its path from the root, which must exist already."""

    first: bytes


@dataclass(frozen=True)
class Directory:
    """A directory and what it holds."""

    children: "dict[bytes, Node]" = field(default_factory=dict)
    mode: int = 0o755
    mtime_ns: int = 1_600_000_000_987_654_321


Node: TypeAlias = File | Link | Pipe | HardLink | Directory


def build(root: Path, directory: Directory) -> None:
    """Make a tree from its description; the root is created."""
    os.mkdir(os.fsencode(root))
    later: list[tuple[bytes, bytes]] = []
    _fill(os.fsencode(root), directory, later)
    for path, first in later:
        os.link(os.fsencode(root) + b"/" + first, path)
    _finish(os.fsencode(root), directory)


def _fill(path: bytes, directory: Directory, later: list[tuple[bytes, bytes]]) -> None:
    for name, node in directory.children.items():
        child = path + b"/" + name
        match node:
            case File():
                with open(child, "wb") as file:
                    file.write(node.content)
                for key, value in node.xattrs:
                    os.setxattr(child, key, value)
                os.chmod(child, node.mode)
                os.utime(child, ns=(node.mtime_ns, node.mtime_ns))
            case Link():
                os.symlink(node.target, child)
            case Pipe():
                os.mkfifo(child, node.mode)
            case HardLink():
                later.append((child, node.first))
            case Directory():
                os.mkdir(child)
                _fill(child, node, later)


def _finish(path: bytes, directory: Directory) -> None:
    for name, node in directory.children.items():
        if isinstance(node, Directory):
            _finish(path + b"/" + name, node)
    os.chmod(path, directory.mode)
    os.utime(path, ns=(directory.mtime_ns, directory.mtime_ns))


def read(root: Path, *, times: bool = True) -> dict[bytes, tuple[object, ...]]:
    """Read a tree back: for each path all that an exact copy keeps, comparable with ==.

    Hard links appear as the number of names an inode has within the tree, and the first one.
    """
    result: dict[bytes, tuple[object, ...]] = {}
    first: dict[tuple[int, int], bytes] = {}
    base = os.fsencode(root)
    for path in _walk(base):
        status = os.lstat(path)
        relative = path[len(base) + 1 :]
        kind = stat.S_IFMT(status.st_mode)
        content: object = None
        xattrs: tuple[tuple[str, bytes], ...] = ()
        if stat.S_ISREG(kind):
            with open(path, "rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
        if stat.S_ISLNK(kind):
            content = os.readlink(path)
        elif hasattr(os, "listxattr"):
            names = sorted(os.listxattr(path, follow_symlinks=False))
            xattrs = tuple((name, os.getxattr(path, name)) for name in names)
        link = b""
        if status.st_nlink > 1 and not stat.S_ISDIR(kind):
            link = first.setdefault((status.st_dev, status.st_ino), relative)
        result[relative] = (
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns if times else 0,
            status.st_size if not stat.S_ISDIR(kind) else 0,
            content,
            link,
            xattrs,
        )
    return result


def _walk(path: bytes) -> Iterator[bytes]:
    yield path
    for name in sorted(os.listdir(path)):
        child = path + b"/" + name
        if stat.S_ISDIR(os.lstat(child).st_mode):
            yield from _walk(child)
        else:
            yield child


def footprint(directory: Path) -> dict[bytes, tuple[object, ...]]:
    """Read everything by which a change in a directory would show, access times left out."""
    result: dict[bytes, tuple[object, ...]] = {}
    for path in _walk(os.fsencode(directory)):
        status = os.lstat(path)
        content = b""
        if stat.S_ISREG(status.st_mode):
            with open(path, "rb") as file:
                content = file.read()
        result[path] = (
            content,
            status.st_mode,
            status.st_ino,
            status.st_uid,
            status.st_gid,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
        )
    return result
