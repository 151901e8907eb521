"""Rich's console, as we use it."""

from typing import TextIO

from rich.console import Console


class _Console(Console):
    """Rich's console, which leaves it to us what a reader that goes away means."""

    def on_broken_pipe(self) -> None:
        """Raise what is being handled: Rich would end the process without a word."""
        raise  # noqa: PLE0704 - Rich calls this from its handler


def make_console(*, stderr: bool, file: TextIO | None = None) -> Console:
    """Return a console for standard output or standard error.

    Names of files are not markup, and a line is never wrapped for a pipe.

    Args:
        stderr: Which of the two.
        file: What to write to instead, for a program that reads it line by line.
    """
    return _Console(
        stderr=stderr,
        file=file,
        force_terminal=None if file is None else False,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=True,
    )
