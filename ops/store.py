"""A store: the directory that holds snapshots, and what lies in it."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ops.bag import ATTACHMENTS, DATABASE, HISTORY, LEDGER, SUMMARY
from ops.disk import DISK, Disk
from ops.errors import DestinationError, SourceError, os_failure
from ops.model import Instance
from ops.names import display
from ops.snapshot import (
    REPLACED,
    Event,
    SnapshotError,
    Summary,
    decode_events,
    decode_summary,
    encode_event,
    is_snapshot_name,
    is_verified,
)

MARKER = "ciso-ops-store.json"
LATEST = "latest"
_MARK = {"format": "ciso-ops store", "schema_version": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot that lies in a store; `problem` says why its summary cannot be read."""

    path: Path
    summary: Summary | None
    events: tuple[Event, ...] = ()
    problem: str = ""

    @property
    def name(self) -> str:
        """Its name in the store."""
        return self.path.name

    @property
    def instance(self) -> Instance:
        """Where its database and its payload of attachments lie."""
        return Instance(database=self.path / DATABASE, attachments=self.path / ATTACHMENTS)

    @property
    def ledger(self) -> Path:
        """Where its ledger lies."""
        return self.path / LEDGER

    @property
    def verified(self) -> bool:
        """Whether the newest check of it found it sound."""
        return self.summary is not None and not self.problem and is_verified(self.events)

    @property
    def replaced(self) -> bool:
        """Whether it is what a restore took out of its place; only asked for by name."""
        return self.summary is not None and self.summary.purpose == REPLACED


def newest_sound(snapshots: Iterable[Snapshot]) -> Snapshot | None:
    """Return the newest verified snapshot; None if there is none."""
    sound = [one for one in snapshots if one.verified and not one.replaced]
    return sound[-1] if sound else None


def require_store(path: Path) -> Path:
    """Return the real path of a store.

    Raises:
        SourceError: There is none.
    """
    try:
        real = path.resolve(strict=True)
        marked = (real / MARKER).is_file()
    except FileNotFoundError as error:
        raise SourceError(
            f"there is no store: {display(path)}",
            hint="check the path; `inv backup-daily --store DIR` makes one",
        ) from error
    except OSError as error:
        raise os_failure(SourceError, "open the store", path, error) from error
    if not marked:
        raise SourceError(
            f"this is no store of snapshots: {display(path)}",
            hint="`inv backup-daily --store DIR` makes one of an empty or missing directory",
        )
    return real


def make_store(path: Path, disk: Disk = DISK) -> Path:
    """Return the real path of a store, which is made where there is none yet.

    Raises:
        DestinationError: Something else stands there, or it cannot be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        real = path.resolve(strict=True)
        marker = real / MARKER
        if not marker.is_file():
            foreign = sorted(one.name for one in real.iterdir() if one.name != "lost+found")
            if foreign:
                raise DestinationError(
                    f"this directory is no store and not empty: {display(path)} "
                    f"has {display(foreign[0])}",
                    hint="name a new directory; `inv adopt` takes over older backups",
                )
            disk.create(marker, json.dumps(_MARK).encode() + b"\n")
            disk.sync(marker)
            disk.sync(real)
            disk.sync(real.parent)
    except OSError as error:
        raise os_failure(DestinationError, "make the store", path, error) from error
    return real


def list_snapshots(store: Path) -> tuple[Snapshot, ...]:
    """List the snapshots of a store, the oldest first.

    Raises:
        SourceError: It cannot be read.
    """
    try:
        names = sorted(one.name for one in store.iterdir() if is_snapshot_name(one.name))
        found = (store / name for name in names)
        return tuple(_read_snapshot(path) for path in found if path.is_dir())
    except OSError as error:
        raise os_failure(SourceError, "read", error.filename or store, error) from error


def _read_snapshot(path: Path) -> Snapshot:
    try:
        summary = decode_summary((path / SUMMARY).read_bytes())
        try:
            with (path / HISTORY).open("rb") as file:
                events = decode_events(file)
        except FileNotFoundError:
            events = ()
    except FileNotFoundError:
        return Snapshot(path=path, summary=None, problem=f"{SUMMARY} is missing")
    except SnapshotError as error:
        return Snapshot(path=path, summary=None, problem=str(error))
    if summary.name != path.name:
        return Snapshot(path=path, summary=summary, problem=f"it calls itself {summary.name}")
    return Snapshot(path=path, summary=summary, events=events)


def find_snapshot(store: Path, name: str) -> Snapshot:
    """Find a snapshot by its name; "latest" is the newest one that is verified.

    Raises:
        SourceError: There is none.
    """
    snapshots = list_snapshots(store)
    if name == LATEST:
        sound = newest_sound(snapshots)
        if sound is not None:
            return sound
        raise SourceError(
            f"the store has no verified snapshot: {display(store)}",
            hint="`inv snapshots --store DIR` shows what it has",
        )
    for one in snapshots:
        if one.name == name:
            return one
    raise SourceError(
        f"the store has no snapshot {display(name)}: {display(store)}",
        hint="`inv snapshots --store DIR` lists their names",
    )


def append_event(snapshot: Snapshot, event: Event, disk: Disk = DISK) -> None:
    """Write down what happened to a snapshot.

    Raises:
        DestinationError: It cannot be written.
    """
    path = snapshot.path / HISTORY
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
        try:
            before = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            os.ftruncate(descriptor, before.rfind(b"\n") + 1)  # what a crash cut short goes
            os.write(descriptor, encode_event(event))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise os_failure(DestinationError, "write", path, error) from error
    disk.sync(snapshot.path)
