"""The cases: which data, which contestants, and what a run of each has to leave behind."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import databases, peers, staging, trees
from tests.bench.daily import Daily
from tests.bench.databases import Database, make_database, served
from tests.bench.figures import for_each
from tests.bench.measure import CommandError, Contestant, Course, alternate, run
from tests.bench.memory import family_bytes
from tests.bench.packing import Packing
from tests.bench.trees import Tree, make_tree

_START_ROUNDS = 4
"""Starting is so short that it takes four times as many rounds."""

MILLION = 1_000_000
BASE = 100_000
_CURVE = (1000, 10_000, BASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What holds for a whole run of the suite: where, how much, how often, and who is told."""

    root: Path
    scale: float
    rounds: int
    million: bool
    say: Callable[[str], None]

    @property
    def destination(self) -> Path:
        """The directory into which every contestant copies."""
        return self.root / "destination"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The seconds of every round of a case, by contestant.

    `absent` says which peers were skipped, and what of each is not installed.
    """

    case: str
    title: str
    ours: tuple[str, ...]
    seconds: Mapping[str, Sequence[float]]
    absent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One size of the cost curve; the seconds of its rounds are for each file."""

    files: int
    seconds: tuple[float, ...]
    peak_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """What a file costs in trees of several sizes, by the name of the size."""

    case: str
    points: Mapping[str, Point]

    @property
    def seconds(self) -> Mapping[str, Sequence[float]]:
        """The seconds of every round for each file, by the name of the size."""
        return {name: point.seconds for name, point in self.points.items()}


def size_name(files: int) -> str:
    """Name a size of the cost curve, whatever the scale makes of it."""
    return f"{files:,} files"


def run_case(name: str, bench: Bench) -> Result | Curve:
    """Make the data of a case and measure it.

    Raises:
        CommandError: A command failed.
        OSError: The data cannot be written.
    """
    return CASES[name](bench)


def _tree_case(tree: Tree, bench: Bench) -> Result:
    tree = tree.scaled(bench.scale)
    source = _made_tree(tree, bench)
    destination = peers.tree_at(bench.destination)
    ours = peers.our_copies(source, destination)
    others = peers.copies(source, destination)

    def check(name: str) -> None:
        _check_tree(name, tree, destination)

    return _contest(tree.name, tree.title, ours, others, bench=bench, check=check)


def _clone_case(name: str, database: Database, bench: Bench) -> Result:
    database = database.scaled(bench.scale)
    attachments = _made_tree(database.tree, bench)
    bench.say(f"making the {database.title}\n")
    source = make_database(bench.root, database)
    ours = peers.our_clone(source, attachments, bench.destination)
    others = peers.pipelines(source, attachments, bench.destination)

    def check(name: str) -> None:
        _check_tree(name, database.tree, peers.tree_at(bench.destination))
        copy = peers.database_at(bench.destination)
        if not copy.exists() or copy.stat().st_size < database.size:
            raise CommandError(f"{name}: did not copy the database")

    title = f"{database.title}, {database.tree.title}"
    with served(source):
        return _contest(name, title, (ours,), others, bench=bench, check=check)


def _daily_case(name: str, changed: float, bench: Bench) -> Result:
    tree = trees.SMALL.scaled(bench.scale)
    daily = Daily(root=bench.root / name, attachments=_made_tree(tree, bench), changed=changed)
    daily.begin()
    ours, *others = daily.contestants()
    words = f"{changed:.0%} of them changed" if changed else "none of them changed"
    course = _course(name, bench.rounds, bench, lambda who: daily.check(who, tree.files))
    course = replace(course, prepare=daily.prepare)
    missing = {other.name: programs for other in others if (programs := peers.absent(other))}
    present = [ours, *(other for other in others if other.name not in missing)]
    seconds = alternate(present, bench.rounds, course)
    shutil.rmtree(daily.root)
    return Result(
        case=name,
        title=f"one more snapshot of {tree.title}, {words}",
        ours=(ours.name,),
        seconds=seconds,
        absent=tuple(f"“{who}” ({', '.join(programs)})" for who, programs in missing.items()),
    )


def _pack_case(bench: Bench) -> Result:
    tree = trees.MIX.scaled(bench.scale)
    attachments = _made_tree(tree, bench)
    packing = Packing(
        root=bench.root / "pack", attachments=attachments, destination=bench.destination
    )
    packing.begin()
    plain, secret, *others = packing.contestants()
    result = _contest(
        "pack",
        f"one file of a snapshot of {tree.title}",
        (plain, secret),
        tuple(others),
        bench=bench,
        check=lambda who: packing.check(who, sum(trees.sizes_of(tree))),
    )
    shutil.rmtree(packing.root)
    return result


def _staging_case(bench: Bench) -> Result:
    database = staging.staging_database().scaled(bench.scale)
    attachments = _made_tree(database.tree, bench)
    bench.say(f"making the {database.title}, with people in it\n")
    source = staging.make_source(bench.root, database)
    ours = staging.contestants(source, attachments, bench.destination)

    def check(name: str) -> None:
        staging.check(name, bench.destination)

    title = f"{database.title}, {database.tree.title}"
    return _contest("staging", title, ours, (), bench=bench, check=check)


def _start_case(bench: Bench) -> Result:
    empty = bench.root / "empty"
    empty.mkdir()
    rounds = bench.rounds * _START_ROUNDS
    return _contest(
        "start",
        f"start-up, {trees.counted(rounds, 'round')}",
        (peers.our_list(),),
        (peers.empty_list(empty),),
        bench=bench,
        check=_check_nothing,
        rounds=rounds,
    )


def _curve_case(bench: Bench) -> Curve:
    sizes = (*_CURVE, MILLION) if bench.million else _CURVE
    made = {size_name(files): trees.of_small_files(files).scaled(bench.scale) for files in sizes}
    destination = peers.tree_at(bench.destination)
    contestants = []
    for name, tree in made.items():
        one = peers.our_copy(peers.CHECK, _made_tree(tree, bench), destination)
        contestants.append(Contestant(name=name, steps=one.steps))

    def check(name: str) -> None:
        _check_tree(name, made[name], destination)

    course = _course("curve", bench.rounds, bench, check)
    seconds = alternate(contestants, bench.rounds, course)
    points = {}
    for contestant in contestants:
        name = contestant.name
        course.prepare()
        bench.say(f"curve: memory: {name}\n")
        peak = run(contestant, bench.root, sample=family_bytes).peak_bytes
        files = made[name].files
        points[name] = Point(files=files, seconds=for_each(seconds[name], files), peak_bytes=peak)
    return Curve(case="curve", points=points)


CASES: dict[str, Callable[[Bench], Result | Curve]] = {
    "small": lambda bench: _tree_case(trees.SMALL, bench),
    "medium": lambda bench: _tree_case(trees.MEDIUM, bench),
    "big": lambda bench: _tree_case(trees.BIG, bench),
    "mix": lambda bench: _tree_case(trees.MIX, bench),
    "clone": lambda bench: _clone_case("clone", databases.large_for(trees.SMALL), bench),
    "clone-usual": lambda bench: _clone_case(
        "clone-usual", databases.usual_for(trees.MEDIUM), bench
    ),
    "daily": lambda bench: _daily_case("daily", 0.0, bench),
    "daily-changed": lambda bench: _daily_case("daily-changed", 0.01, bench),
    "pack": _pack_case,
    "staging": _staging_case,
    "curve": _curve_case,
    "start": _start_case,
}
"""What can be measured, in the order in which it is."""


def _contest(
    case: str,
    title: str,
    ours: tuple[Contestant, ...],
    others: tuple[Contestant, ...],
    *,
    bench: Bench,
    check: Callable[[str], None],
    rounds: int = 0,
) -> Result:
    """Measure the contestants that are there."""
    missing = {other.name: programs for other in others if (programs := peers.absent(other))}
    present = [*ours, *(other for other in others if other.name not in missing)]
    rounds = rounds or bench.rounds
    return Result(
        case=case,
        title=title,
        ours=tuple(one.name for one in ours),
        seconds=alternate(present, rounds, _course(case, rounds, bench, check)),
        absent=tuple(f"“{name}” ({', '.join(programs)})" for name, programs in missing.items()),
    )


def _course(case: str, rounds: int, bench: Bench, check: Callable[[str], None]) -> Course:
    def prepare() -> None:
        if bench.destination.exists():
            shutil.rmtree(bench.destination)
        bench.destination.mkdir()

    def say(name: str, number: int, seconds: float | None) -> None:
        if seconds is None:
            time = f"round {number}/{rounds}" if number else "warm-up"
            bench.say(f"{case}: {time}: {name} … ")
        else:
            bench.say(f"{seconds:.3f} s\n")

    return Course(work=bench.root, prepare=prepare, check=check, say=say)


def _made_tree(tree: Tree, bench: Bench) -> Path:
    if not (bench.root / tree.name).exists():
        bench.say(f"making {tree.title}\n")
    return make_tree(bench.root, tree)


def _check_tree(name: str, tree: Tree, copy: Path) -> None:
    """See that a contestant did copy a tree, so that doing less never looks like being quick."""
    wanted = tree.files, sum(trees.sizes_of(tree))
    found = trees.count(copy) if copy.is_dir() else (0, 0)
    if found != wanted:
        raise CommandError(
            f"{name}: copied {found[0]:,} files with {found[1]:,} bytes"
            f" of {wanted[0]:,} with {wanted[1]:,}"
        )


def _check_nothing(_name: str) -> None:
    """Find nothing: there is no copy to look at."""
