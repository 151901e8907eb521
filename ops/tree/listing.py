"""List a directory: names in bytes, directories apart from everything else."""

import os
import sys
from dataclasses import dataclass
from typing import TypeAlias

from ops.tree.directories import open_quietly

_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
"""What `os.fsencode` goes by, at a third of its price."""

Name: TypeAlias = tuple[bytes, bool]
"""A name, and whether it was a plain file when it was listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The names in a directory, in order."""

    directories: list[bytes]
    others: list[Name]


def list_directory(descriptor: int) -> Listing:
    """List what an open directory holds now, by what it says of itself, without a look at each.

    It is opened once more for that: on Btrfs a directory goes on listing what it held when it
    was opened.

    Raises:
        OSError: It cannot be read.
    """
    directories: list[bytes] = []
    others: list[Name] = []
    fresh = open_quietly(b".", os.O_DIRECTORY, directory=descriptor)
    try:
        with os.scandir(fresh) as entries:
            for entry in entries:
                name = entry.name.encode(_ENCODING, _ERRORS)
                if entry.is_file(follow_symlinks=False):
                    others.append((name, True))
                elif entry.is_dir(follow_symlinks=False):
                    directories.append(name)
                else:
                    others.append((name, False))
    finally:
        os.close(fresh)
    directories.sort()
    others.sort()
    return Listing(directories=directories, others=others)
