"""What we set out to reach, as ratios of ours to a peer's time, and whether we did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.bench import daily, packing, peers, staging
from tests.bench.cases import BASE, MILLION, size_name
from tests.bench.figures import Figure, ratio

PEAK_BYTES = 500_000_000
"""What the process family may have in memory for a tree of a million files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A ratio not to exceed in a case."""

    case: str
    ours: str
    peer: str
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a target; there is no figure where one of the two was not measured."""

    target: Target
    figure: Figure | None

    @property
    def word(self) -> str:
        """Whether the median holds the target."""
        if self.figure is None:
            return "not measured"
        return "met" if self.figure.median <= self.target.ratio else "missed"


TARGETS = (
    Target(case="small", ours=peers.CHECK, peer=peers.CP, ratio=0.65),
    Target(case="small", ours=peers.CHECK, peer=peers.RSYNC_TWICE, ratio=0.20),
    Target(case="medium", ours=peers.CHECK, peer=peers.CP, ratio=0.85),
    Target(case="medium", ours=peers.CHECK, peer=peers.COPYTREE, ratio=0.45),
    Target(case="big", ours=peers.CHECK, peer=peers.CP_AND_SUMS, ratio=0.65),
    Target(case="mix", ours=peers.CHECK, peer=peers.CP_AND_SUMS, ratio=0.65),
    Target(case="clone", ours=peers.CLONE, peer=peers.DURABLE_PIPELINE, ratio=0.5),
    Target(case="clone", ours=peers.CLONE, peer=peers.PIPELINE, ratio=0.5),
    Target(case="daily", ours=daily.BACKUP, peer=daily.LINK_DEST, ratio=0.30),
    Target(case="daily", ours=daily.BACKUP, peer=daily.RESTIC, ratio=0.50),
    Target(case="daily-changed", ours=daily.BACKUP, peer=daily.LINK_DEST, ratio=0.30),
    Target(case="daily-changed", ours=daily.BACKUP, peer=daily.RESTIC, ratio=0.50),
    Target(case="pack", ours=packing.PACK, peer=packing.TAR_COMPARED, ratio=1.5),
    Target(case="staging", ours=staging.REFRESH, peer=peers.CLONE, ratio=3.0),
    Target(case="curve", ours=size_name(MILLION), peer=size_name(BASE), ratio=1.2),
    Target(case="start", ours=peers.LIST, peer=peers.EMPTY_LIST, ratio=1.3),
)


def judge(measured: Mapping[str, Mapping[str, Sequence[float]]]) -> tuple[Verdict, ...]:
    """Judge the targets of the cases that were measured.

    Args:
        measured: By case and contestant, the seconds of each round.
    """
    return tuple(
        Verdict(target=target, figure=_figure(target, measured[target.case]))
        for target in TARGETS
        if target.case in measured
    )


def _figure(target: Target, seconds: Mapping[str, Sequence[float]]) -> Figure | None:
    if target.ours not in seconds or target.peer not in seconds:
        return None
    return ratio(seconds[target.ours], seconds[target.peer])
