"""What becomes of attachments in a staging refresh: placeholders, kept files, or none."""

import hashlib
import io
import os
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from ops.demo_instance import connect
from ops.model import Instance
from tests.command import from_flags, run_here, to_flags
from tests.filesystem import footprint, read
from tests.planted import (
    ALICE,
    BOB,
    CONTENT,
    PLANTED,
    SECRETS,
    TELLING,
    add_file,
    build_planted,
    grep,
    refresh,
)

STEM = "SELECT attachment, attachment_hash FROM core_evidencerevision"


@pytest.fixture
def planted(tmp_path: Path) -> Instance:
    """Make an instance with everything planted."""
    return build_planted(tmp_path / "planted")


def document(text: str, *, damage: str = "") -> bytes:
    """Make an office document, which is a ZIP archive, with a text in a compressed part."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", f"<w:t>{text}</w:t>" * 50)
    content = bytearray(made.getvalue())
    assert text.encode() not in content
    if damage == "encrypted":
        for sign, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            content[content.index(sign) + place] |= 1
    if damage == "damaged":
        content[content.index(b"document.xml") + len(b"document.xml") + 3] ^= 0xFF
    return bytes(content)


def files_of(copy: Instance) -> set[str]:
    """List the files of a copy but the marker."""
    found = {
        os.path.relpath(os.path.join(parent, name), copy.attachments)
        for parent, _, names in os.walk(copy.attachments)
        for name in names
    }
    assert "STAGING.txt" in found
    return found - {"STAGING.txt"}


def test_placeholders_have_neutral_names_of_the_same_type_and_right_digests(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    add_file(planted, f"{ALICE}/report.PDF", CONTENT.encode())
    add_file(planted, "folder/a.b.tar.gz", CONTENT.encode())
    made = refresh(capsys, planted, destination)
    rows = made.query(STEM)
    assert {name for name, _ in rows} == files_of(destination)
    for name, digest in rows:
        path = destination.attachments / name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
        assert path.name.startswith("STAGING-")
        assert b"STAGING" in path.read_bytes() or path.suffix not in {".pdf", ".txt"}
    assert sorted(os.path.splitext(name)[1] for name, _ in rows) == [
        ".PDF",
        ".gz",
        ".pdf",
        ".pdf",
        ".txt",
        ".xlsx",
    ]
    assert {name.split("/")[0] for name, _ in rows if "/" in name} > {"folder"}
    assert grep([*PLANTED, CONTENT], destination.database.parent) == set()


def test_placeholders_need_no_files(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    (planted.attachments / TELLING).unlink()
    made = refresh(capsys, planted, destination)
    assert len(files_of(destination)) == 4
    assert made.document["errors"] == 0


def test_without_attachments_the_rows_name_none(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    made = refresh(capsys, planted, destination, "--attachments", "none")
    assert set(made.query(STEM)) == {(None, None)}
    assert len(made.query(STEM)) == 4
    assert files_of(destination) == set()
    text = (destination.attachments / "STAGING.txt").read_text()
    assert text.startswith("STAGING: this is not production.")


def test_kept_files_are_those_that_rows_name(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    add_file(planted, f"of {ALICE}/inner/plain.txt", b"kept")
    (planted.attachments / "orphan.txt").write_text("nobody names it")
    (planted.attachments / "empty").mkdir()
    made = refresh(capsys, planted, destination, "--attachments", "keep")
    rows = dict(made.query(STEM))
    assert set(rows) == files_of(destination)
    for name, digest in rows.items():
        path = destination.attachments / name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert made.document["files_left_out"] == 1
    assert made.document["files"] == 5
    assert not (destination.attachments / "empty").exists()
    (nested,) = [name for name in rows if name.endswith("inner/plain.txt")]
    assert nested.startswith("STAGING-")
    (renamed,) = [name for name in rows if name.startswith("STAGING-") and "/" not in name]
    assert (destination.attachments / renamed).read_bytes() == CONTENT.encode()
    assert renamed.endswith(".pdf")
    assert made.findings("original-left") == {}
    assert grep(PLANTED, destination.database.parent) == set()
    # What was kept is as it was: the content, the mode and the times.
    before, after = read(planted.attachments), read(destination.attachments)
    for name in (b"-rf.txt", "名前 with spaces.xlsx".encode()):
        assert after[name] == before[name]


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("plain.txt", f"write to {ALICE}".encode(), "original-left"),
        ("letter.docx", document(f"write to {BOB}"), "original-left"),
        ("letter.docx", document(f"use {SECRETS[11]} here"), "original-left"),
        ("harmless.docx", document("nothing"), ""),
        ("locked.zip", document(f"write to {BOB}", damage="encrypted"), "not-searched"),
        ("damaged.zip", document(f"write to {BOB}", damage="damaged"), "not-searched"),
        ("cut.zip", document(f"write to {BOB}")[:-30], ""),
    ],
)
def test_kept_files_are_searched(
    name: str,
    content: bytes,
    kind: str,
    instance_and_copy: tuple[Instance, Instance],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What holds an original is a warning with the file's name, as is what cannot be searched."""
    planted, destination = instance_and_copy
    add_file(planted, name, content)
    made = refresh(capsys, planted, destination, "--attachments", "keep")
    assert (destination.attachments / name).read_bytes() == content
    for one in ("original-left", "not-searched"):
        where = {place for place in made.findings(one) if not place.endswith("secrets")}
        assert where == ({name} if one == kind else set())
    assert {one["severity"] for one in made.document["findings"] if one["where"] == name} <= {
        "warning"
    }


@pytest.fixture
def instance_and_copy(planted: Instance, destination: Instance) -> tuple[Instance, Instance]:
    """Name a source and a destination."""
    return planted, destination


@pytest.mark.parametrize("attachments", ["keep", "placeholder"])
@pytest.mark.parametrize("name", ["STAGING.txt", "staging.TXT", "STAGING.txt/inner.txt"])
def test_a_file_with_the_name_of_the_marker_gets_another(
    name: str,
    attachments: str,
    instance_and_copy: tuple[Instance, Instance],
    capsys: pytest.CaptureFixture[str],
) -> None:
    planted, destination = instance_and_copy
    add_file(planted, name, CONTENT.encode())
    made = refresh(capsys, planted, destination, "--attachments", attachments)
    assert (destination.attachments / "STAGING.txt").read_text().startswith("STAGING: ")
    assert {name for name, _ in made.query(STEM)} == files_of(destination)
    again = destination.database.parent.parent / "again"
    copy = Instance(database=again / "db", attachments=again / "attachments")
    twice = refresh(capsys, made.copy, copy, "--attachments", "keep")
    assert set(twice.query(STEM)) == set(made.query(STEM))


@pytest.mark.parametrize(
    ("damage", "code", "said"),
    [("missing", 5, TELLING), ("link", 3, "no plain file"), ("directory", 5, "there is directory")],
)
def test_what_cannot_be_kept_is_refused(
    damage: str,
    code: int,
    said: str,
    instance_and_copy: tuple[Instance, Instance],
    capsys: pytest.CaptureFixture[str],
) -> None:
    planted, destination = instance_and_copy
    path = planted.attachments / TELLING
    path.unlink()
    if damage == "link":
        path.symlink_to("-rf.txt")
    if damage == "directory":
        path.mkdir()
    before = footprint(planted.database.parent)
    ran = run_here(capsys, "staging-refresh", "--force", "--attachments", "keep",
                   *from_flags(planted), *to_flags(destination))  # fmt: skip
    assert (ran.code, said in ran.err) == (code, True), ran.err
    assert not destination.database.parent.exists()
    assert footprint(planted.database.parent) == before


def test_a_path_out_of_the_attachments_gets_a_placeholder_inside(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(connect(planted.database)) as connection:
        connection.execute("UPDATE core_evidencerevision SET attachment = '../../etc/passwd'"
                           " WHERE attachment = ?", (TELLING,))  # fmt: skip
    made = refresh(capsys, planted, destination)
    assert {name for name, _ in made.query(STEM)} == files_of(destination)
    assert not any(".." in name for name, _ in made.query(STEM))


def test_an_unknown_word_is_refused(
    planted: Instance, destination: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = run_here(capsys, "staging-refresh", "--force", "--attachments", "all",
                   *from_flags(planted), *to_flags(destination))  # fmt: skip
    assert ran.code == 2
    assert "placeholder, keep, none" in ran.error_line
    assert not destination.database.parent.exists()
