"""Check a payload against what its ledger says that it holds."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ops.model import Finding, Severity
from ops.names import display
from ops.tree.catalogue import Catalogue
from ops.tree.crew import Crew
from ops.tree.directories import join_path
from ops.tree.inspecting import EVERYTHING, Sample
from ops.tree.reading import TreeCheck
from ops.tree.walking import Walk, walk_order
from ops.tree.work import Job

if TYPE_CHECKING:
    from ops.tree.inspecting import Wrong


class Inspection(Walk):
    """The check of a payload in progress.

    Args:
        expected: What its ledger says.
        sample: Which files are read; None for none.
        trust_shared: Do not read what is shared with an earlier snapshot.
        advance: Called with the number of files after each piece of work.
    """

    def __init__(
        self,
        expected: Catalogue,
        *,
        sample: Sample | None = EVERYTHING,
        trust_shared: bool = False,
        advance: Callable[[int], None] = lambda _files: None,
    ) -> None:
        super().__init__()
        self.files = self.files_read = self.bytes_read = 0
        self._expected = expected
        self._how = sample, trust_shared
        self._advance = advance
        self._wrong: dict[Wrong, None] = {}

    def result(self, _crew: Crew) -> TreeCheck:
        """Return what was found, once the work is done."""
        return TreeCheck(findings=self.findings(), files=self.files, bytes=self.bytes_read)

    def findings(self) -> tuple[Finding, ...]:
        """Return what is wrong, in order of the paths."""
        return tuple(
            _finding(*one) for one in sorted(self._wrong, key=lambda one: walk_order(one[1]))
        )

    def damaged(self) -> tuple[bytes, ...]:
        """Return the paths of files that are not what they were."""
        return tuple(path for kind, path, *_ in self._wrong if kind == "changed")

    def folder_job(self, paths: list[bytes]) -> Job:
        """Return the job of looking at some directories."""
        known = [
            (path, self._expected.subdirectories(path), self._expected.packed(path))
            for path in paths
        ]
        for path, directories, _ in known:
            self.folders.extend(join_path(path, name) for name in directories)
        return ("inspect", known, *self._how)

    def accept(self, _job: Job, reply: Any) -> None:
        """Take the result of a job."""
        for wrong, files, read, size in reply:
            self._wrong.update(dict.fromkeys(map(tuple, wrong)))
            self.files += files
            self.files_read += read
            self.bytes_read += size
            self._advance(files)

    def settle(self) -> bool:
        """Tell that there is no more."""
        return False


def _finding(kind: str, path: bytes, expected: str, found: str) -> Finding:
    return Finding(
        kind=kind,
        severity=Severity.ERROR,
        where=display(path) or "attachments",
        expected=expected or "nothing",
        found=found or "nothing",
    )
