"""The compact form of an entry: plain tuples, which travel between processes and fill files.

A million entries pass through a run; as objects they would take longer to make than to copy.
"""

import os
import stat
from collections.abc import Mapping
from typing import Final, TypeAlias, cast

from ops.model import Entry, Kind, kind_of
from ops.tree.directories import join_path
from ops.tree.metadata import Kept

Xattrs: TypeAlias = tuple[tuple[str, bytes], ...]

Record: TypeAlias = tuple[
    bytes,
    int,
    int,
    int,
    int,
    int,
    int,
    bytes,
    bytes,
    Xattrs,
    bytes,
    int,
    int,
    int,
    int,
    int,
    int,
    int,
]
"""One name in a directory, in the order of the constants below."""

NAME: Final = 0
MODE: Final = 1
UID: Final = 2
GID: Final = 3
MODIFIED: Final = 4
SIZE: Final = 5
DEVICE: Final = 6
DIGEST: Final = 7
TARGET: Final = 8
XATTRS: Final = 9
LINK: Final = 10
ACCESSED: Final = 11
HOST: Final = 12
INODE: Final = 13
CHANGED: Final = 14
LINKS: Final = 15
ALLOCATED: Final = 16
FLAGS: Final = 17

NEVER = -1
"""A ctime that no entry has: what was recorded with it is copied again by the next pass."""

OWNER_LOST, GROUP_LOST, XATTRS_LOST, UNSETTLED, SHARED = 1, 2, 4, 8, 16
"""Flags: what the copy could not keep, that the file changed at each reading, and that its content
is that of an earlier snapshot, whose digest it has."""


def record_of(name: bytes, entry: Entry, kept: Kept, *, settled: bool = True) -> Record:
    """Return the record of an entry, and of what its copy could keep."""
    flags = (
        (0 if kept.owner else OWNER_LOST)
        | (0 if kept.group else GROUP_LOST)
        | (0 if kept.xattrs else XATTRS_LOST)
        | (0 if settled else UNSETTLED)
    )
    return (
        name,
        _TYPES[entry.kind] | entry.mode,
        entry.uid,
        entry.gid,
        entry.modified_ns,
        entry.size,
        entry.device,
        bytes.fromhex(entry.digest),
        entry.target,
        entry.xattrs,
        entry.link,
        entry.accessed_ns,
        entry.identity[0],
        entry.identity[1],
        entry.changed_ns,
        entry.links,
        entry.allocated,
        flags,
    )


def record_from_stat(
    name: bytes, status: os.stat_result, *, digest: bytes = b"", xattrs: Xattrs = ()
) -> Record:
    """Return the record of an entry that `stat` describes.

    Args:
        name: Its name.
        status: What `stat` said.
        digest: The SHA-256 of its content, 32 bytes.
        xattrs: Its attributes.
    """
    mode = status.st_mode
    size = status.st_size if stat.S_ISREG(mode) else 0
    special = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
    return (
        name,
        mode,
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        size,
        status.st_rdev if special else 0,
        digest,
        b"",
        xattrs,
        b"",
        status.st_atime_ns,
        status.st_dev,
        status.st_ino,
        status.st_ctime_ns,
        status.st_nlink,
        status.st_blocks * 512,
        0,
    )


def entry_of(directory: bytes, record: Record) -> Entry:
    """Return the entry that a record of a directory describes."""
    name, mode = record[NAME], record[MODE]
    return Entry(
        path=join_path(directory, name) if name else directory,
        kind=kind_of(mode),
        mode=stat.S_IMODE(mode),
        uid=record[UID],
        gid=record[GID],
        modified_ns=record[MODIFIED],
        accessed_ns=record[ACCESSED],
        size=record[SIZE],
        device=record[DEVICE],
        target=record[TARGET],
        xattrs=record[XATTRS],
        digest=record[DIGEST].hex(),
        link=record[LINK],
        identity=(record[HOST], record[INODE]),
        changed_ns=record[CHANGED],
        links=record[LINKS],
        allocated=record[ALLOCATED],
    )


def altered(record: Record, values: Mapping[int, bytes | int]) -> Record:
    """Return a record with other values at some places.

    Args:
        record: The record.
        values: What to put where.
    """
    return cast("Record", tuple(values.get(place, old) for place, old in enumerate(record)))


_TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}
