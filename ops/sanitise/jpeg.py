"""Baseline JPEG in which every block of eight by eight pixels is one dot of a picture.

Such a block has one coefficient, its mean (ITU-T T.81, annexes B and F). So there is no transform
to compute, and nothing is lost.
"""

import struct

from ops.sanitise.lettering import Bitmap

_BLOCK = 8
_QUANTUM = 128
_WHITE, _BLACK = 8, -8
"""A mean times 8 is the coefficient, in units of `_QUANTUM` here: 128 above and below grey."""
_SAME, _FIRST, _CHANGE = 0, 4, 5
"""How many bits the difference to the block before takes: none, or that of 8 or 16."""
_CODES = {_SAME: "0", _CHANGE: "10", _FIRST: "110"}
_END_OF_BLOCK = "0"


def encode(picture: Bitmap) -> bytes:
    """Return a picture as JPEG in shades of grey, eight pixels for each of its own."""
    size = struct.pack(">BHHB", 8, picture.height * _BLOCK, picture.width * _BLOCK, 1)
    direct = bytes([0, 1, 1, 1, *[0] * 13, _SAME, _CHANGE, _FIRST])
    other = bytes([0x10, 1, *[0] * 15, 0])
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xE0, b"JFIF\0" + struct.pack(">HBHHBB", 0x0101, 0, 1, 1, 0, 0)),
            _segment(0xDB, bytes([0, _QUANTUM, *[1] * 63])),
            _segment(0xC0, size + bytes([1, 0x11, 0])),
            _segment(0xC4, direct),
            _segment(0xC4, other),
            _segment(0xDA, bytes([1, 1, 0, 0, 63, 0])),
            _scan(picture),
            b"\xff\xd9",
        )
    )


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


def _scan(picture: Bitmap) -> bytes:
    """Return the blocks: for each the difference of its mean, and that no more follows.

    No byte is 0xFF, which would be a marker: no code here has more than four ones in a row, each
    block ends in a zero, and fewer than eight ones fill the last byte.
    """
    before, digits = 0, []
    for row in picture.rows:
        for pixel in row:
            level = _BLACK if pixel else _WHITE
            digits += [_difference(level - before), _END_OF_BLOCK]
            before = level
    text = "".join(digits)
    text += "1" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8, "big")


def _difference(value: int) -> str:
    """Return the code of a difference; a negative one is the complement of its amount."""
    bits = abs(value).bit_length()
    number = value if value > 0 else value + (1 << bits) - 1
    return _CODES[bits] + (f"{number:0{bits}b}" if bits else "")
