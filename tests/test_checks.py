"""Checks turn what SQLite says into findings."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ops.checks import check_database, check_links, missing_tables
from ops.model import Entry, Finding, Instance, Kind, Severity
from ops.profile import DEFAULT_PROFILE, Profile, load_profile
from ops.sqlite.connection import connect

_NONE = load_profile("none")
_APP = Profile(name="app", title="App", tables=("documents", "peo\nple"))


@contextmanager
def _opened(path: Path, *statements: str) -> Iterator[sqlite3.Connection]:
    """Run statements, then open the database as a source is opened."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.create_function("shorten", 1, lambda text: text[:3], deterministic=True)
        for statement in statements:
            connection.execute(statement)
    with closing(connect(path, "mode=ro&immutable=1", 0)) as connection:
        yield connection


def _root(path: Path, name: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT rootpage FROM sqlite_schema WHERE name = ?"
        root: int = connection.execute(query, (name,)).fetchone()[0]
        return root


def _ruin(path: Path, page: int) -> None:
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), b"\xee" * 4096, (page - 1) * 4096)


def test_an_instance_of_the_application_is_sound(instance: Instance) -> None:
    profile = load_profile(DEFAULT_PROFILE)
    with closing(connect(instance.database, "mode=ro&immutable=1", 0)) as connection:
        assert list(check_database(connection, profile)) == []
        assert list(check_database(connection, profile, quick=True)) == []
        assert missing_tables(connection, profile) == ()


def test_another_applications_database_lacks_tables(tmp_path: Path) -> None:
    with _opened(tmp_path / "db", "CREATE TABLE documents (x)") as connection:
        assert missing_tables(connection, _APP) == ("peo\nple",)
        assert list(check_database(connection, _APP)) == [
            Finding(
                kind="missing-table",
                severity=Severity.ERROR,
                where=r"table peo\nple",
                expected="present in every App database",
                found="absent",
            )
        ]
        assert list(check_database(connection, _NONE)) == []


def test_damage_is_an_error_and_the_quick_check_leaves_indexes_out(tmp_path: Path) -> None:
    with _opened(
        tmp_path / "db",
        "CREATE TABLE t (x, y)",
        "INSERT INTO t VALUES (1, 2)",
        "CREATE INDEX i ON t (x)",
        "CREATE INDEX j ON t (y)",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET rootpage = 7 - rootpage WHERE type = 'index'",
    ) as connection:
        findings = list(check_database(connection, _NONE))
        quick = list(check_database(connection, _NONE, quick=True))

    assert (
        Finding(
            kind="integrity",
            severity=Severity.ERROR,
            where="database",
            expected="ok",
            found="row 1 missing from index i",
        )
        in findings
    )
    assert quick == []


def test_what_could_not_be_checked_is_a_warning(tmp_path: Path) -> None:
    with _opened(
        tmp_path / "db",
        'CREATE TABLE "two\nlines" (name)',
        'CREATE INDEX i ON "two\nlines" (shorten(name))',
    ) as connection:
        assert list(check_database(connection, _NONE)) == [
            Finding(
                kind="unchecked",
                severity=Severity.WARNING,
                where="database",
                expected="checked",
                found=r"indexes of two\nlines: unknown function: shorten()",
            )
        ]


_KEYS = (
    "CREATE TABLE folder (id INTEGER PRIMARY KEY)",
    "CREATE TABLE documents (folder REFERENCES folder)",
    "CREATE TABLE bare (id PRIMARY KEY, folder REFERENCES folder) WITHOUT ROWID",
    'CREATE TABLE "peo\nple" (x)',
)


@pytest.mark.parametrize(
    ("profile", "severity"), [(_APP, Severity.ERROR), (_NONE, Severity.WARNING)]
)
def test_a_row_that_refers_to_none_weighs_by_what_is_known(
    tmp_path: Path, profile: Profile, severity: Severity
) -> None:
    with _opened(
        tmp_path / "db",
        *_KEYS,
        "INSERT INTO documents VALUES (NULL), (9)",
        "INSERT INTO bare VALUES ('a', 9)",
    ) as connection:
        findings = list(check_database(connection, profile))

    assert sorted(findings, key=lambda finding: finding.where) == [
        Finding(
            kind="foreign-key",
            severity=severity,
            where=where,
            expected="a row of folder",
            found="none",
        )
        for where in ("table bare, a row", "table documents, rowid 2")
    ]


@pytest.mark.parametrize(("rows", "listed", "more"), [(100, 100, []), (130, 100, ["30 more rows"])])
def test_a_hundred_broken_keys_are_listed_and_the_rest_counted(
    tmp_path: Path, rows: int, listed: int, more: list[str]
) -> None:
    many = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
    with _opened(
        tmp_path / "db", *_KEYS, f"INSERT INTO documents {many} SELECT i FROM n"
    ) as connection:
        findings = list(check_database(connection, _APP))

    assert {finding.kind for finding in findings} == {"foreign-key"}
    assert {finding.severity for finding in findings} == {Severity.ERROR}
    assert [finding.where for finding in findings[listed:]] == more
    assert findings[0].where == "table documents, rowid 1"


def test_keys_that_cannot_be_checked_are_a_warning(tmp_path: Path) -> None:
    with _opened(
        tmp_path / "db",
        "CREATE TABLE folder (name)",
        "CREATE TABLE documents (folder REFERENCES folder (name))",
        "INSERT INTO documents VALUES (1)",
        "CREATE TABLE other (x PRIMARY KEY, y REFERENCES other (x))",
        "INSERT INTO other VALUES (1, 2)",
    ) as connection:
        mismatch, broken = check_database(connection, _NONE)
    assert mismatch == Finding(
        kind="unchecked",
        severity=Severity.WARNING,
        where="foreign keys of table documents",
        expected="checked",
        found='foreign key mismatch - "documents" referencing "folder"',
    )
    assert broken.where == "table other, rowid 1"


def test_damage_that_stops_the_check_of_keys_is_an_error_too(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with _opened(path, *_KEYS, "INSERT INTO documents VALUES (9)"):
        pass
    _ruin(path, _root(path, "documents"))
    with closing(connect(path, "mode=ro&immutable=1", 0)) as connection:
        findings = list(check_database(connection, _APP))

    assert {finding.severity for finding in findings} == {Severity.ERROR}
    assert findings[-1] == Finding(
        kind="integrity",
        severity=Severity.ERROR,
        where="database",
        expected="readable",
        found="database disk image is malformed",
    )
    assert len(findings) > 1


def test_links_that_leave_the_tree_are_warnings() -> None:
    def link(path: bytes, target: bytes) -> Entry:
        return Entry(path=path, kind=Kind.SYMLINK, target=target)

    entries = [
        Entry(path=b"", kind=Kind.DIRECTORY),
        Entry(path=b"file", kind=Kind.FILE),
        link(b"inside", b"file"),
        link(b"d/up", b"../file"),
        link(b"absolute\n", b"/etc/passwd"),
        link(b"d/out", b"../../file\n"),
    ]

    assert list(check_links(entries)) == [
        Finding(
            kind="link-outside",
            severity=Severity.WARNING,
            where=where,
            expected="a target inside the attachments",
            found=found,
        )
        for where, found in ((r"absolute\n", "/etc/passwd"), ("d/out", r"../../file\n"))
    ]
