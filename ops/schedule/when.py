"""When a job runs, and how each scheduler writes that down."""

import re
from dataclasses import dataclass

from ops.errors import UsageError

DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
"""As cron and launchd count them, from 0."""

_EACH_HOUR = re.compile(r":([0-5]\d)")
_EACH_DAY = re.compile(r"(?:([A-Za-z,]+) +)?([01]?\d|2[0-3]):([0-5]\d)")
_WORDS = {"hourly": ":00", "daily": "00:00"}


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """A minute of each hour (`hour` is None) or of a day; `days` is empty for every day."""

    minute: int
    hour: int | None = None
    days: tuple[int, ...] = ()

    @property
    def cron(self) -> str:
        """The five fields of a crontab."""
        hour = "*" if self.hour is None else str(self.hour)
        days = ",".join(map(str, self.days)) or "*"
        return f"{self.minute} {hour} * * {days}"

    @property
    def calendar(self) -> str:
        """The value of systemd's `OnCalendar=`."""
        hour = "*" if self.hour is None else f"{self.hour:02d}"
        time = f"*-*-* {hour}:{self.minute:02d}:00"
        return f"{','.join(DAYS[day] for day in self.days)} {time}" if self.days else time

    @property
    def intervals(self) -> list[dict[str, int]]:
        """The value of launchd's `StartCalendarInterval`."""
        time = {"Minute": self.minute}
        if self.hour is not None:
            time["Hour"] = self.hour
        return [{"Weekday": day, **time} for day in self.days] or [time]


def parse_when(value: str) -> When:
    """Read `--at`.

    Raises:
        UsageError: It is none of the forms that every scheduler knows.
    """
    text = _WORDS.get(value.lower(), value)
    if hourly := _EACH_HOUR.fullmatch(text):
        return When(minute=int(hourly[1]))
    if daily := _EACH_DAY.fullmatch(text):
        names = daily[1].split(",") if daily[1] else []
        if all(name.title() in DAYS for name in names):
            days = sorted({DAYS.index(name.title()) for name in names})
            return When(minute=int(daily[3]), hour=int(daily[2]), days=tuple(days))
    raise UsageError(
        f"--at is no time that every scheduler knows: {value}",
        hint="write hourly, :15 (of each hour), daily (at midnight), 03:30, or Mon,Thu 03:30",
    )
