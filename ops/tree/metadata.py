"""Read an entry's metadata and apply it to a copy."""

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ops.model import Entry, kind_of, narrowed_mode

_HAS_XATTRS = hasattr(os, "listxattr")

_PLACE_BOUND = frozenset(
    {
        "security.selinux",
        "security.ima",
        "security.evm",
        "trusted.SGI_ACL_FILE",
        "trusted.SGI_ACL_DEFAULT",
    }
)
"""Attributes that belong to the place, not to the file: labels and signatures of this system, and
the form in which XFS keeps access control lists, which it shows to root beside the lists."""

_ROOT_ONLY = ("trusted.", "security.")

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


def may_write(directory: Path) -> bool:
    """Tell whether this process, as the user it acts for, may change what a directory holds."""
    effective = os.access in os.supports_effective_ids
    return os.access(directory, os.W_OK | os.X_OK, effective_ids=effective)


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
    if not _HAS_XATTRS:  # pragma: no cover - not Linux
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


def lists_xattrs(descriptor: int) -> bool:
    """Tell whether an open file has any attribute that a copy keeps.

    Raises:
        OSError: They cannot be listed.
    """
    if not _HAS_XATTRS:  # pragma: no cover - not Linux
        return False
    try:
        names = os.listxattr(descriptor)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return bool(names) and not _PLACE_BOUND.issuperset(names)


ACCESS_LIST = "system.posix_acl_access"
"""The attribute that holds a POSIX access control list."""

_ACL_ENTRY_BYTES = 8
_ACL_OWNING_GROUP = 4


def mode_without_acl(entry: Entry) -> int:
    """Return the permission bits that an entry has once its access control list is lost.

    With a list, the group's bits are its mask, and the owning group's own rights are an entry
    of the list (acl(5); `linux/posix_acl_xattr.h`: a version of 4 bytes, then for each entry
    tag, permissions and id in 2, 2 and 4 bytes). The copy must not give it the mask's.
    """
    value = dict(entry.xattrs).get(ACCESS_LIST, b"")
    for start in range(4, len(value), _ACL_ENTRY_BYTES):
        tag = int.from_bytes(value[start : start + 2], "little")
        rights = int.from_bytes(value[start + 2 : start + 4], "little") & 0o7
        if tag == _ACL_OWNING_GROUP:
            return entry.mode & ~0o070 | entry.mode & rights << 3
    return entry.mode


def lenient_xattrs(root: Path, names: frozenset[str], *, privileged: bool) -> frozenset[str]:
    """Tell which attributes a tree cannot be blamed for lacking.

    Those are the ones that its file system does not know, and, for anybody but root, those that
    only root sees.

    Args:
        root: The tree.
        names: The attributes in question.
        privileged: Whether this process is root's.
    """
    return frozenset(
        name
        for name in names
        if (not privileged and name.startswith(_ROOT_ONLY)) or not _knows_xattr(root, name)
    )


def _knows_xattr(root: Path, name: str) -> bool:
    if not _HAS_XATTRS:  # pragma: no cover - not Linux
        return False
    try:
        os.getxattr(root, name)
    except OSError as error:
        return error.errno not in _UNSUPPORTED
    return True


def apply_metadata(descriptor: int, entry: Entry) -> Kept:
    """Give an open file or directory the owner, mode, attributes and times of `entry`.

    The order matters: changing the owner clears set-user-ID, and every later step touches
    ctime only. What only root may set is tried and, where refused, told in the result; the
    mode is then narrowed so that the copy is never more open than its source.

    Raises:
        OSError: The mode or the times cannot be set, or an attribute does not fit.
    """
    owner, group = _change_owner(descriptor, entry)
    lost = _apply_xattrs(descriptor, entry.xattrs)
    mode = mode_without_acl(entry) if ACCESS_LIST in lost else entry.mode
    os.fchmod(descriptor, narrowed_mode(mode, owner_kept=owner, group_kept=group))
    os.utime(descriptor, ns=(entry.accessed_ns, entry.modified_ns))
    return Kept(owner=owner, group=group, xattrs=not lost)


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
    lost = _apply_xattrs(reach(name, directory), entry.xattrs)
    if not stat.S_ISLNK(status.st_mode):
        mode = mode_without_acl(entry) if ACCESS_LIST in lost else entry.mode
        mode = narrowed_mode(mode, owner_kept=owner, group_kept=group)
        os.chmod(name, mode, dir_fd=directory)
    times = (entry.accessed_ns, entry.modified_ns)
    os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)
    return Kept(owner=owner, group=group, xattrs=not lost)


def _apply_xattrs(target: int | str, xattrs: tuple[tuple[str, bytes], ...]) -> frozenset[str]:
    """Set the attributes and return the names of those that cannot be kept."""
    lost: set[str] = set()
    # A place may give by itself what the entry does not have: a default access control list.
    remove_xattrs(target, keep=frozenset(name for name, _ in xattrs))
    for name, value in xattrs:
        try:
            os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
        except OSError as error:
            if error.errno not in _UNSUPPORTED | {errno.EPERM}:
                raise
            lost.add(name)
    return frozenset(lost)


def remove_xattrs(target: int | str, *, keep: frozenset[str] = frozenset()) -> None:
    """Remove all the attributes that a copy keeps, but for some.

    Raises:
        OSError: One cannot be removed.
    """
    for name, _ in read_xattrs(target):
        if name not in keep:
            os.removexattr(target, name, follow_symlinks=isinstance(target, int))


def _permitted(change: Callable[[], None]) -> bool:
    try:
        change()
    except PermissionError:
        return False
    return True
