"""The key of the pseudonyms, in a file of its own."""

import os
import secrets
import stat
from pathlib import Path

from ops.errors import UsageError, os_failure
from ops.names import display
from ops.sanitise.pseudonyms import KEY_BYTES

_OTHERS = 0o077
_MOST_BYTES = 4096


def read_key(path: Path) -> bytes:
    """Read the key, or make one where the file does not exist yet.

    The file holds at least 64 hexadecimal digits, and nobody but its owner may read it: who has
    the key and a list of addresses can tell whose pseudonym is whose.

    Raises:
        UsageError: It cannot be read or made, is open to others, or holds something else.
    """
    try:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return _make_key(path)
        try:
            status = os.fstat(descriptor)
            text = os.read(descriptor, _MOST_BYTES) if stat.S_ISREG(status.st_mode) else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise os_failure(UsageError, "read the key", path, error) from error
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:
        raise UsageError(
            f"this is no key: {display(path)}",
            hint=f"it has to hold {2 * KEY_BYTES} hexadecimal digits; name a file that does not"
            " exist, and one is made",
        )
    if stat.S_IMODE(status.st_mode) & _OTHERS:
        raise UsageError(
            f"the key is open to others: {display(path)}", hint=f"chmod 600 {display(path)}"
        )
    return key


def new_key() -> bytes:
    """Make a key at random."""
    return secrets.token_bytes(KEY_BYTES)


def _make_key(path: Path) -> bytes:
    key = new_key()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
        file.write(key.hex() + "\n")
        file.flush()
        os.fsync(descriptor)
    return key
