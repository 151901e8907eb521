"""Private directories beside a destination, in which the copy is made and checked."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ops.claims import Claim, claim
from ops.disk import DISK, Disk
from ops.errors import DestinationError, OpsError, os_failure
from ops.interrupts import held_signals
from ops.journal import PartKind, Swap, part_of
from ops.model import Instance
from ops.settlement import Settled, settle
from ops.spaces import add_places, space_beside
from ops.tree.removal import remove_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Private directories beside the places of a pair, each on the file system of its place.

    `copy` is the pair in the making, `record` the file for its manifest, where one is wanted.
    `replaces` are the places at which something stood when the work began: nothing else is
    replaced.
    """

    destination: Instance
    manifest: Path | None
    claims: tuple[Claim, ...]
    replaces: frozenset[Path]

    @property
    def copy(self) -> Instance:
        """Where the copy is made."""
        database = space_beside(self.destination.database)
        attachments = space_beside(self.destination.attachments)
        return Instance(database=database / "new", attachments=attachments / "new")

    @property
    def record(self) -> Path | None:
        """Where the manifest is written."""
        return None if self.manifest is None else space_beside(self.manifest) / "new"

    @property
    def scratch(self) -> Path:
        """Where a database that needs recovery is copied to be read."""
        return space_beside(self.destination.database) / "scratch"

    @property
    def locks(self) -> tuple[int, ...]:
        """The descriptors that keep others away, for those who help with the work."""
        return tuple(claim.descriptor for claim in self.claims)

    def swap(self) -> Swap:
        """Return the parts to be put in place, which are ready.

        Raises:
            DestinationError: One is not.
        """
        places = [
            (PartKind.DATABASE, self.destination.database),
            (PartKind.ATTACHMENTS, self.destination.attachments),
        ]
        if self.manifest is not None:
            places.append((PartKind.MANIFEST, self.manifest))
        parts = [part_of(kind, place, replaces=place in self.replaces) for kind, place in places]
        return Swap(parts=tuple(parts))

    def sync(self, disk: Disk = DISK) -> None:
        """Make everything written here durable: one call for each file system.

        Raises:
            DestinationError: A disk did not take it.
        """
        devices = {os.fstat(claim.descriptor).st_dev: claim for claim in self.claims}
        for one in devices.values():
            disk.sync_file_system(one.space, one.descriptor)


@contextmanager
def workspace(
    destination: Instance,
    manifest: Path | None = None,
    *,
    tell_settled: Callable[[Settled], None] = lambda _settled: None,
) -> Iterator[Workspace]:
    """Claim the places of a pair, make ready to prepare new ones, and clear away afterwards.

    What a killed run left at one of the places is settled first. Missing parents of the
    destination are created with mode 0700, and removed again when the block fails. However the
    block ends, nothing private remains; only a swap that can neither be completed nor undone
    keeps its spaces, for the next run.

    Args:
        destination: Where the pair goes, as real paths.
        manifest: Where its record goes, if anywhere.
        tell_settled: Called with what was done about a swap that was found unfinished.

    Raises:
        BusyError: Another run is writing to one of the places.
        UnfinishedSwapError: What a killed run left cannot be settled.
        DestinationError: A space cannot be created, or not be removed.
    """
    places = [destination.database, destination.attachments]
    places += [manifest] if manifest is not None else []
    created: list[Path] = []
    with ExitStack() as locks:
        claims: list[Claim] = []
        try:
            for place in places:
                with held_signals():  # nothing may be made and not be known to be
                    created += _make_parents(place.parent)
                    claims.append(locks.enter_context(claim(place)))
                    add_places(claims[-1].space, places)
            settle(claims, tell=tell_settled)
            for one in claims:
                add_places(one.space, places)
            made = Workspace(
                destination=destination,
                manifest=manifest,
                claims=tuple(claims),
                replaces=frozenset(filter(os.path.lexists, places)),
            )
            for directory in (made.copy.attachments, made.scratch):
                _make_directory(directory)
            yield made
        except BaseException as error:
            with held_signals():  # a second Ctrl-C must not leave half a copy lying about
                failures = _remove_all(claims, tell_settled)
                for failure in failures:
                    error.add_note(failure.message)
                if not failures:
                    _remove_parents(created)
            raise
        with held_signals():
            failures = _remove_all(claims, tell_settled)
        if failures:
            raise failures[0]


def _remove_all(claims: list[Claim], tell: Callable[[Settled], None]) -> list[OpsError]:
    """Empty and remove spaces, and return what failed.

    An error may have left a journal: then it is settled, or all that it needs stays. The first
    space goes last, and only after the others: it knows of them.
    """
    try:
        settle(claims, tell=tell)
    except OpsError as failure:
        return [failure]
    try:
        for one in reversed(claims):
            remove_tree(one.space, error=DestinationError)
    except DestinationError as failure:
        return [failure]
    return []


def _make_parents(directory: Path) -> list[Path]:
    missing: list[Path] = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    created: list[Path] = []
    for path in reversed(missing):
        try:
            _make_directory(path)
        except DestinationError as failure:
            if isinstance(failure.__cause__, FileExistsError) and path.is_dir():
                continue  # another run has made it meanwhile, and may remove it again
            _remove_parents(created)
            raise
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


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise os_failure(DestinationError, "create the directory", path, error) from error
