"""The record of a drill as one page of HTML that needs nothing else, for screen and paper."""

from collections.abc import Callable, Sequence
from html import escape

from ops import __version__
from ops.cli.format import count_of, format_bytes, format_duration
from ops.cli.render import finding_line
from ops.drill import Drill
from ops.names import display
from ops.snapshot import Summary

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 200, 70, 28, 12
_MOST_BARS = 60
_MOST_FINDINGS = 100
_LABELS = 6

_SIGNATURE = (
    '<table class="sign"><tr><th>Name</th><td></td></tr><tr><th>Date</th><td></td></tr>'
    "<tr><th>Signature</th><td></td></tr></table>"
)
_STYLE = """
:root { color-scheme: light; --ink: #1a1a1a; --dim: #5c5c5c; --line: #c9c9c9; --paper: #fff;
  --good: #14672f; --bad: #a4161a; --new: #2b6cb0; --shared: #a8c5e4; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
.verdict { display: inline-block; margin: .75rem 0; padding: .25rem .75rem; border: 2px solid;
  border-radius: 4px; font-weight: 600; }
.passed { color: var(--good); } .failed { color: var(--bad); }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-bottom: 1px solid #eee; overflow-wrap: anywhere; }
th { font-weight: 400; color: var(--dim); width: 12rem; }
pre { background: #f5f5f5; border: 1px solid var(--line); padding: .5rem; overflow-x: auto;
  white-space: pre-wrap; font-size: 12px; }
svg { width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: var(--dim); }
figure { margin: 0; } figcaption { color: var(--dim); font-size: 13px; }
footer { margin-top: 2rem; color: var(--dim); font-size: 13px; }
.sign th { width: 8rem; } .sign td { height: 2.25rem; }
@media print { body { margin: 0; max-width: none; font-size: 11pt; } pre { max-height: none; }
  h2, figure, table { break-inside: avoid; } }
"""


def drill_page(drill: Drill, history: Sequence[Summary]) -> str:
    """Return the page.

    Args:
        drill: What came of the drill.
        history: The snapshots of the store, the oldest first, for the plots.
    """
    verdict = "Passed" if drill.passed else "Failed"
    mark = "passed" if drill.passed else "failed"
    title = f"Restore drill of {drill.began:%Y-%m-%d}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="verdict {mark}" id="verdict">{verdict}</p>',
        f"<p>{escape(_sentence(drill))}</p>",
        "<h2>What was restored</h2>",
        _rows(_restored(drill)),
        "<h2>What was checked</h2>",
        _rows(_checked(drill)),
        *_findings(drill),
        *_command(drill),
        "<h2>Snapshots over time</h2>",
        _plot("Size", history, _sizes(history), format_bytes, ("new", "shared")),
        _plot("Duration of each backup", history, _seconds(history), format_duration, ("seconds",)),
        "<h2>Filed by</h2>",
        _SIGNATURE,
        f"<footer>ciso-ops {escape(__version__)}, {drill.began:%Y-%m-%d %H:%M:%S} UTC</footer>",
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}: {verdict}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def _sentence(drill: Drill) -> str:
    name = drill.snapshot.name
    if not drill.passed:
        return f"The snapshot {name} did not pass: {drill.failure}."
    used = " and the application's command ran on it" if drill.command else ""
    took = format_duration(drill.restore_seconds)
    return f"The snapshot {name} was restored and checked in {took}{used}."


def _rows(rows: Sequence[tuple[str, str]]) -> str:
    cells = (f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"


def _restored(drill: Drill) -> list[tuple[str, str]]:
    summary = drill.snapshot.summary
    rows = [
        ("Snapshot", display(drill.snapshot.path)),
        ("Drill begun", f"{drill.began:%Y-%m-%d %H:%M:%S} UTC"),
        ("Recovery took", format_duration(drill.restore_seconds)),
    ]
    if summary is None:
        return rows
    tree, database = summary.attachments, summary.database
    rows[1:1] = [("Shows the instance of", f"{summary.captured:%Y-%m-%d %H:%M:%S} UTC")]
    size = format_bytes(database.size)
    rows += [
        ("Database", f"{size}, {count_of(database.tables, 'table')}, {database.rows:,} rows"),
        ("SHA-256 of it", database.sha256),
        ("Attachments", f"{count_of(tree.files, 'file')}, {format_bytes(tree.bytes)}"),
    ]
    return rows


def _checked(drill: Drill) -> list[tuple[str, str]]:
    counts = drill.counts
    return [
        ("Database", f"integrity and foreign keys of {count_of(counts.tables, 'table')}"),
        (
            "Attachments",
            (
                f"{count_of(counts.files, 'file')} ({format_bytes(counts.bytes_read)}) compared "
                "with their recorded SHA-256"
            ),
        ),
        ("Rows and files", f"{count_of(counts.referenced, 'file')} named by rows are there"),
        ("Missing files", f"{counts.missing:,}"),
    ]


def _findings(drill: Drill) -> list[str]:
    if not drill.findings:
        return ["<p>No findings.</p>"]
    shown = drill.findings[:_MOST_FINDINGS]
    rows = [
        (f"{one.severity} {one.kind}", finding_line(one).plain.partition(": ")[2]) for one in shown
    ]
    if len(shown) < len(drill.findings):
        rows.append(("and more", f"{len(drill.findings) - len(shown):,}, listed in the JSON"))
    return ["<h2>Findings</h2>", _rows(rows)]


def _command(drill: Drill) -> list[str]:
    ran = drill.command
    if ran is None:
        return ["<h2>Command</h2>", "<p>None was configured.</p>"]
    rows = [
        ("Arguments", " ".join(ran.arguments)),
        ("Exit code", "ended: it took too long" if ran.code is None else str(ran.code)),
        ("Took", format_duration(ran.seconds)),
    ]
    return ["<h2>Command</h2>", _rows(rows), f"<pre>{escape(ran.output)}</pre>"]


def _sizes(history: Sequence[Summary]) -> list[tuple[float, ...]]:
    return [
        (
            float(one.database.size + one.attachments.bytes - one.attachments.shared_bytes),
            float(one.attachments.shared_bytes),
        )
        for one in history
    ]


def _seconds(history: Sequence[Summary]) -> list[tuple[float, ...]]:
    return [(one.seconds,) for one in history]


def _plot(
    title: str,
    history: Sequence[Summary],
    values: Sequence[tuple[float, ...]],
    words: Callable[[float], str],
    names: Sequence[str],
) -> str:
    """Draw stacked bars, one for each of the newest snapshots."""
    history, values = history[-_MOST_BARS:], values[-_MOST_BARS:]
    most = max((sum(one) for one in values), default=0.0) or 1.0
    inner = _HEIGHT - _BOTTOM - _TOP
    step = (_WIDTH - _LEFT) / max(1, len(values))
    colours = ("var(--new)", "var(--shared)")
    drawn: list[str] = []
    for number, (summary, parts) in enumerate(zip(history, values, strict=True)):
        base = float(_HEIGHT - _BOTTOM)
        said = ", ".join(f"{name} {words(part)}" for name, part in zip(names, parts, strict=True))
        bars: list[str] = []
        for part, colour in zip(parts, colours, strict=False):
            height = part / most * inner
            base -= height
            bars.append(
                f'<rect x="{_LEFT + number * step + step * 0.1:.1f}" y="{base:.1f}" '
                f'width="{step * 0.8:.1f}" height="{height:.1f}" fill="{colour}"/>'
            )
        drawn.append(f"<g><title>{escape(summary.name)}: {escape(said)}</title>{''.join(bars)}</g>")
    every = max(1, len(history) // _LABELS)
    labels = [
        f'<text x="{_LEFT + number * step + step / 2:.1f}" y="{_HEIGHT - 10}" '
        f'text-anchor="middle">{summary.captured:%m-%d}</text>'
        for number, summary in enumerate(history)
        if number % every == 0
    ]
    axis = (
        f'<line x1="{_LEFT}" y1="{_HEIGHT - _BOTTOM}" x2="{_WIDTH}" y2="{_HEIGHT - _BOTTOM}" '
        'stroke="var(--line)"/>'
        f'<text x="{_LEFT - 6}" y="{_TOP + 4}" text-anchor="end">{escape(words(most))}</text>'
        f'<text x="{_LEFT - 6}" y="{_HEIGHT - _BOTTOM}" text-anchor="end">0</text>'
    )
    legend = f" ({' and '.join(names)})" if names[1:] else ""
    return (
        f"<figure><figcaption>{escape(title)}{escape(legend)}, the last "
        f"{count_of(len(history), 'snapshot')}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{axis}{''.join(drawn)}{''.join(labels)}</svg></figure>"
    )
