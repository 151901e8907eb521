"""How many processes do the work: no more than the machine, or its share of one, can feed."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.tree.cores import _quota, usable_cores
from ops.tree.crew import FEW_BYTES, FEW_FILES, fitting_jobs

_UNLIMITED = 1 << 16


def _group(tmp_path: Path, **limits: str) -> Path:
    """Make control groups, one inside the other, each with what its file says."""
    path = tmp_path / "groups"
    path.mkdir()
    for name, limit in limits.items():
        if name != "root":
            path /= name
            path.mkdir()
        (path / "cpu.max").write_text(limit)
    return tmp_path / "groups"


def _mine(tmp_path: Path, *lines: str) -> Path:
    mine = tmp_path / "cgroup"
    mine.write_text("".join(f"{line}\n" for line in lines))
    return mine


@pytest.mark.parametrize(
    ("limit", "cores"),
    [
        ("max 100000", _UNLIMITED),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("150000 100000", 2),
        ("200000 100000", 2),
        ("200001 100000", 3),
        ("400000 50000", 8),
        ("max 100000\n", _UNLIMITED),
        ("300000 100000\n", 3),
    ],
)
def test_a_quota_is_rounded_up_to_whole_cores(tmp_path: Path, limit: str, cores: int) -> None:
    groups = _group(tmp_path, root="max 100000", app=limit)
    assert _quota(_mine(tmp_path, "0::/app"), groups) == cores
    assert _quota(_mine(tmp_path, "4:memory:/app", "0::/app"), groups) == cores


@given(st.integers(1, 10**7), st.integers(1, 10**6))
def test_a_quota_is_what_is_needed_of_cores_and_no_more(quota: int, period: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        groups = _group(Path(name), app=f"{quota} {period}")
        cores = _quota(_mine(Path(name), "0::/app"), groups)
        assert min(quota / period, _UNLIMITED) <= cores < quota / period + 1


@pytest.mark.parametrize(
    ("limits", "cores"),
    [
        ({"root": "max 100000", "a": "max 100000", "b": "max 100000", "c": "max 100000"}, None),
        ({"root": "max 100000", "a": "200000 100000", "b": "max 100000", "c": "max 100000"}, 2),
        ({"root": "max 100000", "a": "200000 100000", "b": "100000 100000", "c": "max 1"}, 1),
        ({"root": "max 100000", "a": "200000 100000", "b": "800000 100000", "c": "max 1"}, 2),
        ({"root": "300000 100000", "a": "max 1", "b": "max 1", "c": "max 1"}, 3),
        ({"a": "500000 100000", "b": "max 1", "c": "400000 100000"}, 4),
    ],
)
def test_the_smallest_quota_of_nested_groups_counts(
    tmp_path: Path, limits: dict[str, str], cores: int | None
) -> None:
    groups = _group(tmp_path, **limits)
    assert _quota(_mine(tmp_path, "0::/a/b/c"), groups) == (cores or _UNLIMITED)


def test_groups_beside_and_below_ours_do_not_count(tmp_path: Path) -> None:
    groups = _group(tmp_path, a="300000 100000", b="100000 100000")
    (groups / "other").mkdir()
    (groups / "other/cpu.max").write_text("100000 100000")
    assert _quota(_mine(tmp_path, "0::/a"), groups) == 3
    assert _quota(_mine(tmp_path, "0::/"), groups) == _UNLIMITED


def test_inside_a_container_the_root_is_ours(tmp_path: Path) -> None:
    groups = _group(tmp_path, root="200000 100000")
    for path in ("/", "/../../outside", "/..", "/no/such/group"):
        assert _quota(_mine(tmp_path, f"0::{path}"), groups) == 2


def test_without_groups_there_is_no_quota(tmp_path: Path) -> None:
    groups = _group(tmp_path)
    assert _quota(tmp_path / "nowhere", groups) == _UNLIMITED
    assert _quota(_mine(tmp_path), groups) == _UNLIMITED
    assert _quota(_mine(tmp_path, "4:cpu:/a", "1:name=systemd:/"), groups) == _UNLIMITED
    assert _quota(_mine(tmp_path, "0::/a"), tmp_path / "nowhere") == _UNLIMITED


@pytest.mark.parametrize(
    "limit",
    [
        b"",
        b"\n",
        b"garbage",
        b"garbage 100000",
        b"100000 garbage",
        b"1 2 3",
        b"100000 0",
        b"\xff \xff",
    ],
)
def test_a_quota_that_makes_no_sense_is_none(tmp_path: Path, limit: bytes) -> None:
    groups = _group(tmp_path, root="max 100000", app="")
    (groups / "app/cpu.max").write_bytes(limit)
    assert _quota(_mine(tmp_path, "0::/app"), groups) == _UNLIMITED


def test_a_group_may_have_a_name_that_is_no_text(tmp_path: Path) -> None:
    groups = _group(tmp_path, root="200000 100000")
    name = os.fsencode(groups) + b"/\xff"
    os.mkdir(name)
    with open(name + b"/cpu.max", "wb") as file:
        file.write(b"100000 100000")
    (tmp_path / "cgroup").write_bytes(b"0::/\xff\n")
    assert _quota(tmp_path / "cgroup", groups) in {1, 2}


def test_the_cores_that_are_used_are_those_that_this_process_may_run_on() -> None:
    allowed = os.sched_getaffinity(0)
    cores = usable_cores()
    assert 1 <= cores <= len(allowed)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert usable_cores() == cores


def test_little_work_is_done_by_one_process_and_much_by_all() -> None:
    cores = usable_cores()
    assert fitting_jobs(0, files=0, size=0) == 1
    assert fitting_jobs(0, files=FEW_FILES - 1, size=FEW_BYTES - 1) == 1
    assert fitting_jobs(0, files=FEW_FILES, size=0) == cores
    assert fitting_jobs(0, files=0, size=FEW_BYTES) == cores
    for asked in (1, 2, 64):
        assert fitting_jobs(asked, files=0, size=0) == asked
        assert fitting_jobs(asked, files=10**9, size=10**12) == asked
