"""Rows and files are compared both ways."""

import posixpath
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
    check_references,
    follow_links,
    known_references,
    normal_path,
    read_references,
)
from ops.sqlite.connection import connect
from ops.sqlite.content import NamedFile
from tests.strategies import names

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


def _entries(*entries: Entry) -> dict[bytes, Entry]:
    return {entry.path: entry for entry in entries}


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
    assert read_references(database, _PROFILE) == (
        NamedFile(table="documents", row="id=1", path=b"a", digest="aa"),
        NamedFile(table="people", row="id=7", path=b"b", digest=""),
    )
    assert known_references(database, _PROFILE)


def test_a_database_without_any_of_the_columns_knows_no_references(
    database: sqlite3.Connection,
) -> None:
    other = Profile(
        name="other", title="Other", references=(Reference(table="people", column="file"),)
    )

    assert read_references(database, other) == ()
    assert not known_references(database, other)
    assert not known_references(database, load_profile("none"))


def test_the_rows_of_an_instance_fit_its_files(instance: Instance) -> None:
    profile = load_profile(DEFAULT_PROFILE)
    with closing(connect(instance.database, "mode=ro&immutable=1", 0)) as connection:
        named = read_references(connection, profile)
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


def test_rows_and_files_that_fit_have_no_findings() -> None:
    rows = (_row(b"a", "d1"), _row(b"./link"), _row(b"a", "d1", "id=2"))
    entries = _entries(
        Entry(path=b"", kind=Kind.DIRECTORY),
        _file(b"a", "d1"),
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
            where=r"gone\n (t id=1)",
            expected="a file",
            found="nothing",
        ),
        Finding(
            kind="missing-file",
            severity=Severity.ERROR,
            where="d (t id=1)",
            expected="a file",
            found="directory",
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
    findings, counts = check_references((_row(b"a", "d1"),), _entries(_file(b"a", "d2")))

    assert findings == (
        Finding(
            kind="recorded-digest",
            severity=Severity.WARNING,
            where="a (t id=1)",
            expected="d1",
            found="d2",
        ),
    )
    assert counts == ReferenceCounts(referenced=1, digests_wrong=1)


def test_a_file_of_which_two_rows_disagree_counts_as_wrong_once() -> None:
    rows = (_row(b"a", "d1"), _row(b"a", "d2"), _row(b"a", "d3"))

    findings, counts = check_references(rows, _entries(_file(b"a", "d1")))

    assert [finding.kind for finding in findings] == ["recorded-digest"] * 2
    assert counts == ReferenceCounts(referenced=1, digests_wrong=1)


@pytest.mark.parametrize(("recorded", "read"), [("", "d1"), ("d1", ""), ("", "")])
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
    _file(b"d/file", "d1"),
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
        (_row(b"dangling"), _row(b"loop"), _row(b"outside"), _row(b"d/up", "d1")), _LINKED
    )

    assert [(finding.kind, finding.found) for finding in findings] == [
        ("missing-file", "symlink"),
        ("missing-file", "symlink"),
        ("orphan", "none"),
    ]
    assert counts == ReferenceCounts(referenced=2, digests_right=1, missing=2, orphans=1)


@given(st.sets(names), st.sets(names))
def test_every_name_is_a_file_missing_or_an_orphan(rows: set[bytes], files: set[bytes]) -> None:
    findings, counts = check_references(
        [_row(name) for name in rows], _entries(*(_file(name) for name in files))
    )

    assert counts.referenced == len(rows & files)
    assert counts.missing == len(rows - files)
    assert counts.orphans == len(files - rows)
    assert len(findings) == counts.missing + counts.orphans
