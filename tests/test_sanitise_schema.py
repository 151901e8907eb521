"""Tables of every kind are gone through: whatever a schema may hold."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ops.errors import SourceError
from ops.sanitise.schema import read_schema
from tests.sanitising import complaints, make_database, make_harmless, one, opened, profile, rows

_EMAIL = {"action": "pseudonym", "kind": "e-mail"}
_BOB = "bob@example.org"


def test_text_in_the_key_of_a_table_without_rowids_is_replaced(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (k text, n, note text, PRIMARY KEY (n, k)) WITHOUT ROWID;"
        f"INSERT INTO t VALUES ('{_BOB}', 1, '{_BOB} as well'), ('plain', x'00ff', 'to {_BOB}'),"
        "('plain', 1.5, 'innocent')",
    )

    made = make_harmless(database, profile())

    assert made.left == ()
    assert _BOB.encode() not in made.raw
    pseudonym = made.one("SELECT k FROM t WHERE n = 1")
    assert pseudonym.endswith("@staging.invalid")
    assert made.rows("SELECT * FROM t ORDER BY n") == [
        (pseudonym, 1, f"{pseudonym} as well"),
        ("plain", 1.5, "innocent"),
        ("plain", b"\0\xff", f"to {pseudonym}"),
    ]


def test_a_blob_and_a_text_of_the_same_bytes_are_different_keys(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (k PRIMARY KEY, note text) WITHOUT ROWID;"
        f"INSERT INTO t VALUES ('ab', '{_BOB} 1'), (CAST('ab' AS BLOB), '{_BOB} 2')",
    )

    made = make_harmless(database, profile())

    assert [(kind, note[-2:]) for kind, note in made.rows("SELECT typeof(k), note FROM t")] == [
        ("text", " 1"),
        ("blob", " 2"),
    ]


def test_a_key_that_is_no_utf8_is_refused_in_words(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (k text PRIMARY KEY, note text) WITHOUT ROWID;"
        f"INSERT INTO t VALUES (CAST(x'80ff' AS text), '{_BOB}')",
    )

    with pytest.raises(SourceError, match="no UTF-8"):
        make_harmless(database, profile())


def test_text_that_is_no_utf8_stays_text_of_the_same_bytes(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (note text); INSERT INTO t VALUES"
        f"(CAST(x'fffe20' || '{_BOB}' AS text)), (CAST(x'ff80' AS text))",
    )

    made = make_harmless(database, profile())

    pseudonym = made.one("SELECT substr(CAST(note AS blob), 4) FROM t WHERE rowid = 1")
    assert pseudonym.endswith(b"@staging.invalid")
    assert made.rows("SELECT typeof(note), CAST(note AS blob) FROM t") == [
        ("text", b"\xff\xfe " + pseudonym),
        ("text", b"\xff\x80"),
    ]


@pytest.mark.parametrize(
    ("columns", "key"),
    [
        ("rowid text, note text", "_rowid_"),
        ("rowid text, _rowid_ text, note text", "oid"),
        ("rowid text, _rowid_ text, oid text PRIMARY KEY, note text", '"oid"'),
        ("RowId integer, note text", "_rowid_"),
    ],
)
def test_columns_may_have_the_names_of_the_rowid(tmp_path: Path, columns: str, key: str) -> None:
    names = [column.split()[0] for column in columns.split(", ")]
    values = ", ".join(f"'{_BOB}'" if name == "note" else "'7'" for name in names)
    database = make_database(
        tmp_path / "a", f"CREATE TABLE t ({columns}); INSERT INTO t VALUES ({values})"
    )
    with opened(database) as connection:
        assert read_schema(connection)["t"].row_key == (key,)

    made = make_harmless(database, profile())

    assert _BOB.encode() not in made.raw
    assert made.rows(f"SELECT {names[0]} FROM t") in ([("7",)], [(7,)])


def test_rows_that_cannot_be_named_are_refused_in_words(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        f"CREATE TABLE t (rowid, _rowid_, oid); INSERT INTO t VALUES (1, 2, '{_BOB}')",
    )

    with pytest.raises(SourceError, match="rows of t cannot be told apart"):
        make_harmless(database, profile())


def test_generated_columns_follow(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (id integer PRIMARY KEY, email text,"
        " low text AS (lower(email)) STORED, size AS (length(email)) VIRTUAL);"
        "CREATE INDEX low ON t (low); CREATE INDEX size ON t (size) WHERE size > 3;"
        "CREATE INDEX upper ON t (upper(email));"
        f"INSERT INTO t (email) VALUES ('{_BOB.title()}')",
    )

    made = make_harmless(database, profile({"column": "t.email", **_EMAIL}))

    ((email, low, size),) = made.rows("SELECT email, low, size FROM t")
    assert low == email.lower()
    assert size == len(email)
    assert complaints(made.path) == []
    assert _BOB.encode() not in made.raw.lower()


@pytest.mark.parametrize(
    "name", ['q"uo"te', "with space", "naïve 報告", "it's", "select", "[b]", "a.b", "ta\nb", "%s?"]
)
def test_names_may_be_odd(tmp_path: Path, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    database = make_database(
        tmp_path / "a",
        f"CREATE TABLE {quoted} (id integer PRIMARY KEY, {quoted} text UNIQUE);"
        f"CREATE TABLE child ({quoted} text REFERENCES {quoted} ({quoted}));"
        f"INSERT INTO {quoted} VALUES (1, '{_BOB}'); INSERT INTO child VALUES ('{_BOB}')",
    )

    made = make_harmless(database, profile())

    assert _BOB.encode() not in made.raw
    assert made.one(f"SELECT count(*) FROM child JOIN {quoted} USING ({quoted})") == 1
    assert made.left == ()


def test_a_strict_table_keeps_its_types(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (a any, b blob, i int, r real, s text) STRICT;"
        f"INSERT INTO t VALUES ('{_BOB}', CAST('{_BOB}' AS blob), 1, 2.5, '{_BOB}')",
    )

    made = make_harmless(database, profile())

    kinds = made.rows("SELECT typeof(a), typeof(b), typeof(i), typeof(r), typeof(s) FROM t")
    assert kinds == [("text", "blob", "integer", "real", "text")]
    assert _BOB.encode() not in made.raw


@pytest.mark.parametrize("kind", ["fts5(note)", "fts4(note)", "rtree(id, low, high)"])
def test_a_virtual_table_is_refused(tmp_path: Path, kind: str) -> None:
    database = make_database(tmp_path / "a", f"CREATE VIRTUAL TABLE search USING {kind}")

    with pytest.raises(SourceError, match="virtual table cannot be sanitised: search"):
        make_harmless(database, profile())


def test_views_stay_and_show_what_is_there(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (note text); CREATE VIEW v AS SELECT note FROM t;"
        f"INSERT INTO t VALUES ('{_BOB}')",
    )

    made = make_harmless(database, profile({"column": "v.note", "action": "blank"}))

    assert made.rows("SELECT * FROM v") == made.rows("SELECT * FROM t")
    assert [rule.name for rule in made.sanitised.absent] == ["v.note"]


def test_an_original_in_the_schema_is_found(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (token text, note text DEFAULT 'abc-123-def');"
        f"CREATE VIEW v AS SELECT '{_BOB}' AS who;"
        f"INSERT INTO t VALUES ('abc-123-def', '{_BOB}')",
    )

    made = make_harmless(
        database, profile({"column": "t.token", "action": "blank", "secret": True})
    )

    assert {found.where for found in made.left} >= {"the schema of t", "the schema of v"}


def test_triggers_do_not_fire_and_are_in_the_copy(tmp_path: Path) -> None:
    statements = (
        'CREATE TRIGGER "keep\'s" AFTER UPDATE ON t BEGIN INSERT INTO log VALUES (old.email); END',
        "CREATE TRIGGER gone BEFORE DELETE ON d BEGIN SELECT raise(ABORT, 'never'); END",
        "CREATE TRIGGER via INSTEAD OF INSERT ON v BEGIN INSERT INTO t VALUES (new.email); END",
    )
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (email text); CREATE TABLE d (id); CREATE TABLE log (email text);"
        "CREATE VIEW v AS SELECT email FROM t;"
        f"INSERT INTO t VALUES ('{_BOB}'); INSERT INTO d VALUES (1); {'; '.join(statements)}",
    )

    made = make_harmless(
        database,
        profile({"column": "t.email", **_EMAIL}, {"column": "d.*", "action": "delete-rows"}),
    )

    assert made.rows("SELECT * FROM log") == []
    assert made.rows("SELECT * FROM d") == []
    stored = made.rows("SELECT sql FROM sqlite_schema WHERE type = 'trigger'")
    assert stored == [(statement,) for statement in statements]


def test_what_is_wrong_with_an_index_is_told(tmp_path: Path) -> None:
    database = tmp_path / "a"
    make_database(database, f"CREATE TABLE t (note text); INSERT INTO t VALUES ('{_BOB}')")

    with closing(sqlite3.connect(database)) as connection:
        connection.create_function("ours", 1, str, deterministic=True)
        connection.execute("CREATE INDEX i ON t (ours(note))")
        connection.commit()

    with pytest.raises(SourceError, match="unknown function: ours"):
        make_harmless(database, profile())


def test_samples_of_the_planner_are_not_in_the_copy(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (name text); CREATE INDEX i ON t (name);"
        "INSERT INTO t VALUES ('Marlene'), ('Marlene'); ANALYZE;"
        "PRAGMA writable_schema = ON;"
        "CREATE TABLE sqlite_stat4 (tbl, idx, neq, nlt, ndlt, sample);"
        "INSERT INTO sqlite_stat4 VALUES ('t', 'i', '2', '0', '0', x'02' || 'Marlene')",
    )

    made = make_harmless(
        database, profile({"column": "t.name", "action": "pseudonym", "kind": "name"})
    )

    assert one(database, "SELECT count(*) FROM t") == 2
    assert b"Marlene" not in made.raw
    assert made.rows("SELECT name FROM sqlite_schema WHERE name LIKE 'sqlite_stat%'") == [
        ("sqlite_stat1",)
    ]
    assert rows(made.path, "SELECT stat FROM sqlite_stat1") == [("2 2",)]
