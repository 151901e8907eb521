"""Hold up the writers of a live database, by leave of the operator."""

import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

from ops.errors import BusyError, OpsError, SourceError
from ops.names import display
from ops.sqlite.connection import BUSY_CODES
from ops.sqlite.locks import is_locked_by_others
from ops.sqlite.source import OpenDatabase, Way

_HOLDER = """
import fcntl, os, select, sqlite3, sys
path, uri, timeout, limit = *sys.argv[1:3], *map(float, sys.argv[3:])
try:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout)
    connection.execute("BEGIN IMMEDIATE")
except sqlite3.Error as error:
    sys.exit(f"{error.sqlite_errorcode & 0xFF} {error}")
# Where it may only read, SQLite begins a transaction that holds nobody up, and does not tell.
modes = []
for name in os.listdir("/dev/fd"):
    try:
        if os.path.samestat(os.fstat(int(name)), os.stat(path)):
            modes.append(fcntl.fcntl(int(name), fcntl.F_GETFL) & os.O_ACCMODE)
    except OSError:
        continue  # that of the listing itself
if os.O_RDWR not in modes:
    sys.exit(f"{sqlite3.SQLITE_READONLY} this process may only read it")
print("held", flush=True)
select.select([sys.stdin], [], [], limit)
connection.execute("ROLLBACK")
connection.close()
"""
"""Ends when its standard input does, so also when we are killed, and at its limit at the latest."""

_ENDING_SECONDS = 10

_BUSY = frozenset(map(str, BUSY_CODES))


@contextmanager
def held_writers(
    database: OpenDatabase, *, timeout_seconds: float, hold_seconds: float
) -> Iterator[None]:
    """Let nobody else begin to write a database during the block; readers go on.

    Nothing is written: a transaction is begun (`BEGIN IMMEDIATE`) and rolled back, in a process
    of its own, for in this one the wal-index may be open for reading only. The caller's
    connection stays open meanwhile, so the other is not the last to close, which would
    checkpoint the WAL.

    Args:
        database: The open source.
        timeout_seconds: How long to wait for the writer that is at work.
        hold_seconds: After which time the writers go on in any case.

    Raises:
        BusyError: A writer stayed at work, or nobody has the database open.
        SourceError: This process may not write it.
    """
    path = database.file.path
    # A WAL that a crash left looks alive; the holder would be the first to open it, and mend it.
    crashed = database.way is Way.LIVE and not is_locked_by_others(path)
    if database.way not in {Way.LIVE, Way.ROLLBACK} or crashed:
        raise BusyError(
            f"there are no writers to hold up: {display(path)} is {database.way}",
            hint="files change that no open database tells of; stop the application",
        )
    uri = f"file:{urllib.parse.quote(bytes(path))}?mode=rw"
    holder = subprocess.Popen(
        [
            *(sys.executable, "-I", "-c", _HOLDER),
            *(path, uri, str(timeout_seconds), str(hold_seconds)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C at the terminal is ours to handle
    )
    try:
        if holder.stdout is None or holder.stdout.readline() != b"held\n":
            raise _not_held(holder, database)
        yield
    finally:
        try:
            holder.communicate(timeout=_ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            holder.kill()
            holder.communicate()


def _not_held(holder: subprocess.Popen[bytes], database: OpenDatabase) -> OpsError:
    _, said = holder.communicate(timeout=_ENDING_SECONDS)
    code, _, message = said.decode("utf-8", "replace").strip().partition(" ")
    path = display(database.file.path)
    if code in _BUSY:
        return BusyError(
            f"the writers could not be held up, for one stayed at work: {path}",
            hint="try again when the application is less busy, or raise ops.lock_timeout",
        )
    return SourceError(
        f"the writers could not be held up: {path}: {display(message)}",
        hint="this takes the right to write the database: run as its owner or as root",
    )
