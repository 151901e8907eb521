"""Scanning a tree: everything is described once, nothing is followed."""

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.errors import DestinationError, OpsError, SourceError
from ops.model import Entry, Kind, kind_of
from ops.tree.directories import Directories
from ops.tree.scan import TreeMeter, TreeSize, leaves_tree, scan_tree, survey_tree, walk
from tests.filesystem import (
    GETDENTS64,
    READLINKAT,
    Directory,
    File,
    HardLink,
    Link,
    Pipe,
    build,
    footprint,
    read,
    unprivileged,
    with_refusal,
)
from tests.strategies import trees


def _scan(root: Path, error: type[OpsError] = SourceError) -> list[Entry]:
    return list(scan_tree(root, error=error))


def _survey(root: Path, error: type[OpsError] = SourceError) -> list[Entry]:
    return list(survey_tree(root, TreeMeter(), error=error))


both = pytest.mark.parametrize("look", [_scan, _survey])
"""A full scan and the quick survey fail alike."""

Look = Callable[..., list[Entry]]


def _measure(root: Path) -> TreeSize:
    meter = TreeMeter()
    for entry in scan_tree(root, error=SourceError):
        meter.add(entry)
    return meter.size


@given(trees())
def test_a_scan_finds_what_is_there_and_changes_nothing(tree: Directory) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "tree"
        build(root, tree)
        before = footprint(root)
        entries = list(scan_tree(root, error=SourceError))
        assert footprint(root) == before
        found = read(root)
        assert [entry.path for entry in entries if entry.path not in found] == []
        assert len(entries) == len(found)
        for entry in entries:
            kind, mode, uid, gid, mtime, size, content, *_ = found[entry.path]
            assert isinstance(kind, int)
            assert entry.kind is kind_of(kind)
            assert (entry.mode, entry.uid, entry.gid) == (mode, uid, gid)
            assert (entry.modified_ns, entry.size) == (
                mtime,
                size if entry.kind is Kind.FILE else 0,
            )
            assert entry.target == (content if entry.kind is Kind.SYMLINK else b"")
            assert entry.digest == ""


@given(trees())
def test_a_scan_tells_a_directory_before_what_it_holds_and_names_in_order(tree: Directory) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "tree"
        build(root, tree)
        seen: set[bytes] = set()
        siblings: dict[tuple[bytes, bool], list[bytes]] = {}
        for entry in scan_tree(root, error=SourceError):
            parent, slash, name = entry.path.rpartition(b"/")
            if entry.path:
                assert parent in seen or not slash
                of_a_kind = siblings.setdefault((parent, entry.kind is Kind.DIRECTORY), [])
                of_a_kind.append(name)
            else:
                assert not seen
            seen.add(entry.path)
        assert all(names == sorted(names) for names in siblings.values())


@both
def test_a_root_that_is_not_there_is_reported_by_name(tmp_path: Path, look: Look) -> None:
    with pytest.raises(DestinationError, match=r"cannot read .*/nowhere: No such file"):
        look(tmp_path / "nowhere", DestinationError)


@both
def test_a_root_that_is_a_file_or_a_link_is_refused(tmp_path: Path, look: Look) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    for name in ("file", "link"):
        with pytest.raises(SourceError, match=f"cannot read .*/{name}: Not a directory"):
            look(tmp_path / name)


def test_a_directory_that_vanishes_during_the_walk_is_left_out(tmp_path: Path) -> None:
    build(tmp_path / "tree", Directory({b"a": File(), b"b": Directory(), b"c": Directory()}))
    paths: list[bytes] = []
    for entry in scan_tree(tmp_path / "tree", error=SourceError):
        paths.append(entry.path)
        if entry.path == b"a":
            (tmp_path / "tree/b").rmdir()
    assert paths == [b"", b"a", b"c"]


@pytest.mark.parametrize("instead", ["file", "link"])
def test_a_directory_that_becomes_something_else_during_the_walk_is_left_out(
    tmp_path: Path, instead: str
) -> None:
    build(tmp_path / "tree", Directory({b"a": File(), b"b": Directory(), b"c": Directory()}))
    paths: list[bytes] = []
    for entry in scan_tree(tmp_path / "tree", error=SourceError):
        paths.append(entry.path)
        if entry.path == b"a":
            (tmp_path / "tree/b").rmdir()
            if instead == "file":
                (tmp_path / "tree/b").touch()
            else:
                (tmp_path / "tree/b").symlink_to("c")
    assert paths == [b"", b"a", b"c"]


@both
def test_a_link_that_vanishes_between_listing_and_reading_is_left_out(
    tmp_path: Path, look: Look
) -> None:
    build(tmp_path / "tree", Directory({b"pipe": Pipe(), b"link": Link(b"file")}))
    entries = with_refusal(READLINKAT, errno.ENOENT, lambda: look(tmp_path / "tree"))
    assert [entry.path for entry in entries] == [b"", b"pipe"]


@both
def test_a_link_that_cannot_be_read_is_reported_with_its_full_path(
    tmp_path: Path, look: Look
) -> None:
    build(tmp_path / "tree", Directory({b"in": Directory({b"link": Link(b"file")})}))
    with pytest.raises(SourceError, match=r"/tree/in/link: Input/output error") as caught:
        with_refusal(READLINKAT, errno.EIO, lambda: look(tmp_path / "tree"))
    assert "kernel log" in caught.value.hint


@both
def test_a_directory_that_cannot_be_listed_is_reported_with_its_full_path(
    tmp_path: Path, look: Look
) -> None:
    build(tmp_path / "tree", Directory())
    with pytest.raises(SourceError, match=r"cannot read .*/tree: Input/output error"):
        with_refusal(GETDENTS64, errno.EIO, lambda: look(tmp_path / "tree"))


@both
def test_a_directory_that_may_not_be_read_is_reported_with_what_to_do(look: Look) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        build(Path(directory) / "tree", Directory({b"closed": Directory(mode=0o700)}))
        with (
            unprivileged(),
            pytest.raises(SourceError, match=r"/tree/closed: Permission denied") as caught,
        ):
            look(Path(directory) / "tree")
    assert "root" in caught.value.hint


def test_a_walk_left_early_leaves_no_descriptor_open(tmp_path: Path) -> None:
    build(tmp_path / "tree", Directory({b"a": Directory({b"b": Directory()})}))
    before = set(os.listdir("/dev/fd"))
    with Directories(tmp_path / "tree") as tree:
        for entry in walk(tree):
            if entry.path == b"a/b":
                break
    assert set(os.listdir("/dev/fd")) == before


_parts = st.sampled_from([b"..", b".", b"", b"a", b"b"])
_targets = st.lists(_parts, min_size=1, max_size=6).map(b"/".join)


@given(st.lists(st.sampled_from([b"x", b"y"]), min_size=1, max_size=4).map(b"/".join), _targets)
@example(b"x", b"../x")
@example(b"x", b"a/../..")
@example(b"x/y", b"..")
@example(b"x", b"..a")
def test_a_link_leaves_its_tree_when_its_text_climbs_over_the_root(
    path: bytes, target: bytes
) -> None:
    entry = Entry(path=path, kind=Kind.SYMLINK, target=target)
    resolved = os.path.normpath(os.path.join(os.path.dirname(path), target))
    outside = target.startswith(b"/") or resolved == b".." or resolved.startswith(b"../")
    assert leaves_tree(entry) == outside


def test_an_empty_tree_takes_one_block(tmp_path: Path) -> None:
    build(tmp_path / "tree", Directory())
    assert _measure(tmp_path / "tree") == TreeSize(files=0, entries=1, bytes=0, room=4096)


@given(trees())
def test_totals_are_those_of_what_is_there(tree: Directory) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "tree"
        build(root, tree)
        found = read(root)
        size = _measure(root)
        files = [fields for fields in found.values() if fields[0] == stat.S_IFREG]
        assert size.entries == len(found)
        assert size.files == len(files)
        assert size.bytes == sum(fields[5] for fields in files if isinstance(fields[5], int))
        directories = sum(fields[0] == stat.S_IFDIR for fields in found.values())
        assert size.room % 4096 == 0
        assert size.room >= directories * 4096


def test_room_counts_whole_blocks_once_and_no_holes(tmp_path: Path) -> None:
    build(
        tmp_path / "tree",
        Directory({b"a": File(b"x" * 5000), b"b": HardLink(b"a"), b"tiny": File(b"x")}),
    )
    size = _measure(tmp_path / "tree")
    assert (size.files, size.bytes, size.room) == (3, 10_001, 4096 + 8192 + 4096)
    with (tmp_path / "tree/sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(1 << 20)
        file.write(b"x")
    grown = _measure(tmp_path / "tree")
    assert grown.bytes == size.bytes + (1 << 30)
    assert grown.room - size.room <= 1 << 16


# The quick survey


@given(trees())
def test_a_survey_adds_up_what_a_scan_finds_and_tells_of_all_but_files(tree: Directory) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "tree"
        build(root, tree)
        before = footprint(root)
        meter = TreeMeter()
        told = {entry.path: entry for entry in survey_tree(root, meter, error=SourceError)}
        assert footprint(root) == before
        assert meter.size == _measure(root)
        others = [entry for entry in _scan(root) if entry.kind is not Kind.FILE]
        assert told.keys() == {entry.path for entry in others}
        for entry in others:
            accessed = told[entry.path].accessed_ns  # that of a link is changed by reading it
            assert told[entry.path] == replace(entry, accessed_ns=accessed)


@pytest.mark.parametrize("instead", ["nothing", "file", "link"])
def test_a_survey_leaves_out_what_is_gone_by_the_time_it_gets_there(
    tmp_path: Path, instead: str
) -> None:
    inside = Directory({b"file": File(b"x"), b"pipe": Pipe()})
    build(tmp_path / "tree", Directory({b"a": Pipe(), b"b": inside, b"c": inside}))
    meter, paths = TreeMeter(), []
    for entry in survey_tree(tmp_path / "tree", meter, error=SourceError):
        paths.append(entry.path)
        if entry.path == b"a":
            (tmp_path / "tree/b").rename(tmp_path / "aside")
            if instead == "file":
                (tmp_path / "tree/b").touch()
            elif instead == "link":
                (tmp_path / "tree/b").symlink_to(tmp_path / "aside")
    assert paths == [b"", b"a", b"c", b"c/pipe"]
    assert (meter.size.files, meter.size.entries) == (1, 5)
