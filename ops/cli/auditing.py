"""The check of snapshots in a store, told."""

from dataclasses import asdict
from typing import Any

from rich.text import Text

from ops.audit import Audit, Effort, audit_snapshot, daily_sample
from ops.cli.clock import CLOCK
from ops.cli.console import messages
from ops.cli.decorator import Result
from ops.cli.format import count_of, format_bytes
from ops.cli.progress import show_progress
from ops.cli.render import facts, finding_lines, heading, tally
from ops.errors import SourceError, VerificationError
from ops.keeping import read_percent
from ops.names import display
from ops.profile import load_profile
from ops.report import Report
from ops.settings import Settings, required_store
from ops.store import LATEST, find_snapshot, list_snapshots, require_store
from ops.storing import point_latest
from ops.tree.inspecting import EVERYTHING, Sample

ALL = "all"


def audit_store(settings: Settings, snapshot: str, sample: str, *, from_disk: bool) -> Result:
    """Check one snapshot of a store or all of them, and tell what was found.

    Args:
        settings: Which store, which profile.
        snapshot: A name, latest, or all; empty for latest.
        sample: A percentage of the files, as given; empty for all of them.
        from_disk: Have the kernel forget what it has of a file before it is read.

    Raises:
        OpsError: The store or a snapshot cannot be read.
    """
    part = EVERYTHING
    if sample:
        part = daily_sample(read_percent(sample, "--sample"), CLOCK.now().toordinal())
    store = require_store(required_store(settings))
    listed = list_snapshots(store)
    chosen = listed if snapshot == ALL else (find_snapshot(store, snapshot or LATEST),)
    if not chosen:
        raise SourceError(
            f"the store has no snapshots: {display(store)}", hint="`inv backup-daily` makes one"
        )
    profile = load_profile(settings.profile.value)
    effort = Effort(sample=part, jobs=settings.jobs, from_disk=from_disk)
    with show_progress(messages()) as progress:
        audits = [
            audit_snapshot(
                one,
                [other for other in listed if other.name != one.name],
                profile,
                effort,
                clock=CLOCK,
                progress=progress,
            )
            for one in chosen
        ]
    point_latest(store)
    bad = [one.snapshot.name for one in audits if not one.sound]
    failure = None
    if bad:
        failure = VerificationError(
            f"{count_of(len(bad), 'snapshot')} of {len(audits)} must not be trusted: "
            f"{', '.join(bad)}",
            hint="the findings are listed on standard output",
        )
    document = _document(display(store), audits, part)
    return Result(document=document, lines=_lines(audits), failure=failure)


def _lines(audits: list[Audit]) -> list[Text]:
    lines: list[Text] = []
    for audit in audits:
        title = f"{'Verified' if audit.sound else 'Verification failed'}: {audit.snapshot.name}"
        read = f"{audit.files_read:,} read, {format_bytes(audit.counts.bytes_read)}"
        rows = [
            ("checked", f"the bag, the database, {count_of(audit.counts.files, 'file')}: {read}"),
            ("findings", tally(audit.findings)),
        ]
        rows += [
            ("shared with", f"{name}: {', '.join(display(path) for path in paths[:3])}")
            for name, paths in audit.sharing
        ]
        lines += [
            heading(title, "bold green" if audit.sound else "bold red"),
            *facts(rows),
            *finding_lines(audit.findings),
        ]
    return lines


def _document(store: str, audits: list[Audit], sample: Sample) -> dict[str, Any]:
    findings = tuple(finding for audit in audits for finding in audit.findings)
    details = {
        "store": store,
        "sample": {"part": sample[0], "parts": sample[1]},
        "snapshots": [
            {
                "name": audit.snapshot.name,
                "sound": audit.sound,
                "files_read": audit.files_read,
                "checks": asdict(audit.counts),
                "damage_shared_with": {
                    name: [display(path) for path in paths] for name, paths in audit.sharing
                },
            }
            for audit in audits
        ],
    }
    return Report(command="verify", findings=findings, details=details).document()
