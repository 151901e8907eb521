"""Older backups, dated pairs in one directory, become snapshots like any other."""

import os
import shutil
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ops.adopt import find_older
from ops.demo_instance import build_instance
from ops.errors import SourceError
from ops.model import Instance
from ops.snapshot import ADOPTED
from ops.store import list_snapshots
from tests.command import Ran, run
from tests.filesystem import footprint, read

DAYS = ("20261101", "20261102", "20261104")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """Make older backups of an instance that grows by a file a day, as `cp` makes them."""
    directory = tmp_path / "older"
    directory.mkdir()
    instance = build_instance(tmp_path / "production", evidences=5)
    for number, day in enumerate(DAYS):
        (instance.attachments / f"new {number}.txt").write_text(day)
        shutil.copyfile(instance.database, directory / f"ciso-{day}.sqlite3")
        shutil.copytree(instance.attachments, directory / f"attachments-{day}")
    return directory


def pair(older: Path, day: str) -> Instance:
    """Name the backup of a day."""
    return Instance(
        database=older / f"ciso-{day}.sqlite3", attachments=older / f"attachments-{day}"
    )


def adopt(store: Path, older: Path, *flags: str) -> Ran:
    """Take older backups over."""
    return run("adopt", "--store", store, "--older", older, "--json", *flags)


def test_each_becomes_a_checked_snapshot_of_its_day(older: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    before = footprint(older)
    ran = adopt(store, older)
    assert ran.code == 0, ran.err
    assert footprint(older) == before
    made = list_snapshots(store)
    assert [one.name[:10].replace("-", "") for one in made] == list(DAYS)
    assert [row["snapshot"] for row in ran.document["pairs"]] == [one.name for one in made]
    for one, day in zip(made, DAYS, strict=True):
        assert one.verified
        assert one.summary is not None
        assert one.summary.purpose == ADOPTED
        assert not one.flagged
        copy = Instance(database=tmp_path / day / "db", attachments=tmp_path / day / "files")
        restored = run(
            *("restore", "--store", store, "--snapshot", one.name, "--force"),
            *("--dest-db", copy.database, "--dest-attachments", copy.attachments),
        )
        assert restored.code == 0, restored.err
        assert read(copy.attachments) == read(pair(older, day).attachments)
        assert copy.database.read_bytes()[100:] == pair(older, day).database.read_bytes()[100:]


def test_files_of_the_same_content_are_shared(older: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    adopt(store, older)
    counts = [
        (one.summary.attachments.files, one.summary.attachments.shared_files)
        for one in list_snapshots(store)
        if one.summary is not None
    ]
    assert counts == [(6, 0), (7, 6), (8, 7)]
    inodes = {
        (one.instance.attachments / "new 0.txt").stat().st_ino for one in list_snapshots(store)
    }
    assert len(inodes) == 1


def test_a_second_time_takes_over_only_what_is_new(older: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    (older / f"ciso-{DAYS[1]}.sqlite3").rename(tmp_path / "aside")
    assert adopt(store, older).document["halves"] == [str(older / f"attachments-{DAYS[1]}")]
    (tmp_path / "aside").rename(older / f"ciso-{DAYS[1]}.sqlite3")
    ran = adopt(store, older)
    assert [row["known"] for row in ran.document["pairs"]] == [True, False, True]
    assert len(list_snapshots(store)) == 3


def test_the_time_of_the_file_is_taken_where_it_fits_the_date(older: Path, tmp_path: Path) -> None:
    written = datetime(2026, 11, 2, 3, 30, 15, tzinfo=UTC).timestamp()
    os.utime(older / f"ciso-{DAYS[1]}.sqlite3", (written, written))
    assert adopt(tmp_path / "store", older).code == 0
    names = [one.name for one in list_snapshots(tmp_path / "store")]
    assert names[1] == "2026-11-02T033015Z"


def test_one_that_is_damaged_stays_out_and_the_others_come_in(older: Path, tmp_path: Path) -> None:
    with (older / f"ciso-{DAYS[1]}.sqlite3").open("r+b") as file:
        file.seek(0)
        file.write(b"no database at all")
    ran = adopt(tmp_path / "store", older)
    assert ran.code == 5
    assert "1 older backup did not pass" in ran.err
    assert ran.document["ok"] is False
    failures = [row["failure"] for row in ran.document["pairs"]]
    assert failures[0] is failures[2] is None
    assert "not a" in failures[1]
    assert len(list_snapshots(tmp_path / "store")) == 2
    told = run("adopt", "--store", tmp_path / "store", "--older", older)
    assert "NOT taken over" in told.out
    assert told.out.count("taken over before") == 2


def test_one_whose_rows_lack_their_files_stays_out(older: Path, tmp_path: Path) -> None:
    connection = sqlite3.connect(pair(older, DAYS[0]).database)
    (named,) = connection.execute("SELECT attachment FROM core_evidencerevision").fetchone()
    connection.close()
    (pair(older, DAYS[0]).attachments / named).unlink()
    assert adopt(tmp_path / "store", older).code == 5
    assert len(list_snapshots(tmp_path / "store")) == 2


def test_a_dry_run_lists_and_writes_nothing(older: Path, tmp_path: Path) -> None:
    ran = adopt(tmp_path / "store", older, "--dry-run")
    assert ran.code == 0
    assert [row["day"] for row in ran.document["pairs"]] == [
        "2026-11-01",
        "2026-11-02",
        "2026-11-04",
    ]
    assert not (tmp_path / "store").exists()
    (older / f"ciso-{DAYS[2]}.sqlite3").unlink()
    told = run("adopt", "--store", tmp_path / "store", "--older", older, "--dry-run")
    assert "2 older backups to take over" in told.out
    assert "its other half is missing" in told.out


@pytest.mark.parametrize(
    "name",
    ["ciso-20261301.sqlite3", "notes.sqlite3", "ciso-2026110.sqlite3", "ciso-20261101.txt"],
)
def test_other_names_are_no_backups(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    (tmp_path / "attachments-20261301").mkdir()
    with pytest.raises(SourceError, match="no older backup"):
        find_older(tmp_path)


def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot read"):
        find_older(tmp_path / "nowhere")
    assert run("adopt", "--store", tmp_path / "store").code == 2
