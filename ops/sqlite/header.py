"""What the first hundred bytes of a database say (https://www.sqlite.org/fileformat2.html)."""

import errno
import math
import os
import stat
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from ops.errors import DamagedError, SourceError, os_failure, reach_failure
from ops.model import Entry
from ops.names import display
from ops.tree.metadata import entry_from_stat, read_xattrs

MAGIC = b"SQLite format 3\x00"
HEADER_BYTES = 100
_WAL_VERSION = 2
_SMALLEST_PAGE, _LARGEST_PAGE = 512, 65536
_TEXT_BYTES = frozenset(range(32, 127)) | {9, 10, 13}
_RANDOM_BITS = 7.0
"""Bits of entropy in a byte: text stays under 6, 4 KiB of ciphertext comes close to 8."""

SIDECARS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The fields that matter here: page size in bytes, pages as recorded, WAL mode or not."""

    page_size: int
    pages: int
    wal: bool


def parse_header(header: bytes) -> Header:
    """Read the database header.

    Raises:
        ValueError: It is no database header; the message says why.
    """
    if not header.startswith(MAGIC):
        raise ValueError("it does not begin with SQLite's signature")
    if len(header) < HEADER_BYTES:
        raise ValueError(f"it ends after {len(header)} bytes, inside the header")
    size = int.from_bytes(header[16:18], "big")
    page_size = _LARGEST_PAGE if size == 1 else size
    if page_size < _SMALLEST_PAGE or page_size & (page_size - 1):
        raise ValueError(f"its page size of {page_size} bytes is impossible")
    return Header(
        page_size=page_size,
        pages=int.from_bytes(header[28:32], "big"),
        wal=header[19] == _WAL_VERSION,
    )


def sidecar(database: Path, suffix: str) -> Path:
    """Return the path of a sidecar, for example `db.sqlite3-wal` for the suffix `-wal`."""
    return database.with_name(database.name + suffix)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFile:
    """A database file as it lies on disk: its real path, header, size and metadata."""

    path: Path
    header: Header
    entry: Entry
    sidecars: tuple[str, ...]

    @property
    def room(self) -> int:
        """Bytes that a copy may need: the file, or the pages recorded, and the WAL on top."""
        main = max(self.entry.size, self.header.pages * self.header.page_size)
        return main + sum(_size(sidecar(self.path, suffix)) for suffix in self.sidecars)


FileState: TypeAlias = tuple[int, int, int, int]


def file_state(path: Path) -> FileState | None:
    """Return inode, size, mtime and ctime of a file, by which a change shows; None if gone.

    A name too long for the file system cannot exist either: so are the sidecars of some.

    Raises:
        OSError: It cannot be looked at.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _size(path: Path) -> int:
    state = file_state(path)
    return state[1] if state else 0


def inspect_database(path: Path) -> DatabaseFile:
    """Look at a database without opening it as one: no lock is taken, nothing is created.

    To be called while this process has no connection to it: closing the file drops the
    process's locks (https://www.sqlite.org/howtocorrupt.html, section 2.2).

    Args:
        path: The database; a symbolic link is followed, for a WAL lies beside the real file.

    Raises:
        SourceError: It is missing, unreadable, not a regular file, hard-linked, empty, cut
            short, or not a SQLite database.
    """
    try:
        real = path.resolve(strict=True)
        status = real.stat()
    except FileNotFoundError as error:
        raise SourceError(
            f"database not found: {display(path)}",
            hint="check the path; `inv status` shows where it comes from",
        ) from error
    except (OSError, RuntimeError) as error:
        raise reach_failure(SourceError, "reach the database", path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise SourceError(
            f"the database is a directory: {display(path)}",
            hint="name the SQLite file inside it, usually ciso-assistant.sqlite3",
        )
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"the database is not a regular file: {display(path)}")
    if status.st_nlink > 1:
        raise SourceError(
            f"the database has {status.st_nlink} hard links: {display(path)}",
            hint="SQLite keeps its WAL beside one name only; remove the other names first",
        )
    header = _read_header(real, status)
    present = tuple(suffix for suffix in SIDECARS if file_state(sidecar(real, suffix)))
    try:
        xattrs = read_xattrs(str(real))
    except OSError as error:
        raise os_failure(SourceError, "read the attributes of", real, error) from error
    return DatabaseFile(
        path=real,
        header=header,
        entry=replace(entry_from_stat(os.fsencode(real.name), status), xattrs=xattrs),
        sidecars=present,
    )


def _read_header(path: Path, status: os.stat_result) -> Header:
    if status.st_size == 0:
        raise DamagedError(
            f"the database is empty (0 bytes): {display(path)}",
            hint="an interrupted copy often leaves such a file; look for the real database",
        )
    try:
        with path.open("rb") as file:
            beginning = file.read(4096)
    except OSError as error:
        raise os_failure(SourceError, "read the database", path, error) from error
    try:
        header = parse_header(beginning)
    except ValueError as error:
        raise DamagedError(
            f"not a SQLite database: {display(path)}: {error}", hint=_guess(beginning)
        ) from error
    if status.st_size <= HEADER_BYTES:
        raise DamagedError(
            f"the database holds a header and nothing else: {display(path)}",
            hint="it was cut short; use another copy",
        )
    # The header's count of pages is right only for a database without a WAL to come
    # (fileformat2, 1.3.7 and 1.3.16), and with one the file may well be the shorter.
    recorded = beginning[24:28] == beginning[92:96]
    expected = header.pages * header.page_size
    waiting = any(_size(sidecar(path, suffix)) for suffix in ("-wal", "-journal"))
    if recorded and expected > status.st_size and not waiting:
        raise DamagedError(
            f"the database is truncated: {display(path)}: "
            f"{status.st_size} bytes where its header says {expected}",
            hint="it was cut short; use another copy",
        )
    return header


def _guess(beginning: bytes) -> str:
    """Say what a file that is no database may be."""
    if beginning and all(byte in _TEXT_BYTES for byte in beginning):
        first = beginning.splitlines()[0][:60].decode("ascii")
        return f'it is text and begins with "{first}"'
    counts = Counter(beginning)
    entropy = -sum(n / len(beginning) * math.log2(n / len(beginning)) for n in counts.values())
    if entropy > _RANDOM_BITS:
        return "it looks encrypted or compressed; decrypt or unpack it first"
    return "name the application's SQLite file"
