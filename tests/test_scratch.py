"""Scratch directories: private, gone afterwards, and after a kill gone with the next run."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ops.errors import DestinationError
from ops.scratch import scratch_directory
from tests.command import ROOT

_KILLED = """
import os, signal, sys, tempfile
tempfile.tempdir = sys.argv[1]
from ops.scratch import scratch_directory
with scratch_directory("a database") as path:
    (path / "recovery").mkdir()
    (path / "recovery" / "copy").write_text("secret")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a place for temporary files of our own."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def test_it_is_private_and_goes_away(temporary: Path) -> None:
    with scratch_directory("a database") as path:
        assert path.parent == temporary
        assert path.stat().st_mode & 0o777 == 0o700
        (path / "locked").mkdir(mode=0o000)
    assert list(temporary.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next(temporary: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, temporary], check=False, cwd=ROOT, timeout=60
    )
    assert done.returncode == -signal.SIGKILL
    (left,) = temporary.iterdir()
    with scratch_directory("another database"):
        assert left.exists(), "it is not this one's to remove"
    with scratch_directory("a database"):
        assert not left.exists()
    assert list(temporary.iterdir()) == []


def test_two_at_work_do_not_meet(temporary: Path) -> None:
    with scratch_directory("a database") as one:
        with scratch_directory("a database") as other:
            assert one != other
            assert one.exists()
        assert one.exists()
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("temporary")
def test_somebody_else_s_is_left_alone() -> None:
    if os.geteuid() != 0:
        pytest.skip("takes root, to give a directory away")
    with scratch_directory("a database") as path:
        theirs = path.with_name(f"{path.name}-theirs")
    theirs.mkdir()
    os.chown(theirs, 1234, 1234)
    with scratch_directory("a database"):
        assert theirs.exists()
    assert theirs.exists()


def test_a_place_that_is_gone_is_told(temporary: Path) -> None:
    temporary.rmdir()
    with (
        pytest.raises(DestinationError, match=r"cannot create a scratch directory in .*temporary"),
        scratch_directory("a database"),
    ):
        pytest.fail("there is no place")


def test_a_place_that_takes_no_directory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    with (
        pytest.raises(DestinationError, match=r"cannot create a scratch directory in .*/file"),
        scratch_directory("a database"),
    ):
        pytest.fail("there is none")
