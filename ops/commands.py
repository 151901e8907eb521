"""Run another program: started as an argument list, followed, and ended with all it started."""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ops.interrupts import held_signals
from ops.model import Clock

Take = Callable[[bytes], None]
"""Takes the next piece of what a program wrote; an empty one is the last."""

END_SECONDS = 5.0
"""How long a program has to end when it is told to, before it is killed."""

_LOOK_SECONDS = 0.2
_PAUSE_SECONDS = 0.02
_PIECE = 1 << 16
_MOST_AFTER_THE_END = 16 * _PIECE


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run: an argument list with its environment, and how long it may take."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    timeout_seconds: float


def run_command(
    command: Command,
    *,
    take: Take,
    clock: Clock,
    stop: Callable[[], bool] = lambda: False,
    leave: bool = False,
) -> int | None:
    """Run a command to its end, and end it when it takes too long or a signal stops us.

    It has a session of its own and nobody answers its questions. Both its streams come as one.
    What it left running does not hold us up, although it may have the streams open.

    Args:
        command: What to run.
        take: Called with each piece of what it writes.
        clock: Tells the time that it takes.
        stop: Asked again and again whether to end it.
        leave: Leave alone what a command started that ended by itself.

    Returns:
        Its exit code, negative for a signal; None where it was ended.

    Raises:
        OSError: It cannot be started.
    """
    process: subprocess.Popen[bytes] | None = None
    code: int | None = None
    try:
        with held_signals():  # nothing may be started and not be known to be
            process = start(
                command.arguments, environment=command.environment, stderr=subprocess.STDOUT
            )
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        deadline = clock.seconds() + command.timeout_seconds
        follow(process, {process.stdout: take}, stop=lambda: stop() or clock.seconds() >= deadline)
        code = process.poll()
    finally:
        if process is not None and code is not None and leave:
            close_streams(process)
        elif process is not None:
            end(process)
    return code


def start(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path | None = None,
    stderr: int = subprocess.PIPE,
    keep: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that all of it can be ended.

    A key on the terminal stops us alone, and of our files it has only those of `keep`.

    Raises:
        OSError: It cannot be started.
    """
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=directory,
        env=environment,
        pass_fds=keep,
        start_new_session=True,
    )


def follow(
    process: subprocess.Popen[bytes],
    takes: Mapping[IO[bytes], Take],
    *,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Hand over what a process writes until it has ended, or is to be stopped.

    What it started may keep its streams open, and go on writing, when it is gone: that is not
    waited for. It may also close them itself and stay.
    """
    with selectors.DefaultSelector() as selector:
        for stream, take in takes.items():
            selector.register(stream, selectors.EVENT_READ, take)
        late = 0
        while not stop():
            ended = process.poll() is not None
            ready = selector.select(0 if ended else _LOOK_SECONDS) if selector.get_map() else []
            if ended and (not ready or late > _MOST_AFTER_THE_END):
                break
            for key, _ in ready:
                piece = os.read(key.fd, _PIECE)
                late += len(piece) * ended
                if not piece:
                    selector.unregister(key.fileobj)
                key.data(piece)
            if not selector.get_map():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
        for key in selector.get_map().values():
            key.data(b"")


def by_line(take: Take, *, longest: int | None = None) -> Take:
    """Make something that takes lines take pieces; a line beyond `longest` comes in several."""
    rest = b""

    def shorten(line: bytes) -> bytes:
        """Take all but the last part of a line that is too long."""
        while longest is not None and len(line) > longest:
            take(line[:longest])
            line = line[longest:]
        return line

    def cut(piece: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            take(shorten(line))
        rest = shorten(rest)
        if not piece and rest:
            take(rest)
            rest = b""

    return cut


def end(
    process: subprocess.Popen[bytes], *, first: int = signal.SIGTERM, seconds: float = END_SECONDS
) -> None:
    """End what is left of a process, itself and what it started in its session.

    It is told by a first signal, and killed where it has not ended some seconds later.
    """
    with held_signals():
        _signal_group(process, first)
        for _ in range(round(seconds / _PAUSE_SECONDS)):
            process.poll()
            if not _signal_group(process, 0):
                break
            time.sleep(_PAUSE_SECONDS)
        _signal_group(process, signal.SIGKILL)
        process.wait()
        close_streams(process)


def close_streams(process: subprocess.Popen[bytes]) -> None:
    """Close our ends of a process's streams."""
    for stream in filter(None, (process.stdout, process.stderr)):
        stream.close()


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Signal a process and its session; return whether anybody was there."""
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def failure_words(code: int | None, timeout_seconds: float) -> str:
    """Tell how a command failed, as it stands after its name; empty for one that did not."""
    if code is None:
        return f"did not end within {timeout_seconds:g} seconds"
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:  # a real-time signal has no name here
            return f"was ended by signal {-code}"
    return f"failed with exit code {code}" if code else ""
