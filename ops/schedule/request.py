"""From what the operator says, and what is in force today, to a job that needs none of it."""

import pwd
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ops.errors import UsageError
from ops.names import display
from ops.profile import load_profile, profile_names
from ops.schedule.job import Job, require_plain
from ops.schedule.program import installed_command
from ops.schedule.when import When
from ops.settings import DEFAULTS, Settings, absolute_path, required_store
from ops.source import Location, locate_source
from ops.sqlite.header import inspect_database
from ops.store import require_store
from ops.survey import find_attachments
from ops.watch.metrics import read_place

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_UNIT = re.compile(r"[A-Za-z0-9:_.@%-]+\.(service|target)")
_BY_FLAG = ("store", "source_db", "source_attachments", "instance_root", "profile", "metrics")
"""Keys whose variables become flags, since they name paths that may be relative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The configuration files that were read: the project's and the one that `-f` names, or None.

    `own` tells whether the operator's own `~/.invoke.yaml` says something of ours.
    """

    project: Path | None = None
    runtime: Path | None = None
    own: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRequest:
    """What to schedule. `flags` are those of `backup-daily` that go on as they are, in order."""

    settings: Settings
    files: Files
    name: str
    when: When
    flags: tuple[tuple[str, str], ...] = ()
    user: str
    system: bool
    on_failure: str = ""
    metrics: str = ""
    quiet: bool = False


def read_name(value: str) -> str:
    """Read `--name`.

    Raises:
        UsageError: It would not do as a part of file names.
    """
    if not _NAME.fullmatch(value):
        raise UsageError(
            f"--name must consist of letters, digits, - and _, not {display(value)}",
            hint="it becomes a part of file names, such as ciso-ops-NAME.timer",
        )
    return value


def read_unit(value: str) -> str:
    """Read `--on-failure`.

    Raises:
        UsageError: It is no name of a unit.
    """
    if value and not _UNIT.fullmatch(value):
        raise UsageError(
            f"--on-failure must name a systemd unit, not {display(value)}",
            hint="for example ciso-ops-alarm@%n.service; see docs/scheduling.md",
        )
    return value


def read_user(value: str, number: int) -> str:
    """Read `--run-as`: the user who runs the job, as a name.

    Args:
        value: The flag; empty for whoever runs us.
        number: Who runs us.

    Raises:
        UsageError: There is no such user, or only root could do it.
    """
    try:
        current = pwd.getpwuid(number).pw_name
        if not value:
            return current
        pwd.getpwnam(value)
    except KeyError as error:
        raise UsageError(f"there is no such user: {display(value or str(number))}") from error
    if number != 0 and value != current:
        raise UsageError(f"only root can schedule for {value}", hint="run this with sudo")
    return value


def plan_job(request: ScheduleRequest) -> Job:
    """Return the job, after a look at its source and its store.

    A scheduler hands on neither flags nor today's environment, so all that they say is written
    into the job. What configuration files say stays there, and is read at each run.

    Raises:
        UsageError: Something is missing, or cannot be written down.
        SourceError: The source cannot be used, or there is no store yet.
    """
    settings, files = request.settings, request.files
    if _variable("ping") in settings.environment:
        raise UsageError(
            f"{_variable('ping')} is a secret, and a schedule can be read by others",
            hint="put it as ops.ping into ~/.invoke.yaml of the user who runs the job",
        )
    profile = load_profile(settings.profile.value)
    location = locate_source(settings, profile)
    inspect_database(location.instance.database)
    find_attachments(location.instance.attachments)
    store = require_store(required_store(settings))
    command = [str(installed_command())]
    if files.runtime is not None:
        command += ["-f", str(files.runtime)]
    command += ["backup-daily", "--store", str(store)]
    if _is_fleeting(location, settings.environment):
        command += ["--source-db", str(location.instance.database)]
        command += ["--source-attachments", str(location.instance.attachments)]
    if settings.profile.origin == "--profile" or _variable("profile") in settings.environment:
        command += ["--profile", _lasting_profile(settings.profile.value)]
    for flag, value in request.flags:
        command += [flag, value]
    metrics = _metrics(request)
    if metrics is not None and (request.metrics or _variable("metrics") in settings.environment):
        command += ["--metrics", str(metrics)]
    if request.quiet:
        command.append("--quiet")
    return require_plain(
        Job(
            name=request.name,
            arguments=tuple(command),
            variables=_variables(settings.environment),
            directory=files.project.parent if files.project else Path("/"),
            writes=store,
            tells=None if metrics is None else metrics.parent,
            reads=(location.instance.database.parent, location.instance.attachments),
            user=request.user,
            system=request.system,
            when=request.when,
            on_failure=request.on_failure,
        )
    )


def require_files(files: Files, *, user: str, current: str) -> None:
    """Refuse to rely on a configuration file that the job would not see.

    Raises:
        UsageError: It is the operator's own, and somebody else runs the job.
    """
    if files.own and user != current:
        raise UsageError(
            f"{user} will not read what your ~/.invoke.yaml says of ops",
            hint="move it to /etc/invoke.yaml, or name the file: ciso-ops -f FILE schedule …",
        )


def _is_fleeting(location: Location, environment: Mapping[str, str]) -> bool:
    """Tell whether the source is known only from flags or variables, which will be gone."""
    keys = ("source_db", "source_attachments", "instance_root")
    named = any(_variable(key) in environment for key in keys)
    return named or location.origin.startswith(("flags", "environment"))


def _metrics(request: ScheduleRequest) -> Path | None:
    """Return the file of metrics that the job will write, whoever names it."""
    named = request.metrics or request.settings.watching.get("metrics", "")
    return read_place(named, "--metrics" if request.metrics else "ops.metrics") if named else None


def _lasting_profile(value: str) -> str:
    """Return a profile as it is named from any directory."""
    return value if value in profile_names() else str(absolute_path(value, "--profile"))


def _variables(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    names = [_variable(key) for key in DEFAULTS if key not in _BY_FLAG]
    return tuple((name, environment[name]) for name in names if name in environment)


def _variable(key: str) -> str:
    return f"INVOKE_OPS_{key.upper()}"
