"""Headers of a tar archive, in the one form that is written, and the only one that is read.

It is ustar (POSIX.1-1988), with a pax header (POSIX.1-2001) where a path or a size does not fit.
Any tar reads it. There are regular files and directories, and nothing else.
"""

from dataclasses import dataclass

BLOCK = 512
END = bytes(2 * BLOCK)
MOST_PATH_BYTES = 32 << 10
"""Far beyond PATH_MAX; a pax header of this size still fits into any buffer of ours."""

_NAME_BYTES, _PREFIX_BYTES = 100, 155
_MOST_OCTAL = 8**11
_FILE, _DIRECTORY, _PAX = b"0", b"5", b"x"
_PAX_NAME = b"PaxHeader"
_ZERO = b"0000000\0"
_MAGIC = b"ustar\0" + b"00" + bytes(64) + 2 * _ZERO
_MODES = {_FILE: b"0000400\0", _DIRECTORY: b"0000700\0", _PAX: b"0000400\0"}
_OTHERS = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a pipe",
    b"7": "a file of an unusual kind",
    b"g": "a header for all that follows",
    b"D": "a GNU directory list",
    b"K": "a GNU long name of a link",
    b"L": "a GNU long name",
    b"M": "the rest of another volume",
    b"S": "a sparse file",
    b"V": "a name of a volume",
}


class ArchiveError(ValueError):
    """A stream that is no archive of a snapshot, or no whole one; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A file or directory of an archive; `modified` is in whole seconds since 1970."""

    path: bytes
    directory: bool = False
    size: int = 0
    modified: int = 0


def encode_header(header: Header) -> bytes:
    """Return the block of a header, or three and more where path or size do not fit into one.

    Raises:
        ValueError: The path is too long.
    """
    kind = _DIRECTORY if header.directory else _FILE
    path = header.path + b"/" if header.directory else header.path
    split = _split(path)
    if split is not None and header.size < _MOST_OCTAL:
        return _block(kind, *split, header.size, header.modified)
    if len(path) > MOST_PATH_BYTES:
        raise ValueError(f"the path has {len(path)} bytes")
    records = _record(b"path", path) + _record(b"size", b"%d" % header.size)
    return b"".join(
        (
            _block(_PAX, _PAX_NAME, b"", len(records), 0),
            records,
            bytes(-len(records) % BLOCK),
            _block(kind, _stand_in(path), b"", min(header.size, _MOST_OCTAL - 1), header.modified),
        )
    )


def _split(path: bytes) -> tuple[bytes, bytes] | None:
    """Split a path into what stands in the two fields of a header; None if it does not fit."""
    if not path.isascii():
        return None
    if len(path) <= _NAME_BYTES:
        return path, b""
    place = path.rfind(b"/", 0, min(_PREFIX_BYTES + 1, len(path) - 1))
    if place <= 0 or len(path) - place - 1 > _NAME_BYTES:
        return None
    return path[place + 1 :], path[:place]


def _stand_in(path: bytes) -> bytes:
    """Return what a reader shows that knows no pax headers."""
    return bytes(one if 32 < one < 127 else 95 for one in path[:_NAME_BYTES])  # noqa: PLR2004 - printable ASCII, and "_"


def _record(key: bytes, value: bytes) -> bytes:
    """Return a record of a pax header, which begins with its own length."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + 1
    while length != len(rest) + len(b"%d" % length):
        length = len(rest) + len(b"%d" % length)
    return b"%d%s" % (length, rest)


def _block(kind: bytes, name: bytes, prefix: bytes, size: int, modified: int) -> bytes:
    start = b"%s%s%s%s%011o\0%011o\0" % (
        name.ljust(_NAME_BYTES, b"\0"),
        _MODES[kind],
        _ZERO,
        _ZERO,
        size,
        min(max(modified, 0), _MOST_OCTAL - 1),
    )
    end = b"%s%s%s%s%s" % (
        kind,
        bytes(_NAME_BYTES),
        _MAGIC,
        prefix.ljust(_PREFIX_BYTES, b"\0"),
        bytes(12),
    )
    return b"%s%06o\0 %s" % (start, sum(start) + sum(end) + 8 * 32, end)


class HeaderReader:
    """Reads headers block by block, each of which must be as `encode_header` writes it."""

    def __init__(self) -> None:
        self._long: tuple[bytes, int] | None = None

    def extension_bytes(self, block: bytes) -> int:
        """Return how many bytes of a pax header follow this block; 0 if it begins an entry.

        Raises:
            ArchiveError: It is neither, or unreasonably long.
        """
        kind = block[156:157]
        if kind in {_FILE, _DIRECTORY}:
            return 0
        if kind != _PAX:
            raise ArchiveError(f"it holds {_OTHERS.get(kind, 'an entry of no known kind')}")
        size = _number(block[124:136])
        if self._long is not None or block != _block(_PAX, _PAX_NAME, b"", size, 0):
            raise ArchiveError("it holds a header that was not written by this tool")
        if not 0 < size <= MOST_PATH_BYTES + BLOCK:
            raise ArchiveError("it holds a name that is too long")
        return size

    def extend(self, records: bytes) -> None:
        """Take the content of a pax header, which holds for the entry that follows.

        Raises:
            ArchiveError: It says anything but path and size.
        """
        _, _, rest = records.partition(b" path=")
        path, _, rest = rest.rpartition(b"\n")[0].rpartition(b"\n")
        digits = rest.partition(b" size=")[2]
        size = int(digits) if digits.isdigit() and len(digits) < 20 else -1  # noqa: PLR2004 - beyond any file
        if size < 0 or records != _record(b"path", path) + _record(b"size", b"%d" % size):
            raise ArchiveError("it holds a header that was not written by this tool")
        self._long = path, size

    def entry(self, block: bytes) -> Header:
        """Return the entry that a block begins.

        Raises:
            ArchiveError: It is not in the form that is written.
        """
        directory = block[156:157] == _DIRECTORY
        name = block[:_NAME_BYTES].partition(b"\0")[0]
        prefix = block[345:500].partition(b"\0")[0]
        path, size = prefix + b"/" + name if prefix else name, _number(block[124:136])
        blocks = block
        if self._long is not None:
            path, size = self._long
            records = _record(b"path", path) + _record(b"size", b"%d" % size)
            padding = bytes(-len(records) % BLOCK)
            extension = _block(_PAX, _PAX_NAME, b"", len(records), 0)
            blocks = b"".join((extension, records, padding, block))
            self._long = None
        header = Header(
            path=path[:-1] if directory else path,
            directory=directory,
            size=size,
            modified=_number(block[136:148]),
        )
        slash_missing = directory and not path.endswith(b"/")
        if slash_missing or (size and directory) or encode_header(header) != blocks:
            raise ArchiveError("it holds a header that was not written by this tool")
        return header


def _number(field: bytes) -> int:
    """Read an octal number; 0 where there is none, which is then not what would be written."""
    digits = field[:-1]
    return int(digits, 8) if digits.isdigit() and not set(digits) & set(b"89") else 0
