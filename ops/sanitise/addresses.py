"""E-mail addresses in bytes that are anything: text, JSON, HTML, a page of a database."""

import re
import urllib.parse
from collections.abc import Iterator

_ESCAPED = (
    rb"\\{1,8}u(?:00[c-fC-F]|0[1-7][0-9a-fA-F])[0-9a-fA-F]"
    rb"|%(?:[cC][3-9a-fA-F]|[dD][0-9a-fA-F])%[89abAB][0-9a-fA-F]"
)
_LETTER = rb"[\xc3-\xdf][\x80-\xbf]|" + _ESCAPED
"""One of Latin, Greek, Cyrillic or another alphabet, in UTF-8 or as JSON and URLs write it.

Other scripts need no space before an address, so they are taken only where there is no ASCII.
"""
_NOT_INSIDE_ESCAPE = (
    rb"(?!(?<=\\)(?:[bfnrt]|u[0-9a-fA-F]{4}))"
    + b"".join(rb"(?!(?<=\\u" + b"[0-9a-fA-F]" * n + rb")[0-9a-fA-F])" for n in range(4))
    + b"".join(
        rb"(?!(?<=%s)[0-9a-fA-F]{2})(?!(?<=%s[0-9a-fA-F])[0-9a-fA-F])" % (sign, sign)
        for sign in (b"%", b"%25")
    )
)
"""An address after a line break in JSON does not begin with the `n` of `\n`."""

_LOCAL = re.compile(
    _NOT_INSIDE_ESCAPE
    + rb"(?:[A-Za-z0-9_+]|%2[Bb]|"
    + _LETTER
    + rb")(?:[A-Za-z0-9._+\-]|%2[Bb]|"
    + _LETTER
    + rb"){0,63}(?<!\.)\Z"
)
_LOOSE_LOCAL = re.compile(
    rb"[A-Za-z0-9_+\xc0-\xff](?:[A-Za-z0-9._+\-\x80-\xff]{0,62}[A-Za-z0-9_+\-\x80-\xff])?\Z"
)
_INNER = rb"[A-Za-z0-9\x80-\xff]|" + _ESCAPED
_LABEL = rb"(?:%s)(?:(?:-|%s){0,61}(?:%s))?" % (_INNER, _INNER, _INNER)
_DOMAIN = re.compile(
    rb"(?:"
    + _LABEL
    + rb"\.)+(?:xn--[A-Za-z0-9\-]{1,58}|(?:[A-Za-z]|"
    + _LETTER
    + rb"){2,62}|(?:[\xe0-\xf4][\x80-\xbf]{2,3}){1,20})"
)
_RETINA = re.compile(rb"[0-9]x\.(?:png|jpe?g|gif|webp|svg|avif)(?![0-9a-z.-])", re.IGNORECASE)
"""`logo@2x.png` is a picture; `2x.de` may be a domain."""

_SIGNS = re.compile(rb"@|%(?:25)*40|\\{1,8}u0040|&#64;|&#x40;|&commat;")
"""The sign in text, URLs, JSON and HTML, also when JSON is in JSON."""

_QUICK = (
    (b"@", (b"@",)),
    (b"%", (b"%40", b"2540")),
    (b"\\", (b"u0040",)),
    (b"&", (b"#64;", b"#x40;", b"commat;")),
)
"""What a sign cannot do without, found quickly: bytes, and what is looked for where they are."""

_LONGEST_LOCAL = 64
_LONGEST_ESCAPED = 6 * _LONGEST_LOCAL
_UNICODE = re.compile(rb"\\{1,8}u([0-9a-fA-F]{4})")


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
        domain = _DOMAIN.match(data, sign.end())
        if domain is None or _RETINA.match(data, sign.end()):
            continue
        at = sign.start()
        local = _local_before(data, max(end, at - _LONGEST_ESCAPED), at)
        if local is None:
            continue
        end = domain.end()
        yield local.start(), end, _meaning(local[0]) + b"@" + _meaning(domain[0])


def _local_before(data: bytes, low: int, at: int) -> "re.Match[bytes] | None":
    """Match the part before the sign, which is longer in bytes only where something is escaped."""
    if not any(sign in data[low:at] for sign in (b"\\", b"%")):
        low = max(low, at - _LONGEST_LOCAL)
    return _LOCAL.search(data, low, at) or _LOOSE_LOCAL.search(data, low, at)


def _meaning(part: bytes) -> bytes:
    if b"%" in part:
        part = urllib.parse.unquote_to_bytes(part)
    if b"\\" in part:
        part = _UNICODE.sub(lambda match: chr(int(match[1], 16)).encode(), part)
    return part


def written_alike(old: bytes, new: bytes) -> bytes:
    """Return an address with the sign as another one has it."""
    sign = _SIGNS.search(old)
    return new if sign is None else new.replace(b"@", sign[0])
