"""Keep packed records: in memory while they are few, in an unnamed file beyond that."""

import os
import tempfile
import weakref
from pathlib import Path
from typing import TypeAlias

from ops.errors import DestinationError, os_failure

Stored: TypeAlias = bytes | tuple[int, int]
"""What was stored: itself, or its place and length in the file."""

_SPILL_BYTES = 32 << 20


class Spool:
    """Stores pieces of bytes for as long as it lives.

    Args:
        directory: Where the file may be made; None for the system's place for temporary files.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._file: int | None = None
        self._end = 0
        self._in_memory = 0

    def store(self, piece: bytes) -> Stored:
        """Store a piece.

        Raises:
            DestinationError: The file cannot be written.
        """
        if self._in_memory + len(piece) <= _SPILL_BYTES:
            self._in_memory += len(piece)
            return piece
        try:
            place = self._end
            if self._file is None:
                with tempfile.TemporaryFile(dir=self._directory) as file:
                    self._file = os.dup(file.fileno())
                weakref.finalize(self, os.close, self._file)
            while piece:
                written = os.pwrite(self._file, piece, self._end)
                self._end += written
                piece = piece[written:]
        except OSError as error:
            where = self._directory or tempfile.gettempdir()
            raise os_failure(DestinationError, "write to", where, error) from error
        return place, self._end - place

    def load(self, stored: Stored) -> bytes:
        """Return a piece that was stored."""
        if isinstance(stored, bytes):
            return stored
        assert self._file is not None  # noqa: S101 - only a file hands out places in it
        return os.pread(self._file, stored[1], stored[0])
