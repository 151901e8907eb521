"""Plan a refresh of staging, and review what the rules would touch."""

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from ops.destination import DestinationSurvey, survey_destination
from ops.errors import SourceError, UsageError
from ops.model import Entry, Finding, Instance, Kind, ReportProgress
from ops.names import display
from ops.overlap import refuse_overlap
from ops.profile import Profile
from ops.report import Room
from ops.restore import RestoreRequest, plan_restore
from ops.room import Need, add_rooms, require_room
from ops.rules import Rule
from ops.sanitise.addresses import find_addresses
from ops.sanitise.apply import Applied, count_touched
from ops.sanitise.binding import bind
from ops.sanitise.files import Attachments
from ops.sanitise.pseudonyms import DOMAIN
from ops.sanitise.schema import read_schema
from ops.sanitise.suspects import look_through, suspects
from ops.scratch import scratch_directory
from ops.settlement import find_left, refuse_unsettled, require_unused
from ops.snapshot import Summary
from ops.source import Location
from ops.sqlite.connection import connect, sqlite_failure
from ops.sqlite.source import read_steadily
from ops.store import Snapshot
from ops.survey import SourceSurvey, survey_source

_SPARE_BYTES = 4 << 20
_SPARE_INODES = 24
_LITTLE_FILE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRequest:
    """What the operator asked for.

    Either `source` or `snapshot` is given. `key` is that of the pseudonyms. `strict` refuses
    columns that look as if they needed a rule. The rest is as for a clone.
    """

    source: Location | None = None
    snapshot: Snapshot | None = None
    destination: Instance
    profile: Profile
    attachments: Attachments = Attachments.PLACEHOLDER
    key: bytes
    admin_email: str
    strict: bool = False
    home: Path | None = None
    lock_timeout_seconds: float = 30.0
    wait_seconds: float = 0.0
    hold_seconds: float = 0.0
    jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What rules would do to a database: rows by rule, rules without a column, suspects."""

    touched: tuple[Applied, ...]
    absent: tuple[Rule, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshPlan:
    """What a refresh is going to do, decided before anything is written.

    `source` is None for a snapshot, `summary` for an instance. `database_entry` has the owner and
    mode that the database of the copy gets. `review` is None where nobody reads the plan.
    """

    request: RefreshRequest
    source: SourceSurvey | None = None
    summary: Summary | None = None
    database_entry: Entry
    destination: DestinationSurvey
    left: tuple[Path, ...]
    rooms: tuple[Room, ...]
    review: Review | None
    findings: tuple[Finding, ...]


def plan_refresh(
    request: RefreshRequest, *, quick: bool = False, progress: ReportProgress
) -> RefreshPlan:
    """Look at source and destination and decide what a refresh will do; nothing is written.

    Args:
        request: What was asked for.
        quick: Leave out the indexes of the source's database, which the check of the copy reads
            again, and what the rules would touch, where the work follows at once.
        progress: Called as the work goes on.

    Raises:
        UsageError: The profile has no rules.
        SourceError: The source cannot be used.
        DestinationError: The destination cannot be used, overlaps the source, or has no room.
        BusyError: The database stayed locked, or the destination is in use.
    """
    require_rules(request.profile)
    if request.snapshot is not None:
        return _plan_from_snapshot(request, request.snapshot, quick=quick)
    if request.source is None:
        raise UsageError("neither an instance nor a snapshot is named")
    destination = survey_destination(request.destination, home=request.home)
    places = [destination.instance.database, destination.instance.attachments]
    left = find_left(places)
    if not request.wait_seconds:
        require_unused(places)
    wanted = request.source.instance
    unknown = refuse_unsettled((wanted.database, wanted.attachments), SourceError)
    source = survey_source(
        wanted,
        request.profile,
        quick=quick,
        count=request.attachments is Attachments.KEEP,
        lock_timeout_seconds=request.lock_timeout_seconds,
        progress=progress,
    )
    refuse_overlap(source.instance, destination.instance)
    rooms = _rooms(request, destination.instance, source.database.room, source.size.room)
    return RefreshPlan(
        request=request,
        source=source,
        database_entry=source.database.entry,
        destination=destination,
        left=tuple(left),
        rooms=rooms,
        review=None
        if quick
        else review_instance(
            source.instance, request.profile, lock_timeout_seconds=request.lock_timeout_seconds
        ),
        findings=(*unknown, *source.findings),
    )


def _plan_from_snapshot(request: RefreshRequest, snapshot: Snapshot, *, quick: bool) -> RefreshPlan:
    plan = plan_restore(
        RestoreRequest(
            snapshot=snapshot,
            destination=request.destination,
            profile=request.profile,
            home=request.home,
            wait_seconds=request.wait_seconds,
        )
    )
    database, tree = plan.summary.database, plan.summary.attachments
    files = tree.bytes + tree.entries * _LITTLE_FILE
    return RefreshPlan(
        request=request,
        summary=plan.summary,
        database_entry=Entry(
            path=b"",
            kind=Kind.FILE,
            mode=int(database.mode, 8),
            uid=database.uid,
            gid=database.gid,
        ),
        destination=plan.destination,
        left=plan.left,
        rooms=_rooms(request, plan.destination.instance, database.size, files),
        review=None if quick else review_snapshot(snapshot, request.profile),
        findings=plan.findings,
    )


def _rooms(
    request: RefreshRequest, destination: Instance, database: int, files: int
) -> tuple[Room, ...]:
    """Add up what there must be: the database twice, before and after, and the files once."""
    kept = request.attachments is Attachments.KEEP
    needs = (
        Need(path=destination.database, bytes=2 * database, inodes=_SPARE_INODES),
        Need(path=destination.attachments, bytes=files if kept else 0, inodes=_SPARE_INODES),
    )
    rooms = add_rooms(needs, spare_bytes=_SPARE_BYTES)
    for room in rooms:
        require_room(room)
    return rooms


def require_rules(profile: Profile) -> None:
    """Refuse a profile that does not say how to sanitise.

    Raises:
        UsageError: It has no rules.
    """
    if not profile.sanitising.rules:
        raise UsageError(
            f"the profile {display(profile.name)} has no rules for sanitising",
            hint="docs/staging.md tells how to write them; `inv clone` copies things as they are",
        )


def review_instance(instance: Instance, profile: Profile, *, lock_timeout_seconds: float) -> Review:
    """Count what the rules of a profile would touch in an instance; nothing is changed.

    Raises:
        SourceError: The database cannot be read.
        BusyError: It stayed locked.
    """
    with scratch_directory(os.path.realpath(instance.database)) as scratch:
        return read_steadily(
            instance.database,
            lambda database: review(database.connection, profile),
            scratch=scratch,
            timeout_seconds=lock_timeout_seconds,
        )


def review_snapshot(snapshot: Snapshot, profile: Profile) -> Review:
    """Do the same for a snapshot.

    Raises:
        SourceError: Its database cannot be read.
    """
    path = snapshot.instance.database
    try:
        connection = connect(path, "mode=ro&immutable=1", 0)
        try:
            return review(connection, profile)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise sqlite_failure(path, error) from error


def review(connection: sqlite3.Connection, profile: Profile) -> Review:
    """Count what the rules would touch in an open database.

    Raises:
        SourceError: It holds what cannot be sanitised.
        sqlite3.Error: It cannot be read.
    """
    tables = read_schema(connection)
    binding = bind(profile.sanitising.rules, tables)
    looks = look_through(connection, tables, binding)
    return Review(
        touched=tuple(count_touched(connection, binding)),
        absent=binding.absent,
        findings=tuple(suspects(connection, tables, binding, looks)),
    )


def parse_attachments(value: str) -> Attachments:
    """Read `--attachments`.

    Raises:
        UsageError: It is none of the words.
    """
    try:
        return Attachments(value or "placeholder")
    except ValueError as error:
        raise UsageError(
            f"--attachments must be {', '.join(Attachments)}, not {display(value)}"
        ) from error


def parse_address(value: str) -> str:
    """Read `--admin-email`.

    Raises:
        UsageError: It is no address.
    """
    address = value or f"admin@{DOMAIN}"
    found = [whole for *_, whole in find_addresses(address.encode("utf-8", "surrogateescape"))]
    if found != [address.encode("utf-8", "surrogateescape")]:
        raise UsageError(f"--admin-email is no e-mail address: {display(address)}")
    return address
