"""A clone that is broken at each of its file-modifying system calls, one run for each of them."""

import errno
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.command import PROGRAM, ROOT, from_flags, to_flags
from tests.faults import FULL
from tests.faults.injection import (
    ERRORS,
    OPENING,
    STOPPING,
    Case,
    Fault,
    Relapse,
    Scenario,
    Shape,
    Tally,
    Verdict,
    Zygote,
    in_parallel,
    killed,
    make_source,
    relapse,
    started_zygotes,
    strike,
)
from tests.faults.zygote import CALLS, supported
from tests.mounting import tmpfs
from tests.processes import held_open

SHAPES = {
    shape.name: shape
    for shape in (
        Shape(name="beside each other"),
        Shape(name="apart, with a manifest", apart=True, manifest=True),
        Shape(name="nothing there yet", occupied=False),
        Shape(name="on two file systems", manifest=True),
        Shape(name="over a crashed instance", wal=True),
        Shape(name="of a live source", live=True),
    )
}
SOURCE = "INSERT INTO iam_user VALUES ('1', 'live@example.org', 1)"
FOREMOST = ("apart, with a manifest", "nothing there yet")
"""Of these the publishing is broken at each of its calls in a quick run too."""

PENDING: tuple[str, ...] = ()

STRIDE = 25
SEED = 20
WRITING = "O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|FICLONE"
READING = (
    "access|chdir|close|dup|execve|faccessat2|fadvise64|fchdir|fcntl|fgetxattr|flistxattr|fstat"
    "|fstatfs|getcwd|getdents64|getxattr|lgetxattr|listxattr|llistxattr|lseek|lstat|mmap"
    "|newfstatat|poll|pread64|preadv2|read|readlink|readlinkat|readv|stat|statfs|statx"
)

pytestmark = pytest.mark.skipif(
    not supported(), reason="the filter that stops at system calls is for Linux on x86-64"
)


class Bench:
    """The scenarios, each made when it is first wanted, and what runs them."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.zygotes = stack.enter_context(started_zygotes())
        self.tally = Tally()
        self.directory = directory
        self._stack = stack
        self._made: dict[str, Scenario] = {}

    def scenario(self, name: str) -> Scenario:
        """Make a scenario, or return the one that was made."""
        if name not in self._made:
            self.add(self._make(SHAPES[name]))
        return self._made[name]

    def add(self, scenario: Scenario) -> None:
        """Add a scenario that was made."""
        self._made[scenario.shape.name] = scenario
        self.tally.known[scenario.shape.name] = set(scenario.names)

    def _make(self, shape: Shape) -> Scenario:
        place = self.directory / re.sub(r"\W+", "-", shape.name)
        other = None
        if shape.name == "on two file systems":
            other = self._stack.enter_context(tmpfs("256m"))
        source = make_source(self.directory / f"source-{place.name}")
        if shape.live:
            self._stack.enter_context(held_open(source.database, SOURCE))
        return Scenario(shape, source, place, self.zygotes[0], other)


@contextmanager
def benched(factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Make ready, and print the table at the end."""
    with ExitStack() as stack:
        made = Bench(factory.mktemp("injection"), stack)
        yield made
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        sys.stdout.write("\n\n" + made.tally.table() + "\n")


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Bench]:
    """Make ready for all that is done here."""
    with benched(tmp_path_factory, request) as made:
        yield made


def thinned(numbers: range, stride: int, *, keep: range = range(0)) -> list[int]:
    """Take every so many of the numbers, and those to be kept; all of them in a full run."""
    return [at for at in numbers if FULL or at in keep or at % stride == 0]


def judge(bench: Bench, name: str, verdicts: list[Verdict | None]) -> None:
    """Count the verdicts, and fail with those that are bad."""
    seen = [verdict for verdict in verdicts if verdict is not None]
    for verdict in seen:
        bench.tally.add(name, verdict)
    bad = [
        verdict
        for verdict in seen
        if not all(any(re.search(one, key) for one in PENDING) for key in verdict.keys)
    ]
    assert not bad, f"{len(bad)} of {len(seen)}:\n" + "\n".join(map(str, bad[:12]))
    assert len(seen) * 10 >= len(verdicts) * 9, "most of the calls came"


def calls_of(scenario: Scenario) -> range:
    """Number the calls of a run, from 1 on."""
    return range(1, len(scenario.calls) + 1)


def test_runs_this_code(bench: Bench) -> None:
    for zygote in bench.zygotes:
        assert zygote.package == ROOT / "ops" / "__init__.py"


@pytest.mark.parametrize("name", SHAPES)
def test_killed_at_each_call(bench: Bench, name: str) -> None:
    """SIGKILL, and then `recover` and another clone: of the publishing both, by turns before it."""
    scenario = bench.scenario(name)
    numbers = calls_of(scenario)
    publishing = range(scenario.publishing, numbers.stop)
    kept = publishing if name in FOREMOST else scenario.committed
    cases = [
        Case(scenario=scenario, fault=killed(at), heal=heal)
        for at in thinned(numbers, STRIDE, keep=kept)
        for turn, heal in enumerate(("recover", "clone"))
        if at % 2 == turn or at in (publishing if FULL else scenario.committed)
    ]
    judge(bench, name, in_parallel(cases, strike, bench.zygotes))
    missed = bench.tally.known[name] - bench.tally.covered[name]
    # Files are deleted in the order of the directory, which is not the same in each run.
    assert not FULL or len(missed) < 5, missed


@pytest.mark.parametrize("name", SHAPES)
def test_stopped_by_a_signal_at_each_call(bench: Bench, name: str) -> None:
    scenario = bench.scenario(name)
    cases = [
        Case(scenario=scenario, fault=Fault(action="signal", at=at, number=number))
        for at in thinned(calls_of(scenario), STRIDE)
        for turn, number in enumerate(STOPPING)
        if FULL or at // STRIDE % len(STOPPING) == turn
    ]
    judge(bench, name, in_parallel(cases, strike, bench.zygotes))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("span", ["once", "call", "all"])
def test_refused_at_each_call(bench: Bench, name: str, span: str) -> None:
    """An error of the disk: once, from then on at that call, or at every call from then on."""
    scenario = bench.scenario(name)
    chance = random.Random(SEED)  # noqa: S311 - a sample
    errors = (errno.EIO, errno.EROFS) if span == "all" else ERRORS
    cases = [
        Case(
            scenario=scenario,
            fault=Fault(action="error", at=at, number=number, span=span),
            heal=chance.choice(("recover", "clone")),
        )
        for at in thinned(calls_of(scenario), STRIDE)
        for number in (errors if FULL else chance.sample(errors, 1))
    ]
    judge(bench, name, in_parallel(cases, strike, bench.zygotes))


@pytest.mark.parametrize("mender", ["recover", "clone"])
@pytest.mark.parametrize("name", SHAPES)
def test_recovery_broken_at_each_call(bench: Bench, name: str, mender: str) -> None:
    """What mends a killed run is killed, stopped or refused in its turn, and then run again."""
    scenario = bench.scenario(name)
    numbers = [scenario.publishing - 1, *scenario.committed, scenario.committed.stop]
    chance = random.Random(SEED)  # noqa: S311 - a sample
    if not FULL or mender == "clone":  # that is a whole run once more
        numbers = chance.sample(numbers, 4 if FULL else 2)
    cases = []
    for killed_at in numbers:
        calls = range(1, learn(bench.zygotes[0], scenario, killed_at, mender) + 1)
        for at in calls if FULL else chance.sample(calls, 2):
            faults = [
                Fault(action="signal", at=at, number=chance.choice(STOPPING)),
                Fault(action="error", at=at, number=errno.EIO),
                Fault(action="error", at=at, number=errno.EROFS, span="all"),
            ]
            cases += [
                Relapse(scenario=scenario, killed_at=killed_at, fault=fault, mender=mender)
                for fault in (killed(at), chance.choice(faults))
            ]
    judge(bench, f"{name}, mended by {mender}", in_parallel(cases, relapse, bench.zygotes))


def learn(zygote: Zygote, scenario: Scenario, killed_at: int, mender: str) -> int:
    """Count the calls of what mends a run that was killed."""
    site = scenario.place()
    scenario.clone(zygote, site, killed(killed_at))
    run = scenario.recover if mender == "recover" else scenario.clone
    answer = run(zygote, site)
    assert answer.code == 0, answer.err
    assert scenario.state(site).name in {"OLD", "NEW"}
    scenario.remove(site)
    return len(answer.calls)


def test_no_call_escapes(bench: Bench, tmp_path: Path) -> None:
    """The list of calls is what strace(1) sees of the real command, in this order."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("takes strace, to compare the calls with")
    scenario = bench.scenario("beside each other")
    site = scenario.place()
    log = tmp_path / "log"
    flags = (*from_flags(scenario.source), *to_flags(site.pair))
    done = subprocess.run(
        [strace, "-f", "-y", "-s", "0", "-o", log, *PROGRAM, "clone", "--force", *flags],
        check=False,
        cwd=site.home,
        env={
            "HOME": str(site.home),
            "TMPDIR": str(site.temporary),
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    seen = Counter(modifying_calls(log.read_text(), site.directory))
    known = Counter(call[0] for call in scenario.calls)
    seen.pop("utimensat")  # as often as the clock has to be asked
    known.pop("utimensat")
    assert seen == known


def modifying_calls(log: str, directory: Path) -> Iterator[str]:
    """Name the calls in a log of strace that concern a directory, but for those that only read."""
    for line in log.splitlines():
        call = re.fullmatch(r"\d+ +(\w+)\((.*)", line)
        if call is None or str(directory) not in line:
            continue
        name, rest = call.groups()
        if name in OPENING | {"ioctl"} and not re.search(WRITING, rest):
            continue
        if not re.fullmatch(READING, name):
            yield name


def test_the_numbers_are_those_of_the_kernel() -> None:
    """They were typed: strace(1) knows them too."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("takes strace, to compare the numbers with")
    numbers = [number for name, (number, _) in CALLS.items() if name not in {"sync", "fchmodat2"}]
    calls = f"for number in {numbers}: call(number, *[-1] * 6)"
    done = subprocess.run(
        [strace, sys.executable, "-c", f"import ctypes; call = ctypes.CDLL(None).syscall\n{calls}"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    seen = re.findall(r"^(\w+)\((?:-1|0xf{16})\b", done.stderr, flags=re.MULTILINE)
    assert seen == [name for name in CALLS if name not in {"sync", "fchmodat2"}]
