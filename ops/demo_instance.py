"""A small instance of our own, with the application's real names."""

import hashlib
import random
import sqlite3
import uuid
from pathlib import Path

from ops.model import Instance

_SCHEMA = """
CREATE TABLE django_migrations (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    app varchar(255) NOT NULL,
    name varchar(255) NOT NULL,
    applied datetime NOT NULL
);
CREATE TABLE iam_folder (
    id char(32) NOT NULL PRIMARY KEY,
    name varchar(200) NOT NULL,
    parent_folder_id char(32) NULL REFERENCES iam_folder (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE iam_user (
    id char(32) NOT NULL PRIMARY KEY,
    email varchar(100) NOT NULL UNIQUE,
    is_active bool NOT NULL
);
CREATE TABLE core_evidence (
    id char(32) NOT NULL PRIMARY KEY,
    created_at datetime NOT NULL,
    name varchar(200) NOT NULL,
    folder_id char(32) NOT NULL REFERENCES iam_folder (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX core_evidence_folder_id ON core_evidence (folder_id);
CREATE TABLE core_evidencerevision (
    id char(32) NOT NULL PRIMARY KEY,
    created_at datetime NOT NULL,
    version integer NOT NULL,
    attachment varchar(100) NULL,
    attachment_hash varchar(64) NULL,
    evidence_id char(32) NOT NULL REFERENCES core_evidence (id) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX core_evidencerevision_evidence_id ON core_evidencerevision (evidence_id);
"""


_FOLDER = "0" * 32


_NAMES = (
    "Résumé d'audit été.pdf",
    "名前 with spaces.xlsx",
    "-rf.txt",
    ".hidden.txt",
    "no_extension",
    "حساب.txt",
)
"""Names that the real application has been seen to store."""


def connect(database: Path) -> sqlite3.Connection:
    """Open a database as the application does: WAL, and transactions that begin IMMEDIATE.

    Raises:
        sqlite3.Error: It cannot be opened.
    """
    connection = sqlite3.connect(database, isolation_level=None, timeout=120)
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def build_instance(directory: Path, *, evidences: int, seed: int = 0) -> Instance:
    """Make an instance with the application's usual layout below a directory.

    Args:
        directory: Where `db/` is created.
        evidences: How many to store, one file each.
        seed: Of the random contents.

    Raises:
        OSError: It cannot be written.
    """
    instance = Instance(
        database=directory / "db" / "ciso-assistant.sqlite3",
        attachments=directory / "db" / "attachments",
    )
    instance.attachments.mkdir(parents=True)
    source = random.Random(seed)  # noqa: S311 - made-up contents
    connection = connect(instance.database)
    connection.executescript(_SCHEMA)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "INSERT INTO django_migrations (app, name, applied) VALUES ('core', '0001_initial', '')"
    )
    connection.execute("INSERT INTO iam_folder VALUES (?, 'Global', NULL)", (_FOLDER,))
    connection.execute("INSERT INTO iam_user VALUES (?, 'admin@example.org', 1)", (_FOLDER,))
    for number in range(evidences):
        name = _NAMES[number] if number < len(_NAMES) else f"policy_{number}.pdf"
        insert_evidence(connection, instance.attachments, name, source.randbytes(20_000))
    connection.execute("COMMIT")
    connection.close()
    return instance


def insert_evidence(
    connection: sqlite3.Connection, attachments: Path, name: str, content: bytes
) -> str:
    """Store an evidence as the application does: the file first, then its rows.

    Returns:
        The id of the evidence.
    """
    (attachments / name).write_bytes(content)
    evidence, revision = uuid.uuid4().hex, uuid.uuid4().hex
    connection.execute(
        "INSERT INTO core_evidence VALUES (?, datetime('now'), ?, ?)", (evidence, name, _FOLDER)
    )
    connection.execute(
        "INSERT INTO core_evidencerevision VALUES (?, datetime('now'), 1, ?, ?, ?)",
        (revision, name, hashlib.sha256(content).hexdigest(), evidence),
    )
    return evidence


def evidence_ids(database: Path) -> frozenset[str]:
    """List the evidences committed by now."""
    connection = connect(database)
    try:
        return frozenset(id_ for (id_,) in connection.execute("SELECT id FROM core_evidence"))
    finally:
        connection.close()
