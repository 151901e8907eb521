"""The store's tasks on the command line: what they print, what they exit with, what they refuse."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ops.demo_instance import build_instance, connect
from ops.model import Instance
from ops.snapshot import DAMAGED, REPLACED, VERIFIED, Event
from ops.store import LATEST, MARKER, append_event, find_snapshot, list_snapshots, make_store
from tests.command import (
    NOBODY,
    Ran,
    from_flags,
    run,
    run_here,
    run_on_terminal,
    to_flags,
)
from tests.filesystem import footprint, read
from tests.mounting import tmpfs
from tests.processes import held_open
from tests.test_audit import history
from tests.test_backup import NIGHT, copy_at, require_valid
from tests.test_json import document_of
from tests.test_store import at, back_up, flip, litter_in, names_in, reader_of

Run = Callable[..., Ran]


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command in this process."""
    return lambda *arguments: run_here(capsys, *arguments)


@pytest.fixture
def store(instance: Instance, tmp_path: Path) -> Path:
    """Make a store with a snapshot of each of three nights."""
    for day in range(3):
        back_up(instance, tmp_path / "store", clock=at(NIGHT + timedelta(days=day)))
    return (tmp_path / "store").resolve()


def emptied(instance: Instance) -> None:
    """Take all evidences out of an instance."""
    connection = connect(instance.database)
    connection.execute("DELETE FROM core_evidencerevision")
    connection.execute("DELETE FROM core_evidence")
    connection.close()
    for file in instance.attachments.iterdir():
        file.unlink()


# backup-daily


def test_a_backup_tells_what_it_made(here: Run, instance: Instance, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = here("backup-daily", "--store", store, *from_flags(instance))
    assert first.code == 0, first.err
    (name,) = names_in(store)
    assert re.match(rf"Snapshot {name} in \d+ ms\n", first.out)
    assert "12 files, 234.4 KiB: 12 new (234.4 KiB), 0 shared" in first.out
    assert "integrity, foreign keys, 12 new files read again" in first.out
    assert "12 files referenced by rows, 12 recorded digests right, 0 orphans" in first.out
    assert first.out.endswith(
        "nothing pruned: no --keep flag and no ops.keep_… says what to keep\n"
    )
    assert "copy attachments …" in first.err
    second = here("backup-daily", "--store", store, *from_flags(instance), "--keep-last", "1")
    assert "12 files, 234.4 KiB: 0 new (0 bytes), 12 shared" in second.out
    assert "  1 kept, 1 gone\n" in second.out
    assert re.search(r"keep +newest verified, last snapshot\n", second.out)
    assert re.search(rf"{name} +remove\n", second.out)
    (kept,) = names_in(store)
    require_valid(store / kept)


def test_a_backup_tells_a_program_what_it_made(
    here: Run, instance: Instance, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    ran = here("backup-daily", "--store", store, *from_flags(instance), "--json")
    document = document_of(ran, "backup-daily", ok=True)
    (name,) = names_in(store)
    assert document["dry_run"] is False
    assert document["store"] == str(store)
    assert document["policy"] is None
    assert document["pruned"] is None
    snapshot = document["snapshot"]
    assert snapshot["name"] == name
    assert snapshot["path"] == str(store / name)
    assert snapshot["verified"] is True
    assert (snapshot["files"], snapshot["shared_files"], snapshot["rows"]) == (12, 0, 27)
    assert (snapshot["based_on"], snapshot["flagged"], snapshot["problem"]) == (None, None, None)
    flags = ("--keep-daily", "7", "--keep-within", "1y", "--time-zone", "Europe/Berlin")
    ran = here("backup-daily", "--store", store, *from_flags(instance), "--json", *flags)
    document = document_of(ran, "backup-daily", ok=True)
    assert document["policy"] == "daily 7, within 1y"
    assert document["snapshot"]["based_on"] == name
    assert document["pruned"]["removed"] == document["pruned"]["in_use"] == []
    assert [one["keep"] for one in document["pruned"]["decisions"]] == [True, True]


def test_a_dry_run_writes_nothing_and_tells_the_plan(
    here: Run, instance: Instance, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    flags = ("backup-daily", "--store", store, *from_flags(instance), "--dry-run")
    before = footprint(tmp_path)
    ran = here(*flags)
    assert ran.code == 0, ran.err
    assert footprint(tmp_path) == before
    assert "share" in ran.out
    assert "nothing: all files are copied" in ran.out
    back_up(instance, store, clock=at(NIGHT))
    before = footprint(tmp_path)
    ran = here(*flags, "--keep-last", "1")
    assert "with 2026-03-01T010000Z" in ran.out
    assert "  1 kept, 1 would go\n" in ran.out
    document = document_of(here(*flags, "--json"), "backup-daily", ok=True)
    assert document["dry_run"] is True
    assert document["based_on"] == "2026-03-01T010000Z"
    assert len(document["decisions"]) == 2
    document = document_of(here(*flags, "--json", "--independent"), "backup-daily", ok=True)
    assert document["based_on"] is None
    assert footprint(tmp_path) == before


def test_a_much_smaller_one_is_told_and_accepted(
    here: Run, instance: Instance, store: Path
) -> None:
    emptied(instance)
    flags = ("backup-daily", "--store", store, *from_flags(instance), "--keep-last", "1")
    for _ in range(2):
        ran = here(*flags)
        assert ran.code == 0, ran.err
        assert "warning: much smaller than the one before: 0 files, 12 before" in ran.out
        assert "pruning is stopped" in ran.out
    assert len(names_in(store)) == 5
    assert ", much smaller" in here("snapshots", "--store", store).out
    newest = names_in(store)[-1]
    listed = document_of(here("snapshots", "--store", store, "--json"), "snapshots", ok=True)
    assert listed["snapshots"][-1]["flagged"] == "0 files, 12 before; 3 rows, 27 before"
    ran = here("prune", "--store", store, "--keep-last", "1", "--accept", newest)
    assert ran.code == 0, ran.err
    assert names_in(store) == [newest]
    assert here(*flags).code == 0
    assert len(names_in(store)) == 1


def test_the_threshold_is_configured(instance: Instance, tmp_path: Path) -> None:
    store = tmp_path / "store"
    flags = ("backup-daily", "--store", store, *from_flags(instance), "--profile", "none")
    assert run(*flags).code == 0
    (instance.attachments / "policy_6.pdf").unlink()
    ran = run(*flags, environment={"INVOKE_OPS_SHRINK_FILES": "5"})
    assert "much smaller than the one before: 11 files, 12 before" in ran.out
    ran = run(*flags, environment={"INVOKE_OPS_SHRINK_FILES": "x"})
    assert (ran.code, ran.out) == (2, "")
    assert ran.error_line == "error: ops.shrink_files must be a percentage, not 'x'"


def test_store_and_policy_can_be_configured(instance: Instance, store: Path) -> None:
    variables = {"INVOKE_OPS_STORE": str(store), "INVOKE_OPS_KEEP_LAST": "2"}
    ran = run("backup-daily", *from_flags(instance), environment=variables)
    assert ran.code == 0, ran.err
    assert len(names_in(store)) == 2
    ran = run("snapshots", environment=variables)
    assert "last snapshot" in ran.out
    ran = run("prune", "--keep-last", "1", environment=variables)
    assert ran.code == 0, ran.err
    assert len(names_in(store)) == 1


# snapshots


def test_snapshots_are_a_table(here: Run, instance: Instance, store: Path, tmp_path: Path) -> None:
    first, second, third = list_snapshots(store)
    append_event(first, Event(what=VERIFIED, instant=NIGHT, details={}))
    append_event(second, Event(what=DAMAGED, instant=NIGHT, details={}))
    aside = back_up(instance, store, purpose=REPLACED)
    broken = store / "2026-03-09T010000Z"
    broken.mkdir()
    lines = here("snapshots", "--store", store).out.splitlines()
    assert lines[0] == f"5 snapshots in {store}"
    assert re.sub(" +", " ", lines[1]) == " snapshot database files new shared state kept because"
    by_name = {line.split()[0]: line for line in lines[2:]}
    assert "12  234.4 KiB    0 bytes  verified again 2026-03-01" in by_name[first.name]
    assert re.search(r"  damaged +.*not verified: look at it", by_name[second.name])
    assert "newest verified" in by_name[third.name]
    assert "replaced by a restore" in by_name[aside.name]
    assert "  snapshot.json is missing  " in by_name[broken.name]
    shutil.rmtree(broken)
    second.path.rename(broken)
    out = here("snapshots", "--store", store).out
    assert f"damaged: it calls itself {second.name}" in out
    (store / third.name / "history.jsonl").write_text("x\n")
    assert "history damaged: verify it" in here("snapshots", "--store", store).out
    empty = make_store(tmp_path / "empty")
    assert here("snapshots", "--store", empty).out == f"0 snapshots in {empty}\n"


def test_snapshots_are_a_document(here: Run, store: Path) -> None:
    (store / "2026-03-09T010000Z").mkdir()
    document = document_of(here("snapshots", "--store", store, "--json"), "snapshots", ok=True)
    assert document["store"] == str(store)
    *sound, broken = document["snapshots"]
    assert [one["name"] for one in document["snapshots"]] == names_in(store)
    for one in sound:
        assert one["captured"].endswith("+00:00")
        assert one["verified"] is one["kept"] is True
        assert "no policy" in one["reasons"]
        assert one["purpose"] == "daily"
    assert (broken["verified"], broken["problem"]) == (False, "snapshot.json is missing")


def test_what_would_go_is_told(store: Path) -> None:
    ran = run("snapshots", "--store", store, environment={"INVOKE_OPS_KEEP_LAST": "1"})
    assert ran.out.count("would be pruned") == 2


# prune


def test_prune_tells_each_with_its_reasons(here: Run, store: Path) -> None:
    first, second, third = names_in(store)
    flags = ("prune", "--store", store, "--keep-last", "2")
    before = footprint(store)
    ran = here(*flags, "--dry-run")
    assert ran.code == 0, ran.err
    assert ran.out.splitlines() == [
        "  2 kept, 1 would go",
        f"  {third}  keep    newest verified, last snapshot",
        f"  {second}  keep    last snapshot",
        f"  {first}  remove",
    ]
    document = document_of(here(*flags, "--dry-run", "--json"), "prune", ok=True)
    assert document["dry_run"] is True
    assert document["removed"] == []
    assert footprint(store) == before
    document = document_of(here(*flags, "--json"), "prune", ok=True)
    assert document["removed"] == [first]
    assert [one["keep"] for one in document["decisions"]] == [True, True, False]
    assert names_in(store) == [second, third]
    assert here(*flags).out.startswith("  2 kept, 0 gone\n")


def test_many_reasons_are_told_in_short(here: Run, store: Path) -> None:
    rules = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
    flags = [part for rule in rules for part in (f"--keep-{rule}", "unlimited")]
    out = here("prune", "--store", store, "--dry-run", *flags).out
    assert "newest verified, last snapshot, hourly snapshot and 4 more" in out


def test_prune_tells_what_somebody_reads(here: Run, store: Path) -> None:
    first, second, _ = names_in(store)
    with reader_of(store / first):
        ran = here("prune", "--store", store, "--keep-last", "1")
        assert ran.code == 0, ran.err
        assert f"warning: {first} is being read, and stays for now" in ran.out
        ran = here("prune", "--store", store, "--keep-last", "1", "--json")
        assert document_of(ran, "prune", ok=True)["in_use"] == [first]
    assert second not in names_in(store)


def test_one_is_removed_by_name(here: Run, store: Path) -> None:
    first, second, third = names_in(store)
    flags = ("prune", "--store", store, "--remove", third)
    assert "  2 kept, 1 would go\n" in here(*flags, "--dry-run").out
    assert names_in(store) == [first, second, third]
    assert here(*flags).code == 0
    assert names_in(store) == [first, second]
    assert (store / LATEST).readlink() == Path(second)
    assert here("prune", "--store", store, "--remove", first).code == 0
    ran = here("prune", "--store", store, "--remove", second)
    assert (ran.code, ran.out) == (2, "")
    assert ran.error_line == f"error: this is the only verified snapshot, and stays: {second}"
    ran = here("prune", "--store", store, "--remove", third)
    assert ran.code == 3
    assert ran.error_line == f"error: the store has no snapshot {third}"


def test_an_empty_store_has_nothing_to_prune(here: Run, tmp_path: Path) -> None:
    ran = here("prune", "--store", make_store(tmp_path / "store"), "--keep-last", "1")
    assert (ran.code, ran.out) == (0, "")


# verify


def test_a_sound_snapshot_is_told(here: Run, store: Path) -> None:
    ran = here("verify", "--store", store)
    assert ran.code == 0, ran.err
    name = names_in(store)[-1]
    assert ran.out.splitlines() == [
        f"Verified: {name}",
        "  checked   the bag, the database, 12 files: 12 read, 234.4 KiB",
        "  findings  no errors, 0 warnings, 0 notes",
    ]
    assert history(store, name) == [VERIFIED]


def test_all_snapshots_are_told(here: Run, store: Path) -> None:
    flags = ("verify", "--store", store, "--snapshot", "all")
    ran = here(*flags, "--check", "disk", "--jobs", "2")
    assert ran.code == 0, ran.err
    assert re.findall(r"^Verified: (\S+)$", ran.out, re.MULTILINE) == names_in(store)
    document = document_of(here(*flags, "--json"), "verify", ok=True)
    assert document["sample"] == {"part": 0, "parts": 1}
    assert [one["name"] for one in document["snapshots"]] == names_in(store)
    assert {one["files_read"] for one in document["snapshots"]} == {12}
    assert here("verify", "--store", store, "--snapshot", names_in(store)[0]).code == 0
    assert here("verify", "--store", store, "--snapshot", LATEST).code == 0


def test_a_sample_is_told(here: Run, store: Path) -> None:
    ran = here("verify", "--store", store, "--sample", "50", "--json")
    document = document_of(ran, "verify", ok=True)
    assert document["sample"]["parts"] == 2
    assert document["snapshots"][0]["files_read"] < 12
    assert document["snapshots"][0]["checks"]["files"] == 12


def test_damage_is_told_and_ends_in_five(here: Run, store: Path) -> None:
    names = names_in(store)
    for snapshot in list_snapshots(store):
        path = snapshot.instance.attachments / "policy_6.pdf"
        if path.stat().st_nlink == 1 or snapshot.name == names[0]:
            flip(path, 100)
    ran = here("verify", "--store", store)
    assert ran.code == 5
    assert ran.out.startswith(f"Verification failed: {names[2]}\n")
    assert "changed" in ran.out
    assert "policy_6.pdf" in ran.out
    for name in names[:2]:
        assert f"shared with  {name}: policy_6.pdf" in ran.out
    assert ran.error_line == f"error: 1 snapshot of 1 must not be trusted: {names[2]}"
    assert ran.hint_line == "hint: the findings are listed on standard output"
    assert not os.path.lexists(store / LATEST), "no snapshot is sound any more"
    ran = here("verify", "--store", store, "--snapshot", "all", "--json")
    assert ran.code == 5
    document = document_of(ran, "verify", ok=False)
    shared = document["snapshots"][0]["damage_shared_with"]
    assert shared == {name: ["policy_6.pdf"] for name in names[1:]}
    ran = here("verify", "--store", store)
    assert ran.code == 3
    assert "the store has no verified snapshot" in ran.error_line


@pytest.mark.parametrize(
    "flag", ["--dest-db", "--dest-attachments", "--source-db", "--source-attachments", "--manifest"]
)
def test_a_pair_and_a_store_are_not_verified_at_once(here: Run, store: Path, flag: str) -> None:
    ran = here("verify", "--store", store, flag, "x")
    assert (ran.code, ran.out) == (2, "")
    assert ran.error_line == "error: snapshots of a store are verified by themselves"
    assert here("verify", "--store", store, "--quick").code == 2


def test_an_empty_store_is_not_verified(here: Run, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    for snapshot in ("all", "latest", "2026-03-01T010000Z"):
        ran = here("verify", "--store", store, "--snapshot", snapshot)
        assert (ran.code, ran.out) == (3, "")
        assert "has no" in ran.error_line


# restore


def test_a_restore_tells_what_it_did(
    here: Run, instance: Instance, store: Path, tmp_path: Path
) -> None:
    copy = copy_at(tmp_path / "copy")
    ran = here("restore", "--store", store, *to_flags(copy), "--force")
    assert ran.code == 0, ran.err
    name = names_in(store)[-1]
    assert re.match(rf"Restored {name} in \d+ ms\n", ran.out)
    assert "integrity, foreign keys, 12 files read again" in ran.out
    assert f"export SQLITE_FILE={copy.database}" in ran.out
    assert "replaced" not in ran.out
    assert f"snapshot       {store / name}" in ran.err
    assert "replaces" not in ran.err
    assert read(copy.attachments) == read(instance.attachments)
    assert names_in(store) == names_in(store)


def test_a_restore_keeps_what_it_replaces(here: Run, store: Path, tmp_path: Path) -> None:
    old = build_instance(tmp_path / "old", evidences=3)
    before = read(old.attachments)
    first = names_in(store)[0]
    flags = ("restore", "--store", store, *to_flags(old), "--force", "--snapshot", first)
    ran = here(*flags, "--json")
    document = document_of(ran, "restore", ok=True)
    assert document["snapshot"] == first
    assert document["dry_run"] is False
    assert document["checks"]["files"] == 12
    kept = find_snapshot(store, document["kept"])
    assert kept.replaced
    assert "which is kept as a snapshot first" in ran.err
    assert find_snapshot(store, LATEST).name == names_in(store)[2]
    assert here("prune", "--store", store, "--keep-last", "1").code == 0
    assert kept.name in names_in(store)
    ran = here("restore", "--store", store, *to_flags(old), "--force", "--snapshot", kept.name)
    assert ran.code == 0, ran.err
    assert re.search(r"replaced +the old pair is snapshot \S+Z\n", ran.out)
    assert read(old.attachments) == before


def test_no_keep_keeps_nothing(here: Run, store: Path, tmp_path: Path) -> None:
    old = build_instance(tmp_path / "old", evidences=3)
    before = names_in(store)
    ran = here("restore", "--store", store, *to_flags(old), "--force", "--no-keep", "--json")
    assert document_of(ran, "restore", ok=True)["kept"] is None
    assert "NOT kept (--no-keep)" in ran.err
    assert names_in(store) == before


def test_a_damaged_pair_stops_the_restore_with_the_way_on(
    here: Run, store: Path, tmp_path: Path
) -> None:
    old = build_instance(tmp_path / "old", evidences=3)
    (old.attachments / "-rf.txt").unlink()
    before = footprint(tmp_path / "old")
    flags = ("restore", "--store", store, *to_flags(old), "--force")
    ran = here(*flags)
    assert (ran.code, ran.out) == (5, "")
    assert (
        "note: the pair at the destination could not be kept, and nothing was restored" in ran.err
    )
    assert "--no-keep restores without keeping it" in ran.err
    assert footprint(tmp_path / "old") == before
    assert here(*flags, "--no-keep").code == 0
    assert len(os.listdir(old.attachments)) == 12


def test_a_dry_run_of_a_restore_writes_nothing(here: Run, store: Path, tmp_path: Path) -> None:
    old = build_instance(tmp_path / "old", evidences=3)
    before = footprint(tmp_path)
    flags = ("restore", "--store", store, *to_flags(old), "--dry-run")
    ran = here(*flags)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("Restore\n")
    assert "12 files, 234.4 KiB" in ran.out
    assert "kept as a snapshot first" in ran.out
    document = document_of(here(*flags, "--json"), "restore", ok=True)
    assert document["dry_run"] is True
    assert document["captured"] == "2026-03-03T01:00:00+00:00"
    assert document["destination"]["database"] == str(old.database)
    assert document["room"][0]["bytes_needed"] > 240_000
    assert footprint(tmp_path) == before


def test_nobody_is_there_to_answer(here: Run, store: Path, tmp_path: Path) -> None:
    old = build_instance(tmp_path / "old", evidences=3)
    before = footprint(tmp_path)
    ran = run("restore", "--store", store, *to_flags(old))
    assert (ran.code, ran.out) == (2, "")
    assert "standard input is not a terminal" in ran.error_line
    assert "--force" in ran.hint_line
    assert footprint(tmp_path) == before
    assert here("snapshots", "--store", store).code == 0


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 2), ("\n", 2)])
def test_somebody_is_asked(store: Path, tmp_path: Path, answer: str, code: int) -> None:
    copy = copy_at(tmp_path / "copy")
    done, screen = run_on_terminal("restore", "--store", store, *to_flags(copy), answer=answer)
    assert done == code, screen
    assert "Go ahead? [y/N]" in screen
    assert copy.database.exists() is (code == 0)


def test_a_damaged_snapshot_ends_in_three(here: Run, store: Path, tmp_path: Path) -> None:
    copy = copy_at(tmp_path / "copy")
    flip(list_snapshots(store)[-1].instance.database, 5000)
    ran = here("restore", "--store", store, *to_flags(copy), "--force", "--json")
    assert ran.code == 3
    document = document_of(ran, "restore", ok=False)
    assert "the snapshot is damaged: this is not what was recorded" in document["error"]["message"]
    assert "restore another snapshot" in ran.hint_line
    assert not copy.database.parent.exists()


def test_a_destination_in_use_ends_in_six(here: Run, store: Path, tmp_path: Path) -> None:
    old = build_instance(tmp_path / "old", evidences=3)
    before = read(old.attachments)
    with held_open(old.database, "SELECT 1 FROM core_evidence"):
        ran = here("restore", "--store", store, *to_flags(old), "--force")
    assert (ran.code, ran.out) == (6, "")
    assert "in use" in ran.error_line
    assert read(old.attachments) == before
    assert len(names_in(store)) == 3, "nothing was kept for it either"


def test_a_destination_in_the_store_ends_in_four(here: Run, store: Path) -> None:
    ran = here("restore", "--store", store, *to_flags(copy_at(store / "copy")), "--force")
    assert (ran.code, ran.out) == (4, "")
    assert "lies in the store" in ran.error_line
    assert litter_in(store) == []


# What is refused


@pytest.mark.parametrize(
    "flags_and_words",
    [
        (("--keep-last", "x"), "--keep-last must be a number of snapshots"),
        (("--keep-daily=-1",), "--keep-daily lacks its value"),
        (("--keep-yearly", "9" * 5000), "--keep-yearly must be a number of snapshots"),
        (("--keep-within", "7w"), "--keep-within: '7w' is no duration"),
        (("--keep-last", "1", "--time-zone", "Mars/Base"), "no such time zone: Mars/Base"),
    ],
)
@pytest.mark.parametrize("task", ["prune", "backup-daily"])
def test_a_bad_policy_ends_in_two(
    here: Run,
    instance: Instance,
    store: Path,
    task: str,
    flags_and_words: tuple[tuple[str, ...], str],
) -> None:
    flags, says = flags_and_words
    before = footprint(store)
    source = from_flags(instance) if task == "backup-daily" else ()
    ran = here(task, "--store", store, *source, *flags)
    assert (ran.code, ran.out) == (2, "")
    assert says in ran.error_line
    assert footprint(store) == before


@pytest.mark.parametrize("value", ["0", "101", "x", "1.5", "9" * 5000])
def test_a_bad_sample_ends_in_two(here: Run, store: Path, value: str) -> None:
    ran = here("verify", "--store", store, "--sample", value)
    assert (ran.code, ran.out) == (2, "")
    assert ran.error_line.startswith("error: --sample must be a whole number from 1 to 100, not ")


def test_a_bad_configuration_ends_in_two(store: Path) -> None:
    for key, value, says in (
        ("KEEP_LAST", "many", "ops.keep_last must be a number of snapshots"),
        ("KEEP_WITHIN", "long", "ops.keep_within: 'long' is no duration"),
        ("TIME_ZONE", "Mars/Base", "no such time zone: Mars/Base"),
    ):
        ran = run("snapshots", "--store", store, environment={f"INVOKE_OPS_{key}": value})
        assert (ran.code, ran.out) == (2, "")
        assert says in ran.error_line


def test_prune_without_a_policy_ends_in_two(here: Run, store: Path) -> None:
    for flags in ((), ("--keep-last", "0"), ("--keep-within", "0d"), ("--time-zone", "UTC")):
        ran = here("prune", "--store", store, *flags)
        assert (ran.code, ran.out) == (2, "")
        assert ran.error_line == "error: nothing says which snapshots to keep"
    assert len(names_in(store)) == 3


@pytest.mark.parametrize("task", ["snapshots", "prune", "verify", "restore", "backup-daily"])
def test_a_store_must_be_named(here: Run, instance: Instance, tmp_path: Path, task: str) -> None:
    more: dict[str, tuple[Any, ...]] = {
        "prune": ("--keep-last", "1"),
        "verify": ("--snapshot", "all"),
        "restore": (*to_flags(copy_at(tmp_path / "copy")), "--force"),
        "backup-daily": from_flags(instance),
    }
    ran = here(task, *more.get(task, ()))
    assert (ran.code, ran.out) == (2, "")
    assert ran.error_line == "error: --store is required"


@pytest.mark.parametrize("task", ["snapshots", "prune", "verify", "restore"])
@pytest.mark.parametrize("what", ["nothing", "a file", "another directory"])
def test_what_is_no_store_ends_in_three(here: Run, tmp_path: Path, task: str, what: str) -> None:
    store = tmp_path / "store"
    if what == "a file":
        store.write_text("mine")
    if what == "another directory":
        store.mkdir()
        (store / "mine").write_text("mine")
    more: dict[str, tuple[Any, ...]] = {
        "prune": ("--keep-last", "1"),
        "restore": (*to_flags(copy_at(tmp_path / "copy")), "--force"),
    }
    before = footprint(tmp_path)
    ran = here(task, "--store", store, *more.get(task, ()))
    assert (ran.code, ran.out) == (3, ""), ran.err
    assert str(store) in ran.error_line
    assert footprint(tmp_path) == before


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_a_place_that_cannot_be_a_store_ends_in_four(
    here: Run, instance: Instance, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("mine")
    before = footprint(tmp_path)
    places = (
        tmp_path / "file",
        tmp_path / "file" / "below",
        tmp_path / "other",
        instance.attachments,
        instance.attachments / "store",
        instance.database.parent,
        instance.database,
    )
    for place in places:
        ran = here("backup-daily", "--store", place, *from_flags(instance), *flags)
        assert (ran.code, ran.out) == (4, ""), (place, ran.err)
        assert ran.error_line
    assert footprint(tmp_path) == before


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_a_source_in_the_store_ends_in_four(
    here: Run, instance: Instance, store: Path, flags: tuple[str, ...]
) -> None:
    instance.database.parent.rename(store / "live")
    inside = Instance(
        database=store / "live" / instance.database.name, attachments=store / "live" / "attachments"
    )
    for source in (inside, find_snapshot(store, LATEST).instance):
        ran = here("backup-daily", "--store", store, *from_flags(source), *flags)
        assert (ran.code, ran.out) == (4, "")
        assert "the source lies in the store" in ran.error_line
    assert len(names_in(store)) == 3


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_a_store_one_may_not_write_ends_in_four(flags: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = build_instance(Path(name) / "production", evidences=3)
        store = Path(name) / "store"
        back_up(source, store)
        for path in (Path(name), store, *store.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)
        before = footprint(store)
        task = ("backup-daily", "--store", store, *from_flags(source), *flags)
        ran = run(*task, user=NOBODY, environment={"HOME": name})
        assert (ran.code, ran.out) == (4, ""), ran.err
        assert ran.error_line == f"error: cannot write in {store}: Permission denied"
        assert footprint(store) == before


def remount(point: Path) -> None:
    """Make a mounted file system read-only."""
    mount = shutil.which("mount")
    assert mount is not None
    subprocess.run([mount, "-o", "remount,ro", point], check=True)


def test_a_store_that_is_mounted_read_only_ends_in_four(here: Run, instance: Instance) -> None:
    with tmpfs("8m") as point:
        store = point / "store"
        back_up(instance, store)
        remount(point)
        for flags in ((), ("--dry-run",)):
            ran = here("backup-daily", "--store", store, *from_flags(instance), *flags)
            assert (ran.code, ran.out) == (4, ""), ran.err
            assert "read-only" in ran.error_line.lower()
        assert here("snapshots", "--store", store).code == 0
        assert len(names_in(store)) == 1


def test_two_at_once_end_in_six(here: Run, instance: Instance, store: Path) -> None:
    with reader_of(store, "LOCK_EX") as pid:
        for task, more in (
            ("backup-daily", from_flags(instance)),
            ("prune", ("--keep-last", "1")),
        ):
            ran = here(task, "--store", store, *more)
            assert (ran.code, ran.out) == (6, "")
            assert f"(pid {pid})" in ran.error_line
    assert len(names_in(store)) == 3


def test_a_failed_backup_prunes_nothing(here: Run, instance: Instance, store: Path) -> None:
    (instance.attachments / "policy_6.pdf").unlink()
    before = footprint(store, ctime=False)  # a name more for a moment touches that
    flags = ("backup-daily", "--store", store, *from_flags(instance), "--keep-last", "1")
    ran = here(*flags, "--json")
    assert ran.code == 5
    document = document_of(ran, "backup-daily", ok=False)
    assert [one["kind"] for one in document["findings"]] == ["missing-file"]
    after = footprint(store, ctime=False)
    del before[os.fsencode(store)], after[os.fsencode(store)]
    assert after == before


def test_names_in_a_message_stay_on_their_line(here: Run, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    ran = here("verify", "--store", store, "--snapshot", "a\nerror: forged")
    assert ran.code == 3
    assert "a\\nerror: forged" in ran.error_line
    ran = here("snapshots", "--store", tmp_path / "a\nb")
    assert "a\\nb" in ran.error_line


def test_a_store_is_marked(here: Run, instance: Instance, tmp_path: Path) -> None:
    here("backup-daily", "--store", tmp_path / "new" / "store", *from_flags(instance))
    assert (tmp_path / "new" / "store" / MARKER).is_file()
