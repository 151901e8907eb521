"""Whatever a power cut leaves of a swap, the next command makes the old pair or the new one of it.

The real protocol is recorded once; a model enumerates what each file system may have lost of it,
each state is made for real, and the real recovery runs on it, and crashes as well. Then each step
is left out: the test must see it.
"""

import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ops.errors import DestinationError, OpsError
from ops.interrupts import held_signals
from ops.journal import JOURNAL, POINTER, decode_swap
from ops.model import Instance
from ops.publish import make_ready, publish
from ops.recover import recover
from ops.spaces import space_beside
from ops.workspace import workspace
from tests.faults import FULL
from tests.faults.crashes import (
    LOST,
    NoSync,
    Op,
    Recorder,
    State,
    crash_states,
    is_possible,
    without,
)
from tests.pipeline import CLOCK, quiet

OLD, NEW = "old", "new"


@dataclass(frozen=True)
class Layout:
    """Where the parts go, each on the file system that its first component names."""

    database: str = "a/db"
    attachments: str = "a/tree"
    manifest: str = ""
    replaces: bool = True
    sidecars: bool = False
    merges: bool = False
    fails: bool = False

    @property
    def end(self) -> str:
        """What stands there once it is over."""
        return OLD if self.fails else NEW

    @property
    def places(self) -> list[str]:
        """All places."""
        return [self.database, self.attachments, *filter(None, [self.manifest])]


LAYOUTS = {
    "one file system": Layout(),
    "two file systems": Layout(attachments="b/tree"),
    "nothing there": Layout(attachments="b/tree", replaces=False),
    "with a manifest": Layout(attachments="b/tree", manifest="c/manifest"),
    "stale sidecars": Layout(attachments="b/tree", sidecars=True),
    "a merged WAL": Layout(attachments="b/tree", merges=True),
    "an error": Layout(attachments="b/tree", fails=True),
}


class Failing(Recorder):
    """Fails once to put the attachments in place."""

    failed = False

    def rename(self, source: Path, target: Path, *, over: bool = False) -> None:
        if source.name == "new" and target.name == "tree" and not self.failed:
            self.failed = True
            raise DestinationError("the disk is sick")
        super().rename(source, target, over=over)


@dataclass
class World:
    """A directory in which a state of the model is made real, and read."""

    root: Path
    layout: Layout
    contents: dict[str, bytes] = field(default_factory=dict)

    @property
    def places(self) -> list[Path]:
        """All places."""
        return [self.root / place for place in self.layout.places]

    def make(self, state: State) -> None:
        """Make a state real; the journal tells the inodes that its parts have here."""
        for place in self.places:
            place.parent.mkdir(exist_ok=True)
        made: dict[str, Path] = {}
        for name in sorted(state.names):  # a directory before what is in it
            token, path = state.names[name], self.root / name
            if token and token in made and made[token].is_file():
                path.hardlink_to(made[token])
                continue
            self._make(path, token)
            made[token] = path
        inodes = {
            space_beside(place): made[f"{NEW}:{name}"].lstat().st_ino
            for place, name in zip(self.places, self.layout.places, strict=True)
            if f"{NEW}:{name}" in made
        }
        for place in self.places:
            journal = space_beside(place) / JOURNAL
            if journal.exists() and journal.stat().st_size:
                _patch_inodes(journal, self.root, inodes)
            pointer = space_beside(place) / POINTER
            if pointer.exists() and pointer.stat().st_size:
                fields = json.loads(pointer.read_bytes())
                fields["parent_inode"] = Path(fields["space"]).parent.stat().st_ino
                pointer.write_text(json.dumps(fields))

    def _make(self, path: Path, token: str) -> None:
        if not token:
            path.mkdir(mode=0o700)
        elif token.endswith(self.layout.attachments):
            path.mkdir()
            (path / "file").write_text(token.partition(":")[0])
        elif token == LOST:
            path.write_bytes(b"")
        else:
            content = self.contents.get(token, token.partition(":")[0].encode())
            path.write_bytes(_moved(content, self.root))

    def generation(self) -> str:
        """Read the pair: old, new, or what it is a mixture of."""
        seen = [self._read(place) for place in self.places]
        sidecar = self.root / f"{self.layout.database}-wal"
        if sidecar.exists() and seen[0] == NEW:
            seen.append("a stale WAL beside the new database")
        return seen[0] if len(set(seen)) == 1 else " / ".join(seen)

    def _read(self, place: Path) -> str:
        file = place / "file" if place == self.root / self.layout.attachments else place
        if not os.path.lexists(file):
            return OLD if not self.layout.replaces and not os.path.lexists(place) else "missing"
        return file.read_text()

    def left(self) -> list[str]:
        """List what private things remain."""
        return [str(path) for path in self.root.glob("*/.ciso-ops-*")]


MADE_UP_ROOT = b"/made/up/root"
"""Stands for the root in contents that were recorded in another place."""


def _moved(content: bytes, root: Path) -> bytes:
    return content.replace(MADE_UP_ROOT, bytes(root))


def _patch_inodes(journal: Path, root: Path, inodes: dict[Path, int]) -> None:
    swap = decode_swap(journal.read_bytes())
    document = json.loads(swap.encode())
    for part, fields in zip(swap.parts, document["parts"], strict=True):
        fields["inode"] = inodes.get(part.space, 0)
    assert all(part.place.is_relative_to(root) for part in swap.parts)
    journal.write_text(json.dumps(document))


@contextmanager
def world(layout: Layout, contents: dict[str, bytes] | None = None) -> Iterator[World]:
    """Make an empty world, where possible in memory."""
    fast = Path("/dev/shm")  # noqa: S108 - a directory of our own in it
    parent = fast if os.access(fast, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent) as name:
        yield World(Path(name).resolve(), layout, contents or {})


def begin_state(layout: Layout) -> State:
    """Return what stands there before."""
    state = State()
    if layout.replaces:
        state.names = {place: f"{OLD}:{place}" for place in layout.places}
    if layout.sidecars or layout.merges:
        state.names[f"{layout.database}-wal"] = "stale:wal"
    state.durable = set(state.names.values())
    return state


@contextmanager
def expected_failure(layout: Layout) -> Iterator[None]:
    """Expect the swap to fail where the layout says so."""
    if layout.fails:
        with pytest.raises(DestinationError, match="the disk is sick"):
            yield
    else:
        yield


def record(layout: Layout) -> tuple[list[Op], dict[str, bytes]]:
    """Run the real protocol once and return its steps, with the preparation and the clearing."""
    with world(layout) as here:
        here.make(begin_state(layout))
        wal = f"{layout.database}-wal"
        if layout.merges:  # SQLite would remove it: this database is none
            (here.root / wal).unlink()
        disk = Failing(here.root) if layout.fails else Recorder(here.root)
        destination = Instance(
            database=here.root / layout.database, attachments=here.root / layout.attachments
        )
        manifest = here.root / layout.manifest if layout.manifest else None
        with workspace(destination, manifest) as space:
            for place, name in zip(here.places, layout.places, strict=True):
                new = space_beside(place) / "new"
                if place == destination.attachments:
                    (new / "file").write_text(NEW)
                else:
                    new.write_text(NEW)
                disk.ops += [
                    Op("mkdir", str(space_beside(place).relative_to(here.root))),
                    Op("create", str(new.relative_to(here.root)), token=f"{NEW}:{name}"),
                ]
            # In the model each of these is a file system.
            for claim in {claim.place.parent: claim for claim in space.claims}.values():
                disk.sync_file_system(claim.space, claim.descriptor)
            disk.ops += [Op("unlink", wal)] if layout.merges else []
            make_ready(destination, wait_seconds=0, clock=CLOCK, progress=quiet, disk=disk)
            with held_signals(), expected_failure(layout):
                publish(space.swap(), disk)
            clearing = [
                str(path.relative_to(here.root))
                for place in here.places
                for path in sorted(space_beside(place).iterdir())
                if path.name != "scratch"
            ]
        assert here.generation() == layout.end
        assert here.left() == []
        spaces = [str(space_beside(place).relative_to(here.root)) for place in here.places]
        ops = [*disk.ops, *(Op("unlink", path) for path in [*clearing, *reversed(spaces)])]
        root = bytes(here.root)
        return ops, {
            token: content.replace(root, MADE_UP_ROOT) for token, content in disk.contents.items()
        }


@dataclass
class Verdict:
    """What was seen over many states."""

    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


def judge(
    layout: Layout,
    ops: list[Op],
    contents: dict[str, bytes],
    *,
    ordered: bool,
    deep: bool,
    first_only: bool = False,
) -> Verdict:
    """Crash at every moment, recover from every side, and say what is broken."""
    verdict = Verdict()
    published = _end_of_publishing(ops)
    for done, state in crash_states(begin_state(layout), ops, ordered=ordered):
        for said in _judge_state(layout, state, contents, verdict, deep=deep):
            verdict.broken.append(f"after {done} of {len(ops)} steps: {said}")
        if done >= published:
            with world(layout, contents) as here:
                here.make(state)
                if here.generation() != layout.end:
                    verdict.broken.append(f"not durable after {done} steps: {here.generation()}")
        if first_only and verdict.broken:
            break
    return verdict


def _end_of_publishing(ops: list[Op]) -> int:
    """Return how many steps have been made when the swap is over: the journal is removed."""
    ends = (
        number + 2
        for number, op in enumerate(ops)
        if op.what == "unlink" and op.path.endswith(f"/{JOURNAL}")
    )
    return next(ends, len(ops))


def _judge_state(
    layout: Layout,
    state: State,
    contents: dict[str, bytes],
    verdict: Verdict,
    *,
    deep: bool,
) -> Iterator[str]:
    sides = [[place] for place in range(len(layout.places))]
    sides.append(list(range(len(layout.places))))
    for side in sides:
        with world(layout, contents) as here:
            here.make(state)
            before = here.generation()
            disk = Recorder(here.root)
            try:
                recover([here.places[index] for index in side], disk)
                between = here.generation()
                recover(here.places, NoSync())
            except OpsError as error:
                yield f"{before}: recovery from {side}: {error.message}"
                continue
            after = here.generation()
            verdict.counts[f"{before if before in {OLD, NEW} else 'half'} -> {after}"] += 1
            if after not in {OLD, NEW} or between != after:
                yield f"{before} became {between}, then {after}"
            if here.left():
                yield f"{before}: left {here.left()}"
            recovery, more = list(disk.ops), dict(disk.contents)
        if deep and recovery and not more:
            yield from _judge_recovery(layout, state, contents, recovery, verdict)


def _judge_recovery(
    layout: Layout,
    state: State,
    contents: dict[str, bytes],
    recovery: list[Op],
    verdict: Verdict,
) -> Iterator[str]:
    """Crash during the recovery as well."""
    durable = state.copy()
    durable.durable |= set(state.names.values())
    for done, again in crash_states(durable, recovery, ordered=False):
        for said in _judge_state(layout, again, contents, verdict, deep=False):
            yield f"crashed again after {done} steps of recovery: {said}"


QUICK = ["two file systems", "a merged WAL", "an error"]
EACH_LAYOUT = pytest.mark.parametrize("name", LAYOUTS if FULL else QUICK)


@EACH_LAYOUT
@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "any order"])
def test_every_crash_ends_in_the_old_pair_or_the_new_one(
    name: str, *, ordered: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = LAYOUTS[name]
    ops, contents = record(layout)
    verdict = judge(layout, ops, contents, ordered=ordered, deep=True)
    assert verdict.broken == []
    with capsys.disabled():
        order = "ordered" if ordered else "any order"
        sys.stdout.write(f"\n{name}, {order}: {dict(verdict.counts)}\n")
    assert verdict.counts["old -> old"]
    assert verdict.counts["half -> new"]
    assert verdict.counts["half -> old"] == 0


def unseen_without(layout: Layout, *, ordered: bool) -> set[str]:
    """Leave out each step in turn and list those that no crash tells of."""
    ops, contents = record(layout)
    unseen, tried = set(), 0
    for index, op in enumerate(ops[: _end_of_publishing(ops)]):
        mutant = without(ops, index)
        if not is_possible(begin_state(layout), mutant):
            continue  # it cannot even be made without
        tried += 1
        found = judge(layout, mutant, contents, ordered=ordered, deep=False, first_only=True)
        if not found.broken:
            parts = [part.partition("/.ciso-ops-") for part in (op.path, op.target) if part]
            names = (f"{top}/{'space/' * bool(below)}{below[17:]}" for top, _, below in parts)
            unseen.add(f"{ops[:index].count(op) + 1}. {' '.join([op.what, *names])}")
    assert tried > len(unseen), "most steps can be left out, and are missed"
    return unseen


UNSEEN = {
    # Keeps the old database for an error, which the layout "an error" sees; a crash needs none.
    "a merged WAL": {
        "1. link a/db/ a/space/old",
        # A journal that stays is found again when all is in place, which changes nothing; after
        # an error it would be another matter, and is seen.
        "1. unlink a/space/journal",
        "3. sync a/space/",
    },
    # Nothing was merged here: "a merged WAL" sees it.
    "an error": {"1. sync a/"},
}


@pytest.mark.parametrize("name", UNSEEN)
def test_each_step_that_is_left_out_is_seen(name: str) -> None:
    assert unseen_without(LAYOUTS[name], ordered=False) == UNSEEN[name]
