"""What is said, in the shape that the journal, a log collector or GitHub Actions reads."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.cli.actions import annotation, append_summary, harmless, summary_path
from ops.errors import DestinationError
from ops.model import Instance
from tests.command import INV, ROOT, Ran, from_flags, run, run_here, run_on_terminal, to_flags
from tests.monitors import listening
from tests.test_json import document_of
from tests.test_store import names_in

Run = Callable[..., Ran]
FIELDS = {"time", "level", "task", "event", "message"}


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""
    return lambda *arguments: run_here(capsys, *arguments)


@pytest.fixture
def summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a job of GitHub Actions, whose step has a summary."""
    path = tmp_path / "summary.md"
    path.touch()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    return path


def add_warning(instance: Instance, name: str) -> None:
    """Put a link that leads out among the attachments: a warning, which quotes its name."""
    (instance.attachments / name).symlink_to("/nowhere")


# JSON lines


def logged(text: str, task: str) -> list[dict[str, Any]]:
    """Read a log; every line of it is an object with the usual fields."""
    lines = [json.loads(line) for line in text.splitlines()]
    for line in lines:
        assert line.keys() >= FIELDS
        assert line["task"] == task
        assert line["level"] in {"info", "warning", "error"}
        assert line["time"].endswith("Z")
        assert datetime.fromisoformat(line["time"]).tzinfo is not None
    return lines


def test_a_run_is_logged_as_json(here: Run, instance: Instance, tmp_path: Path) -> None:
    add_warning(instance, "stray\n::error::x")
    flags = (*from_flags(instance), "--log", "json", "--json")
    ran = here("backup-daily", "--store", tmp_path / "store", *flags)
    assert ran.code == 0
    document_of(ran, "backup-daily", ok=True)
    lines = logged(ran.err, "backup-daily")
    assert lines[0]["event"] == "start"
    steps = [line for line in lines if line["event"] == "progress"]
    assert "copy attachments" in {line["step"] for line in steps}
    assert all({"bytes_done", "files_done"} <= line.keys() for line in steps)
    findings = [line for line in lines if line["event"] == "finding"]
    assert findings
    for finding in findings:
        assert finding["level"] == "warning"
        assert finding["message"].startswith("warning link-outside: stray\\n::error::x: ")
    end = lines[-1]
    assert (end["event"], end["level"], end["exit_code"]) == ("end", "info", 0)
    assert (end["files"], end["findings"]["warning"]) == (12, len(findings))


def test_a_failure_is_one_line_of_the_log(here: Run, tmp_path: Path) -> None:
    ran = here("verify", "--store", tmp_path / "none", "--log", "json")
    assert (ran.code, ran.out) == (3, "")
    start, failure, end = logged(ran.err, "verify")
    assert start["event"] == "start"
    assert failure["event"] == "failure"
    assert failure["level"] == end["level"] == "error"
    assert failure["message"] == f"there is no store: {tmp_path / 'none'}"
    assert failure["hint"].startswith("check the path")
    assert (failure["notes"], failure["exit_code"], end["exit_code"]) == ([], 3, 3)
    assert "traceback" not in failure
    ran = run("--debug", "verify", "--store", tmp_path / "none", "--log", "json")
    (failure,) = (json.loads(line) for line in ran.err.splitlines() if '"failure"' in line)
    assert "SourceError" in failure["traceback"]


def test_what_a_failed_check_found_is_in_the_log(
    here: Run, instance: Instance, destination: Instance
) -> None:
    min(instance.attachments.iterdir()).unlink()
    command = ("clone", "--force", *from_flags(instance), *to_flags(destination))
    ran = here(*command, "--log", "json")
    assert (ran.code, ran.out) == (5, "")
    lines = logged(ran.err, "clone")
    findings = [line for line in lines if line["event"] == "finding"]
    assert findings[0]["level"] == "error"
    assert findings[0]["message"].startswith("error missing-file: ")
    assert lines[-1]["findings"]["error"] == len(findings) == 1


def test_a_plan_is_in_the_log(here: Run, instance: Instance, destination: Instance) -> None:
    command = ("clone", "--force", *from_flags(instance), *to_flags(destination))
    ran = here(*command, "--log", "json")
    assert ran.code == 0
    assert ran.out.startswith("Cloned the database and 12 files: ")
    said = [line["message"] for line in logged(ran.err, "clone") if line["event"] == "message"]
    assert said[0] == "Clone"
    assert any(line.startswith("    attachments  ") for line in said)


def test_a_quiet_log_says_nothing_unless_something_is_wrong(
    here: Run, instance: Instance, tmp_path: Path
) -> None:
    flags = ("--store", tmp_path / "store", "--quiet", "--log", "json")
    ran = here("backup-daily", *flags, *from_flags(instance))
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    instance.database.unlink()
    ran = here("backup-daily", *flags, *from_flags(instance))
    assert [line["event"] for line in logged(ran.err, "backup-daily")] == ["failure", "end"]


def test_the_question_is_a_line_of_the_log(instance: Instance, destination: Instance) -> None:
    command = ("clone", *from_flags(instance), *to_flags(destination), "--log", "json")
    code, screen = run_on_terminal(*command, answer="n\n")
    assert code == 2
    lines = [json.loads(line) for line in screen.splitlines() if line.startswith("{")]
    assert [line["message"] for line in lines if "[y/N]" in line["message"]] == ["Go ahead? [y/N] "]
    assert lines[-2]["message"] == "not confirmed: nothing was written"


def test_the_configuration_can_ask_for_a_log(here: Run, tmp_path: Path) -> None:
    home = Path.home() / ".invoke.yaml"
    home.write_text("ops:\n  log_format: json\n")
    assert logged(here("verify", "--store", tmp_path).err, "verify")
    assert here("verify", "--store", tmp_path, "--log", "text").error_line
    home.write_text("ops:\n  log_format: xml\n")
    assert here("drill").error_line == "error: ops.log_format must be text or json, not xml"
    assert here("drill", "--log", "yaml").error_line.startswith("error: --log must be")


def test_a_warning_of_ours_is_in_the_log(here: Run, tmp_path: Path) -> None:
    flags = ("--store", tmp_path, "--log", "json", "--metrics", tmp_path / "missing" / "a.prom")
    lines = logged(here("verify", *flags).err, "verify")
    (warning,) = (line for line in lines if line["event"] == "warning")
    assert warning["level"] == "warning"
    assert warning["message"].startswith("the metrics are not written: ")


# The journal


def in_journal(
    *arguments: str | Path,
    connected: str = "",
    out_too: bool = False,
    command: Sequence[str] = INV,
) -> tuple[int, str, str]:
    """Run with standard error connected as systemd does it: to a stream socket it names.

    Returns:
        The exit code, standard output, and what came through the socket.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        status = os.fstat(theirs.fileno())
        named = connected or f"{status.st_dev}:{status.st_ino}"
        done = subprocess.run(
            [*command, *map(str, arguments)],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=theirs.fileno() if out_too else subprocess.PIPE,
            stderr=theirs.fileno(),
            cwd=ROOT,
            env={**os.environ, "JOURNAL_STREAM": named, "FORCE_COLOR": "1"},
            timeout=120,
        )
        theirs.close()
        said = b""
        while piece := ours.recv(65536):
            said += piece
    return done.returncode, (done.stdout or b"").decode(), said.decode()


def test_lines_for_the_journal_have_their_priority(instance: Instance, tmp_path: Path) -> None:
    add_warning(instance, "stray")
    flags = ("--store", tmp_path / "store", *from_flags(instance))
    code, out, said = in_journal("backup-daily", *flags, "--ping", "http://127.0.0.1:1/x")
    assert code == 0
    lines = said.splitlines()
    assert "<6>copy attachments …" in lines
    assert all(re.match(r"<[346]>", line) for line in lines)
    assert [line[:12] for line in lines if line.startswith("<4>")] == ["<4>warning: "] * 2
    assert out.startswith("\x1b[1;32mSnapshot "), "standard output goes somewhere else"
    code, out, said = in_journal("backup-daily", *flags, out_too=True)
    assert code == 0
    assert re.search(r"^<6>Snapshot \S+ in ", said, re.MULTILINE)
    assert "\n<4>warning link-outside: stray: " in said
    assert "\x1b" not in said


def test_a_failure_weighs_as_much_as_its_hint(tmp_path: Path) -> None:
    for task in ("verify", "prune"):  # one that can be watched, and one more
        code, _, said = in_journal(task, "--store", tmp_path / "none", "--keep-last", "1")
        if task == "prune":
            assert code == 3
            error, hint = said.splitlines()
            assert error.startswith("<3>error: there is no store: ")
            assert hint.startswith("<3>hint: ")
    code, _, said = in_journal("snapshots", "--store", tmp_path / "none")
    assert code == 3
    assert [line[:9] for line in said.splitlines()] == ["<3>error:", "<3>hint: "]


def test_a_variable_alone_makes_no_journal(tmp_path: Path) -> None:
    """What a unit starts inherits it, whatever it does with its streams."""
    for other in ("1:1", "x", ":", f"{os.stat(tmp_path).st_dev}:{os.stat(tmp_path).st_ino}"):
        code, _, said = in_journal("verify", "--store", tmp_path / "none", connected=other)
        assert code == 3
        assert "error: " in said
        assert "<3>" not in said


def test_json_in_the_journal_stays_json(tmp_path: Path) -> None:
    flags = ("--store", tmp_path / "none", "--log", "json", "--json")
    code, out, said = in_journal("verify", *flags)
    assert code == 3
    assert json.loads(out)["ok"] is False
    assert len(logged(said, "verify")) == 3
    _, _, both = in_journal("verify", *flags[:2], "--json", out_too=True)
    document = "\n".join(line for line in both.splitlines() if not line.startswith("<3>"))
    assert json.loads(document)["ok"] is False


def test_the_real_journal_takes_it(tmp_path: Path) -> None:
    program = shutil.which("systemd-cat")
    if program is None or not Path("/run/systemd/journal/stdout").exists():
        pytest.skip("takes systemd-cat and a running journal")
    done = subprocess.run(
        [program, "-t", "ciso-ops-test", *INV, "verify", "--store", str(tmp_path / "none")],
        check=False,
        capture_output=True,
        cwd=ROOT,
    )
    assert done.returncode == 3


# GitHub Actions


def commands_of(text: str) -> list[str]:
    """Find the lines that the runner would take for commands, as its source does."""
    return [
        line
        for line in text.splitlines()
        if re.match(r"\s*::.*?::", line) or re.search(r"##\[[^\]]*\]", line)
    ]


def unescaped(text: str) -> str:
    """Read the data of a command as the runner does."""
    return text.replace("%0D", "\r").replace("%0A", "\n").replace("%25", "%")


@given(st.text(), st.text())
@example("a:b,c%", "x\r\n::set-output name=a::b%0A")
@example("", "##[error]x")
def test_an_annotation_is_one_command(title: str, message: str) -> None:
    command = annotation("error", title, message)
    assert "\n" not in command
    assert "\r" not in command
    heading, said = re.fullmatch(r"::error title=([^:,]*)::(.*)", command, re.DOTALL).groups()  # type: ignore[union-attr] # it would fail
    shown = message.replace("##[", "#\\x23[")
    assert unescaped(said) == shown
    back = unescaped(heading.replace("%3A", ":").replace("%2C", ","))
    assert back == title.replace("##[", "#\\x23[")


@given(st.text(st.characters(exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")))
@example("  ::error::x")
@example("a ##[add-mask]b")
@example("###[error]x")
@example("##[##[error]x")
def test_no_line_is_a_command_by_chance(line: str) -> None:
    assert commands_of(harmless(line)) == []
    assert harmless(harmless(line)) == harmless(line)


def test_a_failure_is_annotated(here: Run, tmp_path: Path, summary: Path) -> None:
    ran = here("verify", "--store", tmp_path / "a,b:c%d", "--json")
    assert ran.code == 3
    document_of(ran, "verify", ok=False)
    assert ran.error_line == f"error: there is no store: {tmp_path}/a,b:c%d"
    (command,) = commands_of(ran.err)
    assert command.startswith(
        f"::error title=ciso-ops verify::there is no store: {tmp_path}/a,b:c%25d%0Ahint: "
    )
    text = summary.read_text()
    assert text.startswith("### verify: failed with exit code 3 after ")
    assert f"\n```text\nerror: there is no store: {tmp_path}/a,b:c%d\nhint: " in text


def test_findings_are_annotated(here: Run, instance: Instance, summary: Path) -> None:
    for number in range(12):
        add_warning(instance, f"stray-{number}")
    min(path for path in instance.attachments.iterdir() if "stray" not in path.name).unlink()
    flags = ("--dest-db", instance.database, "--dest-attachments", instance.attachments)
    ran = here("verify", *flags)
    assert ran.code == 5
    commands = commands_of(ran.err)
    assert (
        sum(
            one.startswith("::warning title=ciso-ops verify::warning link-outside: ")
            for one in commands
        )
        == 10
    )
    assert sum(one.startswith("::error title=ciso-ops verify::") for one in commands) == 2
    assert commands_of(ran.out) == []
    assert "\nwarning link-outside: stray-" in summary.read_text()


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_file_name_is_no_command_and_no_markup(
    here: Run, instance: Instance, tmp_path: Path, summary: Path, form: str
) -> None:
    names = ["::set-output name=a::b", "x\n::add-path::y", "##[add-mask]x", "````", "<b>|*_[x](y)"]
    for name in names:
        add_warning(instance, name)
    flags = (*from_flags(instance), "--store", tmp_path / "store")
    ran = here("backup-daily", *flags, *(["--json"] if form == "json" else []))
    assert ran.code == 0
    assert commands_of(ran.out) == []
    assert all(one.startswith("::warning title=") for one in commands_of(ran.err))
    assert len(set(commands_of(ran.err))) == len(names)
    if form == "json":
        document = document_of(ran, "backup-daily", ok=True)
        assert "##[add-mask]x" in {one["where"] for one in document["findings"]}
    text = summary.read_text()
    fences = re.findall(r"^(`{3,})(?:text)?$", text, re.MULTILINE)
    assert fences == ["`````", "`````"]
    assert "\n`````\n\n" in text
    assert f"Snapshot {names_in(tmp_path / 'store')[0]} in " in text


def test_a_log_of_json_takes_no_annotations(here: Run, tmp_path: Path, summary: Path) -> None:
    ran = here("verify", "--store", tmp_path / "##[error]x", "--log", "json")
    assert logged(ran.err, "verify")[1]["message"].endswith("##[error]x")
    assert commands_of(ran.err) == []
    assert "### verify: failed" in summary.read_text()


def test_a_summary_that_cannot_be_written_fails_nothing(
    here: Run, instance: Instance, tmp_path: Path, summary: Path
) -> None:
    summary.unlink()
    summary.mkdir()
    ran = here("backup-daily", "--store", tmp_path / "store", *from_flags(instance))
    assert ran.code == 0
    assert "warning: the summary is not written: cannot write " in ran.err
    with pytest.raises(DestinationError):
        append_summary(summary, "title", "text")


@pytest.mark.parametrize("value", ["", "relative.md", "/a\0b"])
def test_a_step_without_a_summary_has_none(tmp_path: Path, value: str) -> None:
    assert summary_path(value) is None
    if "\0" in value:
        return  # no variable can hold it
    variables = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": value}
    ran = run("verify", "--store", tmp_path / "none", environment=variables, directory=ROOT)
    assert ran.code == 3
    assert "is not written" not in ran.err


def test_a_task_that_is_not_watched_is_annotated_and_not_summed_up(
    here: Run, tmp_path: Path, summary: Path
) -> None:
    ran = here("snapshots", "--store", tmp_path / "none")
    assert len(commands_of(ran.err)) == 1
    assert summary.read_text() == ""


# All of it at once


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_reader_that_went_away_changes_nothing(
    instance: Instance, tmp_path: Path, form: str
) -> None:
    """Nobody reads standard error, and there is something to be warned of."""
    reading, writing = os.pipe()
    os.close(reading)
    flags = ("--store", tmp_path / "store", *from_flags(instance), "--log", form)
    watched = ("--ping", "http://127.0.0.1:1/", "--metrics", tmp_path / "missing" / "a.prom")
    try:
        done = subprocess.run(
            [*INV, "backup-daily", *map(str, (*flags, *watched))],
            check=False,
            stdout=subprocess.PIPE,
            stderr=writing,
            cwd=ROOT,
            timeout=120,
        )
    finally:
        os.close(writing)
    assert done.returncode == 0
    assert done.stdout.startswith(b"Snapshot ")


def test_a_broken_configuration_weighs_as_any_failure() -> None:
    (Path.home() / ".invoke.yaml").write_text("ops: [")
    command = (sys.executable, "-c", "from ops.cli import program; program.run()")
    code, _, said = in_journal("status", command=command)
    assert code == 2
    assert said.startswith("<3>error: broken configuration: ")


def test_a_run_that_breaks_unexpectedly_is_told_before_it_ends(tmp_path: Path) -> None:
    """What no rule of ours expects still reaches those who watch, and ends in its traceback."""
    script = (
        "import ops.store\n"
        "def broken(path): raise ZeroDivisionError('odd')\n"
        "ops.store.require_store = broken\n"
        "from ops.cli import program; program.run()\n"
    )
    with listening() as monitor:
        ran = run(
            *("verify", "--store", tmp_path, "--ping", monitor.address, "--log", "json"),
            command=(sys.executable, "-c", script),
        )
    assert ran.code == 1
    assert monitor.paths == ["/start", "/fail"]
    assert "error: unexpected: ZeroDivisionError: odd" in monitor.pings[1].body
    assert "Traceback" in ran.err
