"""Check snapshots where they lie: the bag, its payload, its database, and what they share."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ops.bag import (
    ATTACHMENTS,
    DATA,
    DATABASE,
    HISTORY,
    LEDGER,
    MANIFEST,
    NEXT_HISTORY,
    PREFIX,
    SUMMARY,
    TAG_MANIFEST,
    damaged_tags,
    is_declared,
    manifest_line,
)
from ops.errors import DestinationError, os_failure
from ops.inspection import check_pair
from ops.model import Clock, Finding, ReportProgress, Severity
from ops.names import display
from ops.profile import Profile
from ops.report import CheckCounts
from ops.scratch import scratch_directory
from ops.snapshot import DAMAGED, SAMPLED, VERIFIED, Event, Summary
from ops.store import Snapshot, append_event
from ops.storing import used_snapshot
from ops.tree.catalogue import Catalogue
from ops.tree.crew import Crew, crew, fitting_jobs
from ops.tree.describing import Describe
from ops.tree.directories import QUIET_FLAGS, split_path
from ops.tree.inspecting import DAMAGE, EVERYTHING, Sample
from ops.tree.inspection import Inspection
from ops.tree.ledger import LedgerError, read_ledger
from ops.tree.ledger_index import LedgerIndex
from ops.tree.records import DIGEST
from ops.tree.stored import Payload
from ops.tree.work import Trees

_TOP = frozenset(
    {
        *("bagit.txt", "bag-info.txt", DATA, LEDGER, MANIFEST, SUMMARY, TAG_MANIFEST),
        *(HISTORY, NEXT_HISTORY),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How thoroughly snapshots are read: which files, by how many processes, from where."""

    sample: Sample = EVERYTHING
    jobs: int = 0
    from_disk: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the check of one snapshot gave.

    `counts.bytes_read` are those of the files that were read. `sharing` names other snapshots
    that share damaged files, with the paths.
    """

    snapshot: Snapshot
    findings: tuple[Finding, ...]
    counts: CheckCounts = field(default_factory=CheckCounts)
    files_read: int = 0
    sharing: tuple[tuple[str, tuple[bytes, ...]], ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not any(one.severity is Severity.ERROR for one in self.findings)


_UNWRITTEN = Finding(
    kind="unwritten",
    severity=Severity.NOTE,
    where="history.jsonl",
    expected="the result of this check",
    found="a read-only file system",
)


def daily_sample(percent: int, day: int) -> Sample:
    """Return the part of the files that a day's check reads, so that in turn all are read.

    Args:
        percent: How many of a hundred files are read, about.
        day: The number of the day.
    """
    parts = -(-100 // percent)
    return day % parts, parts


def audit_snapshot(
    snapshot: Snapshot,
    others: Sequence[Snapshot],
    profile: Profile,
    effort: Effort,
    *,
    clock: Clock,
    progress: ReportProgress,
) -> Audit:
    """Check a snapshot, and write down what came of it, for it and for those that share damage.

    Args:
        snapshot: The snapshot.
        others: The other snapshots of its store.
        profile: What the application's rows mean.
        effort: How thoroughly it is read.
        clock: The time.
        progress: Called as the work goes on.

    Raises:
        BusyError: It is just being removed.
        DestinationError: It cannot be read at all, or the result not be written.
    """
    with used_snapshot(snapshot), scratch_directory(str(snapshot.path)) as scratch:
        audit = _audit(snapshot, others, profile, effort, scratch=scratch, progress=progress)
    now = clock.now()
    details: dict[str, Any] = {
        "files_read": audit.files_read,
        "bytes_read": audit.counts.bytes_read,
    }
    if not audit.sound:
        found = [one for one in audit.findings if one.severity is Severity.ERROR]
        details |= {"errors": len(found), "first": f"{found[0].kind}: {found[0].where}"}
        append_event(snapshot, Event(what=DAMAGED, instant=now, details=details))
        by_name = {one.name: one for one in others}
        for name, paths in audit.sharing:
            shared = {"shared_with": snapshot.name, "first": display(paths[0])}
            append_event(by_name[name], Event(what=DAMAGED, instant=now, details=shared))
        return audit
    what = VERIFIED if effort.sample[1] == 1 else SAMPLED
    event = Event(what=what, instant=now, details=details)
    try:
        append_event(snapshot, event)
    except DestinationError as error:
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EROFS:
            raise
        return replace(audit, findings=(*audit.findings, _UNWRITTEN))
    return audit


def _audit(
    snapshot: Snapshot,
    others: Sequence[Snapshot],
    profile: Profile,
    effort: Effort,
    *,
    scratch: Path,
    progress: ReportProgress,
) -> Audit:
    wrong: list[Finding] = []
    try:
        wrong += map(_tag_finding, _wrong_with_bag(snapshot))
        entries = read_ledger(snapshot.ledger, scratch)
    except LedgerError as error:
        return Audit(snapshot=snapshot, findings=(*wrong, _tag_finding(f"{LEDGER}: {error}")))
    except OSError as error:
        if error.errno not in DAMAGE:
            path = error.filename or snapshot.path
            raise os_failure(DestinationError, "read", path, error) from error
        return Audit(snapshot=snapshot, findings=(*wrong, _unreadable(snapshot, error)))
    if snapshot.summary is None:
        return Audit(snapshot=snapshot, findings=tuple(wrong))
    _, files, size, *_ = entries.tally()
    jobs = fitting_jobs(effort.jobs, files=files, size=size)
    payload = snapshot.instance.attachments
    trees = Trees(source=payload, blame="destination", from_store=True, from_disk=effort.from_disk)
    try:
        with crew(trees, jobs=jobs) as workers:
            wrong += _wrong_with_manifest(snapshot, snapshot.summary, entries, workers)
            inspections: list[Inspection] = []

            def checking(advance: Callable[[int], None]) -> Inspection:
                inspections.append(Inspection(entries, sample=effort.sample, advance=advance))
                return inspections[-1]

            counts, found = check_pair(
                snapshot.instance,
                workers,
                profile=profile,
                expected=entries,
                checking=checking,
                progress=progress,
            )
    except DestinationError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in DAMAGE:
            raise
        return Audit(snapshot=snapshot, findings=(*wrong, _tag_finding(error.message)))
    damaged = inspections[0].damaged()
    return Audit(
        snapshot=snapshot,
        findings=(*wrong, *found),
        counts=counts,
        files_read=inspections[0].files_read,
        sharing=tuple(_sharing(damaged, others)),
    )


def _tag_finding(said: str) -> Finding:
    return Finding(
        kind="bag",
        severity=Severity.ERROR,
        where="the bag",
        expected="as it was published",
        found=said,
    )


def _unreadable(snapshot: Snapshot, error: OSError) -> Finding:
    name = Path(os.fsdecode(error.filename or snapshot.path)).name
    return _tag_finding(f"{display(name)}: {error.strerror}")


def _wrong_with_bag(snapshot: Snapshot) -> Iterator[str]:
    """Tell what is wrong with a bag but for its payload."""
    if snapshot.problem:
        yield snapshot.problem
    if not is_declared(snapshot.path):
        yield "bagit.txt does not say that it is a bag"
    yield from damaged_tags(snapshot.path)
    top = {one.name for one in snapshot.path.iterdir()}
    yield from (f"unexpected: {display(name)}" for name in sorted(top - _TOP))
    inside = {one.name for one in (snapshot.path / DATA).iterdir()}
    known = {Path(DATABASE).name, Path(ATTACHMENTS).name}
    yield from (f"unexpected: {DATA}/{display(name)}" for name in sorted(inside - known))


def _wrong_with_manifest(
    snapshot: Snapshot, summary: Summary, entries: Catalogue, workers: Crew
) -> Iterator[Finding]:
    """See that the manifest lists what the ledger does, and that the database is as recorded."""
    recorded = hashlib.sha256(manifest_line(summary.database.sha256, DATABASE))
    described = Describe(entries, PREFIX, lambda _ledger, manifest: recorded.update(manifest))
    workers.start(described)
    workers.finish()
    try:
        with (snapshot.path / MANIFEST).open("rb") as file:
            if hashlib.file_digest(file, "sha256").digest() != recorded.digest():
                yield _tag_finding(f"{MANIFEST} does not list what {LEDGER} does")
        with snapshot.instance.database.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        path = error.filename or snapshot.path
        raise os_failure(DestinationError, "read", path, error) from error
    if digest != summary.database.sha256:
        yield Finding(
            kind="changed",
            severity=Severity.ERROR,
            where="database",
            expected=f"content {summary.database.sha256}",
            found=digest,
        )


def _sharing(
    damaged: Sequence[bytes], others: Sequence[Snapshot]
) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """Tell which other snapshots have damaged files that are damaged in this one."""
    for other in others if damaged else ():
        paths = tuple(path for path in damaged if _is_damaged_in(other, path))
        if paths:
            yield other.name, paths


def _is_damaged_in(other: Snapshot, path: bytes) -> bool:
    """Tell whether a file of another snapshot is not what its own ledger says."""
    directory, name = split_path(path)
    try:
        index = LedgerIndex(other.ledger)
        try:
            record = index.records(directory, name)[2].get(name)
        finally:
            index.close()
    except (OSError, LedgerError):
        return False  # its own check says what is wrong with it
    if record is None or not record[DIGEST]:
        return False
    try:
        with Payload(other.instance.attachments) as payload:
            reader = os.open(payload.leaf(name), QUIET_FLAGS, dir_fd=payload.open(directory))
        with os.fdopen(reader, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest() != record[DIGEST]
    except OSError:
        return True
