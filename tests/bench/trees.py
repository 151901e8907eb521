"""The trees to copy: described by their number of files and their sizes, made once in a run."""

import hashlib
import math
import os
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_POOL_BYTES = 64 * MIB
_LARGEST = 50 * MIB
_MEAN_OF_MIX = 3 * GIB / 5000
_SPREAD_OF_MIX = 1.9
"""Of the logarithms: half of the files are below 100 KiB, and a few reach the largest size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A tree to make: `files` spread evenly over `directories`, of sizes between two bounds.

    Sizes are even between the bounds, or log-normal up to the upper bound.
    """

    name: str
    files: int
    directories: int
    smallest: int
    largest: int
    log_normal: bool = False

    def scaled(self, scale: float) -> "Tree":
        """Return the tree with fewer or more files of the same sizes."""
        return replace(
            self,
            files=max(1, round(self.files * scale)),
            directories=max(1, round(self.directories * scale)),
        )

    @property
    def title(self) -> str:
        """What the tree is, in a few words."""
        if self.log_normal:
            total = in_units(sum(sizes_of(self)))
            sizes = f"log-normal up to {in_units(self.largest)}, {total} together,"
        elif self.smallest == self.largest:
            sizes = f"of {in_units(self.largest)}"
        else:
            sizes = f"of {in_units(self.smallest)} to {in_units(self.largest)}"
        return f"{counted(self.files, 'file')} {sizes} in {counted(self.directories, 'directory')}"


SMALL = Tree(name="small", files=100_000, directories=1000, smallest=KIB, largest=KIB)
MEDIUM = Tree(name="medium", files=20_000, directories=200, smallest=4 * KIB, largest=60 * KIB)
BIG = Tree(name="big", files=40, directories=1, smallest=_LARGEST, largest=_LARGEST)
MIX = Tree(name="mix", files=5000, directories=50, smallest=1, largest=_LARGEST, log_normal=True)


def of_small_files(files: int) -> Tree:
    """Describe a tree of files of 1 KiB, a hundred in each directory."""
    if files == SMALL.files:
        return SMALL
    return Tree(
        name=f"small-{files}",
        files=files,
        directories=files // 100,
        smallest=KIB,
        largest=KIB,
    )


def counted(number: int, thing: str) -> str:
    """Say how many there are of a thing."""
    plural = f"{thing[:-1]}ies" if thing.endswith("y") else f"{thing}s"
    return f"{number:,} {thing if number == 1 else plural}"


def in_units(size: int) -> str:
    """Say a size in the largest binary unit that it fills."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"


@cache
def sizes_of(tree: Tree) -> tuple[int, ...]:
    """List the sizes of a tree's files in the order of their numbers, the same in every run."""
    chance = random.Random(tree.name)  # noqa: S311 - made-up contents
    if not tree.log_normal:
        return tuple(chance.randint(tree.smallest, tree.largest) for _ in range(tree.files))
    drawn = [chance.lognormvariate(0, _SPREAD_OF_MIX) for _ in range(tree.files)]
    return _fitted(drawn, tree)


def _fitted(drawn: list[float], tree: Tree) -> tuple[int, ...]:
    """Stretch drawn sizes so that, cut off at the bounds, they have the mean of the mix."""
    wanted = _MEAN_OF_MIX * len(drawn)
    low, high = 0.0, tree.largest / min(drawn)
    while not math.isclose(low, high, rel_tol=1e-9):
        factor = (low + high) / 2
        if sum(min(factor * size, tree.largest) for size in drawn) < wanted:
            low = factor
        else:
            high = factor
    return tuple(max(tree.smallest, min(round(high * size), tree.largest)) for size in drawn)


def path_of(tree: Tree, number: int) -> str:
    """Return the path of a file of a tree, relative to its root."""
    return f"{number * tree.directories // tree.files:05}/{number:07}.bin"


def make_tree(root: Path, tree: Tree) -> Path:
    """Make a tree below a directory, unless it was made there before, and return its root.

    Raises:
        OSError: It cannot be written.
    """
    made = root / tree.name
    if made.exists():
        return made
    made.mkdir()
    for number in range(tree.directories):
        (made / f"{number:05}").mkdir()
    with _directory(made) as directory:
        for number, content in enumerate(contents_of(tree)):
            _write(path_of(tree, number), content, directory)
    return made


def contents_of(tree: Tree) -> Iterator[memoryview]:
    """Yield the contents of a tree's files: random, incompressible, the same in every run."""
    pool = memoryview(_pool())
    chance = random.Random(f"contents of {tree.name}")  # noqa: S311 - made-up contents
    for size in sizes_of(tree):
        start = chance.randrange(len(pool) - size)
        yield pool[start : start + size]


def digests_of(tree: Tree) -> Iterator[tuple[str, str]]:
    """Yield path and SHA-256 of every file of a tree."""
    for number, content in enumerate(contents_of(tree)):
        yield path_of(tree, number), hashlib.sha256(content).hexdigest()


def count(root: Path) -> tuple[int, int]:
    """Count the files below a directory, and their bytes."""
    return _sum(_count(os.fspath(root)))


@cache
def _pool() -> bytes:
    """Make the random bytes of which every content is a piece."""
    return random.Random("pool").randbytes(_POOL_BYTES)  # noqa: S311 - made-up contents


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write(name: str, content: memoryview, directory: int) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=directory)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    finally:
        os.close(descriptor)


def _count(path: str) -> Iterator[tuple[int, int]]:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _count(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield 1, entry.stat(follow_symlinks=False).st_size


def _sum(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    files = size = 0
    for more_files, more_bytes in pairs:
        files, size = files + more_files, size + more_bytes
    return files, size
