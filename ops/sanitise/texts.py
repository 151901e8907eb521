"""Files that say one text and are text themselves, all in UTF-8."""

import csv
import io
import json
import re
import string
from base64 import encodebytes
from email.header import Header
from html import escape

_FORMULA = tuple("=+-@")
_DATE = "Tue, 01 Jan 1980 00:00:00 +0000"


def txt(text: str) -> bytes:
    """Return a text as a line."""
    return f"{text}\n".encode()


def md(text: str) -> bytes:
    """Return a text as Markdown, in which its punctuation means nothing (CommonMark 2.4)."""
    return txt(re.sub(f"([{re.escape(string.punctuation)}])", r"\\\1", text))


def html(text: str) -> bytes:
    """Return a text as a page with a title (HTML Living Standard)."""
    said = escape(text)
    head = f'<html lang="en">\n<meta charset="utf-8">\n<title>{said}</title>'
    return txt(f"<!doctype html>\n{head}\n<p>{said}</p>\n</html>")


def xml(text: str) -> bytes:
    """Return a text as a document of one element (W3C XML 1.0)."""
    declaration = '<?xml version="1.0" encoding="UTF-8"?>'
    return txt(f"{declaration}\n<placeholder>{escape(text)}</placeholder>")


def svg(text: str) -> bytes:
    """Return a text as a drawing of one line, with a title (W3C SVG 1.1)."""
    said = escape(text)
    opening = '<svg xmlns="http://www.w3.org/2000/svg" width="640" height="64">'
    line = f'<text x="16" y="40" font-family="sans-serif" font-size="14">{said}</text>'
    return txt(f"{opening}\n<title>{said}</title>\n{line}\n</svg>")


def json_object(text: str) -> bytes:
    """Return a text as an object on one line (RFC 8259), which is a line of JSON Lines as well."""
    return txt(json.dumps({"placeholder": text}, ensure_ascii=False))


def yaml(text: str) -> bytes:
    """Return a text as a mapping; the string is JSON, and so it is YAML 1.2 (7.3.1)."""
    return txt(f"placeholder: {json.dumps(text, ensure_ascii=False)}")


def toml(text: str) -> bytes:
    """Return a text as a key and a basic string, whose escapes JSON shares (TOML 1.0)."""
    return txt(f"placeholder = {json.dumps(text, ensure_ascii=False)}")


def csv_table(text: str) -> bytes:
    """Return a text as a column of one value (RFC 4180)."""
    return _table(text, ",")


def tsv_table(text: str) -> bytes:
    """Return a text as a column of one value, for a separator of tabs."""
    return _table(text, "\t")


def eml(text: str) -> bytes:
    """Return a text as a message with a subject (RFC 5322, RFC 2047), of a fixed date."""
    headers = {
        "From": "placeholder@example.invalid",
        "To": "placeholder@example.invalid",
        "Date": _DATE,
        "Subject": Header(text, "utf-8", header_name="Subject").encode(linesep="\r\n"),
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Transfer-Encoding": "base64",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    body = encodebytes(txt(text)).replace(b"\n", b"\r\n")
    return head.encode("ascii") + b"\r\n" + body


def _table(text: str, separator: str) -> bytes:
    """Return a header and a value; what a spreadsheet would calculate is quoted for it."""
    value = f"'{text}" if text.startswith(_FORMULA) else text
    lines = io.StringIO()
    csv.writer(lines, delimiter=separator).writerows([["placeholder"], [value]])
    return lines.getvalue().encode()
