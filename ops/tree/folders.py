"""Bring the copy of one directory up to date with its source: the work of one worker."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ops.errors import DestinationError, SourceError, os_failure
from ops.model import Entry, Kind
from ops.tree.blocks import unpack
from ops.tree.bringing import Bringer, Brought, record_copied
from ops.tree.copying import GONE, VanishedError
from ops.tree.directories import Directories, join_path, split_path
from ops.tree.listing import list_directory
from ops.tree.metadata import ALL_KEPT, entry_from_stat, read_xattrs, remove_xattrs
from ops.tree.parts import Part, Piece
from ops.tree.records import HOST, INODE, LINK, NAME, Record, altered, entry_of, record_of
from ops.tree.removal import remove_below
from ops.tree.work import LARGE_BYTES, MOST_NAMES, Found

if TYPE_CHECKING:
    from ops.tree.sharing import Sharer


class FolderCopier:
    """Copies the files of one directory after another, those that the copy lacks or has otherwise.

    Args:
        source: The tree to read.
        copy: The tree to write.
        digests: Hash what is read.
        advance: Called with the number of bytes after each piece read.
        earlier: A snapshot to share unchanged files with.
    """

    def __init__(
        self,
        source: Directories,
        copy: Directories,
        *,
        digests: bool = True,
        advance: Callable[[int], None],
        earlier: "Sharer | None" = None,
    ) -> None:
        self._source = source
        self._copy = copy
        self._bringer = Bringer(source, copy, digests=digests, advance=advance, earlier=earlier)
        self.copier = self._bringer.copier

    def update_all(
        self,
        folders: Sequence[tuple[bytes, Record | None, Sequence[bytes], Sequence[bytes] | None]],
        delete: bool,
    ) -> list[Found]:
        """Bring directories over; see `update`."""
        return [self.update(*folder, delete) for folder in folders]

    def update(
        self,
        path: bytes,
        own: Record | None,
        directories: Sequence[bytes],
        packed: Sequence[bytes] | None,
        delete: bool,
    ) -> Found:
        """Bring the files of a directory over; its directories are told, and made by themselves.

        Args:
            path: The directory.
            own: What was recorded of it; None if the copy does not have it.
            directories: The names of the directories that the copy has in it.
            packed: The records of its files; None where they are too many.
            delete: Remove files that the source has no more.

        Raises:
            OpsError: Source or copy failed.
        """
        made = own is None
        try:
            descriptor = self._source.open(path)
            now = entry_from_stat(path, os.fstat(descriptor))
            listing = list_directory(descriptor)
            if own is None or not entry_of(path, own).same_inode_state(now):
                xattrs = read_xattrs(self._source.open(path))
                own = record_of(b"", replace(now, xattrs=xattrs), ALL_KEPT)
        except OSError as error:
            if error.errno in GONE:
                return Found(path, None)
            error.filename = self._source.full_path(path)
            raise os_failure(SourceError, "read", error.filename, error) from error
        if made and path:
            self.copier.make_directory(path)
        if made:
            self._refuse_inheritance(path)
        current = set(listing.directories)
        left = [name for name in directories if name not in current]
        files = listing.others
        retyped: list[bytes] = []
        if left:
            retyped = [name for name, _ in files if name in set(left)]
            files = [one for one in files if one[0] not in retyped]
        gone = [name for name in left if name not in retyped]
        if packed is None or len(files) > MOST_NAMES:
            return Found(path, own, listing.directories, files, retyped=retyped, gone=gone)
        known = {record[NAME]: record for part in packed for record in unpack(part)}
        found = self._bringer.bring(path, files, known, current, delete=delete)
        return found._replace(own=own, directories=listing.directories, retyped=retyped, gone=gone)

    def names(
        self,
        path: bytes,
        piece: Piece,
        packed: Sequence[bytes],
        directories: Sequence[bytes],
        delete: bool,
    ) -> Found:
        """Bring some of the files of a large directory over.

        Args:
            path: The directory.
            piece: Some of its files: a `Part`, as a plain tuple.
            packed: The records of these, and maybe of more.
            directories: Those names in this part that are directories now.
            delete: As for `update`.

        Raises:
            OpsError: Source or copy failed.
        """
        part = Part(*piece)
        known = part.known(packed)
        return self._bringer.bring(
            path, part.names, known, set(directories), delete=delete, whole=True
        )

    def large(self, path: bytes, name: bytes) -> Found:
        """Copy one large file.

        Raises:
            OpsError: Source or copy failed.
        """
        bringing = Brought()
        self._bringer.copy_any(path, name, bringing, most=None)
        return bringing.found(path)

    def retype(self, path: bytes, names: Sequence[bytes]) -> Found:
        """Copy files for which the copy has directories, which go first.

        Raises:
            OpsError: Source or copy failed.
        """
        bringing = Brought()
        for name in names:
            self.remove(join_path(path, name))
            self._bringer.copy_any(path, name, bringing, most=LARGE_BYTES)
        return bringing.found(path)

    def links(self, groups: Sequence[Sequence[bytes]]) -> list[tuple[bytes, Record]]:
        """Copy files with several names, each once, and link its other names to the first.

        What the copy has under these names is removed first. A name that vanished, or has become
        another file, is left out.

        Args:
            groups: For each file its names, as paths, in the order of the walk.

        Returns:
            The directory and the record of each name that was copied or linked.

        Raises:
            OpsError: Source or copy failed.
        """
        done: list[tuple[bytes, Record]] = []
        for paths in groups:
            for path in paths:
                self.copier.remove(path, directory=False, missing=True)
            first: tuple[bytes, Record] | None = None
            for path in paths:
                directory, name = split_path(path)
                entry = self._bringer.describe(directory, name)
                if entry is None or entry.kind is Kind.DIRECTORY:
                    continue
                if first is not None and entry.identity == (first[1][HOST], first[1][INODE]):
                    self.copier.link(entry, first[0])
                    done.append((directory, altered(done[-1][1], {NAME: name, LINK: first[0]})))
                    continue
                record = self._bring_first(entry, directory, name)
                if record is not None:
                    done.append((directory, record))
                    first = path, record
        return done

    def _bring_first(self, entry: Entry, directory: bytes, name: bytes) -> Record | None:
        """Share or copy a file with several names; None if it is gone."""
        shared = self._bringer.share(directory, name)
        if shared is not None:
            return shared
        try:
            return record_copied(name, self.copier.copy(entry))
        except VanishedError:
            return None

    def remove(self, path: bytes) -> None:
        """Remove a directory of the copy, with all it holds.

        Raises:
            DestinationError: It cannot be removed.
        """
        try:
            with Directories(self._copy.root) as tree:
                remove_below(tree, self._copy.on_disk(path))
        except OSError as error:
            full = error.filename or self._copy.full_path(path)
            raise os_failure(DestinationError, "remove", full, error) from error

    def _refuse_inheritance(self, path: bytes) -> None:
        """Take away what a new directory would hand down to its files; its own comes last."""
        try:
            remove_xattrs(self._copy.open(path))
        except OSError as error:
            full = self._copy.full_path(path)
            raise os_failure(DestinationError, "set the metadata of", full, error) from error
