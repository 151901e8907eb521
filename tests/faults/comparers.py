"""Judges of a copy that share no code with `ops`: rsync, tar, and a walk by descriptors."""

import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

Facts: TypeAlias = dict[bytes, dict[str, object]]
"""For each path of a tree, what an exact copy keeps of it."""

_SECONDS = 120
_SLACK_BYTES = 64 << 10
"""What a file system may allot to a file beyond its source's blocks: trees of extents, tails."""

_PLACE_BOUND = frozenset(
    {
        *("security.selinux", "security.ima", "security.evm"),
        *("trusted.SGI_ACL_FILE", "trusted.SGI_ACL_DEFAULT"),
    }
)
"""Labels and signatures that a system gives to its own files, and how XFS stores access control
lists, which it shows to root beside the lists themselves."""


def tool(name: str) -> str:
    """Find a program, or skip."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"takes {name}, to compare trees")
    return found


def disagreements(source: Path, copy: Path) -> list[str]:
    """Ask every judge but the walk; what they say is what is wrong."""
    return [*rsync_says(source, copy), *tar_says(source, copy)]


def rsync_says(source: Path, copy: Path) -> list[str]:
    """List what rsync would do to make the copy equal, times compared to the nanosecond."""
    labels = [f"--filter=-x {name}" for name in sorted(_PLACE_BOUND)]
    options = ("-aHAXnc", "--delete", "--itemize-changes", "--numeric-ids", "--modify-window=-1")
    done = subprocess.run(
        [tool("rsync"), *options, *labels, f"{source}/", f"{copy}/"],
        check=False,
        capture_output=True,
        timeout=_SECONDS,
    )
    assert done.returncode == 0, done.stderr.decode(errors="backslashreplace")
    said = (done.stdout + done.stderr).decode(errors="backslashreplace")
    return [f"rsync: {line}" for line in said.splitlines()]


def tar_says(source: Path, copy: Path) -> list[str]:
    """List what differs between archives of both: headers, extended ones and contents."""
    members, others = _members(source), _members(copy)
    return [
        f"tar: {name!r}: {members.get(name)} but {others.get(name)}"
        for name in sorted({*members, *others})
        if members.get(name) != others.get(name)
    ]


def _members(root: Path) -> dict[str, tuple[object, ...]]:
    """Read a tree as tar archives it.

    The archive itself cannot be compared: it lists extended attributes in the order in which the
    file system does.
    """
    options = ("--create", "--sort=name", "--format=pax", "--acls", "--numeric-owner", "--xattrs")
    labels = [f"--xattrs-exclude={name}" for name in sorted(_PLACE_BOUND)]
    only = ("--xattrs-include=*", *labels, "--pax-option=delete=atime,delete=ctime")
    found: dict[str, tuple[object, ...]] = {}
    process = subprocess.Popen(
        [tool("tar"), *options, *only, f"--directory={root}", "."],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        with tarfile.open(fileobj=writer.stdout, mode="r|", errors="surrogateescape") as archive:
            for member in archive:
                found[member.name] = (*_header(member), _content(archive, member))
        said = writer.stderr.read().decode(errors="backslashreplace").splitlines()
    wrong = [line for line in said if not line.endswith(": socket ignored")]
    assert process.returncode == 0, wrong
    assert not wrong, wrong
    return found


def _header(member: tarfile.TarInfo) -> tuple[object, ...]:
    extended = tuple(sorted(member.pax_headers.items()))
    times = member.pax_headers.get("mtime", member.mtime)
    owner = (member.uid, member.gid, member.mode)
    device = (member.devmajor, member.devminor)
    return (member.type, *owner, times, member.size, member.linkname, *device, extended)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = archive.extractfile(member) if member.isreg() else None
    return "" if file is None else hashlib.sha256(file.read()).hexdigest()


def facts(root: Path) -> Facts:
    """Walk a tree at any depth and read all that an exact copy keeps; no access time changes.

    Names of one inode share the first of them as "link". A symbolic link has no access time here:
    reading its target is what changes it, and no flag of open(2) forbids that.
    """
    found: Facts = {}
    first: dict[tuple[int, int], bytes] = {}
    for path, name, directory in _walk(root):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        kind = stat.S_IFMT(status.st_mode)
        facts_of: dict[str, object] = {
            "kind": kind,
            "mode": oct(stat.S_IMODE(status.st_mode)),
            "owner": (status.st_uid, status.st_gid),
            "modified": status.st_mtime_ns,
            "xattrs": _xattrs(name, directory),
        }
        if kind != stat.S_IFLNK:
            facts_of["accessed"] = status.st_atime_ns
        if kind != stat.S_IFDIR:
            facts_of["link"] = first.setdefault((status.st_dev, status.st_ino), path)
            facts_of["names"] = status.st_nlink
        if kind in {stat.S_IFCHR, stat.S_IFBLK}:
            facts_of["device"] = (os.major(status.st_rdev), os.minor(status.st_rdev))
        if kind == stat.S_IFLNK:
            facts_of["target"] = os.readlink(name, dir_fd=directory)
        if kind == stat.S_IFREG:
            facts_of["size"] = status.st_size
            facts_of["digest"] = _digest(name, directory)
        found[path] = facts_of
    return found


def differences(expected: Facts, found: Facts) -> list[str]:
    """Say what differs between two trees, entry by entry."""
    said = []
    for path in sorted({*expected, *found}):
        one, two = expected.get(path), found.get(path)
        if one is None or two is None:
            said.append(f"{path!r} is {'unexpected' if one is None else 'missing'}")
            continue
        said += [
            f"{path!r}: {key} is {two.get(key)!r}, not {one.get(key)!r}"
            for key in sorted({*one, *two})
            if one.get(key) != two.get(key)
        ]
    return said


def holes_differ(source: Path, copy: Path, *, slack: int | None) -> list[str]:
    """Say which files of the copy take more room, or have their data elsewhere.

    Args:
        source: The one tree.
        copy: The other one.
        slack: None where they lie on file systems of different kinds, whose ranges of data cannot
            be compared. With 0 the ranges are equal, but for those of files without holes: blocks
            that are there and were never written are data or not, as the kernel has them in
            memory or not. On XFS (`UNWRITTEN_BYTES`) that holds for blocks beside a hole too, so
            that the copy has only less than so many bytes of data more.
    """
    expected, found = dict(_extents(source)), dict(_extents(copy))
    said = []
    for path in sorted({*expected, *found}):
        size, blocks, ranges = expected.get(path, (0, 0, []))
        _, more, others = found.get(path, (0, 0, []))
        if more > blocks + _SLACK_BYTES:
            said.append(f"{path!r} takes {more} bytes of the disk, not {blocks}")
        if slack is None or blocks >= size or others == ranges:
            continue
        if slack == 0 or _length(others) >= _length(ranges) + slack:
            said.append(f"{path!r} has data at {others}, not {ranges}")
    return said


UNWRITTEN_BYTES = 4096


def _length(ranges: list[tuple[int, int]]) -> int:
    return sum(end - start for start, end in ranges)


def _extents(root: Path) -> Iterator[tuple[bytes, tuple[int, int, list[tuple[int, int]]]]]:
    for path, name, directory in _walk(root):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            reader = os.open(name, os.O_RDONLY | os.O_NOATIME, dir_fd=directory)
            try:
                ranges = list(_ranges(reader, status.st_size))
                yield path, (status.st_size, status.st_blocks * 512, ranges)
            finally:
                os.close(reader)


def _ranges(reader: int, size: int) -> Iterator[tuple[int, int]]:
    end = 0
    while end < size:
        try:
            start = os.lseek(reader, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole from here on
            return
        end = os.lseek(reader, start, os.SEEK_HOLE)
        yield start, end


def _walk(root: Path) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield each path, its name, and the descriptor of the directory that holds it.

    The descriptors of all directories on the way are open: some hundred levels work.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NOATIME
    top = os.open(root, flags)
    levels: list[tuple[bytes, int, list[bytes]]] = [(b"", top, _names(top))]
    yield b"", b".", top
    try:
        while levels:
            prefix, directory, names = levels[-1]
            if not names:
                os.close(levels.pop()[1])
                continue
            name = names.pop()
            path = prefix + name
            yield path, name, directory
            mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                below = os.open(name, flags, dir_fd=directory)
                levels.append((path + b"/", below, _names(below)))
    finally:
        for _, directory, _ in levels:
            os.close(directory)


def _names(directory: int) -> list[bytes]:
    return sorted(map(os.fsencode, os.listdir(directory)), reverse=True)


def _xattrs(name: bytes, directory: int) -> dict[str, bytes]:
    path = f"/proc/self/fd/{directory}/{os.fsdecode(name)}"
    return {
        key: os.getxattr(path, key, follow_symlinks=False)
        for key in sorted(os.listxattr(path, follow_symlinks=False))
        if key not in _PLACE_BOUND
    }


def _digest(name: bytes, directory: int) -> str:
    reader = os.open(name, os.O_RDONLY | os.O_NOATIME | os.O_NOFOLLOW, dir_fd=directory)
    with os.fdopen(reader, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
