"""Bring a copy of a tree up to date with its source, in one pass."""

import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.tree.catalogue import Catalogue
from ops.tree.crew import Crew
from ops.tree.directories import join_path, split_path
from ops.tree.finishing import Finish
from ops.tree.links import Links
from ops.tree.parts import Parts, cut
from ops.tree.records import (
    FLAGS,
    HOST,
    INODE,
    LINK,
    LINKS,
    MODE,
    NAME,
    UNSETTLED,
    Record,
    altered,
)
from ops.tree.walking import Walk, lots
from ops.tree.work import KEPT, Found, Job

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class _Supplement:
    """Records that come apart from their directory, and names that turned out to be gone."""

    records: list[Record] = field(default_factory=list)
    without: set[bytes] = field(default_factory=set)


class TreeCopy:
    """The copy of a tree, and what is known of it: a live tree takes several passes.

    `entries` are the entries as they were read from the source. `unsettled` are files that
    changed each time they were read.

    Args:
        crew: Copies from the source to the copy.
        spill: Where the record of a large tree may be kept while the work goes on.
    """

    def __init__(self, crew: Crew, *, spill: Path | None = None) -> None:
        self.entries = Catalogue(spill)
        self.unsettled: set[bytes] = set()
        self._crew = crew

    def start(
        self, *, delete: bool, advance: Callable[[int], None] = lambda _files: None
    ) -> "Update":
        """Begin a pass; `Update.finish` ends it."""
        update = Update(self, delete=delete, advance=advance)
        self._crew.start(update)
        return update

    def update(
        self, *, delete: bool, advance: Callable[[int], None] = lambda _files: None
    ) -> frozenset[bytes]:
        """Copy what is new or changed in the source since the last pass; the first copies all.

        Unchanged is decided by inode, size, mtime and ctime, without reading. Hard links within
        the tree stay hard links. Directories get their metadata from `finish`.

        Args:
            delete: Remove from the copy what the source has no more. Otherwise it stays.
            advance: Called with the number of files after each piece of work.

        Returns:
            The paths of the files that were copied; empty after the first pass.

        Raises:
            SourceError: The source cannot be read.
            DestinationError: The copy cannot be written.
        """
        return self.start(delete=delete, advance=advance).finish()

    def finish(self) -> None:
        """Give every directory of the copy its metadata, the deepest first.

        Raises:
            DestinationError: It cannot be set.
        """
        self._crew.start(Finish(self.entries))
        self._crew.finish()

    def wait(self) -> None:
        """Wait for the pass that goes on."""
        self._crew.finish()

    def pump(self) -> None:
        """Let the pass go on."""
        self._crew.pump()


class Update(Walk):
    """One pass in progress: cuts it into jobs, and enters what comes of them.

    Directories are looked at from the root on, each by one worker. Then come the large files,
    each by itself, and, when every directory has been seen, the files with several names.
    """

    def __init__(self, copy: TreeCopy, *, delete: bool, advance: Callable[[int], None]) -> None:
        super().__init__()
        self._copy = copy
        self._entries = copy.entries
        self._delete = delete
        self._advance = advance
        self._first = not copy.entries.folders()
        self._parts: dict[bytes, Parts] = {}
        self._found: dict[bytes, Sequence[bytes]] = {}
        self._links = Links()
        self._supplements: dict[bytes, _Supplement] = defaultdict(_Supplement)
        self._gone: list[bytes] = []
        self._retyped: list[Job] = []
        self._copied: set[bytes] = set()

    def finish(self) -> frozenset[bytes]:
        """Wait for the end of the pass; return the paths copied, empty after the first pass."""
        self._copy.wait()
        return frozenset(self._copied)

    def pump(self) -> None:
        """Let the pass go on where that takes no waiting."""
        self._copy.pump()

    def folder_job(self, paths: list[bytes]) -> Job:
        """Return the job of bringing some directories over."""
        return ("update", [self._known(path) for path in paths], self._delete)

    def accept(self, job: Job, reply: Any) -> None:
        """Enter what a job gave."""
        what = job[0]
        if what == "update":
            for found in reply:
                self._accept_folder(Found(*found))
        elif what == "names":
            self._accept_part(Found(*reply))
        elif what in {"large", "retype"}:
            self._accept_files(Found(*reply))
        elif what == "links":
            self._accept_links(job[1], reply)

    def settle(self) -> bool:
        """Go on when all directories have been seen."""
        if self._retyped:
            self.jobs.extend(self._retyped)
            self._retyped = []
            return True
        if self._links.waiting:
            again, apart = self._links.judge()
            self.jobs.extend(("links", lot) for lot in lots(again))
            for path, first in apart:
                self._part(path, first)
            if self.jobs:
                return True
        for path, supplement in self._supplements.items():
            self._entries.add(path, supplement.records, without=supplement.without)
        self._supplements.clear()
        if self._gone:
            self._remove_gone()
            return True
        self._copy.unsettled = {path for path in self._copy.unsettled if path in self._entries}
        return False

    # Directories

    def _known(self, path: bytes) -> tuple[Any, ...]:
        own = self._entries.own(path)
        if own is None:
            return path, None, (), ()
        packed = None if self._entries.is_large(path) else self._entries.packed(path)
        return path, own, self._entries.subdirectories(path), packed

    def _accept_folder(self, found: Found) -> None:
        path = found.path
        if found.own is None:
            self._vanished(path)
            return
        self._found[path] = found.directories
        kept = () if self._delete else found.gone
        self._entries.set_folder(path, found.own, [*found.directories, *kept])
        gone = [join_path(path, name) for name in found.gone]
        if self._delete:
            self._gone += gone
        else:
            for one in gone:
                self._keep(one)
        if found.retyped:
            below = [join_path(path, name) for name in found.retyped]
            for one in below:
                if self._entries.own(one) is not None:
                    self._forget(self._entries.drop(one))
            self._retyped.append(("retype", path, list(found.retyped)))
        if found.names is not None:
            self._parts[path] = Parts(found.names)
            self.cut.append(self._part_jobs(found))
            return
        if found.block is not None:
            self._entries.set_blocks(path, [found.block])
        self._descend(path)
        self._note(found)

    def _part_jobs(self, found: Found) -> Iterator[Job]:
        path = found.path
        for part in cut(found.names or ()):
            directories = [name for name in found.directories if part.covers(name)]
            packed = self._entries.packed(path, part.low, part.high)
            yield ("names", path, tuple(part), packed, directories, self._delete)

    def _accept_part(self, found: Found) -> None:
        parts = self._parts[found.path]
        if found.block is not None and parts.add(found.block):
            self._entries.set_blocks(found.path, parts.blocks())
            del self._parts[found.path]
            self._descend(found.path)  # files that became directories are out of the way
        self._note(found)

    def _descend(self, path: bytes) -> None:
        found = self._found.pop(path)
        self.folders.extend(join_path(path, name) for name in found)

    def _accept_files(self, found: Found) -> None:
        if found.block is not None:
            self._supplements[found.path].records += found.records()
        self._note(found)

    def _note(self, found: Found) -> None:
        path = found.path
        if self._first:
            self._advance(found.block[2][1] if found.block is not None else 0)
        else:
            copied = [join_path(path, name) for name in found.copied]
            self._copied.update(copied)
            self._forget(copied)
        self._copy.unsettled.update(join_path(path, name) for name in found.unsettled)
        self.large += [(size, ("large", path, name)) for name, size in found.large]
        for name, host, inode, state, first in found.linked:
            self._links.note((host, inode), join_path(path, name), state, first)

    def _vanished(self, path: bytes) -> None:
        if self._entries.own(path) is None:
            self._entries.leave_out(path)
        elif self._delete:
            self._gone.append(path)
        else:
            self._keep(path)

    def _remove_gone(self) -> None:
        for path in self._gone:
            self.jobs.append(("remove", path))
            self._forget(self._entries.drop(path))
        self._gone = []

    def _forget(self, paths: Iterable[bytes]) -> None:
        self._copy.unsettled.difference_update(paths)

    def _part(self, path: bytes, first: bytes) -> None:
        """Note that a file which is gone is no name any more of one that was copied again."""
        record = self._entries.record(path)
        if record is not None:
            directory, _ = split_path(path)
            self._supplements[directory].records.append(altered(record, {LINK: first}))

    def _keep(self, path: bytes) -> None:
        """Note the files with several names in a directory that is gone, and stays in the copy."""
        for directory, record in self._entries.below(path):
            if record[LINKS] > 1:
                identity = record[HOST], record[INODE]
                self._links.note(identity, join_path(directory, record[NAME]), KEPT, record[LINK])

    def _accept_links(self, groups: list[list[bytes]], records: list[tuple[bytes, Record]]) -> None:
        for paths in groups:
            self._forget(paths)
            for path in paths:
                directory, name = split_path(path)
                self._supplements[directory].without.add(name)
        for directory, record in records:
            path = join_path(directory, record[NAME])
            self._supplements[directory].records.append(record)
            if record[FLAGS] & UNSETTLED:
                self._copy.unsettled.add(path)
            if self._first:
                self._advance(stat.S_ISREG(record[MODE]))
            else:
                self._copied.add(path)
