"""A store: what is one, what lies in it, who may change it, and what is left of a killed run."""

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops.audit import Audit, Effort, audit_snapshot
from ops.backup import BackupRequest, plan_backup, run_backup
from ops.bag import ATTACHMENTS, DATA, HISTORY, SUMMARY, bag_writer, finish_bag
from ops.disk import Disk
from ops.errors import BusyError, DestinationError, InterruptedRunError, SourceError
from ops.model import Clock, Instance
from ops.profile import load_profile
from ops.restore import RestoreOutcome, RestoreRequest, plan_restore, run_restore
from ops.snapshot import (
    ACCEPTED,
    DAILY,
    DAMAGED,
    REPLACED,
    SAMPLED,
    VERIFIED,
    DatabaseSummary,
    Event,
    Summary,
    TreeSummary,
    encode_event,
    encode_summary,
    instant_of,
    snapshot_name,
)
from ops.source import Location
from ops.store import (
    LATEST,
    MARKER,
    Snapshot,
    append_event,
    find_snapshot,
    list_snapshots,
    make_store,
    newest_sound,
    require_store,
)
from ops.storing import (
    free_name,
    locked_store,
    new_snapshot,
    point_latest,
    publish_snapshot,
    remove_snapshot,
    used_snapshot,
)
from ops.tree.inspecting import EVERYTHING, Sample
from tests.command import NOBODY, ROOT, acting_as
from tests.filesystem import with_refusal
from tests.mounting import immutable, tmpfs
from tests.pipeline import CLOCK, quiet

NEW, OLD, NEXT = ".ciso-ops-new", ".ciso-ops-removed-", ".ciso-ops-latest"
FIRST, SECOND, THIRD = (f"2026-03-0{day}T010000Z" for day in (1, 2, 3))
FLOCK, FSYNC, RENAME, MKDIR = 73, 74, 82, 83
"""Numbers of system calls on x86-64 (<asm/unistd_64.h>)."""

_READER = """
import fcntl, os, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(descriptor, getattr(fcntl, sys.argv[2]))
print("ready", flush=True)
sys.stdin.read()
"""


# Short cuts, for the other tests of stores as well


def at(moment: datetime) -> Clock:
    """Return a clock that stands still."""
    return Clock(now=lambda: moment, seconds=time.monotonic)


def backup_request(
    source: Instance,
    store: Path,
    *,
    profile: str = "ciso_assistant",
    purpose: str = DAILY,
    independent: bool = False,
    jobs: int = 0,
) -> BackupRequest:
    """Ask for a backup."""
    return BackupRequest(
        source=Location(instance=source, origin="test"),
        store=store,
        profile=load_profile(profile),
        purpose=purpose,
        independent=independent,
        lock_timeout_seconds=5,
        jobs=jobs,
    )


def back_up(
    source: Instance,
    store: Path,
    *,
    profile: str = "ciso_assistant",
    purpose: str = DAILY,
    independent: bool = False,
    jobs: int = 0,
    clock: Clock = CLOCK,
) -> Snapshot:
    """Plan a backup and run it."""
    request = backup_request(
        source, store, profile=profile, purpose=purpose, independent=independent, jobs=jobs
    )
    planned = plan_backup(request, progress=quiet)
    return run_backup(planned, clock=clock, progress=quiet).snapshot


def restore_request(
    store: Path, name: str, destination: Instance, *, profile: str = "ciso_assistant"
) -> RestoreRequest:
    """Ask for a restore."""
    return RestoreRequest(
        snapshot=find_snapshot(require_store(store), name),
        destination=destination,
        profile=load_profile(profile),
    )


def put_back(
    store: Path, name: str, destination: Instance, *, profile: str = "ciso_assistant"
) -> RestoreOutcome:
    """Plan a restore and run it."""
    request = restore_request(store, name, destination, profile=profile)
    return run_restore(plan_restore(request), clock=CLOCK, progress=quiet)


def check_up(
    store: Path,
    name: str = LATEST,
    *,
    profile: str = "ciso_assistant",
    sample: Sample = EVERYTHING,
    jobs: int = 0,
    from_disk: bool = False,
    clock: Clock = CLOCK,
) -> Audit:
    """Check a snapshot."""
    real = require_store(store)
    chosen = find_snapshot(real, name)
    return audit_snapshot(
        chosen,
        [one for one in list_snapshots(real) if one.name != chosen.name],
        load_profile(profile),
        Effort(sample=sample, jobs=jobs, from_disk=from_disk),
        clock=clock,
        progress=quiet,
    )


def names_in(store: Path) -> list[str]:
    """Name the snapshots of a store, the oldest first."""
    return [one.name for one in list_snapshots(store)]


def litter_in(store: Path) -> list[str]:
    """Name what is in a store and is neither a snapshot nor what belongs there."""
    known = {MARKER, LATEST, *names_in(store)}
    return sorted(set(os.listdir(store)) - known)


def flip(path: Path, place: int = -1) -> None:
    """Change one bit of a file, whatever its mode, which stays."""
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    path.chmod(mode)


@contextmanager
def reader_of(snapshot: Path, how: str = "LOCK_SH") -> Iterator[int]:
    """Have another process keep a directory locked; yields its number."""
    process = subprocess.Popen(
        [sys.executable, "-c", _READER, snapshot, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
    finally:
        process.communicate(timeout=30)


def summary_named(name: str, *, purpose: str = DAILY, flagged: str = "") -> Summary:
    """Make a summary of nothing much."""
    return Summary(
        name=name,
        captured=instant_of(name),
        tool="1",
        profile="none",
        purpose=purpose,
        database=DatabaseSummary(
            size=1, sha256="", mode="0644", uid=0, gid=0, mtime_ns=0, tables=1, rows=1
        ),
        attachments=TreeSummary(entries=1, files=0, bytes=0, shared_files=0, shared_bytes=0),
        flagged=flagged,
        details={},
    )


def place(store: Path, name: str, *events: str, purpose: str = DAILY) -> Snapshot:
    """Put something into a store that looks like a snapshot from the outside."""
    path = store / name
    path.mkdir()
    (path / SUMMARY).write_bytes(encode_summary(summary_named(name, purpose=purpose)))
    history = [Event(what=what, instant=CLOCK.now(), details={}) for what in events]
    if history:
        (path / HISTORY).write_bytes(b"".join(map(encode_event, history)))
    return next(one for one in list_snapshots(store) if one.name == name)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make a store without snapshots."""
    return make_store(tmp_path / "store")


# What is a store


def test_a_store_is_made_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "backups" / "ciso"
    assert make_store(path) == path.resolve()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert os.listdir(path) == [MARKER]
    assert require_store(path) == path.resolve()


def test_a_store_is_made_of_an_empty_directory_which_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "store"
    path.mkdir(mode=0o750)
    (path / "lost+found").mkdir()
    make_store(path)
    assert sorted(os.listdir(path)) == [MARKER, "lost+found"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o750


def test_a_store_is_only_made_once(store: Path) -> None:
    before = (store / MARKER).stat().st_ino
    assert make_store(store) == store
    assert (store / MARKER).stat().st_ino == before


def test_a_store_is_known_by_its_real_path(store: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(store)
    assert make_store(link) == require_store(link) == store


def test_a_directory_with_something_else_is_not_made_a_store(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a\nb").write_text("mine")
    with pytest.raises(DestinationError, match=r"is no store and not empty: .*other has a\\nb$"):
        make_store(tmp_path / "other")
    assert os.listdir(tmp_path / "other") == ["a\nb"]


def test_a_file_in_its_place_is_not_made_a_store(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("mine")
    with pytest.raises(DestinationError, match=r"cannot use the store .*: Not a directory"):
        make_store(tmp_path / "store")
    with pytest.raises(SourceError, match=r"this is no store of snapshots"):
        require_store(tmp_path)
    with pytest.raises(SourceError, match=r"Not a directory|this is no store"):
        require_store(tmp_path / "store")
    with pytest.raises(SourceError, match=r"cannot open the store .*: Not a directory"):
        require_store(tmp_path / "store" / "below")
    assert (tmp_path / "store").read_text() == "mine"


def test_a_loop_of_links_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DestinationError, match=r"loop: Too many levels of symbolic links"):
        make_store(tmp_path / "loop")
    with pytest.raises(SourceError, match=r"loop: Too many levels of symbolic links"):
        require_store(tmp_path / "loop")


def test_where_nothing_is_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no store") as caught:
        require_store(tmp_path / "store")
    assert "backup-daily" in caught.value.hint
    assert not (tmp_path / "store").exists()


@pytest.fixture
def closed() -> Iterator[Path]:
    """Make a directory that others may look into and not change, all the way down."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


def test_a_store_cannot_be_made_where_one_may_not_write(closed: Path) -> None:
    with (
        acting_as(NOBODY),
        pytest.raises(DestinationError, match=r"cannot write in .*: Permission denied"),
    ):
        make_store(closed / "store")
    assert not list(closed.iterdir())
    make_store(closed / "mine").chmod(0o755)
    with (
        acting_as(NOBODY),
        pytest.raises(DestinationError, match=r"cannot write in .*mine: Permission denied"),
    ):
        make_store(closed / "mine")


def test_a_store_cannot_be_made_on_a_file_system_that_is_read_only() -> None:
    with (
        tmpfs("1m", options="ro") as point,
        pytest.raises(DestinationError, match=r"is on a read-only file system: "),
    ):
        make_store(point / "store")


def test_a_store_cannot_be_made_where_no_room_is() -> None:
    with tmpfs("16k") as point:
        (point / "store").mkdir()
        with suppress_full(), (point / "fill").open("wb") as file:
            file.write(bytes(1 << 20))
        with pytest.raises(DestinationError, match=r"No space left on device"):
            make_store(point / "store")
        assert not list((point / "store").iterdir()), "nothing is left of the marker"
        (point / "fill").unlink()
        assert make_store(point / "store") == point / "store"


@contextmanager
def suppress_full() -> Iterator[None]:
    """Go on when the file system is full."""
    try:
        yield
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017 - any other one is raised by the assertion


def test_a_name_that_is_needed_for_a_link_must_be_free(store: Path) -> None:
    (store / LATEST).mkdir()
    with pytest.raises(DestinationError, match=r"this name is needed for a link: .*latest") as told:
        make_store(store)
    assert told.value.hint


def test_a_disk_that_does_not_make_a_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match=r"cannot make the store .*Input/output error"):
        with_refusal(MKDIR, errno.EIO, lambda: make_store(tmp_path / "store"))


# What lies in it


def test_snapshots_are_listed_from_the_oldest(store: Path) -> None:
    for name in (SECOND, THIRD, FIRST):
        place(store, name)
    (store / "2026-03-04T010000Z").write_text("a file")
    (store / "2026-03-04").mkdir()
    (store / NEW).mkdir()
    assert names_in(store) == [FIRST, SECOND, THIRD]
    first = list_snapshots(store)[0]
    assert first.summary == summary_named(FIRST)
    assert first.verified
    assert not first.replaced
    assert first.ledger == store / FIRST / "ledger.jsonl"
    assert first.instance.database == store / FIRST / "data" / "database.sqlite3"
    assert first.instance.attachments == store / FIRST / "data" / "attachments"


def test_a_snapshot_whose_summary_cannot_be_read_is_listed_with_its_problem(store: Path) -> None:
    place(store, FIRST)
    (store / FIRST / SUMMARY).unlink()
    place(store, SECOND)
    (store / SECOND / SUMMARY).write_bytes(b"{}")
    place(store, THIRD)
    (store / THIRD / SUMMARY).write_bytes(encode_summary(summary_named(FIRST)))
    first, second, third = list_snapshots(store)
    assert first.problem == "snapshot.json is missing"
    assert second.problem.startswith("it is no summary of a snapshot")
    assert third.problem == f"it calls itself {FIRST}"
    assert not any(one.verified or one.replaced for one in (first, second, third))
    assert first.summary is None
    assert newest_sound([first, second, third]) is None


def test_a_disk_error_in_one_snapshot_stops_nobody_else(store: Path) -> None:
    """A directory where a file must be stands for what the disk does not give back."""
    place(store, FIRST)
    place(store, SECOND)
    (store / SECOND / SUMMARY).unlink()
    (store / SECOND / SUMMARY).mkdir()
    first, second = list_snapshots(store)
    assert first.verified
    assert second.problem == "snapshot.json: Is a directory"
    assert find_snapshot(store, LATEST).name == FIRST


@pytest.mark.parametrize("content", [b"{}\n", b"\xff\n", None])
def test_a_history_that_cannot_be_read_leaves_open_what_it_said(
    store: Path, content: bytes | None
) -> None:
    place(store, FIRST)
    history = store / FIRST / HISTORY
    if content is None:
        history.mkdir()
    else:
        history.write_bytes(content)
    (found,) = list_snapshots(store)
    assert not found.history_whole
    assert not found.verified
    assert found.problem == ""
    assert found.summary is not None, "it can be restored all the same"
    append_event(found, Event(what=VERIFIED, instant=CLOCK.now(), details={}))
    assert find_snapshot(store, FIRST).verified


@pytest.mark.parametrize(
    ("events", "verified"),
    [
        ((), True),
        ((DAMAGED,), False),
        ((DAMAGED, SAMPLED), False),
        ((DAMAGED, VERIFIED), True),
        ((DAMAGED, VERIFIED, DAMAGED), False),
    ],
)
def test_the_newest_full_check_counts(
    store: Path, events: tuple[str, ...], *, verified: bool
) -> None:
    assert place(store, FIRST, *events).verified is verified


def test_a_store_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot read .*No such file or directory"):
        list_snapshots(tmp_path / "gone")


def test_a_snapshot_is_found_by_name_and_latest_is_the_newest_sound_one(store: Path) -> None:
    with pytest.raises(SourceError, match=r"the store has no verified snapshot"):
        find_snapshot(store, LATEST)
    place(store, FIRST)
    place(store, SECOND)
    place(store, THIRD, DAMAGED)
    place(store, "2026-03-04T010000Z", purpose=REPLACED)
    assert find_snapshot(store, LATEST).name == SECOND
    assert find_snapshot(store, THIRD).name == THIRD
    assert find_snapshot(store, "2026-03-04T010000Z").replaced
    for name in ("2026-03-05T010000Z", "..", MARKER, "a\nb"):
        with pytest.raises(SourceError, match=r"the store has no snapshot") as caught:
            find_snapshot(store, name)
        assert "\n" not in caught.value.message


# What happened to it


def test_an_event_is_a_line_of_its_own(store: Path) -> None:
    snapshot = place(store, FIRST)
    told = [
        Event(what=DAMAGED, instant=CLOCK.now(), details={"errors": 1}),
        Event(what=VERIFIED, instant=CLOCK.now(), details={}),
    ]
    for event in told:
        append_event(snapshot, event)
    assert find_snapshot(store, FIRST).events == tuple(told)
    assert stat.S_IMODE((store / FIRST / HISTORY).stat().st_mode) == 0o600


def test_a_sample_does_not_tell_what_a_damaged_history_said(store: Path) -> None:
    snapshot = place(store, FIRST, DAMAGED)
    (snapshot.path / HISTORY).write_text("x\n")
    for what in (SAMPLED, ACCEPTED):
        event = Event(what=what, instant=CLOCK.now(), details={})
        append_event(find_snapshot(store, FIRST), event)
        assert not find_snapshot(store, FIRST).verified
    append_event(snapshot, Event(what=VERIFIED, instant=CLOCK.now(), details={}))
    assert find_snapshot(store, FIRST).verified


def test_an_event_takes_the_place_of_one_that_a_crash_cut_short(store: Path) -> None:
    snapshot = place(store, FIRST, DAMAGED)
    with (store / FIRST / HISTORY).open("ab") as file:
        file.write(b'{"event":"veri')
    event = Event(what=VERIFIED, instant=CLOCK.now(), details={})
    append_event(snapshot, event)
    assert [one.what for one in find_snapshot(store, FIRST).events] == [DAMAGED, VERIFIED]


def test_an_event_is_not_written_through_a_link(store: Path, tmp_path: Path) -> None:
    snapshot = place(store, FIRST)
    (tmp_path / "elsewhere").write_text("mine")
    (store / FIRST / HISTORY).symlink_to(tmp_path / "elsewhere")
    with suppress(DestinationError):
        append_event(snapshot, Event(what=DAMAGED, instant=CLOCK.now(), details={}))
    assert (tmp_path / "elsewhere").read_text() == "mine"


def test_an_event_that_cannot_be_written_is_a_failure(store: Path) -> None:
    snapshot = place(store, FIRST)
    (store / FIRST / HISTORY).mkdir()
    (store / FIRST / HISTORY / "file").write_text("x")
    with pytest.raises(DestinationError, match=r"cannot write .*history\.jsonl"):
        append_event(snapshot, Event(what=DAMAGED, instant=CLOCK.now(), details={}))


def test_a_flag_lasts_until_somebody_accepts_it(store: Path) -> None:
    path = store / FIRST
    path.mkdir()
    (path / SUMMARY).write_bytes(encode_summary(summary_named(FIRST, flagged="0 files")))
    (snapshot,) = list_snapshots(store)
    assert snapshot.flagged == "0 files"
    append_event(snapshot, Event(what=ACCEPTED, instant=CLOCK.now(), details={}))
    assert find_snapshot(store, FIRST).flagged == ""
    assert find_snapshot(store, FIRST).verified


def test_an_event_that_the_disk_does_not_take_is_a_failure(store: Path) -> None:
    snapshot = place(store, FIRST)
    event = Event(what=DAMAGED, instant=CLOCK.now(), details={})
    with pytest.raises(DestinationError, match=r"cannot write .*Input/output error"):
        with_refusal(FSYNC, errno.EIO, lambda: append_event(snapshot, event))


# Who may change it


def test_a_second_run_is_refused_and_the_first_named(store: Path) -> None:
    with reader_of(store, "LOCK_EX") as pid:
        said = rf"another run is working in this store: {store}: .* \(pid {pid}\)"
        with pytest.raises(BusyError, match=said), locked_store(store):
            pytest.fail("two runs at once")
    with locked_store(store) as descriptor:
        assert os.path.samestat(os.fstat(descriptor), store.stat())


def test_a_lock_that_cannot_be_had_is_a_failure(store: Path, tmp_path: Path) -> None:
    def lock() -> None:
        with locked_store(store):
            pytest.fail("it has no locks")

    with pytest.raises(DestinationError, match=r"cannot lock .*No locks available"):
        with_refusal(FLOCK, errno.ENOLCK, lock)
    with (
        pytest.raises(DestinationError, match=r"cannot lock .*No such file"),
        locked_store(tmp_path / "gone"),
    ):
        pytest.fail("it is not there")


def test_a_lock_is_let_go_when_the_block_fails(store: Path) -> None:
    with pytest.raises(RuntimeError), locked_store(store):
        raise RuntimeError
    with locked_store(store):
        pass


def test_what_a_killed_run_left_is_removed_and_nothing_else(store: Path) -> None:
    place(store, FIRST)
    (store / NEW / ATTACHMENTS / "deep").mkdir(parents=True)
    (store / NEW / ATTACHMENTS / "deep" / "file").write_text("half")
    (store / f"{OLD}{SECOND}" / "data").mkdir(parents=True, mode=0o500)
    (store / f"{OLD}{THIRD}").mkdir()
    (store / NEXT).symlink_to(FIRST)
    (store / "notes.txt").write_text("mine")
    with locked_store(store):
        assert sorted(os.listdir(store)) == [FIRST, MARKER, "notes.txt"]


def test_what_cannot_be_removed_is_told(store: Path) -> None:
    (store / NEW).mkdir()
    (store / NEW / "file").write_text("x")
    with (
        immutable(store / NEW / "file"),
        pytest.raises(DestinationError, match=r"cannot remove .*file: Operation not permitted"),
        locked_store(store),
    ):
        pytest.fail("it is not tidy")


def test_a_store_that_cannot_be_listed_is_not_changed(store: Path) -> None:
    def lock() -> None:
        with locked_store(store):
            pytest.fail("nobody knows what is in it")

    with pytest.raises(DestinationError, match=r"cannot tidy up .*Input/output error"):
        with_refusal(217, errno.EIO, lock)  # getdents64(2)


# A snapshot in the making


def test_a_snapshot_in_the_making_is_removed_unless_it_is_published(store: Path) -> None:
    with new_snapshot(store) as bag:
        assert bag == store / NEW
        assert stat.S_IMODE(bag.stat().st_mode) == 0o700
        assert (bag / ATTACHMENTS).is_dir()
        (bag / ATTACHMENTS / "file").write_text("x")
    assert litter_in(store) == []
    with pytest.raises(RuntimeError), new_snapshot(store):
        raise RuntimeError
    assert litter_in(store) == []


def test_a_snapshot_appears_by_one_rename(store: Path) -> None:
    with new_snapshot(store) as bag:
        (bag / SUMMARY).write_bytes(encode_summary(summary_named(FIRST)))
        inode = bag.stat().st_ino
        assert publish_snapshot(store, FIRST) == store / FIRST
    assert (store / FIRST).stat().st_ino == inode
    assert (store / LATEST).readlink() == Path(FIRST)
    assert litter_in(store) == []


def test_a_snapshot_takes_the_place_of_nothing(store: Path) -> None:
    (store / FIRST).mkdir()
    with (
        pytest.raises(DestinationError, match=f"cannot move .* to .*{FIRST}: File exists"),
        new_snapshot(store),
    ):
        publish_snapshot(store, FIRST)
    assert names_in(store) == [FIRST]
    assert litter_in(store) == []


def test_two_are_not_made_at_once(store: Path) -> None:
    with (
        new_snapshot(store),
        pytest.raises(DestinationError, match=r"cannot create a workspace in .*File exists"),
        new_snapshot(store),
    ):
        pytest.fail("two in the making")


def test_a_signal_while_it_is_published_comes_afterwards(store: Path) -> None:
    """So that `latest` always goes with what is there."""

    def stop(number: int, _frame: object) -> None:
        raise InterruptedRunError(number)

    class Terminating(Disk):
        def sync(self, path: Path) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            super().sync(path)

    def make() -> None:
        with new_snapshot(store) as bag:
            (bag / SUMMARY).write_bytes(encode_summary(summary_named(FIRST)))
            publish_snapshot(store, FIRST, Terminating())

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(InterruptedRunError):
            make()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert names_in(store) == [FIRST]
    assert (store / LATEST).readlink() == Path(FIRST)
    assert litter_in(store) == []


def test_a_name_that_is_taken_is_that_of_a_second_later(store: Path) -> None:
    summary = replace(summary_named(FIRST), captured=instant_of(FIRST) + timedelta(microseconds=9))
    assert free_name(store, summary) == FIRST
    (store / FIRST).mkdir()
    (store / "2026-03-01T010001Z").symlink_to("nowhere")
    assert free_name(store, summary) == "2026-03-01T010002Z"


# Latest


def test_latest_names_the_newest_sound_snapshot_or_is_not_there(store: Path) -> None:
    link = store / LATEST
    point_latest(store)
    assert not os.path.lexists(link)
    first = place(store, FIRST)
    point_latest(store)
    assert link.readlink() == Path(FIRST)
    before = link.lstat().st_ino
    point_latest(store)
    assert link.lstat().st_ino == before, "nothing is written that says the same"
    second = place(store, SECOND)
    place(store, THIRD, purpose=REPLACED)
    point_latest(store)
    assert link.readlink() == Path(SECOND)
    append_event(second, Event(what=DAMAGED, instant=CLOCK.now(), details={}))
    point_latest(store)
    assert link.readlink() == Path(FIRST)
    append_event(first, Event(what=DAMAGED, instant=CLOCK.now(), details={}))
    point_latest(store)
    assert not os.path.lexists(link)
    assert litter_in(store) == []


def test_latest_that_names_nothing_is_set_right(store: Path) -> None:
    (store / LATEST).symlink_to(THIRD)
    place(store, FIRST)
    point_latest(store)
    assert (store / LATEST).readlink() == Path(FIRST)


def test_latest_is_not_put_over_something_else(store: Path) -> None:
    place(store, FIRST)
    (store / LATEST).mkdir()
    with pytest.raises(DestinationError, match=r"cannot write .*latest: it is no symbolic link"):
        point_latest(store)
    assert (store / LATEST).is_dir()


# Removal


def test_a_snapshot_is_gone_at_once_and_with_all_it_holds(store: Path) -> None:
    one = place(store, FIRST)
    place(store, SECOND)
    (store / FIRST / DATA).mkdir(mode=0o500)
    assert remove_snapshot(store, one)
    assert names_in(store) == [SECOND]
    assert litter_in(store) == []


def test_a_snapshot_that_is_read_stays(store: Path) -> None:
    one = place(store, FIRST)
    with reader_of(one.path):
        assert not remove_snapshot(store, one)
        assert names_in(store) == [FIRST]
    assert remove_snapshot(store, one)


def test_many_read_a_snapshot_but_not_one_that_is_being_removed(store: Path) -> None:
    one = place(store, FIRST)
    with used_snapshot(one), used_snapshot(one), reader_of(one.path):
        pass
    with (
        reader_of(one.path, "LOCK_EX"),
        pytest.raises(BusyError, match=f"the snapshot is just being removed: .*{FIRST}"),
        used_snapshot(one),
    ):
        pytest.fail("it is going")


def test_a_removal_that_fails_leaves_the_snapshot_whole_or_a_rest_for_the_next_run(
    store: Path, tmp_path: Path
) -> None:
    one = place(store, FIRST)
    (one.path / "file").write_text("x")
    (tmp_path / "second name").hardlink_to(one.path / "file")
    with pytest.raises(DestinationError, match=r"cannot move .*Input/output error"):
        with_refusal(RENAME, errno.EIO, lambda: remove_snapshot(store, one))
    assert names_in(store) == [FIRST]
    with (
        immutable(tmp_path / "second name"),
        pytest.raises(DestinationError, match=r"cannot remove .*file: Operation not permitted"),
    ):
        remove_snapshot(store, one)
    assert names_in(store) == []
    assert litter_in(store) == [f"{OLD}{FIRST}"]
    with locked_store(store):
        assert litter_in(store) == []


def test_a_lock_on_a_snapshot_keeps_no_other_from_being_removed(store: Path) -> None:
    first, second = place(store, FIRST), place(store, SECOND)
    descriptor = os.open(first.path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        assert remove_snapshot(store, second)
        assert not remove_snapshot(store, first)
    finally:
        os.close(descriptor)


# Tag files


def test_tag_files_that_cannot_be_written_are_a_failure(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").write_text("there already")
    with pytest.raises(DestinationError, match=r"cannot write .*File exists"), bag_writer(tmp_path):
        pytest.fail("not over another one")
    with pytest.raises(DestinationError, match=r"cannot write .*ledger.*No such file"):
        finish_bag(tmp_path, b"{}", {}, {"ledger.jsonl": "", "gone-ledger": ""})


def test_tag_files_have_no_room(tmp_path: Path) -> None:
    def write(bag: Path) -> None:
        with bag_writer(bag) as writer:
            for _ in range(100):
                writer.write(b"l" * 4096, b"m" * 4096)

    with (
        tmpfs("64k", at=tmp_path) as point,
        pytest.raises(DestinationError, match=r"cannot write .*No space left"),
    ):
        write(point)


def test_a_store_survives_without_its_process(store: Path) -> None:
    """The lock ends with the process, and what it left is removed by the next one."""
    script = (
        "import os, sys; from pathlib import Path; from ops.storing import *;\n"
        "with locked_store(Path(sys.argv[1])), new_snapshot(Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, store], check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert litter_in(store) == [NEW]
    with locked_store(store):
        assert litter_in(store) == []


def test_names_are_those_of_utc() -> None:
    assert snapshot_name(datetime(2026, 3, 1, 1, tzinfo=UTC)) == FIRST
