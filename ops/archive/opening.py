"""Open an archive: decrypted and decompressed as it is read, never as a whole."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ops.archive import age, compression
from ops.archive.ahead import Put, ahead
from ops.archive.headers import BLOCK
from ops.archive.reader import ArchiveReader, Limits
from ops.errors import SourceError, UsageError, os_failure
from ops.names import display
from ops.tree.directories import open_quietly
from ops.tree.transfer import forget_pages

_PIECE_BYTES = 256 << 10
_ANY_BYTES = 1 << 30
"""What an archive may expand to in any case; a larger one 200 times its own size."""
_MOST_EXPANSION = 200
_LEAST_ENTRIES, _ENTRY_BYTES = 100_000, 16
"""How many entries there may be in any case, and how small one is at least, ledger included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """An archive that is open: its entries, its own size, and the digest of what was read of it."""

    reader: ArchiveReader
    size: int
    encrypted: bool
    digest: "hashlib._Hash"


def most_bytes(size: int) -> int:
    """Return how large an archive of a size may become unless somebody allows more."""
    return max(_ANY_BYTES, _MOST_EXPANSION * size)


def most_entries(size: int) -> int:
    """Return how many entries an archive of a size may hold unless somebody allows more bytes."""
    return _LEAST_ENTRIES + size // _ENTRY_BYTES


@contextmanager
def opened(
    path: Path,
    identities: Sequence[Any] = (),
    *,
    most: int = 0,
    from_disk: bool = False,
) -> Iterator[Opened]:
    """Open an archive, for the length of a block.

    Args:
        path: The file.
        identities: The secret keys, where it is encrypted.
        most: How large the tar stream may become, with any number of entries; 0 for what its own
            size allows.
        from_disk: Have the kernel forget what it has of the file before it is read.

    Raises:
        SourceError: It cannot be read, is no archive, or none of the keys opens it.
        UsageError: It is encrypted and there is no key, or the other way round.
        ArchiveError: It is no archive of a snapshot, or a damaged one.
    """
    try:
        descriptor = open_quietly(path)
    except OSError as error:
        raise os_failure(SourceError, "read the archive", path, error) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise SourceError(f"this is no regular file: {display(path)}")
    with ExitStack() as stack:
        file = stack.enter_context(os.fdopen(descriptor, "rb", buffering=0))
        encrypted = _is_encrypted(path, file, keys=bool(identities))
        digest = hashlib.sha256()
        pieces = _read(path, file, digest, from_disk=from_disk)
        if encrypted:
            pieces = stack.enter_context(ahead(_decrypting(pieces, identities)))
        clear = stack.enter_context(ahead(_decompressing(pieces)))
        size = status.st_size
        limits = Limits(
            bytes=most or most_bytes(size),
            entries=most // BLOCK if most else most_entries(size),
        )
        reader = ArchiveReader(clear, limits)
        yield Opened(reader=reader, size=size, encrypted=encrypted, digest=digest)


def _is_encrypted(path: Path, file: BinaryIO, *, keys: bool) -> bool:
    try:
        start = file.read(len(age.MAGIC))
        file.seek(0)
    except OSError as error:
        raise os_failure(SourceError, "read the archive", path, error) from error
    if start == age.MAGIC:
        if not keys:
            raise UsageError(
                f"the archive is encrypted: {display(path)}",
                hint="name the file of a secret key: --identity-file FILE",
            )
        return True
    if not start.startswith(compression.MAGIC):
        raise SourceError(
            f"this is no archive of `inv pack`: {display(path)}",
            hint="it is compressed with zstd, and may be encrypted with age (not armoured)",
        )
    if keys:
        raise UsageError(
            f"the archive is not encrypted: {display(path)}",
            hint="if that is no surprise, leave --identity-file out",
        )
    return False


def _read(
    path: Path, file: BinaryIO, digest: "hashlib._Hash", *, from_disk: bool
) -> Iterator[bytes]:
    try:
        if from_disk:
            forget_pages(file.fileno())
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            yield piece
    except OSError as error:
        raise os_failure(SourceError, "read the archive", path, error) from error


def _decrypting(pieces: Iterator[bytes], identities: Sequence[Any]) -> Callable[[Put], None]:
    return lambda put: age.decrypt(pieces, identities, put)


def _decompressing(pieces: Iterator[bytes]) -> Callable[[Put], None]:
    def produce(put: Put) -> None:
        for piece in compression.decompress(pieces):
            put(piece)

    return produce
