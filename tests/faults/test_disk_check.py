"""What the disk holds and what memory holds: a check tells where it looks.

The bytes of a file are changed behind the file system's back, in the image that it lies in: so
does a disk that takes what is written, and gives something else.
"""

import mmap
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.clone import run_clone
from ops.demo_instance import build_instance, connect
from ops.errors import VerificationError
from ops.model import Instance, Progress, Severity
from ops.tree.work import LARGE_BYTES
from tests.command import from_flags, run_here, to_flags
from tests.faults.filesystems import volume
from tests.pipeline import CLOCK, check, clone, plan, quiet, request_for

BLOCK = 4096


@dataclass(frozen=True)
class Disk:
    """A file system, and the image that it lies in."""

    point: Path
    image: Path

    def spoil(self, content: bytes) -> None:
        """Change a byte of a block on the disk, which must be there once."""
        os.sync()
        with self.image.open("r+b") as file:
            with mmap.mmap(file.fileno(), 0) as whole:
                place = whole.find(content)
                assert place >= 0, "it is not on the disk yet"
                assert whole.find(content, place + 1) < 0, "it is there twice"
                whole[place + 100] ^= 0xFF
                whole.flush()
            os.fsync(file.fileno())


@pytest.fixture(scope="module")
def disk() -> Iterator[Disk]:
    """Make a file system."""
    with volume("ext4") as point:
        yield Disk(point, point.parent / "image")


@pytest.fixture
def place(disk: Disk) -> Iterator[Path]:
    """Make a directory on it."""
    with tempfile.TemporaryDirectory(dir=disk.point) as name:
        yield Path(name)


def block(seed: int) -> bytes:
    """Make a block like no other."""
    return random.Random(f"block {seed}").randbytes(BLOCK)  # noqa: S311 - made-up content


BLOCKS = iter(range(1_000_000))


@dataclass(frozen=True)
class Made:
    """A source elsewhere, and one block of each of its files."""

    source: Instance
    blocks: dict[str, bytes]


FILES = {"below/empty-ended": 1, "below/small": 3, "below/of two pieces": 100, "large": 2100}
"""Files, and how many blocks they have."""


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Make a source with files of every size, and a row that fills a page."""
    source = build_instance(tmp_path / "production", evidences=3)
    (source.attachments / "below").mkdir()
    blocks: dict[str, bytes] = {}
    assert max(FILES.values()) * BLOCK > LARGE_BYTES
    for name, count in FILES.items():
        content = [block(next(BLOCKS)) for _ in range(count)]
        (source.attachments / name).write_bytes(b"".join(content))
        blocks[name] = content[count // 2]
    connection = connect(source.database)
    value = b"".join(block(next(BLOCKS)) for _ in range(4))
    connection.execute("CREATE TABLE other (a)")
    connection.execute("INSERT INTO other VALUES (?)", (value,))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    stored = source.database.read_bytes()
    # The value is cut to pages, after their heads.
    blocks["database"] = next(
        piece for at in range(BLOCK, len(value), 500) if (piece := value[at : at + 1000]) in stored
    )
    return Made(source, blocks)


def errors(instance: Instance, *, jobs: int, from_disk: bool, **against: object) -> list[str]:
    """Verify, and list where something is wrong."""
    found = check(instance, jobs=jobs, from_disk=from_disk, **against)  # type: ignore[arg-type]
    return [one.where for one in found.findings if one.severity is Severity.ERROR]


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("name", FILES)
def test_verify_finds_on_the_disk_what_memory_does_not_tell(
    name: str, jobs: int, disk: Disk, place: Path, made: Made
) -> None:
    copy = Instance(database=place / "db", attachments=place / "files")
    manifest = place / "manifest"
    clone(made.source, copy, manifest=manifest)
    for path in copy.attachments.rglob("*"):  # so that memory has them
        if path.is_file():
            path.read_bytes()
    disk.spoil(made.blocks[name])

    assert errors(copy, jobs=jobs, from_disk=False, manifest=manifest) == []
    assert errors(copy, jobs=jobs, from_disk=False, source=made.source) == []
    assert errors(copy, jobs=jobs, from_disk=True, manifest=manifest) == [f"{name}: content"]
    assert errors(copy, jobs=jobs, from_disk=False, manifest=manifest) == [f"{name}: content"]


def test_the_command_looks_where_it_is_told(
    disk: Disk, place: Path, made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Instance(database=place / "db", attachments=place / "files")
    clone(made.source, copy)
    (copy.attachments / "below" / "small").read_bytes()
    disk.spoil(made.blocks["below/small"])
    flags = ("--json", *from_flags(made.source), *to_flags(copy))
    for value, code in (("memory", 0), ("disk", 5)):
        ran = run_here(capsys, "verify", "--check", value, *flags)
        assert ran.code == code, ran.err
        assert ("below/small: content" in ran.out) == (code != 0)


@pytest.mark.parametrize("jobs", [1, 2])
def test_verify_reads_the_database_from_the_disk_too(
    jobs: int, disk: Disk, place: Path, made: Made
) -> None:
    copy = Instance(database=place / "db", attachments=place / "files")
    manifest = place / "manifest"
    clone(made.source, copy, manifest=manifest)
    copy.database.read_bytes()
    disk.spoil(made.blocks["database"])

    assert errors(copy, jobs=jobs, from_disk=False, manifest=manifest) == []
    (wrong,) = errors(copy, jobs=jobs, from_disk=True, manifest=manifest)
    assert wrong.startswith("database: table other, page ")


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("name", ["below/small", "below/of two pieces", "large"])
def test_a_clone_finds_on_the_disk_what_memory_does_not_tell(
    name: str, jobs: int, disk: Disk, place: Path, made: Made
) -> None:
    """The disk loses it after it was flushed, while other files are checked."""
    copy = Instance(database=place / "db", attachments=place / "files")
    for from_disk in (False, True):
        spoilt: list[str] = []

        def act(progress: Progress, spoilt: list[str] = spoilt) -> None:
            if progress.step == "re-read attachments" and not spoilt:
                disk.spoil(made.blocks[name])
                spoilt.append(name)

        planned = plan(request_for(made.source, copy, jobs=jobs, from_disk=from_disk))
        if not from_disk:
            run_clone(planned, clock=CLOCK, progress=act)
            for path in (copy.database, *copy.attachments.rglob("*")):
                if path.is_file():  # or the next run would see its content twice on the disk
                    path.write_bytes(b"")
            continue
        with pytest.raises(VerificationError) as caught:
            run_clone(planned, clock=CLOCK, progress=act)
        wrong = [one.where for one in caught.value.findings if one.severity is Severity.ERROR]
        assert wrong == [f"{name}: content"]
        assert spoilt == [name]


def test_a_clone_from_the_disk_is_whole(place: Path, made: Made) -> None:
    copy = Instance(database=place / "db", attachments=place / "files")
    planned = plan(request_for(made.source, copy, jobs=2, from_disk=True))
    run_clone(planned, clock=CLOCK, progress=quiet)
    assert errors(copy, jobs=2, from_disk=True, source=made.source) == []
