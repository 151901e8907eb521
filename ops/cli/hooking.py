"""Hooks around a task's work: shown with the plan, run, and told in the result."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from rich.text import Text

from ops.cli.clock import CLOCK
from ops.cli.console import messages, say
from ops.cli.decorator import Result
from ops.cli.render import facts
from ops.errors import HookError
from ops.hooks import Hooks, Surroundings, run_hooked
from ops.names import display
from ops.report import error_document

Outcome = TypeVar("Outcome")


def hook_lines(hooks: Hooks) -> list[Text]:
    """Return the lines of a plan that tell what is run before and after; none without hooks."""
    limit = f"at most {hooks.timeout_seconds:g} seconds"
    named = (("hook before", hooks.before), ("hook after", hooks.after))
    return facts((name, f"{display(shlex.join(one))} ({limit})") for name, one in named if one)


def hooks_document(hooks: Hooks) -> dict[str, Any]:
    """Return the same for the document of a plan."""
    return {"hooks": {"before": list(hooks.before), "after": list(hooks.after)}}


def work_between(
    hooks: Hooks,
    work: Callable[[], Outcome],
    known: Mapping[str, str],
    *,
    learned: Callable[[Outcome], Mapping[str, str]] = lambda _: {},
    quiet: bool = False,
) -> tuple[Outcome, HookError | None]:
    """Do a task's work between its hooks, as `run_hooked` does.

    What the hooks write is shown on standard error; where that is to be quiet, only if something
    fails.
    """
    console, unsaid = messages(), list[str]()

    def tell(line: str) -> None:
        if quiet:
            unsaid.append(line)
        else:
            say(console, line)

    around = Surroundings(known=known, tell=tell, clock=CLOCK)
    try:
        outcome, failure = run_hooked(hooks, work, around, learned=learned)
    except BaseException:
        for line in unsaid:
            say(console, line)
        raise
    for line in unsaid if failure is not None else ():
        say(console, line)
    return outcome, failure


def with_failure(result: Result, failure: HookError | None) -> Result:
    """Return a result that tells, besides what it tells, that the hook after the work failed."""
    if failure is None:
        return result
    document = {**result.document, "ok": False, "error": error_document(failure)}
    return replace(result, document=document, failure=failure)
