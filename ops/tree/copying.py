"""Copy one entry of a tree exactly, and hash what was read on the way."""

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace

from ops.errors import DestinationError, SourceError, os_failure
from ops.model import Entry, Kind
from ops.tree.directories import Directories, open_quietly, split_path
from ops.tree.fresh import is_fresh
from ops.tree.metadata import (
    ALL_KEPT,
    Kept,
    apply_metadata,
    entry_from_stat,
    read_xattrs,
)
from ops.tree.placing import Placer
from ops.tree.special import describe_special, make_special
from ops.tree.stored import settle_stored
from ops.tree.transfer import (
    NoDigest,
    clone_content,
    data_ranges,
    hash_zeros,
    new_buffer,
    write_all,
)

_MOST_READS = 3
"""How often a file that changes under the reader is read before it is taken as it is."""

_CLONED_BYTES = 128 * 1024
"""A smaller file is copied faster than its content is shared."""

WRITE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})
"""What opening an entry answers when it vanished or became something else."""


class VanishedError(Exception):
    """The entry is gone or has become something else since it was listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What was copied: the entry as it was read, whether it settled, what could be kept.

    `fresh` means that it was changed so shortly before that another change might not show.
    """

    entry: Entry
    settled: bool = True
    fresh: bool = False
    kept: Kept = ALL_KEPT


class Copier(Placer):
    """Copies entries of one tree into another, one at a time.

    Holds the reading buffer, which is worth keeping between files. In a payload an entry without
    content is only described.

    Args:
        source: The tree to read; nothing in it is changed, access times included where the
            process may avoid it (O_NOATIME).
        destination: The tree to write.
        digests: Hash what is read; otherwise digests stay empty.
        advance: Called with the number of bytes after each piece read.
    """

    def __init__(
        self,
        source: Directories,
        destination: Directories,
        *,
        digests: bool = True,
        advance: Callable[[int], None],
    ) -> None:
        super().__init__(destination)
        self._source = source
        self._advance = advance
        self.buffer = new_buffer()
        self._clones = True
        self._digest = hashlib.sha256 if digests else NoDigest

    def copy(self, entry: Entry) -> Copied:
        """Copy an entry of any kind but a directory to the same path.

        Raises:
            VanishedError: It is gone, or is no longer of this kind.
            SourceError: It cannot be read.
            DestinationError: It cannot be written.
        """
        if entry.kind is Kind.FILE:
            return self._copy_file(entry)
        return self._copy_special(entry)

    def _copy_file(self, entry: Entry) -> Copied:
        directory, name = split_path(entry.path)
        try:
            reader = open_quietly(name, directory=self._source.open(directory))
        except OSError as error:
            raise self._unreadable(entry.path, error) from error
        try:
            if not stat.S_ISREG(os.fstat(reader).st_mode):
                raise VanishedError(entry.path)
            try:
                writer = os.open(
                    self._destination.leaf(name),
                    WRITE_FLAGS,
                    0o600,
                    dir_fd=self._destination.open(directory),
                )
            except OSError as error:
                raise self._unwritable(entry.path, error) from error
            try:
                return self._fill(entry.path, reader, writer)
            finally:
                os.close(writer)
        finally:
            os.close(reader)

    def _fill(self, path: bytes, reader: int, writer: int) -> Copied:
        settled, reads = False, 0
        while not settled and reads < _MOST_READS:
            if reads:
                self._empty(path, writer)
            reads += 1
            before = entry_from_stat(path, os.fstat(reader))
            digest, length = self.transfer(before, reader, writer)
            after = entry_from_stat(path, os.fstat(reader))
            settled = before.same_inode_state(after) and length == after.size
        try:
            xattrs = read_xattrs(reader)
        except OSError as error:
            raise self._unreadable(path, error) from error
        # An unsettled file has the length that was read, not the one it had a moment later.
        entry = replace(before, digest=digest, size=length, xattrs=xattrs)
        try:
            kept = self._settle(writer, entry)
        except OSError as error:
            raise self._unwritable(path, error) from error
        return Copied(
            entry=entry,
            settled=settled,
            fresh=is_fresh(before.changed_ns, os.fstat(writer).st_ctime_ns),
            kept=kept,
        )

    def _empty(self, path: bytes, writer: int) -> None:
        try:
            os.ftruncate(writer, 0)
        except OSError as error:
            raise self._unwritable(path, error) from error

    def _settle(self, writer: int, entry: Entry) -> Kept:
        if self._destination.stored:
            settle_stored(writer, entry.accessed_ns, entry.modified_ns)
            return ALL_KEPT
        return apply_metadata(writer, entry)

    def transfer(self, entry: Entry, reader: int, writer: int) -> tuple[str, int]:
        """Copy the content of an open file, holes left out, shared where that can be.

        Args:
            entry: The file, as it is now.
            reader: Its descriptor.
            writer: That of the copy, which is empty, and open for reading too.

        Returns:
            The SHA-256 in hex, and the number of bytes it is of.

        Raises:
            VanishedError: It is gone.
            SourceError: It cannot be read.
            DestinationError: The copy cannot be written.
        """
        path = entry.path
        if self._clones and entry.size >= _CLONED_BYTES:
            cloned = self._clone(path, reader, writer)
            if cloned is not None:
                return cloned
        digest = self._digest()
        view = memoryview(self.buffer)
        position = 0
        sparse = entry.allocated < entry.size
        try:
            # Never past the size at the beginning: a writer may be faster than we are.
            ranges = list(data_ranges(reader, entry.size)) if sparse else [(0, entry.size)]
        except OSError as error:
            raise self._unreadable(path, error) from error
        try:
            for start, end in ranges:
                hash_zeros(digest, start - position)
                position = start
                while position < end:
                    wanted = min(len(view), end - position)
                    count = self._read(path, reader, view[:wanted], position)
                    if not count:
                        break
                    digest.update(view[:count])
                    write_all(writer, view[:count], position)
                    position += count
                    self._advance(count)
            if sparse:
                length = max(position, min(entry.size, os.fstat(reader).st_size))
                hash_zeros(digest, length - position)
                position = length
                os.ftruncate(writer, position)
        except OSError as error:
            raise self._unwritable(path, error) from error
        finally:
            view.release()
        return digest.hexdigest(), position

    def _clone(self, path: bytes, reader: int, writer: int) -> tuple[str, int] | None:
        """Share the content, and hash what the copy has got; None where it cannot be shared."""
        try:
            if sys.platform != "linux" or not clone_content(reader, writer):
                self._clones = False
                return None
            digest, position = self._digest(), 0
            with memoryview(self.buffer) as view:
                while count := os.preadv(writer, [view], position):
                    digest.update(view[:count])
                    position += count
                    self._advance(count)
        except OSError as error:
            raise self._unwritable(path, error) from error
        return digest.hexdigest(), position

    def _read(self, path: bytes, reader: int, view: memoryview, position: int) -> int:
        try:
            return os.preadv(reader, [view], position)
        except OSError as error:
            raise self._unreadable(path, error) from error

    def _copy_special(self, entry: Entry) -> Copied:
        directory, name = split_path(entry.path)
        try:
            now = describe_special(entry.path, name, self._source.open(directory))
        except OSError as error:
            raise self._unreadable(entry.path, error) from error
        if now.kind is not entry.kind:
            raise VanishedError(entry.path)
        if self._destination.stored:
            return Copied(entry=now)
        try:
            kept = make_special(now, name, self._destination.open(directory))
        except OSError as error:
            raise self._unwritable(entry.path, error) from error
        return Copied(entry=now, kept=kept)

    def _unreadable(self, path: bytes, error: OSError) -> Exception:
        if error.errno in GONE:
            return VanishedError(path)
        return os_failure(SourceError, "read", self._source.full_path(path), error)

    def _unwritable(self, path: bytes, error: OSError) -> Exception:
        return os_failure(DestinationError, "write", self._destination.full_path(path), error)
