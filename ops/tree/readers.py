"""Read the files of one directory: the work of one worker."""

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ops.errors import DestinationError, OpsError, SourceError, os_failure
from ops.model import Entry
from ops.tree.blocks import pack
from ops.tree.copying import GONE
from ops.tree.directories import Directories, join_path, open_quietly, split_path
from ops.tree.listing import Listing, Name, list_directory
from ops.tree.metadata import ALL_KEPT, entry_from_stat, read_xattrs
from ops.tree.quick import is_as_recorded
from ops.tree.records import (
    HOST,
    INODE,
    LINK,
    NAME,
    SIZE,
    Record,
    altered,
    record_from_stat,
    record_of,
)
from ops.tree.special import describe_special
from ops.tree.transfer import forget_pages, new_buffer
from ops.tree.work import LARGE_BYTES, MOST_NAMES, NEW, Found, Link, Trees


@dataclass(slots=True)
class Apart:
    """Names that are put aside: large files with their sizes, and files with several names."""

    large: list[tuple[bytes, int]] = field(default_factory=list)
    linked: list[Link] = field(default_factory=list)


class EntryReader:
    """Reads single entries of a tree.

    Args:
        tree: The tree.
        trees: How it is to be read.
        advance: Called with the number of bytes after each piece read.
    """

    def __init__(self, tree: Directories, trees: Trees, advance: Callable[[int], None]) -> None:
        self.tree = tree
        self.contents = trees.digests
        self._error = SourceError if trees.blame == "source" else DestinationError
        self._from_disk = trees.from_disk
        self._advance = advance
        self._view = memoryview(new_buffer())

    def folder(self, path: bytes) -> tuple[Entry, Listing] | None:
        """Describe a directory and list what it holds; None if it is gone.

        Raises:
            OpsError: It cannot be read.
        """
        try:
            descriptor = self.tree.open(path)
            entry = entry_from_stat(path, os.fstat(descriptor))
            return replace(entry, xattrs=read_xattrs(descriptor)), list_directory(descriptor)
        except OSError as error:
            if error.errno in GONE:
                return None
            raise self._failure(path, error) from error

    def read(
        self, path: bytes, name: bytes, *, plain: bool, contents: bool, apart: Apart | None = None
    ) -> Record | None:
        """Read one entry; None if it is gone, or was put aside.

        Args:
            path: The directory that holds it.
            name: Its name.
            plain: Whether it was a file when it was listed.
            contents: Hash what is in it.
            apart: Where to put aside what is large or has several names; read at once without.

        Raises:
            OpsError: It cannot be read.
        """
        try:
            directory = self.tree.open(path)
            if not plain:
                return self._describe(path, name, directory, contents=contents, apart=apart)
            reader = open_quietly(name, directory=directory)
            try:
                status = os.fstat(reader)
                if apart is not None and self._put_aside(name, status, apart):
                    return None
                regular = stat.S_ISREG(status.st_mode)
                digest = self._hash(reader, status.st_size) if contents and regular else b""
                xattrs = read_xattrs(reader)
            finally:
                os.close(reader)
        except FileNotFoundError:
            return None
        except OSError as error:
            if plain and error.errno in GONE:  # something else since it was listed
                return self.read(path, name, plain=False, contents=contents, apart=apart)
            raise self._failure(join_path(path, name), error) from error
        return record_from_stat(name, status, digest=digest, xattrs=xattrs)

    def is_as_recorded(self, path: bytes, record: Record) -> bool:
        """Tell, the short way, whether a file is what it should be; False where that is not sure.

        Raises:
            OpsError: It cannot be read.
        """
        if self._from_disk:
            return False
        try:
            same = is_as_recorded(record, self.tree.open(path), self._view)
        except OSError as error:
            if error.errno in GONE:
                return False
            raise self._failure(join_path(path, record[NAME]), error) from error
        self._advance(record[SIZE] if same else 0)
        return same

    def _describe(
        self, path: bytes, name: bytes, directory: int, *, contents: bool, apart: Apart | None
    ) -> Record | None:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return None  # since it was listed
        if stat.S_ISREG(status.st_mode):
            return self.read(path, name, plain=True, contents=contents, apart=apart)
        if apart is not None and self._put_aside(name, status, apart):
            return None
        return record_of(name, describe_special(name, name, directory), ALL_KEPT)

    def _put_aside(self, name: bytes, status: os.stat_result, apart: Apart) -> bool:
        if status.st_nlink > 1:
            apart.linked.append((name, status.st_dev, status.st_ino, NEW, b""))
            return True
        if self.contents and status.st_size >= LARGE_BYTES and stat.S_ISREG(status.st_mode):
            apart.large.append((name, status.st_size))
            return True
        return False

    def _hash(self, reader: int, size: int) -> bytes:
        if self._from_disk:
            forget_pages(reader)
        view = self._view
        count = os.readv(reader, [view])
        digest = hashlib.sha256(view[:count])
        self._advance(count)
        if count != size or count == len(view):  # more than one piece
            while count := os.readv(reader, [view]):
                digest.update(view[:count])
                self._advance(count)
        return digest.digest()

    def _failure(self, path: bytes, error: OSError) -> OpsError:
        return os_failure(self._error, "read", self.tree.full_path(path), error)


class FolderReader:
    """Reads a tree, one directory after another.

    Args:
        entries: Reads what they hold.
    """

    def __init__(self, entries: EntryReader) -> None:
        self._entries = entries

    def read(self, paths: Sequence[bytes]) -> list[Found]:
        """Read directories: all they hold but for what is large or has several names.

        Raises:
            OpsError: The tree cannot be read.
        """
        return [self._read_folder(path) for path in paths]

    def names(self, path: bytes, files: Sequence[Name]) -> Found:
        """Read some of the files of a large directory.

        Raises:
            OpsError: The tree cannot be read.
        """
        apart = Apart()
        read = self._entries.read
        contents = self._entries.contents
        found = [
            read(path, name, plain=plain, contents=contents, apart=apart) for name, plain in files
        ]
        records = [record for record in found if record is not None]
        return Found(path, None, block=pack(records), large=apart.large, linked=apart.linked)

    def large(self, path: bytes, name: bytes) -> Found:
        """Read one large file.

        Raises:
            OpsError: The tree cannot be read.
        """
        record = self._entries.read(path, name, plain=True, contents=True)
        return Found(path, None, block=pack([] if record is None else [record]))

    def links(self, groups: Sequence[Sequence[bytes]]) -> list[tuple[bytes, Record]]:
        """Read files with several names, each once.

        Args:
            groups: For each file its names, as paths, in the order of the walk.

        Raises:
            OpsError: The tree cannot be read.
        """
        done: list[tuple[bytes, Record]] = []
        for paths in groups:
            first: tuple[bytes, Record] | None = None
            for path in paths:
                directory, name = split_path(path)
                contents = self._entries.contents and first is None
                record = self._entries.read(directory, name, plain=False, contents=contents)
                if record is None:
                    continue
                if first is None:
                    first = path, record
                elif record[HOST : INODE + 1] == first[1][HOST : INODE + 1]:
                    record = altered(first[1], {NAME: name, LINK: first[0]})
                done.append((directory, record))
        return done

    def _read_folder(self, path: bytes) -> Found:
        found = self._entries.folder(path)
        if found is None:
            return Found(path, None)
        entry, listing = found
        own = record_of(b"", entry, ALL_KEPT)
        if len(listing.others) > MOST_NAMES:
            return Found(path, own, listing.directories, listing.others)
        files = self.names(path, listing.others)
        return files._replace(own=own, directories=listing.directories)
