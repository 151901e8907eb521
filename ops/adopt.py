"""Make snapshots of older backups: databases beside directories, with a date in their names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ops.backup import BackupRequest, plan_backup, run_backup
from ops.errors import InterruptedRunError, OpsError, SourceError, os_failure
from ops.model import Clock, Instance, ReportProgress
from ops.names import display
from ops.profile import Profile
from ops.snapshot import ADOPTED
from ops.source import Location
from ops.store import Snapshot, list_snapshots

_DATABASE = re.compile(r".*?(\d{8})\.(?:sqlite3|sqlite|db)")
_ATTACHMENTS = re.compile(r".*attachments.*?(\d{8})")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Older:
    """A backup to adopt: the pair, and the instant it shows, as far as its file tells."""

    instance: Instance
    instant: datetime

    @property
    def origin(self) -> str:
        """How a snapshot of it says where it comes from."""
        return f"adopted from {display(self.instance.database)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What came of one: a snapshot, or why there is none. `known` is one made before."""

    older: Older
    snapshot: Snapshot | None = None
    known: bool = False
    failure: OpsError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What lies in a directory: pairs, the oldest first, and halves that lack the other."""

    pairs: tuple[Older, ...]
    halves: tuple[Path, ...]


def find_older(directory: Path) -> Survey:
    """Find the backups in a directory: `ciso-YYYYMMDD.sqlite3` beside `attachments-YYYYMMDD`.

    Raises:
        SourceError: It cannot be read, or holds none.
    """
    databases: dict[str, Path] = {}
    trees: dict[str, Path] = {}
    try:
        for path in sorted(directory.iterdir()):
            found = _DATABASE.fullmatch(path.name)
            if found and path.is_file():
                databases[found[1]] = path
            found = _ATTACHMENTS.fullmatch(path.name)
            if found and path.is_dir():
                trees[found[1]] = path
        days = sorted(day for day in databases.keys() & trees.keys() if _midnight(day))
        pairs = tuple(_older(day, databases[day], trees[day]) for day in days)
    except OSError as error:
        raise os_failure(SourceError, "read", error.filename or directory, error) from error
    if not pairs:
        raise SourceError(
            f"there is no older backup in {display(directory)}",
            hint="expected are pairs such as ciso-20261125.sqlite3 and attachments-20261125",
        )
    rest = (databases.keys() | trees.keys()) - set(days)
    halves = [half[day] for day in sorted(rest) for half in (databases, trees) if day in half]
    return Survey(pairs=pairs, halves=tuple(halves))


def _midnight(day: str) -> datetime | None:
    try:
        return datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None


def _older(day: str, database: Path, attachments: Path) -> Older:
    midnight = _midnight(day)
    assert midnight is not None  # noqa: S101 - only such days are asked for
    written = datetime.fromtimestamp(database.stat().st_mtime, UTC)
    near = midnight - _DAY <= written <= midnight + 2 * _DAY
    instance = Instance(database=database, attachments=attachments)
    return Older(instance=instance, instant=written if near else midnight)


def known_origins(store: Path) -> frozenset[str]:
    """Return where the snapshots of a store that were adopted come from."""
    listed = list_snapshots(store) if store.is_dir() else ()
    return frozenset(
        str(one.summary.details.get("source", {}).get("origin", ""))
        for one in listed
        if one.summary is not None
    )


def adopt(
    pairs: Sequence[Older],
    store: Path,
    profile: Profile,
    *,
    jobs: int,
    lock_timeout_seconds: float,
    clock: Clock,
    progress: ReportProgress,
) -> tuple[Adoption, ...]:
    """Make a snapshot of each pair, checked as any other; one that fails does not stop the rest.

    Args:
        pairs: The older backups, which stay as they are.
        store: Where to.
        profile: What the application's rows mean.
        jobs: How many processes work; 0 leaves it to us.
        lock_timeout_seconds: How long to wait for a lock.
        clock: The time.
        progress: Called as the work goes on.

    Raises:
        InterruptedRunError: A signal came.
    """
    known = known_origins(store)
    done: list[Adoption] = []
    for older in pairs:
        if older.origin in known:
            done.append(Adoption(older=older, known=True))
            continue
        request = BackupRequest(
            source=Location(instance=older.instance, origin=older.origin),
            store=store,
            profile=profile,
            purpose=ADOPTED,
            instant=older.instant,
            lock_timeout_seconds=lock_timeout_seconds,
            jobs=jobs,
        )
        try:
            plan = plan_backup(request, progress=progress)
            made = run_backup(plan, clock=clock, progress=progress)
            done.append(Adoption(older=older, snapshot=made.snapshot))
        except InterruptedRunError:
            raise
        except OpsError as failure:
            done.append(Adoption(older=older, failure=failure))
    return tuple(done)
