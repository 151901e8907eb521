"""Prove that a snapshot can be restored: in private, checked, and used by the application."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

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
_END_SECONDS = 5.0


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
        ran = _run(request, pair, scratch, clock)
    return replace(done, command=ran, failure=_failure_of(ran, request.timeout_seconds))


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


def _run(request: DrillRequest, pair: Instance, scratch: Path, clock: Clock) -> CommandRun:
    """Run the command in a session of its own, so that all of it can be ended."""
    variables = request.profile.environment(pair)
    environment = {**request.environment, **{key: str(path) for key, path in variables.items()}}
    started = clock.seconds()
    with tempfile.TemporaryFile(dir=scratch) as output:
        try:
            process = subprocess.Popen(
                request.command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            said = f"{request.command[0]}: {error.strerror}"
            return CommandRun(arguments=request.command, code=127, seconds=0.0, output=said)
        code: int | None = None
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(request.timeout_seconds)
        finally:
            _end(process)
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _MOST_OUTPUT))
        said = output.read().decode("utf-8", "backslashreplace")
    return CommandRun(
        arguments=request.command, code=code, seconds=clock.seconds() - started, output=said
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a command: itself, and what it started in its session."""
    _signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END_SECONDS)
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return  # nobody is left


def _failure_of(ran: CommandRun, timeout_seconds: float) -> str:
    if ran.code is None:
        return f"the command did not end within {timeout_seconds:g} seconds"
    if ran.code < 0:
        return f"the command was ended by {signal.Signals(-ran.code).name}"
    return f"the command failed with exit code {ran.code}" if ran.code else ""


def restorable(snapshots: Sequence[Snapshot]) -> tuple[Summary, ...]:
    """Return the summaries of the snapshots of a store that can be read, the oldest first."""
    return tuple(one.summary for one in snapshots if one.summary is not None and not one.problem)
