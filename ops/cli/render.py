"""Plans, outcomes and findings as lines of text."""

import re
from collections.abc import Iterable, Sequence

from rich.text import Text

from ops.cli.format import count_of, format_bytes, format_duration, shell_quote
from ops.clone import Outcome, Plan
from ops.destination import DestinationSurvey
from ops.model import Finding, Instance, Severity
from ops.names import display
from ops.profile import Profile
from ops.report import CheckCounts, Report, Room
from ops.verify import Verification, VerifyRequest

_MOST_SHOWN = 20
_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_SPEED_FROM_SECONDS = 0.05


def heading(text: str, style: str = "bold") -> Text:
    """Return a line that stands out."""
    return Text(text, style=style)


def facts(rows: Iterable[tuple[str, str]], *, indent: int = 2) -> list[Text]:
    """Return rows of a label and a value, the values aligned."""
    listed = list(rows)
    width = max((len(label) for label, _ in listed), default=0)
    return [
        Text.assemble(" " * indent, (label.ljust(width), "dim"), "  ", value)
        for label, value in listed
    ]


_SENTENCES = {
    "recorded-digest": "its row records SHA-256 {expected}, the file has {found}",
    "orphan": "no row names this file",
    "missing-file": "its row names a file, there is {found}",
    "link-outside": "a symbolic link that leads out of the attachments, to {found}",
    "outside": "its row names a path outside the attachments",
    "integrity": "{found}",
    "unchecked": "could not be checked: {found}",
    "missing-table": "the table is missing; {expected}",
    "foreign-key": "refers to {expected} that does not exist",
    "not-kept": "could not be kept: {found}",
    "unsettled": "{found}",
    "no-rule": "no rule of the profile is for it, and it has {found}",
    "original-left": "something of the source is in it: {found}",
    "not-searched": "{found}",
    "staging": "this is {found}",
}
"""How each kind of finding reads; the others say what was expected and found."""

_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def finding_line(finding: Finding) -> Text:
    """Put a finding into a sentence; digests are shortened, JSON has them whole."""
    sentence = _SENTENCES.get(finding.kind, "expected {expected}, found {found}")
    said = sentence.format(expected=finding.expected, found=finding.found)
    label = f"{finding.severity} {finding.kind}: "
    return Text.assemble(
        (label, _STYLES[finding.severity]), f"{finding.where}: ", _DIGEST.sub(r"\1…", said)
    )


def finding_lines(findings: Sequence[Finding]) -> list[Text]:
    """Return a line for each finding, the gravest first; beyond 20 of a severity, their number."""
    lines: list[Text] = []
    for severity in Severity:
        some = [finding for finding in findings if finding.severity is severity]
        lines += [finding_line(finding) for finding in some[:_MOST_SHOWN]]
        if some[_MOST_SHOWN:]:
            rest = count_of(len(some) - _MOST_SHOWN, f"more {severity}")
            more = f"{rest}; --json lists them all"
            lines.append(Text(more, style=_STYLES[severity]))
    return lines


def tally(findings: Sequence[Finding]) -> str:
    """Count findings by severity, for example "no errors, 5 warnings, 2 notes"."""
    counts = {
        severity: sum(finding.severity is severity for finding in findings) for severity in Severity
    }
    errors = counts[Severity.ERROR]
    return ", ".join(
        (
            count_of(errors, "error") if errors else "no errors",
            count_of(counts[Severity.WARNING], "warning"),
            count_of(counts[Severity.NOTE], "note"),
        )
    )


def plan_lines(plan: Plan) -> list[Text]:
    """Return the summary that comes before the question."""
    source, totals = plan.source, plan.totals
    standing = plan.destination.instance
    rows = [
        ("source", plan.request.source.origin),
        ("  database", f"{display(source.instance.database)} ({source.way})"),
        ("  attachments", display(source.instance.attachments)),
        ("to copy", "database " + format_bytes(totals.database_bytes)),
        (
            "",
            (
                f"{count_of(totals.files, 'file')} {format_bytes(totals.attachments_bytes)}, "
                f"{format_bytes(totals.bytes)} in all"
            ),
        ),
        ("destination", ""),
        ("  database", f"{display(standing.database)} ({_old_database(plan.destination)})"),
        (
            "  attachments",
            f"{display(standing.attachments)} ({_old_attachments(plan.destination)})",
        ),
    ]
    if plan.request.manifest is not None:
        replaced = "replaced" if plan.request.manifest.exists() else "new"
        rows.append(("  manifest", f"{display(plan.request.manifest)} ({replaced})"))
    rows += [
        ("left over", f"{display(place)}: by a killed run, settled first") for place in plan.left
    ]
    rows += [("room", _room_words(room)) for room in plan.rooms]
    rows.append(("profile", f"{plan.request.profile.name} ({plan.request.profile.title})"))
    return [heading("Clone"), *facts(rows), *finding_lines(source.findings)]


def _room_words(room: Room) -> str:
    free = "any amount" if room.bytes_free is None else format_bytes(room.bytes_free)
    place = display(room.path)
    return f"{format_bytes(room.bytes_needed)} needed, {free} free on the file system of {place}"


def _old_database(destination: DestinationSurvey) -> str:
    if destination.database_bytes is None:
        return "nothing there yet"
    return f"replaces {format_bytes(destination.database_bytes)}"


def _old_attachments(destination: DestinationSurvey) -> str:
    if destination.size is None:
        return "nothing there yet"
    size = destination.size
    return f"replaces {count_of(size.files, 'file')}, {format_bytes(size.bytes)}"


def outcome_lines(outcome: Outcome) -> list[Text]:
    """Return the report of a clone."""
    captured, counts, totals = outcome.capture, outcome.counts, outcome.totals
    destination = outcome.plan.destination.instance
    speed = ""
    if outcome.seconds >= _SPEED_FROM_SECONDS:
        speed = f", {format_bytes(totals.bytes / outcome.seconds)}/s"
    title = (
        f"Cloned the database and {count_of(totals.files, 'file')}: "
        f"{format_bytes(totals.bytes)} in {format_duration(outcome.seconds)}{speed}"
    )
    again = ""
    if captured.recopied:
        entries = count_of(captured.recopied, "entry", "entries")
        again = f"; {entries} brought up to date"
    held = ""
    if captured.held_seconds:
        held = f"; writers held up for {format_duration(captured.held_seconds)}"
    rows = [
        ("database", f"{display(destination.database)} ({format_bytes(totals.database_bytes)})"),
        (
            "attachments",
            f"{display(destination.attachments)} ({format_bytes(totals.attachments_bytes)})",
        ),
        (
            "captured",
            (
                f"as of {captured.instant:%Y-%m-%d %H:%M:%S} UTC in "
                f"{count_of(captured.rounds, 'round')}{again}; "
                f"read transaction open for {format_duration(captured.pinned_seconds)}{held}"
            ),
        ),
        ("checked", f"integrity, foreign keys, {count_of(counts.files, 'file')} read again"),
        ("", reference_words(counts.referenced, counts.digests_right, counts.orphans)),
        ("findings", tally(outcome.findings)),
    ]
    if outcome.plan.request.manifest is not None:
        rows.append(("manifest", display(outcome.plan.request.manifest)))
    usage = "To use the clone, set these and restart the application:"
    return [
        heading(title, "bold green"),
        *facts(rows),
        *finding_lines(outcome.findings),
        *usage_lines(usage, outcome.plan.request.profile, destination),
    ]


def usage_lines(title: str, profile: Profile, instance: Instance) -> list[Text]:
    """Say how the application is told of an instance, where that is known."""
    variables = profile.environment(instance).items()
    lines = [Text(f"  export {variable}={shell_quote(path)}") for variable, path in variables]
    return [heading(title), *lines] if lines else []


def reference_words(referenced: int, right: int, orphans: int) -> str:
    """Say how rows and files go together."""
    return (
        f"{count_of(referenced, 'file')} referenced by rows, "
        f"{count_of(right, 'recorded digest')} right, {count_of(orphans, 'orphan')}"
    )


def _matching_words(request: VerifyRequest, counts: CheckCounts) -> str:
    """Say what was compared between rows and files, and what was not."""
    if request.profile.is_none:
        return "rows and files not compared (--profile none)"
    words = reference_words(counts.referenced, counts.digests_right, counts.orphans)
    return f"{words} (digests not compared)" if request.quick else words


def verification_lines(
    request: VerifyRequest, verification: Verification, report: Report
) -> list[Text]:
    """Return the report of a verification."""
    counts = verification.counts
    bad = report.errors > 0
    against = "by itself"
    if request.source is not None:
        against = f"against {display(request.source.database)}"
    elif request.manifest is not None:
        against = f"against the manifest {display(request.manifest)}"
    contents = "sizes and times only (--quick)" if request.quick else "every byte read"
    rows = [
        ("database", f"{display(request.instance.database)} ({verification.way})"),
        ("attachments", display(request.instance.attachments)),
        ("checked", (f"{against}; {count_of(counts.tables, 'table')}; "
         f"{count_of(counts.files, 'file')}, {contents}")),
        ("", _matching_words(request, counts)),
        ("findings", tally(verification.findings)),
    ]  # fmt: skip
    title = "Verification failed" if bad else "Verified"
    if report.warnings and not bad:
        title = f"Verified, with {count_of(report.warnings, 'warning')}"
    return [
        heading(title, "bold red" if bad else "bold green"),
        *facts(rows),
        *finding_lines(verification.findings),
    ]
