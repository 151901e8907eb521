"""Old and new pairs for hostile places: how to tell them apart, exactly."""

import os
import sqlite3
from pathlib import Path

from ops.model import Instance
from ops.spaces import PREFIX
from tests.filesystem import read


def state(path: Path) -> dict[bytes, tuple[object, ...]]:
    """Read a file or a tree: names, bytes, modes, owners, mtimes."""
    return read(path) if path.is_dir() else _file_state(path)


def _file_state(path: Path) -> dict[bytes, tuple[object, ...]]:
    seen = path.stat()
    return {b"": (path.read_bytes(), seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns)}


def pair_state(pair: Instance) -> tuple[dict[bytes, tuple[object, ...]], ...]:
    """Read both halves of a pair; it has no WAL."""
    assert not pair.database.with_name(pair.database.name + "-wal").exists()
    return state(pair.database), state(pair.attachments)


def rows(database: Path) -> list[tuple[object, ...]]:
    """Read what the rows say, without a lock and without sidecars."""
    name = b"".join(b"%%%02x" % byte for byte in os.fsencode(database)).decode()
    connection = sqlite3.connect(f"file:{name}?immutable=1", uri=True)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return connection.execute("SELECT * FROM core_evidencerevision ORDER BY id").fetchall()
    finally:
        connection.close()


def is_copy(
    pair: Instance, source: Instance, expected: list[tuple[object, ...]] | None = None
) -> bool:
    """Tell whether a pair is exactly its source; `expected` are its rows if it has a WAL."""
    return rows(pair.database) == (expected or rows(source.database)) and (
        read(pair.attachments) == read(source.attachments)
    )


def left_over(*directories: Path) -> list[str]:
    """List everything private at any depth that a path reaches."""
    return [
        os.path.join(parent, name)
        for directory in directories
        for parent, below, files in os.walk(directory)
        for name in (*below, *files)
        if name.startswith((PREFIX, PREFIX[1:]))
    ]
