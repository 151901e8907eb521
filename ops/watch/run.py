"""A run as a monitor sees it: how it ended, and the figures that its document holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ops.errors import OpsError
from ops.model import Severity
from ops.snapshot import instant_of, is_snapshot_name

SEVERITIES: tuple[str, ...] = tuple(Severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a run worked on, as far as it says so: files and bytes, and the instant it shows.

    `findings` are counted by severity.
    """

    files: int | None = None
    bytes: int | None = None
    snapshot: datetime | None = None
    findings: tuple[tuple[str, int], ...] = tuple((severity, 0) for severity in SEVERITIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended: when, after how long, with which failure if any, and what it found.

    `lines` are what the operator sees of it.
    """

    task: str
    instant: datetime
    seconds: float
    failure: OpsError | None
    figures: Figures
    lines: Sequence[str]

    @property
    def exit_code(self) -> int:
        """The run's exit code."""
        return 0 if self.failure is None else self.failure.exit_code

    @property
    def title(self) -> str:
        """What came of it, on one line."""
        outcome = "done" if self.failure is None else f"failed with exit code {self.exit_code}"
        return f"{self.task}: {outcome} after {self.seconds:.1f} s"

    @property
    def text(self) -> str:
        """All of it: first what went wrong, then what the operator sees."""
        lines: list[str] = []
        if self.failure is not None:
            lines.append(f"error: {self.failure.message}")
            lines += [f"note: {note}" for note in getattr(self.failure, "__notes__", ())]
            lines += [f"hint: {self.failure.hint}"] * bool(self.failure.hint)
        return "\n".join([*lines, *self.lines])


def figures_of(document: Mapping[str, Any]) -> Figures:
    """Read the figures out of the document of a run, as `docs/json.md` describes it."""
    files, size = _amounts(document)
    counts = [
        (severity, sum(one["severity"] == severity for one in document.get("findings", ())))
        for severity in SEVERITIES
    ]
    return Figures(files=files, bytes=size, snapshot=_instant(document), findings=tuple(counts))


def _amounts(document: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Return files and bytes: of what was copied, or else of what was checked."""
    snapshot, copied = document.get("snapshot"), document.get("copied")
    if isinstance(snapshot, Mapping) and "files" in snapshot:
        return snapshot["files"], snapshot["database_bytes"] + snapshot["attachments_bytes"]
    if isinstance(copied, Mapping):
        return copied["files"], copied["bytes"]
    if document.get("files") is not None and document.get("bytes") is not None:
        return document["files"], document["bytes"]
    checked = [one["checks"] for one in document.get("snapshots", ()) if "checks" in one]
    checked = checked or [one for one in [document.get("checks")] if one]
    if not checked:
        return None, None
    return sum(one["files"] for one in checked), sum(one["bytes_read"] for one in checked)


def _instant(document: Mapping[str, Any]) -> datetime | None:
    """Return the instant that the snapshot shows which the run was about; the newest of several."""
    snapshot = document.get("snapshot")
    if isinstance(snapshot, Mapping):
        snapshot = snapshot.get("name")
    names = [snapshot, *(one.get("name") for one in document.get("snapshots", ()))]
    known = [name for name in names if isinstance(name, str) and is_snapshot_name(name)]
    return max(map(instant_of, known), default=None)
