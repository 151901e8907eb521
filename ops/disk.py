"""The few operations by which a destination changes, each one call and nothing more."""

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
from pathlib import Path

from ops.errors import DestinationError, os_failure
from ops.names import display
from ops.tree.metadata import may_write

_NO_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
)
"""What link(2) answers where a file cannot get a second name here."""


class Disk:
    """Changes names on disk, and makes changes durable.

    Publication and recovery go through one such object and make no other change to what is
    visible, so a test can write down what they do, and in which order.
    """

    def create(self, path: Path, content: bytes) -> None:
        """Write a new file, to be made durable by `sync`.

        Raises:
            DestinationError: It cannot be written; nothing is left.
        """
        try:
            descriptor = os.open(
                path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(content)
            except OSError:
                path.unlink()
                raise
        except OSError as error:
            raise os_failure(DestinationError, "write", path, error) from error

    def rename(self, source: Path, target: Path, *, over: bool = False) -> None:
        """Give a file or directory another name on its file system.

        Args:
            source: What to move.
            target: Where to; its parent exists.
            over: Replace a file that stands there.

        Raises:
            DestinationError: It cannot be moved, or something stands there.
        """
        try:
            # rename(2) replaces silently; nothing may stand there by now.
            if not over and os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            mode = source.lstat().st_mode
            # Moving a directory rewrites its "..", which takes the right to write it.
            if stat.S_ISDIR(mode) and not may_write(source):
                source.chmod(stat.S_IMODE(mode) | 0o700)
                try:
                    source.rename(target)
                finally:
                    moved = source if os.path.lexists(source) else target
                    moved.chmod(stat.S_IMODE(mode))
            else:
                source.rename(target)
        except OSError as error:
            action = f"move {display(source)} to"
            raise os_failure(DestinationError, action, target, error) from error

    def link(self, source: Path, target: Path) -> bool:
        """Give a file a second name; False where that cannot be.

        Raises:
            DestinationError: It failed for another reason.
        """
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            action = f"link {display(source)} to"
            raise os_failure(DestinationError, action, target, error) from error
        return True

    def unlink(self, path: Path) -> None:
        """Remove one name of a file.

        Raises:
            DestinationError: It cannot be removed.
        """
        try:
            path.unlink()
        except OSError as error:
            raise os_failure(DestinationError, "remove", path, error) from error

    def sync(self, path: Path) -> None:
        """Make a file's content, or a directory's names, durable (fsync(2)).

        Raises:
            DestinationError: The disk did not take it.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                _flush(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise os_failure(DestinationError, "write to the disk of", path, error) from error

    def sync_file_system(self, directory: Path, descriptor: int) -> None:
        """Make everything on a file system durable (syncfs(2); sync(2) where there is none).

        Args:
            directory: For the message.
            descriptor: Of something on it, open since before the writing: Linux (5.8 and newer)
                tells of each failed write only those who had the file system open by then.

        Raises:
            DestinationError: The disk did not take it.
        """
        library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(library, "syncfs"):  # pragma: no cover - not Linux
            os.sync()
            _flush(descriptor)
        elif library.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            error = OSError(number, os.strerror(number))
            raise os_failure(DestinationError, "write to the disk of", directory, error)


def _flush(descriptor: int) -> None:
    """Make one file or directory durable; on macOS fsync(2) alone leaves it to the drive."""
    os.fsync(descriptor)
    if hasattr(fcntl, "F_FULLFSYNC"):  # pragma: no cover - macOS
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)


DISK = Disk()
"""The real one; it has no state."""


def replace_file(
    path: Path, content: bytes, *, draft: str, mode: int | None = None, disk: Disk = DISK
) -> None:
    """Give a file new content as a whole, by one rename; its directory is left to be synced.

    Args:
        path: The file, which may not be there yet.
        content: What is to be in it.
        draft: The name beside it under which it is written; a killed run may have left one.
        mode: Its permission bits, where they are not those of `Disk.create`.
        disk: Does it.

    Raises:
        DestinationError: It cannot be written.
    """
    following = path.with_name(draft)
    try:
        following.unlink(missing_ok=True)
        disk.create(following, content)
        if mode is not None:
            following.chmod(mode)
    except OSError as error:
        raise os_failure(DestinationError, "write", path, error) from error
    disk.sync(following)
    disk.rename(following, path, over=True)


def same_file(one: Path, other: Path) -> bool:
    """Tell whether two names, neither of them followed, are one file."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return os.path.samestat(one.lstat(), other.lstat())
    return False
