"""Processes that keep an instance busy, as the application does and worse, and what they know.

As a program (`python -m tests.faults.busy DATABASE ATTACHMENTS LOG PREFIX RATE KIND`) it is one
such process: it commits until its standard input ends, notes every commit in its log, and prints
what it did. It alone changes the rows that carry its prefix, so its log is right about them.
"""

import hashlib
import json
import os
import random
import select
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ops.model import Instance
from tests.command import ROOT

_FOLDER = "0" * 32
_MOST_ROWS = 300
_TIMEOUT_SECONDS = 60

KINDS = {
    "mixed": {"insert": 5, "replace": 3, "delete": 2},
    "row-first": {"insert-row-first": 5, "replace": 2, "delete": 3},
    "in-place": {"insert": 2, "overwrite": 3, "rename-over": 3, "delete": 1},
    "in-place only": {"overwrite": 1},
}
"""What each kind of writer does, and how often."""


class Busy:
    """One process's rows, and the operations on them."""

    def __init__(self, database: Path, attachments: Path, log: Path, prefix: str) -> None:
        self.longest_wait = 0.0
        self.done = 0
        self._attachments = attachments
        self._log = log.open("a")
        self._prefix = prefix
        self._rows: dict[str, tuple[str, int]] = {}
        self._random = random.Random(prefix)  # noqa: S311 - made-up contents
        self._connection = sqlite3.connect(database, isolation_level=None, timeout=30)
        self._connection.execute("PRAGMA synchronous = NORMAL")

    def act(self, what: str) -> None:
        """Do one operation, in one transaction."""
        if not self._rows and "insert" not in what:
            what = "insert"
        elif len(self._rows) >= _MOST_ROWS and "insert" in what:
            what = "delete"
        getattr(self, "_" + what.replace("-", "_"))()
        self.done += 1

    def _insert(self, *, row_first: bool = False) -> None:
        key, name = uuid.uuid4().hex, self._new_name()
        content = self._content()
        if not row_first:
            (self._attachments / name).write_bytes(content)
        self._begin()
        self._connection.execute(
            "INSERT INTO core_evidence VALUES (?, datetime('now'), ?, ?)", (key, name, _FOLDER)
        )
        self._connection.execute(
            "INSERT INTO core_evidencerevision VALUES (?, datetime('now'), 1, ?, ?, ?)",
            (uuid.uuid4().hex, name, hashlib.sha256(content).hexdigest(), key),
        )
        self._commit("put", key, 1)
        if row_first:
            (self._attachments / name).write_bytes(content)
        self._rows[key] = (name, 1)

    def _insert_row_first(self) -> None:
        self._insert(row_first=True)

    def _replace(self) -> None:
        key, (old, version) = self._pick()
        name, content = self._new_name(), self._content()
        (self._attachments / name).write_bytes(content)
        self._begin()
        self._update(key, name, content, version + 1)
        (self._attachments / old).unlink()

    def _delete(self) -> None:
        key, (name, version) = self._pick()
        self._begin()
        self._connection.execute("DELETE FROM core_evidencerevision WHERE evidence_id = ?", (key,))
        self._connection.execute("DELETE FROM core_evidence WHERE id = ?", (key,))
        self._commit("delete", key, version)
        del self._rows[key]
        (self._attachments / name).unlink()

    def _overwrite(self) -> None:
        """Write over in place, in the transaction: file and row change at different moments."""
        key, (name, version) = self._pick()
        content = self._content()
        self._begin()
        (self._attachments / name).write_bytes(content)
        self._update(key, name, content, version + 1)

    def _rename_over(self) -> None:
        key, (name, version) = self._pick()
        content = self._content()
        draft = self._attachments / f".{name}.part"
        draft.write_bytes(content)
        self._begin()
        draft.rename(self._attachments / name)
        self._update(key, name, content, version + 1)

    def _pick(self) -> tuple[str, tuple[str, int]]:
        key = self._random.choice(list(self._rows))
        return key, self._rows[key]

    def _new_name(self) -> str:
        return f"{self._prefix}_{self._random.randrange(10**9)}.txt"

    def _content(self) -> bytes:
        return self._random.randbytes(self._random.randrange(200, 6000))

    def _begin(self) -> None:
        began = time.monotonic()
        self._connection.execute("BEGIN IMMEDIATE")
        self.longest_wait = max(self.longest_wait, time.monotonic() - began)

    def _update(self, key: str, name: str, content: bytes, version: int) -> None:
        self._connection.execute(
            "UPDATE core_evidencerevision SET attachment = ?, attachment_hash = ?, version = ?"
            " WHERE evidence_id = ?",
            (name, hashlib.sha256(content).hexdigest(), version, key),
        )
        self._commit("put", key, version)
        self._rows[key] = (name, version)

    def _commit(self, what: str, key: str, version: int) -> None:
        began = time.monotonic()
        self._connection.execute("COMMIT")
        ended = time.monotonic()
        self.longest_wait = max(self.longest_wait, ended - began)
        self._log.write(json.dumps([began, ended, what, key, version]) + "\n")
        self._log.flush()


def main(arguments: list[str]) -> None:
    """Be busy until standard input ends, then print what was done."""
    database, attachments, log, prefix, rate, kind = arguments
    busy = Busy(Path(database), Path(attachments), Path(log), prefix)
    chance = random.Random(prefix + kind)  # noqa: S311 - made-up choices
    weights = KINDS[kind]
    for _ in range(20):
        busy.act("insert")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        due = max(due + 1 / float(rate), time.monotonic() - 1)
        busy.act(chance.choices(list(weights), list(weights.values()))[0])
    sys.stdout.write(json.dumps([busy.done, busy.longest_wait]))


@dataclass
class Crowd:
    """The writers of an instance: their processes and logs."""

    processes: list["subprocess.Popen[str]"] = field(default_factory=list)
    logs: list[Path] = field(default_factory=list)
    done: int = 0
    longest_wait: float = 0.0

    def stop(self) -> None:
        """End the writers; each must have worked without an error."""
        while self.processes:
            process = self.processes.pop()
            out, err = process.communicate(timeout=_TIMEOUT_SECONDS)
            assert process.returncode == 0, err
            done, wait = json.loads(out)
            self.done += done
            self.longest_wait = max(self.longest_wait, wait)

    def must_hold(self, began: float, ended: float) -> dict[str, tuple[int, int]]:
        """List the rows that a clone made between two moments must have.

        Returns:
            For each, by its id, the lowest and the highest version that may be in it.
        """
        rows: dict[str, tuple[int, int]] = {}
        for log in self.logs:
            for line in log.read_text().splitlines():
                before, after, what, key, version = json.loads(line)
                if what == "delete" and before < ended:
                    rows.pop(key, None)
                elif what == "put" and after < began:
                    rows[key] = (version, version)
                elif what == "put" and before < ended and key in rows:
                    rows[key] = (rows[key][0], version)
        return rows


@contextmanager
def crowd(
    source: Instance, directory: Path, *, kind: str, rate: float, processes: int
) -> Iterator[Crowd]:
    """Keep an instance busy during a block, at a rate that the processes share."""
    busy = Crowd()
    try:
        for number in range(processes):
            log = directory / f"log-{kind.replace(' ', '-')}-{number}-{uuid.uuid4().hex}"
            log.touch()
            busy.logs.append(log)
            prefix = f"w{number}{uuid.uuid4().hex[:4]}"
            busy.processes.append(
                subprocess.Popen(
                    [
                        *(sys.executable, "-m", "tests.faults.busy"),
                        *(str(source.database), str(source.attachments), str(log), prefix),
                        *(str(rate / processes), kind),
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    cwd=ROOT,
                )
            )
        for process in busy.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield busy
    finally:
        for process in busy.processes:
            process.kill()
            process.communicate(timeout=_TIMEOUT_SECONDS)


def problems_of(copy: Instance, must: dict[str, tuple[int, int]]) -> list[str]:
    """Compare a clone with what the writers know, by our own reading."""
    uri = f"file:{copy.database}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        found = [] if found == ["ok"] else found
        rows = connection.execute(
            "SELECT evidence_id, version, attachment, attachment_hash FROM core_evidencerevision"
        ).fetchall()
    versions = {key: version for key, version, _, _ in rows}
    for key, (least, most) in must.items():
        if key not in versions:
            found.append(f"lost: {key}")
        elif not least <= versions[key] <= most:
            found.append(f"another instant: {key}: {versions[key]} not in {least} to {most}")
    present = set(os.listdir(copy.attachments))
    for key, _, name, digest in rows:
        if name not in present:
            found.append(f"without file: {key}: {name}")
        elif hashlib.sha256((copy.attachments / name).read_bytes()).hexdigest() != digest:
            found.append(f"another version's bytes: {key}: {name}")
    return found


if __name__ == "__main__":
    main(sys.argv[1:])
