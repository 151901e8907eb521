"""How a tree lies in a snapshot: contents under portable names, everything else written down.

The payload of a snapshot is made for other programs (RFC 8493, `sha256sum -c`) and for any file
system: it holds directories and regular files, which only their owner may read and nobody may
write. Modes, owners, attributes, symbolic links and special files are in the ledger beside it
(`ops.tree.ledger`), which tells the true name of a file whose name does not travel.
"""

import hashlib
import os
import re
import stat
import unicodedata
from pathlib import Path

from ops.tree.directories import Directories

FILE_MODE = 0o400
"""The permission bits of every file of a payload."""

_PLAIN = re.compile(rb"[ -$&-~]*[!-$&-}]")
"""Printable ASCII without "%", and neither blank nor tilde at the end."""

_DIGEST_DIGITS = 20
_TAKEN = re.compile(rb".*~[0-9a-f]{20}", re.DOTALL)
"""What the names look like that are given here."""

_UNICODE = unicodedata.ucd_3_2_0
"""A version that stays the same in every Python, as the names must. What came later travels."""

_NOT_SHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Zs"})
_NEVER = "%\ufffd\u00ad"
"""The last is the soft hyphen, which later versions do not show."""

_NAME_BYTES = 255
_TEXT_BYTES = _NAME_BYTES - _DIGEST_DIGITS - 1


def stored_name(name: bytes) -> bytes:
    """Return the name under which an entry lies in a payload: its own, where that travels.

    Not so a name that is no UTF-8 or not composed (NFC, as macOS and validators compare), one
    with "%" or control characters, which manifests spell in different ways, and one that ends
    with a blank, which readers of a manifest lose. It gets what can be kept of it, and the
    beginning of the SHA-256 of the true one. The root is `b""`.
    """
    if not name or (_PLAIN.fullmatch(name) and (b"~" not in name or not _TAKEN.fullmatch(name))):
        return name
    text = name.decode("utf-8", "replace")
    if (
        all(map(_travels, text))
        and text[-1] != " "
        and _is_composed(text)
        and not _TAKEN.fullmatch(name)
    ):
        return name
    kept = "".join(one if _travels(one) and not _is_new(one) else "_" for one in text)
    short = _UNICODE.normalize("NFC", kept).encode()[:_TEXT_BYTES].decode("utf-8", "ignore")
    digest = hashlib.sha256(name).hexdigest()[:_DIGEST_DIGITS]
    return f"{short}~{digest}".encode()


def is_stored_name(name: bytes) -> bool:
    """Tell whether a payload could hold an entry of this name: `stored_name` may return it."""
    if not name or len(name) > _NAME_BYTES or b"/" in name or name in {b".", b".."}:
        return False
    if not _TAKEN.fullmatch(name):
        return stored_name(name) == name
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return False
    return all(map(_travels, text))


def _travels(character: str) -> bool:
    """Tell whether every reader of a manifest takes a character as it is."""
    if character == " ":
        return True
    return character not in _NEVER and _UNICODE.category(character) not in _NOT_SHOWN


def _is_new(character: str) -> bool:
    """Tell whether a character came after the version of Unicode that is gone by here."""
    return _UNICODE.category(character) == "Cn"


def _is_composed(text: str) -> bool:
    """Tell whether a name is in the composed form (NFC), which newer characters do not decide.

    The form of characters that a version knows never changes; they are looked at piece by piece,
    since `unicodedata` takes some of what it needs from its newest version.
    """
    pieces = "".join("\0" if _is_new(one) else one for one in text).split("\0")
    return all(_UNICODE.is_normalized("NFC", piece) for piece in pieces)


def stored_path(path: bytes) -> bytes:
    """Return the path under which an entry lies in a payload."""
    if _PLAIN.fullmatch(path) and b"~" not in path and b" /" not in path:
        return path
    return b"/".join(map(stored_name, path.split(b"/")))


class Payload(Directories):
    """The directories of a payload, asked for by the paths that they have in the source."""

    stored = True

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._asked: tuple[bytes, bytes] = (b"", b"")

    def open(self, path: bytes) -> int:
        """Return a descriptor of a directory, as `Directories.open` does."""
        if path != self._asked[0]:
            self._asked = (path, stored_path(path))
        return super().open(self._asked[1])

    def leaf(self, name: bytes) -> bytes:
        """Return the name under which an entry lies in its directory."""
        return stored_name(name)

    def on_disk(self, path: bytes) -> bytes:
        """Return the path under which an entry lies below the root."""
        return stored_path(path)

    def full_path(self, path: bytes) -> bytes:
        """Return the full path of an entry, for messages."""
        return super().full_path(stored_path(path))


def settle_stored(descriptor: int, accessed_ns: int, modified_ns: int) -> None:
    """Give a file of a payload its mode, and the times it had.

    Raises:
        OSError: They cannot be set.
    """
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != FILE_MODE:
        os.fchmod(descriptor, FILE_MODE)
    os.utime(descriptor, ns=(accessed_ns, modified_ns))
