"""Take a snapshot out of an archive into a store: in private, checked as any other, then named."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.archive.headers import ArchiveError
from ops.archive.opening import Opened, opened
from ops.archive.reader import TooMuchError
from ops.archive.receiving import Comparison, Declared, Extraction, receive
from ops.audit import Audit, Effort, audit_snapshot
from ops.disk import DISK
from ops.errors import DestinationError, SourceError, UsageError, VerificationError
from ops.model import Clock, Progress, ReportProgress
from ops.names import display
from ops.profile import Profile
from ops.room import Need, add_rooms, require_room
from ops.scratch import scratch_directory
from ops.store import LATEST, check_store, make_store, read_snapshot
from ops.storing import locked_store, new_snapshot, publish_snapshot

_AMOUNT = re.compile(r"([0-9]{1,15})([KMGT]?)(?:iB)?")
_UNITS = " KMGT"
_SPARE_BYTES = 4 << 20
_BLOCK = 4096
_BAD = (
    "do not trust it; get the archive again, and compare its SHA-256 with the one `inv pack` told"
)


def parse_bytes(value: str, flag: str) -> int:
    """Read an amount such as 5000000000, 5G or 5GiB.

    Raises:
        UsageError: It is none.
    """
    found = _AMOUNT.fullmatch(value)
    if found is None or not int(found[1]):
        raise UsageError(f"{flag} must be an amount of bytes, not {value}", hint="for example 5GiB")
    return int(found[1]) << 10 * _UNITS.index(found[2] or " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackRequest:
    """Which archive to take apart, and the store that the snapshot goes into.

    `identities` are the secret keys for one that is encrypted. `most_bytes` is how large it may
    become, 0 for what its own size allows.
    """

    archive: Path
    store: Path
    identities: tuple[Any, ...] = ()
    most_bytes: int = 0
    from_disk: bool = False
    jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """What was in an archive: the snapshot's name, what it declares, and the archive's digest."""

    name: str
    declared: Declared
    size: int
    encrypted: bool
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """The snapshot that was published, and what its check gave."""

    arrived: Arrived
    path: Path
    audit: Audit
    seconds: float


def look_into(request: UnpackRequest, *, progress: ReportProgress) -> Arrived:
    """Read an archive to its end and compare it with its own manifest; nothing remains of it.

    Raises:
        SourceError: It cannot be read, or would become too large.
        UsageError: The keys do not go with it.
        DestinationError: The store has such a snapshot already, or no room.
        VerificationError: It is damaged, or no archive of a snapshot.
    """
    store = check_store(request.store)
    with scratch_directory(f"unpack {request.archive}") as scratch, Comparison(scratch) as taker:
        return _take(request, store, scratch, taker, progress)


def run_unpack(
    request: UnpackRequest,
    choose_profile: Callable[[str], Profile],
    *,
    clock: Clock,
    progress: ReportProgress,
) -> Unpacked:
    """Take the snapshot out, check all of it, and publish it by one rename; then it is durable.

    Args:
        request: What to do.
        choose_profile: Given the one that the snapshot was made with, returns what to check by.
        clock: The time.
        progress: Called as the work goes on.

    Raises:
        SourceError: The archive cannot be read, or would become too large.
        UsageError: The keys do not go with it.
        DestinationError: The store cannot be written, or has such a snapshot already.
        VerificationError: The archive is damaged or no snapshot; nothing was published.
        BusyError: Another run works in the store.
    """
    began = clock.seconds()
    with _archive(request) as archive:  # nothing is made for a file that is none
        _refuse_known(check_store(request.store), archive.reader.name)
    store = make_store(request.store)
    with locked_store(store) as lock, new_snapshot(store) as bag:
        with Extraction(bag) as taker:
            arrived = _take(request, store, bag, taker, progress)
        progress(Progress(step="write to disk"))
        DISK.sync_file_system(bag, lock)
        audit = audit_snapshot(
            read_snapshot(bag, name=arrived.name),
            (),
            choose_profile(arrived.declared.summary.profile),
            Effort(jobs=request.jobs, from_disk=request.from_disk),
            clock=clock,
            progress=progress,
        )
        if not audit.sound:
            raise VerificationError(
                f"the snapshot in the archive did not pass its check, and was not kept: "
                f"{display(request.archive)}",
                hint=_BAD,
                findings=audit.findings,
            )
        progress(Progress(step="publish"))
        path = publish_snapshot(store, arrived.name)
    return Unpacked(arrived=arrived, path=path, audit=audit, seconds=clock.seconds() - began)


def _take(
    request: UnpackRequest,
    store: Path,
    directory: Path,
    taker: Comparison | Extraction,
    progress: ReportProgress,
) -> Arrived:
    """Read an archive to its end."""
    total = [0, 0]

    def agree(declared: Declared) -> None:
        total[:] = declared.files, declared.bytes
        size = declared.bytes + declared.files * _BLOCK
        need = Need(path=store / LATEST, bytes=size, inodes=declared.files)
        for room in add_rooms([need], spare_bytes=_SPARE_BYTES):
            require_room(room)

    def tell(files: int, size: int) -> None:
        progress(
            Progress(
                step="read archive",
                files_done=files,
                files_total=total[0],
                bytes_done=size,
                bytes_total=total[1],
            )
        )

    with _archive(request) as archive:
        _refuse_known(store, archive.reader.name)
        declared = receive(archive.reader, directory, taker, agree=agree, tell=tell)
        return Arrived(
            name=archive.reader.name,
            declared=declared,
            size=archive.size,
            encrypted=archive.encrypted,
            sha256=archive.digest.hexdigest(),
        )


@contextmanager
def _archive(request: UnpackRequest) -> Iterator[Opened]:
    """Open the archive; what is wrong with it becomes a failure that names it."""
    try:
        with opened(
            request.archive,
            request.identities,
            most=request.most_bytes,
            from_disk=request.from_disk,
        ) as archive:
            yield archive
    except TooMuchError as error:
        raise SourceError(
            f"the archive is larger than it looks: {display(request.archive)}: {error}",
            hint="if it is yours, allow it: --max-bytes, as `inv pack` told",
        ) from error
    except ArchiveError as error:
        raise VerificationError(
            f"this is no archive of a snapshot, or a damaged one: "
            f"{display(request.archive)}: {error}",
            hint=_BAD,
        ) from error


def _refuse_known(store: Path, name: str) -> None:
    if os.path.lexists(store / name):
        raise DestinationError(
            f"the store has a snapshot of this name: {display(store / name)}",
            hint="it may be the same one: `inv verify --store DIR --snapshot NAME`; "
            "or unpack into another store",
        )
