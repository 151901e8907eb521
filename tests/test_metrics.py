"""The metrics of runs, read by Prometheus's own parser, in a file that two tasks may share."""

import fcntl
import os
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ops.cli.clock import CLOCK
from ops.errors import BusyError, OpsError, SourceError, UsageError
from ops.model import Instance
from ops.snapshot import instant_of
from ops.watch.exposition import (
    MARKER,
    METRICS,
    ExpositionError,
    Sample,
    read_samples,
    write_samples,
)
from ops.watch.metrics import read_place, record_run
from ops.watch.run import Ending, Figures, figures_of
from tests.command import Ran, from_flags, run, run_here, run_on_terminal, to_flags
from tests.filesystem import footprint
from tests.mounting import tmpfs
from tests.test_json import document_of
from tests.test_signals import start_command, stop
from tests.test_store import names_in

Run = Callable[..., Ran]
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""
    return lambda *arguments: run_here(capsys, *arguments)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Name a file in a directory of its own, as node_exporter has it."""
    (tmp_path / "textfile").mkdir()
    return tmp_path / "textfile" / "ciso-ops.prom"


def parsed(path: Path) -> dict[tuple[str, ...], float]:
    """Read a file as Prometheus does: values by metric and the values of the labels."""
    text = path.read_text("utf-8")
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation == METRICS[family.name]
        for sample in family.samples:
            key = (sample.name.removeprefix("ciso_ops_"), *sample.labels.values())
            assert key not in found
            found[key] = sample.value
    return found


def ending(
    *,
    task: str = "backup-daily",
    instant: datetime = NOON,
    failure: OpsError | None = None,
    files: int | None = 3,
) -> Ending:
    """Make the end of a run."""
    figures = Figures(files=files, bytes=None if files is None else files * 100)
    return Ending(
        task=task, instant=instant, seconds=1.5, failure=failure, figures=figures, lines=()
    )


def record(path: Path, what: Ending, place: str = "/store") -> str:
    """Record a run."""
    return record_run(path, what, place, seconds=CLOCK.seconds)


# The format


labels = st.tuples(
    st.tuples(st.just("task"), st.sampled_from(["clone", "push"])),
    st.tuples(st.just("place"), st.text(st.characters(exclude_categories=["Cs"]))),
)
samples = st.builds(
    Sample,
    metric=st.sampled_from(list(METRICS)),
    labels=labels,
    value=st.floats(allow_nan=False, allow_infinity=False),
)


@given(st.lists(samples, unique_by=lambda one: (one.metric, one.labels)))
def test_what_is_written_is_read_back_by_us_and_by_prometheus(listed: list[Sample]) -> None:
    text = write_samples(listed)
    by_metric = sorted(listed, key=lambda one: list(METRICS).index(one.metric))
    assert list(read_samples(text)) == by_metric
    theirs = [
        (sample.name, tuple(sample.labels.items()), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    assert theirs == [(one.metric, one.labels, one.value) for one in by_metric]


@pytest.mark.parametrize(
    "line",
    [
        *("node_load1 0.5", 'ciso_ops_last_run_exit_code{task="a"}', "# HELP other Text.", ""),
        *('ciso_ops_last_run_exit_code{task="a"} x', 'ciso_ops_last_run_exit_code{task="a"} NaN'),
        *('ciso_ops_other{task="a"} 1', 'ciso_ops_last_run_exit_code{task="a\\q"} 1', "garbage"),
        'ciso_ops_last_run_exit_code{task="a} 1',
    ],
)
def test_anything_else_is_not_read(line: str) -> None:
    with pytest.raises(ExpositionError, match="line 2: "):
        read_samples(f"{MARKER}\n{line}\n")
    with pytest.raises(ExpositionError, match="line 1: "):
        read_samples(f"{line}\n{MARKER}\n")
    assert read_samples("") == ()


# What is recorded


def test_the_last_success_outlives_a_failure(file: Path) -> None:
    assert record(file, ending()) == ""
    later = NOON + timedelta(days=1)
    record(file, ending(instant=later, failure=SourceError("gone"), files=None))
    assert parsed(file) == {
        ("last_run_timestamp_seconds", "backup-daily", "/store"): later.timestamp(),
        ("last_run_exit_code", "backup-daily", "/store"): 3,
        ("last_run_duration_seconds", "backup-daily", "/store"): 1.5,
        ("last_run_findings", "backup-daily", "/store", "error"): 0,
        ("last_run_findings", "backup-daily", "/store", "warning"): 0,
        ("last_run_findings", "backup-daily", "/store", "note"): 0,
        ("last_success_timestamp_seconds", "backup-daily", "/store"): NOON.timestamp(),
        ("last_success_files", "backup-daily", "/store"): 3,
        ("last_success_bytes", "backup-daily", "/store"): 300,
    }


def test_what_never_succeeded_says_so_by_0(file: Path) -> None:
    for _ in range(2):
        record(file, ending(failure=SourceError("gone"), files=None))
        assert parsed(file)["last_success_timestamp_seconds", "backup-daily", "/store"] == 0
    record(file, ending())
    found = parsed(file)
    assert found["last_success_timestamp_seconds", "backup-daily", "/store"] == NOON.timestamp()
    assert found["last_run_exit_code", "backup-daily", "/store"] == 0


def test_tasks_and_places_keep_their_own_lines(file: Path) -> None:
    record(file, ending(files=1))
    record(file, ending(files=2), 'quote " \\ é')
    record(file, ending(task="push", files=3))
    record(file, ending(files=4))
    files = {key[1:]: value for key, value in parsed(file).items() if key[0].endswith("_files")}
    assert files == {
        ("backup-daily", "/store"): 4,
        ("backup-daily", 'quote " \\ é'): 2,
        ("push", "/store"): 3,
    }


def test_a_figure_that_a_run_does_not_have_is_not_kept_from_an_older_one(file: Path) -> None:
    record(file, ending())
    record(file, ending(files=None))
    assert not [key for key in parsed(file) if key[0].endswith("_files")]


def test_documents_have_their_figures() -> None:
    assert figures_of({}) == Figures()
    checks = {"files": 2, "bytes_read": 5}
    several = [
        {"name": "2026-11-20T000000Z", "checks": checks},
        {"name": "2026-11-19T000000Z", "checks": checks},
    ]
    found = figures_of({"snapshots": several, "findings": [{"severity": "note"}]})
    assert (found.files, found.bytes) == (4, 10)
    assert found.snapshot == instant_of("2026-11-20T000000Z")
    assert dict(found.findings) == {"error": 0, "warning": 0, "note": 1}
    assert figures_of({"snapshot": "x", "files": ["a"], "checks": checks}).files == 2


# The file


def test_two_runs_at_once_lose_nothing(tmp_path: Path, file: Path) -> None:
    processes = [
        start_command("verify", "--store", tmp_path / f"none-{number}", "--metrics", file)
        for number in range(6)
    ]
    try:
        for process in processes:
            _, said = process.communicate(timeout=60)
            assert process.returncode == 3, said
            assert "warning" not in said
    finally:
        for process in processes:
            stop(process)
    places = {key[2] for key in parsed(file)}
    assert places == {str(tmp_path / f"none-{number}") for number in range(6)}
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_the_file_can_be_read_by_the_exporter_whatever_the_mask(file: Path) -> None:
    before = os.umask(0o077)
    try:
        record(file, ending())
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o644


def test_what_a_killed_run_left_is_in_nobodys_way(file: Path) -> None:
    (file.parent / f".{file.name}.new").write_text("half")
    record(file, ending())
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_lock_that_stays_is_not_waited_for_forever(file: Path) -> None:
    instants = iter(range(0, 1000, 4))
    descriptor = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="locked"):
            record_run(file, ending(), "", seconds=lambda: float(next(instants)))
    finally:
        os.close(descriptor)


def test_a_damaged_file_of_ours_begins_anew_and_is_told(
    here: Run, tmp_path: Path, file: Path
) -> None:
    file.write_text(f"{MARKER}\ngarbage\n")
    ran = here("verify", "--store", tmp_path / "none", "--metrics", file)
    assert ran.code == 3
    assert "were damaged and begin anew: line 2: not a sample of ours\n" in ran.err
    assert parsed(file)["last_run_exit_code", "verify", str(tmp_path / "none")] == 3


@pytest.mark.parametrize("kind", ["text", "directory", "link", "pipe"])
def test_what_is_not_ours_is_refused_before_the_run_and_stays(
    here: Run, instance: Instance, tmp_path: Path, file: Path, kind: str
) -> None:
    other = tmp_path / "other"
    other.write_text(f"{MARKER}\n")
    if kind == "text":
        file.write_text("node_load1 0.5\n")
    elif kind == "directory":
        file.mkdir()
    elif kind == "link":
        file.symlink_to(other)
    else:
        os.mkfifo(file)
    before = footprint(tmp_path)
    flags = (*from_flags(instance), "--metrics", file, "--json")
    ran = here("backup-daily", "--store", tmp_path / "store", *flags)
    assert ran.code == 2
    assert ran.error_line.startswith("error: this is no file of metrics that ciso-ops wrote: ")
    document_of(ran, "backup-daily", ok=False)
    assert footprint(tmp_path) == before


def test_it_must_end_as_the_exporter_wants_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--metrics must name a file that ends in \.prom"):
        read_place(str(tmp_path / "metrics.txt"), "--metrics")


def test_a_file_that_somebody_else_put_there_meanwhile_stays(file: Path) -> None:
    file.write_text("node_load1 0.5\n")
    with pytest.raises(OpsError, match="no file of metrics"):
        record(file, ending())
    assert file.read_text() == "node_load1 0.5\n"


def test_metrics_that_cannot_be_written_fail_nothing(
    here: Run, instance: Instance, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    flags = (*from_flags(instance), "--metrics", tmp_path / "missing" / "a.prom")
    ran = here("backup-daily", "--store", store, *flags)
    assert ran.code == 0
    assert "warning: the metrics are not written: cannot open " in ran.err
    assert len(names_in(store)) == 1


def test_a_place_that_cannot_be_read_fails_nothing(
    here: Run, instance: Instance, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    flags = (*from_flags(instance), "--metrics", tmp_path / "file" / "a.prom")
    ran = here("backup-daily", "--store", tmp_path / "store", *flags)
    assert ran.code == 0
    assert "warning: the metrics are not written: cannot open " in ran.err


def test_a_file_that_became_a_directory_stays(file: Path) -> None:
    file.mkdir()
    with pytest.raises(OpsError, match="no file of metrics"):
        record(file, ending())
    assert file.is_dir()


def test_what_names_no_place_is_recorded_without_one(here: Run, file: Path) -> None:
    assert here("verify", "--store", "~nobody-of-this-name/x", "--metrics", file).code == 2
    assert here("clone", "--force", "--metrics", file).code == 2
    found = parsed(file)
    assert (
        found["last_run_exit_code", "verify", ""] == found["last_run_exit_code", "clone", ""] == 2
    )


def test_a_full_disk_fails_nothing(here: Run, instance: Instance, tmp_path: Path) -> None:
    with tmpfs("8k") as small:
        (small / "filler").write_bytes(bytes(8192))
        flags = (*from_flags(instance), "--metrics", small / "a.prom")
        ran = here("backup-daily", "--store", tmp_path / "store", *flags)
        assert ran.code == 0
        assert "warning: the metrics are not written: cannot write " in ran.err
        assert [path.name for path in small.iterdir()] == ["filler"]


# Runs


def test_a_night_and_what_follows(
    here: Run, instance: Instance, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOKE_OPS_METRICS", str(file))
    store = tmp_path / "store"
    began = time.time()
    assert here("backup-daily", "--store", store, *from_flags(instance)).code == 0
    assert here("verify", "--store", store).code == 0
    assert here("drill", "--store", store).code == 0
    assert here("prune", "--store", store, "--keep-last", "1").code == 0
    copy = Instance(database=tmp_path / "copy.db", attachments=tmp_path / "copy")
    assert here("clone", "--force", *from_flags(instance), *to_flags(copy)).code == 0
    found = parsed(file)
    (name,) = names_in(store)
    shown = instant_of(name).timestamp()
    for task in ("backup-daily", "verify", "drill"):
        assert found["last_success_files", task, str(store)] in {12, 13}
        assert found["last_success_bytes", task, str(store)] > 0
        assert found["last_success_snapshot_timestamp_seconds", task, str(store)] == shown
    for key, value in found.items():
        if key[0] in {"last_run_timestamp_seconds", "last_success_timestamp_seconds"}:
            assert began <= value <= time.time()
    assert ("last_success_files", "prune", str(store)) not in found
    assert found["last_success_files", "clone", str(copy.database)] == 12
    size = instance.database.stat().st_size
    assert found["last_success_bytes", "clone", str(copy.database)] == size + 240_000


def test_a_check_that_fails_is_no_success(here: Run, instance: Instance, file: Path) -> None:
    flags = ("--dest-db", instance.database, "--dest-attachments", instance.attachments)
    assert here("verify", *flags, "--metrics", file).code == 0
    first = parsed(file)
    min(instance.attachments.iterdir()).unlink()
    assert here("verify", *flags, "--metrics", file).code == 5
    found = parsed(file)
    key = ("verify", str(instance.database))
    assert found["last_run_exit_code", *key] == 5
    assert found["last_run_findings", *key, "error"] == 1
    success = ("last_success_timestamp_seconds", *key)
    assert found[success] == first[success] < found["last_run_timestamp_seconds", *key]


def test_a_copy_that_is_not_published_counts_its_findings(
    here: Run, instance: Instance, destination: Instance, file: Path
) -> None:
    min(instance.attachments.iterdir()).unlink()
    command = ("clone", "--force", *from_flags(instance), *to_flags(destination))
    assert here(*command, "--metrics", file).code == 5
    found = parsed(file)
    key = ("clone", str(destination.database))
    assert found["last_run_exit_code", *key] == 5
    assert found["last_run_findings", *key, "error"] == 1
    assert found["last_success_timestamp_seconds", *key] == 0


def test_a_dry_run_and_a_no_are_not_recorded(
    here: Run, instance: Instance, destination: Instance, file: Path
) -> None:
    flags = (*from_flags(instance), *to_flags(destination), "--metrics", file)
    assert here("clone", "--dry-run", *flags).code == 0
    assert run_on_terminal("clone", *flags, answer="n\n")[0] == 2
    assert not file.exists()
    assert run("clone", *flags).code == 2
    assert parsed(file)["last_run_exit_code", "clone", str(destination.database)] == 2


def test_a_run_that_is_stopped_is_recorded(instance: Instance, tmp_path: Path, file: Path) -> None:
    store = tmp_path / "store"
    assert run("backup-daily", "--store", store, *from_flags(instance)).code == 0
    flags = ("--store", store, "--command", "sleep 60", "--metrics", file)
    process = start_command("drill", *flags)
    try:
        assert process.stderr is not None
        while "run the command" not in process.stderr.readline():
            assert process.poll() is None
        process.terminate()
        process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        pytest.fail("it did not stop")
    finally:
        stop(process)
    assert parsed(file)["last_run_exit_code", "drill", str(store)] == 143
