"""Pages of a database that did not change lie on the disk once, where the file system can share."""

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.demo_instance import build_instance, connect, insert_evidence
from ops.errors import DestinationError
from ops.sqlite.sharing import share_pages
from ops.store import list_snapshots
from tests.command import from_flags, run
from tests.faults.filesystems import volume

MIB = 1 << 20


def used(path: Path) -> int:
    """Tell how much of a file system is in use."""
    os.sync()
    status = os.statvfs(path)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_only_what_changed_takes_room(kind: str) -> None:
    with volume(kind) as disk:
        content = bytearray(random.Random(1).randbytes(32 * MIB))  # noqa: S311 - test data
        (disk / "old").write_bytes(content)
        content[5 * MIB + 100] ^= 1
        content += b"more" * 5000
        (disk / "new").write_bytes(content)
        os.utime(disk / "new", ns=(5, 7))
        before = used(disk)
        shared = share_pages(disk / "old", disk / "new")
        assert (disk / "new").read_bytes() == content
        assert (disk / "new").stat().st_mtime_ns == 7
        assert shared >= 32 * MIB - 4096
        assert before - used(disk) > 24 * MIB
        assert sorted(os.listdir(disk)) == sorted({*os.listdir(disk)} - {"new.shared"})


@pytest.mark.parametrize("kind", ["xfs"])
def test_a_snapshot_shares_the_pages_of_the_one_before(kind: str) -> None:
    with volume(kind) as disk:
        instance = build_instance(disk / "p", evidences=3)
        connection = connect(instance.database)
        connection.execute("CREATE TABLE filler (x)")
        connection.execute("INSERT INTO filler VALUES (randomblob(?))", (20 * MIB,))
        connection.close()
        for number in range(2):
            before = used(disk)
            made = run("backup-daily", "--store", disk / "store", *from_flags(instance))
            assert made.code == 0, made.err
            if number:  # before the first, room of the log that went may still count as used
                assert used(disk) - before < 4 * MIB
                assert list_snapshots(disk / "store")[1].instance.database.stat().st_size > 20 * MIB
            connection = connect(instance.database)
            insert_evidence(connection, instance.attachments, f"e{number}", b"x")
            connection.close()
        checked = run("verify", "--store", disk / "store", "--snapshot", "all")
        assert checked.code == 0, checked.out
        assert len(list_snapshots(disk / "store")) == 2


def test_the_copy_stays_what_it_is_whatever_was_before() -> None:
    contents = st.binary(max_size=3 * 4096)
    with volume("xfs") as disk:

        @given(contents, contents)
        @settings(max_examples=50)
        def check(old: bytes, new: bytes) -> None:
            (disk / "old").write_bytes(old)
            (disk / "new").write_bytes(new)
            share_pages(disk / "old", disk / "new")
            assert (disk / "new").read_bytes() == new
            assert (disk / "old").read_bytes() == old
            assert sorted(os.listdir(disk)) == ["new", "old"]

        check()


def test_where_nothing_can_be_shared_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    before = (tmp_path / "new").stat()
    assert share_pages(tmp_path / "none", tmp_path / "new") == 0
    (tmp_path / "old").write_bytes(b"old")
    share_pages(tmp_path / "old", tmp_path / "new")
    assert (tmp_path / "new").read_bytes() == b"new"
    assert (tmp_path / "new").stat().st_mtime_ns == before.st_mtime_ns
    assert sorted(os.listdir(tmp_path)) == ["home", "new", "old"]


def test_a_name_that_is_taken_is_a_failure(tmp_path: Path) -> None:
    for name in ("old", "new", "new.shared"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DestinationError, match="share the pages of"):
        share_pages(tmp_path / "old", tmp_path / "new")
