"""Make the payload of a snapshot, write down what it cannot hold, and check it."""

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ops.bag import ATTACHMENTS, DATABASE, PREFIX, bag_writer, manifest_line
from ops.capture import Capture, capture
from ops.checks import check_links
from ops.disk import DISK
from ops.errors import DestinationError, os_failure
from ops.flusher import flushing
from ops.inspection import check_pair
from ops.model import Clock, Finding, Instance, Progress, ReportProgress
from ops.profile import Profile
from ops.report import CheckCounts
from ops.snapshot import DatabaseSummary
from ops.sqlite.connection import connect
from ops.sqlite.content import count_rows, list_tables
from ops.sqlite.sharing import share_pages
from ops.store import Snapshot
from ops.survey import SourceSurvey, refuse_damage
from ops.tree.crew import Crew, crew, fitting_jobs
from ops.tree.describing import Describe
from ops.tree.inspection import Inspection
from ops.tree.ledger import encode_head
from ops.tree.removal import remove_tree
from ops.tree.stored import FILE_MODE
from ops.tree.work import Trees
from ops.verdict import capture_findings, require_sound


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was made and checked: it is sound and durable, but for the last tag files.

    `digests` are the SHA-256 of the tag files that are there.
    """

    captured: Capture
    database: DatabaseSummary
    described: Describe
    digests: dict[str, str]
    counts: CheckCounts
    findings: tuple[Finding, ...]


def make_payload(
    bag: Path,
    source: SourceSurvey,
    profile: Profile,
    *,
    base: Snapshot | None,
    lock: int,
    jobs: int,
    lock_timeout_seconds: float,
    hold_seconds: float,
    clock: Clock,
    progress: ReportProgress,
) -> Made:
    """Capture an instance into a bag, write ledger and manifest, and check what was written.

    Args:
        bag: A private directory with an empty payload, in a store.
        source: The instance.
        profile: What the application's rows mean.
        base: The snapshot to share unchanged files with; None to copy all.
        lock: The descriptor of the store, which workers keep, and through which it is synced.
        jobs: How many processes work on files; 0 leaves it to us.
        lock_timeout_seconds: How long to wait for a lock of the database.
        hold_seconds: For how long at most the source's writers may be held up.
        clock: The time.
        progress: Called as the work goes on.

    Raises:
        SourceError: The source cannot be read, or is damaged.
        DestinationError: The bag cannot be written.
        VerificationError: What was written is not right.
        BusyError: The database stayed locked.
    """
    copy = Instance(database=bag / DATABASE, attachments=bag / ATTACHMENTS)
    trees = Trees(
        source=source.instance.attachments,
        copy=copy.attachments,
        stored=True,
        earlier=None if base is None else (base.ledger, base.instance.attachments),
    )
    jobs = fitting_jobs(jobs, files=source.size.files, size=source.size.bytes)
    with (
        crew(trees, jobs=jobs, keep=(lock,)) as workers,
        flushing(lambda: DISK.sync_file_system(bag, lock), background=workers.parallel) as flusher,
    ):
        with _scratch(bag) as scratch:
            captured = capture(
                source.instance,
                copy,
                workers,
                profile=profile,
                size=source.size,
                scratch=scratch,
                lock_timeout_seconds=lock_timeout_seconds,
                hold_seconds=hold_seconds,
                shares=base is not None,
                clock=clock,
                progress=progress,
            )
        if base is not None:
            share_pages(base.instance.database, copy.database)
        database = _freeze_database(copy.database)
        described, digests = _write_down(bag, workers, captured, database)
        progress(Progress(step="write to disk"))
        flusher.start()
        counts, found = check_pair(
            copy,
            workers,
            profile=profile,
            expected=captured.tree.entries,
            checking=lambda advance: Inspection(
                captured.tree.entries, trust_shared=True, advance=advance
            ),
            progress=progress,
        )
        progress(Progress(step="write to disk"))
    links = tuple(check_links(described.links))
    findings = (*source.findings, *links, *capture_findings(captured), *found)
    if any(finding.kind == "integrity" for finding in found):
        with _scratch(bag) as scratch:
            refuse_damage(
                source.instance,
                profile,
                scratch=scratch,
                lock_timeout_seconds=lock_timeout_seconds,
            )
    require_sound(findings)
    return Made(
        captured=captured,
        database=database,
        described=described,
        digests=digests,
        counts=counts,
        findings=findings,
    )


@contextmanager
def _scratch(bag: Path) -> Iterator[Path]:
    """Make a directory for a database that must be recovered to be read."""
    path = bag / "scratch"
    try:
        path.mkdir(mode=0o700)
    except OSError as error:
        raise os_failure(DestinationError, "create the directory", path, error) from error
    yield path
    remove_tree(path, error=DestinationError)


def _freeze_database(path: Path) -> DatabaseSummary:
    """Make the copy of a database read-only, and describe it."""
    tables: tuple[str, ...] = ()
    rows = 0
    try:
        status = path.stat()
        os.chown(path, os.geteuid(), os.getegid())
        path.chmod(FILE_MODE)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        connection = connect(path, "mode=ro&immutable=1", 0)
        try:
            tables = list_tables(connection)
            rows = sum(count_rows(connection, table) for table in tables)
        finally:
            connection.close()
    except OSError as error:
        raise os_failure(DestinationError, "read", path, error) from error
    except sqlite3.DatabaseError:
        tables, rows = (), 0  # its check is about to say what is wrong with it
    return DatabaseSummary(
        size=status.st_size,
        sha256=digest,
        mode=f"{status.st_mode & 0o7777:04o}",
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        tables=len(tables),
        rows=rows,
    )


def _write_down(
    bag: Path, workers: Crew, captured: Capture, database: DatabaseSummary
) -> tuple[Describe, dict[str, str]]:
    """Write ledger and manifest; return what was counted, and their digests."""
    with bag_writer(bag) as writer:
        described = Describe(captured.tree.entries, PREFIX, writer.write)
        writer.write(encode_head(), manifest_line(database.sha256, DATABASE))
        workers.start(described)
        workers.finish()
        return described, writer.digests()
