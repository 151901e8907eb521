"""Names: shown on one line whatever they hold, and written down without losing a byte."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.names import decode_name, display, encode_name
from tests.strategies import names

any_bytes = st.one_of(names, st.binary(max_size=40))


@given(any_bytes)
@example(b"a\nb")
@example("\u202egpj.exe".encode())
@example(b"\x1b[2J")
def test_a_name_is_shown_on_one_line_and_cannot_drive_the_terminal(name: bytes) -> None:
    shown = display(name)
    assert shown.isprintable()
    assert shown.encode().decode() == shown  # no half character that UTF-8 could not write


@given(st.text(max_size=20))
def test_any_text_is_shown_even_when_it_is_no_file_name(text: str) -> None:
    assert display(text.replace("\0", "")).isprintable()


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P"], exclude_characters="\\")))
def test_a_plain_name_is_shown_as_it_is(text: str) -> None:
    assert display(text) == text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"a b.txt", "a b.txt"),
        ("réunion.pdf".encode(), "réunion.pdf"),
        (b"line\nbreak", "line\\nbreak"),
        (b"tab\t", "tab\\t"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"back\\slash", "back\\\\slash"),
        ("\u202ertl".encode(), "\\u202ertl"),
        ("\u2028".encode(), "\\u2028"),
        ("\U000e0001".encode(), "\\U000e0001"),
        ("\ud800", "\\ud800"),
        (b"", ""),
    ],
)
def test_what_could_deceive_is_shown_as_an_escape(name: bytes | str, shown: str) -> None:
    assert display(name) == shown


@given(any_bytes.filter(lambda name: b"\0" not in name))
def test_a_name_is_shown_the_same_as_bytes_as_text_and_as_a_path(name: bytes) -> None:
    text = os.fsdecode(name)
    assert display(name) == display(text)
    assert display(Path("x") / text) == display(os.fsencode(Path("x") / text))


@given(any_bytes)
def test_a_name_survives_json(name: bytes) -> None:
    fields = json.loads(json.dumps(encode_name(name)))
    assert decode_name(fields) == name


@given(any_bytes)
def test_only_a_name_that_is_not_utf_8_is_written_in_base_64(name: bytes) -> None:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        assert set(encode_name(name)) == {"path_base64"}
    else:
        assert encode_name(name) == {"path": text}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"path": None},
        {"path": 3},
        {"path": ["a"]},
        {"path": "\ud800"},
        {"path_base64": 3},
        {"path_base64": "*"},
        {"path_base64": "YQ"},
        {"path_base64": "é"},
        {"name": "a"},
    ],
)
def test_a_name_written_otherwise_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_name(fields)
