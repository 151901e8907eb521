"""Passes over the attachments of a source, each bringing the copy closer to it."""

from pathlib import Path

from ops.model import Progress, ReportProgress
from ops.tree.crew import Crew
from ops.tree.scan import TreeSize
from ops.tree.update import TreeCopy, Update


class _Told:
    """What to tell of the first pass; later ones look at every entry again, which is no news."""

    def __init__(self, size: TreeSize, progress: ReportProgress) -> None:
        self._size = size
        self._progress = progress
        self.bytes_told = self._files = 0

    def bytes(self, count: int) -> None:
        self.bytes_told += count
        self._tell(count)

    def files(self, count: int) -> None:
        self._files += count
        self._tell(count)

    def _tell(self, count: int) -> None:
        if not count:
            return
        self._progress(
            Progress(
                step="copy attachments",
                bytes_done=self.bytes_told,
                bytes_total=max(self._size.bytes, self.bytes_told),
                files_done=self._files,
                files_total=max(self._size.files, self._files),
            )
        )


class Passes:
    """The copy of a tree so far, and the passes that bring it up to date.

    Args:
        workers: Copy from the source to the copy, whose root must be there, and be empty.
        spill: Where the record of a large tree is kept meanwhile.
        size: The totals that are expected.
        progress: Called as the work goes on.
    """

    def __init__(
        self, workers: Crew, *, spill: Path, size: TreeSize, progress: ReportProgress
    ) -> None:
        self.tree = TreeCopy(workers, spill=spill)
        self.parallel = workers.parallel
        self._told = _Told(size, progress)
        workers.advance = self._told.bytes

    @property
    def bytes_read(self) -> int:
        """How much content was read so far."""
        return self._told.bytes_told

    def update(self, *, delete: bool) -> frozenset[bytes]:
        """Make one pass over the source; the first copies all. See `TreeCopy.update`."""
        return self.start(delete=delete).finish()

    def start(self, *, delete: bool) -> Update:
        """Begin a pass, which goes on while this process does something else."""
        return self.tree.start(delete=delete, advance=self._told.files)

    def wait(self) -> None:
        """Wait for the pass that goes on, if any.

        Raises:
            OpsError: It failed.
        """
        self.tree.wait()
