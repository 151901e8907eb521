"""The journal of a swap: what is to be put in which place, written down before anything moves.

The journal, which a rename puts into the first part's space, is the commit point: with it,
whoever comes next can finish what was begun. This is a write-ahead log with redo, on names
instead of pages (Gray and Reuter, Transaction Processing, 1993, chapter 9).
"""

import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from ops.disk import Disk
from ops.errors import DestinationError, UnfinishedSwapError, os_failure
from ops.names import display
from ops.spaces import is_place, read_file, space_beside
from ops.sqlite.header import SIDECARS, sidecar

JOURNAL = "journal"
POINTER = "journal-is-in"
_FORMAT = 1
_FEWEST_PARTS = 2


class PartKind(StrEnum):
    """What a part is: a database has sidecars, attachments are a directory."""

    DATABASE = "database"
    ATTACHMENTS = "attachments"
    MANIFEST = "manifest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file or directory to be put in place.

    `place` is where, its parent a real path. `replaces` tells whether something is known to
    stand there. `inode` tells, as well as a number that may be used again can, whether what
    stands there later is still what was put there.
    """

    kind: PartKind
    place: Path
    replaces: bool
    inode: int

    @property
    def space(self) -> Path:
        """The private directory beside the place."""
        return space_beside(self.place)

    @property
    def new(self) -> Path:
        """Where the new one is prepared."""
        return self.space / "new"

    @property
    def old(self) -> Path:
        """Where the old one goes."""
        return self.space / "old"

    @property
    def sidecars(self) -> list[tuple[Path, Path]]:
        """The old database's sidecars that are still there, and where they go."""
        suffixes = SIDECARS if self.kind is PartKind.DATABASE else ()
        moves = [(sidecar(self.place, one), sidecar(self.old, one)) for one in suffixes]
        return [move for move in moves if os.path.lexists(move[0])]


def part_of(kind: PartKind, place: Path, *, replaces: bool) -> Part:
    """Describe a part whose new content is ready in its space.

    Raises:
        DestinationError: It is not.
    """
    new = space_beside(place) / "new"
    try:
        inode = new.lstat().st_ino
    except OSError as error:
        raise os_failure(DestinationError, "look at", new, error) from error
    return Part(kind=kind, place=place, replaces=replaces, inode=inode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """The parts that are put in place together; the first one's space keeps the journal."""

    parts: tuple[Part, ...]

    @property
    def journal(self) -> Path:
        """Where the journal is while the swap is under way."""
        return self.parts[0].space / JOURNAL

    @property
    def pointers(self) -> list[Path]:
        """The files in the other spaces that tell where the journal is."""
        return [part.space / POINTER for part in self.parts[1:]]

    def encode(self) -> bytes:
        """Return the journal: one JSON document."""
        parts = [
            {
                "kind": part.kind.value,
                # Lone surrogates, which stand for bytes that are not UTF-8, survive in ASCII.
                "place": str(part.place),
                "replaces": part.replaces,
                "inode": part.inode,
            }
            for part in self.parts
        ]
        return json.dumps({"format": _FORMAT, "parts": parts}, indent=1).encode("ascii")


def decode_swap(content: bytes) -> Swap:
    """Read a journal.

    Raises:
        ValueError: It is none; the message says why.
    """
    try:
        document: dict[str, Any] = json.loads(content)
        if document["format"] != _FORMAT:
            raise ValueError(f"its format is {document['format']}, not {_FORMAT}")
        parts = tuple(
            Part(
                kind=PartKind(part["kind"]),
                place=Path(part["place"]),
                replaces=bool(part["replaces"]),
                inode=int(part["inode"]),
            )
            for part in document["parts"]
        )
    except (KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"a field is missing or wrong: {error}") from error
    if len(parts) < _FEWEST_PARTS or not all(is_place(part.place) for part in parts):
        raise ValueError("it does not name the places of a pair")
    return Swap(parts=parts)


def commit(swap: Swap, disk: Disk) -> None:
    """Write the journal, durably: from here on the swap is finished whatever happens.

    The pointers come first, and only when all that the spaces hold is durable: a pointer
    without its space then means that the space was removed, or that its file system is not
    mounted.

    Raises:
        DestinationError: It cannot be written.
    """
    for pointer in swap.pointers:
        _write_durably(pointer, _encode_pointer(swap.journal.parent), disk)
    _write_durably(swap.journal, swap.encode(), disk)


def _write_durably(path: Path, content: bytes, disk: Disk) -> None:
    """Write a file that is there whole or not at all."""
    draft = path.with_name("draft")
    disk.create(draft, content)
    disk.sync(draft)
    disk.rename(draft, path)
    disk.sync(path.parent)


def forget(swap: Swap, disk: Disk) -> None:
    """Remove the journal, durably, then what points to it: the swap is over.

    What the spaces hold must not be deleted before: a journal without it would tell a tale of
    parts that are in place.

    Raises:
        DestinationError: It cannot be removed.
    """
    for path in (swap.journal, *swap.pointers):
        if os.path.lexists(path):
            disk.unlink(path)
            disk.sync(path.parent)


def find_swap(space: Path) -> Swap | None:
    """Read the journal that a space holds or points to; None where there is none.

    Raises:
        UnfinishedSwapError: It cannot be read, belongs elsewhere, or its place is not there.
        DestinationError: The space cannot be read.
    """
    try:
        holder = _journal_holder(space)
        if holder is None:
            return None
        content = read_file(holder / JOURNAL)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise os_failure(DestinationError, "read the journal in", space, error) from error
    try:
        swap = decode_swap(content)
    except ValueError as error:
        raise UnfinishedSwapError(
            f"the journal in {display(holder)} is damaged: {error}",
            hint=f"look at both places by hand, then remove {display(holder)}",
        ) from error
    if holder != swap.journal.parent or space not in {part.space for part in swap.parts}:
        raise UnfinishedSwapError(
            f"the journal in {display(holder)} is about another place: "
            f"{display(swap.parts[0].place)}",
            hint="it was moved or copied here: move it back, or remove it",
        )
    return swap


def _journal_holder(space: Path) -> Path | None:
    if os.path.lexists(space / JOURNAL):
        return space
    try:
        pointer = json.loads(read_file(space / POINTER))
        holder, parent_inode = Path(pointer["space"]), int(pointer["parent_inode"])
        if not is_place(holder):
            raise ValueError("it is no path")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UnfinishedSwapError(
            f"what tells where the journal is, is damaged: {display(space / POINTER)}",
            hint=f"look at both places by hand, then remove {display(space)}",
        ) from error
    if os.path.lexists(holder):
        return holder
    if os.path.lexists(holder.parent) and holder.parent.stat().st_ino == parent_inode:
        return None  # it was removed, which comes after the end of a swap
    raise UnfinishedSwapError(
        f"the other half of an unfinished swap is not there: {display(holder)}",
        hint=f"mount its file system; or put the pair right by hand and remove {display(space)}",
    )


def _encode_pointer(holder: Path) -> bytes:
    """Say where the journal is, and in which directory that is."""
    fields = {"space": str(holder), "parent_inode": holder.parent.stat().st_ino}
    return json.dumps(fields).encode("ascii")
