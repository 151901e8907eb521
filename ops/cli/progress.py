"""Show progress: a bar on a terminal, a line for each step elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from ops.cli.console import log_event, say
from ops.cli.format import count_of, format_bytes, format_duration
from ops.cli.voice import Form, Level, current_voice
from ops.model import Progress, ReportProgress

_EVERY_SECONDS = 0.1
_PLAIN_EVERY_SECONDS = 10.0


@contextmanager
def show_progress(console: Console, *, quiet: bool = False) -> Iterator[ReportProgress]:
    """Show what is reported while the block runs, unless `quiet`; the bar is gone afterwards."""
    if quiet:
        yield _ignore
        return
    if current_voice().messages is Form.JSON:
        yield _logged()
        return
    # Not Rich's opinion, which FORCE_COLOR changes: colours may be forced, moving about not.
    if not console.file.isatty():
        yield _plain(console)
        return
    bar = Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        _Figures(),
        console=console,
        transient=True,
    )
    with bar:
        yield _on_bar(bar)


def figures(progress: Progress, elapsed_seconds: float) -> str:
    """Put a step's figures into words: bytes, files, rate, time left, as far as known."""
    parts: list[str] = []
    done, total = progress.bytes_done, progress.bytes_total
    if done:
        parts.append(
            f"{format_bytes(done)} of {format_bytes(total)}" if total else format_bytes(done)
        )
    if progress.files_done:
        total_files = progress.files_total
        count = count_of(total_files or progress.files_done, "file")
        parts.append(f"{progress.files_done:,} of {count}" if total_files else count)
    if done and elapsed_seconds >= 1:
        rate = done / elapsed_seconds
        parts.append(f"{format_bytes(rate)}/s")
        if total > done:
            parts.append(f"{format_duration((total - done) / rate)} left")
    return ", ".join(parts)


class _Figures(ProgressColumn):
    """Shows the words of `figures`."""

    def render(self, task: Task) -> Text:
        progress = task.fields.get("progress")
        if not isinstance(progress, Progress):
            return Text("")
        return Text(figures(progress, task.elapsed or 0.0))


def _ignore(_progress: Progress) -> None:
    """Take progress and say nothing."""


def _on_bar(bar: Bar) -> ReportProgress:
    current = bar.add_task("", total=None)
    step = ""
    shown = 0.0

    def report(progress: Progress) -> None:
        nonlocal current, step, shown
        now = time.monotonic()
        if progress.step == step and now - shown < _EVERY_SECONDS:
            return
        shown = now
        if progress.step != step:
            step = progress.step
            bar.remove_task(current)
            current = bar.add_task(step, total=None)
        total = progress.bytes_total or progress.files_total or None
        done = progress.bytes_done if progress.bytes_total else progress.files_done
        bar.update(current, total=total, completed=done, progress=progress)

    return report


def _plain(console: Console) -> ReportProgress:
    step = ""
    began = shown = 0.0

    def report(progress: Progress) -> None:
        nonlocal step, began, shown
        now = time.monotonic()
        if progress.step != step:
            step, began, shown = progress.step, now, now
            say(console, f"{step} …")
        elif now - shown >= _PLAIN_EVERY_SECONDS:
            shown = now
            say(console, f"{step}: {figures(progress, now - began)}")

    return report


def _logged() -> ReportProgress:
    """Report each step as it begins, and now and then how far it is, in the log."""
    step = ""
    shown = 0.0

    def report(progress: Progress) -> None:
        nonlocal step, shown
        now = time.monotonic()
        if progress.step == step and now - shown < _PLAIN_EVERY_SECONDS:
            return
        step, shown = progress.step, now
        log_event(Level.INFO, "progress", step, **asdict(progress))

    return report
