"""Share the unchanged files of a source with an earlier snapshot of it, instead of copying them."""

import errno
import hashlib
import os
import stat
from pathlib import Path

from ops.errors import DestinationError, os_failure
from ops.tree.directories import QUIET_FLAGS, Directories, join_path
from ops.tree.ledger import LedgerError
from ops.tree.ledger_index import LedgerIndex
from ops.tree.records import (
    ACCESSED,
    CHANGED,
    DIGEST,
    FLAGS,
    INODE,
    LINK,
    LINKS,
    MODIFIED,
    NAME,
    SHARED,
    SIZE,
    Record,
    altered,
)
from ops.tree.stored import FILE_MODE, Payload, settle_stored
from ops.tree.transfer import clone_content

_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a file system answers that has no hard links, or has none between these places."""

_NOT_THIS_ONE = frozenset({errno.EMLINK, errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EEXIST})
"""The earlier file has as many names as it can have, or is not there."""

_ASIDE = b".ciso-ops-same"
"""A name in the new payload for a moment; where the source has a file of it, that is not shared."""


class Sharer:
    """Gives a new payload the files of an earlier one that did not change in the source.

    Unchanged is what has the inode, size, mtime and ctime that the earlier ledger recorded; its
    digest is carried over. The content is shared by reflink where the file system has that, by
    a hard link otherwise. Where neither is possible, or the earlier file is not of its size, the
    file is to be copied.

    Args:
        ledger: The earlier ledger.
        earlier: The earlier payload's attachments.
        copy: The new payload.

    Raises:
        OSError: The ledger cannot be read.
        LedgerError: It is none.
    """

    def __init__(self, ledger: Path, earlier: Path, copy: Directories) -> None:
        self._index = LedgerIndex(ledger)
        try:
            self._earlier = Payload(earlier)
        except OSError:
            self._index.close()
            raise
        self._copy = copy
        self._clones = self._links = True
        self._directory: bytes | None = None
        self._low: bytes = b""
        self._high: bytes | None = b""
        self._records: dict[bytes, Record] = {}

    def close(self) -> None:
        """Close what is open."""
        self._index.close()
        self._earlier.close()

    def share(self, path: bytes, name: bytes, source: int, *, most_names: int = 0) -> Record | None:
        """Share a file, if it is what it was; None if it is to be copied.

        Args:
            path: Its directory.
            name: Its name.
            source: The descriptor of that directory in the source.
            most_names: How many names it may have; 0 for any number.

        Raises:
            OSError: The source's file cannot be looked at.
            DestinationError: The new payload cannot be written.
        """
        old = self._records_around(path, name).get(name)
        if old is None or not old[DIGEST]:
            return None
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if (
            old[INODE] != status.st_ino
            or old[CHANGED] != status.st_ctime_ns
            or old[MODIFIED] != status.st_mtime_ns
            or old[SIZE] != status.st_size
            or not stat.S_ISREG(status.st_mode)
            or (most_names and status.st_nlink > most_names)
            or not self._give(path, name, old)
        ):
            return None
        return (
            *old[:LINK],
            b"",
            old[ACCESSED],
            status.st_dev,
            *old[INODE:LINKS],
            status.st_nlink,
            status.st_blocks * 512,
            SHARED,
        )

    def share_same(self, path: bytes, record: Record) -> Record:
        """Share a file that was copied, if its content is what it was: touched, or put back.

        Args:
            path: Its directory.
            record: What was copied.

        Returns:
            Its record, marked where it is shared now.

        Raises:
            DestinationError: The new payload cannot be written.
        """
        name = record[NAME]
        old = self._records_around(path, name).get(name)
        plain = record[LINKS] == 1 and record[DIGEST] and record[SIZE]
        if old is None or not plain or old[DIGEST] != record[DIGEST] or not self._links:
            return record
        leaf = self._copy.leaf(name)
        try:
            if not self._is_whole(path, leaf, record):
                return record
            copy = self._copy.open(path)
            if not self._link(leaf, self._earlier.open(path), copy, _ASIDE):
                return record
            os.rename(_ASIDE, leaf, src_dir_fd=copy, dst_dir_fd=copy)
        except OSError as error:
            full = self._copy.full_path(join_path(path, name))
            raise os_failure(DestinationError, "share", full, error) from error
        return altered(record, {FLAGS: record[FLAGS] | SHARED})

    def _is_whole(self, path: bytes, leaf: bytes, record: Record) -> bool:
        """Read an earlier file and tell whether it is what was recorded."""
        try:
            reader = os.open(leaf, QUIET_FLAGS, dir_fd=self._earlier.open(path))
            try:
                with open(reader, "rb", closefd=False) as file:
                    return hashlib.file_digest(file, "sha256").digest() == record[DIGEST]
            finally:
                os.close(reader)
        except OSError:
            return False

    def _records_around(self, path: bytes, name: bytes) -> dict[bytes, Record]:
        if path != self._directory or name < self._low or (self._high and name >= self._high):
            try:
                self._low, self._high, self._records = self._index.records(path, name)
            except (OSError, LedgerError):  # what cannot be read is not shared
                self._low, self._high, self._records = b"", None, {}
            self._directory = path
        return self._records

    def _give(self, path: bytes, name: bytes, old: Record) -> bool:
        leaf = self._copy.leaf(name)
        try:
            earlier = self._earlier.open(path)
            found = os.stat(leaf, dir_fd=earlier, follow_symlinks=False)
        except OSError:
            return False  # the earlier snapshot is not whole: its check will say so
        if not stat.S_ISREG(found.st_mode) or found.st_size != old[SIZE]:
            return False
        try:
            copy = self._copy.open(path)
            if self._clones and self._clone(leaf, earlier, copy, old):
                return True
            return self._links and self._link(leaf, earlier, copy)
        except OSError as error:
            full = self._copy.full_path(join_path(path, name))
            raise os_failure(DestinationError, "share", full, error) from error

    def _link(self, leaf: bytes, earlier: int, copy: int, new: bytes = b"") -> bool:
        try:
            os.link(leaf, new or leaf, src_dir_fd=earlier, dst_dir_fd=copy, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_LINKS:
                self._links = False
            elif error.errno not in _NOT_THIS_ONE:
                raise
            return False
        return True

    def _clone(self, leaf: bytes, earlier: int, copy: int, old: Record) -> bool:
        """Share by reflink; where the file system has none, it is not tried again."""
        flags = os.O_NOFOLLOW | os.O_CLOEXEC
        reader = os.open(leaf, os.O_RDONLY | flags, dir_fd=earlier)
        try:
            create = os.O_RDWR | os.O_CREAT | os.O_EXCL
            writer = os.open(leaf, create | flags, FILE_MODE, dir_fd=copy)
            try:
                if old[SIZE] and not clone_content(reader, writer):
                    self._clones = False
                    os.unlink(leaf, dir_fd=copy)
                    return False
                settle_stored(writer, old[ACCESSED], old[MODIFIED])
            finally:
                os.close(writer)
        finally:
            os.close(reader)
        return True


def open_sharer(ledger: Path, earlier: Path, copy: Directories) -> Sharer | None:
    """Return one who shares with an earlier snapshot; None if that cannot be read any more."""
    try:
        return Sharer(ledger, earlier, copy)
    except (OSError, LedgerError):
        return None  # all is copied then, and the check of the earlier one says what it lacks
