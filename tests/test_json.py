"""One JSON document on standard output, whatever happens."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ops.demo_instance import build_instance
from ops.model import Instance
from ops.report import SCHEMA_VERSION
from tests.command import Ran, from_flags, run, run_here, to_flags

FINDING = {"kind", "severity", "where", "expected", "found"}


def document_of(ran: Ran, command: str, *, ok: bool) -> dict[str, Any]:
    """Check what every document has, and that there is exactly one."""
    document, end = json.JSONDecoder().raw_decode(ran.out)
    assert ran.out[end:] == "\n"
    assert ran.out.isascii()
    assert isinstance(document, dict)
    assert document["schema_version"] == SCHEMA_VERSION == 1
    assert document["command"] == command
    assert document["ok"] is ok
    for finding in document.get("findings", []):
        assert set(finding) == FINDING
        assert all(isinstance(value, str) for value in finding.values())
    return document


def test_clone(instance: Instance, destination: Instance, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest"
    ran = run(
        "clone",
        "--force",
        "--json",
        *from_flags(instance),
        *to_flags(destination),
        "--manifest",
        manifest,
    )
    assert ran.code == 0, ran.err
    document = document_of(ran, "clone", ok=True)
    assert document["dry_run"] is False
    assert document["profile"] == "ciso_assistant"
    assert document["source"] == {
        "database": str(instance.database),
        "attachments": str(instance.attachments),
        "origin": "flags",
    }
    assert document["destination"] == {
        "database": str(destination.database),
        "attachments": str(destination.attachments),
        "manifest": str(manifest),
    }
    assert document["replaces"] == {
        "database_bytes": None,
        "files": None,
        "attachments_bytes": None,
    }
    copied = document["copied"]
    assert copied["files"] == 12
    assert copied["bytes"] == copied["database_bytes"] + copied["attachments_bytes"]
    assert copied["database_bytes"] == destination.database.stat().st_size
    assert document["planned"]["files"] == 12
    assert document["checks"]["digests_right"] == 12
    assert document["captured"]["rounds"] == 1
    assert document["seconds"] > 0
    assert document["environment"] == {
        "SQLITE_FILE": str(destination.database),
        "LOCAL_STORAGE_DIRECTORY": str(destination.attachments),
    }
    assert (document["errors"], document["warnings"], document["notes"]) == (0, 0, 0)
    assert "Cloned" not in ran.err, "people's lines are not printed twice"
    assert "copy attachments …" in ran.err


def test_dry_run(instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = build_instance(tmp_path / "old", evidences=2)
    ran = run_here(capsys, "clone", "--dry-run", "--json", *from_flags(instance), *to_flags(old))
    document = document_of(ran, "clone", ok=True)
    assert document["dry_run"] is True
    assert document["replaces"]["files"] == 2
    assert document["replaces"]["database_bytes"] == old.database.stat().st_size
    assert document["destination"]["manifest"] is None
    assert {"copied", "seconds", "environment"} & set(document) == set()
    (room,) = document["room"]
    assert room["bytes_needed"] < room["bytes_free"]
    assert room["path"] == str(tmp_path / "old" / "db")


def test_no_variables_of_an_application_that_has_none(
    instance: Instance, destination: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = tmp_path / "own.toml"
    profile.write_text('title = "Own"\n[source]\ndatabase_variable = "OWN_DB"')
    flags = (*from_flags(instance), *to_flags(destination), "--profile", profile)
    document = document_of(run_here(capsys, "clone", "--force", "--json", *flags), "clone", ok=True)
    assert document["environment"] == {"OWN_DB": str(destination.database)}
    assert document["profile"] == "own"


@pytest.mark.parametrize(
    ("flags", "code", "says"),
    [
        (("clone", "--json"), 2, "--dest-db is required"),
        (("clone", "--json", "--dest-db=-x"), 2, "--dest-db lacks its value"),
        (("clone", "--json", "--dest-db=x", "--dest-attachments=y"), 2, "nobody can answer"),
        (("clone", "--json", "--force", "--dest-db=x", "--dest-attachments=y"), 2, "no source"),
        (
            ("clone", "--json", "--force", "--dest-db=/proc/x/y", "--dest-attachments=/proc/z/y"),
            2,
            "no source",
        ),
        (("verify", "--json"), 2, "--dest-db is required"),
        (("verify", "--json", "--dest-db=/no", "--dest-attachments=/no"), 4, "not found: /no"),
        (("verify", "--json", "--source-db=/a"), 2, "--source-attachments is required"),
        (("status", "--json", "--profile=nope"), 2, "no such profile: nope"),
        (("status", "--json", "--dest-db=/etc/passwd/x/y"), 4, "a file stands where"),
    ],
)
def test_failures(
    flags: tuple[str, ...], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_here(capsys, *flags)
    assert ran.code == code
    document = document_of(ran, flags[0], ok=False)
    assert set(document) == {"schema_version", "command", "ok", "error", "findings"}
    assert document["error"]["exit_code"] == code
    assert says in document["error"]["message"]
    assert f"error: {document['error']['message']}" == ran.error_line
    hint = document["error"]["hint"]
    assert (f"hint: {hint}" if hint else "") == ran.hint_line


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_failures_of_the_real_command(code: int, instance: Instance, destination: Instance) -> None:
    flags = [*from_flags(instance), *to_flags(destination)]
    if code == 2:
        flags = flags[2:]
    elif code == 3:
        instance.database.write_bytes(b"")
    elif code == 4:
        destination.database.mkdir(parents=True)
    else:
        (instance.attachments / "policy_7.pdf").unlink()
    ran = run("clone", "--force", "--json", *flags)
    assert ran.code == code, ran.err
    document = document_of(ran, "clone", ok=False)
    assert document["error"]["exit_code"] == code
    found = document["findings"]
    assert [finding["kind"] for finding in found] == (["missing-file"] if code == 5 else [])


def test_unexpected_failure(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name too long for its sidecars comes as an OSError at the time of writing."""
    flags = ("--dest-db", tmp_path / ("n" * 252), "--dest-attachments", tmp_path / "files")
    ran = run_here(capsys, "clone", "--force", "--json", *from_flags(instance), *flags)
    assert ran.code != 0
    assert document_of(ran, "clone", ok=False)["error"]["exit_code"] == ran.code


def test_verify(instance: Instance, tmp_path: Path) -> None:
    copy = Instance(database=tmp_path / "db", attachments=tmp_path / "files")
    shutil.copy(instance.database, copy.database)
    shutil.copytree(instance.attachments, copy.attachments)
    (copy.attachments / "orphan").write_text("")
    flags = (*to_flags(copy), *from_flags(instance))
    ran = run("verify", "--json", *to_flags(copy))
    assert ran.code == 0, ran.err
    document = document_of(ran, "verify", ok=True)
    assert document["notes"] == 1
    assert document["findings"][0]["kind"] == "orphan"
    assert document["source"] is None
    assert document["manifest"] is None
    assert document["quick"] is False
    assert document["checks"]["files"] == 13
    ran = run("verify", "--json", "--quick", *flags)
    assert ran.code == 5
    document = document_of(ran, "verify", ok=False)
    assert document["errors"] >= 1
    assert document["source"]["database"] == str(instance.database)
    assert document["quick"] is True
    assert "do not trust" in ran.error_line


def test_verify_with_a_manifest(
    instance: Instance, destination: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "manifest"
    flags = (*from_flags(instance), *to_flags(destination), "--manifest", manifest)
    assert run_here(capsys, "clone", "--force", *flags).code == 0
    ran = run_here(capsys, "verify", "--json", *to_flags(destination), "--manifest", manifest)
    assert document_of(ran, "verify", ok=True)["manifest"] == str(manifest)
    ran = run_here(
        capsys, "verify", "--json", *to_flags(destination), *from_flags(instance), "--manifest", "x"
    )
    assert ran.code == 2
    document = document_of(ran, "verify", ok=False)
    assert document["error"]["message"] == "--manifest and a source exclude each other"


def test_status(instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run("status", "--json", *from_flags(instance), "--dest-db", tmp_path / "new" / "db")
    document = document_of(ran, "status", ok=True)
    assert document["source"]["usable"] is True
    assert document["source"]["files"] == 12
    assert document["source"]["tables"] == 5
    assert document["source"]["way"] == "at rest"
    assert set(document["versions"]) == {"ciso-ops", "Python", "SQLite", "system"}
    assert document["file_systems"][-1]["path"] == str(tmp_path)
    assert document["file_systems"][-1]["bytes_free"] > 0
    document = document_of(run_here(capsys, "status", "--json"), "status", ok=False)
    assert document["source"]["usable"] is False
    assert document["source"]["problem"]["exit_code"] == 2
    assert "origin" not in document["source"]
    assert document["file_systems"] == []


def test_names_that_are_no_text(instance: Instance, tmp_path: Path) -> None:
    (instance.attachments / "orphan \udcff\n\u2028").write_text("")
    copy = Instance(database=tmp_path / "\udcfe" / "db", attachments=tmp_path / "\udcfe" / "files")
    ran = run("clone", "--force", "--json", *from_flags(instance), *to_flags(copy))
    assert ran.code == 0, ran.err
    document = document_of(ran, "clone", ok=True)
    assert document["findings"][0]["where"].endswith("orphan \\xff\\n\\u2028")
    assert document["destination"]["database"] == f"{tmp_path}/\\xfe/db"
    again = run("clone", "--dry-run", "--json", *from_flags(instance), *to_flags(copy))
    (room,) = document_of(again, "clone", ok=True)["room"]
    assert room["path"] == f"{tmp_path}/\\xfe"


def test_the_question_leaves_standard_output_alone(
    instance: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("clone", *from_flags(instance), *to_flags(destination))
    ran = run_here(capsys, *flags, "--dry-run")
    assert "to copy" in ran.out
    ran = run_here(capsys, *flags, "--force")
    assert "to copy" in ran.err
    assert "to copy" not in ran.out
