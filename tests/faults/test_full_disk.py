"""Disks that are full for real, from the first byte to the last inode: the old pair stays."""

import os
import re
import shutil
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from ops.clone import Request, run_clone
from ops.demo_instance import build_instance, connect, insert_evidence
from ops.errors import DestinationError, OpsError
from ops.model import Instance, Progress
from ops.recover import recover
from ops.spaces import space_beside
from tests.command import from_flags, run_here, to_flags
from tests.faults import FULL
from tests.faults.pairs import is_copy, left_over, pair_state, rows, state
from tests.filesystem import footprint
from tests.mounting import tmpfs
from tests.pipeline import CLOCK, plan, quiet, request_for
from tests.swaps import killed_run, pair_of

AMPLE = "4m"
INODES = 100

LAST_OF_THE_SWAP = 4
"""Link, rename, and twice a rename: after so many all is in place."""


@dataclass(frozen=True)
class Source:
    """An instance to copy, and its rows as the application knows them."""

    instance: Instance
    rows: list[tuple[object, ...]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Make an instance with directories in its attachments; no test changes it."""
    made = build_instance(tmp_path_factory.mktemp("source"), evidences=4, seed=1)
    for number in range(3):
        (made.attachments / f"directory {number}").mkdir()
        (made.attachments / f"directory {number}" / "file").write_bytes(bytes(5000))
    return Source(made, rows(made.database))


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Make one whose application was killed: a WAL without its index, recovered in a copy."""
    return crash(build_instance(tmp_path_factory.mktemp("crashed"), evidences=3, seed=1), 2)


def crash(instance: Instance, evidences: int) -> Source:
    """Add evidences that are in the WAL only, which stays."""
    connection = connect(instance.database)
    for number in range(evidences):
        insert_evidence(connection, instance.attachments, f"late {number}.txt", bytes(9000))
    wal = instance.database.with_name(instance.database.name + "-wal")
    kept = instance.database.read_bytes(), wal.read_bytes()
    found = connection.execute("SELECT * FROM core_evidencerevision ORDER BY id").fetchall()
    connection.close()
    instance.database.write_bytes(kept[0])
    wal.write_bytes(kept[1])
    return Source(instance, found)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """Make what the old pairs look like."""
    made = build_instance(tmp_path_factory.mktemp("pattern"), evidences=2, seed=2)
    (made.attachments / "only in the old one").mkdir(mode=0o750)
    made.database.chmod(0o640)
    os.utime(made.attachments, ns=(1, 1_600_000_000_123_456_789))
    os.utime(made.database, ns=(1, 1_600_000_000_987_654_321))
    return made


@dataclass
class Room:
    """A small file system, and what takes its room up."""

    point: Path

    @property
    def ballast(self) -> Path:
        """Where the filler is."""
        return self.point / "ballast"

    def fill(self, unit: str, left: int) -> None:
        """Leave so many pages or inodes and no more."""
        self.ballast.mkdir()
        (self.ballast / "bytes").touch()
        before = os.statvfs(self.point)
        if unit == "inodes":
            for number in range(before.f_favail - left):
                (self.ballast / str(number)).touch()
        elif before.f_bavail > left:
            size = (before.f_bavail - left) * before.f_frsize
            with (self.ballast / "bytes").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        after = os.statvfs(self.point)
        assert (after.f_favail if unit == "inodes" else after.f_bavail) <= left

    def free(self) -> None:
        """Remove the filler."""
        if self.ballast.exists():
            for path in self.ballast.iterdir():
                path.unlink()
            self.ballast.rmdir()


@contextmanager
def rooms(count: int = 1, *, size: str = AMPLE, inodes: int = INODES) -> Iterator[list[Room]]:
    """Mount some small file systems."""
    with ExitStack() as stack:
        options = f"nr_inodes={inodes}"
        yield [Room(stack.enter_context(tmpfs(size, options=options))) for _ in range(count)]


@dataclass
class Tally:
    """What happened over many runs, where the disk was full, and what was told otherwise."""

    ends: Counter[str] = field(default_factory=Counter)
    hit: Counter[str] = field(default_factory=Counter)
    astray: list[str] = field(default_factory=list)

    def say(self, capsys: pytest.CaptureFixture[str], what: str) -> None:
        """Print the figures."""
        with capsys.disabled():
            sys.stdout.write(f"\n{what}: {dict(self.ends)}; full at {dict(self.hit)}\n")


@dataclass
class Trial:
    """An old pair on small file systems, which is to be replaced while they are full."""

    source: Source
    pattern: Instance
    rooms: list[Room]
    tally: Tally = field(default_factory=Tally)
    runs: int = 0

    @property
    def points(self) -> list[Path]:
        """Where the file systems are."""
        return [room.point for room in self.rooms]

    @property
    def old(self) -> Instance:
        """The pair: its database on the first, its attachments on the last file system."""
        return Instance(database=self.points[0] / "db", attachments=self.points[-1] / "files")

    @property
    def manifest(self) -> Path:
        """Beside the database."""
        return self.points[0] / "manifest"

    def make(self) -> None:
        """Put the old pair there, in the stead of whatever is there."""
        shutil.rmtree(self.old.attachments, ignore_errors=True)
        for path in (self.old.database, self.manifest):
            path.unlink(missing_ok=True)
        shutil.copy2(self.pattern.database, self.old.database)
        shutil.copytree(self.pattern.attachments, self.old.attachments)

    def run(self, at: str, fill: Callable[[], None]) -> str:
        """Run, with the disk filled up as a step begins; return the failure, if any."""
        self.runs += 1
        if not self.old.database.exists():
            self.make()
        before = pair_state(self.old)
        directory = self.source.instance.database.parent
        untouched = footprint(directory, ctime=False)
        pending = [fill]

        def watch(progress: Progress) -> None:
            if progress.step == at and pending:
                pending.pop()()

        failure = ""
        planned = plan(self.request)
        watch(Progress(step=PLANNED))
        try:
            run_clone(planned, clock=CLOCK, progress=watch)
        except OpsError as error:
            failure = error.message
            self.tally.astray += what_is_wrong(error, self.points)
            self.tally.hit[place_of(failure)] += 1
            assert pair_state(self.old) == before
            assert not self.manifest.exists()
        assert not pending, "the step came"
        self.tally.ends["old" if failure else "new"] += 1
        assert left_over(*self.points) == []
        for room in self.rooms:
            room.free()
        if FULL or not failure or self.runs % 8 == 0:
            if failure:
                run_clone(plan(self.request), clock=CLOCK, progress=quiet)
            assert is_copy(self.old, self.source.instance, self.source.rows)
            assert self.manifest.exists()
            assert left_over(*self.points) == []
            self.make()
        assert footprint(directory, ctime=False) == untouched
        return failure

    @property
    def request(self) -> Request:
        """What is asked for."""
        return request_for(self.source.instance, self.old, manifest=self.manifest)


MOST_CLOSELY = 8
PLANNED = "planned"
STEPS = (PLANNED, "copy attachments", "copy database", "write to disk", "publish")
"""When the disk is filled up: as these begin."""

PLACES = {
    "plan": r"no room on the file system of ",
    "workspace": r"create a workspace in ",
    "note of places": r"\.ciso-ops-\w+/places",
    "journal": r"\.ciso-ops-\w+/draft",
    "old": r"\.ciso-ops-\w+/old",
    "scratch": r"\.ciso-ops-\w+/scratch",
    "attachments": r"\.ciso-ops-\w+/new/",
    "manifest": r"the manifest .*\.ciso-ops-\w+/new",
    "database": r"cannot write .*\.ciso-ops-\w+/new",
    "wal of the old": "cannot merge the WAL",
}


def place_of(failure: str) -> str:
    """Tell which part of the work a message names."""
    for place, known in PLACES.items():
        if re.search(known, failure):
            return place
    return re.sub(r"/\S*/|: .*", "", failure)


CAUSES = re.compile(r"No space left|disk is full|(bytes|inodes) needed")
SQLITE_SAYS = re.compile(r"unable to open database file|disk I/O error")
"""All that SQLite tells where it cannot make a journal or a wal-index."""


def what_is_wrong(error: OpsError, points: list[Path]) -> list[str]:
    """Ask for one line that names a path on one of the disks, and the cause; else return it."""
    said = f"{type(error).__name__}: {error.message}"
    right = (
        isinstance(error, DestinationError)
        and "\n" not in error.message
        and any(str(point) in error.message for point in points)
        and (CAUSES.search(error.message) or SQLITE_SAYS.search(error.message))
        and error.hint
    )
    return [] if right else [said]


UNITS = ("pages", "inodes")


def until_it_fits(trial: Trial, at: str, unit: str, full: int = 0) -> None:
    """Run with more and more room, from none at all, until it is enough twice in a row."""
    trial.make()
    fits = 0
    for left in range(200):
        if unit == "pages" and not FULL and left > MOST_CLOSELY and left % 3:
            continue
        failure = trial.run(at, partial(trial.rooms[full].fill, unit, left))
        fits = 0 if failure else fits + 1
        if fits == 2:
            return
    pytest.fail("it never was enough")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("at", STEPS)
def test_a_disk_that_fills_up(
    at: str, unit: str, source: Source, pattern: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    with rooms() as all_rooms:
        trial = Trial(source, pattern, all_rooms)
        until_it_fits(trial, at, unit)
        trial.tally.say(capsys, f"filled at {at!r}, {unit}")
        assert trial.tally.astray == []
        assert at != "publish" or trial.tally.hit["journal"]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("full", [0, 1], ids=["database", "attachments"])
def test_one_of_two_disks_that_fills_up(
    full: int, unit: str, source: Source, pattern: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    with rooms(2) as all_rooms:
        for at in STEPS if FULL else (PLANNED, "publish"):
            trial = Trial(source, pattern, all_rooms)
            until_it_fits(trial, at, unit, full)
            trial.tally.say(capsys, f"{'attachments' if full else 'database'} at {at!r}, {unit}")
            assert trial.tally.astray == []
            assert at != "publish" or trial.tally.hit["journal"]


@pytest.mark.parametrize("unit", UNITS)
def test_a_disk_without_room_to_recover_a_source(
    unit: str, crashed: Source, pattern: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    """A database with a WAL alone is copied to the destination's disk to be read."""
    with rooms() as all_rooms:
        trial = Trial(crashed, pattern, all_rooms)
        until_it_fits(trial, PLANNED, unit)
        trial.tally.say(capsys, f"recovery of the source, {unit}")
        assert trial.tally.hit["scratch"]
        assert {said.partition(":")[0] for said in trial.tally.astray} <= {"SourceError"}


@pytest.mark.parametrize("unit", UNITS)
def test_a_full_scratch_directory_is_the_destination_s(
    unit: str, crashed: Source, pattern: Instance
) -> None:
    with rooms() as all_rooms:
        trial = Trial(crashed, pattern, all_rooms)
        until_it_fits(trial, PLANNED, unit)
        assert trial.tally.astray == []


def test_no_room_for_temporary_files(
    crashed: Source,
    pattern: Instance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """To look at such a source takes a copy of it as well."""
    old = Instance(database=tmp_path / "db", attachments=tmp_path / "files")
    shutil.copy2(pattern.database, old.database)
    shutil.copytree(pattern.attachments, old.attachments)
    before, untouched = pair_state(old), footprint(crashed.instance.database.parent)
    tally = Tally()
    with rooms() as (room,):
        monkeypatch.setattr(tempfile, "tempdir", str(room.point))
        monkeypatch.setenv("TMPDIR", str(room.point))
        for unit, left in [(unit, left) for unit in UNITS for left in range(60 if FULL else 12)]:
            room.fill(unit, left)
            ran = run_here(capsys, *clone_flags(crashed, old))
            room.free()
            assert left_over(room.point, tmp_path) == []
            tally.ends["old" if ran.code else "new"] += 1
            if ran.code:
                assert ran.code == 4, ran.err
                assert str(room.point) in ran.error_line
                tally.hit[place_of(ran.error_line)] += 1
                assert pair_state(old) == before
            else:
                assert is_copy(old, crashed.instance, crashed.rows)
                break
    assert footprint(crashed.instance.database.parent) == untouched
    assert tally.ends["old"]
    tally.say(capsys, "temporary files")


def clone_flags(source: Source, old: Instance) -> tuple[str | Path, ...]:
    """Ask for a clone."""
    return "clone", "--force", *from_flags(source.instance), *to_flags(old)


@pytest.mark.parametrize("unit", UNITS)
def test_small_disks_of_every_size(
    unit: str, source: Source, pattern: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    """Room is counted first, so that nothing is written in vain; where it fits it is written."""
    tally = Tally()
    step = (1 if FULL else 4) if unit == "inodes" else (1 if FULL else 12)
    sizes = range(24, 80, step) if unit == "inodes" else range(60, 460, step)
    for number in sizes:
        size, inodes = (AMPLE, number) if unit == "inodes" else (f"{number * 4}k", INODES)
        with rooms(size=size, inodes=inodes) as all_rooms:
            trial = Trial(source, pattern, all_rooms, tally)
            trial.make()
            before = pair_state(trial.old)
            ran = run_here(capsys, *clone_flags(source, trial.old), "--manifest", trial.manifest)
            assert left_over(*trial.points) == []
            tally.ends["old" if ran.code else "new"] += 1
            if ran.code:
                assert ran.code == 4, ran.err
                assert str(trial.points[0]) in ran.error_line
                tally.hit[place_of(ran.error_line)] += 1
                assert pair_state(trial.old) == before
            else:
                assert is_copy(trial.old, source.instance)
    tally.say(capsys, f"small disks, {unit}")
    assert tally.ends["old"]
    assert tally.ends["new"]
    assert set(tally.hit) == {"plan"}


@pytest.mark.parametrize("unit", UNITS)
def test_an_old_wal_that_cannot_be_merged(
    unit: str,
    source: Source,
    pattern: Instance,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The old pair says what it said, whether its WAL was merged or not."""
    template = Instance(database=tmp_path / "db", attachments=tmp_path / "files")
    shutil.copy2(pattern.database, template.database)
    shutil.copytree(pattern.attachments, template.attachments)
    crash(template, 1)
    connection = sqlite3.connect(template.database)
    connection.execute("CREATE TABLE more AS SELECT randomblob(30000) AS a")
    connection.commit()
    wal = template.database.with_name("db-wal")
    pieces = template.database.read_bytes(), wal.read_bytes()
    expected = contents(connection)
    connection.close()
    tally = Tally()
    for left in range(0, 30, 1 if FULL else 3):
        with rooms() as all_rooms:
            trial = Trial(source, template, all_rooms)
            shutil.copytree(template.attachments, trial.old.attachments)
            trial.old.database.write_bytes(pieces[0])
            trial.old.database.with_name("db-wal").write_bytes(pieces[1])
            files = state(trial.old.attachments)
            pending = [left]

            def watch(progress: Progress) -> None:
                if progress.step == "publish" and pending:  # noqa: B023 - called at once
                    all_rooms[0].fill(unit, pending.pop())  # noqa: B023

            try:
                run_clone(plan(trial.request), clock=CLOCK, progress=watch)
            except DestinationError as error:
                tally.ends["old"] += 1
                tally.hit[place_of(error.message)] += 1
                tally.astray += what_is_wrong(error, trial.points)
                all_rooms[0].free()
                assert state(trial.old.attachments) == files
                connection = sqlite3.connect(trial.old.database)
                assert contents(connection) == expected
                connection.close()
                run_clone(plan(trial.request), clock=CLOCK, progress=quiet)
            else:
                tally.ends["new"] += 1
            assert is_copy(trial.old, source.instance)
            assert left_over(*trial.points) == []
    tally.say(capsys, f"an old WAL, {unit}")
    assert tally.astray == []
    assert tally.ends["old"]
    assert tally.ends["new"]


def contents(connection: sqlite3.Connection) -> list[str]:
    """Read everything that a database says."""
    return list(connection.iterdump())


@pytest.mark.parametrize("unit", UNITS)
def test_a_full_disk_hinders_no_recovery(unit: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What a killed run left on a full disk is removed, or completed, without more room."""
    ends: Counter[str] = Counter()
    for changes in (None, *range(LAST_OF_THE_SWAP + 1)):
        for tool in (recover_both, recover_one):
            with rooms(2) as all_rooms:
                points = [room.point for room in all_rooms]
                old = Instance(database=points[0] / "db", attachments=points[1] / "files")
                old.database.write_bytes(b"old")
                old.attachments.mkdir()
                (old.attachments / "file").write_bytes(b"old")
                killed_run(old, changes=changes)
                for room in all_rooms:
                    room.fill(unit, 0)
                tool(old)
                ends[f"{changes} -> {pair_of(old)}"] += 1
                assert pair_of(old) == ("old" if changes in {None, 0, 1} else "new")
                assert left_over(*points) == []
    with capsys.disabled():
        sys.stdout.write(f"\nrecovery on a full disk, {unit}: {dict(ends)}\n")


def recover_both(old: Instance) -> None:
    """Recover a pair."""
    recover([old.database, old.attachments])


def recover_one(old: Instance) -> None:
    """Recover it from its attachments."""
    recover([old.attachments])


@pytest.mark.parametrize("changed", [False, True], ids=["same places", "a manifest more"])
def test_left_overs_that_fill_the_disk_make_room(
    source: Source, pattern: Instance, *, changed: bool
) -> None:
    """The next clone removes them first, and counts on it; at the latest the one after it."""
    with rooms(size="2m") as all_rooms:
        trial = Trial(source, pattern, all_rooms)
        trial.make()
        before = pair_state(trial.old)
        killed_run(trial.old, changes=None)
        litter = space_beside(trial.old.database) / "new"
        with litter.open("wb") as file:
            free = os.statvfs(trial.points[0])
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)
        assert os.statvfs(trial.points[0]).f_bavail == 0
        if changed:  # what more there is to note has no room
            with pytest.raises(DestinationError, match="No space left"):
                run_clone(plan(trial.request), clock=CLOCK, progress=quiet)
            assert pair_state(trial.old) == before
            assert left_over(*trial.points) == []
        request = trial.request if changed else replace(trial.request, manifest=None)
        run_clone(plan(request), clock=CLOCK, progress=quiet)
        assert is_copy(trial.old, source.instance)
        assert left_over(*trial.points) == []
