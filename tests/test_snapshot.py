"""What a snapshot says of itself: names, summaries and events survive, and damage is noticed."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.snapshot import (
    DAMAGED,
    FORMAT,
    REPLACED,
    SAMPLED,
    SCHEMA_VERSION,
    VERIFIED,
    DatabaseSummary,
    Event,
    Shrinkage,
    SnapshotError,
    Summary,
    TreeSummary,
    decode_events,
    decode_summary,
    encode_event,
    encode_summary,
    instant_of,
    is_snapshot_name,
    is_verified,
    shrunk,
    snapshot_name,
)

NOON = datetime(2026, 3, 29, 12, 0, 0, tzinfo=UTC)

# Strategies

_zones = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(datetime(1971, 1, 1), datetime(9998, 12, 30), timezones=_zones)  # noqa: DTZ001 - the zone is drawn as well
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(0, 2**63 - 1)
seconds = st.floats(0, 1e9)

databases = st.builds(
    DatabaseSummary,
    size=numbers,
    sha256=texts,
    mode=st.integers(0, 0o7777).map(lambda mode: f"{mode:04o}"),
    uid=numbers,
    gid=numbers,
    mtime_ns=numbers,
    tables=numbers,
    rows=numbers,
)
tree_summaries = st.builds(
    TreeSummary,
    entries=numbers,
    files=numbers,
    bytes=numbers,
    shared_files=numbers,
    shared_bytes=numbers,
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), texts),
    lambda below: st.one_of(st.lists(below, max_size=3), st.dictionaries(texts, below, max_size=3)),
    max_leaves=6,
)
details = st.dictionaries(texts, values, max_size=3)
summaries = st.builds(
    Summary,
    name=texts,
    captured=instants,
    tool=texts,
    profile=texts,
    purpose=st.sampled_from(["daily", "replaced"]),
    database=databases,
    attachments=tree_summaries,
    based_on=texts,
    flagged=texts,
    seconds=seconds,
    details=details,
)
events = st.builds(
    Event,
    what=st.sampled_from([VERIFIED, DAMAGED, SAMPLED, "moved"]),
    instant=instants,
    details=st.dictionaries(texts.filter(lambda key: key not in {"event", "instant"}), values),
)


def summary_of(*, files: int = 0, rows: int = 0) -> Summary:
    """Make a summary of which only the figures matter."""
    return Summary(
        name="2026-03-29T120000Z",
        captured=NOON,
        tool="1",
        profile="none",
        database=DatabaseSummary(
            size=1, sha256="", mode="0644", uid=0, gid=0, mtime_ns=0, tables=1, rows=rows
        ),
        attachments=TreeSummary(entries=1, files=files, bytes=0, shared_files=0, shared_bytes=0),
        details={},
    )


# Names


@given(instant=instants)
def test_a_name_tells_its_instant_to_the_second(instant: datetime) -> None:
    name = snapshot_name(instant)
    assert is_snapshot_name(name)
    assert instant_of(name) == instant.astimezone(UTC).replace(microsecond=0)


@given(one=instants, other=instants)
def test_names_sort_as_their_instants(one: datetime, other: datetime) -> None:
    first, second = (each.astimezone(UTC).replace(microsecond=0) for each in (one, other))
    assert (snapshot_name(one) < snapshot_name(other)) is (first < second)


def test_a_name_is_in_utc_whatever_the_clocks_show() -> None:
    summer = timezone(timedelta(hours=2))
    assert snapshot_name(NOON.astimezone(summer)) == "2026-03-29T120000Z"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "latest",
        ".ciso-ops-new",
        "2026-03-29",
        "2026-03-29T120000",
        "2026-3-29T120000Z",
        "2026-03-29T120000Z ",
        "2026-03-29T12000Z",
        "2026-02-30T120000Z",
        "2026-03-29T250000Z",
        "2026-03-29T120000Z.old",
        "٢٠٢٦-03-29T120000Z",
    ],
)
def test_other_names_are_no_snapshots(name: str) -> None:
    assert not is_snapshot_name(name)


@given(name=st.text(max_size=25))
def test_any_name_is_judged(name: str) -> None:
    assert not is_snapshot_name(name) or snapshot_name(instant_of(name)) == name


# Summaries


@given(summary=summaries)
def test_a_summary_reads_back_equal(summary: Summary) -> None:
    again = decode_summary(encode_summary(summary))
    assert again == summary
    assert again.captured.utcoffset() == timedelta(0)


def test_a_summary_is_a_document_for_people() -> None:
    text = encode_summary(replace(summary_of(files=3), purpose=REPLACED)).decode()
    assert text.startswith('{\n  "format": "ciso-ops snapshot",\n  "schema_version": 1,\n')
    assert text.endswith("}\n")
    document = json.loads(text)
    assert document["captured"] == "2026-03-29T12:00:00+00:00"
    assert document["attachments"]["files"] == 3
    assert document["purpose"] == "replaced"


def read_or_refuse(decode: Callable[[bytes], object], content: bytes) -> None:
    """Decode what may be damaged: it can be read, or it is told that it cannot."""
    with suppress(SnapshotError):
        decode(content)


@given(data=st.data())
def test_any_damage_to_a_summary_is_told_as_such(data: st.DataObject) -> None:
    content = encode_summary(data.draw(summaries))
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 4)))
    damaged = content[:start] + data.draw(st.binary(max_size=4)) + content[end:]
    read_or_refuse(decode_summary, damaged)


@given(data=st.data())
def test_a_summary_that_was_cut_short_is_none(data: st.DataObject) -> None:
    content = encode_summary(data.draw(summaries))
    with pytest.raises(SnapshotError):
        decode_summary(content[: data.draw(st.integers(0, len(content) - 2))])


@given(content=st.one_of(st.binary(), values.map(lambda value: json.dumps(value).encode())))
@example(content=b"[" * 100_000)
@example(content=b"\xff")
def test_any_other_document_is_no_summary(content: bytes) -> None:
    with pytest.raises(SnapshotError, match="no summary of a snapshot"):
        decode_summary(content)


TREE = asdict(summary_of().attachments)
DATABASE = asdict(summary_of().database)


def changed(**fields: Any) -> bytes:
    """Return a summary with some fields replaced, or taken out where they are ...."""
    document = json.loads(encode_summary(summary_of()))
    document.update(fields)
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (changed(format="ciso-ops ledger"), "no summary of a snapshot"),
        (changed(format=...), "no summary of a snapshot: 'format'"),
        (changed(schema_version=SCHEMA_VERSION + 1), "a newer version of this tool wrote it"),
        (changed(schema_version="1"), "no summary of a snapshot"),
        (changed(captured="2026-03-29T12:00:00"), "the instant has no time zone"),
        (changed(captured="noon"), "no summary of a snapshot"),
        (changed(captured=12), "no summary of a snapshot"),
        (changed(database=[]), "no summary of a snapshot"),
        (changed(attachments={"files": 1}), "no summary of a snapshot"),
        (changed(name=...), "no summary of a snapshot"),
        (changed(more=1), "no summary of a snapshot"),
        (changed(captured="0001-01-01T00:00:00+20:00"), "no instant of a snapshot"),
        (changed(captured="9999-12-31T23:00:00-10:00"), "no instant of a snapshot"),
        (changed(name=5), "name cannot be 5"),
        (changed(flagged=True), "flagged cannot be True"),
        (changed(details=[]), r"details cannot be \[\]"),
        (changed(seconds="x"), "seconds cannot be 'x'"),
        (changed(seconds=float("nan")), "seconds cannot be nan"),
        (changed(seconds=-1), "seconds cannot be -1"),
        (changed(attachments={**TREE, "files": "x"}), "files cannot be 'x'"),
        (changed(attachments={**TREE, "files": True}), "files cannot be True"),
        (changed(attachments={**TREE, "files": 1.5}), r"files cannot be 1\.5"),
        (changed(database={**DATABASE, "size": 1 << 70}), "size cannot be"),
        (changed(database={**DATABASE, "mode": "0z44"}), "no summary of a snapshot"),
    ],
)
def test_what_is_wrong_with_a_summary_is_said(content: bytes, says: str) -> None:
    with pytest.raises(SnapshotError, match=says):
        decode_summary(content)


def test_the_format_is_named() -> None:
    assert FORMAT.encode() in encode_summary(summary_of())


# Events


@given(history=st.lists(events, max_size=5))
def test_events_read_back_equal(history: list[Event]) -> None:
    assert decode_events(map(encode_event, history)) == (tuple(history), True)


@given(history=st.lists(events, min_size=1, max_size=4), data=st.data())
def test_a_last_line_that_was_cut_short_is_left_out(
    history: list[Event], data: st.DataObject
) -> None:
    *whole, last = map(encode_event, history)
    cut = last[: data.draw(st.integers(0, len(last) - 1))]
    lines = [*whole, *([cut] if cut else [])]
    assert decode_events(lines) == (tuple(history[:-1]), True)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"\xff\n",
        b"[]\n",
        b'"verified"\n',
        b"{}\n",
        b'{"event":"verified"}\n',
        b'{"event":"verified","instant":7}\n',
        b'{"event":"verified","instant":"today"}\n',
        b'{"event":"verified","instant":"2026-03-29T12:00:00"}\n',
        b'{"event":[],"instant":"2026-03-29T12:00:00+00:00"}\n',
        b"[" * 100_000 + b"\n",
    ],
)
def test_any_other_line_is_no_event_and_hides_no_other(line: bytes) -> None:
    known = Event(what=DAMAGED, instant=NOON, details={})
    assert decode_events([line]) == ((), False)
    lines = [encode_event(known), line, encode_event(known)]
    assert decode_events(lines) == ((known, known), False)


@given(history=st.lists(events, min_size=1, max_size=3), data=st.data())
def test_any_damage_to_an_event_ends_in_no_other_failure(
    history: list[Event], data: st.DataObject
) -> None:
    content = b"".join(map(encode_event, history))
    place = data.draw(st.integers(0, len(content) - 1))
    damaged = content[:place] + data.draw(st.binary(min_size=1, max_size=1)) + content[place + 1 :]
    found, _ = decode_events(damaged.splitlines(keepends=True))
    assert is_verified(found) in {True, False}


@given(history=st.lists(st.sampled_from([VERIFIED, DAMAGED, SAMPLED, "moved"])))
def test_damage_stays_until_a_check_of_everything_finds_none(history: list[str]) -> None:
    told = [Event(what=what, instant=NOON, details={}) for what in history]
    last_full = next((what for what in reversed(history) if what in {VERIFIED, DAMAGED}), VERIFIED)
    assert is_verified(told) is (last_full == VERIFIED)


# Shrinkage


@given(
    then=st.integers(0, 10_000),
    now=st.integers(0, 10_000),
    percent=st.floats(0, 100),
)
def test_what_is_not_smaller_is_not_flagged(then: int, now: int, percent: float) -> None:
    most = Shrinkage(files=percent, rows=percent)
    said = shrunk(summary_of(files=then, rows=then), summary_of(files=now, rows=now), most)
    if now >= then:
        assert said == ""
    if now < then * (1 - percent / 100):
        assert said == f"{now} files, {then} before; {now} rows, {then} before"


def test_fewer_than_half_the_files_or_rows_is_much_smaller() -> None:
    before = summary_of(files=100, rows=1000)
    assert shrunk(before, summary_of(files=50, rows=500), Shrinkage()) == ""
    assert shrunk(before, summary_of(files=49, rows=500), Shrinkage()) == "49 files, 100 before"
    assert shrunk(before, summary_of(files=50, rows=499), Shrinkage()) == "499 rows, 1000 before"
    assert shrunk(before, summary_of(files=90, rows=999), Shrinkage(files=5)) != ""
    nothing = summary_of()
    assert shrunk(before, nothing, Shrinkage(files=100, rows=100)) == "", "100 % flags nothing"
