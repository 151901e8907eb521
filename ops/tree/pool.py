"""Worker processes: each has a pipe for its jobs and one for what comes of them."""

import fcntl
import marshal
import os
import select
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from ops import errors
from ops.errors import OpsError
from ops.tree.work import LARGE_JOBS, Job, Trees, Work
from ops.tree.worker import DONE, FAILED, LENGTH, MOVED

_BOOT = (
    "import sys; sys.path[:] = sys.argv[4:]; from ops.tree.worker import work;"
    " work(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))"
)
_PAGE_BYTES = 4096
"""What a pipe holds where nobody can tell, and what a message may waste of one (pipe(7))."""

_PIECE_BYTES = 1 << 20


class Pool:
    """Does jobs in several processes, which are started afresh and share nothing with this one.

    Each has at most two jobs: the one it does, and the next. A job is sent only where its pipe
    takes it whole or the worker waits for it, so that nobody waits for each other.

    Args:
        trees: What to work on.
        count: How many processes.
        advance: Called with the number of bytes read, now and then.
        keep: Descriptors that stay open as long as any worker lives, such as those of locks.

    Raises:
        OpsError: A process cannot be started.
    """

    parallel = True

    def __init__(
        self,
        trees: Trees,
        count: int,
        advance: Callable[[int], None],
        keep: Sequence[int] = (),
    ) -> None:
        self.advance = advance
        self._work: Work | None = None
        self._failure: OpsError | None = None
        self._workers: list[_Worker] = []
        try:
            for _ in range(count):
                self._workers.append(_Worker(trees, keep))
        except OSError as error:
            self.close()
            raise OpsError(
                f"cannot start a worker process: {error}", hint="try again with --jobs 1"
            ) from error
        except BaseException:
            self.close()
            raise

    def start(self, work: Work) -> None:
        """Begin with some work."""
        self._work = work
        self._hand_out()

    def pump(self) -> None:
        """Take what has come, and hand out more; a failure is told by `finish`."""
        if self._work is not None and self._failure is None:
            try:
                self._collect(0)
            except OpsError as failure:
                self._failure = failure

    def finish(self) -> None:
        """Wait until all the work is done.

        Raises:
            OpsError: The work failed.
        """
        try:
            while self._work is not None and self._failure is None:
                self._collect(None)
        except OpsError as failure:
            self._failure = failure
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Kill every worker and wait for its end: what it was doing is not wanted any more."""
        for worker in self._workers:
            worker.kill()
        while self._workers:
            self._workers.pop().close()

    def _hand_out(self) -> None:
        """Give jobs to whoever has room for one; where there are none left, go on or end."""
        while self._work is not None:
            for depth in (0, 1):  # the idle first
                for worker in self._workers:
                    if not worker.takes(depth):
                        continue
                    job = self._work.next_job(large=not (depth or self._brings_more()))
                    if job is not None:
                        worker.give(job)
            if any(worker.waiting for worker in self._workers):
                return
            if not self._work.settle():
                self._work = None

    def _brings_more(self) -> bool:
        """Tell whether anybody does a job that may bring more of them."""
        jobs = (job for worker in self._workers for job, _ in worker.waiting)
        return any(job[0] not in LARGE_JOBS for job in jobs)

    def _collect(self, milliseconds: int | None) -> None:
        poll = select.poll()
        known = {worker.results: worker for worker in self._workers}
        for descriptor in known:
            poll.register(descriptor, select.POLLIN)
        for descriptor, _ in poll.poll(milliseconds):
            for message in known[descriptor].receive():
                self._take(known[descriptor], message)
        self._hand_out()

    def _take(self, worker: "_Worker", message: Sequence[Any]) -> None:
        match message:
            case (kind, count, reply) if kind == DONE:
                self.advance(count)
                job = worker.done()
                if self._work is not None:
                    self._work.accept(job, reply)
            case (kind, count) if kind == MOVED:
                self.advance(count)
            case (kind, name, text, hint) if kind == FAILED:
                raise getattr(errors, name)(text, hint=hint)


class _Worker:
    """One worker process, seen from outside."""

    def __init__(self, trees: Trees, keep: Sequence[int]) -> None:
        self.waiting: deque[tuple[Job, int]] = deque()
        self._held: tuple[Job, bytes] | None = None
        self._received = bytearray()
        with ExitStack() as undo:
            jobs, self._jobs = _pipe(undo)
            self.results, results = _pipe(undo)
            arguments = (jobs, results, os.getpid())
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *map(str, arguments), *sys.path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(jobs, results, *keep),
                process_group=0,  # a terminal's Ctrl-C is for us, who end the workers
            )
            undo.callback(self._process.wait)
            undo.callback(self._process.kill)
            self._send(marshal.dumps(trees.packed(), 2))
            undo.pop_all()
        os.close(jobs)
        os.close(results)
        self._room = _capacity(self._jobs) - _PAGE_BYTES
        os.set_blocking(self.results, False)

    def takes(self, depth: int) -> bool:
        """Tell whether it has that many jobs, and so room for one more."""
        held = self._held is not None
        behind_large = any(job[0] in LARGE_JOBS for job, _ in self.waiting)
        return len(self.waiting) + held == depth and not behind_large

    def give(self, job: Job) -> None:
        """Send a job, or keep it until the one before is done, where a pipe would not take it."""
        packed = marshal.dumps(job, 2)
        sent = sum(size for _, size in self.waiting)
        if self.waiting and sent + len(packed) > self._room:
            self._held = job, packed
        else:
            self._give(job, packed)

    def _give(self, job: Job, packed: bytes) -> None:
        self.waiting.append((job, len(packed)))
        self._send(packed)

    def done(self) -> Job:
        """Take the oldest job off its list."""
        job = self.waiting.popleft()[0]
        if self._held is not None and not self.waiting:
            held, self._held = self._held, None
            self._give(*held)
        return job

    def receive(self) -> list[Sequence[Any]]:
        """Return the messages that have come.

        Raises:
            OpsError: The process has ended.
        """
        try:
            part = os.read(self.results, _PIECE_BYTES)
        except BlockingIOError:
            return []
        if not part:
            raise self._ended()
        received = self._received
        received += part
        messages: list[Sequence[Any]] = []
        while len(received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(received)[0]
            if len(received) < end:
                break
            messages.append(marshal.loads(received[LENGTH.size : end]))  # noqa: S302 - from our worker
            del received[:end]
        return messages

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def close(self) -> None:
        """Wait for its end."""
        self._process.wait()
        os.close(self._jobs)
        os.close(self.results)

    def _send(self, packed: bytes) -> None:
        content = memoryview(LENGTH.pack(len(packed)) + packed)
        try:
            while content:
                content = content[os.write(self._jobs, content) :]
        except BrokenPipeError as error:
            raise self._ended() from error

    def _ended(self) -> OpsError:
        code = self._process.wait()
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return OpsError(
            f"a worker process ended ({how})",
            hint="if memory ran out (see the kernel log), try again with --jobs 1",
        )


def _pipe(undo: ExitStack) -> tuple[int, int]:
    """Make a pipe, whose ends are closed when what comes after it fails."""
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends


def _capacity(pipe: int) -> int:
    """Return how many bytes a pipe takes without anybody reading.

    Usually 64 KiB, but a page or two for a user who has many (pipe(7), `pipe-user-pages-soft`).
    """
    if not hasattr(fcntl, "F_GETPIPE_SZ"):  # pragma: no cover - not Linux
        return _PAGE_BYTES
    return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
