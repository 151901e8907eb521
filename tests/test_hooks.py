"""Hooks: before and after the work, whatever happens, and told what became of it."""

import itertools
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from ops.cli.clock import CLOCK
from ops.demo_instance import build_instance
from ops.errors import HookError, InterruptedRunError, failure_for
from ops.hooks import Hooks, Surroundings, run_hooked
from ops.interrupts import one_stop
from ops.model import Instance
from ops.schedule.program import installed_command
from ops.store import list_snapshots
from tests.command import PROGRAM, Ran, from_flags, run, run_on_terminal, to_flags
from tests.filesystem import footprint
from tests.processes import SERVICE, held_open, lives, wait_until_gone

NOTE = """
import json, os, sys
told = {name[9:]: value for name, value in os.environ.items() if name.startswith("CISO_OPS_")}
with open(sys.argv[1], "a", encoding="utf-8") as log:
    log.write(json.dumps(told) + chr(10))
"""
"""What every hook of these tests begins with: it notes down what it was told."""


@dataclass(frozen=True)
class Noted:
    """A log of hooks, and the configuration that has them run."""

    log: Path

    def hook(self, code: str = "") -> str:
        """Return a hook that notes down what it is told, and runs some Python."""
        return shlex.join([sys.executable, "-c", NOTE + code, str(self.log)])

    def variables(self, before: str = "", after: str = "", **more: str) -> dict[str, str]:
        """Return the configuration for both hooks, as variables."""
        found = {"before": self.hook(before), "after": self.hook(after), **more}
        return {f"INVOKE_OPS_HOOK_{name.upper()}": value for name, value in found.items()}

    @property
    def told(self) -> list[dict[str, str]]:
        """What each hook was told, in order."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]

    @property
    def phases(self) -> list[str]:
        """Which hooks ran, in order."""
        return [one["PHASE"] for one in self.told]

    def wait_for(self, phase: str) -> None:
        """Wait until a hook runs."""
        deadline = time.monotonic() + 60
        while phase not in self.phases:
            assert time.monotonic() < deadline, self.told
            time.sleep(0.02)


@pytest.fixture
def noted(tmp_path: Path) -> Noted:
    """Make a log."""
    return Noted(tmp_path / "hooks.log")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Name a store that is not there yet."""
    return tmp_path / "store"


def back_up(
    instance: Instance, store: Path, variables: Mapping[str, str], *flags: str | Path
) -> Ran:
    """Make a snapshot."""
    return run(
        "backup-daily", "--store", store, *from_flags(instance), *flags, environment=variables
    )


SUCCESS = {"OUTCOME": "success", "EXIT_CODE": "0", "MESSAGE": ""}


# What they are told


def test_around_a_backup(instance: Instance, store: Path, noted: Noted) -> None:
    stale = {"CISO_OPS_OUTCOME": "stale", "CISO_OPS_MINE": "stale"}
    ran = back_up(instance, store, {**noted.variables(), **stale})
    assert ran.code == 0, ran.err
    (snapshot,) = list_snapshots(store)
    both = {"TASK": "backup-daily", "STORE": str(store)}
    assert noted.told == [
        {**both, "PHASE": "before"},
        {**both, "PHASE": "after", "SNAPSHOT": snapshot.name, **SUCCESS},
    ]


def test_around_a_clone(instance: Instance, destination: Instance, noted: Noted) -> None:
    places = (*from_flags(instance), *to_flags(destination))
    ran = run("clone", "--force", *places, environment=noted.variables())
    assert ran.code == 0, ran.err
    both = {
        "TASK": "clone",
        "DATABASE": str(destination.database),
        "ATTACHMENTS": str(destination.attachments),
    }
    assert noted.told == [{**both, "PHASE": "before"}, {**both, "PHASE": "after", **SUCCESS}]


def test_around_a_restore(
    instance: Instance, destination: Instance, store: Path, noted: Noted
) -> None:
    assert back_up(instance, store, {}).code == 0
    places = ("--store", store, *to_flags(destination))
    ran = run("restore", "--force", *places, environment=noted.variables())
    assert ran.code == 0, ran.err
    both = {
        "TASK": "restore",
        "STORE": str(store),
        "SNAPSHOT": list_snapshots(store)[0].name,
        "DATABASE": str(destination.database),
        "ATTACHMENTS": str(destination.attachments),
    }
    assert noted.told == [{**both, "PHASE": "before"}, {**both, "PHASE": "after", **SUCCESS}]


@pytest.mark.parametrize("which", ["before", "after"])
def test_one_may_be_without_the_other(
    instance: Instance, store: Path, noted: Noted, which: str
) -> None:
    variables = {f"INVOKE_OPS_HOOK_{which.upper()}": noted.hook()}
    assert back_up(instance, store, variables).code == 0
    assert noted.phases == [which]


def test_a_list_in_a_file_and_hardly_an_environment(
    instance: Instance, store: Path, noted: Noted, tmp_path: Path
) -> None:
    """As cron starts things."""
    hook = [sys.executable, "-c", NOTE, str(noted.log)]
    section = {"hook_before": hook, "hook_after": ["true"], "hook_timeout": 30}
    (tmp_path / "invoke.json").write_text(json.dumps({"ops": section}))
    places = [*map(str, from_flags(instance)), "--store", str(store)]
    done = subprocess.run(
        [installed_command(), "backup-daily", *places],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"HOME": str(tmp_path / "home")},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert noted.phases == ["before"]
    assert "hook after …" in done.stderr


def test_the_source_is_looked_at_again_once_the_hook_has_run(
    instance: Instance, store: Path, noted: Noted
) -> None:
    """What the first look found need not be so any more."""
    truncate = f"open({str(instance.database)!r}, 'wb').close()"
    ran = back_up(instance, store, noted.variables(truncate))
    assert ran.code == 3
    assert noted.phases == ["before", "after"]
    told = noted.told[-1]
    assert (told["OUTCOME"], told["EXIT_CODE"]) == ("failure", "3")
    assert ran.error_line == f"error: {told['MESSAGE']}"
    assert not list_snapshots(store) if store.exists() else True


# When they do not run


def test_a_dry_run_runs_none_and_shows_them(
    instance: Instance, destination: Instance, store: Path, noted: Noted
) -> None:
    variables = {"INVOKE_OPS_HOOK_BEFORE": noted.hook(), "INVOKE_OPS_HOOK_AFTER": "true 'a b'"}
    assert back_up(instance, store, {}).code == 0
    places = (*from_flags(instance), *to_flags(destination))
    for words in (
        ("clone", *places),
        ("restore", "--store", store, *to_flags(destination)),
        ("backup-daily", "--store", store, *from_flags(instance)),
    ):
        ran = run(*words, "--dry-run", environment=variables)
        assert ran.code == 0, ran.err
        assert "hook after   true 'a b' (at most 300 seconds)" in ran.out
        document = run(*words, "--dry-run", "--json", environment=variables).document
        assert document["hooks"]["after"] == ["true", "a b"]
    assert noted.told == []


def test_none_runs_where_nobody_answers(
    instance: Instance, destination: Instance, noted: Noted
) -> None:
    places = (*from_flags(instance), *to_flags(destination))
    assert run("clone", *places, environment=noted.variables()).code == 2
    assert noted.told == []


@pytest.mark.parametrize(("answer", "code"), [("n\n", 2), ("y\n", 0)])
def test_they_run_once_the_question_is_answered(
    instance: Instance, destination: Instance, noted: Noted, answer: str, code: int
) -> None:
    def nothing_ran_yet() -> None:
        assert noted.told == []

    ended, screen = run_on_terminal(
        *("clone", *from_flags(instance), *to_flags(destination)),
        answer=answer,
        environment=noted.variables(),
        before_answer=nothing_ran_yet,
    )
    assert ended == code, screen
    assert screen.index("hook before") < screen.index("[y/N]")
    assert noted.phases == ([] if code else ["before", "after"])


def test_none_runs_where_the_plan_cannot_be(
    instance: Instance, destination: Instance, noted: Noted
) -> None:
    instance.database.unlink()
    places = (*from_flags(instance), *to_flags(destination))
    assert run("clone", "--force", *places, environment=noted.variables()).code == 3
    assert noted.told == []


def test_verify_and_single_files_have_none(
    instance: Instance, store: Path, noted: Noted, tmp_path: Path
) -> None:
    assert back_up(instance, store, {}).code == 0
    name = max(instance.attachments.iterdir()).name
    single = ("restore", "--store", store, "--only", name, "--into", tmp_path / "single")
    for words in (("verify", *to_flags(instance)), single):
        assert run(*words, environment=noted.variables()).code == 0
    assert noted.told == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("/nowhere/stop", "/nowhere/stop is not there, or no program"),
        ("no-such-program-here -x", "no-such-program-here is not there"),
        ("{directory}", "is not there, or no program"),
        ("{plain}", "is not there, or no program"),
        ("'", "is not a command"),
    ],
)
def test_one_that_cannot_be_run_is_told_before_anything(
    instance: Instance, store: Path, tmp_path: Path, value: str, says: str
) -> None:
    plain = tmp_path / "plain"
    plain.write_text("#!/bin/sh\n")
    value = value.format(directory=tmp_path, plain=plain)
    before = footprint(tmp_path)
    for which, flags in itertools.product(("before", "after"), ((), ("--dry-run",))):
        ran = back_up(instance, store, {f"INVOKE_OPS_HOOK_{which.upper()}": value}, *flags)
        assert ran.code == 2
        assert f"ops.hook_{which} " in ran.error_line
        assert says in ran.error_line
    assert footprint(tmp_path) == before


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"hook_timeout": "0"}, "ops.hook_timeout must be more than 0 seconds"),
        ({"hook_timeout": "soon"}, "ops.hook_timeout must be a number of seconds"),
        ({"hook_before": 7}, "ops.hook_before must be a list of strings"),
        ({"hook_after": ["true", "a\0b"]}, "ops.hook_after holds a NUL character"),
    ],
)
def test_a_configuration_that_makes_no_sense(
    instance: Instance, store: Path, tmp_path: Path, section: Mapping[str, Any], says: str
) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({"ops": section}))
    places = (*from_flags(instance), "--store", store)
    ran = run("-f", tmp_path / "mine.json", "backup-daily", *places)
    assert ran.code == 2
    assert says in ran.error_line
    assert not store.exists()


# When they fail


def test_a_failure_before_the_work_keeps_it_from_being_begun(
    instance: Instance, store: Path, noted: Noted
) -> None:
    ran = back_up(instance, store, noted.variables("print('no such unit'); sys.exit(5)"))
    assert ran.code == 7
    assert ran.error_line.startswith("error: ops.hook_before failed with exit code 5: ")
    assert ran.hint_line == "hint: nothing was written; see what the hook wrote"
    assert "hook before | no such unit\n" in ran.err
    assert not store.exists()
    assert noted.phases == ["before", "after"]
    told = noted.told[-1]
    assert (told["OUTCOME"], told["EXIT_CODE"]) == ("failure", "7")
    assert told["MESSAGE"] == ran.error_line.removeprefix("error: ")


def test_a_failure_after_the_work_leaves_what_was_published(
    instance: Instance, store: Path, noted: Noted
) -> None:
    variables = noted.variables(after="sys.exit(3)")
    ran = back_up(instance, store, variables, "--json")
    assert ran.code == 7
    assert ran.error_line.startswith("error: ops.hook_after failed with exit code 3: ")
    assert "note: the run itself went well: what it published stays" in ran.err
    (snapshot,) = list_snapshots(store)
    document = ran.document
    assert document["ok"] is False
    assert document["error"]["exit_code"] == 7
    assert document["error"]["notes"] == ["the run itself went well: what it published stays"]
    assert document["snapshot"]["name"] == snapshot.name
    assert run("verify", "--store", store).code == 0


def test_the_work_s_own_failure_comes_first(instance: Instance, store: Path, noted: Noted) -> None:
    truncate = f"open({str(instance.database)!r}, 'wb').close()"
    ran = back_up(instance, store, noted.variables(truncate, "sys.exit(3)"), "--json")
    assert ran.code == 3
    (note,) = ran.document["error"]["notes"]
    assert note.startswith("ops.hook_after failed with exit code 3: ")
    assert f"note: {note}" in ran.err


def test_one_that_takes_too_long_is_ended_with_all_it_started(
    instance: Instance, store: Path, noted: Noted, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    deaf = "trap '' TERM; echo $$ >> " + str(note) + "; sleep 300; sleep 300"
    slow = (
        "import subprocess, time\n"
        f"subprocess.Popen(['sh', '-c', {deaf!r}], stdin=subprocess.DEVNULL)\n"
        "time.sleep(300)"
    )
    ran = back_up(instance, store, noted.variables(slow, timeout="1"))
    assert ran.code == 7
    assert "ops.hook_before did not end within 1 seconds: " in ran.error_line
    assert noted.phases == ["before", "after"]
    wait_until_gone(int(note.read_text()))


def test_one_that_cannot_be_started_after_all(
    instance: Instance, store: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "odd"
    odd.write_bytes(b"\x7fnothing that runs")
    odd.chmod(0o755)
    ran = back_up(instance, store, {"INVOKE_OPS_HOOK_AFTER": str(odd)})
    assert ran.code == 7
    assert f"ops.hook_after cannot be run: Exec format error: {odd}" in ran.error_line
    assert len(list_snapshots(store)) == 1


# What they write


def test_what_they_write_is_shown_and_bounded(
    instance: Instance, store: Path, noted: Noted
) -> None:
    much = "print('x' * 2500); print(chr(27) + '[2J'); [print(n) for n in range(9000)]"
    ran = back_up(instance, store, noted.variables(much), "--json")
    assert ran.code == 0, ran.err
    assert ran.document["ok"] is True
    lines = [line for line in ran.err.splitlines() if line.startswith("hook before | ")]
    assert [len(line) - len("hook before | ") for line in lines[:3]] == [1000, 1000, 500]
    assert lines[3] == "hook before | \\u001b[2J"
    assert lines[-2:] == ["hook before | 195", "hook before | … (the rest is left out)"]


def test_a_quiet_run_shows_it_only_when_something_fails(
    instance: Instance, store: Path, noted: Noted
) -> None:
    well = back_up(instance, store, noted.variables("print('stopped')"), "--quiet")
    assert (well.code, well.out, well.err) == (0, "", "")
    ran = back_up(instance, store, noted.variables("print('stopped')", "sys.exit(1)"), "--quiet")
    assert ran.code == 7
    assert "hook before | stopped\n" in ran.err
    assert "Snapshot " in ran.out
    ran = back_up(instance, store, noted.variables("print('no'); sys.exit(1)"), "--quiet")
    assert ran.code == 7
    assert "hook before | no\n" in ran.err


def test_they_run_although_nobody_listens(instance: Instance, store: Path, noted: Noted) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        process = subprocess.Popen(
            [*PROGRAM, "backup-daily", "--store", store, *from_flags(instance)],
            env={**os.environ, **noted.variables("print('stopped')", "print('started')")},
            stdout=subprocess.DEVNULL,
            stderr=writing,
        )
        assert process.wait(60) == 0
    finally:
        os.close(writing)
    assert noted.phases == ["before", "after"]
    assert len(list_snapshots(store)) == 1


# Signals

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
STAY = "import time; time.sleep(300)"


@contextmanager
def started(variables: Mapping[str, str], *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start the installed command; end it if the test did not."""
    process = subprocess.Popen(
        [installed_command(), *words],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def notes_its_number(path: Path) -> str:
    """Return code with which a hook tells its process."""
    return f"open({str(path)!r}, 'w').write(str(os.getpid())); "


def read_number(path: Path) -> int:
    """Wait for a process to be told, and return it."""
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return int(path.read_text())


@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_the_hook_before_runs(
    instance: Instance, store: Path, noted: Noted, tmp_path: Path, number: signal.Signals
) -> None:
    pid = tmp_path / "pid"
    variables = noted.variables(notes_its_number(pid) + STAY)
    with started(variables, "backup-daily", "--store", store, *from_flags(instance)) as process:
        hook = read_number(pid)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == CODES[number]
    assert f"error: stopped by {number.name}\n" in err
    wait_until_gone(hook)
    assert noted.phases == ["before", "after"]
    assert noted.told[-1]["OUTCOME"] == "interrupted"
    assert noted.told[-1]["EXIT_CODE"] == str(CODES[number])
    assert not store.exists()


@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_the_work_is_done(
    tmp_path: Path, destination: Instance, noted: Noted, number: signal.Signals
) -> None:
    large = build_instance(tmp_path / "large", evidences=3000)
    places = (*from_flags(large), *to_flags(destination))
    with started(noted.variables(), "clone", "--force", *places) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("copy attachments"):
                break
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == CODES[number], err
    assert "note: nothing was published" in err
    assert noted.phases == ["before", "after"]
    assert noted.told[-1]["OUTCOME"] == "interrupted"
    assert noted.told[-1]["MESSAGE"] == f"stopped by {number.name}"
    assert not destination.database.exists()


@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_the_hook_after_runs_waits_for_it(
    instance: Instance, store: Path, noted: Noted, tmp_path: Path, number: signal.Signals
) -> None:
    pid, go, done = tmp_path / "pid", tmp_path / "go", tmp_path / "done"
    slow = (
        f"{notes_its_number(pid)}import time, pathlib\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\n"
        f"pathlib.Path({str(done)!r}).touch()"
    )
    with started(
        noted.variables(after=slow), "backup-daily", "--store", store, *from_flags(instance)
    ) as process:
        read_number(pid)
        process.send_signal(number)
        assert process.stderr is not None
        for line in process.stderr:
            if "another one ends it" in line:
                break
        assert process.poll() is None
        go.touch()
        _, err = process.communicate(timeout=60)
    assert done.exists()
    assert process.returncode == CODES[number]
    assert "note: the run itself had ended well: what it published stays\n" in err
    assert noted.told[-1]["OUTCOME"] == "success"
    assert len(list_snapshots(store)) == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_second_signal_ends_the_hook_after_and_tells_it(
    instance: Instance, store: Path, noted: Noted, tmp_path: Path, *, fails: bool
) -> None:
    pid = tmp_path / "pid"
    variables = noted.variables("sys.exit(1)" * fails, notes_its_number(pid) + STAY)
    with started(variables, "backup-daily", "--store", store, *from_flags(instance)) as process:
        hook = read_number(pid)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == (7 if fails else 143), err
    assert "note: ops.hook_after was ended by a second signal: " in err
    assert not lives(hook)
    assert len(list_snapshots(store)) == (0 if fails else 1) if store.exists() else fails


Work = TypeVar("Work")


def run_in(hooks: Hooks, work: Callable[[], Work]) -> tuple[Work, HookError | None]:
    """Run a function between hooks, in this process."""
    around = Surroundings(known={"TASK": "test"}, tell=lambda _: None, clock=CLOCK)
    return run_hooked(hooks, work, around)


SEND = """
import os, signal, sys, time
run = os.getppid()
if os.fork() == 0:
    os.setsid()
    os.closerange(0, 3)
    time.sleep(float(sys.argv[1]))
    for _ in range(2):
        os.kill(run, signal.SIGTERM)
"""


def test_two_signals_at_any_instant_never_keep_the_hook_after_from_running(noted: Noted) -> None:
    """They come while the hook before runs or has just ended, or while the work is done."""

    def stop(number: int, _frame: object) -> None:
        raise InterruptedRunError(number)

    handler = signal.signal(signal.SIGTERM, stop)
    try:
        for number in range(20):
            hooks = Hooks(
                before=(sys.executable, "-S", "-c", SEND, str(number / 500)),
                after=tuple(shlex.split(noted.hook())),
                environment=dict(os.environ),
            )
            with pytest.raises(InterruptedRunError):
                run_in(hooks, lambda: time.sleep(30))
            assert len(noted.told) == number + 1
    finally:
        signal.signal(signal.SIGTERM, handler)


def test_hooks_work_in_a_thread_of_somebody_else(noted: Noted) -> None:
    hooks = Hooks(before=tuple(shlex.split(noted.hook())), environment=dict(os.environ))
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(run_in(hooks, lambda: 5)))
    thread.start()
    thread.join(60)
    assert results == [(5, None)]
    assert noted.phases == ["before"]


def test_an_unexpected_error_is_told_as_one(noted: Noted) -> None:
    hooks = Hooks(after=tuple(shlex.split(noted.hook())), environment=dict(os.environ))

    def fail() -> None:
        raise ValueError("a\0b \udcff")

    with pytest.raises(ValueError, match="a"):
        run_in(hooks, fail)
    assert noted.told[0]["EXIT_CODE"] == "1"
    assert noted.told[0]["MESSAGE"] == "unexpected: ValueError: a\\0b \\udcff"


def test_a_closed_reader_is_told_as_what_it_is() -> None:
    assert failure_for(BrokenPipeError()).message.startswith("standard output was closed")
    failure = HookError("x")
    assert failure_for(failure) is failure


def test_one_stop_leaves_signals_alone_that_are_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with one_stop() as stops:
            signal.raise_signal(signal.SIGHUP)
            assert not stops.held
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_one_stop_drops_further_ones_of_a_block_that_fails() -> None:
    with pytest.raises(KeyboardInterrupt), one_stop() as stops:  # noqa: PT012 - that is the point
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGINT)
            assert stops.arrived == [signal.SIGINT]


# What they are for


def kill(pid: int) -> str:
    """Return code that ends a process, as a hook does that stops a service."""
    return f"import signal, time; os.kill({pid}, signal.SIGKILL); time.sleep(0.2)"


@pytest.mark.parametrize("task", ["clone", "restore", "restore --no-keep"])
def test_who_has_the_destination_open_is_stopped_by_the_hook(
    instance: Instance, store: Path, noted: Noted, tmp_path: Path, task: str
) -> None:
    copy = build_instance(tmp_path / "copy", evidences=2)
    name, *flags = task.split()
    places: tuple[str | Path, ...] = from_flags(instance)
    if name == "restore":
        assert back_up(instance, store, {}).code == 0
        places = ("--store", store)
    words = (name, *flags, *places, *to_flags(copy))
    with held_open(copy.database, "PRAGMA user_version") as pid:
        assert run(*words, "--force").code == 6
        assert run(*words, "--dry-run").code == 6
        assert run(*words, "--dry-run", environment=noted.variables()).code == 0
        assert noted.told == []
        # A hook that does not free it does not get around the rule.
        assert run(*words, "--force", environment=noted.variables()).code == 6
        assert noted.told[-1]["EXIT_CODE"] == "6"
        assert lives(pid)
        ran = run(*words, "--force", environment=noted.variables(kill(pid)))
        assert ran.code == 0, ran.err
    assert noted.phases == ["before", "after"] * 2
    assert len(list(copy.attachments.iterdir())) == 12


def test_who_keeps_the_source_locked_is_stopped_by_the_hook(
    instance: Instance, store: Path, noted: Noted
) -> None:
    short = {"INVOKE_OPS_LOCK_TIMEOUT": "0.2"}
    with held_open(instance.database, "PRAGMA journal_mode = DELETE", "BEGIN EXCLUSIVE") as pid:
        assert back_up(instance, store, short).code == 6
        hooked = {**short, **noted.variables()}
        assert back_up(instance, store, hooked, "--dry-run").code == 6
        assert noted.told == []
        assert back_up(instance, store, hooked).code == 6
        assert noted.told[-1]["EXIT_CODE"] == "6"
        ran = back_up(instance, store, {**short, **noted.variables(kill(pid))})
        assert ran.code == 0, ran.err
    assert len(list_snapshots(store)) == 1


def test_no_lock_of_ours_is_in_the_way_of_a_hook(
    instance: Instance, store: Path, tmp_path: Path
) -> None:
    """They may verify the source, make a snapshot in the same store, and read the new one."""
    program = installed_command()
    places = " ".join(map(str, to_flags(instance)))
    again = f"{program} backup-daily --store {store} {' '.join(map(str, from_flags(instance)))}"
    before, after = tmp_path / "before", tmp_path / "after"
    before.write_text(f"#!/bin/sh -e\n{program} verify {places}\n{again}\n")
    after.write_text(f"#!/bin/sh -e\n{program} verify --store {store} --snapshot all\n{again}\n")
    for script in (before, after):  # theirs have no hooks
        script.write_text(
            script.read_text().replace(
                "-e\n", "-e\nunset INVOKE_OPS_HOOK_BEFORE INVOKE_OPS_HOOK_AFTER\n"
            )
        )
        script.chmod(0o755)
    variables = {"INVOKE_OPS_HOOK_BEFORE": str(before), "INVOKE_OPS_HOOK_AFTER": str(after)}
    ran = back_up(instance, store, variables)
    assert ran.code == 0, ran.err
    assert len(list_snapshots(store)) == 3


def test_a_service_is_stopped_for_a_snapshot_and_started_again(
    instance: Instance, store: Path, tmp_path: Path
) -> None:
    pid, service = tmp_path / "service.pid", tmp_path / "service.py"
    service.write_text(SERVICE)
    start, stop = tmp_path / "start", tmp_path / "stop"
    words = shlex.join(map(str, (sys.executable, service, instance.database, pid)))
    start.write_text(
        f"#!/bin/sh -e\n{words} </dev/null >/dev/null 2>&1 &\n"
        f"until [ -s {pid} ]; do sleep 0.05; done\necho started\n"
    )
    stop.write_text(
        f"#!/bin/sh -e\nkill -TERM $(cat {pid})\n"
        f"while [ -e {pid} ]; do sleep 0.05; done\necho stopped\n"
    )
    for script in (start, stop):
        script.chmod(0o755)
    subprocess.run([start], check=True)
    variables = {"INVOKE_OPS_HOOK_BEFORE": str(stop), "INVOKE_OPS_HOOK_AFTER": str(start)}
    try:
        first = read_number(pid)
        ran = back_up(instance, store, variables)
        assert ran.code == 0, ran.err
        assert "hook before | stopped\n" in ran.err
        assert "hook after | started\n" in ran.err
        second = read_number(pid)
        assert second != first
        assert lives(second), "what a hook started stays"
    finally:
        for number in {first, read_number(pid)}:
            if lives(number):
                os.kill(number, signal.SIGKILL)
                wait_until_gone(number)
    assert run("verify", "--store", store).code == 0
    (snapshot,) = list_snapshots(store)
    connection = sqlite3.connect(f"file:{snapshot.instance.database}?mode=ro&immutable=1", uri=True)
    numbers = [row[0] for row in connection.execute("SELECT number FROM service ORDER BY rowid")]
    connection.close()
    assert numbers[-1] == 0, "all that the service wrote before it ended"
    assert set(numbers) == {0, first}
