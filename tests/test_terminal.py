"""The terminal: the question, progress and colour; and what a pipe gets instead."""

import io
import re
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from ops.cli import console as console_module
from ops.cli.progress import figures, show_progress
from ops.errors import UsageError
from ops.model import Instance, Progress
from tests.command import from_flags, run, run_here, run_on_terminal, to_flags
from tests.filesystem import footprint, read

COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7]|38;[\d;]+)m")


# The question


@pytest.mark.parametrize("answer", ["y\n", "yes\n", "  YES \n", "y\x04\x04"])
def test_yes_goes_ahead(answer: str, instance: Instance, destination: Instance) -> None:
    code, screen = run_on_terminal(
        "clone", *from_flags(instance), *to_flags(destination), answer=answer
    )
    assert code == 0, screen
    assert read(destination.attachments) == read(instance.attachments)
    assert "Cloned the database and 12 files" in screen


@pytest.mark.parametrize("answer", ["n\n", "\n", "\x04", "yeah\n", "no\n", "ye\x04\x04"])
def test_anything_else_does_not(
    answer: str, instance: Instance, destination: Instance, tmp_path: Path
) -> None:
    before = footprint(tmp_path)
    code, screen = run_on_terminal(
        "clone", *from_flags(instance), *to_flags(destination), answer=answer
    )
    assert code == 2
    assert "not confirmed: nothing was written" in screen
    assert "Traceback" not in screen
    assert footprint(tmp_path) == before


def test_bytes_that_are_no_text_are_no_yes(instance: Instance, destination: Instance) -> None:
    code, screen = run_on_terminal(
        "clone",
        *from_flags(instance),
        *to_flags(destination),
        answer="\udcff\n",
        environment={"PYTHONIOENCODING": "utf-8:strict"},
    )
    assert "Traceback" not in screen
    assert code == 2
    assert not destination.database.exists()


def test_the_question_comes_after_the_summary(instance: Instance, destination: Instance) -> None:
    _, screen = run_on_terminal(
        "clone", *from_flags(instance), *to_flags(destination), answer="n\n"
    )
    assert screen.index("to copy") < screen.index(" needed, ") < screen.index("Go ahead? [y/N]")
    assert "nothing there yet" in screen
    assert str(instance.database) in screen


def test_interrupt_at_the_question(
    instance: Instance, destination: Instance, tmp_path: Path
) -> None:
    before = footprint(tmp_path)
    code, screen = run_on_terminal(
        "clone", *from_flags(instance), *to_flags(destination), answer="\x03"
    )
    assert code == 130
    assert "stopped by SIGINT" in screen
    assert "Traceback" not in screen
    assert footprint(tmp_path) == before


def test_force_does_not_ask(instance: Instance, destination: Instance) -> None:
    code, screen = run_on_terminal(
        "clone", "--force", *from_flags(instance), *to_flags(destination)
    )
    assert code == 0
    assert "[y/N]" not in screen
    assert "to copy" in screen


@pytest.mark.parametrize("flags", [("--dry-run",), ("--dry-run", "--force")])
def test_dry_run_neither_asks_nor_writes(
    flags: tuple[str, ...], instance: Instance, destination: Instance, tmp_path: Path
) -> None:
    before = footprint(tmp_path)
    code, screen = run_on_terminal("clone", *flags, *from_flags(instance), *to_flags(destination))
    assert code == 0
    assert "[y/N]" not in screen
    assert "to copy" in screen
    assert footprint(tmp_path) == before


def test_dry_run_of_invoke_is_the_same(
    instance: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("clone", *from_flags(instance), *to_flags(destination))
    ran = run_here(capsys, "--dry", *flags)
    assert ran.code == 0
    assert ran.out == run_here(capsys, *flags, "--dry-run").out
    assert not destination.database.exists()


def test_nobody_to_ask(instance: Instance, destination: Instance, tmp_path: Path) -> None:
    before = footprint(tmp_path)
    ran = run("clone", *from_flags(instance), *to_flags(destination))
    assert ran.code == 2
    assert ran.error_line == (
        "error: nobody can answer the question: standard input is not a terminal"
    )
    assert ran.hint_line == (
        "hint: add --force to go ahead without asking, or --dry-run to see the plan"
    )
    assert ran.out == ""
    assert footprint(tmp_path) == before


def test_nobody_to_ask_is_told_at_once(destination: Instance, tmp_path: Path) -> None:
    """Before the source is even looked at: it may be large, or locked."""
    missing = Instance(database=tmp_path / "no", attachments=tmp_path / "none")
    ran = run("clone", *from_flags(missing), *to_flags(destination))
    assert ran.code == 2
    assert "nobody can answer" in ran.error_line
    assert "check source database" not in ran.err


def test_standard_input_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="nobody can answer"):
        console_module.require_terminal()


@pytest.mark.parametrize(("typed", "sure"), [("y\n", True), ("Yes\n", True), ("", False)])
def test_confirm_in_process(
    typed: str, sure: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    said = ""
    try:
        console_module.confirm("Sure?")
    except UsageError as error:
        said = error.message
    assert said == ("" if sure else "not confirmed: nothing was written")
    assert capsys.readouterr().err == ("Sure? [y/N] " if sure else "Sure? [y/N] \n")


# Progress and colour


def test_progress_on_a_terminal(instance: Instance, destination: Instance) -> None:
    code, screen = run_on_terminal(
        "clone", "--force", *from_flags(instance), *to_flags(destination)
    )
    assert code == 0
    assert "\x1b[?25l" in screen, "the bar hides the cursor"
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l"), "and shows it again"
    assert "copy attachments" in screen
    assert COLOUR.search(screen)
    assert "copy attachments …" not in screen


def test_no_colour(instance: Instance, destination: Instance) -> None:
    code, screen = run_on_terminal(
        "clone",
        "--force",
        *from_flags(instance),
        *to_flags(destination),
        environment={"NO_COLOR": "1"},
    )
    assert code == 0
    assert "Cloned the database" in screen
    assert not COLOUR.search(screen)
    code, screen = run_on_terminal(
        "verify", "--dest-db", "x", *to_flags(destination)[2:], environment={"NO_COLOR": "1"}
    )
    assert code == 4
    assert not COLOUR.search(screen)


def test_a_terminal_that_can_do_nothing(instance: Instance, destination: Instance) -> None:
    code, screen = run_on_terminal(
        "clone",
        "--force",
        *from_flags(instance),
        *to_flags(destination),
        environment={"TERM": "dumb"},
    )
    assert code == 0
    assert "\x1b" not in screen
    assert "Cloned the database" in screen


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1"}, {"CI": "true"}])
def test_a_pipe_gets_plain_lines(
    environment: dict[str, str], instance: Instance, destination: Instance
) -> None:
    ran = run(
        "clone",
        "--force",
        *from_flags(instance),
        *to_flags(destination),
        environment=environment,
    )
    assert ran.code == 0
    assert "copy attachments …\n" in ran.err
    assert "publish …\n" in ran.err
    for sign in ("\r", "\x1b[?25l", "\x1b[2K"):
        assert sign not in ran.err
        assert sign not in ran.out
    if not environment:
        assert "\x1b" not in ran.err + ran.out
    assert ran.out.startswith("Cloned the database") or environment


def test_long_lines_are_not_wrapped_in_a_pipe(instance: Instance, tmp_path: Path) -> None:
    directory = tmp_path / ("long name " * 15).strip()
    copy = Instance(database=directory / "db", attachments=directory / "files")
    ran = run("clone", "--force", *from_flags(instance), *to_flags(copy))
    assert ran.code == 0
    assert f"  export SQLITE_FILE='{copy.database}'\n" in ran.out


def test_names_are_not_markup(instance: Instance, tmp_path: Path) -> None:
    directory = tmp_path / "[bold red]x[" / ":smile:"
    copy = Instance(database=directory / "db", attachments=directory / "files")
    ran = run("clone", "--force", *from_flags(instance), *to_flags(copy))
    assert f"database     {copy.database} (" in ran.out


def test_names_cannot_drive_the_terminal(instance: Instance, tmp_path: Path) -> None:
    (instance.attachments / "\x1b[31morphan\r\n\u202e").write_text("")
    copy = Instance(database=tmp_path / "d\x07" / "db", attachments=tmp_path / "files")
    code, screen = run_on_terminal("clone", "--force", *from_flags(instance), *to_flags(copy))
    assert code == 0
    assert "\\u001b[31morphan\\r\\n\\u202e" in screen
    assert "d\\u0007" in screen
    assert "\x07" not in screen
    assert "\u202e" not in screen


def test_streams_that_are_no_files_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    console_module.tolerate_any_text()
    console_module.output().print("名前")
    assert stream.getvalue() == "名前\n"


# Figures


@pytest.mark.parametrize(
    ("progress", "seconds", "said"),
    [
        (Progress(step="x"), 5.0, ""),
        (Progress(step="x", files_done=1200), 0.5, "1,200 files"),
        (Progress(step="x", files_done=2, files_total=9), 0.5, "2 of 9 files"),
        (Progress(step="x", bytes_done=2048), 0.5, "2.0 KiB"),
        (Progress(step="x", bytes_done=2048), 2.0, "2.0 KiB, 1.0 KiB/s"),
        (
            Progress(step="x", bytes_done=1024, bytes_total=4096, files_done=1, files_total=4),
            2.0,
            "1.0 KiB of 4.0 KiB, 1 of 4 files, 512 bytes/s, 6.0 s left",
        ),
        (
            Progress(step="x", bytes_done=4096, bytes_total=4096),
            2.0,
            "4.0 KiB of 4.0 KiB, 2.0 KiB/s",
        ),
    ],
)
def test_figures(progress: Progress, seconds: float, said: str) -> None:
    assert figures(progress, seconds) == said


def test_a_single_file_is_not_files() -> None:
    assert figures(Progress(step="x", files_done=1), 0.5) == "1 file"


def test_bar_shows_figures_and_goes_away() -> None:
    class Screen(io.StringIO):
        """A stream that says it is a terminal, as the bar asks."""

        def isatty(self) -> bool:
            return True

    stream = Screen()
    terminal = Console(file=stream, force_terminal=True, width=120)
    with show_progress(terminal) as report:
        report(Progress(step="count"))
        report(Progress(step="count", files_done=1))  # too soon to be shown
        report(Progress(step="copy", bytes_done=512, bytes_total=1024, files_done=3))
        time.sleep(0.25)
        report(Progress(step="copy", bytes_done=1024, bytes_total=1024, files_done=6))
        time.sleep(0.15)
    screen = stream.getvalue()
    assert "copy" in screen
    assert "512 bytes of 1.0 KiB, 3 files" in screen
    assert "1.0 KiB of 1.0 KiB, 6 files" in screen
    assert screen.endswith("\x1b[2K")


def test_plain_lines_tell_how_far_it_is_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    with show_progress(Console(file=stream, width=120)) as report:
        report(Progress(step="copy", files_done=1))
        report(Progress(step="copy", files_done=2))
        monkeypatch.setattr("ops.cli.progress._PLAIN_EVERY_SECONDS", 0.0)
        report(Progress(step="copy", files_done=3, files_total=5))
        report(Progress(step="check"))
    assert stream.getvalue() == "copy …\ncopy: 3 of 5 files\ncheck …\n"
