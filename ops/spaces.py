"""The private directory beside a place, and the list in it of all the places of its run."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ops.errors import DestinationError, os_failure

PREFIX = ".ciso-ops-"
"""How the name of everything private beside a place begins."""

PLACES = "places"
_NAME_DIGITS = 16


def space_beside(place: Path) -> Path:
    """Return the path of the one private directory in which a place's new content is prepared.

    It is always the same for a place, so that making it is also the lock, and short for any
    name.
    """
    digest = hashlib.sha256(os.fsencode(place.name)).hexdigest()
    return place.with_name(PREFIX + digest[:_NAME_DIGITS])


def add_places(space: Path, places: Iterable[Path]) -> None:
    """Note in a space which places its run works on, beside those that are noted already.

    Whoever clears one of them away after a kill then finds the others.

    Raises:
        DestinationError: It cannot be written.
    """
    known = read_places(space)
    listed = dict.fromkeys(map(str, (*known, *places)))
    if len(listed) == len(known):
        return  # a disk that is full of left-overs must not stop their removal
    try:
        (space / PLACES).write_bytes(json.dumps(list(listed)).encode("ascii"))
    except OSError as error:
        raise os_failure(DestinationError, "write", space / PLACES, error) from error


def read_places(space: Path) -> tuple[Path, ...]:
    """List the places that the run of a space worked on; none where a crash lost the note.

    Raises:
        DestinationError: The note cannot be read.
    """
    try:
        listed = json.loads(read_file(space / PLACES))
        places = tuple(Path(place) for place in listed)
    except (FileNotFoundError, ValueError, TypeError, RecursionError):
        return ()
    except OSError as error:
        raise os_failure(DestinationError, "read", space / PLACES, error) from error
    return places if all(map(is_place, places)) else ()


def read_file(path: Path) -> bytes:
    """Read a regular file; a pipe would keep its reader waiting for somebody to write."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read()


def is_place(path: Path) -> bool:
    """Tell whether what was read from a file can be the path of a place."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return path.is_absolute() and path.name not in {"", "..", "."} and "\0" not in str(path)
