"""File names, which are bytes in disguise: how they are shown and written down."""

import base64
import os
import unicodedata
from typing import TypeAlias

_SHORT = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

AnyPath: TypeAlias = str | bytes | os.PathLike[str]


def display(path: AnyPath) -> str:
    """Show a path on one line, whatever bytes it holds.

    Control characters, line breaks, invisible formatting characters and bytes that are not
    UTF-8 appear as backslash escapes, so that a file name can neither forge a line of output
    nor drive the terminal.
    """
    text = os.fsdecode(path)
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 - surrogateescape's range (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    if character in _SHORT:
        return _SHORT[character]
    if character == " " or unicodedata.category(character)[0] not in "CZ":
        return character
    # \xNN is a byte that is no text; a character says so by its longer form.
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004 - the last of four digits


def encode_name(path: bytes) -> dict[str, str]:
    """Write a path into JSON without losing a byte.

    Returns:
        `{"path": …}` where the bytes are UTF-8, `{"path_base64": …}` (RFC 4648) otherwise.
    """
    try:
        return {"path": path.decode("utf-8")}
    except UnicodeDecodeError:
        return {"path_base64": base64.b64encode(path).decode("ascii")}


def decode_name(fields: dict[str, object]) -> bytes:
    """Read back what `encode_name` wrote.

    Raises:
        ValueError: Neither field is there, or it is not a string of the right form.
    """
    path, encoded = fields.get("path"), fields.get("path_base64")
    if isinstance(path, str):
        return path.encode("utf-8")
    if isinstance(encoded, str):
        return base64.b64decode(encoded, validate=True)
    raise ValueError("an entry has neither path nor path_base64")
