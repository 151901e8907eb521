"""What is read from a database file before anybody opens it as one."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.errors import DamagedError, SourceError
from ops.model import Kind
from ops.sqlite.header import MAGIC, inspect_database, parse_header, sidecar
from tests.filesystem import footprint, unprivileged

_NOBODY = 65534


def _make(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (zeroblob(3000))")
    return path


@pytest.fixture
def shared_directory() -> Iterator[Path]:
    """Make a directory that every user can enter, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 32768, 65536])
@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_the_header_says_what_sqlite_says(tmp_path: Path, page_size: int, mode: str) -> None:
    path = _make(
        tmp_path / "db", f"PRAGMA page_size = {page_size}", f"PRAGMA journal_mode = {mode}"
    )

    header = parse_header(path.read_bytes()[:100])

    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA page_size").fetchone() == (header.page_size,)
        assert connection.execute("PRAGMA page_count").fetchone() == (header.pages,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == (mode.lower(),)
    assert header.page_size == page_size
    assert header.wal is (mode == "WAL")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", "does not begin with SQLite's signature"),
        (b"SQLite format 2\x00".ljust(100, b"\0"), "does not begin with SQLite's signature"),
        (MAGIC, "ends after 16 bytes, inside the header"),
        (MAGIC.ljust(99, b"\0"), "ends after 99 bytes, inside the header"),
        (MAGIC.ljust(100, b"\0"), "page size of 0 bytes is impossible"),
        ((MAGIC + b"\x01\x00").ljust(100, b"\0"), "page size of 256 bytes is impossible"),
        ((MAGIC + b"\x03\x00").ljust(100, b"\0"), "page size of 768 bytes is impossible"),
    ],
)
def test_what_is_no_header_is_refused_with_the_reason(header: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_header(header)


@given(st.binary(min_size=84, max_size=200))
@example(b"\x00\x01".ljust(84, b"\0"))
def test_a_header_has_a_possible_page_size_or_is_refused(rest: bytes) -> None:
    try:
        header = parse_header(MAGIC + rest)
    except ValueError as error:
        assert "impossible" in str(error)  # noqa: PT017 - either answer will do
    else:
        assert header.page_size in {2**power for power in range(9, 17)}


def test_a_sidecar_lies_beside_its_database() -> None:
    assert sidecar(Path("/data/db.sqlite3"), "-wal") == Path("/data/db.sqlite3-wal")


def test_a_database_is_described_and_left_alone(tmp_path: Path) -> None:
    path = _make(tmp_path / "db.sqlite3", "PRAGMA page_size = 1024")
    path.chmod(0o640)
    before = footprint(tmp_path)

    file = inspect_database(path)

    assert file.path == path
    assert file.entry.kind is Kind.FILE
    assert file.entry.path == b"db.sqlite3"
    assert file.entry.mode == 0o640
    assert file.entry.size == path.stat().st_size
    assert file.sidecars == ()
    assert file.room == path.stat().st_size
    assert footprint(tmp_path) == before


def test_sidecars_are_found_beside_the_real_file_and_count_as_room(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = _make(tmp_path / "real" / "db", "PRAGMA journal_mode = WAL")
    link = tmp_path / "link"
    link.symlink_to(path)
    size = path.stat().st_size
    sidecar(path, "-wal").write_bytes(bytes(5000))
    sidecar(path, "-journal").write_bytes(bytes(70))
    sidecar(link, "-shm").write_bytes(bytes(1))  # beside the link: nobody's

    file = inspect_database(link)

    assert file.path == path
    assert file.sidecars == ("-wal", "-journal")
    assert file.room == size + 5070
    sidecar(path, "-wal").unlink()  # the application was closed meanwhile
    assert file.room == size + 70


def test_room_counts_the_pages_that_a_log_still_holds(tmp_path: Path) -> None:
    path = _make(tmp_path / "db", "PRAGMA journal_mode = WAL")
    whole = path.stat().st_size
    os.truncate(path, 4096)
    sidecar(path, "-wal").write_bytes(bytes(10))

    assert inspect_database(path).room == whole + 10


def _refusal(path: Path) -> SourceError:
    with pytest.raises(SourceError) as caught:
        inspect_database(path)
    assert str(path.name) in caught.value.message
    return caught.value


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    dangling = tmp_path / "dangling"
    dangling.symlink_to("nowhere")

    assert "not found" in _refusal(tmp_path / "missing").message
    assert "not found" in _refusal(dangling).message
    assert sorted(os.listdir(tmp_path)) == ["dangling", "home"]


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert "Not a directory" in _refusal(tmp_path / "file" / "db").message


def test_a_link_that_leads_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")

    assert "cannot reach the database" in _refusal(tmp_path / "loop").message


def test_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    refusal = _refusal(tmp_path / "db")

    assert "is a directory" in refusal.message
    assert "name the SQLite file inside it" in refusal.hint


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "db")

    assert "not a regular file" in _refusal(tmp_path / "db").message


def test_a_hard_linked_database_is_refused(tmp_path: Path) -> None:
    path = _make(tmp_path / "db")
    os.link(path, tmp_path / "second")
    refusal = _refusal(path)

    assert "2 hard links" in refusal.message
    assert "remove the other names" in refusal.hint


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"", "empty (0 bytes)", "an interrupted copy"),
        (b"PRAGMA foreign_keys=OFF;\nBEGIN;\n", "signature", 'begins with "PRAGMA foreign_keys'),
        (b"\n", "signature", 'begins with ""'),
        (b"\x7fELF" + bytes(4000), "signature", "name the application's SQLite file"),
        (bytes(range(256)) * 16, "signature", "encrypted or compressed"),
        (MAGIC + b"\x10\x00", "inside the header", "name the application's SQLite file"),
        (MAGIC + bytes(90), "impossible", "name the application's SQLite file"),
    ],
)
def test_what_is_no_database_is_refused_with_a_guess(
    tmp_path: Path, content: bytes, message: str, hint: str
) -> None:
    (tmp_path / "db").write_bytes(content)
    refusal = _refusal(tmp_path / "db")

    assert isinstance(refusal, DamagedError)
    assert message in refusal.message
    assert hint in refusal.hint


def test_a_header_without_pages_is_refused(tmp_path: Path) -> None:
    path = _make(tmp_path / "db")
    os.truncate(path, 100)

    assert "a header and nothing else" in _refusal(path).message


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
@pytest.mark.parametrize("cut", [1, 4096])
def test_a_truncated_database_is_refused(tmp_path: Path, mode: str, cut: int) -> None:
    path = _make(tmp_path / "db", f"PRAGMA journal_mode = {mode}")
    size = path.stat().st_size
    os.truncate(path, size - cut)
    refusal = _refusal(path)

    assert isinstance(refusal, DamagedError)
    assert f"{size - cut} bytes where its header says {size}" in refusal.message


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_a_short_database_is_taken_while_a_log_may_complete_it(tmp_path: Path, suffix: str) -> None:
    path = _make(tmp_path / "db")
    os.truncate(path, path.stat().st_size - 4096)
    sidecar(path, suffix).touch()
    assert "truncated" in _refusal(path).message  # an empty one completes nothing

    sidecar(path, suffix).write_bytes(b"frames")

    assert inspect_database(path).sidecars == (suffix,)


def test_a_page_count_that_old_sqlite_left_unset_counts_for_nothing(tmp_path: Path) -> None:
    path = _make(tmp_path / "db")
    with path.open("r+b") as file:  # SQLite before 3.7.0 wrote neither field
        os.pwrite(file.fileno(), (1000).to_bytes(4, "big"), 28)
        os.pwrite(file.fileno(), bytes(4), 92)

    assert inspect_database(path).header.pages == 1000


def test_a_database_of_somebody_else_that_cannot_be_read_is_refused(shared_directory: Path) -> None:
    path = _make(shared_directory / "db")
    path.chmod(0o600)
    with unprivileged():
        refusal = _refusal(path)

    assert refusal.message == f"cannot read the database {path}: Permission denied"
    assert "owner of the path, or as root" in refusal.hint


def test_a_database_in_a_closed_directory_is_refused(shared_directory: Path) -> None:
    path = _make(shared_directory / "db")
    shared_directory.chmod(0o700)
    with unprivileged():
        refusal = _refusal(path)

    assert refusal.message == f"cannot reach the database {path}: Permission denied"


def test_a_name_too_long_for_sidecars_ends_in_an_answer(tmp_path: Path) -> None:
    path = _make(tmp_path / "db").rename(tmp_path / ("n" * 250))

    try:
        sidecars = inspect_database(path).sidecars
    except SourceError as error:
        assert "too long" in error.message  # noqa: PT017 - either answer will do
    else:
        assert sidecars == ()
