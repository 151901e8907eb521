"""The age of the newest snapshot that can be trusted, for any monitor."""

import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.age import look_at_age, read_duration
from ops.errors import UsageError
from ops.model import Instance
from ops.snapshot import DAMAGED, VERIFIED, Event
from ops.store import append_event, find_snapshot
from ops.storing import locked_store
from tests.command import Ran, run_here
from tests.filesystem import footprint
from tests.monitors import listening
from tests.test_backup import NIGHT
from tests.test_json import document_of
from tests.test_store import at, back_up, names_in

Run = Callable[..., Ran]
DAY = timedelta(hours=26)


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""
    return lambda *arguments: run_here(capsys, *arguments)


@pytest.fixture
def store(instance: Instance, tmp_path: Path) -> Path:
    """Make a store with snapshots of two nights."""
    for day in range(2):
        back_up(instance, tmp_path / "store", clock=at(NIGHT + timedelta(days=day)))
    return (tmp_path / "store").resolve()


def say(store: Path, name: str, what: str) -> None:
    """Write into a snapshot's history."""
    event = Event(what=what, instant=datetime.now(UTC), details={})
    append_event(find_snapshot(store, name), event)


# Durations


@given(*(st.integers(0, 9999) for _ in range(3)))
def test_durations(days: int, hours: int, minutes: int) -> None:
    text = f"{days}d{hours}h{minutes}min"
    expected = timedelta(days=days, hours=hours, minutes=minutes)
    if expected:
        assert read_duration(text, "--max") == expected
    else:
        with pytest.raises(UsageError, match="longer than no time"):
            read_duration(text, "--max")


@pytest.mark.parametrize(
    ("text", "hours"), [("26h", 26), ("2d", 48), ("90min", 1.5), ("1d12h", 36), ("07h", 7)]
)
def test_durations_as_people_write_them(text: str, hours: float) -> None:
    assert read_duration(text, "--max") == timedelta(hours=hours)


@pytest.mark.parametrize(
    "text",
    [
        *("26", "h", "26 h", "26H", "1.5h", "+1h", "1h1d", "1h1h", "90m", "1w", "1y", "26h\n"),
        *("٢٦h", "9999999d", "forever", "\u202e1h"),
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_duration(text, "--max")
    assert caught.value.message.startswith("--max must be a duration, not ")
    assert "26h, 1d12h or 90min" in caught.value.hint
    assert "\u202e" not in caught.value.message


# Ages


def test_the_newest_verified_one_counts(store: Path) -> None:
    first, last = names_in(store)
    now = NIGHT + timedelta(days=1, hours=3)
    found = look_at_age(store, DAY, now)
    assert found.snapshot is not None
    assert (found.snapshot.name, found.age, found.problem) == (last, timedelta(hours=3), "")
    say(store, last, DAMAGED)
    found = look_at_age(store, DAY, now)
    assert found.snapshot is not None
    assert (found.snapshot.name, found.unverified) == (first, 1)
    assert found.problem == f"the newest verified snapshot is too old: {first}"
    say(store, last, VERIFIED)
    assert look_at_age(store, DAY, now).problem == ""
    (store / last / "snapshot.json").unlink()
    assert look_at_age(store, DAY, now).problem
    shutil.rmtree(store / first)
    found = look_at_age(store, DAY, now)
    assert (found.snapshot, found.age, found.unverified) == (None, None, 1)
    assert found.problem == "the store has no verified snapshot"


def test_the_limit_itself_is_young_enough(store: Path) -> None:
    limit = NIGHT + timedelta(days=1) + DAY
    assert not look_at_age(store, DAY, limit).problem
    assert look_at_age(store, DAY, limit + timedelta(seconds=1)).problem


def test_one_from_the_future_is_never_young(store: Path) -> None:
    made = NIGHT + timedelta(days=1)
    found = look_at_age(store, DAY, made - timedelta(minutes=4))
    assert (found.problem, found.age) == ("", timedelta())
    found = look_at_age(store, DAY, made - timedelta(minutes=6))
    assert "is from the future" in found.problem
    assert found.age == timedelta()


# The command


def test_a_young_one(here: Run, instance: Instance, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    back_up(instance, tmp_path / "store", clock=at(now - timedelta(hours=3)))
    (name,) = names_in(tmp_path / "store")
    before = footprint(tmp_path)
    with locked_store((tmp_path / "store").resolve()):
        ran = here("check-age", "--store", tmp_path / "store", "--max", "26h")
    assert footprint(tmp_path) == before
    assert (ran.code, ran.err) == (0, "")
    assert re.fullmatch(
        rf"OK: the newest verified snapshot is {name}, 3 h 00 min old \(at most 26h\)"
        r" \| age=108\d\ds;;93600;0\n",
        ran.out,
    )
    ran = here("check-age", "--store", tmp_path / "store", "--max", "26h", "--json")
    document = document_of(ran, "check-age", ok=True)
    assert document["problem"] is None
    assert (document["snapshot"], document["max_seconds"]) == (name, 93600)
    assert 10800 <= document["age_seconds"] < 11000
    assert datetime.fromisoformat(document["captured"]) <= now - timedelta(hours=3)


def test_one_that_is_too_old(here: Run, store: Path) -> None:
    _, last = names_in(store)
    ran = here("check-age", "--store", store, "--max", "2d")
    assert ran.code == 5
    assert re.fullmatch(
        rf"CRITICAL: the newest verified snapshot is too old: {last}, .* old \(at most 2d\)"
        r" \| age=\d+s;;172800;0\n",
        ran.out,
    )
    assert ran.error_line == f"error: the newest verified snapshot is too old: {last}"
    assert ran.hint_line
    ran = here("check-age", "--store", store, "--max", "2d", "--json")
    assert ran.code == 5
    document = document_of(ran, "check-age", ok=False)
    assert document["snapshot"] == last
    assert document["problem"] == f"the newest verified snapshot is too old: {last}"


def test_a_store_without_any(here: Run, store: Path) -> None:
    for name in names_in(store):
        say(store, name, DAMAGED)
    ran = here("check-age", "--store", store, "--max", "2d")
    assert ran.code == 5
    assert ran.out == "CRITICAL: the store has no verified snapshot; 2 snapshots not verified\n"
    for name in names_in(store):
        shutil.rmtree(store / name)
    ran = here("check-age", "--store", store, "--max", "2d", "--json")
    document = document_of(ran, "check-age", ok=False)
    assert (document["snapshot"], document["age_seconds"]) == (None, None)
    assert document["unverified"] == 0


def test_what_is_no_store_is_not_an_old_one(here: Run, tmp_path: Path, store: Path) -> None:
    assert here("check-age", "--store", tmp_path / "none", "--max", "1h").code == 3
    assert here("check-age", "--store", tmp_path, "--max", "1h").code == 3
    assert here("check-age", "--max", "1h").error_line == "error: --store is required"
    assert here("check-age", "--store", store).error_line == "error: --max is required"


def test_it_can_be_watched_itself(here: Run, store: Path) -> None:
    with listening() as monitor:
        assert (
            here("check-age", "--store", store, "--max", "1h", "--ping", monitor.address).code == 5
        )
    assert monitor.paths == ["/start", "/fail"]
    assert "error: the newest verified snapshot is too old" in monitor.pings[1].body
