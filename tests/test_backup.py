"""Backup: any validator trusts a snapshot, it restores equal, and a failed run leaves nothing."""

import errno
import hashlib
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.backup import BackupRequest, plan_backup, run_backup
from ops.bag import DATABASE, HISTORY
from ops.demo_instance import build_instance, connect, insert_evidence
from ops.demo_writer import writer
from ops.errors import (
    BusyError,
    DestinationError,
    InterruptedRunError,
    OpsError,
    SourceError,
    VerificationError,
)
from ops.model import Clock, Instance, Progress, Severity
from ops.nightly import Night, plan_nightly, run_nightly
from ops.profile import load_profile
from ops.retention import NEWEST, STOPPED, Policy
from ops.snapshot import DAMAGED, REPLACED, Event, Shrinkage, Summary
from ops.store import LATEST, MARKER, Snapshot, append_event, list_snapshots, make_store
from ops.storing import locked_store, remove_snapshot
from tests.command import from_flags
from tests.filesystem import (
    Directory,
    File,
    HardLink,
    Link,
    Pipe,
    footprint,
    read,
    with_refusal,
)
from tests.mounting import tmpfs
from tests.pipeline import CLOCK, quiet
from tests.processes import held_open
from tests.strategies import trees
from tests.test_clone import bare_instance, rows
from tests.test_signals import start_command, stop, wait_for
from tests.test_store import (
    at,
    back_up,
    backup_request,
    check_up,
    flip,
    litter_in,
    names_in,
    put_back,
)

CHOWN, SYNCFS = 92, 306
"""Numbers of system calls on x86-64 (<asm/unistd_64.h>)."""

FEWER = settings(max_examples=max(6, settings().max_examples // 4))
"""A backup makes all of it durable, which takes its time on a busy disk."""

NIGHT = datetime(2026, 3, 1, 1, tzinfo=UTC)

ODD = Directory(
    {
        unicodedata.normalize("NFC", "é.txt").encode(): File(b"composed"),
        unicodedata.normalize("NFD", "é.txt").encode(): File(b"decomposed"),
        b"100% sure.pdf": File(b"percent"),
        b"%0A": File(b"encoded"),
        b"line\nbreak": File(b"newline"),
        b"carriage\rreturn": File(b"return"),
        b"\xff\xfe": File(b"no text"),
        b" leading and trailing ": File(b"blanks"),
        b"back\\slash": File(b"backslash"),
        b"*star": File(b"star"),
        b"~tilde~0123456789abcdef0123": File(b"taken"),
        b"a" * 255: File(b"long"),
        "名前".encode() * 42: File(b"long in bytes"),
        b"empty": File(),
        b"second name": HardLink(b"100% sure.pdf"),
        b"link": Link(b"100% sure.pdf"),
        b"pipe": Pipe(),
        b"empty directory": Directory(),
        b"dir\xff%": Directory({b"inner\n": File(b"inner", mode=0o4755)}, mode=0o2770),
        b"sparse": File(bytes(300_000) + b"end"),
    }
)


def summary_of(snapshot: Snapshot) -> Summary:
    """Return the summary of a snapshot that has one."""
    assert snapshot.summary is not None
    return snapshot.summary


def require_valid(snapshot: Path) -> None:
    """Have a bag judged by those who know nothing of us: bagit-python and sha256sum."""
    judge = [sys.executable, "-m", "bagit", "--validate", str(snapshot)]
    done = subprocess.run(judge, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    program = shutil.which("sha256sum")
    assert program is not None
    for manifest in ("manifest-sha256.txt", "tagmanifest-sha256.txt"):
        command = [program, "--check", "--strict", "--quiet", manifest]
        done = subprocess.run(
            command, cwd=snapshot, check=False, capture_output=True, text=True, errors="replace"
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def require_whole(snapshot: Path) -> None:
    """Compare a bag with its manifest by our own reading: each file once, nothing else."""
    recorded: dict[bytes, bytes] = {}
    for line in (snapshot / "manifest-sha256.txt").read_bytes().splitlines():
        digest, _, path = line.partition(b"  ")
        assert path not in recorded
        recorded[path] = digest
    found: dict[bytes, bytes] = {}
    size = 0
    for directory, _, names in os.walk(os.fsencode(snapshot / "data")):
        for name in names:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                content = file.read()
            size += len(content)
            relative = os.path.relpath(path, os.fsencode(snapshot))
            found[relative] = hashlib.sha256(content).hexdigest().encode()
    assert recorded == found
    oxum = f"Payload-Oxum: {size}.{len(found)}"
    assert oxum in (snapshot / "bag-info.txt").read_text().splitlines()


def copy_at(directory: Path) -> Instance:
    """Name a destination in a directory."""
    return Instance(database=directory / "db.sqlite3", attachments=directory / "attachments")


def require_equal(store: Path, name: str, source: Instance, directory: Path) -> None:
    """Restore a snapshot and compare both halves with the source."""
    copy = copy_at(directory)
    put_back(store, name, copy)
    assert read(copy.attachments) == read(source.attachments)
    assert rows(copy.database) == rows(source.database)


# Any validator trusts it


def test_any_validator_trusts_a_snapshot(instance: Instance, tmp_path: Path) -> None:
    snapshot = back_up(instance, tmp_path / "store")
    require_valid(snapshot.path)
    require_whole(snapshot.path)


@pytest.mark.parametrize("jobs", [1, 2])
def test_any_validator_trusts_odd_names_and_hard_links(tmp_path: Path, jobs: int) -> None:
    source = bare_instance(tmp_path / "source", ODD)
    first = back_up(source, tmp_path / "store", profile="none", jobs=jobs)
    second = back_up(source, tmp_path / "store", profile="none", jobs=jobs)
    independent = back_up(source, tmp_path / "store", profile="none", independent=True, jobs=jobs)
    for snapshot in (first, second, independent):
        require_valid(snapshot.path)
        require_whole(snapshot.path)
        copy = copy_at(tmp_path / snapshot.name)
        put_back(tmp_path / "store", snapshot.name, copy, profile="none")
        assert read(copy.attachments) == read(source.attachments)
    assert check_up(tmp_path / "store", first.name, profile="none").findings == ()


@FEWER
@given(tree=trees())
def test_any_tree_restores_equal_and_its_source_is_untouched(tree: Directory) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        source = bare_instance(directory / "source", tree)
        before = footprint(directory / "source")
        for number in range(2):
            snapshot = back_up(source, directory / "store", profile="none")
            require_whole(snapshot.path)
            copy = copy_at(directory / f"copy{number}")
            put_back(directory / "store", snapshot.name, copy, profile="none")
            assert read(copy.attachments) == read(source.attachments)
        assert footprint(directory / "source") == before


@FEWER
@given(tree=trees())
def test_any_validator_trusts_any_tree(tree: Directory) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = bare_instance(Path(name) / "source", tree)
        require_valid(back_up(source, Path(name) / "store", profile="none").path)


def test_a_bag_says_who_made_it(instance: Instance, tmp_path: Path) -> None:
    snapshot = back_up(instance, tmp_path / "store", clock=at(NIGHT))
    info = dict(
        line.split(": ", 1) for line in (snapshot.path / "bag-info.txt").read_text().splitlines()
    )
    assert info["External-Identifier"] == snapshot.name == "2026-03-01T010000Z"
    assert info["Bagging-Date"] == "2026-03-01"
    assert info["Bag-Software-Agent"].startswith("ciso-ops ")
    assert (snapshot.path / "bagit.txt").read_text() == (
        "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
    )


def test_nothing_in_a_snapshot_can_be_written(instance: Instance, tmp_path: Path) -> None:
    snapshot = back_up(instance, tmp_path / "store")
    for directory, _, names in os.walk(snapshot.path):
        for name in names:
            assert stat.S_IMODE(os.lstat(os.path.join(directory, name)).st_mode) == 0o400


def test_a_summary_tells_what_is_in_it(instance: Instance, tmp_path: Path) -> None:
    os.utime(instance.database, ns=(NIGHT.second, 1_700_000_000_123_456_789))
    summary = summary_of(back_up(instance, tmp_path / "store", clock=at(NIGHT)))
    assert summary.captured == NIGHT
    assert summary.profile == "ciso_assistant"
    assert summary.database.rows == 27
    assert summary.database.tables == 5
    assert summary.database.mtime_ns == 1_700_000_000_123_456_789
    stored = (tmp_path / "store" / LATEST / DATABASE).read_bytes()
    assert summary.database.sha256 == hashlib.sha256(stored).hexdigest()
    assert summary.database.size == len(stored)
    tree = summary.attachments
    assert (tree.files, tree.entries, tree.bytes) == (12, 13, 240_000)
    assert (tree.shared_files, tree.shared_bytes) == (0, 0)
    assert summary.details["source"] == {
        "database": str(instance.database),
        "attachments": str(instance.attachments),
        "origin": "test",
    }
    assert summary.details["checks"]["digests_right"] == 12
    assert summary.details["findings"] == []


# It restores equal


def test_restores_equal(instance: Instance, tmp_path: Path) -> None:
    snapshot = back_up(instance, tmp_path / "store")
    require_equal(tmp_path / "store", snapshot.name, instance, tmp_path / "copy")
    assert names_in(tmp_path / "store") == [snapshot.name]
    assert (tmp_path / "store" / LATEST).readlink() == Path(snapshot.name)
    assert litter_in(tmp_path / "store") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to give files away")
def test_mode_owner_and_time_of_the_database_come_back(instance: Instance, tmp_path: Path) -> None:
    instance.database.chmod(0o640)
    os.chown(instance.database, 1234, 4321)
    os.chown(instance.attachments, 1234, 4321)
    os.utime(instance.database, ns=(1, 1_700_000_000_123_456_789))
    snapshot = back_up(instance, tmp_path / "store")
    stored = (snapshot.path / DATABASE).stat()
    assert (stored.st_uid, stored.st_gid) == (os.geteuid(), os.getegid())
    require_equal(tmp_path / "store", snapshot.name, instance, tmp_path / "copy")
    status = (tmp_path / "copy" / "db.sqlite3").stat()
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert (status.st_uid, status.st_gid) == (1234, 4321)
    assert status.st_mtime_ns == 1_700_000_000_123_456_789


def left_alone(source: Instance) -> dict[bytes, tuple[object, ...]]:
    """Read everything but the index of the log, in which every reader leaves its mark."""
    found = footprint(source.database.parent, ctime=False)
    return {path: known for path, known in found.items() if not path.endswith(b"-shm")}


def test_what_is_only_in_the_log_of_a_live_source_is_kept(
    instance: Instance, tmp_path: Path
) -> None:
    connection = connect(instance.database)
    insert_evidence(connection, instance.attachments, "late.txt", b"late")
    before = left_alone(instance)
    snapshot = back_up(instance, tmp_path / "store")
    assert left_alone(instance) == before
    connection.close()
    assert summary_of(snapshot).details["captured"]["way"] == "with a write-ahead log"
    require_equal(tmp_path / "store", snapshot.name, instance, tmp_path / "copy")
    assert any(row[2] == "late.txt" for row in rows(tmp_path / "copy" / "db.sqlite3"))


def test_what_is_only_in_the_log_of_a_crashed_source_is_kept(
    instance: Instance, tmp_path: Path
) -> None:
    connection = connect(instance.database)
    insert_evidence(connection, instance.attachments, "late.txt", b"late")
    saved = {path.name: path.read_bytes() for path in instance.database.parent.glob("*.sqlite3*")}
    connection.close()
    for name, content in saved.items():  # as a crash leaves them
        (instance.database.parent / name).write_bytes(content)
    before = left_alone(instance)
    snapshot = back_up(instance, tmp_path / "store")
    assert left_alone(instance) == before
    assert sorted(os.listdir(snapshot.path / "data")) == ["attachments", "database.sqlite3"]
    copy = copy_at(tmp_path / "copy")
    put_back(tmp_path / "store", snapshot.name, copy)
    assert read(copy.attachments) == read(instance.attachments)
    assert any(row[2] == "late.txt" for row in rows(copy.database))
    require_valid(snapshot.path)


def test_snapshots_of_a_busy_source_are_whole(tmp_path: Path) -> None:
    source = build_instance(tmp_path / "production", evidences=100)
    with writer(source, rate=50) as busy:
        taken = [back_up(source, tmp_path / "store") for _ in range(3)]
        busy.stop()
    assert names_in(tmp_path / "store") == [one.name for one in taken]
    for snapshot in taken:
        findings = check_up(tmp_path / "store", snapshot.name).findings
        assert [one for one in findings if one.severity is not Severity.NOTE] == []
    assert summary_of(taken[2]).attachments.shared_files >= 100


# What did not change is shared


def test_what_another_run_made_and_pruned_meanwhile_is_reckoned_with(
    instance: Instance, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    first = back_up(instance, store)
    planned = plan_backup(backup_request(instance, store), progress=quiet)
    second = back_up(instance, store)
    with locked_store(store):
        assert remove_snapshot(store, first)
    third = run_backup(planned, clock=CLOCK, progress=quiet).snapshot
    summary = summary_of(third)
    assert summary.based_on == second.name
    assert summary.attachments.shared_files == summary.attachments.files
    assert list_snapshots(store)[0].name == second.name


def test_a_second_run_shares_every_unchanged_file(instance: Instance, tmp_path: Path) -> None:
    first = back_up(instance, tmp_path / "store")
    second = back_up(instance, tmp_path / "store")
    tree = summary_of(second).attachments
    assert (tree.shared_files, tree.shared_bytes) == (tree.files, tree.bytes) == (12, 240_000)
    assert summary_of(second).based_on == first.name
    assert summary_of(second).details["checks"]["bytes_read"] == 0
    before, after = (
        (one.path / "manifest-sha256.txt").read_text().splitlines() for one in (first, second)
    )
    assert before[1:] == after[1:], "digests are carried over"
    require_valid(second.path)
    require_equal(tmp_path / "store", second.name, instance, tmp_path / "copy")


def test_sharing_is_a_hard_link_where_nothing_better_is(instance: Instance) -> None:
    with tmpfs("8m") as point:
        taken = [back_up(instance, point / "store") for _ in range(3)]
        for file in taken[0].instance.attachments.iterdir():
            inodes = {(one.instance.attachments / file.name).stat().st_ino for one in taken}
            assert len(inodes) == 1
        assert len({one.instance.database.stat().st_ino for one in taken}) == 3


def test_only_what_changed_is_new(instance: Instance, tmp_path: Path) -> None:
    store, tree = tmp_path / "store", instance.attachments
    back_up(instance, store, profile="none")
    same_size = (tree / "policy_6.pdf").stat()
    (tree / "policy_6.pdf").write_bytes(bytes(20_000))
    os.utime(tree / "policy_6.pdf", ns=(same_size.st_atime_ns, same_size.st_mtime_ns))
    (tree / "policy_7.pdf").chmod(0o600)
    (tree / "policy_8.pdf").rename(tree / "renamed.pdf")
    os.utime(tree / "policy_9.pdf", ns=(1, 1))
    (tree / "new.pdf").write_bytes(b"new")
    (tree / "policy_10.pdf").unlink()
    second = back_up(instance, store, profile="none")
    assert summary_of(second).attachments.files == 12
    # Where only mode or times changed, the content may be shared all the same.
    assert 7 <= summary_of(second).attachments.shared_files <= 9
    assert (second.instance.attachments / "policy_6.pdf").read_bytes() == bytes(20_000)
    copy = copy_at(tmp_path / "copy")
    put_back(store, second.name, copy, profile="none")
    assert read(copy.attachments) == read(tree)
    require_valid(second.path)


def test_an_independent_snapshot_shares_nothing(instance: Instance, tmp_path: Path) -> None:
    first = back_up(instance, tmp_path / "store")
    second = back_up(instance, tmp_path / "store", independent=True)
    assert summary_of(second).attachments.shared_files == 0
    assert summary_of(second).based_on == ""
    assert all(path.stat().st_nlink == 1 for path in second.instance.attachments.iterdir())
    flip(first.instance.attachments / "policy_6.pdf")
    assert check_up(tmp_path / "store", second.name).sound
    third = back_up(instance, tmp_path / "store")
    assert summary_of(third).based_on == second.name


def test_nothing_is_shared_with_a_damaged_snapshot(instance: Instance, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first, second = (back_up(instance, store) for _ in range(2))
    event = Event(what=DAMAGED, instant=CLOCK.now(), details={})
    append_event(second, event)
    assert summary_of(back_up(instance, store)).based_on == first.name
    for one in list_snapshots(store):
        append_event(one, event)
    assert summary_of(back_up(instance, store)).based_on == ""


def test_what_an_earlier_snapshot_lost_is_copied(instance: Instance, tmp_path: Path) -> None:
    """Its check will tell; a backup does not wait for that."""
    store = tmp_path / "store"
    first = back_up(instance, store)
    (first.instance.attachments / "policy_6.pdf").unlink()
    cut = first.instance.attachments / "policy_7.pdf"
    cut.chmod(0o600)
    cut.write_bytes(b"cut short")
    second = back_up(instance, store)
    assert summary_of(second).attachments.shared_files == 10
    require_valid(second.path)
    (second.path / "ledger.jsonl").unlink()
    third = back_up(instance, store)
    assert summary_of(third).attachments.shared_files == 0
    require_equal(store, third.name, instance, tmp_path / "copy")


def broken_ledger(snapshot: Path) -> None:
    """Change one digit of the digest of a file."""
    content = (snapshot / "ledger.jsonl").read_bytes()
    digest = hashlib.sha256((snapshot / "data/attachments/policy_6.pdf").read_bytes()).hexdigest()
    flip(snapshot / "ledger.jsonl", content.index(digest.encode()))


def looped_tag(snapshot: Path) -> None:
    """Put a link to itself in place of a tag file, which cannot be opened at all."""
    (snapshot / "bag-info.txt").unlink()
    (snapshot / "bag-info.txt").symlink_to("bag-info.txt")


@pytest.mark.parametrize("damage", [broken_ledger, looped_tag])
def test_no_digest_is_taken_from_a_damaged_ledger(
    instance: Instance, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    """It would make a chain of snapshots that cannot be restored."""
    store = tmp_path / "store"
    first = back_up(instance, store)
    damage(first.path)
    second = back_up(instance, store)
    assert summary_of(second).based_on == ""
    assert summary_of(second).attachments.shared_files == 0
    require_valid(second.path)
    require_equal(store, second.name, instance, tmp_path / "copy")
    (event,) = list_snapshots(store)[0].events
    assert event.what == DAMAGED


def test_what_a_restore_replaced_is_no_base(instance: Instance, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = back_up(instance, store, clock=at(NIGHT))
    later = at(NIGHT + timedelta(hours=1))
    aside = back_up(instance, store, purpose=REPLACED, clock=later)
    assert aside.replaced
    assert summary_of(aside).based_on == first.name
    assert (store / LATEST).readlink() == Path(first.name)
    assert summary_of(back_up(instance, store)).based_on == first.name


# Names


def test_runs_in_the_same_second_have_names_of_their_own(
    instance: Instance, tmp_path: Path
) -> None:
    taken = [back_up(instance, tmp_path / "store", clock=at(NIGHT)) for _ in range(3)]
    assert [one.name for one in taken] == [
        "2026-03-01T010000Z",
        "2026-03-01T010001Z",
        "2026-03-01T010002Z",
    ]
    assert {summary_of(one).captured for one in taken} == {NIGHT}
    assert (tmp_path / "store" / LATEST).readlink() == Path(taken[2].name)


def test_a_name_that_pruning_freed_is_not_given_to_a_newer_snapshot(
    instance: Instance, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    for _ in range(4):
        night = nightly(backup_request(instance, store), Policy(last=2, zone=UTC), clock=at(NIGHT))
        assert night.outcome.snapshot.name == names_in(store)[-1]
        assert (store / LATEST).readlink() == Path(night.outcome.snapshot.name)


def test_a_database_may_be_as_old_as_it_likes(instance: Instance, tmp_path: Path) -> None:
    os.utime(instance.database, ns=(0, -(10**18)))
    snapshot = back_up(instance, tmp_path / "store")
    assert list_snapshots(tmp_path / "store")[0].problem == ""
    put_back(tmp_path / "store", snapshot.name, copy_at(tmp_path / "copy"))
    assert (tmp_path / "copy" / "db.sqlite3").stat().st_mtime_ns == -(10**18)


# A plan writes nothing, and refuses


def test_a_plan_writes_nothing(instance: Instance, tmp_path: Path) -> None:
    before = footprint(tmp_path)
    planned = plan_backup(backup_request(instance, tmp_path / "store"), progress=quiet)
    assert footprint(tmp_path) == before
    assert planned.base is None
    assert planned.room.bytes_needed > 240_000
    back_up(instance, tmp_path / "store")
    before = footprint(tmp_path)
    planned = plan_backup(backup_request(instance, tmp_path / "store"), progress=quiet)
    assert footprint(tmp_path) == before
    assert planned.base is not None
    assert planned.base.name == names_in(tmp_path / "store")[0]


def test_a_store_inside_the_attachments_is_refused(instance: Instance) -> None:
    before = read(instance.attachments)
    with pytest.raises(DestinationError, match="lies inside the source's attachments"):
        back_up(instance, instance.attachments / "store")
    link = instance.database.parent / "link"
    link.symlink_to(instance.attachments)
    with pytest.raises(DestinationError, match="lies inside the source's attachments"):
        back_up(instance, link / "store")
    assert read(instance.attachments) == before


def test_another_directory_is_refused(instance: Instance, tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="this directory is no store and not empty"):
        back_up(instance, instance.database.parent)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DestinationError, match=r"a file stands where|Not a directory"):
        back_up(instance, tmp_path / "file")


def test_no_room_is_seen_before_anything_is_written(instance: Instance) -> None:
    with tmpfs("4m") as point:
        with pytest.raises(DestinationError, match=r"no room on the file system of .*: \d+ bytes"):
            back_up(instance, point / "store")
        assert not list(point.iterdir())


def test_files_that_are_shared_take_no_room(instance: Instance) -> None:
    """The second snapshot of the same files fits where a copy of them would not."""
    for number in range(6):
        (instance.attachments / f"large_{number}").write_bytes(os.urandom(1 << 20))
    with tmpfs("12m") as point:
        store = point / "store"
        back_up(instance, store)
        with pytest.raises(DestinationError, match="no room"):
            back_up(instance, store, independent=True)
        assert len(names_in(store)) == 1


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_store_that_fills_up_is_left_as_it_was(instance: Instance, jobs: int) -> None:
    with tmpfs("12m") as point:
        store = point / "store"
        first = back_up(instance, store)

        def fill(progress: Progress) -> None:
            if progress.step == "copy attachments" and not (point / "fill").exists():
                with (point / "fill").open("wb") as file:
                    os.posix_fallocate(
                        file.fileno(), 0, free_bytes(point) - (64 << 10)
                    )  # what others write meanwhile

        request = backup_request(instance, store, independent=True, jobs=jobs)
        planned = plan_backup(request, progress=quiet)
        with pytest.raises(DestinationError, match="No space left on device"):
            nightly(request, policy=Policy(last=1, zone=UTC), progress=fill)
        assert planned.room.enough
        assert names_in(store) == [first.name]
        assert litter_in(store) == []


def free_bytes(directory: Path) -> int:
    """Return how much room a file system has."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


# A failed run leaves nothing, and prunes nothing


def nightly(
    request: BackupRequest,
    policy: Policy,
    progress: Callable[[Progress], None] = quiet,
    clock: Clock = CLOCK,
) -> Night:
    """Plan a nightly run and run it."""
    planned = plan_backup(request, progress=quiet)
    return run_nightly(planned, policy, clock=clock, progress=progress)


def damaged_page(source: Instance) -> None:
    """Overwrite a page of a table."""
    with source.database.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(os.urandom(4096))


def damaged_index(source: Instance) -> None:
    """Overwrite a page of an index, of which the quick look at a source knows nothing."""
    connection = sqlite3.connect(source.database)
    question = "SELECT rootpage FROM sqlite_schema WHERE name = 'core_evidence_folder_id'"
    (page,) = connection.execute(question).fetchone()
    connection.close()
    with source.database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))


def incomplete_index(source: Instance) -> None:
    """Add a row behind the back of an index."""
    connection = sqlite3.connect(source.database, isolation_level=None)
    where = "WHERE name = 'core_evidence_folder_id'"
    index = connection.execute(f"SELECT * FROM sqlite_schema {where}").fetchone()
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute(f"DELETE FROM sqlite_schema {where}")
    connection.close()
    connection = sqlite3.connect(source.database, isolation_level=None)
    connection.execute("INSERT INTO core_evidence SELECT 'x', '', '', id FROM iam_folder")
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", index)
    connection.close()


def damaged_schema(source: Instance) -> None:
    """Overwrite what SQLite reads first, but for the header."""
    with source.database.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)


def no_database(source: Instance) -> None:
    source.database.write_bytes(b"this is no database")


def lost_file(source: Instance) -> None:
    (source.attachments / "policy_6.pdf").unlink()


def lost_tree(source: Instance) -> None:
    shutil.rmtree(source.attachments)


@pytest.mark.parametrize(
    ("damage", "failure"),
    [
        (damaged_page, SourceError),
        (damaged_index, SourceError),
        (incomplete_index, SourceError),
        (damaged_schema, SourceError),
        (no_database, SourceError),
        (lost_file, VerificationError),
        (lost_tree, SourceError),
    ],
)
def test_a_source_that_is_damaged_makes_no_snapshot(
    instance: Instance,
    tmp_path: Path,
    damage: Callable[[Instance], None],
    failure: type[OpsError],
) -> None:
    store = tmp_path / "store"
    before = [back_up(instance, store).name for _ in range(2)]
    damage(instance)
    with pytest.raises(failure):
        nightly(backup_request(instance, store), Policy(last=1, zone=UTC))
    assert names_in(store) == before, "nothing is pruned either"
    assert litter_in(store) == []
    assert (store / LATEST).readlink() == Path(before[-1])
    put_back(store, LATEST, copy_at(tmp_path / "copy"))


def test_a_source_of_another_kind_is_refused(instance: Instance, tmp_path: Path) -> None:
    connection = sqlite3.connect(instance.database)
    connection.execute("DROP TABLE core_evidencerevision")
    connection.close()
    with pytest.raises(SourceError):
        back_up(instance, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_source_that_stays_locked_is_busy(instance: Instance, tmp_path: Path) -> None:
    connection = sqlite3.connect(instance.database)
    connection.execute("PRAGMA journal_mode = DELETE").fetchone()
    connection.close()
    request = replace(backup_request(instance, tmp_path / "store"), lock_timeout_seconds=0.1)
    with held_open(instance.database, "BEGIN EXCLUSIVE"), pytest.raises(BusyError):
        nightly(request, Policy(zone=UTC))
    assert not (tmp_path / "store").exists()


def test_a_database_that_cannot_be_made_ours_makes_no_snapshot(
    instance: Instance, tmp_path: Path
) -> None:
    store = make_store(tmp_path / "store")
    with pytest.raises(DestinationError, match=r"cannot read .*Operation not permitted"):
        with_refusal(CHOWN, errno.EPERM, lambda: back_up(instance, store, jobs=1))
    assert names_in(store) == litter_in(store) == []


def test_a_store_without_a_single_inode_left_makes_no_snapshot(instance: Instance) -> None:
    with tmpfs("8m", options="nr_inodes=60") as point:
        store = make_store(point / "store")

        def fill(progress: Progress) -> None:
            if progress.step == "copy attachments":
                with suppress(OSError):
                    for number in range(60):
                        (point / f"fill{number}").touch()

        with pytest.raises(DestinationError, match="No space left on device"):
            nightly(backup_request(instance, store), Policy(zone=UTC), fill)
        assert names_in(store) == litter_in(store) == []


def test_a_disk_that_does_not_take_it_makes_no_snapshot(instance: Instance, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    with pytest.raises(DestinationError, match=r"cannot write to the disk .*Input/output error"):
        with_refusal(SYNCFS, errno.EIO, lambda: back_up(instance, store, jobs=1))
    assert names_in(store) == []
    assert litter_in(store) == []


@pytest.mark.parametrize("step", ["copy attachments", "re-read attachments", "publish"])
def test_a_run_that_is_stopped_leaves_nothing(
    instance: Instance, tmp_path: Path, step: str
) -> None:
    store = tmp_path / "store"
    before = [back_up(instance, store, independent=True).name for _ in range(2)]

    def stop_there(progress: Progress) -> None:
        if progress.step == step:
            raise InterruptedRunError(signal.SIGTERM)

    with pytest.raises(InterruptedRunError):
        nightly(backup_request(instance, store), Policy(last=1, zone=UTC), stop_there)
    assert names_in(store) == before
    assert litter_in(store) == []


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """Make an instance that takes a moment to back up; no test changes it."""
    return build_instance(tmp_path_factory.mktemp("large"), evidences=800)


def test_a_signal_leaves_nothing(large: Instance, tmp_path: Path) -> None:
    store = tmp_path / "store"
    process = start_command("backup-daily", "--store", store, *from_flags(large))
    try:
        wait_for(process, "copy attachments")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    finally:
        stop(process)
    assert process.returncode == 143, err
    assert out == ""
    assert err.splitlines()[-1] == "error: stopped by SIGTERM"
    assert os.listdir(store) == [MARKER]


def test_a_kill_at_any_moment_leaves_no_snapshot_or_a_whole_one(
    large: Instance, tmp_path: Path
) -> None:
    source = random.Random(5)  # noqa: S311 - moments
    store = tmp_path / "store"
    steps = ["copy attachments", "copy database", "write to disk", "re-read attachments", "publish"]
    for step in steps:
        before = names_in(store) if store.exists() else []
        process = start_command(
            "backup-daily", "--store", store, "--independent", *from_flags(large)
        )
        try:
            wait_for(process, step)
            kill_after(process, source.uniform(0, 0.02))
        finally:
            stop(process)
        after = names_in(store)
        assert after[: len(before)] == before
        for name in after[len(before) :]:  # it was published before the kill
            assert check_up(store, name).sound
    back_up(build_instance(tmp_path / "small", evidences=3), store)
    assert litter_in(store) == []


def kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    """Kill a process after a while, unless it ends before."""
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(timeout=60)


def test_a_second_run_at_once_is_refused(
    large: Instance, instance: Instance, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    process = start_command("backup-daily", "--store", store, *from_flags(large))
    try:
        wait_for(process, "copy attachments")
        with pytest.raises(BusyError, match=rf"another run is working .*\(pid {process.pid}\)"):
            back_up(instance, store)
        _, err = process.communicate(timeout=60)
    finally:
        stop(process)
    assert process.returncode == 0, err
    (name,) = names_in(store)
    assert check_up(store, name).sound
    with locked_store(store.resolve()), pytest.raises(BusyError):
        back_up(instance, store)


# Nightly


def test_without_a_policy_nothing_is_pruned(instance: Instance, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for _ in range(3):
        night = nightly(backup_request(instance, store), Policy(zone=UTC))
        assert night.pruned is None
    assert len(names_in(store)) == 3


def test_a_night_prunes_what_the_policy_does_not_keep(instance: Instance, tmp_path: Path) -> None:
    store = tmp_path / "store"
    for hour in range(4):
        last = nightly(
            backup_request(instance, store),
            Policy(last=2, zone=UTC),
            clock=at(NIGHT + timedelta(hours=hour)),
        )
    assert last.pruned is not None
    assert len(last.pruned.removed) == 1
    assert last.outcome.snapshot.name == names_in(store)[-1]
    assert len(names_in(store)) == 2
    assert litter_in(store) == []
    for name in names_in(store):
        require_valid(store / name)
    require_equal(store, names_in(store)[0], instance, tmp_path / "copy")


def test_a_plan_tells_what_the_night_will_prune(instance: Instance, tmp_path: Path) -> None:
    store = tmp_path / "store"
    policy = Policy(daily=2, zone=UTC)
    request = backup_request(instance, store)
    planned = plan_backup(request, progress=quiet)
    (decision,) = plan_nightly(planned, policy, clock=at(NIGHT))
    assert decision.snapshot.name == "2026-03-01T010000Z"
    assert NEWEST in decision.reasons
    days = [NIGHT + timedelta(days=day) for day in range(3)]
    for day in days:
        back_up(instance, store, clock=at(day))
    planned = plan_backup(request, progress=quiet)
    coming = days[-1] + timedelta(days=1)
    decisions = plan_nightly(planned, policy, clock=at(coming))
    assert [(one.snapshot.instant, one.keep) for one in decisions] == [
        (coming, True),
        (days[2], True),
        (days[1], False),
        (days[0], False),
    ]
    assert len(names_in(store)) == 3
    night = run_nightly(planned, policy, clock=at(coming), progress=quiet)
    assert night.pruned is not None
    assert [(one.snapshot.instant, one.keep) for one in night.pruned.decisions] == [
        (one.snapshot.instant, one.keep) for one in decisions
    ]
    assert len(names_in(store)) == 2


def test_a_much_smaller_snapshot_is_kept_flagged_and_stops_the_pruning(
    instance: Instance, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    before = [back_up(instance, store).name for _ in range(2)]
    connection = connect(instance.database)
    connection.execute("DELETE FROM core_evidencerevision")
    connection.execute("DELETE FROM core_evidence")
    connection.close()
    for file in instance.attachments.iterdir():
        file.unlink()
    for _ in range(2):  # also the night after: it is compared with one of the usual size
        night = nightly(backup_request(instance, store), Policy(last=1, zone=UTC))
    summary = summary_of(night.outcome.snapshot)
    assert summary.flagged == "0 files, 12 before; 3 rows, 27 before"
    assert night.pruned is not None
    assert night.pruned.removed == ()
    assert all(STOPPED in one.reasons for one in night.pruned.decisions[1:])
    assert names_in(store)[:2] == before
    assert names_in(store)[3:] == [night.outcome.snapshot.name]
    assert (store / LATEST).readlink() == Path(night.outcome.snapshot.name)


def test_what_is_much_smaller_can_be_set(instance: Instance, tmp_path: Path) -> None:
    back_up(instance, tmp_path / "store", profile="none")
    (instance.attachments / "policy_6.pdf").unlink()
    request = replace(
        backup_request(instance, tmp_path / "store", profile="none"),
        shrinkage=Shrinkage(files=5),
    )
    night = nightly(request, Policy(zone=UTC))
    assert summary_of(night.outcome.snapshot).flagged == "11 files, 12 before"


def test_what_a_restore_replaced_is_never_flagged(instance: Instance, tmp_path: Path) -> None:
    back_up(instance, tmp_path / "store")
    small = build_instance(tmp_path / "small", evidences=1)
    aside = back_up(small, tmp_path / "store", purpose=REPLACED)
    assert summary_of(aside).flagged == ""


@FEWER
@given(changes=st.lists(st.integers(0, 11), max_size=4))
def test_shared_and_new_files_make_up_the_whole(changes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        tree = Directory({b"%d" % number: File(b"%d" % number) for number in range(12)})
        source = bare_instance(directory / "source", tree)
        back_up(source, directory / "store", profile="none")
        for number in changes:
            (source.attachments / str(number)).write_bytes(b"changed")
        second = back_up(source, directory / "store", profile="none")
        assert summary_of(second).attachments.shared_files == 12 - len(set(changes))
        copy = copy_at(directory / "copy")
        put_back(directory / "store", LATEST, copy, profile="none")
        assert read(copy.attachments) == read(source.attachments)


def test_a_profile_is_recorded_for_later(instance: Instance, tmp_path: Path) -> None:
    snapshot = back_up(instance, tmp_path / "store", profile="none")
    assert summary_of(snapshot).profile == load_profile("none").name
    assert not (snapshot.path / HISTORY).exists(), "nothing has happened since"
