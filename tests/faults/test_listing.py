"""Directories that stay open while their contents change, on file systems that differ in it.

On btrfs an open directory goes on listing what it held when it was opened or rewound.
"""

import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import pytest

from ops.clone import run_clone
from ops.demo_instance import build_instance
from ops.model import Clock, Instance
from ops.tree.directories import Directories
from ops.tree.listing import list_directory
from tests.faults.filesystems import volume
from tests.filesystem import read
from tests.pipeline import CLOCK, plan, quiet, request_for

Disks: TypeAlias = Callable[[str], Path]
KINDS = ("ext4", "xfs", "btrfs", "tmpfs")


@pytest.fixture(scope="module")
def disks() -> Iterator[Disks]:
    """Keep a file system of each kind that is asked for."""
    with ExitStack() as stack:
        yield functools.cache(lambda kind: stack.enter_context(volume(kind)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("below", [b"", b"d"])
def test_an_open_directory_lists_what_is_there_now(below: bytes, kind: str, disks: Disks) -> None:
    with (
        tempfile.TemporaryDirectory(dir=disks(kind)) as name,
        Directories(Path(name)) as directories,
    ):
        place = Path(name, os.fsdecode(below))
        place.mkdir(exist_ok=True)
        directories.open(below)
        for number in range(5):
            (place / f"{number}").touch()
            listing = list_directory(directories.open(below))
            found = [name for name, _ in listing.others]
            assert found == [b"%d" % one for one in range(number + 1)]
        (place / "0").unlink()
        (place / "new").mkdir()
        listing = list_directory(directories.open(below))
        assert listing.directories == [b"new"]
        assert [name for name, _ in listing.others] == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", ["none", "ciso_assistant"])
def test_what_comes_before_the_last_pass_is_in_the_copy(
    kind: str, profile: str, jobs: int, disks: Disks
) -> None:
    """A table that no profile knows may name it: at the pin every file there is must be copied."""
    with tempfile.TemporaryDirectory(dir=disks(kind)) as name:
        source = build_instance(Path(name) / "source", evidences=3)
        (source.attachments / "folder").mkdir()
        copy = Instance(database=Path(name) / "d" / "db", attachments=Path(name) / "d" / "files")

        def pinned() -> datetime:
            (source.attachments / "late").touch()
            (source.attachments / "folder" / "later").touch()
            (source.attachments / "new").mkdir(exist_ok=True)
            (source.attachments / "new" / "latest").touch()
            return datetime.now(UTC)

        clock = Clock(now=pinned, seconds=CLOCK.seconds)
        planned = plan(request_for(source, copy, profile=profile, jobs=jobs))
        outcome = run_clone(planned, clock=clock, progress=quiet)
        assert outcome.capture.rounds == 1
        assert read(copy.attachments, times=False) == read(source.attachments, times=False)
