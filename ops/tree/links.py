"""Files with several names: which of them must be copied again, so that they stay one file."""

from collections import defaultdict

from ops.tree.walking import walk_order
from ops.tree.work import KEPT, NEW


class Links:
    """The names of files that have several, by inode, as one pass over the source meets them."""

    def __init__(self) -> None:
        self._names: dict[tuple[int, int], list[tuple[bytes, int, bytes]]] = defaultdict(list)

    def note(self, identity: tuple[int, int], path: bytes, state: int, first: bytes) -> None:
        """Note a name.

        Args:
            identity: Device and inode in the source.
            path: The name, as a path.
            state: UNCHANGED, NEW (or changed), or KEPT, where the source has it no more.
            first: The first name, as it was recorded; empty for the first itself.
        """
        self._names[identity].append((path, state, first))

    @property
    def waiting(self) -> bool:
        """Whether any were noted since `judge`."""
        return bool(self._names)

    def judge(self) -> tuple[list[list[bytes]], list[tuple[bytes, bytes]]]:
        """Decide about all names that were noted.

        Returns:
            The files to be copied again, each as its names in the order of the walk: a name is
            new or changed, or the first name is not there. And names that are only kept, which
            are no names any more of a file that is copied again: each with its first name among
            those, empty for the first itself.
        """
        again: list[list[bytes]] = []
        apart: list[tuple[bytes, bytes]] = []
        for names in self._names.values():
            present = {path for path, state, _ in names if state != NEW}
            firsts = {first or path for path, state, first in names if state != NEW}
            if len(present) == len(names) and len(firsts) == 1 and firsts <= present:
                continue
            paths = sorted((path for path, state, _ in names if state != KEPT), key=walk_order)
            again += [paths] if paths else []
            kept = sorted((path for path, state, _ in names if state == KEPT), key=walk_order)
            apart += [(path, b"" if path == kept[0] else kept[0]) for path in kept]
        self._names.clear()
        return again, apart
