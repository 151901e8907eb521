"""Break the pipeline for real, at every step: the old pair or the new one, and a true word."""

import contextlib
import errno
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import pytest

from ops.capture import Capture, capture
from ops.clone import Outcome, plan_clone, run_clone
from ops.demo_instance import build_instance, connect
from ops.disk import DISK
from ops.errors import (
    BusyError,
    DestinationError,
    OpsError,
    SourceError,
    VerificationError,
    failure_for,
)
from ops.interrupts import held_signals
from ops.journal import commit, forget
from ops.model import Clock, Entry, Instance, Kind, Progress, Severity
from ops.profile import load_profile
from ops.publish import publish
from ops.recover import recover
from ops.settlement import Settled
from ops.sqlite.connection import connect as connect_to_read
from ops.sqlite.content import check_integrity
from ops.sqlite.header import file_state, inspect_database
from ops.sqlite.retire import retire_database
from ops.sqlite.source import _take_back_stray_wal, read_steadily
from ops.swap import complete
from ops.tree.compare import differences
from ops.tree.copying import Copier
from ops.tree.crew import crew
from ops.tree.directories import Directories
from ops.tree.metadata import ACCESS_LIST, lenient_xattrs, mode_without_acl
from ops.tree.scan import TreeSize
from ops.tree.transfer import BUFFER_BYTES
from ops.tree.work import Trees
from ops.workspace import workspace
from tests.command import INV, ROOT
from tests.filesystem import LLISTXATTR, footprint, read, unprivileged, with_refusal
from tests.mounting import immutable, tmpfs
from tests.pipeline import CLOCK, check, clone, plan, quiet, request_for
from tests.processes import held_open

FSYNC, FSETXATTR, SYNCFS = 74, 190, 306
"""Numbers of system calls on x86-64 (<asm/unistd_64.h>)."""

Result = TypeVar("Result")


@pytest.fixture
def old(tmp_path: Path) -> Instance:
    """Make a pair that stands at the destination."""
    return build_instance(tmp_path / "old", evidences=3, seed=9)


def same(before: dict[bytes, tuple[object, ...]], directory: Path) -> bool:
    """Tell whether a directory holds what it held; its own times may have changed."""
    own = os.fsencode(directory)
    after = footprint(directory, ctime=False)
    return {**before, own: ()} == {**after, own: ()}


def run_with(
    source: Instance,
    destination: Instance,
    act: Callable[[Progress], None],
    *,
    clock: Clock = CLOCK,
    profile: str = "ciso_assistant",
) -> Outcome:
    """Clone, doing something whenever progress is told."""
    planned = plan(request_for(source, destination, profile=profile))
    return run_clone(planned, clock=clock, progress=act)


def at(step: str, act: Callable[[], None]) -> Callable[[Progress], None]:
    """Do something the first time that a step tells of itself."""
    told: list[str] = []

    def progress(now: Progress) -> None:
        if now.step == step and not told:
            told.append(step)
            act()

    return progress


def clock_that(act: Callable[[int], None]) -> Clock:
    """Make a clock that does something at each pin of the database, given its number."""
    asked: list[int] = []

    def now() -> datetime:
        asked.append(len(asked) + 1)
        act(len(asked))
        return datetime.now(UTC)

    return Clock(now=now, seconds=CLOCK.seconds)


def copy_pair(source: Instance, stage: Instance, scratch: Path) -> Capture:
    """Capture an instance, in this process alone."""
    trees = Trees(source=source.attachments, copy=stage.attachments)
    with crew(trees, jobs=1) as workers:
        return capture(
            source,
            stage,
            workers,
            profile=load_profile("ciso_assistant"),
            size=TreeSize(),
            scratch=scratch,
            lock_timeout_seconds=1,
            clock=CLOCK,
            progress=quiet,
        )


class TestCapture:
    """What changes while it is copied."""

    def test_a_file_that_never_settles_is_told(
        self, instance: Instance, destination: Instance
    ) -> None:
        growing = instance.attachments / "growing.log"
        growing.write_bytes(bytes(2 * BUFFER_BYTES))  # read in several pieces, each of them told

        def grow(progress: Progress) -> None:
            if progress.step == "copy attachments":
                with growing.open("ab") as file:
                    file.write(b"line\n")

        outcome = run_with(instance, destination, grow)
        found = [f for f in outcome.findings if f.kind == "unsettled"]
        assert [(f.severity, f.where) for f in found] == [(Severity.WARNING, "growing.log")]

    def test_a_file_written_over_at_the_pin_takes_another_round(
        self, instance: Instance, destination: Instance
    ) -> None:
        hot = instance.attachments / "policy_7.pdf"
        good = hot.read_bytes()

        def write_over(number: int) -> None:
            hot.write_bytes(b"half" if number == 1 else good)

        clock = clock_that(write_over)
        outcome = run_with(instance, destination, quiet, clock=clock)
        assert outcome.capture.rounds == 2
        assert (destination.attachments / "policy_7.pdf").read_bytes() == good

    def test_a_file_written_over_for_ever_is_busy(
        self, instance: Instance, destination: Instance
    ) -> None:
        hot = instance.attachments / "policy_7.pdf"

        def write_over(number: int) -> None:
            hot.write_bytes(b"%d" % number)

        clock = clock_that(write_over)
        with pytest.raises(BusyError, match="never belonged together in 8 rounds"):
            run_with(instance, destination, quiet, clock=clock)
        assert not destination.database.parent.exists()

    def test_a_database_that_stirs_at_the_pin_is_read_again(
        self, instance: Instance, destination: Instance
    ) -> None:
        def stir(number: int) -> None:
            if number == 1:  # an application comes, commits, and goes: the main file changes
                with closing(connect(instance.database)) as connection:
                    connection.execute("UPDATE iam_user SET email = 'late@example.org'")

        outcome = run_with(instance, destination, quiet, clock=clock_that(stir))
        assert outcome.capture.rounds == 2
        with closing(sqlite3.connect(destination.database)) as copy:
            rows = copy.execute("SELECT email FROM iam_user").fetchall()
        assert rows == [("late@example.org",)]

    def test_damage_that_goes_away_again_is_none(
        self, instance: Instance, destination: Instance
    ) -> None:
        """What looks like damage while the file is rewritten is not blamed on the source."""
        good = instance.database.read_bytes()
        events: list[str] = []

        def scramble(number: int) -> None:
            if number == 1:
                with instance.database.open("r+b") as file:
                    file.seek(4096)
                    file.write(b"\xff" * (len(good) - 4096))
                (instance.attachments / "z").write_text("copied by the adding pass")
                events.append("scrambled")

        def act(_progress: Progress) -> None:
            if events == ["scrambled"]:  # in the adding pass, which is past this name
                (instance.attachments / "0").write_text("copied by the next mirroring pass")
                events.append("reading the scrambled database next")
            elif len(events) == 2:
                instance.database.write_bytes(good)
                events.append("restored")

        outcome = run_with(instance, destination, act, clock=clock_that(scramble))
        assert events[2:] == ["restored"]
        assert outcome.capture.rounds == 2
        assert [f for f in check(destination).findings if f.severity is Severity.ERROR] == []

    def test_a_full_stage_is_a_failure_of_the_destination(
        self, instance: Instance, tmp_path: Path
    ) -> None:
        with tmpfs("32k") as small:
            stage = Instance(database=small / "db", attachments=tmp_path / "tree")
            stage.attachments.mkdir()
            with pytest.raises(
                DestinationError, match=r"cannot write .*: database or disk is full"
            ):
                copy_pair(instance, stage, tmp_path)
            assert list(small.iterdir()) == []

    def test_attributes_of_the_database_that_cannot_be_set_are_a_failure(
        self, instance: Instance, destination: Instance
    ) -> None:
        os.setxattr(instance.database, "user.origin", b"here")
        clone(instance, destination)
        assert os.getxattr(destination.database, "user.origin") == b"here"
        before = footprint(destination.database.parent, ctime=False)
        with pytest.raises(DestinationError, match=r"cannot set the metadata of .*Input/output"):
            with_refusal(FSETXATTR, errno.EIO, lambda: clone(instance, destination))
        assert same(before, destination.database.parent)

    def test_rows_that_cannot_be_read_are_a_failure(
        self, instance: Instance, destination: Instance
    ) -> None:
        planned = plan(request_for(instance, destination))
        ruin_table(instance.database, "core_evidencerevision")
        with pytest.raises(SourceError, match="database disk image is malformed"):
            run_clone(planned, clock=CLOCK, progress=quiet)
        assert not destination.database.parent.exists()


def ruin_table(database: Path, table: str) -> None:
    """Write nonsense over the first page of a table."""
    with closing(sqlite3.connect(f"file:{database}?immutable=1", uri=True)) as connection:
        (root,) = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with database.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)


class TestCheck:
    """What is wrong with the stage is found before anything is published."""

    def test_a_staged_file_that_changed(self, instance: Instance, old: Instance) -> None:
        before = footprint(old.database.parent, ctime=False)

        def damage() -> None:
            (staged,) = old.database.parent.glob(".ciso-ops-*/new/policy_7.pdf")
            staged.write_bytes(b"x" * staged.stat().st_size)

        with pytest.raises(VerificationError, match=r"changed: policy_7.pdf: content") as caught:
            run_with(instance, old, at("write to disk", damage))
        assert "look at the disk" in caught.value.hint
        assert caught.value.__notes__ == ["nothing was published: the destination is as it was"]
        assert same(before, old.database.parent)

    def test_a_staged_database_that_is_none(self, instance: Instance, old: Instance) -> None:
        before = footprint(old.database.parent, ctime=False)

        def damage() -> None:
            (staged,) = filter(Path.is_file, old.database.parent.glob(".ciso-ops-*/new"))
            staged.write_bytes(b"no database at all")

        with pytest.raises(VerificationError, match=r"integrity: database: .*not a database"):
            run_with(instance, old, at("write to disk", damage))
        assert same(before, old.database.parent)

    def test_rows_of_a_damaged_table_are_a_finding(
        self, instance: Instance, destination: Instance
    ) -> None:
        clone(instance, destination)
        ruin_table(destination.database, "core_evidencerevision")
        found = check(destination).findings
        assert any(f.found.startswith("rows that name files: ") for f in found)
        assert {f.severity for f in found} == {Severity.ERROR}

    def test_a_locked_database_has_no_verdict(self, tmp_path: Path) -> None:
        path = tmp_path / "db"
        with closing(sqlite3.connect(path)) as made:
            made.execute("CREATE TABLE t (x)")
        with (
            closing(connect_to_read(path, "mode=ro", 0)) as connection,
            held_open(path, "BEGIN EXCLUSIVE"),
            pytest.raises(sqlite3.OperationalError, match="locked"),
        ):
            check_integrity(connection)

    def test_a_database_that_goes_while_it_is_compared(
        self, instance: Instance, destination: Instance
    ) -> None:
        from ops.verify import VerifyRequest, verify

        clone(instance, destination)
        request = VerifyRequest(
            instance=destination, profile=load_profile("ciso_assistant"), source=instance
        )
        gone = at("compare with the source", destination.database.unlink)
        with pytest.raises(DestinationError, match=r"cannot compare .*No such file"):
            verify(request, progress=gone)

    def test_what_a_reader_cannot_read_is_a_failure(
        self, instance: Instance, tmp_path: Path
    ) -> None:
        with pytest.raises(SourceError, match="no such table: nowhere"):
            read_steadily(
                instance.database,
                lambda opened: opened.connection.execute("SELECT * FROM nowhere"),
                scratch=tmp_path,
                timeout_seconds=1,
            )


class TestPublish:
    """The swap and what surrounds it."""

    def test_a_disk_that_does_not_take_it(self, instance: Instance, old: Instance) -> None:
        for call, step in ((SYNCFS, "the copy"), (FSYNC, "the swap")):
            before = footprint(old.database.parent, ctime=False)
            with pytest.raises(DestinationError, match="cannot write to the disk of") as caught:
                with_refusal(call, errno.EIO, lambda: clone(instance, old))
            assert "kernel log" in caught.value.hint, step
            assert same(before, old.database.parent), step

    def test_something_that_appears_stops_the_swap(self, old: Instance) -> None:
        """An application that is started too early makes its directory."""
        shutil.rmtree(old.attachments)
        before = footprint(old.database.parent, ctime=False)
        with workspace(old) as space:
            space.copy.database.write_bytes(b"new")
            swap = space.swap()
            old.attachments.mkdir()
            with pytest.raises(DestinationError, match=r"something appeared at .*attachments"):
                publish(swap)
        old.attachments.rmdir()
        assert same(before, old.database.parent)

    def test_a_swap_that_cannot_be_undone_is_finished_by_the_next_run(
        self, instance: Instance, old: Instance
    ) -> None:
        """The disk dies for good at the fourth rename, and undoing takes renames too."""
        strace = shutil.which("strace")
        if strace is None:
            pytest.skip("takes strace, to make the kernel refuse the fourth rename")
        attachments = read(old.attachments)
        done = subprocess.run(
            [
                *(strace, "-f", "-qq", "-o", os.devnull, "-e", "trace=rename"),
                *("-e", "inject=rename:error=EIO:when=4+"),
                *(*INV, "clone", "--force"),
                *("--source-db", instance.database),
                *("--source-attachments", instance.attachments),
                *("--dest-db", old.database, "--dest-attachments", old.attachments),
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd=ROOT,
            # Coverage writes its figures with a rename, and more of them would be refused.
            env={name: text for name, text in os.environ.items() if "COVERAGE" not in name},
        )
        if "ptrace" in done.stderr.lower():
            pytest.skip("strace may not trace here")
        assert done.returncode == 4, done.stderr
        assert done.stderr.count("error: ") == 1
        assert "note: the destination is half replaced" in done.stderr
        assert f"hint: `inv recover --dest-db {old.database}" in done.stderr
        assert read(old.attachments) == attachments
        with pytest.raises(DestinationError, match="a run was killed while it replaced"):
            check(old)
        assert recover([old.database]).done is Settled.COMPLETED
        assert read(old.attachments) == read(instance.attachments)
        assert check(old, source=instance).findings == ()
        assert sorted(os.listdir(old.database.parent)) == ["attachments", old.database.name]

    def test_old_databases_that_cannot_be_looked_at(self, old: Instance, tmp_path: Path) -> None:
        sidecar = old.database.with_name(old.database.name + "-wal")
        sidecar.write_bytes(b"x" * 100)
        old.database.chmod(0)
        tmp_path.chmod(0o755)
        with (
            unprivileged_reach(tmp_path),
            pytest.raises(DestinationError, match="cannot read the old database"),
        ):
            retire_database(old.database)

    def test_old_databases_that_cannot_be_merged(self, old: Instance, tmp_path: Path) -> None:
        for path in (old.database.parent, tmp_path):
            path.chmod(0o755)
        with closing(connect(old.database)) as connection:
            connection.execute("UPDATE iam_user SET is_active = 0")
            sidecar = old.database.with_name(old.database.name + "-wal")
            saved = sidecar.read_bytes()
        sidecar.write_bytes(saved)
        with (
            unprivileged_reach(tmp_path),
            pytest.raises(DestinationError, match="cannot merge the WAL of the old database"),
        ):
            retire_database(old.database)


@contextmanager
def unprivileged_reach(directory: Path) -> Iterator[None]:
    """Work as nobody, with the way to a directory open."""
    closed = [path for path in (directory, *directory.parents) if not path.stat().st_mode & 0o001]
    modes = [path.stat().st_mode & 0o7777 for path in closed]
    for path, mode in zip(closed, modes, strict=True):
        path.chmod(mode | 0o011)
    try:
        with unprivileged():
            yield
    finally:
        for path, mode in zip(closed, modes, strict=True):
            path.chmod(mode)


class TestWorkspace:
    """Private places come and go."""

    def test_a_place_that_takes_none(self, tmp_path: Path) -> None:
        destination = Instance(database=tmp_path / "p" / "db", attachments=tmp_path / "p" / "tree")
        destination.database.parent.mkdir()
        with (
            immutable(destination.database.parent),
            pytest.raises(DestinationError, match="cannot create a workspace in"),
            workspace(destination),
        ):
            pytest.fail("nothing can be made there")

    def test_what_cannot_be_removed_is_told(self, old: Instance) -> None:
        def fill(*, fail: bool) -> Path:
            with workspace(old) as space:
                stuck = space.copy.attachments / "stuck"
                stuck.write_text("x")
                with held_immutable(stuck):
                    pass
                subprocess.run(["chattr", "+i", stuck], check=True)  # noqa: S607 - found before
                left.append(stuck)
                if fail:
                    raise VerificationError("no good")
            return stuck

        @contextmanager
        def held_immutable(path: Path) -> Iterator[None]:
            with immutable(path):  # skips where the flag is unknown
                yield

        for fail in (False, True):
            left: list[Path] = []
            try:
                with pytest.raises(OpsError) as caught:
                    fill(fail=fail)
            finally:
                for path in left:
                    subprocess.run(["chattr", "-i", path], check=True)  # noqa: S607 - the same
                    shutil.rmtree(path.parents[1])
            said = caught.value.message if not fail else "".join(caught.value.__notes__)
            assert "cannot remove" in said
            assert "stuck" in said

    def test_a_parent_that_cannot_be_removed_is_told(self, destination: Instance) -> None:
        parent = destination.database.parent

        def fail() -> None:
            with workspace(destination) as space:
                subprocess.run(["chattr", "+i", parent.parent], check=True)  # noqa: S607 - found before
                assert space.scratch.exists()
                raise VerificationError("no good")

        with immutable(parent.parent):
            pass
        try:
            with pytest.raises(DestinationError, match="cannot remove"):
                fail()
        finally:
            subprocess.run(["chattr", "-i", parent.parent], check=True)  # noqa: S607 - the same

    def test_a_sync_that_fails_names_the_place(self, old: Instance) -> None:
        with (
            workspace(old) as space,
            pytest.raises(DestinationError, match=r"cannot write to the disk of .*\.ciso-ops-"),
        ):
            with_refusal(SYNCFS, errno.EIO, space.sync)


class TestManifest:
    """The record has a place of its own, which can fail."""

    def test_a_disk_that_is_full(self, instance: Instance, old: Instance) -> None:
        before = footprint(old.database.parent, ctime=False)
        with tmpfs("8k") as small:
            (small / "filler").write_bytes(bytes(8192))
            with pytest.raises(DestinationError, match=rf"cannot write .*{small}.*No space left"):
                clone(instance, old, manifest=small / "manifest")
            assert [path.name for path in small.iterdir()] == ["filler"]
        assert same(before, old.database.parent)

    def test_a_name_that_is_too_long(
        self, instance: Instance, old: Instance, tmp_path: Path
    ) -> None:
        with pytest.raises(DestinationError, match=r"cannot write the manifest .*too long"):
            plan(request_for(instance, old, manifest=tmp_path / ("n" * 300)))

    def test_a_directory_of_somebody_else(
        self, instance: Instance, old: Instance, tmp_path: Path
    ) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o755)
        request = request_for(instance, old, manifest=closed / "manifest")
        old.database.parent.chmod(0o777)
        with (
            unprivileged_reach(tmp_path),
            pytest.raises(DestinationError, match=r"cannot write in .*closed"),
        ):
            plan_clone(request, progress=quiet)


def test_what_nobody_may_keep_is_told_and_never_more_open(
    instance: Instance, tmp_path: Path
) -> None:
    """A user copies what belongs to somebody else, and may read it."""
    for path in (instance.database, *instance.attachments.iterdir()):
        path.chmod(0o664)
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    destination = Instance(database=place / "db", attachments=place / "tree")
    with unprivileged_reach(tmp_path):
        outcome = clone(instance, destination)
    found = {f.where.split(": ")[1] for f in outcome.findings if f.kind == "not-kept"}
    assert found == {"owner", "group"}
    modes = {path.stat().st_mode & 0o777 for path in destination.attachments.iterdir()}
    assert modes == {0o644}
    assert destination.database.stat().st_mode & 0o777 == 0o644


class TestAccessLists:
    """Access control lists go with the copy, and where they cannot, their mask does not."""

    def listing(self, group: int, mask: int) -> bytes:
        """Make a list: owner rw, user 1234 rw, the owning group, a mask, others nothing."""
        entries = [(1, 6, -1), (2, 6, 1234), (4, group, -1), (16, mask, -1), (32, 0, -1)]
        body = b"".join(struct.pack("<HHi", *entry) for entry in entries)
        return struct.pack("<I", 2) + body

    def test_the_database_s_list_goes_with_it(
        self, instance: Instance, destination: Instance
    ) -> None:
        os.setxattr(instance.database, ACCESS_LIST, self.listing(0, 6))
        clone(instance, destination)
        assert os.getxattr(destination.database, ACCESS_LIST) == self.listing(0, 6)

    def test_without_the_list_the_group_gets_its_own_rights(self) -> None:
        entry = Entry(
            path=b"x", kind=Kind.FILE, mode=0o660, xattrs=((ACCESS_LIST, self.listing(0, 6)),)
        )
        assert mode_without_acl(entry) == 0o600
        bare = replace(entry, xattrs=())
        assert mode_without_acl(bare) == 0o660
        broken = replace(entry, xattrs=((ACCESS_LIST, b"\2\0\0\0"),))
        assert mode_without_acl(broken) == 0o660
        found = replace(entry, mode=0o600, xattrs=())
        assert [d.field for d in differences(entry, found)] == ["xattrs lost"]

    def test_a_file_system_without_lists(self, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.mkdir()
        file = source / "file"
        file.write_text("x")
        os.mkfifo(source / "pipe")
        for path in (file, source / "pipe"):
            os.setxattr(path, ACCESS_LIST, self.listing(0, 6))
        with ramfs(tmp_path / "plain") as plain:
            assert lenient_xattrs(plain, frozenset({ACCESS_LIST}), privileged=True)
            with Directories(source) as tree, Directories(plain) as copies:
                copier = Copier(tree, copies, advance=lambda _count: None)
                for name, kind in ((b"file", Kind.FILE), (b"pipe", Kind.FIFO)):
                    copied = copier.copy(Entry(path=name, kind=kind))
                    assert copied.kept.xattrs is False
                    assert (plain / os.fsdecode(name)).stat().st_mode & 0o777 == 0o600

    def test_what_only_root_sees_is_excused_for_others(self, tmp_path: Path) -> None:
        names = frozenset({"trusted.x", "user.x"})
        assert lenient_xattrs(tmp_path, names, privileged=False) == {"trusted.x"}
        assert lenient_xattrs(tmp_path, names, privileged=True) == frozenset()
        os.setxattr(tmp_path, "user.x", b"1")
        assert lenient_xattrs(tmp_path, names, privileged=True) == frozenset()


@contextmanager
def ramfs(point: Path) -> Iterator[Path]:
    """Mount a file system without extended attributes."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if mount is None or umount is None or os.geteuid() != 0:
        pytest.skip("takes root, to mount a file system without extended attributes")
    point.mkdir()
    done = subprocess.run([mount, "-t", "ramfs", "none", point], check=False, capture_output=True)
    if done.returncode:
        pytest.skip("no ramfs can be mounted here")
    try:
        yield point
    finally:
        subprocess.run([umount, point], check=True)


def test_a_file_system_without_a_size_has_room(instance: Instance, tmp_path: Path) -> None:
    with ramfs(tmp_path / "plain") as plain:
        destination = Instance(database=plain / "db", attachments=plain / "tree")
        planned = plan(request_for(instance, destination))
        assert planned.rooms[0].bytes_free is None
        clone(instance, destination)
        assert read(destination.attachments) == read(instance.attachments)


class TestInterrupts:
    """Signals wait for the end of a block."""

    def test_they_arrive_afterwards(self) -> None:
        reached = []

        def hold() -> None:
            with held_signals():
                signal.raise_signal(signal.SIGINT)
                reached.append("end of the block")

        with pytest.raises(KeyboardInterrupt):
            hold()
        assert reached == ["end of the block"]

    def test_what_is_ignored_stays_ignored(self) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with held_signals():
                signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_another_thread_has_nothing_to_hold(self) -> None:
        reached: list[str] = []

        def work() -> None:
            with held_signals():
                reached.append("block")

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert reached == ["block"]


class TestOpening:
    """Small things that go wrong at the door."""

    def test_attributes_that_cannot_be_read(self, instance: Instance) -> None:
        with pytest.raises(SourceError, match=r"cannot read the attributes of .*Input/output"):
            with_refusal(LLISTXATTR, errno.EIO, lambda: inspect_database(instance.database))

    def test_a_state_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(NotADirectoryError):
            file_state(tmp_path / "file" / "below")
        assert file_state(tmp_path / ("n" * 300)) is None

    def test_a_stray_wal_beside_what_cannot_be_opened(self, tmp_path: Path) -> None:
        path = tmp_path / "db"
        path.write_bytes(b"no database" * 100)
        (tmp_path / "db-wal").write_bytes(b"")
        with pytest.raises(SourceError, match="not a database"):
            _take_back_stray_wal(path, None, 0)


def test_invoke_s_own_failures_are_not_ours(tmp_path: Path) -> None:
    """What has nothing to do with our configuration is not explained as if it had."""
    from ops.cli.program import configuration_failure

    assert configuration_failure(ValueError("something else")) is None
    (tmp_path / "invoke.yaml").write_text("tasks: {executor_class: no.such.Thing}")
    done = subprocess.run(
        [INV[0], "-c", "from ops.cli import program; program.run()", "status"],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_a_word_on_the_destination_for_every_end(destination: Instance) -> None:
    from ops.replacing import state_of_the_destination

    words = [state_of_the_destination([], [])]
    with workspace(destination) as space:
        space.copy.database.write_bytes(b"new")
        swap = space.swap()
        words.append(state_of_the_destination([swap], []))
        commit(swap, DISK)
        words.append(state_of_the_destination([swap], []))
        complete(swap, DISK)
        forget(swap, DISK)
        words.append(state_of_the_destination([swap], []))
    assert [word.split(" ")[:3] for word in words] == [
        ["nothing", "was", "published:"],
        ["nothing", "was", "published:"],
        ["the", "destination", "is"],
        ["the", "new", "pair"],
    ]
    assert "earlier run" in state_of_the_destination([], [Settled.COMPLETED])
    stopped = KeyboardInterrupt()
    stopped.add_note(words[0])
    failure = failure_for(stopped)
    assert failure.__notes__ == [words[0]]
    assert failure.__cause__ is stopped


def test_a_locked_directory_of_ones_own_is_moved_with_its_mode(tmp_path: Path) -> None:
    """Only root may move a directory that it may not write without asking."""
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o777)
    with unprivileged_reach(tmp_path):
        source = build_instance(place / "source", evidences=2)
        source.attachments.chmod(0o500)
        destination = Instance(database=place / "db", attachments=place / "tree")
        for _ in range(2):  # the second time it is the old one that is locked
            clone(source, destination)
            assert read(destination.attachments) == read(source.attachments)


def test_an_old_database_with_a_journal_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode = PERSIST").fetchone()
        made.execute("CREATE TABLE t (x)")
    assert path.with_name("db-journal").exists()
    retire_database(path)
    with closing(sqlite3.connect(path)) as merged:
        assert merged.execute("PRAGMA journal_mode").fetchone() == ("delete",)


@pytest.mark.parametrize("content", [b"a letter", b"SQLite format 2"])
def test_files_that_are_no_database_are_not_replaced(
    instance: Instance, destination: Instance, content: bytes
) -> None:
    destination.database.parent.mkdir()
    destination.database.write_bytes(content)
    with pytest.raises(DestinationError, match="is not a SQLite database"):
        clone(instance, destination)
    assert destination.database.read_bytes() == content


def test_old_files_that_cannot_be_read_are_not_replaced(instance: Instance, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o777)
    for name in ("db", "manifest"):
        (place / name).write_bytes(b"x")
        (place / name).chmod(0)
    old = Instance(database=place / "db", attachments=place / "tree")
    new = Instance(database=place / "new", attachments=place / "tree")
    with unprivileged_reach(tmp_path):
        with pytest.raises(DestinationError, match="cannot read the old database"):
            plan(request_for(instance, old))
        with pytest.raises(DestinationError, match=r"cannot replace .*manifest: Permission"):
            plan(request_for(instance, new, manifest=place / "manifest"))


def test_a_record_that_cannot_take_its_place_stops_the_swap(
    instance: Instance, destination: Instance, tmp_path: Path
) -> None:
    """The pair and its record go together, so an old record never tells of a new pair."""
    manifest = tmp_path / "records" / "manifest"
    manifest.parent.mkdir()
    planned = plan(request_for(instance, destination, manifest=manifest))
    with pytest.raises(DestinationError, match=r"something appeared at .*manifest") as caught:
        run_clone(planned, clock=CLOCK, progress=at("publish", manifest.mkdir))
    assert caught.value.__notes__ == ["nothing was published: the destination is as it was"]
    assert [path.name for path in manifest.parent.iterdir()] == ["manifest"]
    assert not destination.database.parent.exists()


def test_a_writer_that_dies_is_told(instance: Instance) -> None:
    from ops.demo_writer import writer

    with writer(instance, rate=10) as busy:
        busy.kill()
        with pytest.raises(OpsError, match="did not say what it did"):
            busy.stop()


def test_a_reader_of_progress_that_goes_away_stops_nothing() -> None:
    from ops.cli.progress import show_progress
    from ops.cli.terminal import _Console

    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", buffering=1) as stream:
        console = _Console(file=stream)
        with show_progress(console) as report:
            report(Progress(step="one"))
            report(Progress(step="two"))
        assert console.quiet
        with contextlib.suppress(BrokenPipeError):
            stream.close()


def test_a_name_that_is_no_text_is_damage(tmp_path: Path) -> None:
    from ops.sqlite.content import list_tables, named_files

    path = tmp_path / "db"
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE TABLE t (file TEXT)")
        made.execute("PRAGMA writable_schema = 1")
        made.execute("UPDATE sqlite_schema SET name = x'ff01'")
        made.commit()
    with closing(sqlite3.connect(path)) as connection:
        with pytest.raises(sqlite3.DatabaseError):
            list_tables(connection)
        with pytest.raises(sqlite3.DatabaseError, match="no text"):
            list(named_files(connection, "a\udcff", "file", ""))


def test_a_journal_beside_a_wal_header_is_recovered_apart(
    instance: Instance, destination: Instance
) -> None:
    journal = instance.database.with_name(instance.database.name + "-journal")
    journal.write_bytes(b"\0" * 512)
    before = footprint(instance.database.parent, ctime=False)
    outcome = clone(instance, destination)
    assert outcome.capture.way == "recovered in a private copy"
    assert footprint(instance.database.parent, ctime=False) == before


def test_a_file_is_no_directory() -> None:
    from ops.errors import UsageError
    from ops.settings import required_file

    with pytest.raises(UsageError, match="names a directory"):
        required_file("somewhere/", "--dest-db")


def test_names_in_a_schema_are_text() -> None:
    from ops.sqlite.content import _names

    assert _names([("a",), ("b",)]) == ("a", "b")
    with pytest.raises(sqlite3.DatabaseError, match="no text"):
        _names([("a",), (b"b",)])


def test_an_operational_error_says_nothing_of_damage(tmp_path: Path) -> None:
    from ops.errors import DamagedError
    from ops.sqlite.connection import sqlite_failure

    with pytest.raises(sqlite3.OperationalError) as caught:
        sqlite3.connect(tmp_path / "no" / "db").close()
    assert not isinstance(sqlite_failure(tmp_path, caught.value), DamagedError)


def test_without_a_profile_nothing_is_said_of_rows(instance: Instance) -> None:
    from ops.cli.render import _matching_words
    from ops.verify import VerifyRequest

    request = VerifyRequest(instance=instance, profile=load_profile("none"))
    found = check(instance, profile="none")
    assert _matching_words(request, found.counts).startswith("rows and files not compared")
