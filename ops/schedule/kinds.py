"""The kinds of schedule: which files each one is, where they belong, and how they are armed."""

import shlex
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from ops.errors import UsageError
from ops.schedule import launchd, pipelines, systemd
from ops.schedule.cron import block
from ops.schedule.job import Job


class Kind(StrEnum):
    """What starts the job."""

    SYSTEMD = "systemd"
    CRON = "cron"
    LAUNCHD = "launchd"
    GITHUB = "github"
    GITLAB = "gitlab"


def parse_kind(value: str) -> Kind:
    """Read `--kind`.

    Raises:
        UsageError: It is none.
    """
    if value in tuple(Kind):
        return Kind(value)
    known = ", ".join(Kind)
    if not value:
        raise UsageError("--kind is required", hint=f"what is to start the job: {known}")
    raise UsageError(f"--kind must be one of {known}, not {value}")


def texts_of(kind: Kind, job: Job, logs: Path) -> tuple[str, ...]:
    """Return the texts of a schedule's files, as `names_of` names them.

    Args:
        kind: What starts the job.
        job: What is to be started.
        logs: Where launchd puts its output.

    Raises:
        UsageError: This kind cannot express the job.
    """
    if kind is Kind.SYSTEMD:
        return systemd.service(job), systemd.timer(job)
    if kind is Kind.CRON:
        return (block(job),)
    if kind is Kind.LAUNCHD:
        return (launchd.property_list(job, logs),)
    return (pipelines.github(job) if kind is Kind.GITHUB else pipelines.gitlab(job),)


def names_of(kind: Kind, unit: str) -> tuple[str, ...]:
    """Return the names of a schedule's files below their directory; for cron there is one text."""
    return {
        Kind.SYSTEMD: (f"{unit}.service", f"{unit}.timer"),
        Kind.CRON: ("crontab",),
        Kind.LAUNCHD: (f"{unit}.plist",),
        Kind.GITHUB: (f".github/workflows/{unit}.yml",),
        Kind.GITLAB: (f"{unit}.gitlab-ci.yml",),
    }[kind]


def usual_directory(
    kind: Kind, *, system: bool, home: Path | None, environment: Mapping[str, str]
) -> Path:
    """Return where the files of a schedule belong.

    Raises:
        UsageError: There is no such place: the files of a repository go into that.
    """
    if kind is Kind.SYSTEMD and system:
        return Path("/etc/systemd/system")
    if kind is Kind.LAUNCHD and system:
        return Path("/Library/LaunchDaemons")
    if kind in {Kind.SYSTEMD, Kind.LAUNCHD}:
        if home is None:
            raise UsageError("HOME is not set", hint="name the directory: --into DIR")
        if kind is Kind.LAUNCHD:
            return home / "Library" / "LaunchAgents"
        given = environment.get("XDG_CONFIG_HOME", "")
        base = Path(given) if Path(given).is_absolute() else home / ".config"
        return base / "systemd" / "user"
    raise UsageError(
        f"--kind {kind} is installed into a repository",
        hint="name its working copy: --into DIR; then commit the file",
    )


def logs_directory(*, system: bool, home: Path | None) -> Path:
    """Return where macOS keeps logs."""
    return Path("/Library/Logs") if system or home is None else home / "Library" / "Logs"


def arming(kind: Kind, unit: str, directory: Path, *, system: bool) -> tuple[str, ...]:
    """Return the commands that arm what was installed, and start it once to see it work."""
    if kind is Kind.SYSTEMD:
        manager = "systemctl" if system else "systemctl --user"
        linger = () if system else ("loginctl enable-linger",)
        return (
            *linger,
            f"{manager} daemon-reload",
            f"{manager} enable --now {unit}.timer",
            f"{manager} start {unit}.service",
            f"{manager} list-timers {unit}.timer",
        )
    if kind is Kind.LAUNCHD:
        domain = "system" if system else "gui/$(id -u)"
        return (
            f"launchctl bootstrap {domain} {shlex.quote(str(directory / f'{unit}.plist'))}",
            f"launchctl kickstart {domain}/{unit}",
            f"launchctl print {domain}/{unit}",
        )
    return ()


def disarming(kind: Kind, unit: str, *, system: bool) -> tuple[str, ...]:
    """Return the commands that stop it from being started: for systemd, before its files go."""
    if kind is Kind.SYSTEMD:
        manager = "systemctl" if system else "systemctl --user"
        return (f"{manager} disable --now {unit}.timer", f"{manager} daemon-reload")
    if kind is Kind.LAUNCHD:
        return (f"launchctl bootout {'system' if system else 'gui/$(id -u)'}/{unit}",)
    return ()
