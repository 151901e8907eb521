"""Single files are taken out of a snapshot, exactly and without touching anything else."""

import os
from pathlib import Path

import pytest

from ops.errors import DestinationError, SourceError
from ops.extract import extract
from ops.model import Instance
from ops.store import Snapshot, list_snapshots
from tests.command import Ran, from_flags, run
from tests.filesystem import Directory, File, HardLink, Link, Pipe, build, read
from tests.pipeline import quiet

TREE = Directory(
    {
        b"policies": Directory(
            {
                b"one.pdf": File(b"1", mode=0o640),
                b"two.pdf": File(b"22"),
                b"notes": Directory({b"deep.txt": File(b"deep")}, mode=0o750),
                b"empty": Directory(),
            }
        ),
        b"one.pdf": File(b"at the top"),
        b"odd %\xff\n": File(b"odd"),
        b"twin": HardLink(b"one.pdf"),
        b"link": Link(b"one.pdf"),
        b"pipe": Pipe(),
    }
)


@pytest.fixture
def snapshot(instance: Instance, tmp_path: Path) -> Snapshot:
    """Make a snapshot of an instance with some more files."""
    build(instance.attachments / "more", TREE)
    made = run("backup-daily", "--store", tmp_path / "store", *from_flags(instance))
    assert made.code == 0, made.err
    return list_snapshots(tmp_path / "store")[-1]


def taken(root: Path) -> set[bytes]:
    """List what is below a directory."""
    return {path for path in read(root) if path}


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("more/one.pdf", {b"more", b"more/one.pdf"}),
        ("/more/one.pdf/", {b"more", b"more/one.pdf"}),
        (
            "more/policies/*.pdf",
            {b"more", b"more/policies", b"more/policies/one.pdf", b"more/policies/two.pdf"},
        ),
        (
            "more/policies/notes",
            {
                *(b"more", b"more/policies", b"more/policies/notes"),
                b"more/policies/notes/deep.txt",
            },
        ),
        ("more/twin", {b"more", b"more/twin"}),
        ("more/link", {b"more", b"more/link"}),
        ("more/pipe", {b"more", b"more/pipe"}),
        ("more/odd*", {b"more", b"more/odd %\xff\n"}),
        ("more/policies/empty", {b"more", b"more/policies", b"more/policies/empty"}),
    ],
)
def test_takes_out_what_is_named_as_it_was(
    snapshot: Snapshot, instance: Instance, tmp_path: Path, pattern: str, wanted: set[bytes]
) -> None:
    into = tmp_path / "into"
    extract(snapshot, pattern, into, progress=quiet)
    assert taken(into) == wanted
    original, found = read(instance.attachments), read(into)
    for path in wanted - {b"more/twin"}:
        if path != b"more/one.pdf":  # their number of names is another
            assert found[path] == original[path]
    if b"more/twin" in wanted:
        assert (into / "more/twin").read_bytes() == b"at the top"


def test_hard_links_that_are_both_named_stay_one_file(snapshot: Snapshot, tmp_path: Path) -> None:
    done = extract(snapshot, "more/[ot]*", tmp_path / "into", progress=quiet)
    one, twin = (tmp_path / "into/more" / name for name in ("one.pdf", "twin"))
    assert one.samefile(twin)
    assert done.files == 3


def take_out(snapshot: Snapshot, *flags: str | Path) -> Ran:
    """Run the command."""
    name = ("--snapshot", snapshot.name)
    return run("restore", "--store", snapshot.path.parent, *name, "--json", *flags)


def test_the_command_tells_what_it_took_out(snapshot: Snapshot, tmp_path: Path) -> None:
    ran = take_out(snapshot, "--only", "more/policies", "--into", tmp_path / "into")
    assert ran.code == 0, ran.err
    assert ran.document["files"] == 3
    assert ran.document["bytes"] == 7
    told = run(
        *("restore", "--store", snapshot.path.parent),
        *("--only", "more/one.pdf", "--into", tmp_path / "text"),
    )
    assert "Restored 1 file of" in told.out


def test_a_directory_that_is_not_empty_stays_as_it_is(snapshot: Snapshot, tmp_path: Path) -> None:
    into = tmp_path / "into"
    into.mkdir()
    (into / "mine").write_text("mine")
    with pytest.raises(DestinationError, match="not empty"):
        extract(snapshot, "more/one.pdf", into, progress=quiet)
    assert os.listdir(into) == ["mine"]


def test_an_empty_directory_will_do(snapshot: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "into").mkdir()
    assert extract(snapshot, "more/one.pdf", tmp_path / "into", progress=quiet).files == 1


def test_what_cannot_be_made_is_told(snapshot: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(DestinationError, match="cannot write to"):
        extract(snapshot, "more/one.pdf", tmp_path / "no/where", progress=quiet)


@pytest.mark.parametrize("pattern", ["nothing", "more/none*", "/", ""])
def test_nothing_by_that_name_is_told_and_nothing_made(
    snapshot: Snapshot, tmp_path: Path, pattern: str
) -> None:
    with pytest.raises(SourceError, match="nothing by the name"):
        extract(snapshot, pattern, tmp_path / "into", progress=quiet)
    assert not (tmp_path / "into").exists()


def test_a_damaged_file_is_refused_and_nothing_remains(snapshot: Snapshot, tmp_path: Path) -> None:
    victim = snapshot.instance.attachments / "more/policies/two.pdf"
    victim.chmod(0o600)
    victim.write_bytes(b"2X")
    ran = take_out(snapshot, "--only", "more/policies", "--into", tmp_path / "into")
    assert ran.code == 3
    assert "two.pdf" in ran.err
    assert os.listdir(tmp_path / "into") == []
    assert take_out(snapshot, "--only", "more/one.pdf", "--into", tmp_path / "other").code == 0


@pytest.mark.parametrize(
    "flags",
    [
        ("--only", "x"),
        ("--into", "x"),
        ("--only", "x", "--into", "y", "--dest-db", "z"),
        ("--only", "x", "--into", "y", "--dry-run"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    snapshot: Snapshot, flags: tuple[str, ...]
) -> None:
    ran = take_out(snapshot, *flags)
    assert ran.code == 2
    assert "Traceback" not in ran.err
