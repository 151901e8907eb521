"""The tasks that bring snapshots off-site and back, through restic."""

from typing import TYPE_CHECKING

from invoke.context import Context

from ops.cli.clock import CLOCK
from ops.cli.console import messages
from ops.cli.decorator import Result, task
from ops.cli.flags import JOBS, JSON, KEEP, PROFILE, STORE, kept
from ops.errors import DestinationError, SourceError, UsageError
from ops.settings import absolute_path, read_settings, required_store

if TYPE_CHECKING:
    from ops.retention import Policy


@task(
    help={
        **STORE,
        "snapshot": "Its name, or latest: the newest verified one. Default: latest.",
        "init": "First make the repository, where there is none yet.",
        "verify": "First check the snapshot, as `inv verify --store` does.",
        "forget": "Afterwards forget off-site what the retention policy does not keep.",
        **KEEP,
        "reclaim": "With --forget, also free the room of what was forgotten (restic prune).",
        "dry_run": "Tell what would be pushed and forgotten, and stop.",
        **JOBS,
        **PROFILE,
        **JSON,
    },
    watched=True,
)
def push(
    context: Context,
    *,
    store: str = "",
    snapshot: str = "",
    keep_last: str = "",
    keep_hourly: str = "",
    keep_daily: str = "",
    keep_weekly: str = "",
    keep_monthly: str = "",
    keep_yearly: str = "",
    keep_within: str = "",
    time_zone: str = "",
    jobs: str = "",
    profile: str = "",
    init: bool = False,
    verify: bool = True,
    forget: bool = False,
    reclaim: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Result:
    """Push a verified snapshot off-site, into a repository of restic's, and record it.

    Repository and password are those of restic's own variables, RESTIC_REPOSITORY and
    RESTIC_PASSWORD_FILE for example. What is there already is not pushed again.
    """
    from ops.audit import Effort
    from ops.cli.offsiting import push_document, push_lines, push_plan_document, push_plan_lines
    from ops.cli.progress import show_progress
    from ops.offsite.identity import store_identity
    from ops.offsite.keeping import forget_copies, plan_forgetting
    from ops.offsite.program import find_restic
    from ops.offsite.push import PushRequest, plan_push, run_push
    from ops.offsite.repository import list_copies
    from ops.profile import load_profile
    from ops.store import LATEST, find_snapshot, list_snapshots, require_store

    dry_run = dry_run or bool(context.config.run.dry)
    settings = read_settings(context.config.ops, profile=profile, jobs=jobs, store=store)
    flags = kept(locals())
    policy = _read_policy(context, flags, forget=forget, reclaim=reclaim)
    restic = find_restic(settings.environment, DestinationError)
    place = require_store(required_store(settings))
    request = PushRequest(
        snapshot=find_snapshot(place, snapshot or LATEST),
        restic=restic,
        profile=load_profile(settings.profile.value),
        effort=Effort(jobs=settings.jobs),
        initialise=init,
        verify=verify,
    )
    plan = plan_push(request)
    if dry_run:
        decisions = None
        if policy is not None:
            decisions = plan_forgetting(
                list_copies(restic) if plan.repository else (),
                list_snapshots(place),
                policy,
                identity=store_identity(place),
                coming=request.snapshot,
                now=CLOCK.now(),
            )
        return Result(
            document=push_plan_document(plan, decisions), lines=push_plan_lines(plan, decisions)
        )
    forgetting = None
    with show_progress(messages()) as progress:
        done = run_push(plan, clock=CLOCK, progress=progress)
        if policy is not None:
            forgetting = forget_copies(
                restic,
                place,
                policy,
                pushed=request.snapshot,
                room=reclaim,
                clock=CLOCK,
                progress=progress,
            )
    return Result(document=push_document(done, forgetting), lines=push_lines(done, forgetting))


def _read_policy(
    context: Context, flags: dict[str, str], *, forget: bool, reclaim: bool
) -> "Policy | None":
    """Read what is to be kept off-site; None where nothing is to be forgotten."""
    from ops.keeping import read_policy

    if not forget:
        if reclaim or any(flags.values()):
            raise UsageError(
                "--reclaim and the --keep flags go with --forget",
                hint="without it, a push only adds to what is off-site",
            )
        return None
    policy = read_policy(context.config.ops, flags)
    if policy.empty:
        raise UsageError(
            "nothing says which snapshots to keep off-site",
            hint="give a --keep flag, for example --keep-daily 14, or set ops.keep_daily",
        )
    return policy


@task(
    help={
        **STORE,
        "snapshot": "Its name, restic's number of it, or latest: the newest. Default: latest.",
        "dry_run": "Tell what would be pulled, and stop.",
        **JOBS,
        **PROFILE,
        **JSON,
    },
    watched=True,
)
def pull(
    context: Context,
    *,
    store: str = "",
    snapshot: str = "",
    jobs: str = "",
    profile: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> Result:
    """Bring a snapshot from off-site back into a store, verified as any other.

    The store may be new. A snapshot that it has already is not overwritten.
    """
    from ops.audit import Effort
    from ops.cli.offsiting import pull_document, pull_lines, pull_plan_document, pull_plan_lines
    from ops.cli.progress import show_progress
    from ops.offsite.program import find_restic
    from ops.offsite.pull import PullRequest, plan_pull, run_pull
    from ops.profile import load_profile
    from ops.store import LATEST

    dry_run = dry_run or bool(context.config.run.dry)
    settings = read_settings(context.config.ops, profile=profile, jobs=jobs, store=store)
    restic = find_restic(settings.environment, SourceError)
    request = PullRequest(
        store=required_store(settings),
        wanted=snapshot or LATEST,
        restic=restic,
        profile=load_profile(settings.profile.value),
        effort=Effort(jobs=settings.jobs),
    )
    plan = plan_pull(request)
    if dry_run:
        return Result(document=pull_plan_document(plan), lines=pull_plan_lines(plan))
    with show_progress(messages()) as progress:
        done = run_pull(plan, clock=CLOCK, progress=progress)
    return Result(document=pull_document(done), lines=pull_lines(done))


@task(help={**STORE, **JSON})
def offsite_status(context: Context, *, store: str = "", json: bool = False) -> Result:
    """List what is off-site against what is in the store.

    Without a store, or where there is none any more, it lists what can be pulled.
    """
    from ops.cli.offsiting import status_document, status_lines
    from ops.offsite.program import find_restic
    from ops.offsite.status import find_store, look_offsite

    settings = read_settings(context.config.ops, store=store)
    restic = find_restic(settings.environment, SourceError)
    place = find_store(absolute_path(settings.store, "--store")) if settings.store else None
    found = look_offsite(restic, place)
    return Result(document=status_document(found), lines=status_lines(found))
