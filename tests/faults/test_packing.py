"""Packing and unpacking, broken at each of their file-modifying system calls.

What is there afterwards is judged without `ops`: by the manifests of the bags.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archives import parts_of, stretch
from tests.faults.injection import CLEAN, Answer, Fault, Site, Zygote, started_zygotes
from tests.faults.test_store import Place, backup, require_whole, snapshots, strike
from tests.faults.zygote import supported

pytestmark = pytest.mark.skipif(
    not supported(), reason="the filter that stops at system calls is for Linux on x86-64"
)


@pytest.fixture(scope="module")
def zygotes() -> Iterator[list[Zygote]]:
    """Keep processes that run the program."""
    with started_zygotes() as started:
        yield started


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, zygotes: list[Zygote]) -> Place:
    """Make what every run begins with: a store with a snapshot, and an archive of it."""
    from ops.demo_instance import build_instance

    place = Place(directory=tmp_path_factory.mktemp("packing"))
    build_instance(place.directory / "source", evidences=4)
    build_instance(place.directory / "live", evidences=1)
    for directory in (out(place), other(place)):
        directory.mkdir()
    assert backup(place, zygotes[0]).code == 0
    made = pack(place, zygotes[0])
    assert made.code == 0, made.err
    (out(place) / "a.tar.zst").rename(place.directory / "good.tar.zst")
    return place


def out(place: Place) -> Path:
    """Name the directory of the archive."""
    return place.directory / "out"


def other(place: Place) -> Path:
    """Name the store that is unpacked into."""
    return place.directory / "other"


def run(place: Place, zygote: Zygote, fault: Fault, *arguments: str | Path) -> Answer:
    """Run the program, its calls numbered that change the archive or the other store."""
    usual = place.site()
    roots = (out(place), other(place))
    site = Site(directory=usual.directory, pair=usual.pair, manifest=None, roots=roots)
    return zygote.run(arguments, site=site, watched=roots, fault=fault)


def pack(place: Place, zygote: Zygote, fault: Fault = CLEAN) -> Answer:
    """Pack the snapshot, over an older archive if there is one."""
    archive = out(place) / "a.tar.zst"
    return run(
        place, zygote, fault, "pack", "--store", place.store, "--archive", archive, "--force"
    )


def unpack(place: Place, zygote: Zygote, fault: Fault = CLEAN) -> Answer:
    """Unpack the archive into the other store."""
    archive = place.directory / "good.tar.zst"
    return run(place, zygote, fault, "unpack", "--archive", archive, "--store", other(place))


def test_a_packing_that_is_broken_leaves_a_whole_archive_or_none(
    template: Place, zygotes: list[Zygote]
) -> None:
    wanted = parts_of(stretch(template.directory / "good.tar.zst"))

    def judge(place: Place, answer: Answer, zygote: Zygote) -> None:
        archive = out(place) / "a.tar.zst"
        if answer.code == 0:
            assert archive.exists()
        if archive.exists():
            assert parts_of(stretch(archive)) == wanted
        again = pack(place, zygote)
        assert again.code == 0, again.err
        assert os.listdir(out(place)) == [archive.name]
        assert parts_of(stretch(archive)) == wanted
        for name in snapshots(place.store):
            require_whole(place.store / name)

    assert strike(template, zygotes, pack, judge) > 5


def test_an_unpacking_that_is_broken_leaves_a_whole_snapshot_or_none(
    template: Place, zygotes: list[Zygote]
) -> None:
    (name,) = snapshots(template.store)

    def judge(place: Place, answer: Answer, zygote: Zygote) -> None:
        store = other(place)
        now = snapshots(store)
        assert now in ([], [name])
        if answer.code == 0:
            assert now == [name]
        if now:
            require_whole(store / name)
            shutil.rmtree(store / name)
        again = unpack(place, zygote)
        assert again.code == 0, again.err
        assert sorted(os.listdir(store)) == [name, "ciso-ops-store.json", "latest"]
        require_whole(store / name)
        assert os.readlink(store / "latest") == name

    assert strike(template, zygotes, unpack, judge) > 20
