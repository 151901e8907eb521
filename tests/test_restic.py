"""The program itself: which one, what it is told, and what its exit codes and complaints mean."""

import os
import time
from pathlib import Path

import pytest

from ops.errors import (
    BusyError,
    DestinationError,
    OpsError,
    SourceError,
    UsageError,
    VerificationError,
)
from ops.model import Progress
from ops.offsite.failures import explain, is_absent
from ops.offsite.program import Ended, Restic, find_restic, redacted, run_restic
from ops.offsite.repository import back_up, list_copies, repository_id, restore
from ops.offsite.tally import Tally, tally_of
from tests.backends import write_script
from tests.test_backup import NIGHT

ANSWER = 'if [ "$1" = version ]; then echo "restic 0.18.1 compiled with go1.24"; exit 0; fi'


def told(directory: Path, **more: str) -> dict[str, str]:
    """Return an environment in which a program of ours may stand for restic."""
    return {
        "PATH": f"{directory}{os.pathsep}{os.environ['PATH']}",
        "RESTIC_REPOSITORY": "/none",
        "RESTIC_PASSWORD": "x",
        **more,
    }


def stand_in(directory: Path, *lines: str) -> Restic:
    """Write a program that says what a newer restic would."""
    write_script(directory / "restic", ANSWER, *lines)
    return find_restic(told(directory), DestinationError)


def test_without_restic_the_way_to_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="restic is not installed") as caught:
        find_restic({**told(tmp_path), "PATH": str(tmp_path)}, SourceError)
    assert "apt-get install restic" in caught.value.hint


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('echo "restic 0.13.1 compiled with go1.18"', r"restic 0\.13\.1 is too old"),
        ("echo something else", "this is not restic"),
        ("exit 1", "this is not restic"),
    ],
)
def test_another_program_is_told(tmp_path: Path, line: str, says: str) -> None:
    write_script(tmp_path / "restic", line)
    with pytest.raises(UsageError, match=says) as caught:
        find_restic(told(tmp_path), SourceError)
    assert "0.14 or newer" in caught.value.hint


def test_what_cannot_be_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "restic").write_text("#!/no/such/interpreter\n")
    (tmp_path / "restic").chmod(0o755)
    with pytest.raises(UsageError, match="cannot run "):
        find_restic(told(tmp_path), SourceError)
    restic = stand_in(tmp_path)
    (tmp_path / "restic").unlink()
    with pytest.raises(UsageError, match=r"cannot run .*: No such file"):
        run_restic(restic, ["snapshots"], take=lambda _line: None)


@pytest.mark.parametrize("version", ["0.14.0", "0.14", "0.18.1-dev (compiled manually)", "1.0.0"])
def test_versions_are_read(tmp_path: Path, version: str) -> None:
    write_script(tmp_path / "restic", f'echo "restic {version}"')
    assert find_restic(told(tmp_path), SourceError).version >= (0, 14, 0)


def test_repository_and_password_are_asked_for(tmp_path: Path) -> None:
    stand_in(tmp_path)
    with pytest.raises(UsageError, match="where the off-site repository is"):
        find_restic(told(tmp_path, RESTIC_REPOSITORY=""), SourceError)
    with pytest.raises(UsageError, match="what the password of the off-site repository is"):
        find_restic(told(tmp_path, RESTIC_PASSWORD=""), SourceError)
    for name in ("RESTIC_PASSWORD_FILE", "RESTIC_PASSWORD_COMMAND"):
        find_restic(told(tmp_path, RESTIC_PASSWORD="", **{name: "x"}), SourceError)
    named = told(tmp_path, RESTIC_REPOSITORY="", RESTIC_REPOSITORY_FILE="/etc/repository")
    assert find_restic(named, SourceError).location == "named in /etc/repository"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rest:https://me:p@ss@host:8000/x", "rest:https://***@host:8000/x"),
        ("rest:https://me:pa/ss@host/x", "rest:https://***@host/x"),
        ('Head "http://me:***@host/config": dial', 'Head "http://***@host/config": dial'),
        ("sftp:backup@host:/x", "sftp:backup@host:/x"),
        ("/srv/a\nb", "/srv/a\\nb"),
    ],
)
def test_credentials_are_not_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown


RESTIC = Restic(
    program="restic", version=(0, 14, 0), environment={}, location="HERE", failure=SourceError
)


@pytest.mark.parametrize(
    ("code", "line", "kind", "says"),
    [
        (10, "", SourceError, "there is no repository yet: HERE"),
        (10, '{"message_type":"exit_error","message":"Fatal: repository does not exist"}',
         SourceError, "there is no repository yet: HERE: repository does not exist"),
        (11, "", BusyError, "another restic has locked the repository: HERE"),
        (1, "unable to create lock in backend: already locked exclusively by PID 7",
         BusyError, "already locked exclusively by PID 7"),
        (12, '{"message_type":"exit_error","code":12,"message":"Fatal: wrong password"}',
         UsageError, "the password does not open the repository: HERE: wrong password"),
        (1, "Fatal: an empty password is not a password", UsageError, "an empty password"),
        (1, "Save failed: write /x: no space left on device", DestinationError, "no room"),
        (1, "ssh: connect to host vault port 22: Connection timed out", SourceError,
         "cannot reach the repository: HERE"),
        (1, "Fatal: unable to start the sftp session, error: EOF", SourceError,
         "cannot reach the repository"),
        (1, "me@vault: Permission denied (publickey).", SourceError, "does not let us in"),
        (1, "Fatal: unable to open config file: Stat: Access Denied.", SourceError,
         "does not let us in"),
        (1, "Fatal: unexpected HTTP response (401): 401 Unauthorized", SourceError,
         "does not let us in"),
        (1, '{"error":{"message":"ciphertext verification failed"},"item":"/data/x"}',
         VerificationError, "the repository is damaged: HERE: /data/x: ciphertext verification"),
        (1, "Fatal: parsing repository location failed: invalid backend", UsageError, "no address"),
        (3, '{"message_type":"error","error":{},"during":"archival","item":"/"}', SourceError,
         "could not read all of the snapshot for the repository: HERE: /: archival"),
        (1, "Fatal: /etc/repository does not exist", UsageError, "this is no address"),
        (1, "Fatal: create key in repository at x failed: mkdir x: not a directory", SourceError,
         "the repository cannot be made: HERE: create key in repository at x failed"),
        (1, "Fatal: something new", OpsError, "restic failed with exit code 1: something new"),
        (1, "", OpsError, "restic failed with exit code 1: it says nothing"),
        (1, '{"unknown": 1}', OpsError, 'exit code 1: {"unknown": 1}'),
        (-9, "", OpsError, "restic was ended by SIGKILL"),
        (130, "", OpsError, "restic was ended by SIGINT"),
    ],
)  # fmt: skip
def test_what_restic_says_is_put_into_our_words(
    code: int, line: str, kind: type[OpsError], says: str
) -> None:
    ended = Ended(code=code, complaints=(line,) if line else ())
    failure = explain(RESTIC, ended)
    assert type(failure) is kind
    assert says in failure.message
    assert failure.hint
    assert is_absent(ended) is ("no repository yet" in says)


def test_a_place_that_cannot_be_looked_at_is_not_taken_for_empty() -> None:
    """A repository is made only where there is none for sure."""
    for line in (
        "unable to open config file: dial tcp 127.0.0.1:9: connect: connection refused",
        "unable to open config file: open /x/config: permission denied",
    ):
        assert not is_absent(Ended(code=1, complaints=(line,)))
    assert not is_absent(Ended(code=0, complaints=()))


def test_what_it_started_may_outlive_it(tmp_path: Path) -> None:
    """A program that restic started keeps its streams open: that is not waited for."""
    restic = stand_in(tmp_path, f"sleep 30 & echo $! >{tmp_path}/number", "echo done; exit 0")
    lines: list[bytes] = []
    began = time.monotonic()
    assert run_restic(restic, ["x"], take=lines.append).code == 0
    assert time.monotonic() - began < 20
    assert lines == [b"done"]
    number = (tmp_path / "number").read_text().strip()
    state = Path("/proc", number, "stat")
    deadline = time.monotonic() + 20
    while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "it is ended with the session"
        time.sleep(0.01)


def test_it_is_ended_when_we_fail(tmp_path: Path) -> None:
    """First as restic wants it, which then removes its lock; then for good."""

    def fail(line: bytes) -> None:
        raise ValueError(line.decode())

    note = f"echo INT >>{tmp_path}/told"
    for lines in (f"trap '{note}; exit 130' INT", f"trap '{note}' INT"):
        restic = stand_in(tmp_path, lines, "echo begun", "while :; do sleep 0.1; done")
        with pytest.raises(ValueError, match="begun"):
            run_restic(restic, ["x"], take=fail, end_seconds=1)
    assert (tmp_path / "told").read_text() == "INT\nINT\n"


def test_that_it_tries_again_is_told(tmp_path: Path) -> None:
    restic = stand_in(
        tmp_path,
        'echo "Load(<data/1>, 1, 0) returned error, retrying after 1s: reset" >&2',
        'echo \'{"message_type":"status","total_files":2,"files_restored":1,'
        '"total_bytes":9,"bytes_restored":4}\'',
        "echo no json",
        "printf 'last line without its end'",
    )
    steps: list[Progress] = []
    restore(restic, "1", tmp_path, keep=(), progress=steps.append)
    assert Progress(step="restic tries again to reach the repository") in steps
    halfway = Progress(step="pull", files_done=1, files_total=2, bytes_done=4, bytes_total=9)
    assert halfway in steps


def test_only_what_is_confirmed_counts(tmp_path: Path) -> None:
    def push(*lines: str) -> str:
        return back_up(
            stand_in(tmp_path, *lines),
            tmp_path,
            instant=NIGHT,
            tags=["a"],
            parent="",
            keep=(),
            progress=lambda _progress: None,
        )

    assert push('echo \'{"message_type":"summary","snapshot_id":"1"}\'') == "1"
    others = (f'echo \'{{"message_type":"{kind}"}}\'' for kind in ("summary", "new"))
    for line in ("exit 0", "echo '[]'", *others):
        with pytest.raises(VerificationError, match="did not confirm it: backup"):
            push(line)
    with pytest.raises(OpsError, match="restic failed with exit code 1: it says nothing"):
        push("exit 1")
    with pytest.raises(VerificationError, match="did not confirm it: cat config"):
        repository_id(stand_in(tmp_path, "echo '{}'"))
    with pytest.raises(VerificationError, match="did not confirm it: snapshots"):
        list_copies(stand_in(tmp_path, "echo '{}'"))


def test_a_tally_knows_names_kinds_and_sizes(tmp_path: Path) -> None:
    def of(*entries: tuple[str, int | None]) -> Tally:
        tally = Tally()
        for path, size in entries:
            tally.add(path, size)
        return tally

    one = of(("/a", 1), ("/b", 2), ("/d", None))
    assert one == of(("/d", None), ("/b", 2), ("/a", 1))
    assert (one.entries, one.files, one.bytes) == (3, 2, 3)
    for other in (
        of(("/a", 2), ("/b", 1), ("/d", None)),
        of(("/a", 1), ("/c", 2), ("/d", None)),
        of(("/a", 1), ("/b", 2), ("/d", 0)),
    ):
        assert other != one
    assert of(("/history.jsonl", 9)) == Tally()
    assert of(("/data/history.jsonl", 9)) != Tally()
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "d").mkdir()
    (tree / "a").write_text("1")
    (tree / "b").write_text("22")
    (tree / "history.jsonl").write_text("333")
    assert tally_of(tree) == one
    with pytest.raises(SourceError, match=r"cannot read .*none"):
        tally_of(tree / "none")
