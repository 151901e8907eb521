"""The tasks that bring a snapshot back."""

from invoke.context import Context

from ops.cli.clock import CLOCK
from ops.cli.console import confirm, messages, print_lines, require_terminal
from ops.cli.decorator import Result, task
from ops.cli.flags import DESTINATION, JOBS, JSON, PROFILE, STORE, required_pair
from ops.errors import UsageError
from ops.settings import (
    Settings,
    absolute_path,
    parse_seconds,
    read_command,
    read_settings,
    required_store,
    waits,
)


@task(
    help={
        **STORE,
        "snapshot": "Its name, or latest: the newest verified one. Default: latest.",
        **DESTINATION,
        "only": "Restore only the attachments that this path or pattern names, into --into.",
        "into": "Directory for them, empty or new; goes with --only.",
        "keep": "First make a snapshot of the pair that is replaced.",
        "force": "Replace what stands at the destination without asking.",
        "dry_run": "Validate, print the plan and stop; nothing is written.",
        **JOBS,
        **PROFILE,
        **JSON,
    },
    watched=True,
)
def restore(
    context: Context,
    *,
    store: str = "",
    snapshot: str = "",
    dest_db: str = "",
    dest_attachments: str = "",
    dest_in_use: str = "",
    only: str = "",
    into: str = "",
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
    from ops.cli.hooking import hook_lines, hooks_document, with_failure, work_between
    from ops.cli.progress import show_progress
    from ops.cli.restore import plan_document, plan_lines, restored_document, restored_lines
    from ops.hooks import about_pair, read_hooks
    from ops.profile import load_profile
    from ops.replaced import keep_replaced
    from ops.restore import RestoreOutcome, RestoreRequest, plan_restore, run_restore
    from ops.store import LATEST, Snapshot, find_snapshot, require_store

    dry_run = dry_run or bool(context.config.run.dry)
    settings = read_settings(context.config.ops, profile=profile, jobs=jobs, store=store)
    if only or into:
        if dest_db or dest_attachments or not (only and into):
            raise UsageError(
                "--only and --into go together, and without a destination",
                hint="--only PATH --into DIR takes single files out of a snapshot",
            )
        return _take_out(settings, snapshot, only, into, dry_run=dry_run)
    destination = required_pair(dest_db, dest_attachments)
    if not (force or dry_run):
        require_terminal()
    hooks = read_hooks(context.config.ops, settings.environment)
    place = require_store(required_store(settings))
    request = RestoreRequest(
        snapshot=find_snapshot(place, snapshot or LATEST),
        destination=destination,
        profile=load_profile(settings.profile.value),
        home=settings.home,
        wait_seconds=settings.in_use_timeout_seconds if waits(dest_in_use) else 0,
        jobs=settings.jobs,
    )
    plan = plan_restore(request, may_be_in_use=bool(hooks.before))
    told = [*plan_lines(plan, keep=keep), *hook_lines(hooks)]
    if dry_run:
        return Result(document={**plan_document(plan), **hooks_document(hooks)}, lines=told)
    print_lines(messages(), told)
    if not force:
        confirm("Go ahead?")

    def work() -> tuple[RestoreOutcome, Snapshot | None]:
        again = plan_restore(request) if hooks.before else plan
        kept = None
        with show_progress(messages()) as progress:
            if keep:
                kept = keep_replaced(
                    again,
                    lock_timeout_seconds=settings.lock_timeout_seconds,
                    clock=CLOCK,
                    progress=progress,
                )
            return run_restore(again, clock=CLOCK, progress=progress), kept

    known = {
        **about_pair("restore", destination),
        "STORE": str(place),
        "SNAPSHOT": request.snapshot.name,
    }
    (outcome, kept), failure = work_between(hooks, work, known)
    result = Result(document=restored_document(outcome, kept), lines=restored_lines(outcome, kept))
    return with_failure(result, failure)


def _take_out(settings: Settings, snapshot: str, only: str, into: str, *, dry_run: bool) -> Result:
    """Restore single files."""
    from ops.cli.progress import show_progress
    from ops.cli.restore import extracted_document, extracted_lines
    from ops.extract import extract
    from ops.store import LATEST, find_snapshot, require_store

    if dry_run:
        raise UsageError("--only has no --dry-run", hint="--into must be new or empty anyway")
    place = require_store(required_store(settings))
    found = find_snapshot(place, snapshot or LATEST)
    with show_progress(messages()) as progress:
        taken = extract(found, only, absolute_path(into, "--into"), progress=progress)
    return Result(document=extracted_document(found, taken), lines=extracted_lines(found, taken))


@task(
    help={
        **STORE,
        "snapshot": "Its name, or latest: the newest verified one. Default: latest.",
        "command": "What to run on the restored pair, split as a shell would, without a shell."
        " Default: ops.drill_command.",
        "time_limit": "Seconds that the command may take. Default: 600.",
        "report": "Directory for the record. Default: drills in the store.",
        **JOBS,
        **PROFILE,
        **JSON,
    },
    watched=True,
)
def drill(
    context: Context,
    *,
    store: str = "",
    snapshot: str = "",
    command: str = "",
    time_limit: str = "",
    report: str = "",
    jobs: str = "",
    profile: str = "",
    json: bool = False,
) -> Result:
    """Restore a snapshot to a private place, check it, run a command on it, and keep a record.

    The command finds the pair in the application's own variables. Nothing remains but the record,
    as JSON and as a page to file. Exit code 5 means that the snapshot did not pass.
    """
    from ops.cli.drill import drill_document, drill_lines, write_records
    from ops.cli.page import drill_page
    from ops.cli.progress import show_progress
    from ops.drill import DrillRequest, restorable
    from ops.drill import drill as run_drill
    from ops.errors import VerificationError
    from ops.profile import load_profile
    from ops.store import LATEST, find_snapshot, list_snapshots, require_store

    settings = read_settings(context.config.ops, profile=profile, jobs=jobs, store=store)
    place = require_store(required_store(settings))
    request = DrillRequest(
        snapshot=find_snapshot(place, snapshot or LATEST),
        profile=load_profile(settings.profile.value),
        command=read_command(command, "--command") or settings.drill_command,
        timeout_seconds=parse_seconds(time_limit, "--time-limit")
        if time_limit
        else settings.drill_timeout_seconds,
        environment=settings.environment,
        jobs=settings.jobs,
    )
    directory = absolute_path(report, "--report") if report else place / "drills"
    with show_progress(messages()) as progress:
        done = run_drill(request, clock=CLOCK, progress=progress)
    files = write_records(directory, done, drill_page(done, restorable(list_snapshots(place))))
    failure = None
    if not done.passed:
        failure = VerificationError(
            f"the drill failed: {done.failure}", hint=f"the record is {files[1]}"
        )
    return Result(
        document=drill_document(done, files), lines=drill_lines(done, files), failure=failure
    )
