"""Read a consistent pair out of a live instance: a database and the files that go with it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.errors import BusyError, SourceError, os_failure
from ops.gate import Matching
from ops.model import Clock, Instance, ReportProgress
from ops.names import display
from ops.passes import Passes
from ops.profile import Profile
from ops.rounds import Work, capture_held, make_rounds
from ops.sqlite.backup import finish_backup
from ops.sqlite.source import Way
from ops.tree.crew import Crew
from ops.tree.metadata import Kept
from ops.tree.scan import TreeSize
from ops.tree.update import TreeCopy

_LITTLE_BYTES = 64 << 20


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

    def figures(self) -> dict[str, Any]:
        """Return how it went, as JSON values."""
        return {
            "way": self.way,
            "rounds": self.rounds,
            "recopied": self.recopied,
            "pinned_seconds": round(self.pinned_seconds, 6),
            "held_seconds": round(self.held_seconds, 6),
        }


def capture(
    source: Instance,
    copy: Instance,
    workers: Crew,
    *,
    profile: Profile,
    size: TreeSize,
    scratch: Path,
    lock_timeout_seconds: float,
    hold_seconds: float = 0.0,
    shares: bool = False,
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
        workers: Copy from the attachments of the source to those of the copy.
        profile: Which columns name files; without any known, rows and files cannot be matched.
        size: The tree's totals, for progress only.
        scratch: A private directory for a database that must be recovered to be read.
        lock_timeout_seconds: How long to wait for a lock.
        hold_seconds: For how long at most the writers may be held up; 0 forbids it.
        shares: Unchanged files are shared with an earlier snapshot, so that the first pass is
            often as quick as the second would be, which is left out then.
        clock: The time.
        progress: Called as the work goes on.

    Raises:
        SourceError: The source cannot be read.
        DestinationError: The copy cannot be written.
        BusyError: The database stayed locked, or changes in a way that cannot be followed.
    """
    try:
        passes = Passes(workers, spill=scratch, size=size, progress=progress)
        passes.update(delete=True)
        work = Work(
            source=source,
            copy=copy,
            passes=passes,
            scratch=scratch,
            lock_timeout_seconds=lock_timeout_seconds,
            clock=clock,
            progress=progress,
        )
        matching = Matching(profile, passes.tree.entries)
        fresh = shares and passes.bytes_read < _LITTLE_BYTES
        rounds, got = make_rounds(work, matching, fresh=fresh)
        if got is None and hold_seconds:
            got = capture_held(work, matching, hold_seconds)
        if got is None:
            raise _never_together(source, rounds, held=hold_seconds)
        passes.tree.finish()
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


def _never_together(source: Instance, rounds: int, *, held: float) -> BusyError:
    tried = f"{rounds} rounds" + (f" and {held:g} seconds of holding the writers" if held else "")
    return BusyError(
        f"database and files never belonged together in {tried}: {display(source.attachments)}",
        hint="files are written over in place faster than they are copied; try again when the "
        "application is less busy" + ("" if held else ", or hold its writers: --hold-writers 5"),
    )
