"""Each action does to a column what docs/staging.md says."""

import json
from pathlib import Path
from typing import Any

import pytest

from ops.errors import SourceError
from ops.sanitise.apply import apply_rules, count_touched
from ops.sanitise.binding import bind
from ops.sanitise.originals import Originals
from ops.sanitise.schema import read_schema
from tests.sanitising import collector, make_database, make_harmless, opened, profile, rows
from tests.sanitising import sanitising as read_rules

_SECRET = "tok-4711-abc"  # noqa: S105 - of a test


def _apply(path: Path, *rules: dict[str, Any]) -> tuple[list[int], Originals]:
    """Apply rules; return how many rows each touched, and the originals."""
    pseudonyms, originals = collector()
    with opened(path) as connection:
        binding = bind(read_rules(*rules).rules, read_schema(connection))
        expected = [one.rows for one in count_touched(connection, binding)]
        applied = apply_rules(connection, binding, pseudonyms, originals)
    acting = [one.rule.action != "keep" for one in binding.bound]
    counts = iter(one.rows for one in applied)
    assert expected == [next(counts) if acts else 0 for acts in acting]
    return [one.rows for one in applied], originals


def _table(path: Path, declared: str, *values: str) -> Path:
    return make_database(
        path, f"CREATE TABLE t (c {declared}, k text); INSERT INTO t VALUES {', '.join(values)}"
    )


@pytest.mark.parametrize(
    ("action", "declared", "expected"),
    [
        ("null", "text", None),
        ("null", "text NOT NULL", ""),
        ("drop-file", "text", None),
        ("drop-file", "text NOT NULL", ""),
        ("blank", "text", ""),
        ("blank", "text NOT NULL", ""),
        ("blank", "blob", ""),
    ],
)
def test_a_column_is_emptied(
    tmp_path: Path, action: str, declared: str, expected: str | None
) -> None:
    database = _table(tmp_path / "a", declared, f"('{_SECRET}', 'x')", "('', 'y')")

    counts, originals = _apply(database, {"column": "t.c", "action": action, "secret": True})

    assert rows(database, "SELECT c FROM t WHERE k = 'x'") == [(expected,)]
    assert rows(database, "SELECT c FROM t WHERE k = 'y'") in ([("",)], [(expected,)])
    assert set(originals.found) == {_SECRET.encode()}
    assert counts[0] >= 1


def test_what_is_null_stays_null(tmp_path: Path) -> None:
    database = _table(tmp_path / "a", "text", "(NULL, 'x')")

    for rule in (
        {"column": "t.c", "action": "set", "value": "x"},
        {"column": "t.c", "action": "blank"},
        {"column": "t.c", "action": "pseudonym", "kind": "text"},
        {"column": "t.c", "action": "json-keys", "keys": ["*"]},
    ):
        assert _apply(database, rule)[0] == [0]
    assert rows(database, "SELECT c FROM t") == [(None,)]


@pytest.mark.parametrize("value", ["text", 0, 1.5, True])
def test_a_value_is_set(tmp_path: Path, value: Any) -> None:
    database = _table(tmp_path / "a", "", "(7, 'x')", "('old', 'x')")

    counts, originals = _apply(database, {"column": "t.c", "action": "set", "value": value})

    assert rows(database, "SELECT c FROM t") == [(value,), (value,)]
    assert counts == [2]
    assert not originals.found


def test_what_was_set_before_is_no_secret(tmp_path: Path) -> None:
    database = _table(tmp_path / "a", "text", "('https://staging.invalid/', 'x')")

    _, originals = _apply(
        database,
        {"column": "t.c", "action": "set", "value": "https://staging.invalid/", "secret": True},
    )

    assert not originals.found


def test_rows_are_deleted_and_what_was_in_them_is_known(tmp_path: Path) -> None:
    database = _table(tmp_path / "a", "text", f"('{_SECRET}', 'x')", "('other-123456', 'y')")

    counts, originals = _apply(
        database,
        {"column": "t.c", "action": "delete-rows", "secret": True, "where": {"k": "x"}},
    )

    assert rows(database, "SELECT c FROM t") == [("other-123456",)]
    assert counts == [1]
    assert set(originals.found) == {_SECRET.encode()}


def test_originals_are_collected_before_the_first_row_changes(tmp_path: Path) -> None:
    database = _table(tmp_path / "a", "text", f"('{_SECRET}', '{_SECRET}2')")

    _, originals = _apply(
        database,
        {"column": "t.c", "action": "blank", "secret": True},
        {"column": "t.k", "action": "delete-rows", "secret": True},
    )

    assert set(originals.found) == {_SECRET.encode(), f"{_SECRET}2".encode()}


def test_a_document_in_rows_that_go_is_read_first(tmp_path: Path) -> None:
    document = json.dumps({"key": _SECRET, "name": "stays-123"})
    database = _table(tmp_path / "a", "text", f"('{document}', 'x')")

    _, originals = _apply(
        database,
        {"column": "t.*", "action": "delete-rows"},
        {"column": "t.c", "action": "json-keys", "keys": ["key"], "secret": True},
    )

    assert set(originals.found) == {_SECRET.encode()}


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("e-mail", "u-*@staging.invalid"),
        ("name", "[A-Z]*"),
        ("phone", "+999 *"),
        ("text", "text-*"),
    ],
)
def test_pseudonyms_stand_for_values(tmp_path: Path, kind: str, shape: str) -> None:
    database = _table(tmp_path / "a", "", "('a@x.de', 1)", "('a@x.de', 2)", "('', 3)", "(55, 4)")

    counts, _ = _apply(database, {"column": "t.c", "action": "pseudonym", "kind": kind})

    first, second, empty, number = (value for (value,) in rows(database, "SELECT c FROM t"))
    assert first == second != number
    assert empty == ""
    assert rows(database, f"SELECT count(*) FROM t WHERE c GLOB '{shape}'") == [(3,)]
    assert counts == [3]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_a_blob_is_read_as_utf8(tmp_path: Path, encoding: str) -> None:
    database = make_database(
        tmp_path / "a",
        f"CREATE TABLE t (c); INSERT INTO t VALUES (x'{_SECRET.encode().hex()}'), (x'')",
        before=f"PRAGMA encoding = '{encoding}'",
    )

    _, originals = _apply(database, {"column": "t.c", "action": "blank", "secret": True})

    assert set(originals.found) == {_SECRET.encode()}


def test_documents_lose_members_and_keep_their_shape(tmp_path: Path) -> None:
    document = json.dumps({"key": [_SECRET, 1234567890, None, True], "on": True, "other": "x"})
    database = _table(tmp_path / "a", "text", f"('{document}', 'x')", "('not JSON 12', 'y')")

    counts, originals = _apply(
        database,
        {
            "column": "t.c",
            "action": "json-keys",
            "keys": ["key"],
            "members": {"on": False, "absent": 1},
            "secret": True,
        },
    )

    assert [json.loads(value) for (value,) in rows(database, "SELECT c FROM t")] == [
        {"key": ["", 0, None, True], "on": False, "other": "x"},
        {},
    ]
    assert set(originals.found) == {_SECRET.encode(), b"1234567890", b"not JSON 12"}
    assert counts == [2]


def test_a_kept_column_is_not_touched(tmp_path: Path) -> None:
    database = _table(tmp_path / "a", "text", "('a@x.de', 'x')")

    assert _apply(database, {"column": "t.c", "action": "keep"})[0] == []
    assert rows(database, "SELECT c FROM t") == [("a@x.de",)]


@pytest.mark.parametrize(
    ("declared", "rule", "message"),
    [
        ("text CHECK (c LIKE 'tok%')", {"action": "blank"}, "CHECK constraint failed"),
        ("text UNIQUE", {"action": "set", "value": "same"}, "UNIQUE constraint failed: t.c"),
        ("text UNIQUE", {"action": "blank"}, "UNIQUE constraint failed: t.c"),
        ("text CHECK (length(c) < 15)", {"action": "pseudonym", "kind": "text"}, "CHECK"),
    ],
)
def test_a_rule_that_does_not_suit_is_told(
    tmp_path: Path, declared: str, rule: dict[str, Any], message: str
) -> None:
    database = _table(tmp_path / "a", declared, "('tok-1', 'x')", "('tok-2', 'y')")

    with pytest.raises(SourceError, match=message) as caught:
        make_harmless(database, profile({"column": "t.c", **rule}))
    assert "a rule of the profile does not suit this database" in caught.value.hint


def test_a_strict_column_takes_no_text(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a", "CREATE TABLE t (c int NOT NULL) STRICT; INSERT INTO t VALUES (5)"
    )

    with pytest.raises(SourceError, match="cannot store TEXT value in INT column"):
        make_harmless(database, profile({"column": "t.c", "action": "null"}))


def test_a_collation_does_not_hide_a_spelling(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (org, c text COLLATE NOCASE, UNIQUE (org, c));"
        "INSERT INTO t VALUES (1, 'bob@x.de'), (2, 'Bob@x.de')",
    )

    assert _apply(database, {"column": "t.c", "action": "pseudonym", "kind": "e-mail"})[0] == [2]
    first, second = rows(database, "SELECT c FROM t")
    assert first != second


def test_rows_outside_the_condition_stay(tmp_path: Path) -> None:
    database = _table(
        tmp_path / "a", "text", "('aaa-111-x', 'x')", "('bbb-222-x', 'y')", "('ccc-333-x', NULL)"
    )

    counts, originals = _apply(
        database, {"column": "t.c", "action": "blank", "secret": True, "where": {"k": "x"}}
    )

    assert rows(database, "SELECT c FROM t") == [("",), ("bbb-222-x",), ("ccc-333-x",)]
    assert counts == [1]
    assert set(originals.found) == {b"aaa-111-x"}
