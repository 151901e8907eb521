"""The one account of a sanitised copy that can be used."""

import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ops.errors import missing_extra
from ops.rules import Admin
from ops.sanitise.schema import Table
from ops.sqlite.content import quote

_PASSWORD_BYTES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The row that becomes the administrator's: its key, the address it had, the new one."""

    key: tuple[Any, ...]
    old_email: str
    email: str


def has_accounts(tables: Mapping[str, Table], admin: Admin) -> bool:
    """Tell whether a database has the table of accounts, with the columns that it takes."""
    table = tables.get(admin.table)
    return table is not None and all(
        table.column(name) is not None for name in (admin.email, admin.password)
    )


def choose_account(
    connection: sqlite3.Connection, table: Table, admin: Admin, email: str
) -> Account | None:
    """Choose who becomes the administrator; None where there is nobody.

    Whoever has the address already, or else the first of the administrators, or of all users.

    Raises:
        sqlite3.Error: The table cannot be read.
    """
    order = f"{quote(admin.email)} = ? COLLATE NOCASE DESC"
    for column, direction in ((admin.first, "DESC"), (admin.order, "ASC")):
        if table.column(column) is not None:
            order += f", {quote(column)} {direction}"
    row = connection.execute(
        f"SELECT {quote(admin.email)}, {', '.join(table.row_key)} FROM {table.sql}"  # noqa: S608 - quoted
        f" ORDER BY {order} LIMIT 1",
        (email,),
    ).fetchone()
    if row is None:
        return None
    return Account(key=tuple(row[1:]), old_email=str(row[0]), email=email)


def open_account(
    connection: sqlite3.Connection, table: Table, admin: Admin, account: Account, encoded: str
) -> None:
    """Give a row the administrator's address, password hash and values.

    Raises:
        sqlite3.Error: The row cannot be changed.
    """
    values = {admin.email: account.email, admin.password: encoded, **dict(admin.values)}
    present = {name: value for name, value in values.items() if table.column(name) is not None}
    changes = ", ".join(f"{quote(name)} = ?" for name in present)
    connection.execute(
        f"UPDATE {table.sql} SET {changes} WHERE {table.row_condition}",  # noqa: S608 - quoted
        (*present.values(), *account.key),
    )


def new_password() -> str:
    """Make a password of 120 bits."""
    return secrets.token_urlsafe(_PASSWORD_BYTES)


def hash_password(password: str) -> str:
    """Hash a password as the application does, with Django's own Argon2 hasher.

    Raises:
        UsageError: Django is not installed here.
    """
    try:
        import argon2  # noqa: F401 - Django finds it when it hashes
        from django.conf import settings  # type: ignore[import-untyped]
        from django.contrib.auth.hashers import (  # type: ignore[import-untyped]
            Argon2PasswordHasher,
        )
    except ImportError as error:
        raise missing_extra(
            "the staging refresh takes Django and argon2-cffi", "staging"
        ) from error
    if not settings.configured:
        settings.configure()
    hasher = Argon2PasswordHasher()
    return str(hasher.encode(password, hasher.salt()))
