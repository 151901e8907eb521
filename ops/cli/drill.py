"""The drill as lines, as a document, and as the files that an auditor keeps."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.text import Text

from ops.cli.format import format_duration
from ops.cli.render import facts, finding_lines, heading, tally
from ops.disk import DISK
from ops.drill import Drill
from ops.errors import DestinationError, os_failure
from ops.names import display
from ops.report import SCHEMA_VERSION, finding_document
from ops.snapshot import snapshot_name


def drill_document(drill: Drill, files: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return what `drill --json` prints, and its record."""
    summary, ran = drill.snapshot.summary, drill.command
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "drill",
        "ok": drill.passed,
        "failure": drill.failure or None,
        "snapshot": drill.snapshot.name,
        "captured": None if summary is None else summary.captured.isoformat(),
        "began": drill.began.isoformat(),
        "restore_seconds": round(drill.restore_seconds, 6),
        "checks": asdict(drill.counts),
        "ran": None
        if ran is None
        else {
            "arguments": list(ran.arguments),
            "exit_code": ran.code,
            "seconds": round(ran.seconds, 6),
            "output": ran.output,
        },
        "findings": [finding_document(one) for one in drill.findings],
        "files": [display(path) for path in files],
    }


def drill_lines(drill: Drill, files: tuple[Path, ...]) -> list[Text]:
    """Return the report of a drill."""
    rows = [
        ("snapshot", display(drill.snapshot.path)),
        ("recovery", f"took {format_duration(drill.restore_seconds)}, checks included"),
        ("checked", f"integrity, foreign keys, {drill.counts.files:,} files read again"),
        ("findings", tally(drill.findings)),
    ]
    if drill.command is not None:
        ran = drill.command
        ended = "ended: it took too long" if ran.code is None else f"exit code {ran.code}"
        took = format_duration(ran.seconds)
        rows.append(("command", f"{' '.join(ran.arguments)}: {ended} after {took}"))
    rows += [("record" if not number else "", display(path)) for number, path in enumerate(files)]
    title = "Drill passed" if drill.passed else f"Drill failed: {drill.failure}"
    lines = [heading(title, "bold green" if drill.passed else "bold red"), *facts(rows)]
    if drill.command is not None and drill.command.failed:
        lines += [Text(f"  | {line}") for line in drill.command.output.splitlines()[-20:]]
    return [*lines, *finding_lines(drill.findings)]


def write_records(directory: Path, drill: Drill, page: str) -> tuple[Path, ...]:
    """Write the record of a drill, as JSON and as a page; names are never used twice.

    Raises:
        DestinationError: They cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        stem = f"drill-{snapshot_name(drill.began)}"
        number = 1
        while any((directory / f"{stem}{suffix}").exists() for suffix in (".json", ".html")):
            number += 1
            stem = f"drill-{snapshot_name(drill.began)}-{number}"
    except OSError as error:
        raise os_failure(DestinationError, "write the record to", directory, error) from error
    files = directory / f"{stem}.json", directory / f"{stem}.html"
    document = json.dumps(drill_document(drill, files), indent=2)
    for path, content in zip(files, (document + "\n", page), strict=True):
        DISK.create(path, content.encode("utf-8", "backslashreplace"))
        DISK.sync(path)
    DISK.sync(directory)
    return files
