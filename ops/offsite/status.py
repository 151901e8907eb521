"""What is off-site against what is in the store; nothing is changed."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from ops.errors import SourceError, os_failure
from ops.offsite.program import Restic
from ops.offsite.push import is_copy
from ops.offsite.repository import Copy, list_copies, repository_id
from ops.snapshot import last_push
from ops.store import Snapshot, list_snapshots, require_store


class Place(StrEnum):
    """Where a snapshot is."""

    BOTH = "here and off-site"
    HERE = "only here"
    AWAY = "only off-site"
    LOST = "only here: it was pushed to this repository, and is not there any more"
    OTHER = "here and off-site, but not the same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One snapshot: in the store, in the repository, or both."""

    name: str
    place: Place
    snapshot: Snapshot | None
    copies: tuple[Copy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsiteStatus:
    """What was found; `store` is None where none was named or none is there."""

    repository: str
    location: str
    store: Path | None
    rows: tuple[Row, ...]


def find_store(path: Path) -> Path | None:
    """Return the real path of a store; None where there is nothing.

    Raises:
        SourceError: Something else is there, or it cannot be looked at.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise os_failure(SourceError, "look at", path, error) from error
    return require_store(path)


def look_offsite(restic: Restic, store: Path | None) -> OffsiteStatus:
    """Compare a repository with a store, if there is one.

    Raises:
        OpsError: One of them cannot be read.
    """
    repository = repository_id(restic)
    copies = list_copies(restic)
    snapshots = {one.name: one for one in (list_snapshots(store) if store else ())}
    rows = []
    for name in sorted({*snapshots, *(one.name for one in copies)}):
        some = tuple(one for one in copies if one.name == name)
        here = snapshots.get(name)
        place = _place(here, some, repository)
        rows.append(Row(name=name, place=place, snapshot=here, copies=some))
    return OffsiteStatus(
        repository=repository, location=restic.location, store=store, rows=tuple(rows)
    )


def _place(snapshot: Snapshot | None, copies: tuple[Copy, ...], repository: str) -> Place:
    if snapshot is None:
        return Place.AWAY
    if copies:
        same = any(is_copy(one, snapshot) for one in copies)
        return Place.BOTH if same else Place.OTHER
    pushed = last_push(snapshot.events)
    lost = pushed is not None and pushed.details.get("repository") == repository
    return Place.LOST if lost else Place.HERE
