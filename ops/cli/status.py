"""The status as lines and as a document."""

from typing import Any

from rich.text import Text

from ops.cli.format import count_of, format_bytes
from ops.cli.recover import FOUND
from ops.cli.render import facts, finding_lines, heading
from ops.names import display
from ops.report import SCHEMA_VERSION, finding_document
from ops.settings import Setting
from ops.status import Place, Status


def status_lines(status: Status) -> list[Text]:
    """Return the status for people."""
    lines = [heading("Versions"), *facts(_setting(row) for row in status.versions)]
    given = [row for row in status.settings if row.value]
    lines += [heading("Settings in force"), *facts(_setting(row) for row in given)]
    lines += [heading("Source"), *_source_lines(status)]
    if status.places:
        lines.append(heading("File systems"))
        lines += facts((display(place.path), _place_words(place)) for place in status.places)
    if status.left:
        lines.append(heading("Destinations"))
        lines += facts((display(place), FOUND[left]) for place, left in status.left)
    return lines


def _setting(row: Setting) -> tuple[str, str]:
    return row.name, f"{display(row.value)}  ({row.origin})"


def _source_lines(status: Status) -> list[Text]:
    rows: list[tuple[str, str]] = []
    if status.location is not None:
        rows = [
            ("found by", status.location.origin),
            ("database", display(status.location.instance.database)),
            ("attachments", display(status.location.instance.attachments)),
        ]
    survey = status.survey
    if survey is not None:
        size = survey.size
        rows += [
            ("state", f"{survey.way}, {count_of(survey.tables, 'table')}, integrity ok"),
            ("database", format_bytes(survey.database.entry.size)),
            ("attachments", f"{count_of(size.files, 'file')}, {format_bytes(size.bytes)}"),
        ]
    lines = facts(rows)
    if survey is not None:
        lines += finding_lines(survey.findings)
    if status.problem is not None:
        lines.append(Text.assemble(("  not usable: ", "yellow"), status.problem.message))
        if status.problem.hint:
            lines.append(Text.assemble(("  hint: ", "bold"), status.problem.hint))
    return lines


def _place_words(place: Place) -> str:
    inodes = "" if place.inodes_free is None else f", {place.inodes_free:,} inodes free"
    return (
        f"{place.kind}: {format_bytes(place.bytes_free)} of {format_bytes(place.bytes_total)} free"
        f"{inodes}; extended attributes: {_ability(place.xattrs)}; "
        f"reflinks: {_ability(place.reflinks)}{'; read-only' if place.read_only else ''}"
    )


def _ability(value: bool | None) -> str:
    return {True: "yes", False: "no", None: "not tried"}[value]


def status_document(status: Status) -> dict[str, Any]:
    """Return what `status --json` prints."""
    location, survey, problem = status.location, status.survey, status.problem
    source: dict[str, Any] = {"usable": survey is not None}
    if location is not None:
        source |= {
            "origin": location.origin,
            "database": display(location.instance.database),
            "attachments": display(location.instance.attachments),
        }
    if survey is not None:
        source |= {
            "way": survey.way.value,
            "tables": survey.tables,
            "database_bytes": survey.database.entry.size,
            "files": survey.size.files,
            "attachments_bytes": survey.size.bytes,
            "findings": [finding_document(finding) for finding in survey.findings],
        }
    if problem is not None:
        source["problem"] = {
            "exit_code": problem.exit_code,
            "message": problem.message,
            "hint": problem.hint,
        }
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "status",
        "ok": survey is not None,
        "versions": {row.name: row.value for row in status.versions},
        "settings": [
            {"name": row.name, "value": display(row.value), "origin": row.origin}
            for row in status.settings
        ],
        "source": source,
        "destinations": [
            {"path": display(place), "left": left.value} for place, left in status.left
        ],
        "file_systems": [
            {
                "path": display(place.path),
                "type": place.kind,
                "bytes_free": place.bytes_free,
                "bytes_total": place.bytes_total,
                "inodes_free": place.inodes_free,
                "read_only": place.read_only,
                "xattrs": place.xattrs,
                "reflinks": place.reflinks,
            }
            for place in status.places
        ],
    }
