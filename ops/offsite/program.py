"""Run restic: find it, give it what it needs, follow what it says, and end it with us."""

import json
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.commands import Take, by_line, end, follow, start
from ops.errors import OpsError, UsageError
from ops.interrupts import held_signals
from ops.names import display

OLDEST = (0, 14)
"""The oldest version that this is tested with."""

_INSTALL = "apt-get install restic, or see https://restic.net; 0.14 or newer"
_REPOSITORIES = ("RESTIC_REPOSITORY", "RESTIC_REPOSITORY_FILE")
_PASSWORDS = ("RESTIC_PASSWORD", "RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND")
_CREDENTIALS = re.compile(r"(?<=://)[^\s\"'<>]*@")
_ANSWER_SECONDS = 10.0
_MOST_LINES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Restic:
    """The program, and what it finds its repository by; `failure` is what a bad one means.

    `location` is the repository as it may be shown.
    """

    program: str
    version: tuple[int, ...]
    environment: Mapping[str, str]
    location: str
    failure: type[OpsError]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How it ended: its exit code, negative for a signal, and the last lines that it complained."""

    code: int
    complaints: tuple[str, ...]


def redacted(text: str) -> str:
    """Return a text without the credentials that a URL in it may hold."""
    return display(_CREDENTIALS.sub("***@", text))


def find_restic(environment: Mapping[str, str], failure: type[OpsError]) -> Restic:
    """Find restic, and see that it is told its repository and password.

    Args:
        environment: Where restic's own variables are.
        failure: The class of failure for a repository that cannot be used.

    Raises:
        UsageError: It is missing or too old, or a variable is missing.
    """
    program = shutil.which("restic", path=environment.get("PATH"))
    if program is None:
        raise UsageError("restic is not installed, or not on the PATH", hint=_INSTALL)
    location = environment.get("RESTIC_REPOSITORY", "")
    named = environment.get("RESTIC_REPOSITORY_FILE", "")
    if not (location or named):
        raise UsageError(
            "nothing says where the off-site repository is",
            hint="set RESTIC_REPOSITORY, or RESTIC_REPOSITORY_FILE; docs/offsite.md has examples",
        )
    if not any(environment.get(name) for name in _PASSWORDS):
        raise UsageError(
            "nothing says what the password of the off-site repository is",
            hint="set RESTIC_PASSWORD_FILE, RESTIC_PASSWORD_COMMAND or RESTIC_PASSWORD",
        )
    # Times are handed over as UTC; a line every half second is enough.
    own = {**environment, "TZ": "UTC"}
    own.setdefault("RESTIC_PROGRESS_FPS", "2")
    return Restic(
        program=program,
        version=_version_of(program, own),
        environment=own,
        location=redacted(location) if location else f"named in {display(named)}",
        failure=failure,
    )


def _version_of(program: str, environment: Mapping[str, str]) -> tuple[int, ...]:
    try:
        said = subprocess.run(
            [program, "version"],
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env=environment,
            timeout=_ANSWER_SECONDS,
        ).stdout.decode("utf-8", "replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"cannot run {display(program)}: {error}", hint=_INSTALL) from error
    found = re.match(r"restic (\d+)\.(\d+)(?:\.(\d+))?", said)
    if found is None:
        raise UsageError(f"this is not restic: {display(program)}", hint=_INSTALL)
    version = tuple(int(part) for part in found.groups(default="0"))
    if version < OLDEST:
        shown = ".".join(map(str, version))
        raise UsageError(f"restic {shown} is too old: {display(program)}", hint=_INSTALL)
    return version


def run_restic(
    restic: Restic,
    arguments: Sequence[str],
    *,
    take: Take,
    retrying: Callable[[], None] = lambda: None,
    directory: Path | None = None,
    keep: tuple[int, ...] = (),
    end_seconds: float = 10.0,
) -> Ended:
    """Run restic to its end; when a signal or an error stops us, it is ended first.

    It has a session of its own: a key on the terminal stops us, and we stop it, so that it removes
    its lock. Nobody answers its questions.

    Args:
        restic: The program.
        arguments: What to do.
        take: Called with each line of its standard output.
        retrying: Called when it says that it tries something again.
        directory: Where to run it.
        keep: Descriptors that it inherits: a lock ends only with the last who works.
        end_seconds: How long it may take to end when it is told to.

    Raises:
        UsageError: It cannot be started.
    """
    complaints: deque[str] = deque(maxlen=_MOST_LINES)

    def complain(line: bytes) -> None:
        said = line.decode("utf-8", "replace").strip()
        if "retrying after" in said:
            retrying()
        elif said:
            complaints.append(said)

    process: subprocess.Popen[bytes] | None = None
    try:
        with held_signals():  # nothing may be started and not be known to be
            process = _start(restic, arguments, directory, keep)
        assert process.stdout is not None  # noqa: S101 - both are pipes
        assert process.stderr is not None  # noqa: S101 - the same
        follow(process, {process.stdout: by_line(take), process.stderr: by_line(complain)})
        return Ended(code=process.wait(), complaints=tuple(complaints))
    finally:
        if process is not None:  # restic removes its lock on SIGINT, and on no other signal
            end(process, first=signal.SIGINT, seconds=end_seconds)


def _start(
    restic: Restic, arguments: Sequence[str], directory: Path | None, keep: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    try:
        return start(
            [restic.program, *arguments],
            environment=restic.environment,
            directory=directory,
            keep=keep,
        )
    except OSError as error:
        cause = error.strerror or str(error)
        raise UsageError(f"cannot run {display(restic.program)}: {cause}", hint=_INSTALL) from error


def read_json(content: bytes) -> Any:
    """Read a document or a message of restic's; None for what is none."""
    try:
        return json.loads(content)
    except ValueError:
        return None
