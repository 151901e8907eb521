"""Push, pull and what is off-site, as lines and as documents."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text

from ops.cli.backup import decision_lines, decisions_document, snapshot_document, state_of
from ops.cli.format import count_of, format_bytes, format_duration
from ops.cli.render import facts, finding_lines, heading, tally
from ops.names import display
from ops.offsite.keeping import Forgetting
from ops.offsite.pull import Pull, PullPlan
from ops.offsite.push import Push, PushPlan
from ops.offsite.repository import Copy
from ops.offsite.status import OffsiteStatus, Row
from ops.report import SCHEMA_VERSION, finding_document
from ops.retention import Decision


def push_plan_lines(plan: PushPlan, decisions: Sequence[Decision] | None) -> list[Text]:
    """Return what a push would do."""
    request = plan.request
    what = "to push"
    if plan.confirmed is not None:
        what = f"nothing: it is there already, as {plan.confirmed.short}"
    rows = [
        ("snapshot", display(request.snapshot.path)),
        ("repository", request.restic.location),
        ("", "to be made" if not plan.repository else _short(plan.repository)),
        ("to do", what),
        ("begin from", "nothing: all is read" if plan.parent is None else plan.parent.name),
    ]
    lines = [heading("Push"), *facts(rows)]
    return lines + ([] if decisions is None else decision_lines(decisions, dry_run=True))


def push_lines(done: Push, forgetting: Forgetting | None) -> list[Text]:
    """Return the report of a push."""
    request = done.plan.request
    name, took = request.snapshot.name, format_duration(done.seconds)
    title = f"Pushed {name} in {took}" if done.uploaded else f"{name} is off-site already"
    rows = [
        ("repository", f"{request.restic.location} ({_short(done.repository)})"),
        ("restic", f"{done.copy.short}: every name and size is listed there"),
    ]
    lines = [heading(title, "bold green"), *facts(rows)]
    if forgetting is not None:
        lines += decision_lines(forgetting.decisions, dry_run=False)
        if not forgetting.reclaimed and forgetting.forgotten:
            lines.append(Text("  their room is not free yet: --reclaim frees it"))
    return lines


def _short(repository: str) -> str:
    return f"repository {repository[:10]}"


def push_plan_document(plan: PushPlan, decisions: Sequence[Decision] | None) -> dict[str, Any]:
    """Return what `push --dry-run --json` prints."""
    return _document(
        "push",
        dry_run=True,
        snapshot=plan.request.snapshot.name,
        repository=_repository(plan.request.restic.location, plan.repository),
        restic_snapshot=None if plan.confirmed is None else plan.confirmed.id,
        decisions=None if decisions is None else decisions_document(decisions),
    )


def push_document(done: Push, forgetting: Forgetting | None) -> dict[str, Any]:
    """Return what `push --json` prints."""
    request = done.plan.request
    return _document(
        "push",
        dry_run=False,
        snapshot=request.snapshot.name,
        repository=_repository(request.restic.location, done.repository),
        restic_snapshot=done.copy.id,
        uploaded=done.uploaded,
        seconds=round(done.seconds, 6),
        decisions=None if forgetting is None else decisions_document(forgetting.decisions),
        forgotten=None if forgetting is None else list(forgetting.forgotten),
        reclaimed=forgetting is not None and forgetting.reclaimed,
    )


def pull_plan_lines(plan: PullPlan) -> list[Text]:
    """Return what a pull would do."""
    rows = _pull_rows(plan)
    size = plan.size
    if size is None:
        rows.append(("to do", "nothing: the store has it already"))
    else:
        rows.append(("to pull", f"{count_of(size.files, 'file')}, {format_bytes(size.bytes)}"))
    return [heading("Pull"), *facts(rows)]


def _pull_rows(plan: PullPlan) -> list[tuple[str, str]]:
    copy, request = plan.copy, plan.request
    return [
        ("snapshot", f"{copy.name}, restic's {copy.short}"),
        ("pushed from", f"{display(copy.host)}:{display(copy.directory)}"),
        ("repository", f"{request.restic.location} ({_short(plan.repository)})"),
        ("store", display(request.store)),
    ]


def pull_lines(done: Pull) -> list[Text]:
    """Return the report of a pull."""
    rows = _pull_rows(done.plan)
    if done.audit is None:
        title = f"{done.snapshot.name} is in the store already"
        return [heading(title, "bold green"), *facts(rows)]
    audit = done.audit
    read = f"{count_of(audit.files_read, 'file')}, {format_bytes(audit.counts.bytes_read)} read"
    rows += [("checked", f"the bag, the database, {read}"), ("findings", tally(audit.findings))]
    title = f"Pulled {done.snapshot.name} in {format_duration(done.seconds)}"
    lines = [heading(title, "bold green"), *facts(rows), *finding_lines(audit.findings)]
    if done.complaint:
        said = f"all that came back is right, but restic complained: {done.complaint}"
        lines.append(Text.assemble(("warning: ", "yellow"), said))
    return lines


def pull_plan_document(plan: PullPlan) -> dict[str, Any]:
    """Return what `pull --dry-run --json` prints."""
    return _document("pull", dry_run=True, **_pulling(plan))


def pull_document(done: Pull) -> dict[str, Any]:
    """Return what `pull --json` prints."""
    audit = done.audit
    return _document(
        "pull",
        dry_run=False,
        **_pulling(done.plan),
        snapshot=snapshot_document(done.snapshot),
        checks=None if audit is None else asdict(audit.counts),
        findings=[] if audit is None else [finding_document(one) for one in audit.findings],
        complaint=done.complaint or None,
        seconds=round(done.seconds, 6),
    )


def _pulling(plan: PullPlan) -> dict[str, Any]:
    return {
        "store": display(plan.request.store),
        "repository": _repository(plan.request.restic.location, plan.repository),
        "copy": copy_document(plan.copy),
        "present": plan.present is not None,
        "files": None if plan.size is None else plan.size.files,
        "bytes": None if plan.size is None else plan.size.bytes,
    }


def status_lines(found: OffsiteStatus) -> list[Text]:
    """Return what is off-site and what is not."""
    store = "no store" if found.store is None else display(found.store)
    away = sum(bool(row.copies) for row in found.rows)
    lines = [
        heading(f"{count_of(away, 'snapshot')} off-site"),
        *facts(
            [
                ("repository", f"{found.location} ({_short(found.repository)})"),
                ("store", store),
            ]
        ),
    ]
    return lines + facts([(row.name, _words(row)) for row in found.rows])


def _words(row: Row) -> str:
    said = [row.place.value]
    if row.snapshot is not None:
        said.append(state_of(row.snapshot))
    if row.copies:
        said.append(", ".join(one.short for one in row.copies))
    return "; ".join(said)


def status_document(found: OffsiteStatus) -> dict[str, Any]:
    """Return what `offsite-status --json` prints."""
    return _document(
        "offsite-status",
        repository=_repository(found.location, found.repository),
        store=None if found.store is None else display(found.store),
        snapshots=[
            {
                "name": row.name,
                "state": row.place.name.lower(),
                "verified": None if row.snapshot is None else row.snapshot.verified,
                "copies": [copy_document(one) for one in row.copies],
            }
            for row in found.rows
        ],
    )


def copy_document(copy: Copy) -> dict[str, Any]:
    """Return a copy as JSON values."""
    return {
        "name": copy.name,
        "restic_snapshot": copy.id,
        "store": copy.store,
        "host": display(copy.host),
        "directory": display(copy.directory),
    }


def _repository(location: str, number: str) -> dict[str, Any]:
    return {"location": location, "id": number or None}


def _document(command: str, **values: Any) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "command": command, "ok": True, **values}
