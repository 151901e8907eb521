"""Compress and decompress a stream with zstd, in memory that does not depend on its length."""

import sys
from collections.abc import Iterable, Iterator
from types import ModuleType

from ops.archive.headers import ArchiveError
from ops.errors import missing_extra

MAGIC = b"\x28\xb5\x2f\xfd"
_LEVEL = 3
_WINDOW_LOG = 23
"""8 MiB: what any level up to 19 asks for. A stream that asks for more memory is refused."""

_PIECE_BYTES = 256 << 10


def zstd_module() -> ModuleType:
    """Return Python's own module for zstd, or the same for a Python that has none.

    Raises:
        UsageError: It is not installed.
    """
    try:
        if sys.version_info >= (3, 14):  # pragma: no cover - depends on the version
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise missing_extra("packing takes zstd", "pack") from error
    return zstd


def compress(pieces: Iterable[memoryview], *, threads: int) -> Iterator[bytes]:
    """Compress a stream piece by piece, into one frame with a checksum.

    The bytes do not depend on the number of threads, which is at least 1.
    """
    zstd = zstd_module()
    options = {
        zstd.CompressionParameter.compression_level: _LEVEL,
        zstd.CompressionParameter.checksum_flag: 1,
        zstd.CompressionParameter.nb_workers: max(1, threads),
    }
    compressor = zstd.ZstdCompressor(options=options)
    for piece in pieces:
        if made := compressor.compress(piece):
            yield made
    yield compressor.flush()


def decompress(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress one frame piece by piece; no piece is larger than 256 KiB.

    Raises:
        ArchiveError: It is damaged, cut short, followed by something, or takes too much memory.
    """
    zstd = zstd_module()
    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    decompressor = zstd.ZstdDecompressor(options=options)
    for piece in pieces:
        if decompressor.eof:
            raise ArchiveError("something follows its end")
        given = piece
        while True:
            try:
                made = decompressor.decompress(given, max_length=_PIECE_BYTES)
            except zstd.ZstdError as error:
                raise ArchiveError(f"it cannot be decompressed: {error}") from error
            given = b""
            if made:
                yield made
            if decompressor.eof or decompressor.needs_input:
                break
        if decompressor.unused_data:
            raise ArchiveError("something follows its end")
    if not decompressor.eof:
        raise ArchiveError("it is cut short")
