"""What a snapshot says of itself: its summary, and what happened to it since."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

FORMAT = "ciso-ops snapshot"
SCHEMA_VERSION = 1
DAILY, REPLACED, ADOPTED = "daily", "replaced", "adopted"
_NAME = "%Y-%m-%dT%H%M%SZ"
_FIRST_YEAR, _LAST_YEAR = 1970, 9998
_MOST = 1 << 63
_SPECIAL: dict[str, Any] = {str(float): int | float, str(dict[str, Any]): dict}
_BROKEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
"""What reading a document may end in that is none."""


class SnapshotError(ValueError):
    """A document that is no summary of a snapshot; the message says how."""


def snapshot_name(instant: datetime) -> str:
    """Return the name of a snapshot: the instant it shows, in UTC and whole seconds."""
    return instant.astimezone(UTC).strftime(_NAME)


def instant_of(name: str) -> datetime:
    """Return the instant that the name of a snapshot tells.

    Raises:
        ValueError: It is no such name.
    """
    return datetime.strptime(name, _NAME).replace(tzinfo=UTC)


def is_snapshot_name(name: str) -> bool:
    """Tell whether a name is one of a snapshot."""
    try:
        return snapshot_name(instant_of(name)) == name
    except ValueError:
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSummary:
    """The database of a snapshot, with the metadata that its file had in the source.

    `rows` are those of all its tables.
    """

    size: int
    sha256: str
    mode: str
    uid: int
    gid: int
    mtime_ns: int
    tables: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeSummary:
    """The attachments of a snapshot: entries in all, files and their bytes, and those shared."""

    entries: int
    files: int
    bytes: int
    shared_files: int
    shared_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What `snapshot.json` says.

    `captured` is the instant the snapshot shows (UTC). `based_on` names the snapshot with which
    it shares files. `purpose` is DAILY, or REPLACED for what a restore took out of its place.
    `flagged` says why it looks wrong although it is whole; empty otherwise.
    `details` holds what only people read: the source, how it was captured, checks, findings.
    """

    name: str
    captured: datetime
    tool: str
    profile: str
    purpose: str = DAILY
    database: DatabaseSummary
    attachments: TreeSummary
    based_on: str = ""
    flagged: str = ""
    seconds: float = 0.0
    details: dict[str, Any]


def encode_summary(summary: Summary) -> bytes:
    """Return the document."""
    document = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        **asdict(summary),
        "captured": summary.captured.astimezone(UTC).isoformat(),
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def decode_summary(content: bytes) -> Summary:
    """Read the document back.

    Raises:
        SnapshotError: It is none, or a newer version wrote it.
    """
    try:
        values = json.loads(content)
        if values.pop("format") != FORMAT:
            raise SnapshotError("it is no summary of a snapshot")
        if values.pop("schema_version") > SCHEMA_VERSION:
            raise SnapshotError("a newer version of this tool wrote it")
        captured = _instant(values.pop("captured"))
        database = DatabaseSummary(**values.pop("database"))
        attachments = TreeSummary(**values.pop("attachments"))
        summary = Summary(captured=captured, database=database, attachments=attachments, **values)
        int(database.mode, 8)
    except SnapshotError:
        raise
    except _BROKEN as error:
        raise SnapshotError(f"it is no summary of a snapshot: {error}") from error
    for part in (summary, database, attachments):
        _require_types(part)
    return summary


def _instant(text: str) -> datetime:
    """Read an instant, which has a zone and can be told in any other."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise SnapshotError("the instant has no time zone")
    if not _FIRST_YEAR <= instant.year <= _LAST_YEAR:
        raise SnapshotError(f"no instant of a snapshot: {text}")
    return instant.astimezone(UTC)


def _require_types(part: Summary | DatabaseSummary | TreeSummary) -> None:
    """See that each value is of the kind that its field says."""
    for one in fields(part):
        value = getattr(part, one.name)
        kind: Any = _SPECIAL.get(str(one.type), one.type)
        right = isinstance(value, kind) and not isinstance(value, bool)
        least = -_MOST if one.name == "mtime_ns" else 0
        if not right or (isinstance(value, int | float) and not least <= value < _MOST):
            raise SnapshotError(f"{one.name} cannot be {value!r}")


VERIFIED, DAMAGED, SAMPLED, ACCEPTED = "verified", "damaged", "sampled", "accepted"
"""What a check made of a snapshot: sound, not to be trusted, or sound as far as it looked; and that
somebody said that it is as small as it should be."""

PUSHED, PULLED, FORGOTTEN = "pushed", "pulled", "forgotten"
"""That restic confirmed a copy off-site, that it came from there, and that the policy no longer
keeps that copy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a snapshot after it was published: what, when, and details."""

    what: str
    instant: datetime
    details: dict[str, Any]


def encode_event(event: Event) -> bytes:
    """Return the line for an event."""
    values = {"event": event.what, "instant": event.instant.isoformat(), **event.details}
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def decode_events(lines: Iterable[bytes]) -> tuple[tuple[Event, ...], bool]:
    """Read events; a last line that a crash cut short is left out.

    Returns:
        The events, and whether every line was one.
    """
    found: list[Event] = []
    whole = True
    for line in lines:
        if not line.endswith(b"\n"):
            break
        try:
            values = json.loads(line)
            what, instant = values.pop("event"), _instant(values.pop("instant"))
        except _BROKEN:
            whole = False
            continue
        if isinstance(what, str):
            found.append(Event(what=what, instant=instant, details=values))
        else:
            whole = False
    return tuple(found), whole


def is_verified(events: Iterable[Event]) -> bool:
    """Tell whether a snapshot, which was checked before it was published, still counts as sound.

    Damage stays until a check of everything finds none.
    """
    sound = True
    for event in events:
        if event.what in {VERIFIED, DAMAGED}:
            sound = event.what == VERIFIED
    return sound


def last_push(events: Iterable[Event], *, forgotten: bool = False) -> Event | None:
    """Return what tells that a snapshot is off-site; None if nothing does.

    Args:
        events: What happened to it.
        forgotten: Count a copy that was forgotten since: it had been there.
    """
    found: Event | None = None
    for event in events:
        if event.what in {PUSHED, PULLED}:
            found = event
        elif event.what == FORGOTTEN and not forgotten:
            found = None
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrinkage:
    """How much smaller than the one before it a snapshot may be, in percent, without a flag."""

    files: float = 50.0
    rows: float = 50.0


def shrunk(before: Summary, after: Summary, most: Shrinkage) -> str:
    """Say in what a snapshot is much smaller than the one before; empty if it is not."""
    said = [
        f"{now} {what}, {then} before"
        for what, then, now, percent in (
            ("files", before.attachments.files, after.attachments.files, most.files),
            ("rows", before.database.rows, after.database.rows, most.rows),
        )
        if now < then * (1 - percent / 100)
    ]
    return "; ".join(said)
