"""Tell when a file may have changed again without its times telling."""

_TICK_NANOSECONDS = 50_000_000
_COARSE_NANOSECONDS = 2_000_000_000
"""How far the clock of a file system steps: up to 10 ms, or whole seconds where it keeps those."""


RECENT_NANOSECONDS = max(_TICK_NANOSECONDS, _COARSE_NANOSECONDS)
"""What changed longer ago than this is not fresh, whatever the file system."""


def is_fresh(changed_ns: int, now_ns: int) -> bool:
    """Tell whether a later change of an entry might fall into the same tick as its last one.

    Args:
        changed_ns: The ctime with which it was read.
        now_ns: The time of the reading, by the clock that file times have.
    """
    age = abs(now_ns - changed_ns)
    return age < _TICK_NANOSECONDS or (changed_ns % 10**9 == 0 and age < _COARSE_NANOSECONDS)
