"""Descriptions of trees that hold everything a file system can, and what builds them.

Independent of `ops`; `tests.faults.any_trees` has strategies for them.
"""

import os
import random
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from tests.faults.filesystems import Limits


@dataclass(frozen=True, kw_only=True)
class Traits:
    """The metadata of an entry; what its file system cannot hold is left out or moved.

    `access` and `default` are the access control lists, as the kernel takes them.
    """

    mode: int = 0o640
    owner: tuple[int, int] = (0, 0)
    modified_ns: int = 1_700_000_000_123_456_789
    accessed_ns: int = 1_600_000_000_987_654_321
    xattrs: tuple[tuple[str, bytes], ...] = ()
    access: bytes = b""
    default: bytes = b""


@dataclass(frozen=True, kw_only=True)
class File:
    """A file: alternately a hole and as many random bytes, then a hole, then unwritten blocks."""

    pieces: tuple[tuple[int, int], ...] = ()
    tail: int = 0
    unwritten: int = 0
    traits: Traits = Traits()


@dataclass(frozen=True, kw_only=True)
class Link:
    """A symbolic link."""

    target: bytes
    traits: Traits = Traits()


@dataclass(frozen=True, kw_only=True)
class Special:
    """A FIFO, a socket or a device, by its type in a mode."""

    kind: int
    device: int = 0
    traits: Traits = Traits()


@dataclass(frozen=True, kw_only=True)
class Directory:
    """A directory and what it holds."""

    children: "dict[bytes, Node]" = field(default_factory=dict)
    traits: Traits = Traits(mode=0o750)


Node: TypeAlias = File | Link | Special | Directory
Parts: TypeAlias = tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A directory, and more names of what is in it: where, and of what."""

    root: Directory = field(default_factory=Directory)
    names: tuple[tuple[Parts, Parts], ...] = ()


def build(root: Path, tree: Tree, limits: Limits) -> None:
    """Make a tree, at any depth, as far as file systems of these limits can hold it."""
    os.mkdir(root)
    top = os.open(root, os.O_RDONLY)
    try:
        _fill(top, tree.root, limits)
        for new, first in tree.names:
            with _reached(top, new[:-1]) as there, _reached(top, first[:-1]) as here:
                os.link(
                    first[-1], new[-1], src_dir_fd=here, dst_dir_fd=there, follow_symlinks=False
                )
        for parts, node in reversed(list(flatten(tree.root))):
            if isinstance(node, Directory):
                with _reached(top, parts) as descriptor:
                    _give(descriptor, b".", node.traits, limits)
        _give(top, b".", tree.root.traits, limits)
    finally:
        os.close(top)


def _fill(above: int, directory: Directory, limits: Limits) -> None:
    for name, node in directory.children.items():
        match node:
            case Directory():
                os.mkdir(name, dir_fd=above)
                with _reached(above, (name,)) as below:
                    _fill(below, node, limits)
                continue
            case File():
                _write(above, name, node)
            case Link():
                os.symlink(node.target, name, dir_fd=above)
            case Special():
                os.mknod(name, node.kind | 0o600, node.device, dir_fd=above)
        _give(above, name, node.traits, limits)


def _write(above: int, name: bytes, file: File) -> None:
    writer = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=above)
    position = 0
    try:
        for hole, length in file.pieces:
            position += hole
            left = memoryview(random.Random(position).randbytes(length))  # noqa: S311
            while left:
                count = os.pwrite(writer, left, position)
                position, left = position + count, left[count:]
        position += file.tail
        os.ftruncate(writer, position)
        if file.unwritten:
            os.posix_fallocate(writer, position, file.unwritten)
    finally:
        os.close(writer)


def _give(above: int, name: bytes, traits: Traits, limits: Limits) -> None:
    """Set the metadata of an entry; the owner first, since that changes the rest."""
    kind = stat.S_IFMT(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode)
    path = f"/proc/self/fd/{above}/{os.fsdecode(name)}"
    os.chown(name, *traits.owner, dir_fd=above, follow_symlinks=False)
    for key, value in traits.xattrs:
        if limits.knows(key) and _takes(kind, key):
            os.setxattr(path, key, value, follow_symlinks=False)
    if kind != stat.S_IFLNK:
        os.chmod(name, traits.mode, dir_fd=above)
        if traits.access and limits.knows(ACCESS):
            os.setxattr(path, ACCESS, traits.access, follow_symlinks=False)
    if kind == stat.S_IFDIR and traits.default and limits.knows(DEFAULT):
        os.setxattr(path, DEFAULT, traits.default, follow_symlinks=False)
    times = (limits.time(traits.accessed_ns), limits.time(traits.modified_ns))
    os.utime(name, ns=times, dir_fd=above, follow_symlinks=False)


ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
CAPABILITY = "security.capability"


def _takes(kind: int, key: str) -> bool:
    """Tell whether the kernel lets an entry of a kind have an attribute (xattr(7))."""
    if key == CAPABILITY:
        return kind == stat.S_IFREG
    return kind in {stat.S_IFREG, stat.S_IFDIR} or not key.startswith("user.")


@contextmanager
def _reached(top: int, parts: Parts) -> Iterator[int]:
    descriptor = os.dup(top)
    try:
        for name in parts:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def flatten(directory: Directory, above: Parts = ()) -> Iterator[tuple[Parts, Node]]:
    """Yield the path and the description of everything in a directory."""
    for name, node in directory.children.items():
        yield (*above, name), node
        if isinstance(node, Directory):
            yield from flatten(node, (*above, name))


def access_list(
    base: tuple[int, int, int, int], users: dict[int, int], groups: dict[int, int]
) -> bytes:
    """Encode an access control list (acl(5), `linux/posix_acl_xattr.h`).

    Args:
        base: The rights of owner, owning group, mask and others.
        users: The rights of more users.
        groups: The rights of more groups.
    """
    nobody = 0xFFFFFFFF
    owner, group, mask, other = base
    entries = [(0x01, owner, nobody)]
    entries += [(0x02, rights, user) for user, rights in sorted(users.items())]
    entries += [(0x04, group, nobody)]
    entries += [(0x08, rights, one) for one, rights in sorted(groups.items())]
    entries += [(0x10, mask, nobody), (0x20, other, nobody)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
