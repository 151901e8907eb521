"""Signals that ask a run to stop, and what becomes of them once it is over."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ops.errors import InterruptedRunError
from ops.interrupts import STOPPING


class Stopping:
    """Whether the run is over, after which a signal only hurries us; handlers share it."""

    def __init__(self) -> None:
        self.over = False
        self.hurried = False


@contextmanager
def stopping_signals() -> Iterator[Stopping]:
    """Turn SIGTERM and SIGHUP into a failure that cleans up, as Python does with SIGINT.

    Once the run is over, which the caller says, its outcome stands: a signal then no longer
    changes it, and is noted.
    """
    state = Stopping()

    def stop(number: int, frame: FrameType | None) -> None:
        if state.over:
            state.hurried = True
        elif number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        else:
            raise InterruptedRunError(number)

    # Who runs us under nohup wants SIGHUP ignored; a shell does so with SIGINT behind `&`.
    before = {
        number: signal.signal(number, stop)
        for number in STOPPING
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield state
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
