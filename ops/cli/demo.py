"""The demo: what a newcomer sees first."""

from pathlib import Path

from rich.text import Text

from ops.cli.console import messages
from ops.cli.decorator import Result
from ops.cli.documents import outcome_document, verification_report
from ops.cli.format import count_of, shell_quote
from ops.cli.progress import show_progress
from ops.cli.render import heading, outcome_lines, verification_lines
from ops.demo import DemoOutcome, run_demo
from ops.errors import UsageError, VerificationError, os_failure
from ops.model import Clock
from ops.names import display
from ops.scratch import scratch_directory

_EVIDENCES = 2000
_RATE = 100


def show_demo(keep: Path | None, *, clock: Clock) -> Result:
    """Run the demo in a scratch directory, or in one that stays.

    Args:
        keep: A directory to make and keep; None for a scratch directory.
        clock: The time.

    Raises:
        UsageError: The directory to keep exists, or cannot be made.
        OpsError: The clone failed.
    """
    if keep is None:
        with scratch_directory("demo") as directory:
            return _run(directory, clock, kept=False)
    try:
        keep.mkdir(mode=0o700)
    except FileExistsError as error:
        raise UsageError(
            f"the demo's directory exists already: {display(keep)}",
            hint="name one that does not exist yet",
        ) from error
    except OSError as error:
        raise os_failure(UsageError, "make the demo's directory", keep, error) from error
    return _run(keep, clock, kept=True)


def _run(directory: Path, clock: Clock, *, kept: bool) -> Result:
    console = messages()
    console.print(
        heading(
            f"An instance with {_EVIDENCES} evidences, a writer that inserts, replaces and deletes "
            f"{_RATE} times a second, a clone of it, and a check of the clone."
        )
    )
    with show_progress(console) as progress:
        done = run_demo(directory, evidences=_EVIDENCES, rate=_RATE, clock=clock, progress=progress)
    report = verification_report(done.request, done.verification)
    good = not report.errors and not done.lost
    lines = [
        heading("$ inv clone --force …   (while the writer commits)"),
        *outcome_lines(done.clone),
        Text(),
        heading("$ inv verify …"),
        *verification_lines(done.request, done.verification, report),
        Text(),
        *_verdict(done, good=good),
        *_epilogue(directory, kept=kept),
    ]
    failure = None if good else VerificationError("the demo's clone is not what it must be")
    return Result(document=outcome_document(done.clone), lines=lines, failure=failure)


def _verdict(done: DemoOutcome, *, good: bool) -> list[Text]:
    writing = done.writing
    wait = f"{writing.longest_wait_seconds * 1000:.0f} ms"
    mark = Text("✓ ", style="bold green") if good else Text("✗ ", style="bold red")
    missing = f"{done.lost} of them lost" if done.lost else "none of them lost"
    return [
        Text.assemble(
            mark,
            f"{count_of(done.before, 'evidence')} committed before the clone began, {missing}",
        ),
        Text.assemble(
            mark,
            f"meanwhile the writer inserted {writing.inserted}, replaced {writing.replaced} and "
            f"deleted {writing.deleted}; it never waited longer than {wait}",
        ),
    ]


def _epilogue(directory: Path, *, kept: bool) -> list[Text]:
    if not kept:
        return [Text("The demo's files are gone again; `inv demo --keep DIR` keeps them.")]
    clone, production = directory / "clone", directory / "production" / "db"
    return [
        Text(f"Kept in {display(directory)}. Try for yourself:"),
        Text(
            f"  inv verify --dest-db {shell_quote(clone / 'ciso-assistant.sqlite3')} "
            f"--dest-attachments {shell_quote(clone / 'attachments')}"
        ),
        Text(
            f"  inv clone --source-db {shell_quote(production / 'ciso-assistant.sqlite3')} "
            f"--source-attachments {shell_quote(production / 'attachments')} "
            f"--dest-db {shell_quote(directory / 'again' / 'db.sqlite3')} "
            f"--dest-attachments {shell_quote(directory / 'again' / 'attachments')}"
        ),
    ]
