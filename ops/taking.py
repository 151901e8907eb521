"""Take what a refresh needs of its source into a private place."""

from pathlib import Path

from ops.capture import capture
from ops.errors import SourceError, os_failure
from ops.inspection import check_pair
from ops.model import Clock, Entry, Finding, Instance, Progress, ReportProgress
from ops.profile import Profile
from ops.snapshot import Summary
from ops.sqlite.backup import back_up
from ops.sqlite.connection import remove_database
from ops.sqlite.source import OpenDatabase, read_steadily
from ops.store import Snapshot
from ops.storing import used_snapshot
from ops.survey import SourceSurvey
from ops.tree.catalogue import Catalogue
from ops.tree.crew import crew, fitting_jobs
from ops.tree.metadata import entry_from_stat
from ops.tree.work import Trees
from ops.unpacking import read_entries_of, restore_database, unpack_snapshot
from ops.verdict import capture_findings, require_sound


def take_database(
    source: SourceSurvey,
    copy: Path,
    *,
    scratch: Path,
    lock_timeout_seconds: float,
    progress: ReportProgress,
) -> None:
    """Copy the database of a live instance, as it was at one instant.

    Raises:
        SourceError: It cannot be read.
        DestinationError: The copy cannot be written.
        BusyError: It stayed locked.
    """

    def read(database: OpenDatabase) -> None:
        size = database.file.header.page_size
        remove_database(copy)  # of a try at which the database changed
        back_up(
            database,
            copy,
            advance=lambda done, total: progress(
                Progress(step="copy database", bytes_done=done * size, bytes_total=total * size)
            ),
        )

    read_steadily(
        source.instance.database, read, scratch=scratch, timeout_seconds=lock_timeout_seconds
    )


def take_pair(
    source: SourceSurvey,
    copy: Instance,
    profile: Profile,
    *,
    scratch: Path,
    keep: tuple[int, ...],
    jobs: int,
    lock_timeout_seconds: float,
    hold_seconds: float,
    clock: Clock,
    progress: ReportProgress,
) -> tuple[Catalogue, tuple[Finding, ...]]:
    """Capture a live instance, and check what was captured.

    Returns:
        The attachments, and what the copy of them could not keep.

    Raises:
        SourceError: It cannot be read.
        DestinationError: The copy cannot be written.
        VerificationError: The copy is not right.
        BusyError: It stayed locked, or changes too fast.
    """
    size = source.size
    trees = Trees(source=source.instance.attachments, copy=copy.attachments)
    with crew(
        trees, jobs=fitting_jobs(jobs, files=size.files, size=size.bytes), keep=keep
    ) as workers:
        captured = capture(
            source.instance,
            copy,
            workers,
            profile=profile,
            size=size,
            scratch=scratch,
            lock_timeout_seconds=lock_timeout_seconds,
            hold_seconds=hold_seconds,
            clock=clock,
            progress=progress,
        )
        entries = captured.tree.entries
        _, found = check_pair(copy, workers, profile=profile, expected=entries, progress=progress)
    lost = tuple(capture_findings(captured))
    require_sound((*source.findings, *lost, *found))
    return entries, lost


def take_snapshot(
    snapshot: Snapshot,
    summary: Summary,
    copy: Instance,
    profile: Profile,
    *,
    attachments: bool,
    spill: Path,
    keep: tuple[int, ...],
    jobs: int,
    progress: ReportProgress,
) -> Catalogue:
    """Bring back a snapshot, with its attachments where they are wanted; return what it holds.

    Raises:
        SourceError: It cannot be read, or is damaged.
        DestinationError: The copy cannot be written.
        VerificationError: The copy is not right.
        BusyError: It is being removed.
    """
    with used_snapshot(snapshot):
        entries = read_entries_of(snapshot, spill)
        if not attachments:
            progress(Progress(step="restore database"))
            restore_database(snapshot.instance.database, copy.database, summary.database)
            return entries
        unpack_snapshot(
            snapshot,
            summary,
            copy,
            profile,
            spill=spill,
            keep=keep,
            jobs=jobs,
            sync=lambda: None,
            progress=progress,
        )
    return entries


def root_of(attachments: Path) -> Entry:
    """Describe an attachments directory.

    Raises:
        SourceError: It cannot be looked at.
    """
    try:
        return entry_from_stat(b"", attachments.stat())
    except OSError as error:
        raise os_failure(SourceError, "look at", attachments, error) from error
