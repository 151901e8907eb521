"""Prove that a snapshot can be restored: in private, checked, and used by the application."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from ops.commands import Command, failure_words, run_command
from ops.errors import InterruptedRunError, OpsError, VerificationError
from ops.model import Clock, Finding, Instance, Progress, ReportProgress
from ops.profile import Profile
from ops.report import CheckCounts
from ops.restore import rooms_for
from ops.room import require_room
from ops.scratch import scratch_directory
from ops.snapshot import Summary
from ops.store import Snapshot
from ops.storing import used_snapshot
from ops.unpacking import unpack_snapshot

_MOST_OUTPUT = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRequest:
    """Which snapshot to restore, and what to run on it.

    `command` is an argument list, empty for none; it finds the pair in the profile's variables,
    beside those of `environment`, and has `timeout_seconds`.
    """

    snapshot: Snapshot
    profile: Profile
    command: tuple[str, ...] = ()
    timeout_seconds: float = 600.0
    environment: Mapping[str, str]
    jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRun:
    """How a command went: `code` is None for one that took too long and was ended.

    `output` is the end of what it wrote to both streams.
    """

    arguments: tuple[str, ...]
    code: int | None
    seconds: float
    output: str

    @property
    def failed(self) -> bool:
        """Whether it did not end with 0."""
        return self.code != 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """What came of a drill.

    `restore_seconds` is how long the recovery took, its checks included. `failure` is why it did
    not pass; empty for one that did.
    """

    snapshot: Snapshot
    began: datetime
    restore_seconds: float = 0.0
    counts: CheckCounts = field(default_factory=CheckCounts)
    findings: tuple[Finding, ...] = ()
    command: CommandRun | None = None
    failure: str

    @property
    def passed(self) -> bool:
        """Whether the snapshot was restored, and served."""
        return not self.failure


def drill(request: DrillRequest, *, clock: Clock, progress: ReportProgress) -> Drill:
    """Restore a snapshot to a private place, verify it, run the command on it, and remove it.

    A snapshot that cannot be restored, and a command that fails, are the outcome of a drill.

    Raises:
        DestinationError: There is no room for the pair where temporary files go.
        BusyError: The snapshot is just being removed.
        InterruptedRunError: A signal came.
    """
    began = clock.now()
    snapshot = request.snapshot
    if snapshot.summary is None or snapshot.problem:
        return Drill(
            snapshot=snapshot,
            began=began,
            failure=f"the snapshot cannot be read: {snapshot.problem}",
        )
    with used_snapshot(snapshot), scratch_directory(f"drill {snapshot.path}") as scratch:
        pair = _prepare(scratch, snapshot.summary)
        done = _restore(request, snapshot.summary, pair, clock, progress)
        done = replace(done, began=began)
        if done.failure or not request.command:
            return done
        progress(Progress(step="run the command"))
        ran = _run(request, pair, clock)
    said = failure_words(ran.code, request.timeout_seconds)
    return replace(done, command=ran, failure=said and f"the command {said}")


def _restore(
    request: DrillRequest,
    summary: Summary,
    pair: Instance,
    clock: Clock,
    progress: ReportProgress,
) -> Drill:
    """Make and check the pair; a failure to do so is what the drill tells."""
    began, started = clock.now(), clock.seconds()
    counts, findings, failure = CheckCounts(), tuple[Finding, ...](), ""
    try:
        counts, findings = unpack_snapshot(
            request.snapshot,
            summary,
            pair,
            request.profile,
            spill=pair.database.parent,
            keep=(),
            jobs=request.jobs,
            sync=lambda: None,
            progress=progress,
        )
    except InterruptedRunError:
        raise
    except OpsError as error:
        failure = error.message
        findings = error.findings if isinstance(error, VerificationError) else ()
    return Drill(
        snapshot=request.snapshot,
        began=began,
        restore_seconds=clock.seconds() - started,
        counts=counts,
        findings=findings,
        failure=failure,
    )


def _prepare(scratch: Path, summary: Summary) -> Instance:
    pair = Instance(database=scratch / "db.sqlite3", attachments=scratch / "attachments")
    for room in rooms_for(summary, pair):
        require_room(room)
    pair.attachments.mkdir(mode=0o700)
    return pair


def _run(request: DrillRequest, pair: Instance, clock: Clock) -> CommandRun:
    """Run the command on the pair."""
    variables = request.profile.environment(pair)
    command = Command(
        arguments=request.command,
        environment={
            **request.environment,
            **{key: str(path) for key, path in variables.items()},
        },
        timeout_seconds=request.timeout_seconds,
    )
    pieces: deque[bytes] = deque()
    kept = 0

    def take(piece: bytes) -> None:
        nonlocal kept
        pieces.append(piece)
        kept += len(piece)
        while kept - len(pieces[0]) >= _MOST_OUTPUT:
            kept -= len(pieces.popleft())

    started = clock.seconds()
    try:
        code = run_command(command, take=take, clock=clock)
    except OSError as error:
        said = f"{request.command[0]}: {error.strerror}"
        return CommandRun(arguments=request.command, code=127, seconds=0.0, output=said)
    output = b"".join(pieces)[-_MOST_OUTPUT:].decode("utf-8", "backslashreplace")
    seconds = clock.seconds() - started
    return CommandRun(arguments=request.command, code=code, seconds=seconds, output=output)


def restorable(snapshots: Sequence[Snapshot]) -> tuple[Summary, ...]:
    """Return the summaries of the snapshots of a store that can be read, the oldest first."""
    return tuple(one.summary for one in snapshots if one.summary is not None and not one.problem)
