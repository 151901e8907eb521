"""Where the source comes from: the first place in a fixed order that names one."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.errors import SourceError, UsageError
from ops.model import Instance
from ops.names import display
from ops.profile import Elsewhere, Profile
from ops.settings import Settings, absolute_path

_TRUE = frozenset({"1", "true", "yes", "on"})
_MANAGE_TIMEOUT_SECONDS = 120
_MARK = "ciso-ops-settings:"
_QUESTION = f"""
import json
from django.conf import settings
storage = getattr(settings, "STORAGES", {{}}).get("default", {{}})
database = settings.DATABASES["default"]
print("{_MARK}" + json.dumps({{
    "engine": database["ENGINE"],
    "name": str(database["NAME"]),
    "media": str(storage.get("OPTIONS", {{}}).get("location") or settings.MEDIA_ROOT),
    "storage": storage.get("BACKEND", ""),
}}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """An instance and the place that named it, ready to print."""

    instance: Instance
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """One link of the chain: what it is called and what it says; empty for nothing."""

    name: str
    database: str
    attachments: str
    missing: tuple[str, str]
    explicit: bool = True


def locate_source(settings: Settings, profile: Profile) -> Location:
    """Find the source: the first place that says something wins.

    The order is: flags, the configuration, the application's own variables, its `manage`
    command, the usual layout below `instance_root`. Both halves must come from one place, so
    that the database of one instance never meets the attachments of another.

    Raises:
        UsageError: No place names a source, or one names only half of it.
        SourceError: The application keeps its data elsewhere, or cannot be asked.
    """
    for place in _places(settings, profile):  # lazy: the application is asked only in its turn
        if not (place.database or place.attachments):
            continue
        if not place.explicit:
            _refuse_elsewhere(settings, profile)
        if not (place.database and place.attachments):
            given, lacking = place.missing if place.database else place.missing[::-1]
            raise UsageError(
                f"{place.name}: {given} names half of the source, {lacking} is missing",
                hint="both must come from the same place: give both, or neither",
            )
        return Location(
            instance=Instance(
                database=absolute_path(place.database, place.name),
                attachments=absolute_path(place.attachments, place.name),
            ),
            origin=place.name,
        )
    _refuse_elsewhere(settings, profile)
    variables = f"{profile.database_variable} and {profile.attachments_variable}"
    raise UsageError(
        "no source: nothing says which instance to read",
        hint="give --source-db and --source-attachments"
        + (f", or set {variables}" if profile.database_variable else ""),
    )


def _places(settings: Settings, profile: Profile) -> Iterator[_Place]:
    yield _Place(
        name="flags",
        database=settings.source_db,
        attachments=settings.source_attachments,
        missing=("--source-db", "--source-attachments"),
    )
    yield _Place(
        name="configuration",
        database=settings.configured_db,
        attachments=settings.configured_attachments,
        missing=("ops.source_db", "ops.source_attachments"),
    )
    yield _Place(
        name=f"environment ({profile.database_variable}, {profile.attachments_variable})",
        database=_variable(settings, profile.database_variable),
        attachments=_variable(settings, profile.attachments_variable),
        missing=(profile.database_variable, profile.attachments_variable),
        explicit=False,
    )
    yield _ask_application(settings)
    if settings.instance_root and profile.database and profile.attachments:
        root = Path(settings.instance_root)
        yield _Place(
            name=f"instance_root {display(settings.instance_root)}",
            database=str(root / profile.database),
            attachments=str(root / profile.attachments),
            missing=("", ""),
            explicit=False,
        )


def _variable(settings: Settings, name: str) -> str:
    return settings.environment.get(name, "") if name else ""


def _refuse_elsewhere(settings: Settings, profile: Profile) -> None:
    for elsewhere in profile.elsewhere:
        if _applies(elsewhere, _variable(settings, elsewhere.variable)):
            raise SourceError(
                f"{elsewhere.variable} is set: {profile.title} keeps {elsewhere.keeps}, "
                "so there is no default source to read",
                hint=f"{elsewhere.way_out}; or name the source with --source-db and "
                "--source-attachments",
            )


def _applies(elsewhere: Elsewhere, value: str) -> bool:
    return bool(value) if elsewhere.when == "set" else value.strip().lower() in _TRUE


def _ask_application(settings: Settings) -> _Place:
    """Ask a Django application for its settings, in its own interpreter, leaving no trace."""
    manage = settings.manage
    nothing = _Place(name="manage", database="", attachments="", missing=("NAME", "MEDIA_ROOT"))
    if not manage:
        return nothing
    command = [*manage, "shell", "-c", _QUESTION]
    try:
        answer = subprocess.run(
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={**settings.environment, "PYTHONDONTWRITEBYTECODE": "1"},
            timeout=_MANAGE_TIMEOUT_SECONDS,
        )
    except OSError as error:
        raise UsageError(
            f"cannot run ops.manage: {display(manage[0])}: {error.strerror}",
            hint="name the application's interpreter and its manage.py by full paths",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SourceError(
            f"the application did not answer within {_MANAGE_TIMEOUT_SECONDS} s: "
            f"{display(manage[0])}"
        ) from error
    for line in answer.stdout.decode("utf-8", "replace").splitlines():
        if line.startswith(_MARK):
            try:
                return _read_answer(json.loads(line.removeprefix(_MARK)))
            except (ValueError, KeyError, TypeError) as error:
                raise SourceError(
                    f"ops.manage gave an answer that makes no sense: {display(line)}"
                ) from error
    complaint = answer.stderr.decode("utf-8", "replace").strip().splitlines() or ["no output"]
    raise SourceError(
        f"ops.manage gave no settings (exit code {answer.returncode}): {display(complaint[-1])}",
        hint=f"try it yourself: {display(' '.join(manage))} check",
    )


def _read_answer(answer: dict[str, str]) -> _Place:
    if not answer["engine"].endswith("sqlite3"):
        raise SourceError(
            f"the application's database is {answer['engine']}, not SQLite",
            hint="back it up with its own tools (pg_dump for PostgreSQL)",
        )
    storage = answer["storage"]
    if storage and not storage.endswith("FileSystemStorage"):
        raise SourceError(
            f"the application keeps its attachments in {storage}, not in a directory",
            hint="copy the bucket or container with its own tools",
        )
    return _Place(
        name="manage (Django's DATABASES and MEDIA_ROOT)",
        database=answer["name"],
        attachments=answer["media"],
        missing=("DATABASES", "MEDIA_ROOT"),
    )
