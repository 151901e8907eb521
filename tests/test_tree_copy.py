"""Copying one entry: exactly, whatever it is, and never a wrong copy in silence."""

import errno
import hashlib
import mmap
import os
import resource
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.errors import DestinationError, SourceError
from ops.model import Entry, Kind
from ops.tree.copying import Copied, Copier, VanishedError
from ops.tree.directories import Directories, join_path, open_quietly, split_path
from ops.tree.metadata import ALL_KEPT
from ops.tree.transfer import BUFFER_BYTES, data_ranges, hash_zeros, write_all
from tests.filesystem import (
    FCHMOD,
    FLISTXATTR,
    LLISTXATTR,
    LSEEK,
    NOBODY,
    PREADV2,
    UTIMENSAT,
    Directory,
    File,
    Link,
    build,
    footprint,
    read,
    unprivileged,
    with_refusal,
)
from tests.mounting import tmpfs
from tests.strategies import files, links, names

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="devices, and giving files away, need root"
)


@contextmanager
def copying(
    source: Path, destination: Path, advance: Callable[[int], None] = lambda _count: None
) -> Iterator[Copier]:
    with Directories(source) as reading, Directories(destination) as writing:
        yield Copier(reading, writing, advance=advance)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    return directory


@pytest.fixture
def destination(tmp_path: Path) -> Path:
    directory = tmp_path / "destination"
    directory.mkdir()
    return directory


def _file(path: bytes = b"file") -> Entry:
    return Entry(path=path, kind=Kind.FILE)


def _copy(source: Path, destination: Path, entry: Entry) -> Copied:
    with copying(source, destination) as copier:
        return copier.copy(entry)


def _without_root(root: Path) -> dict[bytes, tuple[object, ...]]:
    found = read(root)
    del found[b""]
    return found


# Contents


@given(names, files)
@example(b"a", File(b"x" * (3 * BUFFER_BYTES + 17), mode=0o4755, mtime_ns=-(10**18)))
@example(b"a" * 255, File(b"", mtime_ns=4_102_444_800_000_000_001))
@example(b"\xff\xfe", File(b"x" * BUFFER_BYTES, mode=0o7000))
def test_a_copy_reads_back_equal_and_the_source_is_untouched(name: bytes, file: File) -> None:
    with tempfile.TemporaryDirectory() as directory:
        source, destination = Path(directory) / "source", Path(directory) / "destination"
        build(source, Directory({name: file}))
        destination.mkdir()
        before = footprint(source)
        pieces: list[int] = []
        with copying(source, destination, pieces.append) as copier:
            copied = copier.copy(_file(name))
        assert footprint(source) == before
        assert _without_root(destination) == _without_root(source)
        assert copied.settled
        assert copied.kept == ALL_KEPT
        assert copied.entry.digest == hashlib.sha256(file.content).hexdigest()
        assert copied.entry.size == len(file.content)
        assert copied.entry.xattrs == file.xattrs
        assert sum(pieces) <= len(file.content)


def test_the_access_time_of_the_source_stays_and_is_copied(source: Path, destination: Path) -> None:
    (source / "file").write_bytes(b"x")
    os.utime(source / "file", ns=(5, 6))
    _copy(source, destination, _file())
    assert (source / "file").stat().st_atime_ns == 5
    assert (destination / "file").stat().st_atime_ns == 5


_Ranges = list[tuple[int, bytes]]


@given(
    st.integers(0, 40),
    st.dictionaries(st.integers(0, 40), st.binary(min_size=1, max_size=3), max_size=4),
)
@example(16_384, {0: b"x", 16_000: b"y"})
@example(16_384, {})
@example(0, {16_384: b"end"})
def test_a_sparse_file_stays_sparse(size: int, data: dict[int, bytes]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        source, destination = Path(directory) / "source", Path(directory) / "destination"
        source.mkdir()
        destination.mkdir()
        with (source / "file").open("wb") as file:
            file.truncate(size * 4096)
            for block, content in data.items():
                file.seek(block * 4096)
                file.write(content)
        pieces: list[int] = []
        with copying(source, destination, pieces.append) as copier:
            copied = copier.copy(_file())
        assert _without_root(destination) == _without_root(source)
        assert copied.entry.digest == _without_root(source)[b"file"][6]
        assert copied.settled
        original, copy = (source / "file").stat(), (destination / "file").stat()
        assert copy.st_blocks <= original.st_blocks
        assert sum(pieces) <= max(original.st_blocks * 512, original.st_size % 4096)


@given(st.lists(st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=9)), max_size=6))
def test_all_data_lies_in_the_ranges_of_data(pieces: _Ranges) -> None:
    with tempfile.TemporaryFile() as file:
        for block, content in pieces:
            file.seek(block * 4096)
            file.write(content)
        file.flush()
        size = os.fstat(file.fileno()).st_size
        ranges = list(data_ranges(file.fileno(), size))
        assert ranges == sorted(ranges)
        assert all(0 <= start < end <= size for start, end in ranges)
        rebuilt = bytearray(size)
        for start, end in ranges:
            rebuilt[start:end] = os.pread(file.fileno(), end - start, start)
        assert bytes(rebuilt) == os.pread(file.fileno(), size, 0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="takes a file without SEEK_DATA")
def test_where_the_file_system_cannot_tell_all_of_a_file_is_data() -> None:
    with Path("/proc/self/status").open("rb") as file:
        assert list(data_ranges(file.fileno(), 10)) == [(0, 10)]


def test_what_cannot_be_searched_has_no_ranges() -> None:
    reader, writer = os.pipe()
    try:
        with pytest.raises(OSError, match="Illegal seek"):
            list(data_ranges(reader, 10))
        assert list(data_ranges(reader, 0)) == []
    finally:
        os.close(reader)
        os.close(writer)


@given(st.integers(-5, 3 * BUFFER_BYTES))
@example(0)
@example(BUFFER_BYTES)
@example(BUFFER_BYTES + 1)
def test_a_hole_is_hashed_as_the_zeros_that_it_reads_as(count: int) -> None:
    digest = hashlib.sha256()
    hash_zeros(digest, count)
    assert digest.hexdigest() == hashlib.sha256(bytes(max(count, 0))).hexdigest()


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_is_written_in_pieces_is_written_whole_or_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb", buffering=0) as file:
        write_all(file.fileno(), memoryview(b"abc"), 2)
        assert path.read_bytes() == b"\0\0abc"
        # The kernel takes the first piece, up to the limit, and refuses the next.
        with _largest_file(10), pytest.raises(OSError, match="File too large"):
            write_all(file.fileno(), memoryview(b"x" * 20), 0)
        write_all(file.fileno(), memoryview(b""), 0)
    assert path.read_bytes() == b"x" * 10


# Everything that is no file


def _special(path: Path, kind: Kind) -> None:
    match kind:
        case Kind.SYMLINK:
            path.symlink_to("/nowhere/at all")
        case Kind.FIFO:
            os.mkfifo(path)
        case Kind.SOCKET:
            descriptor = os.open(path.parent, os.O_RDONLY)
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(f"/proc/self/fd/{descriptor}/{path.name}")
            os.close(descriptor)
        case Kind.CHARACTER_DEVICE:
            os.mknod(path, stat.S_IFCHR, os.makedev(1, 3))
        case Kind.BLOCK_DEVICE:
            os.mknod(path, stat.S_IFBLK, os.makedev(7, 200))
        case _:
            path.touch()
    if kind is not Kind.SYMLINK:
        path.chmod(0o3640)
    if os.geteuid() == 0:
        os.chown(path, 123, 456, follow_symlinks=False)
    os.utime(path, ns=(7, -8), follow_symlinks=False)


_SPECIAL = [
    Kind.SYMLINK,
    Kind.FIFO,
    Kind.SOCKET,
    pytest.param(Kind.CHARACTER_DEVICE, marks=needs_root),
    pytest.param(Kind.BLOCK_DEVICE, marks=needs_root),
]


@pytest.mark.parametrize("kind", _SPECIAL)
def test_what_has_no_content_is_made_again(source: Path, destination: Path, kind: Kind) -> None:
    _special(source / "entry", kind)
    before = footprint(source)
    copied = _copy(source, destination, Entry(path=b"entry", kind=kind))
    assert footprint(source) == before
    assert _without_root(destination) == _without_root(source)
    assert copied.entry.kind is kind
    assert copied.kept == ALL_KEPT
    original, copy = (source / "entry").lstat(), (destination / "entry").lstat()
    assert copy.st_rdev == original.st_rdev
    assert copied.entry.device == original.st_rdev


@given(names, links)
def test_a_link_is_copied_and_not_followed(name: bytes, link: Link) -> None:
    with tempfile.TemporaryDirectory() as directory:
        source, destination = Path(directory) / "source", Path(directory) / "destination"
        build(source, Directory({name: link}))
        destination.mkdir()
        copied = _copy(source, destination, Entry(path=name, kind=Kind.SYMLINK))
        assert copied.entry.target == link.target
        assert _without_root(destination) == _without_root(source)


def test_a_device_that_may_not_be_made_is_a_failure() -> None:
    if os.geteuid() != 0:
        pytest.skip("making the device to be copied takes root")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "source").mkdir()
        (directory / "destination").mkdir()
        _special(directory / "source/null", Kind.CHARACTER_DEVICE)
        os.chown(directory / "destination", NOBODY, NOBODY)
        with (
            unprivileged(),
            copying(directory / "source", directory / "destination") as copier,
            pytest.raises(DestinationError, match=r"cannot write .*/destination/null: "),
        ):
            copier.copy(Entry(path=b"null", kind=Kind.CHARACTER_DEVICE))
        assert os.listdir(directory / "destination") == []


# What changes while it is read


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.FIFO, Kind.SYMLINK])
def test_what_is_gone_has_vanished(source: Path, destination: Path, kind: Kind) -> None:
    with pytest.raises(VanishedError):
        _copy(source, destination, Entry(path=b"gone", kind=kind))
    with pytest.raises(VanishedError):
        _copy(source, destination, Entry(path=b"gone/too", kind=kind))
    assert os.listdir(destination) == []


_KINDS = [Kind.FILE, Kind.FIFO, Kind.SYMLINK, Kind.SOCKET]


@pytest.mark.parametrize(
    ("was", "became"), list(permutations([*_KINDS, Kind.DIRECTORY], 2))[: -len(_KINDS)]
)
def test_what_has_become_something_else_has_vanished(
    source: Path, destination: Path, was: Kind, became: Kind
) -> None:
    if became is Kind.DIRECTORY:
        (source / "entry").mkdir()
    else:
        _special(source / "entry", became)
    with pytest.raises(VanishedError):
        _copy(source, destination, Entry(path=b"entry", kind=was))
    assert os.listdir(destination) == []


def test_nothing_is_read_through_a_directory_that_became_a_link(
    source: Path, destination: Path
) -> None:
    build(source / "real", Directory({b"file": File(b"secret")}))
    (source / "link").symlink_to("real")
    (destination / "link").mkdir()
    for kind in (Kind.FILE, Kind.FIFO):
        with pytest.raises(VanishedError):
            _copy(source, destination, Entry(path=b"link/file", kind=kind))
    assert os.listdir(destination / "link") == []


def test_a_file_that_changes_once_is_read_again(source: Path, destination: Path) -> None:
    path = source / "file"
    path.write_bytes(b"before")
    reads: list[int] = []

    def grow(count: int) -> None:
        reads.append(count)
        if len(reads) == 1:
            path.write_bytes(b"after that")

    with copying(source, destination, grow) as copier:
        copied = copier.copy(_file())
    assert copied.settled
    assert (destination / "file").read_bytes() == b"after that"
    assert copied.entry.digest == hashlib.sha256(b"after that").hexdigest()


def test_a_file_that_changes_at_every_read_is_taken_and_told(
    source: Path, destination: Path
) -> None:
    path = source / "file"
    path.write_bytes(b"0123456789")

    def grow(count: int) -> None:
        if count > 1:  # only once in each reading, so that each comes to an end
            with path.open("ab") as file:
                file.write(b"+")

    with copying(source, destination, grow) as copier:
        copied = copier.copy(_file())
    content = (destination / "file").read_bytes()
    assert not copied.settled
    assert path.read_bytes().startswith(content)
    assert copied.entry.size == len(content)
    assert copied.entry.digest == hashlib.sha256(content).hexdigest()


def test_a_file_cut_short_leaves_nothing_of_the_first_reading(
    source: Path, destination: Path
) -> None:
    path = source / "file"
    path.write_bytes(b"x" * (2 * BUFFER_BYTES))
    pieces: list[int] = []

    def cut(count: int) -> None:
        pieces.append(count)
        if len(pieces) == 1:
            os.truncate(path, 10)

    with copying(source, destination, cut) as copier:
        copied = copier.copy(_file())
    assert copied.settled
    assert (destination / "file").read_bytes() == b"x" * 10


@pytest.mark.parametrize("size", [100, 5 << 20, 20 << 20])
def test_a_sparse_file_that_changes_its_size_is_read_again(
    source: Path, destination: Path, size: int
) -> None:
    path = source / "file"
    with path.open("wb") as file:
        file.write(b"first")
        file.seek(10 << 20)
        file.write(b"last")
    changed: list[int] = []

    def change(_count: int) -> None:
        if not changed:
            changed.append(size)
            os.truncate(path, size)

    with copying(source, destination, change) as copier:
        copied = copier.copy(_file())
    assert copied.settled
    assert (destination / "file").read_bytes() == path.read_bytes()
    assert copied.entry.digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_a_writer_appends_to_is_copied_as_far_as_it_was_read(
    source: Path, destination: Path
) -> None:
    path = source / "log"
    path.write_bytes(b"x" * (4 * BUFFER_BYTES))
    stop = threading.Event()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            while not stop.wait(0.0001):
                file.write(b"line\n")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        copied = _copy(source, destination, _file(b"log"))
    finally:
        stop.set()
        writer.join()
    content = (destination / "log").read_bytes()
    assert path.read_bytes().startswith(content)
    assert len(content) >= 4 * BUFFER_BYTES
    assert copied.entry.digest == hashlib.sha256(content).hexdigest()
    assert copied.entry.size == len(content)


# Failures of the source


def test_a_file_that_may_not_be_read_is_a_failure_with_what_to_do() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        build(directory / "source", Directory({b"file": File(b"x", mode=0o600)}))
        (directory / "destination").mkdir()
        with (
            unprivileged(),
            copying(directory / "source", directory / "destination") as copier,
            pytest.raises(SourceError, match=r"cannot read .*/source/file: Perm") as caught,
        ):
            copier.copy(_file())
        assert "root" in caught.value.hint


def test_what_others_own_is_read_without_leave_to_spare_its_access_time() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        build(directory / "source", Directory({b"file": File(b"x", mode=0o644)}))
        (directory / "destination").mkdir()
        os.chown(directory / "destination", NOBODY, NOBODY)
        with unprivileged():
            copied = _copy(directory / "source", directory / "destination", _file())
        assert copied.kept.owner is False
        assert (directory / "destination/file").read_bytes() == b"x"


def test_a_file_that_fails_while_it_is_read_is_a_failure(source: Path, destination: Path) -> None:
    (source / "file").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"cannot read .*/source/file: Input/output") as caught:
        with_refusal(PREADV2, errno.EIO, lambda: _copy(source, destination, _file()))
    assert "kernel log" in caught.value.hint


def test_a_sparse_file_that_cannot_be_searched_is_a_failure(
    source: Path, destination: Path
) -> None:
    with (source / "file").open("wb") as file:
        file.truncate(1 << 20)
    with pytest.raises(SourceError, match=r"cannot read .*/source/file: Input/output"):
        with_refusal(LSEEK, errno.EIO, lambda: _copy(source, destination, _file()))


@pytest.mark.parametrize(("call", "kind"), [(FLISTXATTR, Kind.FILE), (LLISTXATTR, Kind.FIFO)])
def test_attributes_that_cannot_be_read_are_a_failure(
    source: Path, destination: Path, call: int, kind: Kind
) -> None:
    _special(source / "entry", kind)
    with pytest.raises(SourceError, match=r"cannot read .*/source/entry: Input/output"):
        with_refusal(
            call, errno.EIO, lambda: _copy(source, destination, Entry(path=b"entry", kind=kind))
        )


# Failures of the destination


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.FIFO, Kind.SYMLINK])
def test_what_is_there_is_not_written_over_nor_through(
    tmp_path: Path, source: Path, destination: Path, kind: Kind
) -> None:
    _special(source / "entry", kind)
    (tmp_path / "outside").write_bytes(b"kept")
    (destination / "entry").symlink_to("../outside")
    with pytest.raises(DestinationError, match=r"cannot write .*/destination/entry: File exists"):
        _copy(source, destination, Entry(path=b"entry", kind=kind))
    assert (tmp_path / "outside").read_bytes() == b"kept"


def test_nothing_is_written_through_a_directory_that_is_a_link(
    tmp_path: Path, source: Path, destination: Path
) -> None:
    build(source / "in", Directory({b"file": File(b"x")}))
    (tmp_path / "outside").mkdir()
    (destination / "in").symlink_to("../outside")
    with pytest.raises(DestinationError, match="Not a directory"):
        _copy(source, destination, _file(b"in/file"))
    assert os.listdir(tmp_path / "outside") == []


def test_a_full_disk_is_a_failure_with_what_to_do(tmp_path: Path, source: Path) -> None:
    (source / "file").write_bytes(b"x" * (2 << 20))
    with tmpfs("1m") as disk:
        with pytest.raises(
            DestinationError, match=r"cannot write .*/file: No space left"
        ) as caught:
            _copy(source, disk, _file())
        assert "free some space" in caught.value.hint
    assert tmp_path.exists()


def test_a_disk_without_inodes_left_is_a_failure(source: Path) -> None:
    _special(source / "pipe", Kind.FIFO)
    with (
        tmpfs("1m", options="nr_inodes=1") as disk,
        copying(source, disk) as copier,
    ):
        with pytest.raises(DestinationError, match=r"cannot write .*/pipe: No space left"):
            copier.copy(Entry(path=b"pipe", kind=Kind.FIFO))
        with pytest.raises(DestinationError, match=r"cannot create the directory .*/new: No space"):
            copier.make_directory(b"new")


@pytest.mark.parametrize("sparse", [False, True])
def test_a_file_larger_than_allowed_is_a_failure(
    source: Path, destination: Path, *, sparse: bool
) -> None:
    with (source / "file").open("wb") as file:
        file.truncate(1 << 20) if sparse else file.write(b"x" * (1 << 20))
    with (
        _largest_file(BUFFER_BYTES + 10),
        pytest.raises(DestinationError, match=r"cannot write .*/destination/file: File too large"),
    ):
        _copy(source, destination, _file())


@pytest.mark.parametrize(
    ("call", "kind"), [(FCHMOD, Kind.FILE), (UTIMENSAT, Kind.FILE), (UTIMENSAT, Kind.FIFO)]
)
def test_metadata_that_cannot_be_set_is_a_failure(
    source: Path, destination: Path, call: int, kind: Kind
) -> None:
    _special(source / "entry", kind)
    with pytest.raises(DestinationError, match=r"cannot write .*/destination/entry: Input/output"):
        with_refusal(
            call, errno.EIO, lambda: _copy(source, destination, Entry(path=b"entry", kind=kind))
        )


def test_what_can_be_done_to_the_copy_says_why_it_cannot(source: Path, destination: Path) -> None:
    (destination / "there").mkdir()
    (destination / "there/file").touch()
    with copying(source, destination) as copier:
        with pytest.raises(DestinationError, match=r"create the directory .*/there: File exists"):
            copier.make_directory(b"there")
        with pytest.raises(DestinationError, match=r"cannot link .*/there/file: File exists"):
            copier.link(_file(b"there/file"), b"there/file")
        with pytest.raises(DestinationError, match=r"cannot link .*/new: No such file"):
            copier.link(_file(b"new"), b"gone/file")
        with pytest.raises(DestinationError, match=r"cannot remove .*/there: Directory not empty"):
            copier.remove(b"there", directory=True)
        with pytest.raises(DestinationError, match=r"cannot remove .*/gone: No such file"):
            copier.remove(b"gone", directory=False)
        with pytest.raises(DestinationError, match=r"set the metadata of .*/gone: No such file"):
            copier.finish_directory(Entry(path=b"gone", kind=Kind.DIRECTORY))


def test_a_second_name_is_the_same_inode_across_directories(
    source: Path, destination: Path
) -> None:
    (source / "file").write_bytes(b"x")
    with copying(source, destination) as copier:
        copier.make_directory(b"in")
        copier.copy(_file())
        copier.link(_file(b"in/second"), b"file")
        copier.link(_file(b"third"), b"in/second")
        assert stat.S_IMODE((destination / "in").stat().st_mode) == 0o700
        copier.remove(b"in/second", directory=False)
        copier.remove(b"in", directory=True)
    assert (destination / "file").samefile(destination / "third")
    assert sorted(os.listdir(destination)) == ["file", "third"]


# Directories by descriptor


def _open_descriptors() -> set[str]:
    return set(os.listdir("/dev/fd"))


def test_a_directory_is_opened_at_any_depth_with_few_descriptors(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for _ in range(300):
        os.mkdir(b"d" * 100, dir_fd=descriptor)
        below = os.open(b"d" * 100, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    deepest = os.fstat(descriptor)
    os.close(descriptor)
    path = b"/".join([b"d" * 100] * 300)
    before = _open_descriptors()
    with Directories(tmp_path) as tree:
        for depth in (300, 10, 300, 60, 49, 300, 48, 0, 300):
            part = b"/".join([b"d" * 100] * depth)
            os.fstat(tree.open(part))
            assert len(_open_descriptors() - before) <= 60
        assert os.path.samestat(os.fstat(tree.open(path)), deepest)
        with pytest.raises(FileNotFoundError) as caught:
            tree.open(path + b"/gone")
        assert caught.value.filename == os.fsencode(tmp_path) + b"/" + path + b"/gone"
        assert os.path.samestat(os.fstat(tree.open(path)), deepest)
    assert _open_descriptors() == before


_paths = st.sampled_from([b"", b"a", b"a/b", b"a/b/c", b"a/bb", b"ab", b"a/gone", b"a/b/gone/x"])


@given(st.lists(_paths, max_size=12))
def test_each_path_opens_its_own_directory_in_any_order(paths: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        for made in ("a/b/c", "a/bb", "ab"):
            (Path(name) / made).mkdir(parents=True, exist_ok=True)
        with Directories(Path(name)) as tree:
            for path in paths:
                if b"gone" in path:
                    with pytest.raises(FileNotFoundError):
                        tree.open(path)
                    continue
                wanted = os.stat(os.fsencode(name) + b"/" + path)
                assert os.path.samestat(os.fstat(tree.open(path)), wanted)


def test_a_directory_put_in_anothers_place_is_seen_after_a_failure(tmp_path: Path) -> None:
    # The chain of a failed call must not outlive a return to the root, where each walk begins.
    (tmp_path / "a").mkdir()
    with Directories(tmp_path) as tree:
        with pytest.raises(FileNotFoundError):
            tree.open(b"a/gone")
        (tmp_path / "a").rename(tmp_path / "old")
        (tmp_path / "a").mkdir()
        tree.open(b"")
        found = os.fstat(tree.open(b"a"))
    assert os.path.samestat(found, (tmp_path / "a").stat())


def test_no_link_is_opened_and_no_pipe_blocks(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        open_quietly(tmp_path / "link")
    os.close(open_quietly(tmp_path / "pipe"))
    with Directories(tmp_path) as tree, pytest.raises(NotADirectoryError):
        tree.open(b"link")
    with pytest.raises(NotADirectoryError):
        Directories(tmp_path / "link")


@given(st.lists(names, min_size=1, max_size=4))
def test_a_path_is_split_and_joined_again(parts: list[bytes]) -> None:
    path = b"/".join(parts)
    directory, name = split_path(path)
    assert name == parts[-1]
    assert join_path(directory, name) == path


def test_a_copier_keeps_its_buffer_between_files(source: Path, destination: Path) -> None:
    for number in range(50):
        (source / str(number)).write_bytes(str(number).encode() * number)
    before = _open_descriptors()
    with copying(source, destination) as copier:
        for number in range(50):
            copier.copy(_file(str(number).encode()))
    assert _open_descriptors() == before
    assert read(destination).keys() == read(source).keys()
    assert _without_root(destination) == _without_root(source)
    assert mmap.PAGESIZE <= BUFFER_BYTES
