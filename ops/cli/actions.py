"""What GitHub Actions makes of a job's output: workflow commands, and the summary of a step.

Its runner takes a line for a command if it begins with `::`, white space aside, or has `##[`
anywhere (ActionCommand.cs). File names come from anybody, so neither may get there by chance.
"""

import os
import re
from pathlib import Path

from ops.errors import DestinationError, os_failure

_MOST_BYTES = 64 * 1024
"""Of what is added to a summary; GitHub takes a megabyte for all of a step."""


def harmless(line: str) -> str:
    """Return a line that is no command, with a backslash escape where it would have been one."""
    line = line.replace("##[", "#\\x23[")
    return re.sub(r"^(\s*):", r"\1\\x3a", line) if line.lstrip().startswith("::") else line


def annotation(level: str, title: str, message: str) -> str:
    """Return the command that shows a message on the page of the run.

    Args:
        level: error, warning or notice.
        title: Its heading.
        message: What it says; it may have several lines.
    """
    heading = _escape(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={heading}::{_escape(message)}"


def _escape(text: str) -> str:
    text = text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
    return text.replace("##[", "#\\x23[")


def append_summary(path: Path, title: str, text: str) -> None:
    """Add a report to the summary of a step.

    It stands in a fence that is longer than any in it, where Markdown and HTML mean nothing.

    Raises:
        DestinationError: It cannot be written.
    """
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    content = text.encode("utf-8", "backslashreplace")[:_MOST_BYTES].decode("utf-8", "ignore")
    block = f"### {title}\n\n{fence}text\n{content}\n{fence}\n\n"
    try:
        with path.open("ab") as file:
            file.write(block.encode())
    except OSError as error:
        raise os_failure(DestinationError, "write", path, error) from error


def summary_path(value: str) -> Path | None:
    """Return where the summary of a step goes; None where there is none, or its name is no path."""
    return Path(value) if os.path.isabs(value) and "\0" not in value else None  # noqa: PTH117 - it never raises
