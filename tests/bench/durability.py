"""What durability costs: one syncfs(2) of the file system against an fsync(2) for each file.

    python -m tests.bench.durability [FILES [BYTES [DIRECTORY]]]

Copies a tree with our own engine and makes it durable in each way, alternating, and prints the
medians in seconds and their ratios to the copy alone.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ops.disk import DISK
from ops.errors import OpsError
from ops.tree.crew import crew
from ops.tree.removal import remove_tree
from ops.tree.update import TreeCopy
from ops.tree.work import Trees

_ROUNDS = 5
_DEFAULTS = ["5000", "4096", tempfile.gettempdir()]


def make_tree(root: Path, files: int, size: int) -> None:
    """Make a tree of files of one size, a hundred in each directory."""
    for number in range(files):
        directory = root / f"{number // 100:04}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{number}.bin").write_bytes(os.urandom(size))


def copy_tree(source: Path, copy: Path) -> None:
    """Copy a tree as a clone does, hashing what is read."""
    copy.mkdir()
    with crew(Trees(source=source, copy=copy)) as copiers:
        tree = TreeCopy(copiers)
        tree.update(delete=False)
        tree.finish()


def sync_nothing(_root: Path) -> None:
    """Leave it to the kernel."""


def sync_file_system(root: Path) -> None:
    """Sync the whole file system at once."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        DISK.sync_file_system(root, descriptor)
    finally:
        os.close(descriptor)


def sync_each(root: Path) -> None:
    """Sync every file and directory by itself."""
    for directory, _, names in os.walk(root, topdown=False):
        for name in names:
            DISK.sync(Path(directory, name))
        DISK.sync(Path(directory))


WAYS: dict[str, Callable[[Path], None]] = {
    "copy alone": sync_nothing,
    "copy, one syncfs": sync_file_system,
    "copy, fsync of each": sync_each,
}


def measure(files: int, size: int, directory: Path) -> dict[str, list[float]]:
    """Time each way several times, in turn."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(dir=directory) as name:
        source, copy = Path(name, "source"), Path(name, "copy")
        make_tree(source, files, size)
        sync_file_system(source)
        for _ in range(_ROUNDS):
            for way, sync in WAYS.items():
                began = time.monotonic()
                copy_tree(source, copy)
                sync(copy)
                seconds[way].append(time.monotonic() - began)
                remove_tree(copy, error=OpsError)
                sync_file_system(source)  # nobody pays for another's leftovers
    return seconds


def main(arguments: list[str]) -> None:
    """Measure and print."""
    given = [*arguments, *_DEFAULTS[len(arguments) :]]
    files, size = int(given[0]), int(given[1])
    seconds = measure(files, size, Path(given[2]))
    base = statistics.median(seconds["copy alone"])
    sys.stdout.write(f"{files} files of {size} bytes, medians of {_ROUNDS} alternating runs\n")
    for way, each in seconds.items():
        median = statistics.median(each)
        spread = f"{min(each):.2f} to {max(each):.2f}"
        sys.stdout.write(f"  {way:20} {median:8.2f} s ({spread})  {median / base:6.2f}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
