"""The file that a manifest is written to: where it may go, and how it gets there whole."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.destination import require_writable
from ops.errors import DestinationError, os_failure
from ops.manifest import BEGINNING, Head, encode_manifest
from ops.model import Entry
from ops.names import display
from ops.workspace import PREFIX


def refuse_other_file(path: Path) -> None:
    """Refuse to write a manifest over anything that is none.

    Raises:
        DestinationError: Something else stands there.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(len(BEGINNING))
    except FileNotFoundError:
        return
    except OSError as error:
        raise os_failure(DestinationError, "replace", path, error) from error
    if beginning and beginning != BEGINNING:
        raise DestinationError(
            f"another file stands where the manifest is to go: {display(path)}",
            hint="choose another name, or remove it first",
        )


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


@contextmanager
def staged_record(final: Path, head: Head, entries: Iterable[Entry]) -> Iterator[None]:
    """Write a manifest beside its place first, and put it there once the block succeeds.

    Raises:
        DestinationError: It cannot be written.
    """
    staged = _stage(final, encode_manifest(head, entries))
    try:
        yield
    except BaseException:
        staged.unlink()
        raise
    try:
        staged.rename(final)
    except OSError as error:
        staged.unlink()
        raise os_failure(DestinationError, "write the manifest", final, error) from error


def _stage(final: Path, lines: Iterable[bytes]) -> Path:
    staged: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=final.parent)
        staged = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if staged is not None:
            staged.unlink()
        raise os_failure(DestinationError, "write the manifest", final, error) from error
    return staged
