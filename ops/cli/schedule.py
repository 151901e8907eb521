"""Schedules, and what installing them changes, as lines and as documents."""

import difflib
from collections.abc import Sequence
from typing import Any

from rich.text import Text

from ops.cli.render import facts, heading
from ops.names import display
from ops.report import Report
from ops.schedule.install import Change
from ops.schedule.kinds import Kind

_STYLES = {"+": "green", "-": "red", "@": "cyan"}


def text_lines(kind: Kind, texts: dict[str, str]) -> list[Text]:
    """Return the files of a schedule as they are; several are told apart by a comment."""
    lines: list[Text] = []
    for name, text in texts.items():
        if kind is Kind.SYSTEMD:
            lines += [Text()] if lines else []
            lines.append(Text(f"# {name}", style="dim"))
        lines += [Text(line) for line in text.splitlines()]
    return lines


def text_document(kind: Kind, name: str, texts: dict[str, str], remarks: Sequence[str]) -> Any:
    """Return the same as a JSON document."""
    files = [{"path": path, "change": "printed", "content": text} for path, text in texts.items()]
    return _document(kind, name, files, (), remarks, installed=False)


def change_lines(changes: Sequence[Change]) -> list[Text]:
    """Return what is going to change, as a unified diff."""
    lines: list[Text] = []
    for change in changes:
        before, after = _text(change.before), _text(change.after)
        old = change.label if change.before is not None else "/dev/null"
        new = change.label if change.after is not None else "/dev/null"
        lines += [
            Text(_shown(line), style=_STYLES.get(line[0], ""))
            for line in difflib.unified_diff(before, after, old, new, lineterm="")
        ]
    return lines


def done_lines(
    changes: Sequence[Change], commands: Sequence[str], *, removed: bool, dry_run: bool
) -> list[Text]:
    """Return what was changed, and the commands that are left to the operator."""
    if not any(change.needed for change in changes):
        title = "Nothing to change"
    elif dry_run:
        title = "Would change"
    else:
        title = "Removed" if removed else "Installed"
    lines = [heading(title, "bold green"), *facts((one.label, one.words) for one in changes)]
    if commands:
        what = "Then:" if removed else "Arm it, start it once, and see it work:"
        lines.append(heading(what))
        lines += [Text(f"  {command}") for command in commands]
    return lines


def done_document(
    kind: Kind,
    name: str,
    changes: Sequence[Change],
    commands: Sequence[str],
    remarks: Sequence[str],
    *,
    dry_run: bool,
) -> Any:
    """Return the same as a JSON document."""
    files = [
        {
            "path": change.label,
            "change": change.words,
            "content": None if change.after is None else change.after.decode("utf-8", "replace"),
        }
        for change in changes
    ]
    return _document(kind, name, files, commands, remarks, installed=not dry_run)


def _document(
    kind: Kind,
    name: str,
    files: list[dict[str, Any]],
    commands: Sequence[str],
    remarks: Sequence[str],
    *,
    installed: bool,
) -> dict[str, Any]:
    details: dict[str, Any] = {
        "kind": kind.value,
        "name": name,
        "changed": installed and any(one["change"] != "unchanged" for one in files),
        "files": files,
        "commands": list(commands),
        "remarks": list(remarks),
    }
    return Report(command="schedule", details=details).document()


def _shown(line: str) -> str:
    """Show a line of somebody else's file on one line, its backslashes as they are."""
    return display(line).replace("\\\\", "\\")


def _text(content: bytes | None) -> list[str]:
    return (content or b"").decode("utf-8", "surrogateescape").splitlines()
