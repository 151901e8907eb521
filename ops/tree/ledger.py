"""The ledger of a snapshot: all that its payload cannot hold, as JSON Lines.

The first line is the head. Every other line is an array of a directory's path and some of its
entries, at most 200; the first line of a directory begins with its own entry, whose name is empty.
Lines come in the order of the walk, entries in the order of their names. An entry is an array in
the order of `COLUMNS`. A name that is no UTF-8 is written with lone surrogates, one for each byte
(PEP 383). `docs/snapshots.md` describes it for those who read it without this tool.
"""

import base64
import json
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ops.tree.blocks import BLOCK_RECORDS, pack
from ops.tree.catalogue import Catalogue
from ops.tree.directories import split_path
from ops.tree.records import NEVER, Record

FORMAT = "ciso-ops ledger"
SCHEMA_VERSION = 1
COLUMNS = (
    *("name", "mode", "uid", "gid", "mtime_ns", "size", "sha256"),
    *("atime_ns", "inode", "ctime_ns", "more"),
)
"""`mode` is that of stat(2) in octal, its type included; `sha256` is empty for all but files;
`inode` and `ctime_ns` are those of the source, by which the next snapshot knows a file again (null
where a change might have gone unseen). `more` holds what few entries have: `target`, `xattrs`
(base64), `hard_link` (the path of the first name), `device`."""

_DIGEST_BYTES = 32
BROKEN = (ValueError, TypeError, AttributeError, KeyError, RecursionError, OverflowError)
"""What reading a line may end in that is none, or not whole."""

_HEAD_BYTES = 1 << 16
_TYPE_BITS, _FILE, _DIRECTORY = 0o170000, stat.S_IFREG, stat.S_IFDIR
_KINDS = frozenset(
    {
        *(stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFSOCK),
        *(stat.S_IFCHR, stat.S_IFBLK),
    }
)
_MOST_MODE, _MOST_OWNER, _MOST = 0o200000, 1 << 32, 1 << 63
_MOST_TIME = _MOST * 10**9
"""Seconds of 64 bits, as some file systems keep them, in nanoseconds."""
_DOTS = frozenset({b".", b".."})
_NUMBERS = {int}


class LedgerError(ValueError):
    """A document that is no ledger, or was damaged; the message says how."""


def encode_head() -> bytes:
    """Return the first line."""
    fields = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "columns": COLUMNS}
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def encode_block(path: bytes, records: Sequence[Record]) -> bytes:
    """Return the line for some records of a directory."""
    entries = [_encode(record) for record in records]
    return json.dumps([_text(path), entries], separators=(",", ":")).encode() + b"\n"


def encode_folder(path: bytes, own: Record, records: Sequence[Record]) -> bytes:
    """Return the lines for a directory: itself, and what is in it but directories."""
    rest = range(BLOCK_RECORDS, len(records), BLOCK_RECORDS)
    lines = [encode_block(path, [own, *records[:BLOCK_RECORDS]])]
    lines += [encode_block(path, records[at : at + BLOCK_RECORDS]) for at in rest]
    return b"".join(lines)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _encode(record: Record) -> tuple[Any, ...]:
    name, mode, uid, gid, modified, size, device, digest, target, xattrs, link, accessed = record[
        :12
    ]
    inode, changed = record[13], record[14]
    more: dict[str, Any] = {}
    if target:
        more["target"] = _text(target)
    if link:
        more["hard_link"] = _text(link)
    if device:
        more["device"] = device
    if xattrs:
        more["xattrs"] = {key: base64.b64encode(value).decode() for key, value in xattrs}
    return (
        *(_text(name), f"{mode:o}", uid, gid, modified, size, digest.hex(), accessed, inode),
        *(None if changed == NEVER else changed, more),
    )


def _decode(entry: list[Any]) -> Record:
    name, mode, uid, gid, modified, size, digest, accessed, inode, changed, more = entry
    target = link = b""
    xattrs: tuple[tuple[str, bytes], ...] = ()
    device = 0
    if more:
        target, link = _bytes(more.get("target", "")), _bytes(more.get("hard_link", ""))
        device = more.get("device", 0)
        xattrs = tuple(
            (key, base64.b64decode(value, validate=True))
            for key, value in more.get("xattrs", {}).items()
        )
    return (
        name.encode("utf-8", "surrogateescape"),
        int(mode, 8),
        uid,
        gid,
        modified,
        size,
        device,
        bytes.fromhex(digest),
        target,
        xattrs,
        link,
        accessed,
        0,
        inode,
        NEVER if changed is None else changed,
        1,
        size,
        0,
    )


def decode_block(line: bytes) -> tuple[bytes, list[Record]]:
    """Read a line back: the path of a directory, and records.

    Raises:
        LedgerError: It is none.
    """
    try:
        path, entries = json.loads(line)
        records = [_decode(entry) for entry in entries]
        directory = _bytes(path)
    except BROKEN as error:
        raise LedgerError(f"a line of the ledger cannot be read: {error}") from error
    for number, record in enumerate(records):
        if not _is_sane(record, own=not number):
            raise LedgerError(f"a line of the ledger holds no entry: {record[0]!r}")
    if directory and not _is_path(directory):
        raise LedgerError(f"a line of the ledger names no directory: {path!r}")
    return directory, records


def _is_sane(record: Record, *, own: bool) -> bool:
    """Tell whether a record is one of an entry, and of nothing outside of the tree."""
    name, mode, uid, gid, modified, size, device = record[:7]
    kind = mode & _TYPE_BITS
    numbers = (uid, gid, modified, size, device, record[11], record[13], record[14])
    return (
        set(map(type, numbers)) == _NUMBERS
        and b"/" not in name
        and b"\0" not in name
        and name not in _DOTS
        and (not name) == (kind == _DIRECTORY)
        and (own or bool(name))
        and kind in _KINDS
        and 0 <= mode < _MOST_MODE
        and len(record[7]) == (_DIGEST_BYTES if kind == _FILE else 0)
        and 0 <= uid < _MOST_OWNER
        and 0 <= gid < _MOST_OWNER
        and 0 <= size < _MOST
        and 0 <= device < _MOST
        and -_MOST_TIME < modified < _MOST_TIME
        and -_MOST_TIME < record[11] < _MOST_TIME
        and (not record[10] or _is_path(record[10]))
        and b"\0" not in record[8]
        and all(map(_is_key, record[9]))
    )


def _is_key(xattr: tuple[str, bytes]) -> bool:
    """Tell whether an attribute has a name that the kernel can take."""
    key = xattr[0]
    try:
        return bool(key) and b"\0" not in _bytes(key)
    except UnicodeEncodeError:
        return False


def _is_path(path: bytes) -> bool:
    """Tell whether a path stays in its tree."""
    return b"\0" not in path and {b"", b".", b".."}.isdisjoint(path.split(b"/"))


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a ledger after its head.

    Raises:
        LedgerError: It is no ledger, or of a newer format.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        read_head(file)
        yield from file


def read_head(file: BinaryIO) -> None:
    """Read the first line of a ledger.

    Raises:
        LedgerError: It is no ledger, or of a newer format.
    """
    try:
        head = json.loads(file.readline(_HEAD_BYTES))
        known = head["format"] == FORMAT and head["columns"] == list(COLUMNS)
        newer = head["schema_version"] > SCHEMA_VERSION
    except BROKEN as error:
        raise LedgerError(f"it is no ledger of this tool: {error}") from error
    if newer:
        raise LedgerError("a newer version of this tool wrote it")
    if not known:
        raise LedgerError("it is no ledger of this tool")


def read_ledger(path: Path, spill: Path | None = None) -> Catalogue:
    """Read a ledger into a catalogue.

    Args:
        path: The file.
        spill: Where the record of a large tree may be kept.

    Raises:
        LedgerError: It is no ledger, or was damaged.
        OSError: It cannot be read.
    """
    found = Catalogue(spill)
    below: dict[bytes, list[bytes]] = {}
    own: dict[bytes, Record] = {}
    blocks: list[Any] = []
    current: bytes | None = None
    for line in read_lines(path):
        directory, records = decode_block(line)
        if directory != current:
            if current is not None:
                found.set_blocks(current, blocks)
            if directory in below or not records or records[0][0]:
                raise LedgerError(f"the ledger has no entry for the directory {directory!r}")
            current, blocks = directory, []
            below[directory] = []
            own[directory] = records.pop(0)
            if directory:
                parent, name = split_path(directory)
                if parent not in below:
                    raise LedgerError(f"the ledger lacks the directory of {directory!r}")
                below[parent].append(name)
        if records and not records[0][0]:
            raise LedgerError(f"the ledger has two entries for the directory {directory!r}")
        blocks.append(pack(records))
    if current is None:
        raise LedgerError("the ledger is empty")
    found.set_blocks(current, blocks)
    for directory, names in below.items():
        found.set_folder(directory, own[directory], names)
    return found
