"""How what a run says is written down: for people, for the journal, for a CI job, as JSON lines."""

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any, TextIO

from ops.cli.actions import harmless


class Level(Enum):
    """How much a line weighs; the value is its priority in the journal (sd-daemon(3))."""

    ERROR = 3
    WARNING = 4
    INFO = 6


class Form(StrEnum):
    """What the lines of a stream look like."""

    TEXT = "text"
    JSON = "json"
    JOURNAL = "journal"
    ACTIONS = "actions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Voice:
    """The form of each of the two streams, and the task that speaks.

    With `hushed`, what is only good to know is left out of JSON lines.
    """

    task: str = ""
    output: Form = Form.TEXT
    messages: Form = Form.TEXT
    hushed: bool = False


_PLAIN = Voice()
_VOICE: ContextVar[Voice] = ContextVar("voice")


def current_voice() -> Voice:
    """Return the voice in force."""
    return _VOICE.get(_PLAIN)


@contextmanager
def speaking(voice: Voice) -> Iterator[None]:
    """Speak in a voice for the length of a block."""
    token = _VOICE.set(voice)
    try:
        yield
    finally:
        _VOICE.reset(token)


def form_of(stream: TextIO | None, environment: Mapping[str, str]) -> Form:
    """Tell what reads a stream: a job of GitHub Actions, the journal, or somebody else."""
    if environment.get("GITHUB_ACTIONS") == "true":
        return Form.ACTIONS
    if _is_journal(stream, environment.get("JOURNAL_STREAM", "")):
        return Form.JOURNAL
    return Form.TEXT


def _is_journal(stream: TextIO | None, connected: str) -> bool:
    """Tell whether a stream is what systemd connected to the journal (systemd.exec(5)).

    The variable is inherited by all that a unit starts, so it alone says nothing of a stream.
    """
    if stream is None or not connected:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return connected == f"{status.st_dev}:{status.st_ino}"


class LineStream(io.TextIOBase):
    """A text stream that hands each whole line on in another shape; it holds the rest back."""

    def __init__(self, stream: TextIO, shape: Callable[[str], str]) -> None:
        super().__init__()
        self._stream = stream
        self._shape = shape
        self._rest = ""

    @property
    def encoding(self) -> str:  # type: ignore[override] # a plain attribute there
        """The encoding of the stream behind it."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        """Take text, and write the lines that it completes."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._stream.write(self._shape(line) + "\n")
        return len(text)

    def flush(self) -> None:
        """Flush the stream behind it."""
        self._stream.flush()


def shape_of(form: Form, level: Level | None = None) -> Callable[[str], str] | None:
    """Return what a form makes of a line of text; None where that is the line itself.

    Args:
        form: The form of the stream.
        level: How much its lines weigh; None to tell by how each begins.
    """
    if form is Form.JOURNAL:
        return lambda line: f"<{(level or level_of(line)).value}>{line}"
    if form is Form.ACTIONS:
        return harmless
    if form is Form.JSON:
        return lambda line: log_line(level or level_of(line), "message", line)
    return None


def level_of(line: str) -> Level:
    """Tell how much a line of ours weighs; what it quotes never stands at its beginning."""
    if line.startswith("error"):
        return Level.ERROR
    return Level.WARNING if line.startswith("warning") else Level.INFO


def log_line(level: Level, event: str, message: str, **details: Any) -> str:
    """Return a JSON object on one line: when, how grave, which task, what, and more of it."""
    values = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": level.name.lower(),
        "task": current_voice().task,
        "event": event,
        "message": message,
        **details,
    }
    return json.dumps(values).replace("##[", "#\\u0023[")
