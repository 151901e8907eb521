"""Processes that help with the work: none of them outlives the run, whatever happens to either."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.demo_instance import build_instance
from ops.model import Instance
from ops.tree.pool import _BOOT
from tests.command import from_flags, run, to_flags
from tests.filesystem import footprint, read
from tests.processes import wait_for_workers, workers_of
from tests.test_signals import (
    CODES,
    EVIDENCES,
    check_stopped,
    start,
    start_command,
    stop,
    wait_for,
)

JOBS = 2
MOMENTS = [
    *((number, "copy attachments") for number in CODES),
    (signal.SIGINT, "re-read attachments"),
    (signal.SIGTERM, "copy database"),
    (signal.SIGHUP, "re-read attachments"),
]
GONE_SECONDS = 10
"""The kernel kills the workers of a killed run at once; a busy machine takes a moment for it."""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """Make an instance that takes a moment to copy; no test changes it."""
    source = build_instance(tmp_path_factory.mktemp("large"), evidences=EVIDENCES)
    for number in range(2):  # large enough for a job by itself
        (source.attachments / f"large-{number}").write_bytes(bytes([number + 1]) * (9 << 20))
    return source


@pytest.fixture
def old(tmp_path: Path) -> Instance:
    """Make a pair that is to be replaced."""
    return build_instance(tmp_path / "old", evidences=3)


Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def started(large: Instance, old: Instance) -> Iterator[Started]:
    """Start clones by two workers over the old pair, and end those that a failed test left."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*flags: str) -> "subprocess.Popen[str]":
        processes.append(start(large, old, "--jobs", f"{JOBS}", *flags))
        return processes[-1]

    yield begin
    for process in processes:
        stop(process)


def nobody_left(parent: int, seconds: float = 0) -> bool:
    """Tell whether a run has no worker, not even one that is only not waited for."""
    deadline = time.monotonic() + seconds
    while workers_of(parent):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def inside(directory: Path) -> dict[bytes, tuple[object, ...]]:
    """Read what is in a directory, whose own times show that a workspace came and went."""
    return {path: facts for path, facts in read(directory).items() if path}


def is_as_before(old: Instance, before: dict[bytes, tuple[object, ...]]) -> None:
    """Check that a destination is untouched, and nothing is beside it."""
    assert footprint(old.attachments) == before
    assert sorted(path.name for path in old.database.parent.iterdir()) == [
        "attachments",
        "ciso-assistant.sqlite3",
    ]


# A run that is stopped


@pytest.mark.parametrize(("number", "step"), MOMENTS)
def test_a_signal_leaves_no_worker(
    number: signal.Signals, step: str, started: Started, old: Instance
) -> None:
    before = footprint(old.attachments)
    process = started()
    wait_for(process, step)
    workers = wait_for_workers(process.pid, JOBS)
    process.send_signal(number)
    check_stopped(process, number)
    assert nobody_left(process.pid)
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    is_as_before(old, before)


def test_a_signal_at_any_moment_leaves_no_worker(started: Started, old: Instance) -> None:
    """Also while the workers are being started, or have just begun to look around."""
    before = inside(old.database.parent)
    chance = random.Random(7)  # noqa: S311 - instants
    stopped = 0
    for _ in range(6):
        process = started()
        wait_for(process, "  profile")  # the last line of the plan
        time.sleep(chance.uniform(0, 0.15))
        number = chance.choice(list(CODES))
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert nobody_left(process.pid)
        assert not list(old.database.parent.glob(".ciso-ops-*"))
        assert "Traceback" not in err
        if process.returncode != 0:
            assert process.returncode == CODES[number], err
            assert inside(old.database.parent) == before
            stopped += 1
    assert stopped > 3, "most signals came in time"


def test_a_signal_as_the_flushing_begins(started: Started, old: Instance) -> None:
    """It goes on beside the check, and is waited for before anything is cleared away."""
    before = inside(old.database.parent)
    chance = random.Random(5)  # noqa: S311 - instants
    for _ in range(5):
        process = started()
        wait_for(process, "write to disk")
        time.sleep(chance.uniform(0, 0.002))
        process.send_signal(signal.SIGTERM)
        check_stopped(process, signal.SIGTERM)
        assert nobody_left(process.pid)
        assert inside(old.database.parent) == before


def test_ctrl_c_in_a_terminal_is_for_the_run_alone(started: Started, old: Instance) -> None:
    """A terminal sends it to the whole group of processes; the workers are not in it."""
    before = footprint(old.attachments)
    process = started()
    workers = wait_for_workers(process.pid, JOBS)
    assert {os.getpgid(worker) for worker in workers} == workers
    wait_for(process, "copy attachments")
    process.send_signal(signal.SIGINT)
    check_stopped(process, signal.SIGINT)
    assert nobody_left(process.pid)
    is_as_before(old, before)


def test_a_second_signal_leaves_no_worker_either(started: Started, old: Instance) -> None:
    before = footprint(old.attachments)
    process = started()
    wait_for(process, "copy attachments")
    wait_for_workers(process.pid, JOBS)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.005)  # while the workers are being ended
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert nobody_left(process.pid)
    is_as_before(old, before)


@pytest.mark.parametrize("number", CODES)
def test_a_verification_that_is_stopped_leaves_no_worker(
    number: signal.Signals, large: Instance
) -> None:
    before = footprint(large.database.parent)
    process = start_verify(large)
    try:
        wait_for(process, "re-read attachments")
        wait_for_workers(process.pid, JOBS)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        stop(process)
    assert process.returncode == CODES[number]
    assert out == ""
    assert err.splitlines()[-1] == f"error: stopped by {number.name}"
    assert nobody_left(process.pid)
    assert footprint(large.database.parent) == before


def start_verify(instance: Instance, *flags: str) -> "subprocess.Popen[str]":
    """Start a verification by two workers."""
    return start_command("verify", "--jobs", f"{JOBS}", *flags, *to_flags(instance))


def test_a_worker_that_is_told_nothing_ends_without_a_word() -> None:
    """The run was stopped between starting it and telling it what to work on."""
    jobs, told = os.pipe()
    results, said = os.pipe()
    os.close(told)
    try:
        done = subprocess.run(
            [sys.executable, "-c", _BOOT, f"{jobs}", f"{said}", f"{os.getpid()}", *sys.path],
            check=False,
            pass_fds=(jobs, said),
            capture_output=True,
            timeout=60,
        )
    finally:
        for descriptor in (jobs, results, said):
            os.close(descriptor)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


# A worker that is killed


FAILURE = "a worker process ended (killed by SIGKILL)"


def check_failed(process: "subprocess.Popen[str]") -> None:
    """Check the exit code, the one line, and what it says of the destination."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert out == ""
    lines = err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == [f"error: {FAILURE}"]
    assert "note: nothing was published: the destination is as it was" in lines
    assert [line for line in lines if line.startswith("hint: ")] == [
        "hint: if memory ran out (see the kernel log), try again with --jobs 1"
    ]
    assert "Traceback" not in err
    assert nobody_left(process.pid)


@pytest.mark.parametrize("which", ["one", "all"])
def test_a_worker_that_is_killed_fails_the_clone(
    which: str, started: Started, old: Instance, large: Instance
) -> None:
    before, source = footprint(old.attachments), footprint(large.attachments)
    process = started()
    wait_for(process, "copy attachments")
    workers = sorted(wait_for_workers(process.pid, JOBS))
    for worker in workers if which == "all" else workers[:1]:
        os.kill(worker, signal.SIGKILL)
    check_failed(process)
    is_as_before(old, before)
    assert footprint(large.attachments) == source


def test_a_worker_that_is_killed_as_it_starts_fails_the_clone(
    started: Started, old: Instance
) -> None:
    before = footprint(old.attachments)
    process = started()
    deadline = time.monotonic() + 30
    while not (workers := workers_of(process.pid)):
        assert time.monotonic() < deadline
    os.kill(min(workers), signal.SIGKILL)
    check_failed(process)
    is_as_before(old, before)


def test_a_worker_that_is_killed_at_any_moment(
    started: Started, old: Instance, large: Instance
) -> None:
    """It fails the clone; or the clone had no more work for it, and is whole."""
    before = inside(old.database.parent)
    whole = read(large.attachments)
    chance = random.Random(3)  # noqa: S311 - instants
    failed = 0
    for _ in range(6):
        process = started()
        workers = wait_for_workers(process.pid, JOBS)
        time.sleep(chance.uniform(0, 0.4))
        try:
            os.kill(chance.choice(sorted(workers)), signal.SIGKILL)
        except ProcessLookupError:
            stop(process)
            continue
        process.wait(timeout=60)
        if process.returncode == 0:
            stop(process)
            assert read(old.attachments) == whole
            break  # the old pair is gone
        check_failed(process)
        assert inside(old.database.parent) == before
        failed += 1
    assert failed > 1, "most were killed in time"


def test_json_tells_of_a_worker_that_was_killed(started: Started) -> None:
    process = started("--json")
    wait_for(process, "copy attachments")
    os.kill(min(wait_for_workers(process.pid, JOBS)), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.count("error: ") == 1
    assert '"exit_code": 1' in out
    assert FAILURE in out


def test_a_worker_that_is_killed_fails_the_verification(large: Instance) -> None:
    process = start_verify(large)
    try:
        wait_for(process, "re-read attachments")
        os.kill(min(wait_for_workers(process.pid, JOBS)), signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    finally:
        stop(process)
    assert (process.returncode, out) == (1, "")
    assert f"error: {FAILURE}" in err.splitlines()
    assert "Traceback" not in err
    assert nobody_left(process.pid)


# A run that is killed


def test_a_run_that_is_killed_leaves_no_worker_and_the_next_one_succeeds(
    started: Started, old: Instance, large: Instance
) -> None:
    """The lock is the workers' too: it ends with the last of them, and the next run waits for it.

    Nothing may be written to the workspace of a killed run by a worker of it while another run
    clears it away.
    """
    before = read(old.attachments)
    process = started()
    wait_for(process, "copy attachments")
    wait_for_workers(process.pid, JOBS)
    process.kill()
    process.wait(timeout=60)
    again = run("clone", "--force", "--jobs", "2", *from_flags(large), *to_flags(old))
    assert again.code == 0, again.err
    assert nobody_left(process.pid)
    assert read(old.attachments) != before
    assert read(old.attachments) == read(large.attachments)
    assert not list(old.database.parent.glob(".ciso-ops-*"))


def test_a_run_that_is_killed_at_any_moment(
    started: Started, old: Instance, large: Instance
) -> None:
    before = inside(old.database.parent)
    chance = random.Random(11)  # noqa: S311 - instants
    killed = 0
    for _ in range(6):
        process = started()
        wait_for(process, "  profile")
        time.sleep(chance.uniform(0, 0.3))
        process.kill()
        process.wait(timeout=60)
        assert nobody_left(process.pid, GONE_SECONDS)
        if process.returncode == 0:
            break
        killed += 1
        now = inside(old.database.parent)
        assert {path for path in now if not path.startswith(b".ciso-ops-")} == before.keys()
        assert {path: now[path] for path in before} == before
    assert killed > 1, "most were killed in time"
    again = run("clone", "--force", "--jobs", "2", *from_flags(large), *to_flags(old))
    assert again.code == 0, again.err
    assert read(old.attachments) == read(large.attachments)
    assert not list(old.database.parent.glob(".ciso-ops-*"))


def test_a_verification_that_is_killed_leaves_no_worker(large: Instance) -> None:
    process = start_verify(large)
    try:
        wait_for(process, "re-read attachments")
        wait_for_workers(process.pid, JOBS)
        process.kill()
    finally:
        stop(process)
    assert nobody_left(process.pid, GONE_SECONDS)


def test_another_run_is_refused_while_workers_live(
    started: Started, old: Instance, large: Instance
) -> None:
    """Two runs to one place at once: the second is told, whoever of the first has the lock."""
    process = started()
    wait_for(process, "copy attachments")
    workers = wait_for_workers(process.pid, JOBS)
    for worker in workers:  # so that it does not end meanwhile
        os.kill(worker, signal.SIGSTOP)
    second = run("clone", "--force", "--jobs", "2", *from_flags(large), *to_flags(old))
    assert second.code == 6, second.err
    assert "another run is writing to this destination" in second.error_line
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert read(old.attachments) == read(large.attachments)
