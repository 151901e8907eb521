"""Pack the records of a directory into blocks, for a pipe or a file."""

import marshal
import stat
from collections.abc import Iterable
from typing import TypeAlias

from ops.tree.records import (
    DIGEST,
    FLAGS,
    GROUP_LOST,
    MODE,
    NAME,
    OWNER_LOST,
    SIZE,
    XATTRS_LOST,
    Record,
)

Tally: TypeAlias = tuple[int, int, int, int, int, int]
"""Totals: entries, files, bytes read, owners, groups and attributes that were not kept."""

Block: TypeAlias = tuple[bytes, bytes, Tally]
"""Records of one directory in order of their names: the first name, all packed, their totals."""

BLOCK_RECORDS = 200
"""As many names as a block holds, and as one piece of work is made of."""


def tally_of(records: Iterable[Record]) -> Tally:
    """Add records up."""
    entries = files = read = owners = groups = xattrs = 0
    for record in records:
        entries += 1
        flags = record[FLAGS]
        if flags:
            owners += bool(flags & OWNER_LOST)
            groups += bool(flags & GROUP_LOST)
            xattrs += bool(flags & XATTRS_LOST)
        if stat.S_ISREG(record[MODE]):
            files += 1
            if record[DIGEST]:
                read += record[SIZE]
    return entries, files, read, owners, groups, xattrs


def pack(records: list[Record]) -> Block:
    """Pack the records of some names, in their order, for a pipe or a file.

    Only the same Python reads them back (marshal), so they never outlive a run.
    """
    first = records[0][NAME] if records else b""
    return first, marshal.dumps(records, 2), tally_of(records)


def unpack(packed: bytes) -> list[Record]:
    """Read packed records back."""
    records: list[Record] = marshal.loads(packed)  # noqa: S302 - packed by this very run
    return records
