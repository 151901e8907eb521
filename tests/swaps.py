"""Swaps that stop half way, as a kill leaves them."""

import os
from collections.abc import Callable
from pathlib import Path

from ops.disk import Disk
from ops.errors import DestinationError
from ops.journal import commit
from ops.model import Instance
from ops.spaces import space_beside
from ops.swap import complete
from ops.workspace import Workspace, workspace


class StoppedError(Exception):
    """Stands for the end of the process."""


class Stopping(Disk):
    """Does so many changes, then stops."""

    def __init__(self, changes: int) -> None:
        self.left = changes

    def _count(self) -> None:
        if not self.left:
            raise StoppedError
        self.left -= 1

    def rename(self, source: Path, target: Path, *, over: bool = False) -> None:
        self._count()
        super().rename(source, target, over=over)

    def link(self, source: Path, target: Path) -> bool:
        self._count()
        return super().link(source, target)

    def unlink(self, path: Path) -> None:
        self._count()
        super().unlink(path)


class WithoutLinks(Disk):
    """A file system on which a file has one name."""

    def link(self, source: Path, target: Path) -> bool:
        assert source.exists()
        assert not target.exists()
        return False


class Sick(Disk):
    """Fails at some paths, by what is done and the end of the path."""

    def __init__(self, what: str, *ends: str) -> None:
        self.what, self.ends = what, ends

    def _fail(self, what: str, path: Path) -> None:
        if what == self.what and str(path).endswith(self.ends):
            raise DestinationError(f"cannot {what} {path}: Input/output error")

    def rename(self, source: Path, target: Path, *, over: bool = False) -> None:
        self._fail("rename", target)
        super().rename(source, target, over=over)

    def unlink(self, path: Path) -> None:
        self._fail("unlink", path)
        super().unlink(path)

    def sync(self, path: Path) -> None:
        self._fail("sync", path)
        super().sync(path)


def fill(space: Workspace) -> None:
    """Prepare a new pair, which need not be one that the application understands."""
    space.copy.database.write_bytes(b"new")
    (space.copy.attachments / "file").write_bytes(b"new")
    if space.record is not None:
        space.record.write_bytes(b"new")


def in_a_child(work: Callable[[], None]) -> None:
    """Do something in a process that is gone afterwards, without any clearing up."""
    child = os.fork()
    if child == 0:  # pragma: no cover - coverage does not see a process that ends like this
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def killed_run(
    destination: Instance,
    *,
    changes: int | None,
    manifest: Path | None = None,
    prepare: Callable[[Workspace], None] = fill,
) -> None:
    """Leave what a run leaves that is killed after so many changes of its swap.

    Args:
        destination: Where it was to go.
        changes: How many renames, links and removals were made after the commit point; None
            for a run that was killed while it copied.
        manifest: Where its record was to go.
        prepare: Makes the new parts.
    """

    def work() -> None:
        with workspace(destination, manifest) as space:
            prepare(space)
            if changes is None:
                os._exit(0)
            swap = space.swap()
            commit(swap, Disk())
            try:
                complete(swap, Stopping(changes))
            except StoppedError:
                os._exit(0)
            os._exit(0)

    in_a_child(work)


def pair_of(instance: Instance) -> str:
    """Read a pair as `fill` made it, or as something else stood there before."""
    database = instance.database.read_bytes() if instance.database.exists() else b"missing"
    file = instance.attachments / "file"
    halves = (database, file.read_bytes() if file.exists() else b"missing")
    names = [
        "new" if half == b"new" else "missing" if half == b"missing" else "old" for half in halves
    ]
    return names[0] if len(set(names)) == 1 else " and ".join(names)


def private_names(*directories: Path) -> list[str]:
    """List what private things are in some directories."""
    return [str(path) for directory in directories for path in directory.glob(".ciso-ops-*")]


def spaces_of(instance: Instance) -> tuple[Path, Path]:
    """Return the private directories beside a pair."""
    return space_beside(instance.database), space_beside(instance.attachments)
