"""Make rounds of passes and pins until a database and its files belong together."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ops.errors import OpsError
from ops.gate import Matching
from ops.model import Clock, Instance, Progress, ReportProgress
from ops.passes import Passes
from ops.sqlite.backup import back_up
from ops.sqlite.connection import remove_database
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

_MOST_ROUNDS = 8
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What every round of a capture needs."""

    source: Instance
    copy: Instance
    passes: Passes
    scratch: Path
    lock_timeout_seconds: float
    clock: Clock
    progress: ReportProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """What one pin of the database gave."""

    instant: datetime
    way: Way
    file: DatabaseFile
    pinned_seconds: float
    held_seconds: float = 0.0


def make_rounds(
    work: Work, matching: Matching, *, fresh: bool = False
) -> tuple[int, Pinned | None]:
    """Make rounds until database and files belong together; None when they never did.

    Args:
        work: What they need.
        matching: Tells whether they do.
        fresh: The copy was made so quickly that the first round need not mirror what changed
            meanwhile: the pass under the pin finds it. What was deleted meanwhile stays, and no
            row names it.

    Raises:
        BusyError: The database never held still.
        OpsError: It cannot be read, or not be copied.
    """
    failures = 0
    for number in range(1, _MOST_ROUNDS + 1):
        time.sleep((number - 1) * _PAUSE_SECONDS)  # time to settle, for files and their clock
        moving: frozenset[bytes] = frozenset()
        if number > 1 or not fresh:
            moving = work.passes.update(delete=True)
        with _opened(work, failures) as database:
            began = work.clock.seconds()
            try:
                with pinned(database):
                    instant = work.clock.now()
                    # The first round is nearly always the last: let the backup not wait for it.
                    early = work.passes.parallel and number == 1
                    if not _catch_up(work, database, matching, moving, early=early):
                        continue
            except OpsError:
                if database.still_right():
                    raise
                work.passes.wait()
                remove_database(work.copy.database)
                failures += 1
                continue
            seconds = work.clock.seconds() - began
            if database.still_right():
                return number, Pinned(
                    instant=instant, way=database.way, file=database.file, pinned_seconds=seconds
                )
            remove_database(work.copy.database)
            failures += 1
    if failures == _MOST_ROUNDS:
        raise restless(work.source.database)
    return _MOST_ROUNDS, None


def _catch_up(
    work: Work,
    database: OpenDatabase,
    matching: Matching,
    moving: frozenset[bytes],
    *,
    early: bool,
) -> bool:
    """Make the pass under the pin, and the backup, where database and files belong together.

    Args:
        work: What every round needs.
        database: The source, pinned.
        matching: Asked whether they do.
        moving: The files that changed in this round so far.
        early: Begin the backup while the pass goes on, and throw it away if it was in vain.

    Raises:
        OpsError: The source cannot be read, or the copy not be written.
    """
    update = work.passes.start(delete=False)
    if early:
        _back_up(work, database, meanwhile=update.pump)
    if not matching.ask(database, moving | update.finish()):
        remove_database(work.copy.database)
        return False
    if not early:
        _back_up(work, database)
    return True


def capture_held(work: Work, matching: Matching, hold_seconds: float) -> Pinned | None:
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
                moving = work.passes.update(delete=False)
                if matching.ask(database, moving):
                    writers.close()
                    held = work.clock.seconds() - began
                    _back_up(work, database)
                    return Pinned(
                        instant=instant,
                        way=database.way,
                        file=database.file,
                        pinned_seconds=work.clock.seconds() - pinned_at,
                        held_seconds=held,
                    )
            time.sleep(_PAUSE_SECONDS)
    return None


def _opened(work: Work, failures: int) -> AbstractContextManager[OpenDatabase]:
    return open_source(
        work.source.database,
        scratch=work.scratch,
        timeout_seconds=work.lock_timeout_seconds,
        rest_seconds=quiet_seconds(failures),
    )


def _back_up(
    work: Work, database: OpenDatabase, meanwhile: Callable[[], None] = lambda: None
) -> None:
    page_size = database.file.header.page_size

    def advance(done: int, total: int) -> None:
        meanwhile()
        work.progress(
            Progress(
                step="copy database", bytes_done=done * page_size, bytes_total=total * page_size
            )
        )

    back_up(database, work.copy.database, advance=advance)
