"""Give the directories of a copy their metadata, once all in them is written."""

from collections import defaultdict, deque
from typing import Any

from ops.tree.catalogue import Catalogue
from ops.tree.walking import lots
from ops.tree.work import Job


class Finish:
    """The metadata of directories: a level of depth at a time, the deepest first."""

    def __init__(self, entries: Catalogue) -> None:
        self._entries = entries
        self._levels: dict[int, list[bytes]] = defaultdict(list)
        for path in entries.folders():
            self._levels[path.count(b"/") + bool(path)].append(path)
        self._jobs: deque[Job] = deque()

    def next_job(self, *, large: bool = True) -> Job | None:  # noqa: ARG002 - none is large
        """Return a job that can be done now."""
        return self._jobs.popleft() if self._jobs else None

    def accept(self, _job: Job, reply: Any) -> None:
        """Enter what could be kept of the directories."""
        for path, own in reply:
            self._entries.set_folder(path, own, self._entries.subdirectories(path))

    def settle(self) -> bool:
        """Go on with the next level."""
        if not self._levels:
            return False
        paths = self._levels.pop(max(self._levels))
        known = [(path, own) for path in paths if (own := self._entries.own(path)) is not None]
        self._jobs.extend(("finish", lot) for lot in lots(known))
        return True
