"""A private directory for temporary files, which the next run removes if this one is killed."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.claims import take_space, withdraw
from ops.errors import DestinationError, os_failure
from ops.interrupts import held_signals
from ops.tree.removal import remove_tree

_NAME_DIGITS = 16
_MOST_TRIES = 10


@contextmanager
def scratch_directory(purpose: str) -> Iterator[Path]:
    """Make a private directory in the place for temporary files, and remove it afterwards.

    It may come to hold a copy of a database. One that a killed run made for the same purpose is
    removed as well.

    Args:
        purpose: What it is for, such as the real path of the database to be read.

    Raises:
        DestinationError: There is no place for one, or it cannot be removed.
    """
    digest = hashlib.sha256(os.fsencode(purpose)).hexdigest()
    prefix = f"ciso-ops-{digest[:_NAME_DIGITS]}-"
    parent = _place_for_temporary_files()
    _remove_abandoned(parent, prefix)
    made: list[tuple[Path, int]] = []
    try:
        with held_signals():  # nothing may be made and not be known to be
            made.append(_make(parent, prefix))
        yield made[0][0]
    finally:
        with held_signals():
            for path, descriptor in made:
                try:
                    remove_tree(path, error=DestinationError)
                finally:
                    os.close(descriptor)


def _place_for_temporary_files() -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise DestinationError(
            f"there is no place for temporary files: {error}", hint="set TMPDIR"
        ) from error


def _make(parent: Path, prefix: str) -> tuple[Path, int]:
    for _ in range(_MOST_TRIES):
        try:
            path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        except OSError as error:
            raise os_failure(
                DestinationError, "create a scratch directory in", parent, error
            ) from error
        try:
            descriptor = take_space(path)
        except OSError as error:
            failure = os_failure(DestinationError, "lock", path, error)
            withdraw(path, failure)
            raise failure from error
        if descriptor is not None:
            return path, descriptor
    raise DestinationError(f"somebody keeps removing our scratch directories in {parent}")


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for path in parent.glob(f"{prefix}*"):
        try:
            if path.lstat().st_uid != os.geteuid():
                continue
            descriptor = take_space(path)
        except FileNotFoundError:
            continue  # its run has just removed it
        except OSError as error:
            raise os_failure(DestinationError, "lock", path, error) from error
        if descriptor is None:
            continue  # its run is at work
        try:
            remove_tree(path, error=DestinationError)
        finally:
            os.close(descriptor)
