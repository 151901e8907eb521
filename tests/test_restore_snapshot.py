"""Restore: what a snapshot holds comes back equal, checked, as a whole or not at all."""

import os
import shutil
import signal
import sqlite3
import stat
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from ops.bag import DATABASE, SUMMARY
from ops.demo_instance import build_instance, connect, insert_evidence
from ops.errors import (
    BusyError,
    DestinationError,
    InterruptedRunError,
    OpsError,
    SourceError,
)
from ops.model import Instance, Progress
from ops.prune import plan_prune, prune
from ops.replaced import keep_replaced
from ops.restore import plan_restore, run_restore
from ops.retention import Policy
from ops.snapshot import DAMAGED, Event
from ops.store import LATEST, Snapshot, append_event, find_snapshot, list_snapshots
from ops.storing import locked_store
from tests.command import from_flags, run, to_flags
from tests.filesystem import Directory, File, HardLink, footprint, read
from tests.mounting import tmpfs
from tests.pipeline import CLOCK, check, quiet
from tests.processes import having_open, held_open
from tests.swaps import killed_run, private_names
from tests.test_audit import resign
from tests.test_backup import NIGHT, copy_at, require_valid, summary_of
from tests.test_clone import bare_instance, rows
from tests.test_store import (
    at,
    back_up,
    check_up,
    flip,
    litter_in,
    names_in,
    put_back,
    reader_of,
    restore_request,
)


@pytest.fixture
def store(instance: Instance, tmp_path: Path) -> Path:
    """Make a store with one snapshot of the instance, a night ago."""
    back_up(instance, tmp_path / "store", clock=at(NIGHT))
    return (tmp_path / "store").resolve()


def keep(store: Path, destination: Instance) -> Snapshot | None:
    """Keep what a restore of the newest snapshot would replace."""
    plan = plan_restore(restore_request(store, LATEST, destination))
    return keep_replaced(plan, lock_timeout_seconds=5, clock=CLOCK, progress=quiet)


# What comes back


def test_an_older_snapshot_comes_back_as_it_was(
    instance: Instance, store: Path, tmp_path: Path
) -> None:
    shutil.copytree(instance.attachments, tmp_path / "then")
    times = instance.attachments.stat()
    os.utime(tmp_path / "then", ns=(times.st_atime_ns, times.st_mtime_ns))
    evidences = rows(instance.database)
    connection = connect(instance.database)
    insert_evidence(connection, instance.attachments, "later.txt", b"later")
    connection.close()
    (instance.attachments / "policy_6.pdf").write_bytes(b"changed")
    back_up(instance, store, profile="none")
    first = copy_at(tmp_path / "first")
    outcome = put_back(store, names_in(store)[0], first)
    assert read(first.attachments) == read(tmp_path / "then")
    assert rows(first.database) == evidences
    assert outcome.counts.files == 12
    assert outcome.counts.digests_right == 12
    assert outcome.findings == ()
    latest = copy_at(tmp_path / "latest")
    put_back(store, LATEST, latest, profile="none")
    assert read(latest.attachments) == read(instance.attachments)
    assert len(rows(latest.database)) == 13


def test_the_pair_can_be_verified_and_used(store: Path, tmp_path: Path) -> None:
    copy = copy_at(tmp_path / "copy")
    put_back(store, LATEST, copy)
    assert check(copy).findings == ()
    connection = connect(copy.database)
    insert_evidence(connection, copy.attachments, "new.txt", b"new")
    connection.close()
    assert check_up(store).findings == (), "the snapshot is not touched by that"


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_store_is_untouched(instance: Instance, store: Path, tmp_path: Path, jobs: int) -> None:
    before = footprint(store)
    request = replace(restore_request(store, LATEST, copy_at(tmp_path / "copy")), jobs=jobs)
    run_restore(plan_restore(request), clock=CLOCK, progress=quiet)
    assert footprint(store) == before
    assert read(tmp_path / "copy" / "attachments") == read(instance.attachments)


def test_large_and_linked_files_come_back(tmp_path: Path) -> None:
    content = os.urandom(1 << 20) * 9
    tree = Directory(
        {
            b"large": File(content, mode=0o600),
            b"names": Directory({b"of large": HardLink(b"large")}),
        }
    )
    source = bare_instance(tmp_path / "source", tree)
    with (source.attachments / "holes").open("wb") as file:
        file.seek(3 << 20)
        file.write(b"end")
        file.truncate(4 << 20)
    back_up(source, tmp_path / "store", profile="none")
    copy = copy_at(tmp_path / "copy")
    put_back(tmp_path / "store", LATEST, copy, profile="none")
    assert read(copy.attachments) == read(source.attachments)
    assert (copy.attachments / "holes").stat().st_blocks * 512 < 1 << 20


def test_replaces_a_pair_as_a_whole(instance: Instance, store: Path, tmp_path: Path) -> None:
    old = build_instance(tmp_path / "old", evidences=3, seed=9)
    (old.attachments / "left-over.txt").write_text("old")
    put_back(store, LATEST, old)
    assert read(old.attachments) == read(instance.attachments)
    assert rows(old.database) == rows(instance.database)
    assert sorted(os.listdir(old.database.parent)) == ["attachments", "ciso-assistant.sqlite3"]


def test_settles_what_a_killed_run_left_at_the_destination(
    instance: Instance, store: Path, tmp_path: Path
) -> None:
    old = build_instance(tmp_path / "old", evidences=3, seed=9)
    killed_run(old, changes=None)
    plan = plan_restore(restore_request(store, LATEST, old))
    assert len(plan.left) == 2
    run_restore(plan, clock=CLOCK, progress=quiet)
    assert read(old.attachments) == read(instance.attachments)
    assert private_names(old.database.parent) == []


# What is kept of a pair that is replaced


def test_what_is_replaced_is_a_snapshot_first(
    instance: Instance, store: Path, tmp_path: Path
) -> None:
    old = build_instance(tmp_path / "old", evidences=3, seed=9)
    before, evidences = read(old.attachments), rows(old.database)
    kept = keep(store, old)
    assert kept is not None
    assert kept.replaced
    assert summary_of(kept).flagged == ""
    assert read(old.attachments) == before, "keeping changes nothing"
    require_valid(kept.path)
    put_back(store, LATEST, old)
    assert read(old.attachments) == read(instance.attachments), "latest is not what was kept"
    put_back(store, kept.name, old)
    assert read(old.attachments) == before
    assert rows(old.database) == evidences


@pytest.mark.parametrize("stands", ["nothing", "empty halves", "an empty file"])
def test_where_nothing_stands_nothing_is_kept(store: Path, tmp_path: Path, stands: str) -> None:
    place = copy_at(tmp_path / "copy")
    if stands == "empty halves":
        place.attachments.mkdir(parents=True)
        place.database.touch()
    if stands == "an empty file":
        place.database.parent.mkdir()
        place.database.touch()
    assert keep(store, place) is None
    put_back(store, LATEST, place)
    assert len(names_in(store)) == 1


def test_a_pair_without_any_file_is_kept(store: Path, tmp_path: Path) -> None:
    old = build_instance(tmp_path / "old", evidences=0)
    kept = keep(store, old)
    assert kept is not None
    assert summary_of(kept).attachments.files == 0


@pytest.mark.parametrize("half", ["database", "attachments"])
def test_half_a_pair_is_not_thrown_away_unseen(store: Path, tmp_path: Path, half: str) -> None:
    old = build_instance(tmp_path / "old", evidences=3)
    if half == "database":
        shutil.rmtree(old.attachments)
    else:
        old.database.unlink()
    before = footprint(tmp_path / "old")
    with pytest.raises(DestinationError, match="half a pair stands at the destination") as caught:
        keep(store, old)
    assert "--no-keep" in caught.value.hint
    assert footprint(tmp_path / "old") == before
    put_back(store, LATEST, old)  # which is what --no-keep does


@pytest.mark.parametrize("damage", ["page", "lost file"])
def test_a_damaged_pair_is_not_kept_and_the_way_on_is_told(
    store: Path, tmp_path: Path, damage: str
) -> None:
    old = build_instance(tmp_path / "old", evidences=12, seed=9)
    if damage == "page":
        with old.database.open("r+b") as file:
            file.seek(5 * 4096)
            file.write(os.urandom(4096))
    else:
        (old.attachments / "policy_6.pdf").unlink()
    before = footprint(tmp_path / "old")
    with pytest.raises(OpsError) as caught:
        keep(store, old)
    assert "--no-keep restores without keeping it" in caught.value.__notes__[-1]
    assert footprint(tmp_path / "old") == before
    assert len(names_in(store)) == 1
    assert litter_in(store) == []
    put_back(store, LATEST, old)


def test_what_is_replaced_is_not_kept_while_another_run_works(store: Path, tmp_path: Path) -> None:
    old = build_instance(tmp_path / "old", evidences=3)
    with reader_of(store, "LOCK_EX"), pytest.raises(BusyError) as caught:
        keep(store, old)
    assert "nothing was restored" in caught.value.__notes__[-1]


# Refusals: the destination is as it was


@pytest.fixture
def old(tmp_path: Path) -> Instance:
    """Make a pair that is to be replaced."""
    return build_instance(tmp_path / "old", evidences=3, seed=9)


def refused(store: Path, name: str, destination: Instance) -> OpsError:
    """Try to restore over a pair, and see that it is as it was; return the failure."""
    before = footprint(destination.database.parent)
    with pytest.raises(OpsError) as caught:
        put_back(store, name, destination)
    after = footprint(destination.database.parent, ctime=False)
    assert {path: one[:-1] for path, one in after.items() if one[0]} == {
        path: one[:-1] for path, one in before.items() if one[0]
    }
    assert private_names(destination.database.parent) == []
    return caught.value


def test_an_unknown_name_is_refused(store: Path, old: Instance) -> None:
    failure = refused(store, "2020-01-01T000000Z", old)
    assert isinstance(failure, SourceError)
    assert "the store has no snapshot 2020-01-01T000000Z" in failure.message


@pytest.mark.parametrize(
    "name",
    [
        "data/attachments/policy_6.pdf",
        "data/database.sqlite3",
        "ledger.jsonl",
        "manifest-sha256.txt",
        "snapshot.json",
        "bag-info.txt",
        "bagit.txt",
        "tagmanifest-sha256.txt",
    ],
)
@pytest.mark.parametrize("how", ["flipped", "missing"])
def test_a_damaged_snapshot_is_refused(store: Path, old: Instance, name: str, how: str) -> None:
    (snapshot,) = list_snapshots(store)
    if how == "missing":
        (snapshot.path / name).unlink()
    else:
        flip(snapshot.path / name, -2)
    failure = refused(store, snapshot.name, old)
    assert isinstance(failure, SourceError), failure
    assert failure.exit_code == 3
    assert failure.message
    assert failure.hint or "cannot read" in failure.message


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_large_file_that_is_damaged_is_refused(tmp_path: Path, old: Instance, jobs: int) -> None:
    content = os.urandom(1 << 20) * 9
    source = bare_instance(tmp_path / "source", Directory({b"large": File(content)}))
    snapshot = back_up(source, tmp_path / "store", profile="none")
    flip(snapshot.instance.attachments / "large", 5 << 20)
    request = restore_request(tmp_path / "store", LATEST, old, profile="none")
    before = read(old.attachments)
    with pytest.raises(SourceError, match=r"this is not what was recorded: .*large") as caught:
        run_restore(
            plan_restore(replace(request, jobs=jobs)),
            clock=CLOCK,
            progress=quiet,
        )
    assert "nothing was published" in caught.value.__notes__[-1]
    assert read(old.attachments) == before


def test_a_snapshot_known_to_be_damaged_is_not_latest(
    instance: Instance, store: Path, tmp_path: Path
) -> None:
    second = back_up(instance, store, clock=at(NIGHT + timedelta(hours=1)))
    append_event(second, Event(what=DAMAGED, instant=CLOCK.now(), details={}))
    outcome = put_back(store, LATEST, copy_at(tmp_path / "copy"))
    assert outcome.plan.request.snapshot.name == names_in(store)[0]
    append_event(find_snapshot(store, names_in(store)[0]), second_event())
    with pytest.raises(SourceError, match="the store has no verified snapshot"):
        put_back(store, LATEST, copy_at(tmp_path / "copy"))


def second_event() -> Event:
    """Say that a snapshot is damaged."""
    return Event(what=DAMAGED, instant=CLOCK.now(), details={})


def test_what_is_in_use_is_not_replaced(store: Path, old: Instance) -> None:
    with held_open(old.database, "SELECT * FROM core_evidence"):
        failure = refused(store, LATEST, old)
    assert isinstance(failure, BusyError)


def test_what_comes_into_use_meanwhile_is_not_replaced(store: Path, old: Instance) -> None:
    plan = plan_restore(restore_request(store, LATEST, old))
    before = read(old.attachments)
    with held_open(old.database, "SELECT * FROM core_evidence"), pytest.raises(BusyError) as caught:
        run_restore(plan, clock=CLOCK, progress=quiet)
    assert "nothing was published" in caught.value.__notes__[-1]
    assert read(old.attachments) == before


def test_a_place_in_the_store_is_refused(store: Path, tmp_path: Path) -> None:
    for place in (store / "copy", store / names_in(store)[0] / "data", tmp_path / "link" / "copy"):
        if not (tmp_path / "link").exists():
            (tmp_path / "link").symlink_to(store)
        before = footprint(store)
        with pytest.raises(DestinationError, match=r"lies in|the same directory"):
            put_back(store, LATEST, copy_at(place))
        assert footprint(store) == before


def test_the_store_itself_is_not_replaced(store: Path, tmp_path: Path) -> None:
    for attachments in (store, tmp_path):
        place = Instance(database=tmp_path / "elsewhere" / "db", attachments=attachments)
        before = footprint(store)
        with pytest.raises(DestinationError):
            put_back(store, LATEST, place)
        assert footprint(store) == before


def test_no_room_is_seen_before_anything_is_written(store: Path) -> None:
    with tmpfs("4m") as point:
        with pytest.raises(DestinationError, match="no room on the file system of"):
            put_back(store, LATEST, copy_at(point / "copy"))
        assert not list(point.iterdir())


def test_each_half_has_its_own_file_system(store: Path, tmp_path: Path) -> None:
    with tmpfs("6m") as point:
        place = Instance(database=tmp_path / "copy" / "db", attachments=point / "files")
        plan = plan_restore(restore_request(store, LATEST, place))
        assert {room.path for room in plan.rooms} == {str(tmp_path), str(point)}
        run_restore(plan, clock=CLOCK, progress=quiet)
        assert len(os.listdir(place.attachments)) == 12


def test_a_place_that_fills_up_is_left_as_it_was(store: Path) -> None:
    with tmpfs("8m") as point:
        (point / "d").mkdir()
        place = copy_at(point / "d")
        plan = plan_restore(restore_request(store, LATEST, place))

        def fill(progress: Progress) -> None:
            if progress.step == "restore database":
                status = os.statvfs(point)
                with (point / "fill").open("wb") as file:
                    size = status.f_bavail * status.f_frsize
                    os.posix_fallocate(file.fileno(), 0, size - 16384)

        with pytest.raises(DestinationError, match="No space left on device"):
            run_restore(plan, clock=CLOCK, progress=fill)
        assert os.listdir(point / "d") == []


@pytest.mark.parametrize(
    "step", ["restore attachments", "restore database", "re-read attachments", "publish"]
)
def test_a_restore_that_is_stopped_leaves_the_old_pair(
    store: Path, old: Instance, step: str
) -> None:
    before = footprint(old.database.parent)

    def stop_there(progress: Progress) -> None:
        if progress.step == step:
            raise InterruptedRunError(signal.SIGTERM)

    plan = plan_restore(restore_request(store, LATEST, old))
    with pytest.raises(InterruptedRunError) as caught:
        run_restore(plan, clock=CLOCK, progress=stop_there)
    assert caught.value.__notes__ == ["nothing was published: the destination is as it was"]
    after = footprint(old.database.parent)
    # Making and removing a workspace beside them changes the times of the directory alone.
    del before[os.fsencode(old.database.parent)], after[os.fsencode(old.database.parent)]
    assert after == before


# Who reads, and who removes


@pytest.mark.parametrize("step", ["restore attachments", "re-read attachments", "publish"])
def test_a_snapshot_is_not_removed_while_it_is_restored(
    instance: Instance, store: Path, tmp_path: Path, step: str
) -> None:
    (first,) = names_in(store)
    second = back_up(instance, store).name
    pruned: list[tuple[tuple[str, ...], tuple[str, ...]]] = []

    def prune_meanwhile(progress: Progress) -> None:
        if progress.step == step and not pruned:
            listed = list_snapshots(store)
            decisions = plan_prune(listed, Policy(last=1, zone=UTC), now=CLOCK.now())
            with locked_store(store):
                done = prune(store, listed, decisions, progress=quiet)
            pruned.append((done.removed, done.in_use))

    copy = copy_at(tmp_path / "copy")
    plan = plan_restore(restore_request(store, first, copy))
    run_restore(plan, clock=CLOCK, progress=prune_meanwhile)
    assert pruned == [((), (first,))]
    assert names_in(store) == [first, second]
    assert read(copy.attachments) == read(instance.attachments)


def test_a_snapshot_that_is_being_removed_is_not_restored(store: Path, old: Instance) -> None:
    (snapshot,) = list_snapshots(store)
    with reader_of(snapshot.path, "LOCK_EX"):
        failure = refused(store, LATEST, old)
    assert isinstance(failure, BusyError)
    assert "is just being removed" in failure.message


def test_an_open_file_of_the_old_tree_keeps_it(store: Path, old: Instance) -> None:
    with having_open(old.database):
        failure = refused(store, LATEST, old)
    assert isinstance(failure, BusyError)


# Edges


def test_a_snapshot_without_a_summary_cannot_be_planned(store: Path, tmp_path: Path) -> None:
    (snapshot,) = list_snapshots(store)
    (snapshot.path / SUMMARY).unlink()
    with pytest.raises(SourceError, match=r"cannot be read: .*: snapshot\.json is missing"):
        put_back(store, snapshot.name, copy_at(tmp_path / "copy"))


def test_a_link_in_place_of_the_database_is_not_followed(store: Path, tmp_path: Path) -> None:
    (snapshot,) = list_snapshots(store)
    (snapshot.path / DATABASE).rename(tmp_path / "elsewhere")
    (snapshot.path / DATABASE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=r"cannot read .*database"):
        put_back(store, snapshot.name, copy_at(tmp_path / "copy"))


def test_a_ledger_that_is_none_is_told_even_if_it_is_signed(store: Path, tmp_path: Path) -> None:
    (snapshot,) = list_snapshots(store)
    (snapshot.path / "ledger.jsonl").chmod(0o600)
    (snapshot.path / "ledger.jsonl").write_text("{}\n")
    resign(snapshot)
    with pytest.raises(SourceError, match=r"the snapshot is damaged: .*ledger\.jsonl: it is no"):
        put_back(store, snapshot.name, copy_at(tmp_path / "copy"))


def test_a_damaged_history_keeps_nobody_from_restoring(
    instance: Instance, store: Path, tmp_path: Path
) -> None:
    (snapshot,) = list_snapshots(store)
    (snapshot.path / "history.jsonl").write_text("x\n")
    put_back(store, snapshot.name, copy_at(tmp_path / "copy"))
    assert read(tmp_path / "copy" / "attachments") == read(instance.attachments)


def test_waits_for_a_destination_that_is_in_use(
    instance: Instance, store: Path, old: Instance
) -> None:
    request = replace(restore_request(store, LATEST, old), wait_seconds=30)
    seen: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(held_open(old.database, "SELECT * FROM core_evidence"))

        def let_go(progress: Progress) -> None:
            seen.append(progress.step)
            if progress.step == "publish":
                stack.close()

        run_restore(plan_restore(request), clock=CLOCK, progress=let_go)
    assert "publish" in seen
    assert read(old.attachments) == read(instance.attachments)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to give files away")
def test_a_database_that_was_open_to_its_group_comes_back_so(
    instance: Instance, tmp_path: Path
) -> None:
    instance.database.chmod(0o664)
    os.chown(instance.database, 0, 1234)
    (instance.attachments / "policy_6.pdf").chmod(0o4750)
    os.chown(instance.attachments / "policy_6.pdf", 1234, 1234)
    (instance.attachments / "policy_6.pdf").chmod(0o4750)
    back_up(instance, tmp_path / "store")
    copy = copy_at(tmp_path / "copy")
    put_back(tmp_path / "store", LATEST, copy)
    assert stat.S_IMODE(copy.database.stat().st_mode) == 0o664
    assert copy.database.stat().st_gid == 1234
    assert read(copy.attachments) == read(instance.attachments)


def test_a_restored_database_is_what_was_stored(store: Path, tmp_path: Path) -> None:
    copy = copy_at(tmp_path / "copy")
    put_back(store, LATEST, copy)
    (snapshot,) = list_snapshots(store)
    assert copy.database.read_bytes() == (snapshot.path / DATABASE).read_bytes()
    connection = sqlite3.connect(copy.database)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_the_front_door_tells_the_same(instance: Instance, store: Path, tmp_path: Path) -> None:
    """From the command line to a pair that equals the source, in a process of its own."""
    copy = copy_at(tmp_path / "copy")
    made = run("backup-daily", "--store", store, *from_flags(instance))
    assert made.code == 0, made.err
    done = run("restore", "--store", store, *to_flags(copy), "--force")
    assert done.code == 0, done.err
    assert done.out.startswith(f"Restored {names_in(store)[-1]} in ")
    assert read(copy.attachments) == read(instance.attachments)
