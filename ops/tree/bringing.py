"""Copy single names of a directory, those that the copy lacks or has otherwise."""

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import TYPE_CHECKING

from ops.errors import DestinationError, SourceError, os_failure
from ops.model import Entry, Kind
from ops.tree.blocks import pack
from ops.tree.copying import GONE, Copied, Copier, VanishedError
from ops.tree.directories import Directories, join_path
from ops.tree.listing import Name
from ops.tree.metadata import entry_from_stat
from ops.tree.quick import Given, UnwritableError, copy_small
from ops.tree.records import (
    CHANGED,
    HOST,
    INODE,
    LINK,
    LINKS,
    MODE,
    MODIFIED,
    NAME,
    NEVER,
    SIZE,
    Record,
    record_of,
)
from ops.tree.work import KEPT, LARGE_BYTES, NEW, UNCHANGED, Found, Link

if TYPE_CHECKING:
    from ops.tree.sharing import Sharer


@dataclass(slots=True, kw_only=True)
class Brought:
    """What has come of some names so far."""

    records: list[Record] = field(default_factory=list)
    copied: list[bytes] = field(default_factory=list)
    unsettled: list[bytes] = field(default_factory=list)
    large: list[tuple[bytes, int]] = field(default_factory=list)
    linked: list[Link] = field(default_factory=list)
    changed: bool = False

    def add(self, record: Record, *, settled: bool = True) -> None:
        """Note a copied file."""
        self.records.append(record)
        self.copied.append(record[NAME])
        if not settled:
            self.unsettled.append(record[NAME])

    def keep(self, old: Record) -> None:
        """Note a file that stays in the copy although the source has it no more."""
        self.records.append(old)
        if old[LINKS] > 1:
            self.linked.append((old[NAME], old[HOST], old[INODE], KEPT, old[LINK]))

    def found(self, path: bytes) -> Found:
        """Return it as a reply."""
        changed = self.changed or self.copied
        return Found(
            path,
            None,
            block=pack(self.records) if changed else None,
            copied=self.copied,
            unsettled=self.unsettled,
            large=self.large,
            linked=self.linked,
        )


class Bringer:
    """Brings names of the source over into the copy.

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
        digests: bool,
        advance: Callable[[int], None],
        earlier: "Sharer | None" = None,
    ) -> None:
        self._earlier = earlier
        self.copier = Copier(source, copy, digests=digests, advance=advance)
        self._source = source
        self._copy = copy
        self._digests = digests
        self._advance = advance
        self._view = memoryview(self.copier.buffer)
        self._privileged = os.geteuid() == 0

    def bring(
        self,
        path: bytes,
        files: Sequence[Name],
        known: dict[bytes, Record],
        directories: set[bytes],
        *,
        delete: bool,
        whole: bool = False,
    ) -> Found:
        """Copy what is new or changed of some names of a directory, and see what is gone.

        Args:
            path: The directory.
            files: The names.
            known: What was recorded of these; emptied.
            directories: Names that are those of directories now.
            delete: Remove what the source has no more; it stays otherwise.
            whole: Return all records, also where nothing changed.

        Raises:
            OpsError: Source or copy failed.
        """
        bringing = Brought(records=[])
        given: Given = {}
        for name, plain in files:
            old = known.pop(name, None) if known else None
            if old is not None and self._stays(path, name, old, bringing, delete=delete):
                continue
            if plain and self._earlier is not None:
                record = self.share(path, name, most_names=1)
                if record is not None:
                    bringing.add(record)
                    continue
            if not (plain and self._copy_small(path, name, given, bringing)):
                self.copy_any(path, name, bringing, most=LARGE_BYTES)
        for name, old in known.items():
            if delete or name in directories:
                self.copier.remove(join_path(path, name), directory=False)
                bringing.changed = True
            else:
                bringing.keep(old)
        if known:
            bringing.records.sort(key=itemgetter(NAME))
        bringing.changed |= whole
        return bringing.found(path)

    def _stays(
        self, path: bytes, name: bytes, old: Record, bringing: Brought, *, delete: bool
    ) -> bool:
        """Look whether a file is what was recorded; if not, take its copy away."""
        status = self._stat(path, name)
        if status is None:  # gone since it was listed
            if delete:
                self.copier.remove(join_path(path, name), directory=False)
                bringing.changed = True
            else:
                bringing.keep(old)
            return True
        mode, links = status.st_mode, status.st_nlink
        same = (
            status.st_ctime_ns == old[CHANGED]
            and status.st_ino == old[INODE]
            and status.st_dev == old[HOST]
            and status.st_mtime_ns == old[MODIFIED]
            and stat.S_IFMT(mode) == stat.S_IFMT(old[MODE])
            and (status.st_size == old[SIZE] or not stat.S_ISREG(mode))
        )
        if same:
            bringing.records.append(old)
            if links > 1:
                link = (name, status.st_dev, status.st_ino, UNCHANGED, old[LINK])
                bringing.linked.append(link)
            return True
        bringing.changed = True
        self.copier.remove(join_path(path, name), directory=False)
        return False

    def share(self, path: bytes, name: bytes, *, most_names: int = 0) -> Record | None:
        """Share a file with an earlier snapshot; None where it is not what it was then.

        Args:
            path: The directory.
            name: The file.
            most_names: How many names it may have to be shared here; 0 for any number.

        Raises:
            OpsError: Source or copy failed.
        """
        if self._earlier is None:
            return None
        try:
            return self._earlier.share(path, name, self._source.open(path), most_names=most_names)
        except OSError as error:
            if error.errno in GONE:
                return None
            full = self._source.full_path(join_path(path, name))
            raise os_failure(SourceError, "read", full, error) from error

    def _copy_small(self, path: bytes, name: bytes, given: Given, bringing: Brought) -> bool:
        """Copy a file the short way; False if it takes the long one."""
        try:
            record = copy_small(
                name,
                self._source.open(path),
                self._copy.open(path),
                self._view,
                given,
                digests=self._digests,
                privileged=self._privileged,
                stored=self._copy.leaf(name) if self._copy.stored else b"",
            )
        except UnwritableError as error:
            full = self._copy.full_path(join_path(path, name))
            raise os_failure(DestinationError, "write", full, _cause(error)) from error
        except OSError as error:
            full = self._source.full_path(join_path(path, name))
            raise os_failure(SourceError, "read", full, error) from error
        if record is None:
            return False
        self._advance(record[SIZE])
        if self._earlier is not None:
            record = self._earlier.share_same(path, record)
        bringing.records.append(record)
        bringing.copied.append(name)
        return True

    def copy_any(self, path: bytes, name: bytes, bringing: Brought, *, most: int | None) -> None:
        """Copy an entry of any kind, or put it aside for later.

        Args:
            path: The directory.
            name: The entry.
            bringing: Where what came of it is noted.
            most: From which size on a file is put aside; None for never.

        Raises:
            OpsError: Source or copy failed.
        """
        entry = self.describe(path, name)
        if entry is None or entry.kind is Kind.DIRECTORY:
            return
        if entry.links > 1:
            bringing.linked.append((name, *entry.identity, NEW, b""))
            return
        if most is not None and entry.size >= most:
            bringing.large.append((name, entry.size))
            return
        try:
            copied = self.copier.copy(entry)
        except VanishedError:
            return
        if copied.entry.links > 1:  # linked since it was described: copied again with the others
            bringing.linked.append((name, *copied.entry.identity, NEW, b""))
            self.copier.remove(entry.path, directory=False)
            return
        record = record_copied(name, copied)
        if self._earlier is not None:
            record = self._earlier.share_same(path, record)
        bringing.add(record, settled=copied.settled)

    def _stat(self, path: bytes, name: bytes) -> os.stat_result | None:
        try:
            return os.stat(name, dir_fd=self._source.open(path), follow_symlinks=False)
        except OSError as error:
            if error.errno in GONE:
                return None
            full = self._source.full_path(join_path(path, name))
            raise os_failure(SourceError, "read", full, error) from error

    def describe(self, path: bytes, name: bytes) -> Entry | None:
        """Describe an entry of the source as it is now; None if it is gone.

        Raises:
            SourceError: It cannot be looked at.
        """
        status = self._stat(path, name)
        return None if status is None else entry_from_stat(join_path(path, name), status)


def record_copied(name: bytes, copied: Copied) -> Record:
    """Return the record of what was copied; it is copied again if it may have changed unseen."""
    entry = copied.entry
    if copied.fresh or not copied.settled:
        entry = replace(entry, changed_ns=NEVER)
    return record_of(name, entry, copied.kept, settled=copied.settled)


def _cause(error: UnwritableError) -> OSError:
    cause = error.__cause__
    return cause if isinstance(cause, OSError) else OSError(str(error))
