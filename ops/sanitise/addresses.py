"""E-mail addresses in bytes that are anything: text, JSON, HTML, a page of a database."""

import re
from collections.abc import Callable, Iterator

_LOCAL = re.compile(
    rb"[A-Za-z0-9_+\x80-\xff](?:[A-Za-z0-9._+\-\x80-\xff]{0,62}[A-Za-z0-9_+\-\x80-\xff])?\Z"
)
_LABEL = rb"[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\-\x80-\xff]{0,61}[A-Za-z0-9\x80-\xff])?"
_DOMAIN = re.compile(rb"(?:" + _LABEL + rb"\.)+(?:[A-Za-z\x80-\xff]{2,62}|xn--[A-Za-z0-9\-]{1,58})")
_RETINA = re.compile(rb"[0-9]x\.")
"""`logo@2x.png` is a picture."""

_WRITTEN = (b"@", b"%40", rb"\u0040", b"&#64;", b"&#x40;", b"&commat;")
"""The sign in text, URLs, JSON and HTML."""

_QUICK = (
    (b"@", (b"@",)),
    (b"%", (b"%40", b"%2540")),
    (b"\\", (b"u0040",)),
    (b"&", (b"#64;", b"#x40;", b"commat;")),
)
_SIGNS = re.compile(b"|".join(map(re.escape, _WRITTEN)))
_LONGEST_LOCAL = 64


def has_sign(data: bytes) -> bool:
    """Tell whether there may be an address, in whatever writing: this is quick."""
    return any(True for _ in find_signs(data))


def find_signs(data: bytes) -> Iterator[int]:
    """Find where there may be addresses: the same, one after the other."""
    for first, whole in _QUICK:
        if first not in data:
            continue
        for sign in whole:
            at = data.find(sign)
            while at >= 0:
                yield at
                at = data.find(sign, at + 1)


def find_addresses(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Find e-mail addresses, as RFC 5321 has them but for quoted ones, whatever stands for `@`.

    Yields:
        Start, end, and the address with an `@`.
    """
    end = 0
    for sign in _SIGNS.finditer(data):
        at = sign.start()
        local = _LOCAL.search(data, max(end, at - _LONGEST_LOCAL), at)
        domain = _DOMAIN.match(data, sign.end())
        if local is None or domain is None or _RETINA.match(data, sign.end()):
            continue
        end = domain.end()
        yield local.start(), end, local[0] + b"@" + domain[0]


def replace_addresses(data: bytes, pseudonym: Callable[[bytes], bytes | None]) -> bytes:
    """Put something else in place of each address for which there is something."""
    pieces: list[bytes] = []
    position = 0
    for start, end, address in find_addresses(data):
        new = pseudonym(address)
        if new is None:
            continue
        sign = _SIGNS.search(data, start, end)
        if sign is not None:
            new = new.replace(b"@", sign[0])
        pieces += (data[position:start], new)
        position = end
    return b"".join((*pieces, data[position:])) if pieces else data
