"""Instances that the real application wrote."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.command import run
from tests.conftest import extract_sample
from tests.filesystem import footprint, read


@pytest.mark.parametrize(
    ("name", "evidences", "revisions", "files", "referenced", "right"),
    [("sample", 57, 59, 58, 56, 51), ("sample-live", 62, 64, 63, 61, 56)],
)
def test_clone_and_verify_through_variables_alone(  # noqa: PLR0917 - the figures of a sample
    tmp_path: Path,
    name: str,
    evidences: int,
    revisions: int,
    files: int,
    referenced: int,
    right: int,
) -> None:
    source = extract_sample(name, tmp_path / "source")
    facts: dict[str, Any] = json.loads((source / "facts.json").read_text())
    before = footprint(source, ctime=False)
    database, attachments = tmp_path / "clone" / "db.sqlite3", tmp_path / "clone" / "attachments"
    destination = ("--dest-db", database, "--dest-attachments", attachments)
    environment = {
        "SQLITE_FILE": str(source / "ciso-assistant.sqlite3"),
        "LOCAL_STORAGE_DIRECTORY": str(source / "attachments"),
    }
    manifest = tmp_path / "manifest"
    cloned = run("clone", "--force", "--manifest", manifest, *destination, environment=environment)
    assert cloned.code == 0, cloned.err
    assert footprint(source, ctime=False) == before
    assert read(attachments) == read(source / "attachments")
    assert len(os.listdir(attachments)) == files
    assert counts(database, "core_evidence", "core_evidencerevision") == [evidences, revisions]
    tables = facts["row_counts"]
    assert counts(database, *tables) == list(tables.values())
    for more in (
        (),
        ("--manifest", manifest),
        (
            "--source-db",
            environment["SQLITE_FILE"],
            "--source-attachments",
            environment["LOCAL_STORAGE_DIRECTORY"],
        ),
    ):
        verified = run("verify", "--json", *destination, *more)
        assert verified.code == 0, verified.err
        document = verified.document
        assert document["checks"]["referenced"] == referenced
        assert document["checks"]["digests_right"] == right
        assert document["checks"]["orphans"] == 2
        assert (document["errors"], document["warnings"], document["notes"]) == (0, 5, 2)
    assert footprint(source, ctime=False) == before


def counts(database: Path, *tables: str) -> list[int]:
    """Count rows with SQLite itself."""
    import sqlite3

    connection = sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)
    try:
        return [
            connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in tables
        ]
    finally:
        connection.close()
