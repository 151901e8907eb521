"""A store: the directory that holds snapshots, and what lies in it."""

import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ops.bag import ATTACHMENTS, DATABASE, HISTORY, LEDGER, NEXT_HISTORY, SUMMARY
from ops.claims import is_still
from ops.destination import nearest_directory, require_writable
from ops.disk import DISK, Disk, replace_file
from ops.errors import DestinationError, SourceError, os_failure, reach_failure
from ops.model import Instance
from ops.names import display
from ops.snapshot import (
    ACCEPTED,
    REPLACED,
    VERIFIED,
    Event,
    SnapshotError,
    Summary,
    decode_events,
    decode_summary,
    encode_event,
    instant_of,
    is_snapshot_name,
    is_verified,
)

MARKER = "ciso-ops-store.json"
LATEST = "latest"
_MARK = {"format": "ciso-ops store", "schema_version": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A snapshot that lies in a store; `problem` says why its summary cannot be read.

    What a damaged history said is not known, so that only a check of everything tells again
    whether the snapshot is sound.
    """

    path: Path
    summary: Summary | None
    events: tuple[Event, ...] = ()
    history_whole: bool = True
    problem: str = ""

    @property
    def name(self) -> str:
        """Its name in the store."""
        return self.path.name

    @property
    def instant(self) -> datetime:
        """The instant that it shows."""
        if self.summary is None or self.problem:
            return instant_of(self.name)
        return self.summary.captured

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
        readable = self.summary is not None and not self.problem and self.history_whole
        return readable and is_verified(self.events)

    @property
    def flagged(self) -> str:
        """Why it looks wrong although it is whole; empty once somebody accepted it."""
        if self.summary is None or any(one.what == ACCEPTED for one in self.events):
            return ""
        return self.summary.flagged

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
    except (OSError, RuntimeError) as error:
        raise reach_failure(SourceError, "open the store", path, error) from error
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
    real = check_store(path)
    try:
        real.mkdir(mode=0o700, parents=True, exist_ok=True)
        marker = real / MARKER
        if not marker.is_file():
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
        read = [read_snapshot(path) for path in found if path.is_dir()]
        return tuple(sorted(read, key=lambda one: (one.instant, one.name)))
    except OSError as error:
        raise os_failure(SourceError, "read", error.filename or store, error) from error


def read_snapshot(path: Path, name: str = "") -> Snapshot:
    """Read what a snapshot says; whatever is wrong with it is told of it, and stops nobody else.

    Args:
        path: Where it lies.
        name: What it is called, where it does not lie under its name yet.
    """
    try:
        summary = decode_summary((path / SUMMARY).read_bytes())
    except FileNotFoundError:
        return Snapshot(path=path, summary=None, problem=f"{SUMMARY} is missing")
    except SnapshotError as error:
        return Snapshot(path=path, summary=None, problem=str(error))
    except OSError as error:
        return Snapshot(path=path, summary=None, problem=f"{SUMMARY}: {error.strerror}")
    if summary.name != (name or path.name):
        return Snapshot(path=path, summary=summary, problem=f"it calls itself {summary.name}")
    events, whole = _read_events(path)
    return Snapshot(path=path, summary=summary, events=events, history_whole=whole)


def _read_events(path: Path) -> tuple[tuple[Event, ...], bool]:
    try:
        with (path / HISTORY).open("rb") as file:
            return decode_events(file)
    except FileNotFoundError:
        return (), True
    except OSError:
        return (), False


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

    What cannot be read of its history stays, and keeps it from being verified, until a check of
    everything tells anew what it is worth.

    Raises:
        DestinationError: It cannot be written.
    """
    path = snapshot.path / HISTORY
    try:
        if path.is_dir():
            path.rmdir()
        descriptor = _locked_history(path)
        try:
            content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
            if event.what == VERIFIED:
                events, _ = decode_events(content.splitlines(keepends=True))
                whole = b"".join(map(encode_event, (*events, event)))
                replace_file(path, whole, draft=NEXT_HISTORY, disk=disk)
            else:
                os.ftruncate(descriptor, content.rfind(b"\n") + 1)  # what a crash cut short
                os.write(descriptor, encode_event(event))
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise os_failure(DestinationError, "write", path, error) from error
    disk.sync(snapshot.path)


def _locked_history(path: Path) -> int:
    """Open a history for one writer at a time (flock(2)); it may be replaced meanwhile."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_still(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def check_store(path: Path) -> Path:
    """Return the real path of a store, or of where one can be made; nothing is changed.

    Raises:
        DestinationError: Something else stands there, or nothing can be written.
    """
    try:
        real = path.resolve()
        if not os.path.lexists(real):
            require_writable(nearest_directory(real))
            return real
        if not (real / MARKER).is_file():
            foreign = sorted(one.name for one in real.iterdir() if one.name != "lost+found")
            if foreign:
                raise DestinationError(
                    f"this directory is no store and not empty: {display(path)} "
                    f"has {display(foreign[0])}",
                    hint="name a new directory; `inv adopt` takes over older backups",
                )
        latest = real / LATEST
        if latest.exists() and not latest.is_symlink():
            raise DestinationError(
                f"this name is needed for a link: {display(latest)}", hint="move it away"
            )
        require_writable(real)
    except (OSError, RuntimeError) as error:
        raise reach_failure(DestinationError, "use the store", path, error) from error
    return real
