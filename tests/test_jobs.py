"""How many processes work, and from where they read: the flags, and that the result is the same."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ops.demo_instance import build_instance
from ops.model import Instance, Severity
from ops.tree.cores import usable_cores
from ops.tree.crew import FEW_BYTES, FEW_FILES, fitting_jobs
from ops.tree.work import LARGE_BYTES, MOST_NAMES
from tests.command import INV, ROOT, Ran, from_flags, run, run_here, to_flags
from tests.filesystem import Directory, File, HardLink, Link, Node, Pipe, build, footprint, read
from tests.pipeline import check, clone
from tests.processes import wait_for_workers, workers_of
from tests.strategies import trees
from tests.test_clone import bare_instance

SECONDS = 30
"""More than any run here takes: some would wait for ever."""


def many(prefix: bytes, count: int, *, size: int = 100) -> dict[bytes, Node]:
    """Make many small files, each with its own content."""
    return {
        b"%s%05d" % (prefix, number): File(b"%d" % number * (number % size))
        for number in range(count)
    }


def everything() -> Directory:
    """A tree in which every way of handing out work is taken."""
    return Directory(
        {
            b"crowd": Directory(many(b"c", 3 * MOST_NAMES + 7)),
            b"middle": Directory({**many(b"m", 150), b"again": HardLink(b"crowd/c00003")}),
            b"deep": Directory({b"er": Directory({b"and": Directory(many(b"d", 30))})}),
            b"large": File(b"large" * (LARGE_BYTES // 5 + 1), xattrs=(("user.a", b"1"),)),
            b"larger": File(bytes(LARGE_BYTES) + b"end"),
            b"a hard link": HardLink(b"large"),
            b"another": HardLink(b"crowd/c00003"),
            b"link": Link(b"crowd/c00004"),
            b"pipe": Pipe(),
            b"\xff\n": File(b"odd", mode=0o4755),
            b"empty": Directory(mode=0o700),
        }
    )


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Instance:
    """Make an instance with all of it; no test changes it."""
    return bare_instance(tmp_path_factory.mktemp("rich") / "source", everything())


def place(directory: Path, name: str) -> Instance:
    """Name a destination."""
    return Instance(
        database=directory / name / "db.sqlite3", attachments=directory / name / "attachments"
    )


def record(manifest: Path) -> list[dict[str, Any]]:
    """Read a manifest, but for what differs between any two runs: its time, and its own digest."""
    lines = [json.loads(line) for line in manifest.read_text("utf-8").rstrip("\n").split("\n")]
    del lines[0]["captured"]
    del lines[-1]["sha256"]
    return lines


# The result


def test_one_process_or_several_give_the_same(rich: Instance, tmp_path: Path) -> None:
    before = footprint(rich.attachments)
    documents, records, copies = [], [], []
    for jobs in ("1", "2", "3"):
        copy, manifest = place(tmp_path, jobs), tmp_path / f"manifest-{jobs}"
        flags = (*from_flags(rich), *to_flags(copy), "--profile", "none", "--manifest", manifest)
        ran = run("clone", "--force", "--json", "--jobs", jobs, *flags)
        assert ran.code == 0, ran.err
        documents.append({key: ran.document[key] for key in ("copied", "checks", "findings")})
        records.append(record(manifest))
        copies.append(read(copy.attachments))
        assert sorted(path.name for path in (tmp_path / jobs).iterdir()) == [
            "attachments",
            "db.sqlite3",
        ]
    assert copies == [read(rich.attachments)] * 3
    assert documents == [documents[0]] * 3
    assert records == [records[0]] * 3
    assert footprint(rich.attachments) == before


FOUND_AS_IT_IS = (Phase.explicit, Phase.reuse, Phase.generate)
few = settings(max_examples=max(5, settings().max_examples // 4), phases=FOUND_AS_IT_IS)
"""Processes are started for each example: few are tried, and none is made smaller."""


@given(tree=trees())
@few
def test_any_tree_is_copied_by_several_as_by_one(tree: Directory) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = bare_instance(Path(name) / "source", tree)
        before = footprint(Path(name) / "source")
        told: list[object] = []
        for jobs in (1, 2):
            copy, manifest = place(Path(name), f"{jobs}"), Path(name) / f"manifest-{jobs}"
            outcome = clone(source, copy, profile="none", manifest=manifest, jobs=jobs)
            assert read(copy.attachments) == read(source.attachments)
            for other in (1, 2):
                verified = check(copy, source=source, profile="none", jobs=other)
                assert verified.findings == outcome.findings, "links that lead out, and no more"
            told.append((record(manifest), outcome.findings, outcome.totals, outcome.counts))
        assert told[0] == told[1]
        assert footprint(Path(name) / "source") == before


def test_over_an_old_pair_of_another_shape(rich: Instance, tmp_path: Path) -> None:
    """What was a directory is a file now, and the other way round."""
    old = place(tmp_path, "old")
    old.database.parent.mkdir()
    other: dict[bytes, Node] = {
        b"crowd": File(),
        b"large": Directory(many(b"l", 10)),
        b"link": Directory(),
    }
    build(old.attachments, Directory(other))
    old.database.write_bytes(rich.database.read_bytes())
    clone(rich, old, profile="none", jobs=2)
    assert read(old.attachments) == read(rich.attachments)


# Verification


def spoil(tree: Path) -> None:
    """Change a copy in every way that does not take root."""
    (tree / "crowd" / "c00005").unlink()
    (tree / "crowd" / "c00006").write_bytes(b"other")
    (tree / "crowd" / "new").mkdir()
    (tree / "crowd" / "new" / "inside").touch()
    (tree / "middle" / "m00001").chmod(0o600)
    (tree / "middle" / "again").unlink()
    shutil.copy2(tree / "another", tree / "middle" / "again")
    shutil.rmtree(tree / "deep" / "er" / "and")
    with (tree / "larger").open("r+b") as file:
        file.seek(LARGE_BYTES // 2)
        file.write(b"\1")
    os.utime(tree / "empty", ns=(1, 1))
    (tree / "link").unlink()
    (tree / "link").symlink_to("elsewhere")
    (tree / "pipe").unlink()
    (tree / "pipe").write_bytes(b"")
    os.setxattr(tree / "large", "user.a", b"2")


def test_several_find_what_one_finds(rich: Instance, tmp_path: Path) -> None:
    copy, manifest = place(tmp_path, "copy"), tmp_path / "manifest"
    clone(rich, copy, profile="none", manifest=manifest)
    spoil(copy.attachments)
    for source, record_of_it in ((rich, None), (None, manifest)):
        one, two, three = (
            check(copy, source=source, manifest=record_of_it, profile="none", jobs=jobs)
            for jobs in (1, 2, 3)
        )
        assert one == two == three
        assert {finding.where for finding in one.findings} >= {
            "crowd/c00005",
            "crowd/c00006: content",
            "crowd/new",
            "crowd/new/inside",
            "middle/m00001: mode",
            "middle/again: hard link",
            "deep/er/and",
            "deep/er/and/d00007",
            "larger: content",
            "empty: mtime",
            "link: link",
            "pipe: kind",
            "large: xattrs",
            "a hard link: xattrs",
        }


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> tuple[Instance, Path]:
    """Make a clone and its manifest, which every example damages and mends again."""
    directory = tmp_path_factory.mktemp("copied")
    source = build_instance(directory / "production", evidences=20)
    copy = place(directory, "copy")
    clone(source, copy, manifest=directory / "manifest", jobs=2)
    return copy, directory / "manifest"


@given(data=st.data())
@few
def test_any_byte_of_any_file_is_found_by_several(
    copied: tuple[Instance, Path], data: st.DataObject
) -> None:
    copy, manifest = copied
    path = data.draw(st.sampled_from(sorted(copy.attachments.iterdir())))
    before, content = path.stat(), path.read_bytes()
    offset = data.draw(st.integers(0, len(content) - 1))
    other = bytearray(content)
    other[offset] ^= data.draw(st.integers(1, 255))
    for written in (bytes(other), content):
        path.write_bytes(written)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        found = check(copy, manifest=manifest, jobs=2, from_disk=data.draw(st.booleans()))
        wrong = [one.where for one in found.findings if one.severity is Severity.ERROR]
        assert wrong == ([f"{path.name}: content"] if written != content else [])


# How many


@pytest.mark.parametrize("asked", [1, 2, 256])
@pytest.mark.parametrize(("files", "size"), [(0, 0), (10**6, 10**12)])
def test_as_many_as_were_asked_for(asked: int, files: int, size: int) -> None:
    assert fitting_jobs(asked, files=files, size=size) == asked


@pytest.mark.parametrize(
    ("files", "size", "several"),
    [
        (0, 0, False),
        (FEW_FILES - 1, FEW_BYTES - 1, False),
        (FEW_FILES, 0, True),
        (0, FEW_BYTES, True),
    ],
)
def test_small_trees_are_one_process_s_work(files: int, size: int, *, several: bool) -> None:
    assert fitting_jobs(0, files=files, size=size) == (usable_cores() if several else 1)


@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize("command", ["clone", "verify"])
def test_so_many_processes_work(command: str, jobs: int, rich: Instance, tmp_path: Path) -> None:
    flags = to_flags(rich)
    if command == "clone":
        flags = ("--force", *from_flags(rich), *to_flags(place(tmp_path, "copy")))
    process = started(command, "--profile", "none", "--jobs", f"{jobs}", *flags)
    most = 0
    while process.poll() is None:
        most = max(most, len(workers_of(process.pid)))
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert most == (0 if jobs == 1 else jobs)
    assert workers_of(process.pid) == {}


def started(*arguments: str | Path) -> "subprocess.Popen[str]":
    """Start a command."""
    return subprocess.Popen(
        [*INV, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


SHAPES: dict[str, dict[bytes, Node]] = {
    # A worker has much to say (the names of a large directory) and gets much to do (the records
    # of another one): more than the pipes hold, both ways.
    "a large directory before others": {
        b"a": Directory(many(b"n" * 60, 3000)),
        b"b": Directory(many(b"n" * 60, MOST_NAMES - 5)),
        b"c": Directory(many(b"n" * 60, MOST_NAMES - 5)),
    },
    "large directories only": {
        b"%d" % number: Directory(many(b"n" * 200, MOST_NAMES + 50)) for number in range(4)
    },
    "a small one that grew": {
        b"a": Directory(many(b"n" * 240, MOST_NAMES)),
        b"b": Directory(many(b"n" * 240, MOST_NAMES)),
        b"c": Directory({b"new": Directory(many(b"n" * 240, MOST_NAMES))}),
    },
    "many directories": {b"%d" % number: Directory(many(b"x", 20)) for number in range(200)},
    "one after the other": {b"d": Directory({b"d": Directory({b"d": Directory({b"f": File()})})})},
    "nothing at all": {},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_nobody_waits_for_each_other(shape: str, tmp_path: Path) -> None:
    """Jobs and results go through pipes, which hold only so much."""
    source = bare_instance(tmp_path / "source", Directory(SHAPES[shape]))
    copy = place(tmp_path, "copy")
    flags = ("--profile", "none", "--jobs", "2")
    for arguments in (
        ("clone", "--force", *flags, *from_flags(source), *to_flags(copy)),
        ("verify", *flags, *from_flags(source), *to_flags(copy)),
    ):
        process = started(*arguments)
        try:
            _, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == 0, err
    assert read(copy.attachments) == read(source.attachments)


# The flags


class Asking:
    """Asks for a clone, or for the verification of the instance itself, with some flags."""

    def __init__(
        self, instance: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.instance = instance
        self.destination = destination
        self._capsys = capsys

    def ask(self, command: str, *flags: str) -> Ran:
        """Run the command."""
        pair = to_flags(self.instance)
        if command == "clone":
            pair = ("--force", *from_flags(self.instance), *to_flags(self.destination))
        return run_here(self._capsys, command, *pair, *flags)

    def is_refused(self, command: str, *flags: str, says: str) -> None:
        """Check that it is refused in one line, with nothing written."""
        ran = self.ask(command, *flags)
        assert ran.code == 2, ran.err
        assert ran.error_line == f"error: {says}"
        assert ran.out == ""
        assert not self.destination.database.parent.exists()


@pytest.fixture
def asking(instance: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]) -> Asking:
    """Make ready to ask."""
    return Asking(instance, destination, capsys)


COMMANDS = pytest.mark.parametrize("command", ["clone", "verify"])


@COMMANDS
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("0", "must lie between 1 and 256"),
        ("257", "must lie between 1 and 256"),
        ("two", "must be a number of processes, not 'two'"),
        ("1.5", "must be a number of processes, not '1.5'"),
        (" ", "must be a number of processes, not ' '"),
    ],
)
def test_a_number_of_jobs_that_is_none_is_refused(
    command: str, value: str, says: str, asking: "Asking", monkeypatch: pytest.MonkeyPatch
) -> None:
    asking.is_refused(command, "--jobs", value, says=f"--jobs {says}")
    monkeypatch.setenv("INVOKE_OPS_JOBS", value)
    asking.is_refused(command, says=f"ops.jobs {says}")


@COMMANDS
@pytest.mark.parametrize(
    "missing", [("--jobs",), ("--jobs", "--json"), ("--jobs", "-1"), ("--check",)]
)
def test_flags_without_their_values_are_refused(
    command: str, missing: tuple[str, ...], asking: Asking
) -> None:
    ran = asking.ask(command, *missing)
    assert ran.code != 0
    assert "Traceback" not in ran.err
    assert not asking.destination.database.parent.exists()


@pytest.mark.parametrize("value", ["1", "2", "256"])
def test_a_clone_by_as_many_as_may_be_is_planned(value: str, asking: Asking) -> None:
    assert asking.ask("clone", "--dry-run", "--jobs", value).code == 0
    assert not asking.destination.database.parent.exists()


@COMMANDS
@pytest.mark.parametrize("jobs", ["1", "2", "12"])
def test_more_processes_than_there_is_work_for(command: str, jobs: str, asking: Asking) -> None:
    ran = asking.ask(command, "--jobs", jobs)
    assert ran.code == 0, ran.err
    if command == "clone":
        assert read(asking.destination.attachments) == read(asking.instance.attachments)


def test_the_flag_wins_over_the_configuration(
    rich: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOKE_OPS_JOBS", "3")
    verify = ("verify", "--profile", "none", *to_flags(rich))
    for flags, count in (((), 3), (("--jobs", "2"), 2)):
        process = started(*verify, *flags)
        try:
            wait_for_workers(process.pid, count)
            most = 0
            while process.poll() is None:
                most = max(most, len(workers_of(process.pid)))
        finally:
            _, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, err
        assert most <= count


@pytest.mark.parametrize("value", ["2", "'2'", "''", "null"])
def test_a_number_in_a_file_is_as_good_as_text(value: str, asking: Asking) -> None:
    (Path.home() / ".invoke.yaml").write_text(f"ops: {{jobs: {value}}}\n")
    assert asking.ask("verify").code == 0


@COMMANDS
@pytest.mark.parametrize("value", ["[2]", "[]", "true", "2.5", "300"])
def test_no_number_in_a_file_is_refused(command: str, value: str, asking: Asking) -> None:
    (Path.home() / ".invoke.yaml").write_text(f"ops: {{jobs: {value}}}\n")
    ran = asking.ask(command)
    assert (ran.code, ran.error_line[:20]) == (2, "error: ops.jobs must")
    assert not asking.destination.database.parent.exists()


@COMMANDS
@pytest.mark.parametrize("value", ["memory", "disk"])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_check_reads_from_where_it_is_told(
    command: str, value: str, jobs: str, asking: Asking
) -> None:
    """What that means is seen in `tests/faults/test_disk_check.py`."""
    ran = asking.ask(command, "--json", "--check", value, "--jobs", jobs)
    assert ran.code == 0, ran.err
    assert ran.document["ok"]
    if command == "clone":
        assert read(asking.destination.attachments) == read(asking.instance.attachments)


@COMMANDS
@pytest.mark.parametrize("value", ["disc", "Memory", "0"])
def test_a_check_from_nowhere_is_refused(command: str, value: str, asking: Asking) -> None:
    says = f"--check must be memory or disk, not {value}"
    asking.is_refused(command, "--check", value, says=says)
