"""Comparison notices every difference and says where it is."""

import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.comparison import compare_databases
from ops.model import Entry, Finding, Kind, PageDigests, Severity
from ops.sqlite.pages import changed_pages, digest_pages, page_owners
from ops.tree.catalogue import catalogue_of
from ops.tree.compare import compare_trees
from tests.filesystem import unprivileged
from tests.strategies import names

_PAGE = 512
_D1, _D2 = "01" * 32, "02" * 32
_FREE = "no table (free or unreachable)"


def _error(kind: str, where: str, expected: str, found: str) -> Finding:
    return Finding(kind=kind, severity=Severity.ERROR, where=where, expected=expected, found=found)


def _tree(*entries: Entry) -> dict[bytes, Entry]:
    return {entry.path: entry for entry in entries}


def _file(path: bytes = b"a", digest: str = _D1) -> Entry:
    return Entry(path=path, kind=Kind.FILE, mode=0o644, size=3, digest=digest)


_entries = st.builds(
    Entry,
    path=names,
    kind=st.sampled_from(Kind),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 3),
    modified_ns=st.integers(),
    size=st.integers(0, 9),
    digest=st.sampled_from(["", _D1, _D2]),
    xattrs=st.sampled_from([(), (("user.a", b"1"),)]),
)
_trees = st.lists(_entries, max_size=5).map(lambda entries: _tree(*entries))


@given(_trees)
def test_equal_trees_have_no_differences(tree: dict[bytes, Entry]) -> None:
    assert compare_trees(tree, dict(tree)) == ()


@given(_trees, _trees)
def test_every_name_that_one_tree_lacks_is_an_error_of_its_own(
    expected: dict[bytes, Entry], found: dict[bytes, Entry]
) -> None:
    findings = [finding.kind for finding in compare_trees(expected, found)]

    assert findings.count("missing") == len(expected.keys() - found.keys())
    assert findings.count("unexpected") == len(found.keys() - expected.keys())


def test_differences_are_listed_in_order_of_the_paths() -> None:
    root = Entry(path=b"", kind=Kind.DIRECTORY, mode=0o755)
    expected = _tree(root, _file(b"gone"), _file(b"kept"), _file(b"odd\n"))
    found = _tree(
        replace(root, mode=0o700),
        _file(b"kept"),
        replace(_file(b"odd\n", digest=_D2), modified_ns=1_500_000_000),
        Entry(path=b"pipe", kind=Kind.FIFO),
    )

    assert compare_trees(expected, found) == (
        _error("changed", "the attachments directory itself: mode", "0755", "0700"),
        _error("missing", "gone", "file", "nothing"),
        _error("changed", r"odd\n: content", _D1, _D2),
        _error("changed", r"odd\n: mtime", "0.000000000", "1.500000000"),
        _error("unexpected", "pipe", "nothing", "fifo"),
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": Kind.FIFO}, "kind"),
        ({"size": 4}, "size"),
        ({"digest": _D2}, "content"),
        ({"mode": 0o640}, "mode"),
        ({"modified_ns": 1}, "mtime"),
        ({"link": b"b"}, "hard link"),
        ({"device": 1}, "device"),
        ({"target": b"b"}, "link"),
        ({"xattrs": (("user.a", b"2"),)}, "xattrs"),
    ],
)
def test_whatever_changed_is_an_error(change: dict[str, Any], field: str) -> None:
    before = replace(_file(), xattrs=(("user.a", b"1"),))
    after = replace(before, **change)

    found = compare_trees(_tree(before), _tree(after))

    assert _sorts(found) == [(Severity.ERROR, f"a: {field}")]


_LOST = (
    _tree(replace(_file(b"a"), uid=7), replace(_file(b"b"), uid=7)),
    _tree(_file(b"a"), _file(b"b")),
)


def test_owners_that_differ_are_one_warning() -> None:
    assert compare_trees(*_LOST) == (
        replace(_error("changed", "2 entries: owner", "7:0", "0:0"), severity=Severity.WARNING),
    )


_MANY = replace(_file(), xattrs=(("foreign.b", b"2"), ("user.a", b"1")))
_SOME = replace(_file(), xattrs=(("user.a", b"1"),))


def _sorts(findings: Iterable[Finding]) -> list[tuple[Severity, str]]:
    return [(finding.severity, finding.where) for finding in findings]


@pytest.mark.skipif(sys.platform != "linux", reason="takes /proc, which has no attributes")
@pytest.mark.parametrize("before", [_SOME, _MANY])
def test_attributes_that_the_file_system_does_not_know_are_a_warning(before: Entry) -> None:
    found = compare_trees(_tree(before), _tree(_file()), root=Path("/proc"))

    assert _sorts(found) == [(Severity.WARNING, "1 entry: xattrs lost")]


@pytest.mark.skipif(sys.platform != "linux", reason="takes attributes")
def test_one_attribute_that_the_file_system_knows_makes_the_loss_an_error(tmp_path: Path) -> None:
    os.setxattr(tmp_path, "user.a", b"1")  # fails where it is not known

    for before, after in ((_MANY, _file()), (_SOME, _file())):
        found = compare_trees(_tree(before), _tree(after), root=tmp_path)
        assert _sorts(found) == [(Severity.ERROR, "a: xattrs lost")]
    found = compare_trees(_tree(_MANY), _tree(_SOME), root=tmp_path)
    assert _sorts(found) == [(Severity.WARNING, "1 entry: xattrs lost")]


def test_where_nobody_can_be_asked_no_attribute_may_be_missing() -> None:
    assert _sorts(compare_trees(_tree(_SOME), _tree(_file()))) == [
        (Severity.ERROR, "a: xattrs lost")
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="takes attributes that only root sees")
@pytest.mark.parametrize("name", ["trusted.a", "security.a"])
def test_attributes_that_only_root_sees_are_a_warning_for_anybody_else(
    name: str, tmp_path: Path
) -> None:
    before = replace(_file(), xattrs=((name, b"1"),))
    with unprivileged():
        found = compare_trees(_tree(before), _tree(_file()), root=tmp_path)
    assert _sorts(found) == [(Severity.WARNING, "1 entry: xattrs lost")]
    found = compare_trees(_tree(before), _tree(_file()), root=tmp_path)
    assert _sorts(found) == [(Severity.ERROR, "a: xattrs lost")]


@pytest.mark.skipif(sys.platform != "linux", reason="takes /proc, which has no attributes")
def test_an_attribute_with_another_value_is_an_error_although_unknown() -> None:
    after = replace(_file(), xattrs=(("user.a", b"2"),))

    found = compare_trees(_tree(_SOME), _tree(after), root=Path("/proc"))

    assert _sorts(found) == [(Severity.ERROR, "a: xattrs")]


@pytest.mark.parametrize("kind", Kind)
def test_attributes_count_for_every_kind_of_entry(kind: Kind) -> None:
    """Symbolic links have some too, though only root can give them any."""
    before = Entry(path=b"a", kind=kind, xattrs=(("trusted.a", b"1"),))

    for after, field in (
        (replace(before, xattrs=()), "xattrs lost"),
        (replace(before, xattrs=(("trusted.a", b"2"),)), "xattrs"),
        (replace(before, xattrs=(*before.xattrs, ("trusted.b", b""))), "xattrs"),
    ):
        found = compare_trees(_tree(before), _tree(after))
        assert _sorts(found) == [(Severity.ERROR, f"a: {field}")]


@given(_trees, _trees)
def test_a_packed_catalogue_compares_as_a_dictionary_does(
    expected: dict[bytes, Entry], found: dict[bytes, Entry]
) -> None:
    packed = compare_trees(catalogue_of(expected.values()), catalogue_of(found.values()))

    assert packed == compare_trees(expected, found)


def _build(path: Path) -> None:
    """Make a database whose every table and index has a tree, with overflow and free pages."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        connection.execute("CREATE TABLE evidence (id INTEGER PRIMARY KEY, name TEXT, data BLOB)")
        connection.execute("CREATE INDEX by_name ON evidence (name)")
        connection.execute("CREATE TABLE folder (id TEXT PRIMARY KEY, name TEXT) WITHOUT ROWID")
        connection.execute("BEGIN")
        for number in range(60):
            connection.execute(
                "INSERT INTO evidence VALUES (?, ?, ?)",
                (number, f"policy {number}".ljust(90, "."), bytes(number * 30)),
            )
            connection.execute("INSERT INTO folder VALUES (?, ?)", (f"{number:060d}", "x" * 50))
        connection.execute("DELETE FROM evidence WHERE id > 55")
        connection.execute("COMMIT")


def _clean() -> tuple[bytes, dict[int, str]]:
    """Make the database once, with the owner of each page as SQLite's `dbstat` tells."""
    phrases = {
        "sqlite_schema": "the schema",
        "sqlite_master": "the schema",
        "evidence": "table evidence",
        "folder": "table folder",
        "by_name": "index by_name of table evidence",
    }
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "db"
        _build(path)
        content = path.read_bytes()
        owners = dict.fromkeys(range(1, len(content) // _PAGE + 1), _FREE)
        with closing(sqlite3.connect(path)) as connection:
            try:
                rows = connection.execute("SELECT pageno, name FROM dbstat").fetchall()
            except sqlite3.OperationalError:
                rows = []
        owners.update({number: phrases[name] for number, name in rows})
        return content, owners if rows else {}


_CLEAN, _OWNERS = _clean()


@pytest.mark.skipif(not _OWNERS, reason="this SQLite was built without the dbstat virtual table")
@given(st.integers(0, len(_CLEAN) - 1), st.integers(1, 255))
@example(0, 0xFF)  # the signature
@example(16, 0x01)  # the page size
@example(20, 0x20)  # bytes reserved in each page
@example(_PAGE, 0x08)  # the kind of a page
@example(len(_CLEAN) - 1, 0x01)
def test_any_byte_that_changes_is_found_in_its_page_and_table(offset: int, flip: int) -> None:
    content = bytearray(_CLEAN)
    content[offset] ^= flip
    number = offset // _PAGE + 1
    with tempfile.TemporaryDirectory() as directory:
        clean, damaged = Path(directory) / "clean", Path(directory) / "damaged"
        clean.write_bytes(_CLEAN)
        damaged.write_bytes(content)
        expected = digest_pages(clean)
        found = digest_pages(damaged, page_size=expected.page_size)
        changed = changed_pages(expected, found)
        owners = page_owners(damaged, expected.page_size, frozenset(changed))

    assert changed == (number,)
    assert list(compare_databases(expected, found, owners)) == [
        _error(
            "changed",
            f"database: {_OWNERS[number]}, page {number}",
            "the same bytes",
            "other bytes",
        )
    ]


@pytest.mark.skipif(not _OWNERS, reason="this SQLite was built without the dbstat virtual table")
def test_every_page_of_the_example_is_named_when_it_is_ruined(tmp_path: Path) -> None:
    """Each page in turn is overwritten whole: its owner is still found by the way to it."""
    assert set(_OWNERS.values()) == {
        "the schema",
        "table evidence",
        "table folder",
        "index by_name of table evidence",
        _FREE,
    }
    path = tmp_path / "db"
    for number in range(2, len(_CLEAN) // _PAGE + 1, 7):
        content = bytearray(_CLEAN)
        content[(number - 1) * _PAGE : number * _PAGE] = b"\xa5" * _PAGE
        path.write_bytes(content)

        assert page_owners(path, _PAGE, frozenset({number})) == {number: _OWNERS[number]}


def _digests(pages: bytes, *, size: int = 0, digest: str = "one") -> PageDigests:
    """Stand for a file: each byte is a page."""
    return PageDigests(
        size=size or len(pages) * _PAGE,
        digest=digest,
        page_size=_PAGE,
        pages=b"".join(bytes([page]) * 8 for page in pages),
    )


def test_equal_databases_have_no_differences() -> None:
    assert list(compare_databases(_digests(b"abc"), _digests(b"abc"), {})) == []


def test_a_longer_database_differs_in_size_and_in_the_pages_added() -> None:
    found = _digests(b"abcd", digest="two")

    assert list(compare_databases(_digests(b"abc"), found, {4: "table t"})) == [
        _error("changed", "database: size", "1536 bytes", "2048 bytes"),
        _error("changed", "database: table t, page 4", "the same bytes", "other bytes"),
    ]


def test_bytes_added_that_make_no_page_differ_in_size_alone() -> None:
    found = _digests(b"abc", size=1537, digest="two")

    assert list(compare_databases(_digests(b"abc"), found, {})) == [
        _error("changed", "database: size", "1536 bytes", "1537 bytes")
    ]


@pytest.mark.parametrize(
    ("count", "listed"),
    [
        (1, "page 1"),
        (8, "page 1, 2, 3, 4, 5, 6, 7, 8"),
        (9, "page 1, 2, 3, 4, 5, 6, 7, 8 and 1 more"),
        (20, "page 1, 2, 3, 4, 5, 6, 7, 8 and 12 more"),
    ],
)
def test_pages_of_one_owner_are_one_finding(count: int, listed: str) -> None:
    findings = list(
        compare_databases(
            _digests(b"a" * count),
            _digests(b"b" * count, digest="two"),
            dict.fromkeys(range(1, count + 1), 'table "x\n"'),
        )
    )

    assert [finding.where for finding in findings] == [rf'database: table "x\n", {listed}']


def test_owners_come_in_order_and_a_page_of_none_is_unknown() -> None:
    findings = compare_databases(
        _digests(b"aaa"), _digests(b"bbb", digest="two"), {1: "table z", 3: "table b"}
    )

    assert [finding.where for finding in findings] == [
        "database: table b, page 3",
        "database: table z, page 1",
        "database: unknown, page 2",
    ]


def test_content_that_no_page_digest_tells_apart_is_told_by_the_whole() -> None:
    """Page digests are shortened: two contents may share them, the file's own they do not."""
    findings = compare_databases(_digests(b"abc"), _digests(b"abc", digest="two"), {})

    assert list(findings) == [_error("changed", "database: content", "one", "two")]
