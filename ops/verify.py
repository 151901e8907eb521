"""Check an instance by itself, and against its source or the record of its copy."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ops.checks import check_links
from ops.counterpart import compare_with_manifest, compare_with_source
from ops.errors import DamagedError, DestinationError, SourceError, UsageError, os_failure
from ops.inspection import (
    DatabaseFacts,
    Effort,
    count_checks,
    forget_database,
    judge_database,
    match_files,
    read_entries,
    unreadable,
)
from ops.manifest import Head, ManifestError, decode_manifest
from ops.model import Finding, Instance, Progress, ReportProgress
from ops.names import display
from ops.profile import Profile
from ops.references import normal_path, read_references
from ops.report import CheckCounts
from ops.scratch import scratch_directory
from ops.settlement import refuse_unsettled
from ops.sqlite.content import NamedFile
from ops.sqlite.source import read_steadily
from ops.survey import find_attachments
from ops.tree.catalogue import Catalogue, catalogue_of
from ops.tree.compare import compare_trees
from ops.tree.crew import FEW_BYTES, FEW_FILES, fitting_jobs
from ops.tree.scan import measure_tree


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRequest:
    """What to verify, against what, and how thoroughly.

    At most one of `source` and `manifest` is given. `quick` leaves out the contents of files
    and the indexes of the database; `from_disk` has the kernel forget what it has of a file in
    memory before it is read. `jobs` processes read the files, 0 leaves it to us.
    """

    instance: Instance
    profile: Profile
    source: Instance | None = None
    manifest: Path | None = None
    quick: bool = False
    from_disk: bool = False
    jobs: int = 0
    lock_timeout_seconds: float = 30.0

    def effort(self, attachments: Path) -> Effort:
        """Return how a tree is read, after a look at whether there is much."""
        size = measure_tree(attachments, error=DestinationError, files=FEW_FILES, size=FEW_BYTES)
        jobs = fitting_jobs(self.jobs, files=size.files, size=size.bytes)
        return Effort(jobs=jobs, contents=not self.quick, from_disk=self.from_disk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found and what was looked at; how the database was read."""

    findings: tuple[Finding, ...]
    counts: CheckCounts
    way: str


def verify(request: VerifyRequest, *, progress: ReportProgress) -> Verification:
    """Verify an instance that may be in use, leaving nothing beside it.

    Raises:
        DestinationError: Half of it is missing or cannot be read.
        SourceError: The source to compare with cannot be used.
        UsageError: The manifest cannot be used.
        BusyError: A database stayed locked.
    """
    instance = request.instance
    unknown = refuse_unsettled((instance.database, instance.attachments), DestinationError)
    if request.source is not None:
        source = request.source
        unknown += refuse_unsettled((source.database, source.attachments), SourceError)
    try:
        attachments = find_attachments(request.instance.attachments)
    except SourceError as error:
        raise DestinationError(error.message, hint=error.hint) from error
    with scratch_directory(os.path.realpath(request.instance.database)) as scratch:
        manifest = _read_manifest(request.manifest, scratch) if request.manifest else None
        if request.from_disk and instance.database.is_file():
            forget_database(instance.database)  # while nothing here has it open
        database = _examine(request, scratch, progress)
        effort = request.effort(attachments)
        entries = read_entries(
            attachments, blame="destination", effort=effort, spill=scratch, progress=progress
        )
        found, references = match_files(database.named, entries)
        if references.missing and database.named is not None:
            still_there = _still_there(request, scratch, database.named, entries)
            found, references = match_files(still_there, entries)
        findings = (
            *unknown,
            *database.findings,
            *found,
            *check_links(entries.values()),
            *_compare(
                request, manifest, entries, effort=effort, scratch=scratch, progress=progress
            ),
        )
    return Verification(
        findings=findings,
        counts=count_checks(database, entries, references),
        way=database.way or "not readable",
    )


def _compare(
    request: VerifyRequest,
    manifest: tuple[Head, Catalogue] | None,
    entries: Catalogue,
    *,
    effort: Effort,
    scratch: Path,
    progress: ReportProgress,
) -> Iterator[Finding]:
    """Compare with the manifest or the source, where one was given."""
    timeout_seconds = request.lock_timeout_seconds
    database = request.instance.database
    try:
        if manifest is not None:
            progress(Progress(step="compare with the manifest"))
            head, expected = manifest
            yield from compare_trees(expected, entries, root=request.instance.attachments)
            yield from compare_with_manifest(
                database, head, scratch=scratch, timeout_seconds=timeout_seconds
            )
        if request.source is not None:
            progress(Progress(step="compare with the source"))
            yield from compare_with_source(
                request.instance,
                entries,
                request.source,
                scratch=scratch,
                timeout_seconds=timeout_seconds,
                effort=effort,
                progress=progress,
            )
    except OSError as error:
        raise os_failure(DestinationError, "compare", error.filename or database, error) from error


def _examine(request: VerifyRequest, scratch: Path, progress: ReportProgress) -> DatabaseFacts:
    """Judge the database; damage is a finding, a database that cannot be reached is not."""
    progress(Progress(step="check database"))
    try:
        return read_steadily(
            request.instance.database,
            lambda database: judge_database(
                database.connection, request.profile, quick=request.quick, way=database.way
            ),
            scratch=scratch,
            timeout_seconds=request.lock_timeout_seconds,
        )
    except DamagedError as error:
        return DatabaseFacts(findings=(unreadable(error.message),), named=None, tables=0, way=None)
    except SourceError as error:
        raise DestinationError(error.message, hint=error.hint) from error


def _still_there(
    request: VerifyRequest,
    scratch: Path,
    named: tuple[NamedFile, ...],
    entries: Catalogue,
) -> tuple[NamedFile, ...]:
    """Leave out rows whose file is missing because a live instance has deleted both since."""
    again = read_steadily(
        request.instance.database,
        lambda database: tuple(read_references(database.connection, request.profile)),
        scratch=scratch,
        timeout_seconds=request.lock_timeout_seconds,
    )
    now = {(row.table, row.row, row.path) for row in again}
    return tuple(
        row
        for row in named
        if (normal_path(row.path) or b"") in entries or (row.table, row.row, row.path) in now
    )


def _read_manifest(path: Path, spill: Path) -> tuple[Head, Catalogue]:
    try:
        with path.open("rb") as file:
            head, entries = decode_manifest(file)
            return head, catalogue_of(entries, spill)
    except ManifestError as error:
        raise UsageError(
            f"cannot use the manifest {display(path)}: {error}",
            hint="name the file that `inv clone --manifest` wrote",
        ) from error
    except OSError as error:
        raise os_failure(UsageError, "read the manifest", path, error) from error
