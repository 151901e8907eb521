"""Let a thread make pieces of a stream ahead of who reads them, and never far ahead."""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeAlias

Put: TypeAlias = Callable[[bytes], None]

_MOST_WAITING = 8
_PAUSE_SECONDS = 0.05


class StoppedError(Exception):
    """Nobody reads any more: raised where a piece is put, to end the thread."""


@contextmanager
def ahead(produce: Callable[[Put], None]) -> Iterator[Iterator[bytes]]:
    """Run a function in a thread, and yield what it puts, in order.

    What it raises is raised where the pieces are read. When the block ends early, the function
    is stopped at its next piece, and has ended once the block has.
    """
    waiting: queue.Queue[bytes | None] = queue.Queue(_MOST_WAITING)
    stopped = threading.Event()

    def put(piece: bytes | None) -> None:
        waiting.put(piece)
        if stopped.is_set():
            raise StoppedError

    def work() -> None:
        try:
            produce(put)
        finally:
            if not stopped.is_set():
                put(None)

    def pieces() -> Iterator[bytes]:
        while (piece := waiting.get()) is not None:
            yield piece
        running.result()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(work)
        try:
            yield pieces()
        finally:
            stopped.set()
            while not running.done():
                _with_room(waiting)


def _with_room(waiting: "queue.Queue[bytes | None]") -> None:
    """Take a piece out that nobody wants, so that its maker can go on, and end."""
    try:
        waiting.get(timeout=_PAUSE_SECONDS)
    except queue.Empty:
        return
