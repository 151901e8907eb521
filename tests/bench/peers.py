"""The commands: ours, and what others use for the same work."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.measure import Contestant, Step

ROOT = Path(__file__).parents[2]

COPY = "ours: copy"
DIGESTS = "ours: copy + SHA-256"
CHECK = "ours: copy + SHA-256 + check"
CLONE = "ours: clone"
LIST = "ours: inv --list"

CP = "cp -a"
RSYNC = "rsync -a"
COPYTREE = "shutil.copytree"
CP_AND_SUMS = "cp -a, sha256sum of both"
RSYNC_TWICE = "rsync -a, rsync -anc"
DURABLE_PIPELINE = "sqlite3 .backup, integrity check, rsync -a, rsync -anc, sync -f"
PIPELINE = "sqlite3 .backup, integrity check, rsync -a, rsync -anc"
EMPTY_LIST = "empty tasks.py"

_MODES = {COPY: "copy", DIGESTS: "digests", CHECK: "check"}
_COPYTREE = "import shutil, sys; shutil.copytree(sys.argv[1], sys.argv[2])"
_INVOKE = (sys.executable, "-m", "invoke")


def absent(contestant: Contestant) -> tuple[str, ...]:
    """Name the programs of a contestant that are not installed."""
    programs = {program[0] for step in contestant.steps for program in step.programs}
    return tuple(sorted(program for program in programs if shutil.which(program) is None))


def our_copy(name: str, source: Path, destination: Path) -> Contestant:
    """Copy a tree with our engine, in the mode that the name says."""
    program = (sys.executable, "-m", "tests.bench.ours", _MODES[name], source, destination)
    return Contestant(name=name, steps=(_step(program, directory=ROOT),))


def our_copies(source: Path, destination: Path) -> tuple[Contestant, ...]:
    """Copy a tree with our engine, in each mode."""
    return tuple(our_copy(name, source, destination) for name in _MODES)


def copies(source: Path, destination: Path) -> tuple[Contestant, ...]:
    """Copy a tree as others do."""
    copy = _step(("cp", "-a", source, destination))
    steps = {
        CP: (copy,),
        RSYNC: (_rsync("-a", source, destination),),
        COPYTREE: (_step((sys.executable, "-c", _COPYTREE, source, destination)),),
        CP_AND_SUMS: (copy, _sums(source), _sums(destination)),
        RSYNC_TWICE: _rsync_twice(source, destination),
    }
    return tuple(Contestant(name=name, steps=each) for name, each in steps.items())


def our_clone(database: Path, attachments: Path, destination: Path) -> Contestant:
    """Clone an instance with the whole command, which ends when all of it is on the disk."""
    return our_task(CLONE, "clone", database, attachments, destination)


def our_task(
    name: str, task: str, database: Path, attachments: Path, destination: Path
) -> Contestant:
    """Have one of our tasks make an instance of another, as a whole command."""
    program = (
        *(*_INVOKE, task, "--force", "--profile", "ciso_assistant"),
        *("--source-db", database, "--source-attachments", attachments),
        *("--dest-db", database_at(destination), "--dest-attachments", tree_at(destination)),
    )
    return Contestant(name=name, steps=(_step(program, directory=ROOT),))


def pipelines(database: Path, attachments: Path, destination: Path) -> tuple[Contestant, ...]:
    """Clone an instance as an administrator would, with and without flushing it to the disk."""
    name = database_at(destination).name  # relative, so that no path needs quotes
    steps = (
        _step(("sqlite3", database, f".backup {name}"), directory=destination),
        _step(("sqlite3", name, "pragma integrity_check"), directory=destination),
        *_rsync_twice(attachments, tree_at(destination)),
    )
    flush = _step(("sync", "-f", destination))
    return (
        Contestant(name=DURABLE_PIPELINE, steps=(*steps, flush)),
        Contestant(name=PIPELINE, steps=steps),
    )


def our_list() -> Contestant:
    """List our tasks."""
    return Contestant(name=LIST, steps=(_step((*_INVOKE, "--list"), directory=ROOT),))


def empty_list(directory: Path) -> Contestant:
    """List the tasks of an empty `tasks.py`, which ends with code 1 since there are none."""
    (directory / "tasks.py").touch()
    step = _step((*_INVOKE, "--list"), directory=directory, exit_code=1)
    return Contestant(name=EMPTY_LIST, steps=(step,))


def tree_at(destination: Path) -> Path:
    """Say where in the destination directory a tree goes."""
    return destination / "attachments"


def database_at(destination: Path) -> Path:
    """Say where in the destination directory a database goes."""
    return destination / "db.sqlite3"


def _step(*programs: Sequence[str | Path], directory: Path = Path("/"), exit_code: int = 0) -> Step:
    words = tuple(tuple(map(str, program)) for program in programs)
    return Step(programs=words, directory=directory, exit_code=exit_code)


def _rsync(options: str, source: Path, destination: Path) -> Step:
    return _step(("rsync", options, f"{source}/", f"{destination}/"))


def _rsync_twice(source: Path, destination: Path) -> tuple[Step, Step]:
    return _rsync("-a", source, destination), _rsync("-anc", source, destination)


def _sums(tree: Path) -> Step:
    return _step(("find", tree, "-type", "f", "-print0"), ("xargs", "-0", "sha256sum"))
