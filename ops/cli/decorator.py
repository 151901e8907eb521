"""Our `task`: what every task has in common."""

import functools
import logging
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import Task
from invoke.tasks import task as invoke_task

from ops.cli.console import (
    messages,
    output,
    print_document,
    print_failure,
    print_lines,
    silence_output,
    tolerate_any_text,
)
from ops.errors import (
    InterruptedRunError,
    OpsError,
    UsageError,
    VerificationError,
    failure_for,
)

if TYPE_CHECKING:
    from rich.text import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a task has to say: the same as a JSON document and as lines for people.

    `failure` is set when the task did its work and what it found is bad.
    """

    document: dict[str, Any]
    lines: "list[Text]" = field(default_factory=list)
    failure: OpsError | None = None


def task(*, help: dict[str, str]) -> Callable[[Callable[..., Result]], Task[Callable[..., Any]]]:  # noqa: A002 - Invoke's name
    """Make a task of a function that returns a `Result`.

    Failures become one line on standard error and the exit code of their class, signals
    included; with the task's flag `--json`, the failure is also the one document on standard
    output. Flags are long ones only, and a value that begins with a dash is refused, since it
    is a flag whose predecessor lacks its value.

    Args:
        help: A line for every flag.
    """

    def wrap(body: Callable[..., Result]) -> Task[Callable[..., Any]]:
        @functools.wraps(body)
        def run(context: Context, **flags: str | bool) -> None:
            name = body.__name__.replace("_", "-")
            tolerate_any_text()
            as_json = flags.get("json") is True
            failure: OpsError | None = None
            told = False
            try:
                with _signals():
                    _refuse_dashes(flags)
                    result = body(context, **flags)
                    told = True
                    _print_result(result, as_json=as_json)
                failure = result.failure
            except (OpsError, KeyboardInterrupt, OSError, sqlite3.Error, MemoryError) as error:
                if isinstance(error, BrokenPipeError):
                    silence_output()
                failure = failure_for(error)
            if failure is None:
                return
            if not told:
                _print_findings(failure, name, as_json=as_json)
            print_failure(failure, debug=_debugging())
            raise Exit(code=failure.exit_code)

        # Its own type says that it returns a function: it returns a Task (invoke/tasks.py).
        return cast(
            "Task[Callable[..., Any]]",
            invoke_task(run, help=help, auto_shortflags=False, positional=[]),
        )

    return wrap


def _refuse_dashes(flags: dict[str, str | bool]) -> None:
    for name, value in flags.items():
        if isinstance(value, str) and value.startswith("-"):
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{flag} lacks its value: {value} looks like a flag",
                hint=f"for a path that begins with a dash write {flag} ./{value}",
            )


@contextmanager
def _signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into a failure that cleans up, as Python does with SIGINT."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise InterruptedRunError(number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    # Who runs us under nohup wants SIGHUP ignored.
    before = {
        number: signal.signal(number, stop)
        for number in numbers
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_result(result: Result, *, as_json: bool) -> None:
    if as_json:
        print_document(result.document)
    else:
        console = output()
        print_lines(console, result.lines)
        console.file.flush()


def _print_findings(failure: OpsError, command: str, *, as_json: bool) -> None:
    from ops.report import failure_document, finding_document

    findings = failure.findings if isinstance(failure, VerificationError) else ()
    if as_json:
        document = failure_document(command, failure)
        document["findings"] = [finding_document(finding) for finding in findings]
        print_document(document)
    elif findings:
        from ops.cli.render import finding_lines

        print_lines(messages(), finding_lines(findings))


def _debugging() -> bool:
    # Invoke's --debug sets up logging and keeps the flag to itself.
    return logging.getLogger("invoke").getEffectiveLevel() <= logging.DEBUG
