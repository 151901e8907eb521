"""Look at a source before anything is written anywhere."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ops.checks import check_links, missing_tables
from ops.errors import SourceError, reach_failure
from ops.model import Entry, Finding, Instance, Kind, Progress, ReportProgress, Severity
from ops.names import display
from ops.profile import Profile
from ops.scratch import scratch_directory
from ops.sqlite.content import check_integrity, list_tables
from ops.sqlite.header import DatabaseFile
from ops.sqlite.source import OpenDatabase, Way, let_go, read_steadily
from ops.staging import is_staging, staging_source
from ops.tree.scan import TreeMeter, TreeSize, survey_tree

_DEVICES = frozenset({Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE})


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSurvey:
    """What a source looks like: real paths, the database file, totals, what is odd about it."""

    instance: Instance
    database: DatabaseFile
    way: Way
    tables: int
    size: TreeSize
    findings: tuple[Finding, ...]


def survey_source(
    instance: Instance,
    profile: Profile,
    *,
    quick: bool = False,
    count: bool = True,
    lock_timeout_seconds: float,
    progress: ReportProgress,
) -> SourceSurvey:
    """Validate a source: both halves are there, of the right kind, readable and sound.

    Args:
        instance: The source.
        profile: What is known of its application.
        quick: Leave the indexes of the database to the check of its copy.
        count: Look at every attachment, refuse those that cannot be made again, and count.
        lock_timeout_seconds: How long to wait for a lock.
        progress: Called as the work goes on.

    Raises:
        SourceError: It cannot be used; the message says which half and why.
        BusyError: The database stayed locked.
    """
    attachments = find_attachments(instance.attachments)
    with scratch_directory(os.path.realpath(instance.database)) as scratch:
        progress(Progress(step="check source database"))
        file, way, tables, findings = read_steadily(
            instance.database,
            lambda database: _survey_database(database, instance.database, profile, quick=quick),
            scratch=scratch,
            timeout_seconds=lock_timeout_seconds,
        )
    refuse_inside(file.path, attachments)
    meter = TreeMeter()
    links: list[Entry] = []
    for entry in survey_tree(attachments, meter, error=SourceError) if count else ():
        _refuse_device(entry, attachments)
        if entry.kind is Kind.SYMLINK:
            links.append(entry)
        progress(
            Progress(
                step="look at source attachments",
                files_done=meter.size.files,
                bytes_done=meter.size.bytes,
            )
        )
    return SourceSurvey(
        instance=Instance(database=file.path, attachments=attachments),
        database=file,
        way=way,
        tables=tables,
        size=meter.size,
        findings=(*findings, *check_links(links)),
    )


def find_attachments(path: Path) -> Path:
    """Return the real path of an attachments directory.

    Raises:
        SourceError: It is missing, is no directory, or cannot be read.
    """
    try:
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except FileNotFoundError as error:
        raise SourceError(
            f"attachments not found: {display(path)}",
            hint="check the path; `inv status` shows where it comes from",
        ) from error
    except (OSError, RuntimeError) as error:
        raise reach_failure(SourceError, "reach the attachments", path, error) from error
    if not stat.S_ISDIR(mode):
        raise SourceError(
            f"the attachments are not a directory: {display(path)}",
            hint="name the directory that holds the uploaded files",
        )
    return real


def refuse_inside(database: Path, attachments: Path) -> None:
    """Refuse a database that lies inside the attachments directory.

    Raises:
        SourceError: It does. Copying it as a file would disturb the locks that guard it.
    """
    if attachments in database.parents:
        raise SourceError(
            f"the database lies inside the attachments: {display(database)}",
            hint="move the database out of the attachments directory",
        )


def _survey_database(
    database: OpenDatabase, path: Path, profile: Profile, *, quick: bool
) -> tuple[DatabaseFile, Way, int, tuple[Finding, ...]]:
    """Look at a database, or refuse it.

    Raises:
        SourceError: It is damaged, empty or another application's.
    """
    findings = _judge_database(database, path, profile, quick=quick)
    return database.file, database.way, len(list_tables(database.connection)), findings


def refuse_damage(
    instance: Instance, profile: Profile, *, scratch: Path, lock_timeout_seconds: float
) -> None:
    """Check a source's database in full, after its copy was found damaged.

    Args:
        instance: The source.
        profile: What is known of its application.
        scratch: A private directory for a database that must be recovered to be read.
        lock_timeout_seconds: How long to wait for a lock.

    Raises:
        SourceError: It is the source that is damaged.
        BusyError: The database stayed locked.
    """
    read_steadily(
        instance.database,
        lambda database: _judge_database(database, instance.database, profile, quick=False),
        scratch=scratch,
        timeout_seconds=lock_timeout_seconds,
    )


def _judge_database(
    database: OpenDatabase, path: Path, profile: Profile, *, quick: bool
) -> tuple[Finding, ...]:
    if not list_tables(database.connection):
        raise SourceError(
            f"the database has no tables: {display(path)}",
            hint="it was created but never used; name the application's own database",
        )
    by_table = database.way is Way.ROLLBACK
    if by_table:
        let_go(database)  # its writers wait for as long as it is read: the copy is checked whole
    integrity = check_integrity(database.connection, quick=quick, by_table=by_table)
    if integrity.messages:
        raise SourceError(
            f"the database is corrupt: {display(path)}: {display(integrity.messages[0])}"
            + (f" (and {len(integrity.messages) - 1} more)" if integrity.messages[1:] else ""),
            hint="restore another copy, or try `sqlite3 DATABASE .recover`",
        )
    labelled = () if not is_staging(database.connection) else (staging_source("source database"),)
    missing = missing_tables(database.connection, profile)
    if missing:
        raise SourceError(
            f"this is not a {profile.title} database: {display(path)} has no table {missing[0]}",
            hint="name another database, another --profile, or --profile none to copy it anyway",
        )
    return labelled + tuple(
        Finding(
            kind="unchecked",
            severity=Severity.WARNING,
            where="source database",
            expected="checked",
            found=display(unchecked),
        )
        for unchecked in integrity.unchecked
    )


def _refuse_device(entry: Entry, root: Path) -> None:
    if entry.kind in _DEVICES and os.geteuid() != 0:
        raise SourceError(
            f"cannot copy a device as this user: {display(root)}/{display(entry.path)}",
            hint="remove it from the attachments, or run as root",
        )
