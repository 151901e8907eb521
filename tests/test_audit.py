"""The check of snapshots: all damage is found, named and written down, for each that shares it."""

import hashlib
import os
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.audit import Audit, audit_snapshot, daily_sample
from ops.audit import Effort as AuditEffort
from ops.bag import LEDGER, MANIFEST, TAG_MANIFEST
from ops.demo_instance import build_instance
from ops.errors import BusyError, DestinationError, SourceError
from ops.model import Instance
from ops.profile import load_profile
from ops.snapshot import DAMAGED, SAMPLED, VERIFIED
from ops.store import LATEST, Snapshot, find_snapshot, list_snapshots
from ops.storing import point_latest
from ops.tree.inspecting import EVERYTHING
from tests.filesystem import Directory, File, HardLink, footprint, unprivileged
from tests.pipeline import CLOCK, quiet
from tests.test_backup import FEWER, NIGHT, ODD, summary_of
from tests.test_clone import bare_instance
from tests.test_store import (
    at,
    back_up,
    check_up,
    flip,
    litter_in,
    names_in,
    reader_of,
)

TAGS = ("bagit.txt", "bag-info.txt", MANIFEST, "snapshot.json", LEDGER, TAG_MANIFEST)


@pytest.fixture
def store(instance: Instance, tmp_path: Path) -> Path:
    """Make a store with two snapshots of the instance, which share all files."""
    for hour in range(2):
        back_up(instance, tmp_path / "store", clock=at(NIGHT + timedelta(hours=hour)))
    return (tmp_path / "store").resolve()


def newest(store: Path) -> Snapshot:
    """Return the newest snapshot, sound or not."""
    return list_snapshots(store)[-1]


def said(audit: Audit) -> list[tuple[str, str]]:
    """Return the kinds and places of all findings."""
    return [(one.kind, one.where) for one in audit.findings]


def history(store: Path, name: str) -> list[str]:
    """Return what happened to a snapshot."""
    return [event.what for event in find_snapshot(store, name).events]


def resign(snapshot: Snapshot) -> None:
    """Write the manifest of the tag files anew, as somebody would who wants to deceive."""
    path = snapshot.path / TAG_MANIFEST
    names = [line.partition("  ")[2] for line in path.read_text().splitlines()]
    digests = [hashlib.sha256((snapshot.path / name).read_bytes()).hexdigest() for name in names]
    path.chmod(0o600)
    path.write_text("".join(f"{digests[at]}  {name}\n" for at, name in enumerate(names)))


# What is sound


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("from_disk", [False, True])
def test_a_sound_snapshot_is_verified_and_that_is_written_down(
    store: Path, jobs: int, *, from_disk: bool
) -> None:
    before = footprint(newest(store).path / "data")
    audit = check_up(store, jobs=jobs, from_disk=from_disk, clock=at(NIGHT))
    assert audit.sound
    assert audit.findings == ()
    assert (audit.counts.files, audit.files_read, audit.counts.bytes_read) == (12, 12, 240_000)
    assert audit.counts.digests_right == 12
    (event,) = newest(store).events
    assert (event.what, event.instant) == (VERIFIED, NIGHT)
    assert event.details == {"files_read": 12, "bytes_read": 240_000}
    assert footprint(newest(store).path / "data") == before
    assert check_up(store).sound, "the history itself is no damage"


def test_a_history_may_grow(store: Path) -> None:
    for _ in range(3):
        check_up(store)
    assert history(store, names_in(store)[-1]) == [VERIFIED] * 3


def test_a_kill_while_the_history_is_written_is_no_damage(store: Path) -> None:
    (newest(store).path / ".history.jsonl").write_text("")
    assert check_up(store).findings == ()


# What is damaged


def damaged(store: Path, *, profile: str = "ciso_assistant") -> Audit:
    """Check the newest snapshot, which must be found damaged, and that it counts no more."""
    name = newest(store).name
    audit = check_up(store, name, profile=profile)
    assert not audit.sound
    assert not find_snapshot(store, name).verified or audit.snapshot.problem
    point_latest(store)
    for other in list_snapshots(store):
        assert other.verified == (other.name != name and other.name not in dict(audit.sharing))
    return audit


@pytest.mark.parametrize("name", TAGS)
def test_a_tag_file_that_was_changed_is_named(store: Path, name: str) -> None:
    flip(newest(store).path / name, 20)
    audit = damaged(store)
    assert all(kind == "bag" for kind, _ in said(audit))
    # A digest in the manifest of the tag files that was changed is told as its file's change.
    assert name == TAG_MANIFEST or any(name in one.found for one in audit.findings)
    assert (store / LATEST).readlink() == Path(names_in(store)[0])


@pytest.mark.parametrize("name", TAGS)
@pytest.mark.parametrize("instead", ["nothing", "a directory", "a link to nothing"])
def test_a_tag_file_that_is_not_there_is_named(store: Path, name: str, instead: str) -> None:
    path = newest(store).path / name
    path.unlink()
    if instead == "a directory":
        path.mkdir()
    if instead == "a link to nothing":
        path.symlink_to("nowhere")
    audit = damaged(store)
    assert any(name in one.found for one in audit.findings)
    assert len(names_in(store)) == 2


@pytest.mark.parametrize(
    ("place", "kinds"),
    [
        ("policy_6.pdf", {"missing", "missing-file"}),
        ("Résumé d'audit été.pdf", {"missing", "missing-file"}),
    ],
)
def test_a_file_that_is_missing_is_named(store: Path, place: str, kinds: set[str]) -> None:
    (newest(store).instance.attachments / place).unlink()
    audit = damaged(store)
    assert {kind for kind, where in said(audit) if place in where} <= kinds
    assert ("missing", place) in said(audit)


def test_a_file_that_is_too_much_is_named(store: Path) -> None:
    (newest(store).instance.attachments / "new\n").write_text("x")
    (newest(store).instance.attachments / "dir").mkdir()
    assert said(damaged(store)) == [("unexpected", "dir"), ("unexpected", "new\\n")]


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_something_else_in_place_of_a_file_is_named(store: Path, kind: str) -> None:
    path = newest(store).instance.attachments / "policy_6.pdf"
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("policy_7.pdf")
    else:
        os.mkfifo(path)
    assert ("missing", "policy_6.pdf") in said(damaged(store))


@pytest.mark.parametrize("name", ["extra", ".hidden", "data2"])
def test_what_does_not_belong_at_the_top_is_named(store: Path, name: str) -> None:
    (newest(store).path / name).write_text("x")
    audit = damaged(store)
    assert [one.found for one in audit.findings] == [f"unexpected: {name}"]


def test_what_does_not_belong_beside_the_payload_is_named(store: Path) -> None:
    (newest(store).path / "data" / "database.sqlite3-wal").write_text("x")
    (one,) = damaged(store).findings
    assert one.found == "unexpected: data/database.sqlite3-wal"


@pytest.mark.parametrize("place", ["data", "data/attachments", "data/database.sqlite3"])
@pytest.mark.parametrize("instead", ["nothing", "a file", "a directory"])
def test_a_payload_that_is_not_there_is_damage(store: Path, place: str, instead: str) -> None:
    path = newest(store).path / place
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if instead == "a file":
        path.write_text("x")
    if instead == "a directory":
        path.mkdir()
    audit = damaged(store)
    assert audit.findings
    assert history(store, names_in(store)[-1]) == [DAMAGED]


@given(one=st.integers(0, 99), at=st.integers(0, 9999))
@FEWER
def test_any_single_byte_of_a_snapshot_counts(one: int, at: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        tree = Directory({**ODD.children, b"plain": File(b"x" * 5000)})
        source = bare_instance(Path(name) / "source", tree)
        snapshot = back_up(source, Path(name) / "store", profile="none")
        files = sorted(
            path for path in snapshot.path.rglob("*") if path.is_file() and path.stat().st_size
        )
        path = files[one % len(files)]  # sizes depend on the time: they are no part of an example
        flip(path, path.stat().st_size * at // 10_000)
        audit = check_up(Path(name) / "store", snapshot.name, profile="none")
        assert not audit.sound


def test_a_byte_of_the_database_is_noticed_by_its_digest_at_least(store: Path) -> None:
    database = newest(store).instance.database
    flip(database, database.stat().st_size - 3)
    assert ("changed", "database") in said(damaged(store))


def test_a_database_that_is_none_any_more_is_told(store: Path) -> None:
    flip(newest(store).instance.database, 0)
    kinds = {kind for kind, _ in said(damaged(store))}
    assert kinds >= {"changed", "integrity"}


def test_a_manifest_that_lists_other_files_than_the_ledger_is_told(store: Path) -> None:
    snapshot = newest(store)
    manifest = snapshot.path / MANIFEST
    manifest.chmod(0o600)
    manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:-1]))
    resign(snapshot)
    (one,) = damaged(store).findings
    assert one.found == "manifest-sha256.txt does not list what ledger.jsonl does"


def test_a_manifest_of_the_tag_files_that_leaves_one_out_is_told(store: Path) -> None:
    path = newest(store).path / TAG_MANIFEST
    path.chmod(0o600)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
    (one,) = damaged(store).findings
    assert one.found == f"{TAG_MANIFEST} does not list the tag files of a snapshot"


def test_a_ledger_that_cannot_be_read_is_told_even_if_it_is_signed(store: Path) -> None:
    snapshot = newest(store)
    (snapshot.path / LEDGER).chmod(0o600)
    (snapshot.path / LEDGER).write_text("{}\n")
    resign(snapshot)
    (one,) = damaged(store).findings
    assert one.found.startswith("ledger.jsonl: it is no ledger")


def test_a_row_whose_file_is_not_there_is_told(store: Path) -> None:
    """The database is right by its digest, the tree by the ledger, and they are no pair."""
    snapshot = newest(store)
    (snapshot.instance.attachments / "policy_6.pdf").unlink()
    assert "missing" in {kind for kind, _ in said(damaged(store))}


def test_a_snapshot_under_another_name_is_told(store: Path) -> None:
    snapshot = newest(store)
    snapshot.path.rename(store / "2026-03-09T010000Z")
    audit = check_up(store, "2026-03-09T010000Z")
    assert [one.found for one in audit.findings] == [f"it calls itself {snapshot.name}"]


# What is shared


def test_damage_in_a_shared_file_is_told_for_each_that_shares_it(
    instance: Instance, store: Path
) -> None:
    independent = back_up(instance, store, independent=True, clock=at(NIGHT + timedelta(hours=2)))
    first, second, _ = names_in(store)
    for snapshot in list_snapshots(store)[:2]:  # by hard link or by the same sick disk
        path = snapshot.instance.attachments / "policy_6.pdf"
        if path.stat().st_nlink == 1 or snapshot.name == first:
            flip(path, 100)
    audit = check_up(store, second)
    assert ("changed", "policy_6.pdf") in said(audit)
    assert audit.sharing == ((first, (b"policy_6.pdf",)),)
    assert history(store, first) == history(store, second) == [DAMAGED]
    event = find_snapshot(store, first).events[-1]
    assert event.details == {"shared_with": second, "first": "policy_6.pdf"}
    point_latest(store)
    assert (store / LATEST).readlink() == Path(independent.name)
    assert history(store, independent.name) == []
    assert summary_of(back_up(instance, store)).based_on == independent.name


def test_a_repaired_file_makes_it_sound_again_and_a_sample_does_not(store: Path) -> None:
    first, second = names_in(store)
    path = newest(store).instance.attachments / "policy_6.pdf"
    flip(path, 100)
    assert not check_up(store, second).sound
    flip(path, 100)
    for part in range(10):
        assert check_up(store, second, sample=(part, 10)).sound
    assert history(store, second) == [DAMAGED, *[SAMPLED] * 10]
    with pytest.raises(SourceError, match="no verified snapshot"):
        find_snapshot(store, LATEST)
    assert check_up(store, second).sound
    assert find_snapshot(store, LATEST).name == second
    assert not find_snapshot(store, first).verified, "each is checked for itself"
    assert check_up(store, first).sound
    point_latest(store)
    assert (store / LATEST).readlink() == Path(second)


def test_other_snapshots_that_are_beyond_reading_do_not_matter(store: Path) -> None:
    first, second = list_snapshots(store)
    shutil.rmtree(first.instance.attachments)
    flip(second.instance.attachments / "policy_6.pdf", 100)
    assert dict(check_up(store, second.name).sharing) == {first.name: (b"policy_6.pdf",)}
    (first.path / LEDGER).unlink()
    assert check_up(store, second.name).sharing == ()


def test_damage_is_told_for_those_that_have_the_file_only(instance: Instance, store: Path) -> None:
    (instance.attachments / "policy_6.pdf").unlink()
    os.symlink("policy_7.pdf", instance.attachments / "policy_6.pdf")
    without = back_up(instance, store, profile="none")
    second = list_snapshots(store)[1]
    flip(second.instance.attachments / "policy_6.pdf", 100)
    audit = check_up(store, second.name)
    assert without.name not in dict(audit.sharing)


# Samples


def test_ten_daily_samples_read_every_file_once(store: Path) -> None:
    name = names_in(store)[-1]
    first = datetime(2026, 3, 1, tzinfo=UTC)
    audits = [
        check_up(store, name, sample=daily_sample(10, (first + timedelta(days=day)).toordinal()))
        for day in range(10)
    ]
    assert sum(one.files_read for one in audits) == 12
    assert sum(one.counts.bytes_read for one in audits) == 240_000
    assert all(one.counts.files == 12 for one in audits)
    assert all(event.what == SAMPLED for event in newest(store).events)


@pytest.mark.parametrize("day", range(3))
def test_a_byte_is_noticed_within_ten_days(store: Path, day: int) -> None:
    name = names_in(store)[-1]
    flip(newest(store).instance.attachments / f"policy_{6 + day}.pdf", 7)
    found = [check_up(store, name, sample=daily_sample(10, part)).sound for part in range(10)]
    assert found.count(False) == 1


def test_a_sample_notices_what_can_be_seen_without_reading(store: Path) -> None:
    path = newest(store).instance.attachments / "policy_6.pdf"
    path.chmod(0o600)
    path.write_bytes(b"cut short")
    for part in range(10):
        audit = check_up(store, newest(store).name, sample=(part, 10))
        assert ("changed", "policy_6.pdf") in said(audit)


@given(percent=st.integers(1, 100), day=st.integers(0, 10**6))
def test_a_part_is_at_least_as_large_as_asked_and_all_parts_have_their_day(
    percent: int, day: int
) -> None:
    part, parts = daily_sample(percent, day)
    assert 0 <= part < parts
    assert 100 <= percent * parts < 100 + percent
    days = {daily_sample(percent, day + later)[0] for later in range(parts)}
    assert days == set(range(parts))


def test_all_of_a_hundred_percent_is_everything() -> None:
    assert daily_sample(100, 7) == EVERYTHING


# Who may read it


@pytest.mark.parametrize("hidden", ["tag files", "payload"])
def test_what_one_may_not_read_is_a_failure_and_no_damage(hidden: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        source = build_instance(Path(name) / "production", evidences=3)
        store = Path(name) / "store"
        snapshot = back_up(source, store)
        for path in (Path(name), store, *store.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)
        if hidden == "payload":
            for path in snapshot.path.iterdir():
                if path.is_file():
                    path.chmod(0o444)
            snapshot.instance.database.chmod(0o444)
        with (
            unprivileged(),
            pytest.raises(DestinationError, match=r"cannot read .*Permission denied"),
        ):
            check_up(store, snapshot.name)
        assert history(store, snapshot.name) == []


# Who else is at work


def test_a_snapshot_that_is_being_removed_is_not_checked(store: Path) -> None:
    with (
        reader_of(newest(store).path, "LOCK_EX"),
        pytest.raises(BusyError, match="is just being removed"),
    ):
        check_up(store)
    assert litter_in(store) == []


def test_links_and_odd_names_are_judged_by_their_true_names(tmp_path: Path) -> None:
    tree = Directory({b"a\n": File(b"content"), b"b": HardLink(b"a\n")})
    source = bare_instance(tmp_path / "source", tree)
    snapshot = back_up(source, tmp_path / "store", profile="none")
    stored = next(path for path in snapshot.instance.attachments.iterdir() if path.name != "b")
    if stored.stat().st_nlink == 1:
        flip(snapshot.instance.attachments / "b")
    flip(stored)
    audit = check_up(tmp_path / "store", profile="none")
    assert said(audit) == [("changed", "a\\n"), ("changed", "b")]


def test_rows_are_judged_with_the_profile_that_is_given(instance: Instance, tmp_path: Path) -> None:
    (instance.attachments / "policy_6.pdf").unlink()
    snapshot = back_up(instance, tmp_path / "store", profile="none")
    assert check_up(tmp_path / "store", snapshot.name, profile="none").sound
    audit = check_up(tmp_path / "store", snapshot.name)
    assert [kind for kind, _ in said(audit)] == ["missing-file"]
    assert not audit.sound


def test_each_is_checked_for_itself_when_nothing_else_is_known(store: Path) -> None:
    snapshot = newest(store)
    flip(snapshot.instance.attachments / "policy_6.pdf")
    audit = audit_snapshot(
        snapshot, [], load_profile("none"), AuditEffort(), clock=CLOCK, progress=quiet
    )
    assert audit.sharing == ()
    assert not audit.sound
