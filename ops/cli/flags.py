"""Flags that several tasks have, and what `--help` says of each."""

from collections.abc import Mapping
from pathlib import Path

from ops.model import Instance
from ops.settings import absolute_path, required_file, required_path

SOURCE = {
    "source_db": "Database to read; default: where the instance is found (see `inv status`).",
    "source_attachments": "Attachments directory to read; goes with --source-db.",
}
DESTINATION = {
    "dest_db": "Where the database goes. Required.",
    "dest_attachments": "Where the attachments go. Required.",
    "dest_in_use": "What to do while a process has the destination open: refuse (the default)"
    " or wait.",
}
HOLD = {
    "hold_writers": "If nothing else helps, hold up the source's writers for at most this many"
    " seconds."
}
PROFILE = {
    "profile": "Built-in profile, a TOML file of your own, or none. Default: ciso_assistant."
}
JOBS = {
    "jobs": "Processes that work on files. Default: as many as there are cores, 1 for small trees."
}
EFFORT = {
    "check": "Where the check may read from: memory (the default), or disk, for which the kernel"
    " first forgets what it has of each file.",
    **JOBS,
}
JSON = {"json": "Print one JSON document instead of text."}
STORE = {"store": "Directory that holds the snapshots. Default: ops.store of the configuration."}
KEEP = {
    "keep_last": "Keep the newest N snapshots.",
    "keep_hourly": "Keep the newest snapshot of each of the last N hours that have one.",
    "keep_daily": "Keep the newest snapshot of each of the last N days that have one.",
    "keep_weekly": "Keep the newest snapshot of each of the last N weeks that have one.",
    "keep_monthly": "Keep the newest snapshot of each of the last N months that have one.",
    "keep_yearly": "Keep the newest snapshot of each of the last N years that have one.",
    "keep_within": "Keep all snapshots that are younger than this, before the newest: 1y6m14d12h.",
    "time_zone": "Whose calendar counts, for example Europe/Berlin. Default: UTC.",
}
REQUIRE_OFFSITE = {
    "require_offsite": "Remove only what a push is recorded for that restic confirmed."
}


def kept(given: Mapping[str, object]) -> dict[str, str]:
    """Return the flags of retention as `read_policy` takes them, without their "keep_".

    Args:
        given: What a task was given: its `locals()`.
    """
    return {name.removeprefix("keep_"): str(given[name]) for name in KEEP}


def required_pair(dest_db: str, dest_attachments: str) -> Instance:
    """Return the pair that both flags name.

    Raises:
        UsageError: One was not given, or is no such path.
    """
    return Instance(
        database=required_file(dest_db, "--dest-db"),
        attachments=required_path(dest_attachments, "--dest-attachments"),
    )


def given_places(dest_db: str, dest_attachments: str) -> tuple[Path, ...]:
    """Return those places of a destination that were named.

    Raises:
        UsageError: One is no path.
    """
    named = ((dest_db, "--dest-db"), (dest_attachments, "--dest-attachments"))
    return tuple(absolute_path(value, flag) for value, flag in named if value)
