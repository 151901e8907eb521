"""Passes over a tree: after the last one the copy is what the source is."""

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.errors import DestinationError, SourceError
from ops.model import Entry, Kind
from ops.tree.compare import differences
from ops.tree.crew import crew
from ops.tree.scan import scan_tree
from ops.tree.update import TreeCopy
from ops.tree.work import LARGE_BYTES, MOST_NAMES, Trees
from tests.filesystem import (
    FLISTXATTR,
    GETDENTS64,
    NOBODY,
    Directory,
    File,
    HardLink,
    Link,
    Node,
    Pipe,
    build,
    footprint,
    read,
    unprivileged,
    with_refusal,
)
from tests.strategies import trees
from tests.test_tree_compare import (
    assert_linked_in_order,
    catalogue,
    deadline,
    few,
    fewest,
    several,
)
from tests.test_tree_metadata import access_list

_REST_SECONDS = 0.06
_NEVER = -1


@dataclass
class Mirror:
    """A source, a copy of it, and the passes from one to the other."""

    source: Path
    destination: Path
    pieces: list[int]
    copy: TreeCopy

    def update(
        self, *, delete: bool = True, advance: Callable[[int], None] = lambda _files: None
    ) -> frozenset[bytes]:
        self.rest()
        return self.copy.update(delete=delete, advance=advance)

    def rest(self) -> None:
        time.sleep(_REST_SECONDS)  # what changed within a tick of its reading is read again

    def finish(self) -> None:
        self.copy.finish()

    def misdescribed(self) -> dict[bytes, list[str]]:
        """Say in what the record of the copy differs from what a true re-read finds there."""
        found, entries = dict(catalogue(self.destination)), dict(self.copy.entries)
        fields: dict[bytes, list[str]] = {path: ["path"] for path in found.keys() ^ entries.keys()}
        for path in found.keys() & entries.keys():
            if different := differences(entries[path], found[path]):
                fields[path] = [one.field for one in different]
        return fields

    def assert_equal(self) -> None:
        """Compare copy, source and what is known of them in full."""
        assert read(self.destination) == read(self.source)
        assert self.misdescribed() == {}
        walked = [entry.path for entry in scan_tree(self.destination, error=SourceError)]
        assert list(self.copy.entries) == walked
        assert len(self.copy.entries) == len(walked)
        assert_linked_in_order(self.copy.entries)


@contextmanager
def mirroring(
    source: Path,
    destination: Path,
    advance: Callable[[int], None] = lambda _count: None,
    *,
    jobs: int = 1,
    digests: bool = True,
) -> Iterator[Mirror]:
    destination.mkdir(mode=0o700)
    pieces: list[int] = []

    def count(piece: int) -> None:
        pieces.append(piece)
        advance(piece)

    listed = Trees(source=source, copy=destination, digests=digests)
    with deadline(), crew(listed, jobs=jobs, advance=count) as workers:
        yield Mirror(source, destination, pieces, TreeCopy(workers))


@contextmanager
def temporary_mirror(tree: Directory, *, jobs: int = 1) -> Iterator[Mirror]:
    with tempfile.TemporaryDirectory() as name:
        build(Path(name) / "source", tree)
        with mirroring(Path(name) / "source", Path(name) / "destination", jobs=jobs) as mirror:
            yield mirror


def crowd(count: int, *, step: int = 1) -> dict[bytes, Node]:
    """Describe so many files, numbered from 0 on; from 401 on a directory is worked on in parts."""
    return {b"%05d" % number: File(b"%d" % number) for number in range(0, count * step, step)}


CROWD = MOST_NAMES + 1


def bytes_in(root: Path) -> int:
    """Add up the content below a directory, that of hard links once."""
    sizes: dict[tuple[int, int], int] = {}
    for directory, _, names in os.walk(os.fsencode(root)):
        for name in names:
            status = os.lstat(directory + b"/" + name)
            if stat.S_ISREG(status.st_mode):
                sizes[status.st_dev, status.st_ino] = status.st_size
    return sum(sizes.values())


# The first pass


def _copied_whole(tree: Directory, jobs: int) -> None:
    with temporary_mirror(tree, jobs=jobs) as mirror:
        before = footprint(mirror.source)
        told: list[int] = []
        copied = mirror.copy.update(delete=True, advance=told.append)
        mirror.finish()
        assert footprint(mirror.source) == before
        mirror.assert_equal()
        assert copied == frozenset()
        assert sum(mirror.pieces) == bytes_in(mirror.source)
        files = [entry for entry in mirror.copy.entries.values() if entry.kind is Kind.FILE]
        assert sum(told) == len(files)
        assert not mirror.copy.unsettled
        lost = (0, 0, 0)
        assert mirror.copy.entries.tally() == (
            sum(entry.kind is not Kind.DIRECTORY for entry in mirror.copy.entries.values()),
            len(files),
            sum(entry.size for entry in files),
            *lost,
        )


LINKED = Directory(
    {
        b"a": File(b"x"),
        b"b": HardLink(b"a"),
        b"d": Directory({b"f": File(), b"p": Pipe(), b"s": Link(b"f")}),
        b"z": HardLink(b"a"),
    }
)
CROWDED = Directory(
    {
        b"crowd": Directory(
            {
                **crowd(CROWD, step=2),
                b"00001": Directory({b"file": File(b"x")}),
                b"00401": Directory({b"none": Directory()}),
                b"00403": Link(b"00402"),
                b"00405": Pipe(),
                b"00407": File(b"with attributes", xattrs=(("user.origin", b"x"),)),
                b"00409": HardLink(b"crowd/00002"),
                b"z": Directory(crowd(5)),
            }
        ),
        b"few": Directory(
            {b"link": HardLink(b"crowd/00004"), b"link too": HardLink(b"crowd/z/00001")}
        ),
    }
)
"""With a directory that is worked on in parts; too large for an example to be printed."""


@given(trees())
@example(LINKED)
def test_a_copy_reads_back_equal_and_the_source_is_untouched(tree: Directory) -> None:
    _copied_whole(tree, 1)


@few
@given(trees())
@example(LINKED)
def test_a_copy_by_two_processes_reads_back_equal(tree: Directory) -> None:
    _copied_whole(tree, 2)


@several
def test_a_copy_of_a_large_directory_reads_back_equal(jobs: int) -> None:
    _copied_whole(CROWDED, jobs)


@several
@pytest.mark.parametrize("count", [MOST_NAMES - 1, MOST_NAMES, MOST_NAMES + 1, 2 * MOST_NAMES])
def test_directories_around_the_size_that_is_cut_up_are_copied_whole(count: int, jobs: int) -> None:
    _copied_whole(Directory(crowd(count)), jobs)


@several
@pytest.mark.parametrize("size", [4096, 5000, 1 << 16])
def test_a_small_file_of_nothing_but_a_hole_takes_no_block(
    tmp_path: Path, size: int, jobs: int
) -> None:
    source = tmp_path / "source"
    build(source, Directory(crowd(CROWD)))
    with (source / "hole").open("wb") as file:
        file.truncate(size)
    with mirroring(source, tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        mirror.finish()
        mirror.assert_equal()
    copy = (tmp_path / "destination" / "hole").stat()
    assert (copy.st_size, copy.st_blocks) == (size, (source / "hole").stat().st_blocks)


@several
def test_a_copy_without_digests_is_whole_and_has_none(tmp_path: Path, jobs: int) -> None:
    source = tmp_path / "source"
    build(source, CROWDED)
    with (source / "large").open("wb") as file:
        file.truncate(LARGE_BYTES)
    with mirroring(source, tmp_path / "destination", jobs=jobs, digests=False) as mirror:
        mirror.update()
        mirror.finish()
        mirror.assert_equal()
        assert {entry.digest for entry in mirror.copy.entries.values()} == {""}
        assert mirror.copy.entries.tally()[2] == 0


@given(trees(), st.booleans())
@example(LINKED, False)
def test_a_second_pass_over_an_unchanged_tree_copies_nothing(tree: Directory, delete: bool) -> None:
    _copied_once(tree, delete, 1)


@few
@given(trees(), st.booleans())
def test_a_second_pass_by_two_processes_copies_nothing(tree: Directory, delete: bool) -> None:
    _copied_once(tree, delete, 2)


@several
@pytest.mark.parametrize("delete", [True, False])
def test_a_second_pass_over_a_large_directory_copies_nothing(delete: bool, jobs: int) -> None:
    _copied_once(CROWDED, delete, jobs)


def _copied_once(tree: Directory, delete: bool, jobs: int) -> None:
    with temporary_mirror(tree, jobs=jobs) as mirror:
        mirror.update()
        mirror.finish()
        mirror.pieces.clear()
        before, had = footprint(mirror.destination), dict(mirror.copy.entries)
        assert mirror.copy.update(delete=delete) == frozenset()
        assert sum(mirror.pieces) == 0
        assert footprint(mirror.destination) == before
        assert dict(mirror.copy.entries) == had


# Changes of every sort, at entries picked by number.

Change = tuple[str, int, int]
_SORTS = ["append", "remove", "file", "directory", "link", "mode", "move", "hard link", "xattr"]


def some_changes(most: int, highest: int) -> st.SearchStrategy[list[Change]]:
    number = st.integers(0, highest)
    one = st.tuples(st.sampled_from(_SORTS), number, number)
    return st.lists(one, min_size=1, max_size=most)


changes_of_every_sort = some_changes(8, 20)


def wait_for_the_clock() -> None:
    """Let a change have another ctime than what came before: kernels count in ticks of 10 ms."""
    time.sleep(0.011)


def apply_changes(root: Path, changes: list[Change]) -> None:
    wait_for_the_clock()
    base = os.fsencode(root)
    for number, (change, one, two) in enumerate(changes):
        paths, folders = _below(base)
        fresh = folders[two % len(folders)] + b"/new-%d" % number
        while os.path.lexists(fresh):
            fresh += b"+"
        if not paths:
            os.mkdir(fresh)
            continue
        _change(change, paths[one % len(paths)], fresh)


def _below(base: bytes) -> tuple[list[bytes], list[bytes]]:
    """List what lies below a directory, and all directories, itself included, both in order."""
    paths: list[bytes] = []
    folders = [base]
    for directory, below, names in os.walk(base):
        paths += [directory + b"/" + name for name in [*below, *names]]
        folders += [
            directory + b"/" + name for name in below if not _is_link(directory + b"/" + name)
        ]
    return sorted(paths), sorted(folders)


def _is_link(path: bytes) -> bool:
    return os.path.islink(path)


def _change(change: str, path: bytes, fresh: bytes) -> None:
    regular = os.path.isfile(path) and not _is_link(path)
    match change:
        case "append" if regular:
            with open(path, "ab") as file:
                file.write(b"+")
        case "mode" if not _is_link(path):
            os.chmod(path, os.stat(path).st_mode & 0o7777 ^ 0o011)
        case "move" if not fresh.startswith(path + b"/"):
            os.rename(path, fresh)
        case "hard link" if regular:
            os.link(path, fresh)
        case "xattr" if regular:
            os.setxattr(path, "user.changed", b"yes")
        case "remove" | "file" | "directory" | "link":
            _clear(path)
            if change == "file":
                with open(path, "wb") as file:
                    file.write(b"instead")
            elif change == "directory":
                os.mkdir(path)
                os.mkfifo(path + b"/inside")
            elif change == "link":
                os.symlink(b"nowhere", path)
        case _:
            with open(fresh, "wb") as file:
                file.write(b"new")


def _clear(path: bytes) -> None:
    if os.path.isdir(path) and not _is_link(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _followed(tree: Directory, rounds: list[list[Change]], jobs: int) -> None:
    with temporary_mirror(tree, jobs=jobs) as mirror:
        mirror.update()
        for changes in rounds:
            had = dict(mirror.copy.entries)
            apply_changes(mirror.source, changes)
            before = footprint(mirror.source)
            copied = mirror.update(delete=True)
            mirror.finish()
            assert footprint(mirror.source) == before
            mirror.assert_equal()
            _assert_copied_what_changed(had, dict(mirror.copy.entries), copied)
            assert not mirror.copy.unsettled
        assert mirror.copy.update(delete=True) == frozenset()


def _assert_copied_what_changed(
    had: dict[bytes, Entry], has: dict[bytes, Entry], copied: frozenset[bytes]
) -> None:
    files = {path for path, entry in has.items() if entry.kind is not Kind.DIRECTORY}
    assert files - had.keys() <= copied <= files
    for path in files & had.keys():
        changed = not had[path].same_inode_state(has[path])
        if had[path].changed_ns != _NEVER and (changed or has[path].links == 1):
            # Of a file with several names, all are copied again when one is.
            assert (path in copied) == changed, path


@given(trees(), st.lists(changes_of_every_sort, min_size=1, max_size=2))
@example(LINKED, [[("directory", 0, 0)], [("file", 0, 0)]])
@example(LINKED, [[("remove", 0, 0)]])
@example(LINKED, [[("file", 2, 0)], [("directory", 2, 0)]])
@example(LINKED, [[("hard link", 0, 1), ("append", 1, 0)]])
@example(LINKED, [[("move", 2, 0)]])
def test_after_any_changes_a_mirroring_pass_reads_back_equal(
    tree: Directory, rounds: list[list[Change]]
) -> None:
    _followed(tree, rounds, 1)


@few
@given(trees(), st.lists(changes_of_every_sort, min_size=1, max_size=2))
@example(LINKED, [[("directory", 0, 0)], [("file", 0, 0)]])
@example(LINKED, [[("hard link", 0, 1), ("append", 1, 0)]])
def test_after_any_changes_a_mirroring_pass_by_two_processes_reads_back_equal(
    tree: Directory, rounds: list[list[Change]]
) -> None:
    _followed(tree, rounds, 2)


_many_changes = some_changes(40, 450)
_jobs = st.sampled_from([1, 2])


@fewest
@given(st.lists(_many_changes, min_size=1, max_size=2), _jobs)
@example([[("directory", number, 0) for number in range(30, 430, 25)], [("file", 30, 0)]], 1)
@example([[("directory", number, 0) for number in range(30, 430, 25)], [("file", 30, 0)]], 2)
@example([[("remove", 1, 0)], [("remove", 1, 0)]], 2)
def test_after_any_changes_in_large_directories_a_mirroring_pass_reads_back_equal(
    rounds: list[list[Change]], jobs: int
) -> None:
    _followed(CROWDED, rounds, jobs)


def _added_to(tree: Directory, changes: list[Change], jobs: int) -> None:
    with temporary_mirror(tree, jobs=jobs) as mirror:
        mirror.update()
        had = dict(mirror.copy.entries)
        apply_changes(mirror.source, changes)
        copied = mirror.update(delete=False)
        mirror.finish()
        source, destination = read(mirror.source), read(mirror.destination)
        assert {path: _but_for_links(destination[path]) for path in source} == {
            path: _but_for_links(fields) for path, fields in source.items()
        }
        assert _names_of_one_file(source) == _names_of_one_file(
            {path: destination[path] for path in source}
        )
        # What lay below a directory that is one no more cannot stay.
        lost = had.keys() - destination.keys()
        assert all(_under_no_directory(path, source) for path in lost)
        assert destination.keys() - source.keys() <= had.keys()
        has = {path: mirror.copy.entries[path] for path in source}
        _assert_copied_what_changed(had, has, copied)
        assert mirror.misdescribed() == {}
        assert mirror.copy.update(delete=False) == frozenset()
        # Taken out later, the two are equal.
        mirror.copy.update(delete=True)
        mirror.finish()
        mirror.assert_equal()


def _but_for_links(fields: tuple[object, ...]) -> tuple[object, ...]:
    return (*fields[:7], *fields[8:])


def _names_of_one_file(found: dict[bytes, tuple[object, ...]]) -> set[frozenset[bytes]]:
    names: dict[object, set[bytes]] = {}
    for path, fields in found.items():
        if fields[7]:
            names.setdefault(fields[7], set()).add(path)
    return {frozenset(paths) for paths in names.values() if len(paths) > 1}


@given(trees(), changes_of_every_sort)
@example(LINKED, [("append", 0, 0)])
@example(LINKED, [("remove", 1, 0)])
@example(LINKED, [("remove", 0, 0)])
@example(LINKED, [("directory", 0, 0)])
@example(LINKED, [("directory", 2, 0), ("file", 2, 0)])
def test_after_any_changes_an_adding_pass_has_all_that_is_and_keeps_what_was(
    tree: Directory, changes: list[Change]
) -> None:
    _added_to(tree, changes, 1)


@few
@given(trees(), changes_of_every_sort)
@example(LINKED, [("append", 0, 0)])
def test_after_any_changes_an_adding_pass_by_two_processes_has_all_and_keeps_what_was(
    tree: Directory, changes: list[Change]
) -> None:
    _added_to(tree, changes, 2)


@fewest
@given(_many_changes, _jobs)
@example([("remove", number, 0) for number in range(3, 430, 25)], 2)
def test_after_any_changes_in_large_directories_an_adding_pass_keeps_what_was(
    changes: list[Change], jobs: int
) -> None:
    _added_to(CROWDED, changes, jobs)


def _under_no_directory(path: bytes, found: dict[bytes, tuple[object, ...]]) -> bool:
    while path := path.rpartition(b"/")[0]:
        if path in found and found[path][0] != 0o040000:
            return True
    return False


# Hard links


@several
def test_what_stays_of_a_hard_link_is_described_as_it_is(tmp_path: Path, jobs: int) -> None:
    # An adding pass keeps "z", which is gone, and copies "a" anew: they are one file no more.
    build(tmp_path / "source", Directory({b"a": File(b"x"), b"z": HardLink(b"a")}))
    with mirroring(tmp_path / "source", tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        (tmp_path / "source/z").unlink()
        mirror.update(delete=False)
        mirror.finish()
        assert not (tmp_path / "destination/a").samefile(tmp_path / "destination/z")
        assert mirror.misdescribed() == {}


@several
@pytest.mark.parametrize("delete", [True, False])
@pytest.mark.parametrize("others", [[b"b", b"c"], [b"d/b", b"z"], [b"d-/b", b"d/b"]])
def test_the_other_names_stay_one_file_when_the_first_is_taken_out(
    tmp_path: Path, others: list[bytes], delete: bool, jobs: int
) -> None:
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "d-").mkdir()
    (source / "!").write_bytes(b"x")
    for path in others:
        os.link(source / "!", os.fsencode(source) + b"/" + path)
    with mirroring(source, tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        wait_for_the_clock()
        (source / "!").unlink()
        assert mirror.update(delete=delete) == frozenset(others)
        mirror.finish()
        assert mirror.misdescribed() == {}
        copies = [os.fsencode(tmp_path / "destination") + b"/" + path for path in others]
        assert os.path.samefile(*copies)
        assert (tmp_path / "destination/!").exists() is not delete


@several
def test_the_other_names_stay_one_file_when_the_first_moves_out_with_its_directory(
    tmp_path: Path, jobs: int
) -> None:
    # Nothing but the directory changes: the file has the same ctime and as many names as before.
    source = tmp_path / "source"
    build(source, Directory({b"d": Directory({b"f": File(b"x")}), b"e": Directory()}))
    for name in ("one", "two"):
        os.link(source / "d/f", source / "e" / name)
    with mirroring(source, tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        wait_for_the_clock()
        (source / "d").rename(tmp_path / "outside")
        assert mirror.update() == {b"e/one", b"e/two"}
        mirror.finish()
        assert mirror.misdescribed() == {}
        copy = tmp_path / "destination/e"
        assert (copy / "one").samefile(copy / "two")
        (tmp_path / "outside").rename(source / "d")
        mirror.update(delete=False)
        mirror.finish()
        mirror.assert_equal()


@several
def test_the_first_name_is_the_first_in_the_order_of_the_walk(tmp_path: Path, jobs: int) -> None:
    # By the order in which directories are met it would be "c/x".
    deep = Directory({b"b": Directory({b"x": HardLink(b"c/x")})})
    build(tmp_path / "source", Directory({b"a": deep, b"c": Directory({b"x": File(b"x")})}))
    with mirroring(tmp_path / "source", tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        mirror.finish()
        mirror.assert_equal()
        assert mirror.copy.entries[b"a/b/x"].link == b""
        assert mirror.copy.entries[b"c/x"].link == b"a/b/x"


@several
def test_what_is_kept_of_a_hard_link_has_nothing_copied_again_and_again(
    tmp_path: Path, jobs: int
) -> None:
    names = [b"a", b"b", b"c", b"d"]
    build(
        tmp_path / "source",
        Directory({b"a": File(b"x"), **dict.fromkeys(names[1:], HardLink(b"a"))}),
    )
    with mirroring(tmp_path / "source", tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        for gone, left in ((b"a", {b"b", b"c", b"d"}), (b"c", {b"b", b"d"}), (b"d", {b"b"})):
            wait_for_the_clock()
            (tmp_path / "source" / gone.decode()).unlink()
            assert mirror.update(delete=False) == left
            assert mirror.copy.update(delete=False) == frozenset()
            mirror.finish()
            assert mirror.misdescribed() == {}


@several
def test_links_that_come_and_go_between_passes_are_followed(tmp_path: Path, jobs: int) -> None:
    source = tmp_path / "source"
    some = {b"d": Directory(crowd(CROWD)), b"e": Directory(crowd(2))}
    build(source, Directory({**some, b"large": File(bytes(LARGE_BYTES))}))
    with mirroring(source, tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        changes: list[Callable[[], object]] = [
            lambda: os.link(source / "d/00100", source / "e/linked"),
            lambda: os.link(source / "large", source / "e/large"),
            lambda: os.link(source / "e/linked", source / "!linked"),
            (source / "d/00100").unlink,
            lambda: os.truncate(source / "e/large", LARGE_BYTES - 1),
            (source / "large").unlink,
            lambda: os.replace(source / "!linked", source / "d/00300"),
            (source / "e/linked").unlink,
            lambda: (source / "e").rename(source / "!e"),
            lambda: (source / "d/00300").write_bytes(b"single again"),
        ]
        for change in changes:
            wait_for_the_clock()
            change()
            mirror.update()
            mirror.finish()
            mirror.assert_equal()


# Large files, and directories of many


@several
def test_large_files_are_followed_through_all_their_changes(tmp_path: Path, jobs: int) -> None:
    source = tmp_path / "source"
    at, over = File(os.urandom(LARGE_BYTES)), File(os.urandom(LARGE_BYTES + 1))
    build(source, Directory({b"d": Directory({b"grows": File(b"x"), b"at": at}), b"over": over}))
    with mirroring(source, tmp_path / "destination", jobs=jobs) as mirror:
        told: list[int] = []
        mirror.update(advance=told.append)
        mirror.finish()
        mirror.assert_equal()
        assert sum(told) == 3
        assert sum(mirror.pieces) == 2 * LARGE_BYTES + 2
        changes: list[tuple[Callable[[], object], set[bytes]]] = [
            (lambda: os.truncate(source / "d/grows", LARGE_BYTES), {b"d/grows"}),
            (lambda: os.truncate(source / "over", 1), {b"over"}),
            (lambda: (source / "d/at").rename(source / "d/renamed"), {b"d/renamed"}),
            (lambda: (source / "d/renamed").chmod(0o600), {b"d/renamed"}),
            ((source / "d/renamed").unlink, set()),
        ]
        for change, copied in changes:
            wait_for_the_clock()
            change()
            assert mirror.update() == copied
            mirror.finish()
            mirror.assert_equal()


@several
def test_a_file_of_a_large_directory_becomes_a_directory_and_another_one_a_file(
    tmp_path: Path, jobs: int
) -> None:
    source = tmp_path / "source"
    inside = Directory({b"file": File(b"x"), b"below": Directory({b"file": File(b"y")})})
    build(source, Directory({**crowd(600), b"00250+": inside, b"00599+": inside}))
    with mirroring(source, tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        wait_for_the_clock()
        for name in ("00250+", "00599+"):
            shutil.rmtree(source / name)
            (source / name).write_bytes(b"a file now")
        for number in range(400, 599):  # the part with the new directory takes long
            (source / f"{number:05}").write_bytes(bytes(100_000))
        for name in ("00200", "00599"):
            (source / name).unlink()
            (source / name / "below").mkdir(parents=True)
            (source / name / "file").write_bytes(b"z")
        mirror.update()
        mirror.finish()
        mirror.assert_equal()


@several
@pytest.mark.parametrize("delete", [True, False])
def test_a_large_directory_is_emptied_and_filled_again(
    tmp_path: Path, delete: bool, jobs: int
) -> None:
    source = tmp_path / "source"
    build(source, Directory({b"d": Directory(crowd(CROWD))}))
    with mirroring(source, tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        for name in os.listdir(source / "d"):
            (source / "d" / name).unlink()
        assert mirror.update(delete=delete) == frozenset()
        mirror.finish()
        assert mirror.misdescribed() == {}
        assert len(mirror.copy.entries) == (2 if delete else CROWD + 2)
        for number in range(CROWD + 200):
            (source / "d" / f"{number:05}").write_bytes(b"again")
        copied = mirror.update(delete=delete)
        assert copied == {b"d/%05d" % number for number in range(CROWD + 200)}
        mirror.finish()
        mirror.assert_equal()


def test_a_tree_deeper_than_any_path_is_copied(tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    depth, name = 300, b"d" * 100
    descriptor = os.open(root, os.O_RDONLY)
    for level in range(depth):
        os.mkdir(name, dir_fd=descriptor)
        below = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        with open(os.open(b"file", os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=below), "wb") as file:
            file.write(b"%d" % level)
        os.symlink(b"%d" % level, b"link", dir_fd=below)
        descriptor = below
    os.close(descriptor)
    with mirroring(root, tmp_path / "destination") as mirror:
        mirror.update()
        mirror.finish()
        assert mirror.misdescribed() == {}
        assert mirror.update() == frozenset()
    one, two = os.open(root, os.O_RDONLY), os.open(tmp_path / "destination", os.O_RDONLY)
    for level in range(depth):
        lower = [os.open(name, os.O_RDONLY, dir_fd=descriptor) for descriptor in (one, two)]
        os.close(one)
        os.close(two)
        one, two = lower
        assert os.fstat(one).st_mtime_ns == os.fstat(two).st_mtime_ns
        assert os.readlink(b"link", dir_fd=two) == b"%d" % level
        with open(os.open(b"file", os.O_RDONLY, dir_fd=two), "rb") as file:
            assert file.read() == b"%d" % level
    assert os.listdir(two) == os.listdir(one)
    os.close(one)
    os.close(two)


@several
def test_directories_that_hand_down_access_lists_are_copied_exactly(
    tmp_path: Path, jobs: int
) -> None:
    build(tmp_path / "source", Directory({**LINKED.children, **CROWDED.children}))
    for path in ("d", "crowd", "crowd/z"):
        os.setxattr(tmp_path / "source" / path, *access_list(default=True))
    with mirroring(tmp_path / "source", tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        mirror.finish()
        mirror.assert_equal()


@several
def test_a_copy_takes_no_access_lists_from_the_place_it_is_made_in(
    tmp_path: Path, jobs: int
) -> None:
    build(tmp_path / "source", Directory({**LINKED.children, **CROWDED.children}))
    (tmp_path / "place").mkdir()
    os.setxattr(tmp_path / "place", *access_list(default=True))
    with mirroring(tmp_path / "source", tmp_path / "place/destination", jobs=jobs) as mirror:
        mirror.update()
        mirror.finish()
        mirror.assert_equal()


# What changes during a pass


def _tree(tmp_path: Path) -> Path:
    build(
        tmp_path / "source",
        Directory({b"a": File(b"a"), b"b": File(b"b"), b"d": Directory({b"f": File(b"f")})}),
    )
    return tmp_path / "source"


class At:
    """Makes a change once so many pieces were read, in order of the names."""

    def __init__(self) -> None:
        self._left = 0
        self._change: Callable[[], object] = lambda: None

    def set(self, number: int, change: Callable[[], object]) -> None:
        """Have a change made at a piece, counted from 1 on."""
        self._left, self._change = number, change

    @property
    def done(self) -> bool:
        return not self._left

    def __call__(self, count: int) -> None:
        if self._left and count:
            self._left -= 1
            if not self._left:
                self._change()


def test_a_file_that_vanishes_during_a_pass_is_gone_from_the_copy(tmp_path: Path) -> None:
    source, at = _tree(tmp_path), At()
    with mirroring(source, tmp_path / "destination", at) as mirror:
        at.set(1, (source / "b").unlink)
        mirror.update()
        assert at.done
        assert b"b" not in mirror.copy.entries
        mirror.update()
        mirror.finish()
        mirror.assert_equal()


@pytest.mark.parametrize("delete", [True, False])
def test_a_known_file_that_vanishes_during_a_pass_goes_or_stays(
    tmp_path: Path, delete: bool
) -> None:
    source, at = _tree(tmp_path), At()
    with mirroring(source, tmp_path / "destination", at) as mirror:
        mirror.update()
        (source / "a").write_bytes(b"longer")
        at.set(1, (source / "b").unlink)
        assert mirror.update(delete=delete) == {b"a"}
        assert at.done
        mirror.finish()
        assert mirror.misdescribed() == {}
        assert (tmp_path / "destination/b").exists() is not delete
        mirror.update()
        mirror.finish()
        mirror.assert_equal()


@pytest.mark.parametrize("delete", [True, False])
def test_a_changed_file_that_vanishes_during_a_pass_leaves_no_old_copy_for_a_new_one(
    tmp_path: Path, delete: bool
) -> None:
    # It vanishes between the look at it and the reading: the old copy has gone by then.
    source, at = _tree(tmp_path), At()
    large = b"x" * LARGE_BYTES
    (source / "b").write_bytes(large)
    with mirroring(source, tmp_path / "destination", at) as mirror:
        mirror.update()
        (source / "b").write_bytes(large + b"x")
        (source / "d/f").write_bytes(b"longer")
        at.set(1, (source / "b").unlink)  # at "d/f": large files come last
        assert mirror.update(delete=delete) == {b"d/f"}
        assert at.done
        assert b"b" not in mirror.copy.entries
        assert not (tmp_path / "destination/b").exists()
        mirror.update(delete=delete)
        mirror.finish()
        mirror.assert_equal()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("delete", [True, False])
@pytest.mark.parametrize("instead", ["nothing", "file", "link", "pipe", "directory"])
def test_a_directory_that_becomes_something_else_during_a_pass_is_seen_by_the_next(
    tmp_path: Path, instead: str, delete: bool, known: bool
) -> None:
    source, at = _tree(tmp_path), At()

    def change() -> None:
        (source / "d").rename(tmp_path / "aside")
        match instead:
            case "file":
                (source / "d").write_bytes(b"file")
            case "link":
                (source / "d").symlink_to(tmp_path / "aside")
            case "pipe":
                os.mkfifo(source / "d")
            case "directory":
                (source / "d").mkdir()

    with mirroring(source, tmp_path / "destination", at) as mirror:
        if known:
            mirror.update()
            (source / "b").write_bytes(b"changed")
        at.set(1 if known else 2, change)  # at "b"
        mirror.update(delete=delete)
        assert at.done
        assert mirror.misdescribed().keys() <= {b"", b"d"}  # the directories are not finished
        mirror.finish()
        assert mirror.misdescribed() == {}
        mirror.update()
        mirror.finish()
        mirror.assert_equal()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_parts_of_a_large_directory_that_change_during_a_pass_are_seen_by_the_next(
    tmp_path: Path, kind: str
) -> None:
    source, at = tmp_path / "source", At()
    build(source, Directory(crowd(2 * CROWD)))

    def change() -> None:
        for number in range(100, 2 * CROWD, 50):
            path = source / f"{number:05}"
            path.unlink()
            match kind:
                case "directory":
                    path.mkdir()
                    (path / "inside").write_bytes(b"x")
                case "link":
                    path.symlink_to("00000")

    with mirroring(source, tmp_path / "destination", at) as mirror:
        at.set(5, change)
        mirror.update()
        assert at.done
        mirror.finish()
        assert mirror.misdescribed() == {}
        mirror.update()
        mirror.finish()
        mirror.assert_equal()


@pytest.mark.parametrize("long_way", [True, False])
def test_a_file_linked_again_during_a_pass_is_one_file_in_the_copy(
    tmp_path: Path, long_way: bool
) -> None:
    # "b" was listed with one name; by the time it is read it has two, or while it is.
    source, at = _tree(tmp_path), At()
    if long_way:
        os.setxattr(source / "b", "user.origin", b"x")
    with mirroring(source, tmp_path / "destination", at) as mirror:
        at.set(2 if long_way else 1, lambda: os.link(source / "b", source / "d/b"))
        mirror.update()
        assert at.done
        mirror.update()
        mirror.finish()
        mirror.assert_equal()


def test_names_of_a_file_that_change_while_it_is_linked_are_mended_by_the_next_pass(
    tmp_path: Path,
) -> None:
    source, at = tmp_path / "source", At()
    names = [b"a", b"b", b"c", b"d"]
    build(source, Directory({b"a": File(b"x"), **{name: HardLink(b"a") for name in names[1:]}}))

    def change() -> None:
        (source / "b").unlink()
        (source / "b").write_bytes(b"another")
        (source / "d").unlink()
        (source / "d").mkdir()

    with mirroring(source, tmp_path / "destination", at) as mirror:
        at.set(1, change)
        mirror.update()
        assert at.done
        mirror.finish()
        assert mirror.misdescribed() == {}
        mirror.update()
        mirror.finish()
        mirror.assert_equal()


def test_a_directory_replaced_between_passes_is_read_anew(tmp_path: Path) -> None:
    # The first pass ends with a directory that has vanished: nothing of it may be remembered.
    source, at = tmp_path / "source", At()
    build(source, Directory({b"d": Directory({b"f": File(b"old"), b"g": Directory()})}))
    with mirroring(source, tmp_path / "destination", at) as mirror:
        at.set(1, (source / "d/g").rmdir)  # at "d/f"
        mirror.update()
        assert at.done
        (source / "d").rename(tmp_path / "aside")
        (source / "d").mkdir()
        (source / "d/new").write_bytes(b"new")
        mirror.update()
        mirror.finish()
        mirror.assert_equal()


def test_directories_replaced_between_passes_are_read_anew_by_all_workers(tmp_path: Path) -> None:
    # What a worker still has open of the pass before is not what is there now.
    source = tmp_path / "source"
    names = [b"%02d" % number for number in range(40)]
    old = Directory({name: Directory({b"f": File(b"old")}) for name in names})
    new = Directory({name: Directory({b"f": File(b"new")}) for name in names})
    build(source, Directory({b"d": old}))
    with mirroring(source, tmp_path / "destination", jobs=2) as mirror:
        mirror.update()
        (source / "d").rename(tmp_path / "aside")
        build(source / "d", new)
        assert mirror.update() == {b"d/%b/f" % name for name in names}
        mirror.finish()
        mirror.assert_equal()


class Growing:
    """Has a file grow by a byte at each of its readings, for as long as it is wanted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.wanted = True
        path.write_bytes(b"0123456789")
        os.setxattr(path, "user.origin", b"x")  # such a file is read piece by piece

    def __call__(self, count: int) -> None:
        if self.wanted and count > 1:
            with self.path.open("ab") as file:
                file.write(b"+")


@pytest.mark.parametrize("linked", [True, False])
def test_a_file_that_would_not_settle_is_copied_again_until_it_does(
    tmp_path: Path, linked: bool
) -> None:
    source = _tree(tmp_path)
    names = {b"a", b"d/a"} if linked else {b"a"}
    if linked:
        os.link(source / "a", source / "d/a")
    growing = Growing(source / "a")
    with mirroring(source, tmp_path / "destination", growing) as mirror:
        mirror.update()
        assert b"a" in mirror.copy.unsettled
        assert mirror.copy.unsettled <= names
        growing.wanted = False
        assert mirror.update(delete=False) == names
        assert not mirror.copy.unsettled
        mirror.finish()
        mirror.assert_equal()
        assert mirror.update() == frozenset()


def test_a_file_that_would_not_settle_does_so_under_more_names(tmp_path: Path) -> None:
    source = _tree(tmp_path)
    growing = Growing(source / "a")
    with mirroring(source, tmp_path / "destination", growing) as mirror:
        mirror.update()
        assert mirror.copy.unsettled == {b"a"}
        growing.wanted = False
        os.link(source / "a", source / "d/a")
        assert mirror.update() == {b"a", b"d/a"}
        assert not mirror.copy.unsettled
        mirror.finish()
        mirror.assert_equal()


@pytest.mark.parametrize("delete", [True, False])
def test_a_file_that_would_not_settle_and_is_gone_is_known_as_long_as_it_stays(
    tmp_path: Path, delete: bool
) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination", Growing(source / "a")) as mirror:
        mirror.update()
        (source / "a").unlink()
        mirror.update(delete=delete)
        assert mirror.copy.unsettled == (set() if delete else {b"a"})


def test_what_would_not_settle_in_a_directory_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination", Growing(source / "d/f")) as mirror:
        mirror.update()
        assert mirror.copy.unsettled == {b"d/f"}
        shutil.rmtree(source / "d")
        (source / "d").write_bytes(b"d")
        mirror.update()
        assert not mirror.copy.unsettled


def test_a_file_replaced_by_another_of_the_same_size_and_times_is_copied(tmp_path: Path) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination") as mirror:
        mirror.update()
        times = (source / "a").stat()
        (source / "new").write_bytes(b"!")
        os.utime(source / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
        (source / "new").rename(source / "a")
        assert mirror.update() == {b"a"}
        assert (tmp_path / "destination/a").read_bytes() == b"!"


@several
def test_directories_that_change_places_with_files_of_the_same_times_are_told_apart(
    tmp_path: Path, jobs: int
) -> None:
    # Nothing but their inodes tells the files apart: they change neither their times nor size.
    source = tmp_path / "source"
    for _ in range(200):
        for name, content in (("d", b"one"), ("e", b"two")):
            (source / name).mkdir(parents=True)
            (source / name / "f").write_bytes(content)
        for name in ("d", "e"):
            os.utime(source / name / "f", ns=(5, 5))
        if len({(source / name / "f").stat().st_ctime_ns for name in ("d", "e")}) == 1:
            break
        shutil.rmtree(source)
    else:
        pytest.skip("the clock of this file system is too fine for two files to have one ctime")
    with mirroring(source, tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        (source / "d").rename(source / "aside")
        (source / "e").rename(source / "d")
        (source / "aside").rename(source / "e")
        assert mirror.update() == {b"d/f", b"e/f"}
        mirror.finish()
        mirror.assert_equal()


def test_what_changed_within_a_tick_of_its_reading_is_copied_again(tmp_path: Path) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination") as mirror:
        (source / "a").write_bytes(b"!")
        mirror.copy.update(delete=True)
        assert mirror.copy.entries[b"a"].changed_ns == _NEVER
        assert b"a" in mirror.update()
        assert mirror.update() == frozenset()


@several
def test_a_changed_mode_alone_is_copied(tmp_path: Path, jobs: int) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        mirror.finish()
        wait_for_the_clock()
        (source / "a").chmod(0o4711)
        (source / "d").chmod(0o1700)
        os.setxattr(source / "d", "user.origin", b"x")
        assert mirror.update() == {b"a"}
        mirror.finish()
        mirror.assert_equal()


# Passes that go on while something else is done


@several
def test_a_pass_goes_on_by_itself_and_is_finished_later(tmp_path: Path, jobs: int) -> None:
    build(tmp_path / "source", CROWDED)
    with mirroring(tmp_path / "source", tmp_path / "destination", jobs=jobs) as mirror:
        update = mirror.copy.start(delete=True)
        wanted = len(read(tmp_path / "source"))
        for _ in range(20_000 if jobs > 1 else 1):
            update.pump()
            if len(mirror.copy.entries) == wanted:
                break
            time.sleep(0.001)
        if jobs > 1:  # it is done by now, and nobody waited for it
            assert len(mirror.copy.entries) == wanted
        assert update.finish() == frozenset()
        mirror.copy.pump()
        mirror.copy.wait()
        mirror.finish()
        mirror.assert_equal()
        (tmp_path / "source/new").write_bytes(b"x")
        update = mirror.copy.start(delete=True)
        update.pump()
        assert b"new" in update.finish()
        mirror.finish()
        mirror.assert_equal()


# Failures


@several
def test_what_cannot_be_removed_is_a_failure_once_and_for_all(tmp_path: Path, jobs: int) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        (source / "a").unlink()
        (tmp_path / "destination/a").unlink()
        for _ in range(2):
            with pytest.raises(DestinationError, match=r"cannot remove .*/destination/a: No such"):
                mirror.update()
        with pytest.raises(DestinationError, match=r"cannot remove .*/destination/a: No such"):
            mirror.finish()


@several
def test_what_cannot_be_written_is_a_failure(tmp_path: Path, jobs: int) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination", jobs=jobs) as mirror:
        mirror.update()
        (source / "more").mkdir()
        (tmp_path / "destination/more").mkdir()
        with pytest.raises(DestinationError, match=r"/destination/more: File exists"):
            mirror.update(delete=False)


@several
@pytest.mark.parametrize("path", ["file", "large", "with attributes", "linked"])
def test_what_is_in_the_way_is_not_written_over(tmp_path: Path, path: str, jobs: int) -> None:
    source = tmp_path / "source"
    attributes = (("user.origin", b"x"),)
    tree = Directory(
        {b"large": File(bytes(LARGE_BYTES)), b"linked": File(b"x"), b"file": File(b"y")}
    )
    build(source, Directory({**tree.children, b"with attributes": File(b"z", xattrs=attributes)}))
    os.link(source / "linked", source / "linked too")
    with mirroring(source, tmp_path / "destination", jobs=jobs) as mirror:
        (tmp_path / "destination" / path).mkdir()
        with pytest.raises(DestinationError, match=rf"cannot .* .*/destination/{path}: "):
            mirror.update()
        assert os.listdir(tmp_path / "destination" / path) == []


def test_attributes_of_a_directory_that_cannot_be_read_are_a_failure(tmp_path: Path) -> None:
    source = _tree(tmp_path)

    def copy() -> None:
        with mirroring(source, tmp_path / "destination") as mirror:
            mirror.copy.update(delete=True)

    with pytest.raises(SourceError, match=r"cannot read .*/source: Input/output error"):
        with_refusal(FLISTXATTR, errno.EIO, copy)


def test_a_directory_that_cannot_be_listed_is_a_failure(tmp_path: Path) -> None:
    source = _tree(tmp_path)

    def copy() -> None:
        with mirroring(source, tmp_path / "destination") as mirror:
            mirror.copy.update(delete=True)

    with pytest.raises(SourceError, match=r"cannot read .*/source: Input/output error"):
        with_refusal(GETDENTS64, errno.EIO, copy)


@several
@pytest.mark.parametrize("missing", ["source", "destination"])
def test_a_tree_that_cannot_be_opened_is_a_failure(tmp_path: Path, missing: str, jobs: int) -> None:
    (tmp_path / ({"source", "destination"} - {missing}).pop()).mkdir()
    kind = SourceError if missing == "source" else DestinationError
    listed = Trees(source=tmp_path / "source", copy=tmp_path / "destination")
    with (
        pytest.raises(kind, match=rf"cannot read .*/{missing}: No such file"),
        crew(listed, jobs=jobs) as workers,
    ):
        TreeCopy(workers).update(delete=True)


def test_an_unprivileged_copy_notes_what_it_could_not_keep() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        tree = Directory({b"f": File(b"x"), b"d": Directory({b"p": Pipe(0o644)}), b"s": Link(b"f")})
        build(root / "source", tree)
        root.chmod(0o777)
        with (
            unprivileged(),
            mirroring(root / "source", root / "destination") as mirror,
        ):
            mirror.update()
            mirror.finish()
            assert mirror.copy.entries.tally() == (3, 1, 1, 5, 5, 0)
            assert {field for fields in mirror.misdescribed().values() for field in fields} == {
                "owner"
            }
            assert (root / "destination/f").stat().st_uid == NOBODY
        # Root, at the next pass, can keep it all.
        listed = Trees(source=root / "source", copy=root / "destination")
        with crew(listed, jobs=1) as workers:
            again = TreeCopy(workers)
            again.entries = mirror.copy.entries
            again.finish()
            assert again.entries.tally() == (3, 1, 1, 3, 3, 0)
        assert (root / "destination/d").stat().st_uid == 0
