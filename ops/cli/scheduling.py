"""The task that schedules snapshots."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from ops.cli.console import confirm, messages, print_lines, require_terminal
from ops.cli.decorator import Result, task
from ops.cli.flags import HOLD, JOBS, JSON, KEEP, PROFILE, SOURCE, STORE, kept
from ops.errors import UsageError
from ops.settings import absolute_path, parse_seconds, read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.schedule.install import Target
    from ops.schedule.kinds import Kind
    from ops.schedule.request import Files
    from ops.settings import Settings

_AT = "03:30"
"""No country moves its clocks then."""

_NAME = "backup-daily"


@task(
    help={
        "kind": "What starts the job: systemd, cron, launchd, github or gitlab. Required.",
        "at": "When: 03:30 (the default), Mon,Thu 03:30, hourly, :15 of each hour, or daily.",
        **STORE,
        **SOURCE,
        **KEEP,
        **HOLD,
        "name": "Tells several schedules of one machine apart. Default: backup-daily.",
        "run_as": "The user who runs the job, if root schedules it. Default: who runs this.",
        "metrics": "As for `backup-daily`: the file of metrics that the job writes.",
        "on_failure": "A systemd unit to start when the job fails.",
        "install": "Put the files, or the line of the crontab, where they belong.",
        "remove": "Take them away again.",
        "into": "With --install or --remove: the directory of the files. Default: the usual one.",
        "force": "Do so without asking.",
        "dry_run": "With --install or --remove: print what would change, and stop.",
        **JOBS,
        **PROFILE,
        **JSON,
    }
)
def schedule(
    context: Context,
    *,
    kind: str = "",
    at: str = "",
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
    name: str = "",
    run_as: str = "",
    metrics: str = "",
    on_failure: str = "",
    into: str = "",
    jobs: str = "",
    profile: str = "",
    install: bool = False,
    remove: bool = False,
    force: bool = False,
    dry_run: bool = False,
    json: bool = False,
) -> Result:
    """Print, or install, what makes a snapshot at fixed times: a timer, a cron line, a CI job.

    The command in it needs no environment: all that flags and variables say is written into it.
    """
    from ops.cli.schedule import text_document, text_lines
    from ops.keeping import read_policy
    from ops.schedule.kinds import Kind, logs_directory, names_of, parse_kind, texts_of
    from ops.schedule.request import (
        ScheduleRequest,
        plan_job,
        read_name,
        read_unit,
        read_user,
        require_files,
    )
    from ops.schedule.when import parse_when

    chosen, label = parse_kind(kind), read_name(name or _NAME)
    if run_as and chosen in {Kind.GITHUB, Kind.GITLAB}:
        raise UsageError(
            "--run-as does not go with a runner", hint="the runner's own user runs the job"
        )
    number = os.geteuid()
    user, current = read_user(run_as, number), read_user("", number)
    _refuse_mixture(
        chosen, install=install, remove=remove, into=into, on_failure=on_failure, dry_run=dry_run
    )
    dry_run = dry_run or bool(context.config.run.dry)
    if (install or remove) and not (force or dry_run):
        require_terminal()
    settings = read_settings(
        context.config.ops,
        source_db=source_db,
        source_attachments=source_attachments,
        profile=profile,
        jobs=jobs,
        store=store,
    )
    if remove:
        target = _target(chosen, label, into, settings, user if user != current else "")
        return _change(target, None, [], force=force, dry_run=dry_run)
    keep = kept(locals())
    policy = read_policy(context.config.ops, keep)
    zone = {"--time-zone": keep.pop("time_zone")}
    flags = {f"--keep-{rule}": value for rule, value in keep.items()}
    flags |= {**zone, "--hold-writers": hold_writers, "--jobs": jobs}
    if hold_writers:
        parse_seconds(hold_writers, "--hold-writers")
    files = _files(context.config)
    require_files(files, user=user, current=current)
    job = plan_job(
        ScheduleRequest(
            settings=settings,
            files=files,
            name=label,
            when=parse_when(at or _AT),
            flags=tuple((flag, value) for flag, value in flags.items() if value),
            user=user,
            system=number == 0,
            on_failure=read_unit(on_failure),
            metrics=metrics,
            quiet=chosen is Kind.CRON,
        )
    )
    logs = logs_directory(system=number == 0, home=settings.home)
    texts = texts_of(chosen, job, logs)
    remarks = ["no --keep flag and no ops.keep_… says what to keep, so nothing is ever pruned"]
    remarks = remarks if policy.empty else []
    if install:
        target = _target(chosen, label, into, settings, user if user != current else "")
        return _change(target, texts, remarks, force=force, dry_run=dry_run)
    _print_remarks(remarks)
    named = dict(zip(names_of(chosen, job.unit), texts, strict=True))
    return Result(
        document=text_document(chosen, label, named, remarks), lines=text_lines(chosen, named)
    )


def _refuse_mixture(
    kind: "Kind", *, install: bool, remove: bool, into: str, on_failure: str, dry_run: bool
) -> None:
    """Refuse flags that say nothing together."""
    from ops.schedule.kinds import Kind

    changes = install or remove
    if install and remove:
        raise UsageError("--install and --remove exclude each other")
    if (into or dry_run) and not changes:
        flag = "--into" if into else "--dry-run"
        raise UsageError(
            f"{flag} goes with --install or --remove", hint="without them nothing is written anyway"
        )
    if into and kind is Kind.CRON:
        raise UsageError(
            "--into does not go with cron: the line goes into the user's crontab",
            hint="print it instead, and put it where you want it",
        )
    if on_failure and kind is not Kind.SYSTEMD:
        raise UsageError(
            "--on-failure is for --kind systemd",
            hint="docs/scheduling.md tells how the others raise an alarm",
        )


def _files(config: Any) -> "Files":
    """Ask Invoke which configuration files it read; it tells in no public way.

    Where there is no project file it names `invoke.py`, which is not there.
    """
    from ops.schedule.request import Files

    project, runtime = config._project_path, config._runtime_path  # noqa: SLF001
    return Files(
        project=Path(project).absolute() if project and Path(project).is_file() else None,
        runtime=absolute_path(str(runtime), "--config") if runtime else None,
        own=bool(config._user.get("ops")),  # noqa: SLF001
    )


def _target(kind: "Kind", name: str, into: str, settings: "Settings", user: str) -> "Target":
    """Return where a schedule goes."""
    from ops.schedule.install import Crontab, Target
    from ops.schedule.kinds import Kind, usual_directory

    system = os.geteuid() == 0
    directory = Path("/")
    if into:
        directory = absolute_path(into, "--into")
    elif kind is not Kind.CRON:
        directory = usual_directory(
            kind, system=system, home=settings.home, environment=settings.environment
        )
    return Target(
        kind=kind,
        name=name,
        directory=directory,
        crontab=Crontab(user=user, environment=settings.environment),
        usual=not into,
        system=system,
    )


def _change(
    target: "Target",
    texts: "Sequence[str] | None",
    remarks: list[str],
    *,
    force: bool,
    dry_run: bool,
) -> Result:
    """Show what changes, ask, and do it."""
    from ops.cli.schedule import change_lines, done_document, done_lines
    from ops.schedule.install import carry_out, plan_changes
    from ops.schedule.kinds import arming, disarming

    changes = plan_changes(target, texts)
    needed = any(change.needed for change in changes)
    _print_remarks(remarks)
    print_lines(messages(), change_lines(changes))
    if needed and not dry_run:
        if not force:
            confirm("Go ahead?")
        carry_out(target, changes)
    commands: tuple[str, ...] = ()
    if target.usual and not dry_run and texts is not None:
        commands = arming(target.kind, target.unit, target.directory, system=target.system)
    elif target.usual and not dry_run and needed:
        commands = disarming(target.kind, target.unit, system=target.system)[-1:]
    return Result(
        document=done_document(
            target.kind, target.name, changes, commands, remarks, dry_run=dry_run
        ),
        lines=done_lines(changes, commands, removed=texts is None, dry_run=dry_run),
    )


def _print_remarks(remarks: "Sequence[str]") -> None:
    from rich.text import Text

    print_lines(messages(), [Text.assemble(("note: ", "bold"), remark) for remark in remarks])
