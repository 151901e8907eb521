"""Standard output for results, standard error for everything else."""

import contextlib
import io
import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any, TextIO, cast

from ops.cli.actions import annotation
from ops.cli.voice import Form, Level, LineStream, current_voice, level_of, log_line, shape_of
from ops.errors import OpsError, UsageError

if TYPE_CHECKING:  # Rich takes longer to import than `inv --list` takes to print
    from collections.abc import Iterable

    from rich.console import Console
    from rich.text import Text


_MOST_ANNOTATIONS = 10
"""Of a kind; GitHub shows no more of a step."""


class RefusedError(UsageError):
    """Somebody was asked, and said no."""


def output() -> "Console":
    """Return the console for results."""
    return _console(stderr=False)


def messages(level: Level | None = None) -> "Console":
    """Return the console for progress, questions and errors.

    Args:
        level: How much its lines weigh, where somebody sorts them; None to tell by each.
    """
    return _console(stderr=True, level=level)


def tolerate_any_text() -> None:
    """Let nothing typed or shown end in a crash, whatever the terminal and the locale take."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _console(*, stderr: bool, level: Level | None = None) -> "Console":
    from ops.cli.terminal import make_console

    voice = current_voice()
    shape = shape_of(voice.messages if stderr else voice.output, level)
    if shape is None:
        return make_console(stderr=stderr)
    stream = LineStream(sys.stderr if stderr else sys.stdout, shape)
    return make_console(stderr=stderr, file=cast("TextIO", stream))


def print_lines(console: "Console", lines: "Iterable[Text]") -> None:
    """Print lines of text."""
    for line in lines:
        console.print(line)


def say(console: "Console", line: str) -> None:
    """Print a line that nobody has to read."""
    try:
        console.print(line)
    except BrokenPipeError:
        console.quiet = True  # whoever listened has gone: that is no reason to stop


def print_document(document: dict[str, Any]) -> None:
    """Print one JSON document on standard output."""
    text = json.dumps(document, ensure_ascii=True, indent=2) + "\n"
    if current_voice().output is Form.ACTIONS:
        text = text.replace("##[", "#\\u0023[")
    sys.stdout.write(text)
    sys.stdout.flush()


def log_event(level: Level, event: str, message: str, **details: Any) -> None:
    """Write a line of the log on standard error, where one is written as JSON.

    That nobody reads it any more is no reason to stop.
    """
    voice = current_voice()
    if voice.messages is Form.JSON and not (voice.hushed and level is Level.INFO):
        with contextlib.suppress(OSError):
            sys.stderr.write(log_line(level, event, message, **details) + "\n")
            sys.stderr.flush()


def print_warning(message: str) -> None:
    """Print on standard error what somebody should look at, although the run goes on."""
    from rich.text import Text

    if current_voice().messages is Form.JSON:
        log_event(Level.WARNING, "warning", message)
        return
    with contextlib.suppress(OSError):  # that nobody reads it changes nothing
        messages(Level.WARNING).print(Text.assemble(("warning: ", "yellow"), message))
        _annotate("warning", current_voice().task, message)


def print_failure(failure: OpsError, *, debug: bool = False) -> None:
    """Print a failure on standard error: one line, notes, a hint, a traceback when debugging."""
    from rich.text import Text

    notes = tuple(getattr(failure, "__notes__", ()))
    trace = "".join(traceback.format_exception(failure)).rstrip() if debug else ""
    voice = current_voice()
    if voice.messages is Form.JSON:
        details = {"hint": failure.hint, "notes": notes, "exit_code": failure.exit_code}
        details |= {"traceback": trace} if debug else {}
        log_event(Level.ERROR, "failure", failure.message, **details)
        return
    console = messages(Level.ERROR)
    if debug:
        console.print(trace)
    lines = [("error", "bold red", failure.message)]
    lines += [("note", "bold", note) for note in notes]
    lines += [("hint", "bold", failure.hint)] * bool(failure.hint)
    for label, style, text in lines:
        console.print(Text.assemble((f"{label}: ", style), text))
    said = [failure.message, *(f"{label}: {text}" for label, _, text in lines[1:])]
    _annotate("error", voice.task, "\n".join(said))


def tell_findings(lines: "Iterable[str]") -> None:
    """Put the errors and warnings of a report into the log, or on the page of a CI job."""
    left = {Level.ERROR: _MOST_ANNOTATIONS, Level.WARNING: _MOST_ANNOTATIONS}
    for line in lines:
        level = level_of(line)
        if level is Level.INFO:
            continue
        log_event(level, "finding", line)
        left[level] -= 1
        if left[level] >= 0:
            _annotate(level.name.lower(), current_voice().task, line)


def _annotate(level: str, title: str, message: str) -> None:
    if current_voice().messages is Form.ACTIONS:
        sys.stderr.write(annotation(level, f"ciso-ops {title}".rstrip(), message) + "\n")
        sys.stderr.flush()


def require_terminal() -> None:
    """Stop when nobody is there to answer a question.

    Raises:
        UsageError: Standard input is no terminal.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError(
            "nobody can answer the question: standard input is not a terminal",
            hint="add --force to go ahead without asking, or --dry-run to see the plan",
        )


def confirm(question: str) -> None:
    """Ask a question on the terminal; only y or yes goes ahead.

    Raises:
        RefusedError: The answer is anything else.
    """
    held = current_voice().messages in {Form.JSON, Form.JOURNAL, Form.ACTIONS}
    messages().print(f"{question} [y/N] ", end="\n" if held else "")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        messages().print()
    if answer.strip().lower() not in {"y", "yes"}:
        raise RefusedError("not confirmed: nothing was written")


def silence_output() -> None:
    """Point standard output nowhere, after its reader has gone away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
