"""The tasks: settings in, one use case, one report out."""

from invoke.context import Context

from ops.cli.clock import CLOCK
from ops.cli.console import confirm, messages, print_lines, require_terminal
from ops.cli.decorator import Result, task
from ops.cli.flags import (
    DESTINATION,
    EFFORT,
    HOLD,
    JSON,
    PROFILE,
    SOURCE,
    given_places,
    required_pair,
)
from ops.errors import UsageError, VerificationError
from ops.model import Instance
from ops.names import display
from ops.settings import (
    absolute_path,
    parse_seconds,
    read_settings,
    reads_disk,
    required_path,
    waits,
)


@task(
    help={
        **SOURCE,
        **DESTINATION,
        **HOLD,
        "force": "Replace what stands at the destination without asking.",
        "dry_run": "Validate, print the plan and stop; nothing is written.",
        "manifest": "Also write a record of the copy to this file, for `inv verify`.",
        **EFFORT,
        **PROFILE,
        **JSON,
    },
    watched=True,
)
def clone(
    context: Context,
    *,
    source_db: str = "",
    source_attachments: str = "",
    dest_db: str = "",
    dest_attachments: str = "",
    dest_in_use: str = "",
    hold_writers: str = "",
    manifest: str = "",
    check: str = "",
    jobs: str = "",
    profile: str = "",
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Result:
    """Copy a running instance, check the copy, and put it at the destination as a whole."""
    from ops.cli.documents import outcome_document, plan_document
    from ops.cli.hooking import hook_lines, hooks_document, with_failure, work_between
    from ops.cli.progress import show_progress
    from ops.cli.render import outcome_lines, plan_lines
    from ops.clone import Outcome, Request, plan_clone, run_clone
    from ops.hooks import about_pair, read_hooks
    from ops.profile import load_profile
    from ops.source import locate_source

    dry_run = dry_run or bool(context.config.run.dry)
    settings = read_settings(
        context.config.ops,
        source_db=source_db,
        source_attachments=source_attachments,
        profile=profile,
        jobs=jobs,
    )
    destination = required_pair(dest_db, dest_attachments)
    if not (force or dry_run):
        require_terminal()
    hooks = read_hooks(context.config.ops, settings.environment)
    chosen = load_profile(settings.profile.value)
    request = Request(
        source=locate_source(settings, chosen),
        destination=destination,
        profile=chosen,
        manifest=absolute_path(manifest, "--manifest") if manifest else None,
        home=settings.home,
        lock_timeout_seconds=settings.lock_timeout_seconds,
        wait_seconds=settings.in_use_timeout_seconds if waits(dest_in_use) else 0,
        hold_seconds=parse_seconds(hold_writers, "--hold-writers") if hold_writers else 0,
        jobs=settings.jobs,
        from_disk=reads_disk(check),
    )
    with show_progress(messages()) as progress:
        plan = plan_clone(
            request,
            quick=force and not dry_run,
            may_be_in_use=bool(hooks.before),
            progress=progress,
        )
    told = [*plan_lines(plan), *hook_lines(hooks)]
    if dry_run:
        return Result(document={**plan_document(plan), **hooks_document(hooks)}, lines=told)
    print_lines(messages(), told)
    if not force:
        confirm("Go ahead?")

    def work() -> Outcome:
        with show_progress(messages()) as progress:
            again = plan_clone(request, quick=True, progress=progress) if hooks.before else plan
            return run_clone(again, clock=CLOCK, progress=progress)

    outcome, failure = work_between(hooks, work, about_pair("clone", destination))
    result = Result(document=outcome_document(outcome), lines=outcome_lines(outcome))
    return with_failure(result, failure)


@task(
    help={
        "dest_db": "Database to verify.",
        "dest_attachments": "Attachments directory to verify.",
        "store": "Verify snapshots of this store instead.",
        "snapshot": "Which of them: a name, latest, or all. Default: latest.",
        "sample": "Of their files read only so many percent, each day others.",
        "source_db": "Compare with this database as it is now; goes with --source-attachments.",
        "source_attachments": "Compare with this attachments directory; goes with --source-db.",
        "manifest": "Compare with the record that `inv clone --manifest` wrote.",
        "quick": "Leave out the contents of files and the indexes of the database.",
        **EFFORT,
        **PROFILE,
        **JSON,
    },
    watched=True,
)
def verify(
    context: Context,
    *,
    dest_db: str = "",
    dest_attachments: str = "",
    source_db: str = "",
    source_attachments: str = "",
    store: str = "",
    snapshot: str = "",
    sample: str = "",
    manifest: str = "",
    check: str = "",
    jobs: str = "",
    profile: str = "",
    quick: bool = False,
    json: bool = False,
) -> Result:
    """Check an instance, by itself or against its source or a manifest, or snapshots of a store.

    Exit code 0 means that it is sound, 5 that it must not be trusted. It may be in use. Nothing is
    changed, but for a line in a snapshot's history.
    """
    from ops.cli.documents import verification_report
    from ops.cli.progress import show_progress
    from ops.cli.render import verification_lines
    from ops.profile import load_profile
    from ops.verify import VerifyRequest
    from ops.verify import verify as verify_instance

    settings = read_settings(context.config.ops, profile=profile, jobs=jobs, store=store)
    if store or snapshot or sample:
        from ops.cli.auditing import audit_store

        if quick or any((dest_db, dest_attachments, source_db, source_attachments, manifest)):
            raise UsageError(
                "snapshots of a store are verified by themselves",
                hint="--store goes with --snapshot, --sample, --check, --jobs and --profile only",
            )
        return audit_store(settings, snapshot, sample, from_disk=reads_disk(check))
    source = None
    if source_db or source_attachments:
        source = Instance(
            database=required_path(source_db, "--source-db"),
            attachments=required_path(source_attachments, "--source-attachments"),
        )
        if manifest:
            raise UsageError(
                "--manifest and a source exclude each other", hint="compare with one at a time"
            )
    request = VerifyRequest(
        instance=required_pair(dest_db, dest_attachments),
        profile=load_profile(settings.profile.value),
        source=source,
        manifest=absolute_path(manifest, "--manifest") if manifest else None,
        quick=quick,
        from_disk=reads_disk(check),
        jobs=settings.jobs,
        lock_timeout_seconds=settings.lock_timeout_seconds,
    )
    with show_progress(messages()) as progress:
        verification = verify_instance(request, progress=progress)
    report = verification_report(request, verification)
    failure = None
    if report.errors:
        failure = VerificationError(
            f"verification failed with {report.errors} error{'s' * (report.errors > 1)}: "
            f"do not trust {display(request.instance.database)}",
            hint="the findings are listed on standard output",
        )
    return Result(
        document=report.document(),
        lines=verification_lines(request, verification, report),
        failure=failure,
    )


@task(
    help={
        "dest_db": "Where the database was to go.",
        "dest_attachments": "Where the attachments were to go. One of the two is enough.",
        "dry_run": "Tell what would be done and stop.",
        **JSON,
    }
)
def recover(
    context: Context,
    *,
    dest_db: str = "",
    dest_attachments: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> Result:
    """Finish or remove what a killed run or a power cut left at a destination.

    A pair of which one half was in place is completed; otherwise the old pair stays. The next
    clone to the same destination does the same by itself.
    """
    from ops.cli.recover import recovery_document, recovery_lines
    from ops.recover import examine_places
    from ops.recover import recover as recover_places

    places = given_places(dest_db, dest_attachments)
    if not places:
        raise UsageError(
            "--dest-db or --dest-attachments is required", hint="name the destination to recover"
        )
    dry_run = dry_run or bool(context.config.run.dry)
    recovery = examine_places(places) if dry_run else recover_places(places)
    return Result(
        document=recovery_document(recovery, dry_run=dry_run),
        lines=recovery_lines(recovery, dry_run=dry_run),
    )


@task(
    help={
        **SOURCE,
        "dest_db": "A destination to look at as well.",
        "dest_attachments": "A destination to look at as well.",
        **PROFILE,
        **JSON,
    }
)
def status(
    context: Context,
    *,
    source_db: str = "",
    source_attachments: str = "",
    dest_db: str = "",
    dest_attachments: str = "",
    profile: str = "",
    json: bool = False,
) -> Result:
    """Show the configuration in force, where it comes from, and what source and places can do."""
    from ops.cli.status import status_document, status_lines
    from ops.status import examine

    settings = read_settings(
        context.config.ops,
        source_db=source_db,
        source_attachments=source_attachments,
        profile=profile,
    )
    found = examine(settings, given_places(dest_db, dest_attachments))
    return Result(document=status_document(found), lines=status_lines(found))


@task(
    help={
        "keep": "Keep the demo's files in this directory, which must not exist yet.",
    }
)
def demo(context: Context, *, keep: str = "") -> Result:
    """Make a small instance, clone it while a writer is busy, and verify the clone."""
    from ops.cli.demo import show_demo

    return show_demo(absolute_path(keep, "--keep") if keep else None, clock=CLOCK)
