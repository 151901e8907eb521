"""The gate between a copied tree and a pinned database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.gate import absent_files, moving_files
from ops.model import Entry, Kind
from ops.sqlite.content import NamedFile
from ops.tree.update import TreeCopy


def _row(path: bytes, digest: str = "") -> NamedFile:
    return NamedFile(table="t", row="id=1", path=path, digest=digest)


def _tree(*entries: Entry) -> TreeCopy:
    return TreeCopy(entries={entry.path: entry for entry in entries})


def _file(path: bytes, digest: str = "") -> Entry:
    return Entry(path=path, kind=Kind.FILE, digest=digest)


def test_a_row_whose_file_is_there_lacks_nothing() -> None:
    rows = (_row(b"a"), _row(b"./d//b"))

    assert absent_files(rows, _tree(_file(b"a"), _file(b"d/b"))) == frozenset()


def test_a_row_whose_file_is_not_there_lacks_it() -> None:
    rows = (_row(b"a"), _row(b"d/./b"), _row(b"d/b"))

    assert absent_files(rows, _tree(_file(b"a"))) == {b"d/b"}


def test_a_row_that_leads_out_of_the_tree_is_not_waited_for() -> None:
    rows = (_row(b"/etc/passwd", "d1"), _row(b"../a", "d1"))

    assert absent_files(rows, _tree()) == frozenset()
    assert moving_files(rows, _tree(_file(b"a", "d2")), {b"a", b"../a"}) == frozenset()


def test_a_file_that_changed_just_now_and_is_not_the_rows_is_moving() -> None:
    rows = (_row(b"./a", "right"), _row(b"b", "right"))
    tree = _tree(_file(b"a", "wrong"), _file(b"b", "right"))

    assert moving_files(rows, tree, {b"a", b"b"}) == {b"a"}


def test_a_wrong_digest_of_a_file_that_rests_is_the_applications_own() -> None:
    rows = (_row(b"a", "right"),)

    assert moving_files(rows, _tree(_file(b"a", "wrong")), {b"b"}) == frozenset()


@pytest.mark.parametrize(
    ("row", "entry"),
    [
        (_row(b"a", "right"), _file(b"a", "right")),
        (_row(b"a"), _file(b"a", "wrong")),
        (_row(b"a", "right"), _file(b"a")),
    ],
)
def test_a_digest_that_fits_or_that_nobody_knows_moves_nothing(
    row: NamedFile, entry: Entry
) -> None:
    assert moving_files((row,), _tree(entry), {b"a"}) == frozenset()


_paths = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3).map(b"/".join)


@given(st.sets(_paths), st.sets(_paths))
def test_files_absent_are_those_named_and_not_there(present: set[bytes], named: set[bytes]) -> None:
    tree = _tree(*(_file(path) for path in present))

    assert absent_files(tuple(_row(path) for path in named), tree) == named - present


@given(st.sets(_paths), st.sets(_paths), st.sets(_paths), st.sets(_paths))
def test_files_moving_are_those_named_that_moved_and_differ(
    present: set[bytes], named: set[bytes], moved: set[bytes], wrong: set[bytes]
) -> None:
    tree = _tree(*(_file(path, "d2" if path in wrong else "d1") for path in present))

    found = moving_files(tuple(_row(path, "d1") for path in named), tree, moved)

    assert found == named & moved & wrong & present
