"""Rules are read from a profile, and brought together with a schema."""

from pathlib import Path
from typing import Any

import pytest

from ops.rules import Action, Kind, parse_sanitising
from ops.sanitise.binding import Binding, bind
from ops.sanitise.schema import read_schema
from tests.sanitising import make_database, opened, sanitising

_BLANK = {"column": "t.c", "action": "blank"}


def test_all_that_a_rule_says_is_read() -> None:
    read = sanitising(
        {
            "column": "t.c.d",
            "action": "json-keys",
            "keys": ["a", "*"],
            "members": {"on": False, "n": 1.5},
            "where": {"k": "x", "flag": True},
            "secret": True,
        },
        {"column": "t.e", "action": "pseudonym", "kind": "e-mail"},
        {"column": "t.n", "action": "set", "value": 0},
        {"column": "u.*", "action": "delete-rows"},
        admin={
            "table": "u",
            "email": "e",
            "password": "p",
            "first": "f",
            "order": "o",
            "values": {"is_active": True},
        },
        label={"table": "t", "column": "c", "prefix": "S ", "where": {"k": 1}},
    )

    first, second, third, fourth = read.rules
    assert (first.table, first.column, first.name) == ("t", "c.d", "t.c.d")
    assert (first.action, first.secret, first.kind) == (Action.JSON_KEYS, True, None)
    assert first.keys == ("a", "*")
    assert first.members == (("on", False), ("n", 1.5))
    assert first.where == (("k", "x"), ("flag", True))
    assert (second.kind, second.secret) == (Kind.EMAIL, False)
    assert third.value == 0
    assert (fourth.column, fourth.action) == ("*", Action.DELETE_ROWS)
    assert read.admin is not None
    assert read.admin.values == (("is_active", True),)
    assert read.label is not None
    assert (read.label.prefix, read.label.where) == ("S ", (("k", 1),))


def test_a_profile_may_say_nothing() -> None:
    read = parse_sanitising({})

    assert (read.rules, read.admin, read.label) == ((), None, None)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({}, "sanitise.rules needs 'column', a string"),
        ({"column": 1}, "sanitise.rules needs 'column', a string"),
        ({**_BLANK, "colour": 1}, "sanitise.rules has no key 'colour'"),
        ({**_BLANK, "column": "t"}, "'column' must be TABLE.COLUMN, not 't'"),
        ({**_BLANK, "column": "t."}, "'column' must be TABLE.COLUMN, not 't.'"),
        ({**_BLANK, "column": ".c"}, "'column' must be TABLE.COLUMN, not '.c'"),
        ({"column": "t.c"}, "the rule for t.c needs 'action', a string"),
        ({"column": "t.c", "action": "erase"}, "'action' must be one of delete-rows, null, blank"),
        ({**_BLANK, "kind": "name"}, "the rule for t.c has no key 'kind'"),
        ({**_BLANK, "value": "x"}, "the rule for t.c has no key 'value'"),
        ({**_BLANK, "keys": ["x"]}, "the rule for t.c has no key 'keys'"),
        ({**_BLANK, "members": {}}, "the rule for t.c has no key 'members'"),
        ({**_BLANK, "secret": "yes"}, "'secret' must be true or false"),
        ({**_BLANK, "where": "x"}, "'where' must be a table"),
        ({**_BLANK, "where": {"k": ["x"]}}, "'k' must be a string, a number, true or false"),
        ({"column": "t.*", "action": "blank"}, "the rule for t.*: blank needs one column"),
        ({"column": "t.*", "action": "pseudonym", "kind": "name"}, "pseudonym needs one column"),
        ({"column": "t.c", "action": "pseudonym"}, "the rule for t.c needs 'kind', a string"),
        (
            {"column": "t.c", "action": "pseudonym", "kind": "city"},
            "'kind' must be one of e-mail, name, phone, text",
        ),
        ({"column": "t.c", "action": "set"}, "needs 'value', a string, a number, true or false"),
        ({"column": "t.c", "action": "set", "value": []}, "needs 'value', a string, a number"),
        ({"column": "t.c", "action": "json-keys"}, "needs 'keys' or 'members'"),
        ({"column": "t.c", "action": "json-keys", "keys": "x"}, "must be a list of strings"),
        ({"column": "t.c", "action": "json-keys", "keys": [1]}, "must be a list of strings"),
        ({"column": "t.c", "action": "json-keys", "members": [1]}, "'members' must be a table"),
        (
            {"column": "t.c", "action": "json-keys", "members": {"on": []}},
            "'on' must be a string, a number, true or false",
        ),
    ],
)
def test_a_wrong_rule_is_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("*", r"\*")):
        sanitising(rule)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"rule": []}, "sanitise has no key 'rule'"),
        ({"rules": {}}, "sanitise.rules must be an array of tables"),
        ({"rules": ["x"]}, "sanitise.rules must be an array of tables"),
        ({"rules": [_BLANK, _BLANK]}, "sanitise.rules has two rules for t.c"),
        ({"admin": []}, "'admin' must be a table"),
        ({"admin": {"table": "u"}}, "sanitise.admin needs 'email', a string"),
        ({"admin": {"name": "u"}}, "sanitise.admin has no key 'name'"),
        ({"label": {"table": "u"}}, "sanitise.label needs 'column', a string"),
        ({"label": {"name": "u"}}, "sanitise.label has no key 'name'"),
    ],
)
def test_a_wrong_table_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_sanitising(table)


def test_two_rules_for_a_column_must_differ_in_their_rows() -> None:
    rules = [{**_BLANK, "where": {"k": key}} for key in ("a", "b")]

    assert len(sanitising(*rules).rules) == len(rules)
    with pytest.raises(ValueError, match=r"two rules for t\.c"):
        sanitising(*rules, rules[0])


def test_a_condition_on_what_another_rule_changes_is_refused() -> None:
    limited = {"column": "t.c", "action": "delete-rows", "where": {"k": "a"}}

    with pytest.raises(ValueError, match=r"the rule for t\.c looks at t\.k, which another rule"):
        sanitising(limited, {"column": "t.k", "action": "blank"})
    assert sanitising(limited, {"column": "t.k", "action": "keep"}).rules
    assert sanitising({**_BLANK, "where": {"c": "a"}}).rules


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    """Make tables that refer to each other."""
    return make_database(
        tmp_path / "a",
        "CREATE TABLE p (a text, b text, other text, UNIQUE (a, b), UNIQUE (b));"
        "CREATE TABLE both (x text, y text, FOREIGN KEY (y, x) REFERENCES P (B, A));"
        "CREATE TABLE single (s text UNIQUE REFERENCES p (B));"
        "CREATE TABLE grandchild (g text REFERENCES single (s));"
        "CREATE TABLE implied (i text PRIMARY KEY);"
        "CREATE TABLE follows (f text REFERENCES implied);"
        "CREATE TABLE own (name text PRIMARY KEY, boss text REFERENCES own)",
    )


def _bound(path: Path, *rules: dict[str, Any]) -> Binding:
    with opened(path) as connection:
        return bind(sanitising(*rules).rules, read_schema(connection))


def _name(column: str) -> dict[str, Any]:
    return {"column": column, "action": "pseudonym", "kind": "name"}


@pytest.mark.parametrize(
    ("column", "inherited"),
    [
        ("p.b", {"both.y", "single.s", "grandchild.g"}),
        ("p.a", {"both.x"}),
        ("p.other", set()),
        ("single.s", {"grandchild.g"}),
        ("implied.i", {"follows.f"}),
        ("own.name", {"own.boss"}),
    ],
)
def test_columns_inherit_the_pseudonyms_of_what_they_refer_to(
    schema: Path, column: str, inherited: set[str]
) -> None:
    binding = _bound(schema, _name(column))

    assert {one.rule.name for one in binding.bound if one.inherited} == inherited
    assert {one.rule.kind for one in binding.bound} == {Kind.NAME}
    assert [one.rule.name for one in binding.bound if not one.inherited] == [column]


def test_other_actions_are_not_inherited(schema: Path) -> None:
    binding = _bound(schema, {"column": "p.b", "action": "blank"})

    assert [one.rule.name for one in binding.bound] == ["p.b"]


def test_a_rule_of_its_own_wins(schema: Path) -> None:
    binding = _bound(schema, _name("p.b"), {"column": "single.s", "action": "blank"})

    assert {one.rule.name: one.rule.action for one in binding.bound} == {
        "p.b": Action.PSEUDONYM,
        "both.y": Action.PSEUDONYM,
        "single.s": Action.BLANK,
    }


def test_what_a_version_lacks_is_skipped_and_told(schema: Path) -> None:
    rules: list[dict[str, Any]] = [
        {"column": "never.c", "action": "blank"},
        {"column": "never.*", "action": "delete-rows"},
        {"column": "p.never", "action": "blank"},
        {"column": "p.a", "action": "blank", "where": {"lacks": 1}},
        {"column": "p.*", "action": "keep"},
    ]

    binding = _bound(schema, *rules)

    assert [rule.name for rule in binding.absent] == ["never.c", "never.*", "p.never", "p.a"]
    assert [one.rule.name for one in binding.bound] == ["p.*"]


def test_a_binding_tells_what_it_is_for(schema: Path) -> None:
    binding = _bound(
        schema,
        {"column": "p.a", "action": "keep"},
        {"column": "p.b", "action": "blank", "where": {"other": "x"}},
        {"column": "single.*", "action": "delete-rows"},
        {"column": "implied.i", "action": "delete-rows", "where": {"i": "x"}},
    )

    assert binding.emptied() == {"single"}
    assert binding.shortened() == {"single", "implied"}
    assert binding.ruled() == {("p", "a"), ("p", "b"), ("single", "*"), ("implied", "i")}
    assert binding.partly() == {("p", "b"), ("implied", "i")}
    assert binding.outside("p", "b") == ('1 AND NOT ("other" IS ?)', ("x",))
    assert binding.kept("p", "a")
    assert not binding.kept("p", "b")
