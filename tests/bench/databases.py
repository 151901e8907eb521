"""Databases as the application's: its tables, one row for each file of a tree, and much text."""

import random
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ops.demo_instance import build_instance, connect
from tests.bench.trees import GIB, MIB, Tree, digests_of, in_units

_FOLDER = "0" * 32  # as `build_instance` makes it
_TEXT = 700
"""Bytes, in hex, of a long text."""
_BATCH = 5000
_UNFINISHED = 500
"""Rows that are still in the write-ahead log while the database is being copied."""

_ROWS = """
CREATE TABLE core_requirementassessment (
    id char(32) NOT NULL PRIMARY KEY,
    created_at datetime NOT NULL,
    status varchar(100) NOT NULL,
    observation text NULL,
    folder_id char(32) NOT NULL REFERENCES iam_folder (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX core_requirementassessment_folder_id ON core_requirementassessment (folder_id);
"""
_INSERT = "INSERT INTO core_requirementassessment VALUES (?, datetime('now'), 'done', ?, ?)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """A database to make: at least of a size, with the rows that name a tree's files."""

    name: str
    size: int
    tree: Tree

    def scaled(self, scale: float) -> "Database":
        """Return a smaller or larger one, for the tree on the same scale."""
        return replace(self, size=round(self.size * scale), tree=self.tree.scaled(scale))

    @property
    def title(self) -> str:
        """What the database is, in a few words."""
        return f"database of {in_units(self.size)} in WAL mode"


def large_for(tree: Tree) -> Database:
    """Describe the large database, for a tree."""
    return Database(name="large", size=GIB, tree=tree)


def usual_for(tree: Tree) -> Database:
    """Describe a database of usual size, for a tree."""
    return Database(name="usual", size=50 * MIB, tree=tree)


def make_database(root: Path, database: Database) -> Path:
    """Make a database below a directory, unless it was made there before, and return its path.

    Raises:
        OSError: It cannot be written.
        sqlite3.Error: It cannot be written.
    """
    home = root / f"{database.name}-database"
    if home.exists():
        return next(home.rglob("*.sqlite3"))
    home.mkdir()
    path = build_instance(home, evidences=0).database
    chance = random.Random(database.name)  # noqa: S311 - made-up contents
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Nobody misses this database if the power fails, so it is made without any journal.
        for setting in ("journal_mode = DELETE", "journal_mode = OFF", "synchronous = OFF"):
            connection.execute(f"PRAGMA {setting}").fetchall()
        connection.execute("PRAGMA cache_size = -262144")
        connection.executescript(_ROWS)
        connection.execute("BEGIN")
        _insert_evidences(connection, database.tree, chance)
        while _size(connection) < database.size:
            _insert_rows(connection, _BATCH, chance)
        connection.execute("COMMIT")
    connect(path).close()  # which turns it to WAL
    return path


@contextmanager
def served(path: Path) -> Iterator[None]:
    """Keep a database open as the application does, with rows in its write-ahead log."""
    with closing(connect(path)) as connection:
        # It grows each time, and the ids must be new ones.
        chance = random.Random(_size(connection))  # noqa: S311 - made-up contents
        connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall()
        connection.execute("BEGIN IMMEDIATE")
        _insert_rows(connection, _UNFINISHED, chance)
        connection.execute("COMMIT")
        yield


def _size(connection: sqlite3.Connection) -> int:
    pages: int = connection.execute("PRAGMA page_count").fetchone()[0]
    page_bytes: int = connection.execute("PRAGMA page_size").fetchone()[0]
    return pages * page_bytes


def _insert_rows(connection: sqlite3.Connection, number: int, chance: random.Random) -> None:
    rows = ((_id(chance), chance.randbytes(_TEXT).hex(), _FOLDER) for _ in range(number))
    connection.executemany(_INSERT, rows)


def _insert_evidences(connection: sqlite3.Connection, tree: Tree, chance: random.Random) -> None:
    """Insert an evidence with one revision for each file of a tree."""
    for path, digest in digests_of(tree):
        evidence = _id(chance)
        connection.execute(
            "INSERT INTO core_evidence VALUES (?, datetime('now'), ?, ?)",
            (evidence, path, _FOLDER),
        )
        connection.execute(
            "INSERT INTO core_evidencerevision VALUES (?, datetime('now'), 1, ?, ?, ?)",
            (_id(chance), path, digest, evidence),
        )


def _id(chance: random.Random) -> str:
    return uuid.UUID(int=chance.getrandbits(128), version=4).hex
