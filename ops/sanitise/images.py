"""Pictures of a text as files of the usual formats, written without a library."""

import struct
import zlib
from collections.abc import Iterable, Iterator

from ops.sanitise import jpeg
from ops.sanitise.lettering import Bitmap, draw
from ops.sanitise.stored import zlib_stored

_SCALE = 2
_GIF_COLOUR_BITS, _GIF_CLEAR, _GIF_END = 2, 4, 5
_GIF_BLOCK = 255


def png(text: str) -> bytes:
    """Return a text as PNG: one bit of grey a pixel (W3C PNG, Third Edition)."""
    picture = draw(text).enlarged(_SCALE)
    size = struct.pack(">IIBBBBB", picture.width, picture.height, 1, 0, 0, 0, 0)
    lines = b"".join(b"\0" + _packed(row) for row in picture.rows)
    chunks = ((b"IHDR", size), (b"IDAT", zlib_stored(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def jpg(text: str) -> bytes:
    """Return a text as JPEG."""
    return jpeg.encode(draw(text))


def bmp(text: str) -> bytes:
    """Return a text as BMP: a file header before a DIB (Windows GDI, "Bitmap Storage")."""
    picture = draw(text).enlarged(_SCALE)
    content = _dib_header(picture, picture.height) + _dib_rows(picture)
    return b"BM" + struct.pack("<IHHI", 14 + len(content), 0, 0, 62) + content


def ico(text: str) -> bytes:
    """Return a text as an icon: a DIB, then a mask of zeros, through which nothing shines.

    The height in the DIB counts picture and mask (Microsoft, "Icons").
    """
    picture = draw(text).enlarged(_SCALE)
    mask = _dib_rows(Bitmap(rows=(b"\1" * picture.width,) * picture.height))
    content = _dib_header(picture, 2 * picture.height) + _dib_rows(picture) + mask
    entry = struct.pack(
        "<BBBBHHII", picture.width, picture.height, 2, 0, 1, 1, len(content), 6 + 16
    )
    return struct.pack("<HHH", 0, 1, 1) + entry + content


def gif(text: str) -> bytes:
    """Return a text as GIF, in two of its four colours (GIF89a)."""
    picture = draw(text).enlarged(_SCALE)
    screen = struct.pack("<HHBBB", picture.width, picture.height, 0b1_000_0_001, 0, 0)
    place = struct.pack("<HHHHB", 0, 0, picture.width, picture.height, 0)
    data = _lowest_first(_lzw(picture.rows))
    blocks = [data[at : at + _GIF_BLOCK] for at in range(0, len(data), _GIF_BLOCK)]
    return b"".join(
        (
            b"GIF89a" + screen + bytes([255] * 3 + [0] * 9),
            b"," + place + bytes([_GIF_COLOUR_BITS]),
            *(bytes([len(block)]) + block for block in blocks),
            b"\0;",
        )
    )


def webp(text: str) -> bytes:
    """Return a text as lossless WebP (RFC 9649, section 3).

    Green holds the picture, one bit a pixel, and is added to a red and a blue of zero.
    """
    picture = draw(text).enlarged(_SCALE)
    single, double, is_byte = (0b01, 2), (0b11, 2), (1, 1)
    zero, opaque = (single, (0, 1), (0, 1)), (single, is_byte, (255, 8))
    head = [(picture.width - 1, 14), (picture.height - 1, 14), (0, 1), (0, 3)]
    subtract_green, no_more, no_cache, no_groups = (0b10_1, 3), (0, 1), (0, 1), (0, 1)
    green = (double, is_byte, (0, 8), (255, 8))
    codes = [*green, *zero, *zero, *opaque, *zero]
    pixels = [(1 - pixel, 1) for row in picture.rows for pixel in row]
    bits = [*head, subtract_green, no_more, no_cache, no_groups, *codes, *pixels]
    data = b"\x2f" + _lowest_first(bits)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def _packed(row: bytes) -> bytes:
    """Return a row at one bit a pixel, the leftmost highest: paper is 1, ink is 0."""
    padded = row + bytes(-len(row) % 8)
    value = int("".join("01"[pixel == 0] for pixel in padded), 2)
    return value.to_bytes(len(padded) // 8, "big")


def _dib_header(picture: Bitmap, height: int) -> bytes:
    """Return a BITMAPINFOHEADER for one bit a pixel, and its two colours."""
    sizes = struct.pack("<IiiHH", 40, picture.width, height, 1, 1)
    return sizes + bytes(16) + struct.pack("<II", 0, 0) + b"\0\0\0\0\xff\xff\xff\0"


def _dib_rows(picture: Bitmap) -> bytes:
    """Return the rows from the bottom, each filled up to four bytes."""
    rows = [_packed(row) for row in reversed(picture.rows)]
    return b"".join(row + bytes(-len(row) % 4) for row in rows)


def _lzw(rows: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    """Encode rows as GIF does: codes and how many bits each takes.

    The table is cleared before each row: no row is long enough to fill it.
    """
    bits = _GIF_COLOUR_BITS + 1
    for row in rows:
        yield _GIF_CLEAR, bits
        bits = _GIF_COLOUR_BITS + 1
        table = {bytes([pixel]): pixel for pixel in range(_GIF_CLEAR)}
        free, known = _GIF_END + 1, row[:1]
        for pixel in row[1:]:
            longer = known + bytes([pixel])
            if longer in table:
                known = longer
                continue
            yield table[known], bits
            table[longer] = free
            bits += free == 1 << bits
            free, known = free + 1, bytes([pixel])
        yield table[known], bits
        bits += free == 1 << bits
    yield _GIF_END, bits


def _lowest_first(values: Iterable[tuple[int, int]]) -> bytes:
    """Return values of so many bits each, packed from the lowest bit of the first byte."""
    digits = "".join(f"{value:0{bits}b}"[::-1] for value, bits in values)
    return int(digits[::-1], 2).to_bytes(-(-len(digits) // 8), "little")
