"""Pseudonyms: stable, keyed, shaped like what they stand for, and distinct where they must be."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.rules import Kind
from ops.sanitise.pseudonyms import Pseudonyms
from tests.sanitising import KEY

_OTHER = bytes(reversed(KEY))
_SHAPES = {
    Kind.EMAIL: r"u-[a-km-np-z02-9]{12}@staging\.invalid",
    Kind.NAME: r"[A-Z][a-z]{7}",
    Kind.PHONE: r"\+999 \d{9}",
    Kind.TEXT: r"text-[a-km-np-z02-9]{12}",
}

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
kinds = st.sampled_from(Kind)


@given(kind=kinds, value=texts)
def test_a_pseudonym_is_stable_keyed_and_shaped(kind: Kind, value: str) -> None:
    made = Pseudonyms(KEY).of(kind, value)

    assert made == Pseudonyms(KEY).of(kind, value)
    assert made != Pseudonyms(_OTHER).of(kind, value)
    assert re.fullmatch(_SHAPES[kind], made)


@given(kind=kinds, values=st.sets(texts, max_size=30))
def test_the_pseudonyms_of_a_unique_column_are_distinct(kind: Kind, values: set[str]) -> None:
    given_names = Pseudonyms(KEY).distinct(kind, values)

    assert set(given_names) == values
    assert len(set(given_names.values())) == len(values)
    assert all(re.fullmatch(_SHAPES[kind], made) for made in given_names.values())


def test_values_that_collide_get_distinct_pseudonyms() -> None:
    pseudonyms = Pseudonyms(KEY)
    values = [f"person {number}" for number in range(20_000)]
    assert len({pseudonyms.of(Kind.NAME, value) for value in values}) < len(values)

    given_names = pseudonyms.distinct(Kind.NAME, values)

    assert len(set(given_names.values())) == len(values)
    assert given_names == Pseudonyms(KEY).distinct(Kind.NAME, reversed(values))


def test_spellings_of_an_address_share_a_pseudonym_but_in_a_unique_column() -> None:
    pseudonyms = Pseudonyms(KEY)
    spellings = ["Ren\u00e9@X.de", "ren\u00e9@x.de", "REN\u00c9@x.de"]
    everywhere = pseudonyms.of(Kind.EMAIL, spellings[0])

    assert {pseudonyms.of(Kind.EMAIL, one) for one in spellings} == {everywhere}
    distinct = pseudonyms.distinct(Kind.EMAIL, spellings)
    assert len(set(distinct.values())) == len(spellings)
    assert distinct["ren\u00e9@x.de"] == everywhere


@given(kind=kinds, value=texts)
def test_normal_forms_share_a_pseudonym(kind: Kind, value: str) -> None:
    pseudonyms = Pseudonyms(KEY)

    assert pseudonyms.of(kind, unicodedata.normalize("NFD", value)) == pseudonyms.of(
        kind, unicodedata.normalize("NFC", value)
    )


def test_names_and_texts_differ_by_case() -> None:
    pseudonyms = Pseudonyms(KEY)

    assert pseudonyms.of(Kind.NAME, "Bob") != pseudonyms.of(Kind.NAME, "bob")
    assert pseudonyms.of(Kind.TEXT, "Bob") != pseudonyms.of(Kind.NAME, "Bob")


def test_a_chosen_pseudonym_goes_to_the_spelling_that_was_chosen() -> None:
    pseudonyms = Pseudonyms(KEY)
    before = pseudonyms.of(Kind.EMAIL, "boss@x.de")
    pseudonyms.choose("Boss@x.de", "admin@staging.invalid")

    assert before != "admin@staging.invalid"
    assert pseudonyms.of(Kind.EMAIL, "BOSS@x.de") == "admin@staging.invalid"
    distinct = pseudonyms.distinct(Kind.EMAIL, ["boss@x.de", "Boss@x.de"])
    assert distinct["Boss@x.de"] == "admin@staging.invalid"
    assert distinct["boss@x.de"] != "admin@staging.invalid"


def test_bytes_have_marks() -> None:
    pseudonyms = Pseudonyms(KEY)

    assert re.fullmatch("[a-km-np-z02-9]{12}", pseudonyms.mark(b"\xff\x00"))
    assert pseudonyms.mark(b"\xff") != pseudonyms.mark(b"\xfe")
    assert pseudonyms.mark(b"a") != Pseudonyms(_OTHER).mark(b"a")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes, and 32 are needed"):
        Pseudonyms(KEY[1:])
