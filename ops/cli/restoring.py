"""The tasks that bring a snapshot back."""

from invoke.context import Context

from ops.cli.clock import CLOCK
from ops.cli.console import confirm, messages, print_lines, require_terminal
from ops.cli.decorator import Result, task
from ops.cli.flags import DESTINATION, JOBS, JSON, PROFILE, STORE
from ops.model import Instance
from ops.settings import read_settings, required_file, required_path, required_store, waits


@task(
    help={
        **STORE,
        "snapshot": "Its name, or latest: the newest verified one. Default: latest.",
        **DESTINATION,
        "keep": "First make a snapshot of the pair that is replaced.",
        "force": "Replace what stands at the destination without asking.",
        "dry_run": "Validate, print the plan and stop; nothing is written.",
        **JOBS,
        **PROFILE,
        **JSON,
    }
)
def restore(
    context: Context,
    *,
    store: str = "",
    snapshot: str = "",
    dest_db: str = "",
    dest_attachments: str = "",
    dest_in_use: str = "",
    jobs: str = "",
    profile: str = "",
    keep: bool = True,
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Result:
    """Put a snapshot back as an instance, checked, and in place as a whole.

    What stands at the destination is kept as a snapshot first, unless --no-keep says otherwise.
    """
    from ops.cli.progress import show_progress
    from ops.cli.restore import plan_document, plan_lines, restored_document, restored_lines
    from ops.profile import load_profile
    from ops.replaced import keep_replaced
    from ops.restore import RestoreRequest, plan_restore, run_restore
    from ops.store import LATEST, find_snapshot, require_store

    dry_run = dry_run or bool(context.config.run.dry)
    settings = read_settings(context.config.ops, profile=profile, jobs=jobs, store=store)
    destination = Instance(
        database=required_file(dest_db, "--dest-db"),
        attachments=required_path(dest_attachments, "--dest-attachments"),
    )
    if not (force or dry_run):
        require_terminal()
    place = require_store(required_store(settings))
    request = RestoreRequest(
        snapshot=find_snapshot(place, snapshot or LATEST),
        destination=destination,
        profile=load_profile(settings.profile.value),
        home=settings.home,
        wait_seconds=settings.in_use_timeout_seconds if waits(dest_in_use) else 0,
        jobs=settings.jobs,
    )
    plan = plan_restore(request)
    if dry_run:
        return Result(document=plan_document(plan), lines=plan_lines(plan, keep=keep))
    print_lines(messages(), plan_lines(plan, keep=keep))
    if not force:
        confirm("Go ahead?")
    with show_progress(messages()) as progress:
        kept = None
        if keep:
            kept = keep_replaced(
                plan,
                lock_timeout_seconds=settings.lock_timeout_seconds,
                clock=CLOCK,
                progress=progress,
            )
        outcome = run_restore(plan, clock=CLOCK, progress=progress)
    return Result(document=restored_document(outcome, kept), lines=restored_lines(outcome, kept))
