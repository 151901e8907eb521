"""One file of a snapshot: ours, which reads it again and compares, and what others make."""

import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ops.archive.age import age_module
from tests.bench.measure import CommandError, Contestant, Step
from tests.bench.peers import ROOT

PACK = "ours: pack"
PACK_SECRET = "ours: pack --recipient"  # noqa: S105 - a name
TAR = "tar, zstd -T0"
TAR_COMPARED = "tar, zstd -T0, sync, zstd -d, tar --compare"
TAR_SECRET = "tar, zstd -T0, age"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """A store with one snapshot, and where the archives of it go."""

    root: Path
    attachments: Path
    destination: Path

    @property
    def store(self) -> Path:
        """The store."""
        return self.root / "store"

    @property
    def archive(self) -> Path:
        """The archive that each contestant makes."""
        return self.destination / "archive"

    def begin(self) -> None:
        """Make the snapshot."""
        self.root.mkdir()
        database = self.root / "db.sqlite3"
        connection = sqlite3.connect(database)
        connection.execute("CREATE TABLE t (x)")
        connection.close()
        words = (
            *(sys.executable, "-m", "invoke", "backup-daily", "--profile", "none"),
            *("--store", self.store, "--source-db", database),
            *("--source-attachments", self.attachments),
        )
        subprocess.run(words, check=True, cwd=ROOT, capture_output=True)

    def contestants(self) -> tuple[Contestant, ...]:
        """Return who takes part: two of ours, then three of others."""
        name = (self.store / "latest").readlink().name
        public = str(age_module().x25519.Identity.generate().to_public())
        ours = (
            *(sys.executable, "-m", "invoke", "pack", "--store", self.store),
            *("--archive", self.archive),
        )
        tar = ("tar", "c", "-C", self.store, name)
        zstd = ("zstd", "-q", "-T0")
        compare = (("zstd", "-dc", self.archive), ("tar", "--compare", "-C", self.store))
        plain = _step(tar, (*zstd, "-o", self.archive))
        steps = {
            PACK: (_step(ours, directory=ROOT),),
            PACK_SECRET: (_step((*ours, "--recipient", public), directory=ROOT),),
            TAR: (plain,),
            TAR_COMPARED: (plain, _step(("sync", self.archive)), _step(*compare)),
            TAR_SECRET: (_step(tar, zstd, ("age", "-r", public, "-o", self.archive)),),
        }
        return tuple(Contestant(name=who, steps=each) for who, each in steps.items())

    def check(self, name: str, least: int) -> None:
        """See that a contestant made an archive of such data, which hardly can be compressed."""
        size = self.archive.stat().st_size if self.archive.exists() else 0
        if size < 0.9 * least:
            raise CommandError(f"{name}: made {size:,} bytes of at least {least:,}")


def _step(*programs: tuple[str | Path, ...], directory: Path = Path("/")) -> Step:
    words = tuple(tuple(map(str, program)) for program in programs)
    return Step(programs=words, directory=directory)
