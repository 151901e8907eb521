"""Off-site: what is pushed comes back whole from each kind of place; what fails loses nothing."""

import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.errors import SourceError
from ops.model import Instance
from ops.offsite.identity import give_identity, require_identity, store_identity
from ops.offsite.keeping import plan_forgetting
from ops.offsite.repository import Copy
from ops.retention import Policy
from ops.snapshot import DAMAGED, FORGOTTEN, PULLED, PUSHED, REPLACED, VERIFIED, Event, last_push
from ops.store import LATEST, MARKER, Snapshot, append_event, find_snapshot
from tests.backends import free_port, require_program, serving, write_script
from tests.command import INV, NOBODY, ROOT, Ran, from_flags, run_here
from tests.filesystem import read
from tests.test_audit import history
from tests.test_backup import NIGHT
from tests.test_json import document_of
from tests.test_retention import PASSWORD, Repository
from tests.test_signals import CODES, stop
from tests.test_store import at, back_up, flip, litter_in, names_in, reader_of

Run = Callable[..., Ran]
_SECONDS = 60


@pytest.fixture(autouse=True)
def _restic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let restic know of nothing but what a test tells it."""
    require_program("restic")
    for name in list(os.environ):
        if name.startswith(("RESTIC_", "AWS_", "XDG_", "RCLONE_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("RESTIC_PASSWORD", PASSWORD)


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""
    return lambda *arguments: run_here(capsys, *arguments)


@pytest.fixture
def store(instance: Instance, tmp_path: Path) -> Path:
    """Make a store with one snapshot."""
    back_up(instance, tmp_path / "store", clock=at(NIGHT))
    return (tmp_path / "store").resolve()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have an empty repository in a directory, which is the one that is used.

    Its key is a cheap one: restic takes half a second to derive one of its own, at each start.
    """
    require_program("openssl")
    path = tmp_path / "repository"
    path.mkdir()
    Repository(path, (), UTC)
    monkeypatch.setenv("RESTIC_REPOSITORY", str(path))
    return path


def restic(*arguments: str, repository: Path, home: Path) -> str:
    """Run the real restic by itself."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "RESTIC_PASSWORD": PASSWORD,
        "RESTIC_REPOSITORY": str(repository),
    }
    done = subprocess.run(
        [require_program("restic"), *arguments],
        env=environment,
        check=True,
        capture_output=True,
        timeout=_SECONDS,
    )
    return done.stdout.decode()


def listed(repository: Path, home: Path) -> list[dict[str, Any]]:
    """List what a repository holds, as restic tells it."""
    found: list[dict[str, Any]] = json.loads(
        restic("snapshots", "--json", repository=repository, home=home)
    )
    return found


def add_night(instance: Instance, store: Path, days: int) -> str:
    """Make a snapshot of a later night, with one more file."""
    (instance.attachments / f"night {days}.txt").write_text(f"night {days}")
    return back_up(instance, store, clock=at(NIGHT + timedelta(days=days))).name


# There and back


def test_what_is_there_already_is_not_pushed_again(
    here: Run, instance: Instance, store: Path, repository: Path, tmp_path: Path
) -> None:
    (first,) = names_in(store)
    assert f"{first}  only here; verified" in here("offsite-status", "--store", store).out
    planned = document_of(here("push", "--store", store, "--dry-run", "--json"), "push", ok=True)
    assert (planned["dry_run"], planned["restic_snapshot"]) == (True, None)
    assert listed(repository, tmp_path) == []
    document = document_of(here("push", "--store", store, "--json"), "push", ok=True)
    (known,) = listed(repository, tmp_path)
    assert document["uploaded"] is True
    assert document["restic_snapshot"] == known["id"]
    assert known["time"] == "2026-03-01T01:00:00Z"
    identity = store_identity(store)
    assert {"ciso-ops", f"snapshot={first}", f"store={identity}"} < set(known["tags"])
    (event,) = (one for one in find_snapshot(store, first).events if one.what == PUSHED)
    assert event.details == {
        "repository": document["repository"]["id"],
        "restic_snapshot": known["id"],
    }
    again = here("push", "--store", store)
    assert again.out.startswith(f"{first} is off-site already\n")
    assert ", pushed  " in here("snapshots", "--store", store).out
    shown = here("snapshots", "--store", store, "--json").document["snapshots"]
    assert shown[0]["pushed"] == event.instant.isoformat()
    assert "it is there already, as" in here("push", "--store", store, "--dry-run").out
    assert [one["id"] for one in listed(repository, tmp_path)] == [known["id"]]
    second = add_night(instance, store, 1)
    assert f"begin from  {first}" in here("push", "--store", store, "--dry-run").out
    assert here("push", "--store", store).out.startswith(f"Pushed {second} in ")
    found = document_of(
        here("offsite-status", "--store", store, "--json"), "offsite-status", ok=True
    )
    assert [(one["name"], one["state"]) for one in found["snapshots"]] == [
        (first, "both"),
        (second, "both"),
    ]


def test_only_what_changed_is_read_again(  # noqa: PLR0917 - fixtures
    here: Run,
    instance: Instance,
    store: Path,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A night that shares its files with the one before is recognised by restic, and is whole.

    Once that one is gone, its inodes may be those of other files: all is read.
    """
    said = tmp_path / "said"
    wrap(tmp_path, monkeypatch, after=f"code=$?; cat {said}; exit $code", into=said)

    def unmodified() -> int:
        summary = json.loads(said.read_bytes().splitlines()[-1])
        return int(summary["files_unmodified"])

    assert here("push", "--store", store).code == 0
    assert unmodified() == 0
    (first,) = names_in(store)
    second = add_night(instance, store, 1)
    assert here("push", "--store", store).code == 0
    assert unmodified() == 12, "all but the new file, the database and the tag files"
    assert here("prune", "--store", store, "--remove", first).code == 0
    (known,) = (one for one in listed(repository, tmp_path) if tag(one) == second)
    restic("forget", known["id"], repository=repository, home=tmp_path)
    assert here("push", "--store", store).code == 0
    assert unmodified() == 0
    shutil.rmtree(store)
    assert here("pull", "--store", tmp_path / "new").code == 0
    assert names_in(tmp_path / "new") == [second]
    assert read(tmp_path / "new" / second / "data" / "attachments", times=False).keys() == {
        b"",
        *(os.fsencode(path.name) for path in instance.attachments.iterdir()),
    }


def test_a_push_that_could_not_write_it_down_is_found_again(
    here: Run, store: Path, repository: Path, tmp_path: Path
) -> None:
    here("push", "--store", store)
    (name,) = names_in(store)
    (store / name / "history.jsonl").unlink()
    ran = here("push", "--store", store)
    assert ran.out.startswith(f"{name} is off-site already\n")
    assert history(store, name) == [PUSHED]
    assert len(listed(repository, tmp_path)) == 1


def test_what_was_forgotten_by_somebody_is_told_and_pushed_again(
    here: Run, store: Path, repository: Path, tmp_path: Path
) -> None:
    here("push", "--store", store)
    (known,) = listed(repository, tmp_path)
    restic("forget", known["id"], repository=repository, home=tmp_path)
    told = here("offsite-status", "--store", store).out
    assert "only here: it was pushed to this repository, and is not there any more" in told
    assert here("push", "--store", store).out.startswith("Pushed ")
    assert len(listed(repository, tmp_path)) == 1


@pytest.mark.usefixtures("repository")
def test_a_snapshot_that_the_store_has_is_not_overwritten(here: Run, store: Path) -> None:
    here("push", "--store", store)
    (name,) = names_in(store)
    assert here("pull", "--store", store).out.startswith(f"{name} is in the store already\n")
    planned = here("pull", "--store", store, "--dry-run")
    assert "nothing: the store has it already" in planned.out
    append_event(find_snapshot(store, name), Event(what=DAMAGED, instant=NIGHT, details={}))
    before = read(store)
    ran = here("pull", "--store", store)
    assert ran.code == 4
    assert "has a snapshot of this name, which is not overwritten" in ran.error_line
    assert f"--remove {name}" in ran.hint_line
    assert read(store) == before
    assert here("prune", "--store", store, "--remove", name).code == 0
    assert here("pull", "--store", store).out.startswith(f"Pulled {name} in ")
    assert find_snapshot(store, name).verified


@pytest.mark.usefixtures("repository")
def test_a_dry_pull_tells_what_it_would_bring(here: Run, store: Path, tmp_path: Path) -> None:
    here("push", "--store", store)
    new = tmp_path / "new"
    assert "19 files, " in here("pull", "--store", new, "--dry-run").out
    document = document_of(here("pull", "--store", new, "--dry-run", "--json"), "pull", ok=True)
    assert (document["present"], document["files"]) == (False, 19)
    assert not new.exists()
    document = document_of(here("pull", "--store", new, "--json"), "pull", ok=True)
    assert document["snapshot"]["verified"] is True
    assert document["checks"]["files"] == 12
    document = document_of(here("pull", "--store", new, "--json"), "pull", ok=True)
    assert (document["present"], document["checks"]) == (True, None)


# What is not pushed, and not pulled


def test_what_is_not_sound_is_not_pushed(
    here: Run, store: Path, repository: Path, tmp_path: Path
) -> None:
    (name,) = names_in(store)
    flip(next((store / name / "data" / "attachments").iterdir()))
    ran = here("push", "--store", store)
    assert ran.code == 5
    assert "is damaged, and was not pushed" in ran.error_line
    assert "error changed: " in ran.err
    assert history(store, name) == [DAMAGED]
    named = here("push", "--store", store, "--snapshot", name)
    assert named.code == 3
    assert "only a verified snapshot is pushed" in named.error_line
    assert here("push", "--store", store).code == 3, "there is no latest any more"
    assert listed(repository, tmp_path) == []


def test_a_file_that_goes_during_a_push_is_noticed(
    here: Run, store: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = names_in(store)
    gone = next((store / name / "data" / "attachments").iterdir())
    wrap(tmp_path, monkeypatch, before=f"rm '{gone}'")
    ran = here("push", "--store", store)
    assert ran.code == 5
    assert "restic took in 18 files" in ran.error_line
    assert PUSHED not in history(store, name)
    assert listed(repository, tmp_path) == [], "it is taken back"


def test_a_copy_that_restic_says_is_incomplete_is_taken_back(
    here: Run, store: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap(tmp_path, monkeypatch, after="exit 3")
    ran = here("push", "--store", store, "--no-verify")
    assert ran.code == 3
    assert "restic could not read all of the snapshot" in ran.error_line
    assert history(store, LATEST) == []
    assert listed(repository, tmp_path) == []
    wrap(tmp_path, monkeypatch, after="exit 3", forget="exit 1")
    ran = here("push", "--store", store, "--no-verify")
    assert ran.code == 3
    assert "note: restic has kept an incomplete copy, " in ran.err
    assert len(listed(repository, tmp_path)) == 1


@pytest.mark.usefixtures("repository")
def test_what_restic_does_not_list_is_not_pushed(
    here: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap(tmp_path, monkeypatch, after="rm -f $RESTIC_REPOSITORY/snapshots/*; exit 0")
    ran = here("push", "--store", store)
    assert ran.code == 5
    assert "but does not list it" in ran.error_line
    assert PUSHED not in history(store, LATEST)


def wrap(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    before: str = ":",
    after: str = "",
    limit: str = "",
    command: str = "backup",
    into: Path | None = None,
    forget: str = ":",
) -> Path:
    """Put a program before restic that does more at one of its commands.

    Returns:
        The file that the process number of that restic is written to.
    """
    programs = directory / "wrapped"
    programs.mkdir(exist_ok=True)
    path = os.environ["PATH"].removeprefix(f"{programs}{os.pathsep}")
    monkeypatch.setenv("PATH", path)
    real = require_program("restic")
    number = directory / "number"
    number.unlink(missing_ok=True)
    redirected = f" >{into}" if into else ""
    run = f'{real} "$@"{redirected}; {after}' if after else f'exec {real} {limit} "$@"'
    write_script(
        programs / "restic",
        f'if [ "$1" = forget ]; then {forget}; fi',
        f'if [ "$1" = {command} ]; then echo $$ >{number}.new; mv {number}.new {number}',
        f"{before}; {run}",
        "fi",
        f'exec {real} "$@"',
    )
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{path}")
    return number


def test_a_damaged_repository_publishes_nothing(
    here: Run, store: Path, repository: Path, tmp_path: Path
) -> None:
    here("push", "--store", store)
    before = read(store)
    shutil.rmtree(tmp_path / "home" / ".cache")
    packs = sorted((repository / "data").rglob("*"), key=lambda path: path.stat().st_size)
    flip(packs[-1], 100)
    new = tmp_path / "new"
    ran = here("pull", "--store", new)
    assert ran.code == 5, ran.err
    assert "the repository is damaged: " in ran.error_line
    assert "restic check --read-data" in ran.hint_line
    assert names_in(new) == litter_in(new) == []
    for index in (repository / "index").iterdir():
        flip(index, 5)
    shutil.rmtree(tmp_path / "home" / ".cache")
    ran = here("pull", "--store", new)
    assert (ran.code, "the repository is damaged: " in ran.error_line) == (5, True)
    flip(repository / "config", 5)
    ran = here("push", "--store", store)
    assert (ran.code, "the repository is damaged: " in ran.error_line) == (5, True)
    assert read(store) == before


@pytest.mark.usefixtures("repository")
def test_a_wrong_password_is_told(
    here: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTIC_PASSWORD", "not that")
    for task in ("push", "pull", "offsite-status"):
        ran = here(task, "--store", store)
        assert ran.code == 2
        assert "the password does not open the repository" in ran.error_line
        assert "RESTIC_PASSWORD_FILE" in ran.hint_line
        assert "not that" not in ran.out + ran.err
    monkeypatch.delenv("RESTIC_PASSWORD")
    for name, value in (
        ("RESTIC_PASSWORD_COMMAND", "false"),
        ("RESTIC_PASSWORD_FILE", str(tmp_path / "none")),
    ):
        monkeypatch.setenv(name, value)
        assert here("push", "--store", store).code == 2
    (tmp_path / "password").write_text(PASSWORD)
    monkeypatch.setenv("RESTIC_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.delenv("RESTIC_PASSWORD_COMMAND")
    assert here("push", "--store", store).code == 0


def test_a_dead_network_is_told_without_the_credentials(
    here: Run, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{free_port()}"
    for location in (f"rest:http://me:secret@{address}/", f"s3:http://{address}/bucket"):
        monkeypatch.setenv("RESTIC_REPOSITORY", location)
        for task, code in (("push", 4), ("pull", 3), ("offsite-status", 3)):
            ran = here(task, "--store", store)
            assert ran.code == code
            assert "cannot reach the repository" in ran.error_line
            assert "connection refused" in ran.error_line
            assert "secret" not in ran.out + ran.err
    write = here("push", "--store", store, "--init")
    assert (write.code, "cannot reach" in write.error_line) == (4, True)


def test_no_repository_is_told(
    here: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESTIC_REPOSITORY", str(tmp_path / "none"))
    for task, code in (("push", 4), ("pull", 3), ("offsite-status", 3)):
        ran = here(task, "--store", store)
        assert ran.code == code
        assert "there is no repository yet" in ran.error_line
        assert "inv push --init" in ran.hint_line
    planned = here("push", "--store", store, "--init", "--dry-run")
    assert "to be made" in planned.out
    planned = here("push", "--store", store, "--init", "--dry-run", "--forget", "--keep-last", "1")
    assert "  1 kept, 0 would go\n" in planned.out
    assert not (tmp_path / "none").exists()
    monkeypatch.setenv("RESTIC_REPOSITORY", "/proc/none")
    ran = here("push", "--store", store, "--init")
    assert (ran.code, "the repository cannot be made: /proc/none" in ran.error_line) == (4, True)
    monkeypatch.setenv("RESTIC_REPOSITORY", "nothing:known")
    for named in ("", str(tmp_path / "missing")):
        monkeypatch.setenv("RESTIC_REPOSITORY_FILE", named)
        ran = here("push", "--store", store)
        assert (ran.code, "this is no address of a repository" in ran.error_line) == (2, True)
    monkeypatch.delenv("RESTIC_REPOSITORY")
    ran = here("push", "--store", store)
    assert (ran.code, f"repository: named in {tmp_path}/missing: " in ran.error_line) == (2, True)


@pytest.mark.usefixtures("repository")
def test_an_empty_repository_and_an_unknown_name_are_told(here: Run, store: Path) -> None:
    ran = here("pull", "--store", store)
    assert (ran.code, "the repository holds no snapshots" in ran.error_line) == (3, True)
    told = here("offsite-status", "--store", store / "none")
    assert told.out.startswith("0 snapshots off-site\n")
    assert told.out.endswith("  store       no store\n")
    here("push", "--store", store)
    for name in ("2026-01-01T000000Z", "a\nb", "abcdef0123"):
        ran = here("pull", "--store", store, "--snapshot", name)
        assert (ran.code, "the repository holds no snapshot " in ran.error_line) == (3, True)
        assert "offsite-status" in ran.hint_line
    ran = here("push", "--store", store, "--snapshot", "2026-01-01T000000Z")
    assert ran.code == 3


def test_a_locked_repository_is_told(
    here: Run, store: Path, repository: Path, tmp_path: Path
) -> None:
    """A lock that a killed restic left keeps others from forgetting."""
    here("push", "--store", store)
    reader, writer = os.pipe()
    environment = {**os.environ, "RESTIC_REPOSITORY": str(repository)}
    process = subprocess.Popen(
        [require_program("restic"), "backup", "--stdin"],
        stdin=reader,
        stdout=subprocess.DEVNULL,
        env=environment,
    )
    try:
        os.close(reader)
        wait_until(lambda: is_locked(repository))
    finally:
        process.kill()
        process.wait()
        os.close(writer)
    ran = here("push", "--store", store, "--forget", "--keep-last", "1", "--reclaim")
    assert ran.code == 6, ran.err
    assert "another restic has locked the repository" in ran.error_line
    assert "restic unlock" in ran.hint_line
    assert "is off-site all the same" in ran.err
    restic("unlock", repository=repository, home=tmp_path)
    ran = here("push", "--store", store, "--forget", "--keep-last", "1", "--reclaim")
    assert ran.code == 0, ran.err


def is_locked(repository: Path) -> bool:
    """Tell whether a repository has a lock that is whole, as its name then is."""
    return any(len(path.name) == 64 for path in (repository / "locks").iterdir())


def wait_until(ready: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + _SECONDS
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# What comes back, and is none of ours


def take_in(repository: Path, home: Path, directory: Path, *tags: str) -> str:
    """Have restic take in a directory as somebody else might; returns its number."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "RESTIC_PASSWORD": PASSWORD,
        "RESTIC_REPOSITORY": str(repository),
    }
    arguments = [part for tag in tags for part in ("--tag", tag)]
    done = subprocess.run(
        [require_program("restic"), "backup", "--json", *arguments, "."],
        env=environment,
        cwd=directory,
        check=True,
        capture_output=True,
        timeout=_SECONDS,
    )
    return str(json.loads(done.stdout.splitlines()[-1])["snapshot_id"])


def test_what_is_not_ours_is_not_listed(
    here: Run, store: Path, repository: Path, tmp_path: Path
) -> None:
    take_in(repository, tmp_path, store)
    take_in(repository, tmp_path, store, "ciso-ops")
    take_in(repository, tmp_path, store, "ciso-ops", "snapshot=../../etc")
    assert here("pull", "--store", tmp_path / "new").code == 3
    found = here("offsite-status", "--json").document
    assert (found["store"], found["snapshots"]) == (None, [])


def test_what_calls_itself_a_snapshot_and_is_none_is_refused(
    here: Run, store: Path, repository: Path, tmp_path: Path
) -> None:
    """Whoever has the password can put anything there: only what holds all checks is published."""
    (name,) = names_in(store)
    bag = hashlib.sha256((store / name / "tagmanifest-sha256.txt").read_bytes()).hexdigest()
    tags = ("ciso-ops", f"snapshot={name}", "store=1")
    new = tmp_path / "new"

    def pulled(change: Callable[[Path], object], *more: str, says: str) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(store / name, copy)
        change(copy)
        number = take_in(repository, tmp_path, copy, *tags, *more)
        shutil.rmtree(copy)
        ran = here("pull", "--store", new, "--snapshot", number)
        assert ran.code == 5, ran.err
        assert says in ran.error_line
        assert names_in(new) == litter_in(new) == []

    bagged = f"bag={bag}"
    pulled(lambda copy: (copy / "link").symlink_to("/etc"), bagged, says="that no snapshot has")
    pulled(lambda copy: os.mkfifo(copy / "data" / "pipe"), bagged, says="that no snapshot has")
    pulled(lambda copy: (copy / "snapshot.json").unlink(), bagged, says="is no snapshot: ")
    pulled(lambda copy: (copy / "snapshot.json").write_text("{}"), bagged, says="is no snapshot: ")
    pulled(lambda _copy: None, "bag=0", says="is another snapshot: ")
    flipped = next((store / name / "data" / "attachments").iterdir()).name
    pulled(
        lambda copy: flip(copy / "data" / "attachments" / flipped),
        bagged,
        says=f"what came back of {name} is damaged: nothing was published",
    )


def test_what_restic_complains_of_is_told_and_the_check_decides(
    here: Run, store: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An owner that cannot be set, on NFS for example, is no reason to be without a snapshot."""
    here("push", "--store", store)
    said = "ignoring error for /data: lchown: operation not permitted"
    complain = f'echo "{said}" >&2; echo "Fatal: There were 1 errors" >&2; exit 1'
    wrap(tmp_path, monkeypatch, after=complain, command="restore")
    ran = here("pull", "--store", tmp_path / "new")
    assert ran.code == 0, ran.err
    assert "warning: all that came back is right, but restic complained: " in ran.out
    ran = here("pull", "--store", tmp_path / "newer", "--json")
    assert ran.document["complaint"] == said
    lose = f"rm $5/data/attachments/*_11.pdf; {complain}"
    wrap(tmp_path, monkeypatch, after=lose, command="restore")
    newest = tmp_path / "newest"
    ran = here("pull", "--store", newest)
    assert (ran.code, f"damaged: {repository}: {said}" in ran.error_line) == (5, True)
    assert "error missing: " in ran.err
    assert names_in(newest) == litter_in(newest) == []
    cut = f'rm -r "$5"/*; echo "ignoring error for /: dial tcp: i/o timeout" >&2; {complain}'
    wrap(tmp_path, monkeypatch, after=cut, command="restore")
    ran = here("pull", "--store", newest)
    assert (ran.code, "cannot reach the repository" in ran.error_line) == (3, True)
    wrap(tmp_path, monkeypatch, after="kill -9 $$", command="restore")
    ran = here("pull", "--store", newest)
    assert (ran.code, "ended by SIGKILL" in ran.error_line) == (1, True)
    assert names_in(newest) == litter_in(newest) == []
    assert len(listed(repository, tmp_path)) == 1


def test_what_comes_back_is_ours_with_the_modes_of_a_snapshot(
    here: Run, store: Path, repository: Path, tmp_path: Path
) -> None:
    (name,) = names_in(store)
    before = read(store / name, times=False)
    copy = tmp_path / "copy"
    shutil.copytree(store / name, copy)
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        if os.geteuid() == 0:
            os.chown(path, NOBODY, NOBODY)
    bag = hashlib.sha256((copy / "tagmanifest-sha256.txt").read_bytes()).hexdigest()
    take_in(repository, tmp_path, copy, "ciso-ops", f"snapshot={name}", f"bag={bag}")
    new = tmp_path / "new"
    assert here("pull", "--store", new).code == 0
    after = read(new / name, times=False)
    del before[b""], after[b""], after[b"history.jsonl"]
    assert after == before
    assert stat.S_IMODE((new / name / "history.jsonl").stat().st_mode) == 0o600
    assert store_identity(new) == "", "the copy tells no number"


def test_a_snapshot_too_damaged_to_tell_is_another_one(
    here: Run, store: Path, repository: Path
) -> None:
    here("push", "--store", store)
    (name,) = names_in(store)
    (store / name / "tagmanifest-sha256.txt").unlink()
    assert "here and off-site, but not the same" in here("offsite-status", "--store", store).out
    ran = here("pull", "--store", store)
    assert (ran.code, "not overwritten" in ran.error_line) == (4, True)
    ran = here("push", "--store", store)
    assert (ran.code, "cannot read " in ran.error_line) == (3, True)
    assert repository.is_dir()


# Several stores in one repository


@pytest.mark.usefixtures("repository")
def test_two_stores_share_a_repository(
    here: Run, instance: Instance, store: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    (instance.attachments / "other.txt").write_text("other")
    back_up(instance, other, clock=at(NIGHT))
    later = add_night(instance, other, 1)
    (name,) = names_in(store)
    for place in (store, other):
        assert here("push", "--store", place, "--snapshot", name).code == 0
    assert here("push", "--store", other).code == 0
    assert store_identity(store) != store_identity(other)
    told = here("offsite-status", "--store", store).out
    assert f"{later}  only off-site" in told
    new = tmp_path / "new"
    for wanted in (LATEST, name):
        ran = here("pull", "--store", new, "--snapshot", wanted)
        assert ran.code == 3
        assert "the repository holds snapshots of 2 stores: " in ran.error_line
        assert "--snapshot NUMBER" in ran.hint_line
    (numbers,) = re.findall(rf"{name} of \S+{store}/{name} is (\w{{8}})", ran.error_line)
    assert here("pull", "--store", new, "--snapshot", numbers).code == 0
    assert store_identity(new) == store_identity(store)
    refused = here("pull", "--store", store, "--snapshot", later)
    assert refused.code == 0, "by a name that only one of them has"
    shutil.rmtree(other / later)
    pulled = here("pull", "--store", other)
    assert pulled.out.startswith(f"Pulled {later} in "), "its own go before those of others"
    ran = here("push", "--store", other, "--forget", "--keep-last", "1", "--json")
    assert ran.document["forgotten"] == [name]
    found = here("offsite-status", "--store", store, "--json").document
    assert [one["state"] for one in found["snapshots"]] == ["both", "both"], "not the other's"


@pytest.mark.usefixtures("repository")
def test_a_name_that_is_another_snapshot_s_is_told(
    here: Run, instance: Instance, store: Path, tmp_path: Path
) -> None:
    here("push", "--store", store)
    other = tmp_path / "other"
    (instance.attachments / "other.txt").write_text("other")
    back_up(instance, other, clock=at(NIGHT))
    assert "here and off-site, but not the same" in here("offsite-status", "--store", other).out
    ran = here("pull", "--store", other)
    assert (ran.code, "not overwritten" in ran.error_line) == (4, True)


def test_a_store_gets_its_number_once(store: Path) -> None:
    assert store_identity(store) == ""
    (store / ".ciso-ops-store").write_text("left by a killed run")
    first = require_identity(store)
    assert len(first) == 16
    assert require_identity(store) == store_identity(store) == first
    assert litter_in(store) == []
    with reader_of(store, "LOCK_EX"):
        assert require_identity(store) == first
    give_identity(store, "1")
    assert store_identity(store) == "1"
    for content in ("[]", "no json", '{"id": 1}'):
        (store / MARKER).write_text(content)
        if content.startswith("{"):
            assert store_identity(store) == ""
            continue
        with pytest.raises(SourceError, match="this marks no store"):
            store_identity(store)
    (store / MARKER).unlink()
    with pytest.raises(SourceError, match="cannot read"):
        store_identity(store)


# What is kept


def test_the_policy_holds_off_site_as_well(
    here: Run, instance: Instance, store: Path, repository: Path, tmp_path: Path
) -> None:
    names = names_in(store)
    for day in range(1, 4):
        names.append(add_night(instance, store, day))
    for name in names:
        assert here("push", "--store", store, "--snapshot", name, "--no-verify").code == 0
    flags = ("push", "--store", store, "--no-verify", "--forget", "--keep-daily", "2")
    planned = here(*flags, "--dry-run")
    assert "  2 kept, 2 would go\n" in planned.out
    assert here(*flags, "--dry-run", "--json").document["decisions"][0]["keep"] is True
    ran = here(*flags)
    assert ran.code == 0, ran.err
    assert "  2 kept, 2 gone\n" in ran.out
    assert "their room is not free yet: --reclaim frees it" in ran.out
    assert sorted(tag(one) for one in listed(repository, tmp_path)) == names[2:]
    assert history(store, names[0]) == [PUSHED, FORGOTTEN]
    before = sum(path.stat().st_size for path in (repository / "data").rglob("*"))
    document = here(*flags, "--reclaim", "--json").document
    assert (document["forgotten"], document["reclaimed"]) == ([], True)
    assert sum(path.stat().st_size for path in (repository / "data").rglob("*")) < before
    older = here("push", "--store", store, "--snapshot", names[0], *flags[3:])
    assert older.code == 0, older.err
    assert re.search(rf"{names[0]} +keep +just pushed", older.out)


def tag(values: dict[str, Any]) -> str:
    """Return the name that restic's tags tell."""
    (name,) = (one.removeprefix("snapshot=") for one in values["tags"] if "snapshot=" in one)
    return str(name)


def copy_named(name: str, *, store: str = "1", replaced: bool = False) -> Copy:
    """Describe a copy off-site."""
    return Copy(id=name, name=name, store=store, bag="", replaced=replaced, directory="", host="")


def test_a_much_smaller_one_stops_the_forgetting(store: Path) -> None:
    copies = [copy_named(f"2026-02-0{day}T010000Z") for day in range(1, 4)]
    copies += [copy_named("2026-01-01T010000Z", store="2")]
    copies += [copy_named("2026-01-02T010000Z", replaced=True)]
    snapshot = find_snapshot(store, LATEST)

    def kept(coming: Snapshot, *snapshots: Snapshot) -> list[bool]:
        decisions = plan_forgetting(
            copies,
            snapshots,
            Policy(last=1, zone=UTC),
            identity="1",
            coming=coming,
            now=NIGHT + timedelta(days=1),
        )
        return [one.keep for one in decisions]

    assert kept(snapshot, snapshot) == [True, False, False, False]
    assert snapshot.summary is not None
    smaller = replace(snapshot, summary=replace(snapshot.summary, flagged="fewer"))
    assert kept(smaller, smaller) == [True] * 4
    damaged = replace(snapshot, history_whole=False)
    assert kept(damaged, damaged) == [True, True, False, False], "it counts for nothing, and stays"
    replaced = replace(snapshot, summary=replace(snapshot.summary, purpose=REPLACED))
    assert kept(replaced, replaced) == [True, False, False]


@pytest.mark.usefixtures("repository")
def test_what_was_never_pushed_is_not_pruned(here: Run, instance: Instance, store: Path) -> None:
    (first,) = names_in(store)
    second, third = (add_night(instance, store, day) for day in (1, 2))
    assert here("push", "--store", store, "--snapshot", second).code == 0
    flags = ("--keep-last", "1", "--require-offsite")
    planned = here("prune", "--store", store, *flags, "--dry-run")
    assert re.search(rf"{first} +keep +no push off-site is recorded", planned.out)
    assert re.search(rf"{second} +remove", planned.out)
    source = from_flags(instance)
    night = here("backup-daily", "--store", store, *source, *flags, "--dry-run", "--json").document
    assert [one["keep"] for one in night["decisions"]] == [True, True, False, True]
    assert here("backup-daily", "--store", store, *source, *flags).code == 0
    assert set(names_in(store)) > {first, third}
    assert second not in names_in(store)
    refused = here("prune", "--store", store, "--remove", first, "--require-offsite")
    assert (refused.code, "does not go with --remove" in refused.error_line) == (2, True)
    assert here("prune", "--store", store, "--keep-last", "1").code == 0
    assert first not in names_in(store)


def test_what_was_forgotten_had_been_off_site() -> None:
    def event(what: str) -> Event:
        return Event(what=what, instant=NIGHT, details={})

    pushed, gone, pulled = event(PUSHED), event(FORGOTTEN), event(PULLED)
    assert last_push([]) is None
    assert last_push([pushed, event(VERIFIED)]) is pushed
    assert last_push([pushed, gone]) is None
    assert last_push([pushed, gone], forgotten=True) is pushed
    assert last_push([pushed, gone, pulled]) is pulled


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--reclaim",), "go with --forget"),
        (("--keep-daily", "7"), "go with --forget"),
        (("--forget",), "nothing says which snapshots to keep off-site"),
        (("--forget", "--keep-daily", "x"), "must be a number of snapshots"),
    ],
)
def test_flags_that_do_not_go_together(
    here: Run, store: Path, flags: tuple[str, ...], says: str
) -> None:
    ran = here("push", "--store", store, *flags)
    assert (ran.code, says in ran.error_line) == (2, True)


def test_a_store_is_asked_for(here: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESTIC_REPOSITORY", str(tmp_path / "repository"))
    for task in ("push", "pull"):
        assert here(task).code == 2
    assert here("push", "--store", tmp_path / "none").code == 3
    (tmp_path / "file").write_text("x")
    assert here("offsite-status", "--store", tmp_path / "file").code == 3
    assert here("pull", "--store", tmp_path / "file").code == 4
    ran = here("offsite-status", "--store", "/" + "x" * 300)
    assert (ran.code, "cannot look at " in ran.error_line) == (3, True)


# Stopped in the middle


def started(number: Path) -> int:
    """Wait until a wrapped restic has started, and return its process number."""
    wait_until(number.exists)
    return int(number.read_text())


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [*INV, *map(str, arguments)],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if "COVERAGE" not in name},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_alive(pid: int) -> bool:
    """Tell whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("task", ["push", "pull"])
@pytest.mark.usefixtures("repository")
def test_a_restic_that_is_killed_is_told_and_loses_nothing(
    here: Run,
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
) -> None:
    place = slow_down(here, store, tmp_path, monkeypatch, task)
    number = tmp_path / "number"
    process = start(task, "--store", place)
    try:
        os.kill(started(number), signal.SIGKILL)
        _, err = process.communicate(timeout=_SECONDS)
    finally:
        stop(process)
    assert process.returncode == 1, err
    assert "error: restic was ended by SIGKILL before it was done" in err
    require_as_before(place, task)
    monkeypatch.setenv("PATH", os.environ["PATH"].split(os.pathsep, 1)[1])
    again = here(task, "--store", place)
    assert again.code == 0, again.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("task", ["push", "pull"])
def test_a_signal_ends_restic_too(  # noqa: PLR0917 - fixtures
    here: Run,
    store: Path,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    number: signal.Signals,
) -> None:
    place = slow_down(here, store, tmp_path, monkeypatch, task)
    process = start(task, "--store", place)
    try:
        pid = started(tmp_path / "number")
        wait_until(lambda: is_locked(repository))
        time.sleep(1)  # restic looks once more before it takes a lock for its own
        process.send_signal(number)
        _, err = process.communicate(timeout=_SECONDS)
    finally:
        stop(process)
    assert process.returncode == CODES[number], err
    assert not is_alive(pid)
    assert list((repository / "locks").iterdir()) == [], "it was told in a way that it tidies up"
    require_as_before(place, task)


def test_a_pull_that_is_killed_keeps_others_away_until_its_restic_ends(
    here: Run, store: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = slow_down(here, store, tmp_path, monkeypatch, "pull")
    process = start("pull", "--store", place)
    pid = 0
    try:
        pid = started(tmp_path / "number")
        wait_until(lambda: is_locked(repository))
        time.sleep(1)  # what it has to say then would end it: nobody listens any more
        process.kill()
        process.wait(_SECONDS)
        busy = here("pull", "--store", place)
        assert busy.code == 6
        assert f"restic (pid {pid})" in busy.error_line
    finally:
        stop_restic(pid)
        stop(process)
    monkeypatch.setenv("PATH", os.environ["PATH"].split(os.pathsep, 1)[1])
    assert here("pull", "--store", place).code == 0
    assert litter_in(place) == []


def test_a_connection_that_dies_is_told_and_the_next_push_goes_on(
    here: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Restic tries again for long; whoever does not want to wait stops it."""
    rclone, port = require_program("rclone"), free_port()
    served = tmp_path / "served"
    served.mkdir()
    Repository(served, (), UTC)
    command = [rclone, "serve", "restic", "--addr", f"127.0.0.1:{port}", str(served)]
    monkeypatch.setenv("RESTIC_REPOSITORY", f"rest:http://127.0.0.1:{port}/")
    wrap(tmp_path, monkeypatch, limit="--limit-upload 20")
    with serving(command, port, tmp_path / "log"):
        process = start("push", "--store", store)
        try:
            pid = started(tmp_path / "number")
            wait_until(lambda: is_locked(served))
        except BaseException:
            stop(process)
            raise
    try:
        assert process.stderr is not None
        for line in process.stderr:  # the server is gone
            if "restic tries again to reach the repository" in line:
                break
        process.terminate()
        assert process.wait(_SECONDS) == CODES[signal.SIGTERM]
    finally:
        stop(process)
    assert not is_alive(pid)
    require_as_before(store, "push")
    monkeypatch.setenv("PATH", os.environ["PATH"].split(os.pathsep, 1)[1])
    with serving(command, port, tmp_path / "log"):
        assert here("push", "--store", store).code == 0
        shutil.rmtree(store)
        assert here("pull", "--store", store).code == 0


def stop_restic(pid: int) -> None:
    """End a restic whose parent is gone."""
    if pid and is_alive(pid):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid))


def slow_down(
    here: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> Path:
    """Let restic take its time over what a task does; returns the store that it works on."""
    if task == "push":
        wrap(tmp_path, monkeypatch, limit="--limit-upload 20")
        return store
    assert here("push", "--store", store).code == 0
    wrap(tmp_path, monkeypatch, limit="--limit-download 20", command="restore")
    shutil.rmtree(tmp_path / "home" / ".cache")
    return tmp_path / "new"


def require_as_before(place: Path, task: str) -> None:
    """See that a run that failed left nothing half done."""
    assert litter_in(place) == []
    if task == "push":
        assert PUSHED not in history(place, LATEST)
    else:
        assert names_in(place) == []
