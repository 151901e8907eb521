"""Make a tree again of a payload and of the ledger that goes with it."""

import errno
import os
import stat
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from ops.errors import DestinationError, SourceError, os_failure
from ops.model import Entry, Kind
from ops.names import display
from ops.tree.blocks import Block, pack, unpack
from ops.tree.catalogue import Catalogue
from ops.tree.copying import WRITE_FLAGS, Copier
from ops.tree.directories import QUIET_FLAGS, Directories, join_path, split_path
from ops.tree.metadata import (
    ALL_KEPT,
    Kept,
    apply_metadata,
    entry_from_stat,
    remove_xattrs,
)
from ops.tree.records import (
    FLAGS,
    LINK,
    MODE,
    NAME,
    SIZE,
    Record,
    altered,
    entry_of,
    record_of,
)
from ops.tree.special import make_special
from ops.tree.stored import Payload
from ops.tree.walking import Walk, lots
from ops.tree.work import LARGE_BYTES, Job


class Restorer:
    """Makes entries as a ledger describes them, with the content that a payload has.

    Args:
        payload: The attachments of a snapshot.
        destination: The tree to make.
        advance: Called with the number of bytes after each piece read.
    """

    def __init__(
        self, payload: Payload, destination: Directories, *, advance: Callable[[int], None]
    ) -> None:
        self._payload = payload
        self._destination = destination
        self.copier = Copier(payload, destination, advance=advance)

    def restore(
        self, folders: Sequence[tuple[bytes, Sequence[bytes]]]
    ) -> list[tuple[bytes, list[Block]]]:
        """Make directories and what is in them, but for large files and second names.

        Args:
            folders: For each its path, and the packed records of what it holds.

        Returns:
            For each its path, and the records again, with what could be kept of them.

        Raises:
            SourceError: The payload cannot be read, or is damaged.
            DestinationError: The tree cannot be written.
        """
        return [self._restore(*folder) for folder in folders]

    def restore_large(self, path: bytes, record: Record) -> tuple[bytes, list[Record]]:
        """Make one large file, and return its record.

        Raises:
            OpsError: Payload or tree failed.
        """
        return path, [self._make(path, record)]

    def link(self, names: Sequence[tuple[bytes, bytes]]) -> None:
        """Make second names of files, each a pair of path and first name, once the first are there.

        Raises:
            DestinationError: The file system refuses.
        """
        for path, first in names:
            self.copier.link(Entry(path=path, kind=Kind.FILE), first)

    def _restore(self, path: bytes, packed: Sequence[bytes]) -> tuple[bytes, list[Block]]:
        if path:
            self.copier.make_directory(path)
        try:
            remove_xattrs(self._destination.open(path))  # nothing may be handed down
        except OSError as error:
            full = self._destination.full_path(path)
            raise os_failure(DestinationError, "set the metadata of", full, error) from error
        return path, [
            pack([self._make(path, record) if _is_here(record) else record for record in part])
            for part in map(unpack, packed)
        ]

    def _make(self, path: bytes, record: Record) -> Record:
        entry = entry_of(path, record)
        try:
            if entry.kind is Kind.FILE:
                kept = self._make_file(path, entry)
            else:
                kept = make_special(entry, record[NAME], self._destination.open(path))
        except OSError as error:
            full = self._destination.full_path(entry.path)
            raise os_failure(DestinationError, "write", full, error) from error
        return record if kept == ALL_KEPT else record_of(record[NAME], entry, kept)

    def _make_file(self, path: bytes, entry: Entry) -> Kept:
        _, name = split_path(entry.path)
        reader = self._open(path, name, entry)
        try:
            writer = os.open(name, WRITE_FLAGS, 0o600, dir_fd=self._destination.open(path))
            try:
                now = entry_from_stat(entry.path, os.fstat(reader))
                digest, _ = self.copier.transfer(now, reader, writer)
                if digest != entry.digest:
                    full = display(self._payload.full_path(entry.path))
                    raise SourceError(
                        f"the snapshot is damaged: this is not what was recorded: {full}",
                        hint="restore another snapshot; `inv snapshots` lists them",
                    )
                return apply_metadata(writer, entry)
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def _open(self, path: bytes, name: bytes, entry: Entry) -> int:
        full = self._payload.full_path(entry.path)
        try:
            reader = os.open(self._payload.leaf(name), QUIET_FLAGS, dir_fd=self._payload.open(path))
        except OSError as error:
            raise os_failure(SourceError, "read", full, error) from error
        if not stat.S_ISREG(os.fstat(reader).st_mode):
            os.close(reader)
            wrong = OSError(errno.EINVAL, "it is no file")
            raise os_failure(SourceError, "read", full, wrong) from None
        return reader


def _is_large(record: Record) -> bool:
    return stat.S_ISREG(record[MODE]) and record[SIZE] >= LARGE_BYTES


def _is_here(record: Record) -> bool:
    """Tell whether an entry is made together with its directory."""
    return not record[LINK] and not _is_large(record)


class Restoring(Walk):
    """The making of a tree in progress; `finish` of `ops.tree.finishing` comes after it.

    Args:
        entries: What the ledger says; what could not be kept is entered.
        advance: Called with the number of files after each piece of work.
    """

    def __init__(
        self, entries: Catalogue, advance: Callable[[int], None] = lambda _files: None
    ) -> None:
        super().__init__()
        self._entries = entries
        self._advance = advance
        self._links: list[tuple[bytes, bytes]] = []
        self._linked = False
        self._supplements: dict[bytes, list[Record]] = defaultdict(list)

    def folder_job(self, paths: list[bytes]) -> Job:
        """Return the job of making some directories."""
        return ("restore", [(path, self._entries.packed(path)) for path in paths])

    def accept(self, job: Job, reply: Any) -> None:
        """Enter what a job gave."""
        if job[0] == "restore":
            for path, blocks in reply:
                self._accept_folder(path, blocks)
        elif job[0] == "restore large":
            path, records = reply
            self._supplements[path] += records

    def settle(self) -> bool:
        """Go on with second names, once all first ones are there."""
        if self._links and not self._linked:
            self.jobs.extend(("restore links", lot) for lot in lots(self._links))
            self._linked = True
            return True
        self._enter_supplements()
        for path, first in self._links:
            record, made = self._entries.record(path), self._entries.record(first)
            if record is not None and made is not None and made[FLAGS]:
                changed = altered(record, {FLAGS: made[FLAGS]})
                self._supplements[split_path(path)[0]].append(changed)
        self._enter_supplements()
        return False

    def _enter_supplements(self) -> None:
        for path, records in self._supplements.items():
            self._entries.add(path, records)
        self._supplements.clear()

    def _accept_folder(self, path: bytes, blocks: list[Block]) -> None:
        self._entries.set_blocks(path, blocks)
        for _, packed, _ in blocks:
            for record in unpack(packed):
                if record[LINK]:
                    self._links.append((join_path(path, record[NAME]), record[LINK]))
                elif _is_large(record):
                    self.large.append((record[SIZE], ("restore large", path, record)))
        self._advance(sum(tally[1] for _, _, tally in blocks))
        below = self._entries.subdirectories(path)
        self.folders.extend(join_path(path, name) for name in below)
