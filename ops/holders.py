"""Find out which processes have a file or directory open (Linux, proc(5), `/proc/PID/fd`)."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ops.errors import DestinationError, os_failure
from ops.names import display
from ops.tree.directories import Directories, join_path

_PROCESSES = Path("/proc")
_MOST_NAMED = 3

Identity: TypeAlias = tuple[int, int]
"""Device and inode."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Holder:
    """A process that has something open: its number and the name of its command."""

    pid: int
    command: str


def find_holders(paths: Iterable[Path], *, below: bool = True) -> tuple[Holder, ...]:
    """List the other processes that have one of some files open, or anything in a directory.

    Files are compared by device and inode, so a process in another mount namespace, such as a
    container's, is seen as well. Processes of other users are seen by root only. Where there is
    no `/proc`, none is found.

    Args:
        paths: The files and directories.
        below: Look at all that the directories hold, too.

    Raises:
        DestinationError: One of the paths cannot be looked at.
    """
    opened = _open_files()
    devices = {device for device, _ in opened}
    found: set[int] = set()
    for path in paths:
        try:
            for identity in _identities(path, devices, below=below):
                found |= opened.get(identity, set())
        except OSError as error:
            raise os_failure(DestinationError, "look at", path, error) from error
    return tuple(Holder(pid=pid, command=_command(pid)) for pid in sorted(found))


def describe_holders(holders: tuple[Holder, ...]) -> str:
    """Name processes at the end of a message; empty when there are none."""
    if not holders:
        return ""
    named = [f"{display(one.command)} (pid {one.pid})" for one in holders[:_MOST_NAMED]]
    more = len(holders) - _MOST_NAMED
    return f": {', '.join(named)}" + (f" and {more} more" if more > 0 else "")


def _open_files() -> dict[Identity, set[int]]:
    """Map every file and directory that another process has open to those processes."""
    opened: dict[Identity, set[int]] = {}
    mine = os.getpid()
    for pid in _processes():
        if pid == mine:
            continue
        for status in _descriptors(pid):
            if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
                opened.setdefault((status.st_dev, status.st_ino), set()).add(pid)
    return opened


def _processes() -> Iterator[int]:
    try:
        names = [path.name for path in _PROCESSES.iterdir()]
    except FileNotFoundError:  # pragma: no cover - not Linux
        return
    yield from (int(name) for name in names if name.isdecimal())


def _descriptors(pid: int) -> Iterator[os.stat_result]:
    directory = _PROCESSES / str(pid) / "fd"
    try:
        links = list(directory.iterdir())
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return  # it has ended, or is another user's
    for link in links:
        try:
            yield link.stat()
        except OSError:
            continue  # closed meanwhile, or on a file system that does not answer


def _identities(path: Path, devices: set[int], *, below: bool) -> Iterator[Identity]:
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if status.st_dev not in devices:
        return
    yield status.st_dev, status.st_ino
    if below and stat.S_ISDIR(status.st_mode):
        yield from ((status.st_dev, inode) for inode in _inodes_below(path))


def _inodes_below(root: Path) -> Iterator[int]:
    """List the inodes of a tree as its directories tell them, which takes no look at each."""
    with Directories(root) as tree:
        pending = [b""]
        while pending:
            path = pending.pop()
            try:
                directory = tree.open(path)
            except FileNotFoundError:
                continue  # removed meanwhile
            with os.scandir(directory) as entries:
                for entry in entries:
                    yield entry.inode()
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(join_path(path, os.fsencode(entry.name)))


def _command(pid: int) -> str:
    try:
        return (_PROCESSES / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "a process that has just ended"
