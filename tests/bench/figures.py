"""What is made of the seconds: medians, spreads and ratios."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The median of some rounds, the least and the most."""

    median: float
    least: float
    most: float


def figure(values: Iterable[float]) -> Figure:
    """Sum up the values of some rounds.

    Raises:
        ValueError: There are none.
    """
    each = sorted(values)
    if not each:
        raise ValueError("no rounds")
    return Figure(median=statistics.median(each), least=each[0], most=each[-1])


def ratio(ours: Sequence[float], peers: Sequence[float]) -> Figure:
    """Compare two contestants round by round: what ran side by side had the same weather.

    Raises:
        ValueError: They did not run as often, or not at all.
    """
    return figure(one / other for one, other in zip(ours, peers, strict=True))


def for_each(seconds: Sequence[float], number: int) -> tuple[float, ...]:
    """Share the seconds of each round among a number of files."""
    return tuple(each / number for each in seconds)
