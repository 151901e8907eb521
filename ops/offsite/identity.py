"""Which store a snapshot comes from: a number that its store keeps, and restic's tags tell.

Several stores may push into one repository, and a store may move to another place or machine.
"""

import json
import secrets
from pathlib import Path
from typing import Any

from ops.disk import DISK, Disk, replace_file
from ops.errors import SourceError, os_failure
from ops.names import display
from ops.store import MARKER
from ops.storing import locked_store

_KEY = "id"
_NEXT = ".ciso-ops-store"
_BYTES = 8


def store_identity(store: Path) -> str:
    """Return the number of a store; empty where it has none yet.

    Raises:
        SourceError: Its marker cannot be read.
    """
    value = _read(store).get(_KEY, "")
    return value if isinstance(value, str) else ""


def require_identity(store: Path) -> str:
    """Return the number of a store, which is given one where it has none yet.

    Raises:
        BusyError: Another run works in the store.
        DestinationError: It cannot be written.
    """
    known = store_identity(store)
    if known:
        return known
    with locked_store(store):
        return store_identity(store) or give_identity(store, secrets.token_hex(_BYTES))


def give_identity(store: Path, identity: str, disk: Disk = DISK) -> str:
    """Give a number to a store that is locked, and return it.

    Raises:
        DestinationError: It cannot be written.
    """
    content = json.dumps({**_read(store), _KEY: identity}).encode() + b"\n"
    replace_file(store / MARKER, content, draft=_NEXT, disk=disk)
    disk.sync(store)
    return identity


def _read(store: Path) -> dict[str, Any]:
    path = store / MARKER
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise os_failure(SourceError, "read", path, error) from error
    except ValueError as error:
        raise SourceError(f"this marks no store: {display(path)}: {error}") from error
    if not isinstance(values, dict):
        raise SourceError(f"this marks no store: {display(path)}")
    return values
