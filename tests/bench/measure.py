"""Run commands as whole processes, in turn, and time them."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SAMPLE_SECONDS = 0.05
_LINES_SHOWN = 50
_GONE_SECONDS = 5.0
"""How long the processes of a stopped run may take to go."""


class CommandError(Exception):
    """A measured command failed, or did not do what it was asked to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One or more programs, each reading what the one before writes, that run side by side.

    `exit_code` is what the last of them returns when all is well.
    """

    programs: tuple[tuple[str, ...], ...]
    directory: Path
    exit_code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One way to do the work of a case: steps that run one after the other."""

    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What a run took. `peak_bytes` is 0 where the memory was not sampled."""

    seconds: float
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What is the same for all contestants of a case.

    Attributes:
        work: A directory for the output of the commands.
        prepare: Called before each run, outside of the timing.
        check: Called with a contestant's name after its warm-up; raises where its work is wrong.
        say: Called with the contestant's name and a round (0 for the warm-up) before each run,
            and again with the seconds that it took.
    """

    work: Path
    prepare: Callable[[], None]
    check: Callable[[str], None]
    say: Callable[[str, int, float | None], None]


def alternate(
    contestants: Sequence[Contestant], rounds: int, course: Course
) -> dict[str, tuple[float, ...]]:
    """Run contestants in turn, a warm-up each and then some rounds.

    Returns:
        The seconds of each contestant's rounds.

    Raises:
        CommandError: A command failed.
    """
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(rounds + 1):
        for contestant in contestants:
            course.say(contestant.name, number, None)
            course.prepare()
            os.sync()  # nobody pays for what another left to be written
            ran = run(contestant, course.work)
            course.say(contestant.name, number, ran.seconds)
            if number == 0:
                course.check(contestant.name)
            else:
                seconds[contestant.name].append(ran.seconds)
    return {name: tuple(each) for name, each in seconds.items()}


def run(contestant: Contestant, work: Path, sample: Callable[[int], int] | None = None) -> Ran:
    """Run a contestant once.

    Args:
        contestant: What to run.
        work: Where the output goes.
        sample: Given the first process of a step, tells the bytes that its family has now.
            It is called many times, so such a run is not to be timed.

    Raises:
        CommandError: A command failed.
    """
    peak = 0
    began = time.perf_counter()
    for step in contestant.steps:
        peak = max(peak, _run_step(step, contestant.name, work, sample))
    return Ran(seconds=time.perf_counter() - began, peak_bytes=peak)


def _run_step(step: Step, name: str, work: Path, sample: Callable[[int], int] | None) -> int:
    errors = work / "errors"
    with _started(step, work / "output", errors) as processes:
        peak = _watch(processes, sample) if sample is not None else 0
        codes = [process.wait() for process in processes]
    if codes != [0] * (len(codes) - 1) + [step.exit_code]:
        program = " | ".join(" ".join(program) for program in step.programs)
        said = errors.read_text("utf-8", "backslashreplace").splitlines()[-_LINES_SHOWN:]
        ended = ", ".join(map(str, codes))
        raise CommandError("\n".join((f"{name}: exit code {ended} of: {program}", *said)))
    return peak


@contextmanager
def _started(step: Step, output: Path, errors: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start a step's programs in a process group of their own; stop them if the block fails."""
    processes: list[subprocess.Popen[bytes]] = []
    last = len(step.programs) - 1
    with output.open("wb") as out, errors.open("wb") as err:
        try:
            for number, program in enumerate(step.programs):
                before = processes[-1].stdout if processes else None
                process = subprocess.Popen(
                    program,
                    cwd=step.directory,
                    stdin=before or subprocess.DEVNULL,
                    stdout=out if number == last else subprocess.PIPE,
                    stderr=err,
                    process_group=processes[0].pid if processes else 0,
                )
                processes.append(process)
                if before is not None:
                    before.close()  # the next program alone reads it
            yield processes
        except BaseException:
            _stop(processes)
            raise


def _stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Kill a process group and wait until it is gone, so that its files can be removed."""
    if not processes:
        return
    group = processes[0].pid
    deadline = time.monotonic() + _GONE_SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return
        for process in processes:
            process.poll()
        time.sleep(_SAMPLE_SECONDS)


def _watch(processes: Sequence[subprocess.Popen[bytes]], sample: Callable[[int], int]) -> int:
    """Sample the memory of running processes until the last one ends, and return the most."""
    peak = 0
    while processes[-1].poll() is None:
        peak = max(peak, sum(sample(process.pid) for process in processes))
        time.sleep(_SAMPLE_SECONDS)
    return peak
