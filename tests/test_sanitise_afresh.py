"""The copy is a new file: nothing of before is in it, and it is as the source was."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ops.errors import DestinationError, SourceError
from ops.sanitise.private import private_database
from ops.sanitise.transform import search_database, write_afresh
from ops.sqlite.header import inspect_database
from tests.sanitising import (
    complaints,
    make_database,
    make_harmless,
    one,
    profile,
    rows,
    sanitise_in_place,
)

_SECRET = b"s3cret-of-4711"
_MANY = (
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300)"
    f" INSERT INTO t SELECT '{_SECRET.decode()}' || i || hex(zeroblob(200)) FROM n"
)


def _with_free_pages(path: Path) -> Path:
    """Make a database whose secrets were deleted, and are in its free pages still."""
    database = make_database(
        path,
        f"CREATE TABLE t (v text); {_MANY}",
        before="PRAGMA secure_delete = OFF; PRAGMA auto_vacuum = NONE",
    )
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DELETE FROM t WHERE rowid > 1")
        connection.execute("UPDATE t SET v = 'short'")
        connection.commit()
    assert database.read_bytes().count(_SECRET) > 100
    return database


def test_nothing_of_free_pages_is_in_the_copy(tmp_path: Path) -> None:
    database = _with_free_pages(tmp_path / "a")

    made = make_harmless(database, profile())

    assert _SECRET not in made.raw
    assert made.one("PRAGMA freelist_count") == 0
    assert made.rows("SELECT * FROM t") == [("short",)]


def test_what_is_only_in_the_log_is_sanitised_and_the_log_is_gone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    with closing(sqlite3.connect(source)) as connection:
        connection.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;"
            f"CREATE TABLE t (v text); CREATE TABLE p (token text); {_MANY};"
            f"DELETE FROM t WHERE rowid > 2; INSERT INTO p VALUES ('{_SECRET.decode()}1')"
        )
        connection.commit()
        database = tmp_path / "a"
        database.write_bytes(source.read_bytes())
        (tmp_path / "a-wal").write_bytes((tmp_path / "source-wal").read_bytes())
    assert _SECRET in (tmp_path / "a-wal").read_bytes()

    made = make_harmless(
        database, profile({"column": "p.token", "action": "blank", "secret": True}), wal=True
    )

    assert made.left == ()
    assert f"{_SECRET.decode()}1".encode() not in made.raw
    assert inspect_database(made.path).header.wal
    assert made.one("SELECT count(*) FROM t") == 2
    assert sorted(path.name for path in tmp_path.glob("copy*")) == ["copy.sqlite3"]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
@pytest.mark.parametrize("wal", [False, True])
@pytest.mark.parametrize("auto_vacuum", [0, 1, 2])
def test_the_copy_is_as_the_source_was(
    tmp_path: Path, *, encoding: str, page_size: int, wal: bool, auto_vacuum: int
) -> None:
    pragmas = {
        "encoding": encoding,
        "page_size": page_size,
        "auto_vacuum": auto_vacuum,
        "application_id": 0x4711,
        "user_version": -42,
        "journal_mode": "wal" if wal else "delete",
    }
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (id integer PRIMARY KEY AUTOINCREMENT, v text);"
        "INSERT INTO t VALUES (7, 'héllo'), (900, 'x'); DELETE FROM t WHERE id = 900",
        before="".join(f"PRAGMA {name} = '{value}';" for name, value in pragmas.items()),
    )

    made = make_harmless(database, profile(), wal=wal)

    assert inspect_database(made.path).header.wal is wal
    for name, value in pragmas.items():
        assert one(made.path, f"PRAGMA {name}") == value
    assert made.rows("SELECT * FROM t") == [(7, "héllo")]
    assert made.one("SELECT seq FROM sqlite_sequence") == 900
    assert complaints(made.path) == []


def test_indexes_of_every_kind_are_in_the_copy(tmp_path: Path) -> None:
    statements = (
        "CREATE INDEX plain ON t (v)",
        "CREATE UNIQUE INDEX partial ON t (v) WHERE n > 1",
        "CREATE INDEX expression ON t (lower(v) DESC, n)",
        "CREATE VIEW v AS SELECT * FROM t /* a remark */",
    )
    database = make_database(
        tmp_path / "a",
        f"CREATE TABLE t (v text, n); INSERT INTO t VALUES ('eve@y.org', 1), ('eve@y.org', 2);"
        f"{'; '.join(statements)}",
    )

    made = make_harmless(database, profile())

    stored = made.rows("SELECT sql FROM sqlite_schema WHERE tbl_name IN ('t', 'v') AND name <> 't'")
    assert stored == [(statement,) for statement in statements]
    assert b"eve@y.org" not in made.raw
    assert complaints(made.path) == []


def test_the_search_finds_what_is_left_wherever_it_is(tmp_path: Path) -> None:
    free = _with_free_pages(tmp_path / "free")
    value = make_database(
        tmp_path / "value",
        f"CREATE TABLE t (v, w); INSERT INTO t VALUES (1, 'x {_SECRET.decode().upper()}1')",
    )
    long = make_database(
        tmp_path / "long",
        "CREATE TABLE t (v); INSERT INTO t VALUES"
        f" (hex(zeroblob(5000)) || '{_SECRET.decode()}' || hex(zeroblob(5000)))",
        before="PRAGMA page_size = 512",
    )
    raw = "the bytes of the database file"

    for path, expected in ((free, {raw}), (value, {raw, "t.w"}), (long, {raw, "t.v"})):
        found = search_database(path, [_SECRET])
        assert {one.where for one in found} == expected
        assert {one.kind for one in found} == {"original-left"}
        assert _SECRET.decode() not in repr(found)
        assert search_database(path, [b"never-there-1"]) == ()


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ("v text", ""),
        ("v text, k integer PRIMARY KEY", "WITHOUT ROWID"),
        (", ".join(("v text", *(f"n{number} DEFAULT 1.5" for number in range(63)))), ""),
        ("v text, again text AS (v || v || v || v) STORED", ""),
    ],
    ids=["plain", "without rowid", "many numbers", "generated"],
)
def test_the_search_finds_what_lies_across_pages(
    tmp_path: Path, columns: str, options: str
) -> None:
    for size in range(0, 500, 20):
        text = f"{'x' * size}{_SECRET.decode()}"
        database = make_database(
            tmp_path / f"{size}",
            f"CREATE TABLE t ({columns}) {options}; INSERT INTO t (v) VALUES ('{text}')"
            if not options
            else f"CREATE TABLE t ({columns}) {options}; INSERT INTO t VALUES ('{text}', 1)",
            before="PRAGMA page_size = 512; PRAGMA synchronous = OFF",
        )

        assert search_database(database, [_SECRET]), size


def test_a_copy_is_never_written_over_something(tmp_path: Path) -> None:
    database = make_database(tmp_path / "a", "CREATE TABLE t (v)")
    there = make_database(tmp_path / "b", "CREATE TABLE other (v)")

    with pytest.raises(SourceError, match="output file already exists"):
        write_afresh(database, there, wal=False)
    assert rows(there, "SELECT name FROM sqlite_schema") == [("other",)]


def test_a_copy_that_cannot_be_written_is_the_destinations_fault(tmp_path: Path) -> None:
    database = make_database(tmp_path / "a", "CREATE TABLE t (v)")

    with pytest.raises(DestinationError, match="cannot write"):
        write_afresh(database, tmp_path / "absent" / "copy", wal=False)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"no database at all, whatever its name says" * 100)

    with pytest.raises(SourceError, match="file is not a database"):
        sanitise_in_place(path, profile())
    with pytest.raises(SourceError, match="file is not a database"):
        search_database(path, [_SECRET])


def test_work_on_the_private_database_leaves_nothing_beside_it(tmp_path: Path) -> None:
    directory = tmp_path / "private"
    directory.mkdir()
    database = _with_free_pages(directory / "a")

    with private_database(database) as connection:
        connection.execute("UPDATE t SET v = v || 'x'")
        assert list(directory.iterdir()) == [database]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("off",)
        assert connection.execute("PRAGMA temp_store").fetchone() == (2,)
    assert list(directory.iterdir()) == [database]
