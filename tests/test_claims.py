"""Claims: one run for a place, a lock that ends with its process, and no file left behind."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ops.claims import claim, is_claimed, take_space, withdraw
from ops.errors import BusyError, DestinationError, OpsError
from ops.holders import describe_holders, find_holders
from ops.spaces import space_beside
from ops.tree.removal import remove_tree
from tests.command import ROOT
from tests.filesystem import unprivileged, with_refusal
from tests.mounting import immutable
from tests.processes import having_open

FLOCK = 73
"""The number of flock(2) on x86-64 (<asm/unistd_64.h>)."""

_CLAIM = """
import sys
from pathlib import Path
from ops.claims import claim
with claim(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""

_RACE = """
import sys
from pathlib import Path
from ops.claims import claim
from ops.errors import BusyError, DestinationError
from ops.tree.removal import remove_tree
place, log = Path(sys.argv[1]), Path(sys.argv[2])
won = 0
sys.stdin.read(1)
for _ in range(30):
    try:
        with claim(place) as mine:
            with log.open("x"):  # two at once would fail here
                won += 1
            log.unlink()
            remove_tree(mine.space, error=DestinationError)
    except BusyError:
        pass
print(won)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Name a place."""
    return tmp_path / "db"


def test_a_claim_is_a_private_directory_beside_the_place(place: Path) -> None:
    with claim(place) as mine:
        assert mine.space == space_beside(place)
        status = mine.space.lstat()
        assert stat.S_IMODE(status.st_mode) == 0o700
        assert os.path.samestat(status, os.fstat(mine.descriptor))
        assert is_claimed(mine.space), "also by this process: each descriptor has its own lock"
        remove_tree(mine.space, error=DestinationError)
    assert not is_claimed(space_beside(place))


def test_a_second_run_is_refused_and_the_first_named(place: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _CLAIM, place],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert is_claimed(space_beside(place))
        said = rf"another run is writing to this destination: {place}: .* \(pid {process.pid}\)"
        with pytest.raises(BusyError, match=said), claim(place):
            pytest.fail("two runs at once")
    finally:
        process.kill()
        process.communicate(timeout=30)
    with claim(place) as mine:  # its lock ended with it
        assert mine.space.exists()


def test_many_at_once_never_meet(place: Path) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACE, place, place.with_name("log")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        for _ in range(3)
    ]
    results = []
    threads = [
        threading.Thread(target=lambda racer=racer: results.append(racer.communicate("go", 100)))
        for racer in racers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [racer.returncode for racer in racers] == [0, 0, 0], results
    assert sum(int(out) for out, _ in results) > 0
    assert list(place.parent.glob(".ciso-ops-*")) == []


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_name_that_is_taken_is_told_and_left_alone(kind: str, place: Path) -> None:
    precious = place.with_name("precious")
    precious.mkdir()
    (precious / "x").write_text("x")
    space = space_beside(place)
    if kind == "file":
        space.write_text("x")
    else:
        space.symlink_to(precious)
    with (
        pytest.raises(DestinationError, match=r"is somebody else's: .*\.ciso-ops-"),
        claim(place),
    ):
        pytest.fail("it is not ours")
    assert (precious / "x").read_text() == "x"
    assert os.path.lexists(space)


def test_another_user_s_space_is_told_and_left_alone(place: Path) -> None:
    space = space_beside(place)
    space.mkdir(mode=0o700)
    if os.geteuid() != 0:
        pytest.skip("takes root, to give a directory away")
    os.chown(space, 1234, 1234)
    with pytest.raises(DestinationError, match="is somebody else's") as caught, claim(place):
        pytest.fail("it is not ours")
    assert "let that user run" in caught.value.hint
    assert space.stat().st_uid == 1234


def test_a_file_system_without_locks_is_refused(place: Path) -> None:
    def take() -> None:
        with claim(place):
            pytest.fail("there is no lock")

    with pytest.raises(DestinationError, match=r"cannot lock .*not supported"):
        with_refusal(FLOCK, errno.EOPNOTSUPP, take)
    assert list(place.parent.iterdir()) == [place.parent / "home"]
    space_beside(place).mkdir()
    with pytest.raises(OSError, match="not supported"):
        with_refusal(FLOCK, errno.EOPNOTSUPP, lambda: is_claimed(space_beside(place)))


def test_what_cannot_be_withdrawn_is_noted(place: Path) -> None:
    place.mkdir()
    failure = OpsError("first")
    with immutable(place):
        withdraw(place, failure)
    assert "cannot remove" in failure.__notes__[0]


def test_a_space_that_is_gone_or_made_anew_is_not_taken(place: Path) -> None:
    assert take_space(place) is None
    place.mkdir()
    descriptor = take_space(place)
    assert descriptor is not None
    os.close(descriptor)


# Holders


def test_holders_of_files_and_of_anything_in_a_directory(tmp_path: Path) -> None:
    deep = tmp_path / "tree" / "a" / "b"
    deep.mkdir(parents=True)
    file = deep / "file"
    file.write_text("x")
    other = tmp_path / "other"
    other.write_text("x")
    assert find_holders([tmp_path / "tree", other, tmp_path / "missing"]) == ()
    with having_open(file) as one, having_open(deep) as two, having_open(other) as three:
        assert {holder.pid for holder in find_holders([tmp_path / "tree"])} == {one, two}
        assert {holder.pid for holder in find_holders([file])} == {one}
        assert {holder.pid for holder in find_holders([other, file])} == {one, three}
        (holder,) = find_holders([other])
        assert "python" in holder.command
        assert describe_holders((holder,)) == f": {holder.command} (pid {three})"
        file.rename(tmp_path / "moved")
        assert {holder.pid for holder in find_holders([tmp_path / "moved"])} == {one}
    assert find_holders([tmp_path]) == ()


def test_more_than_three_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with having_open(file), having_open(file), having_open(file), having_open(file):
        assert describe_holders(find_holders([file])).endswith(" and 1 more")
    assert describe_holders(()) == ""


def test_our_own_are_no_holders(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        assert find_holders([Path(file.name)]) == ()


def test_others_processes_are_seen_by_root_only(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with having_open(file):
        with unprivileged():
            assert find_holders([Path("/proc")]) == ()
        assert len(find_holders([file])) == 1


def test_a_process_that_ends_meanwhile_is_no_holder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with having_open(file) as pid:
        assert find_holders([file])
        os.kill(pid, signal.SIGKILL)
    assert find_holders([file]) == ()
