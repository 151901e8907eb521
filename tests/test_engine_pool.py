"""Several processes: whatever happens to one of them, nothing hangs, stays behind or goes wrong."""

import fcntl
import marshal
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ops.errors import DestinationError, OpsError, SourceError
from ops.tree.cores import usable_cores
from ops.tree.crew import Crew, crew
from ops.tree.reading import Checking, read_tree
from ops.tree.update import TreeCopy
from ops.tree.work import LARGE_BYTES, Trees
from ops.tree.worker import DONE, FAILED, LENGTH
from tests.command import ROOT
from tests.filesystem import Directory, File, HardLink, Link, Pipe, build, read
from tests.mounting import tmpfs
from tests.test_tree_compare import catalogue, deadline, several
from tests.test_tree_update import CROWD, CROWDED, crowd, mirroring

if TYPE_CHECKING:
    from tests.filesystem import Node

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="looks at processes and descriptors in /proc"
)


# Processes and descriptors, as the kernel tells of them


def _status(pid: int) -> tuple[str, int] | None:
    """Return the state of a process and its parent; None if there is none of this number."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent = told.rpartition(")")[2].split()[:2]
    return state, int(parent)


def workers_of(parent: int) -> list[int]:
    """List the worker processes that a process has, and those that it has not waited for."""
    found = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return sorted(pid for pid in found if (status := _status(pid)) and status[1] == parent)


def is_alive(pid: int) -> bool:
    status = _status(pid)
    return status is not None and status[0] not in {"Z", "X"}


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so; tell whether it was in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def descriptors(pid: int) -> dict[int, str]:
    """Return what a process has open."""
    found: dict[int, str] = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:  # the one that lists the directory
            continue
    return found


@contextmanager
def nothing_left_behind() -> Iterator[None]:
    """Fail if a process or a descriptor is left after the block, or if it does not end."""
    before, had = descriptors(os.getpid()), workers_of(os.getpid())
    with deadline(30):
        yield
    assert workers_of(os.getpid()) == had
    assert descriptors(os.getpid()) == before


@pytest.fixture
def trees(tmp_path: Path) -> Trees:
    """Name a source with some files and directories, and an empty copy."""
    inside = Directory(crowd(30))
    folders: dict[bytes, Node] = {b"d%02d" % number: inside for number in range(30)}
    build(tmp_path / "source", Directory({**folders, **crowd(CROWD)}))
    (tmp_path / "copy").mkdir(mode=0o700)
    return Trees(source=tmp_path / "source", copy=tmp_path / "copy")


def add_long_work(root: Path, *, count: int = 4, size: int = 6 << 30) -> None:
    """Add files that take seconds to be read, and no room: they are holes, hashed as zeros."""
    for number in range(count):
        with (root / f"long-{number}").open("wb") as file:
            file.truncate(size)


# A worker that ends


class Killing:
    """Kills one of our workers once something was read."""

    def __init__(self, which: int, number: int, after: int = 1) -> None:
        self._which, self._number, self._left = which, number, after

    def __call__(self, count: int) -> None:
        if self._left and count:
            self._left -= 1
            if not self._left:
                os.kill(workers_of(os.getpid())[self._which], self._number)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize(
    ("number", "after"), [(signal.SIGKILL, 1), (signal.SIGKILL, 3), (signal.SIGTERM, 1)]
)
def test_a_worker_that_is_killed_is_a_failure_that_names_the_signal(
    trees: Trees, which: int, number: signal.Signals, after: int
) -> None:
    add_long_work(trees.source, size=60 << 30)
    told = rf"a worker process ended \(killed by {number.name}\)"
    with nothing_left_behind():
        began = time.monotonic()
        with crew(trees, jobs=3, advance=Killing(which, number, after)) as workers:
            copy = TreeCopy(workers)
            with pytest.raises(OpsError, match=told) as caught:
                copy.update(delete=True)
            assert type(caught.value) is OpsError
            assert "--jobs 1" in caught.value.hint
            with pytest.raises(OpsError, match=told):
                copy.finish()
        assert time.monotonic() - began < 25  # nobody waited for the long work of the others


@pytest.mark.parametrize("which", [0, 1])
def test_an_idle_worker_that_is_killed_is_missed_at_the_next_work(trees: Trees, which: int) -> None:
    with nothing_left_behind(), crew(trees, jobs=2) as workers:
        copy = TreeCopy(workers)
        copy.update(delete=True)
        victim = workers_of(os.getpid())[which]
        os.kill(victim, signal.SIGKILL)
        assert until(lambda: not is_alive(victim), 1)
        with pytest.raises(OpsError, match="killed by SIGKILL"):
            copy.update(delete=True)


def test_a_worker_killed_while_nobody_waits_is_told_of_by_the_finish(trees: Trees) -> None:
    add_long_work(trees.source)
    with nothing_left_behind(), crew(trees, jobs=2) as workers:
        copy = TreeCopy(workers)
        update = copy.start(delete=True)
        for victim in workers_of(os.getpid()):
            os.kill(victim, signal.SIGKILL)
            assert until(lambda victim=victim: not is_alive(victim), 1)  # type: ignore[misc]
        for _ in range(3):
            update.pump()
        with pytest.raises(OpsError, match="killed by SIGKILL"):
            update.finish()


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_ends_the_workers_at_once(trees: Trees, stop: type[BaseException]) -> None:
    add_long_work(trees.source)

    def interrupt(_count: int) -> None:
        raise stop

    with nothing_left_behind():
        began = time.monotonic()
        with pytest.raises(stop), crew(trees, jobs=2, advance=interrupt) as workers:
            TreeCopy(workers).update(delete=True)
        assert time.monotonic() - began < 5


def test_workers_that_are_done_are_gone_with_the_block(trees: Trees) -> None:
    with nothing_left_behind():
        with crew(trees, jobs=3) as workers:
            assert len(workers_of(os.getpid())) == 3
            copy = TreeCopy(workers)
            copy.update(delete=True)
            copy.finish()
        with crew(trees, jobs=2):
            pass  # they may not even have begun
    assert read(trees.source) == read(trees.source.parent / "copy")


def test_as_many_processes_work_as_there_are_cores_unless_somebody_says_otherwise(
    trees: Trees,
) -> None:
    cores = usable_cores()
    for jobs, processes in ((0, cores if cores > 1 else 0), (1, 0), (2, 2), (5, 5)):
        with crew(trees, jobs=jobs) as workers:
            assert len(workers_of(os.getpid())) == processes
            assert workers.parallel is (processes > 1)


def test_processes_that_cannot_be_started_are_a_failure(
    trees: Trees, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with (
        nothing_left_behind(),
        pytest.raises(OpsError, match=r"cannot start a worker process: .*no-python") as caught,
        crew(trees, jobs=2),
    ):
        pass
    assert caught.value.hint == "try again with --jobs 1"


def test_a_program_that_is_no_worker_is_a_failure(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with (
        nothing_left_behind(),
        pytest.raises(OpsError, match=r"a worker process ended \(exit code 1\)"),
        crew(trees, jobs=2) as workers,
    ):
        TreeCopy(workers).update(delete=True)


@contextmanager
def _most_descriptors(count: int) -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("more", range(12))
def test_too_few_descriptors_are_a_failure_that_leaves_nothing_behind(
    trees: Trees, more: int
) -> None:
    with nothing_left_behind():
        used = max(descriptors(os.getpid())) + 1
        held = [os.open("/", os.O_RDONLY) for _ in range(used - len(descriptors(os.getpid())))]
        limit = max(descriptors(os.getpid())) + 1 + more
        try:
            with _most_descriptors(limit), crew(trees, jobs=2):
                pass
        except OpsError as failure:
            assert "Too many open files" in failure.message  # noqa: PT017 - it may also succeed
        finally:
            for descriptor in held:
                os.close(descriptor)


# A parent that ends

_RUN = """
import os, signal, sys
from pathlib import Path
from ops.tree.crew import crew
from ops.tree.update import TreeCopy
from ops.tree.work import Trees

def tell(*words):
    print(*words, flush=True)

signal.signal(signal.SIGINT, lambda number, frame: tell("interrupted"))
keep = [int(number) for number in sys.argv[3:]]
trees = Trees(source=Path(sys.argv[1]), copy=Path(sys.argv[2]))
with crew(trees, jobs=3, keep=keep, advance=lambda count: tell("read", count)) as workers:
    tell("ready")
    copy = TreeCopy(workers)
    copy.update(delete=True)
    tell("copied")
    sys.stdin.read()
    copy.finish()
    tell("done")
"""


@contextmanager
def running(trees: Trees, *keep: int) -> Iterator["subprocess.Popen[str]"]:
    """Run a copy in a process of its own, in its own session, as on a terminal."""
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, trees.source, str(trees.copy), *map(str, keep)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
        pass_fds=keep,
    )
    try:
        with deadline(30):
            yield process
    finally:
        process.kill()
        process.communicate()


def _await(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(word):
            return
    pytest.fail(f"it ended before it said {word}")


@pytest.mark.parametrize("when", ["ready", "read", "busy", "copied"])
def test_no_worker_outlives_the_one_who_started_it(trees: Trees, when: str) -> None:
    if when != "copied":
        add_long_work(trees.source)
    with running(trees) as process:
        _await(process, "read" if when == "busy" else when)
        if when == "busy":  # each with a file of which it would tell nothing for seconds
            assert trees.copy is not None
            copy = trees.copy
            assert until(lambda: len(list(copy.glob("long-*"))) == 3, 10)
        found = workers_of(process.pid)
        assert len(found) == 3
        assert when == "ready" or all(is_alive(pid) for pid in found)
        process.kill()
        process.wait()
        assert until(lambda: not any(is_alive(pid) for pid in found), 1)


def test_workers_end_when_the_one_who_started_them_fails(trees: Trees) -> None:
    add_long_work(trees.source)
    with running(trees) as process:
        _await(process, "read")
        found = workers_of(process.pid)
        process.terminate()
        process.wait()
        assert until(lambda: not any(is_alive(pid) for pid in found), 1)


def test_the_interrupt_of_a_terminal_does_not_reach_the_workers(trees: Trees) -> None:
    add_long_work(trees.source, count=3, size=300 << 20)
    with running(trees) as process:
        _await(process, "read")
        found = workers_of(process.pid)
        assert os.getpgid(process.pid) == process.pid
        assert all(os.getpgid(pid) != process.pid for pid in found)
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does to its foreground group
        _await(process, "interrupted")
        assert all(is_alive(pid) for pid in found)
        _await(process, "copied")
        process.communicate("")
        assert process.returncode == 0
    assert trees.copy is not None
    assert set(os.listdir(trees.copy)) == set(os.listdir(trees.source))
    assert all((trees.copy / f"long-{number}").stat().st_size == 300 << 20 for number in range(3))


# What workers have open


def _is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_what_is_to_be_kept_stays_open_until_the_last_worker_is_gone(
    trees: Trees, tmp_path: Path
) -> None:
    path = tmp_path / "lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with deadline(30), crew(trees, jobs=2, keep=(lock,)) as workers:
        TreeCopy(workers).update(delete=True)
        os.close(lock)
        for pid in workers_of(os.getpid()):
            assert _is_locked(path)
            os.kill(pid, signal.SIGKILL)
            assert until(lambda pid=pid: not is_alive(pid), 1)  # type: ignore[misc]
        assert not _is_locked(path)


def test_what_is_kept_is_kept_as_long_as_a_worker_might_still_write(
    trees: Trees, tmp_path: Path
) -> None:
    add_long_work(trees.source)
    path = tmp_path / "lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with running(trees, lock) as process:
        os.close(lock)
        _await(process, "read")
        found = workers_of(process.pid)
        process.kill()
        process.wait()
        assert until(lambda: not _is_locked(path), 1)
        assert not any(is_alive(pid) for pid in found)


def test_workers_have_nothing_open_but_what_they_need(trees: Trees, tmp_path: Path) -> None:
    assert trees.copy is not None
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    secret = os.open(tmp_path / "secret", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(secret, True)
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        with deadline(30), crew(trees, jobs=3, keep=(lock,)) as workers:
            copy = TreeCopy(workers)
            copy.update(delete=True)
            copy.finish()
            seen: list[set[str]] = []
            for pid in workers_of(os.getpid()):
                found = descriptors(pid)
                assert found.pop(0) == found.pop(1) == "/dev/null"
                found.pop(2)
                assert found.pop(lock) == str(tmp_path / "lock")
                pipes = {target for target in found.values() if target.startswith("pipe:")}
                assert len(pipes) == 2
                seen.append(pipes)
                others = set(found.values()) - pipes
                roots = {str(trees.source), str(trees.copy)}
                assert {target for target in others if not _within(target, roots)} == set()
                assert len(found) < 20
            assert len(set.union(*seen)) == 6  # none has those of another
    finally:
        for descriptor in (lock, secret, reader, writer):
            os.close(descriptor)


def _within(path: str, roots: set[str]) -> bool:
    return any(path == root or path.startswith(f"{root}/") for root in roots)


# What fails in a worker


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Have the kernel refuse even root to read a file, as a sick disk does.

    What is mounted there is the memory of a process, which has nothing at its beginning.
    """
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or unmount is None:
        pytest.skip("takes root, to mount what cannot be read")
    memory = f"/proc/{os.getpid()}/mem"
    done = subprocess.run([mount, "--bind", memory, path], check=False, capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run([unmount, path], check=True)


@several
@pytest.mark.parametrize("path", ["d07/00007", "00200"])
def test_a_source_that_cannot_be_read_is_its_failure(trees: Trees, path: str, jobs: int) -> None:
    with unreadable(trees.source / path), nothing_left_behind(), crew(trees, jobs=jobs) as workers:
        with pytest.raises(SourceError) as caught:
            TreeCopy(workers).update(delete=True)
        assert caught.value.message == f"cannot read {trees.source / path}: Input/output error"
        assert "kernel log" in caught.value.hint


@several
@pytest.mark.parametrize(
    ("blame", "kind"), [("source", SourceError), ("destination", DestinationError)]
)
def test_a_tree_that_cannot_be_read_is_the_failure_of_whoever_it_is(
    trees: Trees, blame: str, kind: type[OpsError], jobs: int
) -> None:
    expected = catalogue(trees.source)
    alone = Trees(source=trees.source, blame=blame)
    path = trees.source / "d07/00007"

    def check_tree(workers: Crew) -> None:
        workers.start(Checking(expected, trees.source))
        workers.finish()

    with unreadable(path), nothing_left_behind():
        for work in (read_tree, check_tree):
            with crew(alone, jobs=jobs) as workers, pytest.raises(kind) as caught:
                work(workers)
            assert caught.value.message == f"cannot read {path}: Input/output error"
            assert "kernel log" in caught.value.hint


@several
@pytest.mark.parametrize("large", [True, False])
def test_a_full_destination_is_its_failure(trees: Trees, large: bool, jobs: int) -> None:
    content = bytes(2 * LARGE_BYTES if large else 100_000)
    for number in range(1 if large else 40):
        (trees.source / f"z{number}").write_bytes(content)
    with tmpfs("3m") as place, nothing_left_behind():
        full = Trees(source=trees.source, copy=place)
        with crew(full, jobs=jobs) as workers, pytest.raises(DestinationError) as caught:
            TreeCopy(workers).update(delete=True)
        assert caught.value.message.startswith(f"cannot write {place}/")
        assert caught.value.message.endswith(": No space left on device")
        assert caught.value.hint == "free some space or inodes, or choose another file system"


@several
def test_a_full_destination_has_no_room_for_directories_either(tmp_path: Path, jobs: int) -> None:
    build(tmp_path / "source", Directory({b"%d" % number: Directory() for number in range(50)}))
    with tmpfs("1m", options="nr_inodes=20") as place, nothing_left_behind():
        full = Trees(source=tmp_path / "source", copy=place)
        told = r"cannot create the directory .*: No space left"
        with crew(full, jobs=jobs) as workers, pytest.raises(DestinationError, match=told):
            TreeCopy(workers).update(delete=True)


def test_a_failure_while_nobody_waits_is_told_by_the_finish(trees: Trees) -> None:
    assert trees.copy is not None
    (trees.copy / "d07").mkdir()
    with nothing_left_behind(), crew(trees, jobs=2) as workers:
        copy = TreeCopy(workers)
        update = copy.start(delete=True)
        for _ in range(200):
            update.pump()
            time.sleep(0.001)
        for _ in range(2):
            with pytest.raises(DestinationError, match=r"/copy/d07: File exists"):
                update.finish()


# The same, whoever does it


def _many_directories() -> Directory:
    folders: dict[bytes, Node] = {
        b"d%04d" % number: Directory({b"a": File(b"%d" % number), b"e": Directory(crowd(2))})
        for number in range(150)
    }
    others: dict[bytes, Node] = {
        b"crowd": Directory(crowd(5000)),
        b"large": File(os.urandom(LARGE_BYTES)),
        b"linked": HardLink(b"crowd/02500"),
        b"linked too": HardLink(b"large"),
        b"pipe": Pipe(),
        b"link": Link(b"nowhere"),
    }
    return Directory({**folders, **others})


def test_many_small_jobs_and_a_large_directory_give_the_same_catalogue(tmp_path: Path) -> None:
    source = tmp_path / "source"
    build(source, _many_directories())
    read(source)  # the kernel notes the access to a link, and then no more for a day
    time.sleep(0.06)  # what changed just now would be noted as such
    found = [dict(catalogue(source, jobs=jobs)) for jobs in (1, 2, 3)]
    assert found[0] == found[1] == found[2]
    copies = []
    for jobs in (1, 3):
        with mirroring(source, tmp_path / f"copy-{jobs}", jobs=jobs) as mirror:
            mirror.copy.update(delete=True)
            mirror.copy.finish()
            copies.append(dict(mirror.copy.entries))
            assert mirror.copy.update(delete=True) == frozenset()
            assert dict(mirror.copy.entries) == copies[-1]
    assert copies[0] == copies[1]
    assert len(copies[0]) == len(found[0]) == 150 * 5 + 5000 + 7
    assert read(source) == read(tmp_path / "copy-3")


def test_bytes_are_told_as_they_are_read(tmp_path: Path) -> None:
    large = File(bytes(5 * LARGE_BYTES))
    build(tmp_path / "source", Directory({b"a": large, b"b": large, b"c": File(b"x")}))
    with mirroring(tmp_path / "source", tmp_path / "destination", jobs=2) as mirror:
        mirror.copy.update(delete=True)
        assert sum(mirror.pieces) == 10 * LARGE_BYTES + 1
        assert max(mirror.pieces) < 5 * LARGE_BYTES  # not at the end of each file alone


_TAIL = b"n" * 240


def _long_names(count: int) -> Directory:
    return Directory({b"%05d" % number + _TAIL: File(b"x") for number in range(count)})


def test_nobody_waits_for_each_other_where_jobs_and_replies_are_larger_than_a_pipe(
    tmp_path: Path,
) -> None:
    # The job of a new directory is small and its reply large; that of a known one is large.
    source = tmp_path / "source"
    build(source, Directory({b"old-%02d" % number: _long_names(350) for number in range(8)}))
    with mirroring(source, tmp_path / "destination", jobs=2) as mirror, deadline(15):
        mirror.update()
        for number in range(8):
            build(source / f"new-{number:02}", _long_names(350))
        assert len(mirror.update()) == 8 * 350
        mirror.finish()
        mirror.assert_equal()


def test_nobody_waits_for_each_other_where_much_is_found(tmp_path: Path) -> None:
    # The job of a directory that should be empty is small and its reply large.
    full, empty = _long_names(350), Directory()
    names = [b"d%02d" % number for number in range(16)]
    build(tmp_path / "one", Directory({name: full if name >= b"d08" else empty for name in names}))
    build(tmp_path / "two", Directory(dict.fromkeys(names, full)))
    expected = catalogue(tmp_path / "one")
    with deadline(15), crew(Trees(source=tmp_path / "two"), jobs=2) as workers:
        checking = Checking(expected, tmp_path / "two")
        workers.start(checking)
        workers.finish()
        findings = checking.result(workers).findings
    assert sum(found.kind == "unexpected" for found in findings) == 8 * 350


_NARROW = """
import ctypes, fcntl, os, resource, sys
from pathlib import Path
from ops.tree.crew import crew
from ops.tree.reading import read_tree
from ops.tree.update import TreeCopy
from ops.tree.work import Trees

most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
# Without CAP_SYS_ADMIN (21) and CAP_SYS_RESOURCE (24), this is a user like any other.
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc = ctypes.CDLL(None)
assert libc.capget(header, data) == 0
data[0] &= ~(1 << 21 | 1 << 24)
assert libc.capset(header, data) == 0
pipes = [os.pipe() for _ in range(1100)]
size = fcntl.fcntl(pipes[-1][0], fcntl.F_GETPIPE_SZ)
print(size, flush=True)
source, copy = map(Path, sys.argv[1:])
with crew(Trees(source=source, copy=copy), jobs=2) as workers:
    tree = TreeCopy(workers)
    tree.update(delete=True)
    print("copied", flush=True)
    sys.stdin.readline()
    print(len(tree.update(delete=True)), flush=True)
"""


def test_nobody_waits_for_each_other_where_pipes_are_narrow(tmp_path: Path) -> None:
    # A user with many pipes gets small ones (pipe(7), /proc/sys/fs/pipe-user-pages-soft).
    source = tmp_path / "source"
    build(source, Directory({b"old-%02d" % number: _long_names(30) for number in range(12)}))
    (tmp_path / "copy").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", _NARROW, source, tmp_path / "copy"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with deadline(10):
            size = process.stdout.readline()
            if not size or int(size) > 8192:
                pytest.skip(f"pipes cannot be made narrow here: {size or process.stderr.read()}")
            assert process.stdout.readline() == "copied\n"
            for number in range(12):
                build(source / f"new-{number:02}", _long_names(30))
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"{12 * 30}\n"
    finally:
        process.kill()
        process.communicate()


def test_a_source_whose_name_is_no_text_is_copied(tmp_path: Path) -> None:
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe \n"))
    build(source, CROWDED)
    with mirroring(source, tmp_path / "destination", jobs=2) as mirror:
        mirror.update()
        mirror.finish()
        mirror.assert_equal()


def _nest(root: Path, depth: int) -> None:
    root.mkdir()
    descriptor = os.open(root, os.O_RDONLY)
    for level in range(depth):
        os.mkdir(b"d", dir_fd=descriptor)
        below = os.open(b"d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        with open(os.open(b"f", os.O_CREAT | os.O_WRONLY, 0o640, dir_fd=below), "wb") as file:
            file.write(b"%d" % level)
        descriptor = below
    os.close(descriptor)


@contextmanager
def nested(tmp_path: Path, depth: int) -> Iterator[Path]:
    """Have directories one inside the other, too deep for those who clear up behind the tests."""
    _nest(tmp_path / "source", depth)
    try:
        yield tmp_path / "source"
    finally:
        made = (tmp_path / "source", tmp_path / "destination")
        subprocess.run([shutil.which("rm") or "rm", "-rf", *made], check=True)


def test_a_thousand_directories_one_inside_the_other_are_read_and_checked(tmp_path: Path) -> None:
    with (
        nested(tmp_path, 1000) as source,
        deadline(),
        crew(Trees(source=source), jobs=2) as workers,
    ):
        found = read_tree(workers)
        assert len(found) == 2 * 1000 + 1
        checking = Checking(found, source)
        workers.start(checking)
        workers.finish()
        assert checking.result(workers).findings == ()
        deepest = b"/".join([b"d"] * 1000)
        assert found[deepest + b"/f"].size == 3


def test_hundreds_of_directories_one_inside_the_other_are_copied(tmp_path: Path) -> None:
    depth = 400
    with nested(tmp_path, depth) as source:
        with mirroring(source, tmp_path / "destination", jobs=2) as mirror:
            mirror.copy.update(delete=True)
            mirror.finish()
            assert len(mirror.copy.entries) == 2 * depth + 1
        below = os.open(tmp_path / "destination", os.O_RDONLY)
        for level in range(depth):
            lower = os.open(b"d", os.O_RDONLY, dir_fd=below)
            os.close(below)
            below = lower
            with open(os.open(b"f", os.O_RDONLY, dir_fd=below), "rb") as file:
                assert file.read() == b"%d" % level
        assert os.listdir(below) == ["f"]
        os.close(below)


# One worker by itself


@contextmanager
def one_worker(parent: int) -> Iterator[tuple["subprocess.Popen[bytes]", int, int]]:
    """Start a worker by hand; yields it, and the descriptors for its jobs and its replies."""
    theirs, jobs = os.pipe()
    results, replies = os.pipe()
    boot = "import sys; from ops.tree.worker import work; work(*map(int, sys.argv[1:]))"
    arguments = map(str, (theirs, replies, parent))
    process = subprocess.Popen(
        [sys.executable, "-c", boot, *arguments], pass_fds=(theirs, replies), cwd=ROOT
    )
    os.close(theirs)
    os.close(replies)
    with deadline(30), open(jobs, "wb", closefd=False), open(results, "rb", closefd=False):
        yield process, jobs, results
    process.kill()
    process.wait()
    for descriptor in (jobs, results):
        try:
            os.close(descriptor)
        except OSError:  # closed by the test
            continue


def _send(descriptor: int, message: tuple[Any, ...]) -> None:
    packed = marshal.dumps(message)
    os.write(descriptor, LENGTH.pack(len(packed)) + packed)


def _receive(descriptor: int) -> tuple[object, ...] | None:
    head = os.read(descriptor, LENGTH.size)
    if not head:
        return None
    (size,) = LENGTH.unpack(head)
    content = b""
    while len(content) < size:
        content += os.read(descriptor, size - len(content))
    message: tuple[object, ...] = marshal.loads(content)  # noqa: S302 - from our worker
    return message


def test_a_worker_ends_when_there_are_no_more_jobs(trees: Trees) -> None:
    with one_worker(os.getpid()) as (process, jobs, results):
        _send(jobs, trees.packed())
        _send(jobs, ("update", [(b"", None, (), ())], True))
        told = _receive(results)
        assert told is not None
        assert told[0] == DONE
        os.close(jobs)
        assert _receive(results) is None
        assert process.wait() == 0


def test_a_worker_tells_of_a_failure_and_ends(trees: Trees) -> None:
    with one_worker(os.getpid()) as (process, jobs, results):
        _send(jobs, trees.packed())
        _send(jobs, ("remove", b"nowhere"))
        assert trees.copy is not None
        message = f"cannot remove {trees.copy}/nowhere: No such file or directory"
        assert _receive(results) == (FAILED, "DestinationError", message, "")
        assert _receive(results) is None
        assert process.wait() == 0


def test_a_worker_whose_parent_is_gone_already_does_nothing(trees: Trees) -> None:
    with one_worker(1) as (process, jobs, results):
        _send(jobs, trees.packed())
        assert _receive(results) is None
        assert process.wait() == -signal.SIGKILL


def test_work_in_this_process_is_of_the_same_sort(trees: Trees) -> None:
    def copy_with(workers: Crew) -> None:
        copy = TreeCopy(workers)
        copy.start(delete=True)
        copy.pump()
        copy.wait()
        copy.finish()

    with crew(trees, jobs=1) as workers:
        assert not workers.parallel
        workers.pump()
        copy_with(workers)
    assert trees.copy is not None
    assert read(trees.source) == read(trees.copy)
