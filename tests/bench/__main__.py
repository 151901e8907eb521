"""Measure us and the peers in turn, in one run; `--help` lists the options.

python -m tests.bench [--only small,clone] [--rounds 5] [--scale 0.01] [--write]

Every command is a whole process, and the source is in the page cache for all of them.
"""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tests.bench.cases import CASES, Bench, Curve, Result, run_case
from tests.bench.facts import WITHOUT_JOURNAL, facts, file_system
from tests.bench.measure import CommandError
from tests.bench.peers import ROOT
from tests.bench.tables import (
    Table,
    curve_table,
    put_between_markers,
    result_table,
    target_table,
    to_markdown,
    to_rich,
)
from tests.bench.targets import judge
from tests.bench.trees import counted

_PAGE = ROOT / "docs" / "performance.md"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str]) -> int:
    """Measure, print, and write where that is asked for; return the exit code."""
    options = _parse(arguments)
    if options.write:
        _write("")  # a page without markers is better known before than after
    for number in _SIGNALS[1:]:
        signal.signal(number, _end)
    try:
        with _scratch(options.directory) as root:
            bench = Bench(
                root=root,
                scale=options.scale,
                rounds=options.rounds,
                million=options.million,
                say=_say,
            )
            _warn(root)
            caption = _caption(bench)
            results = [run_case(name, bench) for name in options.only]
    except CommandError as error:
        _say(f"\n{error}\n")
        return 1
    except KeyboardInterrupt:
        _say("\ninterrupted\n")
        return 128 + signal.SIGINT
    _report(_tables(results), caption, write=options.write)
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure.")
    parser.add_argument("--scale", type=float, default=1.0, help="of file counts and databases")
    parser.add_argument("--rounds", type=int, default=5, help="after a warm-up; default 5")
    parser.add_argument("--only", type=_names, default=tuple(CASES), help=", ".join(CASES))
    parser.add_argument("--directory", type=Path, help="where the data is made, up to 20 GB of it")
    parser.add_argument("--write", action="store_true", help="put the tables into the page, too")
    parser.add_argument("--million", action="store_true", help="add it to the cost curve")
    options = parser.parse_args(arguments)
    if options.scale <= 0 or options.rounds < 1:
        parser.error("--scale must be above 0, and --rounds at least 1")
    if options.directory is not None and not options.directory.is_dir():
        parser.error(f"not a directory: {options.directory}")
    return options


def _names(value: str) -> tuple[str, ...]:
    """Read a list of cases, into the order in which they are measured."""
    given = value.split(",")
    for name in given:
        if name not in CASES:
            raise argparse.ArgumentTypeError(f"no such case: {name}; there are {', '.join(CASES)}")
    return tuple(name for name in CASES if name in given)


@contextmanager
def _scratch(parent: Path | None) -> Iterator[Path]:
    """Make a directory for data and copies, and remove it whatever happens."""
    root = Path(tempfile.mkdtemp(prefix="bench-", dir=parent)).resolve()
    try:
        yield root
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # gigabytes would stay behind
        shutil.rmtree(root)


def _end(number: int, _frame: object) -> None:
    """Leave through the blocks that clean up."""
    sys.exit(128 + number)


def _warn(root: Path) -> None:
    """Say where figures would be about the file system rather than about the contestants."""
    if file_system(root) == WITHOUT_JOURNAL:
        _say(
            f"warning: {root} is on {WITHOUT_JOURNAL}: making files is many times slower there for"
            " minutes after others were removed, whoever does it, so ratios go towards 1."
            " Give --directory on another file system.\n"
        )


def _caption(bench: Bench) -> str:
    rounds = f"medians of {counted(bench.rounds, 'round')} in turn (least to most), page cache warm"
    scale = "" if bench.scale == 1 else f"scale {bench.scale:g}; "
    return f"{scale}{rounds}; ratios are ours to the row's. {', '.join(facts(bench.root))}."


def _tables(results: Sequence[Result | Curve]) -> tuple[Table, ...]:
    """Make a table of each case, and one of the targets if they have any."""
    curve = next((result for result in results if isinstance(result, Curve)), None)
    verdicts = judge({result.case: result.seconds for result in results})
    judged = (target_table(verdicts, curve),) if verdicts else ()
    return *map(_table, results), *judged


def _table(result: Result | Curve) -> Table:
    return curve_table(result) if isinstance(result, Curve) else result_table(result)


def _report(tables: Sequence[Table], caption: str, *, write: bool) -> None:
    text = "\n".join((f"{caption}\n", *map(to_markdown, tables)))
    console = Console(markup=False, highlight=False, emoji=False)
    if console.is_terminal:
        for table in tables:
            console.print(to_rich(table))
        console.print(caption)
    else:
        sys.stdout.write(text)
    if write:
        _write(text)


def _write(text: str) -> None:
    """Put text between the markers of the page; without any, see that it has them."""
    try:
        page = put_between_markers(_PAGE.read_text("utf-8"), text)
    except (OSError, ValueError) as error:
        sys.exit(f"{_PAGE}: {error}")
    if text:
        _PAGE.write_text(page, "utf-8")


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
