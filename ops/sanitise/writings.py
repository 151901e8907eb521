"""Other ways in which bytes may be written: percent signs, backslashes, entities."""

import base64
import html
import json
import re
import string
import unicodedata
import urllib.parse
from collections.abc import Iterator
from typing import Literal

_SIGNS = (
    (b"%", re.compile(rb"%[0-9a-f]{2}")),
    (b"\\", re.compile(rb"\\(?:[\"\\/]|u[0-9a-f]{4})")),
    (b"&", re.compile(rb"&#?[a-z0-9]{2,8};")),
)
"""What such a writing cannot do without, found quickly, and what tells that it is one."""

_ESCAPES = re.compile(rb"((?:\\u[0-9a-f]{4})+)|\\([\"\\/])")
_NORMAL_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
_SHORTEST_PACKED = 12
_LONGEST_PACKED = 24
_HASH_FIELDS = 3
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_DEPTH = 2
"""JSON in JSON, or in a URL: what is written twice over is read twice over."""


def readings(data: bytes, reach: int) -> Iterator[bytes]:
    """Yield data, and what parts of it mean if they are written as in URLs, JSON or HTML.

    Args:
        data: Bytes in lower case.
        reach: How far around a sign of such a writing to look.
    """
    yield data
    level = set(_surroundings(data, reach))
    seen = set(level)
    for _ in range(_DEPTH):
        level = {new for one in level for new in _meanings(one)} - seen
        seen |= level
        yield from level


def _surroundings(data: bytes, reach: int) -> Iterator[bytes]:
    """Yield the parts of data around signs of another writing."""
    begin = end = -1
    for mark in sorted(_marks(data)):
        low, high = max(0, mark - reach), mark + reach
        if low > end:
            if end >= 0:
                yield data[begin:end]
            begin = low
        end = high
    if end >= 0:
        yield data[begin:end]


def _marks(data: bytes) -> Iterator[int]:
    for sign, pattern in _SIGNS:
        at = data.find(sign)
        while at >= 0:
            if pattern.match(data, at):
                yield at
            at = data.find(sign, at + 1)


def _meanings(data: bytes) -> Iterator[bytes]:
    if b"%" in data:
        yield urllib.parse.unquote_to_bytes(data).lower()
    if b"+" in data:
        yield urllib.parse.unquote_to_bytes(data.replace(b"+", b" ")).lower()
    if b"\\" in data:
        yield _ESCAPES.sub(_unescaped, data).lower()
    if b"&" in data:
        text = data.decode("utf-8", "surrogateescape")
        yield html.unescape(text).encode("utf-8", "surrogatepass").lower()


def _unescaped(match: "re.Match[bytes]") -> bytes:
    if match[2] is not None:
        return match[2]
    text: str = json.loads(b'"' + match[1] + b'"')
    return text.encode("utf-8", "surrogatepass")


def spellings(value: bytes) -> frozenset[bytes]:
    """Return a value with its letters in each case and normal form, if they are not all ASCII."""
    if value.isascii():
        return frozenset({value})
    text = value.decode("utf-8", "surrogateescape")
    cases = {text, text.lower(), text.upper(), text.title()}
    return frozenset(
        unicodedata.normalize(form, one).encode("utf-8", "surrogateescape")
        for form in _NORMAL_FORMS
        for one in cases
    ) | {value}


def packed(value: bytes) -> frozenset[bytes]:
    """Return how the middle of a secret looks in base64, wherever in a longer text it stands.

    Names, which have spaces, addresses, numbers and hashes of passwords are nothing that is
    written so.
    """
    if len(value) < _SHORTEST_PACKED or len(value.split()) != 1 or b"@" in value:
        return frozenset()
    if value.count(b"$") >= _HASH_FIELDS:
        return frozenset()
    if not any(letter in string.ascii_letters.encode() for letter in value):
        return frozenset()
    half = _LONGEST_PACKED // 2
    middle = value[max(0, len(value) // 2 - half) : len(value) // 2 + half]
    found: set[bytes] = set()
    for skipped in range(3):  # base64 takes three bytes at a time
        piece = middle[skipped:]
        written = base64.b64encode(piece[: len(piece) // 3 * 3])
        found |= {written, written.translate(_URL_SAFE)}
    return frozenset(found)


def forms(value: bytes) -> frozenset[bytes]:
    """Return the usual ways in which a value is written, in lower case."""
    found = {value}
    text = value.decode("utf-8", "surrogateescape")
    if not any("\udc80" <= letter <= "\udcff" for letter in text):
        once, plain = json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]
        found |= {once.encode(), plain.encode()}
        found |= {json.dumps(one, ensure_ascii=False)[1:-1].encode() for one in (once, plain)}
        found.add(once.replace("/", "\\/").encode())
        found.add(html.escape(text).encode())
        found.add(html.escape(text).replace("&#x27;", "&#39;").encode())
    found.add(urllib.parse.quote(value, safe="").encode())
    found.add(urllib.parse.quote(value).encode())
    found.add(urllib.parse.quote(value, safe="/@:").encode())
    found.add(urllib.parse.quote_plus(value).encode())
    return frozenset(form.lower() for form in found)
