"""Read a whole tree, or check it against what it should be, by whoever does the work."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.model import Finding, Severity
from ops.tree.catalogue import Catalogue
from ops.tree.compare import Comparison, compare_trees
from ops.tree.crew import Crew
from ops.tree.directories import join_path
from ops.tree.parts import Parts, cut
from ops.tree.records import SIZE, Record
from ops.tree.walking import Walk, lots, walk_order
from ops.tree.work import Checked, Found, Job


def read_tree(
    crew: Crew, *, spill: Path | None = None, advance: Callable[[int], None] = lambda _files: None
) -> Catalogue:
    """Read a tree: every entry with its attributes, and the SHA-256 of every file.

    The second name of a hard link has `link` set to the first in the order of the walk. Entries
    that vanish meanwhile are left out.

    Args:
        crew: Reads the tree.
        spill: Where the record of a large tree may be kept.
        advance: Called with the number of files after each piece of work.

    Raises:
        OpsError: The tree cannot be read.
    """
    reading = _Reading(Catalogue(spill), advance)
    crew.start(reading)
    crew.finish()
    return reading.entries


class _Reading(Walk):
    """The reading of a tree in progress."""

    def __init__(self, entries: Catalogue, advance: Callable[[int], None]) -> None:
        super().__init__()
        self.entries = entries
        self._advance = advance
        self._parts: dict[bytes, Parts] = {}
        self._linked: dict[tuple[int, int], list[bytes]] = defaultdict(list)
        self._supplements: dict[bytes, list[Record]] = defaultdict(list)

    def folder_job(self, paths: list[bytes]) -> Job:
        """Return the job of reading some directories."""
        return ("read", paths)

    def accept(self, job: Job, reply: Any) -> None:
        """Enter what a job gave."""
        match job[0]:
            case "read":
                for found in reply:
                    self._accept_folder(Found(*found))
            case "read links":
                self._accept_links(reply)
            case "read names":
                found = Found(*reply)
                self._accept_part(found)
                self._note(found)
            case _:
                found = Found(*reply)
                self._supplements[found.path] += found.records()
                self._note(found)

    def settle(self) -> bool:
        """Go on when all directories have been seen."""
        if self._linked:
            groups = [sorted(paths, key=walk_order) for paths in self._linked.values()]
            self._linked.clear()
            self.jobs.extend(("read links", lot) for lot in lots(groups))
            return True
        for path, records in self._supplements.items():
            self.entries.add(path, records)
        self._supplements.clear()
        return False

    def _accept_folder(self, found: Found) -> None:
        path = found.path
        if found.own is None:
            if path:
                self.entries.leave_out(path)
            return
        self.entries.set_folder(path, found.own, found.directories)
        self.folders.extend(join_path(path, name) for name in found.directories)
        if found.names is not None:
            self._parts[path] = Parts(found.names)
            self.cut.append(self._part_jobs(found))
        elif found.block is not None:
            self.entries.set_blocks(path, [found.block])
        self._note(found)

    def _part_jobs(self, found: Found) -> Iterator[Job]:
        for part in cut(found.names or ()):
            yield ("read names", found.path, part.names)

    def _accept_part(self, found: Found) -> None:
        parts = self._parts[found.path]
        if found.block is not None and parts.add(found.block):
            self.entries.set_blocks(found.path, parts.blocks())
            del self._parts[found.path]

    def _note(self, found: Found) -> None:
        self._advance(found.block[2][1] if found.block is not None else 0)
        self.large += [(size, ("read large", found.path, name)) for name, size in found.large]
        for name, host, inode, _, _ in found.linked:
            self._linked[host, inode].append(join_path(found.path, name))

    def _accept_links(self, records: list[tuple[bytes, Record]]) -> None:
        for directory, record in records:
            self._supplements[directory].append(record)
        self._advance(len(records))


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeCheck:
    """What the check of a tree gave: everything wrong, files and bytes that were read."""

    findings: tuple[Finding, ...]
    files: int
    bytes: int


class Checking(Walk):
    """The check of a tree in progress: it is read again, and compared with what it should be.

    This is the quick way to know that nothing is wrong; `result` says what is.

    Args:
        expected: The entries that should be there.
        root: The tree, for its file system's sake.
        advance: Called with the number of files after each piece of work.
    """

    def __init__(
        self,
        expected: Catalogue,
        root: Path,
        advance: Callable[[int], None] = lambda _files: None,
    ) -> None:
        super().__init__()
        self._root = root
        self._comparison = Comparison(root)
        self._files = self._bytes = 0
        self._expected = expected
        self._advance = advance
        self._linked: list[tuple[bytes, tuple[int, int], bytes]] = []

    def result(self, crew: Crew) -> TreeCheck:
        """Return what was found, once the work is done.

        Where anything is wrong, all is read once more and compared entry by entry, so that each
        is told as what it is; what only the first reading saw is told all the same.

        Args:
            crew: Those who did the work.

        Raises:
            OpsError: The tree cannot be read.
        """
        findings = self._comparison.findings()
        if self._comparison.mismatches:
            again = compare_trees(self._expected, read_tree(crew), root=self._root)
            wrong = [finding for finding in again if finding.severity is Severity.ERROR]
            findings = again if wrong else findings
        return TreeCheck(findings=findings, files=self._files, bytes=self._bytes)

    def folder_job(self, paths: list[bytes]) -> Job:
        """Return the job of checking some directories."""
        return ("check", [self._known(path) for path in paths])

    def _known(self, path: bytes) -> tuple[Any, ...]:
        expected = self._expected
        packed = None if expected.is_large(path) else expected.packed(path)
        return path, expected.own(path), expected.subdirectories(path), packed

    def accept(self, job: Job, reply: Any) -> None:
        """Enter what a job gave."""
        for checked in reply if job[0] == "check" else [reply]:
            self._accept(Checked(*checked))

    def settle(self) -> bool:
        """Compare the first names of hard links, now that all have been seen."""
        firsts: dict[tuple[int, int], bytes] = {}
        for path, identity, expected in sorted(self._linked, key=lambda one: walk_order(one[0])):
            first = firsts.setdefault(identity, path)
            found = b"" if first == path else first
            if found != expected:
                self._comparison.relinked(path, expected, found)
        self._linked = []
        return False

    def _accept(self, checked: Checked) -> None:
        path = checked.path
        self._comparison.mismatches += checked.mismatches
        self._comparison.excuse(checked.excused)
        self._files += checked.files
        self._bytes += checked.bytes
        self._advance(checked.files)
        self.folders.extend(join_path(path, name) for name in checked.directories)
        if checked.names is not None:
            self.cut.append(self._part_jobs(checked))
        for record in checked.large:
            self.large.append((record[SIZE], ("check large", path, record)))
        for name, host, inode, _, first in checked.linked:
            self._linked.append((join_path(path, name), (host, inode), first))

    def _part_jobs(self, checked: Checked) -> Iterator[Job]:
        path = checked.path
        for part in cut(checked.names or ()):
            packed = self._expected.packed(path, part.low, part.high)
            yield ("check names", path, tuple(part), packed)
