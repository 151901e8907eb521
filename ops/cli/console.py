"""Standard output for results, standard error for everything else."""

import io
import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

from ops.errors import OpsError, UsageError

if TYPE_CHECKING:  # Rich takes longer to import than `inv --list` takes to print
    from collections.abc import Iterable

    from rich.console import Console
    from rich.text import Text


def output() -> "Console":
    """Return the console for results."""
    return _console(stderr=False)


def messages() -> "Console":
    """Return the console for progress, questions and errors."""
    return _console(stderr=True)


def tolerate_any_text() -> None:
    """Let nothing typed or shown end in a crash, whatever the terminal and the locale take."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _console(*, stderr: bool) -> "Console":
    from ops.cli.terminal import make_console

    return make_console(stderr=stderr)


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
    sys.stdout.write(json.dumps(document, ensure_ascii=True, indent=2) + "\n")
    sys.stdout.flush()


def print_failure(failure: OpsError, *, debug: bool = False) -> None:
    """Print a failure on standard error: one line, notes, a hint, a traceback when debugging."""
    from rich.text import Text

    console = messages()
    if debug:
        console.print("".join(traceback.format_exception(failure)).rstrip())
    console.print(Text.assemble(("error: ", "bold red"), failure.message))
    for note in getattr(failure, "__notes__", ()):
        console.print(Text.assemble(("note: ", "bold"), note))
    if failure.hint:
        console.print(Text.assemble(("hint: ", "bold"), failure.hint))


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
        UsageError: The answer is anything else.
    """
    messages().print(f"{question} [y/N] ", end="")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        messages().print()
    if answer.strip().lower() not in {"y", "yes"}:
        raise UsageError("not confirmed: nothing was written")


def silence_output() -> None:
    """Point standard output nowhere, after its reader has gone away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
