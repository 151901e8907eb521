"""Open directories below a root: by descriptor, at any depth, never through a symbolic link."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
QUIET_FLAGS = _READ_FLAGS | getattr(os, "O_NOATIME", 0)

_MOST_OPEN = 48
"""Levels kept open: well under the usual limit of 256 (macOS) or 1024 (Linux) descriptors."""


def open_quietly(path: bytes | Path, flags: int = 0, *, directory: int | None = None) -> int:
    """Open an entry for reading and leave its access time alone where the process may.

    A pipe in its place does not block and a symbolic link is not followed.

    Args:
        path: A path, or a name when `directory` is given.
        flags: More flags of open(2).
        directory: The descriptor of the directory that holds it.

    Raises:
        OSError: It cannot be opened.
    """
    try:
        return os.open(path, flags | QUIET_FLAGS, dir_fd=directory)
    except PermissionError:
        # Only the owner may leave the access time alone (open(2), O_NOATIME).
        return os.open(path, flags | _READ_FLAGS, dir_fd=directory)


class Directories:
    """The directories of one tree, opened one name at a time from the root's descriptor.

    Neither the depth of the tree nor the length of its paths (PATH_MAX) matters, and an entry
    that turns into a symbolic link meanwhile is refused by the kernel (ENOTDIR or ELOOP)
    rather than followed. The chain of the last directory asked for stays open, so walking in
    order costs one call for each directory.
    """

    stored = False
    """Whether names and metadata are those of a payload (`ops.tree.stored`)."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = open_quietly(root, os.O_DIRECTORY)
        self._chain: list[tuple[bytes, int]] = []
        self._deep: int | None = None
        self._last: tuple[bytes, int] = (b"", self._root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every directory."""
        self._shorten(0)
        os.close(self._root)

    def open(self, path: bytes) -> int:
        """Return a descriptor of the directory `path` (relative, `b""` is the root).

        It stays this object's: it is valid until the next call and must not be closed.

        Raises:
            OSError: The directory is gone, is none, or is not accessible; `filename` is its
                full path.
        """
        if path == self._last[0]:
            return self._last[1]
        names = path.split(b"/") if path else []
        shared = 0
        for name, (open_name, _) in zip(names, self._chain, strict=False):
            if name != open_name:
                break
            shared += 1
        self._shorten(shared)
        descriptor = self._chain[-1][1] if self._chain else self._root
        try:
            for name in names[shared:]:
                child = open_quietly(name, os.O_DIRECTORY, directory=descriptor)
                if len(self._chain) < _MOST_OPEN:
                    self._chain.append((name, child))
                else:
                    self._keep_deep(child)
                descriptor = child
        except OSError as error:
            self._shorten(0)  # a walk that begins again must not meet what was open then
            error.filename = Directories.full_path(self, path)  # a path on the disk already
            raise
        self._last = (path, descriptor)
        return descriptor

    def leaf(self, name: bytes) -> bytes:
        """Return the name under which an entry lies in its directory."""
        return name

    def on_disk(self, path: bytes) -> bytes:
        """Return the path under which an entry lies below the root."""
        return path

    def full_path(self, path: bytes) -> bytes:
        """Return the full path of an entry, for messages only: it may exceed PATH_MAX."""
        root = os.fsencode(self.root)
        return root + b"/" + path if path else root

    def _keep_deep(self, descriptor: int | None) -> None:
        if self._deep is not None:
            os.close(self._deep)
        self._deep = descriptor

    def _shorten(self, length: int) -> None:
        self._keep_deep(None)
        self._last = (b"", self._root)
        while len(self._chain) > length:
            os.close(self._chain.pop()[1])


def split_path(path: bytes) -> tuple[bytes, bytes]:
    """Split a relative path into its directory (`b""` for the root) and its name."""
    directory, _, name = path.rpartition(b"/")
    return directory, name


def join_path(directory: bytes, name: bytes) -> bytes:
    """Join a relative directory (`b""` for the root) and a name."""
    return directory + b"/" + name if directory else name
