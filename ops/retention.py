"""Retention: which snapshots of a store stay, and why. Pure; nothing is removed here.

The algorithm is restic's `ApplyPolicy` (`internal/data/snapshot_policy.go`, in older versions
`internal/restic/snapshot_policy.go`), so that its documentation of `forget` holds here too:

- Each rule goes from the newest snapshot to the oldest and keeps the newest of each period that
  has any, until its count is used up. A rule with a count left keeps the oldest snapshot too.
- `within` counts back from the newest snapshot, not from today: when runs stop, nothing ages.
- Rules are ORed: what one of them keeps stays.

Only verified snapshots take part, and some more stay whatever the rules say: see `decide`.

Periods are those of the calendar of `Policy.zone`; restic takes each snapshot's own offset, which
is the same where it always ran in that zone. In autumn two instants an hour apart are both 02:30.
They are in the same hour then, as for restic, so that one of the two stays as hourly snapshot.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

UNLIMITED = -1
"""The count of a rule that keeps one snapshot of every period."""

NO_POLICY = "no policy"
NEWEST = "newest verified"
NOT_VERIFIED = "not verified: look at it, and remove it by name"
MUCH_SMALLER = "much smaller than the one before"
STOPPED = "pruning is stopped: the newest snapshot is much smaller than the one before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dated:
    """What the policy needs to know of a snapshot.

    `verified` says that its newest check found it sound, `flagged` that it is much smaller than
    the one before it. Raises ValueError where the instant has no time zone.
    """

    name: str
    instant: datetime
    verified: bool
    flagged: bool = False

    def __post_init__(self) -> None:
        if self.instant.utcoffset() is None:
            raise ValueError(f"{self.name}: its instant has no time zone")


@dataclass(frozen=True, slots=True, kw_only=True)
class Within:
    """A length of time on the calendar; of no length, it is as if it were not given."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    def __post_init__(self) -> None:
        if min(self.years, self.months, self.days, self.hours) < 0:
            raise ValueError("a duration cannot be negative")

    def __str__(self) -> str:
        parts = ((self.years, "y"), (self.months, "m"), (self.days, "d"), (self.hours, "h"))
        return "".join(f"{number}{unit}" for number, unit in parts if number) or "0h"

    def __bool__(self) -> bool:
        return any((self.years, self.months, self.days, self.hours))


_PERIODS: dict[str, Callable[[int, datetime], tuple[int, ...]]] = {
    "last": lambda number, _: (number,),
    "hourly": lambda _, civil: (civil.year, civil.month, civil.day, civil.hour),
    "daily": lambda _, civil: (civil.year, civil.month, civil.day),
    "weekly": lambda _, civil: civil.isocalendar()[:2],
    "monthly": lambda _, civil: (civil.year, civil.month),
    "yearly": lambda _, civil: (civil.year,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How many snapshots of which periods stay; 0 switches a rule off, -1 is without limit.

    Raises ValueError where a count is below -1.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Within | None = None
    zone: tzinfo

    def __post_init__(self) -> None:
        for rule, count in self.counts:
            if count < UNLIMITED:
                raise ValueError(f"{rule} is {count}, but must be 0 or more, or -1 for no limit")

    @property
    def counts(self) -> tuple[tuple[str, int], ...]:
        """The counted rules by name, in restic's order."""
        counts = (self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly)
        return tuple(zip(_PERIODS, counts, strict=True))

    @property
    def empty(self) -> bool:
        """Whether it has no rule at all, and so keeps everything."""
        return not self.within and not any(count for _, count in self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a snapshot; it stays for at least one reason, and goes for none."""

    snapshot: Dated
    keep: bool
    reasons: tuple[str, ...]


_UNITS = {"y": "years", "m": "months", "d": "days", "h": "hours"}
_PART = re.compile(r"([0-9]+)([ymdh])")


def parse_within(text: str) -> Within:
    """Read a duration as restic writes it: `1y5m7d2h`, any part of it, in any order.

    Raises:
        ValueError: It is not written so, or has a unit twice (restic takes the last one then).
    """
    parts = _PART.findall(text)
    values = {_UNITS[unit]: int(number) for number, unit in parts}
    whole = "".join(number + unit for number, unit in parts) == text.strip()
    if not parts or not whole or len(values) < len(parts):
        example = "write it like 1y5m7d2h (years, months, days, hours), each at most once"
        raise ValueError(f"{text!r} is no duration: {example}")
    return Within(**values)


def describe_policy(policy: Policy) -> str:
    """Say a policy in words: `last 7, daily 14, within 2y`."""
    counts = [(rule, count) for rule, count in policy.counts if count]
    words = [f"{rule} {'unlimited' if count == UNLIMITED else count}" for rule, count in counts]
    words += [f"within {policy.within}"] if policy.within else []
    return ", ".join(words) or "none: everything stays"


def decide(
    snapshots: Iterable[Dated], policy: Policy, *, now: datetime | None = None
) -> tuple[Decision, ...]:
    """Decide which snapshots stay.

    What is not verified takes no part: it neither counts nor goes. The newest verified snapshot
    always stays, so a store is never emptied. If that one is flagged, everything stays, because
    pruning would replace what is whole by what may have lost something. A policy without rules
    keeps everything.

    Args:
        snapshots: In any order. Of the same instant, the last by name counts as the newest.
        policy: The rules.
        now: The present; `within` does not count from a snapshot that claims to be younger, so
            that one run with a wrong clock does not make all others old. None trusts every date.

    Returns:
        A decision for each, the newest first.
    """
    ordered = sorted(snapshots, key=_age, reverse=True)
    verified = [snapshot for snapshot in ordered if snapshot.verified]
    stopped = bool(verified) and verified[0].flagged
    matches = iter(_matches(verified, policy, now))
    decisions = []
    for snapshot in ordered:
        reasons = [NO_POLICY] if policy.empty else []
        reasons += next(matches) if snapshot.verified else [NOT_VERIFIED]
        if stopped and not reasons:
            reasons.append(STOPPED)
        if snapshot.flagged and reasons:
            reasons.append(MUCH_SMALLER)
        decisions.append(Decision(snapshot=snapshot, keep=bool(reasons), reasons=tuple(reasons)))
    return tuple(decisions)


def _age(snapshot: Dated) -> tuple[datetime, str]:
    # In one zone Python compares what the clocks show, which takes a repeated hour for one.
    return snapshot.instant.astimezone(UTC), snapshot.name


def _matches(verified: Sequence[Dated], policy: Policy, now: datetime | None) -> list[list[str]]:
    """Return, for each of the verified snapshots, newest first, the reasons why it stays."""
    reasons = [[NEWEST] if snapshot is verified[0] else [] for snapshot in verified]
    if policy.within:
        begin = _begin(verified, policy.within, policy.zone, now)
        for snapshot, why in zip(verified, reasons, strict=True):
            if begin is None or snapshot.instant.astimezone(UTC) > begin:
                why.append(f"within {policy.within}")
    civil = [snapshot.instant.astimezone(policy.zone) for snapshot in verified]
    for rule, count in policy.counts:
        for number, reason in _counted(rule, count, civil):
            reasons[number].append(reason)
    return reasons


def _counted(rule: str, count: int, civil: Sequence[datetime]) -> Iterator[tuple[int, str]]:
    """Find what one rule keeps among civil times, newest first: each by its number, and why."""
    before: tuple[int, ...] | None = None
    for number, time in enumerate(civil):
        if count == 0:
            return
        period = _PERIODS[rule](number, time)
        if period == before and number < len(civil) - 1:
            continue
        yield number, f"{rule} snapshot" if period != before else f"oldest {rule} snapshot"
        before = period
        count -= 1  # from -1 it never comes to 0


def _begin(
    verified: Sequence[Dated], within: Within, zone: tzinfo, now: datetime | None
) -> datetime | None:
    """Return the instant after which a snapshot is within; None for the beginning of time."""
    instants = (snapshot.instant.astimezone(UTC) for snapshot in verified)
    newest = next((instant for instant in instants if now is None or instant < now), None)
    if newest is None:
        return None
    civil = newest.astimezone(zone).replace(tzinfo=None, fold=0)
    year, month = divmod(civil.year * 12 + civil.month - 1 - within.years * 12 - within.months, 12)
    # As Go's Time.AddDate does it: a month before 31 March is 31 February, which is 3 March.
    try:
        first = civil.replace(year=year, month=month + 1, day=1)
        day = first + timedelta(days=civil.day - 1 - within.days)
        return _instant(day, zone) - timedelta(hours=within.hours)
    except (OverflowError, ValueError):
        return None


def _instant(civil: datetime, zone: tzinfo) -> datetime:
    """Return the instant of a civil time, for one that is skipped or repeated as Go's `Date`."""
    guess = civil - _offset(civil, zone)
    return (civil - _offset(guess, zone)).replace(tzinfo=UTC)


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    """Return by how much the clocks of a zone are ahead at a moment of UTC, without its zone."""
    return moment.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None) - moment
