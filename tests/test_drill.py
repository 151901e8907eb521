"""A drill proves that a snapshot can be restored, or says loudly that it cannot."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops.cli.page import drill_page
from ops.drill import Drill
from ops.model import Finding, Instance, Severity
from ops.report import CheckCounts
from ops.store import list_snapshots
from tests.command import PROGRAM, ROOT, Ran, from_flags, run
from tests.conftest import extract_sample
from tests.processes import wait_until_gone

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
COUNT = (
    "import os, sqlite3; print(sqlite3.connect(os.environ['SQLITE_FILE'])"
    ".execute('SELECT count(*) FROM core_evidence').fetchone()[0],"
    " len(os.listdir(os.environ['LOCAL_STORAGE_DIRECTORY'])))"
)


@pytest.fixture
def store(instance: Instance, tmp_path: Path) -> Path:
    """Make a store with two snapshots."""
    place = tmp_path / "store"
    for _ in range(2):
        made = run("backup-daily", "--store", place, *from_flags(instance))
        assert made.code == 0, made.err
    return place


def drill(store: Path, *flags: str | Path) -> Ran:
    """Run a drill."""
    return run("drill", "--store", store, "--json", *flags)


def python(code: str) -> str:
    """Return a command that runs some Python."""
    return f'{sys.executable} -c "{code}"'


def temporary(directory: Path) -> set[str]:
    """List what is left in the place for temporary files."""
    return {name for name in os.listdir(directory) if name.startswith("ciso-ops")}


def test_the_command_finds_the_restored_pair(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    ran = drill(store, "--command", python(COUNT))
    assert ran.code == 0, ran.err
    document = ran.document
    assert document["ok"] is True
    assert document["ran"]["exit_code"] == 0
    assert document["ran"]["output"].split() == ["12", "12"]
    assert document["restore_seconds"] > 0
    assert document["checks"]["files"] == 12
    assert temporary(tmp_path / "scratch") == set()
    written = [Path(path) for path in document["files"]]
    assert [path.parent for path in written] == [store / "drills"] * 2
    assert json.loads(written[0].read_text("utf-8")) == document
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in written)


def test_a_drill_without_a_command_restores_and_checks(store: Path) -> None:
    ran = drill(store)
    assert ran.code == 0
    assert ran.document["ran"] is None


def test_each_drill_has_files_of_its_own(store: Path, tmp_path: Path) -> None:
    files = [
        path
        for _ in range(3)
        for path in drill(store, "--report", tmp_path / "filed").document["files"]
    ]
    assert len(set(files)) == 6
    assert sorted(map(str, (tmp_path / "filed").iterdir())) == sorted(files)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("import sys; print('no such table'); sys.exit(3)", 3, "failed with exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", -9, "was ended by SIGKILL"),
    ],
)
def test_a_command_that_fails_fails_the_drill(
    store: Path, command: str, code: int, said: str
) -> None:
    ran = drill(store, "--command", python(command))
    assert ran.code == 5
    assert said in ran.err
    assert ran.document["ok"] is False
    assert ran.document["ran"]["exit_code"] == code
    assert said in Path(ran.document["files"][1]).read_text("utf-8")


def test_what_a_failing_command_said_is_shown(store: Path) -> None:
    ran = run("drill", "--store", store, "--command", "sh -c 'echo one; echo two >&2; exit 1'")
    assert ran.code == 5
    assert "| one\n" in ran.out
    assert "| two\n" in ran.out


def test_of_much_output_the_end_is_kept(store: Path) -> None:
    ran = drill(store, "--command", python("for n in range(300000): print(n)"))
    assert ran.code == 0, ran.err
    output = ran.document["ran"]["output"]
    assert len(output) == 64 << 10
    assert output.endswith("\n299998\n299999\n")


def test_a_command_that_is_not_there_fails_the_drill(store: Path) -> None:
    ran = drill(store, "--command", "/nowhere/manage.py check")
    assert ran.code == 5
    assert "No such file" in ran.document["ran"]["output"]


def test_a_command_that_takes_too_long_is_ended_with_all_it_started(
    store: Path, tmp_path: Path
) -> None:
    note = tmp_path / "pid"
    began = time.monotonic()
    ran = drill(
        store, "--command", f"sh -c 'sleep 300 & echo $! > {note}; wait'", "--time-limit", "1"
    )
    assert time.monotonic() - began < 60
    assert ran.code == 5
    assert ran.document["ran"]["exit_code"] is None
    assert "did not end within 1 second" in ran.err
    wait_until_gone(int(note.read_text()))


def test_a_command_that_ignores_being_asked_is_killed(store: Path) -> None:
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(300)"
    ran = drill(store, "--command", python(deaf), "--time-limit", "0.5")
    assert ran.code == 5
    assert ran.document["ran"]["exit_code"] is None


def test_a_signal_ends_the_command_too_and_leaves_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    note = tmp_path / "pid"
    process = subprocess.Popen(
        [*PROGRAM, "drill", "--store", store, "--command", f"sh -c 'echo $$ > {note}; sleep 300'"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            if note.exists() and note.read_text():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    finally:
        process.kill()
    wait_until_gone(int(note.read_text()))
    assert temporary(tmp_path / "scratch") == set()


def test_one_damaged_byte_fails_the_drill_and_is_named(store: Path) -> None:
    newest = list_snapshots(store)[-1]
    victim = min(newest.instance.attachments.iterdir())
    victim.chmod(0o600)
    content = victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    ran = drill(store)
    assert ran.code == 5
    assert victim.name in ran.err
    page = Path(ran.document["files"][1]).read_text("utf-8")
    assert 'class="verdict failed"' in page
    assert victim.name in page


@pytest.mark.parametrize("name", ["sample", "sample-live"])
def test_the_real_samples_pass_and_fail_with_one_damaged_byte(name: str, tmp_path: Path) -> None:
    directory = extract_sample(name, tmp_path)
    facts = json.loads((directory / "facts.json").read_text("utf-8"))
    source = Instance(
        database=directory / "ciso-assistant.sqlite3", attachments=directory / "attachments"
    )
    store = tmp_path / "store"
    assert run("backup-daily", "--store", store, *from_flags(source)).code == 0
    passed = drill(store, "--command", python(COUNT))
    assert passed.code == 0, passed.err
    evidences, files = map(int, passed.document["ran"]["output"].split())
    assert (evidences, files) == (facts["n_evidences"], facts["n_files_on_disk"])
    database = list_snapshots(store)[-1].instance.database
    database.chmod(0o600)
    with database.open("r+b") as file:
        file.seek(-10, os.SEEK_END)
        byte = file.read(1)
        file.seek(-10, os.SEEK_END)
        file.write(bytes([byte[0] ^ 1]))
    failed = drill(store)
    assert failed.code == 5
    assert "the snapshot is damaged" in failed.err


def test_an_unreadable_snapshot_fails_the_drill(store: Path) -> None:
    newest = list_snapshots(store)[-1]
    (newest.path / "snapshot.json").chmod(0o600)
    (newest.path / "snapshot.json").write_text("{}")
    ran = drill(store, "--snapshot", newest.name)
    assert ran.code == 5
    assert "cannot be read" in ran.err


def test_the_configured_command_is_a_list_or_a_string(store: Path) -> None:
    environment = {**os.environ, "INVOKE_OPS_DRILL_COMMAND": "sh -c 'echo configured'"}
    done = subprocess.run(
        [*PROGRAM, "drill", "--store", str(store), "--json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["ran"]["output"] == "configured\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--time-limit", "soon"), "--time-limit must be a number of seconds"),
        (("--command", "'"), "--command is not a command"),
        (("--snapshot", "2020-01-01T000000Z"), "has no snapshot"),
    ],
)
def test_bad_input_ends_in_one_line(store: Path, flags: tuple[str, ...], said: str) -> None:
    ran = drill(store, *flags)
    assert ran.code in {2, 3}
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_a_record_that_cannot_be_written_is_a_failure(store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = drill(store, "--report", tmp_path / "file" / "drills")
    assert ran.code == 4
    assert "write the record" in ran.err


# The page


def page_of(drilled: Drill, store: Path) -> str:
    """Return a page about a drill."""
    return drill_page(drilled, [one.summary for one in list_snapshots(store) if one.summary])


def hostile(store: Path) -> Drill:
    """Make a drill whose every text tries to break out of the page."""
    evil = "</pre><script>document.title = 'broken'</script>"
    snapshot = list_snapshots(store)[-1]
    assert snapshot.summary is not None
    findings = tuple(
        Finding(kind="orphan", severity=Severity.NOTE, where=evil, found=evil) for _ in range(150)
    )
    return Drill(
        snapshot=snapshot,
        began=snapshot.summary.captured,
        restore_seconds=1.5,
        counts=CheckCounts(tables=3, files=12),
        findings=findings,
        failure=evil,
    )


def test_no_text_breaks_out_of_the_page(store: Path) -> None:
    page = page_of(hostile(store), store)
    assert "<script" not in page
    assert "50, listed in the JSON" in page


def test_the_page_needs_nothing_else(store: Path) -> None:
    ran = drill(store)
    page = Path(ran.document["files"][1]).read_text("utf-8")
    assert not re.search(r"(?:src|href|url)\s*[=(]", page)
    assert "@import" not in page
    assert page.count("<svg") == 2
    assert page.count("<rect") == 2 * 2 + 2


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_the_page_and_prints_it(store: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(page_of(hostile(store), store), "utf-8")
    browser = (CHROMIUM or "", "--headless", "--no-sandbox", "--disable-gpu")
    home = {**os.environ, "HOME": str(tmp_path)}
    shown = subprocess.run(
        [*browser, f"--user-data-dir={tmp_path}/profile", "--dump-dom", page.as_uri()],
        env=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    assert re.search(r'id="verdict">Failed<', shown)
    assert "<title>Restore drill of " in shown
    assert shown.count("<rect") == 6
    printed = tmp_path / "page.pdf"
    subprocess.run(
        [
            *(*browser, f"--user-data-dir={tmp_path}/profile", "--no-pdf-header-footer"),
            *(f"--print-to-pdf={printed}", page.as_uri()),
        ],
        env=home,
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert printed.read_bytes().startswith(b"%PDF")
