"""The tasks that make a harmless copy."""

from typing import TYPE_CHECKING

from invoke.context import Context

from ops.cli.clock import CLOCK
from ops.cli.console import confirm, messages, print_lines, require_terminal
from ops.cli.decorator import Result, task
from ops.cli.flags import DESTINATION, HOLD, JOBS, JSON, PROFILE, SOURCE, STORE, required_pair
from ops.errors import UsageError
from ops.settings import (
    Settings,
    absolute_path,
    parse_seconds,
    read_settings,
    required_store,
    waits,
)

if TYPE_CHECKING:
    from ops.store import Snapshot

_SNAPSHOT = {
    "store": "Refresh from a snapshot of this store instead of an instance.",
    "snapshot": "Which snapshot: a name, or latest, the newest verified one. Default: latest.",
}


@task(
    help={
        **SOURCE,
        **_SNAPSHOT,
        **DESTINATION,
        "attachments": "What becomes of them: placeholder (the default), keep, or none.",
        "admin_email": "Address of the one account that can be used. Default:"
        " admin@staging.invalid.",
        "key_file": "Key of the pseudonyms, made if it is missing, so that they are the same next"
        " time. Default: a new key each time.",
        "strict": "Fail if a column that looks like a secret or personal data has no rule.",
        **HOLD,
        "force": "Replace what stands at the destination without asking.",
        "dry_run": "Validate, print the plan and what the rules would touch, and stop.",
        **JOBS,
        **PROFILE,
        **JSON,
    }
)
def staging_refresh(
    context: Context,
    *,
    source_db: str = "",
    source_attachments: str = "",
    store: str = "",
    snapshot: str = "",
    dest_db: str = "",
    dest_attachments: str = "",
    dest_in_use: str = "",
    attachments: str = "",
    admin_email: str = "",
    key_file: str = "",
    hold_writers: str = "",
    jobs: str = "",
    profile: str = "",
    strict: bool = False,
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Result:
    """Copy an instance for staging: secrets and personal data replaced, and searched for.

    Nothing that was not sanitised is ever at the destination. One administrator can log in; the
    password is printed once, at the end.
    """
    from ops.cli.progress import show_progress
    from ops.cli.refreshing import outcome_document, outcome_lines, plan_document, plan_lines
    from ops.harmless import refuse_suspects
    from ops.profile import load_profile
    from ops.refresh import run_refresh
    from ops.refreshing import RefreshRequest, parse_address, parse_attachments, plan_refresh
    from ops.sanitise.key import new_key, read_key
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
    destination = required_pair(dest_db, dest_attachments)
    if not (force or dry_run):
        require_terminal()
    chosen = load_profile(settings.profile.value)
    found = _snapshot_named(settings, store, snapshot)
    request = RefreshRequest(
        source=None if found is not None else locate_source(settings, chosen),
        snapshot=found,
        destination=destination,
        profile=chosen,
        attachments=parse_attachments(attachments),
        key=read_key(absolute_path(key_file, "--key-file"))
        if key_file and not dry_run
        else new_key(),
        admin_email=parse_address(admin_email),
        strict=strict,
        home=settings.home,
        lock_timeout_seconds=settings.lock_timeout_seconds,
        wait_seconds=settings.in_use_timeout_seconds if waits(dest_in_use) else 0,
        hold_seconds=parse_seconds(hold_writers, "--hold-writers") if hold_writers else 0,
        jobs=settings.jobs,
    )
    with show_progress(messages()) as progress:
        plan = plan_refresh(request, quick=force and not dry_run, progress=progress)
    if dry_run:
        refuse_suspects(() if plan.review is None else plan.review.findings, strict=strict)
        return Result(document=plan_document(plan), lines=plan_lines(plan, rules=True))
    print_lines(messages(), plan_lines(plan, rules=False))
    if not force:
        confirm("Go ahead?")
    with show_progress(messages()) as progress:
        outcome = run_refresh(plan, clock=CLOCK, progress=progress)
    return Result(document=outcome_document(outcome), lines=outcome_lines(outcome))


@task(
    help={
        **SOURCE,
        **STORE,
        "snapshot": _SNAPSHOT["snapshot"],
        "strict": "Fail if a column that looks like a secret or personal data has no rule.",
        **PROFILE,
        **JSON,
    }
)
def staging_rules(
    context: Context,
    *,
    source_db: str = "",
    source_attachments: str = "",
    store: str = "",
    snapshot: str = "",
    profile: str = "",
    strict: bool = False,
    json: bool = False,
) -> Result:
    """List the rules of a staging refresh, and how many rows each would touch; nothing is changed.

    Columns that look as if they needed a rule and have none are listed as well.
    """
    from ops.cli.refreshing import review_document, review_lines
    from ops.harmless import lack_of_rules
    from ops.profile import load_profile
    from ops.refreshing import require_rules, review_instance, review_snapshot
    from ops.source import locate_source

    settings = read_settings(
        context.config.ops,
        source_db=source_db,
        source_attachments=source_attachments,
        profile=profile,
        store=store,
    )
    chosen = load_profile(settings.profile.value)
    require_rules(chosen)
    found = _snapshot_named(settings, store, snapshot)
    if found is not None:
        review = review_snapshot(found, chosen)
    else:
        instance = locate_source(settings, chosen).instance
        review = review_instance(
            instance, chosen, lock_timeout_seconds=settings.lock_timeout_seconds
        )
    failure = lack_of_rules(review.findings) if strict else None
    return Result(
        document=review_document(review, chosen),
        lines=review_lines(review, chosen),
        failure=failure,
    )


def _snapshot_named(settings: Settings, store: str, snapshot: str) -> "Snapshot | None":
    """Return the snapshot that is the source; None where none is named.

    Raises:
        UsageError: An instance is named as well.
        SourceError: There is no such snapshot.
    """
    if not (store or snapshot):
        return None
    from ops.store import LATEST, find_snapshot, require_store

    if settings.source_db or settings.source_attachments:
        raise UsageError("an instance and a snapshot exclude each other", hint="name one")
    return find_snapshot(require_store(required_store(settings)), snapshot or LATEST)
