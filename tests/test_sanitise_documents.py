"""Members of JSON documents become empty; the shape of the document stays."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.sanitise.documents import read_document, scrub, strings_of, write_document
from tests.sanitising import make_database, make_harmless, profile

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abk", max_size=2), inner),
    max_leaves=20,
)


def _shape(document: Any) -> Any:
    """Return a document with its kinds instead of its values."""
    if isinstance(document, dict):
        return {name: _shape(one) for name, one in document.items()}
    if isinstance(document, list):
        return [_shape(one) for one in document]
    if isinstance(document, bool) or document is None:
        return document
    return "text" if isinstance(document, str) else "number"


def _below(document: Any, keys: set[str], *, inside: bool) -> list[Any]:
    """List all values that are members of these names, or inside of such."""
    if isinstance(document, dict):
        return [
            value
            for name, one in document.items()
            for value in _below(one, keys, inside=inside or name in keys)
        ]
    if isinstance(document, list):
        return [value for one in document for value in _below(one, keys, inside=inside)]
    return [document] if inside else []


@given(document=documents, keys=st.sets(st.sampled_from(["a", "k", "ab"]), min_size=1))
def test_members_become_empty_and_the_shape_stays(document: Any, keys: set[str]) -> None:
    removed: set[str] = set()

    new = scrub(document, tuple(keys), {}, removed)

    assert _shape(new) == _shape(document)
    assert all(value in {"", 0, None, True} for value in _below(new, keys, inside=False))
    held = _below(document, keys, inside=False)
    assert removed == {
        one if isinstance(one, str) else str(one)
        for one in held
        if not isinstance(one, bool) and one is not None
    }


@given(document=documents)
def test_other_members_stay(document: Any) -> None:
    removed: set[str] = set()

    assert scrub(document, ("never",), {}, removed) == document
    assert removed == set()


@given(document=documents)
def test_a_star_means_everything(document: Any) -> None:
    removed: set[str] = set()

    new = scrub(document, ("*",), {}, removed)

    assert _shape(new) == _shape(document)
    assert set(strings_of(new)) <= {""}
    assert removed >= set(strings_of(document))


def test_members_get_values_where_they_are() -> None:
    removed: set[str] = set()
    document = {"on": True, "deep": [{"on": {"was": "a secret"}, "key": "s1"}], "key": {"on": 1}}

    new = scrub(document, ("key",), {"on": False, "absent": 1}, removed)

    assert new == {"on": False, "deep": [{"on": False, "key": ""}], "key": {"on": 0}}
    assert removed >= {"s1", "1"}


def test_what_a_set_member_held_is_removed_too() -> None:
    removed: set[str] = set()

    scrub(
        {"url": "https://hook/s3cret-1", "on": {"deep": ["s3cret-2"]}},
        (),
        {"url": "", "on": 0},
        removed,
    )

    assert removed == {"https://hook/s3cret-1", "s3cret-2"}


@pytest.mark.parametrize("depth", [100, 900, 5_000, 100_000])
def test_a_deep_document_is_emptied(tmp_path: Path, depth: int) -> None:
    document = '{"k":' * depth + '"deep-secret-1"' + "}" * depth
    database = make_database(
        tmp_path / "a", f"CREATE TABLE t (v text); INSERT INTO t VALUES ('{document}')"
    )

    made = make_harmless(
        database,
        profile({"column": "t.v", "action": "json-keys", "keys": ["k"], "secret": True}),
    )

    assert b"deep-secret-1" not in made.raw
    assert made.left == ()
    assert made.one("SELECT v FROM t").startswith("{")


@pytest.mark.parametrize(
    "value",
    ["no JSON, s3cret-4711", '{"k": "s3cret-4711"', "[s3cret-4711]", "'s3cret-4711'", '{"k": 1e'],
)
def test_what_is_no_document_becomes_an_empty_one(tmp_path: Path, value: str) -> None:
    quoted = value.replace("'", "''")
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE t (v text); CREATE TABLE n (v text);"
        f"INSERT INTO t VALUES ('{quoted}'); INSERT INTO n VALUES ('{quoted}')",
    )

    made = make_harmless(
        database,
        profile({"column": "t.v", "action": "json-keys", "keys": ["k"], "secret": True}),
    )

    assert made.one("SELECT v FROM t") == "{}"
    assert b"s3cret-4711" not in made.raw


@pytest.mark.parametrize("text", ['"text"', "5", "null", "[]", "{}", "[1.5, NaN]", '"\\ud83d"'])
def test_documents_are_written_as_they_were_read(text: str) -> None:
    assert write_document(read_document(text)) == text


@pytest.mark.parametrize("text", ["", "{", "nope", "[" * 200_000, "1" * 5_000])
def test_what_cannot_be_read_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_document(text)


def test_strings_are_found_in_any_depth_and_names_are_not() -> None:
    document: Any = "deep"
    for _ in range(10_000):
        document = [document]

    assert list(strings_of(document)) == ["deep"]
    assert set(strings_of({"name": ["a", {"b": "c"}], "n": 1})) == {"a", "c"}
    assert json.loads(write_document({"a": "é"})) == {"a": "é"}
