"""The status: what is configured, what the source looks like, what file systems can do."""

import os
from pathlib import Path

import pytest

from ops import __version__
from ops import status as status_module
from ops.errors import DestinationError, UsageError
from ops.model import Instance
from ops.settings import read_settings
from ops.status import Place, examine, look_at_place
from tests.command import from_flags, mounted, run, run_here, to_flags
from tests.filesystem import footprint


def test_names_what_a_report_of_a_problem_needs(instance: Instance, tmp_path: Path) -> None:
    copy = Instance(database=tmp_path / "new" / "db", attachments=tmp_path / "new" / "files")
    before = footprint(tmp_path)
    ran = run("status", *from_flags(instance), *to_flags(copy))
    assert footprint(tmp_path) == before
    assert ran.code == 0
    assert ran.err == ""
    lines = [" ".join(line.split()) for line in ran.out.splitlines()]
    assert any(line.startswith(f"ciso-ops {__version__} (") for line in lines)
    assert any(line.startswith("SQLite 3.") for line in lines)
    assert "profile ciso_assistant (default)" in lines
    assert f"source database {instance.database} (--source-db)" in lines
    assert "lock timeout 30 (default)" in lines
    assert "found by flags" in lines
    assert "state at rest, 5 tables, integrity ok" in lines
    assert "attachments 12 files, 234.4 KiB" in lines
    assert any(line.startswith(f"{tmp_path} ") and "reflinks: " in line for line in lines)


def test_every_setting_has_its_origin(
    instance: Instance, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOKE_OPS_INSTANCE_ROOT", "/srv")
    monkeypatch.setenv("INVOKE_OPS_MANAGE", "python 'a manage.py'")
    monkeypatch.setenv("INVOKE_OPS_SOURCE_DB", "/b")
    monkeypatch.setenv("INVOKE_OPS_LOCK_TIMEOUT", "2.5")
    monkeypatch.setenv("INVOKE_OPS_PING", "https://hc-ping.com/secret")
    monkeypatch.setenv("INVOKE_OPS_METRICS", "/a.prom")
    monkeypatch.setenv("SQLITE_FILE", "/c")
    monkeypatch.setenv("USE_S3", "False")
    (Path.home() / ".invoke.yaml").write_text("ops:\n  source_attachments: /d\n  profile: none\n")
    document = run_here(capsys, "status", "--json", *from_flags(instance)).document
    rows = {(row["name"], row["origin"]): row["value"] for row in document["settings"]}
    assert rows["profile", "ops.profile in a configuration file"] == "none"
    assert rows["source database", "--source-db"] == str(instance.database)
    assert rows["source database", "INVOKE_OPS_SOURCE_DB"] == "/b"
    assert rows["source attachments", "ops.source_attachments in a configuration file"] == "/d"
    assert rows["SQLITE_FILE", "environment"] == "/c"
    assert rows["instance root", "INVOKE_OPS_INSTANCE_ROOT"] == "/srv"
    assert rows["lock timeout", "INVOKE_OPS_LOCK_TIMEOUT"] == "2.5"
    assert rows["manage", "INVOKE_OPS_MANAGE"] == "python 'a manage.py'"
    assert rows["ping", "INVOKE_OPS_PING"] == "https://hc-ping.com/…"
    assert rows["metrics", "INVOKE_OPS_METRICS"] == "/a.prom"
    flags = ("--profile", "ciso_assistant", *from_flags(instance))
    document = run_here(capsys, "status", "--json", *flags).document
    rows = {(row["name"], row["origin"]): row["value"] for row in document["settings"]}
    assert rows["profile", "--profile"] == "ciso_assistant"
    assert rows["USE_S3", "environment"] == "False"
    assert rows["POSTGRES_NAME", "environment"] == ""
    lines = run_here(capsys, "status", *flags).out
    assert "POSTGRES_NAME" not in lines
    assert "USE_S3" in lines


def test_a_profile_without_variables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile = tmp_path / "own.toml"
    profile.write_text('title = "Own"')
    document = run_here(capsys, "status", "--json", "--profile", profile).document
    names = [row["name"] for row in document["settings"]]
    assert "SQLITE_FILE" not in names
    assert "" not in names
    assert document["settings"][0] == {
        "name": "profile",
        "value": str(profile),
        "origin": "--profile",
    }


def test_no_source_is_part_of_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    ran = run_here(capsys, "status")
    assert "  not usable: no source: nothing says which instance to read" in ran.out
    assert "  hint: give --source-db and --source-attachments" in ran.out
    assert "found by" not in ran.out
    assert "File systems" not in ran.out
    assert ran.err == ""


def test_a_source_that_cannot_be_used_is_part_of_the_answer(
    instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.database.unlink()
    os.mkfifo(instance.database)
    ran = run_here(capsys, "status", *from_flags(instance))
    assert "found by     flags" in ran.out
    assert f"  not usable: the database is not a regular file: {instance.database}" in ran.out
    assert "hint:" not in ran.out
    document = run_here(capsys, "status", "--json", *from_flags(instance)).document
    assert document["ok"] is False
    assert document["source"]["usable"] is False
    assert document["source"]["problem"]["exit_code"] == 3


def test_warnings_about_the_source(instance: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    (instance.attachments / "out").symlink_to("/etc")
    assert "warning link-outside: out: " in run_here(capsys, "status", *from_flags(instance)).out
    document = run_here(capsys, "status", "--json", *from_flags(instance)).document
    assert [found["kind"] for found in document["source"]["findings"]] == ["link-outside"]


def test_configuration_that_cannot_be_read_is_a_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_here(capsys, "status", "--profile", "nope").code == 2


def test_a_destination_below_a_file(instance: Instance) -> None:
    settings = read_settings({}, environment={})
    with pytest.raises(DestinationError, match="a file stands where a directory must be"):
        examine(settings, (instance.database / "below" / "db",))
    with pytest.raises(UsageError):
        examine(read_settings({"profile": "nope"}, environment={}), ())


# File systems


def test_abilities(tmp_path: Path) -> None:
    place = look_at_place(tmp_path, write=True)
    assert place.bytes_total >= place.bytes_free > 0
    assert place.read_only is False
    assert place.reflinks in {True, False}
    assert look_at_place(tmp_path, write=False).reflinks is None
    assert list(tmp_path.iterdir()) == [tmp_path / "home"]


def test_memory_file_system(tmp_path: Path) -> None:
    with mounted(tmp_path / "disc", "tmpfs", "size=1m") as disc:
        place = look_at_place(disc, write=True)
        assert (place.kind, place.read_only, place.reflinks) == ("tmpfs", False, False)
        assert place.bytes_total == 1 << 20


def test_read_only_file_system(
    tmp_path: Path, instance: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    with mounted(tmp_path / "disc", "tmpfs", "ro") as disc:
        place = look_at_place(disc, write=True)
        ran = run_here(capsys, "status", *from_flags(instance), "--dest-db", disc / "db")
    assert (place.read_only, place.reflinks) == (True, None)
    assert "reflinks: not tried; read-only" in ran.out


def test_unlimited_inodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mounted(tmp_path / "disc", "ramfs", "mode=755") as disc:
        assert look_at_place(disc, write=False).inodes_free is None
        ran = run_here(capsys, "status", "--dest-db", disc / "db")
    assert " inodes free" not in ran.out


@pytest.mark.parametrize("name", ["my disc", "été", os.fsdecode(b"\xff"), "back\\slash", "tab\t"])
def test_mount_points_of_any_name(name: str, tmp_path: Path) -> None:
    with mounted(tmp_path / name, "tmpfs", "size=1m") as disc:
        (disc / "below").mkdir()
        assert look_at_place(disc, write=False).kind == "tmpfs"
        assert look_at_place(disc / "below", write=False).kind == "tmpfs"


def test_a_mount_over_a_mount(tmp_path: Path) -> None:
    with mounted(tmp_path / "disc", "tmpfs", "size=1m") as disc, mounted(disc, "ramfs", "mode=755"):
        assert look_at_place(disc, write=False).kind == "ramfs"


def test_reflinks_where_there_are_some() -> None:
    probe = os.environ.get("CISO_OPS_REFLINK_DIRECTORY", "")
    if not probe:
        pytest.skip("name a directory on XFS or Btrfs in CISO_OPS_REFLINK_DIRECTORY")
    assert look_at_place(Path(probe), write=True).reflinks is True


def test_other_platforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.mounts._TABLE", tmp_path / "none")
    monkeypatch.delattr("os.listxattr", raising=False)
    monkeypatch.delattr("os.O_TMPFILE", raising=False)
    place = look_at_place(tmp_path, write=True)
    assert (place.kind, place.xattrs, place.reflinks) == ("unknown", None, None)


def test_a_directory_that_is_gone(tmp_path: Path) -> None:
    assert status_module._has_xattrs(tmp_path / "gone") is False  # noqa: SLF001 - every file system here has them
    with pytest.raises(FileNotFoundError):
        look_at_place(tmp_path / "gone", write=False)


def test_places_are_values(tmp_path: Path) -> None:
    place = look_at_place(tmp_path, write=False)
    assert isinstance(place, Place)
    assert hash(place) == hash(place)
