"""Make, link, finish and remove entries of a copy: all but their content."""

import errno
import os
from collections.abc import Sequence

from ops.errors import DestinationError, os_failure
from ops.model import Entry, Kind
from ops.tree.directories import Directories, split_path
from ops.tree.metadata import ALL_KEPT, Kept, apply_metadata
from ops.tree.records import Record, entry_of, record_of


class Placer:
    """Changes what the directories of a copy hold.

    Args:
        destination: The copy. In a payload (`ops.tree.stored`) names are those that travel, and
            only directories and files are there; the rest is written down elsewhere.
    """

    def __init__(self, destination: Directories) -> None:
        self._destination = destination

    def link(self, entry: Entry, first: bytes) -> None:
        """Make the path of `entry` another name of the copy at `first`.

        Raises:
            DestinationError: The file system refuses.
        """
        if self._destination.stored and entry.kind is not Kind.FILE:
            return
        directory, name = split_path(entry.path)
        first_directory, first_name = split_path(first)
        try:
            # Asking for one directory may close the other: hold a duplicate meanwhile.
            held = os.dup(self._destination.open(first_directory))
            try:
                os.link(
                    self._destination.leaf(first_name),
                    self._destination.leaf(name),
                    src_dir_fd=held,
                    dst_dir_fd=self._destination.open(directory),
                    follow_symlinks=False,
                )
            finally:
                os.close(held)
        except OSError as error:
            path = self._destination.full_path(entry.path)
            raise os_failure(DestinationError, "link", path, error) from error

    def make_directory(self, path: bytes) -> None:
        """Create a directory that only its owner may enter; its metadata comes last.

        Raises:
            DestinationError: It cannot be created.
        """
        directory, name = split_path(path)
        try:
            os.mkdir(self._destination.leaf(name), 0o700, dir_fd=self._destination.open(directory))
        except OSError as error:
            full = self._destination.full_path(path)
            raise os_failure(DestinationError, "create the directory", full, error) from error

    def finish(self, folders: Sequence[tuple[bytes, Record]]) -> list[tuple[bytes, Record]]:
        """Give directories their metadata, once all in them is written; return their records.

        Raises:
            DestinationError: It cannot be set.
        """
        return [
            (path, record_of(b"", entry, self.finish_directory(entry)))
            for path, own in folders
            for entry in (entry_of(path, own),)
        ]

    def finish_directory(self, entry: Entry) -> Kept:
        """Give a directory its metadata, once everything in it is written.

        Raises:
            DestinationError: It cannot be set.
        """
        if self._destination.stored:
            return ALL_KEPT
        try:
            return apply_metadata(self._destination.open(entry.path), entry)
        except OSError as error:
            full = self._destination.full_path(entry.path)
            raise os_failure(DestinationError, "set the metadata of", full, error) from error

    def remove(self, path: bytes, *, directory: bool, missing: bool = False) -> None:
        """Remove one entry of the copy; a directory must be empty.

        With `missing`, it may be gone already; what is only written down never was there.

        Raises:
            DestinationError: It cannot be removed.
        """
        parent, name = split_path(path)
        missing |= self._destination.stored and not directory
        try:
            descriptor = self._destination.open(parent)
            if directory:
                os.rmdir(self._destination.leaf(name), dir_fd=descriptor)
            else:
                os.unlink(self._destination.leaf(name), dir_fd=descriptor)
        except OSError as error:
            if missing and error.errno == errno.ENOENT:
                return
            full = self._destination.full_path(path)
            raise os_failure(DestinationError, "remove", full, error) from error
