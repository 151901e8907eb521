"""Making a tree of a payload: it is right, or the failure says whose it is and where."""

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ops.errors import DestinationError, SourceError
from ops.model import Severity
from ops.names import display
from ops.tree.catalogue import Catalogue
from ops.tree.crew import crew
from ops.tree.finishing import Finish
from ops.tree.ledger import read_ledger
from ops.tree.reading import Checking, TreeCheck
from ops.tree.records import FLAGS, GROUP_LOST, OWNER_LOST, XATTRS_LOST
from ops.tree.restoring import Restoring
from ops.tree.transfer import BUFFER_BYTES
from ops.tree.work import LARGE_BYTES, Trees
from tests.faults.filesystems import volume
from tests.filesystem import (
    FCHMOD,
    FLISTXATTR,
    LSEEK,
    NOBODY,
    PREADV2,
    UTIMENSAT,
    Directory,
    File,
    HardLink,
    Link,
    Pipe,
    build,
    read,
    unprivileged,
    with_refusal,
)
from tests.mounting import tmpfs
from tests.strategies import trees
from tests.test_engine_checking import flip
from tests.test_payload import Stored, restore, store
from tests.test_payload_check import FILES, TREE, Between, lies, open_up, payload_of
from tests.test_tree_compare import deadline, few, several
from tests.test_tree_metadata import access_list
from tests.test_tree_update import LINKED

_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="giving files away takes root")


def make(
    stored: Stored,
    destination: Path,
    *,
    jobs: int = 1,
    advance: Callable[[int], None] = lambda _count: None,
) -> tuple[Catalogue, TreeCheck]:
    """Make a tree; return what could be kept of it, and what its check says."""
    destination.mkdir(mode=0o700, exist_ok=True)
    entries = read_ledger(stored.ledger)
    listed = Trees(source=stored.payload, copy=destination, from_store=True)
    with deadline(), crew(listed, jobs=jobs, advance=advance) as workers:
        workers.start(Restoring(entries))
        workers.finish()
        workers.start(Finish(entries))
        workers.finish()
        checking = Checking(entries, destination)
        workers.start(checking)
        workers.finish()
        return entries, checking.result(workers)


# A damaged payload


def _stops_at_a_byte(tree: Directory, number: int, position: int, jobs: int) -> bool:
    with payload_of(tree) as stored:
        entries = read_ledger(stored.ledger)
        files = [path for path in entries.files() if entries[path].size]
        if not files:
            return False
        open_up(stored.payload)
        path = files[number % len(files)]
        flip(lies(stored, path), position % entries[path].size)
        first = entries[path].link or path
        with pytest.raises(SourceError) as failed:
            make(stored, stored.path / "again", jobs=jobs)
        assert failed.value.message.startswith("the snapshot is damaged: ")
        assert failed.value.message.endswith(display(lies(stored, first)))
        assert failed.value.hint
        return True


@given(trees(), st.integers(0, 20), st.integers(0))
@example(TREE, 2, 0)
@example(LINKED, 1, 0)
@example(Directory({b"a\xff": File(b"x" * BUFFER_BYTES)}), 0, BUFFER_BYTES - 1)
@example(Directory({b"a\xff": File(b"x" * (BUFFER_BYTES + 1))}), 0, BUFFER_BYTES)
@example(Directory({b"a\xff": File(b"x" * (LARGE_BYTES + 1))}), 0, LARGE_BYTES)
def test_any_changed_byte_stops_a_restore(tree: Directory, number: int, position: int) -> None:
    assume(_stops_at_a_byte(tree, number, position, 1))


@few
@given(trees(), st.integers(0, 20), st.integers(0))
@example(Directory({b"a\xff": File(b"x" * (LARGE_BYTES + 1))}), 0, LARGE_BYTES)
def test_any_changed_byte_stops_a_restore_by_two_processes(
    tree: Directory, number: int, position: int
) -> None:
    assume(_stops_at_a_byte(tree, number, position, 2))


@several
@pytest.mark.parametrize("size", [0, 6, 8, 100_000])
@pytest.mark.parametrize("path", FILES)
def test_a_file_of_another_size_stops_a_restore(path: bytes, size: int, jobs: int) -> None:
    with payload_of(TREE) as stored:
        open_up(stored.payload)
        os.truncate(lies(stored, path), size)  # with a hole at its end
        with pytest.raises(SourceError, match=r"the snapshot is damaged: .*/payload/"):
            make(stored, stored.path / "again", jobs=jobs)


def test_a_digest_that_was_changed_in_the_ledger_stops_a_restore() -> None:
    with payload_of(TREE) as stored:
        digest = read_ledger(stored.ledger)[b"a"].digest.encode()
        ledger = stored.ledger.read_bytes()
        stored.ledger.write_bytes(ledger.replace(digest, b"0" * 64, 1))
        with pytest.raises(SourceError, match=r"the snapshot is damaged: .*/payload/a$"):
            make(stored, stored.path / "again")


@several
@pytest.mark.parametrize("path", [one for one in FILES if one != b"other"])
@pytest.mark.parametrize(
    ("instead", "said"),
    [
        (lambda _path: None, "No such file or directory"),
        (os.mkdir, "it is no file"),
        (os.mkfifo, "it is no file"),
        (lambda path: os.symlink(b"/etc/passwd", path), "Too many levels of symbolic links"),
    ],
)
def test_a_file_that_is_none_stops_a_restore(
    path: bytes, instead: Callable[[bytes], object], said: str, jobs: int
) -> None:
    with payload_of(TREE) as stored:
        os.unlink(lies(stored, path))
        instead(lies(stored, path))
        if path == b"d/n\xff":
            os.unlink(lies(stored, b"other"))  # its other name is not asked for
        with pytest.raises(SourceError) as failed:
            make(stored, stored.path / "again", jobs=jobs)
        path = b"other" if path == b"d/n\xff" else path
        where = display(lies(stored, path))
        if path == b"other":
            said = "No such file or directory"
        assert failed.value.message == f"cannot read {where}: {said}"


def test_a_directory_that_is_missing_stops_a_restore() -> None:
    with payload_of(TREE) as stored:
        os.rename(lies(stored, b"d"), os.fsencode(stored.path) + b"/aside")
        with pytest.raises(SourceError, match=r"cannot read .*/payload/d/f: No such file"):
            make(stored, stored.path / "again")


def test_a_payload_that_is_missing_stops_a_restore() -> None:
    with payload_of(TREE) as stored:
        os.rename(stored.payload, stored.path / "aside")
        with pytest.raises(SourceError, match=r"cannot read .*/payload: No such file"):
            make(stored, stored.path / "again")


def test_a_file_that_is_cut_while_it_is_read_stops_a_restore() -> None:
    with payload_of(Directory({b"a\xff": File(b"x" * (3 * BUFFER_BYTES))})) as stored:
        open_up(stored.payload)
        cut = Between(lambda: os.truncate(lies(stored, b"a\xff"), BUFFER_BYTES))
        with pytest.raises(SourceError, match=r"the snapshot is damaged: .*/payload/a_~"):
            make(stored, stored.path / "again", advance=cut)


def test_a_payload_that_cannot_be_read_stops_a_restore() -> None:
    with (
        payload_of(TREE) as stored,
        pytest.raises(SourceError, match=r"cannot read .*/payload/a: Input/output error"),
    ):
        with_refusal(PREADV2, errno.EIO, lambda: make(stored, stored.path / "again"))


def test_holes_of_a_payload_that_cannot_be_found_stop_a_restore(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with (tmp_path / "source/hole").open("wb") as file:
        file.truncate(100_000)
    stored, _ = store(tmp_path / "source", tmp_path / "snapshot")
    entries = read_ledger(stored.ledger)
    (tmp_path / "again").mkdir()
    listed = Trees(source=stored.payload, copy=tmp_path / "again", from_store=True)

    def work() -> None:
        with crew(listed, jobs=1) as workers:
            workers.start(Restoring(entries))
            workers.finish()

    with pytest.raises(SourceError, match=r"cannot read .*/payload/hole: Input/output error"):
        with_refusal(LSEEK, errno.EIO, work)


# A destination that refuses

_FCHOWN, _FTRUNCATE, _PWRITE64, _FSETXATTR, _FCHOWNAT = 93, 77, 18, 190, 260
_MKDIRAT, _MKNODAT, _LINKAT, _SYMLINKAT = 258, 259, 265, 266


@contextmanager
def refused() -> Iterator[Stored]:
    """Yield a payload of a tree that needs every call to be made again."""
    tree = Directory(
        {
            b"attributes": File(b"x", xattrs=(("user.origin", b"x"),)),
            b"d\xff": Directory({b"f": File(b"x")}),
            b"first": File(b"x"),
            b"link\xff": Link(b"a"),
            b"pipe\xff": Pipe(),
            b"second\xff": HardLink(b"first"),
        }
    )
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "source"
        build(source, tree)
        with (source / "sparse").open("wb") as file:
            file.truncate(100_000)
        if os.geteuid() == 0:
            os.chown(source / "first", 1234, 1234)
            os.chown(os.fsencode(source) + b"/link\xff", 1234, 1234, follow_symlinks=False)
        yield store(source, Path(name) / "snapshot")[0]


@_ROOT
@pytest.mark.parametrize(
    ("call", "said"),
    [
        (FLISTXATTR, "set the metadata of .*/again"),
        (_FSETXATTR, "write .*/again/attributes"),
        (FCHMOD, "write .*/again/attributes"),
        (UTIMENSAT, "write .*/again/attributes"),
        (_PWRITE64, "write .*/again/attributes"),
        (_FCHOWN, "write .*/again/first"),
        (_SYMLINKAT, r"write .*/again/link\\xff"),
        (_FCHOWNAT, r"write .*/again/link\\xff"),
        (_MKNODAT, r"write .*/again/pipe\\xff"),
        (_FTRUNCATE, "write .*/again/sparse"),
        (_MKDIRAT, r"create the directory .*/again/d\\xff"),
        (_LINKAT, r"link .*/again/second\\xff"),
    ],
)
def test_a_destination_that_refuses_is_a_failure(call: int, said: str) -> None:
    with (
        refused() as stored,
        pytest.raises(DestinationError, match=rf"cannot {said}: Input/output error"),
    ):
        with_refusal(call, errno.EIO, lambda: make(stored, stored.path / "again"))


def test_metadata_of_a_directory_that_cannot_be_set_is_a_failure() -> None:
    with (
        payload_of(Directory({b"d\xff": Directory()})) as stored,
        pytest.raises(DestinationError, match=r"set the metadata of .*/again/d\\xff: Input/output"),
    ):
        with_refusal(FCHMOD, errno.EIO, lambda: make(stored, stored.path / "again"))


@several
@pytest.mark.parametrize("name", [b"a", b"d", b"link", b"pipe\xff"])
def test_what_is_in_the_way_is_not_written_over(name: bytes, jobs: int) -> None:
    with payload_of(TREE) as stored:
        again = stored.path / "again"
        again.mkdir()
        path = os.fsencode(again) + b"/" + name
        with open(path, "wb") as file:
            file.write(b"in the way")
        with pytest.raises(DestinationError) as failed:
            make(stored, again, jobs=jobs)
        assert f"{display(path)}: File exists" in failed.value.message
        assert Path(os.fsdecode(path)).read_bytes() == b"in the way"


def test_a_second_name_without_a_first_one_is_a_failure() -> None:
    with payload_of(LINKED) as stored:
        ledger = stored.ledger.read_bytes()
        assert b'{"hard_link":"a"}' in ledger
        stored.ledger.write_bytes(ledger.replace(b'{"hard_link":"a"}', b'{"hard_link":"q"}', 1))
        with pytest.raises(DestinationError, match=r"cannot link .*/again/b: No such file"):
            make(stored, stored.path / "again")


@several
def test_a_destination_that_fills_up_is_a_failure(jobs: int) -> None:
    for size in (3 << 20, LARGE_BYTES + 1):
        with payload_of(Directory({b"a\xff": File(b"x" * size)})) as stored, tmpfs("1m") as place:
            with pytest.raises(DestinationError) as failed:
                make(stored, place / "again", jobs=jobs)
            where = display(os.fsencode(place) + b"/again/a\xff")
            assert failed.value.message == f"cannot write {where}: No space left on device"


@several
def test_a_destination_that_is_not_there_is_a_failure(tmp_path: Path, jobs: int) -> None:
    with payload_of(TREE) as stored:
        entries = read_ledger(stored.ledger)

        def work() -> None:
            listed = Trees(source=stored.payload, copy=tmp_path / "nowhere", from_store=True)
            with crew(listed, jobs=jobs) as workers:
                workers.start(Restoring(entries))
                workers.finish()

        with pytest.raises(DestinationError, match=r"cannot read .*/nowhere: No such file"):
            work()


def test_a_destination_that_may_not_be_written_is_a_failure() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        build(root / "source", Directory({b"f": File(b"x")}))
        root.chmod(0o777)
        (root / "again").mkdir(mode=0o755)
        with unprivileged():
            stored, _ = store(root / "source", root / "snapshot")
            with pytest.raises(
                DestinationError, match=r"cannot write .*/again/f: Permission denied"
            ):
                make(stored, root / "again", jobs=1)


# What cannot be kept is told


def _flags(entries: Catalogue) -> dict[bytes, int]:
    found = {path: entries.record(path) for path in entries}
    return {path: record[FLAGS] for path, record in found.items() if record is not None}


def test_an_unprivileged_restore_notes_what_it_could_not_keep() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        tree = Directory(
            {
                b"d": Directory({b"p": Pipe(0o644)}),
                b"f\xff": File(b"x"),
                b"large": File(bytes(LARGE_BYTES)),
                b"s": Link(b"f"),
                b"setuid": File(b"x", mode=0o4755),
            }
        )
        build(root / "source", tree)
        root.chmod(0o777)
        with unprivileged():
            stored, _ = store(root / "source", root / "snapshot")
            entries, check = make(stored, root / "again")
        assert set(_flags(entries).values()) == {OWNER_LOST | GROUP_LOST}
        assert entries.tally() == (5, 3, LARGE_BYTES + 2, 7, 7, 0)
        assert {found.severity for found in check.findings} == {Severity.WARNING}
        status = (root / "again/setuid").stat()
        assert status.st_uid == NOBODY
        assert not status.st_mode & stat.S_ISUID
        # Root, of the same payload, keeps it all.
        restore(stored, root / "by root")
        assert read(root / "by root") == read(root / "source")


def test_other_names_of_what_could_not_be_kept_are_told_too() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        build(root / "source", LINKED)
        root.chmod(0o777)
        with unprivileged():
            stored, _ = store(root / "source", root / "snapshot")
            entries, _ = make(stored, root / "again")
        assert set(_flags(entries).values()) == {OWNER_LOST | GROUP_LOST}


def test_attributes_that_a_file_system_does_not_have_are_noted() -> None:
    with refused() as stored:
        found: list[Catalogue] = []

        def work() -> None:
            found.append(make(stored, stored.path / "again")[0])

        with_refusal(_FSETXATTR, errno.EOPNOTSUPP, work)
        flags = _flags(found[0])
        assert flags.pop(b"attributes") == XATTRS_LOST
        assert set(flags.values()) == {0}
        assert os.listxattr(stored.path / "again/attributes") == []


# Where the tree is made


@several
def test_what_the_place_hands_down_is_not_taken(tmp_path: Path, jobs: int) -> None:
    with payload_of(TREE) as stored:
        again = tmp_path / "again"
        again.mkdir()
        try:
            os.setxattr(again, *access_list(default=True))
        except OSError:
            pytest.skip("this file system has no access control lists")
        _, check = make(stored, again, jobs=jobs)
        assert check.findings == ()
        assert read(again) == read(stored.path.with_name("source"))


def test_content_is_shared_with_the_payload_where_the_file_system_can() -> None:
    with volume("xfs") as disk:
        size = 3 << 20
        build(
            disk / "source",
            Directory({b"a\xff": File(os.urandom(size)), b"b": File(os.urandom(size))}),
        )
        with (disk / "source/sparse").open("wb") as file:
            file.truncate(size)
            file.seek(size // 2)
            file.write(b"x")
        stored, _ = store(disk / "source", disk / "snapshot")
        os.sync()
        before = os.statvfs(disk).f_bfree
        told: list[int] = []
        restore(stored, disk / "again", advance=told.append)
        os.sync()
        assert (before - os.statvfs(disk).f_bfree) * os.statvfs(disk).f_frsize < size
        assert sum(told) >= 2 * size
        assert read(disk / "again") == read(disk / "source")
        flip(disk / "again/b", 0)  # the payload has its own
        restore(stored, disk / "once more")
        flip(lies(stored, b"a\xff"), size - 1)
        with pytest.raises(SourceError, match=r"the snapshot is damaged: .*/payload/a_~"):
            make(stored, disk / "damaged")


@several
def test_a_crowd_of_names_is_restored(tmp_path: Path, jobs: int) -> None:
    # More second names than one job links, and more directories than one job takes.
    first = {b"first %03d" % number: File(b"%d" % number) for number in range(250)}
    second = {b"%03d" % number: HardLink(b"first %03d" % number) for number in range(250)}
    folders = {b"d%03d\xff" % number: Directory({b"f": File(b"x")}) for number in range(80)}
    tree = Directory({**first, **folders, b"z": Directory({**second})})
    build(tmp_path / "source", tree)
    stored, _ = store(tmp_path / "source", tmp_path / "snapshot", jobs=jobs)
    restore(stored, tmp_path / "again", jobs=jobs)
    assert read(tmp_path / "again") == read(tmp_path / "source")
