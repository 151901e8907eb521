"""The nightly run: one more snapshot, then what the policy no longer keeps goes."""

from dataclasses import dataclass

from ops.backup import BackupOutcome, BackupPlan, back_up_locked
from ops.model import Clock, ReportProgress
from ops.prune import Pruned, keep_one, plan_prune, prune
from ops.retention import Dated, Decision, Policy
from ops.snapshot import snapshot_name
from ops.store import list_snapshots, make_store
from ops.storing import locked_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """What came of it; `pruned` is None where nothing says what to keep."""

    outcome: BackupOutcome
    policy: Policy
    pruned: Pruned | None


def plan_nightly(
    plan: BackupPlan, policy: Policy, *, clock: Clock, require_offsite: bool = False
) -> tuple[Decision, ...]:
    """Decide what a run now would keep, its own snapshot included; nothing is changed."""
    store = plan.request.store.resolve()
    listed = list_snapshots(store) if store.is_dir() else ()
    now = clock.now()
    coming = Dated(name=snapshot_name(now), instant=now, verified=True)
    return plan_prune(listed, policy, now=now, coming=(coming,), require_offsite=require_offsite)


def run_nightly(
    plan: BackupPlan,
    policy: Policy,
    *,
    clock: Clock,
    progress: ReportProgress,
    require_offsite: bool = False,
) -> Night:
    """Make a snapshot, check it, publish it; then prune, unless anything failed.

    With `require_offsite`, what was never pushed stays.

    Raises:
        SourceError: The source cannot be read.
        DestinationError: The store cannot be written.
        VerificationError: The snapshot is not right; nothing was published, nothing pruned.
        BusyError: Another run works in the store, or the database stayed locked.
    """
    store = make_store(plan.request.store)
    with locked_store(store) as lock:
        outcome = back_up_locked(plan, store, lock, clock=clock, progress=progress)
        pruned = None
        if not policy.empty:
            listed = list_snapshots(store)
            decisions = plan_prune(listed, policy, now=clock.now(), require_offsite=require_offsite)
            decisions = keep_one(decisions, outcome.snapshot.name, "just made")
            pruned = prune(store, listed, decisions, progress=progress)
    return Night(outcome=outcome, policy=policy, pruned=pruned)
