"""Write down a catalogue: the ledger of a snapshot, and the lines of its manifest."""

import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from ops.model import Entry, Kind
from ops.tree.blocks import unpack
from ops.tree.catalogue import Catalogue
from ops.tree.directories import join_path
from ops.tree.ledger import encode_folder
from ops.tree.records import DIGEST, FLAGS, LINK, MODE, NAME, SHARED, SIZE, TARGET, Record
from ops.tree.stored import stored_name, stored_path
from ops.tree.work import Job

_LOT_RECORDS = 500

Described: TypeAlias = tuple[
    bytes, bytes, tuple[int, int, int, int, int], list[tuple[bytes, bytes]]
]
"""Lines of the ledger, lines of the manifest, and of the files: how many, their bytes, those that
are shared and their bytes, and all bytes by name; then paths and targets of symbolic links. Names
of one file count each, its bytes once, but for the last."""


def describe(prefix: bytes, folders: Sequence[tuple[bytes, Record, Sequence[bytes]]]) -> Described:
    """Turn the records of directories into lines: the work of one worker.

    Args:
        prefix: What precedes every path in the manifest.
        folders: For each its path, its record and the packed records of its files.
    """
    ledger: list[bytes] = []
    manifest: list[bytes] = []
    links: list[tuple[bytes, bytes]] = []
    files = size = shared = shared_size = named = 0
    for path, own, packed in folders:
        records = [record for part in packed for record in unpack(part)]
        ledger.append(encode_folder(path, own, records))
        where = prefix + (stored_path(path) + b"/" if path else b"")
        for record in records:
            if stat.S_ISLNK(record[MODE]):
                links.append((join_path(path, record[NAME]), record[TARGET]))
            if not stat.S_ISREG(record[MODE]):
                continue
            name = stored_name(record[NAME])
            manifest.append(b"%s  %s%s\n" % (record[DIGEST].hex().encode(), where, name))
            files += 1
            named += record[SIZE]
            own_size = 0 if record[LINK] else record[SIZE]
            size += own_size
            if record[FLAGS] & SHARED:
                shared += 1
                shared_size += own_size
    return (
        b"".join(ledger),
        b"".join(manifest),
        (files, size, shared, shared_size, named),
        links,
    )


class Describe:
    """The description of a catalogue in progress: its pieces come in the order of the walk.

    Args:
        entries: The catalogue.
        prefix: What precedes every path in the manifest.
        write: Takes the lines of ledger and manifest, piece by piece.
    """

    def __init__(
        self, entries: Catalogue, prefix: bytes, write: Callable[[bytes, bytes], None]
    ) -> None:
        self.files = self.bytes = self.shared_files = self.shared_bytes = self.named_bytes = 0
        self.links: list[Entry] = []
        self._jobs = _jobs(entries, prefix)
        self._write = write
        self._waiting: deque[Job] = deque()
        self._come: dict[int, Described] = {}

    def next_job(self, *, large: bool = True) -> Job | None:  # noqa: ARG002 - none is large
        """Return a job that can be done now."""
        job = next(self._jobs, None)
        if job is not None:
            self._waiting.append(job)
        return job

    def accept(self, job: Job, reply: Any) -> None:
        """Write what a job gave, once all before it has been written."""
        self._come[id(job)] = reply
        while self._waiting and id(self._waiting[0]) in self._come:
            ledger, manifest, totals, links = self._come.pop(id(self._waiting.popleft()))
            self._write(ledger, manifest)
            self.links += [
                Entry(path=path, kind=Kind.SYMLINK, target=target) for path, target in links
            ]
            self.files += totals[0]
            self.bytes += totals[1]
            self.shared_files += totals[2]
            self.shared_bytes += totals[3]
            self.named_bytes += totals[4]

    def settle(self) -> bool:
        """Tell that there is no more."""
        return False


def _jobs(entries: Catalogue, prefix: bytes) -> Iterator[Job]:
    lot: list[tuple[bytes, Record, list[bytes]]] = []
    count = 0
    for path, own, packed, records in entries.in_order():
        lot.append((path, own, packed))
        count += 1 + records
        if count >= _LOT_RECORDS:
            yield ("describe", prefix, lot)
            lot, count = [], 0
    if lot:
        yield ("describe", prefix, lot)
