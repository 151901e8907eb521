"""How old the newest snapshot of a store is that can be trusted; nothing is locked or changed."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from ops.errors import UsageError
from ops.names import display
from ops.store import Snapshot, list_snapshots, newest_sound

_DURATION = re.compile(r"(?:(\d{1,5})d)?(?:(\d{1,6})h)?(?:(\d{1,7})min)?")
_AHEAD = timedelta(minutes=5)
"""By how much the clock of the machine that made the snapshot may be ahead of ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Age:
    """What is known of a store's newest verified snapshot; None where it has none.

    `age` is never negative, `unverified` counts snapshots that are newer and cannot be trusted.
    `problem` says what is wrong; empty if the snapshot is young enough.
    """

    snapshot: Snapshot | None
    age: timedelta | None
    most: timedelta
    unverified: int
    problem: str


def read_duration(value: str, flag: str) -> timedelta:
    """Read a duration such as 26h, 1d12h or 90min.

    Raises:
        UsageError: It is none, or no time at all.
    """
    hint = f"days, hours and minutes, in this order: {flag} 26h, 1d12h or 90min"
    if not value:
        raise UsageError(f"{flag} is required", hint=hint)
    matched = _DURATION.fullmatch(value) if value.isascii() else None
    if matched is None:
        raise UsageError(f"{flag} must be a duration, not {display(value)}", hint=hint)
    days, hours, minutes = (int(part or 0) for part in matched.groups())
    duration = timedelta(days=days, hours=hours, minutes=minutes)
    if not duration:
        raise UsageError(f"{flag} must be longer than no time at all", hint=hint)
    return duration


def look_at_age(store: Path, most: timedelta, now: datetime) -> Age:
    """Compare the age of the newest verified snapshot with what is allowed.

    One that claims to be from the future is never young: it would hide that no more are made.

    Raises:
        SourceError: The store cannot be read.
    """
    listed = list_snapshots(store)
    sound = newest_sound(listed)
    if sound is None:
        return Age(
            snapshot=None,
            age=None,
            most=most,
            unverified=len(listed),
            problem="the store has no verified snapshot",
        )
    newer = [one for one in listed if one.instant > sound.instant and not one.verified]
    age = now - sound.instant
    problem = ""
    if age < -_AHEAD:
        problem = f"snapshot {sound.name} is from the future: one of the clocks is wrong"
    elif age > most:
        problem = f"the newest verified snapshot is too old: {sound.name}"
    return Age(
        snapshot=sound,
        age=max(age, timedelta()),
        most=most,
        unverified=len(newer),
        problem=problem,
    )
