"""A store, driven against a model in memory: time passes, the source changes, things break."""

import hashlib
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ops.audit import daily_sample
from ops.backup import plan_backup
from ops.errors import DestinationError, OpsError, SourceError, VerificationError
from ops.model import Clock, Instance
from ops.nightly import plan_nightly, run_nightly
from ops.prune import plan_prune, plan_removal, prune
from ops.retention import Policy, Within
from ops.snapshot import REPLACED
from ops.store import LATEST, MARKER, Snapshot, list_snapshots, make_store
from ops.storing import locked_store, point_latest
from tests.filesystem import read
from tests.pipeline import quiet
from tests.test_backup import copy_at, require_whole
from tests.test_store import at, back_up, backup_request, check_up, flip, put_back

BEGINNING = datetime(2026, 3, 27, 22, tzinfo=UTC)
"""A weekend on which clocks change, close to the end of a month and of a quarter."""

names = st.sampled_from(["a", "b", "é", "100% sure", "line\nbreak", "deep/er/file", "deep/other"])
contents = st.binary(max_size=8)
steps = st.one_of(
    st.integers(1, 59).map(lambda minutes: timedelta(minutes=minutes)),
    st.integers(1, 30).map(lambda hours: timedelta(hours=hours)),
    st.integers(1, 40).map(lambda days: timedelta(days=days)),
)
policies = st.builds(
    Policy,
    last=st.integers(0, 3),
    hourly=st.integers(0, 2),
    daily=st.integers(0, 3),
    monthly=st.integers(0, 2),
    within=st.one_of(st.none(), st.just(Within(days=3))),
    zone=st.just(UTC),
)

Tree = dict[bytes, tuple[object, ...]]


@dataclass
class Known:
    """What the model knows of a snapshot: what the source was, and what was done to it since.

    `damaged` are the paths of files that are not what they were. `told` says that a check has
    found damage, and none has found it gone.
    """

    tree: Tree
    rows: list[tuple[object, ...]]
    replaced: bool = False
    damaged: set[str] = field(default_factory=set)
    told: bool = False


class StoreMachine(RuleBasedStateMachine):
    """The store on a real disk, and what it should be in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self.store = self.directory / "store"
        self.source = Instance(
            database=self.directory / "source" / "any.db",
            attachments=self.directory / "source" / "tree",
        )
        self.now = BEGINNING
        self.known: dict[str, Known] = {}

    def teardown(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.directory)

    @property
    def clock(self) -> Clock:
        """The time in the model."""
        return at(self.now)

    @initialize()
    def begin(self) -> None:
        self.source.attachments.mkdir(parents=True)
        connection = sqlite3.connect(self.source.database)
        connection.execute("CREATE TABLE t (x)")
        connection.close()
        make_store(self.store)

    # The world

    @rule(step=steps)
    def time_passes(self, step: timedelta) -> None:
        self.now += step

    @rule(name=names, content=contents)
    def a_file_is_written(self, name: str, content: bytes) -> None:
        path = self.source.attachments / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    @rule(name=names)
    def a_file_is_removed(self, name: str) -> None:
        (self.source.attachments / name).unlink(missing_ok=True)

    @rule(name=names, mode=st.sampled_from([0o600, 0o644, 0o755]))
    def a_mode_is_changed(self, name: str, mode: int) -> None:
        path = self.source.attachments / name
        if path.exists():
            path.chmod(mode)

    @rule(value=st.integers())
    def a_row_is_written(self, value: int) -> None:
        connection = sqlite3.connect(self.source.database)
        connection.execute("INSERT INTO t VALUES (?)", (str(value),))
        connection.commit()
        connection.close()

    # The store

    @rule(independent=st.booleans(), replaced=st.sampled_from([False, False, False, True]))
    def back_up(self, *, independent: bool, replaced: bool) -> None:
        snapshot = back_up(
            self.source,
            self.store,
            profile="none",
            purpose=REPLACED if replaced else "daily",
            independent=independent,
            clock=self.clock,
        )
        self.enter(snapshot, replaced=replaced)

    @rule(policy=policies)
    def run_a_night(self, policy: Policy) -> None:
        request = backup_request(self.source, self.store, profile="none")
        plan = plan_backup(request, progress=quiet)
        planned = plan_nightly(plan, policy, clock=self.clock)
        night = run_nightly(plan, policy, clock=self.clock, progress=quiet)
        self.enter(night.outcome.snapshot, replaced=False)
        if night.pruned is None:
            assert policy.empty
            return
        if not night.outcome.snapshot.flagged:
            assert [one.keep for one in planned] == [one.keep for one in night.pruned.decisions]
        self.forget(night.pruned.removed)

    @rule(policy=policies)
    def prune(self, policy: Policy) -> None:
        listed = list_snapshots(self.store)
        decisions = plan_prune(listed, policy, now=self.now)
        with locked_store(self.store):
            pruned = prune(self.store, listed, decisions, progress=quiet)
        assert pruned.removed == tuple(
            one.snapshot.name for one in reversed(decisions) if not one.keep
        )
        self.forget(pruned.removed)

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def remove_by_name(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.known)))
        listed = list_snapshots(self.store)
        if self.sound() == [name]:
            try:
                plan_removal(listed, name)
            except OpsError as error:
                assert "the only verified snapshot" in error.message  # noqa: PT017 - and goes on
                return
            raise AssertionError(name)
        with locked_store(self.store):
            prune(self.store, listed, plan_removal(listed, name), progress=quiet)
        del self.known[name]

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def a_file_rots(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.known)))
        tree = self.store / name / "data" / "attachments"
        files = sorted(path for path in tree.rglob("*") if path.is_file() and path.stat().st_size)
        if not files:
            return
        path = data.draw(st.sampled_from(files))
        inode = path.stat().st_ino
        flip(path)
        for other, known in self.known.items():
            same = self.store / other / path.relative_to(self.store / name)
            if same.exists() and same.stat().st_ino == inode:
                known.damaged ^= {str(same.relative_to(self.store / other))}

    @precondition(lambda self: self.known)
    @rule(data=st.data(), percent=st.sampled_from([10, 50, 100, 100]))
    def verify(self, data: st.DataObject, percent: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.known)))
        known = self.known[name]
        sample = daily_sample(percent, self.now.toordinal())
        audit = check_up(self.store, name, profile="none", sample=sample, clock=self.clock)
        point_latest(self.store)
        if percent == 100:
            assert audit.sound is not bool(known.damaged)
            known.told = bool(known.damaged)
        elif not audit.sound:
            assert known.damaged
            known.told = True
        for other, paths in audit.sharing:
            assert paths
            assert self.known[other].damaged
            self.known[other].told = True

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([LATEST, *sorted(self.known)]))
        with tempfile.TemporaryDirectory(dir=self.directory) as scratch:
            copy = copy_at(Path(scratch) / "copy")
            sound = self.sound()
            meant = name if name != LATEST else sound[-1] if sound else None
            try:
                put_back(self.store, name, copy, profile="none")
            except (SourceError, VerificationError):
                assert meant is None or self.known[meant].damaged
                assert not copy.database.exists()
                return
            except DestinationError as error:
                raise AssertionError(error.message) from error
            assert meant is not None
            assert not self.known[meant].damaged
            assert read(copy.attachments) == self.known[meant].tree
            assert rows_of(copy.database) == self.known[meant].rows

    @rule()
    def a_run_is_killed(self) -> None:
        """What it leaves is in the way of nobody."""
        for name in (".ciso-ops-new", ".ciso-ops-removed-2020-01-01T000000Z"):
            (self.store / name / "data").mkdir(parents=True, exist_ok=True)

    # What holds at any time

    @invariant()
    def the_store_has_what_the_model_has(self) -> None:
        if not self.store.exists():
            return
        listed = list_snapshots(self.store)
        assert [one.name for one in listed] == sorted(self.known)
        for one in listed:
            assert one.verified is not self.known[one.name].told
            assert one.replaced is self.known[one.name].replaced
        left = {path.name for path in self.store.iterdir()} - set(self.known)
        assert {name for name in left if not name.startswith(".ciso-ops-")} <= {MARKER, LATEST}

    @invariant()
    def latest_is_the_newest_sound_one_or_is_not_there(self) -> None:
        link = self.store / LATEST
        sound = self.sound()
        if sound:
            assert link.readlink() == Path(sound[-1])
        else:
            assert not link.is_symlink()

    def sound(self) -> list[str]:
        """Name those that count, the oldest first."""
        return sorted(name for name, one in self.known.items() if not one.told and not one.replaced)

    def enter(self, snapshot: Snapshot, *, replaced: bool) -> None:
        """Remember what the source is at the moment that a snapshot shows."""
        assert snapshot.summary is not None
        assert snapshot.summary.captured == self.now
        # What had rotten unseen is shared as it is; whatever was copied is right.
        rotten = spoilt_in(snapshot.path)
        base = self.known.get(snapshot.summary.based_on)
        assert rotten <= (base.damaged if base else set())
        self.known[snapshot.name] = Known(
            tree=read(self.source.attachments),
            rows=rows_of(self.source.database),
            replaced=replaced,
            damaged=rotten,
        )
        if not rotten:
            require_whole(snapshot.path)
        self.now += timedelta(seconds=1)

    def forget(self, removed: tuple[str, ...]) -> None:
        """Take from the model what was pruned: never a damaged one, never what was replaced."""
        sound = self.sound()
        for name in removed:
            assert not self.known[name].replaced
            assert not self.known[name].told
            del self.known[name]
        assert sound[-1:] == self.sound()[-1:], "the newest sound one stays"


def spoilt_in(snapshot: Path) -> set[str]:
    """Compare the files of a snapshot with its manifest; name those that are something else."""
    found = set()
    for line in (snapshot / "manifest-sha256.txt").read_text().splitlines():
        digest, _, path = line.partition("  ")
        if hashlib.sha256((snapshot / path).read_bytes()).hexdigest() != digest:
            found.add(path)
    return found


def rows_of(database: Path) -> list[tuple[object, ...]]:
    """Read the rows of a database that nobody uses."""
    connection = sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)
    try:
        return connection.execute("SELECT x FROM t ORDER BY rowid").fetchall()
    finally:
        connection.close()


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=max(8, settings().max_examples // 3), stateful_step_count=25, deadline=None
)
