"""What a run tells: plain values, ready to be shown or written as JSON."""

from dataclasses import dataclass, field
from typing import Any

from ops.errors import OpsError
from ops.model import Finding, Severity, count_severity

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Room on one file system: bytes and inodes needed and free, None where unlimited."""

    path: str
    bytes_needed: int
    bytes_free: int | None
    inodes_needed: int
    inodes_free: int | None

    @property
    def enough(self) -> bool:
        """Whether it suffices."""
        inodes = self.inodes_free is None or self.inodes_needed <= self.inodes_free
        return inodes and (self.bytes_free is None or self.bytes_needed <= self.bytes_free)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Figures of one instance, sizes in bytes."""

    database_bytes: int
    files: int
    entries: int
    attachments_bytes: int

    @property
    def bytes(self) -> int:
        """Database and attachments together."""
        return self.database_bytes + self.attachments_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckCounts:
    """What a verification looked at. Digests are those that rows record."""

    tables: int = 0
    files: int = 0
    bytes_read: int = 0
    referenced: int = 0
    digests_right: int = 0
    digests_wrong: int = 0
    missing: int = 0
    orphans: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of one run.

    `details` holds what only this command has, as JSON values under documented names.
    """

    command: str
    findings: tuple[Finding, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """The number of findings that mean: do not trust this copy."""
        return count_severity(self.findings, Severity.ERROR)

    @property
    def warnings(self) -> int:
        """The number of findings to look at."""
        return count_severity(self.findings, Severity.WARNING)

    @property
    def notes(self) -> int:
        """The number of findings that are good to know."""
        return count_severity(self.findings, Severity.NOTE)

    def document(self) -> dict[str, Any]:
        """Return the JSON document that `docs/json.md` describes."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "ok": not self.errors,
            "errors": self.errors,
            "warnings": self.warnings,
            "notes": self.notes,
            **self.details,
            "findings": [finding_document(finding) for finding in self.findings],
        }


def finding_document(finding: Finding) -> dict[str, str]:
    """Return a finding as JSON values."""
    return {
        "kind": finding.kind,
        "severity": finding.severity.value,
        "where": finding.where,
        "expected": finding.expected,
        "found": finding.found,
    }


def failure_document(command: str, failure: OpsError) -> dict[str, Any]:
    """Return the JSON document of a run that failed."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "ok": False,
        "error": error_document(failure),
    }


def error_document(failure: OpsError) -> dict[str, Any]:
    """Return a failure as JSON values."""
    return {
        "exit_code": failure.exit_code,
        "message": failure.message,
        "hint": failure.hint,
        "notes": list(getattr(failure, "__notes__", ())),
    }
