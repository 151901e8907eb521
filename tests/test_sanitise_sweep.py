"""What the rules did not reach is replaced wherever it stands, and the rest stays."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ops.sanitise.originals import is_distinctive
from tests.sanitising import ADMIN, KEY, Made, collector, make_database, make_harmless, profile

_EMAIL = {"column": "p.email", "action": "pseudonym", "kind": "e-mail"}
_TOKEN = {"column": "p.token", "action": "blank", "secret": True}
_NAMES = tuple(
    {"column": f"p.{column}", "action": "pseudonym", "kind": "name"} for column in ("first", "last")
)
_PEOPLE = (
    "CREATE TABLE p (email text, first text, last text, token text);"
    "INSERT INTO p VALUES ('bob@x.de', 'Bob', 'Builder', 'tok-4711-abc'),"
    "('o''brien@x.de', 'Anne', 'O''Brien', 's\"e\\c/r&t-ü')"
)


def _swept(path: Path, *values: str | bytes, rules: tuple[Any, ...] = ()) -> tuple[Made, list[Any]]:
    """Put values into free columns; return the copy, and what became of them."""
    given = ", ".join(
        f"(x'{value.hex()}')"
        if isinstance(value, bytes)
        else f"(CAST(x'{value.encode().hex()}' AS text))"
        for value in values
    )
    database = make_database(
        path / "a", f"{_PEOPLE}; CREATE TABLE free (v); INSERT INTO free VALUES {given}"
    )
    made = make_harmless(database, profile(_EMAIL, _TOKEN, *_NAMES, *rules))
    assert made.left == ()
    return made, [value for (value,) in made.rows("SELECT v FROM free")]


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "write to {}, please",
        '{{"m": "line\\n{}\\t"}}',
        '{{"in": "{{\\"m\\": \\"\\\\n{}\\"}}"}}',
        "“{}”",
        "<a href='mailto:{}'>",
    ],
)
def test_a_known_address_gets_the_pseudonym_of_its_column(tmp_path: Path, text: str) -> None:
    made, (bob, brien) = _swept(tmp_path, text.format("bob@x.de"), text.format("O'Brien@x.de"))

    known = [email for (email,) in made.rows("SELECT email FROM p")]
    assert bob == text.format(known[0])
    assert brien == text.format(known[1])
    assert made.suspects() == {}


@pytest.mark.parametrize(
    "document",
    [
        {"m": "hi\nbob@x.de\n"},
        {"m": '{"deep": "\\tbob@x.de"}'},
        {"bob@x.de": ["<bob@x.de>", {"n": 1}]},
        {"m": "tok-4711-abc"},
        {"m": 's"e\\c/r&t-ü'},
        {"m": json.dumps(['s"e\\c/r&t-ü'])},
        {"m": "caf\u00e9 \u0040 bob@x.de"},
        {"m": "stranger@y.org\r\nnext@y.org"},
        ["Bob Builder", "Builder, Bob"],
    ],
)
@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_document_stays_one(tmp_path: Path, document: Any, *, ascii_only: bool) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only)
    if ascii_only:
        text = text.replace("@", "\\u0040").replace("<", "\\u003c")

    _, (value,) = _swept(tmp_path, text)

    assert value != text
    read = json.loads(value)
    assert type(read) is type(document)
    assert len(read) == len(document)
    assert not any(
        secret in str(read).casefold() for secret in ("bob@", "tok-4711", "y.org", "bob builder")
    )


def test_a_stranger_is_replaced_everywhere_and_told(tmp_path: Path) -> None:
    made, values = _swept(tmp_path, "eve@y.org", b"\x00\xffEve@Y.org\x00", "no one @ home")

    pseudonym = values[0]
    assert pseudonym.endswith("@staging.invalid")
    assert values[1] == b"\x00\xff" + pseudonym.encode() + b"\x00"
    assert values[2] == "no one @ home"
    assert made.suspects() == {"free.v": "e-mail addresses in 2 rows, replaced"}


def test_a_stranger_is_known_in_kept_columns(tmp_path: Path) -> None:
    database = make_database(
        tmp_path / "a",
        "CREATE TABLE kept (v text); INSERT INTO kept VALUES"
        "('eve@y.org and publisher@z.org'), ('bob@x.de'), ('tok-4711-abc');"
        f"{_PEOPLE}; CREATE TABLE free (v text); INSERT INTO free VALUES ('eve@y.org')",
    )

    made = make_harmless(
        database, profile(_EMAIL, _TOKEN, *_NAMES, {"column": "kept.*", "action": "keep"})
    )

    assert made.left == ()
    eve = made.one("SELECT v FROM free")
    bob = made.one("SELECT email FROM p LIMIT 1")
    values = [value for (value,) in made.rows("SELECT v FROM kept")]
    assert values[:2] == [f"{eve} and publisher@z.org", bob]
    assert values[2].startswith("removed-")
    assert list(made.suspects()) == ["free.v"]


def test_the_administrators_address_may_stay(tmp_path: Path) -> None:
    _, (value,) = _swept(tmp_path, f"write to {ADMIN.title()}")

    assert value == f"write to {ADMIN.title()}"


def test_names_of_people_are_replaced_in_either_order(tmp_path: Path) -> None:
    made, values = _swept(
        tmp_path, "by BOB BUILDER", "Builder Bob", "Builder, Bob", "Bob alone", "bobuilder"
    )

    first, last = made.rows("SELECT first, last FROM p")[0]
    assert values == [
        f"by {first} {last}",
        f"{last} {first}",
        f"{last}, {first}",
        "Bob alone",
        "bobuilder",
    ]


def test_values_over_many_pages_are_replaced(tmp_path: Path) -> None:
    filler = "innocent text " * 20_000
    _, values = _swept(tmp_path, filler + "tok-4711-abc" + filler, filler)

    assert values[0].startswith(filler + "removed-")
    assert values[0].endswith(filler)
    assert values[1] == filler


def test_what_is_written_in_an_unusual_way_is_emptied_whole(tmp_path: Path) -> None:
    header = b"Basic " + base64.b64encode(b"user:" + 's"e\\c/r&t-ü'.encode())
    numbers = "".join(f"&#{ord(letter)};" for letter in "tok-4711-abc")

    _, values = _swept(
        tmp_path, f'{{"h": "{numbers}"}}', f'["{numbers}"]', numbers, header.decode(), "innocent"
    )

    assert values == ["{}", "[]", "removed", "removed", "innocent"]


@pytest.mark.parametrize(
    "innocent",
    [
        "logo@2x.png",
        '{"a": "\\\\u0040"}',
        "C:\\u0040\\n",
        "5 @ 3.50 %40",
        "a\\nb&#64;",
        "bob",
        "Builder",
        "tok-4711-ab",
        b"\x00@\xff%40",
        "",
    ],
)
def test_what_is_innocent_is_untouched(tmp_path: Path, innocent: str | bytes) -> None:
    _, values = _swept(tmp_path, innocent, "bob@x.de", "tok-4711-abc")

    assert values[0] == innocent


def test_another_key_gives_other_pseudonyms_and_the_same_key_the_same(tmp_path: Path) -> None:
    copies = []
    for number, key in enumerate((KEY, KEY, bytes(reversed(KEY)))):
        directory = tmp_path / str(number)
        directory.mkdir()
        database = make_database(directory / "a", _PEOPLE)
        made = make_harmless(database, profile(_EMAIL, _TOKEN, *_NAMES), key=key)
        copies.append(made.rows("SELECT email, first, last FROM p"))

    assert copies[0] == copies[1]
    assert not set(sum(copies[0], ())) & set(sum(copies[2], ()))


def test_a_copy_may_be_refreshed_again(tmp_path: Path) -> None:
    made, _ = _swept(tmp_path, "eve@y.org, bob@x.de")
    again = make_harmless(
        made.path.rename(tmp_path / "b"), profile(_EMAIL, _TOKEN, *_NAMES), email=ADMIN
    )

    assert again.left == ()
    assert again.one("SELECT count(*) FROM ciso_ops_staging") == 1


@pytest.mark.parametrize(
    ("value", "distinctive"),
    [
        ("12345", False),
        ("12345678", False),
        ("123456789", True),
        ("+49 30 1234", True),
        ("abcde", False),
        ("password", False),
        ("passwordpassword", True),
        ("passw0rd", True),
        ("  ab1  ", False),
        ("", False),
    ],
)
def test_ordinary_values_are_not_looked_for(value: str, *, distinctive: bool) -> None:
    assert is_distinctive(value) is distinctive
    _, originals = collector()
    originals.add_secret(value)

    assert bool(originals.found) is distinctive
    assert bool(originals.common) is (not distinctive and bool(value.strip()))


def test_originals_that_were_asked_for_are_released() -> None:
    _, originals = collector()
    originals.add_address("Boss@X.de", "u@staging.invalid")
    originals.add_secret("tok-4711-abc")

    originals.release("BOSS@x.de")

    assert list(originals.found) == [b"tok-4711-abc"]


def test_a_document_that_is_a_secret_is_known_by_its_parts() -> None:
    _, originals = collector()
    originals.add_secret('{"a": ["tok-4711-abc", 5], "b": {"c": "short"}, "tok-as-name": 1}')
    originals.add_secret('["passw0rd\\ud83d"]')
    originals.add_secret('{"not JSON 4711')

    assert b"tok-4711-abc" in originals.found
    assert "passw0rd\ud83d".encode("utf-8", "surrogatepass") in originals.found
    assert b'{"not JSON 4711' in originals.found
    assert originals.common == {"short"}


def test_short_names_and_single_ones_are_no_originals() -> None:
    _, originals = collector()
    originals.add_person(("Al", "Builder"), ("A", "B"))
    originals.add_person(("Builder",), ("B",))
    assert not originals.found

    originals.add_person(("Ann", "Lee"), ("A", "B"))
    assert originals.found == {b"Ann Lee": b"A B", b"Lee Ann": b"B A", b"Lee, Ann": b"B, A"}
