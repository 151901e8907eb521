"""What the operator asked for: flags, configuration and environment, read once and typed."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.errors import UsageError

DEFAULTS: dict[str, str] = {
    "source_db": "",
    "source_attachments": "",
    "profile": "",
    "manage": "",
    "instance_root": "",
    "lock_timeout": "30",
    "in_use_timeout": "600",
    "jobs": "",
    "store": "",
    "keep_last": "",
    "keep_hourly": "",
    "keep_daily": "",
    "keep_weekly": "",
    "keep_monthly": "",
    "keep_yearly": "",
    "keep_within": "",
    "time_zone": "",
    "shrink_files": "50",
    "shrink_rows": "50",
    "drill_command": "",
    "drill_timeout": "600",
    "hook_before": "",
    "hook_after": "",
    "hook_timeout": "300",
    "ping": "",
    "metrics": "",
    "log_format": "",
}
"""Every key of the configuration section `ops`, declared so that variables can override it."""

WATCHING = ("ping", "metrics", "log_format")
"""Those that say who is told of a run. The ping's address is a secret."""

_MOST_SECONDS = 3600.0
_MOST_JOBS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One resolved value and where it came from."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the core may know of the world it runs in.

    `source_db` and `source_attachments` are the flags, `configured_db` and
    `configured_attachments` the same from the configuration; empty where not given. `manage` is
    an argument list. `jobs` is the number of processes, 0 where it is left to us. `store` is where
    snapshots are, from flag or configuration; `drill_command` what a drill runs; `watching` says
    who is told of runs. `environment` is a copy of the process's.
    """

    source_db: str = ""
    source_attachments: str = ""
    configured_db: str = ""
    configured_attachments: str = ""
    profile: Setting
    manage: tuple[str, ...] = ()
    instance_root: str = ""
    lock_timeout_seconds: float = 30.0
    in_use_timeout_seconds: float = 600.0
    jobs: int = 0
    store: str = ""
    drill_command: tuple[str, ...] = ()
    drill_timeout_seconds: float = 600.0
    watching: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str]

    @property
    def home(self) -> Path | None:
        """The operator's home directory, None for somebody who has none."""
        home = self.environment.get("HOME", "")
        return Path(home) if home else None


def read_settings(
    config: Mapping[str, Any],
    *,
    source_db: str = "",
    source_attachments: str = "",
    profile: str = "",
    jobs: str = "",
    store: str = "",
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Combine flags and the configuration section `ops` into settings.

    Args:
        config: The section as Invoke merged it from its files and variables.
        source_db: The flag `--source-db`.
        source_attachments: The flag `--source-attachments`.
        profile: The flag `--profile`.
        jobs: The flag `--jobs`.
        store: The flag `--store`.
        environment: The process's environment; read here, and nowhere else, when None.

    Raises:
        UsageError: A key is unknown, or a value is not of its kind.
    """
    from ops.profile import DEFAULT_PROFILE

    unknown = sorted(set(config) - set(DEFAULTS))
    if unknown:
        raise UsageError(
            f"the configuration has no key ops.{unknown[0]}",
            hint=f"known are {', '.join(DEFAULTS)}",
        )
    chosen = Setting(name="profile", value=DEFAULT_PROFILE, origin="default")
    configured = configured_text(config, "profile")
    if configured:
        chosen = Setting(name="profile", value=configured, origin="configuration")
    if profile:
        chosen = Setting(name="profile", value=profile, origin="--profile")
    return Settings(
        source_db=source_db,
        source_attachments=source_attachments,
        configured_db=configured_text(config, "source_db"),
        configured_attachments=configured_text(config, "source_attachments"),
        profile=chosen,
        manage=_arguments(config),
        instance_root=configured_text(config, "instance_root"),
        lock_timeout_seconds=_seconds(config, "lock_timeout"),
        in_use_timeout_seconds=_seconds(config, "in_use_timeout"),
        jobs=_jobs(config, jobs),
        store=store or configured_text(config, "store"),
        drill_command=read_command(config.get("drill_command", ""), "ops.drill_command"),
        drill_timeout_seconds=_seconds(config, "drill_timeout"),
        watching={key: configured_text(config, key) for key in WATCHING},
        environment=read_environment() if environment is None else dict(environment),
    )


def read_environment() -> dict[str, str]:
    """Return a copy of the process's environment; nothing else reads it."""
    return dict(os.environ)


def configured_text(config: Mapping[str, Any], key: str) -> str:
    """Return a string of the configuration, empty where it says nothing.

    Raises:
        UsageError: It is something else.
    """
    value = config.get(key, DEFAULTS[key])
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UsageError(f"ops.{key} must be a string, not {value!r}")
    return value


def _arguments(config: Mapping[str, Any]) -> tuple[str, ...]:
    return read_command(config.get("manage", ""), "ops.manage")


def read_command(value: Any, origin: str) -> tuple[str, ...]:
    """Read a command: a list in a file, or one string split as a shell would.

    Raises:
        UsageError: It is neither.
    """
    if isinstance(value, (list, tuple)) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if value is None:
        return ()
    if not isinstance(value, str):
        raise UsageError(f"{origin} must be a list of strings, not {value!r}")
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        raise UsageError(f"{origin} is not a command: {error}: {value}") from error


def _seconds(config: Mapping[str, Any], key: str) -> float:
    return parse_seconds(config.get(key, DEFAULTS[key]), f"ops.{key}")


def _jobs(config: Mapping[str, Any], flag: str) -> int:
    value, origin = (flag, "--jobs") if flag else (config.get("jobs"), "ops.jobs")
    if value is None or value == "":
        return 0
    try:
        count = int(str(value))
    except ValueError as error:
        raise UsageError(f"{origin} must be a number of processes, not {value!r}") from error
    if not 1 <= count <= _MOST_JOBS:
        raise UsageError(f"{origin} must lie between 1 and {_MOST_JOBS}")
    return count


def reads_disk(value: str) -> bool:
    """Read `--check`.

    Raises:
        UsageError: It is neither memory nor disk.
    """
    if value not in {"", "memory", "disk"}:
        raise UsageError(f"--check must be memory or disk, not {value}")
    return value == "disk"


def parse_seconds(value: Any, origin: str) -> float:
    """Read a number of seconds, at most an hour.

    Raises:
        UsageError: It is none.
    """
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{origin} must be a number of seconds, not {value!r}") from error
    if not 0 <= seconds <= _MOST_SECONDS:
        raise UsageError(f"{origin} must lie between 0 and {_MOST_SECONDS:.0f} seconds")
    return seconds


def required_path(value: str, flag: str) -> Path:
    """Turn the value of a required flag into an absolute path, symbolic links left as they are.

    Raises:
        UsageError: It was not given, or holds a NUL character.
    """
    if not value:
        raise UsageError(f"{flag} is required", hint=f"name a path: {flag} PATH")
    return absolute_path(value, flag)


def required_store(settings: Settings) -> Path:
    """Return the store that flag or configuration name.

    Raises:
        UsageError: Neither does.
    """
    if not settings.store:
        raise UsageError("--store is required", hint="name a directory: --store DIR, or ops.store")
    return absolute_path(settings.store, "--store")


def required_file(value: str, flag: str) -> Path:
    """Do the same for a file, which no slash may follow.

    Raises:
        UsageError: It was not given, or names a directory.
    """
    if value.endswith("/"):
        raise UsageError(f"{flag} names a directory: {value}", hint=f"name a file: {flag} FILE")
    return required_path(value, flag)


def waits(value: str) -> bool:
    """Read `--dest-in-use`.

    Raises:
        UsageError: It is neither refuse nor wait.
    """
    if value not in {"", "refuse", "wait"}:
        raise UsageError(f"--dest-in-use must be refuse or wait, not {value}")
    return value == "wait"


def absolute_path(value: str, origin: str) -> Path:
    """Make a path absolute, with `~` expanded, without following symbolic links.

    Raises:
        UsageError: It holds a NUL character, or names a user that does not exist.
    """
    if "\0" in value:
        raise UsageError(f"{origin} holds a NUL character")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"{origin}: {error}: {value}") from error
