"""Packing: one file that any zstd and tar read, compared before it has its name."""

import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ops.archive.age import age_module
from ops.archive.contents import Contents
from ops.archive.headers import ArchiveError
from ops.bag import DATABASE, HISTORY, LEDGER, MANIFEST
from ops.cli.packed import packed_lines
from ops.demo_instance import build_instance
from ops.disk import Disk
from ops.errors import BusyError, DestinationError, InterruptedRunError, OpsError, SourceError
from ops.filing import publish_file
from ops.model import Instance, Progress
from ops.pack import Packed, PackRequest, plan_pack, run_pack
from ops.snapshot import VERIFIED, Event
from ops.spaces import space_beside
from ops.store import Snapshot, append_event, list_snapshots
from tests.archives import stretch
from tests.command import INV, ROOT, run
from tests.filesystem import build, footprint
from tests.mounting import immutable, tmpfs
from tests.pipeline import CLOCK, quiet
from tests.test_audit import resign
from tests.test_backup import NIGHT, ODD
from tests.test_store import at, back_up, flip, litter_in, reader_of

_LIMIT_SECONDS = 60


@pytest.fixture
def store(instance: Instance, tmp_path: Path) -> Path:
    """Make a store with one snapshot of an instance with every odd name."""
    build(instance.attachments / "odd", ODD)
    back_up(instance, tmp_path / "store", clock=at(NIGHT))
    return (tmp_path / "store").resolve()


def newest(store: Path) -> Snapshot:
    """Return the newest snapshot of a store."""
    return list_snapshots(store)[-1]


def request(store: Path, archive: Path, *, replaces: bool = False) -> PackRequest:
    """Ask for the newest snapshot in the clear."""
    return PackRequest(snapshot=newest(store), archive=archive, replace=replaces)


def packed(asked: PackRequest) -> Packed:
    """Plan and pack."""
    return run_pack(plan_pack(asked), clock=CLOCK, progress=quiet)


def program(name: str) -> str:
    """Return the path of a program, or skip."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def piped(directory: Path, *commands: Sequence[str | Path]) -> None:
    """Run programs, each of which reads what the one before writes."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            before = processes[-1].stdout if processes else subprocess.DEVNULL
            processes.append(
                subprocess.Popen(command, cwd=directory, stdin=before, stdout=subprocess.PIPE)
            )
        processes[-1].communicate(timeout=_LIMIT_SECONDS)
        assert [one.wait(timeout=_LIMIT_SECONDS) for one in processes] == [0] * len(processes)
    finally:
        for one in processes:
            assert one.stdout is not None
            one.stdout.close()
            one.kill()
            one.wait()


def contents(bag: Path) -> dict[str, bytes]:
    """Read every file of a directory."""
    return {
        str(path.relative_to(bag)): path.read_bytes() for path in bag.rglob("*") if path.is_file()
    }


# What is made


def test_zstd_and_tar_bring_the_snapshot_back(store: Path, tmp_path: Path) -> None:
    zstd, tar, sums = program("zstd"), program("tar"), program("sha256sum")
    append_event(newest(store), Event(what=VERIFIED, instant=NIGHT, details={}))
    before = footprint(store)
    archive = tmp_path / "packed.tar.zst"
    done = packed(request(store, archive))
    assert footprint(store) == before
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == done.sha256
    assert (archive.stat().st_size, len(stretch(archive))) == (done.size, done.clear_bytes)
    out = tmp_path / "out"
    out.mkdir()
    piped(out, (zstd, "-dc", archive), (tar, "x"))
    assert os.listdir(out) == [newest(store).name]
    bag = out / newest(store).name
    assert contents(bag) == contents(newest(store).path)
    assert HISTORY in contents(bag)
    files = (sums, "-c", "--quiet", MANIFEST, "tagmanifest-sha256.txt")
    assert subprocess.run(files, cwd=bag, check=False, capture_output=True).returncode == 0


def test_the_same_snapshot_is_the_same_archive(store: Path, tmp_path: Path) -> None:
    made = [
        packed(replace(request(store, tmp_path / f"{jobs}.tar.zst"), jobs=jobs)) for jobs in (1, 2)
    ]
    assert made[0].sha256 == made[1].sha256
    one, other = (stretch(tmp_path / f"{jobs}.tar.zst") for jobs in (1, 2))
    assert one == other


def test_nothing_but_files_and_directories_of_nobody_in_particular(
    store: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "packed.tar.zst"
    packed(request(store, archive))
    (tmp_path / "packed.tar").write_bytes(stretch(archive))
    with tarfile.open(tmp_path / "packed.tar") as opened:
        members = opened.getmembers()
    name = newest(store).name
    assert members[0].name == name
    for member in members:
        assert member.isreg() or member.isdir()
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.mode == (0o700 if member.isdir() else 0o400)
        path = store / member.name
        assert member.mtime == path.stat().st_mtime_ns // 10**9
    paths = [member.name for member in members]
    assert len(set(paths)) == len(paths)
    listed = sorted(str(path.relative_to(store)) for path in (store / name).rglob("*"))
    assert sorted(paths[1:]) == listed


@pytest.mark.parametrize("kind", ["age", "ssh-ed25519"])
def test_age_opens_what_was_encrypted_and_nobody_else_does(
    store: Path, tmp_path: Path, kind: str
) -> None:
    age, zstd, tar = program("age"), program("zstd"), program("tar")
    key, public = key_pair(tmp_path, kind)
    ran = run("pack", "--store", store, "--archive", tmp_path, "--recipient", public, "--json")
    assert ran.code == 0, ran.err
    archive = Path(ran.document["archive"])
    assert archive == tmp_path / f"{newest(store).name}.tar.zst.age"
    assert ran.document["recipients"] == 1
    assert b"policy" not in archive.read_bytes()
    out = tmp_path / "out"
    out.mkdir()
    piped(out, (age, "-d", "-i", key, archive), (zstd, "-dc"), (tar, "x"))
    assert contents(out / newest(store).name) == contents(newest(store).path)
    other, _ = key_pair(tmp_path, "other")
    refused = subprocess.run((age, "-d", "-i", other, archive), check=False, capture_output=True)
    assert refused.returncode


def key_pair(directory: Path, kind: str) -> tuple[Path, str]:
    """Make a file with a secret key, and return it with the public one."""
    path = directory / f"{kind}.key"
    if kind == "ssh-ed25519":
        words = (program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", path)
        subprocess.run(words, check=True)
        return path, path.with_name(f"{path.name}.pub").read_text().strip()
    secret = age_module().x25519.Identity.generate()
    path.write_text(f"# made for a test\n\n{secret}\n")
    return path, str(secret.to_public())


def test_a_file_names_recipients_as_well(store: Path, tmp_path: Path) -> None:
    _, one = key_pair(tmp_path, "one")
    key, other = key_pair(tmp_path, "other")
    names = tmp_path / "recipients"
    names.write_text(f"# who may read it\n{one}\n\n  {other}\n")
    archive = tmp_path / "packed.age"
    ran = run("pack", "--store", store, "--archive", archive, "--recipients-file", names)
    assert ran.code == 0, ran.err
    assert "to 2 recipients (age)" in ran.out
    looked = run(
        *("unpack", "--archive", archive, "--store", tmp_path / "other", "--dry-run"),
        *("--identity-file", key),
    )
    assert looked.code == 0, looked.err


# What is said


def test_the_report_says_what_was_done_and_how_it_was_checked(store: Path, tmp_path: Path) -> None:
    told = run("pack", "--store", store, "--archive", tmp_path, "--check", "disk", "--jobs", "1")
    assert told.code == 0, told.err
    assert "encrypted  no: anybody can read it" in told.out
    assert "read again, decompressed, and every file compared with the manifest" in told.out
    assert re.search(r"SHA-256 +[0-9a-f]{64}\n", told.out)
    assert "--max-bytes" not in told.out


def test_a_dry_run_tells_and_writes_nothing(store: Path, tmp_path: Path) -> None:
    before = footprint(tmp_path)
    ran = run("pack", "--store", store, "--archive", tmp_path, "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["dry_run"] is True
    assert ran.document["room"]["bytes_needed"] > ran.document["bytes"]
    lines = run("pack", "--store", store, "--archive", tmp_path / "a.zst", "--dry-run").out
    assert lines.startswith("Pack\n")
    assert footprint(tmp_path) == before


# What is refused


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "--archive is required"),
        (("--archive", "{tmp}/a/"), "--archive names a directory"),
        (("--archive", "{tmp}/a.age"), "nothing is encrypted without a recipient"),
        (("--archive", "{tmp}/a", "--recipient", "age1nobody"), "this is no recipient"),
        (("--archive", "{tmp}/a", "--recipient", "ssh-dss AAAA"), "this is no recipient"),
        (("--archive", "{tmp}/a", "--recipient", " , "), "names nobody"),
        (("--archive", "{tmp}/a", "--recipients-file", "{tmp}/none"), "cannot read the keys"),
        (("--archive", "{tmp}/a", "--recipients-file", "{tmp}/empty"), "names no recipient"),
        (("--archive", "{tmp}/a", "--recipients-file", "{tmp}/bad"), "bad, line 2: this is no"),
        (("--archive", "{tmp}/a", "--check", "moon"), "--check must be"),
    ],
)
def test_wrong_flags_are_told(
    store: Path, tmp_path: Path, flags: tuple[str, ...], said: str
) -> None:
    (tmp_path / "empty").write_text("# nobody\n")
    (tmp_path / "bad").write_text("# somebody\nage1x\n")
    ran = run("pack", "--store", store, *(flag.format(tmp=tmp_path) for flag in flags))
    assert ran.code == 2
    assert said in ran.error_line
    assert ran.hint_line or "recipient" in said or "keys" in said or "check" in said
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("given", ["flag", "file"])
def test_a_secret_key_in_place_of_a_public_one_is_refused_and_not_told(
    store: Path, tmp_path: Path, given: str
) -> None:
    key, _ = key_pair(tmp_path, "key")
    secret = key.read_text().split()[-1]
    flags = ("--recipient", secret) if given == "flag" else ("--recipients-file", key)
    ran = run("pack", "--store", store, "--archive", tmp_path / "a", *flags)
    assert ran.code == 2
    assert "this is a secret key" in ran.error_line
    assert secret not in ran.out + ran.err


def test_what_stands_there_stays_unless_it_is_an_archive_and_forced(
    store: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "a.tar.zst"
    packed(request(store, archive))
    first = archive.stat().st_ino
    with pytest.raises(DestinationError, match="a file stands there"):
        packed(request(store, archive))
    assert archive.stat().st_ino == first
    assert packed(request(store, archive, replaces=True)).plan.replaces
    assert archive.stat().st_ino != first
    archive.write_text("the minutes of a meeting")
    with pytest.raises(DestinationError, match="is no archive"):
        packed(request(store, archive, replaces=True))
    archive.unlink()
    archive.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DestinationError, match="something else stands there"):
        packed(request(store, archive, replaces=True))
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_appears_meanwhile_stays(store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.zst"

    def appear(progress: Progress) -> None:
        if progress.step == "publish":
            archive.write_text("somebody else's")

    with pytest.raises(DestinationError, match="File exists"):
        run_pack(plan_pack(request(store, archive)), clock=CLOCK, progress=appear)
    assert archive.read_text() == "somebody else's"
    assert not space_beside(archive).exists()


def test_places_that_cannot_be_are_refused(store: Path, tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="there is no directory"):
        packed(request(store, tmp_path / "unmounted" / "a.tar.zst"))
    for place in (store / "a.tar.zst", newest(store).path / "a.tar.zst"):
        with pytest.raises(DestinationError, match="would lie in the store"):
            packed(request(store, place))
    assert litter_in(store) == []
    with immutable(tmp_path), pytest.raises(DestinationError, match=r"(cannot|can't)"):
        packed(request(store, tmp_path / "a.tar.zst"))


@pytest.mark.parametrize("name", [MANIFEST, LEDGER, DATABASE, "data/attachments/-rf.txt"])
def test_a_damaged_snapshot_is_named_and_nothing_is_left(
    store: Path, tmp_path: Path, name: str
) -> None:
    flip(newest(store).path / name)
    archive = tmp_path / "out" / "a.tar.zst"
    archive.parent.mkdir()
    with pytest.raises(SourceError, match="the snapshot is damaged"):
        packed(request(store, archive))
    assert os.listdir(archive.parent) == []


def test_a_file_that_is_not_listed_or_not_there_is_damage(store: Path, tmp_path: Path) -> None:
    below = newest(store).path / "data" / "attachments"
    extra = below / "odd" / "extra"
    extra.touch()
    with pytest.raises(SourceError, match=r"it has \d+ attachments, its manifest \d+"):
        packed(request(store, tmp_path / "a"))
    extra.unlink()
    extra.symlink_to("/etc/passwd")
    with pytest.raises(SourceError, match="unexpected: data/attachments/odd/extra"):
        packed(request(store, tmp_path / "a"))
    extra.unlink()
    (below / "-rf.txt").unlink()
    with pytest.raises(SourceError, match=r"cannot read .*-rf\.txt: No such file"):
        packed(request(store, tmp_path / "a"))
    os.mkfifo(below / "-rf.txt")
    with pytest.raises(SourceError, match="unexpected"):
        packed(request(store, tmp_path / "a"))


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_file_that_cannot_be_read_is_named_whoever_asks(
    store: Path, tmp_path: Path, *, encrypted: bool
) -> None:
    asked = request(store, tmp_path / "a")
    if encrypted:
        public = age_module().x25519.Identity.generate().to_public()
        asked = replace(asked, recipients=(public,))
    (newest(store).path / "data" / "attachments" / "-rf.txt").unlink()
    with pytest.raises(SourceError, match=r"cannot read .*-rf\.txt: No such file"):
        packed(asked)
    assert sorted(os.listdir(tmp_path)) == ["home", "production", "store"]


def test_a_name_that_no_file_system_takes_is_told(store: Path, tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match=r"cannot look at .*: File name too long"):
        packed(request(store, tmp_path / ("a" * 256)))


class NoLinks(Disk):
    """A file system without hard links, such as FAT."""

    def link(self, source: Path, target: Path) -> bool:
        """Link nothing."""
        del source, target
        return False


def test_without_hard_links_a_file_gets_its_name_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "place").write_text("old")
    with pytest.raises(DestinationError, match="File exists"):
        publish_file(tmp_path / "new", tmp_path / "place", replace=False, disk=NoLinks())
    assert (tmp_path / "place").read_text() == "old"
    (tmp_path / "place").unlink()
    publish_file(tmp_path / "new", tmp_path / "place", replace=False, disk=NoLinks())
    assert (tmp_path / "place").read_text() == "new"


def test_what_expands_much_is_told_how_to_unpack(store: Path, tmp_path: Path) -> None:
    done = packed(request(store, tmp_path / "a"))
    for changed in (replace(done, clear_bytes=2 << 30), replace(done, entries=5_000_000)):
        hint = f"allow its size: --max-bytes {changed.clear_bytes}"
        assert hint in "\n".join(map(str, packed_lines(changed)))


def test_a_manifest_that_is_none_is_damage(store: Path, tmp_path: Path) -> None:
    manifest = newest(store).path / MANIFEST
    manifest.chmod(0o600)
    manifest.write_bytes(manifest.read_bytes() + b"no line of a manifest\n")
    resign(newest(store))
    with pytest.raises(SourceError, match="a line of the manifest is none"):
        packed(request(store, tmp_path / "a"))


def test_a_file_that_is_no_file_any_more_is_damage(store: Path, tmp_path: Path) -> None:
    database = newest(store).path / DATABASE
    database.unlink()
    os.mkfifo(database)
    with pytest.raises(SourceError, match="no regular file"):
        packed(request(store, tmp_path / "a"))


def test_a_snapshot_that_cannot_be_read_is_told(store: Path, tmp_path: Path) -> None:
    asked = request(store, tmp_path / "a")
    with pytest.raises(SourceError, match="unreadable summary"):
        plan_pack(replace(asked, snapshot=replace(asked.snapshot, problem="unreadable summary")))
    (newest(store).path / "bag-info.txt").unlink()
    with pytest.raises(SourceError, match=r"bag-info\.txt is missing|No such file"):
        plan_pack(asked)


def test_one_that_is_being_removed_or_packed_is_busy(store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.zst"
    with reader_of(newest(store).path, "LOCK_EX"), pytest.raises(BusyError, match="being removed"):
        packed(request(store, archive))
    space_beside(archive).mkdir(mode=0o700)
    with reader_of(space_beside(archive), "LOCK_EX"), pytest.raises(BusyError, match="another run"):
        packed(request(store, archive))
    packed(request(store, archive))  # what the other left is no hindrance
    assert not space_beside(archive).exists()


# What goes wrong


def test_a_spoilt_archive_is_not_kept(store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "out" / "a.tar.zst"
    archive.parent.mkdir()

    def spoil(progress: Progress) -> None:
        new = space_beside(archive) / "new"
        if progress.step == "write to disk":
            flip(new, new.stat().st_size // 2)

    with pytest.raises(OpsError, match="the archive is not right and was not kept") as caught:
        run_pack(plan_pack(request(store, archive)), clock=CLOCK, progress=spoil)
    assert caught.value.exit_code == 5
    assert isinstance(caught.value.__cause__, ArchiveError)
    assert os.listdir(archive.parent) == []


def test_a_file_that_changes_after_it_was_read_is_the_archive_s_fault(
    store: Path, tmp_path: Path
) -> None:
    """Whose fault it is, is found by reading the snapshot again."""
    target = newest(store).path / "data" / "attachments" / "-rf.txt"
    flip(target)

    def mend(progress: Progress) -> None:
        if progress.step == "write to disk":
            flip(target)

    with pytest.raises(OpsError, match="not what its manifest lists") as caught:
        run_pack(plan_pack(request(store, tmp_path / "a")), clock=CLOCK, progress=mend)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("name", ["data/attachments/-rf.txt", "tagmanifest-sha256.txt"])
def test_what_is_gone_when_it_is_needed_again_is_told(
    store: Path, tmp_path: Path, name: str
) -> None:
    flip(newest(store).path / "data" / "attachments" / "-rf.txt")

    def lose(progress: Progress) -> None:
        if progress.step == "write to disk":
            (newest(store).path / name).unlink()

    with pytest.raises(SourceError, match=rf"cannot read .*{name}: No such file"):
        run_pack(plan_pack(request(store, tmp_path / "a")), clock=CLOCK, progress=lose)
    assert not (tmp_path / "a").exists()


def test_tag_files_that_change_meanwhile_are_noticed(store: Path, tmp_path: Path) -> None:
    path = newest(store).path / "tagmanifest-sha256.txt"

    def change(progress: Progress) -> None:
        if progress.step == "write to disk":
            flip(path)

    with pytest.raises(OpsError, match="its tag files are not those of the snapshot"):
        run_pack(plan_pack(request(store, tmp_path / "a")), clock=CLOCK, progress=change)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_full_disk_is_told_and_leaves_nothing(
    store: Path, tmp_path: Path, *, encrypted: bool
) -> None:
    asked = request(store, tmp_path / "mount" / "a.tar.zst")
    if encrypted:
        public = age_module().x25519.Identity.generate().to_public()
        asked = replace(asked, recipients=(public,))
    (tmp_path / "mount").mkdir()
    with tmpfs("8m", at=tmp_path / "mount") as mount:
        plan = plan_pack(asked)
        free = os.statvfs(mount)
        (mount / "other").write_bytes(bytes(free.f_bavail * free.f_frsize - 65_536))
        with pytest.raises(DestinationError, match="No space left"):
            run_pack(plan, clock=CLOCK, progress=quiet)
        assert os.listdir(mount) == ["other"]
        with pytest.raises(DestinationError, match="no room on the file system"):
            plan_pack(asked)


def test_a_signal_leaves_nothing(store: Path, tmp_path: Path) -> None:
    archive = tmp_path / "out" / "a.tar.zst"
    archive.parent.mkdir()

    def stop(progress: Progress) -> None:
        if progress.step == "re-read archive":
            raise InterruptedRunError(signal.SIGTERM)

    with pytest.raises(InterruptedRunError):
        run_pack(plan_pack(request(store, archive)), clock=CLOCK, progress=stop)
    assert os.listdir(archive.parent) == []


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_file_that_shrinks_while_it_is_read_is_damage(
    store: Path, tmp_path: Path, *, encrypted: bool
) -> None:
    large = newest(store).path / DATABASE
    asked = request(store, tmp_path / "a")
    if encrypted:
        public = age_module().x25519.Identity.generate().to_public()
        asked = replace(asked, recipients=(public,))
    large.chmod(0o600)
    os.truncate(large, 200_000)
    contents_of = Contents(bag=asked.snapshot.path, name=asked.snapshot.name, tell=lambda *_: None)
    pieces = contents_of.pieces()
    next(pieces)
    os.truncate(large, 100)
    with pytest.raises(SourceError, match="a file became shorter"):
        sum(map(len, pieces))
    with pytest.raises(SourceError, match="the snapshot is damaged"):
        packed(asked)


# Large ones


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with a snapshot of 512 MiB, nearly all of it a hole."""
    directory = tmp_path_factory.mktemp("large").resolve()
    instance = build_instance(directory / "production", evidences=3)
    with (instance.attachments / "large.bin").open("wb") as file:
        file.truncate(512 << 20)
    back_up(instance, directory / "store", clock=at(NIGHT + timedelta(days=1)))
    return directory / "store"


# A process of its own, since one has at first what the process has that starts it.
_PEAK = """
import os, sys
_, status, usage = os.wait4(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


def peak_bytes(*arguments: str | Path) -> int:
    """Run a command to its end, and return the most memory that it had at once."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, *INV, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=_LIMIT_SECONDS,
    )
    code, peak = done.stdout.split()[-2:]
    assert code == b"0", done.stderr
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("encrypted", [False, True])
def test_memory_does_not_grow_with_the_snapshot(
    large: Path, tmp_path: Path, *, encrypted: bool
) -> None:
    key, public = key_pair(tmp_path, "key")
    archive = tmp_path / "large"
    extra = ("--recipient", public) if encrypted else ()
    opening = ("--identity-file", key) if encrypted else ()
    assert peak_bytes("pack", "--store", large, "--archive", archive, *extra) < 300 << 20
    looked = peak_bytes(
        *("unpack", "--store", tmp_path / "none", "--archive", archive, "--dry-run", *opening)
    )
    assert looked < 150 << 20


def test_a_killed_run_leaves_nothing_at_the_name_and_the_next_one_clears_up(
    large: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "large.tar.zst"
    words = ("pack", "--store", large, "--archive", archive)
    process = subprocess.Popen(
        [*INV, *map(str, words)], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    new = space_beside(archive) / "new"
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not new.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert new.exists()
    assert not archive.exists()
    ran = run(*words)
    assert ran.code == 0, ran.err
    assert sorted(os.listdir(tmp_path)) == ["home", archive.name]


# The page


def test_the_recipes_of_the_page_work(store: Path, tmp_path: Path) -> None:
    shell = program("sh")
    for name in ("age", "zstd", "tar", "sha256sum"):
        program(name)
    key, public = key_pair(tmp_path, "key")
    where = tmp_path / "where"
    where.mkdir()
    key.rename(where / "key.txt")
    packed(request(store, where / "snapshot.tar.zst"))
    encrypted = run(
        *("pack", "--store", store, "--archive", where / "snapshot.tar.zst.age"),
        *("--recipient", public),
    )
    assert encrypted.code == 0, encrypted.err
    page = (ROOT / "docs" / "packing.md").read_text()
    (recipe,) = re.findall(r"## Without this tool\n\n```sh\n(.*?)```", page, re.DOTALL)
    clear, secret, check = recipe.replace("2026-11-25T013000Z", newest(store).name).splitlines()
    for line in (clear, secret):
        for words in (line, check):
            done = subprocess.run(
                [shell, "-c", words], cwd=where, check=False, capture_output=True, text=True
            )
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        shutil.rmtree(where / newest(store).name)
