"""One who does jobs on trees, in whatever process."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ops.errors import DestinationError, SourceError, os_failure
from ops.tree.checkers import FolderChecker
from ops.tree.directories import Directories
from ops.tree.folders import FolderCopier
from ops.tree.readers import EntryReader, FolderReader
from ops.tree.work import Job, Trees


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
            source = self._open(trees.source, trees.blame, stack)
            if trees.copy is None:
                self._methods = _reading(EntryReader(source, trees, advance))
            else:
                copy = self._open(trees.copy, "destination", stack)
                self._methods = _copying(source, copy, trees, advance)
                self._methods.update(_reading(EntryReader(copy, trees.of_copy(), advance)))
            self._stack = stack.pop_all()

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

    def _open(self, root: Path, blame: str, stack: ExitStack) -> Directories:
        try:
            tree = stack.enter_context(Directories(root))
        except OSError as error:
            kind = SourceError if blame == "source" else DestinationError
            raise os_failure(kind, "read", root, error) from error
        self._trees.append(tree)
        return tree


def _copying(
    source: Directories, copy: Directories, trees: Trees, advance: Callable[[int], None]
) -> dict[str, Callable[..., Any]]:
    folders = FolderCopier(source, copy, digests=trees.digests, advance=advance)
    return {
        "update": folders.update_all,
        "names": folders.names,
        "large": folders.large,
        "retype": folders.retype,
        "links": folders.links,
        "finish": folders.finish,
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
