"""A clone by several processes that is broken at its file-modifying system calls.

As in `test_injection`, one run for each of them. Which process makes which call when is another
matter in each run, so a number is a moment rather than a certain call.
"""

import errno
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.model import Instance
from tests.faults import FULL
from tests.faults.injection import (
    STOPPING,
    Case,
    Fault,
    Scenario,
    Shape,
    in_parallel,
    killed,
    make_source,
    strike,
)
from tests.faults.test_injection import Bench, benched, judge
from tests.faults.zygote import supported

SHAPE = Shape(name="by two workers", apart=True, manifest=True, jobs="2")
SAMPLE = 8
"""So many runs of each kind in a quick run."""

SEED = 21
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
REST_SECONDS = 0.2

pytestmark = pytest.mark.skipif(
    not supported(), reason="the filter that stops at system calls is for Linux on x86-64"
)


def make_larger_source(directory: Path) -> Instance:
    """Make a source with work for two: directories, and a file that is a job by itself."""
    source = make_source(directory)
    for number in range(5):
        folder = source.attachments / f"folder {number}"
        (folder / "below").mkdir(parents=True)
        for name in range(3):
            (folder / f"{name}").write_bytes(b"%d" % name * 100)
            (folder / "below" / f"{name}").write_bytes(b"%d" % name * 200)
        os.link(folder / "0", folder / "below" / "another")
    with (source.attachments / "large").open("wb") as file:
        file.truncate(9 << 20)  # a hole, which is copied in no time
    time.sleep(REST_SECONDS)
    return source


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Bench]:
    """Make ready."""
    with benched(tmp_path_factory, request) as made:
        source = make_larger_source(made.directory / "source")
        made.add(Scenario(SHAPE, source, made.directory / "place", made.zygotes[0], None))
        yield made


def sampled(count: int) -> list[int]:
    """Take numbers of calls at even distances; all of them in a full run."""
    if FULL:
        return list(range(1, count + 1))
    return sorted({1 + round(at * (count - 1) / (SAMPLE - 1)) for at in range(SAMPLE)})


def strike_all(bench: Bench, faults: list[Fault], *, heal: str = "clone") -> None:
    """Break a run with each fault, and judge what it leaves."""
    scenario = bench.scenario(SHAPE.name)
    cases = [Case(scenario=scenario, fault=fault, heal=heal) for fault in faults]
    judge(bench, SHAPE.name, in_parallel(cases, strike, bench.zygotes))


def test_workers_make_most_of_the_calls(bench: Bench) -> None:
    scenario = bench.scenario(SHAPE.name)
    assert scenario.by_workers > len(scenario.calls) / 3
    assert "openat" in {call[0] for call in scenario.calls}


@pytest.mark.parametrize("heal", ["clone", "recover"])
def test_the_run_is_killed_at_each_call_of_any_process(bench: Bench, heal: str) -> None:
    """No worker is left, and what is left is mended."""
    numbers = sampled(len(bench.scenario(SHAPE.name).calls))
    turn = ("clone", "recover").index(heal)
    strike_all(bench, [killed(at) for at in numbers if FULL or at % 2 == turn], heal=heal)


def test_the_run_is_killed_at_each_call_of_a_worker(bench: Bench) -> None:
    numbers = sampled(bench.scenario(SHAPE.name).by_workers)
    strike_all(
        bench,
        [Fault(action="signal", at=at, number=9, of="worker") for at in numbers],
    )


def test_a_worker_is_killed_at_each_of_its_calls(bench: Bench) -> None:
    """The clone fails with one line, and the destination is as it was."""
    numbers = sampled(bench.scenario(SHAPE.name).by_workers)
    strike_all(
        bench,
        [Fault(action="signal", at=at, number=9, of="worker", victim="caller") for at in numbers],
    )


def test_the_run_is_stopped_by_a_signal_at_each_call_of_a_worker(bench: Bench) -> None:
    numbers = sampled(bench.scenario(SHAPE.name).by_workers)
    strike_all(
        bench,
        [
            Fault(action="signal", at=at, number=STOPPING[turn % len(STOPPING)], of="worker")
            for turn, at in enumerate(numbers)
        ],
    )


@pytest.mark.parametrize("span", ["once", "call", "all"])
def test_a_call_of_a_worker_is_refused(bench: Bench, span: str) -> None:
    numbers = sampled(bench.scenario(SHAPE.name).by_workers)
    chance = random.Random(SEED)  # noqa: S311 - a sample
    errors = ERRORS[:1] if span == "all" else ERRORS
    strike_all(
        bench,
        [
            Fault(action="error", at=at, number=chance.choice(errors), span=span, of="worker")
            for at in numbers
        ],
        heal=chance.choice(("recover", "clone")),
    )
