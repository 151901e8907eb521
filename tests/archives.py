"""Archives of snapshots, taken apart and put together again, as somebody would who means harm."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.archive.compression import zstd_module

BLOCK = 512
END = bytes(2 * BLOCK)
NAMES = {b"0": "file", b"5": "directory"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """An entry of a tar stream: its header block or blocks, and its content."""

    header: bytes
    content: bytes = b""

    @property
    def name(self) -> str:
        """Its path, as far as the header itself has it."""
        block = self.header[-BLOCK:]
        name = block[:100].rstrip(b"\0")
        prefix = block[345:500].rstrip(b"\0")
        return (prefix + b"/" + name if prefix else name).decode()


def squeeze(*clear: bytes, window: int = 0) -> bytes:
    """Compress a stream."""
    return squeeze_all(clear, window=window)


def squeeze_all(pieces: Iterable[bytes], *, window: int = 0) -> bytes:
    """Compress a stream that comes in pieces."""
    zstd = zstd_module()
    options = {zstd.CompressionParameter.checksum_flag: 1}
    if window:
        options[zstd.CompressionParameter.window_log] = window
    compressor = zstd.ZstdCompressor(options=options)
    return b"".join((*map(compressor.compress, pieces), compressor.flush()))


def stretch(archive: Path) -> bytes:
    """Decompress an archive."""
    clear: bytes = zstd_module().decompress(archive.read_bytes())
    return clear


def parts_of(clear: bytes) -> list[Part]:
    """Take a tar stream apart."""
    found: list[Part] = []
    place, header = 0, b""
    while clear[place : place + BLOCK] != END[:BLOCK]:
        block = clear[place : place + BLOCK]
        size = int(block[124:135], 8)
        content = clear[place + BLOCK : place + BLOCK + size]
        padded = size + -size % BLOCK
        place += BLOCK + padded
        if block[156:157] == b"x":
            header += block + content.ljust(padded, b"\0")
            continue
        found.append(Part(header=header + block, content=content))
        header = b""
    return found


def whole(parts: Iterable[Part]) -> bytes:
    """Put a tar stream together."""
    pieces = (part.header + part.content + bytes(-len(part.content) % BLOCK) for part in parts)
    return b"".join(pieces) + END


def edited(block: bytes, *changes: tuple[int, bytes], signed: bool = True) -> bytes:
    """Change a header block at some places, and make its checksum right again."""
    made = bytearray(block)
    for place, value in changes:
        made[place : place + len(value)] = value
    if signed:
        made[148:156] = b" " * 8
        made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def header(name: bytes, size: int = 0, *, kind: bytes = b"0") -> bytes:
    """Make a header block as `inv pack` does, for any name of up to 100 bytes and any kind."""
    mode = b"0000700\0" if kind == b"5" else b"0000400\0"
    block = b"%s%s%s%s%011o\0%011o\0%s%s%s%s%s" % (
        name.ljust(100, b"\0"),
        mode,
        b"0000000\0",
        b"0000000\0",
        size,
        1,
        bytes(8),
        kind,
        bytes(100),
        b"ustar\x0000" + bytes(64) + b"0000000\x00" * 2,
        bytes(167),
    )
    return edited(block)


def extension(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    """Make a pax header, block and content."""
    content = b""
    for key, value in records:
        rest = b" %s=%s\n" % (key, value)
        length = len(rest) + 1
        while length != len(rest) + len(str(length)):
            length = len(rest) + len(str(length))
        content += b"%d%s" % (length, rest)
    block = edited(header(b"PaxHeader", len(content), kind=kind), (136, b"%011o\0" % 0))
    return block + content + bytes(-len(content) % BLOCK)


def long_file(path: bytes, content: bytes) -> Part:
    """Make a file whose path stands in a pax header."""
    start = extension((b"path", path), (b"size", b"%d" % len(content)))
    shown = bytes(one if 32 < one < 127 else 95 for one in path[:100])
    return Part(header=start + header(shown, len(content)), content=content)


def index_of(parts: Sequence[Part], ending: str) -> int:
    """Find the first part whose path ends so."""
    return next(at for at, part in enumerate(parts) if part.name.endswith(ending))


def noise(size: int) -> bytes:
    """Make bytes that cannot be compressed, the same every time."""
    return random.Random(size).randbytes(size)  # noqa: S311 - test data
