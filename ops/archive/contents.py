"""What goes into the archive of a snapshot: its tar stream, read from the bag piece by piece."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias

from ops.archive.headers import BLOCK, END, MOST_PATH_BYTES, Header, encode_header
from ops.archive.reader import TAGS
from ops.bag import ATTACHMENTS, DATA, DATABASE, HISTORY, MANIFEST, PREFIX
from ops.errors import OpsError, SourceError, os_failure
from ops.names import display
from ops.tree.directories import Directories, join_path, open_quietly, split_path
from ops.tree.transfer import new_buffer

_DIGEST_DIGITS = 64
_MOST_LINE_BYTES = MOST_PATH_BYTES + 128
_HINT = "pack another one; `inv verify --store DIR --snapshot NAME` says what is wrong with it"

_Entry: TypeAlias = tuple[Header, int | None]
"""A header, and a descriptor to read the content from."""


def damaged(bag: Path, said: str) -> OpsError:
    """Return the failure for a snapshot that cannot be packed as it is."""
    return SourceError(f"the snapshot is damaged: {display(bag)}: {said}", hint=_HINT)


def manifest_entries(manifest: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield the digest in hex and the path of each line of a manifest.

    Raises:
        ValueError: A line is none.
    """
    while line := manifest.readline(_MOST_LINE_BYTES):
        digest, gap, path = line[:_DIGEST_DIGITS], line[_DIGEST_DIGITS:66], line[66:-1]
        if gap != b"  " or not path or line[-1:] != b"\n":
            raise ValueError("a line of the manifest is none")
        yield digest, path


@dataclass(slots=True, kw_only=True)
class Contents:
    """The tar stream of a bag.

    Tag files come first, then the directories of the payload in the order of their names, then
    its files in that of the manifest. The same bag always gives the same stream: owners are
    left out, modes are those of any snapshot, and times whole seconds. `files` and `size` count
    what was read.

    Args:
        bag: The snapshot.
        name: Its name, which is the one directory at the top.
        tell: Called with the files and the bytes that are done, now and then.
    """

    bag: Path
    name: str
    tell: Callable[[int, int], None]
    files: int = 0
    size: int = 0
    _filled: int = 0
    _view: memoryview = field(default_factory=lambda: memoryview(new_buffer()))

    def pieces(self) -> Iterator[memoryview]:
        """Yield the stream; a piece holds until the next one is asked for.

        Raises:
            SourceError: The bag cannot be read, or does not hold what its manifest lists.
        """
        try:
            for header, descriptor in self._entries():
                size = header.size
                yield from self._put(encode_header(header))
                if descriptor is None:
                    continue
                # A large file is read to where a page begins, which is quicker.
                if self._filled and size >= len(self._view) // 2:
                    yield from self._flush()
                yield from self._copy(header, descriptor)
                yield from self._put(bytes(-size % BLOCK))
                self.files += 1
                self.size += size
                self.tell(self.files, self.size)
            yield from self._put(END)
            yield from self._flush()
        except ValueError as error:
            raise damaged(self.bag, str(error)) from error
        except OSError as error:
            raise os_failure(SourceError, "read", error.filename or self.bag, error) from error

    def _put(self, content: bytes) -> Iterator[memoryview]:
        if self._filled + len(content) > len(self._view):
            yield from self._flush()
        self._view[self._filled : self._filled + len(content)] = content
        self._filled += len(content)

    def _flush(self) -> Iterator[memoryview]:
        if self._filled:
            yield self._view[: self._filled]
        self._filled = 0

    def _copy(self, header: Header, descriptor: int) -> Iterator[memoryview]:
        left = header.size
        while left:
            if self._filled == len(self._view):
                yield from self._flush()
            count = os.readv(descriptor, [self._view[self._filled : self._filled + left]])
            if not count:
                raise damaged(self.bag, f"a file became shorter: {display(header.path)}")
            self._filled += count
            left -= count

    def _entries(self) -> Iterator[_Entry]:
        top = self.name.encode()
        with Directories(self.bag) as tree:
            yield _directory(top, tree.open(b""))
            for name in (*TAGS, HISTORY):
                if name != HISTORY or (self.bag / HISTORY).exists():
                    yield from _file(tree, top, name.encode())
            yield _directory(top + b"/" + DATA.encode(), tree.open(DATA.encode()))
            yield from _file(tree, top, DATABASE.encode())
            files = 0
            walk = _Walk(tree)
            for path, descriptor in walk.directories(ATTACHMENTS.encode()):
                yield _directory(join_path(top, path), descriptor)
            if walk.unexpected:
                raise damaged(self.bag, f"unexpected: {display(walk.unexpected)}")
            with (self.bag / MANIFEST).open("rb") as manifest:
                for _, path in manifest_entries(manifest):
                    if path.startswith(PREFIX):
                        files += 1
                        yield from _file(tree, top, path)
            if files != walk.files:
                raise damaged(
                    self.bag, f"it has {walk.files:,} attachments, its manifest {files:,}"
                )


class _Walk:
    """The directories of a payload, each before those in it, and a count of the files."""

    def __init__(self, tree: Directories) -> None:
        self._tree = tree
        self.files = 0
        self.unexpected = b""

    def directories(self, top: bytes) -> Iterator[tuple[bytes, int]]:
        """Yield paths and descriptors, in the order of their names."""
        waiting = [top]
        while waiting:
            path = waiting.pop()
            descriptor = self._tree.open(path)
            below: list[bytes] = []
            with os.scandir(descriptor) as found:
                for one in found:
                    name = os.fsencode(one.name)
                    if one.is_dir(follow_symlinks=False):
                        below.append(name)
                    elif one.is_file(follow_symlinks=False):
                        self.files += 1
                    else:
                        self.unexpected = join_path(path, name)
            yield path, descriptor
            waiting += (join_path(path, name) for name in sorted(below, reverse=True))


def _directory(path: bytes, descriptor: int) -> _Entry:
    modified = os.fstat(descriptor).st_mtime_ns // 1_000_000_000
    return Header(path=path, directory=True, modified=modified), None


def _file(tree: Directories, top: bytes, path: bytes) -> Iterator[_Entry]:
    directory, name = split_path(path)
    try:
        descriptor = open_quietly(name, directory=tree.open(directory))
    except OSError as error:
        error.filename = tree.full_path(path)
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise damaged(tree.root, f"no regular file: {display(path)}")
        modified = status.st_mtime_ns // 1_000_000_000
        header = Header(path=top + b"/" + path, size=status.st_size, modified=modified)
        yield header, descriptor
    finally:
        os.close(descriptor)
