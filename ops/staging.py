"""What marks a copy as one for staging: a table of the database, and a file."""

import sqlite3

from ops.model import Finding, Severity
from ops.sqlite.content import list_tables

MARKER = b"STAGING.txt"
"""The file among the attachments that says what they are; no row names it."""

LABEL_TABLE = "ciso_ops_staging"
"""The table of the database that only such a copy has."""


def is_staging(connection: sqlite3.Connection) -> bool:
    """Tell whether a database is a copy for staging.

    Raises:
        sqlite3.Error: The schema cannot be read.
    """
    return LABEL_TABLE in list_tables(connection)


def staging_source(where: str) -> Finding:
    """Return the warning about a source that is a copy for staging."""
    return Finding(
        kind="staging",
        severity=Severity.WARNING,
        where=where,
        expected="the data of production",
        found="a sanitised copy, made for staging",
    )
