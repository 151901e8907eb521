"""How many cores this process may use."""

import math
import os
from contextlib import suppress
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_MINE = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Count the cores that this process may use: those it may run on, within its group's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(allowed or 1, _quota(_MINE, _GROUPS)))


def _quota(mine: Path, groups: Path) -> int:
    """Return the smallest quota of this process's control group and those above it, in cores.

    The file `cpu.max` of version 2 holds quota and period in microseconds, or "max" (Linux,
    Documentation/admin-guide/cgroup-v2.rst).
    """
    fewest = 1 << 16
    try:
        lines = mine.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return fewest
    path = next((line[3:] for line in lines if line.startswith("0::")), "/")
    parts = [part for part in path.split("/") if part not in {"", ".."}]
    for depth in range(len(parts) + 1):
        with suppress(OSError, ValueError, ZeroDivisionError):  # no quota here, or none of sense
            quota, period = groups.joinpath(*parts[:depth], "cpu.max").read_text().split()
            if quota != "max":
                fewest = min(fewest, max(1, math.ceil(int(quota) / int(period))))
    return fewest
