"""Whether restic holds what a snapshot holds: every name, kind and size, added up."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from ops.bag import HISTORY, NEXT_HISTORY
from ops.errors import SourceError, os_failure

_GROWING = frozenset({f"/{HISTORY}", f"/{NEXT_HISTORY}"})
"""What may change while a snapshot is pushed."""

_DIGITS = 16


@dataclass(slots=True, kw_only=True)
class Tally:
    """Entries, files and bytes; `mark` depends on every name, kind and size, in any order."""

    entries: int = 0
    files: int = 0
    bytes: int = 0
    mark: int = 0

    def add(self, path: str, size: int | None) -> None:
        """Add an entry: a path from the snapshot's own root on, and a file's size, None for others.

        Two trees of a million names differ in one mark in 2^128.
        """
        if path in _GROWING:
            return
        self.entries += 1
        if size is not None:
            self.files += 1
            self.bytes += size
        spelled = f"{path}\0{size}".encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(spelled, digest_size=_DIGITS).digest()
        self.mark = (self.mark + int.from_bytes(digest)) % (1 << 8 * _DIGITS)


def tally_of(snapshot: Path) -> Tally:
    """Add up a snapshot where it lies.

    Raises:
        SourceError: It cannot be read.
    """
    tally = Tally()
    waiting = [(snapshot, "")]
    try:
        while waiting:
            directory, prefix = waiting.pop()
            with os.scandir(directory) as entries:
                for entry in entries:
                    path = f"{prefix}/{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        tally.add(path, None)
                        waiting.append((Path(entry.path), path))
                    else:
                        tally.add(path, entry.stat(follow_symlinks=False).st_size)
    except OSError as error:
        raise os_failure(SourceError, "read", error.filename or snapshot, error) from error
    return tally
