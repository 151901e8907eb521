"""Private directories beside a destination, in which the copy is made and checked."""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ops.errors import DestinationError, OpsError, UnfinishedSwapError, os_failure
from ops.interrupts import held_signals
from ops.model import Instance
from ops.tree.removal import remove_tree

PREFIX = ".ciso-ops-"
"""How the name of every workspace begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Private directories beside the two destinations, on their file systems.

    `database` and `attachments` are one directory when both destinations have one parent.
    `stage` is the copy in the making, `old` where the replaced pair goes.
    """

    database: Path
    attachments: Path

    @property
    def stage(self) -> Instance:
        """Where the copy is made."""
        return Instance(database=self.database / "database", attachments=self.attachments / "tree")

    @property
    def scratch(self) -> Path:
        """Where a database that needs recovery is copied to be read."""
        return self.database / "scratch"

    @property
    def old(self) -> Instance:
        """Where the replaced pair is put until it is deleted."""
        return Instance(
            database=self.database / "old-database", attachments=self.attachments / "old-tree"
        )


@contextmanager
def workspace(destination: Instance) -> Iterator[Workspace]:
    """Make a private workspace beside a destination, and remove it however the block ends.

    Missing parents of the destination are created with mode 0700, and removed again when the
    block fails. A swap that could not be undone keeps its workspace, which holds the old pair.

    Raises:
        DestinationError: It cannot be created, or not be removed.
    """
    created: list[Path] = []
    spaces: list[Path] = []
    try:
        database = destination.database.parent
        attachments = destination.attachments.parent
        for parent in (database, attachments):
            created += _make_parents(parent)
        for parent in dict.fromkeys((database, attachments)):
            # One by one, so that those already made are removed when the next one fails.
            spaces += [_make_workspace(parent)]
        made = Workspace(database=spaces[0], attachments=spaces[-1])
        made.stage.attachments.mkdir(mode=0o700)
        made.scratch.mkdir(mode=0o700)
        yield made
    except UnfinishedSwapError:
        raise  # the old pair is in there
    except BaseException as error:
        for failure in _remove_all(spaces):
            error.add_note(failure.message)
        _remove_parents(created)
        raise
    failures = _remove_all(spaces)
    if failures:
        raise failures[0]


def _remove_all(spaces: list[Path]) -> list[OpsError]:
    """Remove workspaces, each whatever happens to the others, and return what failed."""
    failures: list[OpsError] = []
    with held_signals():  # a second Ctrl-C must not leave half a copy lying about
        for space in spaces:
            try:
                remove_tree(space, error=DestinationError)
            except DestinationError as error:
                failures.append(error)
    return failures


def _make_parents(directory: Path) -> list[Path]:
    missing: list[Path] = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    created: list[Path] = []
    for path in reversed(missing):
        try:
            path.mkdir(mode=0o700)
        except OSError as error:
            _remove_parents(created)
            raise os_failure(DestinationError, "create the directory", path, error) from error
        created.append(path)
    return created


def _remove_parents(created: list[Path]) -> None:
    for path in reversed(created):
        try:
            path.rmdir()
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST}:
                return  # somebody else has put something there: it stays
            raise os_failure(DestinationError, "remove", path, error) from error


def _make_workspace(parent: Path) -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    except OSError as error:
        raise os_failure(DestinationError, "create a workspace in", parent, error) from error
