"""Retention: the laws of the policy, the days on which clocks change, and what restic does."""

import base64
import functools
import hashlib
import json
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ops.retention import (
    MUCH_SMALLER,
    NEWEST,
    NO_POLICY,
    NOT_VERIFIED,
    STOPPED,
    UNLIMITED,
    Dated,
    Decision,
    Policy,
    Within,
    decide,
    describe_policy,
    parse_within,
)

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = (
    UTC,
    BERLIN,
    ZoneInfo("America/New_York"),
    ZoneInfo("America/St_Johns"),  # until 2011 the clocks went back at 00:01, into the day before
    ZoneInfo("Australia/Lord_Howe"),  # half an hour of daylight saving
    ZoneInfo("Pacific/Apia"),  # 30 December 2011 never was
)
RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
FULL = os.environ.get("OPS_FAULTS") == "full" or os.environ.get("HYPOTHESIS_PROFILE") == "soak"

# Strategies

# Close together and far apart, around days on which clocks change, a year ends or is a leap year.
_anchors = st.sampled_from(
    [
        datetime(2011, 10, 30, tzinfo=UTC),
        datetime(2011, 11, 6, tzinfo=UTC),
        datetime(2011, 12, 30, tzinfo=UTC),
        datetime(2012, 2, 29, tzinfo=UTC),
        datetime(2012, 3, 25, tzinfo=UTC),
        datetime(2012, 3, 31, tzinfo=UTC),
        datetime(2012, 4, 1, tzinfo=UTC),
        datetime(2012, 10, 28, tzinfo=UTC),
    ]
)
_offsets = st.one_of(
    st.integers(0, 16).map(lambda quarters: timedelta(minutes=15 * quarters)),
    st.integers(-72, 72).map(lambda hours: timedelta(hours=hours)),
    st.integers(-400, 400).map(lambda days: timedelta(days=days)),
)
instants = st.builds(lambda anchor, offset: anchor + offset, _anchors, _offsets)
zones = st.sampled_from(ZONES)


def numbered(times: Iterable[datetime]) -> tuple[Dated, ...]:
    """Make verified snapshots of these instants, with names of their own."""
    return tuple(
        Dated(name=f"{number:04}", instant=time, verified=True) for number, time in enumerate(times)
    )


@st.composite
def stores(draw: st.DrawFn, *, flags: bool = True) -> tuple[Dated, ...]:
    """Snapshots in any order, some of the same instant, some not verified or flagged."""
    times = draw(st.lists(instants, max_size=25))
    return tuple(
        replace(
            snapshot,
            instant=snapshot.instant.astimezone(draw(zones)),
            verified=draw(st.sampled_from([True, True, True, False])),
            flagged=flags and draw(st.sampled_from([False, False, False, True])),
        )
        for snapshot in numbered(times)
    )


counts = st.one_of(st.integers(UNLIMITED, 4), st.integers(0, 30), st.just(0), st.just(0))
withins = st.builds(
    Within,
    years=st.integers(0, 1),
    months=st.integers(0, 14),
    days=st.integers(0, 40),
    hours=st.integers(0, 60),
)
policies = st.builds(
    Policy,
    last=counts,
    hourly=counts,
    daily=counts,
    weekly=counts,
    monthly=counts,
    yearly=counts,
    within=st.one_of(st.none(), withins),
    zone=zones,
)


def kept(decisions: Iterable[Decision]) -> list[Dated]:
    return [decision.snapshot for decision in decisions if decision.keep]


def newest_verified(store: Iterable[Dated]) -> Dated | None:
    verified = [snapshot for snapshot in store if snapshot.verified]
    return max(verified, key=lambda each: (each.instant.timestamp(), each.name), default=None)


def stopped(store: Iterable[Dated]) -> bool:
    newest = newest_verified(store)
    return newest is not None and newest.flagged


def kept_of(times: Sequence[str], **rules: Any) -> list[str]:
    """Return which of these times stay in Berlin, in the order given."""
    store = [
        Dated(name=time, instant=datetime.fromisoformat(time).astimezone(BERLIN), verified=True)
        for time in times
    ]
    stay = {snapshot.name for snapshot in kept(decide(store, Policy(zone=BERLIN, **rules)))}
    return [time for time in times if time in stay]


def reasons_of(store: Sequence[Dated], policy: Policy) -> dict[str, tuple[str, ...]]:
    return {decision.snapshot.name: decision.reasons for decision in decide(store, policy)}


# Laws


@given(stores(), policies)
def test_there_is_a_decision_for_each_newest_first(
    store: tuple[Dated, ...], policy: Policy
) -> None:
    decisions = decide(store, policy)
    decided = [decision.snapshot for decision in decisions]
    assert decided == sorted(
        store, key=lambda each: (each.instant.timestamp(), each.name), reverse=True
    )
    assert all(decision.keep == bool(decision.reasons) for decision in decisions)


@given(st.data(), stores(), policies)
def test_the_order_of_the_input_does_not_matter(
    data: st.DataObject, store: tuple[Dated, ...], policy: Policy
) -> None:
    shuffled = data.draw(st.permutations(store))
    assert decide(shuffled, policy) == decide(store, policy)


@given(st.data(), stores(), policies)
def test_it_does_not_matter_in_which_zone_an_instant_is_written(
    data: st.DataObject, store: tuple[Dated, ...], policy: Policy
) -> None:
    moved = [
        replace(each, instant=each.instant.astimezone(data.draw(zones)), flagged=each.flagged)
        for each in store
    ]
    assert reasons_of(moved, policy) == reasons_of(store, policy)


@given(stores(), policies)
def test_a_store_is_never_emptied(store: tuple[Dated, ...], policy: Policy) -> None:
    stay = kept(decide(store, policy))
    assert bool(stay) == bool(store)
    assert all(snapshot in stay for snapshot in store if not snapshot.verified)
    newest = newest_verified(store)
    assert newest is None or newest in stay


@given(stores(), policies)
def test_what_is_not_verified_does_not_count(store: tuple[Dated, ...], policy: Policy) -> None:
    decisions = decide(store, policy)
    sound = tuple(snapshot for snapshot in store if snapshot.verified)
    assert decide(sound, policy) == tuple(each for each in decisions if each.snapshot.verified)
    assert all(each.snapshot.verified or NOT_VERIFIED in each.reasons for each in decisions)


@given(stores(), policies)
def test_a_much_smaller_newest_stops_all_pruning(store: tuple[Dated, ...], policy: Policy) -> None:
    newest = newest_verified(store)
    assume(newest is not None)
    before = reasons_of([replace(each, flagged=False) for each in store], policy)
    after = decide([replace(each, flagged=each == newest) for each in store], policy)
    for decision in after:
        marks = (MUCH_SMALLER,) if decision.snapshot.flagged else ()
        assert decision.keep
        assert decision.reasons == (before[decision.snapshot.name] or (STOPPED,)) + marks


@given(stores(), policies)
def test_a_flag_on_any_but_the_newest_is_only_mentioned(
    store: tuple[Dated, ...], policy: Policy
) -> None:
    assume(not stopped(store))
    plain = reasons_of([replace(each, flagged=False) for each in store], policy)
    for decision in decide(store, policy):
        marks = (MUCH_SMALLER,) if decision.snapshot.flagged and decision.keep else ()
        assert decision.reasons == plain[decision.snapshot.name] + marks


@given(stores(), policies)
def test_no_rule_keeps_more_than_its_count(store: tuple[Dated, ...], policy: Policy) -> None:
    assume(not policy.empty and not stopped(store))
    reasons = [each.reasons for each in decide(store, policy) if each.snapshot.verified]
    for rule, count in policy.counts:
        wordings = {f"{rule} snapshot", f"oldest {rule} snapshot"}
        used = sum(bool(wordings & set(why)) for why in reasons)
        assert used <= (len(reasons) if count == UNLIMITED else count)
    allowed = {NEWEST, MUCH_SMALLER, f"within {policy.within}"}
    allowed |= {f"{old}{rule} snapshot" for rule in RULES for old in ("", "oldest ")}
    assert all(set(why) <= allowed for why in reasons)


@given(stores(), policies, st.sampled_from(RULES), st.integers(0, 5))
def test_a_larger_count_never_removes_more(
    store: tuple[Dated, ...], policy: Policy, rule: str, more: int
) -> None:
    """From no policy at all it does: that keeps everything."""
    assume(not policy.empty)
    count = dict(policy.counts)[rule]
    larger: dict[str, int] = {rule: count + more if count >= 0 and more else UNLIMITED}
    fewer, stay = kept(decide(store, policy)), kept(decide(store, changed(policy, **larger)))
    assert all(snapshot in stay for snapshot in fewer)


@given(stores(), policies, withins)
def test_a_longer_within_never_removes_more(
    store: tuple[Dated, ...], policy: Policy, more: Within
) -> None:
    assume(not policy.empty)
    before = policy.within or Within()
    longer = Within(
        years=before.years + more.years,
        months=before.months + more.months,
        days=before.days + more.days,
        hours=before.hours + more.hours,
    )
    fewer, stay = kept(decide(store, policy)), kept(decide(store, replace(policy, within=longer)))
    assert all(snapshot in stay for snapshot in fewer)


@given(stores(), policies)
def test_deciding_again_about_what_stayed_changes_nothing(
    store: tuple[Dated, ...], policy: Policy
) -> None:
    """Not even a reason: the oldest that stays is the same one, and no rule has more left."""
    decisions = decide(store, policy)
    assert decide(kept(decisions), policy) == tuple(each for each in decisions if each.keep)


@given(stores(flags=False), policies)
def test_pruning_after_every_run_loses_nothing_that_pruning_once_would_keep(
    store: tuple[Dated, ...], policy: Policy
) -> None:
    """Of counts only: where `within` counts months it can begin earlier as time goes on.

    From 31 March a month goes back to 3 March, from 1 April to 1 March.
    """
    counted = replace(policy, within=None)
    stay: list[Dated] = []
    for decision in reversed(decide(store, counted)):
        stay = kept(decide([*stay, decision.snapshot], counted))
    assert set(kept(decide(store, counted))) <= set(stay)


@given(stores(flags=False), policies)
def test_a_rule_with_a_count_left_keeps_the_oldest(
    store: tuple[Dated, ...], policy: Policy
) -> None:
    """So that a history grows to its full length from the first day on."""
    sound = [each.snapshot for each in decide(store, policy) if each.snapshot.verified]
    assume(sound)
    days = {each.instant.astimezone(policy.zone).date() for each in sound}
    reasons = reasons_of(store, changed(policy, daily=len(days) + 1))[sound[-1].name]
    assert {"daily snapshot", "oldest daily snapshot"} & set(reasons)


@given(stores(flags=False), policies)
def test_the_newest_of_each_day_stays_without_limit(
    store: tuple[Dated, ...], policy: Policy
) -> None:
    decisions = decide(store, changed(policy, daily=UNLIMITED))
    newest: dict[object, Dated] = {}
    for decision in decisions:
        if decision.snapshot.verified:
            day = decision.snapshot.instant.astimezone(policy.zone).date()
            newest.setdefault(day, decision.snapshot)
    assert set(newest.values()) <= set(kept(decisions))


def changed(policy: Policy, **rules: int) -> Policy:
    """Return a policy with other counts."""
    return Policy(**{**dict(policy.counts), **rules}, within=policy.within, zone=policy.zone)


# Examples

DAYS = tuple(f"2024-03-{day:02}T{hour:02}:00+01:00" for day in (4, 3, 2, 1) for hour in (18, 6))


def test_nothing_to_decide() -> None:
    assert decide([], Policy(last=1, within=Within(days=1), zone=UTC)) == ()


def test_reasons_are_those_of_restic() -> None:
    policy = Policy(last=1, daily=2, weekly=3, yearly=2, within=Within(hours=13), zone=BERLIN)
    store = [Dated(name=time, instant=datetime.fromisoformat(time), verified=True) for time in DAYS]
    reasons = reasons_of(store, policy)
    assert [reasons[name] for name in DAYS] == [
        (
            "newest verified",
            "within 13h",
            "last snapshot",
            "daily snapshot",
            "weekly snapshot",
            "yearly snapshot",
        ),
        ("within 13h",),
        ("daily snapshot", "weekly snapshot"),
        (),
        (),
        (),
        (),
        ("oldest weekly snapshot", "oldest yearly snapshot"),
    ]


def test_no_policy_keeps_everything() -> None:
    policy = Policy(within=Within(), zone=UTC)
    first, second, third = numbered([datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3)])
    store = [first, replace(second, verified=False), replace(third, flagged=True)]
    assert policy.empty
    assert reasons_of(store, policy) == {
        "0002": (NO_POLICY, NEWEST, MUCH_SMALLER),
        "0001": (NO_POLICY, NOT_VERIFIED),
        "0000": (NO_POLICY,),
    }


def test_nothing_verified_means_nothing_removed() -> None:
    store = [replace(each, verified=False) for each in numbered([datetime(2024, 1, 1, tzinfo=UTC)])]
    policy = Policy(last=1, within=Within(days=1), zone=UTC)
    assert reasons_of(store, policy) == {"0000": (NOT_VERIFIED,)}


def test_a_much_smaller_one_that_is_not_verified_does_not_stop_pruning() -> None:
    first, second, third = numbered([datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3)])
    store = [first, second, replace(third, verified=False, flagged=True)]
    assert reasons_of(store, Policy(last=1, zone=UTC)) == {
        "0002": (NOT_VERIFIED, MUCH_SMALLER),
        "0001": (NEWEST, "last snapshot"),
        "0000": (),
    }


def test_of_the_same_instant_the_last_by_name_is_the_newest() -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    store = [Dated(name=name, instant=moment, verified=True) for name in ("b", "c", "a")]
    decisions = decide(store, Policy(last=1, zone=UTC))
    assert [(each.snapshot.name, each.keep) for each in decisions] == [
        ("c", True),
        ("b", False),
        ("a", False),
    ]


def test_days_begin_at_midnight_of_the_zone() -> None:
    times = ["2024-06-02T00:30+02:00", "2024-06-01T23:30+02:00", "2024-06-01T01:30+02:00"]
    assert kept_of(times, daily=2) == times[:2]  # in UTC the first two are of one day


def test_weeks_are_those_of_iso() -> None:
    times = [
        "2025-01-05T12:00+01:00",
        "2024-12-30T12:00+01:00",  # week 1 of 2025
        "2024-12-29T12:00+01:00",
        "2024-12-23T12:00+01:00",  # week 52 of 2024
    ]
    assert kept_of(times, weekly=2) == [times[0], times[2]]


def test_the_repeated_hour_of_autumn_is_one_hour_and_one_day() -> None:
    times = [
        "2023-10-29T03:30+01:00",
        "2023-10-29T02:30+01:00",
        "2023-10-29T02:30+02:00",
        "2023-10-29T01:30+02:00",
    ]
    assert kept_of(times, hourly=3) == [times[0], times[1], times[3]]
    assert kept_of(times, last=3) == times[:3]
    assert kept_of(times, daily=1) == times[:1]


def test_the_day_of_23_hours_is_one_day() -> None:
    times = ["2024-03-31T23:59+02:00", "2024-03-31T03:00+02:00", "2024-03-30T23:59+01:00"]
    assert kept_of(times, daily=2) == [times[0], times[2]]
    assert kept_of(times, hourly=3) == times


@pytest.mark.parametrize(
    ("within", "newest", "begin"),
    [
        ("1d", "2024-03-31T12:00+02:00", "2024-03-30T12:00+01:00"),  # 23 hours
        ("24h", "2024-03-31T12:00+02:00", "2024-03-30T11:00+01:00"),
        ("1d", "2024-10-27T12:00+01:00", "2024-10-26T12:00+02:00"),  # 25 hours
        ("1d", "2024-04-01T02:30+02:00", "2024-03-31T03:30+02:00"),  # 02:30 is skipped
        ("1d", "2024-10-28T02:30+01:00", "2024-10-27T02:30+01:00"),  # 02:30 comes twice
        (
            "2h",
            "2024-10-27T02:30+02:00",
            "2024-10-27T01:30+02:00",
        ),  # from the second 02:30, as restic
        ("1m", "2023-03-31T12:00+02:00", "2023-03-03T12:00+01:00"),  # from 31 February
        ("1m", "2024-03-31T12:00+02:00", "2024-03-02T12:00+01:00"),
        ("1y", "2024-02-29T12:00+01:00", "2023-03-01T12:00+01:00"),
        ("1y1m1d1h", "2024-01-01T00:00+01:00", "2022-11-29T23:00+01:00"),
        ("25m", "2024-01-15T12:00+01:00", "2021-12-15T12:00+01:00"),
        ("2d", "2024-03-01T12:00+01:00", "2024-02-28T12:00+01:00"),
    ],
)
def test_within_counts_back_on_the_calendar(within: str, newest: str, begin: str) -> None:
    """What is as old as that is no longer within, what is a second younger is."""
    last, first = datetime.fromisoformat(newest), datetime.fromisoformat(begin)
    store = numbered([first, first + timedelta(seconds=1), last])
    reasons = reasons_of(store, Policy(within=parse_within(within), zone=BERLIN))
    assert [f"within {within}" in reasons[name] for name in ("0000", "0001")] == [False, True]


@pytest.mark.parametrize(
    "within", ["2023y", "2024y", f"{10**30}y", "99999m", "739000d", f"{10**30}d", f"{10**9}h"]
)
def test_within_may_begin_before_all_calendars(within: str) -> None:
    times = ["2024-01-01T12:00+01:00", "1970-01-01T00:00+01:00"]
    assert kept_of(times, within=parse_within(within)) == times


def test_a_snapshot_from_the_future_does_not_make_the_others_old() -> None:
    now = datetime(2024, 6, 1, tzinfo=UTC)
    store = numbered([now - timedelta(days=2), now - timedelta(days=1), now + timedelta(days=999)])
    policy = Policy(within=Within(days=7), zone=UTC)
    assert [each.keep for each in decide(store, policy, now=now)] == [True] * 3
    assert [each.keep for each in decide(store, policy)] == [True, False, False]
    early = now - timedelta(days=9)  # all are from the future: none is old
    assert [each.keep for each in decide(store, policy, now=early)] == [True] * 3


def test_an_instant_has_a_zone() -> None:
    with pytest.raises(ValueError, match="2024: its instant has no time zone"):
        Dated(name="2024", instant=datetime(2024, 1, 1), verified=True)  # noqa: DTZ001 - refused


@pytest.mark.parametrize("rule", RULES)
def test_a_count_is_not_below_minus_one(rule: str) -> None:
    rules: dict[str, Any] = {rule: -2}
    with pytest.raises(ValueError, match=f"{rule} is -2, but must be 0 or more, or -1"):
        Policy(**rules, zone=UTC)


def test_a_duration_is_not_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        Within(days=2, hours=-1)


@pytest.mark.parametrize(
    ("text", "within"),
    [
        ("1y5m7d2h", Within(years=1, months=5, days=7, hours=2)),
        (" 2h30d\n", Within(days=30, hours=2)),
        ("48h", Within(hours=48)),
        ("007m", Within(months=7)),
        ("0d", Within()),
    ],
)
def test_durations(text: str, within: Within) -> None:
    assert parse_within(text) == within


@pytest.mark.parametrize(
    "text",
    ["", " ", "7", "d", "1w", "1d 2h", "-1d", "1d2d", "1.5d", "1Y", "x1d", "1dx", "²d", "٣d"],
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration: write it like 1y5m7d2h"):
        parse_within(text)


@given(withins)
@example(Within())
def test_a_duration_reads_back(within: Within) -> None:
    assert parse_within(str(within)) == within


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (Policy(last=7, daily=14, within=Within(years=2), zone=UTC), "last 7, daily 14, within 2y"),
        (Policy(yearly=-1, hourly=1, zone=UTC), "hourly 1, yearly unlimited"),
        (Policy(within=Within(months=1, hours=2), zone=UTC), "within 1m2h"),
        (Policy(within=Within(), zone=UTC), "none: everything stays"),
    ],
)
def test_policies_in_words(policy: Policy, words: str) -> None:
    assert describe_policy(policy) == words


# The real restic

RESTIC, OPENSSL = shutil.which("restic"), shutil.which("openssl")
PASSWORD = "secret"  # noqa: S105 - of repositories that live for seconds
needs_restic = pytest.mark.skipif(
    not (RESTIC and OPENSSL), reason="restic and openssl are not both installed"
)
only_full = pytest.mark.skipif(not FULL, reason="takes long: OPS_FAULTS=full or the soak profile")


@dataclass(frozen=True)
class Keys:
    """The three keys with which restic seals a file."""

    encrypt: bytes
    k: bytes
    r: bytes


def aes(key: bytes, blocks: bytes) -> bytes:
    """Encrypt blocks one by one, with openssl because Python has no AES."""
    arguments = ("enc", f"-aes-{len(key) * 8}-ecb", "-nopad", "-K", key.hex())
    return subprocess.run(
        (OPENSSL or "", *arguments), input=blocks, capture_output=True, check=True
    ).stdout


def seal(keys: Keys, plains: Sequence[bytes]) -> list[bytes]:
    """Seal files as restic's design document says: AES-256-CTR, then Poly1305-AES."""
    nonces = [hashlib.sha256(plain).digest()[:15] + b"\0" for plain in plains]
    lengths = [-(-len(plain) // 16) for plain in plains]
    counters = b"".join(
        (int.from_bytes(nonce) + block).to_bytes(16)
        for nonce, length in zip(nonces, lengths, strict=True)
        for block in range(length)
    )
    stream, pads = aes(keys.encrypt, counters), aes(keys.k, b"".join(nonces))
    sealed = []
    for number, (plain, nonce) in enumerate(zip(plains, nonces, strict=True)):
        size = 16 * lengths[number]
        mask, stream = stream[: len(plain)], stream[size:]
        text = bytes(a ^ b for a, b in zip(plain, mask, strict=True))
        tag = poly1305(keys.r, pads[16 * number : 16 * number + 16], text)
        sealed.append(nonce + text + tag)
    return sealed


def poly1305(r: bytes, pad: bytes, text: bytes) -> bytes:
    """Authenticate a text (RFC 8439, 2.5)."""
    factor = int.from_bytes(r, "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(text), 16):
        block = text[start : start + 16] + b"\1"
        total = (total + int.from_bytes(block, "little")) * factor % (2**130 - 5)
    return ((total + int.from_bytes(pad, "little")) % 2**128).to_bytes(16, "little")


class Repository:
    """A repository of restic's with snapshots of any instants, written without restic.

    `restic backup` takes half a second for each, mostly to derive its key from the password; this
    takes a millisecond, and the key here is a cheap one. What decides is the real restic.
    """

    def __init__(self, directory: Path, times: Iterable[datetime], zone: tzinfo) -> None:
        self.directory = directory
        self.zone = zone
        self._times: dict[str, datetime] = {}
        for name in ("data", "index", "keys", "locks", "snapshots"):
            (directory / name).mkdir()
        keys = Keys(encrypt=b"e" * 32, k=b"k" * 16, r=b"r" * 16)
        _save(directory / "keys", _key_file(keys))
        fields = {"tree": "1" * 64, "paths": ["/instance"], "hostname": "host"}
        config = {"version": 1, "id": "0" * 64, "chunker_polynomial": "3da3358b4dc173"}
        ordered = list(times)
        written = [{"time": time.astimezone(zone).isoformat(), **fields} for time in ordered]
        plains = [json.dumps(document).encode() for document in (config, *written)]
        sealed, *snapshots = seal(keys, plains)
        (directory / "config").write_bytes(sealed)
        for time, snapshot in zip(ordered, snapshots, strict=True):
            self._times[_save(directory / "snapshots", snapshot)] = time.astimezone(UTC)

    def forget(self, policy: Policy) -> list[tuple[datetime, tuple[str, ...]]]:
        """Return what restic would keep, newest first, and why."""
        return [
            (self._times[name], reasons)
            for name, _, reasons in restic_forget(self.directory, policy, self.zone)
        ]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _save(directory: Path, content: bytes) -> str:
    name = hashlib.sha256(content).hexdigest()
    (directory / name).write_bytes(content)
    return name


def _key_file(keys: Keys) -> bytes:
    salt = bytes(64)
    derived = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=2, r=1, p=1, dklen=64)
    user = Keys(encrypt=derived[:32], k=derived[32:48], r=derived[48:])
    master = {"mac": {"k": _base64(keys.k), "r": _base64(keys.r)}, "encrypt": _base64(keys.encrypt)}
    (data,) = seal(user, [json.dumps(master).encode()])
    who = {"created": "2020-01-01T00:00:00Z", "username": "user", "hostname": "host"}
    how = {"kdf": "scrypt", "N": 2, "r": 1, "p": 1}
    return json.dumps({**who, **how, "salt": _base64(salt), "data": _base64(data)}).encode()


Kept = list[tuple[str, str, tuple[str, ...]]]
"""Snapshots that restic would keep, newest first: their name, their time, and why."""


def restic(directory: Path, *arguments: str, zone: str) -> str:
    """Run restic on a repository."""
    environment = {"RESTIC_PASSWORD": PASSWORD, "TZ": zone, "HOME": str(directory)}
    command = (RESTIC or "", "--repo", str(directory), "--no-cache", *arguments)
    return subprocess.run(
        command, env=environment, capture_output=True, check=True, text=True
    ).stdout


def restic_forget(directory: Path, policy: Policy, zone: tzinfo) -> Kept:
    """Ask restic what it would keep."""
    # Versions differ in how they write "unlimited", and this is more than any test has.
    rules = [
        f"--keep-{rule}={1_000_000 if count == UNLIMITED else count}"
        for rule, count in policy.counts
    ]
    rules += [f"--keep-within={policy.within}"] if policy.within else []
    arguments = ("forget", "--no-lock", "--dry-run", "--json", "--group-by", "", *rules)
    (group,) = json.loads(restic(directory, *arguments, zone=str(zone)))
    return [
        (snapshot["id"], snapshot["time"], tuple(reason["matches"]))
        for snapshot, reason in zip(group["keep"] or [], group["reasons"] or [], strict=True)
    ]


@functools.cache
def oldest_word() -> str | None:
    """Tell how this restic says that a rule with a count left keeps the oldest.

    Versions up to 0.14 at least do not keep it (None); of those that do, some do not say so.
    """
    times = [datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in (1, 2)]
    with tempfile.TemporaryDirectory() as directory:
        stay = Repository(Path(directory), times, UTC).forget(Policy(daily=2, zone=UTC))
    return stay[1][1][0].removesuffix("daily snapshot") if len(stay) > 1 else None


def as_restic(decisions: Iterable[Decision]) -> list[tuple[datetime, tuple[str, ...]]]:
    """Reduce decisions to what this restic decides: our own reasons are not among its.

    Instants are of UTC: in two zones Python takes none of a repeated hour for the same.
    """
    found = []
    for decision in decisions:
        reasons = [each for each in decision.reasons if each.endswith(" snapshot")]
        if oldest_word() is None:
            reasons = [each for each in reasons if not each.startswith("oldest ")]
        words = tuple(each.replace("oldest ", oldest_word() or "") for each in reasons)
        words = tuple(each for each in decision.reasons if each.startswith("within ")) + words
        if words:
            found.append((decision.snapshot.instant.astimezone(UTC), words))
    return found


@needs_restic
@given(stores(flags=False), policies)
@example(
    numbered([datetime(2012, 10, 28, 0, 30, tzinfo=UTC)]),
    Policy(within=Within(hours=1), zone=BERLIN),
)
def test_any_store_is_as_with_restic(store: tuple[Dated, ...], policy: Policy) -> None:
    assume(not policy.empty)
    sound = {each.instant.astimezone(UTC): each for each in store if each.verified}
    assume(sound)  # restic tells nothing of no snapshots; of the same instant it takes any
    with tempfile.TemporaryDirectory() as directory:
        repository = Repository(Path(directory), sound, policy.zone)
        assert repository.forget(policy) == as_restic(decide(sound.values(), policy))


@needs_restic
def test_a_snapshot_from_the_future_is_as_with_restic(tmp_path: Path) -> None:
    now = datetime(2024, 6, 1, tzinfo=UTC)
    times = [now - timedelta(days=2), now, datetime(9000, 1, 1, tzinfo=UTC)]
    policy = Policy(within=Within(days=2), zone=BERLIN)
    decisions = decide(numbered(times), policy, now=datetime(8000, 1, 1, tzinfo=UTC))
    assert Repository(tmp_path, times, BERLIN).forget(policy) == as_restic(decisions)
    assert [each.keep for each in decisions] == [True, True, False]


def timeline(*, every_hour: bool) -> tuple[Dated, ...]:
    """More than a year in Berlin: nightly runs, hourly ones at times, and what goes wrong.

    Some runs failed, some copies did not pass their check, and for two weeks there was nothing.
    """
    chance = random.Random(1)  # noqa: S311 - accidents
    hourly = {"2023-10-28", "2023-10-29", "2023-10-30", "2023-12-31", "2024-01-01", "2024-02-29"}
    hourly |= {"2024-03-30", "2024-03-31", "2024-04-01", "2024-10-26", "2024-10-27"}
    begin, end = datetime(2023, 9, 1, tzinfo=UTC), datetime(2024, 10, 28, 9, tzinfo=UTC)
    found = []
    for hour in range((end - begin) // timedelta(hours=1)):
        time = begin + timedelta(hours=hour, minutes=chance.randrange(60))
        civil = time.astimezone(BERLIN)
        due = every_hour or civil.hour == 2 or civil.date().isoformat() in hourly
        lost = chance.random() < 0.1 or "2024-06-10" <= civil.date().isoformat() < "2024-06-24"
        if due and not lost:
            found.append(
                Dated(name=civil.isoformat(), instant=civil, verified=chance.random() > 0.05)
            )
    return tuple(found)


@needs_restic
@pytest.mark.parametrize("every_hour", [False, pytest.param(True, marks=only_full)])
def test_a_year_in_berlin_is_as_with_restic(tmp_path: Path, *, every_hour: bool) -> None:
    year = timeline(every_hour=every_hour)
    sound = [snapshot.instant for snapshot in year if snapshot.verified]
    repository = Repository(tmp_path, sound, BERLIN)
    for rules in YEAR_POLICIES:
        policy = Policy(**rules, zone=BERLIN)
        decisions = [each for each in decide(year, policy) if each.snapshot.verified]
        assert as_restic(decisions) == repository.forget(policy), rules


YEAR_POLICIES: tuple[dict[str, Any], ...] = (
    {"last": 7},
    {"hourly": 60},
    {"daily": 14},
    {"daily": 400},
    {"weekly": 9},
    {"weekly": 60},
    {"monthly": 6},
    {"yearly": 5},
    {"last": 3, "hourly": 24, "daily": 14, "weekly": 8, "monthly": 12, "yearly": -1},
    {"hourly": -1},
    {"within": Within(hours=36)},
    {"within": Within(days=2)},
    {"within": Within(months=7)},
    {"within": Within(months=11, days=29, hours=20)},
    {"daily": 30, "monthly": 24, "within": Within(years=1, days=1)},
)


@only_full
@needs_restic
def test_what_restic_backs_up_itself_is_as_with_restic(tmp_path: Path) -> None:
    """Snapshots of its own around a change of the clocks, against those written here."""
    times = [
        f"2023-10-29T{clock}:00+0{offset}:00"
        for clock, offset in [("01:30", 2), ("02:10", 2), ("02:50", 2), ("02:10", 1), ("02:50", 1)]
    ]
    small, directory = tmp_path / "file", tmp_path / "repository"
    small.write_text("content")
    directory.mkdir()
    restic(directory, "init", zone="UTC")
    for time in times:
        ago = f"{time[:10]} {time[11:19]}"
        zone = f"Etc/GMT-{time[-4]}"  # its sign is the other way round
        restic(directory, "backup", "--quiet", "--time", ago, str(small), zone=zone)
    store = numbered(datetime.fromisoformat(time) for time in times)
    for rules in ({"hourly": 2}, {"last": 2}, {"within": Within(hours=1)}):
        policy = Policy(**rules, zone=BERLIN)
        found = restic_forget(directory, policy, BERLIN)
        expected = as_restic(decide(store, policy))
        assert [(datetime.fromisoformat(time), why) for _, time, why in found] == expected
        assert {time for _, time, _ in found} <= set(times)  # as `Repository` writes them
