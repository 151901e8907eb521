"""The payload of a snapshot: what goes in comes out again, and what did not change is shared."""

import errno
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.errors import DestinationError, SourceError
from ops.tree.bringing import Bringer
from ops.tree.catalogue import Catalogue
from ops.tree.crew import Crew, crew
from ops.tree.describing import Describe
from ops.tree.directories import Directories
from ops.tree.finishing import Finish
from ops.tree.inspection import Inspection
from ops.tree.ledger import encode_head, read_ledger
from ops.tree.reading import Checking
from ops.tree.records import FLAGS, SHARED
from ops.tree.restoring import Restoring
from ops.tree.sharing import Sharer
from ops.tree.stored import FILE_MODE, Payload, stored_name, stored_path
from ops.tree.update import TreeCopy
from ops.tree.work import LARGE_BYTES, Trees
from tests.faults.filesystems import volume
from tests.filesystem import (
    FCHMOD,
    UTIMENSAT,
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
from tests.mounting import tmpfs
from tests.strategies import trees
from tests.test_stored_names import ODD
from tests.test_tree_compare import deadline, few, several
from tests.test_tree_metadata import access_list
from tests.test_tree_update import (
    CROWDED,
    LINKED,
    Change,
    apply_changes,
    changes_of_every_sort,
    wait_for_the_clock,
)

PREFIX = b"data/attachments/"


@dataclass(frozen=True)
class Stored:
    """A payload and its ledger, as a snapshot has them."""

    path: Path

    @property
    def payload(self) -> Path:
        return self.path / "payload"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.jsonl"

    @property
    def earlier(self) -> tuple[Path, Path]:
        return self.ledger, self.payload

    def manifest(self) -> dict[bytes, str]:
        """Read what the manifest lists: digests by path."""
        lines = (self.path / "manifest").read_bytes().split(b"\n")
        assert lines.pop() == b""
        pairs = [line.split(b"  ", 1) for line in lines]
        assert len({path for _, path in pairs}) == len(pairs)
        return {path: digest.decode() for digest, path in pairs}

    def inode(self, path: bytes) -> int:
        return self.status(path).st_ino

    def status(self, path: bytes) -> os.stat_result:
        return os.lstat(os.fsencode(self.payload) + b"/" + stored_path(path))


@dataclass(frozen=True)
class Storing:
    """A payload in the making."""

    source: Path
    stored: Stored
    workers: Crew
    copy: TreeCopy

    def update(self, *, delete: bool = True) -> frozenset[bytes]:
        time.sleep(0.06)  # what changed within a tick of its reading is read again
        return self.copy.update(delete=delete)

    def describe(self) -> Describe:
        """Write ledger and manifest."""
        with (
            self.stored.ledger.open("wb") as ledger,
            (self.stored.path / "manifest").open("wb") as manifest,
        ):
            ledger.write(encode_head())

            def write(of_ledger: bytes, of_manifest: bytes) -> None:
                ledger.write(of_ledger)
                manifest.write(of_manifest)

            described = Describe(self.copy.entries, PREFIX, write)
            self.workers.start(described)
            self.workers.finish()
        return described


@contextmanager
def storing(
    source: Path,
    place: Path,
    *,
    earlier: tuple[Path, Path] | None = None,
    jobs: int = 1,
    advance: Callable[[int], None] = lambda _count: None,
) -> Iterator[Storing]:
    """Make a place for a payload, and those who fill it."""
    stored = Stored(place)
    place.mkdir(mode=0o700)
    stored.payload.mkdir(mode=0o700)
    listed = Trees(source=source, copy=stored.payload, stored=True, earlier=earlier)
    with deadline(), crew(listed, jobs=jobs, advance=advance) as workers:
        yield Storing(source, stored, workers, TreeCopy(workers))


def store(
    source: Path, place: Path, *, earlier: tuple[Path, Path] | None = None, jobs: int = 1
) -> tuple[Stored, Describe]:
    """Put a tree that rests into a payload, and describe it."""
    with storing(source, place, earlier=earlier, jobs=jobs) as making:
        making.copy.update(delete=True)
        return making.stored, making.describe()


def restore(
    stored: Stored,
    destination: Path,
    *,
    jobs: int = 1,
    advance: Callable[[int], None] = lambda _count: None,
    files: Callable[[int], None] = lambda _files: None,
) -> Catalogue:
    """Make a tree again, check it by reading it, and return what could be kept of it."""
    destination.mkdir(mode=0o700)
    entries = read_ledger(stored.ledger)
    listed = Trees(source=stored.payload, copy=destination, from_store=True)
    with deadline(), crew(listed, jobs=jobs, advance=advance) as workers:
        workers.start(Restoring(entries, files))
        workers.finish()
        workers.start(Finish(entries))
        workers.finish()
        checking = Checking(entries, destination)
        workers.start(checking)
        workers.finish()
        assert checking.result(workers).findings == ()
    return entries


def inspect(stored: Stored, entries: Catalogue | None = None, *, jobs: int = 1) -> Inspection:
    """Check a payload, against its ledger where nothing else is given."""
    listed = Trees(source=stored.payload, blame="destination", from_store=True)
    with deadline(), crew(listed, jobs=jobs) as workers:
        inspection = Inspection(read_ledger(stored.ledger) if entries is None else entries)
        workers.start(inspection)
        workers.finish()
    return inspection


def assert_plain(payload: Path) -> None:
    """Require that a payload holds nothing but directories and files, under names that travel."""
    for directory, below, names in os.walk(os.fsencode(payload)):
        status = os.lstat(directory)
        assert stat.S_ISDIR(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == 0o700
        for name in names:
            status = os.lstat(directory + b"/" + name)
            assert stat.S_ISREG(status.st_mode)
            assert stat.S_IMODE(status.st_mode) == FILE_MODE
            assert os.listxattr(directory + b"/" + name) == []
        for name in below + names:
            name.decode()
            assert b"%" not in name


def assert_described(source: Path, stored: Stored, described: Describe) -> None:
    """Compare a manifest and its totals with what is in the source, and in the payload."""
    files: dict[bytes, str] = {}
    sizes: dict[tuple[int, int], int] = {}
    named, links = 0, {}
    base = os.fsencode(source)
    for directory, below, names in os.walk(base):
        for name in below + names:
            path = directory + b"/" + name
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                links[path[len(base) + 1 :]] = os.readlink(path)
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()
                files[PREFIX + stored_path(path[len(base) + 1 :])] = digest
                sizes[status.st_dev, status.st_ino] = status.st_size
                named += status.st_size
    assert stored.manifest() == files
    assert described.files == len(files)
    assert described.bytes == sum(sizes.values())
    assert described.named_bytes == named
    assert {entry.path: entry.target for entry in described.links} == links
    for path, digest in files.items():
        with open(os.fsencode(stored.payload) + b"/" + path[len(PREFIX) :], "rb") as file:
            assert hashlib.sha256(file.read()).hexdigest() == digest


# What is put into a payload comes out again


def _stored_and_restored(tree: Directory, jobs: int, prepare: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source = root / "source"
        build(source, tree)
        prepare(source)
        before = footprint(source)
        stored, described = store(source, root / "snapshot", jobs=jobs)
        assert footprint(source) == before
        assert_plain(stored.payload)
        assert_described(source, stored, described)
        assert (described.shared_files, described.shared_bytes) == (0, 0)
        inspection = inspect(stored, jobs=jobs)
        assert inspection.findings() == ()
        assert inspection.files == inspection.files_read == described.files
        assert inspection.bytes_read == described.named_bytes
        kept = footprint(stored.path)
        told: list[int] = []
        files: list[int] = []
        restore(stored, root / "again", jobs=jobs, advance=told.append, files=files.append)
        assert footprint(stored.path) == kept
        assert read(root / "again") == read(source)
        assert sum(files) == described.files


@given(trees())
@example(LINKED)
def test_any_tree_is_stored_and_restored(tree: Directory) -> None:
    _stored_and_restored(tree, 1, lambda _source: None)


@few
@given(trees())
@example(LINKED)
def test_any_tree_is_stored_and_restored_by_two_processes(tree: Directory) -> None:
    _stored_and_restored(tree, 2, lambda _source: None)


_DEEP = Directory(
    {b"\xff": Directory({b"d": Directory({b"\xff\n": Directory({b"\xfe": File()})})})}
)
HAND_MADE = Directory(
    {
        **CROWDED.children,
        b"odd": Directory({name: File(name) for name in ODD}),
        b"odd directories": Directory({name: Directory({b"f": File(name)}) for name in ODD}),
        b"crowd \xff": Directory(
            {b"%05d\xff" % number: File(b"%d" % number) for number in range(450)}
        ),
        b"deep": _DEEP,
        b"empty": Directory({}, mode=0o2711),
        b"large": File(b"x" * (LARGE_BYTES + 1), mode=0o600),
        b"larger\xff": File(bytes(range(256)) * (LARGE_BYTES // 256 + 999), mode=0o4755),
        b"large link": HardLink(b"large"),
        b"\xfflink": Link(b"\xff\n"),
        b"pipe%": Pipe(0o640),
        b"z": Directory(
            {b"\xff": HardLink(b"odd/\xff"), b"linked": HardLink(b"larger\xff")}, mode=0o1777
        ),
        b"modes": Directory(
            {b"%04o" % mode: File(b"x", mode=mode) for mode in (0, 0o111, 0o4755, 0o2710, 0o7777)}
        ),
        b"old": File(b"x", mtime_ns=-1),
        b"new": File(b"x", mtime_ns=7_258_118_400 * 10**9 + 1),
    }
)
"""One of each that a payload cannot hold as it is."""


def _add_what_cannot_be_described(source: Path) -> None:
    os.mknod(source / "socket", stat.S_IFSOCK | 0o600)
    os.link(source / "socket", source / "z/socket")
    os.link(os.fsencode(source) + b"/\xfflink", source / "z/link", follow_symlinks=False)
    os.link(source / "pipe%", source / "z/pipe")
    with (source / "sparse").open("wb") as file:
        file.truncate(3 * LARGE_BYTES)
        file.seek(LARGE_BYTES)
        file.write(b"x")
    with (source / "hole").open("wb") as file:
        file.truncate(100_000)
    os.setxattr(source / "modes", *access_list(default=True))
    os.setxattr(source / "hole", *access_list())
    if os.geteuid() == 0:
        os.mknod(source / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.chown(source / "old", 1234, 4321)
        os.chown(source / "empty", 1234, 4321)
        os.lchown(os.fsencode(source) + b"/\xfflink", 1234, 4321)


@several
def test_a_tree_of_everything_is_stored_and_restored(jobs: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("what nobody may read takes root")
    _stored_and_restored(HAND_MADE, jobs, _add_what_cannot_be_described)


def test_holes_stay_holes(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name, size in ("large", 3 * LARGE_BYTES), ("small", 100_000):
        with (source / name).open("wb") as file:
            file.truncate(size)
            file.seek(size // 2)
            file.write(b"x")
    stored, _ = store(source, tmp_path / "snapshot")
    restore(stored, tmp_path / "again")
    assert read(tmp_path / "again") == read(source)
    for name in ("large", "small"):
        assert (tmp_path / "again" / name).stat().st_blocks * 512 <= 16384
        assert stored.status(name.encode()).st_blocks * 512 <= 16384


def test_paths_longer_than_the_kernel_takes_are_stored_and_restored(tmp_path: Path) -> None:
    # Each is longer in the payload than it is in the source.
    stored = tmp_path / "source"
    stored.mkdir()
    depth = 40
    here = os.open(stored, os.O_RDONLY)
    for number in range(depth):
        name = b"\xff" * 200 + b"%03d" % number
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with os.fdopen(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here), "wb") as file:
        file.write(b"x")
    os.close(here)
    snapshot, described = store(stored, tmp_path / "snapshot")
    assert described.files == 1
    assert inspect(snapshot).findings() == ()
    entries = restore(snapshot, tmp_path / "again")
    assert len(entries) == depth + 2


def test_what_a_directory_hands_down_stays_out_of_a_payload(tmp_path: Path) -> None:
    build(tmp_path / "source", Directory({b"d": Directory({b"f": File(b"x")}), b"f": File(b"x")}))
    tmp_path.chmod(0o700)
    try:
        os.setxattr(tmp_path, *access_list(default=True))
    except OSError:
        pytest.skip("this file system has no access control lists")
    umask = os.umask(0o377)
    try:
        with tempfile.TemporaryDirectory() as other:
            shutil.move(tmp_path / "source", Path(other) / "source")
            os.umask(umask)
            stored, _ = store(Path(other) / "source", tmp_path / "snapshot")
    finally:
        os.umask(umask)
    for path in (b"f", b"d/f"):
        assert stat.S_IMODE(stored.status(path).st_mode) == FILE_MODE
        assert os.listxattr(stored.payload / os.fsdecode(path)) == []


# Passes over a source that changes


def _followed(tree: Directory, rounds: list[list[Change]], jobs: int, *, delete: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        build(root / "source", tree)
        with storing(root / "source", root / "snapshot", jobs=jobs) as making:
            making.update()
            for changes in rounds:
                apply_changes(root / "source", changes)
                making.update(delete=delete)
                assert inspect(making.stored, making.copy.entries).findings() == ()
                assert making.copy.unsettled == set()
            if not delete:  # what is gone stayed, and goes now
                had = read(root / "source")
                described = making.describe()
                restore(making.stored, root / "more", jobs=jobs)
                more = read(root / "more")
                assert had.keys() <= more.keys()
                assert described.files == sum(
                    stat.S_ISREG(int(str(one[0]))) for one in more.values()
                )
                making.update(delete=True)
            assert_plain(making.stored.payload)
            described = making.describe()
            assert_described(root / "source", making.stored, described)
            assert inspect(making.stored).findings() == ()
            restore(making.stored, root / "again", jobs=jobs)
            assert read(root / "again") == read(root / "source")


_ODDLY = Directory(
    {
        b"\xff": File(b"x"),
        b"\xffd": Directory({b"a\n": File(b"y"), b"\xfe": Directory({b"%": Pipe()})}),
        b"link%": Link(b"\xff"),
        b"other": HardLink(b"\xff"),
    }
)


@given(trees(), st.lists(changes_of_every_sort, min_size=1, max_size=2), st.booleans())
@example(LINKED, [[("directory", 0, 0)], [("file", 0, 0)]], True)
@example(LINKED, [[("directory", 0, 0)], [("file", 0, 0)]], False)
@example(LINKED, [[("hard link", 0, 1), ("append", 1, 0)]], True)
@example(_ODDLY, [[("file", 3, 0)], [("directory", 3, 0)]], True)
@example(_ODDLY, [[("link", 4, 0)], [("file", 4, 0)], [("directory", 4, 0)]], True)
@example(_ODDLY, [[("directory", 0, 0)], [("link", 0, 0)], [("file", 0, 0)]], True)
@example(_ODDLY, [[("directory", 1, 0), ("move", 4, 0)], [("remove", 4, 0)]], True)
@example(_ODDLY, [[("move", 4, 1), ("remove", 0, 0)]], False)
def test_after_any_changes_a_payload_holds_the_source(
    tree: Directory, rounds: list[list[Change]], delete: bool
) -> None:
    _followed(tree, rounds, 1, delete=delete)


@few
@given(trees(), st.lists(changes_of_every_sort, min_size=1, max_size=2), st.booleans())
@example(_ODDLY, [[("file", 3, 0)], [("directory", 3, 0)]], True)
def test_after_any_changes_a_payload_by_two_processes_holds_the_source(
    tree: Directory, rounds: list[list[Change]], delete: bool
) -> None:
    _followed(tree, rounds, 2, delete=delete)


# What did not change is shared with an earlier snapshot


def _rest() -> None:
    time.sleep(0.06)  # what changed within a tick of its reading is copied again


def _files_of(source: Path) -> dict[bytes, os.stat_result]:
    found: dict[bytes, os.stat_result] = {}
    base = os.fsencode(source)
    for directory, _, names in os.walk(base):
        for name in names:
            path = directory + b"/" + name
            status = os.lstat(path)
            if stat.S_ISREG(status.st_mode):
                found[path[len(base) + 1 :]] = status
    return found


def _marked(entries: Catalogue) -> set[bytes]:
    """Return the paths that are recorded as shared."""
    found = {path: entries.record(path) for path in entries}
    return {path for path, record in found.items() if record is not None and record[FLAGS] & SHARED}


def _shared_unchanged(tree: Directory, jobs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source = root / "source"
        build(source, tree)
        _rest()
        one, _ = store(source, root / "one", jobs=jobs)
        before, first = footprint(source), footprint(one.path, ctime=False)
        told: list[int] = []
        with storing(
            source, root / "two", earlier=one.earlier, jobs=jobs, advance=told.append
        ) as making:
            making.copy.update(delete=True)
            two, described = making.stored, making.describe()
            files = _files_of(source)
            assert _marked(making.copy.entries) == files.keys()
        assert sum(told) == 0
        assert footprint(source) == before
        assert footprint(one.path, ctime=False) == first
        for path, status in files.items():
            assert not status.st_size or two.inode(path) == one.inode(path)
        assert_plain(two.payload)
        assert_described(source, two, described)
        assert described.shared_files == described.files
        assert described.shared_bytes == described.bytes
        assert two.manifest() == one.manifest()
        shutil.rmtree(one.path)
        assert inspect(two).findings() == ()
        restore(two, root / "again", jobs=jobs)
        assert read(root / "again") == read(source)


@given(trees())
@example(LINKED)
@example(_ODDLY)
def test_an_unchanged_tree_is_shared_as_a_whole_and_none_of_it_is_read(tree: Directory) -> None:
    _shared_unchanged(tree, 1)


@few
@given(trees())
@example(LINKED)
def test_an_unchanged_tree_is_shared_by_two_processes(tree: Directory) -> None:
    _shared_unchanged(tree, 2)


@several
def test_a_tree_of_everything_is_shared(jobs: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("what nobody may read takes root")
    _shared_unchanged(HAND_MADE, jobs)


def _shared_after(tree: Directory, rounds: list[list[Change]], jobs: int) -> None:
    """Make a snapshot after each round of changes, and look at all of them in the end."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source = root / "source"
        build(source, tree)
        _rest()
        stored, _ = store(source, root / "0", jobs=jobs)
        had, held = _files_of(source), {0: read(source)}
        for number, changes in enumerate(rounds, 1):
            apply_changes(source, changes)
            _rest()
            with storing(source, root / str(number), earlier=stored.earlier, jobs=jobs) as making:
                making.copy.update(delete=True)
                described, marked = making.describe(), _marked(making.copy.entries)
                entries = {path: making.copy.entries[path] for path in marked}
            has, held[number] = _files_of(source), read(source)
            assert_described(source, making.stored, described)
            assert described.shared_files == len(marked)
            assert described.shared_bytes == sum(
                entry.size for entry in entries.values() if not entry.link
            )
            unchanged = {path for path in has if path in had and _same(had[path], has[path])}
            assert unchanged <= marked
            for path in has:
                alike = making.stored.manifest()[PREFIX + stored_path(path)]
                alone = stored.manifest().get(PREFIX + stored_path(path)) != alike
                names = os.lstat(os.path.join(os.fsencode(source), path)).st_nlink
                # A new name of a file is shared with the file.
                assert not (alone and path in marked and names == 1)
                if has[path].st_size:
                    inode = making.stored.inode(path)
                    assert (path in had and inode == stored.inode(path)) == (path in marked)
            stored, had = making.stored, has
        for number, content in held.items():
            assert inspect(Stored(root / str(number))).findings() == ()
            restore(Stored(root / str(number)), root / f"{number} again", jobs=jobs)
            assert read(root / f"{number} again") == content


def _same(one: os.stat_result, two: os.stat_result) -> bool:
    def state(status: os.stat_result) -> tuple[int, ...]:
        return status.st_ino, status.st_ctime_ns, status.st_mtime_ns, status.st_size

    return state(one) == state(two)


@given(trees(), st.lists(changes_of_every_sort, min_size=1, max_size=2))
@example(LINKED, [[("hard link", 0, 1), ("append", 1, 0)], [("remove", 0, 0)]])
@example(LINKED, [[("directory", 0, 0)], [("file", 0, 0)]])
@example(_ODDLY, [[("append", 4, 0)], [("mode", 4, 0)]])
@example(_ODDLY, [[("move", 4, 0)], [("xattr", 0, 0)]])
def test_after_any_changes_what_did_not_change_is_shared(
    tree: Directory, rounds: list[list[Change]]
) -> None:
    _shared_after(tree, rounds, 1)


@few
@given(trees(), st.lists(changes_of_every_sort, min_size=1, max_size=2))
def test_after_any_changes_two_processes_share_what_did_not_change(
    tree: Directory, rounds: list[list[Change]]
) -> None:
    _shared_after(tree, rounds, 2)


@several
def test_in_a_large_directory_what_did_not_change_is_shared(tmp_path: Path, jobs: int) -> None:
    source = tmp_path / "source"
    build(source, CROWDED)
    _rest()
    one, _ = store(source, tmp_path / "one", jobs=jobs)
    names = [f"{number:05}" for number in range(0, 800, 2)]
    for name in names[::50]:
        (source / "crowd" / name).write_bytes(b"changed")
    for name in names[1::50]:
        (source / "crowd" / name).unlink()
    for name in names[2::50]:
        (source / "crowd" / f"{name}+").write_bytes(b"new")
    _rest()
    two, described = store(source, tmp_path / "two", earlier=one.earlier, jobs=jobs)
    assert_described(source, two, described)
    new = len(names[::50]) + len(names[2::50])
    assert described.shared_files == described.files - new
    restore(two, tmp_path / "again", jobs=jobs)
    assert read(tmp_path / "again") == read(source)


SOURCE = Directory(
    {
        b"a": File(b"content of a"),
        b"d\xff": Directory({b"b\n": File(b"content of b")}),
        b"large": File(b"x" * LARGE_BYTES),
        b"z": File(b"content of z"),
    }
)
_ODD_PATH = b"d\xff/b\n"


@contextmanager
def earlier_of(tree: Directory = SOURCE) -> Iterator[tuple[Path, Stored]]:
    """Yield a source that rests, and a snapshot of it."""
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "source"
        build(source, tree)
        _rest()
        yield source, store(source, Path(name) / "one")[0]


def _store_again(
    source: Path, one: Stored, *, shared: set[bytes] | None = None, jobs: int = 1
) -> Stored:
    """Store a source with an earlier snapshot; require that it is whole, and what is shared."""
    _rest()
    two, described = store(source, one.path.with_name("two"), earlier=one.earlier, jobs=jobs)
    assert_described(source, two, described)
    assert inspect(two).findings() == ()
    restore(two, one.path.with_name("again"))
    assert read(one.path.with_name("again")) == read(source)
    if shared is not None:
        files = _files_of(source)
        found = {path for path in files if _is_shared(one, two, path)}
        assert found == shared
        assert described.shared_files == len(shared)
    return two


def _is_shared(one: Stored, two: Stored, path: bytes) -> bool:
    try:
        return one.inode(path) == two.inode(path)
    except OSError:
        return False


_ALL = {b"a", _ODD_PATH, b"large", b"z"}


def _put_back(path: bytes, content: bytes) -> None:
    """Write over a file, and give it the times that it had."""
    status = os.stat(path)
    with open(path, "r+b") as file:
        file.write(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _replace(path: bytes, content: bytes) -> None:
    """Put another file of the same times in the place of one."""
    status = os.stat(path)
    with open(path + b"+", "wb") as file:
        file.write(content)
    os.chmod(path + b"+", 0o644)
    os.utime(path + b"+", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.rename(path + b"+", path)


@pytest.mark.parametrize("path", sorted(_ALL))
@pytest.mark.parametrize("change", [_put_back, _replace])
def test_a_file_that_changed_behind_its_times_is_copied(
    path: bytes, change: Callable[[bytes, bytes], None]
) -> None:
    with earlier_of() as (source, one):
        full = os.fsencode(source) + b"/" + path
        size = os.stat(full).st_size
        change(full, b"!" * size)
        assert os.stat(full).st_size == size
        _store_again(source, one, shared=_ALL - {path})


@pytest.mark.parametrize("path", sorted(_ALL))
@pytest.mark.parametrize(
    "touch",
    [
        lambda path: os.utime(path, ns=(5, 7)),
        lambda path: os.chmod(path, 0o600),
        lambda path: os.setxattr(path, "user.new", b"x"),
        lambda path: _replace(path, Path(os.fsdecode(path)).read_bytes()),
    ],
)
def test_a_file_that_changed_in_all_but_its_content_is_read_and_shared(
    path: bytes, touch: Callable[[bytes], object]
) -> None:
    with earlier_of() as (source, one):
        wait_for_the_clock()
        touch(os.fsencode(source) + b"/" + path)
        two = _store_again(source, one, shared=_ALL)
        assert one.manifest() == two.manifest()


@several
def test_files_that_went_and_came_are_gone_and_there(tmp_path: Path, jobs: int) -> None:
    with earlier_of() as (source, one):
        (source / "a").unlink()
        (source / "new").write_bytes(b"new")
        (source / "z").unlink()
        (source / "z").symlink_to("new")
        two = _store_again(source, one, shared=_ALL - {b"a", b"z"}, jobs=jobs)
        assert sorted(os.listdir(os.fsencode(two.payload))) == sorted(
            [stored_name(b"d\xff"), b"large", b"new"]
        )
        assert not list(tmp_path.iterdir())[1:]


def test_a_file_of_the_name_that_is_used_aside_is_stored_like_any_other() -> None:
    tree = Directory({b".ciso-ops-same": File(b"mine"), **SOURCE.children})
    with earlier_of(tree) as (source, one):
        for path in (".ciso-ops-same", "a", "z"):
            os.utime(source / path, ns=(5, 7))
        _store_again(source, one)


def _lost(path: bytes) -> None:
    os.unlink(path)


def _in_place(make: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def damage(path: bytes) -> None:
        os.unlink(path)
        make(path)

    return damage


DAMAGE: dict[str, Callable[[bytes], object]] = {
    "lost": _lost,
    "longer": lambda path: os.truncate(path, os.stat(path).st_size + 1),
    "shorter": lambda path: os.truncate(path, os.stat(path).st_size - 1),
    "a directory": _in_place(os.mkdir),
    "a pipe": _in_place(os.mkfifo),
    "a link": _in_place(lambda path: os.symlink(b"/etc/passwd", path)),
}


@pytest.mark.parametrize("path", sorted(_ALL))
@pytest.mark.parametrize("name", DAMAGE)
def test_what_an_earlier_snapshot_lacks_is_copied(name: str, path: bytes) -> None:
    with earlier_of() as (source, one):
        DAMAGE[name](os.fsencode(one.payload) + b"/" + stored_path(path))
        _store_again(source, one, shared=_ALL - {path})


@pytest.mark.parametrize("name", [*DAMAGE, "changed"])
def test_what_an_earlier_snapshot_lacks_of_a_touched_file_is_copied(name: str) -> None:
    def change(path: bytes) -> None:
        os.chmod(path, 0o600)
        with open(path, "r+b") as file:
            file.write(b"!")

    with earlier_of() as (source, one):
        os.utime(source / "a", ns=(5, 7))
        (DAMAGE | {"changed": change})[name](os.fsencode(one.payload) + b"/a")
        _store_again(source, one, shared=_ALL - {b"a"})


def test_a_directory_that_an_earlier_snapshot_lacks_is_copied() -> None:
    for touched in (True, False):
        with earlier_of() as (source, one):
            if touched:
                os.utime(os.fsencode(source) + b"/" + _ODD_PATH, ns=(5, 7))
            shutil.rmtree(os.fsencode(one.payload) + b"/" + stored_name(b"d\xff"))
            _store_again(source, one, shared=_ALL - {_ODD_PATH})


LEDGERS: dict[str, Callable[[Stored], object]] = {
    "missing": lambda one: one.ledger.unlink(),
    "empty": lambda one: one.ledger.write_bytes(b""),
    "foreign": lambda one: one.ledger.write_bytes(b"SQLite format 3\0"),
    "newer": lambda one: one.ledger.write_bytes(
        one.ledger.read_bytes().replace(b'"schema_version":1', b'"schema_version":2')
    ),
    "cut": lambda one: os.truncate(one.ledger, one.ledger.stat().st_size // 3),
    "a directory": lambda one: _in_place(os.mkdir)(os.fsencode(one.ledger)),
    "without its payload": lambda one: shutil.rmtree(one.payload),
    "with nested lists": lambda one: one.ledger.write_bytes(encode_head() + b"[" * 50_000),
}


@several
@pytest.mark.parametrize("name", LEDGERS)
def test_with_an_earlier_ledger_that_is_none_all_is_copied(name: str, jobs: int) -> None:
    with earlier_of() as (source, one):
        LEDGERS[name](one)
        _store_again(source, one, shared=set(), jobs=jobs)


@several
@pytest.mark.parametrize("touched", [True, False])
def test_with_an_earlier_ledger_that_was_damaged_in_a_line_its_directory_is_copied(
    touched: bool, jobs: int
) -> None:
    with earlier_of() as (source, one):
        if touched:
            for path in ("a", "z"):
                os.utime(source / path, ns=(5, 7))
        ledger = one.ledger.read_bytes()
        digest = hashlib.sha256(b"content of z").hexdigest().encode()
        assert digest in ledger
        one.ledger.write_bytes(ledger.replace(digest, b"?" + digest[1:]))
        _store_again(source, one, shared={_ODD_PATH}, jobs=jobs)


_LINKAT, _MKDIRAT, _UNLINKAT, _RENAMEAT, _NEWFSTATAT = 265, 258, 263, 264, 262


@pytest.mark.parametrize("error", [errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP])
@pytest.mark.parametrize("touched", [True, False])
def test_where_a_file_can_have_no_more_names_it_is_copied(error: int, touched: bool) -> None:
    with earlier_of() as (source, one):
        if touched:
            for path in ("a", "z"):
                os.utime(source / path, ns=(5, 7))
        with_refusal(_LINKAT, error, lambda: _store_again(source, one, shared=set()))


def test_a_disk_that_refuses_to_share_is_a_failure() -> None:
    with (
        earlier_of() as (source, one),
        pytest.raises(DestinationError, match=r"cannot share .*/two/payload/a: Input/output"),
    ):
        with_refusal(_LINKAT, errno.EIO, partial(_store_again, source, one))
    with earlier_of() as (source, one):
        os.utime(source / "z", ns=(5, 7))
        with pytest.raises(DestinationError, match=r"cannot share .*/two/payload/z: Input/output"):
            with_refusal(_RENAMEAT, errno.EIO, partial(_store_again, source, one))


def test_an_earlier_snapshot_on_another_file_system_is_copied() -> None:
    with earlier_of() as (source, one), tmpfs("40m") as place:
        shutil.copytree(one.path, place / "one")
        os.utime(source / "a", ns=(5, 7))
        _rest()
        other = Stored(place / "one").earlier
        two, described = store(source, one.path.with_name("two"), earlier=other)
        assert described.shared_files == 0
        assert_described(source, two, described)


def test_a_file_that_vanishes_before_it_can_be_shared_is_left_out() -> None:
    with earlier_of() as (source, one):
        os.utime(source / "a", ns=(5, 7))

        def vanish(_count: int) -> None:
            (source / "z").unlink(missing_ok=True)

        _rest()
        place = one.path.with_name("two")
        with storing(source, place, earlier=one.earlier, advance=vanish) as making:
            making.copy.update(delete=True)
            assert b"z" not in making.copy.entries
            assert_described(source, making.stored, making.describe())


def _random_files(size: int) -> dict[bytes, Node]:
    return {b"%d" % number: File(os.urandom(size), mtime_ns=5) for number in range(3)}


def test_content_is_shared_where_the_file_system_can() -> None:
    with volume("xfs") as disk:
        size = 3 << 20
        files = _random_files(size)
        tree = Directory({**files, b"empty": File(), b"same": File(b"same"), b"l": HardLink(b"0")})
        build(disk / "source", tree)
        _rest()
        one, _ = store(disk / "source", disk / "one")
        os.utime(disk / "source/same", ns=(7, 7))
        _rest()
        os.sync()
        before = os.statvfs(disk).f_bfree
        told: list[int] = []
        with storing(
            disk / "source", disk / "two", earlier=one.earlier, advance=told.append
        ) as making:
            making.copy.update(delete=True)
            two, described = making.stored, making.describe()
        os.sync()
        assert (before - os.statvfs(disk).f_bfree) * os.statvfs(disk).f_frsize < size
        assert sum(told) == len(b"same")
        assert_plain(two.payload)
        assert_described(disk / "source", two, described)
        assert described.shared_files == described.files
        for path in files:
            assert one.inode(path) != two.inode(path)
            assert two.status(path).st_mtime_ns == 5
        assert one.inode(b"same") == two.inode(b"same")
        assert inspect(two).findings() == ()
        shutil.rmtree(one.path)
        restore(two, disk / "again")
        assert read(disk / "again") == read(disk / "source")


# Failures


def test_a_source_that_cannot_be_looked_at_is_no_fault_of_what_is_shared() -> None:
    with (
        earlier_of() as (source, one),
        Directories(source) as tree,
        Payload(one.path) as copy,
        closing(Sharer(one.ledger, one.payload, copy)) as sharer,
    ):
        bringer = Bringer(tree, copy, digests=True, advance=lambda _count: None, earlier=sharer)
        assert bringer.share(b"", b"unknown") is None
        (source / "z").unlink()
        assert bringer.share(b"", b"z") is None
        with pytest.raises(SourceError, match=r"cannot read .*/source/a: Input/output error"):
            with_refusal(_NEWFSTATAT, errno.EIO, lambda: bringer.share(b"", b"a"))


_WAYS = Directory(
    {
        b"long\xff": File(b"x", xattrs=(("user.origin", b"x"),)),
        b"z": Directory({b"f": File(b"x")}),
    }
)


@pytest.mark.parametrize(
    ("tree", "call", "said"),
    [
        (_WAYS, FCHMOD, r"cannot write .*/payload/long_~"),
        (_WAYS, UTIMENSAT, r"cannot write .*/payload/long_~"),
        (Directory({b"\xff": File(b"x")}), UTIMENSAT, r"cannot write .*/payload/_~"),
        (_WAYS, _MKDIRAT, r"cannot create the directory .*/payload/z"),
        (Directory({b"a": File(b"x"), b"b": HardLink(b"a")}), _LINKAT, r"cannot link .*/payload/b"),
    ],
)
def test_a_disk_that_refuses_to_write_a_payload_is_a_failure(
    tmp_path: Path, tree: Directory, call: int, said: str
) -> None:
    build(tmp_path / "source", tree)
    with (
        storing(tmp_path / "source", tmp_path / "snapshot") as making,
        pytest.raises(DestinationError, match=said + ".*: Input/output"),
    ):
        with_refusal(call, errno.EIO, lambda: making.copy.update(delete=True))


@pytest.mark.parametrize("change", ["file", "directory"])
def test_a_disk_that_refuses_to_remove_is_a_failure(tmp_path: Path, change: str) -> None:
    source = tmp_path / "source"
    build(source, Directory({b"f\xff": File(b"x"), b"d\xff": Directory()}))
    with storing(source, tmp_path / "snapshot") as making:
        making.update()
        if change == "file":
            os.unlink(os.fsencode(source) + b"/f\xff")
        else:
            os.rmdir(os.fsencode(source) + b"/d\xff")
        with pytest.raises(DestinationError, match=r"cannot remove .*/payload/[fd]_~.*: Input/out"):
            with_refusal(_UNLINKAT, errno.EIO, making.update)


def test_how_work_is_done_travels_between_processes(tmp_path: Path) -> None:
    for earlier in (None, (tmp_path / "a\udcff", tmp_path / "b")):
        for stored in (True, False):
            listed = Trees(
                source=tmp_path,
                copy=tmp_path,
                stored=stored,
                from_store=not stored,
                earlier=earlier,
            )
            assert Trees.unpacked(listed.packed()) == listed


def test_what_another_user_owns_is_stored_as_ones_own() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        tree = Directory({b"f": File(b"x", mode=0o644), b"d": Directory({b"g": File(b"y")})})
        build(root / "source", tree)
        root.chmod(0o777)
        with unprivileged():
            stored, described = store(root / "source", root / "snapshot")
            assert described.files == 2
            assert inspect(stored).findings() == ()
        restore(stored, root / "again")
        assert read(root / "again") == read(root / "source")


@pytest.mark.parametrize("missing", ["source", "payload"])
def test_a_place_that_is_not_there_is_a_failure(tmp_path: Path, missing: str) -> None:
    for name in {"source", "payload"} - {missing}:
        (tmp_path / name).mkdir()
    kind = SourceError if missing == "source" else DestinationError
    listed = Trees(source=tmp_path / "source", copy=tmp_path / "payload", stored=True)
    with (
        pytest.raises(kind, match=rf"cannot read .*/{missing}: No such file"),
        crew(listed, jobs=1),
    ):
        pass
