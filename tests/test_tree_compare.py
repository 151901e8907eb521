"""Reading a tree and comparing it: every byte counts, and every change shows."""

import errno
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from ops.errors import DestinationError, OpsError, SourceError
from ops.model import Entry, Kind, Severity, narrowed_mode
from ops.tree.catalogue import Catalogue
from ops.tree.compare import Difference, compare_trees, differences
from ops.tree.crew import crew
from ops.tree.reading import read_tree
from ops.tree.transfer import BUFFER_BYTES
from ops.tree.work import LARGE_BYTES, MOST_NAMES, Trees
from tests.filesystem import (
    FLISTXATTR,
    Directory,
    File,
    HardLink,
    Link,
    Node,
    Pipe,
    build,
    footprint,
    read,
    with_refusal,
)
from tests.strategies import trees

_DEADLINE_SECONDS = 60.0

several = pytest.mark.parametrize("jobs", [1, 2])
few = settings(
    max_examples=max(4, settings().max_examples // 5),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
"""For what takes longer, to start processes; what fails stays as it is, since to make it small
would take minutes."""
fewest = settings(few, max_examples=max(2, settings().max_examples // 10))
"""For large directories."""


@contextmanager
def deadline(seconds: float = _DEADLINE_SECONDS) -> Iterator[None]:
    """Fail what takes longer: processes that wait for each other do so for ever.

    Only the main thread can be stopped like that; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"not done after {seconds} seconds", pytrace=True)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def catalogue(
    root: Path,
    *,
    jobs: int = 1,
    blame: str = "source",
    digests: bool = True,
    from_disk: bool = False,
    pieces: Callable[[int], None] = lambda _count: None,
    files: Callable[[int], None] = lambda _count: None,
) -> Catalogue:
    """Read a tree."""
    trees = Trees(source=root, blame=blame, digests=digests, from_disk=from_disk)
    with crew(trees, jobs=jobs, advance=pieces) as workers:
        return read_tree(workers, advance=files)


def _fields(expected: Path, found: Path) -> dict[bytes, list[str]]:
    """Say for each path in which fields two trees differ; no field where one lacks the path."""
    before, after = catalogue(expected), catalogue(found)
    fields: dict[bytes, list[str]] = {path: [] for path in before.keys() ^ after.keys()}
    for path in before.keys() & after.keys():
        if different := differences(before[path], after[path]):
            fields[path] = [one.field for one in different]
    return fields


def assert_linked_in_order(entries: Catalogue) -> None:
    """Require that of the names of each file the first has no link, and the others lead to it."""
    met: set[bytes] = set()
    for path, entry in entries.items():
        assert not entry.link or entry.link in met
        assert not entry.link or not entries[entry.link].link
        met.add(path)


def _read_right(tree: Directory, *, jobs: int, from_disk: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "tree"
        build(root, tree)
        before = footprint(root)
        pieces: list[int] = []
        told: list[int] = []
        with deadline():
            entries = catalogue(
                root, jobs=jobs, from_disk=from_disk, pieces=pieces.append, files=told.append
            )
        assert footprint(root) == before
        found = read(root)
        assert entries.keys() == found.keys()
        linked: dict[object, set[bytes]] = {}
        for path, (_, mode, uid, gid, mtime, _, content, link, xattrs) in found.items():
            entry = entries[path]
            assert (entry.mode, entry.uid, entry.gid) == (mode, uid, gid)
            assert (entry.modified_ns, entry.xattrs) == (mtime, xattrs)
            if entry.kind is Kind.FILE:
                assert entry.digest == content
            assert entry.target == (content if entry.kind is Kind.SYMLINK else b"")
            if link:
                linked.setdefault(link, set()).add(path)
        for names in linked.values():
            # One of them, met first, has no link; the others point to it.
            first = {path for path in names if not entries[path].link}
            assert {entries[path].link for path in names} <= {b"", *first}
            assert len(first) == 1
        assert_linked_in_order(entries)
        once = [entry for entry in entries.values() if not entry.link]
        assert sum(pieces) == sum(entry.size for entry in once)
        assert sum(told) == sum(entry.kind is Kind.FILE for entry in entries.values())


_CROWD: dict[bytes, Node] = {
    b"%05d" % number: File(b"%d" % number) for number in range(MOST_NAMES + 1)
}
CROWDED = Directory(
    {
        b"crowd": Directory(
            {
                **_CROWD,
                b"00100+": HardLink(b"crowd/00400"),
                b"00200+": Link(b"00200"),
                b"00300+": Directory({b"linked": HardLink(b"crowd/00300")}),
                b"00350+": Pipe(),
            }
        ),
        b"large": File(b"x" * LARGE_BYTES),
        b"large too": HardLink(b"large"),
    }
)


_ACROSS = Directory(
    {
        b"a": Directory({b"b": Directory({b"x": HardLink(b"c/x")})}),
        b"c": Directory({b"x": File(b"x")}),
    }
)


@given(trees(), st.booleans())
@example(_ACROSS, False)
def test_a_tree_is_read_as_it_is_and_left_as_it_was(tree: Directory, from_disk: bool) -> None:
    _read_right(tree, jobs=1, from_disk=from_disk)


@few
@given(trees(), st.booleans())
def test_a_tree_is_read_as_it_is_by_two_processes(tree: Directory, from_disk: bool) -> None:
    _read_right(tree, jobs=2, from_disk=from_disk)


@several
@pytest.mark.parametrize("from_disk", [True, False])
def test_large_files_and_directories_are_read_as_they_are(from_disk: bool, jobs: int) -> None:
    _read_right(CROWDED, jobs=jobs, from_disk=from_disk)


@given(trees())
def test_without_contents_no_byte_is_read(tree: Directory) -> None:
    _read_without_contents(tree, 1)


@several
def test_without_contents_no_byte_of_a_large_file_is_read(jobs: int) -> None:
    _read_without_contents(CROWDED, jobs)


def _read_without_contents(tree: Directory, jobs: int) -> None:
    with tempfile.TemporaryDirectory() as name, deadline():
        root = Path(name) / "tree"
        build(root, tree)
        pieces: list[int] = []
        quick = dict(catalogue(root, jobs=jobs, digests=False, pieces=pieces.append))
        assert sum(pieces) == 0
        assert quick == {
            path: replace(entry, digest="", accessed_ns=quick[path].accessed_ns)
            for path, entry in catalogue(root).items()
        }


@given(trees())
def test_a_tree_built_twice_shows_no_difference(tree: Directory) -> None:
    with tempfile.TemporaryDirectory() as name:
        one, two = Path(name) / "one", Path(name) / "two"
        build(one, tree)
        build(two, tree)
        # The two inodes of a pipe get their times from the clock.
        late = {path for path, entry in catalogue(one).items() if entry.kind in _TIMELESS}
        fields = _fields(one, two)
        assert fields.keys() <= late
        assert all(found == ["mtime"] for found in fields.values())


_TIMELESS = {Kind.FIFO, Kind.SYMLINK}


@given(st.binary(min_size=1, max_size=300), st.integers(0), st.integers(1, 255))
@example(b"x" * (BUFFER_BYTES + 1), BUFFER_BYTES, 1)
@example(b"x" * BUFFER_BYTES, BUFFER_BYTES - 1, 1)
def test_one_changed_byte_shows_though_nothing_else_does(
    content: bytes, position: int, change: int
) -> None:
    position %= len(content)
    other = bytearray(content)
    other[position] ^= change
    with tempfile.TemporaryDirectory() as name:
        one, two = Path(name) / "one", Path(name) / "two"
        build(one, Directory({b"file": File(content)}))
        build(two, Directory({b"file": File(bytes(other))}))
        assert _fields(one, two) == {b"file": ["content"]}


TREE = Directory(
    {
        b"a": File(b"content", xattrs=(("user.origin", b"x"),)),
        b"b": HardLink(b"a"),
        b"directory": Directory({b"inside": File()}),
        b"link": Link(b"a"),
        b"pipe": Pipe(),
    }
)


def _again(path: Path) -> None:
    """Give a file an inode of its own, with all it had."""
    content, status = path.read_bytes(), path.stat()
    attributes = [(name, os.getxattr(path, name)) for name in os.listxattr(path)]
    path.unlink()
    path.write_bytes(content)
    for name, value in attributes:
        os.setxattr(path, name, value)
    path.chmod(status.st_mode & 0o7777)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def keep_times(root: Path, change: Callable[[Path], object]) -> None:
    """Make a change that shows in no directory's times."""
    paths = [root, *root.rglob("*")]
    times = {path: path.lstat() for path in paths}
    change(root)
    for path, status in times.items():
        if path.exists() and path.is_dir():
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _touch(path: Path, *, follow_symlinks: bool = True) -> None:
    status = path.lstat()
    times = (status.st_atime_ns, status.st_mtime_ns + 1)
    os.utime(path, ns=times, follow_symlinks=follow_symlinks)


def _retarget(path: Path) -> None:
    status = path.lstat()
    path.unlink()
    path.symlink_to("b")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns), follow_symlinks=False)


def become_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: list[tuple[Callable[[Path], object], dict[bytes, list[str]]]] = [
    (Path.lstat, {}),
    (lambda root: (root / "directory/inside").unlink(), {b"directory/inside": []}),
    (lambda root: (root / "directory/more").touch(), {b"directory/more": []}),
    (lambda root: (root / "directory/inside").chmod(0o600), {b"directory/inside": ["mode"]}),
    (lambda root: (root / "directory/inside").chmod(0o4644), {b"directory/inside": ["mode"]}),
    (lambda root: (root / "directory").chmod(0o1755), {b"directory": ["mode"]}),
    (lambda root: root.chmod(0o700), {b"": ["mode"]}),
    (lambda root: (root / "pipe").chmod(0o620), {b"pipe": ["mode"]}),
    (lambda root: _touch(root / "directory/inside"), {b"directory/inside": ["mtime"]}),
    (lambda root: _touch(root / "pipe"), {b"pipe": ["mtime"]}),
    (lambda root: _touch(root / "link", follow_symlinks=False), {b"link": ["mtime"]}),
    (lambda root: _retarget(root / "link"), {b"link": ["link"]}),
    (lambda root: _again(root / "b"), {b"b": ["hard link"]}),
    (
        lambda root: os.setxattr(root / "a", "user.origin", b"y"),
        {b"a": ["xattrs"], b"b": ["xattrs"]},
    ),
    (
        lambda root: os.removexattr(root / "a", "user.origin"),
        {b"a": ["xattrs lost"], b"b": ["xattrs lost"]},
    ),
    (
        lambda root: os.setxattr(root / "directory", "user.new", b""),
        {b"directory": ["xattrs"]},
    ),
    (lambda root: become_directory(root / "pipe"), {b"pipe": ["kind"]}),
]


@pytest.mark.parametrize(("change", "fields"), CHANGES)
def test_one_change_shows_as_what_it_is(
    tmp_path: Path, change: Callable[[Path], object], fields: dict[bytes, list[str]]
) -> None:
    for name in ("one", "two"):
        build(tmp_path / name, TREE)
        for path in ("pipe", "link"):  # the clock gave them their times
            os.utime(tmp_path / name / path, ns=(5, 5), follow_symlinks=False)
    keep_times(tmp_path / "two", change)
    assert _fields(tmp_path / "one", tmp_path / "two") == fields


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away, and devices, take root")
def test_another_owner_or_device_shows(tmp_path: Path) -> None:
    for name, device in (("one", os.makedev(1, 3)), ("two", os.makedev(1, 5))):
        root = tmp_path / name
        root.mkdir()
        (root / "file").touch()
        os.mknod(root / "null", 0o020600, device)
        for path in (root / "file", root / "null", root):
            os.utime(path, ns=(5, 5))
    assert _fields(tmp_path / "one", tmp_path / "two") == {b"null": ["device"]}
    os.chown(tmp_path / "two/file", 1234, -1)
    os.chown(tmp_path / "one/null", -1, 1234)
    assert _fields(tmp_path / "one", tmp_path / "two") == {
        b"file": ["owner"],
        b"null": ["device", "owner"],
    }


ENTRY = Entry(
    path=b"a",
    kind=Kind.FILE,
    mode=0o644,
    modified_ns=1_500_000_000,
    size=3,
    digest="00",
    xattrs=(("user.a", b"1"), ("user.b", b"2")),
)


def test_what_is_expected_and_found_is_ready_to_print() -> None:
    found = replace(ENTRY, size=4, modified_ns=-1, target=b"x\n", link=b"\xff", mode=0o4000)
    assert differences(ENTRY, found) == (
        Difference(field="size", expected="3", found="4"),
        Difference(field="link", expected="", found="x\\n"),
        Difference(field="mode", expected="0644", found="4000"),
        Difference(field="mtime", expected="1.500000000", found="-1.999999999"),
        Difference(field="hard link", expected="", found="\\xff"),
    )
    other = differences(ENTRY, replace(ENTRY, kind=Kind.FIFO, size=0))
    assert other == (Difference(field="kind", expected="file", found="fifo"),)


@pytest.mark.parametrize("digest", ["", "00"])
def test_a_digest_counts_only_where_both_sides_have_one(digest: str) -> None:
    assert differences(replace(ENTRY, digest=digest), replace(ENTRY, digest="")) == ()
    assert [one.field for one in differences(ENTRY, replace(ENTRY, digest="11"))] == ["content"]


@pytest.mark.parametrize(
    ("xattrs", "field"),
    [
        ((), "xattrs lost"),
        ((("user.a", b"1"),), "xattrs lost"),
        ((("user.a", b"2"),), "xattrs"),
        ((("user.a", b"1"), ("user.b", b"2"), ("user.c", b"")), "xattrs"),
    ],
)
def test_lost_attributes_are_told_from_changed_ones(
    xattrs: tuple[tuple[str, bytes], ...], field: str
) -> None:
    assert [one.field for one in differences(ENTRY, replace(ENTRY, xattrs=xattrs))] == [field]


@given(st.integers(0, 0o7777), st.booleans(), st.booleans())
def test_a_mode_narrowed_for_want_of_its_owner_or_group_is_no_change_of_mode(
    mode: int, owner: bool, group: bool
) -> None:
    expected = replace(ENTRY, mode=mode, uid=0, gid=0)
    narrow = narrowed_mode(mode, owner_kept=owner, group_kept=group)
    found = replace(expected, mode=narrow, uid=0 if owner else 5, gid=0 if group else 5)
    fields = [one.field for one in differences(expected, found)]
    assert fields == ([] if owner and group else ["owner"])
    wider = replace(found, mode=narrow ^ 0o100)
    assert "mode" in [one.field for one in differences(expected, wider)]


def test_the_mode_of_a_link_does_not_count() -> None:
    link = replace(ENTRY, kind=Kind.SYMLINK, mode=0o777)
    assert differences(link, replace(link, mode=0o755)) == ()


def test_access_times_do_not_count() -> None:
    assert differences(ENTRY, replace(ENTRY, accessed_ns=9, changed_ns=9, identity=(1, 1))) == ()


# What changes, or cannot be read


def test_what_vanishes_meanwhile_is_left_out(tmp_path: Path) -> None:
    inside = Directory({b"file": File(b"z")})
    tree = Directory({b"a": File(b"x"), b"b": File(b"y"), b"d": inside, b"e": inside})
    build(tmp_path / "tree", tree)

    def remove(_count: int) -> None:
        (tmp_path / "tree/b").unlink(missing_ok=True)
        (tmp_path / "tree/d/file").unlink(missing_ok=True)
        if (tmp_path / "tree/d").exists():
            (tmp_path / "tree/d").rmdir()

    found = catalogue(tmp_path / "tree", pieces=remove)
    assert list(found) == [b"", b"a", b"e", b"e/file"]
    assert len(found) == 4


def test_a_hard_link_that_vanishes_or_becomes_a_directory_meanwhile_is_left_out(
    tmp_path: Path,
) -> None:
    names = {name: HardLink(b"a") for name in (b"b", b"c", b"d")}
    build(tmp_path / "tree", Directory({b"!": File(b"x"), b"a": File(b"x"), **names}))

    def remove(_count: int) -> None:
        if (tmp_path / "tree/a").exists():
            (tmp_path / "tree/a").unlink()
            (tmp_path / "tree/c").unlink()
            (tmp_path / "tree/c").mkdir()

    found = catalogue(tmp_path / "tree", pieces=remove)
    assert {path: entry.link for path, entry in found.items() if path} == {
        b"!": b"",
        b"b": b"",
        b"d": b"b",
    }


@pytest.mark.parametrize("instead", ["link", "pipe", "directory", "nothing"])
@pytest.mark.parametrize("size", [1, LARGE_BYTES])
def test_a_file_that_becomes_something_else_is_read_as_that_and_not_followed(
    tmp_path: Path, size: int, instead: str
) -> None:
    build(tmp_path / "tree", Directory({b"a": File(b"x"), b"b": File(b"y" * size)}))
    pieces: list[int] = []

    def swap(count: int) -> None:
        pieces.append(count)
        (tmp_path / "tree/b").unlink()
        match instead:
            case "link":
                (tmp_path / "tree/b").symlink_to("a")
            case "pipe":
                os.mkfifo(tmp_path / "tree/b")
            case "directory":
                (tmp_path / "tree/b").mkdir()

    found = catalogue(tmp_path / "tree", pieces=swap)
    assert pieces == [1]
    if instead in {"directory", "nothing"}:
        assert b"b" not in found
    else:
        kind = Kind.SYMLINK if instead == "link" else Kind.FIFO
        target = b"a" if instead == "link" else b""
        entry = found[b"b"]
        assert (entry.kind, entry.target, entry.digest, entry.size) == (kind, target, "", 0)


def test_attributes_that_cannot_be_read_are_a_failure(tmp_path: Path) -> None:
    build(tmp_path / "tree", Directory({b"a": File(b"x")}))
    with pytest.raises(SourceError, match=r"cannot read .*/tree: Input/output error"):
        with_refusal(FLISTXATTR, errno.EIO, lambda: catalogue(tmp_path / "tree"))


@several
@pytest.mark.parametrize(
    ("blame", "kind"), [("source", SourceError), ("destination", DestinationError)]
)
def test_a_tree_that_is_not_there_is_reported_by_name(
    tmp_path: Path, blame: str, kind: type[OpsError], jobs: int
) -> None:
    with deadline(), pytest.raises(kind, match=r"cannot read .*/nowhere: No such file"):
        catalogue(tmp_path / "nowhere", blame=blame, jobs=jobs)


# Comparing whole trees


def test_two_catalogues_are_compared_as_mappings(tmp_path: Path) -> None:
    for name in ("one", "two"):
        build(tmp_path / name, TREE)
        for path in ("pipe", "link"):
            os.utime(tmp_path / name / path, ns=(5, 5), follow_symlinks=False)
    one, two = catalogue(tmp_path / "one"), catalogue(tmp_path / "two")
    assert compare_trees(one, two) == ()
    (tmp_path / "two/a").chmod(0o600)
    become_directory(tmp_path / "two/pipe")
    found = compare_trees(one, catalogue(tmp_path / "two"))
    errors = {(finding.kind, finding.where) for finding in found}
    assert {finding.severity for finding in found} == {Severity.ERROR}
    assert errors >= {("changed", "a: mode"), ("changed", "b: mode"), ("changed", "pipe: kind")}
