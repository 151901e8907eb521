"""Hostile places: links that lead out, squatted names, odd names, strangers, moved left-overs.

Nothing outside the destination is ever touched, and what stands there is one pair or the other.
"""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ops.demo_instance import build_instance, connect
from ops.journal import JOURNAL, POINTER
from ops.model import Instance
from ops.spaces import PLACES, space_beside
from ops.workspace import Workspace
from tests.command import (
    NOBODY,
    PROGRAM,
    ROOT,
    Ran,
    acting_as,
    from_flags,
    mounted,
    run,
    run_here,
    to_flags,
)
from tests.faults import FULL
from tests.faults.pairs import is_copy, left_over, pair_state
from tests.filesystem import footprint
from tests.mounting import tmpfs
from tests.swaps import killed_run

LAST_OF_THE_SWAP = 4
"""Link, rename, and twice a rename: after so many all is in place."""

DATABASE_IN_PLACE = 2

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """Make an instance; no test changes it."""
    return build_instance(tmp_path_factory.mktemp("source"), evidences=3, seed=1)


@pytest.fixture
def old(tmp_path: Path) -> Instance:
    """Make a pair to be replaced."""
    return make_old(tmp_path / "destination")


def make_old(directory: Path, other: Path | None = None) -> Instance:
    """Make a pair to be replaced, in one directory or two."""
    other = other or directory
    for parent in (directory, other):
        parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        made = build_instance(Path(name), evidences=2, seed=2)
        shutil.copy2(made.database, directory / "db")
        shutil.copytree(made.attachments, other / "files")
    return Instance(database=directory / "db", attachments=other / "files")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """Make something outside that nobody may touch."""
    outside = tmp_path / "precious"
    outside.mkdir()
    for name in ("one", "two"):
        (outside / name).write_text(name)
    (outside / "directory").mkdir(mode=0o750)
    (outside / "directory" / "three").write_text("three")
    return outside


@pytest.fixture
def commons() -> Iterator[Path]:
    """Make a directory in which everybody may write and nobody may remove another's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o1777)
        yield Path(name).resolve()


def untouched(directory: Path) -> dict[bytes, tuple[object, ...]]:
    """Read all that must stay; a name less changes the ctime, as it must."""
    return footprint(directory, ctime=False)


def clone(capsys: Capture, source: Instance, old: Instance, *more: str | Path) -> Ran:
    """Run a clone."""
    return run_here(capsys, "clone", "--force", *from_flags(source), *to_flags(old), *more)


def recover(capsys: Capture, old: Instance, *more: str) -> Ran:
    """Run the recovery."""
    return run_here(capsys, "recover", *to_flags(old), *more)


def check_refusal(ran: Ran, *codes: int) -> None:
    """Check for one line that names a path and says why, and nothing else."""
    assert ran.code in (codes or (4,)), ran.err
    assert "/" in ran.error_line
    assert "Traceback" not in ran.err
    assert "unexpected" not in ran.err


def check_new(old: Instance, source: Instance) -> None:
    """Check that the new pair stands there and nothing else."""
    assert is_copy(old, source)
    assert left_over(old.database.parent, old.attachments.parent) == []


def copy_pair(source: Instance) -> Callable[[Workspace], None]:
    """Prepare a real pair."""

    def prepare(space: Workspace) -> None:
        shutil.copy2(source.database, space.copy.database)
        shutil.rmtree(space.copy.attachments)
        shutil.copytree(source.attachments, space.copy.attachments)

    return prepare


def kill(old: Instance, source: Instance, changes: int | None = DATABASE_IN_PLACE) -> None:
    """Leave what a run leaves that is killed half way."""
    killed_run(old, changes=changes, prepare=copy_pair(source))


# Links and trees


def test_links_on_the_way_lead_to_the_one_real_place(
    source: Instance, old: Instance, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "link").symlink_to("destination")
    (tmp_path / "chain").symlink_to(tmp_path / "link")
    alias = Instance(
        database=tmp_path / "chain" / "db", attachments=tmp_path / "link" / "." / "files"
    )
    kill(old, source)
    assert clone(capsys, source, alias).code == 0
    check_new(old, source)
    assert os.readlink(tmp_path / "link") == "destination"


def test_a_dangling_link_on_the_way(source: Instance, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "link").symlink_to("missing/below")
    copy = Instance(database=tmp_path / "link" / "db", attachments=tmp_path / "link" / "files")
    ran = clone(capsys, source, copy)
    assert os.readlink(tmp_path / "link") == "missing/below"
    assert ran.code == 0, ran.err
    check_new(copy, source)


def lead_out(tree: Path, precious: Path) -> None:
    """Fill a tree with names that lead out of it."""
    (tree / "absolute").symlink_to(precious)
    (tree / "file").symlink_to(precious / "one")
    (tree / "up").symlink_to("../../precious/directory")
    (tree / "dangling").symlink_to("/nonexistent/place")
    (tree / "loop").symlink_to("loop")
    (tree / "root").symlink_to("/")
    (tree / "device").symlink_to("/dev/null")
    (tree / "below").mkdir()
    (tree / "below" / "link").symlink_to(precious / "directory")
    os.link(precious / "two", tree / "hard")
    os.link(precious / "directory" / "three", tree / "below" / "hard")
    os.mkfifo(tree / "pipe")
    listener = socket.socket(socket.AF_UNIX)
    here = os.open(".", os.O_RDONLY)
    os.chdir(tree)
    listener.bind("socket")
    os.fchdir(here)
    os.close(here)
    listener.close()
    if os.geteuid() == 0:
        os.mknod(tree / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(tree / "disk", 0o600 | stat.S_IFBLK, os.makedev(7, 99))


@pytest.mark.parametrize("killed", [False, True], ids=["at once", "after a kill"])
def test_an_old_tree_that_leads_out_is_removed_and_no_more(
    source: Instance, old: Instance, precious: Path, capsys: Capture, *, killed: bool
) -> None:
    lead_out(old.attachments, precious)
    before = untouched(precious)
    if killed:
        kill(old, source, 3)
        ran = recover(capsys, old)
    else:
        ran = clone(capsys, source, old)
    assert ran.code == 0, ran.err
    check_new(old, source)
    assert untouched(precious) == before
    assert (precious / "two").stat().st_nlink == 1


def test_left_overs_that_lead_out_are_removed_and_no_more(
    source: Instance, old: Instance, precious: Path, capsys: Capture
) -> None:
    before = untouched(precious)
    pair = pair_state(old)
    kill(old, source, None)
    spaces = [space_beside(old.database), space_beside(old.attachments)]
    (spaces[1] / "new" / "deeper").mkdir()
    lead_out(spaces[1] / "new" / "deeper", precious)
    for space in spaces:
        (space / "scratch").rename(space / "was") if (space / "scratch").exists() else None
        (space / "scratch").symlink_to(precious)
        (space / "draft").symlink_to(precious / "one")
        (space / "old").symlink_to(precious / "directory")
    assert recover(capsys, old).code == 0
    assert untouched(precious) == before
    assert pair_state(old) == pair
    assert left_over(old.database.parent) == []


@pytest.mark.parametrize("content", ["new", "old"])
def test_private_names_that_are_links_are_not_followed(
    content: str, source: Instance, old: Instance, precious: Path, capsys: Capture
) -> None:
    """Somebody put links in the stead of the parts of an unfinished swap."""
    kill(old, source)
    before = untouched(precious)
    part = space_beside(old.attachments) / content
    if part.exists():
        part.rename(part.with_name("aside"))
    part.symlink_to(precious)
    ran = recover(capsys, old)
    assert ran.code in {0, 4}, ran.err
    assert "unexpected" not in ran.err
    assert untouched(precious) == before


def test_a_database_with_another_name_is_replaced_and_the_name_stays(
    source: Instance, old: Instance, tmp_path: Path, capsys: Capture
) -> None:
    other = tmp_path / "other"
    os.link(old.database, other)
    before = other.read_bytes(), other.stat().st_mode, other.stat().st_mtime_ns
    assert clone(capsys, source, old).code == 0
    check_new(old, source)
    assert (other.read_bytes(), other.stat().st_mode, other.stat().st_mtime_ns) == before
    assert other.stat().st_nlink == 1


def test_a_database_with_another_name_and_a_wal_is_left_alone(
    source: Instance, old: Instance, tmp_path: Path, capsys: Capture
) -> None:
    connection = connect(old.database)
    connection.execute("UPDATE iam_user SET is_active = 0")
    wal = old.database.with_name("db-wal")
    content = wal.read_bytes()
    connection.close()
    wal.write_bytes(content)
    os.link(old.database, tmp_path / "other")
    before = untouched(tmp_path)
    check_refusal(clone(capsys, source, old))
    assert untouched(tmp_path) == before


@pytest.mark.parametrize("tool", ["recover", "clone"])
@pytest.mark.parametrize("what", ["file", "directory"])
def test_an_old_tree_that_cannot_be_removed(
    what: str, tool: str, source: Instance, old: Instance, capsys: Capture
) -> None:
    """The new pair is in place by then, which is told; the next run clears the old one away."""
    locked = old.attachments / "below"
    locked.mkdir()
    (locked / "file").write_text("x")
    with immutable_wherever(locked / "file" if what == "file" else locked, old):
        ran = clone(capsys, source, old)
        check_refusal(ran)
        assert "Operation not permitted" in ran.error_line
        assert "the new pair is in place" in ran.err
        assert is_copy(old, source)
        check_refusal(recover(capsys, old))
        check_refusal(clone(capsys, source, old))
        assert is_copy(old, source)
    ran = recover(capsys, old) if tool == "recover" else clone(capsys, source, old)
    assert ran.code == 0, ran.err
    check_new(old, source)


@contextmanager
def immutable_wherever(path: Path, old: Instance) -> Iterator[None]:
    """Forbid a change of something in an old tree, wherever that tree goes."""
    chattr = shutil.which("chattr")
    if chattr is None or subprocess.run([chattr, "+i", path], check=False).returncode:
        pytest.skip("takes root and a file system that knows the immutable flag")
    try:
        yield
    finally:
        kept = space_beside(old.attachments) / "old" / path.relative_to(old.attachments)
        found = [one for one in (path, kept) if os.path.lexists(one)]
        subprocess.run([chattr, "-i", *found], check=True)


@pytest.mark.parametrize("user", [0, NOBODY])
def test_an_old_tree_with_locked_directories(
    user: int, commons: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("HOME", str(commons))
    with acting_as(user):
        mine = build_instance(commons / "mine", evidences=2)
        old = make_old(commons / "destination")
        below = old.attachments
        for number in range(4):
            below = below / f"level {number}"
            below.mkdir()
            (below / "file").write_text("x")
        for path in [below, *list(below.parents)[:3]]:
            path.chmod(0)
        kept = old.database.read_bytes()
        ran = clone(capsys, mine, old)
        if user == 0:
            assert ran.code == 0, ran.err
        if ran.code:
            check_refusal(ran)
            assert old.database.read_bytes() == kept
            assert left_over(commons / "destination") == []
        else:
            check_new(old, mine)
        for parent, directories, _ in os.walk(commons):  # for whoever removes it
            for name in directories:
                os.chmod(os.path.join(parent, name), 0o700)


def test_an_old_tree_deeper_than_any_path(source: Instance, old: Instance, capsys: Capture) -> None:
    make_deep(old.attachments, 30)
    assert clone(capsys, source, old).code == 0
    check_new(old, source)


@pytest.mark.parametrize("changes", [None, 0, 3, LAST_OF_THE_SWAP])
def test_left_overs_deeper_than_any_path(
    changes: int | None, source: Instance, old: Instance, capsys: Capture
) -> None:
    make_deep(old.attachments, 20)
    kill(old, source, changes)
    space = space_beside(old.attachments)
    if (space / "new").exists():
        make_deep(space / "new", 20)
    ran = recover(capsys, old)
    assert ran.code == 0, ran.err
    assert left_over(old.database.parent) == []


def make_deep(tree: Path, levels: int) -> None:
    """Make a tree that no path reaches the bottom of (PATH_MAX is 4096)."""
    descriptor = os.open(tree, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d" * 250, dir_fd=descriptor)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=descriptor))
    os.close(descriptor)


# Names

ODD = {
    "line break": b"a\nb\n",
    "not UTF-8": b"\xff\xfe\x80",
    "long": b"n" * 240,
    "escape": b"\x1b[31m'\"$(touch x)`\\",
    "dash and spaces": b"-rf  --force ",
    "surrogate": "\U0001f4a9\u202e".encode(),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("half", ["database", "attachments", "parent"])
def test_journals_know_any_name(
    half: str, name: str, source: Instance, tmp_path: Path, capsys: Capture
) -> None:
    """Killed between the halves, and completed from the journal."""
    odd = os.fsdecode(ODD[name])
    old = make_old(tmp_path / (odd if half == "parent" else "plain"))
    places = {"database": old.database, "attachments": old.attachments}
    if half in places:
        places[half] = places[half].rename(places[half].with_name(odd))
    old = Instance(**places)
    for changes in range(LAST_OF_THE_SWAP + 1) if FULL else (DATABASE_IN_PLACE,):
        kill(old, source, changes)
        ran = recover(capsys, old)
        assert ran.code == 0, ran.err
        if changes >= DATABASE_IN_PLACE:
            check_new(old, source)
    assert clone(capsys, source, old).code == 0
    check_new(old, source)


@pytest.mark.parametrize("name", ["not UTF-8", "line break"] if FULL else ["not UTF-8"])
def test_killed_at_each_rename(
    name: str, source: Instance, tmp_path: Path, capsys: Capture
) -> None:
    """For real: the process is killed as it renames for the nth time."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("takes strace, to kill a run at a call")
    odd = os.fsdecode(ODD[name])
    flags = ("clone", "--force", *from_flags(source))
    ends: Counter[str] = Counter()
    for number in range(1, 8) if FULL else (2, 4, 5):
        old = make_old(tmp_path / f"{number}{odd}", tmp_path / f"other {number}{odd}")
        before = pair_state(old)
        inject = f"inject=rename:signal=KILL:when={number}"
        what = ("-e", "trace=rename", "-e", inject)
        traced = (strace, "-f", "-qq", "-o", os.devnull, *what)
        killed = run_bytes(*traced, *PROGRAM, *flags, *to_flags(old))
        ran = recover(capsys, old)
        assert ran.code == 0, ran.err
        assert killed in {0, -signal.SIGKILL, 128 + signal.SIGKILL}
        if is_copy(old, source):
            ends["new"] += 1
        else:
            assert pair_state(old) == before
            ends["old"] += 1
        assert left_over(tmp_path) == []
        if killed == 0:
            break
    say(capsys, f"killed at a rename, {name}: {dict(ends)}")
    assert ends["old"]
    assert ends["new"]


def say(capsys: Capture, figures: str) -> None:
    """Print figures."""
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")


def run_bytes(*command: str | Path) -> int:
    """Run a command whose output is of no interest; return its code."""
    return subprocess.run(
        [os.fsencode(word) for word in command],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    ).returncode


# Squatters

HOSTILE: dict[str, Callable[[Path, Path], None]] = {}


def hostile(make: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    """Collect a way to squat on the name of a space."""
    HOSTILE[make.__name__.replace("_", " ").strip()] = make
    return make


@hostile
def _file(space: Path, _precious: Path) -> None:
    space.write_text("mine")


@hostile
def _pipe(space: Path, _precious: Path) -> None:
    os.mkfifo(space)


@hostile
def _link(space: Path, precious: Path) -> None:
    space.symlink_to(precious)


@hostile
def _dangling_link(space: Path, _precious: Path) -> None:
    space.symlink_to(space.with_name("made by following"))


@hostile
def _empty_directory(space: Path, _precious: Path) -> None:
    space.mkdir()


@hostile
def _full_directory(space: Path, precious: Path) -> None:
    space.mkdir()
    (space / "new").symlink_to(precious)
    (space / "old").mkdir()
    (space / PLACES).write_text(json.dumps([str(precious / "one")]))


@hostile
def _journal(space: Path, precious: Path) -> None:
    """Have the run put something in place of the precious files."""
    space.mkdir()
    (space / "new").write_text("evil")
    place = space.with_name("db")
    parts = [
        {"kind": "database", "place": str(place), "replaces": True, "inode": 1},
        {"kind": "database", "place": str(precious / "one"), "replaces": True, "inode": 1},
    ]
    (space / JOURNAL).write_text(json.dumps({"format": 1, "parts": parts}))


@hostile
def _pointer(space: Path, precious: Path) -> None:
    space.mkdir()
    fields = {"space": str(precious), "parent_inode": precious.parent.stat().st_ino}
    (space / POINTER).write_text(json.dumps(fields))


@hostile
def _journal_that_is_a_link(space: Path, precious: Path) -> None:
    space.mkdir()
    (space / JOURNAL).symlink_to(precious / "one")


@hostile
def _journal_that_is_a_directory(space: Path, _precious: Path) -> None:
    (space / JOURNAL).mkdir(parents=True)


@hostile
def _locked_directory(space: Path, _precious: Path) -> None:
    space.mkdir(mode=0)


@pytest.mark.parametrize("owner", [0, NOBODY])
@pytest.mark.parametrize("half", ["database", "attachments"])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_squatted_name(  # noqa: PLR0917 - pytest gives them by name
    kind: str,
    half: str,
    owner: int,
    source: Instance,
    commons: Path,
    precious: Path,
    capsys: Capture,
) -> None:
    """In a directory where everybody may write, somebody has taken the name that is needed."""
    if owner == 0 and kind in {"journal", "pointer"}:
        pytest.skip("one's own journal is believed")
    old = make_old(commons)
    space = space_beside(old.database if half == "database" else old.attachments)
    HOSTILE[kind](space, precious)
    give_away(space, owner)
    outside, pair = untouched(precious), pair_state(old)
    squatted = footprint(commons)
    looked = run_here(capsys, "recover", *to_flags(old), "--dry-run")
    assert looked.code in {0, 4}, looked.err
    assert "unexpected" not in looked.err
    assert footprint(commons) == squatted
    for ran in (recover(capsys, old), clone(capsys, source, old)):
        if owner == NOBODY or ran.code:
            check_refusal(ran)
            assert pair_state(old) == pair
        else:
            assert kind.endswith("directory"), "what might be one's own is cleared away"
        assert untouched(precious) == outside
    if owner == NOBODY:
        assert left_over(commons) == [str(space)]
    assert not (commons / "made by following").exists()


def give_away(path: Path, owner: int) -> None:
    """Make somebody else the owner of all that is there."""
    if os.geteuid() != 0:
        pytest.skip("takes root, to give a directory away")
    names = [path]
    if path.is_dir() and not path.is_symlink():
        names += [below for below in path.iterdir() if not below.is_symlink()]
    for name in names:
        os.chown(name, owner, owner, follow_symlinks=False)


class HangsError(Exception):
    """Something does not come back."""


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Fail what does not come back."""

    def stop(_number: int, _frame: object) -> None:
        raise HangsError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "name",
    [
        JOURNAL,
        *([POINTER, PLACES] if FULL else []),
    ],
)
@pytest.mark.parametrize("task", ["recover", "clone", "verify", "status"])
def test_a_stranger_s_pipe_holds_nobody_up(
    task: str, name: str, source: Instance, commons: Path, capsys: Capture
) -> None:
    """Who opens a pipe to read waits until somebody writes."""
    old = make_old(commons)
    space = space_beside(old.database)
    with acting_as(NOBODY):
        space.mkdir(mode=0o755)
        os.mkfifo(space / name)
    pair = pair_state(old)
    commands: dict[str, Callable[[], Ran]] = {
        "recover": lambda: recover(capsys, old),
        "clone": lambda: clone(capsys, source, old),
        "verify": lambda: run_here(capsys, "verify", *to_flags(old)),
        "status": lambda: run_here(capsys, "status", *from_flags(source), *to_flags(old)),
    }
    with bounded(1 if name != PLACES else 30):
        ran = commands[task]()
    assert "unexpected" not in ran.err, ran.err
    assert pair_state(old) == pair


# Left-overs that are not where they were


def test_a_destination_that_was_moved_after_a_kill(
    source: Instance, old: Instance, tmp_path: Path, capsys: Capture
) -> None:
    kill(old, source)
    moved = Instance(database=tmp_path / "moved" / "db", attachments=tmp_path / "moved" / "files")
    old.database.parent.rename(moved.database.parent)
    before = footprint(moved.database.parent)
    for ran in (
        recover(capsys, moved),
        run_here(capsys, "recover", "--dest-attachments", moved.attachments),
        clone(capsys, source, moved),
        recover(capsys, moved, "--dry-run"),
        run_here(capsys, "verify", *to_flags(moved)),
    ):
        check_refusal(ran)
        assert str(tmp_path) in ran.error_line
        assert ran.hint_line
        assert footprint(moved.database.parent) == before
    assert not old.database.parent.exists()
    moved.database.parent.rename(old.database.parent)
    assert recover(capsys, old).code == 0
    check_new(old, source)


@pytest.mark.parametrize("changes", [0, DATABASE_IN_PLACE, 3, LAST_OF_THE_SWAP])
def test_a_copy_of_left_overs_never_reaches_back(
    changes: int, source: Instance, old: Instance, tmp_path: Path, capsys: Capture
) -> None:
    """Somebody saved the whole directory after the crash, and works on the saved one."""
    kill(old, source, changes)
    saved = Instance(database=tmp_path / "saved" / "db", attachments=tmp_path / "saved" / "files")
    shutil.copytree(old.database.parent, saved.database.parent, symlinks=True)
    before = footprint(old.database.parent)
    for ran in (
        recover(capsys, saved),
        clone(capsys, source, saved),
        run_here(capsys, "recover", "--dest-attachments", saved.attachments),
    ):
        assert footprint(old.database.parent) == before
        check_refusal(ran)
    assert recover(capsys, old).code == 0
    assert left_over(old.database.parent) == []


def test_a_destination_under_another_mount(
    source: Instance, old: Instance, tmp_path: Path, capsys: Capture
) -> None:
    """A bind mount gives the same directory a second path; its journal tells the first."""
    kill(old, source)
    with mounted(tmp_path / "bound", "bind", "", source=old.database.parent) as bound:
        alias = Instance(database=bound / "db", attachments=bound / "files")
        before = footprint(old.database.parent)
        check_refusal(recover(capsys, alias))
        check_refusal(clone(capsys, source, alias))
        assert footprint(old.database.parent) == before
    assert recover(capsys, old).code == 0
    check_new(old, source)


# Damaged journals


def damaged(journal: bytes, precious: Path) -> Iterator[tuple[str, bytes]]:
    """Make many kinds of damage."""
    step = 1 if FULL else 41
    for length in range(0, len(journal), step):
        yield f"cut at {length}", journal[:length]
        yield f"zeros from {length}", journal[:length].ljust(len(journal), b"\0")
    for index in range(0, len(journal), step):
        yield (
            f"flipped at {index}",
            bytes(byte ^ 4 if index == at else byte for at, byte in enumerate(journal)),
        )
    document = json.loads(journal)
    for key, values in WRONG.items():
        for value in values:
            for number in range(len(document["parts"])):
                changed = json.loads(journal)
                if key in changed:
                    changed[key] = value
                else:
                    changed["parts"][number][key] = value
                yield f"{key} = {value!r:.40} in {number}", json.dumps(changed).encode()
    for key in document["parts"][0]:
        changed = json.loads(journal)
        del changed["parts"][1][key]
        yield f"without {key}", json.dumps(changed).encode()
    yield "nested", b"[" * 100_000
    yield "not UTF-8", b"\xff\xfe" * 100
    yield (
        "a second half elsewhere",
        journal.replace(
            document["parts"][1]["place"].encode(), str(precious / "directory").encode()
        ),
    )


WRONG: dict[str, list[Any]] = {
    "format": [None, 0, "1", [], {}, 1e400],
    "parts": [None, [], {}, "text", [None], [[]], 3],
    "kind": [None, "", "manifest", 3, []],
    "inode": [None, "", "x", 1e400, float("nan"), -1, [], 10**40],
    "replaces": [None, "no", []],
    "place": [None, "", "/", "relative", "/a\0b", "/\ud800", "/.", "/..", 3, [], "/" + "n" * 5000],
}


FAR_FETCHED = re.compile(r"= inf |= '/\.?' |= '/.{0,2}ud800' |^nested$")
"""Damage that no disk does: numbers without end, a root for a name, lone surrogates."""


@pytest.mark.parametrize("far_fetched", [False, True])
@pytest.mark.parametrize("name", [JOURNAL, POINTER])
def test_damaged_journals(
    name: str,
    source: Instance,
    tmp_path: Path,
    precious: Path,
    capsys: Capture,
    *,
    far_fetched: bool,
) -> None:
    """Refused or completed; nothing else is touched, and nothing unexpected comes up."""
    ends: Counter[str] = Counter()
    broken = []
    old = make_old(tmp_path / "destination")
    kill(old, source)
    shutil.copytree(old.database.parent, tmp_path / "kept", symlinks=True)
    space = space_beside(old.database if name == JOURNAL else old.attachments)
    whole = (space / name).read_bytes()
    cases = damaged(whole, precious) if name == JOURNAL else damaged_pointers(whole, precious)
    before = untouched(precious)
    for what, content in cases:
        if bool(FAR_FETCHED.search(f"{what} ".replace("nested ", "nested"))) != far_fetched:
            continue
        (space / name).write_bytes(content)
        inode, pristine = os.stat(space).st_ino, untouched(old.database.parent)
        try:
            ran = run_here(capsys, "recover", "--dest-attachments", old.attachments)
        except Exception as error:  # noqa: BLE001 - whatever comes up is what is looked for
            ran = Ran(1, "", f"unexpected: {error!r}")
        ends[str(ran.code)] += 1
        if ran.code not in {0, 4} or "unexpected" in ran.err or untouched(precious) != before:
            broken.append(f"{what}: {ran.code} {ran.err[:200]!r}")
        elif ran.code and left_over(precious):
            broken.append(f"{what}: left {left_over(precious)}")
        elif ran.code and untouched(old.database.parent) != pristine:
            broken.append(f"{what}: {ran.code}, and yet something was changed")
        if not os.path.lexists(space) or os.stat(space).st_ino != inode:
            old, space, whole = again(old, source, tmp_path, name)
        for private in left_over(precious):
            os.rmdir(private)
            before = untouched(precious)
    say(
        capsys, f"damaged {name}{', far-fetched' * far_fetched}: {dict(ends)}, {len(broken)} broken"
    )
    assert not broken, "\n".join(broken)


def again(
    old: Instance, source: Instance, tmp_path: Path, name: str
) -> tuple[Instance, Path, bytes]:
    """Make the same left-overs once more."""
    shutil.rmtree(old.database.parent)
    made = make_old(tmp_path / "destination")
    kill(made, source)
    space = space_beside(made.database if name == JOURNAL else made.attachments)
    return made, space, (space / name).read_bytes()


def damaged_pointers(pointer: bytes, precious: Path) -> Iterator[tuple[str, bytes]]:
    """Make many kinds of damage to a pointer."""
    for length in range(0, len(pointer), 1 if FULL else 11):
        yield f"cut at {length}", pointer[:length]
    fields = json.loads(pointer)
    wrong: dict[str, list[object]] = {
        "space": [None, "", "/", "relative", "/a\0b", "/\ud800", 3, [], "/" + "n" * 5000],
        "parent_inode": [None, "", "x", 1e400, [], -1],
    }
    for key, values in wrong.items():
        for value in values:
            yield f"{key} = {value!r:.40}", json.dumps({**fields, key: value}).encode()
    yield "nested", b"[" * 100_000
    yield "elsewhere", json.dumps({**fields, "space": str(precious)}).encode()


# Halves that are not there, or not as they were


@contextmanager
def two_disks(
    tmp_path: Path,
) -> Iterator[tuple[Instance, Callable[[str], AbstractContextManager[Path]]]]:
    """Make an old pair on two file systems that can be taken away and come back."""
    with tmpfs("8m") as one, tmpfs("8m") as two:
        disks = {"database": one, "attachments": two}
        points = {half: tmp_path / half for half in disks}

        def mount(half: str) -> AbstractContextManager[Path]:
            return mounted(points[half], "bind", "", source=disks[half])

        with mount("database"), mount("attachments"):
            old = make_old(points["database"], points["attachments"])
        yield old, mount


@pytest.mark.parametrize("gone", ["database", "attachments"])
@pytest.mark.parametrize("changes", [0, DATABASE_IN_PLACE, 3, LAST_OF_THE_SWAP])
def test_a_half_that_is_not_mounted(
    changes: int, gone: str, source: Instance, tmp_path: Path, capsys: Capture
) -> None:
    """It is refused, or left, until the disk is there again."""
    with two_disks(tmp_path) as (old, mount):
        here = "attachments" if gone == "database" else "database"
        with mount("database"), mount("attachments"):
            before = pair_state(old)
            kill(old, source, changes)
        with mount(here):
            place = old.attachments if gone == "database" else old.database
            flag = "--dest-attachments" if gone == "database" else "--dest-db"
            pristine = footprint(tmp_path / here, ctime=False)
            looked = run_here(capsys, "recover", flag, place, "--dry-run")
            assert looked.code in {0, 4}, looked.err
            assert footprint(tmp_path / here, ctime=False) == pristine
            for ran in (
                run_here(capsys, "recover", flag, place),
                recover(capsys, old),
                clone(capsys, source, old),
            ):
                check_refusal(ran)
            if gone == "database":
                assert footprint(tmp_path / here, ctime=False) == pristine
            for below in (tmp_path / gone).iterdir():  # told by another test
                shutil.rmtree(below)
        with mount("database"), mount("attachments"):
            ran = recover(capsys, old)
            assert ran.code == 0, ran.err
            if changes == 0 and not is_copy(old, source):
                assert pair_state(old) == before
            else:
                check_new(old, source)


def test_nothing_stays_below_a_mount_point(
    source: Instance, tmp_path: Path, capsys: Capture
) -> None:
    with two_disks(tmp_path) as (old, mount):
        with mount("database"), mount("attachments"):
            kill(old, source, DATABASE_IN_PLACE)
        with mount("database"):
            check_refusal(run_here(capsys, "recover", "--dest-db", old.database))
        assert list((tmp_path / "attachments").iterdir()) == []


def test_a_crash_before_any_change_waits_for_the_other_half(
    source: Instance, tmp_path: Path, capsys: Capture
) -> None:
    """Nothing is in place yet: half of the new pair must not be put there alone."""
    with two_disks(tmp_path) as (old, mount):
        with mount("database"), mount("attachments"):
            before = old.database.read_bytes()
            kill(old, source, 0)
        with mount("database"):
            run_here(capsys, "recover", "--dest-db", old.database)
            assert old.database.read_bytes() == before


def test_a_read_only_disk_changes_nothing(source: Instance, capsys: Capture) -> None:
    mount = shutil.which("mount") or "mount"
    for changes in (None, 0, DATABASE_IN_PLACE, 3, LAST_OF_THE_SWAP):
        with tmpfs("8m") as disk:
            old = make_old(disk)
            before = pair_state(old)
            kill(old, source, changes)
            seen = footprint(disk)
            subprocess.run([mount, "-o", "remount,ro", disk], check=True)
            for ran in (recover(capsys, old), clone(capsys, source, old)):
                check_refusal(ran)
                assert "ead-only file system" in ran.error_line
            looked = recover(capsys, old, "--dry-run")
            assert looked.code == 0, looked.err
            assert footprint(disk) == seen
            subprocess.run([mount, "-o", "remount,rw", disk], check=True)
            assert recover(capsys, old).code == 0
            assert left_over(disk) == []
            if changes in {None, 0}:
                assert pair_state(old) == before
            else:
                check_new(old, source)


def _write_a_row(old: Instance) -> None:
    connection = connect(old.database)
    connection.execute("UPDATE iam_user SET is_active = 0")
    connection.close()


def _write_a_file(old: Instance) -> None:
    old.attachments.mkdir(exist_ok=True)
    (old.attachments / "upload").write_text("x")


def _remove_the_attachments(old: Instance) -> None:
    shutil.rmtree(old.attachments, ignore_errors=True)


def _remove_the_database(old: Instance) -> None:
    old.database.unlink()


def _put_another_database(old: Instance) -> None:
    content = old.database.read_bytes()
    old.database.with_name("other").write_bytes(content)
    old.database.with_name("other").rename(old.database)


def _put_a_file_for_the_attachments(old: Instance) -> None:
    shutil.rmtree(old.attachments, ignore_errors=True)
    old.attachments.write_text("x")


def _put_links(old: Instance) -> None:
    precious = old.database.parents[1] / "precious"
    shutil.rmtree(old.attachments, ignore_errors=True)
    old.attachments.symlink_to(precious / "directory")
    old.database.unlink()
    old.database.symlink_to(precious / "one")


def _leave_a_wal(old: Instance) -> None:
    old.database.with_name("db-wal").write_bytes(b"not a WAL")
    old.database.with_name("db-shm").symlink_to(old.database.parents[1] / "precious" / "two")


def _remove_what_is_new(old: Instance) -> None:
    shutil.rmtree(space_beside(old.attachments) / "new", ignore_errors=True)


def _remove_a_space(old: Instance) -> None:
    shutil.rmtree(space_beside(old.attachments))


HANDS = [
    _write_a_row,
    _write_a_file,
    _remove_the_attachments,
    _remove_the_database,
    _put_another_database,
    _put_a_file_for_the_attachments,
    _put_links,
    _leave_a_wal,
    _remove_what_is_new,
    _remove_a_space,
]


@pytest.mark.parametrize("change", HANDS)
def test_changed_by_hand_after_a_crash(
    change: Callable[[Instance], None],
    source: Instance,
    tmp_path: Path,
    precious: Path,
    capsys: Capture,
) -> None:
    """Done or refused in one line; what is outside stays, and one kind of run or the other ends."""
    outside = untouched(precious)
    ends: Counter[str] = Counter()
    for changes in range(LAST_OF_THE_SWAP + 1):
        for tool in ("recover", "clone"):
            old = make_old(tmp_path / f"{changes} {tool}")
            kill(old, source, changes)
            change(old)
            ran = recover(capsys, old) if tool == "recover" else clone(capsys, source, old)
            ends[f"{tool} {ran.code}"] += 1
            assert "unexpected" not in ran.err, ran.err
            assert ran.code in {0, 4}, ran.err
            assert untouched(precious) == outside
            if ran.code:
                assert "/" in ran.error_line
            elif tool == "clone":
                check_new(old, source)
            else:
                assert left_over(old.database.parent) == []
    say(capsys, f"{change.__name__.strip('_').replace('_', ' ')}: {dict(ends)}")


def test_a_database_behind_a_link_is_not_merged(
    source: Instance, old: Instance, precious: Path, capsys: Capture
) -> None:
    """After a crash somebody put a link to a database elsewhere in the place of the old one."""
    kill(old, source, 0)
    elsewhere = make_old(precious / "elsewhere")
    connection = connect(elsewhere.database)
    connection.execute("UPDATE iam_user SET is_active = 0")
    wal = elsewhere.database.with_name("db-wal")
    content = elsewhere.database.read_bytes(), wal.read_bytes()
    connection.close()
    elsewhere.database.write_bytes(content[0])
    wal.write_bytes(content[1])
    old.database.unlink()
    old.database.symlink_to(elsewhere.database)
    shutil.rmtree(old.attachments)
    before = untouched(precious)
    ran = recover(capsys, old)
    assert ran.code in {0, 4}, ran.err
    assert untouched(precious) == before


# Users


def test_somebody_without_rights_in_his_own_directory(commons: Path) -> None:
    with acting_as(NOBODY):
        mine = build_instance(commons / "source", evidences=3, seed=1)
        old = make_old(commons / "destination")
    before = footprint(mine.database.parent)
    flags = ("--force", *from_flags(mine), *to_flags(old))
    ran = run("clone", *flags, user=NOBODY, environment={"HOME": str(commons)})
    assert ran.code == 0, ran.err
    check_new(old, mine)
    assert footprint(mine.database.parent) == before
    assert {path.lstat().st_uid for path in old.database.parent.rglob("*")} == {NOBODY}


@pytest.mark.parametrize("changes", [None, 0, DATABASE_IN_PLACE, LAST_OF_THE_SWAP])
@pytest.mark.parametrize("first", [0, NOBODY])
def test_left_overs_of_another_user(  # noqa: PLR0917 - pytest gives them by name
    first: int,
    changes: int | None,
    source: Instance,
    commons: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    """Who is not their owner is told so; who is finishes them."""
    monkeypatch.setenv("HOME", str(commons))
    second = NOBODY if first == 0 else 0
    mine = shared_source(source, commons)
    with acting_as(NOBODY):
        old = make_old(commons / "destination")
    with acting_as(first):
        kill(old, mine, changes)
    before = untouched(old.database.parent)
    with acting_as(second):
        for ran in (clone(capsys, mine, old), recover(capsys, old)):
            check_refusal(ran)
    assert untouched(old.database.parent) == before
    with acting_as(first):
        ran = recover(capsys, old)
        assert ran.code == 0, ran.err
        assert left_over(old.database.parent) == []


def shared_source(source: Instance, commons: Path) -> Instance:
    """Put a source where everybody may read it."""
    copy = Instance(database=commons / "source" / "db", attachments=commons / "source" / "files")
    shutil.copytree(source.attachments, copy.attachments)
    shutil.copy2(source.database, copy.database)
    for path in (copy.database.parent, *copy.database.parent.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    return copy
