"""Checking a tree against what it should be: nothing that differs goes unnoticed."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ops.errors import DestinationError
from ops.model import Finding, Kind, Severity
from ops.tree.catalogue import Catalogue, catalogue_of
from ops.tree.compare import compare_trees
from ops.tree.crew import crew
from ops.tree.reading import Checking, TreeCheck
from ops.tree.transfer import BUFFER_BYTES
from ops.tree.update import TreeCopy
from ops.tree.work import LARGE_BYTES, Trees
from tests.filesystem import Directory, File, HardLink, Link, Node, Pipe, build, footprint, read
from tests.mounting import tmpfs
from tests.strategies import trees
from tests.test_tree_compare import (
    CHANGES,
    TREE,
    catalogue,
    deadline,
    few,
    fewest,
    keep_times,
    several,
)
from tests.test_tree_metadata import access_list
from tests.test_tree_update import (
    CROWD,
    CROWDED,
    LINKED,
    Change,
    apply_changes,
    bytes_in,
    changes_of_every_sort,
    crowd,
    some_changes,
)


def check(
    expected: Catalogue,
    root: Path,
    *,
    jobs: int = 1,
    from_disk: bool = False,
    pieces: Callable[[int], None] = lambda _count: None,
    files: Callable[[int], None] = lambda _count: None,
) -> TreeCheck:
    listed = Trees(source=root, blame="destination", from_disk=from_disk)
    with deadline(), crew(listed, jobs=jobs, advance=pieces) as workers:
        checking = Checking(expected, root, files)
        workers.start(checking)
        workers.pump()
        workers.finish()
        return checking.result(workers)


def in_order(findings: tuple[Finding, ...]) -> list[tuple[str, ...]]:
    """Make findings comparable: those of one entry come in no order."""
    return sorted(
        (found.kind, found.severity, found.where, found.expected, found.found) for found in findings
    )


def assert_agrees(
    expected: Catalogue, root: Path, *, jobs: int = 1, from_disk: bool = False
) -> tuple[Finding, ...]:
    """Check a tree, and compare the findings with those of a comparison with all it holds."""
    findings = check(expected, root, jobs=jobs, from_disk=from_disk).findings
    compared = compare_trees(expected, catalogue(root), root=root)
    assert in_order(findings) == in_order(compared)
    assert _places(findings) == _places(compared)
    return findings


def _places(findings: tuple[Finding, ...]) -> list[str]:
    errors = [found for found in findings if found.severity is Severity.ERROR]
    return [found.where.partition(": ")[0] for found in errors]


@contextmanager
def two_trees(one: Directory, two: Directory) -> Iterator[tuple[Catalogue, Path]]:
    """Build what should be there and what is; yields the record of the first, and the second."""
    with tempfile.TemporaryDirectory() as name:
        build(Path(name) / "one", one)
        build(Path(name) / "two", two)
        yield catalogue(Path(name) / "one"), Path(name) / "two"


# A tree that is as it should be


def _found_right(tree: Directory, *, jobs: int, from_disk: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "tree"
        build(root, tree)
        expected, before = catalogue(root), footprint(root)
        pieces: list[int] = []
        told: list[int] = []
        checked = check(
            expected,
            root,
            jobs=jobs,
            from_disk=from_disk,
            pieces=pieces.append,
            files=told.append,
        )
        assert footprint(root) == before
        assert checked.findings == ()
        assert checked.bytes == sum(pieces) == bytes_in(root)
        assert checked.files == sum(told) == expected.tally()[1]


@given(trees(), st.booleans())
@example(LINKED, False)
def test_a_tree_that_is_as_it_should_be_is_read_once_and_nothing_is_found(
    tree: Directory, from_disk: bool
) -> None:
    _found_right(tree, jobs=1, from_disk=from_disk)


@few
@given(trees(), st.booleans())
def test_two_processes_find_nothing_in_a_tree_that_is_as_it_should_be(
    tree: Directory, from_disk: bool
) -> None:
    _found_right(tree, jobs=2, from_disk=from_disk)


@several
@pytest.mark.parametrize("from_disk", [True, False])
def test_large_files_and_directories_that_are_as_they_should_be_are_found_so(
    from_disk: bool, jobs: int
) -> None:
    large: dict[bytes, Node] = {
        b"large": File(b"x" * LARGE_BYTES),
        b"larger": File(b"x" * (LARGE_BYTES + BUFFER_BYTES + 1)),
        b"linked": HardLink(b"large"),
    }
    _found_right(Directory({**CROWDED.children, **large}), jobs=jobs, from_disk=from_disk)


@pytest.mark.parametrize("size", [BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1])
def test_files_around_the_size_of_the_buffer_are_read_once(size: int) -> None:
    _found_right(Directory({b"file": File(b"x" * size)}), jobs=1, from_disk=False)


@several
def test_a_sparse_file_is_checked_by_what_it_reads_as(tmp_path: Path, jobs: int) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for size in (100_000, LARGE_BYTES + 100):
            with (tmp_path / name / str(size)).open("wb") as file:
                file.truncate(size)
            os.utime(tmp_path / name / str(size), ns=(5, 5))
        os.utime(tmp_path / name, ns=(5, 5))
    expected = catalogue(tmp_path / "one")
    assert check(expected, tmp_path / "two", jobs=jobs).findings == ()
    for size in (100_000, LARGE_BYTES + 100):
        flip(tmp_path / "two" / str(size), size - 1)
        (found,) = assert_agrees(expected, tmp_path / "two", jobs=jobs)
        assert found.where == f"{size}: content"
        flip(tmp_path / "two" / str(size), size - 1)


# Contents


def flip(path: Path | bytes, position: int) -> None:
    """Change one byte of a file, so that nothing else shows."""
    status = os.stat(path)
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _notices_a_byte(
    tree: Directory, number: int, position: int, *, jobs: int, from_disk: bool, place: Path
) -> bool:
    with tempfile.TemporaryDirectory(dir=place) as name:
        root = Path(name) / "tree"
        build(root, tree)
        expected = catalogue(root)
        files = [path for path, entry in expected.items() if entry.kind is Kind.FILE and entry.size]
        if not files:
            return False
        path = files[number % len(files)]
        full = os.fsencode(root) + b"/" + path
        flip(full, position % os.stat(full).st_size)
        assert [one for one in catalogue(root).values() if one.path == path] != [expected[path]]
        assert_agrees(expected, root, jobs=jobs, from_disk=from_disk)
        return True


_position = st.integers(0)


@given(trees(), st.integers(0, 20), _position, st.booleans())
@example(LINKED, 0, 0, False)
@example(Directory({b"a": File(b"x" * BUFFER_BYTES)}), 0, BUFFER_BYTES - 1, False)
@example(Directory({b"a": File(b"x" * BUFFER_BYTES)}), 0, BUFFER_BYTES - 1, True)
@example(Directory({b"a": File(b"x" * (BUFFER_BYTES + 1))}), 0, BUFFER_BYTES, False)
@example(Directory({b"a": File(b"x", xattrs=(("user.origin", b"x"),))}), 0, 0, False)
def test_any_changed_byte_is_found(
    tree: Directory, number: int, position: int, from_disk: bool
) -> None:
    place = Path(tempfile.gettempdir())
    assume(_notices_a_byte(tree, number, position, jobs=1, from_disk=from_disk, place=place))


@few
@given(trees(), st.integers(0, 20), _position, st.booleans())
def test_any_changed_byte_is_found_by_two_processes(
    tree: Directory, number: int, position: int, from_disk: bool
) -> None:
    place = Path(tempfile.gettempdir())
    assume(_notices_a_byte(tree, number, position, jobs=2, from_disk=from_disk, place=place))


@several
@pytest.mark.parametrize("from_disk", [True, False])
@pytest.mark.parametrize("position", [0, BUFFER_BYTES, LARGE_BYTES - 1])
def test_a_changed_byte_of_a_large_file_is_found(
    tmp_path: Path, position: int, from_disk: bool, jobs: int
) -> None:
    build(tmp_path / "tree", Directory({b"large": File(bytes(LARGE_BYTES)), b"f": File(b"x")}))
    expected = catalogue(tmp_path / "tree")
    flip(tmp_path / "tree/large", position)
    (found,) = assert_agrees(expected, tmp_path / "tree", jobs=jobs, from_disk=from_disk)
    assert (found.kind, found.where) == ("changed", "large: content")


@several
def test_a_changed_byte_of_any_file_of_a_large_directory_is_found(
    tmp_path: Path, jobs: int
) -> None:
    build(tmp_path / "tree", Directory(crowd(CROWD)))
    expected = catalogue(tmp_path / "tree")
    for number in (0, 199, 200, 399, 400):
        flip(tmp_path / f"tree/{number:05}", 0)
    found = assert_agrees(expected, tmp_path / "tree", jobs=jobs)
    assert [one.where for one in found] == [
        f"{number:05}: content" for number in (0, 199, 200, 399, 400)
    ]


def test_contents_are_checked_on_a_file_system_in_memory() -> None:
    with tmpfs("40m") as place:
        large = Directory({b"a": File(b"x"), b"large": File(bytes(LARGE_BYTES))})
        for jobs in (1, 2):
            for from_disk in (True, False):
                for number in (0, 1):
                    assert _notices_a_byte(
                        large, number, -1, jobs=jobs, from_disk=from_disk, place=place
                    )


def test_contents_count_only_where_they_are_known(tmp_path: Path) -> None:
    build(tmp_path / "tree", Directory({**LINKED.children, b"e": File(b"e")}))
    flip(tmp_path / "tree/a", 0)
    known, unknown = catalogue(tmp_path / "tree"), catalogue(tmp_path / "tree", digests=False)
    flip(tmp_path / "tree/e", 0)
    assert check(unknown, tmp_path / "tree").findings == ()
    (found,) = check(known, tmp_path / "tree").findings
    assert found.where == "e: content"


# Everything else


@pytest.mark.parametrize(("change", "fields"), CHANGES)
def test_one_change_is_found_as_what_it_is(
    tmp_path: Path, change: Callable[[Path], object], fields: dict[bytes, list[str]]
) -> None:
    for name in ("one", "two"):
        build(tmp_path / name, TREE)
        for path in ("pipe", "link"):  # the clock gave them their times
            os.utime(tmp_path / name / path, ns=(5, 5), follow_symlinks=False)
    keep_times(tmp_path / "two", change)
    expected = catalogue(tmp_path / "one")
    assert bool(assert_agrees(expected, tmp_path / "two")) == bool(fields)


ALONE: dict[str, Callable[[Path], object]] = {
    "content": lambda path: flip(path, 0),
    "mode": lambda path: path.chmod(0o600),
    "a mode of root's": lambda path: path.chmod(0o4644),
    "owner": lambda path: os.chown(path, 123, -1),
    "group": lambda path: os.chown(path, -1, 123),
    "mtime": lambda path: os.utime(path, ns=(0, path.stat().st_mtime_ns + 1)),
    "more": lambda path: os.truncate(path, 2),
    "less": lambda path: os.truncate(path, 0),
    "an attribute": lambda path: os.setxattr(path, "user.new", b"x"),
    "an access list": lambda path: os.setxattr(path, *access_list()),
    "another name": lambda path: os.link(path, path.with_name("elsewhere")),
}


@pytest.mark.parametrize("from_disk", [True, False])
@pytest.mark.parametrize("size", [1, LARGE_BYTES])
@pytest.mark.parametrize("name", ALONE)
def test_whatever_changes_of_a_file_alone_is_found(
    tmp_path: Path, name: str, size: int, from_disk: bool
) -> None:
    # Where one thing is wrong, all is looked at again: it must be noticed by itself.
    if name in {"owner", "group"} and os.geteuid() != 0:
        pytest.skip("giving a file away takes root")
    build(tmp_path / "tree", Directory({b"f": File(bytes(size)), b"g": File(b"y")}))
    expected = catalogue(tmp_path / "tree")
    status = (tmp_path / "tree/f").stat()
    keep_times(tmp_path / "tree", lambda root: ALONE[name](root / "f"))
    if name != "mtime":
        os.utime(tmp_path / "tree/f", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert assert_agrees(expected, tmp_path / "tree", from_disk=from_disk)


_FILE, _OTHER = File(b"x"), File(b"y")
_FULL = Directory({b"f": _FILE, b"e": Directory({b"p": Pipe(), b"s": Link(b"f")})})
_LARGE = File(bytes(LARGE_BYTES))
_SEVERAL: dict[bytes, Node] = {b"a": _FILE, b"b": HardLink(b"a"), b"c": HardLink(b"a")}

PAIRS: dict[str, tuple[dict[bytes, Node], dict[bytes, Node]]] = {
    "a file is missing": ({b"a": _FILE}, {}),
    "a large file is missing": ({b"a": _LARGE}, {}),
    "a link is missing": ({b"a": Link(b"b")}, {}),
    "a pipe is missing": ({b"a": Pipe()}, {}),
    "an empty directory is missing": ({b"a": Directory()}, {}),
    "a full directory is missing": ({b"a": _FULL}, {}),
    "a file is unexpected": ({}, {b"a": _FILE}),
    "a large file is unexpected": ({}, {b"a": _LARGE}),
    "a link is unexpected": ({}, {b"a": Link(b"b")}),
    "a pipe is unexpected": ({}, {b"a": Pipe()}),
    "an empty directory is unexpected": ({}, {b"a": Directory()}),
    "a full directory is unexpected": ({}, {b"a": _FULL}),
    "a hard link is unexpected": ({b"a": _FILE}, {b"a": _FILE, b"b": HardLink(b"a")}),
    "a file is a link": ({b"a": _FILE}, {b"a": Link(b"b")}),
    "a file is a pipe": ({b"a": _FILE}, {b"a": Pipe()}),
    "a file is an empty directory": ({b"a": _FILE}, {b"a": Directory()}),
    "a file is a full directory": ({b"a": _FILE}, {b"a": _FULL}),
    "a link is a file": ({b"a": Link(b"b")}, {b"a": _FILE}),
    "a link is a directory": ({b"a": Link(b"b")}, {b"a": Directory()}),
    "a link leads elsewhere": ({b"a": Link(b"b")}, {b"a": Link(b"c")}),
    "a directory is a file": ({b"a": _FULL}, {b"a": _FILE}),
    "a directory is a link": ({b"a": _FULL}, {b"a": Link(b"b")}),
    "a large file is a small one": ({b"a": _LARGE}, {b"a": _FILE}),
    "a small file is a large one": ({b"a": _FILE}, {b"a": _LARGE}),
    "a large file is a pipe": ({b"a": _LARGE}, {b"a": Pipe()}),
    "a large file is a link": ({b"a": _LARGE}, {b"a": Link(b"b")}),
    "a large file is a directory": ({b"a": _LARGE}, {b"a": _FULL}),
    "two files are one": ({b"a": _FILE, b"b": _FILE}, {b"a": _FILE, b"b": HardLink(b"a")}),
    "two large files are one": ({b"a": _LARGE, b"b": _LARGE}, {b"a": _LARGE, b"b": HardLink(b"a")}),
    "two other files are one": ({b"a": _FILE, b"b": _OTHER}, {b"a": _FILE, b"b": HardLink(b"a")}),
    "one file is two": ({b"a": _FILE, b"b": HardLink(b"a")}, {b"a": _FILE, b"b": _FILE}),
    "one large file is two": ({b"a": _LARGE, b"b": HardLink(b"a")}, {b"a": _LARGE, b"b": _LARGE}),
    "one file is two others": ({b"a": _FILE, b"b": HardLink(b"a")}, {b"a": _FILE, b"b": _OTHER}),
    "one file is two pairs": (
        {**_SEVERAL, b"d": HardLink(b"a")},
        {b"a": _FILE, b"b": _FILE, b"c": HardLink(b"a"), b"d": HardLink(b"b")},
    ),
    "the first name is missing": (_SEVERAL, {b"b": _FILE, b"c": HardLink(b"b")}),
    "the last name is missing": (_SEVERAL, {b"a": _FILE, b"b": HardLink(b"a")}),
    "the first name is another file": (_SEVERAL, {b"a": _FILE, b"b": _FILE, b"c": HardLink(b"b")}),
    "the first name is a pipe": (_SEVERAL, {b"a": Pipe(), b"b": _FILE, b"c": HardLink(b"b")}),
    "another name is a pipe": (_SEVERAL, {b"a": _FILE, b"b": Pipe(), b"c": HardLink(b"a")}),
    "another name is a directory": (_SEVERAL, {b"a": _FILE, b"b": _FULL, b"c": HardLink(b"a")}),
    "all names have other content": (_SEVERAL, {**_SEVERAL, b"a": _OTHER}),
    "names lie in other directories": (
        {b"a": _FILE, b"d": Directory({b"a": HardLink(b"a")}), b"e": Directory({b"a": _FILE})},
        {b"a": _FILE, b"d": Directory({b"a": _FILE}), b"e": Directory({b"a": HardLink(b"a")})},
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_differs_is_found_as_a_comparison_finds_it(name: str) -> None:
    one, two = PAIRS[name]
    with two_trees(Directory(one), Directory(two)) as (expected, root):
        assert assert_agrees(expected, root)
        assert_agrees(catalogue(root), root)


@several
def test_what_differs_in_parts_of_a_large_directory_is_found(jobs: int) -> None:
    whole: dict[bytes, Node] = {**crowd(CROWD, step=3), b"z": HardLink(b"00003")}
    others: dict[bytes, Node] = {
        b"00001": _FILE,
        b"00002": Link(b"b"),
        b"00004": Pipe(),
        b"01202": _FILE,
        b"00003": File(b"3", mode=0o600),
        b"00600": File(b"6OO"),
        b"00603": HardLink(b"00606"),
    }
    lost = {b"%05d" % number for number in (0, 9, 597, 1200)}
    kept = {name: node for name, node in whole.items() if name not in lost}
    with two_trees(Directory(whole), Directory({**kept, **others})) as (expected, root):
        found = assert_agrees(expected, root, jobs=jobs)
        assert {one.where for one in found if one.kind == "missing"} == {
            name.decode() for name in lost
        }
        assert sum(one.kind == "unexpected" for one in found) == 4
    # Where many are expected and few are there, and the other way round.
    for one, two in ((Directory(whole), Directory()), (Directory(), Directory(whole))):
        with two_trees(one, two) as (expected, root):
            assert len(assert_agrees(expected, root, jobs=jobs)) == len(whole)


@pytest.mark.parametrize("size", [1, LARGE_BYTES])
def test_a_file_that_is_a_socket_is_found(tmp_path: Path, size: int) -> None:
    for name in ("one", "two"):
        build(tmp_path / name, Directory({b"a": File(bytes(size))}))
    (tmp_path / "two/a").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "two/a"))
    assert_agrees(catalogue(tmp_path / "one"), tmp_path / "two")


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away takes root")
@several
def test_other_owners_are_counted_over_all_parts(tmp_path: Path, jobs: int) -> None:
    tree = Directory({**crowd(CROWD), b"d": Directory(crowd(10))})
    build(tmp_path / "tree", tree)
    expected = catalogue(tmp_path / "tree")
    for path in (tmp_path / "tree").rglob("*"):
        os.chown(path, 123, 456)
    (found,) = assert_agrees(expected, tmp_path / "tree", jobs=jobs)
    assert found == Finding(
        kind="changed",
        severity=Severity.WARNING,
        where=f"{CROWD + 11} entries: owner",
        expected="0:0",
        found="123:456",
    )


# The law: a check finds what a comparison with all that is there finds


def _agree_after(tree: Directory, changes: list[Change], *, jobs: int, from_disk: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "tree"
        build(root, tree)
        expected = catalogue(root)
        apply_changes(root, changes)
        assert_agrees(expected, root, jobs=jobs, from_disk=from_disk)


@given(trees(), changes_of_every_sort, st.booleans())
@example(LINKED, [("file", 0, 0)], False)
@example(LINKED, [("directory", 0, 0)], False)
@example(LINKED, [("remove", 3, 0)], False)
def test_a_check_finds_what_a_comparison_finds(
    tree: Directory, changes: list[Change], from_disk: bool
) -> None:
    _agree_after(tree, changes, jobs=1, from_disk=from_disk)


@given(trees(), some_changes(1, 20), st.booleans())
@example(LINKED, [("xattr", 4, 0)], False)
@example(LINKED, [("mode", 4, 0)], False)
def test_a_check_finds_any_one_change_that_shows_in_no_directory(
    tree: Directory, changes: list[Change], from_disk: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "tree"
        build(root, tree)
        expected = catalogue(root)
        keep_times(root, lambda path: apply_changes(path, changes))
        assert assert_agrees(expected, root, from_disk=from_disk)


@few
@given(trees(), changes_of_every_sort, st.booleans())
def test_a_check_by_two_processes_finds_what_a_comparison_finds(
    tree: Directory, changes: list[Change], from_disk: bool
) -> None:
    _agree_after(tree, changes, jobs=2, from_disk=from_disk)


@few
@given(trees(), trees(), st.sampled_from([1, 2]))
def test_any_two_trees_are_told_apart_alike(one: Directory, two: Directory, jobs: int) -> None:
    with two_trees(one, two) as (expected, root):
        assert_agrees(expected, root, jobs=jobs)


@fewest
@given(some_changes(40, 450), st.sampled_from([1, 2]))
def test_a_check_of_a_large_directory_finds_what_a_comparison_finds(
    changes: list[Change], jobs: int
) -> None:
    _agree_after(CROWDED, changes, jobs=jobs, from_disk=False)


@given(trees(), changes_of_every_sort)
@example(LINKED, [("file", 0, 0)])
def test_a_check_finds_something_wherever_a_comparison_does(
    tree: Directory, changes: list[Change]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "tree"
        build(root, tree)
        expected = catalogue(root)
        apply_changes(root, changes)
        found = check(expected, root).findings
        compared = compare_trees(expected, catalogue(root), root=root)
        assert bool(found) == bool(compared)
        tops = {_top(one.where) for one in compared}
        assert {_top(one.where) for one in found} == tops


def _top(where: str) -> str:
    return where.partition("/")[0].partition(": ")[0]


# What changes meanwhile, and what cannot be read


@pytest.mark.parametrize("size", [1, LARGE_BYTES])
def test_what_vanishes_during_a_check_is_missing(tmp_path: Path, size: int) -> None:
    files = Directory({b"a": File(b"x"), b"b": File(bytes(size)), b"d": Directory({b"f": _FILE})})
    build(tmp_path / "tree", files)
    expected = catalogue(tmp_path / "tree")

    def remove(_count: int) -> None:
        (tmp_path / "tree/b").unlink(missing_ok=True)
        shutil.rmtree(tmp_path / "tree/d", ignore_errors=True)

    found = check(expected, tmp_path / "tree", pieces=remove).findings
    assert {one.where for one in found if one.kind == "missing"} >= {"b", "d"}
    changed = "the attachments directory itself: mtime"  # what went away, the second look sees too
    assert {one.where for one in found} <= {"b", "d", "d/f", changed}


@several
def test_a_tree_that_is_not_there_cannot_be_checked(tmp_path: Path, jobs: int) -> None:
    expected = catalogue_of([])
    with pytest.raises(DestinationError, match=r"cannot read .*/nowhere: No such file"):
        check(expected, tmp_path / "nowhere", jobs=jobs)


# A copy, by those who made it


@several
@pytest.mark.parametrize("from_disk", [True, False])
@pytest.mark.parametrize("digests", [True, False])
def test_those_who_made_a_copy_check_it(
    tmp_path: Path, digests: bool, from_disk: bool, jobs: int
) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    attributes = File(b"attributes", xattrs=(("user.origin", b"x"),))
    large: dict[bytes, Node] = {b"large": _LARGE, b"attributes": attributes}
    build(source, Directory({**CROWDED.children, **large}))
    destination.mkdir()
    listed = Trees(source=source, copy=destination, digests=digests, from_disk=from_disk)
    with deadline(), crew(listed, jobs=jobs) as workers:
        copy = TreeCopy(workers)
        copy.update(delete=True)
        copy.finish()

        def findings() -> tuple[Finding, ...]:
            checking = Checking(copy.entries, destination)
            workers.start(checking)
            workers.finish()
            return checking.result(workers).findings

        assert findings() == ()
        for path in ("large", "attributes", "crowd/00400"):
            flip(destination / path, 0)
            where = [one.where for one in findings()]
            assert where == ([f"{path}: content"] if digests else [])
            flip(destination / path, 0)
        (destination / "crowd/00200").unlink()
        (destination / "crowd/00201").touch()
        kinds = {(one.kind, one.where) for one in findings()}
        assert kinds == {
            ("missing", "crowd/00200"),
            ("unexpected", "crowd/00201"),
            ("changed", "crowd: mtime"),
        }
        assert read(source).keys() ^ read(destination).keys() == {b"crowd/00200", b"crowd/00201"}
