"""Files with several names: which of them must be copied again, so that they stay one file."""

from collections import defaultdict

from ops.tree.walking import walk_order
from ops.tree.work import KEPT, NEW, UNCHANGED


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
            firsts = {first or path for path, state, first in names if state == UNCHANGED}
            whole = len(firsts) <= 1 and firsts <= present
            copied = not whole or any(state == NEW for _, state, _ in names)
            if copied:
                paths = (path for path, state, _ in names if state != KEPT)
                again.append(sorted(paths, key=walk_order))
            apart += _apart(names, set() if copied else present)
        self._names.clear()
        return again, apart


def _apart(names: list[tuple[bytes, int, bytes]], present: set[bytes]) -> list[tuple[bytes, bytes]]:
    """Return kept names whose first name is not among those present, with their new ones.

    Kept names that refer to one first name are one file, and stay one.
    """
    files: dict[bytes, dict[bytes, bytes]] = defaultdict(dict)
    for path, state, first in names:
        if state == KEPT and (first or path) not in present:
            files[first or path][path] = first
    moved: list[tuple[bytes, bytes]] = []
    for kept in files.values():
        heir = min(kept, key=walk_order)
        wanted = {path: b"" if path == heir else heir for path in kept}
        moved += [(path, first) for path, first in wanted.items() if first != kept[path]]
    return moved
