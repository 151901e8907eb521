"""Recovery: a swap that was begun is completed, one that was not is dropped, litter goes."""

import json
import os
import shutil
import signal
import sqlite3
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from ops.demo_instance import build_instance
from ops.disk import Disk
from ops.errors import (
    BusyError,
    DestinationError,
    OpsError,
    SourceError,
    UnfinishedSwapError,
)
from ops.interrupts import held_signals
from ops.journal import JOURNAL, POINTER, Swap, commit, decode_swap, forget
from ops.model import Instance
from ops.publish import publish
from ops.recover import examine_places, recover
from ops.settlement import Left, Settled, left_bytes, look_at, refuse_unsettled
from ops.swap import complete, undo
from ops.workspace import Workspace, workspace
from tests.command import from_flags, run_here, to_flags
from tests.filesystem import footprint, read
from tests.pipeline import check, clone, plan, request_for
from tests.processes import having_open, held_open
from tests.swaps import (
    Sick,
    StoppedError,
    Stopping,
    WithoutLinks,
    fill,
    in_a_child,
    killed_run,
    pair_of,
    private_names,
    spaces_of,
)

LAST_OF_THE_SWAP = 4
"""Link, rename, rename, rename: after these both halves are in place."""


@pytest.fixture
def old(tmp_path: Path) -> Instance:
    """Make a pair to be replaced, its halves in two directories."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    pair = Instance(database=tmp_path / "one" / "db", attachments=tmp_path / "two" / "tree")
    connection = sqlite3.connect(pair.database)
    connection.execute("CREATE TABLE old (a)")
    connection.close()
    pair.attachments.mkdir()
    (pair.attachments / "file").write_bytes(b"old")
    return pair


def places(pair: Instance) -> list[Path]:
    """Return both places."""
    return [pair.database, pair.attachments]


def copy_pair(source: Instance, space: Workspace) -> None:
    """Prepare a real pair."""
    shutil.copy2(source.database, space.copy.database)
    shutil.rmtree(space.copy.attachments)
    shutil.copytree(source.attachments, space.copy.attachments)


@pytest.mark.parametrize("changes", range(LAST_OF_THE_SWAP + 1))
@pytest.mark.parametrize("side", [(0,), (1,), (0, 1)], ids=["database", "attachments", "both"])
def test_a_swap_is_completed_or_dropped_from_either_side(
    changes: int, side: tuple[int, ...], old: Instance
) -> None:
    killed_run(old, changes=changes)
    begun = changes > 1  # a second name for the old database puts nothing in place yet
    before = pair_of(old)
    assert before == ("old", "old", "new and old", "new and missing", "new")[changes]
    wanted = [places(old)[index] for index in side]
    assert {left for _, left in examine_places(wanted).found} == {Left.UNFINISHED}
    recovery = recover(wanted)
    assert recovery.done is (Settled.COMPLETED if begun else Settled.DROPPED)
    assert pair_of(old) == ("new" if begun else "old")
    assert recover(places(old)).done is Settled.NOTHING
    assert private_names(old.database.parent, old.attachments.parent) == []


def test_without_links_the_old_database_is_moved_aside(old: Instance) -> None:
    with workspace(old) as space:
        fill(space)
        with held_signals():
            publish(space.swap(), WithoutLinks())
    assert pair_of(old) == "new"


@pytest.mark.parametrize("manifest", [False, True])
def test_litter_is_removed_and_nothing_else(
    manifest: bool,
    old: Instance,
    tmp_path: Path,
) -> None:
    record = tmp_path / "one" / "record" if manifest else None
    killed_run(old, changes=None, manifest=record)
    stranger = tmp_path / "one" / ".ciso-ops-somebody-s"
    stranger.mkdir()
    (stranger / "precious").write_text("x")
    assert look_at(old.database) is Left.LITTER
    assert left_bytes(old.attachments) > 0
    recovery = recover([old.database])
    assert recovery.done is Settled.REMOVED
    assert pair_of(old) == "old"
    assert private_names(tmp_path / "one", tmp_path / "two") == [str(stranger)]
    assert (stranger / "precious").read_text() == "x"


def test_all_three_parts_are_completed(old: Instance, tmp_path: Path) -> None:
    record = tmp_path / "one" / "record"
    record.write_text("old")
    killed_run(old, changes=2, manifest=record)
    assert recover([old.attachments]).done is Settled.COMPLETED
    assert record.read_text() == "new"
    assert pair_of(old) == "new"
    assert private_names(tmp_path / "one", tmp_path / "two") == []


def test_a_clone_recovers_by_itself(instance: Instance, old: Instance) -> None:
    killed_run(old, changes=2, prepare=lambda space: copy_pair(instance, space))
    planned = plan(request_for(instance, old))
    assert set(planned.left) == set(places(old))
    outcome = clone(instance, old)
    assert outcome.findings == ()
    assert read(old.attachments) == read(instance.attachments)


def test_litter_counts_as_room(instance: Instance, old: Instance) -> None:
    before = plan(request_for(instance, old)).rooms[0].bytes_free
    killed_run(old, changes=None)
    space, _ = spaces_of(old)
    (space / "new").write_bytes(bytes(50 << 20))
    after = plan(request_for(instance, old)).rooms[0].bytes_free
    assert before is not None
    assert after is not None
    assert abs(after - before) < 40 << 20, "the disk is others' too"


def test_half_a_pair_is_refused_to_readers(
    instance: Instance, old: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_run(old, changes=2)
    elsewhere = Instance(
        database=old.database.with_name("x"), attachments=old.database.with_name("y")
    )
    ran = run_here(capsys, "clone", "--force", *from_flags(old), *to_flags(elsewhere))
    assert ran.code == 3
    assert f"a run was killed while it replaced {old.database}" in (ran.error_line)
    assert f"inv recover --dest-db {old.database}" in ran.hint_line
    assert run_here(capsys, "verify", *to_flags(old)).code == 4
    ran = run_here(capsys, "verify", *to_flags(instance), *from_flags(old))
    assert ran.code == 3
    ran = run_here(capsys, "status", *from_flags(old), *to_flags(old))
    assert ran.code == 0
    assert "an unfinished swap" in ran.out
    assert "a run was killed while it replaced" in ran.out


@pytest.mark.parametrize("changes", [0, LAST_OF_THE_SWAP])
def test_a_whole_pair_may_be_read(changes: int, old: Instance) -> None:
    killed_run(old, changes=changes)
    refuse_unsettled(places(old), DestinationError)


def test_a_database_with_a_second_name_may_not_be_read(old: Instance) -> None:
    """SQLite finds a WAL by name: what reads it under one name must not write under another."""
    killed_run(old, changes=1)
    with pytest.raises(DestinationError, match="left it half done"):
        refuse_unsettled(places(old), DestinationError)


def test_a_run_at_work_is_waited_for_and_told(
    old: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.settlement._MOST_LOOKS", 2)
    with workspace(old) as space:
        fill(space)
        assert look_at(old.database) is Left.RUNNING
        with pytest.raises(BusyError, match="another run is writing to this destination"):
            recover(places(old))
        killed = space.swap()
        commit(killed, Disk())
        Disk().rename(killed.parts[0].new, killed.parts[0].place, over=True)
        with pytest.raises(BusyError, match="a run is just replacing"):
            refuse_unsettled(places(old), DestinationError)
        Disk().rename(killed.parts[0].place, killed.parts[0].new)
        undo(killed, Disk())
        forget(killed, Disk())


def test_a_place_in_use_waits_for_recovery(old: Instance) -> None:
    killed_run(old, changes=2)
    with having_open(old.attachments) as pid:
        with pytest.raises(BusyError, match=rf"is open: .* \(pid {pid}\)"):
            recover(places(old))
        assert pair_of(old) == "new and old"
    assert recover(places(old)).done is Settled.COMPLETED


def test_a_database_that_came_back_is_retired(instance: Instance, old: Instance) -> None:
    """The attachments survived a power cut and the database did not, on another disk."""
    killed_run(old, changes=LAST_OF_THE_SWAP)
    space, _ = spaces_of(old)
    old.database.rename(space / "new")
    shutil.copyfile(instance.database, old.database)
    (space / "old").unlink()
    with held_open(old.database, "UPDATE iam_user SET is_active = 0"):
        with pytest.raises(BusyError):
            recover(places(old))
        sidecars = {path: path.read_bytes() for path in old.database.parent.glob("db-*")}
    for path, content in sidecars.items():  # as a crash leaves them
        path.write_bytes(content)
    assert recover(places(old)).done is Settled.COMPLETED
    assert sorted(path.name for path in old.database.parent.iterdir()) == ["db"]
    assert pair_of(old) == "new"


def test_what_was_changed_by_hand_is_not_guessed_at(old: Instance) -> None:
    killed_run(old, changes=2)
    old.database.with_name("mine").write_bytes(b"mine")
    old.database.with_name("mine").rename(old.database)
    with pytest.raises(UnfinishedSwapError, match="is not there any more") as caught:
        recover(places(old))
    assert "by hand" in caught.value.hint
    assert old.database.read_bytes() == b"mine"
    old.database.unlink()
    with pytest.raises(UnfinishedSwapError, match="is not there any more"):
        recover(places(old))


def test_what_appears_in_a_gap_is_kept(old: Instance) -> None:
    """An application that is started too early makes its directory."""
    killed_run(old, changes=3)
    assert not old.attachments.exists()
    old.attachments.mkdir()
    (old.attachments / "upload").write_text("x")
    with pytest.raises(DestinationError, match="something appeared at"):
        recover(places(old))
    assert (old.attachments / "upload").read_text() == "x"
    shutil.rmtree(old.attachments)
    assert recover(places(old)).done is Settled.COMPLETED


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"[]",
        b"{}",
        b'{"format": 2, "parts": []}',
        b'{"format": 1, "parts": []}',
        b'{"format": 1, "parts": [{"kind": "database"}]}',
        b'{"format": 1, "parts": [{"kind": "x", "place": "/p", "replaces": true, "inode": 1}]}',
        b'{"format": 1, "parts": [{"kind": "database", "place": "p", "replaces": 1, "inode": 1}]}',
        b'{"format": 1, "parts": 3}',
    ],
)
def test_a_damaged_journal_is_told_and_kept(content: bytes, old: Instance) -> None:
    killed_run(old, changes=2)
    journal = spaces_of(old)[0] / JOURNAL
    journal.write_bytes(content)
    for place in places(old):
        with pytest.raises(UnfinishedSwapError, match=r"the journal in .* is damaged"):
            recover([place])
    assert journal.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"text", b"{}", b"[]", b'{"space": "/x"}'])
def test_a_damaged_pointer_is_told_and_kept(content: bytes, old: Instance) -> None:
    killed_run(old, changes=2)
    pointer = spaces_of(old)[1] / POINTER
    pointer.write_bytes(content)
    with pytest.raises(UnfinishedSwapError, match="what tells where the journal is, is damaged"):
        recover([old.attachments])
    assert pointer.exists()


def test_a_journal_that_was_moved_is_told(old: Instance, tmp_path: Path) -> None:
    killed_run(old, changes=2)
    (tmp_path / "one").rename(tmp_path / "three")
    with pytest.raises(UnfinishedSwapError, match="is about another place") as caught:
        recover([tmp_path / "three" / "db"])
    assert "move it back" in caught.value.hint
    with pytest.raises(UnfinishedSwapError, match="the other half of an unfinished swap") as caught:
        recover([old.attachments])
    assert "mount its file system" in caught.value.hint
    (tmp_path / "three").rename(tmp_path / "one")
    assert recover([old.attachments]).done is Settled.COMPLETED


def test_a_pointer_to_what_was_removed_is_litter(old: Instance) -> None:
    killed_run(old, changes=LAST_OF_THE_SWAP)
    shutil.rmtree(spaces_of(old)[0])
    assert recover([old.attachments]).done is Settled.REMOVED
    assert pair_of(old) == "new"


def test_a_journal_that_cannot_be_read_is_told(old: Instance) -> None:
    killed_run(old, changes=2)
    journal = spaces_of(old)[0] / JOURNAL
    content = journal.read_bytes()
    journal.unlink()
    journal.mkdir()
    with pytest.raises(DestinationError, match="cannot read the journal in"):
        recover([old.database])
    journal.rmdir()
    journal.write_bytes(content)
    swap = decode_swap(content)
    assert [part.place for part in swap.parts] == places(old)
    assert swap.encode() == content


def test_an_error_that_cannot_be_undone_keeps_all_for_the_next_run(old: Instance) -> None:
    sick = Sick("rename", "/tree", "/new")  # the attachments' way in, and the database's way back

    def run() -> None:
        with workspace(old) as space:
            fill(space)
            with held_signals():
                publish(space.swap(), sick)

    # The workspace itself settles with a disk that is well again: so the new pair is put in place.
    with pytest.raises(UnfinishedSwapError, match=r"cannot rename .*; and then cannot rename "):
        run()
    assert pair_of(old) == "new"
    assert private_names(old.database.parent, old.attachments.parent) == []


@pytest.mark.parametrize(
    ("what", "end", "state"),
    [
        ("sync", "/one", "old"),
        ("rename", "/db", "old"),
        ("rename", JOURNAL, "old"),
        ("unlink", JOURNAL, "new"),
        ("unlink", POINTER, "new"),
    ],
)
def test_an_error_at_a_step_leaves_the_old_pair_or_the_new_one(
    what: str, end: str, state: str, old: Instance
) -> None:
    def run() -> None:
        with workspace(old) as space:
            fill(space)
            with held_signals():
                publish(space.swap(), Sick(what, end))

    with pytest.raises(OpsError, match="Input/output error"):
        run()
    assert pair_of(old) == state
    assert private_names(old.database.parent, old.attachments.parent) == []


def begun_swap(space: Workspace) -> Swap:
    """Put the new database in place, and nothing else."""
    swap = space.swap()
    commit(swap, Disk())
    with pytest.raises(StoppedError):
        complete(swap, Stopping(2))
    assert [part.new.exists() for part in swap.parts] == [False, True]
    return swap


def test_undoing_takes_the_new_database_s_wal_along(instance: Instance, old: Instance) -> None:
    """Left beside the old database, SQLite would replay it there."""
    content = old.database.read_bytes()
    with workspace(old) as space:
        copy_pair(instance, space)
        swap = begun_swap(space)
        with held_open(old.database, "PRAGMA journal_mode = WAL", "CREATE TABLE theirs (a)"):
            killed = old.database.with_name("db-wal").read_bytes()
        old.database.with_name("db-wal").write_bytes(killed)
        undo(swap, Disk())
        forget(swap, Disk())
    assert old.database.read_bytes() == content
    assert os.listdir(old.database.parent) == ["db"]


def test_undoing_never_leaves_the_database_without_a_name(old: Instance) -> None:
    """Who opens a missing one to write makes an empty one, and fills it."""
    for changes in range(4):
        with workspace(old) as space:
            fill(space)
            swap = begun_swap(space)
            with suppress(StoppedError):
                undo(swap, Stopping(changes))
            assert old.database.read_bytes() in {b"new", b"old"} or changes
            assert old.database.exists()
            undo(swap, Disk())
            forget(swap, Disk())
        assert pair_of(old) == "old"


@pytest.mark.parametrize("changes", range(4))
def test_an_undo_that_was_killed_is_completed(changes: int, old: Instance) -> None:
    def work() -> None:
        with workspace(old) as space:
            fill(space)
            with suppress(StoppedError):
                undo(begun_swap(space), Stopping(changes))
            os._exit(0)

    in_a_child(work)
    recovery = recover(places(old))
    assert recovery.done in {Settled.COMPLETED, Settled.DROPPED}
    assert pair_of(old) == ("new" if recovery.done is Settled.COMPLETED else "old")
    assert private_names(old.database.parent, old.attachments.parent) == []


def test_what_somebody_uses_already_is_not_taken_back(old: Instance) -> None:
    """His commits to the new database would go."""

    class Meanwhile(Sick):
        def rename(self, source: Path, target: Path, *, over: bool = False) -> None:
            if target == old.attachments:
                users.enter_context(having_open(old.database))
            super().rename(source, target, over=over)

    with ExitStack() as users:

        def run() -> None:
            with workspace(old) as space:
                fill(space)
                with held_signals():
                    publish(space.swap(), Meanwhile("rename", "/tree"))

        with pytest.raises(UnfinishedSwapError, match="in place already is in use"):
            run()
        assert pair_of(old) == "new and missing"
    assert recover(places(old)).done is Settled.COMPLETED
    assert pair_of(old) == "new"


def test_a_whole_new_pair_in_use_stays(old: Instance) -> None:
    class Meanwhile(Disk):
        def sync(self, path: Path) -> None:
            if pair_of(old) == "new":
                users.enter_context(having_open(old.database))
                raise DestinationError("cannot sync: Input/output error")
            super().sync(path)

    with ExitStack() as users:

        def run() -> None:
            with workspace(old) as space:
                fill(space)
                with held_signals():
                    publish(space.swap(), Meanwhile())

        with pytest.raises(DestinationError, match="the new pair is in use as well"):
            run()
    assert pair_of(old) == "new"
    assert private_names(old.database.parent, old.attachments.parent) == []


def test_a_sidecar_s_name_that_a_directory_takes_meanwhile(old: Instance) -> None:
    def run() -> None:
        with workspace(old) as space:
            fill(space)
            old.database.with_name("db-wal").mkdir()
            publish(space.swap())

    with pytest.raises(DestinationError, match=r"something appeared at .*db-wal"):
        run()
    assert pair_of(old) == "old"
    assert old.database.with_name("db-wal").is_dir()


def test_a_signal_in_a_block_that_fails_is_not_lost() -> None:
    """Else a stop during a swap that somebody's opening ended would go unheard."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))

    def run() -> None:
        with held_signals() as arrived:
            signal.raise_signal(signal.SIGTERM)
            assert (list(arrived), heard) == ([signal.SIGTERM], [])
            raise BusyError("in use")

    try:
        with pytest.raises(BusyError, match="in use"):
            run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]


@pytest.mark.parametrize("changes", [0, 2])
def test_a_half_that_is_gone_is_told_before_anything_moves(changes: int, old: Instance) -> None:
    killed_run(old, changes=changes)
    shutil.rmtree(spaces_of(old)[1])
    before = footprint(old.database.parents[1])
    with pytest.raises(UnfinishedSwapError, match="other half of an unfinished swap is not there"):
        recover([old.database])
    after = footprint(old.database.parents[1])
    assert {name: row[:-1] for name, row in before.items()} == {
        name: row[:-1] for name, row in after.items()
    }


def test_a_damaged_journal_is_told_to_readers(old: Instance) -> None:
    killed_run(old, changes=2)
    (spaces_of(old)[0] / JOURNAL).write_bytes(b"{")
    with pytest.raises(SourceError, match="is damaged"):
        refuse_unsettled(places(old), SourceError)


# The command


def test_the_command_tells_what_it_does(old: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    flags = to_flags(old)
    assert "Nothing to recover" in run_here(capsys, "recover", *flags).out
    killed_run(old, changes=2)
    before = footprint(old.database.parent)
    ran = run_here(capsys, "recover", *flags, "--dry-run")
    assert "To be recovered" in ran.out
    assert "an unfinished swap" in ran.out
    assert footprint(old.database.parent) == before
    ran = run_here(capsys, "recover", *flags)
    assert ran.code == 0
    assert "The new pair is in place: its swap was completed" in ran.out
    killed_run(old, changes=None)
    assert "private files of a killed run" in run_here(capsys, "recover", *flags).out


@pytest.mark.parametrize(
    ("changes", "left", "done"),
    [(None, "litter", "removed"), (0, "unfinished", "dropped"), (2, "unfinished", "completed")],
)
def test_the_command_s_document(
    changes: int | None, left: str, done: str, old: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    killed_run(old, changes=changes)
    ran = run_here(capsys, "recover", "--dest-db", old.database, "--json")
    assert json.loads(ran.out) == {
        "schema_version": 1,
        "command": "recover",
        "ok": True,
        "dry_run": False,
        "places": [{"path": str(old.database), "left": left}],
        "done": done,
    }


def test_the_command_takes_one_place_at_least(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run_here(capsys, "recover")
    assert ran.code == 2
    assert "--dest-db or --dest-attachments is required" in ran.error_line


def test_a_place_without_a_parent_has_nothing_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_here(capsys, "recover", "--dest-db", tmp_path / "no" / "where")
    assert ran.code == 0
    assert "Nothing to recover" in ran.out
    assert not (tmp_path / "no").exists()


def test_a_recovered_clone_is_sound(instance: Instance, tmp_path: Path) -> None:
    """With real pairs: what recovery puts in place is what was prepared."""
    destination = build_instance(tmp_path / "old", evidences=2, seed=3)
    killed_run(destination, changes=2, prepare=lambda space: copy_pair(instance, space))
    assert recover([destination.attachments]).done is Settled.COMPLETED
    assert check(destination, source=instance).findings == ()
