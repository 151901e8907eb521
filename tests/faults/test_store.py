"""Backup, prune and restore, broken at each of their file-modifying system calls.

What is there afterwards is judged without `ops`: by the manifests of the bags, and by the content.
"""

import errno
import hashlib
import os
import re
import shutil
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.demo_instance import build_instance
from ops.model import Instance
from tests.command import from_flags, to_flags
from tests.faults import FULL
from tests.faults.injection import (
    CLEAN,
    Answer,
    Fault,
    Site,
    Zygote,
    in_parallel,
    killed,
    started_zygotes,
)
from tests.faults.zygote import supported
from tests.filesystem import read

pytestmark = pytest.mark.skipif(
    not supported(), reason="the filter that stops at system calls is for Linux on x86-64"
)

_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d{6}Z")
_OWN = ("ciso-ops-store.json", "latest")
STRIDE = 1 if FULL else 4
ERRORS = (errno.EIO, errno.ENOSPC, errno.EACCES) if FULL else (errno.EIO,)


@pytest.fixture(scope="module")
def zygotes() -> Iterator[list[Zygote]]:
    """Keep processes that run the program."""
    with started_zygotes() as started:
        yield started


@dataclass(frozen=True, kw_only=True)
class Place:
    """A store with two snapshots, its source, and a pair that a restore replaces."""

    directory: Path

    @property
    def source(self) -> Instance:
        """The running instance."""
        return _instance(self.directory / "source")

    @property
    def pair(self) -> Instance:
        """Where a restore goes."""
        return _instance(self.directory / "live")

    @property
    def store(self) -> Path:
        """The store."""
        return self.directory / "store"

    def site(self) -> Site:
        """Return where a run takes place."""
        for name in ("home", "tmp"):
            (self.directory / name).mkdir(exist_ok=True)
        roots = (self.store, self.pair.database.parent)
        return Site(directory=self.directory, pair=self.pair, manifest=None, roots=roots)


def _instance(directory: Path) -> Instance:
    database = directory / "db" / "ciso-assistant.sqlite3"
    return Instance(database=database, attachments=database.parent / "attachments")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, zygotes: list[Zygote]) -> Place:
    """Make what every run begins with."""
    place = Place(directory=tmp_path_factory.mktemp("store"))
    build_instance(place.directory / "source", evidences=4)
    build_instance(place.directory / "live", evidences=2)
    for number in range(2):
        (place.source.attachments / f"more {number}").write_text("more")
        made = backup(place, zygotes[0])
        assert made.code == 0, made.err
    return place


def backup(place: Place, zygote: Zygote, fault: Fault = CLEAN) -> Answer:
    """Make a snapshot."""
    flags = ("--store", place.store, *from_flags(place.source))
    return run(place, zygote, fault, "backup-daily", *flags)


def prune(place: Place, zygote: Zygote, fault: Fault = CLEAN) -> Answer:
    """Keep the newest snapshot alone."""
    return run(place, zygote, fault, "prune", "--store", place.store, "--keep-last", "1")


def restore(place: Place, zygote: Zygote, fault: Fault = CLEAN) -> Answer:
    """Put the newest snapshot back over a pair."""
    flags = ("--store", place.store, "--force", *to_flags(place.pair))
    return run(place, zygote, fault, "restore", *flags)


def run(place: Place, zygote: Zygote, fault: Fault, *arguments: str | Path) -> Answer:
    """Run the program, its calls numbered that change the store or the pair."""
    watched = (place.store, place.pair.database.parent)
    return zygote.run(arguments, site=place.site(), watched=watched, fault=fault)


def copied(template: Place, directory: Path) -> Place:
    """Copy the beginning; hard links between snapshots stay."""
    shutil.rmtree(directory, ignore_errors=True)
    os.system(f"cp -a '{template.directory}' '{directory}'")  # noqa: S605 - our own paths
    return Place(directory=directory)


def snapshots(store: Path) -> list[str]:
    """List the names of the snapshots."""
    return sorted(name for name in os.listdir(store) if _NAME.fullmatch(name))


def left_over(place: Place) -> set[str]:
    """List what is none of a store's, nor of a pair's."""
    found = {name for name in os.listdir(place.store) if not _NAME.fullmatch(name)} - {*_OWN}
    pair = {place.pair.database.name, place.pair.attachments.name}
    return found | (set(os.listdir(place.pair.database.parent)) - pair)


def require_whole(snapshot: Path) -> None:
    """See that a snapshot is a whole bag: every file is there and is what its manifest says."""
    for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        listed = set()
        for line in (snapshot / manifest).read_text("utf-8").splitlines():
            digest, _, name = line.partition("  ")
            listed.add(name)
            assert hashlib.sha256((snapshot / name).read_bytes()).hexdigest() == digest, name
        assert listed
    payload = {
        os.path.relpath(os.path.join(parent, name), snapshot)
        for parent, _, names in os.walk(snapshot / "data")
        for name in names
    }
    lines = (snapshot / "manifest-sha256.txt").read_text("utf-8").splitlines()
    assert payload == {line.partition("  ")[2] for line in lines}


def require_latest(store: Path) -> None:
    """See that `latest` names a snapshot that is there."""
    assert os.readlink(store / "latest") in snapshots(store)


def content(instance: Instance) -> tuple[object, object]:
    """Read a pair: all rows, and all files."""
    connection = sqlite3.connect(f"file:{instance.database}?mode=ro&immutable=1", uri=True)
    try:
        rows = list(connection.iterdump())
    finally:
        connection.close()
    return rows, read(instance.attachments, times=False)


def faults(calls: int, *, stride: int = STRIDE) -> Iterator[Fault]:
    """List what is done to a run that makes so many calls."""
    for at in range(1, calls + 1, stride):
        yield killed(at)
    for number, error in enumerate(ERRORS):
        for at in range(2 + number, calls + 1, 2 * stride):
            yield Fault(action="error", at=at, number=error, span="once")
            yield Fault(action="error", at=at, number=error, span="all")
    for at in range(3, calls + 1, 3 * stride):
        yield Fault(action="signal", at=at, number=signal.SIGTERM)


def strike(
    template: Place,
    zygotes: list[Zygote],
    command: Callable[[Place, Zygote, Fault], Answer],
    judge: Callable[[Place, Answer, Zygote], None],
) -> int:
    """Break a command at many of its calls, each on a store of its own; return how many runs."""
    with tempfile.TemporaryDirectory(dir=template.directory.parent) as directory:
        first = copied(template, Path(directory) / "clean")
        calls = len(command(first, zygotes[0], CLEAN).calls)
        assert calls > 10

        def one(numbered: tuple[int, Fault], zygote: Zygote) -> None:
            number, fault = numbered
            place = copied(template, Path(directory) / str(number))
            answer = command(place, zygote, fault)
            words = f"{fault} at {answer.hit}: {answer.code}\n{answer.err}"
            assert answer.in_time, words
            assert answer.alone, words
            assert "Traceback" not in answer.err, words
            try:
                judge(place, answer, zygote)
            except BaseException as failure:
                failure.add_note(words)
                raise
            shutil.rmtree(place.directory)

        listed = list(enumerate(faults(calls)))
        in_parallel(listed, one, zygotes)
        return len(listed)


def test_a_backup_that_is_broken_makes_a_whole_snapshot_or_none(
    template: Place, zygotes: list[Zygote]
) -> None:
    before = snapshots(template.store)

    def judge(place: Place, answer: Answer, zygote: Zygote) -> None:
        now = snapshots(place.store)
        assert now[: len(before)] == before
        assert len(now) <= len(before) + 1
        if answer.code == 0:
            assert len(now) == len(before) + 1
        for name in now:
            require_whole(place.store / name)
        require_latest(place.store)
        again = backup(place, zygote)
        assert again.code == 0, again.err
        assert left_over(place) == set()
        assert len(snapshots(place.store)) == len(now) + 1
        require_whole(place.store / snapshots(place.store)[-1])
        assert os.readlink(place.store / "latest") == snapshots(place.store)[-1]

    assert strike(template, zygotes, backup, judge) > 20


def test_a_pruning_that_is_broken_leaves_whole_snapshots_only(
    template: Place, zygotes: list[Zygote]
) -> None:
    before = snapshots(template.store)

    def judge(place: Place, _answer: Answer, zygote: Zygote) -> None:
        now = snapshots(place.store)
        assert now in ([before[-1]], before)
        for name in now:
            require_whole(place.store / name)
        require_latest(place.store)
        again = prune(place, zygote)
        assert again.code == 0, again.err
        assert snapshots(place.store) == [before[-1]]
        assert left_over(place) == set()
        require_whole(place.store / before[-1])

    assert strike(template, zygotes, prune, judge) > 10


def test_a_restore_over_a_pair_that_is_broken_leaves_the_old_one_or_the_new_one(
    template: Place, zygotes: list[Zygote]
) -> None:
    old, new = content(template.pair), content(template.source)
    assert old != new
    before = snapshots(template.store)

    def judge(place: Place, answer: Answer, zygote: Zygote) -> None:
        settled = run(place, zygote, CLEAN, "recover", *to_flags(place.pair))
        assert settled.code == 0, settled.err
        found = content(place.pair)
        assert found in (old, new)
        if answer.code == 0:
            assert found == new
        now = snapshots(place.store)
        assert set(before) <= set(now)
        for name in now:
            require_whole(place.store / name)
        assert os.readlink(place.store / "latest") == before[-1]
        again = restore(place, zygote)
        assert again.code == 0, again.err
        assert content(place.pair) == new
        assert left_over(place) == set()

    assert strike(template, zygotes, restore, judge) > 20
