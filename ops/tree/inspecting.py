"""Compare the directories of a payload with what its ledger says: the work of one worker."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from typing import TypeAlias

from ops.errors import DestinationError, OpsError, os_failure
from ops.tree.blocks import unpack
from ops.tree.directories import QUIET_FLAGS, join_path
from ops.tree.listing import list_directory
from ops.tree.records import DIGEST, FLAGS, MODE, NAME, SHARED, SIZE, Record
from ops.tree.stored import Payload, stored_name
from ops.tree.transfer import forget_pages, new_buffer

Wrong: TypeAlias = tuple[str, bytes, str, str]
"""The kind of a finding, the path in the source, what was expected and what was found."""

Inspected: TypeAlias = tuple[list[Wrong], int, int, int]
"""What is wrong; files that are there, those that were read, and the bytes read."""

Sample: TypeAlias = tuple[int, int]
"""Which files are read: those of a part, and how many parts there are. A file belongs to one part
for ever, so that as many checks in turn, each of the next part, read them all."""

EVERYTHING: Sample = (0, 1)


def is_sampled(path: bytes, sample: Sample) -> bool:
    """Tell whether a file belongs to a part."""
    part, parts = sample
    return parts == 1 or int.from_bytes(hashlib.sha256(path).digest()[:8]) % parts == part


DAMAGE = frozenset(
    {
        *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO),
        *(errno.EIO, errno.EBADMSG, getattr(errno, "EUCLEAN", errno.EIO)),
    }
)
"""What reading answers when the disk, or somebody, has changed what was there. All else, such as
missing rights, says nothing of the payload."""

_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Inspector:
    """Looks at the directories of a payload: the work of one worker.

    Args:
        payload: The payload.
        from_disk: Have the kernel forget a file's pages before it is read.
        advance: Called with the number of bytes after each piece read.
    """

    def __init__(
        self, payload: Payload, *, from_disk: bool, advance: Callable[[int], None]
    ) -> None:
        self._payload = payload
        self._from_disk = from_disk
        self._advance = advance
        self._buffer = new_buffer()

    def inspect(
        self,
        folders: Sequence[tuple[bytes, Sequence[bytes], Sequence[bytes]]],
        sample: Sample | None,
        trust_shared: bool,
    ) -> list[Inspected]:
        """Compare directories with what they should hold.

        Args:
            folders: For each its path, the names of its directories, and the packed records of
                its files.
            sample: Which files are read; None for none.
            trust_shared: Only see that what is shared with an earlier snapshot is there.

        Raises:
            DestinationError: The payload cannot be read.
        """
        return [self._inspect(*folder, sample, trust_shared) for folder in folders]

    def _inspect(
        self,
        path: bytes,
        directories: Sequence[bytes],
        packed: Sequence[bytes],
        sample: Sample | None,
        trust_shared: bool,
    ) -> Inspected:
        wrong: list[Wrong] = []
        files = read = size = 0
        try:
            listing = list_directory(self._payload.open(path))
        except OSError as error:
            if error.errno not in DAMAGE:
                raise self._unreadable(path, error) from error
            if path and error.errno in _GONE:
                return [], 0, 0, 0  # the directory above tells
            return [("missing", path, "directory", str(error.strerror))], 0, 0, 0
        there = {name for name, plain in listing.others if plain}
        others = {name for name, plain in listing.others if not plain}
        for record in (record for part in packed for record in unpack(part)):
            if not stat.S_ISREG(record[MODE]):
                continue
            name = record[NAME]
            leaf = stored_name(name)
            if leaf not in there:
                wrong.append(("missing", join_path(path, name), "file", ""))
                continue
            there.discard(leaf)
            files += 1
            full = join_path(path, name)
            if trust_shared and record[FLAGS] & SHARED:
                continue  # looked at when it was shared, a moment ago
            if sample is None or not is_sampled(full, sample):
                found = self._look(path, leaf, record)
            else:
                found = self._read(path, leaf, record)
                read += 1
                size += record[SIZE]
            if found is not None:
                wrong.append(("changed", full, *found))
        wanted = {stored_name(name): name for name in directories}
        below = set(listing.directories)
        wrong += [
            ("unexpected", join_path(path, leaf), "", "in the payload")
            for leaf in there | others | below - set(wanted)
        ]
        wrong += [
            ("missing", join_path(path, wanted[leaf]), "directory", "")
            for leaf in set(wanted) - below
        ]
        return wrong, files, read, size

    def _look(self, path: bytes, leaf: bytes, record: Record) -> tuple[str, str] | None:
        try:
            status = os.stat(leaf, dir_fd=self._payload.open(path), follow_symlinks=False)
        except OSError as error:
            return self._judge_failure(join_path(path, record[NAME]), error)
        return _judge(status, record)

    def _read(self, path: bytes, leaf: bytes, record: Record) -> tuple[str, str] | None:
        digest = hashlib.sha256()
        try:
            reader = os.open(leaf, QUIET_FLAGS, dir_fd=self._payload.open(path))
            try:
                found = _judge(os.fstat(reader), record)
                if found is not None:
                    return found
                if self._from_disk:
                    forget_pages(reader)
                with memoryview(self._buffer) as view:
                    while count := os.readv(reader, [view]):
                        digest.update(view[:count])
                        self._advance(count)
            finally:
                os.close(reader)
        except OSError as error:
            return self._judge_failure(join_path(path, record[NAME]), error)
        if digest.digest() != record[DIGEST]:
            return f"content {record[DIGEST].hex()}", digest.hexdigest()
        return None

    def _judge_failure(self, path: bytes, error: OSError) -> tuple[str, str]:
        """Tell of a file that cannot be read because it is damaged."""
        if error.errno not in DAMAGE:
            raise self._unreadable(path, error) from error
        return "a file that can be read", str(error.strerror)

    def _unreadable(self, path: bytes, error: OSError) -> OpsError:
        return os_failure(DestinationError, "read", self._payload.full_path(path), error)


def _judge(status: os.stat_result, record: Record) -> tuple[str, str] | None:
    if not stat.S_ISREG(status.st_mode):
        return "file", "something else"
    if status.st_size != record[SIZE]:
        return f"size {record[SIZE]}", f"{status.st_size}"
    return None
