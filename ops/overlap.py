"""Refuse sources and destinations that touch each other, by name or by inode."""

from collections.abc import Iterator
from pathlib import Path

from ops.errors import DestinationError
from ops.model import Instance
from ops.names import display
from ops.spaces import PREFIX, space_beside
from ops.sqlite.header import SIDECARS, sidecar


def refuse_overlap(source: Instance, destination: Instance, manifest: Path | None = None) -> None:
    """Refuse a destination that is, holds, or lies inside any part of the source or of itself.

    Directories are compared by device and inode along all their parents, so links and bind
    mounts are seen through.

    Args:
        source: The source's real paths.
        destination: The destination, its parents being real paths.
        manifest: A file to be written as well.

    Raises:
        DestinationError: They overlap; the message says how.
    """
    for problem in _overlaps(source, destination, manifest):
        raise DestinationError(problem, hint="choose a destination apart from the source")


def _overlaps(source: Instance, destination: Instance, manifest: Path | None) -> Iterator[str]:
    places = [destination.database, destination.attachments, *([manifest] if manifest else [])]
    yield from _meets_spaces(source, places)
    yield from _meets_source(source, destination)
    yield from _meets_itself(destination)
    if manifest is not None:
        yield from _manifest_meets(manifest, source, destination)


def _meets_spaces(source: Instance, places: list[Path]) -> Iterator[str]:
    """Tell of sources that a run would clear away first, and of places in a run's workspace."""
    for space in map(space_beside, places):
        for half in (source.database, source.attachments):
            if half == space or _is_inside(half, space):
                yield (
                    f"the source lies in the workspace of the destination, which is cleared: "
                    f"{display(half)}"
                )
    for place in places:
        if any(name.startswith(PREFIX) for name in place.parts):
            yield f"this lies in a run's workspace, or has the name of one: {display(place)}"


def _meets_source(source: Instance, destination: Instance) -> Iterator[str]:
    source_files = (source.database, *_sidecars(source.database))
    database, attachments = destination.database, destination.attachments
    if database in source_files or _same(database, source.database):
        yield f"source and destination are the same database: {display(database)}"
    if set(_sidecars(database)) & {*source_files, source.attachments}:
        yield f"the source has the name of a sidecar of the destination: {display(database)}"
    if attachments == source.attachments or _same(attachments, source.attachments):
        yield f"source and destination are the same directory: {display(attachments)}"
    if attachments in source_files:
        yield f"the destination of the attachments is the source database: {display(attachments)}"
    if _is_inside(attachments, source.attachments):
        yield f"the destination lies inside the source's attachments: {display(attachments)}"
    if _is_inside(database, source.attachments) or database == source.attachments:
        yield f"the destination database lies inside the source's attachments: {display(database)}"
    for half in (source.attachments, source.database):
        if _is_inside(half, attachments):
            yield f"the source lies inside the destination, which is replaced: {display(half)}"


def _meets_itself(destination: Instance) -> Iterator[str]:
    database, attachments = destination.database, destination.attachments
    if attachments in {database, *_sidecars(database)}:
        yield f"database and attachments have the same destination: {display(attachments)}"
    if _is_inside(database, attachments):
        yield f"the destination database lies inside the attachments: {display(database)}"
    if _is_inside(attachments, database):
        yield f"the destination of the attachments lies below the database: {display(attachments)}"


def _manifest_meets(manifest: Path, source: Instance, destination: Instance) -> Iterator[str]:
    for instance in (source, destination):
        files = {instance.database, *_sidecars(instance.database), instance.attachments}
        inside = _is_inside(manifest, instance.attachments)
        if manifest in files or inside or _same(manifest, instance.database):
            yield f"the manifest would lie inside an instance: {display(manifest)}"


def _sidecars(database: Path) -> tuple[Path, ...]:
    return tuple(sidecar(database, suffix) for suffix in SIDECARS)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:  # what cannot be reached cannot be the same file
        return None
    return status.st_dev, status.st_ino


def _same(one: Path, other: Path) -> bool:
    identity = _identity(one)
    return identity is not None and identity == _identity(other)


def _is_inside(path: Path, directory: Path) -> bool:
    if directory in path.parents:
        return True
    identity = _identity(directory)
    return identity is not None and any(_identity(parent) == identity for parent in path.parents)
