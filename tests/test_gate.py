"""The gate between a copied tree and a pinned database."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import OpsError
from ops.gate import Matching, Mismatch, mismatched_files
from ops.model import Entry, Kind
from ops.profile import Profile, Reference
from ops.sqlite.content import NamedFile
from ops.sqlite.source import open_source, pinned
from ops.tree.catalogue import Catalogue, catalogue_of
from ops.tree.metadata import ALL_KEPT
from ops.tree.records import record_of

RIGHT, WRONG = "0a" * 32, "0b" * 32
NOTHING = Mismatch(absent=frozenset(), moving=frozenset())


def _row(path: bytes, digest: str = "") -> NamedFile:
    return NamedFile(table="t", row="id=1", path=path, digest=digest)


def _file(path: bytes, digest: str = "") -> Entry:
    return Entry(path=path, kind=Kind.FILE, digest=digest)


def _moving(*paths: bytes) -> Mismatch:
    return Mismatch(absent=frozenset(), moving=frozenset(paths))


def _absent(*paths: bytes) -> Mismatch:
    return Mismatch(absent=frozenset(paths), moving=frozenset())


def test_a_row_whose_file_is_there_lacks_nothing() -> None:
    rows = (_row(b"a"), _row(b"./d//b"))
    entries = catalogue_of((_file(b"a"), _file(b"d/b")))

    assert mismatched_files(rows, entries, frozenset()) == NOTHING


def test_a_row_whose_file_is_not_there_lacks_it() -> None:
    rows = (_row(b"a"), _row(b"d/./b"), _row(b"d/b"))

    assert mismatched_files(rows, catalogue_of((_file(b"a"),)), frozenset()) == _absent(b"d/b")


def test_a_row_that_leads_out_of_the_tree_is_not_waited_for() -> None:
    rows = (_row(b"/etc/passwd", RIGHT), _row(b"../a", RIGHT))

    assert mismatched_files(rows, Catalogue(), frozenset()) == NOTHING
    entries = catalogue_of((_file(b"a", WRONG),))
    assert mismatched_files(rows, entries, {b"a", b"../a"}) == NOTHING


def test_a_file_that_changed_just_now_and_is_not_the_rows_is_moving() -> None:
    rows = (_row(b"./a", RIGHT), _row(b"b", RIGHT))
    entries = catalogue_of((_file(b"a", WRONG), _file(b"b", RIGHT)))

    assert mismatched_files(rows, entries, {b"a", b"b"}) == _moving(b"a")


def test_a_wrong_digest_of_a_file_that_rests_is_the_applications_own() -> None:
    rows = (_row(b"a", RIGHT),)

    assert mismatched_files(rows, catalogue_of((_file(b"a", WRONG),)), {b"b"}) == NOTHING


@pytest.mark.parametrize(
    ("row", "entry"),
    [
        (_row(b"a", RIGHT), _file(b"a", RIGHT)),
        (_row(b"a"), _file(b"a", WRONG)),
        (_row(b"a", RIGHT), _file(b"a")),
    ],
)
def test_a_digest_that_fits_or_that_nobody_knows_moves_nothing(
    row: NamedFile, entry: Entry
) -> None:
    assert mismatched_files((row,), catalogue_of((entry,)), {b"a"}) == NOTHING


def _unsettled(*entries: Entry) -> Catalogue:
    """List files of which each changed at each reading."""
    catalogue = Catalogue()
    catalogue.set_folder(b"", None, ())
    records = (record_of(entry.path, entry, ALL_KEPT, settled=False) for entry in entries)
    catalogue.add(b"", records)
    return catalogue


@pytest.mark.parametrize("digest", ["", RIGHT])
def test_a_file_that_changed_at_each_reading_moves_whatever_its_digest(digest: str) -> None:
    entries = _unsettled(_file(b"a", RIGHT), _file(b"b", RIGHT))
    rows = (_row(b"a", digest),)

    assert mismatched_files(rows, entries, {b"a", b"b"}) == _moving(b"a")
    assert mismatched_files(rows, entries, {b"b"}) == NOTHING, "it rests by now"


@pytest.mark.parametrize("name", [b"link", b"to-d/a"])
def test_a_row_that_goes_by_a_link_is_about_the_file(name: bytes) -> None:
    entries = (
        Entry(path=b"d", kind=Kind.DIRECTORY),
        _file(b"d/a", WRONG),
        Entry(path=b"link", kind=Kind.SYMLINK, target=b"d/a"),
        Entry(path=b"to-d", kind=Kind.SYMLINK, target=b"d"),
        Entry(path=b"dangling", kind=Kind.SYMLINK, target=b"nowhere"),
    )
    rows = (_row(name, RIGHT), _row(b"dangling"))
    found = mismatched_files(rows, catalogue_of(entries), {b"d/a", b"link", b"to-d"})

    assert found == Mismatch(absent=frozenset({b"dangling"}), moving=frozenset({b"d/a"}))


_paths = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3).map(b"/".join)


@given(st.sets(_paths), st.sets(_paths))
def test_files_absent_are_those_named_and_not_there(present: set[bytes], named: set[bytes]) -> None:
    entries = catalogue_of(_file(path) for path in sorted(present))

    found = mismatched_files((_row(path) for path in named), entries, frozenset())

    assert found == _absent(*(named - present))


@given(st.sets(_paths), st.sets(_paths), st.sets(_paths), st.sets(_paths))
def test_files_moving_are_those_named_that_moved_and_differ(
    present: set[bytes], named: set[bytes], moved: set[bytes], wrong: set[bytes]
) -> None:
    files = (_file(path, WRONG if path in wrong else RIGHT) for path in sorted(present))
    entries = catalogue_of(files)

    found = mismatched_files((_row(path, RIGHT) for path in named), entries, moved)

    assert found.moving == named & moved & wrong & present
    assert found.absent == named - present


# Asked for each pin

_PROFILE = Profile(
    name="app", title="App", references=(Reference(table="t", column="file", digest="digest"),)
)


def _ask(matching: Matching, database: Path, moving: set[bytes]) -> bool:
    """Ask with the database pinned, as a round does."""
    scratch = database.with_name("scratch")
    scratch.mkdir(exist_ok=True)
    with open_source(database, scratch=scratch, timeout_seconds=5) as opened, pinned(opened):
        return matching.ask(opened, moving)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Make a database whose rows name `a`, which is right, and `b`."""
    path = tmp_path / "db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, file, digest)")
        connection.execute("INSERT INTO t VALUES (1, 'a', ?), (2, 'b', NULL)", (RIGHT,))
        connection.commit()
    return path


def test_what_is_absent_twice_is_absent_in_the_source(database: Path) -> None:
    entries = catalogue_of((_file(b"a", RIGHT),))
    matching = Matching(_PROFILE, entries)

    assert not _ask(matching, database, set()), "b may come yet"
    assert _ask(matching, database, set()), "b did not come: the check will say so"
    entries.add(b"", [record_of(b"b", _file(b"b"), ALL_KEPT)])
    assert _ask(matching, database, {b"b"})
    assert matching.recopied == 1


def test_another_file_that_is_absent_asks_for_another_round(database: Path) -> None:
    entries = catalogue_of((_file(b"b"),))
    matching = Matching(_PROFILE, entries)

    assert not _ask(matching, database, set())
    entries.add(b"", [record_of(b"a", _file(b"a", RIGHT), ALL_KEPT)], without=frozenset({b"b"}))
    assert not _ask(matching, database, set()), "b was there the last time"
    assert _ask(matching, database, set())


def test_what_moves_does_so_for_as_long_as_it_does(database: Path) -> None:
    entries = catalogue_of((_file(b"a", WRONG), _file(b"b")))
    matching = Matching(_PROFILE, entries)

    assert [_ask(matching, database, {b"a"}) for _ in range(3)] == [False] * 3
    assert _ask(matching, database, {b"b"})
    assert matching.recopied == 4


def test_rows_that_cannot_be_read_are_told_with_the_database(database: Path) -> None:
    content = bytearray(database.read_bytes())
    page = len(content) // 2  # the second of two pages: the table
    content[page : page + 8] = b"\xff" * 8
    database.write_bytes(content)
    matching = Matching(_PROFILE, Catalogue())

    with pytest.raises(OpsError, match=str(database)):
        _ask(matching, database, set())


def test_a_profile_that_knows_no_columns_fits_anything(database: Path) -> None:
    assert _ask(Matching(replace(_PROFILE, references=()), Catalogue()), database, {b"a"})
