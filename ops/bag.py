"""The tag files of a bag: what any BagIt validator reads of a snapshot (RFC 8493)."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from ops.disk import DISK, Disk
from ops.errors import DestinationError, os_failure

DECLARATION = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
DATA = "data"
DATABASE = f"{DATA}/database.sqlite3"
ATTACHMENTS = f"{DATA}/attachments"
PREFIX = f"{ATTACHMENTS}/".encode()
MANIFEST = "manifest-sha256.txt"
TAG_MANIFEST = "tagmanifest-sha256.txt"
LEDGER = "ledger.jsonl"
SUMMARY = "snapshot.json"
HISTORY, NEXT_HISTORY = "history.jsonl", ".history.jsonl"
"""What happens later: no part of the bag's own manifests, as RFC 8493 allows for tag files."""

_TAGS = ("bagit.txt", "bag-info.txt", MANIFEST, SUMMARY, LEDGER)


@dataclass(slots=True, kw_only=True)
class BagWriter:
    """Writes ledger and manifest piece by piece, and hashes them on the way.

    `write` takes lines of either.
    """

    ledger: BinaryIO
    manifest: BinaryIO
    _digests: tuple["hashlib._Hash", "hashlib._Hash"] = field(
        default_factory=lambda: (hashlib.sha256(), hashlib.sha256())
    )

    def write(self, ledger: bytes, manifest: bytes) -> None:
        """Append lines.

        Raises:
            OSError: They cannot be written.
        """
        self.ledger.write(ledger)
        self.manifest.write(manifest)
        self._digests[0].update(ledger)
        self._digests[1].update(manifest)

    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each, by name."""
        return {LEDGER: self._digests[0].hexdigest(), MANIFEST: self._digests[1].hexdigest()}


@contextmanager
def bag_writer(bag: Path) -> Iterator[BagWriter]:
    """Write ledger and manifest of a new bag for the length of a block.

    Raises:
        DestinationError: They cannot be written.
    """
    try:
        with (bag / LEDGER).open("xb") as ledger, (bag / MANIFEST).open("xb") as manifest:
            yield BagWriter(ledger=ledger, manifest=manifest)
    except OSError as error:
        raise os_failure(DestinationError, "write", error.filename or bag, error) from error


def manifest_line(digest: str, path: str) -> bytes:
    """Return the line for one file, as `sha256sum` writes it."""
    return f"{digest}  {path}\n".encode()


def finish_bag(
    bag: Path,
    summary: bytes,
    info: dict[str, str],
    digests: dict[str, str],
    disk: Disk = DISK,
) -> None:
    """Write the tag files that come last, and make them durable.

    Args:
        bag: The directory.
        summary: The content of `snapshot.json`.
        info: The fields of `bag-info.txt`.
        digests: Those of the tag files that are there already.
        disk: Writes them.

    Raises:
        DestinationError: They cannot be written.
    """
    described = "".join(f"{name}: {value}\n" for name, value in info.items())
    contents = {"bagit.txt": DECLARATION, "bag-info.txt": described.encode(), SUMMARY: summary}
    known = dict(digests)
    for name, content in contents.items():
        disk.create(bag / name, content)
        known[name] = hashlib.sha256(content).hexdigest()
    lines = [manifest_line(known[name], name) for name in sorted(known)]
    disk.create(bag / TAG_MANIFEST, b"".join(lines))
    try:
        for name in (*known, TAG_MANIFEST):
            (bag / name).chmod(0o400)
    except OSError as error:
        raise os_failure(DestinationError, "write", error.filename or bag, error) from error
    for name in (*contents, TAG_MANIFEST):
        disk.sync(bag / name)
    disk.sync(bag)


def damaged_tags(bag: Path) -> list[str]:
    """Say what is wrong with the tag files of a bag: each is there, and is what it was.

    Raises:
        OSError: One cannot be read.
    """
    said: list[str] = []
    try:
        lines = (bag / TAG_MANIFEST).read_bytes().decode().splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return [f"{TAG_MANIFEST} is missing or unreadable"]
    recorded: dict[str, str] = {}
    for line in lines:
        digest, _, name = line.partition("  ")
        recorded[name] = digest
    if set(recorded) != set(_TAGS):
        said.append(f"{TAG_MANIFEST} does not list the tag files of a snapshot")
    for name in _TAGS:
        if name not in recorded:
            continue
        try:
            with (bag / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            said.append(f"{name} is missing")
            continue
        if found != recorded[name]:
            said.append(f"{name} was changed")
    return said


def is_declared(bag: Path) -> bool:
    """Tell whether a directory says that it is a bag.

    Raises:
        OSError: It cannot be looked at.
    """
    try:
        return (bag / "bagit.txt").read_bytes() == DECLARATION
    except FileNotFoundError:
        return False
