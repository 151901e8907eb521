"""Columns without a rule that look as if they held secrets or personal data."""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from ops.model import Finding, Severity
from ops.names import display
from ops.rules import Scalar
from ops.sanitise.binding import Binding
from ops.sanitise.private import raw_text
from ops.sanitise.schema import Column, Table
from ops.sanitise.sweep import Swept
from ops.sqlite.content import quote

_NAMES = re.compile(
    r"passw|passphrase|secret|token|api_?key|apikey|private_?key|credential|otp\b|_otp|totp"
    r"|(?:^|_)key$|e_?mail|phone|mobile|telephone|fax|first_?name|last_?name|full_?name|surname"
    r"|given_?name|family_?name|birth|(?:^|_)ssn|iban|passport|(?:^|_)ip(?:_|$)|ip_?addr"
    r"|remote_?addr|street|postal|zip_?code|signature|cookie|session_?(?:key|data|id)|webhook",
    re.IGNORECASE,
)
"""What such columns are called; what a name does not tell, the content does."""

_LOOKS = (
    ("a private key", (b"-----BEGIN ",), re.compile(rb"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----")),
    (
        "a password hash",
        (b"pbkdf2_", b"argon2", b"bcrypt", b"scrypt", b"$2"),
        re.compile(rb"(?:pbkdf2_sha\d+|argon2|bcrypt\w{0,10}|scrypt|\$2[aby])\$[\w$=,.]"),
    ),
    (
        "a JSON web token",
        (b"eyJ",),
        re.compile(rb"\beyJ[\w-]{8,4096}\.eyJ[\w-]{8,4096}\.[\w-]{8}"),
    ),
    (
        "an access token",
        (*(b"gh", b"glpat-", b"xox", b"sk_", b"AKIA", b"AIza", b"whsec_"), b"ATATT", b"npm_"),
        re.compile(
            rb"\b(?:gh[pousr]_\w{20}|github_pat_\w{20}|glpat-[\w-]{16}|xox[abprs]-[\w-]{10}"
            rb"|sk_(?:live|test)_\w{10}|AKIA[0-9A-Z]{16}|AIza[\w-]{30}|whsec_\w{10}"
            rb"|ATATT[\w-]{16}|npm_\w{30})"
        ),
    ),
    (
        "a URL with a password",
        (b"://",),
        re.compile(rb"://[^\s/:@\"']{1,200}:[^\s/@\"']{1,200}@"),
    ),
)
"""What values look like: words for it, bytes that it holds in any case, and how it is written."""

_MEMBER = re.compile(
    rb'"[^"]*(?:secret|token|passw|api_?key|private_?key|credential)[^"]*"\s*:\s*"[^"]',
    re.IGNORECASE,
)
"""A member of a JSON document that is named so, and is not empty."""

_MOST_ROWS = 200_000


def suspects(
    connection: sqlite3.Connection,
    tables: Mapping[str, Table],
    binding: Binding,
    swept: Iterable[Swept] = (),
) -> Iterator[Finding]:
    """Find columns that no rule is for, by their names and by what is in them.

    Tables that a rule is for as a whole, columns that are empty, and those of keys of rows are
    no suspects. A finding never quotes a value.

    Args:
        connection: To the database.
        tables: Its tables.
        binding: The rules.
        swept: Where e-mail addresses were found that no rule knew of.

    Raises:
        sqlite3.Error: A table cannot be read.
    """
    ruled = binding.ruled() - binding.partly()
    emptied = binding.emptied()
    strange = {(one.table, one.column): one.strangers for one in swept if one.strangers}
    for table in tables.values():
        if (table.name, "*") in ruled or table.name in emptied:
            continue
        referring = {column for key in table.foreign_keys for column in key.columns}
        for column in table.columns:
            place = (table.name, column.name)
            if place in ruled or column.name in referring:
                continue
            found = ""
            if place in strange:
                found = f"e-mail addresses in {strange[place]:,} rows, replaced"
            elif column.holds_text and not column.key:
                found = _suspicion(connection, table, column, binding.outside(*place))
            if found:
                yield Finding(
                    kind="no-rule",
                    severity=Severity.WARNING,
                    where=f"{display(table.name)}.{display(column.name)}",
                    expected="a rule in the profile",
                    found=found,
                )


def _suspicion(
    connection: sqlite3.Connection,
    table: Table,
    column: Column,
    outside: tuple[str, tuple[Scalar, ...]],
) -> str:
    """Return what a column looks like by the rows that no rule is for; empty for nothing."""
    name = quote(column.name)
    condition, values = outside
    condition += f" AND {name} IS NOT NULL AND {name} NOT IN ('', '{{}}', '[]')"
    statement = f"SELECT {name} FROM {table.sql} WHERE {condition} LIMIT ?"  # noqa: S608 - quoted
    if _NAMES.search(column.name):
        if connection.execute(statement, (*values, 1)).fetchone() is not None:
            return "a name like that of a secret or of personal data"
        return ""
    with raw_text(connection):
        for (value,) in connection.execute(statement, (*values, _MOST_ROWS)):
            if not isinstance(value, bytes):
                continue
            if value[:1] in {b"{", b"["} and _MEMBER.search(value):
                return "a JSON document with a member named like a secret"
            for what, signs, pattern in _LOOKS:
                if any(sign in value for sign in signs) and pattern.search(value):
                    return f"what looks like {what}"
    return ""
