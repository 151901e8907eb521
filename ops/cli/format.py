"""Figures as people read them."""

import os
import shlex
from pathlib import Path

from ops.names import display

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")
_STEP = 1024
_MINUTE, _HOUR = 60, 3600
_LEAST_MINUTES = 90


def format_bytes(count: float) -> str:
    """Format a number of bytes in IEC units with one decimal place, for example "5.6 MiB"."""
    unit = 0
    while count >= _STEP and unit < len(_UNITS) - 1:
        count /= _STEP
        unit += 1
    if unit == 0:
        return f"{count:.0f} byte{'' if round(count) == 1 else 's'}"
    return f"{count:.1f} {_UNITS[unit]}"


def format_duration(seconds: float) -> str:
    """Format a duration, for example "40 ms", "1.3 s", "12 min" or "2 h 05 min"."""
    if round(seconds * 1000) < 1000:  # noqa: PLR2004 - a second
        return f"{seconds * 1000:.0f} ms"
    if seconds < _LEAST_MINUTES:
        return f"{seconds:.1f} s" if round(seconds, 1) < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - a decimal matters below
    minutes = round(seconds / _MINUTE)
    if minutes < _HOUR // _MINUTE:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02d} min"


def count_of(count: int, singular: str, plural: str = "") -> str:
    """Format a count with its noun, for example "1 file" or "1,200 files"."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def shell_quote(path: Path) -> str:
    """Quote a path so that a POSIX shell reads its exact bytes back.

    Unusual bytes take bash's and POSIX 2024's `$'…'` form.
    """
    if display(path) == str(path):
        return shlex.quote(str(path))
    escaped = "".join(
        chr(byte) if 32 < byte < 127 and byte not in b"\\'" else f"\\x{byte:02x}"  # noqa: PLR2004 - printable ASCII
        for byte in os.fsencode(path)
    )
    return f"$'{escaped}'"
