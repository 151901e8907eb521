"""Share a database's unchanged pages with an earlier copy of it, where the file system can."""

import os
from pathlib import Path

from ops.errors import DestinationError, os_failure
from ops.tree.transfer import clone_content, write_all

_PIECE_BYTES = 1 << 20
_BLOCK_BYTES = 4096
"""What file systems share at least; SQLite's own pages are of this size by default."""


def share_pages(earlier: Path, copy: Path) -> int:
    """Let a copy share all blocks with an earlier one that are the same, by reflink.

    A clone of the earlier file is made, the blocks that differ are written over, and it takes the
    place of the copy: byte for byte the same, but on the disk only what changed is new.

    Args:
        earlier: The earlier copy, which stays as it is.
        copy: The new one, which nobody else has open.

    Returns:
        The number of bytes that are shared; 0 where the file system shares nothing.

    Raises:
        DestinationError: The copy cannot be read, or the clone not be written.
    """
    aside = copy.with_name(f"{copy.name}.shared")
    try:
        old = os.open(earlier, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0  # the earlier snapshot is not whole: its check will say so
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        clone = os.open(aside, flags, 0o600)
        try:
            shared = _share(old, clone, copy)
        finally:
            os.close(clone)
        if not shared:
            aside.unlink()
            return 0
        status = copy.stat()
        os.chown(aside, status.st_uid, status.st_gid)
        aside.chmod(status.st_mode & 0o7777)
        os.utime(aside, ns=(status.st_atime_ns, status.st_mtime_ns))
        aside.replace(copy)
    except OSError as error:
        raise os_failure(DestinationError, "share the pages of", copy, error) from error
    finally:
        os.close(old)
    return shared


def _share(old: int, clone: int, copy: Path) -> int:
    """Clone a file and write over what differs; return how many bytes stayed shared."""
    if not clone_content(old, clone):
        return 0
    shared = 0
    with copy.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        os.ftruncate(clone, size)
        for start in range(0, size, _PIECE_BYTES):
            wanted = file.read(_PIECE_BYTES)
            found = os.pread(clone, len(wanted), start)
            if wanted == found:
                shared += len(wanted)
                continue
            for at in range(0, len(wanted), _BLOCK_BYTES):
                block = wanted[at : at + _BLOCK_BYTES]
                if block == found[at : at + _BLOCK_BYTES]:
                    shared += len(block)
                else:
                    write_all(clone, memoryview(block), start + at)
    return shared
