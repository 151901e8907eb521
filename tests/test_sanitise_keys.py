"""Rows that refer to others still join, and what referred to rows that are gone is mended."""

from pathlib import Path
from typing import Any

import pytest

from ops.errors import SourceError
from tests.sanitising import Made, complaints, make_database, make_harmless, one, profile

_EMAIL = {"action": "pseudonym", "kind": "e-mail"}
_GONE = {"column": "p.*", "action": "delete-rows"}


def _made(path: Path, script: str, *rules: dict[str, Any]) -> Made:
    made = make_harmless(make_database(path / "a", script), profile(*rules))
    assert complaints(made.path) == []
    return made


_PARENT = "CREATE TABLE p (id integer PRIMARY KEY); INSERT INTO p VALUES (1), (2);"


def test_what_may_be_empty_becomes_empty(tmp_path: Path) -> None:
    made = _made(
        tmp_path,
        f"{_PARENT} CREATE TABLE c (n, p integer REFERENCES p);"
        "INSERT INTO c VALUES ('a', 1), ('b', 2), ('c', NULL)",
        _GONE,
    )

    assert made.rows("SELECT * FROM c") == [("a", None), ("b", None), ("c", None)]
    assert made.sanitised.mended == 2


def test_what_may_not_goes_as_well_and_what_refers_to_it(tmp_path: Path) -> None:
    made = _made(
        tmp_path,
        f"{_PARENT} CREATE TABLE c (id integer PRIMARY KEY, p integer NOT NULL REFERENCES p);"
        "CREATE TABLE d (id integer PRIMARY KEY, c integer NOT NULL REFERENCES c);"
        "CREATE TABLE e (n, d integer REFERENCES d);"
        "INSERT INTO c VALUES (5, 1); INSERT INTO d VALUES (6, 5), (7, 5);"
        "INSERT INTO e VALUES ('a', 6), ('b', NULL)",
        _GONE,
    )

    assert made.rows("SELECT * FROM c") == []
    assert made.rows("SELECT * FROM d") == []
    assert made.rows("SELECT * FROM e") == [("a", None), ("b", None)]
    assert made.sanitised.mended == 4


def test_a_key_that_became_empty_is_mended_in_turn(tmp_path: Path) -> None:
    made = _made(
        tmp_path,
        f"{_PARENT} CREATE TABLE c (x integer UNIQUE REFERENCES p);"
        "CREATE TABLE d (x integer REFERENCES c (x));"
        "INSERT INTO c VALUES (1); INSERT INTO d VALUES (1)",
        _GONE,
    )

    assert made.rows("SELECT * FROM c") == [(None,)]
    assert made.rows("SELECT * FROM d") == [(None,)]


def test_rows_deleted_by_a_condition_are_mended(tmp_path: Path) -> None:
    made = _made(
        tmp_path,
        "CREATE TABLE p (id integer PRIMARY KEY, k text); INSERT INTO p VALUES (1, 'a'), (2, 'b');"
        "CREATE TABLE c (p integer NOT NULL REFERENCES p); INSERT INTO c VALUES (1), (2)",
        {"column": "p.k", "action": "delete-rows", "where": {"k": "a"}},
    )

    assert made.rows("SELECT * FROM c") == [(2,)]


def test_keys_of_several_columns(tmp_path: Path) -> None:
    made = _made(
        tmp_path,
        "CREATE TABLE p (a, b, PRIMARY KEY (a, b)); INSERT INTO p VALUES (1, 'x'), (2, 'y');"
        "CREATE TABLE free (n, a, b, FOREIGN KEY (b, a) REFERENCES p (b, a));"
        "CREATE TABLE half (n, a NOT NULL, b, FOREIGN KEY (a, b) REFERENCES p);"
        "CREATE TABLE firm (n, a NOT NULL, b NOT NULL, FOREIGN KEY (a, b) REFERENCES p);"
        "INSERT INTO free VALUES ('1', 1, 'x'), ('2', 2, NULL);"
        "INSERT INTO half VALUES ('1', 1, 'x'), ('2', 2, NULL);"
        "INSERT INTO firm VALUES ('1', 1, 'x')",
        {"column": "p.*", "action": "delete-rows"},
    )

    assert made.rows("SELECT * FROM free") == [("1", None, None), ("2", 2, None)]
    assert made.rows("SELECT * FROM half") == [("1", 1, None), ("2", 2, None)]
    assert made.rows("SELECT * FROM firm") == []


def test_a_part_of_a_primary_key_is_not_emptied(tmp_path: Path) -> None:
    made = _made(
        tmp_path,
        f"{_PARENT} CREATE TABLE c (p integer REFERENCES p, n, PRIMARY KEY (p, n));"
        "INSERT INTO c VALUES (1, 'a'), (NULL, 'b')",
        _GONE,
    )

    assert made.rows("SELECT * FROM c") == [(None, "b")]


def test_a_table_that_refers_to_itself(tmp_path: Path) -> None:
    made = _made(
        tmp_path,
        f"{_PARENT} CREATE TABLE c (id integer PRIMARY KEY, p integer REFERENCES p NOT NULL,"
        " above integer NOT NULL REFERENCES c, near integer REFERENCES c);"
        "INSERT INTO p VALUES (3); INSERT INTO c VALUES (1, 1, 1, 1), (2, 3, 1, NULL),"
        "(3, 3, 2, NULL), (4, 3, 4, 1), (5, 3, 5, 4)",
        {"column": "p.id", "action": "delete-rows", "where": {"id": 1}},
    )

    assert made.rows("SELECT id, near FROM c") == [(4, None), (5, 4)]


def test_names_of_tables_in_keys_are_equal_in_both_cases(tmp_path: Path) -> None:
    made = _made(
        tmp_path,
        "CREATE TABLE P (Id integer PRIMARY KEY); INSERT INTO p VALUES (1);"
        "CREATE TABLE c (p integer REFERENCES p (ID)); INSERT INTO c VALUES (1)",
        {"column": "P.*", "action": "delete-rows"},
    )

    assert made.rows("SELECT * FROM c") == [(None,)]


def test_what_referred_to_nothing_before_is_left(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        f"{_PARENT} CREATE TABLE other (id integer PRIMARY KEY);"
        "CREATE TABLE c (o integer REFERENCES other); INSERT INTO c VALUES (99)",
    )

    made = make_harmless(database, profile(_GONE))

    assert made.rows("SELECT * FROM c") == [(99,)]
    assert complaints(made.path) == [("c", 1, "other", 0)]


@pytest.mark.parametrize(
    "key", ["REFERENCES never", "REFERENCES p (never)", "REFERENCES three (id)"]
)
def test_a_key_that_fits_nothing_is_left_to_the_check(tmp_path: Path, key: str) -> None:
    database = make_database(
        tmp_path / "a",
        f"{_PARENT} CREATE TABLE three (id, a, b, PRIMARY KEY (a, b));"
        f"CREATE TABLE c (p integer {key}); INSERT INTO c VALUES (1)",
    )

    if "p (never)" in key:
        with pytest.raises(SourceError, match="no such column"):
            make_harmless(database, profile(_GONE))
    else:
        assert make_harmless(database, profile(_GONE)).rows("SELECT * FROM c") == [(1,)]


_PEOPLE = (
    "CREATE TABLE p (email text UNIQUE, n);"
    "INSERT INTO p VALUES ('bob@x.de', 1), ('Bob@x.de', 2), ('eve@x.de', 3);"
)


@pytest.mark.parametrize("declared", ["text", "text UNIQUE"])
@pytest.mark.parametrize("own_rule", [False, True])
def test_two_spellings_are_two_people_in_what_refers_to_them(
    tmp_path: Path, declared: str, *, own_rule: bool
) -> None:
    made = _made(
        tmp_path,
        f"{_PEOPLE} CREATE TABLE c (n, email {declared} REFERENCES p (email));"
        "INSERT INTO c VALUES (2, 'Bob@x.de'), (3, 'eve@x.de');",
        {"column": "p.email", **_EMAIL},
        *([{"column": "c.email", **_EMAIL}] if own_rule else []),
    )

    assert made.rows("SELECT p.n, c.n FROM p JOIN c USING (email)") == [(2, 2), (3, 3)]
    assert made.one("SELECT count(DISTINCT email) FROM p") == 3
    assert made.left == ()


def test_keys_join_over_two_tables(tmp_path: Path) -> None:
    made = _made(
        tmp_path,
        f"{_PEOPLE} CREATE TABLE c (n, email text UNIQUE REFERENCES p (email));"
        "CREATE TABLE d (n, email text REFERENCES c (email));"
        "INSERT INTO c VALUES (1, 'bob@x.de'), (2, 'Bob@x.de');"
        "INSERT INTO d VALUES (2, 'Bob@x.de')",
        {"column": "p.email", **_EMAIL},
    )

    assert made.rows("SELECT p.n, c.n, d.n FROM p JOIN c USING (email) JOIN d USING (email)") == [
        (2, 2, 2)
    ]


def test_a_key_without_regard_to_case_joins(tmp_path: Path) -> None:
    made = _made(
        tmp_path,
        "CREATE TABLE p (name text COLLATE NOCASE PRIMARY KEY, n);"
        "CREATE TABLE c (n, name text REFERENCES p);"
        "INSERT INTO p VALUES ('Bob', 1), ('Eve', 2); INSERT INTO c VALUES (1, 'BOB'), (2, 'eve')",
        {"column": "p.name", "action": "pseudonym", "kind": "name"},
    )

    assert made.rows("SELECT p.n, c.n FROM p JOIN c ON p.name = c.name") == [(1, 1), (2, 2)]


def test_a_rule_for_some_rows_changes_what_refers_to_those(tmp_path: Path) -> None:
    made = _made(
        tmp_path,
        "CREATE TABLE p (code text PRIMARY KEY, k); CREATE TABLE c (code text REFERENCES p);"
        "INSERT INTO p VALUES ('one', 'x'), ('two', 'y'); INSERT INTO c VALUES ('one'), ('two')",
        {"column": "p.code", "action": "pseudonym", "kind": "text", "where": {"k": "x"}},
    )

    ((first,), (second,)) = made.rows("SELECT code FROM c")
    assert first == made.one("SELECT code FROM p WHERE k = 'x'") != "one"
    assert second == "two"


def test_tables_that_refer_to_each_other(tmp_path: Path) -> None:
    made = _made(
        tmp_path,
        "CREATE TABLE a (x text PRIMARY KEY REFERENCES b (y));"
        "CREATE TABLE b (y text PRIMARY KEY REFERENCES a (x));"
        "INSERT INTO a VALUES ('bob@x.de'), ('Bob@x.de');"
        "INSERT INTO b VALUES ('Bob@x.de'), ('bob@x.de')",
        {"column": "a.x", **_EMAIL},
        {"column": "b.y", **_EMAIL},
    )

    assert made.one("SELECT count(*) FROM a JOIN b ON x = y") == 2


def test_pseudonyms_agree_where_no_key_joins(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        f"{_PEOPLE} CREATE TABLE log (who text, note text);"
        "INSERT INTO log VALUES ('BOB@x.de', 'bob@x.de and <Eve@X.de>')",
    )

    made = make_harmless(
        database, profile({"column": "p.email", **_EMAIL}, {"column": "log.who", **_EMAIL})
    )

    bob, eve = (made.one(f"SELECT email FROM p WHERE n = {number}") for number in (1, 3))
    assert made.rows("SELECT * FROM log") == [(bob, f"{bob} and <{eve}>")]
    assert one(made.path, "SELECT count(*) FROM p") == 3
