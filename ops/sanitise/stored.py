"""zlib, gzip and ZIP with their content as it is, not packed.

What a compressor makes of the same bytes differs from one build to the next; this does not.
"""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterable

_EPOCH = (1980, 1, 1, 0, 0, 0)
_MOST = 0xFFFF


def zlib_stored(data: bytes) -> bytes:
    """Return a zlib stream (RFC 1950)."""
    return b"\x78\x01" + _deflate(data) + struct.pack(">I", zlib.adler32(data))


def gzip_stored(data: bytes) -> bytes:
    """Return a gzip file (RFC 1952): no name, no time, no system."""
    header = b"\x1f\x8b\x08\0" + bytes(4) + b"\0\xff"
    return header + _deflate(data) + struct.pack("<II", zlib.crc32(data), len(data))


def zip_stored(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a ZIP file of names and contents, in their order (PKWARE APPNOTE.TXT)."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            member = zipfile.ZipInfo(name, _EPOCH)
            member.create_system = 3
            member.external_attr = 0o100644 << 16
            archive.writestr(member, content)
    return whole.getvalue()


def _deflate(data: bytes) -> bytes:
    """Return blocks of the stored kind (RFC 1951, 3.2.4), the last one marked."""
    pieces = [data[at : at + _MOST] for at in range(0, len(data), _MOST)] or [b""]
    blocks = [struct.pack("<HH", len(piece), len(piece) ^ _MOST) + piece for piece in pieces]
    return b"".join(b"\0" + block for block in blocks[:-1]) + b"\1" + blocks[-1]
