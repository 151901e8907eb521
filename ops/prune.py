"""Remove the snapshots of a store that its retention policy does not keep."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ops.errors import SourceError, UsageError
from ops.model import Progress, ReportProgress
from ops.names import display
from ops.retention import Dated, Decision, Policy, decide
from ops.snapshot import last_push
from ops.store import Snapshot
from ops.storing import point_latest, remove_snapshot

_REPLACED = "a restore replaced it: remove it by name"
NOT_PUSHED = "no push off-site is recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What came of it: every decision, the names removed, and those that somebody was reading."""

    decisions: tuple[Decision, ...]
    removed: tuple[str, ...] = ()
    in_use: tuple[str, ...] = ()


def plan_prune(
    snapshots: Iterable[Snapshot],
    policy: Policy,
    *,
    now: datetime,
    coming: tuple[Dated, ...] = (),
    require_offsite: bool = False,
) -> tuple[Decision, ...]:
    """Decide which snapshots stay, the newest first; nothing is changed.

    What a restore took out of its place counts for nothing, and stays until it is removed by name.

    Args:
        snapshots: Those of a store.
        policy: The rules.
        now: The time: a snapshot with a date in the future makes no other one old.
        coming: Snapshots to reckon with that are not there yet.
        require_offsite: Keep those of which no push is recorded that restic confirmed.
    """
    listed = list(snapshots)
    aside = [
        Decision(snapshot=_dated(one), keep=True, reasons=(_REPLACED,))
        for one in listed
        if one.replaced
    ]
    dated = [_dated(one) for one in listed if not one.replaced]
    decided = decide((*dated, *coming), policy, now=now)
    decided = tuple(sorted((*decided, *aside), key=_age, reverse=True))
    for one in listed if require_offsite else ():
        if last_push(one.events, forgotten=True) is None:
            decided = keep_one(decided, one.name, NOT_PUSHED)
    return decided


def keep_one(decisions: Iterable[Decision], name: str, reason: str) -> tuple[Decision, ...]:
    """Keep one snapshot, whatever was decided of it: a wrong clock made others newer, say."""
    return tuple(
        replace(one, keep=True, reasons=(*one.reasons, reason))
        if one.snapshot.name == name and not one.keep
        else one
        for one in decisions
    )


def _age(decision: Decision) -> tuple[datetime, str]:
    return decision.snapshot.instant, decision.snapshot.name


def plan_removal(snapshots: Iterable[Snapshot], name: str) -> tuple[Decision, ...]:
    """Decide to remove one snapshot and to keep all others.

    Raises:
        SourceError: There is no snapshot of this name.
        UsageError: It is the last one that is verified.
    """
    listed = list(snapshots)
    if name not in {one.name for one in listed}:
        raise SourceError(
            f"the store has no snapshot {display(name)}",
            hint="`inv snapshots --store DIR` lists their names",
        )
    sound = [one for one in listed if one.verified and not one.replaced]
    if [one.name for one in sound] == [name]:
        raise UsageError(
            f"this is the only verified snapshot, and stays: {name}",
            hint="make another one first, or remove the whole store yourself",
        )
    return tuple(
        Decision(
            snapshot=_dated(one),
            keep=one.name != name,
            reasons=() if one.name == name else ("only one is to be removed",),
        )
        for one in reversed(listed)
    )


def _dated(snapshot: Snapshot) -> Dated:
    return Dated(
        name=snapshot.name,
        instant=snapshot.instant,
        verified=snapshot.verified,
        flagged=bool(snapshot.flagged),
    )


def prune(
    store: Path,
    snapshots: Sequence[Snapshot],
    decisions: Sequence[Decision],
    *,
    progress: ReportProgress,
) -> Pruned:
    """Remove what was decided, the oldest first, from a store that is locked.

    Raises:
        DestinationError: One cannot be removed; those before it are gone, the others whole.
    """
    by_name = {one.name: one for one in snapshots}
    going = [one.snapshot.name for one in reversed(decisions) if not one.keep]
    removed: list[str] = []
    in_use: list[str] = []
    for number, name in enumerate(going):
        progress(Progress(step="prune", files_done=number, files_total=len(going)))
        gone = remove_snapshot(store, by_name[name])
        (removed if gone else in_use).append(name)
    if removed:
        point_latest(store)
    return Pruned(decisions=tuple(decisions), removed=tuple(removed), in_use=tuple(in_use))
