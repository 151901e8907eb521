"""E-mail addresses are found in whatever surrounds them, and nothing else is."""

import json
import re
import urllib.parse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.sanitise.addresses import find_addresses, has_sign, written_alike

_WORD = st.text("abcdefgxyzABCXYZ0123456789", min_size=1, max_size=12)
_LOCAL = st.lists(_WORD, min_size=1, max_size=3).map(".".join)
_TLD = st.sampled_from(["de", "com", "museum", "xn--p1ai"])
_DOMAIN = st.builds(
    lambda labels, tld: ".".join((*labels, tld)), st.lists(_WORD, min_size=1, max_size=3), _TLD
)
addresses = st.builds(lambda local, domain: f"{local}@{domain}", _LOCAL, _DOMAIN)

# What may stand before and behind an address without being part of it.
_BEFORE = [
    "",
    " ",
    "<",
    "mailto:",
    "(",
    '"',
    "\n",
    "\t",
    "“",
    "\u00a0",
    "联系",
    "=",
    "|",
    "\0",
    ">",
]
_BEHIND = ["", " ", ">", ",", ")", '"', "\n", "”", "\u00a0", "或", "?subject=x", "|", "\0", ". "]

# Independent of the code: ASCII addresses alone, for generated text that has no others.
_PLAIN = re.compile(r"[A-Za-z0-9.]+@(?:[A-Za-z0-9]+\.)+(?:xn--[a-z0-9]+|[A-Za-z]+)(?![A-Za-z0-9@])")


def found(text: str | bytes) -> list[str]:
    """Return the addresses in a text."""
    data = text if isinstance(text, bytes) else text.encode()
    return [address.decode("utf-8", "surrogateescape") for *_, address in find_addresses(data)]


@given(
    address=addresses,
    before=st.sampled_from(_BEFORE),
    behind=st.sampled_from(_BEHIND),
)
def test_an_address_is_found_as_it_is(address: str, before: str, behind: str) -> None:
    text = f"{before}{address}{behind}"

    assert found(text) == [address]
    assert found(text) == _PLAIN.findall(text)
    ((start, end, _),) = find_addresses(text.encode())
    assert text.encode()[start:end].decode() == address


@given(
    address=addresses,
    before=st.sampled_from(_BEFORE),
    behind=st.sampled_from(_BEHIND),
    ascii_only=st.booleans(),
    depth=st.integers(1, 3),
)
@example(address="a@b.de", before="\n", behind="", ascii_only=True, depth=1)
@example(address="n@b.de", before="\t", behind="\n", ascii_only=True, depth=2)
def test_json_does_not_hide_or_change_an_address(
    *, address: str, before: str, behind: str, ascii_only: bool, depth: int
) -> None:
    text = f"{before}{address}{behind}"
    for _ in range(depth):
        text = json.dumps({"m": text}, ensure_ascii=ascii_only)

    assert found(text) == [address]


@given(address=addresses, before=st.sampled_from(_BEFORE), behind=st.sampled_from(_BEHIND))
def test_a_url_does_not_hide_or_change_an_address(address: str, before: str, behind: str) -> None:
    once = urllib.parse.quote(f"{before}{address}{behind}", safe="")
    twice = urllib.parse.quote(once, safe="")

    assert found(f"https://x/?m%3D{once}") == [address]
    assert found(f"https://x/?next=%252F{twice}") == [address]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("andré.müller@firma.köln", "andré.müller@firma.köln"),
        ("andre\u0301@x.de", "andre\u0301@x.de"),
        ("пётр@пример.рф", "пётр@пример.рф"),
        ("用户@例子.中国", "用户@例子.中国"),
        (r"ren\u00e9@m\u00fcller.de", "rené@müller.de"),
        (r"ren\\u00e9\\u0040m\\u00fcller.de", "rené@müller.de"),
        ("ren%C3%A9%40m%c3%bcller.de", "rené@müller.de"),
        ("bob%2Btag%40x.de", "bob+tag@x.de"),
        ("bob+tag@x.de", "bob+tag@x.de"),
        (r"\u003cbob@x.de\u003e", "bob@x.de"),
        ("bob&#64;x.de", "bob@x.de"),
        ("bob&#x40;x.de", "bob@x.de"),
        ("bob&commat;x.de", "bob@x.de"),
        ("100%bob@x.de", "bob@x.de"),
        ("a-b_c@sub-domain.example.org", "a-b_c@sub-domain.example.org"),
        ("<b>bob@x.de</b>", "bob@x.de"),
        ("bob@2x.de", "bob@2x.de"),
        ("bob@2x.png.example.org", "bob@2x.png.example.org"),
        ("x" * 64 + "@x.de", "x" * 64 + "@x.de"),
    ],
)
def test_other_letters_and_writings_are_read(text: str, expected: str) -> None:
    assert found(text) == [expected]
    assert has_sign(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "logo@2x.png",
        "icon@3x.webp, next",
        "Icon@2X.JPG",
        "bob@localhost",
        "@mention of somebody",
        "5 pieces @ 3.50",
        "a@b.c",
        "bob@-x.de",
        "bob.@x.de",
        "@x.de",
        "user@host",
        "x@1.2.3.4",
        "",
        "%40",
        "git@",
    ],
)
def test_what_is_no_address_is_left(text: str) -> None:
    assert found(text) == []


def test_bytes_that_are_no_utf8_do_not_hide_an_address() -> None:
    assert found(b"\xff\xfe bob@x.de\x80\x81") == ["bob@x.de"]
    assert found(b"andr\xe9@x.de") == ["andr\udce9@x.de"]


def test_an_address_begins_and_ends_with_whole_letters() -> None:
    text = "é" * 200 + "@x.de"

    ((start, end, _),) = find_addresses(text.encode())

    text.encode()[:start].decode()
    assert text.encode()[start:end].decode() == "é" * 32 + "@x.de"


@given(st.binary(max_size=200).map(lambda data: data.replace(b"\0", b"@")))
def test_spans_are_in_order_and_inside(data: bytes) -> None:
    position = 0
    for start, end, address in find_addresses(data):
        assert position <= start < end <= len(data)
        assert b"@" in address
        position = end
        assert has_sign(data)


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        ("a@x.de", "u@y.z"),
        ("a%40x.de", "u%40y.z"),
        ("a%2540x.de", "u%2540y.z"),
        (r"a\\u0040x.de", r"u\\u0040y.z"),
        ("a&#64;x.de", "u&#64;y.z"),
        ("no sign", "u@y.z"),
    ],
)
def test_what_stands_for_an_address_is_written_alike(old: str, expected: str) -> None:
    assert written_alike(old.encode(), b"u@y.z") == expected.encode()


# Each would take hours with a pattern that tries again for every byte.
@pytest.mark.parametrize(
    "data",
    [
        b"a" * 4_000_000 + b"@",
        b"@" * 1_000_000,
        b"a@" * 1_000_000,
        b"@" + b"a." * 2_000_000,
        b"a@" + b"1." * 1_000_000,
        b"a@" + (b"1" * 63 + b".") * 30_000 + b"1",
        b"\\" * 4_000_000,
        b"%25" * 1_000_000 + b"40",
        b"%40" * 1_000_000,
        b"@" + b"a-" * 1_000_000,
        b"@" + "é".encode() * 1_000_000,
        b"@" + b"\\u00e9" * 300_000,
    ],
    ids=lambda data: f"{data[:12]!r}",
)
def test_long_pieces_of_nothing_take_one_pass(data: bytes) -> None:
    assert list(find_addresses(data)) == []
