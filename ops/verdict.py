"""What a clone makes of what was captured and found, before anything is published."""

from collections.abc import Iterable

from ops.capture import Capture
from ops.errors import VerificationError
from ops.model import Finding, Severity
from ops.names import display
from ops.tree.catalogue import Catalogue
from ops.tree.metadata import Kept


def capture_findings(captured: Capture) -> Iterable[Finding]:
    """Tell what the copy could not keep, or could not read twice the same."""
    for path in sorted(captured.tree.unsettled):
        yield Finding(
            kind="unsettled",
            severity=Severity.WARNING,
            where=display(path),
            expected="the same bytes at each reading",
            found="a file that changed each time it was read",
        )
    yield from lost_findings(captured.tree.entries, captured.database_kept)


def lost_findings(entries: Catalogue, database: Kept) -> Iterable[Finding]:
    """Tell what a copy could not keep: its entries, and its database."""
    *_, owners, groups, xattrs = entries.tally()
    for what, lost in (
        ("owner", owners + (not database.owner)),
        ("group", groups + (not database.group)),
        ("extended attributes", xattrs + (not database.xattrs)),
    ):
        if lost:
            yield Finding(
                kind="not-kept",
                severity=Severity.WARNING,
                where=f"{lost} {'entry' if lost == 1 else 'entries'}: {what}",
                expected="as in the source",
                found="not allowed for this user, or unknown to the file system",
            )


def require_sound(findings: tuple[Finding, ...]) -> None:
    """Stop before anything is published when the copy is not right.

    Raises:
        VerificationError: It is not; the findings are attached.
    """
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if not errors:
        return
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if errors[1:] else ""
    hint = "try again; if it fails again, look at the disk"
    if {finding.kind for finding in errors} <= {"missing-file", "outside", "foreign-key"}:
        hint = "the source itself is like this: mend it, or copy it as it is with --profile none"
    raise VerificationError(
        f"the copy failed its check: {first.kind}: {first.where}: "
        f"expected {first.expected}, found {first.found}{more}",
        hint=hint,
        findings=findings,
    )
