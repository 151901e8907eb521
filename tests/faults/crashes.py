"""A model of what a power cut leaves of a sequence of changes to names and contents.

Each file system may have lost any of its latest changes that were not synced. Two models are
enumerated: in the ordered one a file system loses its latest changes, as journaling file systems
do; in the other one it keeps any subset in which a change to a name follows the earlier ones to
that name. In both, content that was not synced may be gone although its name is there.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path

from ops.disk import Disk


@dataclass(frozen=True)
class Op:
    """One change: `what` is mkdir, create, rename, link, unlink, sync or sync-all.

    Paths are relative; the first component is the file system. `token` names new content.
    """

    what: str
    path: str
    target: str = ""
    token: str = ""

    @property
    def file_system(self) -> str:
        """The file system it changes."""
        return self.path.partition("/")[0]

    @property
    def names(self) -> frozenset[str]:
        """The names it changes."""
        return frozenset(filter(None, (self.path, self.target)))

    @property
    def is_change(self) -> bool:
        """Whether it changes names, and does not only sync."""
        return not self.what.startswith("sync")


class Recorder(Disk):
    """Does what it is asked to, without waiting for the disk, and writes it down."""

    def __init__(self, root: Path) -> None:
        self.ops: list[Op] = []
        self.contents: dict[str, bytes] = {}
        self._root = root

    def _note(self, what: str, path: Path, target: Path | None = None, *, token: str = "") -> None:
        self.ops.append(Op(what, self._relative(path), self._relative(target), token))

    def _relative(self, path: Path | None) -> str:
        return "" if path is None else str(path.relative_to(self._root))

    def create(self, path: Path, content: bytes) -> None:
        super().create(path, content)
        token = f"content-{len(self.contents)}"
        self.contents[token] = content
        self._note("create", path, token=token)

    def rename(self, source: Path, target: Path, *, over: bool = False) -> None:
        super().rename(source, target, over=over)
        self._note("rename", source, target)

    def link(self, source: Path, target: Path) -> bool:
        made = super().link(source, target)
        if made:
            self._note("link", source, target)
        return made

    def unlink(self, path: Path) -> None:
        super().unlink(path)
        self._note("unlink", path)

    def sync(self, path: Path) -> None:
        self._note("sync", path)

    def sync_file_system(self, directory: Path, descriptor: int) -> None:
        assert os.fstat(descriptor)
        self._note("sync-all", directory)


class NoSync(Disk):
    """Does not wait for the disk: the model says what survives."""

    def sync(self, path: Path) -> None:
        assert os.path.lexists(path)


DIRECTORY = "tree"
"""How the tokens of directories that are moved as a whole end."""

LOST = "lost"
"""The token of content that did not reach the disk."""

_MOST_LOOSE = 7
"""Changes of which all subsets are tried; of more, as after the end of a swap, the ordered ones."""


class ImpossibleError(Exception):
    """A change cannot be made in this state, so the sequence is none that could have happened."""


@dataclass
class State:
    """Names with the content that they lead to, and which content is durable."""

    names: dict[str, str] = field(default_factory=dict)
    durable: set[str] = field(default_factory=set)

    def copy(self) -> "State":
        """Return one that changes apart."""
        return State(dict(self.names), set(self.durable))

    def apply(self, op: Op) -> None:
        """Make one change.

        Raises:
            ImpossibleError: What it works on is not there.
        """
        if op.what in {"mkdir", "create"}:
            self.names[op.path] = op.token
        elif op.path not in self.names:
            if op.what == "unlink":
                return  # lost before, or never made
            raise ImpossibleError(f"{op.what} {op.path}")
        elif op.what == "rename":
            if self.names.get(op.target, "").endswith(DIRECTORY):
                raise ImpossibleError(f"rename onto a directory: {op.target}")
            self.names[op.target] = self.names.pop(op.path)
        elif op.what == "link":
            self.names[op.target] = self.names[op.path]
        elif op.what == "unlink":
            del self.names[op.path]

    def drop_unreachable(self) -> None:
        """Forget the names in a private directory that is lost itself."""
        for path in list(self.names):
            parent = str(Path(path).parent)
            if "/" in parent and parent not in self.names:
                del self.names[path]

    def key(self) -> tuple[frozenset[tuple[str, str]], frozenset[str]]:
        """Return what tells this state from others."""
        present = set(self.names.values())
        return frozenset(self.names.items()), frozenset(self.durable & present)


def crash_states(begin: State, ops: list[Op], *, ordered: bool) -> Iterator[tuple[int, State]]:
    """Enumerate what a crash at any moment of a sequence may leave, each state once.

    Yields:
        How many operations had been made, and a state.
    """
    seen = set()
    for done in range(len(ops) + 1):
        for kept in _survivors(ops[:done], ordered=ordered):
            state = begin.copy()
            try:
                for op in kept:
                    state.apply(op)
            except ImpossibleError:
                continue
            state.drop_unreachable()
            _note_durable(state, ops[:done])
            for variant in _with_contents_lost(state):
                key = (done == len(ops), variant.key())
                if key not in seen:
                    seen.add(key)
                    yield done, variant


def _survivors(done: list[Op], *, ordered: bool) -> Iterator[list[Op]]:
    """List the subsets of the changes made so far that may have reached the disk."""
    choices = []
    for file_system in sorted({op.file_system for op in done}):
        indexes = [i for i, op in enumerate(done) if op.file_system == file_system]
        choices.append(list(_subsets(done, indexes, ordered=ordered)))
    for chosen in product(*choices):
        yield [done[index] for index in sorted(index for part in chosen for index in part)]


def _subsets(done: list[Op], indexes: list[int], *, ordered: bool) -> Iterator[tuple[int, ...]]:
    changes = [index for index in indexes if done[index].is_change]
    safe = {index for index in changes if _is_synced(done, index, indexes, ordered=ordered)}
    loose = [index for index in changes if index not in safe]
    if ordered or len(loose) > _MOST_LOOSE:
        for count in range(len(loose) + 1):
            yield tuple(sorted((*safe, *loose[:count])))
        return
    for count in range(len(loose) + 1):
        for some in combinations(loose, count):
            kept = safe | set(some)
            if all(_is_closed(done, index, kept) for index in some):
                yield tuple(sorted(kept))


def _is_synced(done: list[Op], index: int, indexes: list[int], *, ordered: bool) -> bool:
    """Tell whether a later sync made a change durable.

    Syncing a directory makes its own names durable, and with an ordered journal all before.
    """
    parents = {str(Path(name).parent) for name in done[index].names}
    for later in indexes:
        if later <= index or done[later].is_change:
            continue
        if done[later].what == "sync-all" or ordered or parents <= {done[later].path}:
            return True
    synced = {done[i].path for i in indexes if i > index and done[i].what == "sync"}
    return parents <= synced


def _is_closed(done: list[Op], index: int, kept: set[int]) -> bool:
    """Tell whether all that a change builds on is kept as well."""
    needed = done[index].names | {str(Path(name).parent) for name in done[index].names}
    return all(
        earlier in kept
        for earlier in range(index)
        if done[earlier].is_change
        and (done[earlier].names & needed)
        and done[earlier].file_system == done[index].file_system
    )


def _note_durable(state: State, done: list[Op]) -> None:
    """Find out which contents were synced, by following the names that they had."""
    follow: dict[str, str] = {}
    for op in done:
        if op.what in {"mkdir", "create"}:
            follow[op.path] = op.token
        elif op.what == "rename" and op.path in follow:
            follow[op.target] = follow.pop(op.path)
        elif op.what == "link" and op.path in follow:
            follow[op.target] = follow[op.path]
        elif op.what == "unlink":
            follow.pop(op.path, None)
        elif op.what == "sync" and op.path in follow:
            state.durable.add(follow[op.path])
        elif op.what == "sync-all":
            state.durable |= {
                token for path, token in follow.items() if path.startswith(f"{op.file_system}/")
            }


def _with_contents_lost(state: State) -> Iterator[State]:
    yield state
    loose = {token for token in state.names.values() if token and token not in state.durable}
    if loose:
        lost = state.copy()
        lost.names = {
            path: LOST if token in loose else token for path, token in state.names.items()
        }
        yield lost


def is_possible(begin: State, ops: Iterable[Op]) -> bool:
    """Tell whether a sequence can be made at all; clearing away what is not there can."""
    state = begin.copy()
    try:
        for op in ops:
            if op.is_change:
                state.apply(op)
    except ImpossibleError:
        return False
    return True


def without(ops: Iterable[Op], index: int) -> list[Op]:
    """Leave one step out of a protocol."""
    return [op for number, op in enumerate(ops) if number != index]
