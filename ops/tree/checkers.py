"""Check the files of one directory against what they should be: the work of one worker."""

from collections.abc import Sequence

from ops.model import Kind, kind_of
from ops.tree.blocks import unpack
from ops.tree.compare import Comparison
from ops.tree.directories import join_path
from ops.tree.listing import Name
from ops.tree.parts import Part, Piece
from ops.tree.readers import EntryReader
from ops.tree.records import (
    DIGEST,
    HOST,
    INODE,
    LINK,
    LINKS,
    MODE,
    NAME,
    SIZE,
    Record,
    altered,
    entry_of,
)
from ops.tree.work import LARGE_BYTES, MOST_NAMES, UNCHANGED, Checked, Link


class FolderChecker:
    """Checks a tree, one directory after another.

    Args:
        entries: Reads what they hold.
    """

    def __init__(self, entries: EntryReader) -> None:
        self._entries = entries

    def check(
        self, folders: Sequence[tuple[bytes, Record, Sequence[bytes], Sequence[bytes] | None]]
    ) -> list[Checked]:
        """Read directories, and tell in what they differ from what they should be.

        Args:
            folders: For each its path, its record, the names of the directories and the packed
                records of the files that it should hold; None where those are too many.

        Raises:
            OpsError: The tree cannot be read.
        """
        return [self._check_folder(*folder) for folder in folders]

    def check_names(self, path: bytes, piece: Piece, packed: Sequence[bytes]) -> Checked:
        """Check some of the files of a large directory.

        Args:
            path: The directory.
            piece: Its files, from one name up to before another: a `Part`, as a plain tuple.
            packed: The records of these, and maybe of more.

        Raises:
            OpsError: The tree cannot be read.
        """
        part = Part(*piece)
        return self._check_files(path, part.names, part.known(packed), self._comparison())

    def check_large(self, path: bytes, expected: Record) -> Checked:
        """Check one large file.

        Raises:
            OpsError: The tree cannot be read.
        """
        comparison = self._comparison()
        found = self._check_file(path, expected, comparison, plain=True)
        checked = _checked(path, comparison, files=1, read=expected[SIZE])
        return checked._replace(linked=[] if found is None else _linked(expected, found))

    def _comparison(self) -> Comparison:
        return Comparison(self._entries.tree.root)

    def _check_folder(
        self,
        path: bytes,
        own: Record,
        directories: Sequence[bytes],
        packed: Sequence[bytes] | None,
    ) -> Checked:
        comparison = self._comparison()
        found = self._entries.folder(path)
        if found is None:
            comparison.missing(path, kind_of(own[MODE]))
            return _checked(path, comparison)
        now, listing = found
        comparison.compare(entry_of(path, own), now)
        expected = set(directories)
        for name in listing.directories:
            if name not in expected:
                comparison.unexpected(join_path(path, name), Kind.DIRECTORY)
        for name in expected.difference(listing.directories):
            comparison.missing(join_path(path, name), Kind.DIRECTORY)
        below = [name for name in listing.directories if name in expected]
        if packed is None or len(listing.others) > MOST_NAMES:
            checked = _checked(path, comparison)
            return checked._replace(directories=below, names=listing.others)
        files = {record[NAME]: record for part in packed for record in unpack(part)}
        checked = self._check_files(path, listing.others, files, comparison)
        return checked._replace(directories=below)

    def _check_files(
        self,
        path: bytes,
        files: Sequence[Name],
        expected: dict[bytes, Record],
        comparison: Comparison,
    ) -> Checked:
        large: list[Record] = []
        linked: list[Link] = []
        count = read = 0
        for name, plain in files:
            record = expected.pop(name, None)
            if record is None:
                found = self._entries.read(path, name, plain=plain, contents=False)
                if found is not None:
                    comparison.unexpected(join_path(path, name), kind_of(found[MODE]))
                continue
            if record[SIZE] >= LARGE_BYTES and record[LINKS] == 1:
                large.append(record)
                continue
            if plain and record[LINKS] == 1 and self._entries.is_as_recorded(path, record):
                count += 1
                read += record[SIZE]
                continue
            contents = not record[LINK]
            found = self._check_file(path, record, comparison, plain=plain, contents=contents)
            if found is None:
                continue
            linked += _linked(record, found)
            count += plain
            read += record[SIZE] if contents and record[DIGEST] else 0
        for record in expected.values():
            comparison.missing(join_path(path, record[NAME]), kind_of(record[MODE]))
        checked = _checked(path, comparison, files=count, read=read)
        return checked._replace(large=large, linked=linked)

    def _check_file(
        self,
        path: bytes,
        record: Record,
        comparison: Comparison,
        *,
        plain: bool,
        contents: bool = True,
    ) -> Record | None:
        """Compare an entry with its record; its first name is compared later."""
        name = record[NAME]
        found = self._entries.read(path, name, plain=plain, contents=contents)
        if found is None:
            comparison.missing(join_path(path, name), kind_of(record[MODE]))
        elif not contents:
            comparison.compare(
                entry_of(path, altered(record, {LINK: b""})),
                entry_of(path, altered(found, {DIGEST: record[DIGEST]})),
            )
        elif found[:LINK] != record[:LINK]:
            comparison.compare(entry_of(path, altered(record, {LINK: b""})), entry_of(path, found))
        return found


def _linked(record: Record, found: Record) -> list[Link]:
    """Return a name of a file that has several, or should have."""
    if found[LINKS] == 1 and not record[LINK]:
        return []
    return [(record[NAME], found[HOST], found[INODE], UNCHANGED, record[LINK])]


def _checked(path: bytes, comparison: Comparison, *, files: int = 0, read: int = 0) -> Checked:
    return Checked(
        path,
        mismatches=comparison.mismatches,
        excused=comparison.excused,
        files=files,
        bytes=read,
    )
