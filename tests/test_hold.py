"""Writers are held up by leave of the operator only, for a limited time, and told of."""

import hashlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.clone import Outcome, run_clone
from ops.demo_instance import build_instance
from ops.errors import BusyError, OpsError, SourceError
from ops.model import Clock, Instance
from ops.sqlite.hold import held_writers
from ops.sqlite.source import OpenDatabase, Way, open_source, pinned
from tests.command import from_flags, run, to_flags
from tests.filesystem import footprint
from tests.mounting import immutable
from tests.pipeline import CLOCK, plan, quiet, request_for
from tests.processes import held_open
from tests.swaps import in_a_child

_OVERWRITER = """
import hashlib, os, random, select, sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
rows = connection.execute("SELECT evidence_id, attachment FROM core_evidencerevision").fetchall()
longest = 0.0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.0005)[0]:
    key, name = random.choice(rows)
    content = os.urandom(3000)
    began = time.monotonic()
    connection.execute("BEGIN IMMEDIATE")
    longest = max(longest, time.monotonic() - began)
    with open(os.path.join(sys.argv[2], name), "wb") as file:
        file.write(content)
    connection.execute(
        "UPDATE core_evidencerevision SET attachment_hash = ? WHERE evidence_id = ?",
        (hashlib.sha256(content).hexdigest(), key),
    )
    connection.execute("COMMIT")
print(longest)
"""


@contextmanager
def overwriter(source: Instance) -> Iterator[subprocess.Popen[str]]:
    """Write files over in place, faster than rounds are made, each with its row."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OVERWRITER, source.database, source.attachments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.communicate(timeout=60)


def clone_held(source: Instance, destination: Instance, hold_seconds: float) -> Outcome:
    """Clone with leave to hold the writers up."""
    request = replace(request_for(source, destination), hold_seconds=hold_seconds)
    return run_clone(plan(request), clock=CLOCK, progress=quiet)


def files_are_theirs(copy: Instance) -> bool:
    """Compare each file with what its row recorded."""
    connection = sqlite3.connect(f"file:{copy.database}?immutable=1", uri=True)
    rows = connection.execute("SELECT attachment, attachment_hash FROM core_evidencerevision")
    wrong = [
        name
        for name, digest in rows
        if hashlib.sha256((copy.attachments / name).read_bytes()).hexdigest() != digest
    ]
    connection.close()
    return not wrong


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_what_rounds_cannot_follow_is_captured_by_holding(
    mode: str, tmp_path: Path, destination: Instance
) -> None:
    source = build_instance(tmp_path / "busy", evidences=40)
    connection = sqlite3.connect(source.database)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.close()
    with overwriter(source) as process:
        outcome = clone_held(source, destination, 5)
        said, _ = process.communicate("stop\n", timeout=60)
    assert files_are_theirs(destination)
    assert outcome.capture.rounds in range(1, 9)
    assert float(said) < 5


def overwriting(source: Instance, *, times: int) -> Clock:
    """Make a clock that writes a file over, right at the pin, so many times; then it is right."""
    hot = source.attachments / "policy_7.pdf"
    good = hot.read_bytes()
    pins: list[int] = []

    def now() -> datetime:
        pins.append(1)
        hot.write_bytes(good if len(pins) > times else b"half")
        return datetime.now(UTC)

    return Clock(now=now, seconds=CLOCK.seconds)


def clone_overwritten(
    source: Instance, destination: Instance, *, times: int, hold_seconds: float
) -> Outcome:
    """Clone an application's live instance while a file of it is written over at each pin."""
    request = replace(request_for(source, destination), hold_seconds=hold_seconds)
    clock = overwriting(source, times=times)
    with held_open(source.database, "UPDATE iam_user SET is_active = 1"):
        return run_clone(plan(request), clock=clock, progress=quiet)


def test_the_writers_are_held_after_eight_rounds_in_vain(
    instance: Instance, destination: Instance
) -> None:
    outcome = clone_overwritten(instance, destination, times=10, hold_seconds=30)
    assert outcome.capture.rounds == 8
    assert 0 < outcome.capture.held_seconds < 30
    assert files_are_theirs(destination)


def test_nobody_is_held_before(instance: Instance, destination: Instance) -> None:
    outcome = clone_overwritten(instance, destination, times=7, hold_seconds=30)
    assert outcome.capture.rounds == 8
    assert outcome.capture.held_seconds == 0


def test_without_leave_nobody_is_held_up_and_the_way_out_is_named(
    instance: Instance, destination: Instance
) -> None:
    with pytest.raises(BusyError, match="never belonged together in 8 rounds: ") as caught:
        clone_overwritten(instance, destination, times=100, hold_seconds=0)
    assert "--hold-writers 5" in caught.value.hint
    assert not destination.database.parent.exists()


def test_too_short_a_time_is_told(instance: Instance, destination: Instance) -> None:
    with pytest.raises(BusyError, match=r"8 rounds and 0.05 seconds of holding the writers"):
        clone_overwritten(instance, destination, times=1000, hold_seconds=0.05)


@pytest.mark.parametrize("value", ["soon", "-1", "1e9"])
def test_only_seconds_are_seconds(value: str, instance: Instance, destination: Instance) -> None:
    ran = run(
        "clone", "--force", *from_flags(instance), *to_flags(destination), f"--hold-writers={value}"
    )
    assert ran.code == 2
    assert "--hold-writers" in ran.error_line


@contextmanager
def opened(database: Path, scratch: Path) -> Iterator[OpenDatabase]:
    """Open and pin a database that somebody else has open."""
    with open_source(database, scratch=scratch, timeout_seconds=1) as source, pinned(source):
        yield source


def seconds_to_write(database: Path, *, timeout: float) -> float | None:
    """Begin to write in another process; None when it stays locked."""
    script = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=float(sys.argv[2]))
assert connection.execute("SELECT count(*) FROM core_evidence").fetchone() == (12,)
began = time.monotonic()
connection.execute("BEGIN IMMEDIATE")
print(time.monotonic() - began)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, database, str(timeout)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 or "database is locked" in done.stderr, done.stderr
    return float(done.stdout) if done.returncode == 0 else None


def test_writers_wait_and_readers_do_not(instance: Instance, tmp_path: Path) -> None:
    with held_open(instance.database, "UPDATE iam_user SET is_active = 1"):
        before = footprint(instance.database.parent)
        with opened(instance.database, tmp_path) as source:
            with held_writers(source, timeout_seconds=1, hold_seconds=30):
                assert seconds_to_write(instance.database, timeout=0) is None
            assert seconds_to_write(instance.database, timeout=0) is not None
        after = footprint(instance.database.parent)
        for name in before:
            if not name.endswith(b"-shm"):  # where readers leave their marks
                assert before[name][:-1] == after[name][:-1], name


def test_the_limit_holds_whatever_we_do(instance: Instance, tmp_path: Path) -> None:
    with (
        held_open(instance.database, "UPDATE iam_user SET is_active = 1"),
        opened(instance.database, tmp_path) as source,
        held_writers(source, timeout_seconds=1, hold_seconds=0.2),
    ):
        waited = seconds_to_write(instance.database, timeout=30)
        assert waited is not None
        assert waited < 5


def test_a_writer_that_stays_is_told(instance: Instance, tmp_path: Path) -> None:
    with (
        held_open(instance.database, "UPDATE iam_user SET is_active = 1", "BEGIN IMMEDIATE"),
        opened(instance.database, tmp_path) as source,
        pytest.raises(BusyError, match="one stayed at work"),
        held_writers(source, timeout_seconds=0.1, hold_seconds=1),
    ):
        pytest.fail("held")


def test_without_anybody_there_is_nobody_to_hold(instance: Instance, tmp_path: Path) -> None:
    with (
        opened(instance.database, tmp_path) as source,
        pytest.raises(BusyError, match="there are no writers to hold up"),
        held_writers(source, timeout_seconds=0.1, hold_seconds=1),
    ):
        assert source.way is Way.REST


def test_a_database_that_a_crash_left_is_not_mended_by_a_hold(
    instance: Instance, tmp_path: Path
) -> None:
    """Its WAL makes it look alive; the first to open it for writing would replay it."""
    if not Path("/proc/locks").exists():
        pytest.skip("takes /proc/locks")

    def work() -> None:
        connection = sqlite3.connect(instance.database, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("UPDATE iam_user SET is_active = 1")

    in_a_child(work)  # which closes nothing
    before = footprint(instance.database.parent)
    with opened(instance.database, tmp_path) as source:
        assert source.way is Way.LIVE
        with (
            pytest.raises(BusyError, match="there are no writers to hold up"),
            held_writers(source, timeout_seconds=0.1, hold_seconds=1),
        ):
            pytest.fail("held")
    after = footprint(instance.database.parent)
    assert list(before) == list(after)
    for name in before:
        if not name.endswith(b"-shm"):
            assert before[name][:-1] == after[name][:-1], name


def test_who_may_not_write_may_not_hold(instance: Instance, tmp_path: Path) -> None:
    with (
        held_open(instance.database, "UPDATE iam_user SET is_active = 1"),
        opened(instance.database, tmp_path) as source,
        immutable(instance.database),
        pytest.raises(SourceError, match="could not be held up"),
        held_writers(source, timeout_seconds=0.1, hold_seconds=1),
    ):
        pytest.fail("held")


def test_a_lock_that_is_lost_is_noticed(instance: Instance, tmp_path: Path) -> None:
    """Reading the file in the process that holds the pin unpins it without a word."""
    if not Path("/proc/locks").exists():
        pytest.skip("takes /proc/locks")
    for mode in ("WAL", "DELETE"):
        connection = sqlite3.connect(instance.database)
        connection.execute(f"PRAGMA journal_mode = {mode}")
        connection.close()
        with (
            held_open(instance.database, "UPDATE iam_user SET is_active = 1"),
            pytest.raises(OpsError, match=r"the lock on .* was lost while it was read"),
            opened(instance.database, tmp_path),
        ):
            instance.database.read_bytes()
