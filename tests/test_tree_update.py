"""Passes over a tree: after the last one the copy is what the source is."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.errors import DestinationError, SourceError
from ops.model import Entry, Kind
from ops.tree.compare import differences, read_tree
from ops.tree.copying import Copier, VanishedError
from ops.tree.directories import Directories
from ops.tree.metadata import Kept
from ops.tree.update import Pass, TreeCopy, finish_copy, remove_entries, update_copy
from tests.filesystem import (
    NOBODY,
    Directory,
    File,
    HardLink,
    Link,
    Pipe,
    build,
    footprint,
    read,
    unprivileged,
)
from tests.strategies import trees
from tests.test_tree_metadata import access_list

_REST_SECONDS = 0.06


@dataclass
class Mirror:
    """A source, a copy of it, and the passes from one to the other."""

    reading: Directories
    copier: Copier
    source: Path
    destination: Path
    pieces: list[int]
    copy: TreeCopy = field(default_factory=TreeCopy)

    def update(
        self, *, delete: bool = True, advance: Callable[[Entry], None] = lambda _entry: None
    ) -> Pass:
        time.sleep(_REST_SECONDS)  # what changed within a tick of its reading is read again
        return update_copy(self.reading, self.copier, self.copy, delete=delete, advance=advance)

    def finish(self) -> None:
        finish_copy(self.copier, self.copy)

    def misdescribed(self) -> dict[bytes, list[str]]:
        """Say in what the record of the copy differs from what a true re-read finds there."""
        found = {entry.path: entry for entry in read_tree(self.destination, error=SourceError)}
        fields: dict[bytes, list[str]] = {
            path: ["path"] for path in found.keys() ^ self.copy.entries.keys()
        }
        for path in found.keys() & self.copy.entries.keys():
            if different := differences(self.copy.entries[path], found[path]):
                fields[path] = [one.field for one in different]
        return fields


@contextmanager
def mirroring(
    source: Path, destination: Path, advance: Callable[[int], None] = lambda _count: None
) -> Iterator[Mirror]:
    destination.mkdir(mode=0o700)
    pieces: list[int] = []

    def count(piece: int) -> None:
        pieces.append(piece)
        advance(piece)

    with Directories(source) as reading, Directories(destination) as writing:
        copier = Copier(reading, writing, advance=count)
        yield Mirror(reading, copier, source, destination, pieces)


@contextmanager
def temporary_mirror(tree: Directory) -> Iterator[Mirror]:
    with tempfile.TemporaryDirectory() as name:
        build(Path(name) / "source", tree)
        with mirroring(Path(name) / "source", Path(name) / "destination") as mirror:
            yield mirror


@given(trees())
def test_a_copy_reads_back_equal_and_the_source_is_untouched(tree: Directory) -> None:
    with temporary_mirror(tree) as mirror:
        before = footprint(mirror.source)
        told: list[bytes] = []
        done = mirror.update(advance=lambda entry: told.append(entry.path))
        mirror.finish()
        assert footprint(mirror.source) == before
        assert read(mirror.destination) == read(mirror.source)
        assert mirror.misdescribed() == {}
        assert done.copied == done.new == mirror.copy.entries.keys() == set(told)
        assert len(told) == len(set(told))
        assert done.gone == frozenset()
        assert not mirror.copy.unsettled
        assert not mirror.copy.narrowed


@given(trees(), st.booleans())
def test_a_second_pass_over_an_unchanged_tree_copies_nothing(tree: Directory, delete: bool) -> None:
    with temporary_mirror(tree) as mirror:
        mirror.update()
        mirror.finish()
        mirror.pieces.clear()
        before = footprint(mirror.destination)
        told: list[bytes] = []
        done = mirror.update(delete=delete, advance=lambda entry: told.append(entry.path))
        assert done == Pass(copied=frozenset(), new=frozenset(), gone=frozenset())
        assert mirror.pieces == []
        assert footprint(mirror.destination) == before
        assert set(told) == mirror.copy.entries.keys()


# Changes of every sort, at entries picked by number.

_Change = tuple[str, int, int]
_changes = st.lists(
    st.tuples(
        st.sampled_from(
            ["append", "remove", "file", "directory", "link", "mode", "move", "hard link", "xattr"]
        ),
        st.integers(0, 20),
        st.integers(0, 20),
    ),
    min_size=1,
    max_size=8,
)


def _wait_for_the_clock() -> None:
    """Let a change have another ctime than what came before: kernels count in ticks of 10 ms."""
    time.sleep(0.011)


def _apply(root: Path, changes: list[_Change]) -> None:
    _wait_for_the_clock()
    for number, (change, one, two) in enumerate(changes):
        base = os.fsencode(root)
        paths = [base + b"/" + path for path in sorted(read(root)) if path]
        folders = [base, *(path for path in paths if os.path.isdir(path) and not _is_link(path))]
        fresh = folders[two % len(folders)] + b"/new-%d" % number
        while os.path.lexists(fresh):
            fresh += b"+"
        if not paths:
            os.mkdir(fresh)
            continue
        _change(change, paths[one % len(paths)], fresh)


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


LINKED = Directory(
    {
        b"a": File(b"x"),
        b"b": HardLink(b"a"),
        b"d": Directory({b"f": File(), b"p": Pipe(), b"s": Link(b"f")}),
        b"z": HardLink(b"a"),
    }
)


@given(trees(), st.lists(_changes, min_size=1, max_size=3))
@example(LINKED, [[("directory", 0, 0)], [("file", 0, 0)]])
@example(LINKED, [[("remove", 0, 0)]])
@example(LINKED, [[("file", 2, 0)], [("directory", 2, 0)]])
@example(LINKED, [[("hard link", 0, 1), ("append", 1, 0)]])
@example(LINKED, [[("move", 2, 0)]])
def test_after_any_changes_a_mirroring_pass_reads_back_equal(
    tree: Directory, rounds: list[list[_Change]]
) -> None:
    with temporary_mirror(tree) as mirror:
        mirror.update()
        for changes in rounds:
            had = set(mirror.copy.entries)
            _apply(mirror.source, changes)
            before = footprint(mirror.source)
            done = mirror.update(delete=True)
            mirror.finish()
            assert footprint(mirror.source) == before
            assert read(mirror.destination) == read(mirror.source)
            assert mirror.misdescribed() == {}
            assert done.new == mirror.copy.entries.keys() - had
            source = read(mirror.source)
            lost = had - source.keys()
            # What lay below a directory that is one no more went with it, not one by one.
            assert done.gone == {path for path in lost if not _under_no_directory(path, source)}
            assert done.new <= done.copied
        assert mirror.update().copied == frozenset()


@given(trees(), _changes)
@example(LINKED, [("append", 0, 0)])
def test_after_any_changes_an_adding_pass_has_all_that_is_and_keeps_what_was(
    tree: Directory, changes: list[_Change]
) -> None:
    with temporary_mirror(tree) as mirror:
        mirror.update()
        had = set(mirror.copy.entries)
        _apply(mirror.source, changes)
        done = mirror.update(delete=False)
        mirror.finish()
        source, destination = read(mirror.source), read(mirror.destination)
        assert {path: destination[path][:7] for path in source} == {
            path: fields[:7] for path, fields in source.items()
        }
        # What lay below a directory that is one no more cannot stay.
        lost = had - destination.keys()
        assert all(_under_no_directory(path, source) for path in lost)
        assert done.gone == destination.keys() - source.keys()
        # Taken out later, the two are equal.
        remove_entries(mirror.copier, mirror.copy, done.gone)
        mirror.finish()
        assert read(mirror.destination) == source
        assert mirror.misdescribed() == {}


def _under_no_directory(path: bytes, found: dict[bytes, tuple[object, ...]]) -> bool:
    while path := path.rpartition(b"/")[0]:
        if path in found and found[path][0] != 0o040000:
            return True
    return False


def test_what_stays_of_a_hard_link_is_described_as_it_is(tmp_path: Path) -> None:
    # An adding pass keeps "z", which is gone, and copies "a" anew: they are one file no more.
    build(tmp_path / "source", Directory({b"a": File(b"x"), b"z": HardLink(b"a")}))
    with mirroring(tmp_path / "source", tmp_path / "destination") as mirror:
        mirror.update()
        (tmp_path / "source/z").unlink()
        done = mirror.update(delete=False)
        mirror.finish()
        assert done.gone == {b"z"}
        assert not (tmp_path / "destination/a").samefile(tmp_path / "destination/z")
        assert mirror.misdescribed() == {}


@pytest.mark.parametrize("others", [[b"b", b"c"], [b"d/b", b"z"], [b"d-/b", b"d/b"]])
def test_the_other_names_stay_one_file_when_the_first_is_taken_out(
    tmp_path: Path, others: list[bytes]
) -> None:
    (tmp_path / "source/d").mkdir(parents=True)
    (tmp_path / "source/d-").mkdir()
    (tmp_path / "source/!").write_bytes(b"x")
    for path in others:
        os.link(tmp_path / "source/!", os.fsencode(tmp_path / "source") + b"/" + path)
    with mirroring(tmp_path / "source", tmp_path / "destination") as mirror:
        mirror.update()
        remove_entries(mirror.copier, mirror.copy, frozenset({b"!"}))
        mirror.finish()
        assert mirror.misdescribed() == {}
        copies = [os.fsencode(tmp_path / "destination") + b"/" + path for path in others]
        assert os.path.samefile(*copies)


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
        assert mirror.update().copied == frozenset()
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


def test_directories_that_hand_down_access_lists_are_copied_exactly(tmp_path: Path) -> None:
    build(tmp_path / "source", LINKED)
    os.setxattr(tmp_path / "source/d", *access_list(default=True))
    with mirroring(tmp_path / "source", tmp_path / "destination") as mirror:
        mirror.update()
        mirror.finish()
        assert read(tmp_path / "destination") == read(tmp_path / "source")
        assert mirror.misdescribed() == {}


def test_a_copy_takes_no_access_lists_from_the_place_it_is_made_in(tmp_path: Path) -> None:
    build(tmp_path / "source", LINKED)
    (tmp_path / "place").mkdir()
    os.setxattr(tmp_path / "place", *access_list(default=True))
    with mirroring(tmp_path / "source", tmp_path / "place/destination") as mirror:
        mirror.update()
        mirror.finish()
        assert mirror.misdescribed() == {}
        assert read(tmp_path / "place/destination") == read(tmp_path / "source")


# What changes during a pass


def _tree(tmp_path: Path) -> Path:
    build(
        tmp_path / "source",
        Directory({b"a": File(b"a"), b"b": File(b"b"), b"d": Directory({b"f": File(b"f")})}),
    )
    return tmp_path / "source"


def _at(path: bytes, change: Callable[[], object]) -> Callable[[Entry], None]:
    """Make a change once an entry is dealt with."""

    def advance(entry: Entry) -> None:
        if entry.path == path:
            change()

    return advance


def test_a_file_that_vanishes_during_a_pass_is_gone_from_the_copy(tmp_path: Path) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination") as mirror:
        done = mirror.update(advance=_at(b"a", (source / "b").unlink))
        assert b"b" not in done.copied | mirror.copy.entries.keys()
        mirror.update()
        mirror.finish()
        assert read(tmp_path / "destination") == read(source)
        assert mirror.misdescribed() == {}


def test_a_changed_file_that_vanishes_during_a_pass_leaves_no_old_copy(tmp_path: Path) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination") as mirror:
        mirror.update()
        (source / "b").write_bytes(b"longer")
        done = mirror.update(delete=False, advance=_at(b"a", (source / "b").unlink))
        assert b"b" not in done.copied | done.gone | mirror.copy.entries.keys()
        assert not (tmp_path / "destination/b").exists()


@pytest.mark.parametrize("instead", ["nothing", "file", "link", "pipe", "directory"])
def test_a_directory_that_becomes_something_else_during_a_pass_is_seen_by_the_next(
    tmp_path: Path, instead: str
) -> None:
    source = _tree(tmp_path)

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

    with mirroring(source, tmp_path / "destination") as mirror:
        mirror.update(advance=_at(b"b", change))
        mirror.update()
        mirror.finish()
        assert read(tmp_path / "destination") == read(source)
        assert mirror.misdescribed() == {}


def test_a_file_linked_again_during_a_pass_is_one_file_in_the_copy(tmp_path: Path) -> None:
    # "b" was listed with one name; by the time it is read it has two.
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination") as mirror:
        mirror.update(advance=_at(b"a", lambda: os.link(source / "b", source / "d/b")))
        mirror.update()
        mirror.finish()
        assert read(tmp_path / "destination") == read(source)


def test_a_directory_replaced_between_passes_is_read_anew(tmp_path: Path) -> None:
    # The first pass ends with a directory that has vanished: nothing of it may be remembered.
    source = tmp_path / "source"
    build(source, Directory({b"d": Directory({b"f": File(b"old"), b"g": Directory()})}))
    with mirroring(source, tmp_path / "destination") as mirror:
        mirror.update(advance=_at(b"d/f", (source / "d/g").rmdir))
        (source / "d").rename(tmp_path / "aside")
        (source / "d").mkdir()
        (source / "d/new").write_bytes(b"new")
        mirror.update()
        mirror.finish()
        assert read(tmp_path / "destination") == read(source)


def test_a_file_that_would_not_settle_is_copied_again_until_it_does(tmp_path: Path) -> None:
    source = _tree(tmp_path)
    os.link(source / "a", source / "d/a")
    growing = True

    def grow(count: int) -> None:
        if growing and count > 1:
            with (source / "a").open("ab") as file:
                file.write(b"+")

    (source / "a").write_bytes(b"0123456789")
    with mirroring(source, tmp_path / "destination", grow) as mirror:
        mirror.update()
        assert b"a" in mirror.copy.unsettled
        growing = False
        done = mirror.update(delete=False)
        assert done.copied == {b"a", b"d/a"}
        assert done.new == frozenset()
        assert not mirror.copy.unsettled
        mirror.finish()
        assert read(tmp_path / "destination") == read(source)
        assert mirror.update().copied == frozenset()


def test_a_file_replaced_by_another_of_the_same_size_and_times_is_copied(tmp_path: Path) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination") as mirror:
        mirror.update()
        times = (source / "a").stat()
        (source / "new").write_bytes(b"!")
        os.utime(source / "new", ns=(times.st_atime_ns, times.st_mtime_ns))
        (source / "new").rename(source / "a")
        assert mirror.update().copied == {b"a"}
        assert (tmp_path / "destination/a").read_bytes() == b"!"


def test_a_changed_mode_alone_is_copied(tmp_path: Path) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination") as mirror:
        mirror.update()
        mirror.finish()
        _wait_for_the_clock()
        (source / "a").chmod(0o4711)
        (source / "d").chmod(0o1700)
        os.setxattr(source / "d", "user.origin", b"x")
        mirror.update()
        mirror.finish()
        assert read(tmp_path / "destination") == read(source)


# Failures


def test_what_cannot_be_written_or_removed_is_a_failure(tmp_path: Path) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination") as mirror:
        mirror.update()
        (source / "a").unlink()
        (tmp_path / "destination/a").unlink()
        with pytest.raises(DestinationError, match=r"cannot remove .*/destination/a: No such"):
            mirror.update()
        (source / "more").mkdir()
        (tmp_path / "destination/more").mkdir()
        with pytest.raises(DestinationError, match=r"/destination/more: File exists"):
            mirror.update(delete=False)


def test_a_directory_that_vanished_for_the_copier_is_left_out(tmp_path: Path) -> None:
    source = _tree(tmp_path)
    with mirroring(source, tmp_path / "destination") as mirror:
        mirror.update()
        with pytest.raises(VanishedError):
            mirror.copier.directory_xattrs(b"d/gone")
        assert mirror.update().copied == frozenset()


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
            less = Kept(owner=False, group=False)
            assert mirror.copy.narrowed == dict.fromkeys([b"", b"f", b"d", b"d/p", b"s"], less)
            assert {field for fields in mirror.misdescribed().values() for field in fields} == {
                "owner"
            }
            assert (root / "destination/f").stat().st_uid == NOBODY
        # Root, at the next pass, can keep it all.
        with Directories(root / "source") as reading, Directories(root / "destination") as writing:
            copier = Copier(reading, writing, advance=lambda _count: None)
            again = TreeCopy()
            again.entries.update(mirror.copy.entries)
            finish_copy(copier, again)
            assert again.narrowed == {}
        assert (root / "destination/d").stat().st_uid == 0


def test_what_is_forgotten_is_forgotten_altogether() -> None:
    copy = TreeCopy(
        entries={b"a": Entry(path=b"a", kind=Kind.FILE)},
        unsettled={b"a"},
        narrowed={b"a": Kept(owner=False)},
    )
    copy.forget(b"a")
    assert copy == TreeCopy()
