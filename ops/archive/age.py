"""Encrypt and decrypt a stream with age (age-encryption.org/v1), piece by piece.

Keys are X25519 or SSH ones. A secret key comes from a file only, and is never told.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.archive.ahead import Put
from ops.archive.headers import ArchiveError
from ops.errors import SourceError, UsageError, missing_extra, os_failure
from ops.names import display

MAGIC = b"age-encryption.org/v1\n"
_SECRET = "AGE-SECRET-KEY-"  # noqa: S105 - how one begins, to be refused
_PEM = "-----BEGIN "
_PIECE_BYTES = 256 << 10
_MOST_KEY_BYTES = 1 << 20


def age_module() -> Any:
    """Return the library.

    Raises:
        UsageError: It is not installed.
    """
    try:
        import pyrage  # type: ignore[import-untyped]
    except ImportError as error:
        raise missing_extra("encryption takes pyrage", "pack") from error
    return pyrage


def read_recipients(given: str, file: Path | None) -> tuple[Any, ...]:
    """Read public keys: some separated by commas, and those of a file, one a line.

    Raises:
        UsageError: One is no public key, or the file holds none or cannot be read.
    """
    named = [("--recipient", one.strip()) for one in given.split(",") if one.strip()]
    if file is not None:
        lines = list(_lines(file))
        if not lines:
            raise UsageError(f"the file names no recipient: {display(file)}")
        named += [(f"{display(file)}, line {number}", line) for number, line in lines]
    if given and not named:
        raise UsageError("--recipient names nobody", hint="give a key: --recipient age1…")
    return tuple(_recipient(origin, key) for origin, key in named)


def _recipient(origin: str, key: str) -> Any:
    age = age_module()
    if _SECRET in key.upper() or _PEM in key:
        raise UsageError(
            f"{origin}: this is a secret key, and anybody may have seen it by now",
            hint="make a new one (age-keygen), and give the public one, which begins with age1",
        )
    kind = age.ssh if key.startswith("ssh-") else age.x25519
    try:
        return kind.Recipient.from_str(key)
    except age.RecipientError as error:
        raise UsageError(
            f"{origin}: this is no recipient: {display(key)}",
            hint="known are age1… (age-keygen prints it), ssh-ed25519 and ssh-rsa",
        ) from error


def read_identities(file: Path) -> tuple[Any, ...]:
    """Read the secret keys of a file: of age, one a line, or one of SSH without a passphrase.

    Raises:
        UsageError: It holds none, or cannot be read.
    """
    age = age_module()
    lines = list(_lines(file))
    try:
        if lines and lines[0][1].startswith(_PEM):
            return (age.ssh.Identity.from_buffer(_content(file)),)
        keys = tuple(age.x25519.Identity.from_str(line) for _, line in lines)
    except age.IdentityError as error:
        raise UsageError(
            f"this is no file of secret keys: {display(file)}",
            hint="known are what age-keygen writes, and SSH keys (Ed25519, RSA) without passphrase",
        ) from error
    if not keys:
        raise UsageError(f"the file holds no secret key: {display(file)}")
    return keys


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbers and contents of lines that are neither empty nor comments."""
    text = _content(file).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_MOST_KEY_BYTES)
    except OSError as error:
        raise os_failure(UsageError, "read the keys in", file, error) from error


def passing_key() -> tuple[Any, Any]:
    """Make a key pair that exists in the memory of this process alone: public and secret half."""
    secret = age_module().x25519.Identity.generate()
    return secret.to_public(), secret


@dataclass(slots=True, kw_only=True)
class _Source:
    """What the library reads from; it wraps what is raised here, so that is kept."""

    pieces: Iterator[bytes]
    failure: BaseException | None = None
    _rest: memoryview = field(default_factory=lambda: memoryview(b""))

    def read(self, count: int) -> bytes:
        try:
            while not self._rest:
                piece = next(self.pieces, None)
                if piece is None:
                    return b""
                self._rest = memoryview(piece)
        except BaseException as error:
            self.failure = error
            raise
        taken, self._rest = self._rest[:count], self._rest[count:]
        return bytes(taken)


@dataclass(slots=True, kw_only=True)
class _Sink:
    """What the library writes to: pieces of some size are handed on."""

    put: Callable[[bytes], None]
    failure: BaseException | None = None
    _waiting: bytearray = field(default_factory=bytearray)

    def write(self, piece: bytes) -> int:
        self._waiting += piece
        if len(self._waiting) >= _PIECE_BYTES:
            self.flush()
        return len(piece)

    def flush(self) -> None:
        piece, self._waiting = bytes(self._waiting), bytearray()
        try:
            if piece:
                self.put(piece)
        except BaseException as error:
            self.failure = error
            raise


def encrypt(
    pieces: Iterator[bytes], recipients: Sequence[Any], put: Callable[[bytes], None]
) -> None:
    """Encrypt a stream to recipients, and hand the result on piece by piece.

    Raises:
        UsageError: The recipients cannot be together.
    """
    age = age_module()
    source, sink = _Source(pieces=pieces), _Sink(put=put)
    try:
        age.encrypt_io(source, sink, list(recipients))
        sink.flush()
    except (age.EncryptError, OSError) as error:
        cause = source.failure or sink.failure
        if cause is not None:
            raise cause from None
        raise UsageError(f"cannot encrypt to these recipients: {error}") from error


def decrypt(pieces: Iterator[bytes], identities: Sequence[Any], put: Put) -> None:
    """Decrypt a stream, and hand the result on piece by piece.

    Raises:
        SourceError: None of the keys opens it.
        ArchiveError: It is damaged or cut short.
    """
    age = age_module()
    source, sink = _Source(pieces=pieces), _Sink(put=put)
    try:
        age.decrypt_io(source, sink, list(identities))
        sink.flush()
    except (age.DecryptError, OSError) as error:
        cause = source.failure or sink.failure
        if cause is not None:
            raise cause from None
        if "No matching keys" in str(error):
            raise SourceError(
                "none of the keys opens it", hint="name the file of the key that it was made for"
            ) from error
        raise ArchiveError(f"it cannot be decrypted: {error}") from error
