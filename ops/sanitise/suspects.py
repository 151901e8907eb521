"""Columns without a rule that look as if they held secrets or personal data."""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping

from ops.model import Finding, Severity
from ops.names import display
from ops.rules import Scalar
from ops.sanitise.binding import Binding
from ops.sanitise.finder import Finder
from ops.sanitise.reading import joined, read_lots
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
        (b"pbkdf2_", b"argon2", b"bcrypt", b"scrypt$", b"$2a$", b"$2b$", b"$2y$"),
        re.compile(rb"(?:pbkdf2_sha\d+|argon2|bcrypt\w{0,10}|scrypt|\$2[aby])\$[\w$=,.]"),
    ),
    (
        "a JSON web token",
        (b"eyJ",),
        re.compile(rb"\beyJ[\w-]{8,4096}\.eyJ[\w-]{8,4096}\.[\w-]{8}"),
    ),
    (
        "an access token",
        (
            *(b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"glpat-", b"xox"),
            *(b"sk_live_", b"sk_test_", b"AKIA", b"AIza", b"whsec_", b"ATATT", b"npm_"),
        ),
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
    signs = Finder(sign for _, some, _ in _LOOKS for sign in some)
    for table in tables.values():
        if (table.name, "*") in ruled or table.name in emptied:
            continue
        referring = {column for key in table.foreign_keys for column in key.columns}
        found = {
            column.name: f"e-mail addresses in {strange[table.name, column.name]:,} rows, replaced"
            for column in table.columns
            if (table.name, column.name) in strange
        }
        candidates = [
            column
            for column in table.columns
            if not ((table.name, column.name) in ruled or column.name in {*referring, *found})
            and column.holds_text
            and not column.key
        ]
        named = [column for column in candidates if _NAMES.search(column.name)]
        for column in named:
            if _has_any(connection, table, column, binding.outside(table.name, column.name)):
                found[column.name] = "a name like that of a secret or of personal data"
        rest = [column for column in candidates if column not in named]
        found |= _by_content(connection, table, rest, binding, signs)
        for column in table.columns:
            if column.name in found and (table.name, column.name) not in ruled:
                yield Finding(
                    kind="no-rule",
                    severity=Severity.WARNING,
                    where=f"{display(table.name)}.{display(column.name)}",
                    expected="a rule in the profile",
                    found=found[column.name],
                )


def _has_any(
    connection: sqlite3.Connection,
    table: Table,
    column: Column,
    outside: tuple[str, tuple[Scalar, ...]],
) -> bool:
    """Tell whether a column holds anything, in rows that no rule is for."""
    name = quote(column.name)
    condition, values = outside
    condition += f" AND {name} IS NOT NULL AND {name} NOT IN ('', '{{}}', '[]')"
    statement = f"SELECT 1 FROM {table.sql} WHERE {condition} LIMIT 1"  # noqa: S608 - quoted
    return connection.execute(statement, values).fetchone() is not None


def _by_content(
    connection: sqlite3.Connection,
    table: Table,
    columns: list[Column],
    binding: Binding,
    signs: Finder,
) -> dict[str, str]:
    """Look into columns of a table; return what those look like that look like anything."""
    found: dict[str, str] = {}
    partly = binding.partly()
    for column in [column for column in columns if (table.name, column.name) in partly]:
        columns = [other for other in columns if other is not column]
        condition, values = binding.outside(table.name, column.name)
        name = quote(column.name)
        statement = f"SELECT CAST({name} AS BLOB) FROM {table.sql} WHERE {condition}"  # noqa: S608 - quoted
        for (value,) in connection.execute(statement, values).fetchall():
            if value is not None and column.name not in found and (look := _look(value)):
                found[column.name] = look
    names = [column.name for column in columns]
    for lot in read_lots(connection, table, names) if names else ():
        whole = joined(lot, len(names))
        some = signs.found_in(whole) and bool(_look(whole))
        for row in lot:
            for name, value in zip(names, row, strict=False):
                if not isinstance(value, bytes) or name in found:
                    continue
                if (some or value[:1] in {b"{", b"["}) and (look := _look(value)):
                    found[name] = look
    return found


def _look(value: bytes) -> str:
    """Return what a value looks like, empty for nothing in particular."""
    if value[:1] in {b"{", b"["} and _MEMBER.search(value):
        return "a JSON document with a member named like a secret"
    for what, signs, pattern in _LOOKS:
        if any(sign in value for sign in signs) and pattern.search(value):
            return f"what looks like {what}"
    return ""
