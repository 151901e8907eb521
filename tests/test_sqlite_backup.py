"""A backup is the pinned instant, whoever writes meanwhile, or it is nothing."""

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ops.errors import BusyError, DamagedError, DestinationError, OpsError
from ops.sqlite.backup import back_up
from ops.sqlite.source import OpenDatabase, Way, open_source, pinned

_WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)
print("ready", flush=True)
for line in sys.stdin:
    try:
        connection.executescript(line)
        print("done", flush=True)
    except sqlite3.Error as error:
        print(error, flush=True)
connection.close()
"""


class _Writer:
    """Another process with a connection, which runs what it is told and says how it went."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.answer = self._read()

    def run(self, statements: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{statements}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def _writer(database: Path) -> Iterator[_Writer]:
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _WRITER, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        writer = _Writer(process)
        assert writer.answer == "ready"
        try:
            yield writer
        finally:
            process.stdin.close()


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Make a private directory."""
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Name a copy in an empty directory."""
    directory = tmp_path / "copy"
    directory.mkdir()
    return directory / "db"


_ROWS = 2500


def _make(path: Path, mode: str = "WAL") -> Path:
    """Make a database of some 2,600 pages, so that a backup takes several steps."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA page_size = 1024")
        connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()
        connection.execute("CREATE TABLE t (x INTEGER PRIMARY KEY, y, filler)")
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)"
            " INSERT INTO t SELECT i, i, randomblob(700) FROM n",
            (_ROWS,),
        )
    return path


def _dump(connection: sqlite3.Connection) -> list[str]:
    return list(connection.iterdump())


def _dump_file(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return _dump(connection)


def _ignore(_done: int, _total: int) -> None:
    """Take no notice of progress."""


@pytest.mark.parametrize("mode", ["WAL", "DELETE"])
def test_a_backup_at_rest_is_the_database_page_by_page(
    tmp_path: Path, scratch: Path, copy: Path, mode: str
) -> None:
    path = _make(tmp_path / "db", mode)
    steps: list[tuple[int, int]] = []
    with (
        open_source(path, scratch=scratch, timeout_seconds=0) as database,
        pinned(database),
    ):
        back_up(database, copy, advance=lambda done, total: steps.append((done, total)))

    expected, found = bytearray(path.read_bytes()), bytearray(copy.read_bytes())
    for data in (expected, found):
        for start, end in ((24, 28), (40, 44), (92, 100)):  # the counters of changes
            data[start:end] = bytes(end - start)
    assert found == expected
    pages = len(expected) // 1024
    assert steps == [(1000, pages), (2000, pages), (pages, pages)]
    assert os.listdir(copy.parent) == ["db"]


_COMMITS = {
    "rows come": "INSERT INTO t SELECT NULL, -1, randomblob(700) FROM t LIMIT 500;",
    "rows change": "UPDATE t SET y = y + 1, filler = randomblob(500);",
    "rows go": "DELETE FROM t WHERE x % 2;",
    "tables come": "CREATE TABLE IF NOT EXISTS u AS SELECT * FROM t;",
    "everything moves": "DELETE FROM t WHERE x % 3 = 0; VACUUM;",
    "the log is moved": "UPDATE t SET y = y + 1; PRAGMA wal_checkpoint(PASSIVE);",
}


@pytest.mark.parametrize("commit", _COMMITS.values(), ids=_COMMITS.keys())
def test_a_backup_is_the_pinned_instant_while_a_writer_commits(
    tmp_path: Path, scratch: Path, copy: Path, commit: str
) -> None:
    path = _make(tmp_path / "db")
    answers: list[str] = []
    with _writer(path) as writer:
        assert writer.run("UPDATE t SET y = 0 WHERE x = 1;") == "done"

        def advance(_done: int, _total: int) -> None:
            answers.append(writer.run(commit))

        with open_source(path, scratch=scratch, timeout_seconds=0) as database:
            assert database.way is Way.LIVE
            with pinned(database):
                before = _dump(database.connection)
                answers.append(writer.run(commit))
                back_up(database, copy, advance=advance)
                assert _dump(database.connection) == before
            after = _dump(database.connection)
            right = database.still_right()

    assert _dump_file(copy) == before
    assert after != before
    assert right
    assert set(answers) == {"done"}
    assert len(answers) == 4


def test_without_a_pin_commits_are_seen(tmp_path: Path, scratch: Path) -> None:
    """The pin is what holds the instant: without it the same reads differ."""
    path = _make(tmp_path / "db")
    with _writer(path) as writer:
        writer.run("UPDATE t SET y = 0;")
        with open_source(path, scratch=scratch, timeout_seconds=0) as database:
            writer.run("UPDATE t SET y = 1;")
            assert database.connection.execute("SELECT max(y) FROM t").fetchone() == (1,)
            with pinned(database):
                writer.run("UPDATE t SET y = 2;")
                assert database.connection.execute("SELECT max(y) FROM t").fetchone() == (1,)
            assert database.connection.execute("SELECT max(y) FROM t").fetchone() == (2,)


def test_in_rollback_mode_writers_wait_for_the_pin_and_then_go_on(
    tmp_path: Path, scratch: Path, copy: Path
) -> None:
    path = _make(tmp_path / "db", "DELETE")
    with (
        _writer(path) as writer,
        open_source(path, scratch=scratch, timeout_seconds=0) as database,
    ):
        with pinned(database):
            before = _dump(database.connection)
            assert writer.run("DELETE FROM t;") == "database is locked"
            back_up(database, copy, advance=_ignore)
        assert writer.run("DELETE FROM t;") == "done"

    assert _dump_file(copy) == before


def test_a_pin_is_let_go_when_the_work_fails(tmp_path: Path, scratch: Path) -> None:
    path = _make(tmp_path / "db", "DELETE")
    with open_source(path, scratch=scratch, timeout_seconds=0) as database:
        with pytest.raises(KeyboardInterrupt), pinned(database):
            raise KeyboardInterrupt
        assert not database.connection.in_transaction


def test_a_pin_that_is_gone_already_is_let_go_too(tmp_path: Path, scratch: Path) -> None:
    path = _make(tmp_path / "db")
    with open_source(path, scratch=scratch, timeout_seconds=0) as database:
        with pinned(database):
            database.connection.execute("COMMIT")
        assert not database.connection.in_transaction


def test_a_locked_database_cannot_be_pinned(tmp_path: Path, scratch: Path) -> None:
    path = _make(tmp_path / "db", "DELETE")
    with (
        _writer(path) as writer,
        open_source(path, scratch=scratch, timeout_seconds=0) as database,
    ):
        assert writer.run("BEGIN EXCLUSIVE;") == "done"
        with pytest.raises(BusyError, match="stayed locked"), pinned(database):
            pytest.fail("it was pinned")


def test_after_a_lock_the_database_can_be_pinned_again(tmp_path: Path, scratch: Path) -> None:
    path = _make(tmp_path / "db", "DELETE")
    with (
        _writer(path) as writer,
        open_source(path, scratch=scratch, timeout_seconds=0) as database,
    ):
        writer.run("BEGIN EXCLUSIVE;")
        with pytest.raises(BusyError), pinned(database):
            pytest.fail("it was pinned")
        writer.run("COMMIT;")

        with pinned(database):
            count = database.connection.execute("SELECT count(*) FROM t").fetchone()

    assert count == (_ROWS,)


def _fails(
    path: Path, scratch: Path, copy: Path, *, advance: Callable[[int, int], None] = _ignore
) -> OpsError:
    """Back up, which must fail, and must leave the source open and readable."""
    with (
        open_source(path, scratch=scratch, timeout_seconds=0) as database,
        pinned(database),
    ):
        with pytest.raises(OpsError) as caught:
            back_up(database, copy, advance=advance)
        assert database.connection.execute("SELECT count(*) FROM t").fetchone() == (_ROWS,)
    return caught.value


def test_a_full_disk_leaves_no_file(tmp_path: Path, scratch: Path) -> None:
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    small = tmp_path / "small"
    small.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m", "none"]
    mounted = subprocess.run([mount, *options, small], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount: {mounted.stderr.decode()}")
    try:
        failure = _fails(_make(tmp_path / "db"), scratch, small / "copy")

        assert isinstance(failure, DestinationError)
        assert failure.message == f"cannot write {small / 'copy'}: database or disk is full"
        assert "free some space" in failure.hint
        assert os.listdir(small) == []
    finally:
        subprocess.run([umount, small], check=True)


def test_a_file_that_may_not_grow_leaves_no_file(tmp_path: Path, scratch: Path, copy: Path) -> None:
    path = _make(tmp_path / "db")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        failure = _fails(path, scratch, copy)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert isinstance(failure, DestinationError)
    assert failure.message.startswith(f"cannot write {copy}: ")
    assert os.listdir(copy.parent) == []


def test_a_directory_that_is_not_there_is_a_failure_of_the_destination(
    tmp_path: Path, scratch: Path
) -> None:
    failure = _fails(_make(tmp_path / "db"), scratch, tmp_path / "nowhere" / "copy")

    assert isinstance(failure, DestinationError)
    assert not (tmp_path / "nowhere").exists()


def test_a_place_below_a_file_is_a_failure_of_the_destination(
    tmp_path: Path, scratch: Path
) -> None:
    (tmp_path / "file").touch()

    failure = _fails(_make(tmp_path / "db"), scratch, tmp_path / "file" / "copy")

    assert isinstance(failure, DestinationError)


def test_an_interruption_between_steps_leaves_no_file(
    tmp_path: Path, scratch: Path, copy: Path
) -> None:
    def interrupt(done: int, _total: int) -> None:
        assert copy.exists()
        if done == 2000:
            raise KeyboardInterrupt

    path = _make(tmp_path / "db")
    with (
        open_source(path, scratch=scratch, timeout_seconds=0) as database,
        pytest.raises(KeyboardInterrupt),
        pinned(database),
    ):
        back_up(database, copy, advance=interrupt)

    assert os.listdir(copy.parent) == []


@contextmanager
def _opened_then(
    path: Path, scratch: Path, change: Callable[[Path], object]
) -> Iterator[OpenDatabase]:
    """Open a database, and let something happen to it before it is pinned."""
    with open_source(path, scratch=scratch, timeout_seconds=0) as database:
        change(path)
        yield database


def _overwrite(path: Path) -> None:
    """Write over a database as `cp` of some other file does."""
    with path.open("r+b") as file:
        file.write(b"not a database any more".ljust(4096, b"."))


def test_a_source_overwritten_meanwhile_cannot_be_pinned(tmp_path: Path, scratch: Path) -> None:
    path = _make(tmp_path / "db", "DELETE")
    with (
        _opened_then(path, scratch, _overwrite) as database,
        pytest.raises(DamagedError, match="file is not a database"),
        pinned(database),
    ):
        pytest.fail("it was pinned")


def test_a_source_overwritten_meanwhile_leaves_no_file(
    tmp_path: Path, scratch: Path, copy: Path
) -> None:
    path = _make(tmp_path / "db", "DELETE")
    with (
        _opened_then(path, scratch, _overwrite) as database,
        pytest.raises(DamagedError, match="file is not a database") as caught,
    ):
        back_up(database, copy, advance=_ignore)

    assert str(path) in caught.value.message
    assert os.listdir(copy.parent) == []


def test_a_source_that_stays_locked_ends_the_backup(
    tmp_path: Path, scratch: Path, copy: Path
) -> None:
    """SQLite itself would try for ever; this takes the half second that is allowed."""
    path = _make(tmp_path / "db", "DELETE")
    steps: list[int] = []
    with (
        _writer(path) as writer,
        open_source(path, scratch=scratch, timeout_seconds=0) as database,
    ):
        assert writer.run("BEGIN EXCLUSIVE;") == "done"
        with pytest.raises(BusyError, match="stayed locked") as caught:
            back_up(
                database,
                copy,
                advance=lambda done, _total: steps.append(done),
                busy_seconds=0.5,
            )

    assert str(path) in caught.value.message
    assert len(steps) == 2
    assert os.listdir(copy.parent) == []


def test_a_lock_that_is_given_up_lets_the_backup_go_on(
    tmp_path: Path, scratch: Path, copy: Path
) -> None:
    path = _make(tmp_path / "db", "DELETE")
    steps: list[int] = []
    with (
        _writer(path) as writer,
        open_source(path, scratch=scratch, timeout_seconds=0) as database,
    ):
        expected = _dump(database.connection)
        assert writer.run("BEGIN EXCLUSIVE;") == "done"

        def advance(done: int, _total: int) -> None:
            if not steps:
                writer.run("COMMIT;")
            steps.append(done)

        back_up(database, copy, advance=advance)

    assert steps[0] == 0
    assert steps == sorted(steps)
    assert _dump_file(copy) == expected
