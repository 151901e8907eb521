"""Forget off-site what the retention policy does not keep: the same rules as for a store."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ops.errors import OpsError
from ops.model import Clock, Progress, ReportProgress
from ops.offsite.identity import require_identity
from ops.offsite.program import Restic
from ops.offsite.repository import Copy, forget, list_copies, reclaim
from ops.prune import keep_one
from ops.retention import Dated, Decision, Policy, decide
from ops.snapshot import FORGOTTEN, Event, instant_of
from ops.store import Snapshot, append_event, list_snapshots


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting:
    """What came of it: every decision, the names that are gone, whether their room is free."""

    decisions: tuple[Decision, ...]
    forgotten: tuple[str, ...] = ()
    reclaimed: bool = False


def plan_forgetting(
    copies: Iterable[Copy],
    snapshots: Iterable[Snapshot],
    policy: Policy,
    *,
    identity: str,
    coming: Snapshot,
    now: datetime,
) -> tuple[Decision, ...]:
    """Decide which snapshots of one store stay off-site, the newest first; nothing is changed.

    restic's own `forget` would count what was pushed twice, or by another store, and does not know
    which one is much smaller than the one before, or was found damaged since. What a restore
    replaced, and what is damaged, counts for nothing, and stays.

    Args:
        copies: Those in the repository.
        snapshots: Those in the store.
        policy: The rules.
        identity: The store's number.
        coming: The one that is being pushed, which stays.
        now: The time.
    """
    here = {one.name: one for one in snapshots}
    names = {one.name for one in copies if one.store == identity and not one.replaced}
    names |= set() if coming.replaced else {coming.name}
    dated = [
        Dated(
            name=name,
            instant=instant_of(name),
            verified=name not in here or here[name].verified,
            flagged=name in here and bool(here[name].flagged),
        )
        for name in names
    ]
    return keep_one(decide(dated, policy, now=now), coming.name, "just pushed")


def forget_copies(
    restic: Restic,
    store: Path,
    policy: Policy,
    *,
    pushed: Snapshot,
    room: bool,
    clock: Clock,
    progress: ReportProgress,
) -> Forgetting:
    """Forget what the policy does not keep, and free the room of it if that is wanted.

    Raises:
        BusyError: Another restic has locked the repository.
        OpsError: restic failed; what is not forgotten is whole.
    """
    identity = require_identity(store)
    progress(Progress(step="forget"))
    copies, snapshots = list_copies(restic), list_snapshots(store)
    decisions = plan_forgetting(
        copies, snapshots, policy, identity=identity, coming=pushed, now=clock.now()
    )
    going = [one.snapshot.name for one in reversed(decisions) if not one.keep]
    try:
        forget(restic, _ids(copies, identity, going))
        _write_down(snapshots, going, clock)
        if room:
            reclaim(restic, progress=progress)
    except OpsError as error:
        error.add_note(f"{pushed.name} is off-site all the same")
        raise
    return Forgetting(decisions=decisions, forgotten=tuple(going), reclaimed=room)


def _ids(copies: Sequence[Copy], identity: str, names: Sequence[str]) -> list[str]:
    gone = set(names)
    return [
        one.id for one in copies if one.name in gone and one.store == identity and not one.replaced
    ]


def _write_down(snapshots: Sequence[Snapshot], names: Sequence[str], clock: Clock) -> None:
    for one in snapshots:
        if one.name in names:
            append_event(one, Event(what=FORGOTTEN, instant=clock.now(), details={}))
