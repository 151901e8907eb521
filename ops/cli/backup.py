"""Snapshots, their making and their pruning, as lines and as documents."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from ops.backup import BackupPlan
from ops.cli.format import count_of, format_bytes, format_duration
from ops.cli.render import facts, finding_lines, heading, reference_words, tally
from ops.names import display
from ops.nightly import Night
from ops.prune import Pruned
from ops.report import SCHEMA_VERSION, Report
from ops.retention import Decision, describe_policy
from ops.snapshot import VERIFIED, last_push
from ops.store import Snapshot

_MOST_REASONS = 3


def plan_lines(plan: BackupPlan, decisions: Sequence[Decision]) -> list[Text]:
    """Return what a backup would do."""
    source, request = plan.source, plan.request
    share = f"with {plan.base.name}" if plan.base else "nothing: all files are copied"
    rows = [
        ("source", request.source.origin),
        ("  database", f"{display(source.instance.database)} ({source.way})"),
        ("  attachments", display(source.instance.attachments)),
        ("store", display(request.store)),
        ("share", share),
        ("profile", f"{request.profile.name} ({request.profile.title})"),
    ]
    return [
        heading("Back up"),
        *facts(rows),
        *finding_lines(source.findings),
        *decision_lines(decisions, dry_run=True),
    ]


def backup_lines(night: Night) -> list[Text]:
    """Return the report of a nightly run."""
    made, snapshot = night.outcome.made, night.outcome.snapshot
    summary = snapshot.summary
    assert summary is not None  # noqa: S101 - it was just made
    tree, database = summary.attachments, summary.database
    new = tree.files - tree.shared_files
    rows = [
        ("snapshot", display(snapshot.path)),
        (
            "captured",
            (
                f"as of {summary.captured:%Y-%m-%d %H:%M:%S} UTC; read transaction open for "
                f"{format_duration(made.captured.pinned_seconds)}"
            ),
        ),
        ("database", f"{format_bytes(database.size)}, {count_of(database.rows, 'row')}"),
        (
            "attachments",
            (
                f"{count_of(tree.files, 'file')}, {format_bytes(tree.bytes)}: "
                f"{new:,} new ({format_bytes(tree.bytes - tree.shared_bytes)}), "
                f"{tree.shared_files:,} shared"
            ),
        ),
        ("checked", f"integrity, foreign keys, {count_of(new, 'new file')} read again"),
        (
            "",
            reference_words(made.counts.referenced, made.counts.digests_right, made.counts.orphans),
        ),
        ("findings", tally(made.findings)),
    ]
    lines = [
        heading(f"Snapshot {snapshot.name} in {format_duration(summary.seconds)}", "bold green"),
        *facts(rows),
        *finding_lines(made.findings),
    ]
    if summary.flagged:
        said = f"much smaller than the one before: {summary.flagged}; nothing is pruned"
        lines.append(Text.assemble(("warning: ", "yellow"), said))
    if night.pruned is None:
        lines.append(Text("  nothing pruned: no --keep flag and no ops.keep_… says what to keep"))
    else:
        lines += pruned_lines(night.pruned, dry_run=False)
    return lines


def worth_telling(night: Night) -> bool:
    """Tell whether somebody should look at a run that went well: it is flagged."""
    return bool(night.outcome.snapshot.flagged)


def snapshots_lines(
    store: Path, snapshots: Sequence[Snapshot], decisions: Sequence[Decision]
) -> list[Text]:
    """Return a table of a store."""
    reasons = {one.snapshot.name: one for one in decisions}
    rows = [("snapshot", "database", "files", "new", "shared", "state", "kept because")]
    for one in snapshots:
        summary = one.summary
        decision = reasons[one.name]
        why = _reasons(decision) if decision.keep else "would be pruned"
        if summary is None:
            rows.append((one.name, "", "", "", "", one.problem, why))
            continue
        tree = summary.attachments
        rows.append(
            (
                one.name,
                format_bytes(summary.database.size),
                f"{tree.files:,}",
                format_bytes(tree.bytes - tree.shared_bytes),
                format_bytes(tree.shared_bytes),
                state_of(one),
                why,
            )
        )
    title = f"{count_of(len(snapshots), 'snapshot')} in {display(store)}"
    return [heading(title), *(_table(rows, range(1, 5)) if snapshots else [])]


def state_of(snapshot: Snapshot) -> str:
    """Say what is known of a snapshot."""
    if snapshot.problem:
        return f"damaged: {snapshot.problem}"
    if not snapshot.history_whole:
        return "history damaged: verify it"
    if not snapshot.verified:
        return "damaged"
    said = "replaced by a restore" if snapshot.replaced else "verified"
    again = [event.instant for event in snapshot.events if event.what == VERIFIED]
    if again:
        said += f" again {again[-1]:%Y-%m-%d}"
    if snapshot.flagged:
        said += ", much smaller"
    if last_push(snapshot.events) is not None:
        said += ", pushed"
    return said


def _table(rows: Sequence[Sequence[str]], numbers: range = range(0)) -> list[Text]:
    """Align columns, those with numbers to the right."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines: list[Text] = []
    for number, row in enumerate(rows):
        cells = [
            cell.rjust(width) if at in numbers else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(Text("  " + "  ".join(cells).rstrip(), style="" if number else "dim"))
    return lines


def decision_lines(decisions: Sequence[Decision], *, dry_run: bool) -> list[Text]:
    """Return what stays and why, and what goes."""
    going = [one for one in decisions if not one.keep]
    word = "would go" if dry_run else "gone"
    title = f"  {len(decisions) - len(going)} kept, {len(going)} {word}"
    rows = [
        (one.snapshot.name, "keep" if one.keep else "remove", _reasons(one)) for one in decisions
    ]
    return [Text(title), *_table(rows)] if rows else []


def pruned_lines(pruned: Pruned, *, dry_run: bool) -> list[Text]:
    """Return the report of a pruning."""
    lines = decision_lines(pruned.decisions, dry_run=dry_run)
    lines += [
        Text.assemble(("warning: ", "yellow"), f"{name} is being read, and stays for now")
        for name in pruned.in_use
    ]
    return lines


def _reasons(decision: Decision) -> str:
    shown = decision.reasons[:_MOST_REASONS]
    more = len(decision.reasons) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def planned_document(plan: BackupPlan, decisions: Sequence[Decision]) -> dict[str, Any]:
    """Return what `backup-daily --dry-run --json` prints."""
    details = {
        "dry_run": True,
        "store": display(plan.request.store),
        "based_on": plan.base.name if plan.base else None,
        "decisions": decisions_document(decisions),
    }
    findings = plan.source.findings
    return Report(command="backup-daily", findings=findings, details=details).document()


def told_document(night: Night) -> dict[str, Any]:
    """Return what `backup-daily --json` prints."""
    outcome = night.outcome
    details = {
        "dry_run": False,
        "store": display(outcome.snapshot.path.parent),
        "snapshot": snapshot_document(outcome.snapshot),
        "policy": None if night.pruned is None else describe_policy(night.policy),
        "pruned": None if night.pruned is None else _pruned(night.pruned),
    }
    return Report(
        command="backup-daily", findings=outcome.made.findings, details=details
    ).document()


def snapshots_document(
    store: Path, snapshots: Sequence[Snapshot], decisions: Sequence[Decision]
) -> dict[str, Any]:
    """Return what `snapshots --json` prints."""
    by_name = {one.snapshot.name: one for one in decisions}
    listed = [
        {
            **snapshot_document(one),
            "kept": by_name[one.name].keep,
            "reasons": list(by_name[one.name].reasons),
        }
        for one in snapshots
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "snapshots",
        "ok": True,
        "store": display(store),
        "snapshots": listed,
    }


def snapshot_document(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as JSON values."""
    summary, pushed = snapshot.summary, last_push(snapshot.events)
    known: dict[str, Any] = {}
    if summary is not None:
        tree = summary.attachments
        known = {
            "captured": summary.captured.isoformat(),
            "purpose": summary.purpose,
            "database_bytes": summary.database.size,
            "rows": summary.database.rows,
            "files": tree.files,
            "attachments_bytes": tree.bytes,
            "shared_files": tree.shared_files,
            "shared_bytes": tree.shared_bytes,
            "based_on": summary.based_on or None,
            "flagged": snapshot.flagged or None,
            "seconds": summary.seconds,
        }
    return {
        "name": snapshot.name,
        "path": display(snapshot.path),
        "verified": snapshot.verified,
        "problem": snapshot.problem or None,
        "pushed": None if pushed is None else pushed.instant.isoformat(),
        **known,
    }


def decisions_document(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """Return decisions as JSON values."""
    return [
        {"name": one.snapshot.name, "keep": one.keep, "reasons": list(one.reasons)}
        for one in decisions
    ]


def pruned_document(store: Path, pruned: Pruned, *, dry_run: bool) -> dict[str, Any]:
    """Return what `prune --json` prints."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "prune",
        "ok": True,
        "dry_run": dry_run,
        "store": display(store),
        **_pruned(pruned),
    }


def _pruned(pruned: Pruned) -> dict[str, Any]:
    return {
        "decisions": decisions_document(pruned.decisions),
        "removed": list(pruned.removed),
        "in_use": list(pruned.in_use),
    }
