"""One who does jobs on trees, in whatever process."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ops.errors import DestinationError, SourceError, os_failure
from ops.tree.checkers import FolderChecker
from ops.tree.directories import Directories
from ops.tree.folders import FolderCopier
from ops.tree.readers import EntryReader, FolderReader
from ops.tree.stored import Payload
from ops.tree.work import Job, Trees

if TYPE_CHECKING:  # a worker that only copies starts without it
    from ops.tree.sharing import Sharer


class Hand:
    """Does jobs by their names: copies one tree to another and checks it, or reads a single one.

    Args:
        trees: What to work on, and how.
        advance: Called with the number of bytes after each piece read.

    Raises:
        OpsError: A tree cannot be opened.
    """

    def __init__(self, trees: Trees, advance: Callable[[int], None]) -> None:
        self._trees: list[Directories] = []
        self._stack = ExitStack()
        with ExitStack() as stack:
            self._methods = self._learn(trees, advance, stack)
            self._stack = stack.pop_all()

    def _learn(
        self, trees: Trees, advance: Callable[[int], None], stack: ExitStack
    ) -> dict[str, Callable[..., Any]]:
        source = self._open(trees.source, trees.blame, stack, trees.from_store)
        if trees.copy is None:
            if isinstance(source, Payload):
                return _inspecting(source, trees, advance)
            return _reading(EntryReader(source, trees, advance))
        copy = self._open(trees.copy, "destination", stack, trees.stored)
        if isinstance(copy, Payload):
            earlier = _earlier(trees, copy, stack)
            methods = _copying(source, copy, trees, advance, earlier)
            return methods | _inspecting(copy, trees, advance)
        if isinstance(source, Payload):
            methods = _restoring(source, copy, advance)
        else:
            methods = _copying(source, copy, trees, advance, None)
        return methods | _reading(EntryReader(copy, trees.of_copy(), advance))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def perform(self, job: Job) -> Any:
        """Do a job; what it returns is made of plain values.

        Raises:
            OpsError: Source or copy failed.
        """
        for tree in self._trees:
            tree.open(b"")  # what was open below may have been replaced since the last job
        what, *arguments = job
        return self._methods[what](*arguments)

    def _open(self, root: Path, blame: str, stack: ExitStack, payload: bool) -> Directories:
        try:
            tree = stack.enter_context(Payload(root) if payload else Directories(root))
        except OSError as error:
            kind = SourceError if blame == "source" else DestinationError
            raise os_failure(kind, "read", root, error) from error
        self._trees.append(tree)
        return tree


def _earlier(trees: Trees, copy: Payload, stack: ExitStack) -> "Sharer | None":
    """Return one who shares with an earlier snapshot, where there is one."""
    if trees.earlier is None:
        return None
    from ops.tree.sharing import open_sharer

    sharer = open_sharer(*trees.earlier, copy)
    if sharer is not None:
        stack.callback(sharer.close)
    return sharer


def _copying(
    source: Directories,
    copy: Directories,
    trees: Trees,
    advance: Callable[[int], None],
    earlier: "Sharer | None",
) -> dict[str, Callable[..., Any]]:
    folders = FolderCopier(source, copy, digests=trees.digests, advance=advance, earlier=earlier)
    return {
        "update": folders.update_all,
        "names": folders.names,
        "large": folders.large,
        "retype": folders.retype,
        "links": folders.links,
        "finish": folders.copier.finish,
        "remove": folders.remove,
    }


def _reading(entries: EntryReader) -> dict[str, Callable[..., Any]]:
    reader, checker = FolderReader(entries), FolderChecker(entries)
    return {
        "read": reader.read,
        "read names": reader.names,
        "read large": reader.large,
        "read links": reader.links,
        "check": checker.check,
        "check names": checker.check_names,
        "check large": checker.check_large,
    }


def _inspecting(
    payload: Payload, trees: Trees, advance: Callable[[int], None]
) -> dict[str, Callable[..., Any]]:
    from ops.tree.describing import describe
    from ops.tree.inspecting import Inspector

    inspector = Inspector(payload, from_disk=trees.from_disk, advance=advance)
    return {"inspect": inspector.inspect, "describe": describe}


def _restoring(
    payload: Payload, destination: Directories, advance: Callable[[int], None]
) -> dict[str, Callable[..., Any]]:
    from ops.tree.restoring import Restorer

    restorer = Restorer(payload, destination, advance=advance)
    return {
        "restore": restorer.restore,
        "restore large": restorer.restore_large,
        "restore links": restorer.link,
        "finish": restorer.copier.finish,
    }
