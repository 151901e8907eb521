"""Take the archive of a snapshot apart: its tag files first, then what they say is in it."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from ops.archive.contents import manifest_entries
from ops.archive.headers import ArchiveError, Header
from ops.archive.reader import TAGS, ArchiveReader
from ops.bag import HISTORY, MANIFEST, SUMMARY, damaged_tags, is_declared
from ops.errors import DestinationError, os_failure
from ops.names import display
from ops.snapshot import SnapshotError, Summary, decode_summary
from ops.tree.directories import Directories, split_path
from ops.tree.stored import FILE_MODE

_OXUM = re.compile(rb"^Payload-Oxum: (\d{1,19})\.(\d{1,19})$", re.MULTILINE)
_SECOND_NS = 1_000_000_000
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What the tag files of an archive say, which are as they were when they were written.

    `bytes` and `files` are those of the payload, the database included.
    """

    summary: Summary
    bytes: int
    files: int


class Taker(Protocol):
    """What is done with the payload of an archive."""

    def directory(self, header: Header) -> None:
        """Take a directory."""

    def file(self, header: Header, content: Iterator[memoryview]) -> None:
        """Take a file; its content is read to the end."""

    def end(self) -> None:
        """See that nothing is missing."""


def receive(
    reader: ArchiveReader,
    directory: Path,
    taker: Taker,
    *,
    agree: Callable[[Declared], None],
    tell: Callable[[int, int], None],
) -> Declared:
    """Read an archive to its end.

    Args:
        reader: The archive.
        directory: A private directory, into which the tag files are written.
        taker: What is done with the payload.
        agree: Called with what the archive declares, before anything of the payload is taken.
        tell: Called with the files and bytes of the payload that are done.

    Raises:
        ArchiveError: It is not as it should be.
        DestinationError: Something cannot be written.
    """
    declared: Declared | None = None
    files = size = 0
    for header in reader.entries_of():
        name = header.path.decode("utf-8", "replace")
        if name in TAGS or name == HISTORY:
            _take_tag(directory, name, header, reader.content())
            continue
        if declared is None:
            declared = _declared(directory, reader.name)
            agree(declared)
        if header.directory:
            taker.directory(header)
            continue
        files, size = files + 1, size + header.size
        if files > declared.files or size > declared.bytes:
            raise ArchiveError("it holds more than it declares")
        taker.file(header, reader.content())
        tell(files, size)
    assert declared is not None  # noqa: S101 - the payload's own directory always comes
    if (files, size) != (declared.files, declared.bytes):
        raise ArchiveError("it holds less than it declares")
    taker.end()
    return declared


def _take_tag(directory: Path, name: str, header: Header, content: Iterator[memoryview]) -> None:
    path = directory / name
    try:
        descriptor = os.open(path, _CREATE, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for piece in content:
                file.write(piece)
        if name != HISTORY:
            path.chmod(FILE_MODE)
        os.utime(path, (header.modified, header.modified))
    except OSError as error:
        raise os_failure(DestinationError, "write", path, error) from error


def _declared(directory: Path, name: str) -> Declared:
    """Read what the tag files say, once they are found to be whole."""
    try:
        wrong = damaged_tags(directory)
        if not is_declared(directory):
            wrong.append("bagit.txt does not say that it is a bag")
        if wrong:
            raise ArchiveError(wrong[0])
        summary = decode_summary((directory / SUMMARY).read_bytes())
        size = payload_size(directory)
    except SnapshotError as error:
        raise ArchiveError(f"{SUMMARY}: {error}") from error
    except OSError as error:
        raise os_failure(DestinationError, "read", error.filename or directory, error) from error
    if summary.name != name:
        raise ArchiveError(f"it calls itself {display(summary.name)} and {name}")
    if size is None:
        raise ArchiveError("bag-info.txt has no Payload-Oxum")
    return Declared(summary=summary, bytes=size[0], files=size[1])


def payload_size(bag: Path) -> tuple[int, int] | None:
    """Return the bytes and the files of a payload, as its bag tells them; None if it does not.

    Raises:
        OSError: It cannot be read.
    """
    found = _OXUM.search((bag / "bag-info.txt").read_bytes())
    return None if found is None else (int(found[1]), int(found[2]))


class Extraction:
    """Writes the payload of an archive below a new bag; a name that is taken is refused."""

    def __init__(self, bag: Path) -> None:
        self._tree = Directories(bag)
        self._made = {b"data", b"data/attachments"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._tree.close()

    def directory(self, header: Header) -> None:
        """Make a directory."""
        if header.path in self._made:
            return  # the workspace has them
        parent, name = split_path(header.path)
        try:
            os.mkdir(name, 0o700, dir_fd=self._tree.open(parent))
        except OSError as error:
            raise self._failure(header.path, error) from error

    def file(self, header: Header, content: Iterator[memoryview]) -> None:
        """Write a file, with the mode that any file of a payload has."""
        parent, name = split_path(header.path)
        try:
            descriptor = os.open(name, _CREATE, 0o600, dir_fd=self._tree.open(parent))
            try:
                for piece in content:
                    _write(descriptor, piece)
                os.fchmod(descriptor, FILE_MODE)
                modified = header.modified * _SECOND_NS
                os.utime(descriptor, ns=(modified, modified))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._failure(header.path, error) from error

    def end(self) -> None:
        """See nothing: the check that follows reads all of it."""

    def _failure(self, path: bytes, error: OSError) -> Exception:
        if isinstance(error, FileExistsError):
            return ArchiveError(f"it holds a path twice: {display(path)}")
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return ArchiveError(f"it holds no directory for {display(path)}")
        full = self._tree.full_path(path)
        return os_failure(DestinationError, "write", full, error)


def _write(descriptor: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]


class Comparison:
    """Compares the payload of an archive with the manifest that came before it, and keeps nothing.

    Args:
        directory: Where the manifest is.
    """

    def __init__(self, directory: Path) -> None:
        self._manifest = directory / MANIFEST
        self._file: BinaryIO | None = None
        self._lines: Iterator[tuple[bytes, bytes]] = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def directory(self, header: Header) -> None:
        """See nothing: a manifest does not list directories."""

    def file(self, header: Header, content: Iterator[memoryview]) -> None:
        """Compare a file with the next line of the manifest."""
        digest = hashlib.sha256()
        for piece in content:
            digest.update(piece)
        expected, path = self._next_line() or (b"", b"")
        if path != header.path:
            raise ArchiveError(
                f"it holds {display(header.path)} where its manifest lists {display(path)}"
            )
        if digest.hexdigest().encode() != expected:
            raise ChangedError(header.path)

    def end(self) -> None:
        """See that the manifest lists nothing more."""
        rest = self._next_line()
        if rest is not None:
            raise ArchiveError(f"it lacks {display(rest[1])}, which its manifest lists")

    def _next_line(self) -> tuple[bytes, bytes] | None:
        try:
            if self._file is None:
                self._file = self._manifest.open("rb")
                self._lines = manifest_entries(self._file)
            return next(self._lines, None)
        except ValueError as error:
            raise ArchiveError(f"{MANIFEST}: {error}") from error
        except OSError as error:
            raise os_failure(DestinationError, "read", self._manifest, error) from error


class ChangedError(ArchiveError):
    """A file is not what the manifest says; `path` is its own."""

    def __init__(self, path: bytes) -> None:
        super().__init__(f"this is not what its manifest lists: {display(path)}")
        self.path = path
