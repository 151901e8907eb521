"""Removing a tree of our own: all of it, and nothing else."""

import errno
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given

from ops.errors import DestinationError
from ops.tree.removal import remove_tree
from tests.filesystem import (
    GETDENTS64,
    NOBODY,
    Directory,
    File,
    build,
    footprint,
    unprivileged,
    with_refusal,
)
from tests.mounting import tmpfs
from tests.strategies import trees


@given(trees())
def test_a_tree_of_anything_is_removed_and_its_neighbours_stay(tree: Directory) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        build(directory / "kept", Directory({b"file": File(b"kept")}))
        before = footprint(directory / "kept")
        build(directory / "tree", tree)
        (directory / "tree" / ("l" * 200)).symlink_to(directory / "kept")
        remove_tree(directory / "tree", error=DestinationError)
        assert os.listdir(directory) == ["kept"]
        assert footprint(directory / "kept") == before


def test_a_tree_deeper_than_any_path_is_removed(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    root.mkdir()
    descriptor = os.open(root, os.O_RDONLY)
    for _ in range(300):
        os.mkdir(b"d" * 100, dir_fd=descriptor)
        below = os.open(b"d" * 100, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=below))
        descriptor = below
    os.close(descriptor)
    remove_tree(root, error=DestinationError)
    assert not root.exists()


def test_directories_that_forbid_their_owner_everything_are_opened_up() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "tree"
        closed = Directory({b"file": File(), b"in": Directory({b"file": File()}, mode=0)}, mode=0)
        build(root, Directory({b"closed": closed}, mode=0o500))
        for path in [Path(name), root, *root.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
        with unprivileged():
            remove_tree(root, error=DestinationError)
        assert os.listdir(name) == []


def test_a_tree_that_is_not_there_is_reported_by_name(tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match=r"cannot remove .*/nowhere: No such file"):
        remove_tree(tmp_path / "nowhere", error=DestinationError)


def test_a_link_in_place_of_the_tree_is_refused_and_what_it_points_to_is_left_alone(
    tmp_path: Path,
) -> None:
    build(tmp_path / "kept", Directory({b"file": File(b"kept")}, mode=0o755))
    before = footprint(tmp_path / "kept")
    (tmp_path / "tree").symlink_to("kept")
    with pytest.raises(DestinationError, match=r"cannot remove .*/tree"):
        remove_tree(tmp_path / "tree", error=DestinationError)
    assert footprint(tmp_path / "kept") == before
    assert (tmp_path / "tree").is_symlink()


def test_what_may_not_be_removed_is_reported_with_its_full_path() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "tree"
        # Only the owner of an entry may remove it from a sticky directory that everybody writes.
        inside = Directory({b"file": File()}, mode=0o1777)
        build(root, Directory({b"in": inside}))
        os.chown(name, NOBODY, NOBODY)
        os.chown(root, NOBODY, NOBODY)
        with (
            unprivileged(),
            pytest.raises(DestinationError, match=f"cannot remove {root}/in/file: ") as caught,
        ):
            remove_tree(root, error=DestinationError)
        assert "root" in caught.value.hint
        assert (root / "in/file").exists()


def test_what_is_mounted_inside_is_left_alone(tmp_path: Path) -> None:
    build(tmp_path / "tree", Directory({b"in": Directory({b"disk": Directory()})}))
    with tmpfs("1m", at=tmp_path / "tree/in/disk") as disk:
        (disk / "kept").write_bytes(b"kept")
        with pytest.raises(DestinationError, match=r"/tree/in/disk: a file system is mounted"):
            remove_tree(tmp_path / "tree", error=DestinationError)
        assert (disk / "kept").read_bytes() == b"kept"
    remove_tree(tmp_path / "tree", error=DestinationError)
    assert not (tmp_path / "tree").exists()


def test_a_directory_that_cannot_be_listed_is_reported_with_its_full_path(tmp_path: Path) -> None:
    build(tmp_path / "tree", Directory({b"in": Directory({b"file": File()})}))
    with pytest.raises(DestinationError, match=r"cannot remove .*/tree: Input/output error"):
        with_refusal(
            GETDENTS64, errno.EIO, lambda: remove_tree(tmp_path / "tree", error=DestinationError)
        )


@contextmanager
def _descriptors(count: int) -> Iterator[None]:
    """Allow so many more descriptors than are open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = os.dup(0)  # the lowest free number
    os.close(spare)
    resource.setrlimit(resource.RLIMIT_NOFILE, (spare + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("count", [0, 1])
def test_running_out_of_descriptors_is_reported_with_what_to_do(tmp_path: Path, count: int) -> None:
    build(tmp_path / "tree", Directory({b"in": Directory({b"file": File()})}))
    with (
        _descriptors(count),
        pytest.raises(DestinationError, match=r"cannot remove .*/tree.*Too many") as caught,
    ):
        remove_tree(tmp_path / "tree", error=DestinationError)
    assert "ulimit" in caught.value.hint
    assert (tmp_path / "tree/in/file").exists()
