"""What the disk refuses, as the one line that tells of it."""

import os
from pathlib import Path

import pytest

from ops.disk import Disk, same_file
from ops.errors import DestinationError
from ops.spaces import PLACES, add_places, read_places
from ops.sqlite.connection import remove_database
from ops.sqlite.recovery import copy_still_files
from tests.mounting import tmpfs


def test_a_file_that_does_not_fit_is_not_left(tmp_path: Path) -> None:
    with tmpfs("64k") as room:
        with pytest.raises(DestinationError, match=r"cannot write .*journal: No space left"):
            Disk().create(room / "journal", b"x" * (1 << 20))
        assert list(room.iterdir()) == []
    with pytest.raises(DestinationError, match=r"cannot write .*: No such file"):
        Disk().create(tmp_path / "missing" / "journal", b"x")


def test_names_that_cannot_be_given_or_taken(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    with pytest.raises(DestinationError, match=r"cannot link .*one to .*other: File exists"):
        Disk().link(one, other)
    with pytest.raises(DestinationError, match=r"cannot move .*one to .*other: File exists"):
        Disk().rename(one, other)
    with pytest.raises(DestinationError, match=r"cannot remove .*missing: No such file"):
        Disk().unlink(tmp_path / "missing")
    with pytest.raises(DestinationError, match=r"cannot .*missing: No such file"):
        Disk().sync(tmp_path / "missing")
    assert (one.read_text(), other.read_text()) == ("1", "2")


def test_two_names_of_one_file(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("")
    assert not same_file(one, other)
    assert not same_file(one, one / "below")
    assert Disk().link(one, other)
    assert same_file(one, other)
    os.replace(tmp_path / "other", tmp_path / "third")
    assert not same_file(one, tmp_path / "link")


@pytest.mark.parametrize("content", [b"", b"[1]", b'["relative"]', b'["/a\\u0000"]', b"[" * 99999])
def test_a_list_of_places_that_is_damaged_names_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / PLACES).write_bytes(content)
    assert read_places(tmp_path) == ()


def test_a_list_of_places_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / PLACES).mkdir()
    with pytest.raises(DestinationError, match=r"cannot read .*places: Is a directory"):
        read_places(tmp_path)
    (tmp_path / PLACES).rmdir()
    (tmp_path / PLACES).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DestinationError, match=r"cannot read .*places"):
        read_places(tmp_path)
    with pytest.raises(DestinationError, match=r"cannot write .*places: No such file"):
        add_places(tmp_path / "missing", [tmp_path])
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / PLACES).unlink()
    (tmp_path / "pipe").rename(tmp_path / PLACES)
    with pytest.raises(DestinationError, match=r"cannot read .*places: not a regular file"):
        read_places(tmp_path)


def test_a_database_of_our_own_that_cannot_be_removed_is_told(tmp_path: Path) -> None:
    (tmp_path / "db-wal").mkdir()
    (tmp_path / "db").write_text("")
    with pytest.raises(DestinationError, match=r"cannot remove .*db-wal: Is a directory"):
        remove_database(tmp_path / "db")
    assert not (tmp_path / "db").exists()


def test_a_scratch_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "recovery").write_text("")
    with pytest.raises(DestinationError, match=r"cannot use the scratch directory .*recovery"):
        copy_still_files(tmp_path / "db", tmp_path)
