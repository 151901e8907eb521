"""Who is told of a run: a monitor's URL, a file of metrics, a log, the summary of a CI job."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ops.cli.actions import append_summary, summary_path
from ops.cli.clock import CLOCK
from ops.cli.console import RefusedError, log_event, print_warning
from ops.cli.voice import Form, Level, Voice, form_of
from ops.errors import OpsError, UsageError
from ops.names import display
from ops.settings import absolute_path, configured_text, read_environment

if TYPE_CHECKING:  # most runs are watched by nobody, and HTTP takes long to import
    from ops.watch.ping import PingAddress, Signal
    from ops.watch.run import Ending

WATCH = {
    "ping": "Tell the monitor at this URL, in which {task} is the task's name, of start, success"
    " and failure. Default: ops.ping.",
    "metrics": "Write the figures of the run to this file (.prom), for Prometheus. Default:"
    " ops.metrics.",
    "log": "How standard error is written: text, or json, an object on each line. Default:"
    " ops.log_format.",
}

_TASK = "{task}"
"""What stands for the task's name in an address, so that each has a check of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who watches a run. `problem` is why somebody who was named cannot.

    `asks` tells that somebody is asked before anything is done: how long that person takes to
    answer is nobody's business, so the start is not told.
    """

    task: str
    voice: Voice
    began: float = 0.0
    dry_run: bool = False
    asks: bool = False
    address: "PingAddress | None" = None
    metrics: Path | None = None
    place: str = ""
    summary: Path | None = None
    problem: UsageError | None = None

    def begin(self) -> None:
        """Tell that the run begins.

        Raises:
            UsageError: Somebody who was to watch it cannot.
        """
        if self.problem is not None:
            raise self.problem
        log_event(Level.INFO, "start", f"{self.task} begins")
        if self.address is not None and not self.dry_run and not self.asks:
            from ops.watch.ping import Patience, Signal

            self._ping(Signal.START, "", Patience(attempts=1, seconds=10))

    def finish(
        self,
        document: Mapping[str, Any],
        lines: tuple[str, ...],
        failure: OpsError | None,
        *,
        given_up: Callable[[], bool],
    ) -> None:
        """Tell how the run ended. Whatever goes wrong with that is a warning, and no more.

        Args:
            document: What it reports; empty for one that got nowhere.
            lines: The same as the operator sees it.
            failure: Why it failed, if it did.
            given_up: Asked now and then whether to wait no longer for a monitor.
        """
        from ops.watch.run import Ending, figures_of

        ending = Ending(
            task=self.task,
            instant=CLOCK.now(),
            seconds=CLOCK.seconds() - self.began,
            failure=failure,
            figures=figures_of(document),
            lines=lines,
        )
        _log_end(ending)
        if self.summary is not None:
            try:
                append_summary(self.summary, ending.title, ending.text)
            except OpsError as error:
                print_warning(f"the summary is not written: {error.message}")
        if self.dry_run or isinstance(failure, RefusedError):
            return
        if self.metrics is not None:
            self._record(self.metrics, ending)
        if self.address is not None:
            from ops.watch.ping import Patience, Signal

            signal = Signal.SUCCESS if failure is None else Signal.FAIL
            self._ping(signal, f"{ending.title}\n{ending.text}", Patience(), given_up)

    def _record(self, path: Path, ending: "Ending") -> None:
        from ops.watch.metrics import record_run

        try:
            lost = record_run(path, ending, self.place, seconds=CLOCK.seconds)
        except OpsError as error:
            print_warning(f"the metrics are not written: {error.message}")
            return
        if lost:
            print_warning(f"the metrics in {display(path)} were damaged and begin anew: {lost}")

    def _ping(
        self,
        signal: "Signal",
        text: str,
        patience: Any,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        from ops.watch.ping import send_ping

        assert self.address is not None  # noqa: S101 - both callers looked
        problem = send_ping(
            self.address,
            signal,
            text,
            patience=patience,
            seconds=CLOCK.seconds,
            given_up=given_up,
        )
        if problem:
            print_warning(f"the ping to {self.address.shown} did not arrive: {problem}")


def unwatched(task: str) -> Watch:
    """Return the watch of a task of which nobody is told but whoever reads its streams."""
    return Watch(task=task, voice=_voice_of(task, read_environment()))


def watch_run(
    task: str, config: Mapping[str, Any], flags: Mapping[str, str | bool], *, dry: bool
) -> Watch:
    """Read who is to watch a run of a task; nothing is raised yet.

    Args:
        task: Its name.
        config: The section `ops` of the configuration.
        flags: All that it was given.
        dry: Whether Invoke's own `--dry` was.
    """
    environment = read_environment()
    problems: list[UsageError] = []

    def read(flag: str, key: str, reader: Callable[[str, str], Any]) -> Any:
        try:
            given = str(flags.get(flag) or "")
            value = given or configured_text(config, key)
            return reader(value, f"--{flag}" if given else f"ops.{key}") if value else None
        except UsageError as error:
            problems.append(error)
            return None

    def address(value: str, origin: str) -> "PingAddress":
        from ops.watch.ping import read_address

        return read_address(value.replace(_TASK, task), origin, environment)

    def metrics(value: str, origin: str) -> Path:
        from ops.watch.metrics import read_place

        return read_place(value, origin)

    form = read("log", "log_format", _read_form)
    voice = _voice_of(task, environment)
    if form is Form.JSON:
        voice = Voice(
            task=task,
            output=voice.output,
            messages=Form.JSON,
            hushed=flags.get("quiet") is True,
        )
    return Watch(
        task=task,
        voice=voice,
        began=CLOCK.seconds(),
        dry_run=flags.get("dry_run") is True or bool(dry),
        asks=flags.get("force") is False,
        address=read("ping", "ping", address),
        metrics=read("metrics", "metrics", metrics),
        place=_place(config, flags),
        summary=_summary(environment),
        problem=problems[0] if problems else None,
    )


def _voice_of(task: str, environment: Mapping[str, str]) -> Voice:
    """Return how a task speaks to whoever reads its streams."""
    return Voice(
        task=task,
        output=form_of(sys.stdout, environment),
        messages=form_of(sys.stderr, environment),
    )


def _place(config: Mapping[str, Any], flags: Mapping[str, str | bool]) -> str:
    """Return what a run works on, as its metrics name it: a destination, or else the store."""
    named = flags.get("dest_db")
    try:
        if not named and "store" in flags:
            named = flags["store"] or configured_text(config, "store")
        return display(absolute_path(str(named), "--store")) if named else ""
    except UsageError:
        return ""  # the task itself will tell


def _read_form(value: str, origin: str) -> Form:
    if value not in {Form.TEXT, Form.JSON}:
        raise UsageError(f"{origin} must be text or json, not {display(value)}")
    return Form(value)


def _summary(environment: Mapping[str, str]) -> Path | None:
    if environment.get("GITHUB_ACTIONS") != "true":
        return None
    return summary_path(environment.get("GITHUB_STEP_SUMMARY", ""))


def _log_end(ending: "Ending") -> None:
    figures = ending.figures
    log_event(
        Level.INFO if ending.failure is None else Level.ERROR,
        "end",
        ending.title,
        exit_code=ending.exit_code,
        seconds=round(ending.seconds, 6),
        files=figures.files,
        bytes=figures.bytes,
        findings=dict(figures.findings),
    )
