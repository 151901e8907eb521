"""Compare databases page by page, and tell whose page it is.

The layout is that of https://www.sqlite.org/fileformat2.html, chapters 1.5 to 1.7.
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from ops.model import PAGE_DIGEST_BYTES, PageDigests
from ops.sqlite.connection import connect
from ops.sqlite.header import parse_header

_INTERIOR = {0x02: "index", 0x05: "table"}
_LEAF = {0x0A: "index", 0x0D: "table"}
_MOST_VARINT_BYTES = 9


def digest_pages(
    path: Path,
    *,
    page_size: int = 0,
    advance: Callable[[int], None] = lambda _count: None,
) -> PageDigests:
    """Read a database file once and hash it, whole and page by page.

    Args:
        path: A file that nobody writes.
        page_size: In bytes; 0 takes the one in its header.
        advance: Called with the number of bytes after each page.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no database and no page size was given.
    """
    whole = hashlib.sha256()
    pages = bytearray()
    with path.open("rb") as file:
        page_size = page_size or parse_header(os.pread(file.fileno(), 100, 0)).page_size
        while page := file.read(page_size):
            whole.update(page)
            pages += hashlib.sha256(page).digest()[:PAGE_DIGEST_BYTES]
            advance(len(page))
        size = file.tell()
    return PageDigests(size=size, digest=whole.hexdigest(), page_size=page_size, pages=bytes(pages))


def changed_pages(expected: PageDigests, found: PageDigests) -> tuple[int, ...]:
    """List the numbers, from 1, of the pages that differ or that only one side has."""
    most = max(expected.count, found.count)
    return tuple(index + 1 for index in range(most) if expected.page(index) != found.page(index))


def page_owners(path: Path, page_size: int, numbers: frozenset[int]) -> dict[int, str]:
    """Tell which table or index each page belongs to, in a database that may be damaged.

    Slow on purpose: it walks the trees of the file, and is only asked once a page is wrong.

    Args:
        path: A database file that nobody writes.
        page_size: In bytes; its own header may be what is damaged.
        numbers: Page numbers, from 1.

    Returns:
        A phrase for each number, such as "table core_evidence" or "index a of table b"; pages
        that no tree leads to are "no table (free or unreachable)".
    """
    owners = dict.fromkeys(sorted(numbers), "no table (free or unreachable)")
    wanted = set(numbers)
    with path.open("rb") as file:
        reader = _Pages(file.fileno(), page_size)
        for root, owner in [(1, "the schema"), *_roots(path)]:
            for number in reader.tree(root):
                if number in wanted:
                    owners[number] = owner
                    wanted.discard(number)
            if not wanted:
                break
    return owners


def _roots(path: Path) -> list[tuple[int, str]]:
    roots: list[tuple[int, str]] = []
    try:
        connection = connect(path, "mode=ro&immutable=1", 0)
    except sqlite3.Error:
        return roots  # the schema itself is damaged: the caller names what it still can
    with closing(connection):
        rows = connection.execute(
            "SELECT type, name, tbl_name, rootpage FROM sqlite_schema"
            " WHERE typeof(rootpage) = 'integer' AND rootpage > 0"
        )
        for kind, name, table, root in rows:
            owner = f"table {name}" if kind == "table" else f"index {name} of table {table}"
            roots.append((root, owner))
    return roots


class _Pages:
    """Walks b-trees by page numbers; damage ends a branch, never the walk."""

    def __init__(self, descriptor: int, page_size: int) -> None:
        self._descriptor = descriptor
        self._size = page_size
        # Byte 20 is the space reserved at the end of each page; a file this short has none.
        self._usable = page_size - int.from_bytes(os.pread(descriptor, 1, 20))
        self._count = os.fstat(descriptor).st_size // self._size

    def tree(self, root: int) -> Iterator[int]:
        """Yield every page of the tree at `root`, overflow pages included."""
        seen: set[int] = set()
        pending = [root]
        while pending:
            number = pending.pop()
            if number in seen or not 1 <= number <= self._count:
                continue
            seen.add(number)
            yield number
            page = os.pread(self._descriptor, self._size, (number - 1) * self._size)
            offset = 100 if number == 1 else 0
            try:
                pending.extend(self._children(page, offset))
                for first in self._overflows(page, offset):
                    yield from self._chain(first, seen)
            except IndexError:
                continue  # damage points past the page: this branch ends here

    def _children(self, page: bytes, offset: int) -> list[int]:
        if page[offset] not in _INTERIOR:
            return []
        children = [int.from_bytes(page[offset + 8 : offset + 12], "big")]
        children += [
            int.from_bytes(page[cell : cell + 4], "big") for cell in _cells(page, offset, 12)
        ]
        return children

    def _overflows(self, page: bytes, offset: int) -> Iterator[int]:
        kind = page[offset]
        index = "index" in {_INTERIOR.get(kind), _LEAF.get(kind)}
        if not index and kind not in _LEAF:
            return  # interior pages of tables hold keys only
        pointers = 12 if kind in _INTERIOR else 8
        for cell in _cells(page, offset, pointers):
            start = cell + 4 if kind in _INTERIOR else cell
            payload, start = _varint(page, start)
            if not index:
                _, start = _varint(page, start)
            local = self._local(payload, index=index)
            if local < payload:
                place = start + local
                yield int.from_bytes(page[place : place + 4], "big")

    def _local(self, payload: int, *, index: bool) -> int:
        """Return how much of a payload stays in its cell (fileformat2, chapter 1.6)."""
        most = (self._usable - 12) * 64 // 255 - 23 if index else self._usable - 35
        if payload <= most:
            return payload
        least = (self._usable - 12) * 32 // 255 - 23
        surplus = least + (payload - least) % (self._usable - 4)
        return surplus if surplus <= most else least

    def _chain(self, number: int, seen: set[int]) -> Iterator[int]:
        while 1 <= number <= self._count and number not in seen:
            seen.add(number)
            yield number
            head = os.pread(self._descriptor, 4, (number - 1) * self._size)
            number = int.from_bytes(head, "big")


def _cells(page: bytes, offset: int, header_bytes: int) -> Iterator[int]:
    count = int.from_bytes(page[offset + 3 : offset + 5], "big")
    start = offset + header_bytes
    for place in range(start, start + 2 * count, 2):
        cell = int.from_bytes(page[place : place + 2], "big")
        if cell:
            yield cell


def _varint(page: bytes, start: int) -> tuple[int, int]:
    value = 0
    for count in range(1, _MOST_VARINT_BYTES):
        byte = page[start + count - 1]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:  # noqa: PLR2004 - the bit that says another byte follows
            return value, start + count
    # The ninth byte counts with all its bits.
    return value << 8 | page[start + _MOST_VARINT_BYTES - 1], start + _MOST_VARINT_BYTES
