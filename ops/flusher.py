"""Make durable what a run wrote, while it is being checked."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ops.errors import OpsError
from ops.interrupts import held_signals


class Flusher:
    """Makes everything that was written durable, once.

    Args:
        sync: Does it; a failure may be told only once.
        background: Do it in a thread, while others go on.
    """

    def __init__(self, sync: Callable[[], None], *, background: bool) -> None:
        self._sync = sync
        self._background = background
        self._failure: OpsError | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, now that all is written.

        Raises:
            OpsError: The disk did not take it; in the background, `finish` tells.
        """
        if not self._background:
            self._sync()
            return
        thread = threading.Thread(target=self._flush, daemon=True)
        with held_signals():  # a signal in the midst of it leaves a thread that nobody can wait for
            thread.start()
            self._thread = thread

    def finish(self) -> None:
        """Wait until all is durable.

        Raises:
            OpsError: The disk did not take it.
        """
        self.wait()
        if self._failure is not None:
            raise self._failure

    def wait(self) -> None:
        """Wait for the end, whatever it is."""
        if self._thread is not None:
            self._thread.join()

    def _flush(self) -> None:
        try:
            self._sync()
        except OpsError as failure:
            self._failure = failure


@contextmanager
def flushing(sync: Callable[[], None], *, background: bool) -> Iterator[Flusher]:
    """Have what is written in a block durable at its end, from the moment of `start` on.

    Raises:
        OpsError: The disk did not take it.
    """
    flusher = Flusher(sync, background=background)
    try:
        yield flusher
    except BaseException:
        flusher.wait()
        raise
    flusher.finish()
