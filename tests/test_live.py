"""Clone an instance while the application writes to it."""

import hashlib
import sqlite3
from pathlib import Path

import pytest

from ops.demo_instance import build_instance, evidence_ids
from ops.demo_writer import writer
from ops.model import Instance, Severity
from tests.pipeline import check, clone

_LONGEST_WAIT_SECONDS = 0.5


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("deletes", [False, True], ids=["inserts", "mixed"])
def test_ten_of_ten_clones_are_whole(tmp_path: Path, jobs: int, *, deletes: bool) -> None:
    source = build_instance(tmp_path / "production", evidences=500)
    with writer(source, rate=50, deletes=deletes) as busy:
        for number in range(10):
            place = tmp_path / f"clone{number}"
            copy = Instance(database=place / "db.sqlite3", attachments=place / "attachments")
            before = evidence_ids(source.database)
            outcome = clone(source, copy, jobs=jobs)
            after = evidence_ids(source.database)
            assert [f for f in outcome.findings if f.severity is not Severity.NOTE] == []
            assert [
                f for f in check(copy, jobs=jobs).findings if f.severity is not Severity.NOTE
            ] == []
            # Committed before the start and never deleted: the clone must have it.
            assert (before & after) - ids(copy) == set()
            assert files_are_the_rows(copy)
        writing = busy.stop()
    assert writing.inserted > 0
    assert writing.longest_wait_seconds < _LONGEST_WAIT_SECONDS


def ids(copy: Instance) -> set[str]:
    """List the evidences of a clone without touching it."""
    return {str(row[0]) for row in query(copy, "SELECT id FROM core_evidence")}


def files_are_the_rows(copy: Instance) -> bool:
    """Compare each row's file with the digest that the row recorded, by our own reading."""
    rows = query(copy, "SELECT attachment, attachment_hash FROM core_evidencerevision")
    return bool(rows) and all(
        hashlib.sha256((copy.attachments / str(name)).read_bytes()).hexdigest() == digest
        for name, digest in rows
    )


def query(copy: Instance, question: str) -> list[tuple[object, ...]]:
    """Ask a database that nobody uses."""
    connection = sqlite3.connect(f"file:{copy.database}?mode=ro&immutable=1", uri=True)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()
