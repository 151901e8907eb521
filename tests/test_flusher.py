"""What was written is flushed beside the check, and waited for, whatever comes between."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from types import FrameType

import pytest

from ops.errors import DestinationError, InterruptedRunError
from ops.flusher import flushing
from tests.command import ROOT
from tests.test_signals import UNMEASURED


def refuse() -> None:
    """Refuse to flush, as a sick disk does."""
    raise DestinationError("the disk did not take it")


@pytest.mark.parametrize("background", [False, True])
def test_is_done_once_by_the_end_of_the_block(*, background: bool) -> None:
    done: list[str] = []
    with flushing(lambda: done.append(threading.current_thread().name), background=background) as f:
        assert done == []
        f.start()
        f.finish()
        assert len(done) == 1
    assert len(done) == 1
    assert (done == [threading.current_thread().name]) is not background


def test_others_go_on_meanwhile() -> None:
    begun, go = threading.Event(), threading.Event()

    def sync() -> None:
        begun.set()
        assert go.wait(30)

    with flushing(sync, background=True) as flusher:
        flusher.start()
        assert begun.wait(30)
        go.set()  # nobody would, if it were waited for


@pytest.mark.parametrize("background", [False, True])
def test_a_disk_that_does_not_take_it_fails_the_block(*, background: bool) -> None:
    with (
        pytest.raises(DestinationError, match="did not take it"),
        flushing(refuse, background=background) as flusher,
    ):
        flusher.start()


def test_another_failure_goes_first_and_waits_for_it() -> None:
    ended: list[str] = []

    def sync() -> None:
        time.sleep(0.05)
        ended.append("")
        refuse()

    with contextlib.suppress(KeyError), flushing(sync, background=True) as flusher:
        flusher.start()
        raise KeyError
    assert ended == [""]


def test_what_was_never_begun_is_not_waited_for() -> None:
    with flushing(refuse, background=True):
        pass
    with pytest.raises(KeyError), flushing(refuse, background=True):
        raise KeyError


def strike(times: int) -> None:
    """Flush many times, each with a signal at another instant, and print what came of it."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise InterruptedRunError(number)

    signal.signal(signal.SIGTERM, stop)
    chance = random.Random(1)  # noqa: S311 - instants
    seen = {_flush_with_signal(chance.uniform(0, 4e-4)) for _ in range(times)}
    sys.stdout.write(json.dumps(sorted(seen)))


def _flush_with_signal(seconds: float) -> str:
    main = threading.main_thread().ident
    assert main is not None

    def send() -> None:
        go.wait()
        time.sleep(seconds)
        signal.pthread_kill(main, signal.SIGTERM)

    came = "nothing"
    go = threading.Event()
    sender = threading.Thread(target=send)
    sender.start()
    try:
        go.set()
        with flushing(lambda: time.sleep(1e-4), background=True) as flusher:
            flusher.start()
    except Exception as error:  # noqa: BLE001 - it is told
        came = type(error).__name__
    while sender.is_alive():  # it may come only now
        with contextlib.suppress(InterruptedRunError):
            sender.join()
    return came


def test_a_signal_at_any_instant_is_all_that_is_told() -> None:
    """It may come before the thread is, while it is started, and while it is waited for."""
    done = subprocess.run(
        [sys.executable, "-c", "from tests.test_flusher import strike; strike(400)"],
        check=False,
        cwd=ROOT,
        env=UNMEASURED,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) <= {"InterruptedRunError", "nothing"}
