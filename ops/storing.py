"""Change what lies in a store: lock it, publish a snapshot by one rename, remove one by another."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from ops.bag import ATTACHMENTS, DATA
from ops.claims import try_lock
from ops.disk import DISK, Disk
from ops.errors import BusyError, DestinationError, os_failure
from ops.holders import describe_holders, find_holders
from ops.interrupts import held_signals
from ops.names import display
from ops.snapshot import Summary, instant_of, snapshot_name
from ops.store import LATEST, Snapshot, list_snapshots, newest_sound
from ops.tree.removal import remove_tree

_SECOND = timedelta(seconds=1)
_NEW, _OLD, _NEXT_LATEST = ".ciso-ops-new", ".ciso-ops-removed-", ".ciso-ops-latest"
"""A snapshot in the making, those in the unmaking, and the link that is about to be `latest`."""


@contextmanager
def locked_store(store: Path, disk: Disk = DISK) -> Iterator[int]:
    """Keep other runs from changing a store for the length of a block.

    The lock (flock(2)) is on the directory itself and ends with its process. What a killed run
    left is removed first.

    Yields:
        A descriptor of the store.

    Raises:
        BusyError: Another run has it.
        DestinationError: It cannot be locked or tidied up.
    """
    with _flocked(store, fcntl.LOCK_EX) as descriptor:
        if descriptor is None:
            raise BusyError(
                f"another run is working in this store: {display(store)}"
                f"{describe_holders(find_holders([store], below=False))}",
                hint="try again when it is done; its lock ends with its process",
            )
        _sweep(store, disk)
        yield descriptor


@contextmanager
def used_snapshot(snapshot: Snapshot) -> Iterator[int]:
    """Keep a snapshot from being removed for the length of a block.

    Yields:
        A descriptor that keeps it, also in processes that inherit it.

    Raises:
        BusyError: It is just being removed.
    """
    with _flocked(snapshot.path, fcntl.LOCK_SH) as descriptor:
        if descriptor is None:
            raise BusyError(
                f"the snapshot is just being removed: {display(snapshot.path)}",
                hint="name another one",
            )
        yield descriptor


@contextmanager
def _flocked(directory: Path, how: int) -> Iterator[int | None]:
    """Lock a directory; None where another process has it."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise os_failure(DestinationError, "lock", directory, error) from error
    try:
        try:
            had = try_lock(descriptor, how)
        except OSError as error:
            raise os_failure(DestinationError, "lock", directory, error) from error
        yield descriptor if had else None
    finally:
        os.close(descriptor)


def _sweep(store: Path, disk: Disk) -> None:
    """Remove what a killed run left: a snapshot in the making, or one in the unmaking."""
    try:
        for left in list(store.iterdir()):
            if left.name == _NEW or left.name.startswith(_OLD):
                remove_tree(left, error=DestinationError)
        if os.path.lexists(store / _NEXT_LATEST):
            disk.unlink(store / _NEXT_LATEST)
    except OSError as error:
        raise os_failure(DestinationError, "tidy up", store, error) from error


@contextmanager
def new_snapshot(store: Path) -> Iterator[Path]:
    """Make a private directory in a locked store, and remove it unless it was published.

    Raises:
        DestinationError: It cannot be made or removed.
    """
    path = store / _NEW
    try:
        with held_signals():
            path.mkdir(mode=0o700)
            (path / DATA).mkdir(mode=0o700)
            (path / ATTACHMENTS).mkdir(mode=0o700)
    except OSError as error:
        raise os_failure(DestinationError, "create a workspace in", store, error) from error
    try:
        yield path
    finally:
        with held_signals():
            if path.exists():
                remove_tree(path, error=DestinationError)


def free_name(store: Path, summary: Summary) -> str:
    """Return a name for a snapshot: that of its instant, or of the next second that is free.

    It sorts behind the names of those that show no later instant, also where one before it has
    been pruned.
    """
    instant = summary.captured.replace(microsecond=0)
    for one in list_snapshots(store):
        if one.instant <= summary.captured and instant_of(one.name) >= instant:
            instant = instant_of(one.name) + _SECOND
    while os.path.lexists(store / snapshot_name(instant)):
        instant += _SECOND
    return snapshot_name(instant)


def publish_snapshot(store: Path, name: str, disk: Disk = DISK) -> Path:
    """Give what was made its name, by one rename; it must be durable.

    Raises:
        DestinationError: It cannot be renamed.
    """
    path = store / name
    with held_signals():
        disk.rename(store / _NEW, path)
        disk.sync(store)
        point_latest(store, disk)
    return path


def point_latest(store: Path, disk: Disk = DISK) -> None:
    """Let `latest` name the newest verified snapshot, for people and other programs.

    Raises:
        DestinationError: It cannot be changed.
    """
    sound = newest_sound(list_snapshots(store))
    link = store / LATEST
    try:
        if sound is None:
            if link.is_symlink():
                link.unlink()
            return
        if link.is_symlink() and link.readlink() == Path(sound.name):
            return
        if link.exists() and not link.is_symlink():
            raise FileExistsError(errno.EEXIST, "it is no symbolic link")
        following = store / _NEXT_LATEST
        following.symlink_to(sound.name)
        following.rename(link)
        disk.sync(store)
    except OSError as error:
        raise os_failure(DestinationError, "write", link, error) from error


def remove_snapshot(store: Path, snapshot: Snapshot, disk: Disk = DISK) -> bool:
    """Remove a snapshot of a locked store: at once by its name, then what it holds.

    Returns:
        False where somebody is reading it, so that it stays.

    Raises:
        DestinationError: It cannot be removed.
    """
    with _flocked(snapshot.path, fcntl.LOCK_EX) as descriptor:
        if descriptor is None:
            return False
        aside = store / f"{_OLD}{snapshot.name}"
        with held_signals():
            disk.rename(snapshot.path, aside)
            disk.sync(store)
        remove_tree(aside, error=DestinationError)
    return True
