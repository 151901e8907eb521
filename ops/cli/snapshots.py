"""The tasks around a store of snapshots."""

from typing import TYPE_CHECKING

from invoke.context import Context

from ops.cli.clock import CLOCK
from ops.cli.console import messages
from ops.cli.decorator import Result, task
from ops.cli.flags import HOLD, JOBS, JSON, KEEP, PROFILE, REQUIRE_OFFSITE, SOURCE, STORE, kept
from ops.errors import BusyError, UsageError
from ops.settings import parse_seconds, read_settings, required_store

if TYPE_CHECKING:
    from ops.retention import Decision
    from ops.store import Snapshot


@task(
    help={
        **STORE,
        **SOURCE,
        **KEEP,
        **REQUIRE_OFFSITE,
        "independent": "Copy every file instead of sharing the unchanged ones.",
        **HOLD,
        "dry_run": "Validate, tell what would be made and pruned, and stop.",
        "quiet": "Print nothing unless something is wrong, so that cron mails nothing else.",
        **JOBS,
        **PROFILE,
        **JSON,
    },
    watched=True,
)
def backup_daily(
    context: Context,
    *,
    store: str = "",
    source_db: str = "",
    source_attachments: str = "",
    keep_last: str = "",
    keep_hourly: str = "",
    keep_daily: str = "",
    keep_weekly: str = "",
    keep_monthly: str = "",
    keep_yearly: str = "",
    keep_within: str = "",
    time_zone: str = "",
    hold_writers: str = "",
    jobs: str = "",
    profile: str = "",
    require_offsite: bool = False,
    independent: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
    json: bool = False,
) -> Result:
    """Make a snapshot of a running instance in a store, check it, and prune old ones.

    Unchanged files are shared with the newest verified snapshot. Nothing is pruned unless a
    --keep flag or the configuration says what to keep, nor when anything failed.
    """
    from ops.backup import BackupRequest, plan_backup
    from ops.cli.backup import (
        backup_lines,
        plan_lines,
        planned_document,
        told_document,
        worth_telling,
    )
    from ops.cli.hooking import hook_lines, hooks_document, with_failure, work_between
    from ops.cli.progress import show_progress
    from ops.hooks import read_hooks
    from ops.keeping import read_policy, read_shrinkage
    from ops.nightly import Night, plan_nightly, run_nightly
    from ops.profile import load_profile
    from ops.source import locate_source

    dry_run = dry_run or bool(context.config.run.dry)
    settings = read_settings(
        context.config.ops,
        source_db=source_db,
        source_attachments=source_attachments,
        profile=profile,
        jobs=jobs,
        store=store,
    )
    policy = read_policy(context.config.ops, kept(locals()))
    hooks = read_hooks(context.config.ops, settings.environment)
    chosen = load_profile(settings.profile.value)
    request = BackupRequest(
        source=locate_source(settings, chosen),
        store=required_store(settings),
        profile=chosen,
        independent=independent,
        shrinkage=read_shrinkage(context.config.ops),
        lock_timeout_seconds=settings.lock_timeout_seconds,
        hold_seconds=parse_seconds(hold_writers, "--hold-writers") if hold_writers else 0,
        jobs=settings.jobs,
    )
    with show_progress(messages(), quiet=quiet) as progress:
        plan = None
        try:
            plan = plan_backup(request, progress=progress)
        except BusyError:
            if dry_run or not hooks.before:
                raise  # otherwise the hook may stop who keeps the database locked
        if dry_run and plan is not None:
            decisions = plan_nightly(plan, policy, clock=CLOCK, require_offsite=require_offsite)
            return Result(
                document={**planned_document(plan, decisions), **hooks_document(hooks)},
                lines=[*plan_lines(plan, decisions), *hook_lines(hooks)],
            )

    def work() -> Night:
        with show_progress(messages(), quiet=quiet) as progress:
            again = plan
            if again is None or hooks.before:
                again = plan_backup(request, progress=progress)
            return run_nightly(
                again, policy, clock=CLOCK, progress=progress, require_offsite=require_offsite
            )

    night, failure = work_between(
        hooks,
        work,
        {"TASK": "backup-daily", "STORE": str(request.store)},
        learned=lambda night: {"SNAPSHOT": night.outcome.snapshot.name},
        quiet=quiet,
    )
    shown = not quiet or worth_telling(night) or failure is not None
    result = Result(document=told_document(night), lines=backup_lines(night), shown=shown)
    return with_failure(result, failure)


@task(help={**STORE, **JSON})
def snapshots(context: Context, *, store: str = "", json: bool = False) -> Result:
    """List the snapshots of a store: when, what is in them, what they share, whether they hold."""
    from ops.cli.backup import snapshots_document, snapshots_lines
    from ops.keeping import read_policy
    from ops.prune import plan_prune
    from ops.store import list_snapshots, require_store

    settings = read_settings(context.config.ops, store=store)
    place = require_store(required_store(settings))
    listed = list_snapshots(place)
    decisions = plan_prune(listed, read_policy(context.config.ops, {}), now=CLOCK.now())
    return Result(
        document=snapshots_document(place, listed, decisions),
        lines=snapshots_lines(place, listed, decisions),
    )


@task(
    help={
        **STORE,
        **KEEP,
        **REQUIRE_OFFSITE,
        "remove": "Remove this snapshot instead, whatever the policy says.",
        "accept": "First accept that this snapshot is much smaller than the one before.",
        "dry_run": "Print what would stay and why, and stop.",
        **JSON,
    },
    watched=True,
)
def prune(
    context: Context,
    *,
    store: str = "",
    keep_last: str = "",
    keep_hourly: str = "",
    keep_daily: str = "",
    keep_weekly: str = "",
    keep_monthly: str = "",
    keep_yearly: str = "",
    keep_within: str = "",
    time_zone: str = "",
    remove: str = "",
    accept: str = "",
    require_offsite: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Result:
    """Remove the snapshots that the retention policy does not keep.

    A snapshot stays if any rule keeps it. The newest verified one always stays.
    """
    from ops.cli.backup import pruned_document, pruned_lines
    from ops.cli.progress import show_progress
    from ops.keeping import read_policy
    from ops.prune import Pruned, plan_prune, plan_removal
    from ops.prune import prune as prune_store
    from ops.snapshot import ACCEPTED, Event
    from ops.store import append_event, find_snapshot, list_snapshots, require_store
    from ops.storing import locked_store

    dry_run = dry_run or bool(context.config.run.dry)
    settings = read_settings(context.config.ops, store=store)
    policy = read_policy(context.config.ops, kept(locals()))
    if policy.empty and not remove:
        raise UsageError(
            "nothing says which snapshots to keep",
            hint="give a --keep flag, for example --keep-daily 14, or set ops.keep_daily",
        )
    if accept and (dry_run or remove):
        raise UsageError(
            "--accept goes with neither --dry-run nor --remove", hint="accept first, then prune"
        )
    if require_offsite and remove:
        raise UsageError(
            "--require-offsite does not go with --remove",
            hint="`inv offsite-status` tells whether it is off-site; --remove asks nothing",
        )
    place = require_store(required_store(settings))

    def decide(listed: "tuple[Snapshot, ...]") -> "tuple[Decision, ...]":
        if remove:
            return plan_removal(listed, remove)
        now = CLOCK.now()
        return plan_prune(listed, policy, now=now, require_offsite=require_offsite)

    if dry_run:
        pruned = Pruned(decisions=decide(list_snapshots(place)))
    else:
        with locked_store(place), show_progress(messages()) as progress:
            if accept:
                event = Event(what=ACCEPTED, instant=CLOCK.now(), details={})
                append_event(find_snapshot(place, accept), event)
            listed = list_snapshots(place)
            pruned = prune_store(place, listed, decide(listed), progress=progress)
    return Result(
        document=pruned_document(place, pruned, dry_run=dry_run),
        lines=pruned_lines(pruned, dry_run=dry_run),
    )
