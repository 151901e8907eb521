"""Every way of opening a source reads what was committed and leaves no trace."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given

from ops.errors import BusyError, DamagedError, DestinationError, OpsError, SourceError
from ops.sqlite.connection import connect, remove_database, sqlite_failure
from ops.sqlite.recovery import copy_still_files
from ops.sqlite.source import OpenDatabase, Way, open_source, read_steadily
from tests.filesystem import footprint, unprivileged
from tests.strategies import names

_NOBODY = 65534
_HOT_JOURNAL = bytes.fromhex("d9d505f920a163d7")

_SERVER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for statement in sys.argv[2:]:
    connection.execute(statement).fetchall()
print("ready", flush=True)
sys.stdin.read()
connection.close()
"""

_MANY = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)"
_FILL = (
    "CREATE TABLE t (x, filler)",
    "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (4, 'c')",
    "CREATE TABLE other (filler)",
)
_WAL = ("PRAGMA journal_mode = WAL", *_FILL)
_ROLLBACK = ("PRAGMA journal_mode = DELETE", *_FILL)
# A small cache makes SQLite write pages of a transaction that was not committed.
_SPILL = (
    "PRAGMA cache_size = 5",
    "BEGIN IMMEDIATE",
    "UPDATE t SET x = x + 100",
    f"INSERT INTO other {_MANY} SELECT randomblob(3000) FROM n",
)


@contextmanager
def _server(database: Path, *statements: str) -> Iterator[subprocess.Popen[str]]:
    """Run statements in a process that keeps the database open until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", _SERVER, str(database), *statements],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.stdin.close()
            process.wait(timeout=30)


def _serve(database: Path, *statements: str) -> None:
    """Run statements in a process that ends in good order."""
    with _server(database, *statements) as process:
        pass
    assert process.returncode == 0


def _crash(database: Path, *statements: str) -> None:
    """Run statements in a process that is killed while it has the database open."""
    with _server(database, *statements) as process:
        process.kill()


def _sum(database: OpenDatabase) -> int:
    (total,) = database.connection.execute("SELECT sum(x) FROM t").fetchone()
    assert isinstance(total, int)
    return total


@dataclass(frozen=True)
class _State:
    """A state in which a database may be found, how it comes about and how it is read."""

    name: str
    statements: tuple[str, ...]
    way: Way
    sidecars: tuple[str, ...] = ()
    ends: str = "crashes"  # or "closes", or "runs"
    lost: str = ""

    @contextmanager
    def made(self, database: Path) -> Iterator[None]:
        with ExitStack() as stack:
            if self.ends == "runs":
                stack.enter_context(_server(database, *self.statements))
            elif self.ends == "closes":
                _serve(database, *self.statements)
            else:
                _crash(database, *self.statements)
            if self.lost:
                Path(f"{database}{self.lost}").unlink()
            present = sorted(os.listdir(database.parent))
            assert present == sorted(f"db{suffix}" for suffix in ("", *self.sidecars))
            yield


_STATES = (
    _State("wal at rest", _WAL, Way.REST, ends="closes"),
    _State("wal in use", _WAL, Way.LIVE, ("-wal", "-shm"), "runs"),
    _State("wal with a writer", (*_WAL, *_SPILL), Way.LIVE, ("-wal", "-shm"), "runs"),
    _State(
        "wal in use, emptied",
        (*_WAL, "PRAGMA wal_checkpoint(TRUNCATE)"),
        Way.LIVE,
        ("-wal", "-shm"),
        "runs",
    ),
    _State(
        "wal in use, restarted",
        (*_WAL, "PRAGMA wal_checkpoint(RESTART)", "UPDATE t SET filler = 'd'"),
        Way.LIVE,
        ("-wal", "-shm"),
        "runs",
    ),
    _State("wal crashed", _WAL, Way.LIVE, ("-wal", "-shm")),
    _State("wal crashed while writing", (*_WAL, *_SPILL), Way.LIVE, ("-wal", "-shm")),
    _State("wal crashed, index lost", _WAL, Way.COPY, ("-wal",), lost="-shm"),
    _State(
        "wal crashed while empty, index lost",
        (*_WAL, "PRAGMA wal_checkpoint(TRUNCATE)"),
        Way.COPY,
        ("-wal",),
        lost="-shm",
    ),
    _State(
        "wal kept by one process",
        ("PRAGMA locking_mode = EXCLUSIVE", *_WAL),
        Way.COPY,
        ("-wal",),
        "runs",
    ),
    _State("rollback at rest", _ROLLBACK, Way.ROLLBACK, ends="closes"),
    _State("rollback in use", _ROLLBACK, Way.ROLLBACK, ends="runs"),
    _State(
        "rollback with a writer",
        (*_ROLLBACK, "BEGIN IMMEDIATE", "UPDATE t SET x = x + 100"),
        Way.ROLLBACK,
        ("-journal",),
        "runs",
    ),
    _State(
        "rollback with a journal kept",
        ("PRAGMA journal_mode = PERSIST", *_FILL),
        Way.ROLLBACK,
        ("-journal",),
        "closes",
    ),
    _State("hot journal", (*_ROLLBACK, *_SPILL), Way.COPY, ("-journal",)),
)


@contextmanager
def _read_only_view(directory: Path, view: Path) -> Iterator[None]:
    """Show a directory at another place, where nothing can be written."""
    mount = shutil.which("mount")
    umount = shutil.which("umount")
    if mount is None or umount is None:
        pytest.skip("there is no mount command")
    view.mkdir()
    bound = subprocess.run([mount, "--bind", directory, view], check=False, capture_output=True)
    if bound.returncode != 0:
        pytest.skip(f"cannot mount: {bound.stderr.decode()}")
    try:
        subprocess.run([mount, "-o", "remount,bind,ro", view], check=True)
        yield
    finally:
        subprocess.run([umount, view], check=True)


@dataclass(frozen=True)
class _Place:
    """Where a source is looked at from, and a private directory of whoever looks."""

    data: Path
    seen: Path
    scratch: Path


@contextmanager
def _place(kind: str) -> Iterator[_Place]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        top = Path(name)
        top.chmod(0o755)
        place = _Place(top / "data", top / "data", top / "scratch")
        place.data.mkdir()
        place.scratch.mkdir()
        if kind != "own" and os.geteuid() != 0:
            pytest.skip("only root can mount or become somebody else")
        if kind == "read-only":
            stack.enter_context(_read_only_view(place.data, top / "view"))
            place = _Place(place.data, top / "view", place.scratch)
        if kind == "other user":
            os.chown(place.scratch, _NOBODY, _NOBODY)
        yield place


def _seen(directory: Path, place: str) -> dict[bytes, tuple[object, ...]]:
    """Read all by which a change would show.

    Root's own SQLite gives sidecars to the owner they have, whenever it opens them
    (`os_unix.c`, `robustFchown`): that sets their ctime, and nothing else.
    """
    found = footprint(directory)
    if place == "own" and os.geteuid() == 0:
        for path in found:
            if path.endswith((b"-wal", b"-shm", b"-journal")):
                found[path] = found[path][:-1]
    return found


@pytest.mark.parametrize("place", ["own", "read-only", "other user"])
@pytest.mark.parametrize("state", _STATES, ids=lambda state: state.name)
def test_a_source_in_any_state_is_read_as_committed_and_left_untouched(
    state: _State, place: str
) -> None:
    with _place(place) as where, state.made(where.data / "db"), ExitStack() as stack:
        before = _seen(where.data, place)
        present = os.listdir(where.data)

        if place == "other user":
            stack.enter_context(unprivileged())
        with open_source(where.seen / "db", scratch=where.scratch, timeout_seconds=1) as database:
            rows = database.connection.execute("SELECT x FROM t ORDER BY x").fetchall()
            integrity = database.connection.execute("PRAGMA integrity_check").fetchall()
            right = database.still_right()
            meanwhile = os.listdir(where.data)
        stack.close()

        assert rows == [(1,), (2,), (4,)]
        assert integrity == [("ok",)]
        assert right
        assert database.way is state.way
        assert database.file.path == where.seen / "db"
        assert meanwhile == present
        assert _seen(where.data, place) == before
        assert bool(os.listdir(where.scratch)) is (state.way is Way.COPY)


def test_a_child_of_another_user_leaves_no_trace_either() -> None:
    """The same with a process that can never become root again."""
    script = (
        "import os, sys; from pathlib import Path; from ops.sqlite.source import open_source\n"
        f"os.setgroups([]); os.setgid({_NOBODY}); os.setuid({_NOBODY})\n"
        "with open_source(Path(sys.argv[1]), scratch=Path(sys.argv[2]), timeout_seconds=1) as db:\n"
        "    print(db.way.name, db.connection.execute('SELECT sum(x) FROM t').fetchall())\n"
    )
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    with _place("other user") as where:
        _crash(where.data / "db", *_WAL)
        before = footprint(where.data)

        done = subprocess.run(
            [sys.executable, "-c", script, where.data / "db", where.scratch],
            check=False,
            capture_output=True,
            text=True,
            env=quiet,
        )

        assert (done.stdout, done.stderr) == ("LIVE [(7,)]\n", "")
        assert footprint(where.data) == before


def test_a_hot_journal_is_one_without_which_the_database_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _crash(path, *_ROLLBACK, *_SPILL)
    assert Path(f"{path}-journal").read_bytes().startswith(_HOT_JOURNAL)

    with closing(connect(path, "mode=ro&immutable=1", 0)) as connection:
        try:
            rows = connection.execute("SELECT x FROM t ORDER BY x").fetchall()
        except sqlite3.DatabaseError:
            rows = []

    assert rows != [(1,), (2,), (4,)]


def test_a_log_is_looked_for_beside_the_real_file(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    _crash(tmp_path / "data" / "db", *_WAL)
    (tmp_path / "link").symlink_to("data/db")

    with open_source(tmp_path / "link", scratch=tmp_path, timeout_seconds=1) as database:
        assert database.way is Way.LIVE
        assert database.connection.execute("SELECT sum(x) FROM t").fetchone() == (7,)


@pytest.mark.parametrize("state", _STATES, ids=lambda state: state.name)
def test_nothing_can_be_written_through_a_source(tmp_path: Path, state: _State) -> None:
    (tmp_path / "data").mkdir()
    with (
        state.made(tmp_path / "data" / "db"),
        open_source(tmp_path / "data" / "db", scratch=tmp_path, timeout_seconds=0) as database,
        pytest.raises(sqlite3.OperationalError, match="readonly"),
    ):
        database.connection.execute("DELETE FROM t")


@pytest.mark.parametrize(
    "statements",
    [
        (*_ROLLBACK, "BEGIN EXCLUSIVE"),
        (*_ROLLBACK, *_SPILL),
    ],
    ids=["exclusive transaction", "spilled transaction"],
)
def test_a_database_that_stays_locked_is_busy(tmp_path: Path, statements: tuple[str, ...]) -> None:
    path = tmp_path / "db"
    with (
        _server(path, *statements),
        pytest.raises(BusyError) as caught,
        open_source(path, scratch=tmp_path / "home", timeout_seconds=0.05),
    ):
        pytest.fail("it was opened")

    assert caught.value.message == f"the database stayed locked: {path}: database is locked"
    assert "ops.lock_timeout" in caught.value.hint


def test_a_lock_that_is_given_up_in_time_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with _server(path, *_ROLLBACK, "BEGIN EXCLUSIVE") as process:
        assert process.stdin is not None
        timer = threading.Timer(0.2, process.stdin.close)
        timer.start()
        with open_source(path, scratch=tmp_path, timeout_seconds=20) as database:
            rows = database.connection.execute("SELECT sum(x) FROM t").fetchall()
        timer.join()

    assert rows == [(7,)]


def _descriptors() -> set[str]:
    """List what this process has open, where Linux tells."""
    links = Path("/proc/self/fd")
    return {str(link.readlink()) for link in links.iterdir() if link.is_symlink()}


def _ruin_schema(path: Path) -> None:
    """Overwrite all of the first page but the header."""
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), b"\xff" * 3000, 100)


@pytest.mark.parametrize(
    "state", [_STATES[0], _STATES[3], _STATES[7], _STATES[10]], ids=lambda state: state.way.name
)
def test_damage_is_told_from_a_lock_and_leaves_no_connection(tmp_path: Path, state: _State) -> None:
    path = tmp_path / "data" / "db"
    path.parent.mkdir()
    with state.made(path):
        if state.lost:  # the log would make the page good again
            os.truncate(f"{path}-wal", 0)
        _ruin_schema(path)
        with (
            pytest.raises(DamagedError) as caught,
            open_source(path, scratch=tmp_path, timeout_seconds=0),
        ):
            pytest.fail("it was opened")

    assert caught.value.message.startswith(f"cannot read the database {path}: ")
    assert "restore another copy" in caught.value.hint
    if sys.platform == "linux":
        assert not any(name.startswith(str(path)) for name in _descriptors())


def test_damage_that_is_no_text_is_told_too(tmp_path: Path) -> None:
    """SQLite's message quotes what it stumbled over, and that need not be UTF-8."""
    path = tmp_path / "db"
    _serve(path, "CREATE TABLE t (abcdefg)")
    path.write_bytes(path.read_bytes().replace(b"(abcdefg)", b"(a) \xffbcde"))

    with (
        pytest.raises(DamagedError, match="malformed database schema"),
        open_source(path, scratch=tmp_path, timeout_seconds=0),
    ):
        pytest.fail("it was opened")


def test_a_log_that_cannot_be_copied_is_a_failure_of_the_source(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _serve(path, *_WAL)
    Path(f"{path}-wal").mkdir()

    with (
        pytest.raises(SourceError, match=r"cannot read .*-wal: Is a directory"),
        open_source(path, scratch=tmp_path / "home", timeout_seconds=0),
    ):
        pytest.fail("it was opened")


def test_a_log_that_only_its_owner_may_read_is_a_failure_with_a_hint() -> None:
    with _place("other user") as where:
        path = where.data / "db"
        _crash(path, *_WAL)
        Path(f"{path}-wal").chmod(0o600)
        before = footprint(where.data)
        with (
            unprivileged(),
            pytest.raises(SourceError, match="-wal: Permission denied") as caught,
            open_source(path, scratch=where.scratch, timeout_seconds=0),
        ):
            pytest.fail("it was opened")

        assert "as root" in caught.value.hint
        assert footprint(where.data) == before


_TOUCH = """
import itertools, os, sys
print("ready", flush=True)
for instant in itertools.count(1):
    os.utime(sys.argv[1], ns=(instant, instant))
"""


def test_files_that_change_while_they_are_copied_are_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _crash(path, *_WAL)
    os.truncate(path, 64 << 20)  # a hole that takes a while to copy
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _TOUCH, path], stdout=subprocess.PIPE
    ) as touching:
        try:
            assert touching.stdout is not None
            assert touching.stdout.readline() == b"ready\n"
            copy = copy_still_files(path, tmp_path / "home")
        finally:
            touching.kill()

    assert copy is None
    again = copy_still_files(path, tmp_path / "home")
    assert again is not None
    assert sorted(os.listdir(again.parent)) == ["db", "db-wal"]


def test_a_database_without_index_is_copied_once_it_holds_still(tmp_path: Path) -> None:
    path = tmp_path / "data" / "db"
    path.parent.mkdir()
    _crash(path, *_WAL)
    Path(f"{path}-shm").unlink()
    os.truncate(path, 16 << 20)
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _TOUCH, path], stdout=subprocess.PIPE
    ) as touching:
        assert touching.stdout is not None
        assert touching.stdout.readline() == b"ready\n"
        timer = threading.Timer(0.3, touching.kill)
        timer.start()
        with open_source(path, scratch=tmp_path, timeout_seconds=20) as database:
            assert database.way is Way.COPY
            assert _sum(database) == 7
        timer.join()


@contextmanager
def _touched(path: Path) -> Iterator[None]:
    """Set the times of a file to now, again and again."""
    stop = threading.Event()

    def touch() -> None:
        while not stop.wait(0.005):
            os.utime(path)

    os.utime(path)
    toucher = threading.Thread(target=touch)
    toucher.start()
    try:
        yield
    finally:
        stop.set()
        toucher.join()


@pytest.mark.parametrize(
    "state", [_STATES[0], _STATES[7], _STATES[11]], ids=lambda state: state.name
)
def test_a_database_written_just_now_is_not_trusted_to_rest(tmp_path: Path, state: _State) -> None:
    """A second change within the same tick of the clock would not show."""
    path = tmp_path / "data" / "db"
    path.parent.mkdir()
    touched = state.way is not Way.ROLLBACK
    with state.made(path), _touched(path):
        try:
            with open_source(path, scratch=tmp_path, timeout_seconds=0) as database:
                opened = database.way
        except BusyError as error:
            assert touched
            assert "changed each time it was read" in error.message  # noqa: PT017
            assert "try again" in error.hint  # noqa: PT017
        else:
            assert not touched
            assert opened is Way.ROLLBACK  # locks guard it


def test_a_full_disk_is_a_failure_of_the_place_for_the_copy(tmp_path: Path) -> None:
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    path, small = tmp_path / "db", tmp_path / "small"
    _crash(path, *_WAL, f"INSERT INTO other {_MANY} SELECT randomblob(3000) FROM n")
    Path(f"{path}-shm").unlink()
    small.mkdir()
    options = ["-t", "tmpfs", "-o", "size=64k", "none"]
    mounted = subprocess.run([mount, *options, small], check=False, capture_output=True)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount: {mounted.stderr.decode()}")
    try:
        with (
            pytest.raises(DestinationError, match="No space left") as caught,
            open_source(path, scratch=small, timeout_seconds=0),
        ):
            pytest.fail("it was opened")
    finally:
        subprocess.run([umount, small], check=True)

    assert "free some space" in caught.value.hint


def test_a_database_at_rest_is_right_until_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _serve(path, *_WAL)
    with open_source(path, scratch=tmp_path, timeout_seconds=0) as database:
        assert database.way is Way.REST
        assert database.still_right()
        with _server(path, "INSERT INTO t VALUES (8, '')"):
            assert database.still_right()  # the row is in the log alone
        assert not database.still_right()  # now it was moved to the main file


def test_a_database_at_rest_that_is_gone_is_not_right(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _serve(path, *_WAL)
    with open_source(path, scratch=tmp_path, timeout_seconds=0) as database:
        path.unlink()

        assert not database.still_right()


def test_a_database_replaced_by_one_of_the_same_size_and_time_is_not_right(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _serve(path, *_WAL)
    status = path.stat()
    with open_source(path, scratch=tmp_path, timeout_seconds=0) as database:
        shutil.copyfile(path, tmp_path / "other")
        os.utime(tmp_path / "other", ns=(status.st_atime_ns, status.st_mtime_ns))
        (tmp_path / "other").replace(path)

        assert not database.still_right()


def _change(path: Path) -> None:
    """Write, and let it look as if that had been long ago: only the ctime tells."""
    _serve(path, "UPDATE t SET x = x + 10")
    os.utime(path, ns=(1, 1))


def test_what_is_read_while_nobody_locks_is_read_again_when_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _serve(path, *_WAL)
    sums: list[int] = []

    def read(database: OpenDatabase) -> int:
        sums.append(_sum(database))
        if len(sums) < 3:
            _change(path)
        return sums[-1]

    assert read_steadily(path, read, scratch=tmp_path, timeout_seconds=0) == sums[-1]
    assert sums == [7, 37, 67]


def test_a_failure_counts_only_if_the_database_stayed_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _serve(path, *_WAL)
    tries: list[int] = []

    def read(database: OpenDatabase) -> int:
        tries.append(_sum(database))
        if len(tries) == 1:
            _change(path)
        raise SourceError("torn")

    with pytest.raises(SourceError, match="torn"):
        read_steadily(path, read, scratch=tmp_path, timeout_seconds=0)
    assert tries == [7, 37]


def test_a_database_that_never_holds_still_is_busy(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _serve(path, *_WAL)

    def read(database: OpenDatabase) -> int:
        _change(path)
        return _sum(database)

    with pytest.raises(BusyError, match="changed each time it was read"):
        read_steadily(path, read, scratch=tmp_path, timeout_seconds=0)


def test_a_database_with_a_time_in_the_future_is_at_rest(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _serve(path, *_WAL)
    later = time.time_ns() + 3_600_000_000_000
    os.utime(path, ns=(later, later))
    with open_source(path, scratch=tmp_path, timeout_seconds=0) as database:
        assert database.way is Way.REST
        assert database.still_right()


_COME_AND_GO = """
import sqlite3, sys, time
end = time.monotonic() + 1.5
while time.monotonic() < end:
    connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
    connection.execute("INSERT INTO t VALUES (5, ''), (-5, '')")
    connection.close()
"""


def test_an_application_that_comes_and_goes_is_read_right(tmp_path: Path) -> None:
    """Its log may be left when it goes while it is read, but never without the index."""
    path = tmp_path / "data" / "db"
    path.parent.mkdir()
    _serve(path, *_WAL)
    sums: list[int] = []
    with subprocess.Popen([sys.executable, "-S", "-c", _COME_AND_GO, path]) as application:
        while application.poll() is None:
            with contextlib.suppress(BusyError):
                sums.append(read_steadily(path, _sum, scratch=tmp_path, timeout_seconds=1))

    assert application.returncode == 0
    assert set(sums) <= {7}
    assert sorted(os.listdir(path.parent)) in (["db"], ["db", "db-shm", "db-wal"])
    assert read_steadily(path, _sum, scratch=tmp_path, timeout_seconds=0) == 7


@given(names.filter(lambda name: len(name) < 240))
@example(b"100%?mode=rwc#x&vfs=none.sqlite3")
@example(b"%41.sqlite3")
@example(b"\xff\xfe.sqlite3")
@example(b"file:memory")
def test_a_database_of_any_name_is_opened(name: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / os.fsdecode(name)
        plain = Path(directory) / "plain"
        with closing(sqlite3.connect(plain)) as connection:
            connection.execute("CREATE TABLE t (x)")
        plain.rename(path)

        with open_source(path, scratch=Path(directory), timeout_seconds=0) as database:
            tables = database.connection.execute("SELECT name FROM sqlite_schema").fetchall()

        assert tables == [("t",)]
        assert os.listdir(os.fsencode(directory)) == [name]


def test_text_that_is_not_utf8_is_read_as_bytes_in_disguise(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _serve(path, "CREATE TABLE t AS SELECT CAST(x'61ff' AS TEXT) AS x")

    with open_source(path, scratch=tmp_path, timeout_seconds=0) as database:
        assert database.connection.execute("SELECT x FROM t").fetchone() == ("a\udcff",)


def test_a_database_of_our_own_goes_with_its_sidecars_and_nothing_else(tmp_path: Path) -> None:
    for name in ("db", "db-wal", "db-shm", "db-journal", "db2", "db-walrus"):
        (tmp_path / name).touch()

    remove_database(tmp_path / "db")
    remove_database(tmp_path / "db")

    assert sorted(os.listdir(tmp_path)) == ["db-walrus", "db2", "home"]


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("SELECT * FROM missing", DamagedError),
        ("INSERT INTO t VALUES (1)", DamagedError),  # not an OperationalError
    ],
)
def test_an_error_of_sqlite_names_the_database(statement: str, kind: type[OpsError]) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE t (x UNIQUE)")
        connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute(statement)

    failure = sqlite_failure(Path("/data/a\nb"), caught.value)

    assert type(failure) is kind
    assert failure.message == rf"cannot read the database /data/a\nb: {caught.value}"
