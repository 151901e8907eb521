"""Go through a tree in pieces: what directories, parts of them and large files are still to do."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from ops.tree.blocks import BLOCK_RECORDS
from ops.tree.work import Job

Item = TypeVar("Item")

_MOST_FOLDERS = 16
_WAITING = 4
"""Directories go out in lots while many wait, and one by one towards the end."""


class Walk(ABC):
    """Work on a tree from its root on; `jobs` go first, large files last, the largest first."""

    def __init__(self) -> None:
        self.folders = deque([b""])
        self.jobs: deque[Job] = deque()
        self.cut: deque[Iterator[Job]] = deque()
        self.large: list[tuple[int, Job]] = []

    def next_job(self, *, large: bool = True) -> Job | None:
        """Return a job that can be done now, and a large file only where that is wanted."""
        if self.jobs:
            return self.jobs.popleft()
        while self.cut:
            job = next(self.cut[0], None)
            if job is not None:
                return job
            self.cut.popleft()
        if self.folders:
            count = min(_MOST_FOLDERS, 1 + len(self.folders) // _WAITING)
            return self.folder_job([self.folders.popleft() for _ in range(count)])
        if self.large and large:
            self.large.sort(key=lambda one: one[0])
            return self.large.pop()[1]
        return None

    @abstractmethod
    def folder_job(self, paths: list[bytes]) -> Job:
        """Return the job of looking at some directories."""

    @abstractmethod
    def accept(self, job: Job, reply: Any) -> None:
        """Take the result of a job."""

    @abstractmethod
    def settle(self) -> bool:
        """Go on once every job is done; tell whether there are more."""


def lots(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Cut a list into lots of a size that makes a job."""
    return (items[at : at + BLOCK_RECORDS] for at in range(0, len(items), BLOCK_RECORDS))


def walk_order(path: bytes) -> list[tuple[bool, bytes]]:
    """Order paths as a walk does: the files of a directory before what lies in its directories."""
    *directories, name = path.split(b"/")
    return [*((True, directory) for directory in directories), (False, name)]
