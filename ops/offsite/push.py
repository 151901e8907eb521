"""Push a snapshot off-site: checked here, taken in by restic, confirmed, and written down."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ops.audit import Effort, audit_snapshot
from ops.bag import TAG_MANIFEST
from ops.errors import SourceError, VerificationError, os_failure
from ops.model import Clock, Progress, ReportProgress
from ops.names import display
from ops.offsite.identity import require_identity, store_identity
from ops.offsite.program import Restic
from ops.offsite.repository import (
    TAG,
    Copy,
    back_up,
    list_contents,
    list_copies,
    make_repository,
    repository_id,
    withdraw,
)
from ops.offsite.tally import tally_of
from ops.profile import Profile
from ops.snapshot import PULLED, PUSHED, Event
from ops.store import Snapshot, append_event, list_snapshots
from ops.storing import used_snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class PushRequest:
    """Which snapshot to push, and how.

    `initialise` makes the repository where there is none. `verify` checks the snapshot first, as
    `effort` says.
    """

    snapshot: Snapshot
    restic: Restic
    profile: Profile
    effort: Effort
    initialise: bool = False
    verify: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPlan:
    """What a push is going to do; `repository` is empty where it is to be made first.

    `listed` are copies of just this snapshot that are there already, `confirmed` the one of them
    that was written down. `parent` is the copy of another snapshot to begin from.
    """

    request: PushRequest
    repository: str
    bag: str
    listed: tuple[Copy, ...]
    confirmed: Copy | None
    parent: Copy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """What came of it: the repository and restic's number for the copy.

    `uploaded` is whether restic took anything in: not where the copy was there already.
    """

    plan: PushPlan
    repository: str
    copy: Copy
    uploaded: bool
    seconds: float


def plan_push(request: PushRequest) -> PushPlan:
    """Look at the snapshot and at the repository; nothing is changed.

    Raises:
        SourceError: The snapshot is not verified.
        OpsError: The repository cannot be read.
    """
    snapshot = request.snapshot
    if not snapshot.verified:
        raise SourceError(
            f"only a verified snapshot is pushed, and this is none: {display(snapshot.path)}",
            hint=f"`inv verify --store DIR --snapshot {snapshot.name}` tells what is wrong with it",
        )
    bag = bag_digest(snapshot.path)
    repository = repository_id(request.restic, required=not request.initialise)
    copies = list_copies(request.restic) if repository else ()
    listed = tuple(one for one in copies if (one.name, one.bag) == (snapshot.name, bag))
    return PushPlan(
        request=request,
        repository=repository,
        bag=bag,
        listed=listed,
        confirmed=_confirmed(snapshot, repository, listed),
        parent=_parent(snapshot, copies),
    )


def bag_digest(snapshot: Path) -> str:
    """Return the SHA-256 of a snapshot's tag manifest, which stands for all that it holds.

    Raises:
        SourceError: It cannot be read.
    """
    path = snapshot / TAG_MANIFEST
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise os_failure(SourceError, "read", path, error) from error


def is_copy(copy: Copy, snapshot: Snapshot) -> bool:
    """Tell whether a copy is one of a snapshot, which may be too damaged to tell."""
    try:
        return (copy.name, copy.bag) == (snapshot.name, bag_digest(snapshot.path))
    except SourceError:
        return False


def _confirmed(snapshot: Snapshot, repository: str, listed: Sequence[Copy]) -> Copy | None:
    """Return the copy that a push or pull has written down, if it is still there."""
    recorded = {
        one.details.get("restic_snapshot")
        for one in snapshot.events
        if one.what in {PUSHED, PULLED} and one.details.get("repository") == repository
    }
    return next((one for one in listed if one.id in recorded), None)


def _parent(snapshot: Snapshot, copies: Sequence[Copy]) -> Copy | None:
    """Return the newest copy of a snapshot that still lies beside this one.

    As long as that does, no other file has the inodes that restic knows of it.
    """
    store = snapshot.path.parent
    here = {one.name for one in list_snapshots(store) if one.name != snapshot.name}
    identity = store_identity(store)
    mine = [one for one in copies if identity and one.store == identity and one.name in here]
    return mine[-1] if mine else None


def run_push(plan: PushPlan, *, clock: Clock, progress: ReportProgress) -> Push:
    """Carry a plan out. A copy counts only when restic confirmed it, and lists all of it.

    Raises:
        VerificationError: The snapshot is damaged, or restic does not list what it took in.
        BusyError: The snapshot is being removed, or the repository is locked.
        OpsError: restic failed.
    """
    began = clock.seconds()
    request = plan.request
    snapshot, restic = request.snapshot, request.restic
    repository = plan.repository or make_repository(restic)
    copy, uploaded = plan.confirmed, False
    with used_snapshot(snapshot) as lock:
        if copy is None:
            copy = _find_whole(restic, plan.listed, snapshot)
            if copy is None:
                copy, uploaded = _upload(plan, lock, clock=clock, progress=progress), True
            details = {"repository": repository, "restic_snapshot": copy.id}
            append_event(snapshot, Event(what=PUSHED, instant=clock.now(), details=details))
    return Push(
        plan=replace(plan, confirmed=copy),
        repository=repository,
        copy=copy,
        uploaded=uploaded,
        seconds=clock.seconds() - began,
    )


def _find_whole(restic: Restic, listed: Sequence[Copy], snapshot: Snapshot) -> Copy | None:
    """Find a copy that a push left which did not live to write it down."""
    if not listed:
        return None
    wanted = tally_of(snapshot.path)
    return next((one for one in listed if list_contents(restic, one.id) == wanted), None)


def _upload(plan: PushPlan, lock: int, *, clock: Clock, progress: ReportProgress) -> Copy:
    request = plan.request
    snapshot, restic = request.snapshot, request.restic
    store = snapshot.path.parent
    if request.verify:
        others = [one for one in list_snapshots(store) if one.name != snapshot.name]
        audit = audit_snapshot(
            snapshot, others, request.profile, request.effort, clock=clock, progress=progress
        )
        if not audit.sound:
            raise VerificationError(
                f"the snapshot is damaged, and was not pushed: {display(snapshot.path)}",
                hint="push another one; `inv snapshots` lists them",
                findings=audit.findings,
            )
    tags = [TAG, f"snapshot={snapshot.name}", f"store={require_identity(store)}", f"bag={plan.bag}"]
    tags += ["replaced"] if snapshot.replaced else []
    wanted = tally_of(snapshot.path)
    progress(Progress(step="push"))
    number = back_up(
        restic,
        snapshot.path,
        instant=snapshot.instant,
        tags=tags,
        parent="" if plan.parent is None else plan.parent.id,
        keep=(lock,),
        progress=progress,
    )
    progress(Progress(step="confirm"))
    for copy in list_copies(restic):
        if copy.id.startswith(number) and (copy.name, copy.bag) == (snapshot.name, plan.bag):
            break
    else:
        raise VerificationError(
            f"restic said that it took {snapshot.name} in as {number}, but does not list it",
            hint="nothing was recorded; look at `restic snapshots`, and push again",
        )
    found = list_contents(restic, copy.id)
    if found != wanted:
        failure = VerificationError(
            f"restic took in {found.files} files with {found.bytes} bytes of {snapshot.name}, "
            f"which has {wanted.files} with {wanted.bytes}",
            hint="nothing was recorded; verify the snapshot, and push again",
        )
        withdraw(restic, copy.id, failure)
        raise failure
    return copy
