"""Entries that have no content: symbolic links, pipes, sockets and devices."""

import os
import stat
from dataclasses import replace

from ops.model import Entry, Kind
from ops.tree.metadata import Kept, apply_name_metadata, entry_from_stat, reach, read_xattrs

_TYPES = {
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHARACTER_DEVICE: stat.S_IFCHR,
    Kind.BLOCK_DEVICE: stat.S_IFBLK,
}


def describe_special(path: bytes, name: bytes, directory: int) -> Entry:
    """Describe an entry without opening it, with its target and extended attributes.

    Args:
        path: Its path in the tree.
        name: Its name.
        directory: The descriptor of the directory that holds it.

    Raises:
        OSError: It is gone or cannot be looked at.
    """
    entry = entry_from_stat(path, os.stat(name, dir_fd=directory, follow_symlinks=False))
    if entry.kind is Kind.SYMLINK:
        entry = replace(entry, target=os.readlink(name, dir_fd=directory))
    return replace(entry, xattrs=read_xattrs(reach(name, directory)))


def make_special(entry: Entry, name: bytes, directory: int) -> Kept:
    """Make an entry like `entry`, with its metadata.

    Raises:
        OSError: It cannot be made; a device takes root.
    """
    if entry.kind is Kind.SYMLINK:
        os.symlink(entry.target, name, dir_fd=directory)
    elif entry.kind is Kind.FIFO:
        os.mkfifo(name, 0o600, dir_fd=directory)
    else:
        os.mknod(name, 0o600 | _TYPES[entry.kind], entry.device, dir_fd=directory)
    return apply_name_metadata(directory, name, entry)
