"""What the operator wants kept: retention, and what counts as a snapshot that shrank."""

from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ops.errors import UsageError
from ops.retention import Policy, parse_within
from ops.snapshot import Shrinkage

COUNTS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
_UNLIMITED = -1
_MOST = 100_000
_PERCENT = 100.0
_MOST_DIGITS = 9


def read_policy(config: Mapping[str, Any], flags: Mapping[str, str]) -> Policy:
    """Combine flags and configuration into a policy; one flag sets the whole configuration aside.

    Args:
        config: The section `ops`: `keep_last`, `keep_daily` and so on, `keep_within`,
            `time_zone`.
        flags: The same without "keep_", as given; empty where not.

    Raises:
        UsageError: A value is none of its kind.
    """
    given = any(value for name, value in flags.items() if name != "time_zone")

    def value(name: str) -> tuple[str, str]:
        flag = "--keep-" + name
        if given:
            return flags.get(name, ""), flag
        return _text(config, f"keep_{name}"), f"ops.keep_{name}"

    within, origin = value("within")
    try:
        period = parse_within(within) if within else None
    except ValueError as error:
        raise UsageError(f"{origin}: {error}", hint="for example 1y6m, 14d or 36h") from error
    counts = {name: _count(*value(name)) for name in COUNTS}
    zone = flags.get("time_zone") or _text(config, "time_zone")
    return Policy(**counts, within=period, zone=_zone(zone))


def read_shrinkage(config: Mapping[str, Any]) -> Shrinkage:
    """Read how much smaller a snapshot may be without a flag.

    Raises:
        UsageError: A value is no percentage.
    """
    usual = Shrinkage()
    return Shrinkage(
        files=_percent(config, "shrink_files", usual.files),
        rows=_percent(config, "shrink_rows", usual.rows),
    )


def read_percent(value: str, flag: str) -> int:
    """Read a whole percentage from 1 to 100.

    Raises:
        UsageError: It is none.
    """
    if not _is_number(value) or not 1 <= int(value) <= _PERCENT:
        raise UsageError(f"{flag} must be a whole number from 1 to 100, not {value}")
    return int(value)


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS


def _text(config: Mapping[str, Any], key: str) -> str:
    value = config.get(key)
    return "" if value is None else str(value)


def _count(value: str, origin: str) -> int:
    if not value:
        return 0
    if value == "unlimited":
        return _UNLIMITED
    if not _is_number(value) or int(value) > _MOST:
        raise UsageError(f'{origin} must be a number of snapshots or "unlimited", not {value}')
    return int(value)


def _percent(config: Mapping[str, Any], key: str, usual: float) -> float:
    value = config.get(key)
    if value is None or value == "":
        return usual
    try:
        percent = float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"ops.{key} must be a percentage, not {value!r}") from error
    if not 0 <= percent <= _PERCENT:
        raise UsageError(f"ops.{key} must lie between 0 and 100")
    return percent


def _zone(name: str) -> tzinfo:
    if not name or name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(
            f"no such time zone: {name}", hint="for example Europe/Berlin, or UTC (the default)"
        ) from error
