"""Put a checked pair in place of what stands at its destination, and tell what came of it."""

from dataclasses import dataclass, field

from ops.errors import BusyError
from ops.interrupts import held_signals
from ops.journal import Swap
from ops.model import Clock, ReportProgress
from ops.publish import make_ready, publish
from ops.settlement import Settled
from ops.swap import is_complete
from ops.workspace import Workspace


@dataclass(slots=True)
class Replacement:
    """What was tried: each swap, and what was done about those that were found unfinished."""

    swaps: list[Swap] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)

    @property
    def state(self) -> str:
        """What stands at the destination after a failure."""
        return state_of_the_destination(self.swaps, self.settled)


def put_in_place(
    space: Workspace,
    tried: Replacement,
    *,
    wait_seconds: float,
    clock: Clock,
    progress: ReportProgress,
) -> None:
    """Put the copy in place once nobody uses what stands there.

    Args:
        space: Where the copy is ready.
        tried: Each try is noted here.
        wait_seconds: How long to wait for a destination that is in use.
        clock: The time.
        progress: Called while waiting.

    Raises:
        BusyError: The destination is in use.
        DestinationError: It cannot be replaced.
    """
    deadline = clock.seconds() + wait_seconds
    while True:
        make_ready(
            space.destination,
            wait_seconds=deadline - clock.seconds(),
            clock=clock,
            progress=progress,
        )
        tried.swaps.append(space.swap())
        try:
            with held_signals():
                publish(tried.swaps[-1])
        except BusyError:  # somebody opened the old pair meanwhile
            if clock.seconds() >= deadline:
                raise
        else:
            return


def state_of_the_destination(swaps: list[Swap], settled: list[Settled]) -> str:
    """Tell what stands at the destination after a failure, by looking."""
    if swaps and is_complete(swaps[-1]):
        return "the new pair is in place and was checked; only what came after that failed"
    if swaps and swaps[-1].journal.exists():
        return "the destination is half replaced; the next run on it, or `inv recover`, finishes it"
    if not swaps and Settled.COMPLETED in settled:
        return "of this run nothing is in place; the swap of an earlier run was completed first"
    return "nothing was published: the destination is as it was"
