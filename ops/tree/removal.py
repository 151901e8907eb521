"""Remove a tree of our own: at any depth, whatever its modes, never through a symbolic link."""

import errno
import os
import stat
from pathlib import Path

from ops.errors import OpsError, os_failure
from ops.tree.directories import Directories, join_path, split_path


def remove_tree(root: Path, *, error: type[OpsError]) -> None:
    """Remove a directory with all it holds, as `empty_tree` does.

    Raises:
        OpsError: Of the class given, naming what cannot be removed and the cause.
    """
    empty_tree(root, error=error)
    try:
        root.rmdir()
    except OSError as failure:
        raise os_failure(error, "remove", root, failure) from failure


def empty_tree(root: Path, *, error: type[OpsError], keep: frozenset[str] = frozenset()) -> None:
    """Remove all that a directory holds, and keep the directory itself.

    What is mounted inside is left alone, and is a failure. Directories that forbid their owner
    to look inside or to change them are opened up first.

    Args:
        root: The directory.
        error: What to raise.
        keep: Files in the directory itself that stay.

    Raises:
        OpsError: Of the class given, naming what cannot be removed and the cause.
    """
    try:
        if not stat.S_ISDIR(root.lstat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root)
        root.chmod(0o700)
        with Directories(root) as tree:
            _empty_below(tree, b"", keep)
    except OSError as failure:
        raise os_failure(error, "remove", failure.filename or root, failure) from failure


def remove_below(tree: Directories, path: bytes) -> None:
    """Remove one directory of a tree, with all it holds.

    Raises:
        OSError: Something cannot be removed; `filename` is its full path.
    """
    _empty_below(tree, path, frozenset())
    _remove_directory(tree, path)


def _empty_below(tree: Directories, top: bytes, keep: frozenset[str]) -> None:
    emptied: list[bytes] = []
    pending = [top]
    device = os.fstat(tree.open(top)).st_dev
    while pending:
        path = pending.pop()
        emptied.append(path)
        pending.extend(_remove_files(tree, path, device, keep if path == top else frozenset()))
    for path in reversed(emptied):
        if path != top:
            _remove_directory(tree, path)


def _remove_directory(tree: Directories, path: bytes) -> None:
    directory, name = split_path(path)
    descriptor = tree.open(directory)
    try:
        os.rmdir(name, dir_fd=descriptor)
    except OSError as error:
        error.filename = tree.full_path(path)
        raise


def _remove_files(tree: Directories, path: bytes, device: int, keep: frozenset[str]) -> list[bytes]:
    """Remove all but the directories from one directory, and return those."""
    descriptor = tree.open(path)
    if os.fstat(descriptor).st_dev != device:
        # Whoever mounted it did not mean it to be deleted.
        raise OSError(errno.EBUSY, "a file system is mounted here", tree.full_path(path))
    try:
        return _empty(descriptor, path, keep)
    except OSError as error:
        # The calls know a name or a descriptor only: the operator needs the whole path.
        name = error.filename if isinstance(error.filename, str) else ""
        error.filename = tree.full_path(join_path(path, os.fsencode(name)) if name else path)
        raise


def _empty(descriptor: int, path: bytes, keep: frozenset[str]) -> list[bytes]:
    below: list[bytes] = []
    for name in sorted(set(os.listdir(descriptor)) - keep):
        status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=descriptor)
            continue
        locked = status.st_mode & stat.S_IRWXU != stat.S_IRWXU
        if locked and status.st_dev == os.fstat(descriptor).st_dev:
            os.chmod(name, 0o700, dir_fd=descriptor)
        below.append(join_path(path, os.fsencode(name)))
    return below
