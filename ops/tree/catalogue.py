"""What is known of a tree: every entry, in little memory, in the order of the walk."""

import stat
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING

from ops.model import Entry, Kind
from ops.tree.blocks import BLOCK_RECORDS, Block, Tally, pack, tally_of, unpack
from ops.tree.directories import join_path, split_path
from ops.tree.metadata import ALL_KEPT
from ops.tree.records import MODE, NAME, Record, entry_of, record_of
from ops.tree.spool import Spool

if TYPE_CHECKING:
    from ops.tree.spool import Stored

_CACHED_BLOCKS = 64
_WAITING_RECORDS = 50 * BLOCK_RECORDS


class _Folder:
    """One directory: its own record, the names of its directories, its blocks."""

    __slots__ = ("blocks", "firsts", "own", "subdirectories", "tallies")

    def __init__(self) -> None:
        self.own: Record | None = None
        self.subdirectories: tuple[bytes, ...] = ()
        self.firsts: list[bytes] = []
        self.blocks: list[Stored] = []
        self.tallies: list[Tally] = []


class Catalogue(Mapping[bytes, Entry]):
    """The entries of a tree by path: a mapping that iterates in the order of the walk.

    That is the root first, then the files of a directory before what lies in its directories,
    each in order of their names. Entries are kept packed, a block for some of the names of a
    directory; past 32 MiB they go to an unnamed file, so that memory grows with the number of
    directories and hardly with that of files.

    Args:
        spill: Where such a file may be made; None for the system's place for temporary files.
    """

    def __init__(self, spill: Path | None = None) -> None:
        self._folders: dict[bytes, _Folder] = {}
        self._spool = Spool(spill)
        self._cache: OrderedDict[tuple[bytes, int], dict[bytes, Record]] = OrderedDict()

    def __getitem__(self, path: bytes) -> Entry:
        record = self.record(path)
        if record is None:
            raise KeyError(path)
        return entry_of(split_path(path)[0] if record[NAME] else path, record)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, bytes) and self.record(path) is not None

    def record(self, path: bytes) -> Record | None:
        """Return the record of an entry, which is quicker to be had; None if it is not known."""
        own = self.own(path)
        return self._find(*split_path(path)) if own is None else own

    def __iter__(self) -> Iterator[bytes]:
        return (entry.path for entry in self._walk())

    def __len__(self) -> int:
        own = sum(folder.own is not None for folder in self._folders.values())
        return own + self.tally()[0]

    def values(self) -> ValuesView[Entry]:
        """Iterate over the entries, in order."""
        return _Values(self)

    def items(self) -> ItemsView[bytes, Entry]:
        """Iterate over paths and entries, in order."""
        return _Items(self)

    def files(self) -> Iterator[bytes]:
        """Iterate over the paths of all files, in order."""
        for path, record in self._records():
            if record[NAME] and stat.S_ISREG(record[MODE]):
                yield join_path(path, record[NAME])

    def _walk(self) -> Iterator[Entry]:
        return (entry_of(path, record) for path, record in self._records())

    def below(self, path: bytes) -> Iterator[tuple[bytes, Record]]:
        """Iterate over the files in and below a directory, each with its own directory."""
        return ((folder, record) for folder, record in self._records(path) if record[NAME])

    def _records(self, root: bytes = b"") -> Iterator[tuple[bytes, Record]]:
        """Iterate over all records, each with its directory, that of a directory with its path."""
        pending = [root]
        while pending:
            path = pending.pop()
            folder = self._folders.get(path)
            if folder is None:
                continue
            if folder.own is not None:
                yield path, folder.own
            for stored in folder.blocks:
                for record in unpack(self._spool.load(stored)):
                    yield path, record
            pending.extend(join_path(path, name) for name in reversed(folder.subdirectories))

    def tally(self) -> Tally:
        """Add up everything but the directories; of those, only what was not kept."""
        totals = [0] * 6
        for folder in self._folders.values():
            own = () if folder.own is None else (tally_of([folder.own]),)
            for index, tally in enumerate((*own, *folder.tallies)):
                for place in range(3 if own and not index else 0, 6):
                    totals[place] += tally[place]
        entries, files, read, owners, groups, xattrs = totals
        return entries, files, read, owners, groups, xattrs

    def in_order(self) -> Iterator[tuple[bytes, Record, list[bytes], int]]:
        """Iterate over the directories in order: path, record, packed records, how many."""
        pending = [b""]
        while pending:
            path = pending.pop()
            folder = self._folders[path]
            if folder.own is not None:
                packed = [self._spool.load(stored) for stored in folder.blocks]
                yield path, folder.own, packed, sum(tally[0] for tally in folder.tallies)
            pending.extend(join_path(path, name) for name in reversed(folder.subdirectories))

    # Directories

    def folders(self) -> list[bytes]:
        """List the paths of all directories, in no order."""
        return list(self._folders)

    def own(self, path: bytes) -> Record | None:
        """Return the record of a directory itself; None if it is not known."""
        folder = self._folders.get(path)
        return None if folder is None else folder.own

    def subdirectories(self, path: bytes) -> tuple[bytes, ...]:
        """Return the names of the directories in a directory that is known."""
        return self._folders[path].subdirectories

    def set_folder(self, path: bytes, own: Record | None, subdirectories: Iterable[bytes]) -> None:
        """Note what a directory is and which directories it holds; its files stay as they are."""
        folder = self._folders.setdefault(path, _Folder())
        folder.own = own
        folder.subdirectories = tuple(sorted(subdirectories))

    def drop(self, path: bytes) -> list[bytes]:
        """Forget a directory and all that lies below it; return the paths of its entries."""
        dropped: list[bytes] = []
        pending = [path]
        while pending:
            below = pending.pop()
            folder = self._folders.pop(below, None)
            if folder is None:
                continue
            for stored in folder.blocks:
                names = (record[NAME] for record in unpack(self._spool.load(stored)))
                dropped += [join_path(below, name) for name in names]
            dropped.append(below)
            pending += [join_path(below, name) for name in folder.subdirectories]
        self._cache.clear()
        self.leave_out(path)
        return dropped

    def leave_out(self, path: bytes) -> None:
        """Take a directory off the list of those that its parent holds."""
        directory, name = split_path(path)
        parent = self._folders.get(directory)
        if path and parent is not None:
            parent.subdirectories = tuple(one for one in parent.subdirectories if one != name)

    # Blocks

    def is_large(self, path: bytes) -> bool:
        """Tell whether the files of a directory take more than one block."""
        folder = self._folders.get(path)
        return folder is not None and len(folder.blocks) > 1

    def packed(self, path: bytes, low: bytes = b"", high: bytes | None = None) -> list[bytes]:
        """Return the blocks of a directory that may hold names from `low` up to before `high`."""
        folder = self._folders.get(path)
        if folder is None:
            return []
        start = max(0, bisect_right(folder.firsts, low) - 1)
        found: list[bytes] = []
        for index in range(start, len(folder.blocks)):
            if high is not None and folder.firsts[index] >= high:
                break
            found.append(self._spool.load(folder.blocks[index]))
        return found

    def set_blocks(self, path: bytes, blocks: Iterable[Block]) -> None:
        """Note all the files of a directory, as blocks in order of their names."""
        folder = self._folders.setdefault(path, _Folder())
        folder.firsts, folder.blocks, folder.tallies = [], [], []
        self._forget_cached(path)
        for first, packed, tally in blocks:
            if tally[0]:
                folder.firsts.append(first)
                folder.blocks.append(self._spool.store(packed))
                folder.tallies.append(tally)

    def add(
        self, path: bytes, records: Iterable[Record], *, without: AbstractSet[bytes] = frozenset()
    ) -> None:
        """Note some more files of a directory, or other records of those that it has.

        Args:
            path: The directory.
            records: Those to add.
            without: Names to forget first.
        """
        merged = {
            record[NAME]: record
            for packed in self.packed(path)
            for record in unpack(packed)
            if record[NAME] not in without
        }
        merged.update((record[NAME], record) for record in records)
        ordered = [merged[name] for name in sorted(merged)]
        pieces = range(0, len(ordered), BLOCK_RECORDS)
        self.set_blocks(path, [pack(ordered[at : at + BLOCK_RECORDS]) for at in pieces])

    def _find(self, directory: bytes, name: bytes) -> Record | None:
        folder = self._folders.get(directory)
        if folder is None or not folder.blocks:
            return None
        index = max(0, bisect_right(folder.firsts, name) - 1)
        key = (directory, index)
        records = self._cache.get(key)
        if records is None:
            listed = unpack(self._spool.load(folder.blocks[index]))
            self._cache[key] = records = {record[NAME]: record for record in listed}
            if len(self._cache) > _CACHED_BLOCKS:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(key)
        return records.get(name)

    def _forget_cached(self, path: bytes) -> None:
        for key in [key for key in self._cache if key[0] == path]:
            del self._cache[key]


class _Values(ValuesView[Entry]):
    """Goes through the entries without looking each up."""

    _mapping: Catalogue

    def __iter__(self) -> Iterator[Entry]:
        return self._mapping._walk()  # noqa: SLF001 - a view is part of its mapping


class _Items(ItemsView[bytes, Entry]):
    """Goes through paths and entries without looking each up."""

    _mapping: Catalogue

    def __iter__(self) -> Iterator[tuple[bytes, Entry]]:
        return ((entry.path, entry) for entry in self._mapping._walk())  # noqa: SLF001 - the same


def catalogue_of(entries: Iterable[Entry], spill: Path | None = None) -> Catalogue:
    """Make a catalogue of entries, in little memory where they come in the order of the walk."""
    found = Catalogue(spill)
    below: dict[bytes, set[bytes]] = {b"": set()}
    own: dict[bytes, Record] = {}
    waiting: list[Record] = []
    current = b""
    for entry in entries:
        directory, name = split_path(entry.path)
        inner = entry.path if entry.kind is Kind.DIRECTORY else directory
        while inner not in below:  # its parent may come later, or not at all
            below[inner] = set()
            inner = split_path(inner)[0]
        if entry.kind is Kind.DIRECTORY:
            own[entry.path] = record_of(b"", entry, ALL_KEPT)
            continue
        if directory != current or len(waiting) >= _WAITING_RECORDS:
            found.add(current, waiting)
            waiting, current = [], directory
        waiting.append(record_of(name, entry, ALL_KEPT))
    found.add(current, waiting)
    for path in below:
        if path:
            directory, name = split_path(path)
            below[directory].add(name)
    for path, names in below.items():
        found.set_folder(path, own.get(path), names)
    return found
