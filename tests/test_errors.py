"""Every failure as the operator meets it: code, one line, a hint, and nothing written."""

import os
import random
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.demo_instance import build_instance
from ops.errors import BusyError
from ops.model import Instance
from ops.profile import load_profile
from ops.spaces import space_beside
from ops.sqlite.header import MAGIC
from ops.survey import survey_source
from tests.command import (
    AS_USER,
    NOBODY,
    ROOT,
    Ran,
    acting_as,
    from_flags,
    mounted,
    run,
    run_here,
    run_on_terminal,
    to_flags,
)
from tests.filesystem import footprint, read
from tests.pipeline import quiet
from tests.processes import held_open

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="takes root, to be somebody else")


def check_failure(ran: Ran, code: int, *says: str | Path, hint: str = "") -> None:
    """Check an exit code, the one line of the error and its hint."""
    assert ran.code == code, ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""
    for words in says:
        assert str(words) in ran.error_line
    assert hint in ran.hint_line
    assert bool(hint) == bool(ran.hint_line), ran.hint_line


@pytest.fixture
def commons(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make a directory that every user may enter, and have their home there."""
    directory = Path(tempfile.mkdtemp(prefix="ciso-ops-test-"))
    directory.chmod(0o755)
    monkeypatch.setenv("HOME", str(directory))
    yield directory
    shutil.rmtree(directory)


# The source database


def _remove(database: Path) -> None:
    database.unlink()


def _make_directory(database: Path) -> None:
    database.unlink()
    database.mkdir()


def _make_text(database: Path) -> None:
    database.write_text("CREATE TABLE evidence (id integer);\n")


def _encrypt(database: Path) -> None:
    size = database.stat().st_size
    database.write_bytes(random.Random(1).randbytes(size))  # noqa: S311 - stands for ciphertext


def _pack(database: Path) -> None:
    database.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5000))


def _empty(database: Path) -> None:
    database.write_bytes(b"")


def _leave_header(database: Path) -> None:
    database.write_bytes(database.read_bytes()[:100])


def _leave_half_a_header(database: Path) -> None:
    database.write_bytes(database.read_bytes()[:50])


def _forge_page_size(database: Path) -> None:
    data = bytearray(database.read_bytes())
    data[16:18] = (1000).to_bytes(2, "big")
    database.write_bytes(data)


def _drop_tables(database: Path) -> None:
    database.unlink()
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()


def _truncate(database: Path) -> None:
    os.truncate(database, database.stat().st_size - 4096)


def _empty_an_index(database: Path) -> None:
    connection = sqlite3.connect(database)
    (page,) = connection.execute(
        "SELECT rootpage FROM sqlite_schema WHERE name = 'core_evidence_folder_id'"
    ).fetchone()
    connection.close()
    data = bytearray(database.read_bytes())
    begin = (page - 1) * 4096
    data[begin + 3 : begin + 7] = b"\0\0\x10\0"  # no cells; the content begins at the page's end
    database.write_bytes(data)


def _lose_cells(database: Path) -> None:
    data = bytearray(database.read_bytes())
    for begin in range(4096, len(data), 4096):
        if data[begin] in {10, 13}:  # a leaf: of an index, of a table
            data[begin + 3 : begin + 5] = b"\0\0"
    database.write_bytes(data)


def _zero_a_page(database: Path) -> None:
    data = bytearray(database.read_bytes())
    data[4096:8192] = bytes(4096)
    database.write_bytes(data)


def _link(database: Path) -> None:
    os.link(database, database.with_name("second-name"))


def _make_pipe(database: Path) -> None:
    database.unlink()
    os.mkfifo(database)


def _other_application(database: Path) -> None:
    database.unlink()
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE invoices (id integer)")
    connection.close()


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


DATABASES = {
    "missing": (_remove, ["database not found: "], "check the path; `inv status`"),
    "directory": (_make_directory, ["the database is a directory: "], "name the SQLite file"),
    "text": (_make_text, ["not a SQLite database: ", "signature"], 'begins with "CREATE TABLE'),
    "encrypted": (_encrypt, ["not a SQLite database: "], "looks encrypted or compressed"),
    "something": (_pack, ["not a SQLite database: "], "name the application's SQLite file"),
    "empty": (_empty, ["the database is empty (0 bytes): "], "look for the real database"),
    "header": (_leave_header, ["a header and nothing else: "], "it was cut short"),
    "half a header": (_leave_half_a_header, ["ends after 50 bytes, inside the header"], "name the"),
    "page size": (_forge_page_size, ["its page size of 1000 bytes is impossible"], "name the"),
    "no tables": (_drop_tables, ["the database has no tables: "], "created but never used"),
    "truncated": (_truncate, ["the database is truncated: ", "where its header says"], "cut short"),
    "corrupt": (
        _empty_an_index,
        ["the database is corrupt: ", "index core_evidence_folder_id"],
        ".recover",
    ),
    "badly corrupt": (_lose_cells, ["the database is corrupt: ", " on page "], ".recover"),
    "zeroed": (
        _zero_a_page,
        ["the database is corrupt: ", "database disk image is malformed"],
        "restore another copy",
    ),
    "linked": (_link, ["the database has 2 hard links: "], "remove the other names"),
    "pipe": (_make_pipe, ["the database is not a regular file: "], ""),
    "other application": (
        _other_application,
        ["this is not a CISO Assistant database: ", "has no table core_evidence"],
        "--profile none",
    ),
    "loop": (_loop, ["cannot reach the database "], ""),
}


@pytest.mark.parametrize("kind", DATABASES)
def test_source_database(
    kind: str, instance: Instance, destination: Instance, tmp_path: Path
) -> None:
    harm, says, hint = DATABASES[kind]
    harm(instance.database)
    before = footprint(tmp_path)
    ran = run("clone", "--force", *from_flags(instance), *to_flags(destination))
    check_failure(ran, 3, *says, instance.database, hint=hint)
    after = footprint(tmp_path)
    if kind == "corrupt":  # an index: the check of the copy finds it, whose parent was made for it
        del before[os.fsencode(tmp_path)], after[os.fsencode(tmp_path)]
    assert after == before


@pytest.mark.parametrize("kind", ["missing", "text", "encrypted", "truncated", "corrupt", "linked"])
def test_dry_run_refuses_the_same(
    kind: str,
    instance: Instance,
    destination: Instance,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    harm, says, hint = DATABASES[kind]
    harm(instance.database)
    before = footprint(tmp_path)
    ran = run_here(capsys, "clone", "--dry-run", *from_flags(instance), *to_flags(destination))
    check_failure(ran, 3, *says, instance.database, hint=hint)
    assert footprint(tmp_path) == before


def test_profile_none_lets_another_application_through(
    instance: Instance, destination: Instance
) -> None:
    _other_application(instance.database)
    ran = run(
        "clone", "--force", "--profile", "none", *from_flags(instance), *to_flags(destination)
    )
    assert ran.code == 0, ran.err
    connection = sqlite3.connect(destination.database)
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == [("invoices",)]
    connection.close()


def test_locked_too_long(instance: Instance, destination: Instance, tmp_path: Path) -> None:
    statements = ("PRAGMA journal_mode = DELETE", "BEGIN EXCLUSIVE")
    with held_open(instance.database, *statements):
        before = footprint(tmp_path)
        ran = run(
            "clone",
            "--force",
            *from_flags(instance),
            *to_flags(destination),
            environment={"INVOKE_OPS_LOCK_TIMEOUT": "0.2"},
        )
        assert footprint(tmp_path) == before
    check_failure(
        ran, 6, "the database stayed locked: ", instance.database, hint="raise ops.lock_timeout"
    )


_COMMIT = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("PRAGMA journal_mode = DELETE").fetchone()
print("ready", flush=True)
while True:
    connection.execute("BEGIN EXCLUSIVE")
    time.sleep(0.001)
    connection.execute("COMMIT")
    time.sleep(0.001)
"""


def test_a_lock_at_any_instant_of_the_survey(instance: Instance) -> None:
    """It is sound or it is busy: a lock is no reason to leave out the check."""
    writer = subprocess.Popen(
        [sys.executable, "-c", _COMMIT, instance.database], stdout=subprocess.PIPE
    )
    outcomes: set[str] = set()
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        for _ in range(150):
            try:
                survey = survey_source(
                    instance,
                    load_profile("ciso_assistant"),
                    lock_timeout_seconds=0,
                    progress=quiet,
                )
            except BusyError as error:
                outcomes.add(error.message.partition(":")[0])
            else:
                outcomes.add(f"sound, {len(survey.findings)} findings")
    finally:
        writer.kill()
        writer.communicate()
    assert outcomes <= {"sound, 0 findings", "the database stayed locked"}
    assert "the database stayed locked" in outcomes


@ROOT_ONLY
def test_unreadable_database(commons: Path) -> None:
    instance = build_instance(commons / "production", evidences=1)
    instance.database.chmod(0o600)
    place = commons / "place"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    before = footprint(commons)
    copy = Instance(database=place / "copy" / "db", attachments=place / "copy" / "files")
    ran = run("clone", "--force", *from_flags(instance), *to_flags(copy), user=NOBODY)
    says = f"cannot read the database {instance.database}: Permission denied"
    check_failure(ran, 3, says, hint="run as the owner of the path, or as root")
    assert footprint(commons) == before


@ROOT_ONLY
def test_database_out_of_reach(commons: Path, capsys: pytest.CaptureFixture[str]) -> None:
    instance = build_instance(commons / "production", evidences=1)
    instance.database.parent.chmod(0o700)
    place = commons / "place"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    copy = Instance(database=place / "db", attachments=place / "files")
    with acting_as(NOBODY):
        ran = run_here(capsys, "clone", "--force", *from_flags(instance), *to_flags(copy))
    says = f"cannot reach the attachments {instance.attachments}: Permission denied"
    check_failure(ran, 3, says, hint="run as the owner of the path, or as root")
    instance.attachments.rename(commons / "attachments")
    moved = Instance(database=instance.database, attachments=commons / "attachments")
    with acting_as(NOBODY):
        ran = run_here(capsys, "clone", "--force", *from_flags(moved), *to_flags(copy))
    says = f"cannot reach the database {instance.database}: Permission denied"
    check_failure(ran, 3, says, hint="run as the owner of the path, or as root")


# The source attachments


def test_attachments_missing(instance: Instance, destination: Instance, tmp_path: Path) -> None:
    shutil.rmtree(instance.attachments)
    before = footprint(tmp_path)
    ran = run("clone", "--force", *from_flags(instance), *to_flags(destination))
    says = f"attachments not found: {instance.attachments}"
    check_failure(ran, 3, says, hint="check the path; `inv status`")
    assert footprint(tmp_path) == before


def test_attachments_are_a_file(instance: Instance, destination: Instance, tmp_path: Path) -> None:
    shutil.rmtree(instance.attachments)
    instance.attachments.write_text("")
    before = footprint(tmp_path)
    ran = run("clone", "--force", *from_flags(instance), *to_flags(destination))
    says = f"the attachments are not a directory: {instance.attachments}"
    check_failure(ran, 3, says, hint="name the directory that holds")
    assert footprint(tmp_path) == before


def test_attachments_are_a_loop(
    instance: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(instance.attachments)
    instance.attachments.symlink_to("attachments")
    ran = run_here(capsys, "clone", "--force", *from_flags(instance), *to_flags(destination))
    check_failure(ran, 3, "cannot reach the attachments ", instance.attachments)


def test_database_inside_the_attachments(
    instance: Instance, destination: Instance, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    inside = Instance(database=instance.database, attachments=instance.database.parent)
    before = footprint(tmp_path)
    ran = run_here(capsys, "clone", "--force", *from_flags(inside), *to_flags(destination))
    says = f"the database lies inside the attachments: {instance.database}"
    check_failure(ran, 3, says, hint="move the database out")
    assert footprint(tmp_path) == before


@ROOT_ONLY
@pytest.mark.parametrize("locked", ["policy_7.pdf", "policy_8.pdf/"])
def test_attachments_unreadable_in_the_middle(locked: str, commons: Path) -> None:
    instance = build_instance(commons / "production", evidences=12)
    path = instance.attachments / locked
    if locked.endswith("/"):
        path.unlink()
        path.mkdir()
    path.chmod(0)
    place = commons / "place"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    before = read(commons, times=False)
    copy = Instance(database=place / "copy" / "db", attachments=place / "copy" / "files")
    ran = run("clone", "--force", *from_flags(instance), *to_flags(copy), user=NOBODY)
    says = f"cannot read {path}: Permission denied"
    check_failure(ran, 3, says, hint="run as the owner of the path, or as root")
    assert read(commons, times=False) == before


@ROOT_ONLY
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_device_as_somebody_who_cannot_make_one(kind: int, commons: Path) -> None:
    instance = build_instance(commons / "production", evidences=1)
    device = instance.attachments / "device\n"
    try:
        os.mknod(device, 0o666 | kind, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices cannot be made here")
    place = commons / "place"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    before = footprint(commons)
    copy = Instance(database=place / "copy" / "db", attachments=place / "copy" / "files")
    ran = run("clone", "--force", *from_flags(instance), *to_flags(copy), user=NOBODY)
    says = f"cannot copy a device as this user: {instance.attachments}/device\\n"
    check_failure(ran, 3, says, hint="or run as root")
    assert footprint(commons) == before


@ROOT_ONLY
def test_device_in_process(commons: Path, capsys: pytest.CaptureFixture[str]) -> None:
    instance = build_instance(commons / "production", evidences=1)
    try:
        os.mknod(instance.attachments / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("devices cannot be made here")
    place = commons / "place"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    copy = Instance(database=place / "db", attachments=place / "files")
    with acting_as(NOBODY):
        ran = run_here(capsys, "clone", "--force", *from_flags(instance), *to_flags(copy))
    check_failure(ran, 3, "cannot copy a device as this user: ", hint="remove it")
    assert list(place.iterdir()) == []


# The destination


@ROOT_ONLY
def test_destination_not_writable(commons: Path, capsys: pytest.CaptureFixture[str]) -> None:
    instance = build_instance(commons / "production", evidences=1)
    copy = Instance(database=commons / "copy" / "db", attachments=commons / "copy" / "files")
    flags = ("clone", "--force", *from_flags(instance), *to_flags(copy))
    before = footprint(commons)
    ran = run(*flags, user=NOBODY)
    says = f"cannot write in {commons}: Permission denied"
    check_failure(ran, 4, says, hint="run as its owner or as root, or choose another place")
    with acting_as(NOBODY):
        ran = run_here(capsys, *flags)
    check_failure(ran, 4, says, hint="run as its owner or as root, or choose another place")
    assert footprint(commons) == before


@ROOT_ONLY
def test_destination_out_of_reach(commons: Path, capsys: pytest.CaptureFixture[str]) -> None:
    instance = build_instance(commons / "production", evidences=1)
    (commons / "private").mkdir(mode=0o700)
    copy = Instance(database=commons / "private" / "db", attachments=commons / "files")
    with acting_as(NOBODY):
        ran = run_here(capsys, "clone", "--force", *from_flags(instance), *to_flags(copy))
    says = f"cannot look at {copy.database}: Permission denied"
    check_failure(ran, 4, says, hint="run as the owner of the path, or as root")


def _directory_for_database(copy: Instance) -> Path:
    copy.database.mkdir(parents=True)
    return copy.database


def _pipe_for_database(copy: Instance) -> Path:
    copy.database.parent.mkdir()
    os.mkfifo(copy.database)
    return copy.database


def _socket_for_database(copy: Instance) -> Path:
    copy.database.parent.mkdir()
    here = Path.cwd()
    os.chdir(copy.database.parent)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(copy.database.name)
    os.chdir(here)
    return copy.database


def _file_for_attachments(copy: Instance) -> Path:
    copy.attachments.parent.mkdir()
    copy.attachments.write_text("")
    return copy.attachments


def _file_for_parent(copy: Instance) -> Path:
    copy.database.parent.write_text("")
    return copy.database.parent


def _link_for_database(copy: Instance) -> Path:
    copy.database.parent.mkdir()
    copy.database.symlink_to("elsewhere")
    return copy.database


def _link_for_attachments(copy: Instance) -> Path:
    copy.attachments.parent.mkdir()
    copy.attachments.symlink_to("/nonexistent")
    return copy.attachments


def _loop_for_parent(copy: Instance) -> Path:
    copy.database.parent.symlink_to(copy.database.parent.name)
    return copy.database.parent


def _linked_database_with_wal(copy: Instance) -> Path:
    copy.database.parent.mkdir()
    copy.database.write_text("")
    os.link(copy.database, copy.database.with_name("second-name"))
    copy.database.with_name(copy.database.name + "-wal").write_text("")
    return copy.database


def _directory_for_a_sidecar(copy: Instance) -> Path:
    sidecar = copy.database.with_name(copy.database.name + "-journal")
    sidecar.mkdir(parents=True)
    (sidecar / "precious").write_text("x")
    return sidecar


DESTINATIONS: dict[str, tuple[Callable[[Instance], Path], str, str]] = {
    "directory for database": (
        _directory_for_database,
        "the destination of the database is a directory: ",
        "name a file, for example ",
    ),
    "pipe for database": (
        _pipe_for_database,
        "the destination of the database is not a regular file: ",
        "",
    ),
    "socket for database": (
        _socket_for_database,
        "the destination of the database is not a regular file: ",
        "",
    ),
    "file for attachments": (
        _file_for_attachments,
        "the destination of the attachments is not a directory: ",
        "it is created when it does not exist",
    ),
    "file for parent": (
        _file_for_parent,
        "a file stands where a directory must be: ",
        "remove it, or choose another destination",
    ),
    "link for database": (
        _link_for_database,
        "the destination is a symbolic link: ",
        "name the place it points to, or remove the link",
    ),
    "link for attachments": (
        _link_for_attachments,
        "the destination is a symbolic link: ",
        "name the place it points to, or remove the link",
    ),
    "linked database with a WAL": (
        _linked_database_with_wal,
        "the old database has 2 hard links and a WAL: ",
        "remove them first",
    ),
    "directory for a sidecar": (
        _directory_for_a_sidecar,
        "this name is SQLite's, and something else has it: ",
        "move it away, or choose another name for the database",
    ),
    "loop for parent": (_loop_for_parent, "cannot look at ", ""),
}


@pytest.mark.parametrize("kind", DESTINATIONS)
def test_destination(kind: str, instance: Instance, destination: Instance, tmp_path: Path) -> None:
    prepare, says, hint = DESTINATIONS[kind]
    place = prepare(destination)
    before = footprint(tmp_path)
    ran = run("clone", "--force", *from_flags(instance), *to_flags(destination))
    check_failure(ran, 4, f"{says}{place}", hint=hint)
    assert footprint(tmp_path) == before


@pytest.mark.parametrize("name", ["..", "copy/.."])
def test_destination_without_a_name(
    name: str, instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    flags = ("--dest-db", path, "--dest-attachments", tmp_path / "files")
    ran = run_here(capsys, "clone", "--force", *from_flags(instance), *flags)
    check_failure(ran, 4, f"not a name that can be written: {path}", hint="name a file")


def test_destination_name_too_long(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("n" * 256)
    flags = ("--dest-db", path, "--dest-attachments", tmp_path / "files")
    ran = run_here(capsys, "clone", "--force", *from_flags(instance), *flags)
    says = f"the name of the database is too long: {path}"
    check_failure(ran, 4, says, hint="255 are all that file systems take")


def test_destination_name_too_long_for_its_sidecars(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("n" * 252)  # SQLite adds "-journal"
    flags = ("--dest-db", path, "--dest-attachments", tmp_path / "files")
    ran = run_here(capsys, "clone", "--force", *from_flags(instance), *flags)
    assert ran.code == 4, ran.err
    assert str(path) in ran.error_line


@pytest.mark.parametrize("half", ["database", "attachments"])
def test_read_only_file_system(
    half: str, instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disc", "tmpfs", "ro,size=1m") as disc:
        before = footprint(tmp_path)
        places = {"database": tmp_path / "db", "attachments": tmp_path / "files"}
        copy = Instance(**{**places, half: disc / "below" / half})
        flags = ("clone", "--force", *from_flags(instance), *to_flags(copy))
        ran = run(*flags) if half == "database" else run_here(capsys, *flags)
        assert footprint(tmp_path) == before
    says = f"the destination is on a read-only file system: {disc}"
    check_failure(ran, 4, says, hint="choose another place, or mount it for writing")


@pytest.mark.parametrize(
    ("options", "unit"), [("size=1m", "bytes"), ("size=50m,nr_inodes=12", "inodes")]
)
def test_full_disk(options: str, unit: str, instance: Instance, tmp_path: Path) -> None:
    with mounted(tmp_path / "disc", "tmpfs", options) as disc:
        before = footprint(tmp_path)
        copy = Instance(database=disc / "copy" / "db", attachments=disc / "copy" / "files")
        ran = run("clone", "--force", *from_flags(instance), *to_flags(copy))
        assert footprint(tmp_path) == before
    assert f"{unit} needed, " in ran.error_line
    says = f"no room on the file system of {disc}: "
    check_failure(ran, 4, says, hint="free some space, or choose another file system")


def test_room_is_asked_of_each_file_system(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disc", "tmpfs", "size=1100k,nr_inodes=12") as disc:
        copy = Instance(database=tmp_path / "copy" / "db", attachments=disc / "files")
        flags = (*from_flags(instance), *to_flags(copy))
        ran = run_here(capsys, "clone", "--force", *flags)
        check_failure(ran, 4, f"no room on the file system of {disc}: ", hint="free some space")
        copy = Instance(database=disc / "db", attachments=tmp_path / "copy" / "files")
        ran = run_here(
            capsys, "clone", "--dry-run", "--json", *from_flags(instance), *to_flags(copy)
        )
        assert ran.code == 4
    assert not (tmp_path / "copy").exists()


def test_disk_that_fills_up_after_the_plan(instance: Instance, tmp_path: Path) -> None:
    with mounted(tmp_path / "disc", "tmpfs", "size=4m") as disc:
        copy = Instance(database=disc / "db", attachments=disc / "files")
        copy.database.write_bytes(MAGIC + b"the old database")
        copy.attachments.mkdir()
        (copy.attachments / "old.txt").write_text("the old file")
        before = read(disc, times=False)

        def fill() -> None:
            with pytest.raises(OSError, match="No space left"):
                (disc / "filler").write_bytes(bytes(8 << 20))

        flags = ("clone", *from_flags(instance), *to_flags(copy))
        code, screen = run_on_terminal(*flags, answer="y\n", before_answer=fill)
        (disc / "filler").unlink()
        assert read(disc, times=False) == before
    assert code == 4, screen
    assert "No space left on device" in screen or "disk is full" in screen
    assert "free some space or inodes" in screen
    assert "Traceback" not in screen


def test_mount_point(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disc", "tmpfs", "size=1m") as disc:
        copy = Instance(database=tmp_path / "db", attachments=disc)
        before = footprint(tmp_path)
        ran = run_here(capsys, "clone", "--force", *from_flags(instance), *to_flags(copy))
        assert footprint(tmp_path) == before
    says = f"this directory cannot be replaced as a whole: {disc}"
    check_failure(ran, 4, says, hint=f"name a directory inside it, for example {disc}/attachments")


def test_mount_inside_the_destination(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = build_instance(tmp_path / "copy", evidences=1)
    with mounted(copy.attachments / "disc", "tmpfs", "size=1m") as disc:
        before = footprint(tmp_path)
        ran = run_here(capsys, "clone", "--force", *from_flags(instance), *to_flags(copy))
        assert footprint(tmp_path) == before
    says = f"a file system is mounted inside the destination: {disc}"
    check_failure(ran, 4, says, hint="unmount it first")


@pytest.mark.parametrize("linked", [False, True])
def test_home_directory(linked: bool, instance: Instance, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "letter.txt").write_text("dear")
    if linked:
        (tmp_path / "users").symlink_to(".")
    copy = Instance(database=tmp_path / "db", attachments=home)
    before = footprint(tmp_path)
    ran = run(
        "clone",
        "--force",
        *from_flags(instance),
        *to_flags(copy),
        environment={"HOME": str(tmp_path / "users" / "home") if linked else str(home)},
    )
    assert footprint(tmp_path) == before
    says = f"this directory cannot be replaced as a whole: {home}"
    check_failure(ran, 4, says, hint="name a directory inside it")


@ROOT_ONLY
def test_somebody_without_a_home(commons: Path) -> None:
    """A container may run us as a user that nothing is known of."""
    instance = build_instance(commons / "production", evidences=1)
    place = commons / "place"
    place.mkdir()
    os.chown(place, 54321, 54321)
    copy = Instance(database=place / "db", attachments=place / "files")
    (place / "files").mkdir()
    os.chown(place / "files", 54321, 54321)
    environment = {k: v for k, v in os.environ.items() if k != "COVERAGE_PROCESS_CONFIG"}
    del environment["HOME"]
    flags = ("clone", "--force", *from_flags(instance), *to_flags(copy))
    done = subprocess.run(
        [sys.executable, "-c", AS_USER, "54321", *flags],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr


def test_destination_in_use(instance: Instance, tmp_path: Path) -> None:
    copy = build_instance(tmp_path / "copy", evidences=2)
    with held_open(copy.database, "INSERT INTO iam_user VALUES ('x', 'x', 1)"):
        before = read(copy.attachments)
        ran = run("clone", "--force", *from_flags(instance), *to_flags(copy))
        assert read(copy.attachments) == before
        assert {path.name for path in copy.database.parent.iterdir()} == {
            "attachments",
            "ciso-assistant.sqlite3",
            "ciso-assistant.sqlite3-shm",
            "ciso-assistant.sqlite3-wal",
        }
    says = f"the destination is in use: {copy.database} is open: python"
    check_failure(ran, 6, says, hint="stop the application that has it open")
    connection = sqlite3.connect(copy.database)
    assert connection.execute("SELECT count(*) FROM iam_user").fetchone() == (2,)
    connection.close()


# Overlaps


def _overlaps(source: Instance, free: Path) -> dict[str, tuple[Instance, Path | None, str, Path]]:
    """Name for each overlap the destination, the manifest, what is said, and of which path."""
    database, attachments = source.database, source.attachments
    wal = database.with_name(database.name + "-wal")
    db, files = free / "db", free / "files"

    def to(database: Path = db, attachments: Path = files) -> Instance:
        return Instance(database=database, attachments=attachments)

    same = "source and destination are the same database: "
    inside = "the destination lies inside the source's attachments: "
    holds = "the source lies inside the destination, which is replaced: "
    manifest = "the manifest would lie inside an instance: "
    return {
        "same database": (to(database=database), None, same, database),
        "database on the wal": (to(database=wal), None, same, wal),
        "same attachments": (
            to(attachments=attachments),
            None,
            "source and destination are the same directory: ",
            attachments,
        ),
        "attachments on the wal": (
            to(attachments=wal),
            None,
            "the destination of the attachments is the source database: ",
            wal,
        ),
        "attachments inside": (to(attachments=attachments / "x"), None, inside, attachments / "x"),
        "database inside": (
            to(database=attachments / "below" / "db"),
            None,
            "the destination database lies inside the source's attachments: ",
            attachments / "below" / "db",
        ),
        "both inside the destination": (
            to(attachments=database.parent.parent),
            None,
            holds,
            attachments,
        ),
        "one destination": (
            to(attachments=db),
            None,
            "database and attachments have the same destination: ",
            db,
        ),
        "attachments on the wal of the copy": (
            to(attachments=free / "db-wal"),
            None,
            "database and attachments have the same destination: ",
            free / "db-wal",
        ),
        "database in the attachments": (
            to(database=files / "db"),
            None,
            "the destination database lies inside the attachments: ",
            files / "db",
        ),
        "attachments below the database": (
            to(attachments=db / "files"),
            None,
            "the destination of the attachments lies below the database: ",
            db / "files",
        ),
        "manifest on the source": (to(), database, manifest, database),
        "manifest on a wal": (to(), wal, manifest, wal),
        "manifest in the source": (to(), attachments / "m", manifest, attachments / "m"),
        "manifest on the copy": (to(), db, manifest, db),
        "manifest in place of the tree": (to(), files, manifest, files),
    }


OVERLAPS = list(_overlaps(Instance(database=Path("/d"), attachments=Path("/a")), Path("/free")))


@pytest.mark.parametrize("through", ["", "link"])
@pytest.mark.parametrize("kind", OVERLAPS)
def test_overlap(
    kind: str,
    through: str,
    instance: Instance,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "free").mkdir()
    copy, manifest, says, path = _overlaps(instance, tmp_path / "free")[kind]
    if through:  # the source is named through another path than the destination
        (tmp_path / "link").symlink_to(instance.database.parent)
        instance = Instance(
            database=tmp_path / "link" / instance.database.name,
            attachments=tmp_path / "link" / instance.attachments.name,
        )
    flags = (*from_flags(instance), *to_flags(copy))
    extra = () if manifest is None else ("--manifest", manifest)
    before = footprint(tmp_path)
    ran = run_here(capsys, "clone", "--force", *flags, *extra)
    check_failure(ran, 4, f"{says}{path}", hint="choose a destination apart from the source")
    assert footprint(tmp_path) == before


def test_manifest_inside_an_old_copy(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = build_instance(tmp_path / "copy", evidences=1)
    before = footprint(tmp_path)
    manifest = copy.attachments / "manifest"
    flags = (*from_flags(instance), *to_flags(copy), "--manifest", manifest)
    ran = run_here(capsys, "clone", "--force", *flags)
    says = f"the manifest would lie inside an instance: {manifest}"
    check_failure(ran, 4, says, hint="choose a destination apart from the source")
    assert footprint(tmp_path) == before


def test_a_source_with_the_name_of_a_sidecar(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = instance.database.rename(instance.database.with_name("copy-wal"))
    source = Instance(database=odd, attachments=instance.attachments)
    copy = Instance(database=odd.with_name("copy"), attachments=tmp_path / "files")
    ran = run_here(capsys, "clone", "--force", *from_flags(source), *to_flags(copy))
    says = f"the source has the name of a sidecar of the destination: {copy.database}"
    check_failure(ran, 4, says, hint="choose a destination apart from the source")


def test_a_source_in_the_workspace_of_the_destination(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It would be cleared as the litter of a killed run, the only copy of it with it."""
    copy = Instance(database=tmp_path / "copy" / "db", attachments=tmp_path / "copy" / "files")
    source = build_instance(space_beside(copy.attachments) / "old", evidences=1)
    before = footprint(tmp_path)
    ran = run_here(capsys, "clone", "--force", *from_flags(source), *to_flags(copy))
    says = "the source lies in the workspace of the destination, which is cleared: "
    check_failure(ran, 4, f"{says}{source.database}", hint="choose a destination apart")
    assert footprint(tmp_path) == before


def test_a_destination_with_the_name_of_a_workspace(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Instance(database=space_beside(tmp_path / "x") / "db", attachments=tmp_path / "files")
    ran = run_here(capsys, "clone", "--force", *from_flags(instance), *to_flags(copy))
    says = f"this lies in a run's workspace, or has the name of one: {copy.database}"
    check_failure(ran, 4, says, hint="choose a destination apart")
    assert not copy.database.parent.exists()


def test_overlap_through_a_bind_mount(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "mirror", "bind", "", instance.database.parent) as mirror:
        same = Instance(database=mirror / instance.database.name, attachments=tmp_path / "files")
        ran = run_here(capsys, "clone", "--force", *from_flags(instance), *to_flags(same))
        says = f"source and destination are the same database: {same.database}"
        check_failure(ran, 4, says, hint="choose a destination apart from the source")
        same = Instance(database=tmp_path / "db", attachments=mirror / "attachments")
        ran = run_here(capsys, "clone", "--force", *from_flags(instance), *to_flags(same))
        says = f"source and destination are the same directory: {same.attachments}"
        check_failure(ran, 4, says, hint="choose a destination apart from the source")
        same = Instance(database=tmp_path / "db", attachments=mirror / "attachments" / "below")
        ran = run_here(capsys, "clone", "--force", *from_flags(instance), *to_flags(same))
        says = f"the destination lies inside the source's attachments: {same.attachments}"
        check_failure(ran, 4, says, hint="choose a destination apart from the source")


# The manifest


def test_manifest_in_place_of_a_device(
    instance: Instance, destination: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    flags = (*from_flags(instance), *to_flags(destination))
    ran = run_here(capsys, "clone", "--force", *flags, "--manifest", pipe)
    says = f"another file stands where the manifest is to go: {pipe}"
    check_failure(ran, 4, says, hint="choose another name, or remove it first")
    assert pipe.is_fifo()


def test_manifest_in_a_missing_directory(
    instance: Instance, destination: Instance, tmp_path: Path
) -> None:
    flags = (*from_flags(instance), *to_flags(destination))
    before = footprint(tmp_path)
    ran = run("clone", "--force", *flags, "--manifest", tmp_path / "missing" / "manifest")
    says = f"the manifest's directory does not exist: {tmp_path}/missing"
    check_failure(ran, 4, says, hint="create it first")
    assert footprint(tmp_path) == before


def test_manifest_is_a_directory(
    instance: Instance, destination: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (*from_flags(instance), *to_flags(destination))
    ran = run_here(capsys, "clone", "--force", *flags, "--manifest", tmp_path)
    check_failure(ran, 4, f"the manifest is a directory: {tmp_path}", hint="name a file")


@ROOT_ONLY
def test_manifest_not_writable(commons: Path) -> None:
    instance = build_instance(commons / "production", evidences=1)
    place = commons / "place"
    place.mkdir()
    os.chown(place, NOBODY, NOBODY)
    copy = Instance(database=place / "db", attachments=place / "files")
    flags = (*from_flags(instance), *to_flags(copy), "--manifest", commons / "manifest")
    ran = run("clone", "--force", *flags, user=NOBODY)
    check_failure(ran, 4, f"cannot write in {commons}", hint="run as its owner")
    assert list(place.iterdir()) == []


# Verification


def test_verification_that_fails(instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    (instance.attachments / "policy_7.pdf").unlink()
    (instance.attachments / "policy_8.pdf").unlink()
    ran = run("verify", *to_flags(instance))
    assert ran.code == 5
    said = f"error: verification failed with 2 errors: do not trust {instance.database}"
    assert ran.error_line == said
    assert "listed on standard output" in ran.hint_line
    assert "policy_7.pdf" in ran.out
    assert run_here(capsys, "verify", *to_flags(instance)).code == 5


@ROOT_ONLY
def test_another_user_s_workspace_is_a_warning_to_readers(commons: Path) -> None:
    """What root's run is doing there cannot be known: the pair is read, and the reader told."""
    instance = build_instance(commons / "production", evidences=1)
    space_beside(instance.database).mkdir(mode=0o700)
    ran = run("verify", *to_flags(instance), user=NOBODY)
    assert ran.code == 0, ran.err
    assert "another user's run" in ran.out


def test_verification_names_any_path_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    instance = build_instance(tmp_path / "odd\nerror: forged", evidences=1)
    (instance.attachments / "orphan").write_text("")
    ran = run_here(capsys, "verify", *to_flags(instance))
    assert ran.code == 0, ran.err
    for path in instance.attachments.iterdir():
        path.unlink()
    ran = run_here(capsys, "verify", *to_flags(instance))
    assert ran.code == 5
    assert "do not trust " in ran.error_line
    assert "odd\\nerror: forged" in ran.error_line


def test_paths_are_escaped_once(instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    odd = instance.database.rename(instance.database.with_name("back\\slash"))
    odd.write_text("no database")
    ran = run_here(capsys, "verify", "--dest-db", odd, "--dest-attachments", instance.attachments)
    assert ran.code == 5
    assert "/back\\\\slash:" in ran.out


def test_clone_of_a_source_that_lacks_a_file(instance: Instance, destination: Instance) -> None:
    (instance.attachments / "policy_7.pdf").unlink()
    ran = run("clone", "--force", *from_flags(instance), *to_flags(destination))
    check_failure(
        ran, 5, "the copy failed its check: missing-file: ", hint="the source itself is like"
    )
    assert "error missing-file: " in ran.err
    assert not destination.database.parent.exists()


# Flags and configuration


@pytest.mark.parametrize(
    ("flag", "lacking"), [("--dest-attachments", "--dest-db"), ("--dest-db", "--dest-attachments")]
)
def test_a_destination_is_required(
    flag: str, lacking: str, instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("clone", "--force", *from_flags(instance), flag, tmp_path / "x")
    ran = run(*arguments) if lacking == "--dest-db" else run_here(capsys, *arguments)
    check_failure(ran, 2, f"{lacking} is required", hint=f"name a path: {lacking} PATH")


@pytest.mark.parametrize("task", ["clone", "verify", "status", "demo"])
def test_unknown_flag(task: str) -> None:
    ran = run(task, "--recursive")
    assert (ran.code, ran.out, ran.err) == (1, "", "No idea what '--recursive' is!\n")


@pytest.mark.parametrize("arguments", [("--dest-db",), ("--dest-db", "--force")])
def test_flag_without_its_value(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_here(capsys, "clone", *arguments)
    assert ran.code == 1
    assert "dest_db" in ran.err
    assert "needed value" in ran.err


def test_flag_that_takes_another_for_its_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run("clone", "--dest-db", "--forze", "--dest-attachments", tmp_path / "x")
    says = "--dest-db lacks its value: --forze looks like a flag"
    check_failure(ran, 2, says, hint="write --dest-db ./--forze")
    ran = run_here(capsys, "demo", "--keep=-x")
    check_failure(ran, 2, "--keep lacks its value: -x looks like", hint="write --keep ./-x")


def test_unknown_user(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--dest-db", "~nobody-of-this-name/db", "--dest-attachments", tmp_path)
    ran = run_here(capsys, "clone", "--force", *from_flags(instance), *flags)
    check_failure(ran, 2, "--dest-db: ", "~nobody-of-this-name/db")


PROFILES = {
    "broken": (b"title = [", "is not TOML: ", ""),
    "not UTF-8": (b'title = "\xff"', "is not UTF-8 text", ""),
    "unknown key": (b"tabels = []", "the profile has no key 'tabels'", "docs/profiles.md"),
    "wrong type": (b'tables = "a"', "'tables' must be a list of strings", "docs/profiles.md"),
}


@pytest.mark.parametrize("kind", PROFILES)
def test_broken_profile(kind: str, instance: Instance, destination: Instance) -> None:
    content, says, hint = PROFILES[kind]
    profile = instance.database.with_name("mine.toml")
    profile.write_bytes(content)
    flags = (*from_flags(instance), *to_flags(destination), "--profile", profile)
    check_failure(run("clone", "--force", *flags), 2, says, profile, hint=hint)
    assert not destination.database.parent.exists()


def test_unknown_profile(
    instance: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (*from_flags(instance), *to_flags(destination))
    ran = run("clone", "--force", *flags, "--profile", "ciso")
    check_failure(ran, 2, "no such profile: ciso", hint="built in are ciso_assistant, none")
    ran = run_here(capsys, "clone", "--force", *flags, "--profile", instance.attachments)
    check_failure(ran, 2, f"no such profile: {instance.attachments}", hint="name a TOML file")


@pytest.mark.parametrize(
    ("variable", "value", "keeps", "way_out"),
    [
        ("POSTGRES_NAME", "ciso", "its database in PostgreSQL", "back it up with pg_dump"),
        ("USE_S3", "True", "its attachments in S3", "copy the bucket"),
        ("USE_AZURE", "1", "its attachments in Azure", "copy the container"),
    ],
)
def test_data_kept_elsewhere(
    variable: str, value: str, keeps: str, way_out: str, destination: Instance
) -> None:
    ran = run("clone", "--force", *to_flags(destination), environment={variable: value})
    says = f"{variable} is set: CISO Assistant keeps {keeps}"
    check_failure(ran, 3, says, "there is no default source to read", hint=way_out)
    assert "--source-db and --source-attachments" in ran.hint_line


def test_no_source_at_all(destination: Instance) -> None:
    ran = run("clone", "--force", *to_flags(destination))
    says = "no source: nothing says which instance to read"
    hint = "give --source-db and --source-attachments, or set SQLITE_FILE and LOCAL_STORAGE"
    check_failure(ran, 2, says, hint=hint)


CONFIGURATIONS = {
    "syntax": ("ops: [\n", ["broken configuration: ", ".yaml, line 2: "], "invoke.yaml here"),
    "no mapping": ("ops: text\n", ["broken configuration: "], "ops is a section"),
    "nothing": ("ops:\n", ["broken configuration: "], "ops is a section"),
    "only text": ("text\n", ["broken configuration: "], "invoke.yaml here"),
    "not UTF-8": ("ops: \udcff\n", ["broken configuration: "], "invoke.yaml here"),
    "unknown key": (
        "ops:\n  sourcedb: x\n",
        ["the configuration has no key ops.sourcedb"],
        "known are source_db, ",
    ),
    "bad number": (
        "ops:\n  lock_timeout: soon\n",
        ["ops.lock_timeout must be a number of seconds, not 'soon'"],
        "",
    ),
    "wrong type": (
        "ops:\n  source_db: [a]\n",
        ["ops.source_db must be a string, not ['a']"],
        "",
    ),
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_broken_configuration(kind: str, tmp_path: Path) -> None:
    text, says, hint = CONFIGURATIONS[kind]
    shutil.copy(ROOT / "tasks.py", tmp_path)
    (tmp_path / "invoke.yaml").write_text(text, errors="surrogateescape")
    path = {"PYTHONPATH": str(ROOT)}
    check_failure(run("status", directory=tmp_path, environment=path), 2, *says, hint=hint)


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_broken_configuration_of_the_installed_command(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, says, hint = CONFIGURATIONS[kind]
    (tmp_path / "home" / ".invoke.yaml").write_text(text, errors="surrogateescape")
    check_failure(run_here(capsys, "status"), 2, *says, hint=hint)


@pytest.mark.parametrize("name", ["invoke.json", "invoke.yaml"])
def test_unreadable_configuration(name: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "tasks.py", tmp_path)
    if name.endswith("json"):
        (tmp_path / name).write_text('{"ops": ')
    else:
        (tmp_path / name).mkdir()
    ran = run("status", directory=tmp_path, environment={"PYTHONPATH": str(ROOT)})
    check_failure(ran, 2, "broken configuration: ", hint="invoke.yaml here")


def test_variable_that_does_not_fit_the_file(tmp_path: Path) -> None:
    shutil.copy(ROOT / "tasks.py", tmp_path)
    (tmp_path / "invoke.yaml").write_text("ops:\n  manage: [python, manage.py]\n")
    variables = {"PYTHONPATH": str(ROOT), "INVOKE_OPS_MANAGE": "python manage.py"}
    ran = run("status", directory=tmp_path, environment=variables)
    check_failure(ran, 2, "broken configuration: ", hint="INVOKE_… variables")
    (tmp_path / "invoke.yaml").write_text("ops:\n  lock_timeout: 5\n")
    variables = {"PYTHONPATH": str(ROOT), "INVOKE_OPS_LOCK_TIMEOUT": "0.5"}
    ran = run("status", directory=tmp_path, environment=variables)
    assert "Traceback" not in ran.err


@ROOT_ONLY
def test_configuration_in_a_home_of_somebody_else(commons: Path) -> None:
    """`setpriv` and `su -m` leave HOME as it was."""
    (commons / "private").mkdir(mode=0o700)
    environment = {"HOME": str(commons / "private")}
    ran = run("status", "--dest-db", commons / "x", environment=environment, user=NOBODY)
    assert "Traceback" not in ran.err


def test_another_error_of_invoke_stays_its_own(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text((ROOT / "tasks.py").read_text() + "raise LookupError\n")
    ran = run("--list", directory=tmp_path, environment={"PYTHONPATH": str(ROOT)})
    assert ran.code == 1
    assert ran.err.endswith("LookupError\n")


# Streams


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_standard_output_closed_too_early(form: tuple[str, ...], instance: Instance) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "invoke", "verify", *map(str, to_flags(instance)), *form],
            check=False,
            cwd=ROOT,
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert "error: standard output was closed before the result was written" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_standard_output_on_a_full_disk(form: tuple[str, ...], instance: Instance) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("takes /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "invoke", "verify", *map(str, to_flags(instance)), *form],
            check=False,
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert "error: unexpected: OSError: [Errno 28] No space left on device" in done.stderr
    assert "hint: run again with --debug" in done.stderr
    assert "Traceback" not in done.stderr


def test_names_that_the_terminal_cannot_show(instance: Instance, tmp_path: Path) -> None:
    """A Latin-1 or ASCII terminal must not turn a clone that was published into a failure."""
    copy = Instance(database=tmp_path / "é" / "名前", attachments=tmp_path / "é" / "files")
    ran = run(
        "clone",
        "--force",
        *from_flags(instance),
        *to_flags(copy),
        environment={"PYTHONIOENCODING": "ascii"},
    )
    assert "Traceback" not in ran.err
    assert ran.code == 0
    assert "Cloned" in ran.out


def test_debug_adds_the_traceback(instance: Instance, destination: Instance) -> None:
    instance.database.unlink()
    ran = run("--debug", "clone", "--force", *from_flags(instance), *to_flags(destination))
    assert ran.code == 3
    assert "Traceback (most recent call last):" in ran.err
    assert "FileNotFoundError" in ran.err
    assert ran.error_line == f"error: database not found: {instance.database}"
