"""The task that takes older backups over into a store."""

from invoke.context import Context

from ops.cli.clock import CLOCK
from ops.cli.console import messages
from ops.cli.decorator import Result, task
from ops.cli.flags import JOBS, JSON, PROFILE, STORE
from ops.settings import read_settings, required_path, required_store


@task(
    help={
        **STORE,
        "older": "Directory with pairs such as ciso-20261125.sqlite3 and attachments-20261125."
        " Required.",
        "dry_run": "List what would be taken over, and stop.",
        **JOBS,
        **PROFILE,
        **JSON,
    }
)
def adopt(
    context: Context,
    *,
    store: str = "",
    older: str = "",
    jobs: str = "",
    profile: str = "",
    dry_run: bool = False,
    json: bool = False,
) -> Result:
    """Make checked snapshots of older backups: dated databases beside dated directories.

    They stay as they are. What was taken over before is left out; one that does not pass its check
    is told, and the others are taken over all the same.
    """
    from ops.adopt import adopt as adopt_pairs
    from ops.adopt import find_older, known_origins
    from ops.cli.adoption import planned_document, planned_lines, told_document, told_lines
    from ops.cli.format import count_of
    from ops.cli.progress import show_progress
    from ops.errors import VerificationError
    from ops.profile import load_profile

    dry_run = dry_run or bool(context.config.run.dry)
    settings = read_settings(context.config.ops, profile=profile, jobs=jobs, store=store)
    place = required_store(settings)
    chosen = load_profile(settings.profile.value)
    survey = find_older(required_path(older, "--older"))
    if dry_run:
        known = known_origins(place)
        return Result(document=planned_document(survey, known), lines=planned_lines(survey, known))
    with show_progress(messages()) as progress:
        done = adopt_pairs(
            survey.pairs,
            place,
            chosen,
            jobs=settings.jobs,
            lock_timeout_seconds=settings.lock_timeout_seconds,
            clock=CLOCK,
            progress=progress,
        )
    failed = sum(one.failure is not None for one in done)
    failure = None
    if failed:
        failure = VerificationError(
            f"{count_of(failed, 'older backup')} did not pass and stayed out",
            hint="they are listed on standard output; keep them until you know why",
        )
    return Result(
        document=told_document(survey, done), lines=told_lines(survey, done), failure=failure
    )
