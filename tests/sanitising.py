"""Databases to be made harmless, profiles for them, and ways to look at what came out."""

import sqlite3
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.model import Finding, Progress
from ops.profile import Profile, Reference
from ops.rules import Sanitising, parse_sanitising
from ops.sanitise.files import Attachments
from ops.sanitise.originals import Originals
from ops.sanitise.private import private_database
from ops.sanitise.pseudonyms import Pseudonyms
from ops.sanitise.transform import Sanitised, sanitise_database, search_database, write_afresh

KEY = bytes(range(32))
ADMIN = "admin@staging.invalid"
PASSWORD = "correct horse battery staple"  # noqa: S105 - of a test
MADE = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def silent(_: Progress) -> None:
    """Tell nobody of progress."""


def make_database(path: Path, script: str, *, before: str = "") -> Path:
    """Make a database by a script; `before` has the pragmas that only a new file takes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(before)
        connection.executescript(f"BEGIN; {script}; COMMIT")
    return path


def rows(path: Path, statement: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
    """Ask a database."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement, tuple(values)).fetchall()


def one(path: Path, statement: str) -> Any:
    """Ask a database for a single value."""
    ((value,),) = rows(path, statement)
    return value


def dump(path: Path) -> str:
    """Return all that SQLite's own shell tells of a database."""
    done = subprocess.run(
        ["sqlite3", "-readonly", str(path), ".dump"],  # noqa: S607 - wherever it is
        check=True,
        capture_output=True,
    )
    return done.stdout.decode("utf-8", "replace")


def complaints(path: Path) -> list[tuple[Any, ...]]:
    """Return what SQLite finds wrong with a database."""
    integrity = [row for row in rows(path, "PRAGMA integrity_check") if row != ("ok",)]
    return integrity + rows(path, "PRAGMA foreign_key_check")


def sanitising(*rules: Mapping[str, Any], **more: Mapping[str, Any]) -> Sanitising:
    """Return what a profile says that has these rules, and an `admin` or `label`."""
    return parse_sanitising({"rules": [dict(rule) for rule in rules], **more})


def profile(
    *rules: Mapping[str, Any], references: tuple[Reference, ...] = (), **more: Mapping[str, Any]
) -> Profile:
    """Return a profile with these rules."""
    return Profile(
        name="test", title="Test", references=references, sanitising=sanitising(*rules, **more)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A copy, what was done for it, and what the search found in it."""

    path: Path
    sanitised: Sanitised
    left: tuple[Finding, ...]

    @property
    def raw(self) -> bytes:
        """All bytes of the file."""
        return self.path.read_bytes()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Ask the copy."""
        return rows(self.path, statement)

    def one(self, statement: str) -> Any:
        """Ask the copy for a single value."""
        return one(self.path, statement)

    def suspects(self) -> dict[str, str]:
        """Return the columns that ask for a rule, and why."""
        return {
            found.where: found.found for found in self.sanitised.findings if found.kind == "no-rule"
        }


def sanitise_in_place(
    path: Path,
    rules: Profile,
    *,
    key: bytes = KEY,
    email: str = ADMIN,
    attachments: Attachments = Attachments.PLACEHOLDER,
) -> Sanitised:
    """Apply the rules to a database."""
    return sanitise_database(
        path,
        rules,
        key=key,
        admin_email=email,
        password=PASSWORD,
        attachments=attachments,
        made=MADE,
        tool="0",
        progress=silent,
    )


def make_harmless(
    path: Path, rules: Profile, *, key: bytes = KEY, email: str = ADMIN, wal: bool = False
) -> Made:
    """Do to a database what a refresh does: apply rules, write it afresh, search the copy."""
    sanitised = sanitise_in_place(path, rules, key=key, email=email)
    copy = path.with_name("copy.sqlite3")
    write_afresh(path, copy, wal=wal)
    left = search_database(copy, sanitised.originals.found)
    return Made(path=copy, sanitised=sanitised, left=left)


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database as the rules see it."""
    with private_database(path) as connection:
        yield connection


def collector() -> tuple[Pseudonyms, Originals]:
    """Return what makes pseudonyms, and what collects originals."""
    pseudonyms = Pseudonyms(KEY)
    return pseudonyms, Originals(pseudonyms.mark)
