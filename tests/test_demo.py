"""The demo: what a newcomer sees first."""

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ops.cli import demo as demo_module
from ops.demo import run_demo
from ops.demo_instance import build_instance, evidence_ids
from ops.demo_writer import main, writer
from ops.model import Progress
from tests.command import INV, ROOT, run, run_here, run_on_terminal
from tests.pipeline import CLOCK, check, quiet


def test_the_first_command(tmp_path: Path) -> None:
    ran = run("demo", environment={"TMPDIR": str(tmp_path)}, directory=ROOT)
    assert ran.code == 0, ran.err
    assert "Cloned the database and " in ran.out
    assert "\nVerified\n" in ran.out
    assert ran.out.count("no errors, 0 warnings, ") == 2
    assert re.search(r"✓ 2,\d{3} evidences committed before the clone began, none of them", ran.out)
    assert re.search(
        r"✓ meanwhile the writer inserted \d+, replaced \d+ and deleted \d+; "
        r"it never waited longer than \d+ ms",
        ran.out,
    )
    assert "✗" not in ran.out
    assert "The demo's files are gone again" in ran.out
    assert [path.name for path in tmp_path.iterdir()] == ["home"], "the scratch directory is gone"


def test_what_is_kept_can_be_verified_as_told(tmp_path: Path) -> None:
    keep = tmp_path / "my demo"
    ran = run("demo", "--keep", keep)
    assert ran.code == 0, ran.err
    assert keep.stat().st_mode & 0o777 == 0o700
    assert f"Kept in {keep}. Try for yourself:" in ran.out
    (line,) = [line for line in ran.out.splitlines() if line.startswith("  inv verify")]
    command = shlex.split(line)
    assert command[:2] == ["inv", "verify"]
    again = run(*command[1:6])  # the production went on, the clone is sound
    assert again.code == 0, again.err


def test_keeps_only_in_a_new_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run_here(capsys, "demo", "--keep", tmp_path)
    assert ran.code == 2
    assert ran.error_line == f"error: the demo's directory exists already: {tmp_path}"
    assert ran.hint_line == "hint: name one that does not exist yet"
    ran = run_here(capsys, "demo", "--keep", tmp_path / "no" / "where")
    assert ran.code == 2
    says = f"cannot make the demo's directory {tmp_path}/no/where: No such file or directory"
    assert says in ran.error_line


def test_no_place_for_the_scratch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    ran = run_here(capsys, "demo")
    assert ran.code == 4
    assert f"cannot create a scratch directory in {tmp_path}/gone" in ran.error_line


def test_demo_in_process(tmp_path: Path) -> None:
    steps: list[str] = []

    def note(progress: Progress) -> None:
        steps.append(progress.step)

    done = run_demo(tmp_path / "demo", evidences=50, rate=100, clock=CLOCK, progress=note)
    assert done.lost == 0
    assert done.before >= 50
    # A row may be deleted, and its file not yet, at the instant that the clone shows.
    assert {finding.kind for finding in done.verification.findings} <= {"orphan"}
    assert done.writing.inserted >= 1
    assert steps[0] == "make an instance"
    assert len(evidence_ids(done.request.instance.database)) >= 50
    assert check(done.request.instance).findings == done.verification.findings


def test_bad_news_is_told(tmp_path: Path) -> None:
    done = run_demo(tmp_path / "demo", evidences=5, rate=100, clock=CLOCK, progress=quiet)
    lines = demo_module._verdict(replace(done, lost=3), good=False)  # noqa: SLF001
    assert lines[0].plain.startswith("✗ ")
    assert lines[0].plain.endswith(", 3 of them lost")
    assert all("✓" not in line.plain for line in lines)


def test_a_demo_that_fails(tmp_path: Path) -> None:
    """Break the clone for real, once it is published and before it is verified."""
    process = subprocess.Popen(
        [*INV, "demo", "--keep", str(tmp_path / "demo")],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    files = tmp_path / "demo" / "clone" / "attachments"
    while process.poll() is None and not files.exists():
        time.sleep(0.0005)
    for path in files.glob("policy_1*.pdf"):  # the live writer may have taken some of them
        path.unlink()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 5, err
    assert "error: the demo's clone is not what it must be" in err
    assert "✗" in out
    assert "✓" not in out
    assert "Verification failed" in out
    assert "error missing-file: " in out


def test_the_instance_looks_like_the_real_one(tmp_path: Path) -> None:
    made = build_instance(tmp_path / "made", evidences=8)
    assert made.database == tmp_path / "made" / "db" / "ciso-assistant.sqlite3"
    assert len(list(made.attachments.iterdir())) == 8
    assert made.database.read_bytes()[18:20] == b"\x02\x02", "WAL mode"
    assert check(made).findings == ()
    again = build_instance(tmp_path / "again", evidences=8)
    assert [path.read_bytes() for path in sorted(made.attachments.iterdir())] == [
        path.read_bytes() for path in sorted(again.attachments.iterdir())
    ]


@pytest.mark.parametrize("deletes", [True, False])
def test_the_writer_keeps_the_pair_sound(deletes: bool, tmp_path: Path) -> None:
    made = build_instance(tmp_path / "made", evidences=20)
    before = evidence_ids(made.database)
    with writer(made, rate=400, deletes=deletes) as busy:
        while len(evidence_ids(made.database)) < 40:
            pass
        done = busy.stop()
    after = evidence_ids(made.database)
    assert len(after) == 20 + done.inserted - done.deleted
    assert (done.replaced + done.deleted > 0) == deletes
    assert deletes or before < after
    assert check(made).findings == ()


def test_the_writer_ends_with_its_block(tmp_path: Path) -> None:
    made = build_instance(tmp_path / "made", evidences=1)
    with pytest.raises(LookupError), writer(made, rate=50):
        raise LookupError
    count = len(evidence_ids(made.database))
    assert count >= 2
    assert len(evidence_ids(made.database)) == count


def test_the_writer_as_a_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = build_instance(tmp_path / "made", evidences=3)
    reading, writing = os.pipe()
    os.close(writing)  # standard input has ended: one look, no commit
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        main([str(made.database), str(made.attachments), "100", "mixed"])
    assert json.loads(capsys.readouterr().out)["inserted"] == 0
    assert isinstance(stdin, io.TextIOWrapper)


def test_terminated_demo_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*INV, "demo"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("copy attachments"):
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert out == ""
    assert "error: stopped by SIGTERM" in err
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_interrupted_demo_says_one_thing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C goes to the writer too: it must not speak up."""
    # A writer that is killed while it saves its coverage leaves half a file of figures.
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    code, screen = run_on_terminal(
        "demo", prompt="copy attachments", answer="\x03", environment={"TMPDIR": str(tmp_path)}
    )
    assert code == 130
    assert "stopped by SIGINT" in screen
    assert "Traceback" not in screen
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
