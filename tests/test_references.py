"""Rows and files are compared both ways."""

import posixpath
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.model import Entry, Finding, Instance, Kind, Severity
from ops.profile import DEFAULT_PROFILE, Profile, Reference, load_profile
from ops.references import (
    ReferenceCounts,
    by_path,
    check_references,
    follow_links,
    known_references,
    normal_path,
    read_references,
    resolve,
)
from ops.sqlite.connection import connect
from ops.sqlite.content import NamedFile
from ops.tree.catalogue import Catalogue, catalogue_of
from ops.tree.records import entry_of
from tests.strategies import names

D1, D2, D3 = (f"{number:02x}" * 32 for number in (1, 2, 3))

_PROFILE = Profile(
    name="app",
    title="App",
    references=(
        Reference(table="documents", column="file", digest="hash"),
        Reference(table="documents", column="preview"),
        Reference(table="people", column="portrait"),
    ),
)


def _row(path: bytes, digest: str = "", row: str = "id=1") -> NamedFile:
    return NamedFile(table="t", row=row, path=path, digest=digest)


def _entries(*entries: Entry) -> Catalogue:
    return catalogue_of(entries)


def _file(path: bytes, digest: str = "") -> Entry:
    return Entry(path=path, kind=Kind.FILE, digest=digest)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Make a database with two of the profile's three columns, and open it as sources are."""
    path = tmp_path / "db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE documents (id INTEGER PRIMARY KEY, file, hash)")
        connection.execute("INSERT INTO documents VALUES (1, 'a', 'AA'), (2, NULL, NULL)")
        connection.execute("CREATE TABLE people (id INTEGER PRIMARY KEY, portrait)")
        connection.execute("INSERT INTO people VALUES (7, 'b')")
        connection.commit()
    with closing(connect(path, "mode=ro&immutable=1", 0)) as connection:
        yield connection


def test_every_column_that_is_there_is_read(database: sqlite3.Connection) -> None:
    assert list(read_references(database, _PROFILE)) == [
        NamedFile(table="documents", row="id=1", path=b"a", digest="aa"),
        NamedFile(table="people", row="id=7", path=b"b", digest=""),
    ]
    assert known_references(database, _PROFILE)


def test_a_database_without_any_of_the_columns_knows_no_references(
    database: sqlite3.Connection,
) -> None:
    other = Profile(
        name="other", title="Other", references=(Reference(table="people", column="file"),)
    )

    assert list(read_references(database, other)) == []
    assert not known_references(database, other)
    assert not known_references(database, load_profile("none"))


def test_the_rows_of_an_instance_fit_its_files(instance: Instance) -> None:
    profile = load_profile(DEFAULT_PROFILE)
    with closing(connect(instance.database, "mode=ro&immutable=1", 0)) as connection:
        named = list(read_references(connection, profile))
    entries = _entries(
        *(Entry(path=path.name.encode(), kind=Kind.FILE) for path in instance.attachments.iterdir())
    )

    assert len(named) == 12
    assert check_references(named, entries) == ((), ReferenceCounts(referenced=12))


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        (b"a", b"a"),
        (b"./d//a", b"d/a"),
        (b"d/../a", b"a"),
        (b"..a/b", b"..a/b"),
        (b"..", None),
        (b"../a", None),
        (b"d/../../a", None),
        (b"/etc/passwd", None),
        (b"//a", None),
        (b"a\0b", None),
        (b"\xff", b"\xff"),
    ],
)
def test_a_path_means_a_place_below_the_attachments_or_none(
    path: bytes, meant: bytes | None
) -> None:
    assert normal_path(path) == meant


@given(st.lists(st.one_of(names, st.sampled_from([b".", b"..", b""])), max_size=6))
@example([b"", b""])
def test_no_path_leads_out_of_the_attachments(parts: list[bytes]) -> None:
    path = b"/".join(parts)
    meant = normal_path(path)
    whole = posixpath.normpath(posixpath.join(b"/top/attachments", path))
    inside = whole == b"/top/attachments" or whole.startswith(b"/top/attachments/")

    if meant is None:
        # `normpath` cannot tell a way out and in again from a way that stays.
        assert not inside or b".." in parts
    else:
        assert inside
        assert posixpath.join(b"/top/attachments", meant) in {whole, whole + b"/."}


_odd_parts = st.one_of(
    names,
    st.sampled_from(
        [b".", b"..", b"", b"...", b"..a", b".a", b"a.", b"\n", b"..\n", b".\n", b"\0"]
    ),
)


@given(st.lists(_odd_parts, max_size=6).map(b"/".join))
@example(b"")
@example(b".")
@example(b"a/..\n")
@example(b"a\n/..")
@example(b"a/")
@example(b"a//b")
@example(b"a/./b")
@example(b"a\0/../b")
def test_the_short_cut_for_paths_in_their_shortest_form_changes_nothing(path: bytes) -> None:
    whole = posixpath.normpath(path)
    outside = b"\0" in whole or whole == b".." or whole.startswith((b"/", b"../"))

    assert normal_path(path) == (None if outside else whole)


@given(st.text(st.sampled_from("./a\n"), max_size=12).map(str.encode))
def test_dots_and_slashes_in_any_order_mean_what_they_mean_to_others(path: bytes) -> None:
    whole = posixpath.normpath(path)

    assert normal_path(path) == (
        None if whole == b".." or whole.startswith((b"/", b"../")) else whole
    )


def test_rows_and_files_that_fit_have_no_findings() -> None:
    rows = (_row(b"a", D1), _row(b"./link"), _row(b"a", D1, "id=2"))
    entries = _entries(
        Entry(path=b"", kind=Kind.DIRECTORY),
        _file(b"a", D1),
        Entry(path=b"link", kind=Kind.SYMLINK, target=b"a"),
    )

    assert check_references(rows, entries) == ((), ReferenceCounts(referenced=2, digests_right=1))


def test_a_row_without_its_file_is_an_error() -> None:
    rows = (_row(b"gone\n"), _row(b"d"))
    entries = _entries(Entry(path=b"d", kind=Kind.DIRECTORY))

    findings, counts = check_references(rows, entries)

    assert findings == (
        Finding(
            kind="missing-file",
            severity=Severity.ERROR,
            where="d (t id=1)",
            expected="a file",
            found="directory",
        ),
        Finding(
            kind="missing-file",
            severity=Severity.ERROR,
            where=r"gone\n (t id=1)",
            expected="a file",
            found="nothing",
        ),
    )
    assert counts == ReferenceCounts(missing=2)


def test_a_row_that_leads_out_is_an_error_whatever_is_there() -> None:
    findings, counts = check_references((_row(b"../a"),), _entries(_file(b"a")))

    assert findings[0] == Finding(
        kind="outside",
        severity=Severity.ERROR,
        where="../a (t id=1)",
        expected="a path below the attachments",
        found="a path that leads out of them",
    )
    assert [finding.kind for finding in findings[1:]] == ["orphan"]
    assert counts == ReferenceCounts(orphans=1)


def test_a_recorded_digest_that_differs_is_a_warning() -> None:
    findings, counts = check_references((_row(b"a", D1),), _entries(_file(b"a", D2)))

    assert findings == (
        Finding(
            kind="recorded-digest",
            severity=Severity.WARNING,
            where="a (t id=1)",
            expected=D1,
            found=D2,
        ),
    )
    assert counts == ReferenceCounts(referenced=1, digests_wrong=1)


def test_a_file_of_which_two_rows_disagree_counts_as_wrong_once() -> None:
    rows = (_row(b"a", D1), _row(b"a", D2), _row(b"a", D3))

    findings, counts = check_references(rows, _entries(_file(b"a", D1)))

    assert [finding.kind for finding in findings] == ["recorded-digest"] * 2
    assert counts == ReferenceCounts(referenced=1, digests_wrong=1)


@pytest.mark.parametrize(("recorded", "read"), [("", D1), (D1, ""), ("", "")])
def test_digests_count_only_where_both_are_known(recorded: str, read: str) -> None:
    found = check_references((_row(b"a", recorded),), _entries(_file(b"a", read)))

    assert found == ((), ReferenceCounts(referenced=1))


def test_a_file_that_no_row_names_is_a_note() -> None:
    findings, counts = check_references(
        (), _entries(_file(b"d/a"), Entry(path=b"d", kind=Kind.FIFO))
    )

    assert findings == (
        Finding(
            kind="orphan",
            severity=Severity.NOTE,
            where="d/a",
            expected="a row that names it",
            found="none",
        ),
    )
    assert counts == ReferenceCounts(orphans=1)


def _link(path: bytes, target: bytes) -> Entry:
    return Entry(path=path, kind=Kind.SYMLINK, target=target)


_LINKED = _entries(
    Entry(path=b"", kind=Kind.DIRECTORY),
    Entry(path=b"d", kind=Kind.DIRECTORY),
    _file(b"d/file", D1),
    _link(b"to-file", b"d/file"),
    _link(b"to-directory", b"./d/"),
    _link(b"to-link", b"to-directory/file"),
    _link(b"d/up", b"../to-link"),
    _link(b"to-root", b"."),
    _link(b"dangling", b"nowhere"),
    _link(b"loop", b"loop"),
    _link(b"outside", b"../elsewhere"),
    _link(b"absolute", b"/etc/passwd"),
)


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        (b"d/file", b"d/file"),
        (b"to-file", b"d/file"),
        (b"to-directory", b"d"),
        (b"to-directory/file", b"d/file"),
        (b"to-link", b"d/file"),
        (b"d/up", b"d/file"),
        (b"to-directory/up", b"d/file"),
        (b"to-root", b""),
        (b"to-root/to-root/d/file", b"d/file"),
        (b"outside", b"outside"),
        (b"absolute", b"absolute"),
        (b"dangling", None),
        (b"loop", None),
        (b"missing/file", None),
    ],
)
def test_links_are_followed_within_the_tree(path: bytes, leads_to: bytes | None) -> None:
    found = follow_links(path, _LINKED)

    assert (found and found.path) == leads_to


def test_a_row_whose_link_leads_nowhere_misses_its_file() -> None:
    findings, counts = check_references(
        (_row(b"dangling"), _row(b"loop"), _row(b"outside"), _row(b"d/up", D1)), _LINKED
    )

    assert [(finding.kind, finding.found) for finding in findings] == [
        ("missing-file", "symlink"),
        ("missing-file", "symlink"),
        ("orphan", "none"),
    ]
    assert counts == ReferenceCounts(referenced=2, digests_right=1, missing=2, orphans=1)


_spots = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3).map(b"/".join)
_targets = st.lists(st.sampled_from([b"a", b"b", b"c", b".", b".."]), min_size=1, max_size=4)


@given(
    st.dictionaries(
        _spots,
        st.one_of(st.sampled_from([Kind.FILE, Kind.DIRECTORY, Kind.FIFO]), _targets.map(b"/".join)),
    ),
    st.sets(_spots, min_size=1),
)
def test_what_a_row_leads_to_is_what_following_links_finds(
    tree: dict[bytes, Kind | bytes], rows: set[bytes]
) -> None:
    listed = {
        path: _link(path, what) if isinstance(what, bytes) else Entry(path=path, kind=what)
        for path, what in tree.items()
    }
    entries = catalogue_of(listed.values())

    for path in rows:
        expected, found = follow_links(path, listed), resolve(path, entries)
        assert (found and found[0]) == (expected and expected.path)
        if found is not None and expected is not None:
            assert entry_of(found[0].rpartition(b"/")[0], found[1]).kind is expected.kind


@given(st.lists(st.tuples(_spots, st.sampled_from(["", D1, D2]))), st.data())
def test_counts_are_those_of_a_model(rows: list[tuple[bytes, str]], data: st.DataObject) -> None:
    """Every row is taken by itself here, and every file is looked up in a plain dictionary."""
    files = data.draw(st.dictionaries(_spots, st.sampled_from(["", D1, D2])))
    there = {path for path, _ in rows} & files.keys()
    wrong = {path for path, one in rows if one and files.get(path) and files[path] != one}
    right = {path for path, one in rows if one and files.get(path) == one}
    lost = [path for path, _ in rows if path not in files]
    disagreeing = [path for path, one in rows if one and files.get(path) and files[path] != one]

    findings, counts = check_references(
        [_row(path, digest) for path, digest in rows],
        catalogue_of(_file(path, digest) for path, digest in sorted(files.items())),
    )

    assert counts == ReferenceCounts(
        referenced=len(there),
        digests_right=len(right - wrong),
        digests_wrong=len(wrong),
        missing=len(set(lost)),
        orphans=len(files.keys() - there),
    )
    told: dict[str, list[str]] = {"missing-file": [], "recorded-digest": [], "orphan": []}
    for finding in findings:
        told[finding.kind].append(finding.where.partition(" (")[0])
    assert told["missing-file"] == sorted(path.decode() for path in lost)
    assert told["recorded-digest"] == sorted(path.decode() for path in disagreeing)
    assert sorted(told["orphan"]) == sorted(path.decode() for path in files.keys() - there)
    assert [finding.kind for finding in findings][-len(told["orphan"]) or len(findings) :] == (
        ["orphan"] * len(told["orphan"])
    )


# Many rows, many files


def test_rows_come_in_order_of_their_paths_a_lot_at_a_time() -> None:
    """Rows of one path stay in their order, and no more rows are read than a lot holds."""
    chance = random.Random(1)  # noqa: S311 - any order
    rows = [_row(b"%05d" % chance.randrange(9000), row=f"id={at}") for at in range(45_000)]
    taken = 0

    def read() -> Iterator[NamedFile]:
        nonlocal taken
        for row in rows:
            taken += 1
            yield row

    stream = by_path(read())
    first = next(stream)
    assert taken == 20_000
    ordered = [first, *stream]
    expected: list[NamedFile] = []
    for start in range(0, len(rows), 20_000):
        expected += sorted(rows[start : start + 20_000], key=lambda row: row.path)
    assert ordered == expected


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 1002, 2500])
def test_a_thousand_orphans_are_listed_and_the_rest_counted(count: int) -> None:
    paths = [b"%04d" % number for number in range(count)]
    findings, counts = check_references((), catalogue_of(_file(path) for path in paths))

    listed = [path.decode() for path in paths[:1000]]
    assert [finding.where for finding in findings] == [
        *listed,
        *([f"{count - 1000} more files"] if count > 1000 else []),
    ]
    assert {(one.kind, one.severity, one.found) for one in findings} <= {
        ("orphan", Severity.NOTE, "none")
    }
    assert counts == ReferenceCounts(orphans=count)


def test_others_get_their_turn_while_many_rows_are_compared() -> None:
    turns = 0

    def meanwhile() -> None:
        nonlocal turns
        turns += 1

    rows = [_row(b"%d" % number) for number in range(5001)]
    check_references(rows, Catalogue(), meanwhile)

    assert turns == 6


@given(st.sets(names), st.sets(names))
def test_every_name_is_a_file_missing_or_an_orphan(rows: set[bytes], files: set[bytes]) -> None:
    findings, counts = check_references(
        [_row(name) for name in rows], _entries(*(_file(name) for name in files))
    )

    assert counts.referenced == len(rows & files)
    assert counts.missing == len(rows - files)
    assert counts.orphans == len(files - rows)
    assert len(findings) == counts.missing + counts.orphans
