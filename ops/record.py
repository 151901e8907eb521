"""The file that a manifest is written to: where it may go, and how it is written."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from ops.destination import require_writable
from ops.errors import DestinationError, os_failure
from ops.manifest import BEGINNING, Head, encode_manifest
from ops.model import Entry
from ops.names import display


def refuse_other_file(path: Path) -> None:
    """Refuse to write a manifest over anything that is none.

    Raises:
        DestinationError: Something else stands there.
    """
    try:
        is_file = stat.S_ISREG(path.lstat().st_mode)  # a device is not ours to replace
        beginning = _beginning(path) if is_file else b"none"
    except FileNotFoundError:
        return
    except OSError as error:
        raise os_failure(DestinationError, "replace", path, error) from error
    if beginning and beginning != BEGINNING:
        raise DestinationError(
            f"another file stands where the manifest is to go: {display(path)}",
            hint="choose another name, or remove it first",
        )


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(BEGINNING))


def place_of_record(path: Path) -> Path:
    """Return the real path of where a manifest is to go.

    Raises:
        DestinationError: Nothing can be written there.
    """
    try:
        is_directory = path.is_dir()
    except OSError as error:
        raise os_failure(DestinationError, "write the manifest", path, error) from error
    if is_directory:
        raise DestinationError(
            f"the manifest is a directory: {display(path)}",
            hint=f"name a file, for example {display(path / 'manifest.jsonl')}",
        )
    parent = path.parent
    if not parent.is_dir():
        raise DestinationError(
            f"the manifest's directory does not exist: {display(parent)}", hint="create it first"
        )
    require_writable(parent)
    return parent.resolve() / path.name


def write_record(path: Path, head: Head, entries: Iterable[Entry]) -> None:
    """Write a manifest to a new file, for its owner alone; it is not synced here.

    Raises:
        DestinationError: It cannot be written.
    """
    try:
        with open(path, "xb", opener=_private) as file:
            file.writelines(encode_manifest(head, entries))
    except OSError as error:
        raise os_failure(DestinationError, "write the manifest", path, error) from error


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
