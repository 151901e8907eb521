"""Cut the names of a large directory into parts, and put what came of them together again."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from ops.tree.blocks import BLOCK_RECORDS, Block, unpack
from ops.tree.listing import Name
from ops.tree.records import NAME, Record

Piece: TypeAlias = tuple[Sequence[Name], bytes, bytes | None]
"""A part as plain values, for a pipe."""


class Part(NamedTuple):
    """Some names, all those from `low` up to before `high`, which is None for the last part."""

    names: Sequence[Name]
    low: bytes
    high: bytes | None

    def known(self, packed: Iterable[bytes]) -> dict[bytes, Record]:
        """Pick the records of these names out of packed ones."""
        return {
            record[NAME]: record
            for block in packed
            for record in unpack(block)
            if self.covers(record[NAME])
        }

    def covers(self, name: bytes) -> bool:
        """Tell whether a name falls into this part."""
        return self.low <= name and (self.high is None or name < self.high)


def cut(names: Sequence[Name]) -> Iterator[Part]:
    """Cut names, which are in order, into parts; there is at least one."""
    for start in range(0, len(names), BLOCK_RECORDS) or [0]:
        end = start + BLOCK_RECORDS
        low = names[start][0] if start else b""
        high = names[end][0] if end < len(names) else None
        yield Part(names[start:end], low, high)


class Parts:
    """What came of the parts of one directory so far.

    Args:
        names: All its names.
    """

    def __init__(self, names: Sequence[Name]) -> None:
        self._blocks: list[Block] = []
        self._waiting = max(1, -(-len(names) // BLOCK_RECORDS))

    def add(self, block: Block) -> bool:
        """Take what came of one part; tell whether all are there now."""
        self._blocks.append(block)
        self._waiting -= 1
        return not self._waiting

    def blocks(self) -> list[Block]:
        """Return them in order of their names."""
        return sorted(self._blocks)
