"""Those who do the work on a tree: this process, or several."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from ops.errors import OpsError
from ops.tree.cores import usable_cores
from ops.tree.hand import Hand
from ops.tree.pool import Pool
from ops.tree.work import Job, Trees, Work


class Crew(Protocol):
    """Does jobs; calls `advance` with the number of bytes read, now and then."""

    advance: Callable[[int], None]
    parallel: bool

    def start(self, work: Work) -> None:
        """Begin with some work; what was begun before must be finished."""

    def pump(self) -> None:
        """Let the work go on where that takes no waiting; `finish` tells if it fails."""

    def finish(self) -> None:
        """Wait until all the work is done.

        Raises:
            OpsError: The work failed.
        """


class Inline:
    """Does the jobs in this process, one after the other.

    Args:
        perform: Does one.
        advance: Called with the number of bytes read.
    """

    parallel = False

    def __init__(
        self, perform: Callable[[Job], Any], advance: Callable[[int], None] = lambda _count: None
    ) -> None:
        self.advance = advance
        self._perform = perform
        self._work: Work | None = None
        self._failure: OpsError | None = None

    def start(self, work: Work) -> None:
        """Begin with some work."""
        self._work = work

    def pump(self) -> None:
        """Do nothing: whoever pumps is busy with something else."""

    def finish(self) -> None:
        """Do all of it; once it failed, it fails again."""
        if self._failure is not None:
            raise self._failure
        work, self._work = self._work, None
        try:
            while work is not None:
                while (job := work.next_job()) is not None:
                    work.accept(job, self._perform(job))
                if not work.settle():
                    return
        except OpsError as failure:
            self._failure = failure
            raise


@contextmanager
def crew(
    trees: Trees,
    *,
    jobs: int = 0,
    advance: Callable[[int], None] = lambda _count: None,
    keep: Sequence[int] = (),
) -> Iterator[Crew]:
    """Get together those who work on some trees, for the length of a block.

    Args:
        trees: What to work on, and how.
        jobs: How many do it; 0 for as many as there are cores, 1 for this process alone.
        advance: Called with the number of bytes read, now and then.
        keep: Descriptors that stay open as long as anybody works.

    Raises:
        OpsError: A tree cannot be opened, or a process not be started.
    """
    count = jobs or usable_cores()
    if count == 1:

        def tell(read: int) -> None:
            inline.advance(read)

        with Hand(trees, tell) as hand:
            inline = Inline(hand.perform, advance)
            yield inline
        return
    pool = Pool(trees, count, advance, keep)
    try:
        yield pool
    finally:
        pool.close()


FEW_FILES = 1500
FEW_BYTES = 48 << 20
"""Below both, one process is done before others have started."""


def fitting_jobs(asked: int, *, files: int, size: int) -> int:
    """Return how many processes are worth their start.

    Args:
        asked: What the operator asked for; 0 leaves it to us.
        files: The number of files.
        size: The bytes in them.
    """
    if asked:
        return asked
    return 1 if files < FEW_FILES and size < FEW_BYTES else usable_cores()
