"""What marks a copy as one for staging: a table of the database, and a file."""

from ops.model import Finding, Severity

MARKER = b"STAGING.txt"
"""The file among the attachments that says what they are; no row names it."""

LABEL_TABLE = "ciso_ops_staging"
"""The table of the database that only such a copy has."""


def staging_source(where: str) -> Finding:
    """Return the warning about a source that is a copy for staging."""
    return Finding(
        kind="staging",
        severity=Severity.WARNING,
        where=where,
        expected="the data of production",
        found="a sanitised copy, made for staging",
    )
