"""Copies of trees that hold everything a file system can, judged by rsync, tar and a walk.

Every kind of entry and of metadata, from and to ext4, XFS, btrfs and tmpfs.
"""

import functools
import os
import sqlite3
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ops.model import Instance
from tests.command import Ran, from_flags, run, to_flags
from tests.faults import FULL
from tests.faults.any_trees import (
    A_NANOSECOND_LATER,
    FEW_FILE,
    LISTED,
    MIB,
    NAMED,
    OTHER,
    everything,
    few,
    trees,
)
from tests.faults.anything import (
    ACCESS,
    DEFAULT,
    Directory,
    File,
    Link,
    Node,
    Special,
    Traits,
    Tree,
    access_list,
    build,
)
from tests.faults.comparers import (
    UNWRITTEN_BYTES,
    differences,
    disagreements,
    facts,
    holes_differ,
    tool,
)
from tests.faults.filesystems import Limits, limits_of, volume

if TYPE_CHECKING:
    from tests.faults.anything import Parts

# Pairs of file systems


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Where a source and its copy lie, and what both places can hold."""

    source: Path
    destination: Path
    limits: Limits
    slack: int | None


Disks: TypeAlias = Callable[[str], Path]


@pytest.fixture(scope="module")
def disks() -> Iterator[Disks]:
    """Keep a file system of each kind that is asked for."""
    with ExitStack() as stack:
        yield functools.cache(lambda kind: stack.enter_context(volume(kind)))


def pair_of(disks: Disks, words: str) -> Pair:
    """Make a pair from "ext4 to xfs"; a skip names what is missing."""
    kinds = words.split(" to ")
    source, destination = map(disks, kinds)
    return Pair(
        source=source,
        destination=destination,
        limits=limits_of(source) & limits_of(destination),
        slack=None if kinds[0] != kinds[1] else UNWRITTEN_BYTES * (kinds[0] == "xfs"),
    )


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, disks: Disks) -> Pair:
    """Make a pair by its name."""
    return pair_of(disks, request.param)


ALIKE = ("ext4 to ext4", "xfs to xfs", "btrfs to btrfs", "tmpfs to tmpfs")
APART = ("tmpfs to ext4", "ext4 to btrfs", "btrfs to xfs", "xfs to tmpfs")
PAIRS = (*ALIKE, *APART)


def examples(quick: int, full: int) -> settings:
    """Try so many trees, each of which takes a second."""
    return settings(
        max_examples=full if FULL else quick,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


umasks = st.sampled_from([0o022, 0, 0o077, 0o777])


# Copying them


@contextmanager
def workplace(pair: Pair) -> Iterator[tuple[Path, Path]]:
    """Make a directory on either file system, and remove them whatever is in them."""
    with (
        tempfile.TemporaryDirectory(dir=pair.source) as here,
        tempfile.TemporaryDirectory(dir=pair.destination) as there,
    ):
        yield Path(here), Path(there)


def instance(directory: Path, tree: Tree, limits: Limits) -> Instance:
    """Make an instance of no application: a database with one table, and a tree."""
    directory.mkdir()
    made = Instance(database=directory / "any.db", attachments=directory / "tree")
    build(made.attachments, tree, limits)
    connection = sqlite3.connect(made.database)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    return made


def clone(source: Instance, copy: Instance, *flags: str, umask: int = 0o022) -> Ran:
    """Run the program."""
    before = os.umask(umask)
    try:
        return run(
            *("clone", "--force", "--profile", "none", *from_flags(source), *to_flags(copy), *flags)
        )
    finally:
        os.umask(before)


def check(
    source: Instance,
    copy: Instance,
    *flags: str,
    umask: int = 0o022,
    slack: int | None,
    deep: bool = False,
) -> None:
    """Clone, and have every judge compare; none of them finds the source changed either.

    Args:
        source: The instance.
        copy: Where it goes.
        flags: More flags of the program.
        umask: What the program is started with.
        slack: As for `holes_differ`.
        deep: Its paths are too long for the other programs.
    """
    before = facts(source.attachments)
    ran = clone(source, copy, *flags, umask=umask)
    assert ran.code == 0, ran.err
    assert differences(before, facts(copy.attachments)) == []
    assert differences(before, facts(source.attachments)) == []
    assert holes_differ(source.attachments, copy.attachments, slack=slack) == []
    if not deep:
        assert disagreements(source.attachments, copy.attachments) == []


def copy_and_check(
    pair: Pair, tree: Tree, *flags: str, umask: int = 0o022, deep: bool = False
) -> None:
    """Make an instance on the one file system, and check its copy on the other."""
    with workplace(pair) as (here, there):
        source = instance(here / "source", tree, pair.limits)
        copy = Instance(database=there / "copy" / "db", attachments=there / "copy" / "files")
        check(source, copy, *flags, umask=umask, slack=pair.slack, deep=deep)


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
def test_one_of_each(pair: Pair) -> None:
    copy_and_check(pair, everything())


@pytest.mark.parametrize(
    ("pair", "jobs"),
    [("ext4 to ext4", "1"), ("btrfs to btrfs", "3")],
    indirect=["pair"],
)
def test_one_of_each_by_so_many_hands(pair: Pair, jobs: str) -> None:
    copy_and_check(pair, everything(), "--jobs", jobs)


@pytest.mark.parametrize("pair", PAIRS if FULL else ALIKE, indirect=True)
@given(tree=trees(), umask=umasks)
@examples(4, 60)
def test_any_tree(pair: Pair, tree: Tree, umask: int) -> None:
    copy_and_check(pair, tree, umask=umask)


@pytest.mark.parametrize("jobs", ["1", "3"])
@pytest.mark.parametrize("pair", ["xfs to ext4"], indirect=True)
@given(tree=trees(), umask=umasks)
@examples(3, 60)
def test_any_tree_by_so_many_hands(pair: Pair, jobs: str, tree: Tree, umask: int) -> None:
    copy_and_check(pair, tree, "--jobs", jobs, umask=umask)


@pytest.mark.parametrize("pair", PAIRS if FULL else APART[::2], indirect=True)
@given(first=trees(), second=trees())
@examples(3, 20)
def test_over_another_tree(pair: Pair, first: Tree, second: Tree) -> None:
    with workplace(pair) as (here, there):
        copy = Instance(database=there / "db", attachments=there / "files")
        for number, tree in enumerate((first, second)):
            source = instance(here / f"{number}", tree, pair.limits)
            check(source, copy, slack=pair.slack)


@pytest.mark.parametrize("pair", ["btrfs to ext4"], indirect=True)
def test_over_a_copy_of_the_same(pair: Pair) -> None:
    with workplace(pair) as (here, there):
        copy = Instance(database=there / "db", attachments=there / "files")
        source = instance(here / "source", few(), pair.limits)
        for _ in range(2):
            check(source, copy, slack=pair.slack)


@pytest.mark.parametrize("pair", ["ext4 to ext4", "btrfs to tmpfs"], indirect=True)
def test_deeper_than_any_path(pair: Pair) -> None:
    """The other programs cannot reach the bottom: the walk judges alone."""
    name = b"d" * 250
    below = Directory(children={b"fifo": Special(kind=stat.S_IFIFO), b"file": File()})
    for _ in range(30):
        below = Directory(children={name: below, b"file": File(), b"link": Link(target=name)})
    tree = Tree(
        root=below,
        names=(((b"top",), (*[name] * 30, b"file")), ((*[name] * 30, b"bottom"), (b"link",))),
    )
    copy_and_check(pair, tree, deep=True)


@pytest.mark.parametrize("pair", ["ext4 to ext4", "xfs to xfs", "xfs to tmpfs"], indirect=True)
def test_in_a_place_that_gives_its_own(pair: Pair) -> None:
    """The directory there gives a group and access control lists to all that is made in it."""
    with workplace(pair) as (here, there):
        source = instance(here / "source", few(), pair.limits)
        os.chown(there, 0, 4321)
        there.chmod(0o2775)
        if pair.limits.knows(DEFAULT):
            os.setxattr(there, DEFAULT, access_list((7, 7, 7, 5), {4321: 7}, {4321: 7}))
        copy = Instance(database=there / "db", attachments=there / "files")
        check(source, copy, slack=pair.slack)
        assert copy.database.stat().st_gid == source.database.stat().st_gid
        assert ACCESS not in os.listxattr(copy.database)


@pytest.mark.parametrize("pair", ["xfs to ext4"], indirect=True)
def test_access_lists_of_xfs_do_not_become_attributes(pair: Pair) -> None:
    """XFS shows root how it stores them, beside the lists; elsewhere that means nothing."""
    with workplace(pair) as (here, there):
        source = instance(here / "source", few(), pair.limits)
        copy = Instance(database=there / "db", attachments=there / "files")
        check(source, copy, slack=pair.slack)
        shown = os.listxattr(copy.attachments / "file")
        assert [name for name in shown if name.startswith("trusted.")] == []


@pytest.mark.parametrize("pair", ["btrfs to btrfs"], indirect=True)
def test_files_that_btrfs_stores_in_its_own_ways(pair: Pair) -> None:
    """Their extents cannot be shared with those of an ordinary file."""
    chattr = tool("chattr")
    with workplace(pair) as (here, there):
        source = instance(here / "source", few(), pair.limits)
        squeezed, in_place = (source.attachments / name for name in ("squeezed", "in place"))
        for path in (squeezed, in_place):
            path.touch()
        os.setxattr(squeezed, "btrfs.compression", b"zstd")
        subprocess.run([chattr, "+C", in_place], check=True)
        for path in (squeezed, in_place):
            path.write_bytes(b"compliance" * 100_000)
        copy = Instance(database=there / "db", attachments=there / "files")
        check(source, copy, slack=None)


# What cannot be held

FAR = Traits(modified_ns=2**35 * 10**9)
TOO_MUCH: dict[str, tuple[str, Node]] = {
    "a long target": ("tmpfs to xfs", Link(target=b"n" * 2000)),
    "a large attribute": ("xfs to ext4", File(traits=Traits(xattrs=(("user.a", b"x" * 9000),)))),
    "a time after 2446": ("btrfs to ext4", File(traits=FAR)),
    "a time of a link": ("btrfs to xfs", Link(target=b"n", traits=FAR)),
    "a time of a directory": ("tmpfs to ext4", Directory(traits=FAR)),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_what_the_place_cannot_hold_is_refused_by_name(what: str, disks: Disks) -> None:
    words, node = TOO_MUCH[what]
    pair = pair_of(disks, words)
    with workplace(pair) as (here, there):
        tree = Tree(root=Directory(children={b"below": Directory(children={b"one": node})}))
        source = instance(here / "source", tree, limits_of(pair.source))
        ran = clone(source, Instance(database=there / "db", attachments=there / "files"))
        assert ran.code in {4, 5}, ran.err
        assert "below/one" in ran.error_line
        assert os.listdir(there) == []


# The judges

SPOILED: dict[str, tuple[bytes, Node | None]] = {
    "content": (b"file", File(pieces=((1, 4999),), traits=LISTED)),
    "size": (b"file", File(pieces=((0, 5001),), traits=LISTED)),
    "mode": (b"file", replace(FEW_FILE, traits=replace(LISTED, mode=0o4770))),
    "owner of a link": (b"link", Link(target=b"n", traits=Traits(owner=(7, 0)))),
    "group": (b"fifo", Special(kind=stat.S_IFIFO, traits=Traits(owner=(0, 7)))),
    "nanosecond": (b"socket", Special(kind=stat.S_IFSOCK, traits=A_NANOSECOND_LATER)),
    "nanosecond of a link": (b"link", Link(target=b"n", traits=A_NANOSECOND_LATER)),
    "nanosecond of a directory": (b"empty", Directory(traits=A_NANOSECOND_LATER)),
    "attribute": (b"file", replace(FEW_FILE, traits=replace(LISTED, xattrs=OTHER))),
    "attribute of a link": (b"link", Link(target=b"n", traits=Traits(xattrs=OTHER))),
    "attribute of a device": (b"device", Special(kind=stat.S_IFCHR, traits=Traits(xattrs=OTHER))),
    "access": (b"file", replace(FEW_FILE, traits=replace(LISTED, access=b"", mode=0o660))),
    "default": (b"below", Directory(children=NAMED, traits=replace(LISTED, default=b""))),
    "device": (b"device", Special(kind=stat.S_IFCHR, device=1)),
    "kind": (b"fifo", Special(kind=stat.S_IFSOCK)),
    "target": (b"link", Link(target=b"N")),
    "missing socket": (b"socket", None),
    "missing file": (b"twin", None),
    "unexpected": (b"more", Directory()),
}


def judged(disks: Disks, one: Tree, two: Tree) -> dict[str, list[str]]:
    """Make two trees, and hear what the other programs and the walk say."""
    pair = pair_of(disks, "ext4 to ext4")
    with workplace(pair) as (here, there):
        build(here / "tree", one, pair.limits)
        build(there / "tree", two, pair.limits)
        walks = (facts(here / "tree"), facts(there / "tree"))
        return {
            "programs": disagreements(here / "tree", there / "tree"),
            "walk": differences(*walks),
            "holes": holes_differ(here / "tree", there / "tree", slack=0),
        }


def test_judges_agree_on_what_is_equal(disks: Disks) -> None:
    assert not any(judged(disks, everything(), everything()).values())


@pytest.mark.parametrize("what", SPOILED)
def test_judges_see(what: str, disks: Disks) -> None:
    name, node = SPOILED[what]
    children = {key: child for key, child in few().root.children.items() if key != name}
    if node is not None:
        children[name] = node
    said = judged(disks, few(), Tree(root=Directory(children=children), names=few().names))
    assert said["programs"]
    assert said["walk"]


@pytest.mark.parametrize("what", ["two files for one", "one file for two"])
def test_judges_see_names(what: str, disks: Disks) -> None:
    children = dict(few().root.children)
    extra: tuple[tuple[Parts, Parts], ...] = ()
    if what == "two files for one":
        children[b"below"] = Directory(children={b"name": FEW_FILE, **NAMED}, traits=LISTED)
    else:
        del children[b"twin"]
        extra = (*few().names, ((b"twin",), (b"file",)))
    said = judged(disks, few(), Tree(root=Directory(children=children), names=extra))
    assert said["programs"]
    assert said["walk"]


def test_judges_see_holes(disks: Disks) -> None:
    pair = pair_of(disks, "ext4 to ext4")
    with workplace(pair) as places:
        for place in places:
            (place / "tree").mkdir()
            with (place / "tree" / "file").open("wb") as file:
                file.truncate(MIB)
        (places[1] / "tree" / "file").write_bytes(bytes(MIB))
        said = holes_differ(*(place / "tree" for place in places), slack=0)
        assert len(said) == 2
