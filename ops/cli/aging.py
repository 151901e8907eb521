"""The task that tells a monitor whether snapshots are still being made."""

from typing import TYPE_CHECKING, Any

from invoke.context import Context

from ops.cli.clock import CLOCK
from ops.cli.decorator import Result, task
from ops.cli.flags import JSON, STORE
from ops.errors import VerificationError
from ops.settings import read_settings, required_store

if TYPE_CHECKING:
    from ops.age import Age


@task(
    help={
        **STORE,
        "max": "How old the newest verified snapshot may be, such as 26h, 2d or 90min. Required.",
        **JSON,
    },
    watched=True,
)
def check_age(
    context: Context,
    *,
    store: str = "",
    max: str = "",  # noqa: A002 - the flag's name
    json: bool = False,
) -> Result:
    """Tell whether the newest verified snapshot of a store is young enough.

    Exit code 0 means that it is, 5 that it is too old or that there is none. Nothing is changed
    or locked, and the one line on standard output is what Nagios and its relatives read.
    """
    from rich.text import Text

    from ops.age import look_at_age, read_duration
    from ops.names import display
    from ops.store import require_store

    settings = read_settings(context.config.ops, store=store)
    most = read_duration(max, "--max")
    place = require_store(required_store(settings))
    found = look_at_age(place, most, CLOCK.now())
    failure = None
    if found.problem:
        failure = VerificationError(
            found.problem,
            hint="look why no newer one is made, or not verified: `inv snapshots` lists them all",
        )
    line = _words(found, max)
    style = "bold red" if failure else "bold green"
    return Result(
        document=_document(found, display(place)),
        lines=[Text.assemble((line.partition(":")[0], style), line[line.index(":") :])],
        failure=failure,
    )


def _words(found: "Age", most: str) -> str:
    """Say it on one line, as a plugin of a monitor does: the state, what it is, and the figures."""
    from ops.cli.format import count_of, format_duration

    said = found.problem
    figures = ""
    if found.snapshot is not None and found.age is not None:
        seconds = found.age.total_seconds()
        if not said:
            said = f"the newest verified snapshot is {found.snapshot.name}"
        said += f", {format_duration(seconds)} old (at most {most})"
        figures = f" | age={seconds:.0f}s;;{found.most.total_seconds():.0f};0"
    if found.unverified:
        which = "snapshot" if found.snapshot is None else "newer snapshot"
        said += f"; {count_of(found.unverified, which)} not verified"
    return f"{'CRITICAL' if found.problem else 'OK'}: {said}{figures}"


def _document(found: "Age", store: str) -> dict[str, Any]:
    from ops.report import SCHEMA_VERSION

    snapshot, age = found.snapshot, found.age
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "check-age",
        "ok": not found.problem,
        "problem": found.problem or None,
        "store": store,
        "snapshot": None if snapshot is None else snapshot.name,
        "captured": None if snapshot is None else snapshot.instant.isoformat(),
        "age_seconds": None if age is None else round(age.total_seconds()),
        "max_seconds": round(found.most.total_seconds()),
        "unverified": found.unverified,
    }
