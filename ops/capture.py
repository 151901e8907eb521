"""Read a consistent pair out of a live instance: a database and the files that go with it."""

import sqlite3
import time
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ops.errors import BusyError, OpsError, SourceError, os_failure
from ops.gate import absent_files, moving_files
from ops.model import Clock, Instance, Progress, ReportProgress
from ops.names import display
from ops.passes import Passes
from ops.profile import Profile
from ops.references import read_references
from ops.sqlite.backup import back_up, finish_backup
from ops.sqlite.connection import remove_database, sqlite_failure
from ops.sqlite.content import NamedFile
from ops.sqlite.header import DatabaseFile
from ops.sqlite.hold import held_writers
from ops.sqlite.source import (
    OpenDatabase,
    Way,
    open_source,
    pinned,
    quiet_seconds,
    restless,
)
from ops.tree.directories import Directories
from ops.tree.metadata import Kept
from ops.tree.scan import TreeSize
from ops.tree.update import TreeCopy, finish_copy

_MOST_ROUNDS = 8
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What was captured, and how.

    `instant` is the moment whose state the pair shows (UTC). `pinned_seconds` is how long the
    database was held at it. `recopied` counts the entries copied again because they changed
    meanwhile. `held_seconds` is how long the application's writers were held up, which takes
    the operator's leave.
    """

    instant: datetime
    way: Way
    tree: TreeCopy
    rounds: int
    recopied: int
    pinned_seconds: float
    held_seconds: float
    database_kept: Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What every round of a capture needs."""

    source: Instance
    copy: Instance
    passes: Passes
    profile: Profile
    scratch: Path
    lock_timeout_seconds: float
    clock: Clock
    progress: ReportProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pinned:
    """What one pin of the database gave."""

    instant: datetime
    way: Way
    file: DatabaseFile
    pinned_seconds: float
    held_seconds: float = 0.0


class _Matching:
    """Whether files and rows belong together, asked once for each pin."""

    def __init__(self, work: _Work) -> None:
        self.recopied = 0
        self._work = work
        self._absent: frozenset[bytes] = frozenset()

    def ask(self, database: OpenDatabase, moving: AbstractSet[bytes]) -> bool:
        """Tell whether every file that the pinned rows name is in the copy, and is theirs.

        What is absent twice is absent in the source: the check will say so.

        Args:
            database: The source, pinned.
            moving: The files that changed in this round.
        """
        self.recopied += len(moving)
        tree = self._work.passes.tree
        named = _references(database, self._work.profile)
        before, self._absent = self._absent, absent_files(named, tree)
        return not (self._absent - before or moving_files(named, tree, moving))


def capture(
    source: Instance,
    copy: Instance,
    *,
    profile: Profile,
    size: TreeSize,
    scratch: Path,
    lock_timeout_seconds: float,
    hold_seconds: float = 0.0,
    clock: Clock,
    progress: ReportProgress,
) -> Capture:
    """Copy an instance that may be in use into a private place, as it was at one instant.

    The tree is copied without holding anything. A second pass mirrors what changed meanwhile,
    deletions included. Then the database is pinned, and a third pass adds and updates but never
    deletes, so every file that the pinned rows name is there; if one is not, the pin is let go
    and another round begins. The backup comes from the same pin. Files that came after it stay:
    no row of the copy names them, but a table that the profile does not know might.

    Where files are written over faster than rounds are made, a last pass may hold the writers
    up: under `BEGIN IMMEDIATE`, for a limited time.

    Args:
        source: The instance; nothing in it is changed. Its paths are real paths.
        copy: Where to write: the database must not exist, the directory must, and be empty.
        profile: Which columns name files; without any known, rows and files cannot be matched.
        size: The tree's totals, for progress only.
        scratch: A private directory for a database that must be recovered to be read.
        lock_timeout_seconds: How long to wait for a lock.
        hold_seconds: For how long at most the writers may be held up; 0 forbids it.
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
            passes = Passes(tree, copied, size=size, progress=progress)
            passes.update(delete=True)
            work = _Work(
                source=source,
                copy=copy,
                passes=passes,
                profile=profile,
                scratch=scratch,
                lock_timeout_seconds=lock_timeout_seconds,
                clock=clock,
                progress=progress,
            )
            matching = _Matching(work)
            rounds, got = _make_rounds(work, matching)
            if got is None and hold_seconds:
                got = _capture_held(work, matching, hold_seconds)
            if got is None:
                raise _never_together(source, rounds, held=hold_seconds)
            finish_copy(passes.copier, passes.tree)
            return Capture(
                instant=got.instant.astimezone(UTC),
                way=got.way,
                tree=passes.tree,
                rounds=rounds,
                recopied=matching.recopied,
                pinned_seconds=got.pinned_seconds,
                held_seconds=got.held_seconds,
                database_kept=finish_backup(copy.database, got.file),
            )
    except OSError as error:
        path = error.filename or source.attachments
        raise os_failure(SourceError, "read", path, error) from error


def _make_rounds(work: _Work, matching: _Matching) -> tuple[int, _Pinned | None]:
    """Make rounds until database and files belong together; None when they never did.

    Raises:
        BusyError: The database never held still.
        OpsError: It cannot be read, or not be copied.
    """
    failures = 0
    for number in range(1, _MOST_ROUNDS + 1):
        time.sleep((number - 1) * _PAUSE_SECONDS)  # time to settle, for files and their clock
        moving = work.passes.update(delete=True).copied
        with _opened(work, failures) as database:
            began = work.clock.seconds()
            try:
                with pinned(database):
                    instant = work.clock.now()
                    moving |= work.passes.update(delete=False).copied
                    if not matching.ask(database, moving):
                        continue
                    _back_up(work, database)
            except OpsError:
                if database.still_right():
                    raise
                failures += 1
                continue
            seconds = work.clock.seconds() - began
            if database.still_right():
                return number, _Pinned(
                    instant=instant, way=database.way, file=database.file, pinned_seconds=seconds
                )
            remove_database(work.copy.database)
            failures += 1
    if failures == _MOST_ROUNDS:
        raise restless(work.source.database)
    return _MOST_ROUNDS, None


def _capture_held(work: _Work, matching: _Matching, hold_seconds: float) -> _Pinned | None:
    """Make the last rounds while no writer can commit, for a limited time; None if in vain.

    The writers go on before the backup, which is of the pinned instant all the same.

    Raises:
        BusyError: The writers could not be held up, or the database stayed locked.
        OpsError: It cannot be read, or not be copied.
    """
    work.progress(Progress(step="hold the writers"))
    work.passes.update(delete=True)
    with _opened(work, 0) as database, ExitStack() as writers:
        writers.enter_context(
            held_writers(
                database,
                timeout_seconds=work.lock_timeout_seconds,
                hold_seconds=hold_seconds,
            )
        )
        began = work.clock.seconds()
        while work.clock.seconds() - began < hold_seconds:
            with pinned(database):
                instant = work.clock.now()
                pinned_at = work.clock.seconds()
                moving = work.passes.update(delete=False).copied
                if matching.ask(database, moving):
                    writers.close()
                    held = work.clock.seconds() - began
                    _back_up(work, database)
                    return _Pinned(
                        instant=instant,
                        way=database.way,
                        file=database.file,
                        pinned_seconds=work.clock.seconds() - pinned_at,
                        held_seconds=held,
                    )
            time.sleep(_PAUSE_SECONDS)
    return None


def _opened(work: _Work, failures: int) -> AbstractContextManager[OpenDatabase]:
    return open_source(
        work.source.database,
        scratch=work.scratch,
        timeout_seconds=work.lock_timeout_seconds,
        rest_seconds=quiet_seconds(failures),
    )


def _never_together(source: Instance, rounds: int, *, held: float) -> BusyError:
    tried = f"{rounds} rounds" + (f" and {held:g} seconds of holding the writers" if held else "")
    return BusyError(
        f"database and files never belonged together in {tried}: {display(source.attachments)}",
        hint="files are written over in place faster than they are copied; try again when the "
        "application is less busy" + ("" if held else ", or hold its writers: --hold-writers 5"),
    )


def _references(database: OpenDatabase, profile: Profile) -> tuple[NamedFile, ...]:
    try:
        return read_references(database.connection, profile)
    except sqlite3.Error as error:
        raise sqlite_failure(database.file.path, error) from error


def _back_up(work: _Work, database: OpenDatabase) -> None:
    page_size = database.file.header.page_size

    def advance(done: int, total: int) -> None:
        work.progress(
            Progress(
                step="copy database", bytes_done=done * page_size, bytes_total=total * page_size
            )
        )

    back_up(database, work.copy.database, advance=advance)
