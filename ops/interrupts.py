"""Hold signals off while something must not be left half done."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that ask a run to stop."""


@contextmanager
def held_signals() -> Iterator[Sequence[int]]:
    """Deliver SIGINT, SIGTERM and SIGHUP only once the block has ended.

    Yields the signals that have arrived so far, for a block that can stop early.

    A mask would not do: the kernel may hand a signal to another thread, and Python runs its
    handler in the main one all the same. Only the main thread can, and needs to, hold them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield ()
        return
    arrived: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        for number, handler in before.items():
            if handler not in {signal.SIG_IGN, None}:
                signal.signal(number, note)
        yield arrived
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that was not set from Python cannot be set again
                signal.signal(number, handler)
        if arrived:  # also when the block failed: a stop must not be lost over it
            signal.raise_signal(arrived[0])


@contextmanager
def steady_threads(count: int) -> "Iterator[ThreadPoolExecutor]":
    """Keep threads for the length of a block, all of them started before a signal can stop it.

    What a handler raises while `Thread.start` waits leaves a thread that Python does not know of,
    and that complains on standard error.
    """
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(count) as pool:
        with held_signals():
            gate = threading.Barrier(count)
            for begun in [pool.submit(gate.wait) for _ in range(count)]:
                begun.result()
        yield pool


class Stops:
    """The signals that wait, and whether they are to; a handler writes to it, so it has state."""

    def __init__(self) -> None:
        self.held = False
        self.arrived: list[int] = []


@contextmanager
def one_stop() -> Iterator[Stops]:
    """Let one signal stop the block as usual, and note those that follow it.

    Once a signal has come, or the block has set `held`, they are only noted, so that there is no
    instant at which a further one could keep the block from what it does in any case. Those that
    are noted stop a block that has ended well, and are dropped where it is failing anyway.
    """
    stops = Stops()
    if threading.current_thread() is not threading.main_thread():
        yield stops
        return
    before = {number: signal.getsignal(number) for number in STOPPING}

    def stop(number: int, frame: FrameType | None) -> None:
        handler = before[signal.Signals(number)]
        if stops.held:
            stops.arrived.append(number)
        elif callable(handler):
            stops.held = True
            handler(number, frame)

    try:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, stop)
        yield stops
    finally:
        for number, handler in before.items():
            if callable(handler):
                signal.signal(number, handler)
    if stops.arrived:
        signal.raise_signal(stops.arrived[0])
