"""A worker process: takes jobs from one pipe and tells their results on another.

The messages are marshalled values behind their length in 4 bytes; both ends are the same Python.
The first message says what to work on. A worker ends when the pipe does, and on Linux at once
when the process that started it dies.
"""

import gc
import marshal
import os
import signal
import struct
import sys
from typing import Any

from ops.errors import OpsError
from ops.tree.hand import Hand
from ops.tree.work import Trees

LENGTH = struct.Struct("<I")
DONE, MOVED, FAILED = range(3)
"""The first value of what a worker tells: a job's result, bytes read so far, a failure."""

_TELL_BYTES = 32 << 20
_SET_DEATH_SIGNAL = 1


def work(jobs: int, results: int, parent: int) -> None:
    """Do jobs until there are no more.

    Args:
        jobs: The descriptor to read them from.
        results: The descriptor to write results to.
        parent: The process that hands them out.
    """
    _die_with(parent)
    gc.disable()  # records hold no circles, and are many
    read = _Reporter(results)
    trees = _receive(jobs)
    if trees is None:
        return
    try:
        with Hand(Trees.unpacked(trees), read.advance) as hand:
            while (job := _receive(jobs)) is not None:
                reply = hand.perform(job)
                send(results, (DONE, read.take(), plain(reply)))
    except OpsError as error:
        send(results, (FAILED, type(error).__name__, error.message, error.hint))


class _Reporter:
    """Counts the bytes read, and tells of them now and then while one job takes long."""

    def __init__(self, results: int) -> None:
        self._results = results
        self._read = 0

    def advance(self, count: int) -> None:
        self._read += count
        if self._read >= _TELL_BYTES:
            send(self._results, (MOVED, self.take()))

    def take(self) -> int:
        read, self._read = self._read, 0
        return read


def plain(reply: Any) -> Any:
    """Return a reply as plain tuples and lists, which alone can be marshalled."""
    if isinstance(reply, list):
        return [tuple(one) for one in reply]
    return tuple(reply) if isinstance(reply, tuple) else reply


def send(descriptor: int, message: Any) -> None:
    """Send a message, waiting until all of it is taken."""
    packed = marshal.dumps(message, 2)
    content = memoryview(LENGTH.pack(len(packed)) + packed)
    while content:
        content = content[os.write(descriptor, content) :]


def _receive(descriptor: int) -> Any:
    """Wait for a message; None when there will be no more."""
    head = _exactly(descriptor, LENGTH.size)
    if not head:
        return None
    return marshal.loads(_exactly(descriptor, LENGTH.unpack(head)[0]))  # noqa: S302 - from our parent


def _exactly(descriptor: int, count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = os.read(descriptor, min(count, 1 << 20))
        if not part:
            return b""
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies (prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        os.kill(os.getpid(), signal.SIGKILL)
