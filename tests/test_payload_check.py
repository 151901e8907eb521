"""Checking a payload where it lies: what is not as the ledger says is found by its true name."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ops.errors import DestinationError
from ops.model import Finding, Severity
from ops.names import display
from ops.tree.catalogue import Catalogue
from ops.tree.crew import crew
from ops.tree.inspecting import EVERYTHING, Sample, is_sampled
from ops.tree.inspection import Inspection
from ops.tree.ledger import read_ledger
from ops.tree.stored import stored_name, stored_path
from ops.tree.transfer import BUFFER_BYTES
from ops.tree.work import LARGE_BYTES, Trees
from tests.filesystem import (
    GETDENTS64,
    Directory,
    File,
    HardLink,
    Link,
    Pipe,
    build,
    footprint,
    with_refusal,
)
from tests.strategies import trees
from tests.test_engine_checking import flip
from tests.test_payload import Stored, store, storing
from tests.test_stored_names import ODD
from tests.test_tree_compare import deadline, few, several
from tests.test_tree_update import LINKED, crowd

TREE = Directory(
    {
        b"a": File(b"content"),
        b"d": Directory(
            {
                b"f": File(b"content"),
                b"n\xff": File(b"content"),
                b"below%": Directory({b"f ": File(b"content")}),
                b"empty\n": Directory(),
            }
        ),
        b"link": Link(b"a"),
        b"none": File(),
        b"other": HardLink(b"d/n\xff"),
        b"pipe\xff": Pipe(),
    }
)
FILES = [b"a", b"d/f", b"d/n\xff", b"d/below%/f ", b"other"]
FOLDERS = [b"d", b"d/below%", b"d/empty\n"]


@contextmanager
def payload_of(tree: Directory) -> Iterator[Stored]:
    """Put a tree into a payload."""
    with tempfile.TemporaryDirectory() as name:
        build(Path(name) / "source", tree)
        yield store(Path(name) / "source", Path(name) / "snapshot")[0]


def inspect(
    stored: Stored,
    *,
    entries: Catalogue | None = None,
    sample: Sample | None = EVERYTHING,
    trust_shared: bool = False,
    jobs: int = 1,
    from_disk: bool = False,
    pieces: Callable[[int], None] = lambda _count: None,
    files: Callable[[int], None] = lambda _files: None,
) -> Inspection:
    listed = Trees(source=stored.payload, blame="destination", from_store=True, from_disk=from_disk)
    with deadline(), crew(listed, jobs=jobs, advance=pieces) as workers:
        inspection = Inspection(
            read_ledger(stored.ledger) if entries is None else entries,
            sample=sample,
            trust_shared=trust_shared,
            advance=files,
        )
        workers.start(inspection)
        workers.finish()
        result = inspection.result(workers)
    assert result.findings == inspection.findings()
    assert (result.files, result.bytes) == (inspection.files, inspection.bytes_read)
    return inspection


def lies(stored: Stored, path: bytes) -> bytes:
    """Return the path at which an entry lies."""
    return os.fsencode(stored.payload) + b"/" + stored_path(path)


def told(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    """Return kinds and places; whatever is found is an error."""
    assert all(found.severity is Severity.ERROR for found in findings)
    return [(found.kind, found.where) for found in findings]


def open_up(payload: Path) -> None:
    """Let anybody but root damage a payload of their own."""
    for directory, _, names in os.walk(os.fsencode(payload)):
        for name in names:
            os.chmod(directory + b"/" + name, 0o600)


# What is as it should be


@several
@pytest.mark.parametrize("from_disk", [True, False])
def test_a_payload_that_is_as_it_should_be_is_read_once_and_nothing_is_found(
    from_disk: bool, jobs: int
) -> None:
    odd = Directory({name: File(name) for name in ODD})
    large = File(b"x" * (LARGE_BYTES + 1))
    tree = Directory({**TREE.children, **crowd(450), b"odd": odd, b"large": large})
    with payload_of(tree) as stored:
        before = footprint(stored.path)
        pieces: list[int] = []
        files: list[int] = []
        inspection = inspect(
            stored, jobs=jobs, from_disk=from_disk, pieces=pieces.append, files=files.append
        )
        assert footprint(stored.path) == before
        assert inspection.findings() == ()
        assert inspection.damaged() == ()
        count = len(FILES) + 1 + 450 + 1 + len(ODD)
        assert inspection.files == inspection.files_read == sum(files) == count
        assert inspection.bytes_read == sum(pieces)


# Contents


def _notices_a_byte(
    tree: Directory, number: int, position: int, *, jobs: int, from_disk: bool
) -> bool:
    """Change a byte of a file, and require that it is found under each of its names."""
    with payload_of(tree) as stored:
        entries = read_ledger(stored.ledger)
        files = [path for path in entries.files() if entries[path].size]
        if not files:
            return False
        open_up(stored.payload)
        path = files[number % len(files)]
        flip(lies(stored, path), position % entries[path].size)
        inode = stored.inode(path)
        damaged = [one for one in files if stored.inode(one) == inode]
        inspection = inspect(stored, jobs=jobs, from_disk=from_disk)
        findings = inspection.findings()
        assert told(findings) == [("changed", display(one)) for one in damaged]
        assert {found.expected for found in findings} == {f"content {entries[path].digest}"}
        assert sorted(inspection.damaged()) == sorted(damaged)
        return True


_position = st.integers(0)


@given(trees(), st.integers(0, 20), _position, st.booleans())
@example(TREE, 2, 0, False)
@example(LINKED, 0, 0, True)
@example(Directory({b"a\xff": File(b"x" * BUFFER_BYTES)}), 0, BUFFER_BYTES - 1, False)
@example(Directory({b"a": File(b"x" * (BUFFER_BYTES + 1))}), 0, BUFFER_BYTES, True)
@example(Directory({b"a": File(b"x" * (LARGE_BYTES + 1))}), 0, LARGE_BYTES, False)
def test_any_changed_byte_is_found(
    tree: Directory, number: int, position: int, from_disk: bool
) -> None:
    assume(_notices_a_byte(tree, number, position, jobs=1, from_disk=from_disk))


@few
@given(trees(), st.integers(0, 20), _position)
@example(TREE, 2, 0)
def test_any_changed_byte_is_found_by_two_processes(
    tree: Directory, number: int, position: int
) -> None:
    assume(_notices_a_byte(tree, number, position, jobs=2, from_disk=False))


# Everything else


def _instead(make: Callable[[bytes], object]) -> Callable[[bytes], None]:
    def replace(path: bytes) -> None:
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
        make(path)

    return replace


def _write(path: bytes) -> None:
    with open(path, "wb") as file:
        file.write(b"content")


def _link(path: bytes) -> None:
    os.symlink(b"/etc/passwd", path)


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("sample", [EVERYTHING, None])
def test_a_file_of_another_size_is_found_without_reading_it(
    path: bytes, sample: Sample | None
) -> None:
    with payload_of(TREE) as stored:
        open_up(stored.payload)
        names = {path, *({b"other", b"d/n\xff"} if path in {b"other", b"d/n\xff"} else ())}
        for size in (6, 8, 0):
            os.truncate(lies(stored, path), size)
            findings = inspect(stored, sample=sample).findings()
            assert sorted(told(findings)) == sorted(("changed", display(one)) for one in names)
            assert {(one.expected, one.found) for one in findings} == {("size 7", str(size))}


@several
@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("sample", [EVERYTHING, None])
def test_a_missing_file_is_found(path: bytes, sample: Sample | None, jobs: int) -> None:
    with payload_of(TREE) as stored:
        os.unlink(lies(stored, path))
        inspection = inspect(stored, sample=sample, jobs=jobs)
        (found,) = inspection.findings()
        assert told((found,)) == [("missing", display(path))]
        assert (found.expected, found.found) == ("file", "nothing")
        assert inspection.files == len(FILES)
        assert inspection.damaged() == ()


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize("make", [_link, os.mkfifo, os.mkdir])
def test_a_file_that_became_something_else_is_found(
    path: bytes, make: Callable[[bytes], None]
) -> None:
    with payload_of(TREE) as stored:
        _instead(make)(lies(stored, path))
        assert sorted(told(inspect(stored).findings())) == [
            ("missing", display(path)),
            ("unexpected", display(os.path.join(os.path.dirname(path), _leaf(path)))),
        ]


def _leaf(path: bytes) -> bytes:
    return stored_name(os.path.basename(path))


@several
@pytest.mark.parametrize("folder", [b"", *FOLDERS])
@pytest.mark.parametrize("make", [_write, _link, os.mkfifo, os.mkdir])
def test_what_does_not_belong_in_a_payload_is_found(
    folder: bytes, make: Callable[[bytes], None], jobs: int
) -> None:
    with payload_of(TREE) as stored:
        inside = os.path.join(lies(stored, folder), b"new\xff")
        make(inside)
        if make is os.mkdir:
            _write(inside + b"/below")
        inspection = inspect(stored, jobs=jobs)
        (found,) = inspection.findings()
        assert told((found,)) == [("unexpected", display(os.path.join(folder, b"new\xff")))]
        assert (found.expected, found.found) == ("nothing", "in the payload")
        assert inspection.files == inspection.files_read == len(FILES) + 1


@pytest.mark.parametrize("name", [b"link", b"pipe\xff"])
def test_what_is_only_written_down_does_not_belong_in_a_payload(name: bytes) -> None:
    with payload_of(TREE) as stored:
        _write(lies(stored, name))
        ((kind, where),) = told(inspect(stored).findings())
        assert (kind, where) == ("unexpected", display(stored_name(name)))


@several
def test_a_missing_directory_is_found_once(jobs: int) -> None:
    with payload_of(TREE) as stored:
        os.rmdir(lies(stored, b"d/empty\n"))
        (found,) = inspect(stored, jobs=jobs).findings()
        assert told((found,)) == [("missing", display(b"d/empty\n"))]
        assert (found.expected, found.found) == ("directory", "nothing")


@several
@pytest.mark.parametrize("make", [lambda _path: None, _write, _link, os.mkfifo])
def test_a_directory_that_is_gone_is_found_once_for_all_that_is_below(
    make: Callable[[bytes], None], jobs: int
) -> None:
    with payload_of(TREE) as stored:
        _instead(make)(lies(stored, b"d"))
        found = told(inspect(stored, jobs=jobs).findings())
        extra = [("unexpected", "d")] if os.path.lexists(lies(stored, b"d")) else []
        assert sorted(found) == [("missing", "d"), *extra]


def test_findings_come_in_the_order_of_the_paths() -> None:
    with payload_of(TREE) as stored:
        open_up(stored.payload)
        for path in (b"d/below%/f ", b"a", b"d/n\xff", b"d/f"):
            flip(lies(stored, path), 0)
        paths = [b"a", b"other", b"d/f", b"d/n\xff", b"d/below%/f "]
        assert told(inspect(stored).findings()) == [("changed", display(path)) for path in paths]


# Samples


@given(st.sets(st.binary(min_size=1, max_size=20), max_size=50), st.integers(1, 12))
def test_every_file_belongs_to_one_part(paths: set[bytes], parts: int) -> None:
    for path in paths:
        assert [is_sampled(path, (part, parts)) for part in range(parts)].count(True) == 1


@several
def test_as_many_checks_as_there_are_parts_read_every_file_once(jobs: int) -> None:
    with payload_of(Directory(crowd(450))) as stored:
        open_up(stored.payload)
        flip(stored.payload / "00123", 0)
        parts, read, found = 7, [], []
        for part in range(parts):
            inspection = inspect(stored, sample=(part, parts), jobs=jobs)
            assert inspection.files == 450
            read.append(inspection.files_read)
            found += told(inspection.findings())
        assert sum(read) == 450
        assert all(20 < count < 120 for count in read)
        assert found == [("changed", "00123")]
        nothing = inspect(stored, sample=None, jobs=jobs)
        assert (nothing.files, nothing.files_read, nothing.bytes_read) == (450, 0, 0)
        assert nothing.findings() == ()


# What is shared with an earlier snapshot


@several
def test_what_is_shared_is_trusted_where_that_is_wanted(tmp_path: Path, jobs: int) -> None:
    source = tmp_path / "source"
    build(source, TREE)
    one, _ = store(source, tmp_path / "one")
    (source / "new").write_bytes(b"new content")
    with storing(source, tmp_path / "two", jobs=jobs) as making:
        making.copy.update(delete=True)
    with storing(source, tmp_path / "three", earlier=one.earlier, jobs=jobs) as making:
        making.update()
        two, entries = making.stored, making.copy.entries
        described = making.describe()
        shared = described.shared_files
        assert 0 < shared < described.files
        inspection = inspect(two, entries=entries, trust_shared=True, jobs=jobs)
        assert inspection.findings() == ()
        assert inspection.files == described.files
        assert inspection.files_read == described.files - shared
        everything = inspect(two, entries=entries, jobs=jobs)
        assert everything.files_read == described.files
        open_up(two.payload)
        flip(two.payload / "a", 0)
        flip(two.payload / "new", 0)
        trusting = inspect(two, entries=entries, trust_shared=True, jobs=jobs)
        assert told(trusting.findings()) == [("changed", "new")]
        assert told(inspect(two, entries=entries, jobs=jobs).findings()) == [
            ("changed", "a"),
            ("changed", "new"),
        ]
        # Written down and read back, nothing is shared any more, and all is read.
        assert inspect(two, trust_shared=True, jobs=jobs).files_read == described.files
        (two.payload / "a").unlink()
        assert ("missing", "a") in told(
            inspect(two, entries=entries, trust_shared=True, jobs=jobs).findings()
        )


# Failures


@several
def test_a_payload_that_is_not_there_is_a_failure(jobs: int) -> None:
    with payload_of(TREE) as stored:
        shutil.rmtree(stored.payload)
        with pytest.raises(DestinationError, match=r"cannot read .*/payload: No such file"):
            inspect(stored, jobs=jobs)


_READV = 19


@pytest.mark.parametrize(("call", "said"), [(GETDENTS64, "/payload"), (_READV, "/payload/a")])
def test_what_may_not_be_read_is_a_failure(call: int, said: str) -> None:
    with (
        payload_of(TREE) as stored,
        pytest.raises(DestinationError, match=rf"cannot read .*{said}: Permission denied"),
    ):
        with_refusal(call, errno.EACCES, lambda: inspect(stored))


def test_what_a_sick_disk_does_not_give_is_found() -> None:
    with payload_of(TREE) as stored:
        listing = with_refusal(GETDENTS64, errno.EIO, lambda: inspect(stored)).findings()
        assert told(listing)[0] == ("missing", "attachments")
        assert (listing[0].expected, listing[0].found) == ("directory", "Input/output error")
        inspection = with_refusal(_READV, errno.EIO, lambda: inspect(stored))
        found = inspection.findings()
        assert sorted(told(found)) == sorted(
            ("changed", display(path)) for path in [*FILES, b"none"]
        )
        assert {(one.expected, one.found) for one in found} == {
            ("a file that can be read", "Input/output error")
        }
        assert sorted(inspection.damaged()) == sorted([*FILES, b"none"])


class Between:
    """Does something once, while the first file is read."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action: Callable[[], object] | None = action

    def __call__(self, _count: int) -> None:
        action, self._action = self._action, None
        if action is not None:
            action()


def test_a_file_that_becomes_something_else_while_it_is_looked_at_is_found() -> None:
    tree = Directory({b"a": File(b"content"), b"b\xff": File(b"content")})
    with payload_of(tree) as stored:
        second = lies(stored, b"b\xff")
        between = Between(lambda: _instead(os.mkfifo)(second))
        (found,) = inspect(stored, pieces=between).findings()
        assert told((found,)) == [("changed", display(b"b\xff"))]
        assert (found.expected, found.found) == ("file", "something else")


def test_a_file_that_goes_while_it_is_looked_at_is_found() -> None:
    names = [b"%d" % number for number in range(50)]
    first = next(name for name in names if is_sampled(name, (0, 2)))
    second = next(name for name in sorted(names) if name > first and not is_sampled(name, (0, 2)))
    tree = Directory({first: File(b"content"), second: File(b"content")})
    for sample in (EVERYTHING, (0, 2)):
        with payload_of(tree) as stored:
            between = Between(partial(os.unlink, lies(stored, second)))
            (found,) = inspect(stored, sample=sample, pieces=between).findings()
            assert told((found,)) == [("changed", second.decode())]
            assert found.found == "No such file or directory"
