"""The short way for the many: copy or check a small plain file in as few system calls as possible.

Every call counts where a hundred thousand files are copied, and so does every line of Python: a
file that fits the buffer is read by one call and written by one, and its state is compared before
and after. Whatever is not as simple as that is left to `ops.tree.copying` and `ops.tree.readers`,
with nothing left behind.
"""

import os
import stat
from hashlib import sha256
from typing import TypeAlias

from ops.tree.copying import GONE, WRITE_FLAGS
from ops.tree.directories import QUIET_FLAGS, open_quietly
from ops.tree.fresh import RECENT_NANOSECONDS, is_fresh
from ops.tree.metadata import lists_xattrs
from ops.tree.records import DIGEST, GID, MODE, MODIFIED, NAME, NEVER, SIZE, UID, XATTRS, Record
from ops.tree.stored import FILE_MODE

_STORED_MODE = stat.S_IFREG | FILE_MODE
_PAGE_BYTES = 4096
"""A file that is smaller may live in its inode and own no block, and is not sparse for that."""


Given: TypeAlias = dict[int, tuple[int, int, int, int]]
"""What a directory gives to a new file of a mode: its mode, owner, group, and the latest ctime of
which it is sure, by its file system's clock, that no later change can be hidden behind it."""


class UnwritableError(Exception):
    """The copy could not be written; the cause is the operating system's error."""


def copy_small(  # noqa: C901, PLR0912, PLR0915 - one frame for each file: calls would cost more than they tell
    name: bytes,
    source: int,
    copy: int,
    view: memoryview,
    given: Given,
    *,
    digests: bool,
    privileged: bool,
    stored: bytes = b"",
) -> Record | None:
    """Copy a plain file; None if it is anything else, and nothing was written.

    Plain is a regular file that is shorter than the buffer, has one name, no holes and no
    extended attributes, does not change while it is read, and whose owner the copy can have.

    Args:
        name: Its name in both directories.
        source: The descriptor of the directory to read.
        copy: That of the directory to write, which hands down no access control list.
        view: The buffer.
        given: What new files of that directory were given so far; begins empty.
        digests: Hash what is read.
        privileged: Whether this process may give files away.
        stored: Its name in a payload, where it keeps its times alone (`ops.tree.stored`).

    Raises:
        OSError: It cannot be opened or read.
        UnwritableError: The copy cannot be written.
    """
    try:
        reader = os.open(name, QUIET_FLAGS, dir_fd=source)
    except PermissionError:
        reader = open_quietly(name, directory=source)
    except OSError as error:
        if error.errno in GONE:
            return None
        raise
    try:
        status = os.fstat(reader)
        size = status.st_size
        mode = status.st_mode
        if (
            status.st_nlink != 1
            or size >= len(view)
            or not stat.S_ISREG(mode)
            or (size >= _PAGE_BYTES and status.st_blocks * 512 < size)
            or os.readv(reader, (view,)) != size
            or lists_xattrs(reader)
        ):
            return None
        after = os.fstat(reader)
    finally:
        os.close(reader)
    changed, modified = status.st_ctime_ns, status.st_mtime_ns
    if after.st_ctime_ns != changed or after.st_mtime_ns != modified or after.st_size != size:
        return None
    recorded = changed
    content = view[:size]
    accessed, uid, gid = status.st_atime_ns, status.st_uid, status.st_gid
    wanted = _STORED_MODE if stored else mode
    try:
        writer = os.open(stored or name, WRITE_FLAGS, wanted & 0o777, dir_fd=copy)
        try:
            made = given.get(wanted)
            if made is None or changed > made[3]:
                now = os.fstat(writer)
                made = now.st_mode, now.st_uid, now.st_gid, now.st_ctime_ns - RECENT_NANOSECONDS
                given[wanted] = made
                if is_fresh(changed, now.st_ctime_ns):
                    recorded = NEVER
            foreign = not stored and (made[1] != uid or made[2] != gid)
            if foreign and not privileged:
                os.unlink(name, dir_fd=copy)
                return None
            if size:
                written = os.write(writer, content)
                while written < size:
                    written += os.write(writer, content[written:])
            if foreign:
                os.fchown(writer, uid, gid)
            if foreign or made[0] != wanted:
                os.fchmod(writer, stat.S_IMODE(wanted))
            os.utime(writer, ns=(accessed, modified))
        finally:
            os.close(writer)
    except OSError as error:
        raise UnwritableError from error
    return (
        name,
        mode,
        uid,
        gid,
        modified,
        size,
        0,
        sha256(content).digest() if digests else b"",
        b"",
        (),
        b"",
        accessed,
        status.st_dev,
        status.st_ino,
        recorded,
        1,
        status.st_blocks * 512,
        0,
    )


def is_as_recorded(record: Record, directory: int, view: memoryview) -> bool:
    """Read a plain file again and tell whether it is all that it should be.

    Where it is not plain or anything differs, the long way finds out what.

    Args:
        record: What it should be, with one name and a digest.
        directory: The descriptor of its directory.
        view: The buffer.

    Raises:
        OSError: It cannot be opened or read.
    """
    size = record[SIZE]
    if size >= len(view) or record[XATTRS]:
        return False
    try:
        reader = os.open(record[NAME], QUIET_FLAGS, dir_fd=directory)
    except PermissionError:
        reader = open_quietly(record[NAME], directory=directory)
    try:
        status = os.fstat(reader)
        return (
            status.st_mode == record[MODE]
            and status.st_size == size
            and status.st_mtime_ns == record[MODIFIED]
            and status.st_uid == record[UID]
            and status.st_gid == record[GID]
            and status.st_nlink == 1
            and os.readv(reader, (view,)) == size
            and sha256(view[:size]).digest() == record[DIGEST]
            and not lists_xattrs(reader)
        )
    finally:
        os.close(reader)
