"""Look at everything a run would depend on, without running."""

import fcntl
import os
import platform
import shlex
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path

from ops import __version__
from ops.destination import nearest_directory, real_place
from ops.errors import OpsError, SourceError, UsageError
from ops.mounts import list_mounts, mount_of
from ops.profile import Profile, load_profile
from ops.settings import DEFAULTS, Setting, Settings
from ops.settlement import Left, look_at, refuse_unsettled
from ops.source import Location, locate_source
from ops.survey import SourceSurvey, survey_source
from ops.watch.ping import read_address

_FICLONE = 0x40049409
"""Share a file's blocks (ioctl_ficlone(2)); the number is that of Linux on all but MIPS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file system: where it was looked at, its type, room in bytes and inodes, abilities.

    An ability is None where finding out would write, or the platform cannot tell.
    """

    path: Path
    kind: str
    bytes_free: int
    bytes_total: int
    inodes_free: int | None
    read_only: bool
    xattrs: bool | None
    reflinks: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What was found; `problem` instead of a location or a survey when there is none.

    `left` is what a run left at each destination.
    """

    settings: tuple[Setting, ...]
    versions: tuple[Setting, ...]
    location: Location | None
    survey: SourceSurvey | None
    problem: OpsError | None
    places: tuple[Place, ...]
    left: tuple[tuple[Path, Left], ...]


def examine(settings: Settings, destinations: tuple[Path, ...]) -> Status:
    """Look at the source that would be used, and at the file systems of source and destination.

    A source that cannot be used is part of the answer, not a failure.

    Raises:
        UsageError: The profile cannot be read.
    """
    profile = load_profile(settings.profile.value)
    location, survey, problem = _look_at_source(settings, profile)
    places: dict[Path, Place] = {}
    if survey is not None:
        for path in (survey.instance.database.parent, survey.instance.attachments):
            places[path] = look_at_place(path, write=False)
    for path in destinations:
        directory = nearest_directory(path.parent)
        places[directory] = look_at_place(directory, write=True)
    return Status(
        settings=resolved_settings(settings, profile),
        versions=versions(),
        location=location,
        survey=survey,
        problem=problem,
        places=tuple(places.values()),
        left=tuple((place, look_at(real_place(place))) for place in destinations),
    )


def _look_at_source(
    settings: Settings, profile: Profile
) -> tuple[Location | None, SourceSurvey | None, OpsError | None]:
    try:
        location = locate_source(settings, profile)
    except OpsError as error:
        return None, None, error
    try:
        instance = location.instance
        refuse_unsettled((instance.database, instance.attachments), SourceError)
        survey = survey_source(
            instance,
            profile,
            lock_timeout_seconds=settings.lock_timeout_seconds,
            progress=lambda _progress: None,
        )
    except OpsError as error:
        return location, None, error
    return location, survey, None


def resolved_settings(settings: Settings, profile: Profile) -> tuple[Setting, ...]:
    """List every setting with its value and origin; values that were not given are empty."""
    environment = settings.environment
    profile_row = settings.profile
    if profile_row.origin == "configuration":
        profile_row = _configured(settings, "profile", "profile", profile_row.value)
    rows = [
        profile_row,
        Setting(name="source database", value=settings.source_db, origin="--source-db"),
        Setting(
            name="source attachments",
            value=settings.source_attachments,
            origin="--source-attachments",
        ),
        _configured(settings, "source database", "source_db", settings.configured_db),
        _configured(
            settings, "source attachments", "source_attachments", settings.configured_attachments
        ),
    ]
    variables = [profile.database_variable, profile.attachments_variable]
    variables += [elsewhere.variable for elsewhere in profile.elsewhere]
    rows += [
        Setting(name=variable, value=environment.get(variable, ""), origin="environment")
        for variable in variables
        if variable
    ]
    rows += [
        _configured(settings, "manage", "manage", shlex.join(settings.manage)),
        _configured(settings, "instance root", "instance_root", settings.instance_root),
        _configured(settings, "lock timeout", "lock_timeout", f"{settings.lock_timeout_seconds:g}"),
        _configured(
            settings, "in-use timeout", "in_use_timeout", f"{settings.in_use_timeout_seconds:g}"
        ),
        _configured(settings, "ping", "ping", _shown_ping(settings)),
        _configured(settings, "metrics", "metrics", settings.watching.get("metrics", "")),
        _configured(settings, "log format", "log_format", settings.watching.get("log_format", "")),
    ]
    return tuple(rows)


def _shown_ping(settings: Settings) -> str:
    """Return what may be shown of the address that pings go to."""
    value = settings.watching.get("ping", "")
    try:
        return read_address(value, "ops.ping", settings.environment).shown if value else ""
    except UsageError as error:
        return error.message


def _configured(settings: Settings, name: str, key: str, value: str) -> Setting:
    """Tell which part of the configuration a value came from."""
    variable = f"INVOKE_OPS_{key.upper()}"
    origin = f"ops.{key} in a configuration file"
    if variable in settings.environment:
        origin = variable
    elif value == DEFAULTS[key]:
        origin = "default"
    return Setting(name=name, value=value, origin=origin)


def versions() -> tuple[Setting, ...]:
    """List the versions that a report of a problem should name."""
    return (
        Setting(name="ciso-ops", value=__version__, origin=str(Path(__file__).parent)),
        Setting(name="Python", value=platform.python_version(), origin=sys.executable),
        Setting(name="SQLite", value=sqlite3.sqlite_version, origin="Python's sqlite3"),
        Setting(name="system", value=f"{platform.system()} {platform.release()}", origin="uname"),
    )


def look_at_place(directory: Path, *, write: bool) -> Place:
    """Look at the file system of a directory.

    Args:
        directory: One that exists.
        write: Whether reflinks may be tried out, with files that never get a name (O_TMPFILE).

    Raises:
        OSError: It cannot be looked at.
    """
    status = os.statvfs(directory)
    mount = mount_of(directory.resolve(), list_mounts())
    return Place(
        path=directory,
        kind="unknown" if mount is None else mount.kind,
        bytes_free=status.f_bavail * status.f_frsize,
        bytes_total=status.f_blocks * status.f_frsize,
        inodes_free=status.f_favail if status.f_files else None,
        read_only=bool(status.f_flag & os.ST_RDONLY),
        xattrs=_has_xattrs(directory),
        reflinks=_has_reflinks(directory) if write else None,
    )


def _has_xattrs(directory: Path) -> bool | None:
    if not hasattr(os, "listxattr"):
        return None
    try:
        os.listxattr(directory)
    except OSError:
        return False
    return True


def _has_reflinks(directory: Path) -> bool | None:
    if not hasattr(os, "O_TMPFILE"):
        return None
    flags = os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC
    try:
        source = os.open(directory, flags, 0o600)
    except OSError:
        return None
    try:
        os.write(source, bytes(4096))
        copy = os.open(directory, flags, 0o600)
        try:
            fcntl.ioctl(copy, _FICLONE, source)
        except OSError:
            return False
        finally:
            os.close(copy)
    finally:
        os.close(source)
    return True  # pragma: no cover - takes a file system with reflinks, such as XFS or Btrfs
