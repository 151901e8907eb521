"""The attachments of a sanitised copy: placeholders, or the files that its rows name."""

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO

from ops.errors import DestinationError, os_failure
from ops.model import Entry, Finding, Progress, ReportProgress, Severity
from ops.names import display
from ops.sanitise.files import Place, placeholder_for
from ops.sanitise.finder import Finder
from ops.sanitise.search import search_file, search_pieces
from ops.tree.metadata import apply_metadata

_MOST_UNPACKED_BYTES = 512 << 20
_PIECE_BYTES = 1 << 20
_ONLY_FILES = 0o666
_UNREADABLE = (NotImplementedError, RuntimeError, EOFError, ValueError, LookupError)
"""What `zipfile` raises for what it does not know, for passwords and for damage."""


def write_placeholders(
    root: Path, places: Iterable[Place], like: Entry, *, progress: ReportProgress
) -> int:
    """Write a placeholder for every file, and return their number.

    Args:
        root: An empty private directory.
        places: The files.
        like: The source's attachments directory: its owner and mode are those of the copy's.
        progress: Called as the work goes on.

    Raises:
        DestinationError: One cannot be written.
    """
    count = 0
    for name in sorted({place.new for place in places}):
        write_file(root, name, placeholder_for(name), like)
        count += 1
        progress(Progress(step="write placeholders", files_done=count))
    return count


def write_file(root: Path, name: bytes, content: bytes, like: Entry) -> None:
    """Write one file and the directories that lead to it, with owner and mode of a directory.

    Raises:
        DestinationError: It cannot be written.
    """
    path = root / os.fsdecode(name)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(content)
            dress(descriptor, like, like.mode & _ONLY_FILES)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise os_failure(DestinationError, "write", path, error) from error


def move_files(captured: Path, root: Path, places: Iterable[Place]) -> int:
    """Move the files that rows name from one private directory to another on its file system.

    What no row names stays behind. The caller has seen that each is a regular file below real
    directories.

    Returns:
        How many there are.

    Raises:
        DestinationError: One cannot be moved.
    """
    moved: set[bytes] = set()
    for place in places:
        if place.new in moved:
            continue
        old, new = captured / os.fsdecode(place.old), root / os.fsdecode(place.new)
        try:
            new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            old.rename(new)
        except OSError as error:
            raise os_failure(DestinationError, "move", old, error) from error
        moved.add(place.new)
    return len(moved)


def finish_directories(root: Path, like: Entry) -> None:
    """Give a tree's directories the owner and the mode of the source's, the deepest first.

    Raises:
        DestinationError: They cannot be set.
    """
    try:
        for directory, *_ in os.walk(os.fsencode(root), topdown=False):
            descriptor = os.open(directory, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                dress(descriptor, like, like.mode)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise os_failure(DestinationError, "set the metadata of", root, error) from error


def dress(descriptor: int, like: Entry, mode: int) -> None:
    """Give an open file or directory of ours another's owner, and a mode; its times stay.

    Raises:
        OSError: They cannot be set.
    """
    status = os.fstat(descriptor)
    apply_metadata(
        descriptor,
        replace(
            like,
            mode=mode,
            xattrs=(),
            accessed_ns=status.st_atime_ns,
            modified_ns=status.st_mtime_ns,
        ),
    )


def search_contents(root: Path, places: Iterable[Place], finder: Finder) -> Iterator[Finding]:
    """Look into kept files, those in ZIP archives included (documents of office programs are).

    Raises:
        DestinationError: One cannot be read.
    """
    for name in sorted({place.new for place in places}):
        path = root / os.fsdecode(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                found = search_file(descriptor, finder)
                unread = ""
                if not found:
                    found, unread = _search_archive(descriptor, finder)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise os_failure(DestinationError, "read", path, error) from error
        if found:
            yield Finding(
                kind="original-left",
                severity=Severity.WARNING,
                where=display(name),
                expected="no e-mail address and no secret of the source",
                found="at least one, in a file that was kept",
            )
        elif unread:
            yield Finding(
                kind="not-searched",
                severity=Severity.WARNING,
                where=display(name),
                expected="an archive that can be read",
                found=unread,
            )


class _TooLargeError(Exception):
    """What an archive holds is more than is looked at."""


def _search_archive(descriptor: int, finder: Finder) -> tuple[bool, str]:
    """Look into the members of a ZIP archive; tell what could not be read."""
    with open(descriptor, "rb", closefd=False) as file:
        if not zipfile.is_zipfile(file):
            return False, ""
        left = _MOST_UNPACKED_BYTES

        def unpack(content: IO[bytes]) -> Iterator[bytes]:
            nonlocal left
            while piece := content.read(_PIECE_BYTES):
                left -= len(piece)
                if left < 0:
                    raise _TooLargeError
                yield piece

        try:
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    with archive.open(member) as content:
                        if search_pieces(unpack(content), finder):
                            return True, ""
        except _TooLargeError:
            return False, "more than 512 MiB when unpacked"
        except (zipfile.BadZipFile, zlib.error, *_UNREADABLE) as error:
            return False, f"{type(error).__name__}: {error}"
    return False, ""
