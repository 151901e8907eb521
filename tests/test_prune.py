"""Prune: what goes, what stays whatever the rules say, and what a crash leaves."""

import os
import random
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import BusyError, DestinationError, SourceError, UsageError
from ops.keeping import COUNTS, read_percent, read_policy, read_shrinkage
from ops.model import Instance
from ops.prune import Pruned, plan_prune, plan_removal, prune
from ops.retention import (
    MUCH_SMALLER,
    NEWEST,
    NO_POLICY,
    NOT_VERIFIED,
    STOPPED,
    UNLIMITED,
    Dated,
    Policy,
    Within,
)
from ops.snapshot import (
    ACCEPTED,
    DAMAGED,
    REPLACED,
    SAMPLED,
    VERIFIED,
    Event,
    Shrinkage,
    encode_summary,
)
from ops.store import LATEST, append_event, find_snapshot, list_snapshots, make_store
from ops.storing import locked_store, point_latest
from tests.mounting import immutable
from tests.pipeline import CLOCK, quiet
from tests.test_backup import require_valid
from tests.test_signals import start_command, stop
from tests.test_store import (
    FIRST,
    OLD,
    SECOND,
    THIRD,
    at,
    back_up,
    check_up,
    litter_in,
    names_in,
    place,
    put_back,
    reader_of,
    summary_named,
)

NOW = datetime(2026, 3, 10, tzinfo=UTC)
LAST = Policy(last=1, zone=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Make a store without snapshots."""
    return make_store(tmp_path / "store")


def prune_now(store: Path, policy: Policy = LAST, *, now: datetime = NOW) -> Pruned:
    """Prune a store as the task does."""
    with locked_store(store):
        listed = list_snapshots(store)
        return prune(store, listed, plan_prune(listed, policy, now=now), progress=quiet)


# Deciding


def test_the_newest_comes_first_and_each_has_its_reasons(store: Path) -> None:
    for name in (FIRST, SECOND, THIRD):
        place(store, name)
    decisions = plan_prune(list_snapshots(store), Policy(last=2, zone=UTC), now=NOW)
    assert [(one.snapshot.name, one.keep, one.reasons) for one in decisions] == [
        (THIRD, True, (NEWEST, "last snapshot")),
        (SECOND, True, ("last snapshot",)),
        (FIRST, False, ()),
    ]
    assert names_in(store) == [FIRST, SECOND, THIRD], "nothing is changed"


def test_without_rules_all_stays(store: Path) -> None:
    place(store, FIRST)
    place(store, SECOND)
    decisions = plan_prune(list_snapshots(store), Policy(zone=UTC), now=NOW)
    assert all(one.keep and one.reasons[0] == NO_POLICY for one in decisions)


def test_what_is_not_sound_is_not_counted_and_stays(store: Path) -> None:
    place(store, FIRST)
    place(store, SECOND, DAMAGED)
    place(store, THIRD)
    (store / THIRD / "snapshot.json").write_text("{}")
    pruned = prune_now(store)
    assert pruned.removed == ()
    reasons = {one.snapshot.name: one.reasons for one in pruned.decisions}
    assert reasons[SECOND] == reasons[THIRD] == (NOT_VERIFIED,)
    assert NEWEST in reasons[FIRST]


def test_what_a_restore_replaced_counts_for_nothing_and_stays(store: Path) -> None:
    place(store, FIRST)
    place(store, SECOND)
    place(store, THIRD, purpose=REPLACED)
    pruned = prune_now(store)
    assert pruned.removed == (FIRST,)
    assert names_in(store) == [SECOND, THIRD]
    (aside,) = (one for one in pruned.decisions if one.snapshot.name == THIRD)
    assert aside.reasons == ("a restore replaced it: remove it by name",)


def test_a_much_smaller_one_stops_the_pruning_until_it_is_accepted(store: Path) -> None:
    place(store, FIRST)
    place(store, SECOND)
    (store / THIRD).mkdir()
    document = encode_summary(summary_named(THIRD, flagged="0 files, 12 before"))
    (store / THIRD / "snapshot.json").write_bytes(document)
    pruned = prune_now(store)
    assert pruned.removed == ()
    reasons = {one.snapshot.name: one.reasons for one in pruned.decisions}
    assert MUCH_SMALLER in reasons[THIRD]
    assert STOPPED in reasons[FIRST]
    append_event(find_snapshot(store, THIRD), Event(what=ACCEPTED, instant=NOW, details={}))
    assert prune_now(store).removed == (FIRST, SECOND)


def test_a_snapshot_to_come_is_reckoned_with(store: Path) -> None:
    place(store, FIRST)
    place(store, SECOND)
    coming = Dated(name=THIRD, instant=NOW, verified=True)
    decisions = plan_prune(list_snapshots(store), LAST, now=NOW, coming=(coming,))
    assert [(one.snapshot.name, one.keep) for one in decisions] == [
        (THIRD, True),
        (SECOND, False),
        (FIRST, False),
    ]


@given(
    events=st.lists(
        st.sampled_from([(), (DAMAGED,), (DAMAGED, SAMPLED), (DAMAGED, VERIFIED)]), max_size=6
    ),
    last=st.integers(0, 3),
    data=st.data(),
)
def test_the_newest_sound_one_never_goes(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[tuple[str, ...]],
    last: int,
    data: st.DataObject,
) -> None:
    store = make_store(tmp_path_factory.mktemp("store"))
    for day, told in enumerate(events, 1):
        purpose = data.draw(st.sampled_from(["daily", "daily", REPLACED]))
        place(store, f"2026-03-{day:02}T010000Z", *told, purpose=purpose)
    before = list_snapshots(store)
    pruned = prune_now(store, Policy(last=last, zone=UTC))
    after = {one.name for one in list_snapshots(store)}
    sound = [one.name for one in before if one.verified and not one.replaced]
    assert set(sound[-1:]) <= after
    assert {one.name for one in before if one.replaced or not one.verified} <= after
    assert set(pruned.removed) == {one.name for one in before} - after
    assert len(after & set(sound)) == (min(last, len(sound)) or (len(sound) if not last else 0))
    assert litter_in(store) == []


# Doing


def test_the_oldest_goes_first_and_the_others_still_restore(
    instance: Instance, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    days = [NOW - timedelta(days=day) for day in range(4, 0, -1)]
    names = [back_up(instance, store, clock=at(day)).name for day in days]
    pruned = prune_now(store.resolve(), Policy(daily=2, zone=UTC))
    assert pruned.removed == tuple(names[:2])
    assert pruned.in_use == ()
    assert names_in(store) == names[2:]
    assert (store / LATEST).readlink() == Path(names[-1])
    for name in names[2:]:
        require_valid(store / name)
        assert check_up(store, name).findings == ()


def test_a_snapshot_that_somebody_reads_stays_for_now(store: Path) -> None:
    for name in (FIRST, SECOND, THIRD):
        place(store, name)
    with reader_of(store / FIRST):
        pruned = prune_now(store)
        assert (pruned.removed, pruned.in_use) == ((SECOND,), (FIRST,))
        assert names_in(store) == [FIRST, THIRD]
    assert prune_now(store).removed == (FIRST,)


def test_nothing_is_pruned_while_another_run_works(store: Path) -> None:
    place(store, FIRST)
    place(store, SECOND)
    with reader_of(store, "LOCK_EX"), pytest.raises(BusyError):
        prune_now(store)
    assert names_in(store) == [FIRST, SECOND]


def test_a_removal_that_fails_keeps_the_others_whole(store: Path, tmp_path: Path) -> None:
    for name in (FIRST, SECOND, THIRD):
        place(store, name)
    (store / SECOND / "file").write_text("x")
    (tmp_path / "second name").hardlink_to(store / SECOND / "file")
    with (
        immutable(tmp_path / "second name"),
        pytest.raises(DestinationError, match=r"cannot remove .*file: Operation not permitted"),
    ):
        prune_now(store)
    assert names_in(store) == [THIRD]
    assert litter_in(store) == [f"{OLD}{SECOND}"]
    assert prune_now(store).removed == ()
    assert litter_in(store) == []


def test_one_is_removed_by_name(store: Path) -> None:
    for name in (FIRST, SECOND, THIRD):
        place(store, name)
    listed = list_snapshots(store)
    decisions = plan_removal(listed, THIRD)
    assert [(one.snapshot.name, one.keep) for one in decisions] == [
        (THIRD, False),
        (SECOND, True),
        (FIRST, True),
    ]
    point_latest(store)
    with locked_store(store):
        assert prune(store, listed, decisions, progress=quiet).removed == (THIRD,)
    assert (store / LATEST).readlink() == Path(SECOND)


def test_the_last_sound_one_is_not_removed_by_name_either(store: Path) -> None:
    place(store, FIRST)
    place(store, SECOND, DAMAGED)
    place(store, THIRD, purpose=REPLACED)
    listed = list_snapshots(store)
    with pytest.raises(UsageError, match=f"this is the only verified snapshot, and stays: {FIRST}"):
        plan_removal(listed, FIRST)
    for name in (SECOND, THIRD):
        assert [one.snapshot.name for one in plan_removal(listed, name) if not one.keep] == [name]
    with pytest.raises(SourceError, match=r"the store has no snapshot a\\nb"):
        plan_removal(listed, "a\nb")


def test_a_damaged_one_is_removed_by_name_also_as_the_last(store: Path) -> None:
    place(store, FIRST, DAMAGED)
    listed = list_snapshots(store)
    with locked_store(store):
        prune(store, listed, plan_removal(listed, FIRST), progress=quiet)
    assert names_in(store) == []
    assert litter_in(store) == []


def test_a_kill_at_any_moment_leaves_whole_snapshots_only(
    instance: Instance, tmp_path: Path
) -> None:
    """Each is gone by one rename before anything of it is deleted."""
    source = random.Random(3)  # noqa: S311 - moments
    store = tmp_path / "store"
    for number in range(200):
        (instance.attachments / f"more_{number}").write_bytes(b"%d" % number)
    last = back_up(instance, store).name
    for _ in range(4):
        for _ in range(6):
            last = back_up(instance, store).name
        process = start_command("prune", "--store", store, "--keep-last", "1")
        try:
            kill_when_pruning(process, store, source.uniform(0, 0.01))
        finally:
            stop(process)
        assert last in names_in(store)
        for name in names_in(store):
            assert check_up(store, name).findings == check_up(store, last).findings
        assert (store / LATEST).readlink() == Path(last)
    prune_now(store.resolve(), now=CLOCK.now())
    assert names_in(store) == [last]
    assert litter_in(store) == []
    put_back(
        store, last, Instance(database=tmp_path / "c" / "db", attachments=tmp_path / "c" / "a")
    )


def kill_when_pruning(process: subprocess.Popen[str], store: Path, seconds: float) -> None:
    """Kill a process a moment after the first snapshot has gone, or when it ends before."""
    before = len(names_in(store))
    while process.poll() is None and len(names_in(store)) == before:
        pass
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=60)


# What the operator wants kept


def test_flags_set_the_configuration_aside_as_a_whole() -> None:
    config = {"keep_last": 3, "keep_daily": "14", "keep_within": "2y", "time_zone": "Europe/Berlin"}
    configured = read_policy(config, {})
    assert (configured.last, configured.daily) == (3, 14)
    assert configured.within == Within(years=2)
    assert str(configured.zone) == "Europe/Berlin"
    given = read_policy(config, {"weekly": "5"})
    assert (given.last, given.daily, given.weekly, given.within) == (0, 0, 5, None)
    assert str(given.zone) == "Europe/Berlin", "the zone is no rule"
    zoned = read_policy(config, {"time_zone": "UTC", "last": ""})
    assert (zoned.last, zoned.daily, zoned.zone) == (3, 14, UTC)


def test_nothing_said_is_no_policy() -> None:
    assert read_policy({}, {}).empty
    assert read_policy(dict.fromkeys(["keep_last", "keep_within", "time_zone"]), {}).empty
    assert read_policy({}, {"last": "0", "within": "0d"}).empty


@pytest.mark.parametrize("name", COUNTS)
def test_each_count_is_read(name: str) -> None:
    assert getattr(read_policy({}, {name: "7"}), name) == 7
    assert getattr(read_policy({f"keep_{name}": 7}, {}), name) == 7
    assert getattr(read_policy({}, {name: "unlimited"}), name) == UNLIMITED


@pytest.mark.parametrize(
    "value", ["x", "1.5", "-1", "+1", " 1", "\u0661", "²", "100001", "9" * 5000]
)
def test_a_bad_count_is_told_with_its_origin(value: str) -> None:
    said = 'must be a number of snapshots or "unlimited", not'
    with pytest.raises(UsageError, match=f"--keep-daily {said}"):
        read_policy({}, {"daily": value})
    with pytest.raises(UsageError, match=rf"ops\.keep_daily {said}"):
        read_policy({"keep_daily": value}, {})


@pytest.mark.parametrize("value", ["x", "7", "1d2d", "-1d", "1w", "d", "1y 2m"])
def test_a_bad_duration_is_told_with_its_origin(value: str) -> None:
    with pytest.raises(UsageError, match=r"--keep-within: .* is no duration") as caught:
        read_policy({}, {"within": value})
    assert caught.value.hint
    with pytest.raises(UsageError, match=r"ops\.keep_within: "):
        read_policy({"keep_within": value}, {})


@pytest.mark.parametrize(
    "zone",
    ["Mars/Base", "../../etc/passwd", "/etc/localtime", "Europe", "a\0b", "a" * 5000, "\udcff"],
)
def test_a_zone_that_is_none_is_told(zone: str) -> None:
    with pytest.raises(UsageError, match="no such time zone"):
        read_policy({}, {"last": "1", "time_zone": zone})


@pytest.mark.parametrize("value", ["0", "101", "-1", "1.5", "", "x", "\u0661\u0660", "9" * 5000])
def test_a_bad_percentage_is_told(value: str) -> None:
    with pytest.raises(UsageError, match="--sample must be a whole number from 1 to 100"):
        read_percent(value, "--sample")
    assert read_percent("100", "--sample") == 100


def test_what_counts_as_much_smaller_is_read() -> None:
    assert read_shrinkage({}) == Shrinkage(files=50, rows=50)
    assert read_shrinkage({"shrink_files": "", "shrink_rows": None}) == Shrinkage()
    assert read_shrinkage({"shrink_files": "10", "shrink_rows": 2.5}) == Shrinkage(
        files=10, rows=2.5
    )
    for value in ("x", (), "1%"):
        with pytest.raises(UsageError, match=r"ops\.shrink_rows must be a percentage, not"):
            read_shrinkage({"shrink_rows": value})
    for value in ("-1", "101", "nan", "inf"):
        with pytest.raises(UsageError, match=r"ops\.shrink_files must lie between 0 and 100"):
            read_shrinkage({"shrink_files": value})
