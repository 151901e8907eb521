"""The less trodden ways of the engine: shared content, a disk that refuses, foreign files."""

import errno
import hashlib
import os
import tempfile
from pathlib import Path

import pytest

from ops.errors import DestinationError, SourceError
from ops.flusher import Flusher, flushing
from ops.inspection import forget_database
from ops.tree.bringing import Bringer
from ops.tree.copying import WRITE_FLAGS
from ops.tree.crew import crew
from ops.tree.directories import Directories
from ops.tree.folders import FolderCopier
from ops.tree.metadata import lists_xattrs
from ops.tree.pool import Pool
from ops.tree.quick import copy_small, is_as_recorded
from ops.tree.reading import Checking
from ops.tree.transfer import clone_content, new_buffer
from ops.tree.update import TreeCopy
from ops.tree.work import Trees
from tests.faults.filesystems import volume
from tests.filesystem import FLISTXATTR, Directory, File, build, read, unprivileged, with_refusal

_LARGE = 300_000


def _used(path: Path) -> int:
    status = os.statvfs(path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@pytest.mark.parametrize("digests", [True, False])
def test_larger_files_share_their_content_where_the_file_system_can(*, digests: bool) -> None:
    with volume("xfs") as disk:
        files = {b"%d" % number: File(os.urandom(10 * _LARGE)) for number in range(3)}
        build(disk / "source", Directory({**files, b"small": File(b"x")}))
        (disk / "copy").mkdir(mode=0o700)
        os.sync()
        before = _used(disk)
        read_bytes: list[int] = []
        trees = Trees(source=disk / "source", copy=disk / "copy", digests=digests)
        with crew(trees, jobs=1, advance=read_bytes.append) as workers:
            copy = TreeCopy(workers)
            copy.update(delete=False)
            copy.finish()
            os.sync()
            assert _used(disk) - before < 10 * _LARGE
            if digests:
                checking = Checking(copy.entries, disk / "copy")
                workers.start(checking)
                workers.finish()
                assert checking.result(workers).findings == ()
                for name, file in files.items():
                    assert copy.entries[name].digest == hashlib.sha256(file.content).hexdigest()
        assert read(disk / "copy") == read(disk / "source")


def test_what_cannot_share_is_told_and_what_fails_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"x")
    with (tmp_path / "one").open("rb") as reader, tempfile.TemporaryFile() as writer:
        assert clone_content(reader.fileno(), writer.fileno()) in {True, False}
        with pytest.raises(OSError, match="Bad file descriptor"):
            clone_content(reader.fileno(), reader.fileno())


def test_a_disk_that_refuses_is_told_when_all_should_be_durable() -> None:
    def refuse() -> None:
        raise DestinationError("the disk is sick")

    with (
        pytest.raises(DestinationError, match="sick"),
        flushing(refuse, background=True) as flusher,
    ):
        flusher.start()
    with (
        pytest.raises(DestinationError, match="sick"),
        flushing(refuse, background=False) as flusher,
    ):
        flusher.start()
    with (
        pytest.raises(ZeroDivisionError),
        flushing(refuse, background=True) as flusher,
    ):
        _start_and_fail(flusher)


def _start_and_fail(flusher: Flusher) -> None:
    flusher.start()
    raise ZeroDivisionError


def test_a_database_that_is_gone_cannot_be_forgotten(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match=r"cannot read .*/gone: No such file"):
        forget_database(tmp_path / "gone")


def test_a_file_system_without_attributes_has_none(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (tmp_path / "file").open("rb") as file:
        assert not lists_xattrs(file.fileno())
        refused = with_refusal(FLISTXATTR, errno.EOPNOTSUPP, lambda: lists_xattrs(file.fileno()))
        assert refused is False
        with pytest.raises(OSError, match="Input/output"):
            with_refusal(FLISTXATTR, errno.EIO, lambda: lists_xattrs(file.fileno()))


def test_what_others_own_is_read_the_short_way_and_copied_the_long_one() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o777)
        build(root / "source", Directory({b"file": File(b"x", mode=0o644)}))
        view = memoryview(new_buffer())
        with unprivileged():
            (root / "copy").mkdir()
            source, copy = (os.open(root / one, os.O_RDONLY) for one in ("source", "copy"))
            assert not copy_small(b"file", source, copy, view, {}, digests=True, privileged=False)
            assert os.listdir(root / "copy") == []
        record = copy_small(b"file", source, copy, view, {}, digests=True, privileged=True)
        assert record is not None
        with unprivileged():
            assert is_as_recorded(record, source, view)
            assert is_as_recorded(record, copy, view)
        os.close(source)
        os.close(copy)
    assert WRITE_FLAGS & os.O_EXCL


_NEWFSTATAT = 262


def test_a_file_that_cannot_be_looked_at_is_a_failure(tmp_path: Path) -> None:
    build(tmp_path / "source", Directory({b"file": File(b"x")}))
    (tmp_path / "copy").mkdir()
    with Directories(tmp_path / "source") as source, Directories(tmp_path / "copy") as copy:
        bringer = Bringer(source, copy, digests=True, advance=lambda _count: None)
        assert bringer.describe(b"", b"gone") is None
        with pytest.raises(SourceError, match=r"cannot read .*/source/file: Input/output"):
            with_refusal(_NEWFSTATAT, errno.EIO, lambda: bringer.describe(b"", b"file"))


def test_what_a_copy_hands_down_cannot_be_taken_away_in_silence(tmp_path: Path) -> None:
    build(tmp_path / "source", Directory({b"file": File(b"x")}))
    with Directories(tmp_path / "source") as source, Directories(tmp_path / "source") as copy:
        folders = FolderCopier(source, copy, advance=lambda _count: None)
        with pytest.raises((SourceError, DestinationError), match="Input/output"):
            with_refusal(
                FLISTXATTR, errno.EIO, lambda: folders.update(b"", None, (), (), delete=False)
            )
        with pytest.raises(DestinationError, match=r"cannot remove .*/gone: No such file"):
            folders.remove(b"gone")


def test_a_worker_that_has_nothing_to_say_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    pool = Pool(Trees(source=tmp_path / "tree"), 1, lambda _count: None)
    try:
        (worker,) = pool._workers  # noqa: SLF001 - nobody else can ask too early
        assert worker.receive() == []
    finally:
        pool.close()
