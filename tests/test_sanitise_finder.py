"""Values are found in whatever way they are written, and replaced where they stand."""

import base64
import html
import json
import unicodedata
import urllib.parse
from collections.abc import Callable
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.sanitise.finder import Finder

_VALUE = "p<w>&\"'\\/=é€ ~%"

_WRITINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "upper case": lambda text: "".join(one.upper() if one.isascii() else one for one in text),
    "JSON": json.dumps,
    "JSON in UTF-8": lambda text: json.dumps(text, ensure_ascii=False),
    "JSON with \\/": lambda text: json.dumps(text).replace("/", "\\/"),
    "JSON with <": lambda text: json.dumps(text).replace("<", "\\u003c").replace("&", "\\u0026"),
    "JSON in JSON": lambda text: json.dumps({"in": json.dumps({"m": text})}),
    "HTML": html.escape,
    "HTML with &#39;": lambda text: html.escape(text).replace("&#x27;", "&#39;"),
    "HTML in numbers": lambda text: "".join(f"&#{ord(one)};" for one in text),
    "URL": urllib.parse.quote,
    "URL, all of it": lambda text: urllib.parse.quote(text, safe=""),
    "URL with +": urllib.parse.quote_plus,
    "URL in lower case": lambda text: urllib.parse.quote(text, safe="").lower(),
    "URL in URL": lambda text: urllib.parse.quote(urllib.parse.quote(text, safe=""), safe=""),
    "JSON in URL": lambda text: urllib.parse.quote(json.dumps({"m": text}), safe=""),
    "URL in JSON": lambda text: json.dumps({"m": "?q=" + urllib.parse.quote_plus(text)}),
    "HTML in JSON": lambda text: json.dumps({"m": f"<p>{html.escape(text)}</p>"}),
}

_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
values = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=6, max_size=30)


@pytest.mark.parametrize("written", _WRITINGS.values(), ids=_WRITINGS)
def test_a_value_is_found_however_it_is_written(written: Callable[[str], str]) -> None:
    data = f"before {written(_VALUE)} behind".encode()

    assert Finder([b"other-1", _VALUE.encode()]).found_in(data)
    assert not Finder([b"other-1", _VALUE.encode() + b"!"]).found_in(data)


@given(value=values, name=st.sampled_from(sorted(_WRITINGS)))
def test_any_value_is_found_however_it_is_written(value: str, name: str) -> None:
    finder = Finder([value.encode()])

    assert finder.found_in(f"x {_WRITINGS[name](value)} y".encode())


@given(
    value=values,
    name=st.sampled_from(["as it is", "upper case", "JSON", "JSON in UTF-8", "HTML", "URL"]),
)
def test_a_value_in_a_usual_writing_is_found_where_it_is(value: str, name: str) -> None:
    written = _WRITINGS[name](value)
    if name.startswith("JSON"):
        written = written[1:-1]
    data = b"\x01" + written.encode() + b"\x01"

    assert (1, len(data) - 1, value.encode()) in set(Finder([value.encode()]).find(data))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_read_on_request(encoding: str) -> None:
    data = "xx Token-ÄB-77 yy".encode(encoding)

    assert Finder([b"token-\xc3\x84b-77"], wide=True).found_in(data)
    assert not Finder([b"token-\xc3\x84b-77"]).found_in(data)


def test_bytes_that_are_no_utf8_are_found() -> None:
    assert Finder([b"\xff\x80secret"]).found_in(b"..\xff\x80SECRET..")
    assert Finder([b"\xff\x80secret"], wide=True).found_in(b"..\xff\x80secret..")


def test_half_a_letter_from_json_is_found() -> None:
    value = "passw0rd\ud83d".encode("utf-8", "surrogatepass")

    assert Finder([value]).found_in(rb'{"k": "passw0rd\ud83d"}')


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize("spelled", [str.lower, str.upper, str.title])
def test_other_forms_of_letters_are_equal(
    form: Literal["NFC", "NFD"], spelled: Callable[[str], str]
) -> None:
    text = unicodedata.normalize(form, spelled("jürgen ångström"))

    assert Finder(["Jürgen Ångström".encode()]).found_in(text.encode())


@pytest.mark.parametrize("before", ["", "u", "us", "user:", "user-name:"])
@pytest.mark.parametrize("code", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("behind", ["", "\n", "=="])
def test_base64_of_a_secret_is_found(
    before: str, code: Callable[[bytes], bytes], behind: str
) -> None:
    value = "s3cret?>~ÿ-0123456789"
    data = b"Authorization: Basic " + code(f"{before}{value}{behind}".encode()) + b"\r\n"

    assert Finder([value.encode()]).found_in(data)
    assert not Finder([value.replace("-", "_").encode()]).found_in(data)


def test_the_middle_of_a_long_secret_is_enough() -> None:
    secret = b"-----BEGIN-PRIVATE-KEY-----" + base64.b64encode(bytes(range(60)))
    others = b"-----BEGIN-PRIVATE-KEY-----" + base64.b64encode(bytes(range(60, 120)))

    assert Finder([secret]).found_in(base64.b64encode(b"x" + secret))
    assert not Finder([secret]).found_in(base64.b64encode(b"x" + others))


@pytest.mark.parametrize(
    "value",
    ["short-12345", "Marlene Dietrich", "bob.smith@x.de", "123456789012", "pbkdf2_sha256$1$s$h="],
)
def test_what_is_no_secret_is_not_looked_for_in_base64(value: str) -> None:
    assert not Finder([value.encode()]).found_in(base64.b64encode(value.encode() * 3))


def test_the_longest_of_several_is_found_where_they_begin() -> None:
    finder = Finder([b"bob@x.de", b"bob@x.de.example.org", b"x.de.example.org"])

    assert list(finder.find(b"to bob@x.de.example.org, Bob@X.de")) == [
        (3, 23, b"bob@x.de.example.org"),
        (25, 33, b"bob@x.de"),
    ]


@pytest.mark.parametrize(
    "value", [b"ab" * 100_000, b'{"k":' * 20_000, " \u00e9".encode() * 50_000, bytes(200_000)]
)
def test_a_long_value_is_found_by_its_middle(value: bytes) -> None:
    finder = Finder([value])

    assert finder.found_in(b"x" + value)
    assert finder.found_in(value[10_000:-10_000])
    assert not finder.found_in(value[:1000])
    assert list(finder.find(b"x" + value + b"y")) == [(1, len(value) + 1, value)]
    assert list(finder.find(value[10:-10])) == []


def test_nothing_is_found_by_a_finder_of_nothing() -> None:
    finder = Finder([b""])

    assert not finder
    assert not finder.found_in(b"anything")
    assert list(finder.find(b"anything")) == []
    assert Finder([b"a"])


@pytest.mark.parametrize(
    "piece", [b"%", b"%25", b"\\", b"\\\\u0040", b"&", b"&amp;", b"+", b"a+b", b"&#38;", b"%41%"]
)
def test_many_signs_of_other_writings_take_few_passes(piece: bytes) -> None:
    data = piece * (500_000 // len(piece))

    assert not Finder([b"never-there-1"]).found_in(data)
