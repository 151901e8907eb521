"""Clones of an instance that several processes write to: each whole, nothing committed lost."""

import sqlite3
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.demo_instance import build_instance
from ops.errors import BusyError
from ops.model import Instance
from tests.command import from_flags, run, to_flags
from tests.faults import FULL
from tests.faults.busy import crowd, problems_of


@dataclass(frozen=True)
class Traffic:
    """How an instance is written to while it is cloned, and how often."""

    kind: str
    rate: float
    processes: int
    runs: int
    mode: str = "WAL"
    hold: str = ""


TRAFFIC = {
    "mixed, 50/s": Traffic("mixed", 50, 1, 30 if FULL else 3),
    "mixed, 200/s, 3 processes": Traffic("mixed", 200, 3, 30 if FULL else 3),
    "mixed, 300/s, 4 processes": Traffic("mixed", 300, 4, 10 if FULL else 1),
    "row first, 100/s, 2 processes": Traffic("row-first", 100, 2, 10 if FULL else 2),
    "in place, 50/s, 2 processes": Traffic("in-place", 50, 2, 10 if FULL else 2),
    "rollback mode, 50/s, 2 processes": Traffic("mixed", 50, 2, 10 if FULL else 2, mode="DELETE"),
    "in place, as fast as it goes, held": Traffic(
        "in-place only", 2000, 2, 10 if FULL else 2, hold="5"
    ),
}


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("name", TRAFFIC)
def test_every_clone_is_whole(
    name: str, jobs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By one process, and by several, which copy files while the database is backed up."""
    traffic = TRAFFIC[name]
    source = build_instance(tmp_path / "production", evidences=2000 if FULL else 500)
    connection = sqlite3.connect(source.database)
    connection.execute(f"PRAGMA journal_mode = {traffic.mode}")
    connection.close()
    rounds: list[int] = []
    pins: list[float] = []
    broken: list[str] = []
    busy_exits = 0
    with crowd(
        source, tmp_path, kind=traffic.kind, rate=traffic.rate, processes=traffic.processes
    ) as writers:
        for number in range(traffic.runs):
            place = tmp_path / f"copy-{number}"
            copy = Instance(database=place / "db", attachments=place / "attachments")
            hold = ("--hold-writers", traffic.hold) if traffic.hold else ()
            flags = ("--jobs", jobs, *hold)
            began = time.monotonic()
            ran = run("clone", "--force", "--json", *flags, *from_flags(source), *to_flags(copy))
            ended = time.monotonic()
            if ran.code == BusyError.exit_code and traffic.kind.startswith("in-place"):
                assert not place.exists()
                busy_exits += 1
                continue
            assert ran.code == 0, ran.err
            rounds.append(ran.document["captured"]["rounds"])
            pins.append(ran.document["captured"]["pinned_seconds"])
            must = writers.must_hold(began, ended)
            broken += [f"{number}: {one}" for one in problems_of(copy, must)]
        writers.stop()
    beside = {path.name for path in source.database.parent.iterdir()}
    own = {source.database.name + suffix for suffix in ("", "-wal", "-shm", "-journal")}
    with capsys.disabled():
        sys.stdout.write(
            f"\n{name}, {jobs} jobs: {traffic.runs} runs, {len(rounds)} cloned, {busy_exits} busy, "
            f"{len(broken)} problems; rounds median {statistics.median(rounds or [0]):g}, most "
            f"{max(rounds, default=0)}; {writers.done} commits, longest wait "
            f"{writers.longest_wait * 1000:.0f} ms; longest pin "
            f"{max(pins, default=0) * 1000:.0f} ms\n"
        )
    assert broken == []
    assert beside <= {*own, "attachments"}
    if not traffic.kind.startswith("in-place"):
        assert len(rounds) == traffic.runs
