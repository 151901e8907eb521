"""Build trees from descriptions and read them back, independently of `ops`.

A description is a dictionary from names (bytes) to nodes.
"""

import ctypes
import hashlib
import os
import platform
import stat
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import pytest

Result = TypeVar("Result")


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
        if hasattr(os, "listxattr"):
            names = sorted(os.listxattr(path, follow_symlinks=False))
            xattrs = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
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


def footprint(directory: Path, *, ctime: bool = True) -> dict[bytes, tuple[object, ...]]:
    """Read everything by which a change in a directory would show, access times left out.

    Root reading a database with a WAL touches the ctime of its sidecars, and that alone: SQLite
    gives them to the database's owner each time it opens them (`os_unix.c`, `robustFchown`).
    """
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
            status.st_ctime_ns if ctime else 0,
        )
    return result


NOBODY = 65534
"""A user without any rights of its own."""


@contextmanager
def unprivileged() -> Iterator[None]:
    """Work as a user without privileges, in this process, and become root again afterwards."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else, to see what others may not do")
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


# Numbers of system calls on x86-64 (<asm/unistd_64.h>).
LSEEK, FCHMOD, LLISTXATTR, FLISTXATTR, GETDENTS64 = 8, 91, 195, 196, 217
READLINKAT, UTIMENSAT, PREADV2 = 267, 280, 327


def with_refusal(call: int, error: int, action: Callable[[], Result]) -> Result:
    """Run something while the kernel answers one system call with an error, as a sick disk does.

    A seccomp filter does it, in a thread of its own: it ends with that thread.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("the filter that makes the kernel refuse a call is for Linux on x86-64")
    results: list[Result] = []
    failures: list[BaseException] = []
    installed: list[bool] = []

    def work() -> None:
        installed.append(_refuse(call, error))
        try:
            results.append(action())
        except BaseException as failure:  # noqa: BLE001 - handed to the caller's thread
            failures.append(failure)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if not installed[0]:
        pytest.skip("this kernel does not let us install a seccomp filter, to refuse a call")
    if failures:
        raise failures[0]
    return results[0]


def _refuse(call: int, error: int) -> bool:
    # seccomp(2): load the call's number; if it is the one, return an error, else allow it.
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, call), (0x06, 0, 0, 0x50000 | error)]
    steps.append((0x06, 0, 0, 0x7FFF0000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None)
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    libc.prctl(no_new_privileges, 1, 0, 0, 0)
    return bool(libc.prctl(set_seccomp, filter_mode, program, 0, 0) == 0)
