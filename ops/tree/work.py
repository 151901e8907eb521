"""The words in which work on a tree is handed out and told of: plain tuples, for a pipe."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

from ops.tree.blocks import BLOCK_RECORDS, Block, unpack
from ops.tree.compare import Excused, Mismatch
from ops.tree.listing import Name
from ops.tree.records import Record

LARGE_BYTES = 8 << 20
"""A file from this size on is a job by itself."""

MOST_NAMES = 2 * BLOCK_RECORDS
"""A directory with more files is cut up."""

Job: TypeAlias = tuple[Any, ...]
"""What to do: the name of a worker's method, then its arguments."""

UNCHANGED, NEW, KEPT = range(3)
"""What a name of a file with several is: as it was, new or changed, or gone from the source."""

LARGE_JOBS = frozenset({"large", "read large", "check large", "restore large"})
"""Jobs that take long: nobody should wait behind one."""

Link: TypeAlias = tuple[bytes, int, int, int, bytes]
"""A file with several names: this one, device, inode, one of the above, its first name."""


Packed: TypeAlias = tuple[
    bytes, bytes | None, tuple[str, bool, bool, bool, bool], tuple[bytes, bytes] | None
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trees:
    """What the work is on, and how it is to be done.

    `source` is the tree to read; with a `copy`, it is copied there. `blame` says whose failure
    it is when it cannot be read, "source" or "destination". `digests` are made of what is read,
    and of nothing where they are not wanted; `from_disk` has the kernel forget a file's pages
    before it is read. `from_store` says that the source is a payload (`ops.tree.stored`), `stored`
    that the copy is to be one, which shares what did not change with `earlier`: the ledger of a
    snapshot and its payload.
    """

    source: Path
    copy: Path | None = None
    blame: str = "source"
    digests: bool = True
    from_disk: bool = False
    from_store: bool = False
    stored: bool = False
    earlier: tuple[Path, Path] | None = None

    def of_copy(self) -> "Trees":
        """Return how the copy is read."""
        return Trees(source=self.copy or self.source, blame="destination", from_disk=self.from_disk)

    def packed(self) -> Packed:
        """Return plain values, for a pipe."""
        copy = None if self.copy is None else os.fsencode(self.copy)
        earlier = self.earlier and (os.fsencode(self.earlier[0]), os.fsencode(self.earlier[1]))
        how = self.blame, self.digests, self.from_disk, self.from_store, self.stored
        return os.fsencode(self.source), copy, how, earlier

    @classmethod
    def unpacked(cls, values: Packed) -> "Trees":
        """Return what those values were of."""
        source, copy, (blame, digests, from_disk, from_store, stored), earlier = values
        return cls(
            source=Path(os.fsdecode(source)),
            copy=None if copy is None else Path(os.fsdecode(copy)),
            blame=blame,
            digests=digests,
            from_disk=from_disk,
            from_store=from_store,
            stored=stored,
            earlier=earlier and (Path(os.fsdecode(earlier[0])), Path(os.fsdecode(earlier[1]))),
        )


class Found(NamedTuple):
    """What a look at one directory, or at some names of it, gave; it travels as a plain tuple.

    `own` is None where the directory is gone. `names` are set where it holds so many that the
    work is to be cut up: nothing was done about them then. `block` is None where all files are
    as they were. `copied` are the names that were copied, `unsettled` those of them that changed
    at each reading, `large` are files, with their sizes, to be worked on by themselves, `linked`
    those with several names, `retyped` names of files where the copy has a directory, and `gone`
    those of directories that are there no more.
    """

    path: bytes
    own: Record | None
    directories: Sequence[bytes] = ()
    names: Sequence[Name] | None = None
    block: Block | None = None
    copied: Sequence[bytes] = ()
    unsettled: Sequence[bytes] = ()
    large: Sequence[tuple[bytes, int]] = ()
    linked: Sequence[Link] = ()
    retyped: Sequence[bytes] = ()
    gone: Sequence[bytes] = ()

    def records(self) -> list[Record]:
        """Return the records in its block."""
        return [] if self.block is None else unpack(self.block[1])


class Checked(NamedTuple):
    """What the check of one directory, or of some of its names, gave; it travels as a tuple.

    `directories` are those to be checked next. `names` are set, as in `Found`, where the work is
    to be cut up. `large` are the records of files to be checked by themselves, `linked` the
    names with others, and the first name that each should have. Then what is wrong, and what is
    excused; `files` and `bytes` that were read.
    """

    path: bytes
    directories: Sequence[bytes] = ()
    names: Sequence[Name] | None = None
    large: Sequence[Record] = ()
    linked: Sequence[Link] = ()
    mismatches: Sequence[Mismatch] = ()
    excused: Sequence[Excused] = ()
    files: int = 0
    bytes: int = 0


class Work(Protocol):
    """Work that is cut into jobs, whose results may bring more of them."""

    def next_job(self, *, large: bool = True) -> Job | None:
        """Return a job that can be done now; None if there is none.

        With `large` false, it is none that takes long: others are under way that may bring more.
        """

    def accept(self, job: Job, reply: Any) -> None:
        """Take the result of a job."""

    def settle(self) -> bool:
        """Go on once every job is done; tell whether there are more."""
