"""The tasks: settings in, one use case, one report out."""

import time
from datetime import UTC, datetime

from invoke.context import Context

from ops.cli.console import confirm, messages, print_lines, require_terminal
from ops.cli.decorator import Result, task
from ops.errors import UsageError, VerificationError
from ops.model import Clock, Instance
from ops.names import display
from ops.settings import (
    absolute_path,
    given_places,
    parse_seconds,
    read_settings,
    reads_disk,
    required_file,
    required_path,
    waits,
)

CLOCK = Clock(now=lambda: datetime.now(UTC), seconds=time.monotonic)

_SOURCE = {
    "source_db": "Database to read; default: where the instance is found (see `inv status`).",
    "source_attachments": "Attachments directory to read; goes with --source-db.",
}
_PROFILE = {
    "profile": "Built-in profile, a TOML file of your own, or none. Default: ciso_assistant."
}
_EFFORT = {
    "check": "Where the check may read from: memory (the default), or disk, for which the kernel"
    " first forgets what it has of each file.",
    "jobs": "Processes that work on files. Default: as many as there are cores, 1 for small trees.",
}
_JSON = {"json": "Print one JSON document instead of text."}


@task(
    help={
        **_SOURCE,
        "dest_db": "Where the database goes. Required.",
        "dest_attachments": "Where the attachments go. Required.",
        "dest_in_use": "What to do while a process has the destination open: refuse (the default)"
        " or wait.",
        "hold_writers": "If nothing else helps, hold up the source's writers for at most this many"
        " seconds.",
        "force": "Replace what stands at the destination without asking.",
        "dry_run": "Validate, print the plan and stop; nothing is written.",
        "manifest": "Also write a record of the copy to this file, for `inv verify`.",
        **_EFFORT,
        **_PROFILE,
        **_JSON,
    }
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
    from ops.cli.progress import show_progress
    from ops.cli.render import outcome_lines, plan_lines
    from ops.clone import Request, plan_clone, run_clone
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
    destination = Instance(
        database=required_file(dest_db, "--dest-db"),
        attachments=required_path(dest_attachments, "--dest-attachments"),
    )
    if not (force or dry_run):
        require_terminal()
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
        plan = plan_clone(request, quick=force and not dry_run, progress=progress)
    if dry_run:
        return Result(document=plan_document(plan), lines=plan_lines(plan))
    print_lines(messages(), plan_lines(plan))
    if not force:
        confirm("Go ahead?")
    with show_progress(messages()) as progress:
        outcome = run_clone(plan, clock=CLOCK, progress=progress)
    return Result(document=outcome_document(outcome), lines=outcome_lines(outcome))


@task(
    help={
        "dest_db": "Database to verify. Required.",
        "dest_attachments": "Attachments directory to verify. Required.",
        "source_db": "Compare with this database as it is now; goes with --source-attachments.",
        "source_attachments": "Compare with this attachments directory; goes with --source-db.",
        "manifest": "Compare with the record that `inv clone --manifest` wrote.",
        "quick": "Leave out the contents of files and the indexes of the database.",
        **_EFFORT,
        **_PROFILE,
        **_JSON,
    }
)
def verify(
    context: Context,
    *,
    dest_db: str = "",
    dest_attachments: str = "",
    source_db: str = "",
    source_attachments: str = "",
    manifest: str = "",
    check: str = "",
    jobs: str = "",
    profile: str = "",
    quick: bool = False,
    json: bool = False,
) -> Result:
    """Check an instance, by itself or against its source or a manifest; nothing is changed.

    Exit code 0 means that it is sound, 5 that it must not be trusted. It may be in use.
    """
    from ops.cli.documents import verification_report
    from ops.cli.progress import show_progress
    from ops.cli.render import verification_lines
    from ops.profile import load_profile
    from ops.verify import VerifyRequest
    from ops.verify import verify as verify_instance

    settings = read_settings(context.config.ops, profile=profile, jobs=jobs)
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
        instance=Instance(
            database=required_file(dest_db, "--dest-db"),
            attachments=required_path(dest_attachments, "--dest-attachments"),
        ),
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
        **_JSON,
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
        **_SOURCE,
        "dest_db": "A destination to look at as well.",
        "dest_attachments": "A destination to look at as well.",
        **_PROFILE,
        **_JSON,
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
