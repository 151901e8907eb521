"""Claim a place for one run: its private space, which is the lock as well."""

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ops.errors import BusyError, DestinationError, OpsError, os_failure
from ops.holders import describe_holders, find_holders
from ops.names import display
from ops.spaces import space_beside

_MOST_TRIES = 20
_PAUSE_SECONDS = 0.02
"""Somebody may just be looking whether a space is in use, and let go at once."""

_NOT_OURS = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EACCES})
"""What opening a space answers when its name is taken by something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A place that this run alone may replace: its space, and a descriptor that keeps the lock.

    The descriptor is also what the file system is synced through.
    """

    place: Path
    space: Path
    descriptor: int


@contextmanager
def claim(place: Path) -> Iterator[Claim]:
    """Make or take over the space beside a place, and keep it locked for the block.

    The space has one name for a place, and mkdir(2) lets one process make it; the lock
    (flock(2)) tells whether that process still lives, and goes with it. The caller removes the
    space before the block ends, so no file is left behind.

    Raises:
        BusyError: Another run has it.
        DestinationError: It cannot be made, or something else has its name.
    """
    space = space_beside(place)
    for _ in range(_MOST_TRIES):
        made = _make(space)
        try:
            descriptor = take_space(space)
        except OSError as error:
            failure = os_failure(DestinationError, "lock", space, error)
            if made:
                withdraw(space, failure)
            raise failure from error
        if descriptor is not None:
            break
        time.sleep(_PAUSE_SECONDS)
    else:
        raise claimed_failure(place)
    try:
        yield Claim(place=place, space=space, descriptor=descriptor)
    finally:
        os.close(descriptor)


def claimed_failure(place: Path) -> BusyError:
    """Return the failure for a place that another run has claimed; the run is named."""
    return BusyError(
        f"another run is writing to this destination: {display(place)}"
        f"{describe_holders(find_holders([space_beside(place)], below=False))}",
        hint="try again when it is done; its lock ends with its process",
    )


def withdraw(directory: Path, failure: OpsError) -> None:
    """Remove an empty directory that could not be used; a failure to do so is noted."""
    try:
        directory.rmdir()
    except OSError as error:
        failure.add_note(os_failure(DestinationError, "remove", directory, error).message)


def _make(space: Path) -> bool:
    try:
        space.mkdir(mode=0o700)
    except FileExistsError:
        return False
    except OSError as error:
        raise os_failure(DestinationError, "create a workspace in", space.parent, error) from error
    return True


def take_space(space: Path) -> int | None:
    """Return a descriptor that holds the lock of a private directory; None if another has it.

    Raises:
        DestinationError: It is somebody else's, or no directory.
        OSError: The file system knows no locks.
    """
    try:
        descriptor = os.open(space, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None  # whoever had it has just removed it
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
        raise _not_ours(space) from error
    taken = False
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise _not_ours(space)
        taken = try_lock(descriptor, fcntl.LOCK_EX) and is_still(space, descriptor)
    finally:
        if not taken:
            os.close(descriptor)
    return descriptor if taken else None


def _not_ours(space: Path) -> DestinationError:
    return DestinationError(
        f"this name is needed for a workspace, and is somebody else's: {display(space)}",
        hint="if another user's run was killed, let that user run `inv recover`; "
        "otherwise look at it and remove it",
    )


def try_lock(descriptor: int, how: int) -> bool:
    """Lock an open file or directory (flock(2)); False where another process has it.

    Raises:
        OSError: The file system knows no locks.
    """
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_still(path: Path, descriptor: int) -> bool:
    """Tell whether a path was not removed, and made anew, before its lock was had."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def is_claimed(space: Path) -> bool:
    """Tell whether a living process has a space; nothing is changed.

    Raises:
        OSError: It cannot be looked at.
    """
    try:
        descriptor = os.open(space, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor, fcntl.LOCK_SH)  # two who look do not see each other
    finally:
        os.close(descriptor)
