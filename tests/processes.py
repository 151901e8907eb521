"""Processes that hold a database open, as an application does."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
def held_open(database: Path, *statements: str) -> Iterator[None]:
    """Keep a database open in another process, after it ran some statements."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(database), *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
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
