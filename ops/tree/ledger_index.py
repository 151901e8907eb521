"""Find the lines of a directory in a ledger without reading the others."""

import json
import os
from bisect import bisect_right
from pathlib import Path

from ops.tree.ledger import BROKEN, LedgerError, decode_block, read_head
from ops.tree.records import Record


class LedgerIndex:
    """Finds the lines of a directory in a ledger without reading the others.

    Args:
        path: The ledger.

    Raises:
        LedgerError: It is no ledger.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._places: dict[bytes, list[tuple[bytes, int, int]]] = {}
        with path.open("rb") as file:
            read_head(file)
            place = file.tell()
            for line in file:
                directory, first = _beginning(line)
                self._places.setdefault(directory, []).append((first, place, len(line)))
                place += len(line)
            self._file = os.dup(file.fileno())

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def records(self, path: bytes, name: bytes) -> tuple[bytes, bytes | None, dict[bytes, Record]]:
        """Return the records around a name in a directory.

        Returns:
            The first name and that of the next line, between which all names are among the
            records; and the records by name.
        """
        places = self._places.get(path, [])
        index = max(0, bisect_right(places, name, key=lambda one: one[0]) - 1)
        if not places:
            return b"", None, {}
        first, place, length = places[index]
        after = places[index + 1][0] if index + 1 < len(places) else None
        _, records = decode_block(os.pread(self._file, length, place))
        return first if index else b"", after, {record[0]: record for record in records}


_DECODER = json.JSONDecoder()


def _beginning(line: bytes) -> tuple[bytes, bytes]:
    """Return the directory of a line, and the name of its first entry, without reading the rest."""
    try:
        text = line.decode("ascii")
        directory, end = _DECODER.raw_decode(text, 1)
        opening = text[end : end + 3]
        first, _ = _DECODER.raw_decode(text, end + 3)
        if text[0] != "[" or opening != ",[[":
            raise LedgerError("a line of the ledger cannot be read")
        return directory.encode("utf-8", "surrogateescape"), first.encode(
            "utf-8", "surrogateescape"
        )
    except BROKEN as error:
        raise LedgerError(f"a line of the ledger cannot be read: {error}") from error
