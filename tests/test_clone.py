"""Clone through the pipeline: exact copies, an untouched source, an old pair or a new one."""

import os
import shutil
import sqlite3
import stat
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.clone import run_clone
from ops.demo_instance import build_instance, connect, insert_evidence
from ops.errors import BusyError, DestinationError, OpsError, SourceError, VerificationError
from ops.model import Instance, Severity
from tests.filesystem import Directory, File, HardLink, Link, Pipe, build, footprint, read
from tests.pipeline import CLOCK, check, clone, plan, quiet, request_for
from tests.processes import held_open
from tests.strategies import trees

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to give files away")


def test_reads_back_equal(instance: Instance, destination: Instance) -> None:
    clone(instance, destination)
    assert read(destination.attachments) == read(instance.attachments)
    assert rows(destination.database) == rows(instance.database)


def rows(database: Path) -> list[tuple[object, ...]]:
    """Read the evidences with their files, in order of their ids."""
    connection = sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)
    try:
        return connection.execute(
            "SELECT e.id, e.name, r.attachment, r.attachment_hash FROM core_evidence e"
            " JOIN core_evidencerevision r ON r.evidence_id = e.id ORDER BY e.id"
        ).fetchall()
    finally:
        connection.close()


@given(tree=trees())
def test_any_tree_reads_back_equal_and_its_source_is_untouched(tree: Directory) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        source = bare_instance(directory / "source", tree)
        before = footprint(directory / "source")
        destination = Instance(database=directory / "d" / "db", attachments=directory / "d" / "t")
        clone(source, destination, profile="none")
        assert read(destination.attachments) == read(source.attachments)
        assert footprint(directory / "source") == before


def bare_instance(directory: Path, tree: Directory) -> Instance:
    """Make an instance of no application: a database with one table, and any tree."""
    directory.mkdir()
    source = Instance(database=directory / "any.db", attachments=directory / "tree")
    build(source.attachments, tree)
    connection = sqlite3.connect(source.database)
    connection.execute("CREATE TABLE t (x)")
    connection.close()
    return source


@given(values=st.lists(st.one_of(st.none(), st.integers(-(2**60), 2**60), st.text(), st.binary())))
def test_any_rows_read_back_equal(values: list[object]) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        source = bare_instance(directory / "source", Directory())
        connection = connect(source.database)
        # What SQLite cannot store as text is not the copy's business.
        connection.executemany(
            "INSERT INTO t VALUES (?)", [(value,) for value in values if storable(value)]
        )
        destination = Instance(database=directory / "d" / "db", attachments=directory / "d" / "t")
        clone(source, destination, profile="none")  # the rows are in the WAL only
        copy = sqlite3.connect(destination.database)
        question = "SELECT x, typeof(x) FROM t ORDER BY rowid"
        assert copy.execute(question).fetchall() == connection.execute(question).fetchall()
        copy.close()
        connection.close()


def storable(value: object) -> bool:
    """Tell whether a value is text that UTF-8 has, or no text."""
    return not isinstance(value, str) or value.isprintable()


def test_takes_commits_that_are_only_in_the_wal(instance: Instance, destination: Instance) -> None:
    connection = connect(instance.database)
    insert_evidence(connection, instance.attachments, "late.txt", b"late")
    outcome = clone(instance, destination)
    connection.close()
    assert outcome.capture.way == "with a write-ahead log"
    assert any(row[2] == "late.txt" for row in rows(destination.database))


def test_replaces_the_old_pair_as_a_whole(instance: Instance, destination: Instance) -> None:
    old = build_instance(destination.database.parent / "old", evidences=3, seed=9)
    (old.attachments / "left-over.txt").write_text("old")
    clone(instance, old)
    assert read(old.attachments) == read(instance.attachments)
    assert rows(old.database) == rows(instance.database)


def test_leaves_nothing_else_beside_the_destination(
    instance: Instance, destination: Instance
) -> None:
    clone(instance, destination)
    assert sorted(os.listdir(destination.database.parent)) == ["attachments", "db.sqlite3"]


def test_never_mixes_an_old_wal_into_the_new_database(instance: Instance, tmp_path: Path) -> None:
    old = build_instance(tmp_path / "old", evidences=3, seed=9)
    connection = connect(old.database)
    insert_evidence(connection, old.attachments, "only-in-wal.txt", b"old")
    saved = {name.name: name.read_bytes() for name in old.database.parent.glob("*.sqlite3*")}
    connection.close()
    for name, content in saved.items():  # as a crash leaves them
        (old.database.parent / name).write_bytes(content)
    assert "ciso-assistant.sqlite3-wal" in saved
    clone(instance, old)
    assert sorted(os.listdir(old.database.parent)) == ["attachments", "ciso-assistant.sqlite3"]
    reopened = connect(old.database)
    assert reopened.execute("SELECT count(*) FROM core_evidence").fetchone() == (12,)
    reopened.close()


def test_removes_a_stale_wal_where_no_database_is(
    instance: Instance, destination: Instance
) -> None:
    destination.database.parent.mkdir()
    stale = destination.database.with_name("db.sqlite3-wal")
    stale.write_bytes(b"stale")
    clone(instance, destination)
    assert not stale.exists()


def test_refuses_a_destination_in_use(instance: Instance, tmp_path: Path) -> None:
    old = build_instance(tmp_path / "old", evidences=3, seed=9)
    before = read(old.attachments)
    with (
        held_open(old.database, "SELECT count(*) FROM core_evidence"),
        pytest.raises(
            BusyError, match=r"the destination is in use: .* is open: python\S* \(pid \d+\)"
        ),
    ):
        clone(instance, old)
    assert read(old.attachments) == before
    assert len(rows(old.database)) == 3


def test_new_parents_are_private_and_nothing_is_more_open_than_the_source(
    instance: Instance, tmp_path: Path
) -> None:
    instance.database.chmod(0o640)
    instance.attachments.chmod(0o750)
    inside = tmp_path / "one" / "two"
    destination = Instance(database=inside / "db.sqlite3", attachments=inside / "attachments")
    before = os.umask(0)
    try:
        clone(instance, destination)
    finally:
        os.umask(before)
    modes = {
        path: stat.S_IMODE(path.stat().st_mode)
        for path in (inside.parent, inside, destination.database, destination.attachments)
    }
    assert list(modes.values()) == [0o700, 0o700, 0o640, 0o750]


@ROOT_ONLY
def test_keeps_owners(instance: Instance, destination: Instance) -> None:
    os.chown(instance.database, 12345, 54321)
    os.chown(next(instance.attachments.iterdir()), 12345, 54321)
    clone(instance, destination)
    status = destination.database.stat()
    assert (status.st_uid, status.st_gid) == (12345, 54321)
    assert read(destination.attachments) == read(instance.attachments)


ATTRIBUTED = Directory(
    {
        b"file": File(b"content"),
        b"another name": HardLink(b"file"),
        b"link": Link(b"file"),
        b"dangling": Link(b"nowhere"),
        b"another link": HardLink(b"dangling"),
        b"pipe": Pipe(),
        b"directory": Directory({b"below": Link(b"..")}),
    }
)


def give(path: Path, name: str, value: bytes) -> None:
    """Set an attribute of whatever is there, not of what it leads to."""
    if os.geteuid() != 0 or not hasattr(os, "setxattr"):
        pytest.skip("takes root and Linux, to set attributes of links")
    os.setxattr(path, name, value, follow_symlinks=False)


def attributes(path: Path) -> dict[str, bytes]:
    """Read the attributes of whatever is there."""
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


@pytest.mark.parametrize("jobs", [1, 2])
def test_attributes_are_kept_of_every_kind_of_entry(jobs: int, tmp_path: Path) -> None:
    source = bare_instance(tmp_path / "source", ATTRIBUTED)
    for path in (source.attachments, *source.attachments.rglob("*")):
        give(path, "trusted.note", b"of " + os.fsencode(path.name))
    before = read(source.attachments)
    copy = Instance(database=tmp_path / "d" / "db", attachments=tmp_path / "d" / "tree")
    outcome = clone(source, copy, profile="none", jobs=jobs)

    assert read(copy.attachments) == before == read(source.attachments)
    assert attributes(copy.attachments / "link") == {"trusted.note": b"of link"}
    assert [one.kind for one in outcome.findings if one.kind != "link-outside"] == []
    assert [one.kind for one in check(copy, source=source, profile="none").findings] == []


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("name", ["trusted.SGI_ACL_FILE", "trusted.SGI_ACL_DEFAULT"])
def test_how_xfs_stores_access_lists_is_never_copied(name: str, jobs: int, tmp_path: Path) -> None:
    """It shows that to root beside the lists themselves; elsewhere it means nothing."""
    source = bare_instance(tmp_path / "source", ATTRIBUTED)
    for path in (source.attachments, *source.attachments.rglob("*")):
        give(path, name, b"\0" * 8)
    give(source.attachments / "directory", "trusted.kept", b"1")
    manifest = tmp_path / "manifest"
    copy = Instance(database=tmp_path / "d" / "db", attachments=tmp_path / "d" / "tree")
    outcome = clone(source, copy, profile="none", manifest=manifest, jobs=jobs)

    found = [attributes(path) for path in (copy.attachments, *copy.attachments.rglob("*"))]
    assert sorted(found, key=len) == [{}] * 8 + [{"trusted.kept": b"1"}]
    assert name not in manifest.read_text("utf-8")
    assert [one.kind for one in outcome.findings if one.kind != "link-outside"] == []
    for verified in (
        check(copy, source=source, profile="none", jobs=jobs),
        check(copy, manifest=manifest, profile="none", jobs=jobs),
        check(source, source=copy, profile="none", jobs=jobs),
    ):
        assert [one for one in verified.findings if one.kind != "link-outside"] == []


def test_the_database_has_the_time_of_its_last_commit(
    instance: Instance, destination: Instance
) -> None:
    os.utime(instance.database, ns=(10**18, 10**18 + 7))
    clone(instance, destination)
    assert destination.database.stat().st_mtime_ns == 10**18 + 7


def test_halves_may_go_to_different_places(instance: Instance, tmp_path: Path) -> None:
    destination = Instance(
        database=tmp_path / "here" / "db", attachments=tmp_path / "there" / "tree"
    )
    clone(instance, destination)
    assert read(destination.attachments) == read(instance.attachments)
    assert os.listdir(tmp_path / "here") == ["db"]
    assert os.listdir(tmp_path / "there") == ["tree"]


def test_a_source_reached_through_links_is_copied(
    instance: Instance, destination: Instance, tmp_path: Path
) -> None:
    linked = Instance(database=tmp_path / "link.db", attachments=tmp_path / "link")
    linked.database.symlink_to(instance.database)
    linked.attachments.symlink_to(instance.attachments)
    clone(linked, destination)
    assert read(destination.attachments) == read(instance.attachments)


class TestAFailureLeavesTheOldPair:
    """Whatever fails before the swap, the destination reads as it did."""

    @pytest.fixture
    def old(self, tmp_path: Path) -> Instance:
        return build_instance(tmp_path / "old", evidences=3, seed=9)

    def fails(self, instance: Instance, old: Instance, error: type[OpsError]) -> OpsError:
        before = footprint(old.database.parent)
        with pytest.raises(error) as caught:
            clone(instance, old)
        after = footprint(old.database.parent)
        directory = os.fsencode(old.database.parent)
        # The parent's own times show that a workspace came and went; nothing else may differ.
        assert {**before, directory: ()} == {**after, directory: ()}
        return caught.value

    def test_a_row_without_its_file(self, instance: Instance, old: Instance) -> None:
        (instance.attachments / "policy_7.pdf").unlink()
        error = self.fails(instance, old, VerificationError)
        assert "missing-file: policy_7.pdf (core_evidencerevision id=" in error.message
        assert "--profile none" in error.hint

    def test_a_row_that_leads_out(self, instance: Instance, old: Instance) -> None:
        connection = connect(instance.database)
        connection.execute(
            "UPDATE core_evidencerevision SET attachment = '../../etc/passwd'"
            " WHERE attachment = 'policy_7.pdf'"
        )
        connection.close()
        error = self.fails(instance, old, VerificationError)
        assert "outside" in error.message

    def test_a_broken_foreign_key(self, instance: Instance, old: Instance) -> None:
        connection = sqlite3.connect(instance.database)
        connection.execute("UPDATE core_evidence SET folder_id = 'nowhere'")
        connection.commit()
        connection.close()
        error = self.fails(instance, old, VerificationError)
        assert "foreign-key: table core_evidence" in error.message
        assert isinstance(error, VerificationError)
        assert len(error.findings) == 12

    def test_a_stop_in_the_middle(self, instance: Instance, old: Instance) -> None:
        before = footprint(old.database.parent)
        planned = plan(request_for(instance, old))

        def stop(progress: object) -> None:
            if "re-read" in str(progress):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_clone(planned, clock=CLOCK, progress=stop)
        directory = os.fsencode(old.database.parent)
        after = footprint(old.database.parent)
        assert {**before, directory: ()} == {**after, directory: ()}

    def test_new_parents_are_removed_again(self, instance: Instance, tmp_path: Path) -> None:
        (instance.attachments / "policy_7.pdf").unlink()
        new = Instance(
            database=tmp_path / "new" / "deep" / "db", attachments=tmp_path / "new" / "tree"
        )
        with pytest.raises(VerificationError):
            clone(instance, new)
        assert not (tmp_path / "new").exists()


def test_none_copies_a_damaged_instance_as_it_is(instance: Instance, destination: Instance) -> None:
    (instance.attachments / "policy_7.pdf").unlink()
    connection = sqlite3.connect(instance.database)
    connection.execute("UPDATE core_evidence SET folder_id = 'nowhere'")
    connection.commit()
    connection.close()
    outcome = clone(instance, destination, profile="none")
    assert {finding.severity for finding in outcome.findings} == {Severity.WARNING}
    assert read(destination.attachments) == read(instance.attachments)


def test_a_digest_that_is_wrong_in_the_source_is_a_warning(
    instance: Instance, destination: Instance
) -> None:
    (instance.attachments / "policy_7.pdf").write_bytes(b"other")
    outcome = clone(instance, destination)
    assert [(f.kind, f.severity) for f in outcome.findings] == [
        ("recorded-digest", Severity.WARNING)
    ]
    assert outcome.counts.digests_right == 11


def test_orphans_are_copied_and_noted(instance: Instance, destination: Instance) -> None:
    (instance.attachments / "orphan.txt").write_text("nobody's")
    (instance.attachments / "empty").mkdir()
    outcome = clone(instance, destination)
    assert [(f.kind, f.severity, f.where) for f in outcome.findings] == [
        ("orphan", Severity.NOTE, "orphan.txt")
    ]
    assert read(destination.attachments) == read(instance.attachments)


def test_a_link_out_of_the_tree_is_copied_as_a_link_and_told(
    instance: Instance, destination: Instance
) -> None:
    (instance.attachments / "out").symlink_to("/etc/passwd")
    outcome = clone(instance, destination)
    assert [(f.kind, f.severity, f.where) for f in outcome.findings] == [
        ("link-outside", Severity.WARNING, "out")
    ]
    assert os.readlink(destination.attachments / "out") == "/etc/passwd"


def test_a_database_named_as_the_workspace_names_its_own(tmp_path: Path) -> None:
    source = build_instance(tmp_path / "source", evidences=2)
    for number, name in enumerate(("database", "tree", "scratch")):
        renamed = Instance(database=tmp_path / name, attachments=source.attachments)
        shutil.copy(source.database, renamed.database)
        place = tmp_path / f"copy{number}"
        clone(renamed, Instance(database=place / name, attachments=place / "attachments"))
        assert len(rows(place / name)) == 2


class TestManifest:
    """The optional record of the copy."""

    def test_verifies_the_copy(self, instance: Instance, destination: Instance) -> None:
        manifest = instance.database.parents[2] / "manifest.jsonl"
        clone(instance, destination, manifest=manifest)
        assert check(destination, manifest=manifest).findings == ()

    def test_is_not_written_when_the_copy_fails(
        self, instance: Instance, destination: Instance, tmp_path: Path
    ) -> None:
        manifest = tmp_path / "manifest.jsonl"
        manifest.write_text('{"format":"ciso-ops manifest", the old one')
        (instance.attachments / "policy_7.pdf").unlink()
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(VerificationError):
            clone(instance, destination, manifest=manifest)
        assert manifest.read_text() == '{"format":"ciso-ops manifest", the old one'
        assert sorted(os.listdir(tmp_path)) == before

    def test_place_is_checked_before_anything_is_written(
        self, instance: Instance, destination: Instance, tmp_path: Path
    ) -> None:
        (instance.database.parents[1] / "letter").write_text("Dear auditor")
        for manifest, message in (
            (tmp_path / "no" / "where", "does not exist"),
            (tmp_path, "is a directory"),
            (instance.attachments / "m", "inside an instance"),
            (destination.attachments / "m", "does not exist"),
            (instance.database.parents[1] / "letter", "another file stands where"),
        ):
            with pytest.raises(DestinationError, match=message):
                plan(request_for(instance, destination, manifest=manifest))


def test_a_file_that_cannot_be_read_is_named(instance: Instance, destination: Instance) -> None:
    """A directory where the plan saw a file: it cannot be opened as one any more."""
    planned = plan(request_for(instance, destination))
    shutil.rmtree(instance.attachments)
    with pytest.raises(SourceError, match=r"cannot read .*attachments: No such file"):
        run_clone(planned, clock=CLOCK, progress=quiet)
    assert not destination.database.parent.exists()


def test_plans_are_values(instance: Instance, destination: Instance) -> None:
    """Planning twice says the same, and writes nothing."""
    before = footprint(instance.database.parents[2])
    first, second = (plan(request_for(instance, destination)) for _ in range(2))
    assert replace(first, rooms=()) == replace(second, rooms=())
    assert footprint(instance.database.parents[2]) == before
