"""The task that takes older backups over into a store."""

from typing import TYPE_CHECKING, Any

from invoke.context import Context

from ops.cli.clock import CLOCK
from ops.cli.console import messages
from ops.cli.decorator import Result, task
from ops.cli.flags import JOBS, JSON, PROFILE, STORE
from ops.settings import read_settings, required_path, required_store

if TYPE_CHECKING:
    from rich.text import Text


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
    from ops.cli.format import count_of
    from ops.cli.progress import show_progress
    from ops.cli.render import facts, heading
    from ops.errors import VerificationError
    from ops.names import display
    from ops.profile import load_profile
    from ops.report import SCHEMA_VERSION

    dry_run = dry_run or bool(context.config.run.dry)
    settings = read_settings(context.config.ops, profile=profile, jobs=jobs, store=store)
    place = required_store(settings)
    chosen = load_profile(settings.profile.value)
    survey = find_older(required_path(older, "--older"))
    halves = [("left out", f"{display(path)}: its other half is missing") for path in survey.halves]
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "command": "adopt",
        "ok": True,
        "dry_run": dry_run,
        "halves": [display(path) for path in survey.halves],
    }
    if dry_run:
        known = known_origins(place)
        planned = [
            (f"{one.instant:%Y-%m-%d}", display(one.instance.database), one.origin in known)
            for one in survey.pairs
        ]
        document["pairs"] = [
            {"day": day, "database": database, "known": done} for day, database, done in planned
        ]
        rows = [(day, f"{database}{' (known)' * done}") for day, database, done in planned]
        title = f"{count_of(len(planned), 'older backup')} to take over"
        return Result(document=document, lines=[heading(title), *facts([*rows, *halves])])
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
    failed = [one for one in done if one.failure is not None]
    document["ok"] = not failed
    document["pairs"] = [
        {
            "day": f"{one.older.instant:%Y-%m-%d}",
            "database": display(one.older.instance.database),
            "known": one.known,
            "snapshot": None if one.snapshot is None else one.snapshot.name,
            "failure": None if one.failure is None else one.failure.message,
        }
        for one in done
    ]
    rows = []
    for one in done:
        said = "taken over before" if one.known else ""
        if one.snapshot is not None:
            said = f"snapshot {one.snapshot.name}"
        if one.failure is not None:
            said = f"NOT taken over: {one.failure.message}"
        rows.append((display(one.older.instance.database), said))
    made = sum(one.snapshot is not None for one in done)
    lines: list[Text] = [heading(f"Took over {count_of(made, 'older backup')}")]
    failure = None
    if failed:
        failure = VerificationError(
            f"{count_of(len(failed), 'older backup')} did not pass and stayed out",
            hint="they are listed on standard output; keep them until you know why",
        )
    return Result(document=document, lines=[*lines, *facts([*rows, *halves])], failure=failure)
