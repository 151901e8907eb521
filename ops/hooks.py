"""What the operator has run before and after the work: to stop and start a service, say."""

import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ops.commands import Command, by_line, failure_words, run_command
from ops.errors import HookError, InterruptedRunError, OpsError, UsageError, failure_for
from ops.interrupts import Stops, one_stop
from ops.model import Clock, Instance
from ops.names import display
from ops.settings import DEFAULTS, parse_seconds, read_command

VARIABLE = "CISO_OPS_"
"""How every variable begins that a hook is told something by."""

_LONGEST_LINE = 1000
_MOST_LINES = 200
_MOST_MESSAGE = 4000

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What to run before and after the work, each an argument list or empty."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    timeout_seconds: float = 300.0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What hooks are told of the work, and whom they tell.

    `known` are variables without their beginning. `tell` is called with lines to be shown, and
    must not fail.
    """

    known: Mapping[str, str]
    tell: Callable[[str], None]
    clock: Clock


def read_hooks(config: Mapping[str, Any], environment: Mapping[str, str]) -> Hooks:
    """Read the hooks of the configuration section `ops`.

    Raises:
        UsageError: One is no command, or there is no such program.
    """
    timeout = parse_seconds(
        config.get("hook_timeout", DEFAULTS["hook_timeout"]), "ops.hook_timeout"
    )
    if not timeout:
        raise UsageError("ops.hook_timeout must be more than 0 seconds")
    return Hooks(
        before=_read_hook(config, "hook_before", environment),
        after=_read_hook(config, "hook_after", environment),
        timeout_seconds=timeout,
        environment=environment,
    )


def _read_hook(
    config: Mapping[str, Any], key: str, environment: Mapping[str, str]
) -> tuple[str, ...]:
    arguments = read_command(config.get(key, DEFAULTS[key]), f"ops.{key}")
    if any("\0" in argument for argument in arguments):
        raise UsageError(f"ops.{key} holds a NUL character")
    if arguments and shutil.which(arguments[0], path=environment.get("PATH")) is None:
        raise UsageError(
            f"ops.{key} cannot be run: {display(arguments[0])} is not there, or no program",
            hint="name it by its full path, and see that it may be executed",
        )
    return arguments


def about_pair(task: str, instance: Instance) -> dict[str, str]:
    """Return what hooks are told of a pair that is put in place."""
    return {
        "TASK": task,
        "DATABASE": str(instance.database),
        "ATTACHMENTS": str(instance.attachments),
    }


def run_hooked(
    hooks: Hooks,
    work: Callable[[], Outcome],
    around: Surroundings,
    *,
    learned: Callable[[Outcome], Mapping[str, str]] = lambda _: {},
) -> tuple[Outcome, HookError | None]:
    """Do some work between its hooks.

    What is to run after the work runs whatever happened, once that before it was started: a
    failure, a signal. Signals that come meanwhile wait for it; a second one ends it.

    Args:
        hooks: What to run; without any, this is the work alone.
        work: The work.
        around: What the hooks are told.
        learned: More variables, known from what came of the work.

    Returns:
        What came of the work, and how the hook after it failed, if it did.

    Raises:
        HookError: The hook before the work failed, and the work was not begun.
        OpsError: As the work does; a failure of the hook after it is a note.
        InterruptedRunError: A signal came while the hook after the work ran; a note tells that
            the work was done.
    """
    if not (hooks.before or hooks.after):
        return work(), None
    done = False
    try:
        with one_stop() as stops:
            try:
                try:
                    _run_before(hooks, around)
                    outcome = work()
                finally:
                    stops.held = True
            except BaseException as error:  # also what a signal raises in the line above
                failure = failure_for(error)
                failed = _run_after(hooks, around, _told_of(failure), stops)
                if failed is not None:
                    error.add_note(failed.message)
                raise
            done = True
            failed = _run_after(hooks, around, {**_WELL, **learned(outcome)}, stops)
    except (InterruptedRunError, KeyboardInterrupt) as error:
        if done:
            error.add_note("the run itself had ended well: what it published stays")
            if failed is not None:
                error.add_note(failed.message)
        raise
    if failed is not None:
        failed.add_note("the run itself went well: what it published stays")
    return outcome, failed


_WELL = {"OUTCOME": "success", "EXIT_CODE": "0", "MESSAGE": ""}


def _told_of(failure: OpsError) -> dict[str, str]:
    """Return what the hook after the work is told of a run that failed."""
    interrupted = isinstance(failure, InterruptedRunError)
    return {
        "OUTCOME": "interrupted" if interrupted else "failure",
        "EXIT_CODE": str(failure.exit_code),
        "MESSAGE": _as_variable(failure.message[:_MOST_MESSAGE]),
    }


def _as_variable(text: str) -> str:
    """Return a text that is UTF-8 in a variable, whatever the locale takes."""
    return os.fsdecode(text.replace("\0", "\\0").encode("utf-8", "backslashreplace"))


def _run_before(hooks: Hooks, around: Surroundings) -> None:
    """Run the hook before the work.

    Raises:
        HookError: It failed.
    """
    said = _run(hooks, "before", around, {}, lambda: False)
    if said:
        raise HookError(
            f"ops.hook_before {said}", hint="nothing was written; see what the hook wrote"
        )


def _run_after(
    hooks: Hooks, around: Surroundings, more: Mapping[str, str], stops: Stops
) -> HookError | None:
    """Run the hook after the work, while signals are held; return how it failed, if it did."""
    earlier, told = len(stops.arrived), False

    def hurried() -> bool:
        nonlocal told
        further = len(stops.arrived) - earlier
        if further and not told:
            told = True
            around.tell("a signal came: the hook is waited for; another one ends it")
        return further > 1

    said = _run(hooks, "after", around, more, hurried)
    if not said:
        return None
    return HookError(
        f"ops.hook_after {said}",
        hint="what it was to do may not be done: see whether the application runs",
    )


def _run(
    hooks: Hooks,
    phase: str,
    around: Surroundings,
    more: Mapping[str, str],
    stop: Callable[[], bool],
) -> str:
    """Run a hook if there is one, and return how it failed; empty for one that did not."""
    arguments = hooks.before if phase == "before" else hooks.after
    if not arguments:
        return ""
    told = {**around.known, **more, "PHASE": phase}
    inherited = {
        name: value for name, value in hooks.environment.items() if not name.startswith(VARIABLE)
    }
    command = Command(
        arguments=arguments,
        environment={**inherited, **{f"{VARIABLE}{name}": value for name, value in told.items()}},
        timeout_seconds=hooks.timeout_seconds,
    )
    around.tell(f"hook {phase} …")
    shown = 0

    def show(line: bytes) -> None:
        nonlocal shown
        shown += 1
        if shown <= _MOST_LINES:
            around.tell(f"hook {phase} | {display(line.rstrip())}")
        elif shown == _MOST_LINES + 1:
            around.tell(f"hook {phase} | … (the rest is left out)")

    shown_as = display(shlex.join(arguments))
    try:
        code = run_command(
            command,
            take=by_line(show, longest=_LONGEST_LINE),
            clock=around.clock,
            stop=stop,
            leave=True,
        )
    except OSError as error:
        return f"cannot be run: {error.strerror or error}: {shown_as}"
    if code is None and stop():
        return f"was ended by a second signal: {shown_as}"
    said = failure_words(code, hooks.timeout_seconds)
    return said and f"{said}: {shown_as}"
