"""What stops a staging refresh: nothing is published then, and nothing of the source is left."""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ops.demo_instance import build_instance, connect
from ops.model import Instance
from tests.command import INV, NOBODY, ROOT, Ran, acting_as, from_flags, run, run_here, to_flags
from tests.filesystem import footprint, read
from tests.mounting import tmpfs
from tests.planted import PLANTED, build_planted, grep, query, refresh
from tests.processes import held_open
from tests.swaps import private_names
from tests.test_signals import CODES, UNMEASURED, stop, wait_for


@pytest.fixture
def planted(tmp_path: Path) -> Instance:
    """Make an instance with everything planted."""
    return build_planted(tmp_path / "planted")


@pytest.fixture
def old(tmp_path: Path) -> Instance:
    """Make a pair that stands at the destination."""
    return build_instance(tmp_path / "old", evidences=2)


def refused(
    capture: pytest.CaptureFixture[str], source: Instance, copy: Instance, *flags: str | Path
) -> Ran:
    """Run a refresh that must fail, and see that all of the destination is as it was."""
    place = copy.database.parent
    before = read(place, times=False) if place.exists() else None
    ran = run_here(
        capture, "staging-refresh", "--force", *from_flags(source), *to_flags(copy), *flags
    )
    assert ran.code != 0
    assert (read(place, times=False) if place.exists() else None) == before
    return ran


# The destination


def test_what_stands_there_is_replaced_as_a_whole(
    planted: Instance, old: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    (old.attachments / "folder").mkdir()
    (old.attachments / "folder" / "old.txt").write_text("old")
    made = refresh(capsys, planted, old)
    assert sorted(os.listdir(old.database.parent)) == ["attachments", old.database.name]
    assert not (old.attachments / "folder").exists()
    names = {name for (name,) in made.query("SELECT attachment FROM core_evidencerevision")}
    assert set(os.listdir(old.attachments)) == {*names, "STAGING.txt"}


def test_a_wal_of_what_stood_there_does_not_come_back(
    planted: Instance, old: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_open(
        old.database,
        "PRAGMA wal_autocheckpoint = 0",
        "UPDATE iam_user SET email = 'from the old wal'",
    ):
        kept = {suffix: Path(f"{old.database}{suffix}").read_bytes() for suffix in ("", "-wal")}
    for suffix, content in kept.items():
        Path(f"{old.database}{suffix}").write_bytes(content)
    refresh(capsys, planted, old)
    with closing(sqlite3.connect(old.database)) as connection:
        emails = {email for (email,) in connection.execute("SELECT email FROM iam_user")}
    assert "from the old wal" not in emails
    assert "admin@staging.invalid" in emails


def test_a_destination_in_use_is_refused(
    planted: Instance, old: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_open(old.database, "SELECT * FROM iam_user"):
        ran = run_here(capsys, "staging-refresh", "--force", *from_flags(planted), *to_flags(old))
    assert ran.code == 6, ran.err
    assert query(old.database, "SELECT email FROM iam_user") == [("admin@example.org",)]
    assert private_names(old.database.parent) == []


@pytest.mark.parametrize("where", ["itself", "its files", "below its files", "around it"])
def test_a_destination_that_overlaps_the_source_is_refused(
    where: str, planted: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = footprint(planted.database.parent, ctime=False)
    copy = {
        "itself": planted,
        "its files": Instance(database=tmp_path / "db", attachments=planted.attachments),
        "below its files": Instance(
            database=tmp_path / "db", attachments=planted.attachments / "copy"
        ),
        "around it": Instance(database=tmp_path / "db", attachments=planted.database.parent),
    }[where]
    ran = refused(capsys, planted, copy)
    assert ran.code == 4, ran.err
    assert footprint(planted.database.parent, ctime=False) == before


def test_a_destination_that_cannot_be_written_is_refused(planted: Instance) -> None:
    """As another user, who may read the source and write nowhere near the destination."""
    copy = planted.database.parent.parent / "closed"
    copy.mkdir(mode=0o755)
    _open_way(planted)
    pair = Instance(database=copy / "db", attachments=copy / "files")
    ran = run("staging-refresh", "--force", *from_flags(planted), *to_flags(pair), user=NOBODY)
    assert (ran.code, str(copy) in ran.error_line) == (4, True), ran.err
    assert os.listdir(copy) == []


def test_another_user_may_refresh_what_he_may_read(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    refresh(capsys, planted, destination)  # loads what that user may not be able to read
    place = planted.database.parent.parent / "open"
    place.mkdir()
    _open_way(planted)
    pair = Instance(database=place / "db", attachments=place / "files")
    before = footprint(planted.database.parent)
    if os.geteuid() == 0:
        os.chown(place, NOBODY, NOBODY)
    with acting_as(NOBODY):
        refresh(capsys, planted, pair, "--attachments", "keep", "--jobs", "1")
    assert footprint(planted.database.parent) == before
    assert grep(PLANTED, place) == set()
    assert {path.stat().st_uid for path in (place, pair.database, pair.attachments)} == {NOBODY}


def _open_way(instance: Instance) -> None:
    """Let others read an instance, and reach it."""
    for path in (instance.database, *instance.attachments.iterdir()):
        path.chmod(0o644)
    for path in (instance.attachments, *instance.attachments.parents):
        if path.stat().st_uid == os.geteuid() and path.is_relative_to("/tmp"):  # noqa: S108 - of pytest
            path.chmod(path.stat().st_mode | 0o055)


@pytest.mark.parametrize("size", ["32k", "256k", "400k"])
def test_no_room_is_told_before_or_while_it_is_written(
    size: str, planted: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    with tmpfs(size) as small:
        pair = Instance(database=small / "db", attachments=small / "files")
        ran = refused(capsys, planted, pair)
        assert ran.code == 4, ran.err
        assert os.listdir(small) == []


# The source


@pytest.mark.parametrize("task", ["staging-refresh", "staging-rules"])
def test_a_virtual_table_is_refused(
    task: str, planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(connect(planted.database)) as connection:
        connection.execute("CREATE VIRTUAL TABLE found USING fts5 (text)")
    places = ("--force", *to_flags(destination)) if task == "staging-refresh" else ()
    ran = run_here(capsys, task, *from_flags(planted), *places)
    assert (ran.code, "virtual table cannot be sanitised: found" in ran.error_line) == (3, True)
    assert not destination.database.parent.exists()


@pytest.mark.parametrize("profile", ["none", "mine"])
def test_a_profile_without_rules_is_refused(
    profile: str, planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen: str | Path = profile
    if profile == "mine":
        chosen = planted.database.parents[1] / "mine.toml"
        Path(chosen).write_text('title = "Mine"\ntables = ["iam_user"]\n')
    for task, places in (("staging-refresh", to_flags(destination)), ("staging-rules", ())):
        force = ("--force",) if places else ()
        ran = run_here(capsys, task, *force, *places, *from_flags(planted), "--profile", chosen)
        assert (ran.code, "has no rules for sanitising" in ran.error_line) == (2, True), ran.err
        assert "docs/staging.md" in ran.hint_line
    assert not destination.database.parent.exists()


def test_a_source_that_is_damaged_is_refused(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    content = bytearray(planted.database.read_bytes())
    ((root,),) = query(
        planted.database, "SELECT rootpage FROM sqlite_schema WHERE name = 'iam_user'"
    )
    ((size,),) = query(planted.database, "PRAGMA page_size")
    content[(root - 1) * size : root * size] = os.urandom(size)
    planted.database.write_bytes(content)
    ran = refused(capsys, planted, destination)
    assert ran.code in {3, 5}, ran.err
    assert not destination.database.parent.exists()


def test_an_original_that_a_rule_puts_back_is_found_and_nothing_published(
    planted: Instance, destination: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The search does not trust the rules: here one writes a secret of the source."""
    from ops import profiles

    built_in = Path(profiles.__path__[0]) / "ciso_assistant.toml"
    mine = tmp_path / "mine.toml"
    prefix = 'prefix = "t0k3nkey1234567 "'
    mine.write_text(built_in.read_text().replace('prefix = "STAGING "', prefix))
    assert prefix in mine.read_text()
    ran = refused(capsys, planted, destination, "--profile", mine)
    assert ran.code == 5, ran.err
    said = "something of the source is left in the copy: iam_folder.name (and 1 more places)"
    assert said in ran.error_line, ran.err
    assert "t0k3nkey" not in ran.err + ran.out
    assert not destination.database.parent.exists()


# Signals


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """Make an instance that takes a moment; no test changes it."""
    instance = build_planted(tmp_path_factory.mktemp("large"), evidences=1000)
    with closing(connect(instance.database)) as connection:
        connection.execute(
            "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers"
            " WHERE n < 60000) INSERT INTO auditlog_logentry (object_repr, changes, actor_email)"
            " SELECT 'object ' || n, 'bob@corp.example ' || n, 'bob@corp.example' FROM numbers"
        )
    return instance


STEPS = {
    "copy database": "placeholder",
    "sanitise database": "placeholder",
    "write database afresh": "placeholder",
    "write placeholders": "placeholder",
    "copy attachments": "keep",
    "search and check the copy": "keep",
    "write to disk": "keep",
}


@pytest.fixture
def beside(tmp_path: Path) -> Iterator[Path]:
    """Make a directory for temporary files, and see that nothing stays in it."""
    directory = tmp_path / "temporary"
    directory.mkdir()
    yield directory
    assert os.listdir(directory) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", STEPS)
def test_a_signal_in_the_middle_leaves_nothing(
    step: str,
    number: signal.Signals,
    large: Instance,
    old: Instance,
    beside: Path,
) -> None:
    before = read(old.database.parent, times=False)
    flags = ("--force", "--attachments", STEPS[step], *from_flags(large), *to_flags(old))
    process = subprocess.Popen(
        [*INV, "staging-refresh", *map(str, flags)],
        cwd=ROOT,
        env={**UNMEASURED, "TMPDIR": str(beside)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(process, step)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        stop(process)
    assert "Traceback" not in err, err
    if process.returncode == 0:  # it was done before the signal came
        assert query(old.database, "SELECT count(*) FROM ciso_ops_staging") == [(1,)]
    else:
        assert (process.returncode, f"stopped by {number.name}" in err) == (CODES[number], True)
        assert read(old.database.parent, times=False) == before
    assert private_names(old.database.parent) == []
    assert grep(PLANTED[:3], old.database.parent) == set()
