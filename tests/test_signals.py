"""Signals during a real run: the old pair or the new one, nothing else, and the right code."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from ops.demo_instance import build_instance
from ops.errors import InterruptedRunError
from ops.interrupts import held_signals
from ops.model import Instance
from ops.publish import publish
from ops.sqlite.content import check_integrity
from ops.workspace import workspace
from tests.command import INV, ROOT, from_flags, to_flags
from tests.filesystem import footprint, read

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
EVIDENCES = 3000

UNMEASURED = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
"""Coverage takes locks of its own, which a signal at any instant leaves locked."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """Make an instance that takes a moment to copy; no test changes it."""
    return build_instance(tmp_path_factory.mktemp("large"), evidences=EVIDENCES)


@pytest.fixture
def old(tmp_path: Path) -> Instance:
    """Make a pair that is to be replaced."""
    return build_instance(tmp_path / "old", evidences=3)


@pytest.fixture
def started(large: Instance, old: Instance) -> Iterator[subprocess.Popen[str]]:
    """Start a clone over the old pair."""
    process = start(large, old)
    yield process
    stop(process)


def start(
    source: Instance, copy: Instance, *flags: str, nohup: bool = False
) -> subprocess.Popen[str]:
    """Start a clone in a process of its own."""
    places = (*from_flags(source), *to_flags(copy))
    return start_command("clone", "--force", *flags, *places, nohup=nohup)


def start_command(*arguments: str | Path, nohup: bool = False) -> subprocess.Popen[str]:
    """Start any command in a process of its own."""
    command = [*INV, *map(str, arguments)]
    program = shutil.which("nohup")
    if nohup and program is None:
        pytest.skip("takes nohup")
    return subprocess.Popen(
        [program, *command] if nohup and program is not None else command,
        cwd=ROOT,
        env=UNMEASURED,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop(process: subprocess.Popen[str]) -> None:
    """End a process that a failed test left, with its pipes."""
    if process.poll() is None:
        process.kill()
    process.communicate()


def wait_for(process: subprocess.Popen[str], step: str) -> None:
    """Read what the process says until a step begins."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith(step):
            return
    raise AssertionError("".join(seen))


def check_stopped(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """Check the exit code and the one line."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == CODES[number], err
    assert out == ""
    assert err.splitlines()[-2:] == [
        f"error: stopped by {number.name}",
        "note: nothing was published: the destination is as it was",
    ]
    assert err.count("error: ") == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("number", CODES)
def test_stops_a_copy(
    number: signal.Signals, started: subprocess.Popen[str], large: Instance, old: Instance
) -> None:
    before, source = footprint(old.attachments), footprint(large.attachments)
    wait_for(started, "copy attachments")
    started.send_signal(number)
    check_stopped(started, number)
    assert footprint(old.attachments) == before
    assert footprint(large.attachments) == source
    assert sorted(path.name for path in old.database.parent.iterdir()) == [
        "attachments",
        "ciso-assistant.sqlite3",
    ]


@pytest.mark.parametrize("step", ["copy database", "re-read attachments", "write to disk"])
def test_stops_any_step(
    step: str, started: subprocess.Popen[str], old: Instance, tmp_path: Path
) -> None:
    before = read(old.database.parent, times=False)
    wait_for(started, step)
    started.send_signal(signal.SIGTERM)
    started.wait(timeout=60)
    if started.returncode == 0:  # it was done before the signal came
        assert len(list(old.attachments.iterdir())) == EVIDENCES
    else:
        check_stopped(started, signal.SIGTERM)
        assert read(old.database.parent, times=False) == before
    assert not list(tmp_path.rglob(".ciso-ops-*"))


def test_new_parents_are_removed_again(large: Instance, tmp_path: Path) -> None:
    copy = Instance(database=tmp_path / "a" / "b" / "db", attachments=tmp_path / "c" / "files")
    process = start(large, copy)
    try:
        wait_for(process, "copy attachments")
        process.send_signal(signal.SIGTERM)
        check_stopped(process, signal.SIGTERM)
    finally:
        stop(process)
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_second_signal_does_not_stop_the_cleaning_up(
    started: subprocess.Popen[str], old: Instance
) -> None:
    """Who presses Ctrl-C presses it twice."""
    before = footprint(old.attachments)
    wait_for(started, "re-read attachments")
    for _ in range(2):
        started.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, err = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "Traceback" not in err
    assert footprint(old.attachments) == before
    assert not list(old.database.parent.glob(".ciso-ops-*"))


def test_a_signal_after_the_publishing_tells_no_lie(large: Instance, tmp_path: Path) -> None:
    """The old pair is being deleted by then: the new one is in its place."""
    old = build_instance(tmp_path / "old", evidences=EVIDENCES)
    inode = old.attachments.stat().st_ino
    process = start(large, old)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if old.attachments.stat().st_ino != inode:
                    break
            except FileNotFoundError:
                continue  # between the two renames
        time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        stop(process)
    assert old.attachments.stat().st_ino != inode
    assert "nothing was published" not in err
    assert not list(old.database.parent.glob(".ciso-ops-*"))


def test_ignored_hangup_stays_ignored(large: Instance, old: Instance) -> None:
    process = start(large, old, nohup=True)
    try:
        wait_for(process, "copy attachments")
        process.send_signal(signal.SIGHUP)
        out, err = process.communicate(timeout=60)
    finally:
        stop(process)
    assert process.returncode == 0, err
    assert "Cloned the database and 3,000 files" in out
    assert len(list(old.attachments.iterdir())) == EVIDENCES


@pytest.mark.parametrize("number", CODES)
def test_json_tells_the_signal(number: signal.Signals, large: Instance, old: Instance) -> None:
    process = start(large, old, "--json")
    try:
        wait_for(process, "copy attachments")
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        stop(process)
    assert process.returncode == CODES[number]
    assert err.count("error: ") == 1
    assert f'"exit_code": {CODES[number]}' in out
    assert out.startswith("{\n")


def _publish_with_signal(directory: Path, seconds: float) -> tuple[str, str]:
    copy = Instance(database=directory / "db", attachments=directory / "files")
    copy.database.write_text("old")
    copy.attachments.mkdir()
    (copy.attachments / "a").write_text("old")
    try:
        with workspace(copy) as space:
            space.copy.database.write_text("new")
            (space.copy.attachments / "a").write_text("new")
            swap = space.swap()
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                with held_signals():
                    publish(swap)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    except Exception:  # noqa: BLE001, S110 - what it raises is not the point, what stands there is
        pass

    def content(path: Path) -> str:
        return path.read_text() if path.exists() else "lost"

    return content(copy.database), content(copy.attachments / "a")


def strike(times: int) -> None:
    """Publish many times, each with a signal at another instant, and print what stood there."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise InterruptedRunError(number)

    signal.signal(signal.SIGALRM, stop)
    source = random.Random(1)  # noqa: S311 - instants
    seen = set()
    for _ in range(times):
        with tempfile.TemporaryDirectory() as directory:
            seen.add(_publish_with_signal(Path(directory), source.uniform(1e-6, 6e-4)))
    sys.stdout.write(json.dumps(sorted(seen)))


def test_a_signal_at_any_instant_of_the_publishing() -> None:
    """A signal may come between any two instructions, so between a rename and its note."""
    done = subprocess.run(
        [sys.executable, "-c", "from tests.test_signals import strike; strike(500)"],
        check=False,
        cwd=ROOT,
        env=UNMEASURED,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=120,
    )
    assert done.returncode == 0
    seen = {tuple(pair) for pair in json.loads(done.stdout)}
    assert seen <= {("old", "old"), ("new", "new")}
    assert ("old", "old") in seen, "some signals came in time"


def test_codes_follow_the_signals() -> None:
    for number, code in CODES.items():
        failure = InterruptedRunError(number)
        assert failure.exit_code == code
        assert failure.message == f"stopped by {number.name}"
    assert os.name == "posix"


def test_a_signal_ends_a_long_statement_of_sqlite(tmp_path: Path) -> None:
    """SQLite does not return to Python until it is done: it has to be asked to."""
    database = tmp_path / "large"
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b)")
    rows = ((os.urandom(400),) for _ in range(100_000))
    connection.executemany("INSERT INTO t (b) VALUES (?)", rows)
    connection.execute("CREATE INDEX i ON t (b)")
    connection.commit()
    began = time.monotonic()
    check_integrity(connection)
    whole = time.monotonic() - began
    timer = threading.Timer(whole / 10, os.kill, (os.getpid(), signal.SIGINT))
    began = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        check_integrity(connection)
    assert time.monotonic() - began < whole
    timer.join()
    assert check_integrity(connection).messages == ()
    connection.close()
