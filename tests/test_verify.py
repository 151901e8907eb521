"""Verify: any change of any byte is found and named, and nothing is touched by looking."""

import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.demo_instance import build_instance, connect
from ops.demo_writer import writer
from ops.errors import DestinationError, UsageError
from ops.model import Finding, Instance, Progress, Severity
from ops.profile import load_profile
from ops.verify import Verification, VerifyRequest, verify
from tests.filesystem import footprint
from tests.pipeline import check, clone
from tests.processes import held_open


@dataclass(frozen=True)
class Copied:
    """A source, its clone, and the manifest of it."""

    source: Instance
    copy: Instance
    manifest: Path


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Copied:
    """Make a clone once; a test that damages it works on a copy of its own."""
    directory = tmp_path_factory.mktemp("copied")
    source = build_instance(directory / "production", evidences=20)
    copy = Instance(database=directory / "d" / "db.sqlite3", attachments=directory / "d" / "att")
    clone(source, copy, manifest=directory / "manifest")
    return Copied(source, copy, directory / "manifest")


@pytest.fixture
def damaged(copied: Copied) -> Iterator[Instance]:
    """Hand out a copy of the clone that may be damaged."""
    with private_copy(copied) as instance:
        yield instance


class private_copy:  # noqa: N801 - used as a function
    """Copies the clone, with its times, for the length of a block."""

    def __init__(self, copied: Copied) -> None:
        self._copied = copied
        self._directory = tempfile.TemporaryDirectory()

    def __enter__(self) -> Instance:
        place = Path(self._directory.name) / "d"
        shutil.copytree(self._copied.copy.database.parent, place)
        return Instance(database=place / "db.sqlite3", attachments=place / "att")

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()


def errors(verification: Verification) -> list[Finding]:
    """List the findings that make verification fail."""
    return [f for f in verification.findings if f.severity is Severity.ERROR]


def test_a_clone_is_sound_in_every_way(copied: Copied) -> None:
    for verification in (
        check(copied.copy),
        check(copied.copy, quick=True),
        check(copied.copy, manifest=copied.manifest),
        check(copied.copy, source=copied.source),
        check(copied.copy, source=copied.source, quick=True),
    ):
        assert verification.findings == ()
        assert verification.counts.referenced == 20
    assert check(copied.copy).counts.digests_right == 20
    assert check(copied.copy, quick=True).counts.bytes_read == 0


@given(data=st.data())
def test_any_byte_of_any_file_is_found(copied: Copied, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(os.listdir(copied.copy.attachments))))
    with private_copy(copied) as instance:
        path = instance.attachments / name
        before = path.stat()
        offset = data.draw(st.integers(0, before.st_size - 1))
        flip(path, offset, data.draw(st.integers(1, 255)))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        for verification in against_both(instance, copied):
            assert [f.where for f in errors(verification)] == [f"{name}: content"]


@given(data=st.data())
def test_any_byte_of_the_database_is_found_and_its_table_named(
    copied: Copied, data: st.DataObject
) -> None:
    owners = page_owners_by_sqlite(copied.copy.database)
    number = data.draw(st.sampled_from(sorted(owners)))
    size = copied.copy.database.stat().st_size
    page_size = size // page_count(copied.copy.database)
    offset = (number - 1) * page_size + data.draw(st.integers(0, page_size - 1))
    with private_copy(copied) as instance:
        flip(instance.database, offset, data.draw(st.integers(1, 255)))
        for verification in against_both(instance, copied):
            named = [f.where for f in errors(verification) if f.kind == "changed"]
            assert any(f"page {number}" in where for where in named), (number, named)
            if number != 1:  # what is wrong with the first page may hide all the others
                assert any(owners[number] in where for where in named), (owners[number], named)


def against_both(instance: Instance, copied: Copied) -> list[Verification]:
    """Verify against the manifest and against the source."""
    return [check(instance, manifest=copied.manifest), check(instance, source=copied.source)]


def flip(path: Path, offset: int, bits: int) -> None:
    """Change one byte of a file in place."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bits]))


def page_owners_by_sqlite(database: Path) -> dict[int, str]:
    """Ask SQLite's own dbstat whose each page in use is; skip where it was left out."""
    connection = sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)
    try:
        return dict(connection.execute("SELECT pageno, name FROM dbstat"))
    except sqlite3.OperationalError:
        pytest.skip("this SQLite was built without dbstat")
    finally:
        connection.close()


def page_count(database: Path) -> int:
    """Return the number of pages of a database."""
    connection = sqlite3.connect(f"file:{database}?mode=ro&immutable=1", uri=True)
    try:
        (count,) = connection.execute("PRAGMA page_count").fetchone()
    finally:
        connection.close()
    return int(count)


def test_names_what_is_missing_unexpected_and_changed(damaged: Instance, copied: Copied) -> None:
    tree = damaged.attachments
    (tree / "policy_8.pdf").unlink()
    (tree / "policy_9.pdf").rename(tree / "renamed.pdf")
    (tree / "policy_10.pdf").chmod(0o666)
    (tree / "policy_11.pdf").unlink()
    (tree / "policy_11.pdf").mkdir()
    times = (copied.copy.attachments.stat().st_atime_ns, copied.copy.attachments.stat().st_mtime_ns)
    os.utime(tree, ns=times)
    for verification in against_both(damaged, copied):
        found = {(f.kind, f.where) for f in errors(verification) if "(" not in f.where}
        assert found == {
            ("missing", "policy_8.pdf"),
            ("missing", "policy_9.pdf"),
            ("unexpected", "renamed.pdf"),
            ("changed", "policy_10.pdf: mode"),
            ("changed", "policy_11.pdf: kind"),
        }


KINDS = ("link", "pipe", "file", "directory")
CHANGES: tuple[tuple[str, bytes | None, str], ...] = (
    ("trusted.a", b"1", ""),
    ("trusted.a", b"2", "xattrs"),
    ("trusted.b", b"", "xattrs"),
    ("trusted.a", None, "xattrs"),
    ("trusted.b", None, "xattrs lost"),
)
"""Changes of attributes, one after the other, and what they are called."""


@pytest.mark.parametrize("jobs", [1, 2])
def test_names_what_changed_of_the_attributes_of_any_entry(jobs: int, tmp_path: Path) -> None:
    if os.geteuid() != 0 or not hasattr(os, "setxattr"):
        pytest.skip("takes root and Linux, to set attributes of links")
    source = build_instance(tmp_path / "production", evidences=2)
    (source.attachments / "link").symlink_to("policy_8.pdf")
    os.mkfifo(source.attachments / "pipe")
    (source.attachments / "file").touch()
    (source.attachments / "directory").mkdir()
    for kind in KINDS:
        os.setxattr(source.attachments / kind, "trusted.a", b"1", follow_symlinks=False)
    copy = Instance(database=tmp_path / "d" / "db.sqlite3", attachments=tmp_path / "d" / "att")
    manifest = tmp_path / "manifest"
    clone(source, copy, manifest=manifest, jobs=jobs)
    for name, value, field in CHANGES:
        for kind in KINDS:
            if value is None:
                os.removexattr(copy.attachments / kind, name, follow_symlinks=False)
            else:
                os.setxattr(copy.attachments / kind, name, value, follow_symlinks=False)
        for verification in (
            check(copy, manifest=manifest, jobs=jobs),
            check(copy, source=source, quick=True, jobs=jobs),
        ):
            wrong = [f.where for f in errors(verification)]
            assert wrong == ([f"{kind}: {field}" for kind in sorted(KINDS)] if field else [])


def test_by_itself_finds_rows_without_files_and_files_without_rows(damaged: Instance) -> None:
    (damaged.attachments / "policy_8.pdf").rename(damaged.attachments / "renamed.pdf")
    found = {(f.kind, f.severity) for f in check(damaged).findings}
    assert found == {("missing-file", Severity.ERROR), ("orphan", Severity.NOTE)}


def test_quick_finds_sizes_and_times(damaged: Instance, copied: Copied) -> None:
    path = damaged.attachments / "policy_8.pdf"
    path.write_bytes(b"shorter")
    (finding, time) = errors(check(damaged, manifest=copied.manifest, quick=True))
    assert finding.where == "policy_8.pdf: size"
    assert time.where == "policy_8.pdf: mtime"


def test_a_truncated_database_is_a_finding(damaged: Instance, copied: Copied) -> None:
    os.truncate(damaged.database, damaged.database.stat().st_size - 4096)
    for verification in (check(damaged), *against_both(damaged, copied)):
        assert any(f.kind == "integrity" and "truncated" in f.found for f in errors(verification))


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"SQLite format 3\x00"])
def test_something_else_in_its_place_is_a_finding(
    damaged: Instance, copied: Copied, content: bytes
) -> None:
    damaged.database.write_bytes(content)
    for verification in (check(damaged), *against_both(damaged, copied)):
        assert errors(verification)[0].kind == "integrity"
        assert verification.way == "not readable"


def test_a_database_that_is_more_open_is_found(damaged: Instance, copied: Copied) -> None:
    damaged.database.chmod(0o666)
    for verification in against_both(damaged, copied):
        assert [f.where for f in errors(verification)] == ["database: mode"]


def test_half_an_instance_is_no_finding(copied: Copied, tmp_path: Path) -> None:
    for half in (
        Instance(database=tmp_path / "no.db", attachments=copied.copy.attachments),
        Instance(database=copied.copy.database, attachments=tmp_path / "no"),
    ):
        with pytest.raises(DestinationError, match="not found"):
            check(half)


def test_another_row_in_the_source_is_found(copied: Copied, tmp_path: Path) -> None:
    source = Instance(database=tmp_path / "s" / "db.sqlite3", attachments=copied.source.attachments)
    source.database.parent.mkdir()
    shutil.copy2(copied.source.database, source.database)
    connection = connect(source.database)
    connection.execute("UPDATE iam_user SET email = 'other@example.org'")
    found = [f.where for f in errors(check(copied.copy, source=source))]
    connection.close()
    assert any("table iam_user" in where for where in found), found


def test_a_clone_in_use_still_equals_its_source(damaged: Instance, copied: Copied) -> None:
    """An application that opened the copy, and has not written yet, is no difference."""
    user = connect(damaged.database)
    user.execute("BEGIN IMMEDIATE")
    user.execute("UPDATE iam_user SET is_active = is_active")
    user.execute("COMMIT")
    verification = check(damaged, source=copied.source)
    user.close()
    assert verification.way == "with a write-ahead log"
    assert errors(verification) == []


def test_leaves_nothing_and_changes_nothing(copied: Copied, tmp_path: Path) -> None:
    place = build_instance(tmp_path / "live", evidences=3)
    # Its own process: within one, SQLite shares what it knows of a WAL between connections.
    with held_open(place.database, "UPDATE iam_user SET is_active = 0"):
        before = footprint(place.database.parent, ctime=False)
        verification = check(place)
        assert footprint(place.database.parent, ctime=False) == before
    assert verification.way == "with a write-ahead log"
    assert verification.findings == ()
    before = footprint(copied.copy.database.parent)
    check(copied.copy, source=copied.source)
    assert footprint(copied.copy.database.parent) == before


def test_a_live_instance_is_sound_while_it_changes(tmp_path: Path) -> None:
    live = build_instance(tmp_path / "live", evidences=300)
    with writer(live, rate=300) as busy:
        found = [errors(check(live)) for _ in range(5)]
        writing = busy.stop()
    assert found == [[]] * 5
    assert writing.deleted > 0
    assert writing.longest_wait_seconds < 0.5


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("row", ["deleted", "left"])
def test_a_file_that_goes_meanwhile_takes_its_row_with_it(
    row: str, jobs: int, tmp_path: Path
) -> None:
    """The rows are read before the files: an instance in use may have deleted both since."""
    live = build_instance(tmp_path / "live", evidences=30)
    file = live.attachments / "below" / "policy_9.pdf"
    file.parent.mkdir()
    (live.attachments / "policy_9.pdf").rename(file)
    execute(live, "UPDATE {} SET attachment = 'below/policy_9.pdf' WHERE attachment = '{}'")
    steps: list[str] = []

    def delete(progress: Progress) -> None:
        if "re-read attachments" in {*steps, progress.step} and file.exists():
            file.unlink()  # the root was read, not what is below
            if row == "deleted":
                execute(live, "DELETE FROM {} WHERE attachment = 'below/{}'")
        steps.append(progress.step)

    request = VerifyRequest(
        instance=live, profile=load_profile("ciso_assistant"), jobs=jobs, lock_timeout_seconds=5
    )
    found = errors(verify(request, progress=delete))
    assert steps[0] == "check database"
    assert not file.exists()
    assert [(f.kind, f.where.split()[0]) for f in found] == (
        [] if row == "deleted" else [("missing-file", "below/policy_9.pdf")]
    )


def execute(instance: Instance, statement: str) -> None:
    """Run a statement about the row of one file."""
    with closing(connect(instance.database)) as connection:
        done = connection.execute(statement.format("core_evidencerevision", "policy_9.pdf"))
        assert done.rowcount == 1


def test_a_manifest_that_was_damaged_is_refused(copied: Copied, tmp_path: Path) -> None:
    lines = copied.manifest.read_bytes().splitlines(keepends=True)
    source = random.Random(0)  # noqa: S311 - any byte will do
    for content in (
        b"",
        b"{}\n",
        b"".join(lines[:-1]),
        b"".join(lines[:3] + lines[4:]),
        b"".join(lines).replace(b'"size":20000', b'"size":20001', 1),
        bytes(source.randbytes(500)),
    ):
        manifest = tmp_path / "manifest"
        manifest.write_bytes(content)
        with pytest.raises(UsageError, match="cannot use the manifest"):
            check(copied.copy, manifest=manifest)
    with pytest.raises(UsageError, match="cannot read the manifest"):
        check(copied.copy, manifest=tmp_path / "none")
