"""Publish: the pair is swapped as a whole, or what stood there comes back."""

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from ops.demo_instance import build_instance, connect
from ops.errors import BusyError, DestinationError, VerificationError
from ops.model import Instance, Progress
from ops.publish import make_ready, publish
from ops.spaces import PREFIX
from ops.sqlite.retire import retire_database
from ops.workspace import workspace
from tests.filesystem import footprint, read
from tests.mounting import immutable, tmpfs
from tests.pipeline import CLOCK, clone, quiet
from tests.processes import having_open


@pytest.fixture
def old(tmp_path: Path) -> Instance:
    """Make a pair that stands at the destination."""
    return build_instance(tmp_path / "old", evidences=3, seed=9)


def test_the_old_pair_comes_back_when_the_second_half_cannot_be_moved(
    instance: Instance, old: Instance
) -> None:
    before = footprint(old.database.parent, ctime=False)
    directory = os.fsencode(old.database.parent)
    with immutable(old.attachments), pytest.raises(DestinationError, match="cannot move"):
        clone(instance, old)
    after = footprint(old.database.parent, ctime=False)
    assert {**before, directory: ()} == {**after, directory: ()}


def test_an_unmovable_new_half_brings_the_old_pair_back(old: Instance) -> None:
    before = footprint(old.database.parent, ctime=False)
    with workspace(old) as space:
        space.copy.database.write_bytes(b"new")
        with immutable(space.copy.attachments), pytest.raises(DestinationError):
            publish(space.swap())
    after = footprint(old.database.parent, ctime=False)
    directory = os.fsencode(old.database.parent)
    assert {**before, directory: ()} == {**after, directory: ()}


def test_a_locked_directory_is_moved_with_its_mode(
    instance: Instance, destination: Instance
) -> None:
    instance.attachments.chmod(0o500)
    for _ in range(2):  # the second time it is the old one that is locked
        clone(instance, destination)
        assert read(destination.attachments) == read(instance.attachments)


def test_a_broken_old_database_is_replaced_with_its_sidecars(
    instance: Instance, old: Instance
) -> None:
    old.database.write_bytes(b"SQLite format 3\x00 and then nothing sensible")
    old.database.with_name(old.database.name + "-wal").write_bytes(b"stale")
    clone(instance, old)
    assert sorted(os.listdir(old.database.parent)) == ["attachments", old.database.name]


def test_merging_keeps_the_commits_of_a_wal(old: Instance) -> None:
    connection = connect(old.database)
    connection.execute("UPDATE iam_user SET email = 'in@the.wal'")
    files = {path: path.read_bytes() for path in old.database.parent.glob("*.sqlite3*")}
    connection.close()
    for path, content in files.items():  # as a crash leaves them
        path.write_bytes(content)
    assert len(files) == 3
    retire_database(old.database)
    assert [path.name for path in old.database.parent.glob("*.sqlite3*")] == [old.database.name]
    reopened = connect(old.database)
    assert reopened.execute("SELECT email FROM iam_user").fetchall() == [("in@the.wal",)]
    assert reopened.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    reopened.close()


def test_merging_what_is_no_database_or_not_there_does_nothing(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"text")
    (tmp_path / "other-wal").write_bytes(b"stale")
    (tmp_path / "gone-wal").write_bytes(b"stale")
    before = footprint(tmp_path)
    retire_database(other)
    retire_database(tmp_path / "gone")
    assert footprint(tmp_path) == before


def test_the_workspace_is_private_and_goes_away(destination: Instance) -> None:
    with workspace(destination) as space:
        assert len(space.claims) == 2
        for claim in space.claims:
            assert claim.space.name.startswith(PREFIX)
            assert claim.space.parent == claim.place.parent
            assert claim.space.stat().st_mode & 0o777 == 0o700
        (space.copy.attachments / "locked").mkdir()
        (space.copy.attachments / "locked" / "file").write_text("x")
        (space.copy.attachments / "locked").chmod(0)
    assert list(destination.database.parent.iterdir()) == []


def test_parents_stay_when_somebody_else_uses_them(destination: Instance) -> None:
    other = destination.database.parent / "other"

    def fail() -> None:
        with workspace(destination):
            other.write_text("mine")
            raise VerificationError("no good")

    with pytest.raises(VerificationError):
        fail()
    assert other.read_text() == "mine"


def test_two_parents_have_two_workspaces(tmp_path: Path) -> None:
    with tmpfs("1m") as elsewhere:
        pair = Instance(database=tmp_path / "db", attachments=elsewhere / "tree")
        with workspace(pair) as space:
            assert space.copy.attachments.stat().st_dev == elsewhere.stat().st_dev
            assert space.scratch.stat().st_dev == tmp_path.stat().st_dev
        assert list(elsewhere.iterdir()) == []


def test_a_workspace_that_cannot_be_made_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    pair = Instance(database=tmp_path / "file" / "deep" / "db", attachments=tmp_path / "tree")
    with (
        pytest.raises(DestinationError, match=r"cannot create the directory .*file/deep"),
        workspace(pair),
    ):
        pytest.fail("there is no such place")  # fmt: skip


def test_old_trees_with_something_mounted_inside_are_left_alone(
    instance: Instance, old: Instance
) -> None:
    inside = old.attachments / "disk"
    inside.mkdir()
    with tmpfs("1m", at=inside):
        (inside / "precious").write_text("x")
        with pytest.raises(DestinationError, match="mounted inside the destination"):
            clone(instance, old)
        assert (inside / "precious").read_text() == "x"


def test_a_killed_run_s_manifest_place_is_cleared_by_a_run_without_it(
    instance: Instance, destination: Instance, tmp_path: Path
) -> None:
    """Records are often named by the day: nobody comes back to yesterday's."""
    records = tmp_path / "records"
    records.mkdir()
    child = os.fork()
    if child == 0:  # pragma: no cover - it is killed
        with workspace(destination, records / "monday"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert [path.name[:10] for path in records.iterdir()] == [PREFIX]
    clone(instance, destination, manifest=records / "tuesday")
    assert [path.name for path in records.iterdir()] == ["tuesday"]
    assert sorted(os.listdir(destination.database.parent)) == ["attachments", "db.sqlite3"]


def test_a_place_that_another_run_has_is_left_to_it(
    instance: Instance, destination: Instance, tmp_path: Path
) -> None:
    other = Instance(database=tmp_path / "other" / "db", attachments=tmp_path / "other" / "tree")
    child = os.fork()
    if child == 0:  # pragma: no cover - it is killed
        with workspace(destination, tmp_path / "record"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with workspace(other, tmp_path / "record") as space:
        assert space.record is not None
        space.record.write_text("mine")
        clone(instance, destination)
        assert space.record.read_text() == "mine"


def test_the_destination_is_waited_for(old: Instance) -> None:
    said: list[str] = []
    with ExitStack() as users:
        users.enter_context(having_open(old.database))

        def leave(progress: Progress) -> None:
            said.append(progress.step)
            users.close()

        make_ready(old, wait_seconds=60, clock=CLOCK, progress=leave)
    assert said == ["wait until the destination is free"]


def test_the_destination_is_not_waited_for_longer_than_asked(old: Instance) -> None:
    with having_open(old.database), pytest.raises(BusyError, match="the destination is in use"):
        make_ready(old, wait_seconds=0.1, clock=CLOCK, progress=quiet)
