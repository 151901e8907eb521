"""The tables: what stands in them, and how they look on a terminal and in Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rich import box
from rich.table import Table as RichTable

from tests.bench.cases import BASE, MILLION, Curve, Result, size_name
from tests.bench.figures import Figure, figure, ratio
from tests.bench.targets import PEAK_BYTES, Verdict

BEGIN = "<!-- bench:begin -->"
END = "<!-- bench:end -->"

_MEGABYTE = 1_000_000
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of text below a title, and a note. The first `words` columns are set to the left."""

    title: str
    words: int = 1
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def result_table(result: Result) -> Table:
    """Show a case: every contestant's seconds, and ours as ratios to each peer."""
    rows = []
    for name, seconds in result.seconds.items():
        ratios = [
            "" if name in result.ours else _spread(ratio(result.seconds[our], seconds), 2)
            for our in result.ours
        ]
        rows.append((name, _spread(figure(seconds), 3), *ratios))
    skipped = f"Not installed, so skipped: {', '.join(result.absent)}." if result.absent else ""
    return Table(
        title=f"{result.case}: {result.title}",
        columns=("", "seconds", *result.ours),
        rows=tuple(rows),
        note=skipped,
    )


def curve_table(curve: Curve) -> Table:
    """Show the cost curve."""
    base = curve.points[size_name(BASE)]
    rows = []
    for point in curve.points.values():
        micros = figure(each * _MICROSECONDS for each in point.seconds)
        against = _spread(ratio(point.seconds, base.seconds), 2)
        peak = f"{point.peak_bytes / _MEGABYTE:.0f} MB" if point.peak_bytes else "not measured"
        rows.append((f"{point.files:,}", _spread(micros, 1), against, peak))
    return Table(
        title=f"{curve.case}: ours, copy + SHA-256 + check of files of 1 KiB",
        columns=("files", "microseconds per file", f"ratio to {base.files:,}", "peak memory"),
        rows=tuple(rows),
    )


def target_table(verdicts: Sequence[Verdict], curve: Curve | None) -> Table:
    """Show what came of the targets."""
    rows = [_verdict_row(verdict) for verdict in verdicts]
    if curve is not None:
        rows.append(_memory_row(curve))
    return Table(
        title="targets",
        words=3,
        columns=("case", "ours", "against", "ratio", "target", ""),
        rows=tuple(rows),
    )


def to_markdown(table: Table) -> str:
    """Write a table as Markdown, its title first and its note last."""
    rule = ["---" if number < table.words else "---:" for number in range(len(table.columns))]
    lines = (_line(row) for row in (table.columns, rule, *table.rows))
    note = ("", table.note) if table.note else ()
    return "\n".join((f"**{table.title}**", "", *lines, *note)) + "\n"


def to_rich(table: Table) -> RichTable:
    """Draw a table for a terminal."""
    drawn = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD)
    drawn.caption, drawn.caption_justify = table.note or None, "left"
    for number, column in enumerate(table.columns):
        drawn.add_column(column, justify="left" if number < table.words else "right")
    for row in table.rows:
        drawn.add_row(*row)
    return drawn


def put_between_markers(page: str, text: str) -> str:
    """Replace what stands between the two markers of a page.

    Raises:
        ValueError: The page does not have each of them once, in order.
    """
    places = [page.find(BEGIN), page.find(END)]
    once = page.count(BEGIN) == page.count(END) == 1
    if not once or any(first > second for first, second in pairwise(places)):
        raise ValueError(f"it needs one {BEGIN} and, after it, one {END}")
    return f"{page[: places[0]]}{BEGIN}\n\n{text.strip()}\n\n{page[places[1] :]}"


def _verdict_row(verdict: Verdict) -> tuple[str, ...]:
    target = verdict.target
    measured = _spread(verdict.figure, 2) if verdict.figure is not None else ""
    return (
        target.case,
        target.ours,
        target.peer,
        measured,
        f"≤ {target.ratio:.2f}",
        verdict.word,
    )


def _memory_row(curve: Curve) -> tuple[str, ...]:
    name = size_name(MILLION)
    point = curve.points.get(name)
    wanted = f"≤ {PEAK_BYTES // _MEGABYTE} MB"
    if point is None or not point.peak_bytes:
        return "curve", name, "memory", "", wanted, "not measured"
    word = "met" if point.peak_bytes <= PEAK_BYTES else "missed"
    return "curve", name, "memory", f"{point.peak_bytes / _MEGABYTE:.0f} MB", wanted, word


def _spread(value: Figure, digits: int) -> str:
    numbers = (value.median, value.least, value.most)
    median, least, most = (f"{number:.{digits}f}" for number in numbers)
    return f"{median} ({least} to {most})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
