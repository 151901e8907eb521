"""See whether this process still holds the locks that guard a reading (Linux, /proc/locks)."""

import os
from collections.abc import Iterator
from pathlib import Path

from ops.errors import OpsError
from ops.names import display
from ops.sqlite.header import file_state, sidecar

_FIELDS = 8
_LOCKS = Path("/proc/locks")


def locked_files(database: Path) -> frozenset[int]:
    """List, by inode, which of a database and its `-shm` this process holds a POSIX lock on.

    Empty where there is no /proc/locks (proc(5)), or where it does not tell of this process.
    """
    mine = os.getpid()
    return frozenset(inode for pid, inode in _locks_on(database) if pid == mine)


def is_locked_by_others(database: Path) -> bool:
    """Tell whether another process holds a POSIX lock on a database or its `-shm`.

    True where there is no /proc/locks, which would tell.
    """
    if not _LOCKS.exists():  # pragma: no cover - not Linux
        return True
    return any(pid != os.getpid() for pid, _ in _locks_on(database))


def _locks_on(database: Path) -> Iterator[tuple[int, int]]:
    files = (database, sidecar(database, "-shm"))
    inodes = {state[0] for state in map(file_state, files) if state}
    try:
        lines = _LOCKS.read_text().splitlines()
    except OSError:  # pragma: no cover - not Linux, or closed off
        return
    for line in lines:
        fields = line.split()
        # "1: POSIX ADVISORY READ 812 fe:00:2327 1073741826 1073742335"; "->" marks a waiter.
        if len(fields) == _FIELDS and fields[1] == "POSIX":
            inode = int(fields[5].rpartition(":")[2])
            if inode in inodes:
                yield int(fields[4]), inode


def require_locks(before: frozenset[int], database: Path) -> None:
    """Make sure that no lock was lost since `locked_files` listed the files.

    All POSIX locks on a file go when the process closes any descriptor of it
    (https://www.sqlite.org/howtocorrupt.html, section 2.2); the reading would then not be of one
    instant.

    Raises:
        OpsError: One is gone.
    """
    if not before <= locked_files(database):
        raise OpsError(
            f"the lock on {display(database)} was lost while it was read",
            hint="something else in this process closed the file; report this",
        )
