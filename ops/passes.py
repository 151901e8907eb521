"""Passes over the attachments of a source, each bringing the copy closer to it."""

from ops.model import Entry, Kind, Progress, ReportProgress
from ops.tree.copying import Copier
from ops.tree.directories import Directories
from ops.tree.scan import TreeSize
from ops.tree.update import Pass, TreeCopy, update_copy


class Passes:
    """The copy of a tree so far, and what to tell about it while passes are made over the source.

    Args:
        source: The tree to read.
        copy: Where to write; empty before the first pass.
        size: The totals that are expected, for progress only.
        progress: Called as the work goes on.
    """

    def __init__(
        self,
        source: Directories,
        copy: Directories,
        *,
        size: TreeSize,
        progress: ReportProgress,
    ) -> None:
        self.tree = TreeCopy()
        self.bytes_read = 0
        self.copier = Copier(source, copy, advance=self._advance_bytes)
        self._source = source
        self._size = size
        self._progress = progress
        self._files = 0

    def update(self, *, delete: bool) -> Pass:
        """Make one pass over the source; the first copies all.

        Args:
            delete: Remove from the copy what the source has no more.
        """
        first = not self.tree.entries
        advance = self._advance_entry if first else _ignore
        return update_copy(self._source, self.copier, self.tree, delete=delete, advance=advance)

    def _advance_bytes(self, count: int) -> None:
        self.bytes_read += count
        self._tell()

    def _advance_entry(self, entry: Entry) -> None:
        self._files += entry.kind is Kind.FILE
        self._tell()

    def _tell(self) -> None:
        self._progress(
            Progress(
                step="copy attachments",
                bytes_done=self.bytes_read,
                bytes_total=max(self._size.bytes, self.bytes_read),
                files_done=self._files,
                files_total=max(self._size.files, self._files),
            )
        )


def _ignore(_entry: Entry) -> None:
    """Later passes look at every entry again: that is no progress to show."""
