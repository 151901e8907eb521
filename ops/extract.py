"""Take single files out of a snapshot, each compared with its recorded SHA-256."""

import fnmatch
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ops.errors import DestinationError, SourceError, os_failure
from ops.model import Entry, Kind, Progress, ReportProgress
from ops.names import display
from ops.scratch import scratch_directory
from ops.store import Snapshot
from ops.storing import used_snapshot
from ops.tree.catalogue import Catalogue, catalogue_of
from ops.tree.crew import crew
from ops.tree.directories import split_path
from ops.tree.finishing import Finish
from ops.tree.removal import empty_tree
from ops.tree.restoring import Restoring
from ops.tree.work import Trees
from ops.unpacking import read_entries_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """What was taken out, and where to: files and their bytes."""

    directory: Path
    files: int
    bytes: int


def extract(
    snapshot: Snapshot, pattern: str, directory: Path, *, progress: ReportProgress
) -> Extracted:
    """Restore the entries that a pattern names into a directory, below their own paths.

    Args:
        snapshot: The snapshot.
        pattern: A path in the attachments, or a pattern as a shell has them; what is below a
            directory that it names belongs to it.
        directory: Where to; it must be empty, or not exist. Its parent must.
        progress: Called as the work goes on.

    Raises:
        SourceError: Nothing is named, or the snapshot is damaged.
        DestinationError: The directory cannot be used.
        BusyError: The snapshot is just being removed.
    """
    with used_snapshot(snapshot), scratch_directory(f"extract {snapshot.path}") as scratch:
        chosen = _chosen(read_entries_of(snapshot, scratch), pattern, scratch)
        _, files, size, *_ = chosen.tally()
        if len(chosen) <= 1:
            raise SourceError(
                f"the snapshot has nothing by the name of {display(pattern)}",
                hint="names are relative to the attachments; quote a pattern: 'policies/*.pdf'",
            )
        _make(directory)
        progress(Progress(step="restore files"))
        trees = Trees(source=snapshot.instance.attachments, copy=directory, from_store=True)
        try:
            with crew(trees, jobs=1) as workers:
                workers.start(Restoring(chosen))
                workers.finish()
                workers.start(Finish(chosen))
                workers.finish()
        except BaseException:
            empty_tree(directory, error=DestinationError)
            raise
    return Extracted(directory=directory, files=files, bytes=size)


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        if any(directory.iterdir()):
            raise DestinationError(
                f"the directory is not empty: {display(directory)}", hint="name a new one"
            )
    except OSError as error:
        raise os_failure(DestinationError, "write to", directory, error) from error


def _chosen(entries: Catalogue, pattern: str, spill: Path) -> Catalogue:
    """Return the entries that are named, and the directories on the way to them."""
    wanted = os.fsencode(pattern).strip(b"/")
    named = [entry for entry in entries.values() if entry.path and _matches(entry.path, wanted)]
    paths = {entry.path for entry in named}
    ways: set[bytes] = {b""}
    for path in paths:
        while path := split_path(path)[0]:
            ways.add(path)

    def kept() -> Iterator[Entry]:
        for entry in entries.values():
            if entry.path in paths:
                yield entry if entry.link in paths else replace(entry, link=b"")
            elif entry.path in ways and entry.kind is Kind.DIRECTORY:
                yield entry

    return catalogue_of(kept(), spill)


def _matches(path: bytes, wanted: bytes) -> bool:
    """Tell whether a pattern names an entry, or a directory above it."""
    while path:
        if path == wanted or fnmatch.fnmatchcase(path, wanted):
            return True
        path = split_path(path)[0]
    return False
