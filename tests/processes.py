"""Processes that hold a database open, as an application does."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_TIMEOUT_SECONDS = 30
_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement).fetchall()
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def held_open(database: Path, *statements: str) -> Iterator[int]:
    """Keep a database open in another process, after it ran some statements; yields its number."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(database), *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.communicate(timeout=_TIMEOUT_SECONDS)


_OPEN = """
import os, sys
descriptors = [os.open(path, os.O_RDONLY) for path in sys.argv[1:]]
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def having_open(*paths: Path) -> Iterator[int]:
    """Have a process with some files or directories open, and nothing else; yields its number."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OPEN, *paths], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.communicate(timeout=_TIMEOUT_SECONDS)


def workers_of(parent: int) -> dict[int, str]:
    """Find the worker processes that a process started, also when it is gone already.

    Returns:
        Their numbers, each with the state that proc(5) tells.
    """
    if sys.platform != "linux":
        pytest.skip("takes /proc, to see the workers")
    found: dict[int, str] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue  # it has just ended
        # python -c "… from ops.tree.worker import work …" JOBS RESULTS PARENT PATH…
        if len(words) > 5 and b"ops.tree.worker" in words[2] and words[5] == b"%d" % parent:
            found[int(entry.name)] = state
    return found


def wait_for_workers(parent: int, count: int, *, seconds: float = 30) -> frozenset[int]:
    """Wait until a process has so many workers, and return their numbers."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        workers = workers_of(parent)
        if len(workers) == count:
            return frozenset(workers)
        time.sleep(0.001)
    raise AssertionError(f"{len(workers_of(parent))} workers, not {count}")


def lives(pid: int) -> bool:
    """Tell whether a process still runs; one that nobody has waited for yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until_gone(pid: int, *, seconds: float = 10) -> None:
    """Wait until a process has ended."""
    deadline = time.monotonic() + seconds
    while lives(pid):
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.02)


SERVICE = """
import os, pathlib, signal, sqlite3, sys, time
database, pid = map(pathlib.Path, sys.argv[1:])
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
connection = sqlite3.connect(database, isolation_level=None, timeout=60)
connection.execute("PRAGMA journal_mode = WAL")
connection.execute("CREATE TABLE IF NOT EXISTS service (number INTEGER)")
pid.write_text(str(os.getpid()))
while not stopping:
    connection.execute("INSERT INTO service VALUES (?)", (os.getpid(),))
    time.sleep(0.002)
connection.execute("INSERT INTO service VALUES (0)")
connection.close()
pid.unlink()
"""
"""A program that writes to a database until it is told to end, and has a file with its number."""
