"""What a database says of itself: its tables, its soundness, the files its rows name."""

import os
import sqlite3
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ops.sqlite.connection import connect
from ops.sqlite.content import (
    BrokenKey,
    Integrity,
    NamedFile,
    broken_keys,
    check_integrity,
    list_columns,
    list_tables,
    named_files,
    quote,
)

_SOUND = Integrity(messages=(), unchecked=())


def _make(path: Path, *statements: str) -> Path:
    """Make a database as an application does that brings functions and collations of its own."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("shorten", 1, lambda text: text[:3], deterministic=True)
        connection.create_collation("reverse", lambda a, b: (a < b) - (a > b))
        for statement in statements:
            connection.execute(statement)
    return path


@contextmanager
def _opened(path: Path, *statements: str) -> Iterator[sqlite3.Connection]:
    """Make a database and open it as a source is opened."""
    _make(path, *statements)
    with closing(connect(path, "mode=ro&immutable=1", 0)) as connection:
        yield connection


def _overwrite(path: Path, page: int, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), data, (page - 1) * 4096 + offset)


_identifiers = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
).filter(lambda name: not name.lower().startswith("sqlite_"))


@given(_identifiers, _identifiers)
@example('a"b', "c'd")
@example("select", "a]b`c")
def test_any_name_is_quoted_so_that_it_means_itself(table: str, column: str) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(f"CREATE TABLE {quote(table)} ({quote(column)})")
        connection.execute(f"INSERT INTO {quote(table)} ({quote(column)}) VALUES (7)")

        assert list_tables(connection) == (table,)
        assert list_columns(connection, table) == (column,)
        rows = connection.execute(f"SELECT {quote(column)} FROM {quote(table)}").fetchall()
        assert rows == [(7,)]


def test_tables_are_listed_without_views_and_sqlites_own(tmp_path: Path) -> None:
    with _opened(
        tmp_path / "db",
        "CREATE TABLE b (x INTEGER PRIMARY KEY AUTOINCREMENT)",
        "CREATE TABLE sqliteX (x)",
        "CREATE TABLE a (x) ",
        "CREATE INDEX i ON a (x)",
        "CREATE VIEW v AS SELECT * FROM a",
    ) as connection:
        assert list_tables(connection) == ("a", "b", "sqliteX")


def test_a_table_that_is_not_there_has_no_columns(tmp_path: Path) -> None:
    with _opened(tmp_path / "db", "CREATE TABLE t (x, y)") as connection:
        assert list_columns(connection, "t") == ("x", "y")
        assert list_columns(connection, "u") == ()


@pytest.mark.parametrize("quick", [False, True])
def test_a_sound_database_has_nothing_to_complain_of(tmp_path: Path, quick: bool) -> None:
    with _opened(
        tmp_path / "db",
        "CREATE TABLE t (x PRIMARY KEY, y) WITHOUT ROWID",
        "CREATE TABLE u (x UNIQUE)",
        "INSERT INTO t VALUES (1, 2)",
        "CREATE INDEX i ON t (y)",
    ) as connection:
        assert check_integrity(connection, quick=quick) == _SOUND


def test_an_index_that_disagrees_is_found_by_the_full_check_alone(tmp_path: Path) -> None:
    with _opened(
        tmp_path / "db",
        "CREATE TABLE t (x, y)",
        "INSERT INTO t VALUES (1, 2), (3, 4)",
        "CREATE INDEX i ON t (x)",
        "CREATE INDEX j ON t (y)",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET rootpage = 7 - rootpage WHERE type = 'index'",
    ) as connection:
        full = check_integrity(connection)
        quick = check_integrity(connection, quick=True)

    assert any("missing from index" in message for message in full.messages)
    assert full.unchecked == ()
    assert quick == _SOUND


def test_a_page_overwritten_is_a_message(tmp_path: Path) -> None:
    path = _make(
        tmp_path / "db",
        "CREATE TABLE t (x)",
        "INSERT INTO t VALUES (zeroblob(20000))",
        "CREATE TABLE u (x)",
    )
    _overwrite(path, 2, 0, b"\xee" * 4096)
    with closing(connect(path, "mode=ro&immutable=1", 0)) as connection:
        integrity = check_integrity(connection)

    assert integrity.messages
    assert all(message != "ok" for message in integrity.messages)
    assert integrity.unchecked == ()


def test_damage_at_which_the_check_gives_up_is_a_message(tmp_path: Path) -> None:
    path = _make(tmp_path / "db", "CREATE TABLE t (x)", "INSERT INTO t VALUES (1)")
    with closing(connect(path, "mode=ro", 0)) as connection:
        # The whole file is replaced while it is open.
        _overwrite(path, 1, 0, b"something else".ljust(4096, b"."))
        integrity = check_integrity(connection)

    assert integrity == Integrity(messages=("file is not a database",), unchecked=())


_THOUSAND = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)"


def test_a_thousand_complaints_are_cut_to_a_hundred(tmp_path: Path) -> None:
    with _opened(
        tmp_path / "db",
        "CREATE TABLE t (x)",
        f"INSERT INTO t {_THOUSAND} SELECT NULL FROM n",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (x NOT NULL)'",
    ) as connection:
        integrity = check_integrity(connection)

    assert integrity.messages == ("NULL value in t.x",) * 100


_FUNCTION = (
    "CREATE TABLE files (name TEXT)",
    "INSERT INTO files VALUES ('policy'), ('report')",
    "CREATE INDEX by_beginning ON files (shorten(name))",
)
_COLLATION = (
    "CREATE TABLE words (word TEXT COLLATE reverse PRIMARY KEY)",
    "INSERT INTO words VALUES ('a'), ('b')",
)
_PLAIN = ("CREATE TABLE plain (x)", f"INSERT INTO plain {_THOUSAND} SELECT i FROM n")


def test_an_unknown_function_leaves_the_indexes_of_one_table_unchecked(tmp_path: Path) -> None:
    with _opened(tmp_path / "db", *_FUNCTION, *_PLAIN) as connection:
        integrity = check_integrity(connection)
        quick = check_integrity(connection, quick=True)

    assert integrity.messages == ()
    assert integrity.unchecked == ("indexes of files: unknown function: shorten()",)
    assert quick == _SOUND


@pytest.mark.parametrize("quick", [False, True])
def test_an_unknown_collation_leaves_a_table_unchecked(tmp_path: Path, quick: bool) -> None:
    with _opened(tmp_path / "db", *_COLLATION, *_PLAIN) as connection:
        integrity = check_integrity(connection, quick=quick)

    assert integrity.messages == ()
    assert integrity.unchecked == ("words: no such collation sequence: reverse",)


def _root(path: Path, name: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        root: int = connection.execute(query, (name,)).fetchone()[0]
        return root


@pytest.mark.parametrize("damaged", ["plain", "files"])
def test_what_cannot_be_checked_hides_no_damage_elsewhere(tmp_path: Path, damaged: str) -> None:
    path = _make(tmp_path / "db", *_FUNCTION, *_COLLATION, *_PLAIN)
    _overwrite(path, _root(path, damaged), 0, b"\xee" * 4096)
    with closing(connect(path, "mode=ro&immutable=1", 0)) as connection:
        integrity = check_integrity(connection)

    assert integrity.messages
    assert "words: no such collation sequence: reverse" in integrity.unchecked


def test_the_function_itself_makes_the_check_complete(tmp_path: Path) -> None:
    """What was left unchecked is unknown to us alone: the application can check it."""
    path = _make(tmp_path / "db", *_FUNCTION)
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("shorten", 1, lambda text: text[:3], deterministic=True)

        assert check_integrity(connection) == _SOUND


def test_rows_that_refer_to_none_are_listed(tmp_path: Path) -> None:
    with _opened(
        tmp_path / "db",
        "CREATE TABLE parent (id INTEGER PRIMARY KEY)",
        "INSERT INTO parent VALUES (1)",
        "CREATE TABLE child (p REFERENCES parent)",
        "INSERT INTO child VALUES (1), (NULL), (5)",
        "CREATE TABLE bare (id PRIMARY KEY, p REFERENCES parent) WITHOUT ROWID",
        "INSERT INTO bare VALUES ('a', 7), ('b', 1)",
        "CREATE TABLE stray (p REFERENCES nobody)",
        "INSERT INTO stray VALUES (3)",
    ) as connection:
        tables = list_tables(connection)
        keys = {key for table in tables for key in broken_keys(connection, table)}

    assert keys == {
        BrokenKey(table="child", rowid=3, parent="parent"),
        BrokenKey(table="bare", rowid=None, parent="parent"),
        BrokenKey(table="stray", rowid=1, parent="nobody"),
    }


def test_a_key_to_columns_that_are_not_unique_cannot_be_checked(tmp_path: Path) -> None:
    with (
        _opened(
            tmp_path / "db",
            "CREATE TABLE parent (x)",
            "CREATE TABLE child (p REFERENCES parent (x))",
            "INSERT INTO child VALUES (1)",
        ) as connection,
        pytest.raises(sqlite3.OperationalError, match="foreign key mismatch"),
    ):
        list(broken_keys(connection, "child"))


def _named(connection: sqlite3.Connection, table: str = "t") -> list[NamedFile]:
    return list(named_files(connection, table, "file", "hash"))


def test_rows_that_name_files_are_listed_with_key_and_digest(tmp_path: Path) -> None:
    with _opened(
        tmp_path / "db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, file TEXT, hash TEXT)",
        "INSERT INTO t VALUES (3, 'c.pdf', ' ABcd\n'), (1, 'a.pdf', NULL), (2, NULL, 'ff'),"
        " (4, '', 'ff'), (5, 'a.pdf', '')",
    ) as connection:
        assert _named(connection) == [
            NamedFile(table="t", row="id=1", path=b"a.pdf", digest=""),
            NamedFile(table="t", row="id=3", path=b"c.pdf", digest="abcd"),
            NamedFile(table="t", row="id=5", path=b"a.pdf", digest=""),
        ]


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("CREATE TABLE t (file, hash)", "rowid=1"),
        ("CREATE TABLE t (file PRIMARY KEY, hash)", "file=f"),
        ("CREATE TABLE t (hash, file, PRIMARY KEY (file, hash)) WITHOUT ROWID", "file=f hash=0a"),
        ('CREATE TABLE t (file, hash, "odd ""key""" DEFAULT 9 PRIMARY KEY)', 'odd "key"=9'),
    ],
)
def test_a_row_is_called_by_its_primary_key(tmp_path: Path, table: str, row: str) -> None:
    with _opened(
        tmp_path / "db", table, "INSERT INTO t (file, hash) VALUES ('f', '0a')"
    ) as connection:
        assert _named(connection) == [NamedFile(table="t", row=row, path=b"f", digest="0a")]


def test_a_version_without_the_table_or_the_columns_names_nothing(tmp_path: Path) -> None:
    with _opened(
        tmp_path / "db",
        "CREATE TABLE no_file (id, hash)",
        "INSERT INTO no_file VALUES (1, 'ff')",
        "CREATE TABLE no_hash (id PRIMARY KEY, file)",
        "INSERT INTO no_hash VALUES (1, 'f')",
    ) as connection:
        assert _named(connection, "no_table") == []
        assert _named(connection, "no_file") == []
        assert _named(connection, "no_hash") == [
            NamedFile(table="no_hash", row="id=1", path=b"f", digest="")
        ]


@given(st.binary(min_size=1, max_size=30), st.sampled_from(["TEXT", "BLOB"]))
@example(b"caf\xe9.pdf", "TEXT")
@example(b"\xed\xa0\x80", "TEXT")
def test_a_path_comes_byte_for_byte_whatever_it_is(path: bytes, kind: str) -> None:
    assume(b"\0" not in path)
    with tempfile.TemporaryDirectory() as directory:
        database = Path(directory) / "db"
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, file)")
            connection.execute(f"INSERT INTO t VALUES (1, CAST(? AS {kind}))", (path,))
            connection.commit()
        with closing(connect(database, "mode=ro&immutable=1", 0)) as connection:
            named = _named(connection)

    assert named == [NamedFile(table="t", row="id=1", path=path, digest="")]


def test_rows_that_nobody_takes_any_more_may_outlive_their_connection(tmp_path: Path) -> None:
    """So it is when a signal comes between two of them: not a word may be said of that."""
    with _opened(
        tmp_path / "db",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, file)",
        "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    ) as connection:
        rows = named_files(connection, "t", "file", "")
        assert next(rows).path == b"a"
    assert isinstance(rows, Generator)
    rows.close()
