"""Pack a snapshot into one file, read the file again, compare, and only then give it its name."""

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.archive import age, compression
from ops.archive.contents import Contents, damaged
from ops.archive.headers import ArchiveError
from ops.archive.opening import Opened, opened
from ops.archive.receiving import ChangedError, Comparison, Declared, payload_size, receive
from ops.bag import MANIFEST, TAG_MANIFEST, damaged_tags
from ops.destination import real_place, require_writable
from ops.disk import DISK
from ops.errors import DestinationError, OpsError, SourceError, VerificationError, os_failure
from ops.filing import private_beside, publish_file
from ops.model import Clock, Progress, ReportProgress
from ops.names import display
from ops.report import Room
from ops.room import Need, add_rooms, require_room
from ops.scratch import scratch_directory
from ops.store import Snapshot
from ops.storing import used_snapshot
from ops.tree.cores import usable_cores

_SPARE_BYTES = 4 << 20
_ENTRY_BYTES = 2048
"""What an entry takes besides its content: header, padding, lines of manifest and ledger."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRequest:
    """Which snapshot to pack, and into which file.

    `recipients` are the public keys that it is encrypted to; none leaves it in the clear.
    `replace` allows to replace an older archive.
    """

    snapshot: Snapshot
    archive: Path
    recipients: tuple[Any, ...] = ()
    replace: bool = False
    from_disk: bool = False
    jobs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PackPlan:
    """What is going to be packed: files and bytes of the payload, and the room it takes at most."""

    request: PackRequest
    place: Path
    files: int
    bytes: int
    replaces: bool
    room: Room


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """The archive: its bytes and SHA-256, the size of the tar stream in it, and the time taken."""

    plan: PackPlan
    size: int
    clear_bytes: int
    entries: int
    sha256: str
    seconds: float


def plan_pack(request: PackRequest) -> PackPlan:
    """Look at the snapshot and the place for the archive; nothing is written.

    Raises:
        SourceError: The snapshot cannot be used.
        DestinationError: The archive cannot be written there, or there is no room.
    """
    bag = request.snapshot.path
    if request.snapshot.summary is None or request.snapshot.problem:
        raise damaged(bag, request.snapshot.problem)
    try:
        wrong = damaged_tags(bag)
        size = payload_size(bag)
    except OSError as error:
        raise os_failure(SourceError, "read", error.filename or bag, error) from error
    if wrong or size is None:
        raise damaged(bag, wrong[0] if wrong else "bag-info.txt has no Payload-Oxum")
    place = real_place(request.archive)
    replaces = _look_at(place, bag.parent, replace=request.replace)
    need = Need(path=place, bytes=size[0] + size[1] * _ENTRY_BYTES, inodes=2)
    (room,) = add_rooms([need], spare_bytes=_SPARE_BYTES)
    require_room(room)
    return PackPlan(
        request=request, place=place, files=size[1], bytes=size[0], replaces=replaces, room=room
    )


def _look_at(place: Path, store: Path, *, replace: bool) -> bool:
    """See that an archive may be written at a place, and tell whether one stands there."""
    if not os.path.isdir(place.parent):  # noqa: PTH112 - it never raises
        raise DestinationError(
            f"there is no directory {display(place.parent)}",
            hint="make it first; is the medium mounted?",
        )
    if store in place.parents:
        raise DestinationError(
            f"the archive would lie in the store: {display(place)}",
            hint="name a place outside of it",
        )
    require_writable(place.parent)
    try:
        status = place.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise DestinationError(f"something else stands there: {display(place)}")
        if not replace:
            raise DestinationError(
                f"a file stands there: {display(place)}",
                hint="choose another name; --force replaces an archive",
            )
        with place.open("rb") as file:
            start = file.read(len(age.MAGIC))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise os_failure(DestinationError, "look at", place, error) from error
    if start and not start.startswith((compression.MAGIC, age.MAGIC)):
        raise DestinationError(
            f"the file to replace is no archive: {display(place)}",
            hint="name another file, or remove this one first",
        )
    return True


def run_pack(plan: PackPlan, *, clock: Clock, progress: ReportProgress) -> Packed:
    """Write the archive in private, read it again, and give it its name; then it is durable.

    Raises:
        SourceError: The snapshot cannot be read, or is damaged.
        DestinationError: The archive cannot be written.
        VerificationError: What was written is not what the snapshot holds.
        BusyError: The snapshot is being removed, or another run writes this archive.
    """
    began = clock.seconds()
    request = plan.request
    recipients: tuple[Any, ...] = request.recipients
    secrets: tuple[Any, ...] = ()
    if recipients:
        # So that the check can open what was written; it ends with this process.
        public, secret = age.passing_key()
        recipients, secrets = (*recipients, public), (secret,)
    with used_snapshot(request.snapshot), private_beside(plan.place) as space:
        new = space / "new"
        size = _write(plan, new, recipients, progress)
        progress(Progress(step="write to disk"))
        DISK.sync(new)
        archive = _compare(plan, new, secrets, progress)
        progress(Progress(step="publish"))
        publish_file(new, plan.place, replace=request.replace)
    return Packed(
        plan=plan,
        size=size,
        clear_bytes=archive.reader.bytes,
        entries=archive.reader.entries,
        sha256=archive.digest.hexdigest(),
        seconds=clock.seconds() - began,
    )


def _write(plan: PackPlan, new: Path, recipients: tuple[Any, ...], progress: ReportProgress) -> int:
    """Write the archive, and return its size."""
    request = plan.request
    contents = Contents(
        bag=request.snapshot.path,
        name=request.snapshot.name,
        tell=_telling(plan, "pack", progress),
    )
    pieces = compression.compress(contents.pieces(), threads=request.jobs or usable_cores())
    try:
        descriptor = os.open(new, _CREATE, 0o600)
    except OSError as error:
        raise os_failure(DestinationError, "write", new, error) from error

    def put(piece: bytes) -> None:
        view = memoryview(piece)
        try:
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError as error:
            raise os_failure(DestinationError, "write", plan.place, error) from error

    try:
        if recipients:
            age.encrypt(pieces, recipients, put)
        else:
            for piece in pieces:
                put(piece)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _telling(plan: PackPlan, step: str, progress: ReportProgress) -> Callable[[int, int], None]:
    def tell(files: int, size: int) -> None:
        progress(
            Progress(
                step=step,
                files_done=files,
                files_total=max(plan.files, files),
                bytes_done=size,
                bytes_total=max(plan.bytes, size),
            )
        )

    return tell


def _compare(
    plan: PackPlan, new: Path, secrets: tuple[Any, ...], progress: ReportProgress
) -> Opened:
    """Read an archive to its end, and compare all of it with the manifest of the snapshot.

    Returns:
        What was read, and is closed by now.
    """
    bag = plan.request.snapshot.path

    def agree(_declared: Declared) -> None:
        if _read_bytes(scratch / TAG_MANIFEST) != _read_bytes(bag / TAG_MANIFEST):
            raise ArchiveError("its tag files are not those of the snapshot")

    try:
        with (
            scratch_directory(f"pack {plan.place}") as scratch,
            opened(new, secrets, most=1 << 62, from_disk=plan.request.from_disk) as archive,
            Comparison(scratch) as comparison,
        ):
            tell = _telling(plan, "re-read archive", progress)
            receive(archive.reader, scratch, comparison, agree=agree, tell=tell)
            return archive
    except ChangedError as error:
        raise _whose(bag, error) from error
    except ArchiveError as error:
        raise _unlike(str(error)) from error


def _unlike(said: str) -> OpsError:
    return VerificationError(
        f"the archive is not right and was not kept: {said}",
        hint="try again; if it fails again, look at the disk",
    )


def _whose(bag: Path, error: ChangedError) -> OpsError:
    """Tell whether a file is damaged in the snapshot already."""
    path = bag / os.fsdecode(error.path)
    try:
        with (bag / MANIFEST).open("rb") as manifest, path.open("rb") as file:
            wanted = hashlib.file_digest(file, "sha256").hexdigest().encode()
            known = any(line == b"%s  %s\n" % (wanted, error.path) for line in manifest)
    except OSError as failure:
        raise os_failure(SourceError, "read", failure.filename or bag, failure) from failure
    if known:
        return _unlike(str(error))
    return damaged(bag, f"this is not what was recorded: {display(error.path)}")


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise os_failure(SourceError, "read", path, error) from error
