"""Several at one destination: runs exclude each other, and nobody loses what he has open."""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ops.demo_instance import build_instance, connect
from ops.model import Instance
from tests.command import INV, NOBODY, ROOT, Ran, from_flags, run, to_flags
from tests.faults import FULL
from tests.filesystem import read
from tests.pipeline import check
from tests.processes import having_open, held_open

TIMES = 30 if FULL else 3
_TIMEOUT_SECONDS = 120


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Instance]:
    """Make two instances that differ, large enough to take a moment."""
    directory = tmp_path_factory.mktemp("sources")
    return [
        build_instance(directory / str(seed), evidences=300 + seed, seed=seed) for seed in range(2)
    ]


@pytest.fixture
def old(tmp_path: Path) -> Instance:
    """Make a pair that stands at the destination."""
    return build_instance(tmp_path / "old", evidences=3, seed=9)


def start(*arguments: str | Path) -> "subprocess.Popen[str]":
    """Start a command."""
    return subprocess.Popen(
        [*INV, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> Ran:
    """Wait for a command."""
    out, err = process.communicate(timeout=_TIMEOUT_SECONDS)
    return Ran(process.returncode, out, err)


def clone_from(source: Instance, copy: Instance, *flags: str) -> "subprocess.Popen[str]":
    """Start a clone."""
    return start("clone", "--force", *flags, *from_flags(source), *to_flags(copy))


def is_one_of(copy: Instance, *wanted: Instance) -> bool:
    """Tell whether a pair is exactly one of some pairs."""
    return any(
        read(copy.attachments) == read(one.attachments)
        and copy.database.stat().st_size == one.database.stat().st_size
        and check(copy, source=one).findings == ()
        for one in wanted
    )


def nothing_private_in(*directories: Path) -> bool:
    """Tell whether no workspace, lock or other private thing is in some directories."""
    return not any(list(directory.glob(".ciso-ops-*")) for directory in directories)


def test_two_clones_at_once_to_one_destination(sources: list[Instance], tmp_path: Path) -> None:
    chance = random.Random(1)  # noqa: S311 - instants
    copy = Instance(database=tmp_path / "c" / "db", attachments=tmp_path / "c" / "tree")
    codes = []
    for _ in range(TIMES):
        first = clone_from(sources[0], copy)
        time.sleep(chance.choice((0, 0, chance.uniform(0, 0.6))))
        second = clone_from(sources[1], copy)
        done = [finish(first), finish(second)]
        codes.append(tuple(sorted(ran.code for ran in done)))
        for ran in done:
            if ran.code:
                assert ran.code == 6, ran.err
                writing = "another run is writing to this destination" in ran.error_line
                # The other one looks at what stands there before it begins.
                looking = "the destination is in use: " in ran.error_line
                assert writing or looking, ran.err
                assert "Traceback" not in ran.err
        assert is_one_of(copy, *sources)
        assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["db", "tree"]
    assert set(codes) <= {(0, 0), (0, 6)}, codes


@pytest.mark.parametrize("shared", ["database", "attachments"])
def test_two_clones_that_share_one_half(
    shared: str, sources: list[Instance], tmp_path: Path
) -> None:
    for number in range(TIMES):
        place = tmp_path / str(number)
        names = [("db", "db"), ("one", "two")]
        if shared == "attachments":
            names = [("db1", "db2"), ("one", "one")]
        pairs = [
            Instance(database=place / names[0][side], attachments=place / names[1][side])
            for side in range(2)
        ]
        running = [clone_from(sources[side], pairs[side]) for side in range(2)]
        done = [finish(process) for process in running]
        assert {ran.code for ran in done} <= {0, 6}, [ran.err for ran in done]
        assert 0 in {ran.code for ran in done}
        winners = [side for side in range(2) if done[side].code == 0]
        assert any(is_one_of(pairs[side], sources[side]) for side in winners)
        assert nothing_private_in(place)


def test_two_clones_beside_each_other(sources: list[Instance], tmp_path: Path) -> None:
    pairs = [
        Instance(database=tmp_path / f"{side}.db", attachments=tmp_path / f"{side}.tree")
        for side in range(2)
    ]
    running = [clone_from(sources[side], pairs[side]) for side in range(2)]
    for side in range(2):
        ran = finish(running[side])
        assert ran.code == 0, ran.err
        assert is_one_of(pairs[side], sources[side])
    assert nothing_private_in(tmp_path)


def test_a_recovery_beside_a_clone(sources: list[Instance], old: Instance) -> None:
    for _ in range(TIMES):
        running = [clone_from(sources[0], old), start("recover", *to_flags(old))]
        done = [finish(process) for process in running]
        assert {ran.code for ran in done} <= {0, 6}, [ran.err for ran in done]
        assert is_one_of(old, sources[0]) or done[0].code == 6
        assert nothing_private_in(old.database.parent)


@contextmanager
def holder(how: str, pair: Instance) -> Iterator[None]:
    """Hold a destination open in one of the ways in which a service does."""
    if how.startswith("rollback"):
        connection = connect(pair.database)
        connection.execute("PRAGMA journal_mode = DELETE").fetchone()
        connection.close()
    statements = {
        "an idle connection": ["SELECT count(*) FROM core_evidence"],
        "rollback mode, idle": ["SELECT count(*) FROM core_evidence"],
        "rollback mode, writing": ["BEGIN IMMEDIATE", "UPDATE iam_user SET is_active = 0"],
    }
    if how in statements:
        with held_open(pair.database, *statements[how]):
            yield
        return
    path = {
        "the file alone": pair.database,
        "an attachment": next(pair.attachments.iterdir()),
        "the directory": pair.attachments,
    }[how]
    with having_open(path):
        yield


WAYS = (
    "an idle connection",
    "the file alone",
    "rollback mode, idle",
    "rollback mode, writing",
    "an attachment",
    "the directory",
)


@pytest.mark.parametrize("how", WAYS)
def test_a_destination_that_is_open_is_refused_before_the_copy(
    how: str, sources: list[Instance], old: Instance
) -> None:
    with holder(how, old):
        before = read(old.attachments)
        ran = finish(clone_from(sources[0], old))
        assert ran.code == 6
        assert "the destination is in use: " in ran.error_line
        assert "(pid " in ran.error_line
        assert "--dest-in-use wait" in ran.hint_line
        assert "copy attachments" not in ran.err
        assert read(old.attachments) == before
    assert nothing_private_in(old.database.parent)


@pytest.mark.parametrize("how", WAYS[:2] + WAYS[4:5])
def test_a_destination_that_is_open_is_waited_for(
    how: str, sources: list[Instance], old: Instance
) -> None:
    with holder(how, old):
        process = clone_from(sources[0], old, "--dest-in-use", "wait")
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("wait until the destination is free"):
                break
        assert read(old.attachments) != read(sources[0].attachments)
    ran = finish(process)
    assert ran.code == 0, ran.err
    assert is_one_of(old, sources[0])


def test_waiting_has_an_end(sources: list[Instance], old: Instance) -> None:
    with having_open(old.database):
        ran = run(
            *("clone", "--force", "--dest-in-use", "wait"),
            *(*from_flags(sources[0]), *to_flags(old)),
            environment={"INVOKE_OPS_IN_USE_TIMEOUT": "0.5"},
        )
    assert ran.code == 6
    assert "the destination is in use" in ran.error_line
    assert "note: nothing was published" in ran.err
    assert len(list(old.attachments.iterdir())) == 3


def test_who_opens_it_during_the_copy_is_found(sources: list[Instance], old: Instance) -> None:
    process = clone_from(sources[0], old)
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if line.startswith("copy attachments"):
            break
    with having_open(old.database) as pid:
        ran = finish(process)
    if ran.code == 0:
        pytest.skip("the run was over before the file was opened")
    assert ran.code == 6
    assert f"(pid {pid})" in ran.error_line
    assert len(list(old.attachments.iterdir())) == 3


def test_an_unprivileged_user_and_his_own_holder(sources: list[Instance], tmp_path: Path) -> None:
    """He sees his own processes, and clones over his own pair."""
    if os.geteuid() != 0:
        pytest.skip("takes root, to be somebody else")
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o005 != 0o005:
            path.chmod(path.stat().st_mode | 0o055)
    for one in (sources[0].database, *sources[0].database.parents):
        if one.stat().st_mode & 0o005 != 0o005:
            one.chmod(one.stat().st_mode | 0o055)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    pair = Instance(database=theirs / "db", attachments=theirs / "tree")
    flags = ("clone", "--force", *from_flags(sources[0]), *to_flags(pair))
    for _ in range(2):
        assert run(*flags, user=NOBODY).code == 0
    with pair.database.open("rb") as file:
        process = subprocess.Popen(["/bin/sleep", "60"], stdin=file, user=NOBODY, group=NOBODY)
    try:
        ran = run(*flags, user=NOBODY)
    finally:
        process.kill()
        process.wait()
    assert ran.code == 6
    assert f"sleep (pid {process.pid})" in ran.error_line
    assert nothing_private_in(theirs)
