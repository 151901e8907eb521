"""Our `task`: what every task has in common."""

import functools
import inspect
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
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
    tell_findings,
    tolerate_any_text,
)
from ops.cli.stopping import stopping_signals
from ops.cli.voice import Form, current_voice, speaking
from ops.cli.watching import WATCH, Watch, unwatched, watch_run
from ops.errors import OpsError, UsageError, VerificationError, failure_for

if TYPE_CHECKING:
    from rich.text import Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a task has to say: the same as a JSON document and as lines for people.

    `failure` is set when the task did its work and what it found is bad. Without `shown`, the
    lines are not printed: they are for those who watch the run alone.
    """

    document: dict[str, Any]
    lines: "list[Text]" = field(default_factory=list)
    shown: bool = True
    failure: OpsError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What came of a task: a result, a failure, or both if what it found is bad."""

    result: Result | None = None
    failure: OpsError | None = None


def task(
    *,
    help: dict[str, str],  # noqa: A002 - Invoke's name
    watched: bool = False,
) -> Callable[[Callable[..., Result]], Task[Callable[..., Any]]]:
    """Make a task of a function that returns a `Result`.

    Failures become one line on standard error and the exit code of their class, signals
    included; with the task's flag `--json`, the failure is also the one document on standard
    output. Flags are long ones only, and a value that begins with a dash is refused, since it
    is a flag whose predecessor lacks its value.

    Args:
        help: A line for every flag.
        watched: A schedule may run it, so it gets the flags that name who is told of the run.
    """

    def wrap(body: Callable[..., Result]) -> Task[Callable[..., Any]]:
        name = body.__name__.replace("_", "-")

        @functools.wraps(body)
        def run(context: Context, **flags: str | bool) -> None:
            _run(body, context, name, flags, watched=watched)

        if watched:
            _add_flags(run, body)
        # Its own type says that it returns a function: it returns a Task (invoke/tasks.py).
        return cast(
            "Task[Callable[..., Any]]",
            invoke_task(
                run,
                help={**help, **WATCH} if watched else help,
                auto_shortflags=False,
                positional=[],
            ),
        )

    return wrap


def _run(
    body: Callable[..., Result],
    context: Context,
    name: str,
    flags: dict[str, str | bool],
    *,
    watched: bool,
) -> None:
    """Run a task, tell what came of it, and tell those who watch.

    Raises:
        Exit: It failed.
    """
    tolerate_any_text()
    if watched:
        watch = watch_run(name, context.config.ops, flags, dry=context.config.run.dry)
    else:
        watch = unwatched(name)
    with speaking(watch.voice), stopping_signals() as state:
        try:
            mine = {flag: flags[flag] for flag in flags if not (watched and flag in WATCH)}
            outcome = _carry_out(functools.partial(body, context, **mine), watch, flags)
        except BaseException as error:
            state.over = True
            if watched:
                watch.finish({}, (), failure_for(error), given_up=lambda: state.hurried)
            raise
        state.over = True
        failure = outcome.failure
        if failure is not None:
            if outcome.result is None:
                _print_findings(failure, name, as_json=flags.get("json") is True)
            print_failure(failure, debug=_debugging())
        if watched:
            document, lines = _told(outcome)
            watch.finish(document, lines, failure, given_up=lambda: state.hurried)
    if failure is not None:
        raise Exit(code=failure.exit_code)


def _add_flags(run: Callable[..., None], body: Callable[..., Result]) -> None:
    """Add the flags of a watched task to those that Invoke sees; before `--json`, the last."""
    signature = inspect.signature(body)
    *parameters, last = signature.parameters.values()
    parameters += [
        inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default="", annotation=str)
        for flag in WATCH
    ]
    run.__signature__ = signature.replace(parameters=[*parameters, last])  # type: ignore[attr-defined] # what inspect looks for


def _carry_out(body: Callable[[], Result], watch: Watch, flags: dict[str, str | bool]) -> _Outcome:
    """Run a task and print its result."""
    result: Result | None = None
    try:
        _refuse_dashes(flags)
        watch.begin()
        result = body()
        _print_result(result, as_json=flags.get("json") is True)
        failure = result.failure
    except (OpsError, KeyboardInterrupt, OSError, sqlite3.Error, MemoryError) as error:
        if isinstance(error, BrokenPipeError):
            silence_output()
        failure = failure_for(error)
    return _Outcome(result=result, failure=failure)


def _told(outcome: _Outcome) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what those who watch are told: the document, and the lines of the report."""
    if outcome.result is not None:
        return outcome.result.document, tuple(line.plain for line in outcome.result.lines)
    if not isinstance(outcome.failure, VerificationError):
        return {}, ()
    from ops.cli.render import finding_lines
    from ops.report import finding_document

    findings = outcome.failure.findings
    document = {"findings": [finding_document(finding) for finding in findings]}
    return document, tuple(line.plain for line in finding_lines(findings))


def _refuse_dashes(flags: dict[str, str | bool]) -> None:
    for name, value in flags.items():
        if isinstance(value, str) and value.startswith("-"):
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{flag} lacks its value: {value} looks like a flag",
                hint=f"for a path that begins with a dash write {flag} ./{value}",
            )


def _print_result(result: Result, *, as_json: bool) -> None:
    if as_json:
        print_document(result.document)
    elif result.shown:
        console = output()
        print_lines(console, result.lines)
        console.file.flush()
    tell_findings(line.plain for line in result.lines)


def _print_findings(failure: OpsError, command: str, *, as_json: bool) -> None:
    from ops.report import failure_document, finding_document

    findings = failure.findings if isinstance(failure, VerificationError) else ()
    if as_json:
        document = failure_document(command, failure)
        document["findings"] = [finding_document(finding) for finding in findings]
        print_document(document)
    if findings:
        from ops.cli.render import finding_lines

        lines = finding_lines(findings)
        if not as_json and current_voice().messages is not Form.JSON:
            print_lines(messages(), lines)
        tell_findings(line.plain for line in lines)


def _debugging() -> bool:
    # Invoke's --debug sets up logging and keeps the flag to itself.
    return logging.getLogger("invoke").getEffectiveLevel() <= logging.DEBUG
