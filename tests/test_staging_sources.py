"""Where a staging refresh takes from: snapshots, and copies that are for staging themselves."""

from pathlib import Path

import pytest

from ops.model import Instance
from tests.command import from_flags, run_here, to_flags
from tests.filesystem import footprint
from tests.planted import CONTENT, PLANTED, build_planted, grep, keeps_wal, query, refresh
from tests.test_store import back_up, flip

STAGING = "a sanitised copy, made for staging"


@pytest.fixture
def planted(tmp_path: Path) -> Instance:
    """Make an instance with everything planted."""
    return build_planted(tmp_path / "planted")


@pytest.fixture
def store(planted: Instance, tmp_path: Path) -> Path:
    """Make a store with a snapshot of it; the instance is gone afterwards."""
    back_up(planted, tmp_path / "store")
    return (tmp_path / "store").resolve()


def snapshot_in(store: Path) -> Path:
    """Return the one snapshot of a store."""
    (found,) = (path for path in store.iterdir() if path.is_dir() and not path.is_symlink())
    return found


@pytest.mark.parametrize("attachments", ["placeholder", "keep", "none"])
@pytest.mark.parametrize("named", [True, False])
def test_a_snapshot_is_a_source(
    attachments: str,
    named: bool,
    store: Path,
    destination: Instance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    snapshot = snapshot_in(store)
    before = footprint(snapshot)
    which = ("--snapshot", snapshot.name) if named else ()
    ran = run_here(capsys, "staging-refresh", "--force", "--json", "--store", store, *which,
                   *to_flags(destination), "--attachments", attachments)  # fmt: skip
    assert ran.code == 0, ran.err
    assert footprint(snapshot) == before
    assert ran.document["snapshot"] == snapshot.name
    assert ran.document["source"] is None
    assert grep(PLANTED, destination.database.parent) == set()
    kept = grep([CONTENT], destination.database.parent)
    assert kept == ({CONTENT} if attachments == "keep" else set())
    verified = run_here(capsys, "verify", "--json", *to_flags(destination))
    assert (verified.code, verified.document["warnings"]) == (0, 0), verified.err
    assert keeps_wal(destination.database)


def test_a_snapshot_gives_what_its_source_would(
    planted: Instance, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = ("--key-file", tmp_path / "key")
    one, other = (
        Instance(database=tmp_path / name / "db", attachments=tmp_path / name / "attachments")
        for name in ("one", "other")
    )
    refresh(capsys, planted, one, *key)
    ran = run_here(capsys, "staging-refresh", "--force", "--store", store, *to_flags(other), *key)
    assert ran.code == 0, ran.err
    for table in ("tprm_representative", "auditlog_logentry", "core_evidencerevision"):
        statement = f"SELECT * FROM {table}"
        assert query(one.database, statement) == query(other.database, statement)


@pytest.mark.parametrize("attachments", ["placeholder", "keep"])
def test_a_damaged_database_of_a_snapshot_is_refused(
    attachments: str, store: Path, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    """Placeholders need no attachments, and the database is compared with its digest."""
    flip(snapshot_in(store) / "data" / "database.sqlite3")
    ran = run_here(capsys, "staging-refresh", "--force", "--store", store,
                   *to_flags(destination), "--attachments", attachments)  # fmt: skip
    assert (ran.code, "database" in ran.error_line) == (3, True), ran.err
    assert not destination.database.parent.exists()


def test_a_damaged_attachment_of_a_snapshot_is_refused_where_it_is_kept(
    store: Path, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    (file,) = (snapshot_in(store) / "data" / "attachments").glob("contract*")
    flip(file)
    flags = ("staging-refresh", "--force", "--store", store, *to_flags(destination))
    ran = run_here(capsys, *flags, "--attachments", "keep")
    assert (ran.code, file.name in ran.error_line) == (3, True), ran.err
    assert not destination.database.parent.exists()
    assert run_here(capsys, *flags).code == 0


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--snapshot", "2001-01-01T000000Z"), 3),
        (("--snapshot", "../x"), 3),
        (("--source-db", "x"), 2),
    ],
)
def test_a_snapshot_that_is_none_is_refused(
    flags: tuple[str, ...],
    code: int,
    store: Path,
    destination: Instance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in ("staging-refresh", "staging-rules"):
        places = (*to_flags(destination), "--force") if command == "staging-refresh" else ()
        ran = run_here(capsys, command, "--store", store, *places, *flags)
        assert (ran.code, bool(ran.error_line)) == (code, True), ran.err
    assert not destination.database.parent.exists()


def test_the_rules_are_reviewed_on_a_snapshot_as_on_its_source(
    planted: Instance, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = run_here(capsys, "staging-rules", "--json", *from_flags(planted))
    other = run_here(capsys, "staging-rules", "--json", "--store", store)
    assert (one.code, other.code) == (0, 0), one.err + other.err
    assert one.document["rules"] == other.document["rules"]
    assert one.document["findings"] == other.document["findings"]


@pytest.mark.parametrize("where", ["the store", "a snapshot"])
def test_a_destination_in_the_store_is_refused(
    where: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = store if where == "the store" else snapshot_in(store) / "data"
    before = footprint(store)
    copy = Instance(database=directory / "db", attachments=directory / "copy")
    ran = run_here(capsys, "staging-refresh", "--force", "--store", store, *to_flags(copy))
    assert ran.code in {2, 4}, ran.err
    assert footprint(store) == before


# A copy for staging as the source


def warnings_of(document: dict[str, object]) -> list[tuple[object, object]]:
    """List the warnings about a source that is for staging."""
    found = document["findings"]
    assert isinstance(found, list)
    return [(one["severity"], one["found"]) for one in found if one["kind"] == "staging"]


def test_everything_that_takes_from_a_staging_copy_warns(
    planted: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("staging", "clone", "again", "back", "plan")
    pairs = {
        name: Instance(database=tmp_path / name / "db", attachments=tmp_path / name / "files")
        for name in names
    }
    made = refresh(capsys, planted, pairs["staging"])
    assert warnings_of(made.document) == []
    taken, store = from_flags(pairs["staging"]), tmp_path / "store"
    commands: tuple[tuple[str | Path, ...], ...] = (
        ("clone", "--force", *taken, *to_flags(pairs["clone"])),
        ("clone", "--dry-run", *taken, *to_flags(pairs["plan"])),
        ("backup-daily", "--store", store, *taken),
        ("restore", "--force", "--store", store, *to_flags(pairs["back"])),
        ("restore", "--dry-run", "--store", store, *to_flags(pairs["plan"])),
        ("staging-refresh", "--force", *taken, *to_flags(pairs["again"])),
        ("staging-refresh", "--dry-run", *taken, *to_flags(pairs["plan"])),
        ("staging-refresh", "--dry-run", "--store", store, *to_flags(pairs["plan"])),
    )
    for command in commands:
        ran = run_here(capsys, *command, "--json")
        assert ran.code == 0, ran.err
        assert warnings_of(ran.document) == [("warning", STAGING)], command
    for command in commands[:5]:
        ran = run_here(capsys, *command)
        assert ran.code == 0, ran.err
        assert STAGING in ran.out + ran.err, command
    assert not pairs["plan"].database.parent.exists()


def test_a_copy_of_a_copy_is_one(
    planted: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The prefix and the label are there once, and pseudonyms are pseudonyms of pseudonyms."""
    first, second = (
        Instance(database=tmp_path / name / "db", attachments=tmp_path / name / "files")
        for name in ("first", "second")
    )
    refresh(capsys, planted, first)
    made = refresh(capsys, first, second)
    assert made.query("SELECT name FROM iam_folder") == [("STAGING Global",)]
    ((label,),) = made.query("SELECT count(*) FROM ciso_ops_staging")
    assert label == 1
    assert grep(PLANTED, second.database.parent) == set()
