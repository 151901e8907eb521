"""Other programs: followed to their end, and ended with all they started, however they behave."""

import os
import signal
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.cli.clock import CLOCK
from ops.commands import Command, by_line, failure_words, run_command
from tests.processes import lives, wait_until_gone

LONG = 60.0


def command(*arguments: str, timeout_seconds: float = LONG) -> Command:
    """Name a command, with this process's environment."""
    return Command(
        arguments=arguments, environment=dict(os.environ), timeout_seconds=timeout_seconds
    )


def shell(code: str, timeout_seconds: float = LONG) -> Command:
    """Name a command that a shell carries out."""
    return command("sh", "-c", code, timeout_seconds=timeout_seconds)


def python(code: str, timeout_seconds: float = LONG) -> Command:
    """Name a command in Python."""
    return command(sys.executable, "-c", code, timeout_seconds=timeout_seconds)


def test_both_streams_come_as_one() -> None:
    pieces: list[bytes] = []
    code = run_command(shell("echo one; echo two >&2; exit 3"), take=pieces.append, clock=CLOCK)
    assert code == 3
    assert b"".join(pieces) == b"one\ntwo\n"
    assert pieces[-1] == b""


@pytest.mark.skipif(sys.platform != "linux", reason="takes /proc, to see the descriptors")
def test_nothing_of_ours_is_handed_down(tmp_path: Path) -> None:
    pieces: list[bytes] = []
    with (tmp_path / "lock").open("wb"):
        names = "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1], os.getsid(0))"
        assert run_command(python(names), take=pieces.append, clock=CLOCK) == 0
    said = b"".join(pieces).decode()
    assert said.startswith("[0, 1, 2] ")
    assert int(said.split()[-1]) != os.getsid(0)


def test_one_that_closes_its_streams_is_waited_for() -> None:
    began = time.monotonic()
    quiet = shell("exec >&- 2>&-; sleep 0.7; exit 4")
    assert run_command(quiet, take=lambda _: None, clock=CLOCK) == 4
    assert 0.7 <= time.monotonic() - began < LONG / 2


def test_one_that_closes_its_streams_and_stays_is_ended() -> None:
    began = time.monotonic()
    quiet = shell("exec >&- 2>&-; sleep 300", 0.5)
    assert run_command(quiet, take=lambda _: None, clock=CLOCK) is None
    assert time.monotonic() - began < LONG / 2


@pytest.mark.parametrize("child", ["sleep 300", "yes"], ids=["silent", "chatty"])
def test_who_keeps_the_streams_open_does_not_hold_us_up(tmp_path: Path, child: str) -> None:
    began, note = time.monotonic(), tmp_path / "pid"
    started = shell(f"{child} & echo $! > {note}")
    assert run_command(started, take=lambda _: None, clock=CLOCK, leave=True) == 0
    assert time.monotonic() - began < LONG / 2
    pid = int(note.read_text())
    if child != "yes":  # that one ends by itself: nobody reads it any more
        os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)


@pytest.mark.parametrize("leave", [True, False])
def test_what_a_command_left_running_stays_where_it_may(tmp_path: Path, *, leave: bool) -> None:
    note = tmp_path / "pid"
    started = shell(f"sleep 300 >/dev/null 2>&1 & echo $! > {note}")
    assert run_command(started, take=lambda _: None, clock=CLOCK, leave=leave) == 0
    pid = int(note.read_text())
    if leave:
        assert lives(pid)
        os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)


def test_all_of_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    deaf = f"sh -c 'trap \"\" TERM; echo $$ > {note}; sleep 300; sleep 300' & wait"
    assert run_command(shell(deaf, 1), take=lambda _: None, clock=CLOCK, leave=True) is None
    wait_until_gone(int(note.read_text()))


def test_one_that_is_told_to_end_may_tidy_up(tmp_path: Path) -> None:
    done = tmp_path / "done"
    # The first to be told ends at once; what it started takes a moment, and is given that.
    tidy = f"sh -c 'trap \"sleep 0.3; touch {done}; exit\" TERM; sleep 300 & wait' & wait"
    assert run_command(shell(tidy, 1), take=lambda _: None, clock=CLOCK) is None
    assert done.exists()


def test_one_is_ended_when_asked(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = run_command(
        shell(f"echo $$ > {note}; sleep 300"),
        take=lambda _: None,
        clock=CLOCK,
        stop=lambda: note.exists() and bool(note.read_text()),
    )
    assert code is None
    wait_until_gone(int(note.read_text()))


def test_one_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run_command(command(str(tmp_path / "none")), take=lambda _: None, clock=CLOCK)


@given(
    lines=st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b""))),
    cuts=st.lists(st.integers(0, 60)),
    longest=st.none() | st.integers(1, 5),
)
def test_pieces_become_lines(lines: list[bytes], cuts: list[int], longest: int | None) -> None:
    text = b"\n".join(lines)
    taken: list[bytes] = []
    cut = by_line(taken.append, longest=longest)
    places = sorted({0, len(text), *(place for place in cuts if place < len(text))})
    for begin, finish in pairwise(places):
        cut(text[begin:finish])
    cut(b"")
    if longest is None:
        assert taken == (lines[:-1] if lines and not lines[-1] else lines)
    else:
        assert all(len(line) <= longest for line in taken)
    assert b"".join(taken) == text.replace(b"\n", b"")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, "did not end within 2.5 seconds"),
        (3, "failed with exit code 3"),
        (-signal.SIGKILL, "was ended by SIGKILL"),
        (-(signal.SIGRTMIN + 1), f"was ended by signal {signal.SIGRTMIN + 1}"),
        (0, ""),
    ],
)
def test_a_failure_is_put_into_words(code: int | None, said: str) -> None:
    assert failure_words(code, 2.5) == said
