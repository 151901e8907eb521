"""A process that keeps an instance busy, as the application does.

Run as a program (`python -m ops.demo_writer DATABASE ATTACHMENTS RATE mixed|inserts`), it is that
process: it commits until its standard input ends, then prints what it did as JSON.
"""

import hashlib
import json
import random
import select
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, cast

from ops.demo_instance import connect, insert_evidence
from ops.errors import OpsError
from ops.model import Instance

_WRITER_STOP_SECONDS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """What a writer did: evidences added, replaced and deleted, longest wait in seconds."""

    inserted: int
    replaced: int
    deleted: int
    longest_wait_seconds: float


class Writer:
    """A process that keeps committing to an instance until it is stopped."""

    def __init__(self, instance: Instance, *, rate: int, deletes: bool) -> None:
        what = "mixed" if deletes else "inserts"
        paths = [str(instance.database), str(instance.attachments)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ops.demo_writer", *paths, str(rate), what],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C at the terminal is ours to handle
        )

    def wait_until_busy(self) -> None:
        """Wait for the first commit."""
        cast("IO[bytes]", self._process.stdout).readline()

    def stop(self) -> Writing:
        """End the process and return what it did."""
        try:
            output, _ = self._process.communicate(timeout=_WRITER_STOP_SECONDS)
            return Writing(**json.loads(output))
        except (ValueError, subprocess.TimeoutExpired) as error:
            raise OpsError("the demo's writer did not say what it did") from error

    def kill(self) -> None:
        """End the process at once, if it still runs."""
        if self._process.returncode is None:
            self._process.kill()
            self._process.communicate()


@contextmanager
def writer(instance: Instance, *, rate: int, deletes: bool = True) -> Iterator[Writer]:
    """Keep an instance busy during a block.

    Args:
        instance: The instance.
        rate: Commits a second.
        deletes: Also replace and delete; otherwise only insert.
    """
    running = Writer(instance, rate=rate, deletes=deletes)
    try:
        running.wait_until_busy()
        yield running
    finally:
        running.kill()


def _write(instance: Instance, rate: int, *, deletes: bool) -> Writing:
    source = random.Random(rate)  # noqa: S311 - made-up contents
    connection = connect(instance.database)
    counts = {"insert": 0, "replace": 0, "delete": 0}
    longest = 0.0
    due = time.monotonic()
    number = 0
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        due += 1 / rate
        number += 1
        action = "insert"
        if deletes and number > 1:
            action = source.choices(("insert", "replace", "delete"), (6, 2, 2))[0]
        name = f"live_{number}_{source.randrange(10**6)}.txt"
        longest = max(longest, _commit(connection, instance.attachments, action, name, source))
        counts[action] += 1
        if number == 1:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
    connection.close()
    return Writing(
        inserted=counts["insert"],
        replaced=counts["replace"],
        deleted=counts["delete"],
        longest_wait_seconds=longest,
    )


def _commit(
    connection: sqlite3.Connection,
    attachments: Path,
    action: str,
    name: str,
    source: random.Random,
) -> float:
    """Make one change as the application does and return how long the database kept us waiting."""
    began = time.monotonic()
    connection.execute("BEGIN IMMEDIATE")
    waited = time.monotonic() - began
    content = source.randbytes(source.randrange(200, 4000))
    old: tuple[str, str] | None = None
    if action != "insert":
        old = connection.execute(
            "SELECT evidence_id, attachment FROM core_evidencerevision ORDER BY random() LIMIT 1"
        ).fetchone()
    if old is not None and action == "replace":
        (attachments / name).write_bytes(content)
        connection.execute(
            "UPDATE core_evidencerevision SET attachment = ?, attachment_hash = ?,"
            " version = version + 1 WHERE evidence_id = ?",
            (name, hashlib.sha256(content).hexdigest(), old[0]),
        )
    elif old is not None:
        connection.execute("DELETE FROM core_evidencerevision WHERE evidence_id = ?", old[:1])
        connection.execute("DELETE FROM core_evidence WHERE id = ?", old[:1])
    else:
        insert_evidence(connection, attachments, name, content)
    began = time.monotonic()
    connection.execute("COMMIT")
    waited += time.monotonic() - began
    if old is not None:
        (attachments / old[1]).unlink()
    return waited


def main(arguments: list[str]) -> None:
    """Write until standard input ends, then print what was done as JSON."""
    database, attachments, rate, what = arguments
    done = _write(
        Instance(database=Path(database), attachments=Path(attachments)),
        int(rate),
        deletes=what == "mixed",
    )
    sys.stdout.write(json.dumps(asdict(done)))


if __name__ == "__main__":
    main(sys.argv[1:])
