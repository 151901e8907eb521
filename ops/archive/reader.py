"""Read the archive of a snapshot, and refuse whatever is not one, before anything of it is used."""

from collections.abc import Iterator
from dataclasses import dataclass

from ops.archive.headers import BLOCK, END, ArchiveError, Header, HeaderReader
from ops.bag import ATTACHMENTS, DATA, DATABASE, HISTORY, LEDGER, MANIFEST, SUMMARY, TAG_MANIFEST
from ops.names import display
from ops.snapshot import is_snapshot_name
from ops.tree.stored import is_stored_name

TAGS = ("bagit.txt", "bag-info.txt", SUMMARY, TAG_MANIFEST, MANIFEST, LEDGER)
"""The tag files, in the order in which they come."""

_LARGE = frozenset({MANIFEST, LEDGER, DATABASE})
_MOST_TAG_BYTES = 64 << 20
_BELOW = f"{ATTACHMENTS}/".encode()


class TooMuchError(ArchiveError):
    """The archive would become larger than what was agreed to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How large an archive may become: bytes of the tar stream, and entries."""

    bytes: int
    entries: int


class ArchiveReader:
    """The entries of one archive, in order; the paths are relative to its top directory.

    First come the tag files, then the directories of the payload, then its files. After each
    file `content` has to be read to its end.

    Args:
        pieces: The tar stream.
        limits: How large it may become.
    """

    def __init__(self, pieces: Iterator[bytes], limits: Limits) -> None:
        self._pieces = pieces
        self._limits = limits
        self._rest = memoryview(b"")
        self._left = 0
        self._size = 0
        self.bytes = self.entries = 0
        top = self._next_header()
        if top is None or not top.directory or not is_snapshot_name(display(top.path)):
            raise ArchiveError("it does not begin with the directory of a snapshot")
        self.name = display(top.path)

    def entries_of(self) -> Iterator[Header]:
        """Yield what the archive holds, and see that nothing follows its end.

        Raises:
            ArchiveError: It is not as it should be.
        """
        start = f"{self.name}/".encode()
        order = _Order()
        while (header := self._next_header()) is not None:
            if not header.path.startswith(start):
                raise ArchiveError(f"it holds a path outside of itself: {display(header.path)}")
            path = header.path[len(start) :]
            order.require(path, header)
            self._left = self._size = header.size
            yield Header(
                path=path,
                directory=header.directory,
                size=header.size,
                modified=header.modified,
            )
        order.require_end()

    def content(self) -> Iterator[memoryview]:
        """Yield the content of the file that came last."""
        while self._left:
            piece = self._some(self._left)
            self._left -= len(piece)
            yield piece
        if any(self._exactly(-self._size % BLOCK)):
            raise ArchiveError("it holds something behind the end of a file")

    def _next_header(self) -> Header | None:
        reader = HeaderReader()
        while True:
            block = self._exactly(BLOCK)
            if block == END[:BLOCK]:
                if self._exactly(BLOCK) != END[BLOCK:] or self._rest or next(self._pieces, None):
                    raise ArchiveError("something follows its end")
                return None
            size = reader.extension_bytes(block)
            if not size:
                break
            content = self._exactly(size)
            if any(self._exactly(-size % BLOCK)):
                raise ArchiveError("it holds something behind the end of a header")
            reader.extend(content)
        header = reader.entry(block)
        self.entries += 1
        if self.entries > self._limits.entries:
            raise TooMuchError(f"it holds more than {self._limits.entries:,} entries")
        self._require_room(header.size)
        return header

    def _require_room(self, more: int) -> None:
        if self.bytes + more > self._limits.bytes:
            raise TooMuchError(f"it would become larger than {self._limits.bytes:,} bytes")

    def _some(self, most: int) -> memoryview:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                raise ArchiveError("it is cut short")
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:most], self._rest[most:]
        self.bytes += len(taken)
        return taken

    def _exactly(self, count: int) -> bytes:
        self._require_room(count)
        if count <= len(self._rest):
            taken, self._rest = self._rest[:count], self._rest[count:]
            self.bytes += count
            return bytes(taken)
        parts = bytearray()
        while len(parts) < count:
            parts += self._some(count - len(parts))
        return bytes(parts)


class _Order:
    """Which entries there may be, and in which order."""

    def __init__(self) -> None:
        self._awaited = [*TAGS, HISTORY, DATA, DATABASE, ATTACHMENTS]
        self._last: list[bytes] = []

    def require(self, path: bytes, header: Header) -> None:
        """See that an entry may come now.

        Raises:
            ArchiveError: It may not.
        """
        if not self._awaited:
            self._require_portable(path, header)
            return
        name = self._awaited.pop(0)
        if name == HISTORY and path != HISTORY.encode():
            name = self._awaited.pop(0)  # nothing has happened to it yet
        if path != name.encode():
            raise ArchiveError(f"it holds {display(path)} where {name} should come")
        if header.directory != (name in {DATA, ATTACHMENTS}):
            raise ArchiveError(f"{name} is of the wrong kind")
        if name not in _LARGE and header.size > _MOST_TAG_BYTES:
            raise ArchiveError(f"{name} is too large")

    def _require_portable(self, path: bytes, header: Header) -> None:
        names = path.removeprefix(_BELOW).split(b"/")
        if not path.startswith(_BELOW) or not all(map(is_stored_name, names)):
            raise ArchiveError(f"it holds a path that no snapshot has: {display(path)}")
        if not header.directory:
            return
        if names <= self._last:
            raise ArchiveError(f"it holds a directory twice or too late: {display(path)}")
        self._last = names

    def require_end(self) -> None:
        """See that nothing is missing.

        Raises:
            ArchiveError: Something is.
        """
        if self._awaited:
            raise ArchiveError(f"it has no {self._awaited[0]}")
