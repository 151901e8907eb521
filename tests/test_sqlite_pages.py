"""Pages and their owners, judged by SQLite's own `dbstat` (https://www.sqlite.org/dbstat.html)."""

import hashlib
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.model import PageDigests
from ops.sqlite.pages import changed_pages, digest_pages, page_owners

_NOBODY = "no table (free or unreachable)"


def _has_dbstat() -> bool:
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("SELECT 1 FROM dbstat").fetchall()
        except sqlite3.OperationalError:
            return False
    return True


_needs_dbstat = pytest.mark.skipif(
    not _has_dbstat(), reason="this SQLite was built without the dbstat virtual table"
)


@dataclass(frozen=True)
class _Table:
    """A table: its kind, the sizes of its rows' values, and every how many of them goes."""

    rowid: bool
    index: bool
    first: int
    keys: tuple[int, ...]
    values: tuple[int, ...]
    rows: int
    removed: int


@dataclass(frozen=True)
class _Shape:
    """A database."""

    page_size: int
    auto_vacuum: int
    tables: tuple[_Table, ...]
    dropped: bool


# Around the sizes at which a value leaves its page for an overflow chain, and far beyond.
_sizes = st.one_of(
    st.integers(0, 200), st.sampled_from([480, 1000, 3990, 4061, 4062, 9000, 40_000])
)

_tables = st.builds(
    _Table,
    rowid=st.booleans(),
    index=st.booleans(),
    first=st.sampled_from([1, -5, 2**62]),
    keys=st.lists(_sizes, min_size=1, max_size=3).map(tuple),
    values=st.lists(_sizes, min_size=1, max_size=3).map(tuple),
    rows=st.sampled_from([0, 1, 5, 60]),
    removed=st.sampled_from([0, 2, 1]),
)

_shapes = st.builds(
    _Shape,
    page_size=st.sampled_from([512, 1024, 4096, 65536]),
    auto_vacuum=st.integers(0, 2),
    tables=st.lists(_tables, max_size=3).map(tuple),
    dropped=st.booleans(),
)


def _build(path: Path, shape: _Shape) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA page_size = {shape.page_size}")
        connection.execute(f"PRAGMA auto_vacuum = {shape.auto_vacuum}")
        connection.execute("BEGIN")
        connection.execute(f"CREATE VIEW v AS SELECT {'1, ' * 300} 1")  # the schema overflows
        for number, table in enumerate(shape.tables):
            _build_table(connection, f"t{number}", table)
        if shape.dropped and shape.tables:
            connection.execute("DROP TABLE t0")
        connection.execute("COMMIT")


def _build_table(connection: sqlite3.Connection, name: str, table: _Table) -> None:
    if table.rowid:
        connection.execute(f"CREATE TABLE {name} (n INTEGER PRIMARY KEY, k UNIQUE, v)")
    else:
        connection.execute(f"CREATE TABLE {name} (n, k, v, PRIMARY KEY (k, n)) WITHOUT ROWID")
    if table.index:
        connection.execute(f"CREATE INDEX i_{name} ON {name} (v, k)")
    for number in range(table.rows):
        key = f"{number:09d}".ljust(table.keys[number % len(table.keys)], "k")
        value = bytes(table.values[number % len(table.values)])
        connection.execute(
            f"INSERT INTO {name} VALUES (?, ?, ?)", (table.first + number, key, value)
        )
    if table.removed:
        connection.execute(f"DELETE FROM {name} WHERE n % {table.removed} = 0")


def _owners_by_dbstat(path: Path) -> dict[int, str]:
    with closing(sqlite3.connect(path)) as connection:
        phrases = {"sqlite_schema": "the schema", "sqlite_master": "the schema"}
        for kind, name, table in connection.execute(
            "SELECT type, name, tbl_name FROM sqlite_schema"
        ):
            phrases[name] = f"table {name}" if kind == "table" else f"index {name} of table {table}"
        (count,) = connection.execute("PRAGMA page_count").fetchone()
        owners = dict.fromkeys(range(1, count + 1), _NOBODY)
        for number, name in connection.execute("SELECT pageno, name FROM dbstat"):
            owners[number] = phrases[name]
        return owners


_RICH = _Shape(
    page_size=512,
    auto_vacuum=0,
    tables=(
        _Table(
            rowid=True,
            index=True,
            first=-9,
            keys=(20,),
            values=(40_000, 3, 600),
            rows=60,
            removed=2,
        ),
        _Table(rowid=False, index=True, first=1, keys=(200, 900), values=(10,), rows=60, removed=0),
        _Table(
            rowid=True, index=True, first=2**62, keys=(5, 700), values=(99,), rows=60, removed=0
        ),
    ),
    dropped=False,
)


@_needs_dbstat
@given(_shapes)
@example(_RICH)
def test_pages_belong_to_whom_dbstat_says(shape: _Shape) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "db"
        _build(path, shape)
        expected = _owners_by_dbstat(path)

        assert page_owners(path, shape.page_size, frozenset(expected)) == expected


@_needs_dbstat
def test_the_rich_example_has_every_sort_of_page(tmp_path: Path) -> None:
    """What the law above is tried on is worth trying."""
    path = tmp_path / "db"
    _build(path, _RICH)
    with closing(sqlite3.connect(path)) as connection:
        sorts = set(connection.execute("SELECT name, pagetype FROM dbstat"))
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()

    assert {
        (name, sort)
        for name in ("t0", "t1", "i_t0", "i_t1", "sqlite_autoindex_t2_1")
        for sort in ("internal", "leaf")
    } <= sorts
    assert {("t0", "overflow"), ("i_t0", "overflow"), ("t1", "overflow")} <= sorts
    assert ("sqlite_schema", "overflow") in sorts
    assert free > 0


@_needs_dbstat
def test_the_pages_of_the_applications_tables_are_told_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _build(path, _RICH)
    expected = _owners_by_dbstat(path)

    for number, owner in list(expected.items())[::17]:
        assert page_owners(path, 512, frozenset({number})) == {number: owner}


@_needs_dbstat
def test_pages_are_found_where_each_keeps_some_bytes_for_others(tmp_path: Path) -> None:
    """Encrypting extensions reserve space at the end of every page."""
    path = tmp_path / "db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 1024")
        connection.execute("CREATE TABLE t (x)")
    header = bytearray(path.read_bytes())
    header[20] = 32
    # The cells of the first page move up by the bytes reserved, and so do the pointers to them.
    cells = int.from_bytes(header[105:107], "big")
    (pointer,) = (int.from_bytes(header[108:110], "big"),)
    assert cells == pointer
    moved = header[:cells].ljust(1024, b"\0")
    moved[cells - 32 : 992] = header[cells:1024]
    moved[105:107] = moved[108:110] = (cells - 32).to_bytes(2, "big")
    moved[1024:] = header[1024:]
    moved[1024 + 5 : 1024 + 7] = (992).to_bytes(2, "big")
    path.write_bytes(moved)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("INSERT INTO t VALUES (zeroblob(985)), (zeroblob(5000)), (zeroblob(20))")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    expected = _owners_by_dbstat(path)

    assert list(expected.values()).count("table t") > 5
    assert page_owners(path, 1024, frozenset(expected)) == expected


def test_a_page_past_the_end_belongs_to_nobody(tmp_path: Path) -> None:
    path = tmp_path / "db"
    _build(path, _RICH)

    assert page_owners(path, 512, frozenset({10**6, 1})) == {1: "the schema", 10**6: _NOBODY}


def _rich_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "db"
        _build(path, _RICH)
        return path.read_bytes()


_CLEAN = _rich_bytes()
_ALL = frozenset(range(1, len(_CLEAN) // 512 + 1))

_damage = st.lists(
    st.tuples(
        # The schema and the beginnings of pages are where damage does most.
        st.one_of(
            st.integers(0, 1023),
            st.integers(0, len(_CLEAN) // 512 - 1).map(lambda page: page * 512),
            st.integers(0, len(_CLEAN) - 1),
        ),
        st.binary(min_size=1, max_size=12),
    ),
    max_size=6,
)


@given(_damage, st.integers(0, len(_CLEAN)) | st.just(len(_CLEAN)))
@example([], 0)
@example([], 20)
@example([], 100)
@example([(0, b"\0" * 12)], len(_CLEAN))
@example([(103, b"\xff\xff")], len(_CLEAN))
@example([(20, b"\xff")], len(_CLEAN))
def test_no_damage_stops_the_search_for_owners(
    damage: list[tuple[int, bytes]], length: int
) -> None:
    content = bytearray(_CLEAN)
    for offset, data in damage:
        content[offset : offset + len(data)] = data
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "db"
        path.write_bytes(content[:length])

        owners = page_owners(path, 512, _ALL)

    assert set(owners) == _ALL
    assert all(
        owner == _NOBODY or owner.startswith(("the schema", "table ", "index "))
        for owner in owners.values()
    )


@given(st.binary(max_size=3000), st.sampled_from([512, 1024, 65536]))
def test_no_content_stops_the_search_for_owners(content: bytes, page_size: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "db"
        path.write_bytes(content)

        assert set(page_owners(path, page_size, frozenset({1, 2}))) == {1, 2}


def test_a_schema_whose_root_is_no_number_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("CREATE TABLE u (x)")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET rootpage = x'32' WHERE name = 't'")

    owners = page_owners(path, 4096, frozenset({1, 3}))

    assert owners == {1: "the schema", 3: "table u"}


def test_a_schema_in_no_encoding_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (abcdefg)")
    path.write_bytes(path.read_bytes().replace(b"(abcdefg)", b"(a) \xffbcde"))

    assert page_owners(path, 4096, frozenset({1, 2})) == {1: "the schema", 2: _NOBODY}


def test_a_row_that_runs_past_its_page_ends_there(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (zeroblob(700))")
        connection.commit()
    content = bytearray(path.read_bytes())
    content[512 + 8 : 512 + 10] = (511).to_bytes(2, "big")  # the row begins at the last byte
    content[1023] = 0x80  # and its size goes on after it
    path.write_bytes(content)

    assert page_owners(path, 512, frozenset({2, 3})) == {2: "table t", 3: _NOBODY}


def test_an_endless_chain_ends(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (zeroblob(2000))")
        connection.commit()
    content = bytearray(path.read_bytes())
    content[3 * 512 : 3 * 512 + 4] = (3).to_bytes(4, "big")  # the second of the chain, to the first
    path.write_bytes(content)

    owners = page_owners(path, 512, frozenset({3, 4, 5}))

    assert owners == {3: "table t", 4: "table t", 5: _NOBODY}


@pytest.mark.parametrize("page_size", [0, 512, 4096])
def test_a_file_is_hashed_whole_and_page_by_page(tmp_path: Path, page_size: int) -> None:
    path = tmp_path / "db"
    path.write_bytes(_CLEAN + b"half a page")
    size = page_size or 512
    counts: list[int] = []

    digests = digest_pages(path, page_size=page_size, advance=counts.append)

    content = path.read_bytes()
    pages = [content[start : start + size] for start in range(0, len(content), size)]
    assert digests == PageDigests(
        size=len(content),
        digest=hashlib.sha256(content).hexdigest(),
        page_size=size,
        pages=b"".join(hashlib.sha256(page).digest()[:8] for page in pages),
    )
    assert counts == [len(page) for page in pages]
    assert digests.count == len(pages)


def test_progress_need_not_be_watched(tmp_path: Path) -> None:
    path = tmp_path / "db"
    path.write_bytes(_CLEAN)

    assert digest_pages(path).size == len(_CLEAN)


def test_what_is_no_database_needs_a_page_size(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database")

    with pytest.raises(ValueError, match="signature"):
        digest_pages(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        digest_pages(tmp_path / "missing")
    assert digest_pages(tmp_path / "text", page_size=512).size == 11


def _digests(content: bytes) -> PageDigests:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        path.write_bytes(content)
        return digest_pages(path, page_size=512)


@given(
    st.lists(st.integers(0, 3), max_size=8),
    st.lists(st.integers(0, 3), max_size=8),
)
@example([1, 2], [1, 2, 3])
@example([1, 2, 3], [1])
def test_changed_pages_are_those_that_differ_or_that_one_side_lacks(
    expected: list[int], found: list[int]
) -> None:
    def content(pages: list[int]) -> bytes:
        return b"".join(bytes([page]) * 512 for page in pages)

    longest = max(len(expected), len(found))
    differing = tuple(
        number + 1
        for number in range(longest)
        if expected[number : number + 1] != found[number : number + 1]
    )

    assert changed_pages(_digests(content(expected)), _digests(content(found))) == differing
