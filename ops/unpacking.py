"""Make a pair of a snapshot in a private place, and check it there."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ops.bag import damaged_tags
from ops.errors import DestinationError, SourceError, os_failure
from ops.flusher import flushing
from ops.inspection import check_pair
from ops.model import Entry, Finding, Instance, Kind, Progress, ReportProgress
from ops.names import display
from ops.profile import Profile
from ops.report import CheckCounts
from ops.snapshot import DatabaseSummary, Summary
from ops.store import Snapshot
from ops.tree.catalogue import Catalogue
from ops.tree.crew import Crew, crew, fitting_jobs
from ops.tree.finishing import Finish
from ops.tree.ledger import LedgerError, read_ledger
from ops.tree.metadata import Kept, apply_metadata
from ops.tree.restoring import Restoring
from ops.tree.transfer import new_buffer, write_all
from ops.tree.work import Trees
from ops.verdict import lost_findings, require_sound

_OTHER = "restore another snapshot; `inv snapshots` lists them"


def unpack_snapshot(
    snapshot: Snapshot,
    summary: Summary,
    copy: Instance,
    profile: Profile,
    *,
    spill: Path,
    keep: Sequence[int],
    jobs: int,
    sync: Callable[[], None],
    progress: ReportProgress,
) -> tuple[CheckCounts, tuple[Finding, ...]]:
    """Make the pair that a snapshot shows, and check it by reading all of it again.

    Args:
        snapshot: The snapshot, which nobody removes meanwhile.
        summary: What it says of itself.
        copy: Where to write: the database must not exist, the directory must, and be empty.
        profile: What the application's rows mean.
        spill: Where the record of a large tree is kept meanwhile.
        keep: Descriptors that workers keep open.
        jobs: How many processes work; 0 leaves it to us.
        sync: Makes what was written durable.
        progress: Called as the work goes on.

    Returns:
        What was looked at, and everything found.

    Raises:
        SourceError: The snapshot cannot be read, or is damaged.
        DestinationError: The pair cannot be written.
        VerificationError: It is not right.
    """
    entries = read_entries_of(snapshot, spill)
    tree = summary.attachments
    jobs = fitting_jobs(jobs, files=tree.files, size=tree.bytes)
    trees = Trees(source=snapshot.instance.attachments, copy=copy.attachments, from_store=True)
    with (
        crew(trees, jobs=jobs, keep=keep) as workers,
        flushing(sync, background=workers.parallel) as flusher,
    ):
        _make_tree(workers, entries, summary, progress)
        progress(Progress(step="restore database"))
        kept = restore_database(snapshot.instance.database, copy.database, summary.database)
        progress(Progress(step="write to disk"))
        flusher.start()
        counts, found = check_pair(
            copy, workers, profile=profile, expected=entries, progress=progress
        )
        progress(Progress(step="write to disk"))
    findings = (*lost_findings(entries, kept), *found)
    require_sound(findings)
    return counts, findings


def read_entries_of(snapshot: Snapshot, spill: Path | None) -> Catalogue:
    """Read what a snapshot's ledger says, once its tag files are what they were.

    Raises:
        SourceError: They are not, or cannot be read.
    """
    try:
        damaged = damaged_tags(snapshot.path)
        if damaged:
            raise SourceError(
                f"the snapshot is damaged: {display(snapshot.path)}: {damaged[0]}", hint=_OTHER
            )
        return read_ledger(snapshot.ledger, spill)
    except LedgerError as error:
        raise SourceError(
            f"the snapshot is damaged: {display(snapshot.ledger)}: {error}", hint=_OTHER
        ) from error
    except OSError as error:
        raise os_failure(SourceError, "read", error.filename or snapshot.path, error) from error


def _make_tree(
    workers: Crew, entries: Catalogue, summary: Summary, progress: ReportProgress
) -> None:
    done = [0, 0]

    def tell(files: int, size: int) -> None:
        done[0] += files
        done[1] += size
        progress(
            Progress(
                step="restore attachments",
                files_done=done[0],
                files_total=summary.attachments.files,
                bytes_done=done[1],
                bytes_total=max(summary.attachments.bytes, done[1]),
            )
        )

    workers.advance = lambda size: tell(0, size)
    workers.start(Restoring(entries, lambda files: tell(files, 0)))
    workers.finish()
    workers.start(Finish(entries))
    workers.finish()


def restore_database(stored: Path, copy: Path, summary: DatabaseSummary) -> Kept:
    """Copy a database at rest, and see that it is what was recorded."""
    digest = hashlib.sha256()
    try:
        reader = os.open(stored, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise os_failure(SourceError, "read", stored, error) from error
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writer = os.open(copy, flags, 0o600)
        try:
            position = 0
            with memoryview(new_buffer()) as view:
                while count := os.preadv(reader, [view], position):
                    digest.update(view[:count])
                    write_all(writer, view[:count], position)
                    position += count
            if digest.hexdigest() != summary.sha256:
                raise SourceError(
                    f"the snapshot is damaged: this is not what was recorded: {display(stored)}",
                    hint=_OTHER,
                )
            return apply_metadata(writer, _database_entry(summary))
        finally:
            os.close(writer)
    except OSError as error:
        raise os_failure(DestinationError, "write", copy, error) from error
    finally:
        os.close(reader)


def _database_entry(summary: DatabaseSummary) -> Entry:
    return Entry(
        path=b"",
        kind=Kind.FILE,
        mode=int(summary.mode, 8),
        uid=summary.uid,
        gid=summary.gid,
        modified_ns=summary.mtime_ns,
        accessed_ns=summary.mtime_ns,
    )
