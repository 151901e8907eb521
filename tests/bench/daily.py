"""The second day: one more snapshot of a tree of which little or nothing changed."""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import CommandError, Contestant, Step
from tests.bench.peers import ROOT

BACKUP = "ours: backup-daily"
LINK_DEST = "rsync -a --link-dest"
RESTIC = "restic backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Daily:
    """Where the snapshots of each contestant go, and what they are of.

    Every run makes one snapshot more, on the one before it; the first is a warm-up. Before each
    run some files get another content, so that `changed` of all are others for each contestant.
    """

    root: Path
    attachments: Path
    changed: float

    @property
    def store(self) -> Path:
        """Our store."""
        return self.root / "store"

    @property
    def linked(self) -> Path:
        """Where rsync's copies go: the last one, and the next."""
        return self.root / "rsync"

    @property
    def repository(self) -> Path:
        """The repository of restic."""
        return self.root / "restic"

    def contestants(self) -> tuple[Contestant, ...]:
        """Return who takes part, ourselves first."""
        database = self.root / "db.sqlite3"
        ours = (
            *(sys.executable, "-m", "invoke", "backup-daily", "--profile", "none"),
            *("--store", self.store, "--source-db", database),
            *("--source-attachments", self.attachments),
        )
        last, following = self.linked / "last", self.linked / "next"
        rsync = ("rsync", "-a", f"--link-dest={last}", f"{self.attachments}/", f"{following}/")
        password = self.root / "password"
        restic = (
            *("restic", "-q", "-r", self.repository, "--password-file", password, "--no-cache"),
            *("backup", self.attachments),
        )
        steps = {BACKUP: (ours, ROOT), LINK_DEST: (rsync, self.root), RESTIC: (restic, self.root)}
        return tuple(
            Contestant(
                name=name,
                steps=(Step(programs=(tuple(map(str, words)),), directory=where, exit_code=0),),
            )
            for name, (words, where) in steps.items()
        )

    def begin(self) -> None:
        """Make ready for the first run."""
        self.root.mkdir()
        self.linked.mkdir()
        (self.linked / "last").mkdir()
        connection = sqlite3.connect(self.root / "db.sqlite3")
        connection.execute("CREATE TABLE t (x)")
        connection.close()
        (self.root / "password").write_text("bench\n")
        restic = shutil.which("restic")
        if restic is not None:
            password = self.root / "password"
            subprocess.run(
                (restic, "-q", "-r", self.repository, "--password-file", password, "init"),
                check=True,
            )

    def prepare(self) -> None:
        """Rotate rsync's copies, and change some files."""
        if (self.linked / "next").exists():
            shutil.rmtree(self.linked / "last")
            (self.linked / "next").rename(self.linked / "last")
        if not self.changed:
            return
        paths = sorted(path for path in self.attachments.rglob("*") if path.is_file())
        chance = random.Random(len(list(self.root.glob("store/2*"))))  # noqa: S311 - test data
        for path in chance.sample(paths, round(len(paths) * self.changed / 3)):
            path.write_bytes(chance.randbytes(path.stat().st_size))

    def check(self, name: str, files: int) -> None:
        """See that a run made what it should."""
        newest = {
            BACKUP: lambda: self.store / "latest" / "data" / "attachments",
            LINK_DEST: lambda: self.linked / "next",
        }.get(name)
        if newest is None:
            return
        found = sum(len(names) for _, _, names in os.walk(newest()))
        if found != files:
            raise CommandError(f"{name}: has {found:,} files of {files:,}")
