"""Pull a snapshot back into a store: restored in private, verified, published by one rename."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.audit import Audit, Effort, audit_snapshot
from ops.bag import DATA, HISTORY
from ops.disk import DISK
from ops.errors import DestinationError, SourceError, VerificationError, os_failure
from ops.model import Clock, Progress, ReportProgress
from ops.names import display
from ops.offsite.identity import give_identity, store_identity
from ops.offsite.program import Restic
from ops.offsite.push import bag_digest, is_copy
from ops.offsite.repository import Copy, list_contents, list_copies, repository_id, restore
from ops.offsite.tally import Tally
from ops.profile import Profile
from ops.report import Room
from ops.room import Need, add_rooms, require_room
from ops.snapshot import PULLED, Event
from ops.store import (
    LATEST,
    Snapshot,
    append_event,
    check_store,
    list_snapshots,
    make_store,
    read_snapshot,
)
from ops.storing import locked_store, new_snapshot, publish_snapshot
from ops.tree.stored import FILE_MODE

_BLOCK = 4096
_SPARE_BYTES = 4 << 20
_DIRECTORY_MODE = 0o700
_HISTORY_MODE = 0o600
_LEAST_DIGITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What to pull, and where to: a name, restic's own number, or latest."""

    store: Path
    wanted: str
    restic: Restic
    profile: Profile
    effort: Effort


@dataclass(frozen=True, slots=True, kw_only=True)
class PullPlan:
    """What a pull is going to do.

    `present` is the snapshot where the store has it already; then there is neither size nor room.
    """

    request: PullRequest
    repository: str
    copy: Copy
    present: Snapshot | None
    size: Tally | None
    room: Room | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """What came of it; `audit` is None where the snapshot was there already.

    `complaint` is what restic complained of, although all that came back is right.
    """

    plan: PullPlan
    snapshot: Snapshot
    audit: Audit | None
    complaint: str = ""
    seconds: float


def plan_pull(request: PullRequest) -> PullPlan:
    """Look at the repository and at the store; nothing is changed.

    Raises:
        SourceError: There is no such snapshot in the repository, or more than one.
        DestinationError: The store cannot be used, has no room, or has another snapshot so named.
        OpsError: The repository cannot be read.
    """
    store = check_store(request.store)
    listed = list_snapshots(store) if store.is_dir() else ()
    identity = store_identity(store) if listed else ""
    repository = repository_id(request.restic)
    copy = choose_copy(list_copies(request.restic), request.wanted, identity, request.restic)
    present = _present(listed, copy)
    size, room = None, None
    if present is None:
        size = list_contents(request.restic, copy.id)
        wanted = size.bytes + size.entries * _BLOCK
        need = Need(path=store / LATEST, bytes=wanted, inodes=size.entries)
        (room,) = add_rooms([need], spare_bytes=_SPARE_BYTES)
        require_room(room)
    return PullPlan(
        request=request, repository=repository, copy=copy, present=present, size=size, room=room
    )


def choose_copy(copies: Sequence[Copy], wanted: str, identity: str, restic: Restic) -> Copy:
    """Choose what to pull: by name, by restic's own number, or the newest of the store.

    A copy of this store goes before those of others. Of several copies of one snapshot the last
    is as good as any.

    Args:
        copies: Those in the repository, the oldest first.
        wanted: A name, the beginning of a number, or latest.
        identity: The store's own number; empty where it has none.
        restic: For messages.

    Raises:
        SourceError: There is none, or it cannot be told which.
    """
    where = restic.location
    if not copies:
        raise SourceError(
            f"the repository holds no snapshots: {where}", hint="`inv push` brings the first one"
        )
    if wanted == LATEST:
        some = [one for one in copies if not one.replaced] or list(copies)
    else:
        some = [one for one in copies if one.name == wanted]
        if not some and len(wanted) >= _LEAST_DIGITS:
            some = [one for one in copies if one.id.startswith(wanted)]
    if not some:
        raise SourceError(
            f"the repository holds no snapshot {display(wanted)}: {where}",
            hint="`inv offsite-status` lists what it holds",
        )
    some = [one for one in some if identity and one.store == identity] or some
    stores = {one.store: one for one in some}
    if len(stores) > 1:
        newest = ", ".join(
            f"{one.name} of {display(one.host)}:{display(one.directory)} is {one.short}"
            for one in stores.values()
        )
        raise SourceError(
            f"the repository holds snapshots of {len(stores)} stores: {newest}",
            hint="name the one you want by that number: --snapshot NUMBER",
        )
    return some[-1]


def _present(listed: Sequence[Snapshot], copy: Copy) -> Snapshot | None:
    """Return the snapshot of a store that is the same one, and sound.

    Raises:
        DestinationError: Something else has its name.
    """
    for one in listed:
        if one.name != copy.name:
            continue
        if one.verified and is_copy(copy, one):
            return one
        raise DestinationError(
            f"the store has a snapshot of this name, which is not overwritten: {display(one.path)}",
            hint=f"it is damaged, or another one: pull into a new store, or first "
            f"`inv prune --store DIR --remove {one.name}`",
        )
    return None


def run_pull(plan: PullPlan, *, clock: Clock, progress: ReportProgress) -> Pull:
    """Carry a plan out: the snapshot appears by one rename, or not at all.

    Raises:
        VerificationError: What came back is not the snapshot; nothing was published.
        DestinationError: The store cannot be written.
        BusyError: Another run works in the store, or the repository is locked.
        OpsError: restic failed.
    """
    began = clock.seconds()
    if plan.present is not None:
        return Pull(plan=plan, snapshot=plan.present, audit=None, seconds=clock.seconds() - began)
    request, copy = plan.request, plan.copy
    store = make_store(request.store)
    with locked_store(store) as lock:
        listed = list_snapshots(store)
        _present(listed, copy)  # another run may have made one meanwhile
        with new_snapshot(store) as bag:
            # Its processes keep the lock of the store, so that nobody else comes near.
            complaint = restore(request.restic, copy.id, bag, keep=(lock,), progress=progress)
            try:
                audit = _check(bag, plan, clock=clock, progress=progress)
            except VerificationError as error:
                if complaint is None:
                    raise
                if isinstance(complaint.failure, VerificationError):
                    complaint.failure.findings = error.findings
                raise complaint.failure from error
            details = {"repository": plan.repository, "restic_snapshot": copy.id}
            append_event(audit.snapshot, Event(what=PULLED, instant=clock.now(), details=details))
            progress(Progress(step="write to disk"))
            DISK.sync_file_system(bag, lock)
            progress(Progress(step="publish"))
            path = publish_snapshot(store, copy.name)
        if not listed and copy.store and not store_identity(store):
            give_identity(store, copy.store)
    return Pull(
        plan=plan,
        snapshot=read_snapshot(path),
        audit=audit,
        complaint="" if complaint is None else complaint.line,
        seconds=clock.seconds() - began,
    )


def _check(bag: Path, plan: PullPlan, *, clock: Clock, progress: ReportProgress) -> Audit:
    """Check what came back as any other snapshot.

    Raises:
        VerificationError: It is not right.
    """
    _own(bag)
    audit = audit_snapshot(
        _require_snapshot(bag, plan.copy),
        (),
        plan.request.profile,
        plan.request.effort,
        clock=clock,
        progress=progress,
    )
    if not audit.sound:
        raise VerificationError(
            f"what came back of {plan.copy.name} is damaged: nothing was published",
            hint="pull another one; `restic check --read-data` tells what is lost",
            findings=audit.findings,
        )
    return audit


def _own(bag: Path) -> None:
    """Make what restic restored ours, with the modes of a snapshot; refuse what is none of one.

    Raises:
        VerificationError: There is something else than files and directories.
        DestinationError: It cannot be changed.
    """
    waiting = [bag]
    try:
        while waiting:
            directory = waiting.pop()
            _take(directory, directory.lstat(), _DIRECTORY_MODE)
            with os.scandir(directory) as entries:
                for entry in entries:
                    path, status = Path(entry.path), entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        waiting.append(path)
                    elif stat.S_ISREG(status.st_mode):
                        is_history = directory == bag and entry.name == HISTORY
                        _take(path, status, _HISTORY_MODE if is_history else FILE_MODE)
                    else:
                        raise VerificationError(
                            f"what came back holds something that no snapshot has: {display(path)}",
                            hint="pull another one",
                        )
    except OSError as error:
        raise os_failure(DestinationError, "change", error.filename or bag, error) from error


def _take(path: Path, status: os.stat_result, mode: int) -> None:
    owner = os.geteuid(), os.getegid()
    if (status.st_uid, status.st_gid) != owner:
        os.chown(path, *owner, follow_symlinks=False)
    if stat.S_IMODE(status.st_mode) != mode:
        path.chmod(mode)


def _require_snapshot(bag: Path, copy: Copy) -> Snapshot:
    """Return what came back, as the snapshot that it will be.

    Raises:
        VerificationError: It is none, or another one.
    """
    snapshot = read_snapshot(bag, name=copy.name)
    try:
        digest = bag_digest(bag)
        if snapshot.summary is None:
            raise SourceError(snapshot.problem)
    except SourceError as error:
        raise VerificationError(
            f"what came back of {copy.name} is no snapshot: {error}", hint="pull another one"
        ) from error
    if (snapshot.summary.name, digest) != (copy.name, copy.bag) or not (bag / DATA).is_dir():
        raise VerificationError(
            f"what came back of {copy.name} is another snapshot: {display(snapshot.summary.name)}",
            hint="pull another one; somebody has changed the tags in the repository",
        )
    return snapshot
