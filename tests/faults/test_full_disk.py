"""Really full disks, by bytes and by inodes: the old pair stays, and one line says why."""

import itertools
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from ops.clone import Plan, run_clone
from ops.demo_instance import build_instance
from ops.errors import DestinationError
from ops.model import Instance, Progress
from tests.faults import FULL
from tests.filesystem import footprint, read
from tests.mounting import tmpfs
from tests.pipeline import CLOCK, check, clone, plan, request_for
from tests.swaps import killed_run

MORE_STEPS = ("copy database", "write to disk") if FULL else ()
STEPS = ("begin", "copy attachments", "publish", *MORE_STEPS)
"""When the disk fills up."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """Make an instance of some 700 KiB."""
    return build_instance(tmp_path_factory.mktemp("source"), evidences=30)


def old_pair(directory: Path) -> Instance:
    """Make a pair that stands at the destination."""
    return build_instance(directory, evidences=3, seed=9)


def fill_up(directory: Path, *, leave_bytes: int = 0, leave_inodes: int | None = None) -> None:
    """Write ballast until only so much is free."""
    ballast = directory / "ballast"
    ballast.mkdir(exist_ok=True)
    with (ballast / "bytes").open("ab") as file:
        while (free := _free_bytes(directory) - leave_bytes) > 0:
            file.write(bytes(min(free, 1 << 20)))
            file.flush()
    if leave_inodes is not None:
        for number in itertools.count():
            if os.statvfs(directory).f_favail <= leave_inodes:
                break
            (ballast / str(number)).touch()


def _free_bytes(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize // 4096 * 4096


def free_up(directory: Path) -> None:
    """Remove the ballast."""
    for path in (directory / "ballast").iterdir():
        path.unlink()
    (directory / "ballast").rmdir()


def run_while(planned: Plan, step: str, act: Callable[[], None]) -> None:
    """Run a plan and do something the first time that a step tells of itself."""
    done: list[str] = []

    def progress(now: Progress) -> None:
        if now.step == step and not done:
            done.append(step)
            act()

    if step == "begin":
        act()
    run_clone(planned, clock=CLOCK, progress=progress)


@contextmanager
def two_disks(*, apart: bool) -> Iterator[tuple[Path, Path]]:
    """Mount one small disk, or two."""
    with tmpfs("8m", options="nr_inodes=400") as one:
        if not apart:
            yield one, one
            return
        with tmpfs("8m", options="nr_inodes=400") as two:
            yield one, two


def failure_of(act: Callable[[], object]) -> DestinationError | None:
    """Do something and return how it failed, if it did."""
    try:
        act()
    except DestinationError as error:
        return error
    return None


UNTOUCHED = "nothing was published: the destination is as it was"
LEVELS = range(0, 900, 20) if FULL else range(0, 900, 300)
INODES = range(0, 60, 2) if FULL else range(0, 60, 25)


@pytest.mark.parametrize("apart", [False, True], ids=["one disk", "two disks"])
@pytest.mark.parametrize("step", STEPS)
def test_a_disk_that_fills_up(
    step: str, source: Instance, capsys: pytest.CaptureFixture[str], *, apart: bool
) -> None:
    counts: Counter[str] = Counter()
    cases = [(level * 1024, None) for level in LEVELS] + [(0, inodes) for inodes in INODES]
    for number, (leave_bytes, inodes) in enumerate(cases):
        with two_disks(apart=apart) as (one, two):
            pair = old_pair(one)
            if apart:
                shutil.move(pair.attachments, two / "tree")
                pair = Instance(database=pair.database, attachments=two / "tree")
            manifest = one / "manifest"
            disk = (one, two)[number % 2]
            planned = plan(request_for(source, pair, manifest=manifest))
            before = (footprint(pair.attachments), pair.database.read_bytes())

            def act(
                disk: Path = disk, leave: int = leave_bytes, inodes: int | None = inodes
            ) -> None:
                if inodes is None:
                    fill_up(disk, leave_bytes=leave)
                else:
                    fill_up(disk, leave_bytes=4 << 20, leave_inodes=inodes)

            failure = failure_of(partial(run_while, planned, step, act))
            if failure is None:
                counts["fitted"] += 1
                assert read(pair.attachments) == read(source.attachments)
            else:
                counts["refused"] += 1
                assert "No space left on device" in failure.message or "is full" in failure.message
                assert str(disk) in failure.message
                assert failure.__notes__ == [UNTOUCHED]
                assert (footprint(pair.attachments), pair.database.read_bytes()) == before
                assert not manifest.exists()
            assert not [*one.rglob(".ciso-ops-*"), *two.rglob(".ciso-ops-*")]
            free_up(disk)
            clone(source, pair, manifest=manifest)
            assert check(pair, source=source).findings == ()
            assert check(pair, manifest=manifest).findings == ()
    with capsys.disabled():
        sys.stdout.write(f"\n{step}, {'two disks' if apart else 'one disk'}: {dict(counts)}\n")
    assert sum(counts.values()) == len(cases)


def test_disks_of_many_sizes(source: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan refuses what will not fit, and what it lets through fits."""
    counts: Counter[str] = Counter()
    sizes = range(400, 3000, 25) if FULL else range(400, 3000, 400)
    for size, inodes in [(size, 0) for size in sizes] + [
        (8192, n) for n in range(25, 130, 7 if FULL else 30)
    ]:
        with tmpfs(f"{size}k", options=f"nr_inodes={inodes}") as disk:
            pair = old_pair(disk)
            before = read(disk, times=False)
            failure = failure_of(partial(clone, source, pair))
            if failure is None:
                counts["fitted"] += 1
                assert check(pair, source=source).findings == ()
            else:
                counts["refused"] += 1
                assert "no room" in failure.message or "No space left" in failure.message
                assert read(disk, times=False) == before
            assert not list(disk.rglob(".ciso-ops-*"))
    with capsys.disabled():
        sys.stdout.write(f"\ndisks of many sizes: {dict(counts)}\n")
    assert counts["refused"]
    assert counts["fitted"]


def test_what_a_killed_run_left_does_not_stop_the_next_for_want_of_room(
    source: Instance,
) -> None:
    with tmpfs("3m") as disk:
        pair = old_pair(disk)
        killed_run(pair, changes=None)
        (left,) = (path for path in pair.database.parent.glob(".ciso-ops-*/new") if path.is_file())
        left.write_bytes(bytes(1 << 20))
        fill_up(disk, leave_bytes=4096)
        ballast = disk / "ballast" / "bytes"
        os.truncate(ballast, max(0, ballast.stat().st_size - (800 << 10)))
        clone(source, pair)
        assert check(pair, source=source).findings == ()
