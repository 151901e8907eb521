"""Columns without a rule that look as if they held secrets or personal data."""

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ops.model import Finding, Severity
from ops.names import display
from ops.rules import Scalar
from ops.sanitise.binding import Binding
from ops.sanitise.finder import Finder
from ops.sanitise.reading import Row, joined, read_lots
from ops.sanitise.schema import Column, Table
from ops.sanitise.sweep import Swept
from ops.sqlite.content import quote

_NAMES = re.compile(
    r"passw|passphrase|secret|token|api_?key|apikey|private_?key|credential|otp\b|(?:^|_)otp|totp"
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


class Looks:
    """What the contents of columns look like that no rule is for, and whose names tell nothing.

    Args:
        tables: The tables of the database.
        binding: The rules for it.
    """

    def __init__(self, tables: Mapping[str, Table], binding: Binding) -> None:
        partly = binding.partly()
        self.columns = {
            table.name: frozenset(
                column.name
                for column in _candidates(table, binding)
                if not _NAMES.search(column.name) and (table.name, column.name) not in partly
            )
            for table in tables.values()
        }
        self.found: dict[tuple[str, str], str] = {}
        self._signs = Finder(sign for _, some, _ in _LOOKS for sign in some)

    def take(self, table: str, names: Sequence[str], lot: Sequence[Row], whole: bytes) -> None:
        """Look at some rows.

        Args:
            table: Their table.
            names: The columns that come first in each row.
            lot: The rows.
            whole: All of these columns' text and blobs together.
        """
        wanted = self.columns[table]
        some = self._signs.found_in(whole) and bool(_look(whole))
        if not some and b"{" not in whole and b"[" not in whole:
            return
        for at, name in enumerate(names):
            if name not in wanted or (table, name) in self.found:
                continue
            for row in lot:
                value = row[at]
                if not isinstance(value, bytes):
                    continue
                if (some or value[:1] in {b"{", b"["}) and (look := _look(value)):
                    self.found[table, name] = look
                    break


def look_through(
    connection: sqlite3.Connection, tables: Mapping[str, Table], binding: Binding
) -> Looks:
    """Look into all columns of a database that no rule is for.

    Raises:
        sqlite3.Error: A table cannot be read.
    """
    looks = Looks(tables, binding)
    for table in tables.values():
        names = sorted(looks.columns[table.name])
        for lot in read_lots(connection, table, names) if names else ():
            looks.take(table.name, names, lot, joined(lot, len(names)))
    return looks


def _candidates(table: Table, binding: Binding) -> list[Column]:
    """List the columns with text for which there is no rule, or one for some rows only."""
    ruled = binding.ruled() - binding.partly()
    if (table.name, "*") in ruled or table.name in binding.emptied():
        return []
    referring = {column for key in table.foreign_keys for column in key.columns}
    return [
        column
        for column in table.columns
        if (table.name, column.name) not in ruled
        and column.name not in referring
        and column.holds_text
        and (not column.key or _NAMES.search(column.name))  # a token may be the key of its row
    ]


def suspects(
    connection: sqlite3.Connection,
    tables: Mapping[str, Table],
    binding: Binding,
    looks: Looks,
    swept: Iterable[Swept] = (),
) -> Iterator[Finding]:
    """Tell columns that look as if they needed a rule, by their names and by what is in them.

    Columns that are empty are no suspects, and keys of rows only by their names. A finding never
    quotes a value.

    Args:
        connection: To the database.
        tables: Its tables.
        binding: The rules.
        looks: What contents look like.
        swept: Where e-mail addresses were found that no rule knew of.

    Raises:
        sqlite3.Error: A table cannot be read.
    """
    partly, ruled = binding.partly(), binding.ruled()
    found = dict(looks.found)
    for table in tables.values():
        for column in _candidates(table, binding):
            place = (table.name, column.name)
            outside = binding.outside(*place)
            if _NAMES.search(column.name):
                if _has_any(connection, table, column, outside):
                    found[place] = "a name like that of a secret or of personal data"
            elif place in partly and (look := _look_outside(connection, table, column, outside)):
                found[place] = look
    for one in swept:
        place = (one.table, one.column)
        if one.strangers and (place not in ruled or place in partly):
            found[place] = f"e-mail addresses in {one.strangers:,} rows, replaced"
    for place in sorted(found):
        yield Finding(
            kind="no-rule",
            severity=Severity.WARNING,
            where=display(".".join(place)),
            expected="a rule in the profile",
            found=found[place],
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


def _look_outside(
    connection: sqlite3.Connection,
    table: Table,
    column: Column,
    outside: tuple[str, tuple[Scalar, ...]],
) -> str:
    """Return what a column looks like in the rows that no rule is for."""
    condition, values = outside
    name = quote(column.name)
    statement = f"SELECT CAST({name} AS BLOB) FROM {table.sql} WHERE {condition}"  # noqa: S608 - quoted
    rows = connection.execute(statement, values).fetchall()
    return next((look for (value,) in rows if value is not None and (look := _look(value))), "")


def _look(value: bytes) -> str:
    """Return what a value looks like, empty for nothing in particular."""
    if value[:1] in {b"{", b"["} and _MEMBER.search(value):
        return "a JSON document with a member named like a secret"
    for what, signs, pattern in _LOOKS:
        if any(sign in value for sign in signs) and pattern.search(value):
            return f"what looks like {what}"
    return ""
