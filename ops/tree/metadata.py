"""Read an entry's metadata and apply it to a copy."""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from ops.model import Entry, kind_of, narrowed_mode

_HAS_XATTRS = hasattr(os, "listxattr")

_PLACE_BOUND = frozenset({"security.selinux", "security.ima", "security.evm"})
"""Attributes that belong to the place, not to the file: labels and signatures of this system."""

_UNSUPPORTED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What of an entry's metadata its copy could take: the rest the process may not set."""

    owner: bool = True
    group: bool = True
    xattrs: bool = True


ALL_KEPT = Kept()
"""What a copy made by root on a file system like the source's keeps."""


def entry_from_stat(path: bytes, status: os.stat_result) -> Entry:
    """Describe an entry by what `stat` says of it; its target and attributes are read apart."""
    kind = kind_of(status.st_mode)
    regular = stat.S_ISREG(status.st_mode)
    special = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    return Entry(
        path=path,
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        modified_ns=status.st_mtime_ns,
        accessed_ns=status.st_atime_ns,
        size=status.st_size if regular else 0,
        device=status.st_rdev if special else 0,
        identity=(status.st_dev, status.st_ino),
        changed_ns=status.st_ctime_ns,
        links=status.st_nlink,
        allocated=status.st_blocks * 512,
    )


def reach(name: bytes, directory: int) -> str:
    """Return a path that names an entry of an open directory without walking to it.

    Extended attributes have no call relative to a descriptor, so on Linux the descriptor is
    reached through `/proc` (proc(5), "/proc/pid/fd").
    """
    return f"/proc/self/fd/{directory}/{os.fsdecode(name)}"


def read_xattrs(target: int | str) -> tuple[tuple[str, bytes], ...]:
    """Read the extended attributes of a descriptor or a path, access control lists included.

    Returns:
        Pairs of name and value in order of the names; nothing where the file system or the
        platform has none.

    Raises:
        OSError: They exist but cannot be read.
    """
    if not _HAS_XATTRS:
        return ()
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return ()
        raise
    return tuple(
        (name, os.getxattr(target, name, follow_symlinks=follow))
        for name in sorted(names)
        if name not in _PLACE_BOUND
    )


def apply_metadata(descriptor: int, entry: Entry) -> Kept:
    """Give an open file or directory the owner, mode, attributes and times of `entry`.

    The order matters: changing the owner clears set-user-ID, and every later step touches
    ctime only. What only root may set is tried and, where refused, told in the result; the
    mode is then narrowed so that the copy is never more open than its source.

    Raises:
        OSError: The mode or the times cannot be set, or an attribute does not fit.
    """
    owner, group = _change_owner(descriptor, entry)
    xattrs = _apply_xattrs(descriptor, entry.xattrs)
    os.fchmod(descriptor, narrowed_mode(entry.mode, owner_kept=owner, group_kept=group))
    os.utime(descriptor, ns=(entry.accessed_ns, entry.modified_ns))
    return Kept(owner=owner, group=group, xattrs=xattrs)


def _change_owner(descriptor: int, entry: Entry) -> tuple[bool, bool]:
    status = os.fstat(descriptor)
    owner, group = status.st_uid == entry.uid, status.st_gid == entry.gid
    if not owner:
        owner = _permitted(lambda: os.fchown(descriptor, entry.uid, -1))
    if not group:
        group = _permitted(lambda: os.fchown(descriptor, -1, entry.gid))
    return owner, group


def apply_name_metadata(directory: int, name: bytes, entry: Entry) -> Kept:
    """Do the same for an entry that cannot be opened: a link, a pipe, a socket, a device.

    Raises:
        OSError: The mode or the times cannot be set.
    """
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    owner, group = status.st_uid == entry.uid, status.st_gid == entry.gid

    def chown(uid: int, gid: int) -> None:
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)

    if not owner:
        owner = _permitted(lambda: chown(entry.uid, -1))
    if not group:
        group = _permitted(lambda: chown(-1, entry.gid))
    xattrs = True
    if not stat.S_ISLNK(status.st_mode):
        xattrs = _apply_xattrs(reach(name, directory), entry.xattrs)
        mode = narrowed_mode(entry.mode, owner_kept=owner, group_kept=group)
        os.chmod(name, mode, dir_fd=directory)
    times = (entry.accessed_ns, entry.modified_ns)
    os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)
    return Kept(owner=owner, group=group, xattrs=xattrs)


def _apply_xattrs(target: int | str, xattrs: tuple[tuple[str, bytes], ...]) -> bool:
    kept = True
    # A place may give by itself what the entry does not have: a default access control list.
    wanted = {name for name, _ in xattrs}
    for name, _ in read_xattrs(target):
        if name not in wanted:
            os.removexattr(target, name, follow_symlinks=isinstance(target, int))
    for name, value in xattrs:
        try:
            os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
        except OSError as error:
            if error.errno not in _UNSUPPORTED | {errno.EPERM}:
                raise
            kept = False
    return kept


def _permitted(change: Callable[[], None]) -> bool:
    try:
        change()
    except PermissionError:
        return False
    return True
