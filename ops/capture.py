"""Read a consistent pair out of a live instance: a database and the files that go with it."""

import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from ops.errors import BusyError, DestinationError, OpsError, SourceError, os_failure
from ops.gate import absent_files, moving_files
from ops.model import Clock, Entry, Instance, Kind, Progress, ReportProgress
from ops.names import display
from ops.profile import Profile
from ops.references import read_references
from ops.sqlite.backup import back_up
from ops.sqlite.connection import sqlite_failure
from ops.sqlite.content import NamedFile
from ops.sqlite.header import DatabaseFile, file_state, sidecar
from ops.sqlite.source import (
    OpenDatabase,
    Way,
    open_source,
    pinned,
    quiet_seconds,
    restless,
)
from ops.tree.copying import Copier
from ops.tree.directories import Directories
from ops.tree.metadata import Kept, apply_metadata
from ops.tree.scan import TreeSize
from ops.tree.update import Pass, TreeCopy, finish_copy, update_copy

_MOST_ROUNDS = 8
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What was captured, and how.

    `instant` is the moment whose state the pair shows (UTC). `pinned_seconds` is how long the
    database was held at it. `recopied` counts the entries copied again because they changed
    meanwhile.
    """

    instant: datetime
    way: Way
    tree: TreeCopy
    rounds: int
    recopied: int
    pinned_seconds: float
    database_kept: Kept


class _Captor:
    """One capture in progress: the copy so far and what to tell about it."""

    def __init__(
        self,
        source: Directories,
        copy: Directories,
        *,
        size: TreeSize,
        progress: ReportProgress,
    ) -> None:
        self.tree = TreeCopy()
        self.bytes_read = 0
        self.copier = Copier(source, copy, advance=self._advance_bytes)
        self._source = source
        self._size = size
        self._progress = progress
        self._files = 0

    def update(self, *, delete: bool) -> Pass:
        """Make one pass over the source."""
        first = not self.tree.entries
        advance: Callable[[Entry], None] = self._advance_entry if first else _ignore
        return update_copy(self._source, self.copier, self.tree, delete=delete, advance=advance)

    def _advance_bytes(self, count: int) -> None:
        self.bytes_read += count
        self._tell()

    def _advance_entry(self, entry: Entry) -> None:
        self._files += entry.kind is Kind.FILE
        self._tell()

    def _tell(self) -> None:
        self._progress(
            Progress(
                step="copy attachments",
                bytes_done=self.bytes_read,
                bytes_total=max(self._size.bytes, self.bytes_read),
                files_done=self._files,
                files_total=max(self._size.files, self._files),
            )
        )


def _ignore(_entry: Entry) -> None:
    """Later passes look at every entry again: that is no progress to show."""


def capture(
    source: Instance,
    copy: Instance,
    *,
    profile: Profile,
    size: TreeSize,
    scratch: Path,
    lock_timeout_seconds: float,
    clock: Clock,
    progress: ReportProgress,
) -> Capture:
    """Copy an instance that may be in use into a private place, as it was at one instant.

    The tree is copied without holding anything. A second pass mirrors what changed meanwhile,
    deletions included. Then the database is pinned, and a third pass adds and updates but never
    deletes, so every file that the pinned rows name is there; if one is not, the pin is let go
    and another round begins. The backup comes from the same pin. Files that came after it stay:
    no row of the copy names them, but a table that the profile does not know might.

    Args:
        source: The instance; nothing in it is changed. Its paths are real paths.
        copy: Where to write: the database must not exist, the directory must, and be empty.
        profile: Which columns name files; without any known, rows and files cannot be matched.
        size: The tree's totals, for progress only.
        scratch: A private directory for a database that must be recovered to be read.
        lock_timeout_seconds: How long to wait for a lock.
        clock: The time.
        progress: Called as the work goes on.

    Raises:
        SourceError: The source cannot be read.
        DestinationError: The copy cannot be written.
        BusyError: The database stayed locked, or changes in a way that cannot be followed.
    """
    try:
        with (
            Directories(source.attachments) as tree,
            Directories(copy.attachments) as copied,
        ):
            captor = _Captor(tree, copied, size=size, progress=progress)
            captor.update(delete=True)
            return _capture_rounds(
                captor,
                source,
                copy,
                profile=profile,
                scratch=scratch,
                lock_timeout_seconds=lock_timeout_seconds,
                clock=clock,
                progress=progress,
            )
    except OSError as error:
        path = error.filename or source.attachments
        raise os_failure(SourceError, "read", path, error) from error


def _capture_rounds(
    captor: _Captor,
    source: Instance,
    copy: Instance,
    *,
    profile: Profile,
    scratch: Path,
    lock_timeout_seconds: float,
    clock: Clock,
    progress: ReportProgress,
) -> Capture:
    recopied = failures = 0
    absent: frozenset[bytes] = frozenset()
    for number in range(1, _MOST_ROUNDS + 1):
        time.sleep((number - 1) * _PAUSE_SECONDS)  # time to settle, for files and their clock
        moving = set(captor.update(delete=True).copied)
        with open_source(
            source.database,
            scratch=scratch,
            timeout_seconds=lock_timeout_seconds,
            rest_seconds=quiet_seconds(failures),
        ) as database:
            began = clock.seconds()
            try:
                with pinned(database):
                    instant = clock.now()
                    moving |= captor.update(delete=False).copied
                    recopied += len(moving)
                    named = _references(database, profile)
                    before, absent = absent, absent_files(named, captor.tree)
                    # What is absent twice is absent in the source: the check will say so.
                    if absent - before or moving_files(named, captor.tree, moving):
                        continue
                    pages = _pages_progress(database, progress)
                    back_up(database, copy.database, advance=pages)
            except OpsError:
                if database.still_right():
                    raise
                failures += 1
                continue
            pinned_seconds = clock.seconds() - began
            if not database.still_right():
                copy.database.unlink()
                failures += 1
                continue
        finish_copy(captor.copier, captor.tree)
        return Capture(
            instant=instant.astimezone(UTC),
            way=database.way,
            tree=captor.tree,
            rounds=number,
            recopied=recopied,
            pinned_seconds=pinned_seconds,
            database_kept=_finish_database(copy.database, database.file),
        )
    if failures:
        raise restless(source.database)
    raise BusyError(
        f"database and files never belonged together in {_MOST_ROUNDS} rounds: "
        f"{display(source.attachments)}",
        hint="files are written over in place faster than they are copied; try again when the "
        "application is less busy",
    )


def _references(database: OpenDatabase, profile: Profile) -> tuple[NamedFile, ...]:
    try:
        return read_references(database.connection, profile)
    except sqlite3.Error as error:
        raise sqlite_failure(database.file.path, error) from error


def _pages_progress(database: OpenDatabase, progress: ReportProgress) -> Callable[[int, int], None]:
    page_size = database.file.header.page_size

    def advance(done: int, total: int) -> None:
        progress(
            Progress(
                step="copy database", bytes_done=done * page_size, bytes_total=total * page_size
            )
        )

    return advance


def _finish_database(copy: Path, file: DatabaseFile) -> Kept:
    """Give the database its owner, mode and times: those of the last commit, WAL included."""
    modified = file.entry.modified_ns
    for suffix in ("-wal", "-journal"):
        state = file_state(sidecar(file.path, suffix))
        if state is not None:
            modified = max(modified, state[2])
    try:
        descriptor = os.open(copy, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            return apply_metadata(descriptor, replace(file.entry, modified_ns=modified))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise os_failure(DestinationError, "set the metadata of", copy, error) from error
