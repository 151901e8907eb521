"""The restore of a snapshot, as lines and as documents."""

from dataclasses import asdict
from typing import Any

from rich.text import Text

from ops.cli.format import count_of, format_bytes, format_duration
from ops.cli.render import (
    facts,
    finding_lines,
    heading,
    reference_words,
    tally,
    usage_lines,
)
from ops.extract import Extracted
from ops.names import display
from ops.report import Report
from ops.restore import RestoreOutcome, RestorePlan
from ops.store import Snapshot


def plan_lines(plan: RestorePlan, *, keep: bool) -> list[Text]:
    """Return the summary that comes before the question."""
    summary, standing = plan.summary, plan.destination
    tree = summary.attachments
    rows = [
        ("snapshot", display(plan.request.snapshot.path)),
        ("  captured", f"{summary.captured:%Y-%m-%d %H:%M:%S} UTC"),
        ("  database", f"{format_bytes(summary.database.size)}, {summary.database.rows:,} rows"),
        ("  attachments", f"{count_of(tree.files, 'file')}, {format_bytes(tree.bytes)}"),
        ("destination", ""),
        ("  database", display(standing.instance.database)),
        ("  attachments", display(standing.instance.attachments)),
    ]
    replaces = standing.database_bytes is not None or standing.size is not None
    if replaces:
        kept = "kept as a snapshot first" if keep else "NOT kept (--no-keep)"
        rows.append(("replaces", f"what stands there now, which is {kept}"))
    rows += [("left over", f"{display(place)}: by a killed run") for place in plan.left]
    return [heading("Restore"), *facts(rows), *finding_lines(plan.findings)]


def restored_lines(outcome: RestoreOutcome, kept: Snapshot | None) -> list[Text]:
    """Return the report of a restore."""
    plan, counts = outcome.plan, outcome.counts
    destination = plan.destination.instance
    title = f"Restored {plan.request.snapshot.name} in {format_duration(outcome.seconds)}"
    rows = [
        ("database", display(destination.database)),
        ("attachments", display(destination.attachments)),
        ("checked", f"integrity, foreign keys, {count_of(counts.files, 'file')} read again"),
        ("", reference_words(counts.referenced, counts.digests_right, counts.orphans)),
        ("findings", tally(outcome.findings)),
    ]
    if kept is not None:
        rows.append(("replaced", f"the old pair is snapshot {kept.name}"))
    usage = "To use it, set these and restart the application:"
    return [
        heading(title, "bold green"),
        *facts(rows),
        *finding_lines(outcome.findings),
        *usage_lines(usage, plan.request.profile, destination),
    ]


def plan_document(plan: RestorePlan) -> dict[str, Any]:
    """Return what `restore --dry-run --json` prints."""
    details = {"dry_run": True, **_plan(plan)}
    return Report(command="restore", findings=plan.findings, details=details).document()


def restored_document(outcome: RestoreOutcome, kept: Snapshot | None) -> dict[str, Any]:
    """Return what `restore --json` prints."""
    details = {
        "dry_run": False,
        **_plan(outcome.plan),
        "kept": None if kept is None else kept.name,
        "checks": asdict(outcome.counts),
        "seconds": round(outcome.seconds, 6),
    }
    return Report(command="restore", findings=outcome.findings, details=details).document()


def _plan(plan: RestorePlan) -> dict[str, Any]:
    instance = plan.destination.instance
    return {
        "snapshot": plan.request.snapshot.name,
        "captured": plan.summary.captured.isoformat(),
        "profile": plan.request.profile.name,
        "destination": {
            "database": display(instance.database),
            "attachments": display(instance.attachments),
        },
        "room": [{**asdict(room), "path": display(room.path)} for room in plan.rooms],
    }


def extracted_lines(snapshot: Snapshot, taken: Extracted) -> list[Text]:
    """Return the report on single files."""
    title = f"Restored {count_of(taken.files, 'file')} of {snapshot.name}"
    return [
        heading(title, "bold green"),
        *facts([("into", display(taken.directory)), ("size", format_bytes(taken.bytes))]),
    ]


def extracted_document(snapshot: Snapshot, taken: Extracted) -> dict[str, Any]:
    """Return what `restore --only --json` prints."""
    details = {
        "dry_run": False,
        "snapshot": snapshot.name,
        "into": display(taken.directory),
        "files": taken.files,
        "bytes": taken.bytes,
    }
    return Report(command="restore", details=details).document()
