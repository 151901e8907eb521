"""The adoption of older backups, as lines and as documents."""

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from ops.adopt import Adoption, Survey
from ops.cli.format import count_of
from ops.cli.render import facts, heading
from ops.names import display
from ops.report import SCHEMA_VERSION


def planned_lines(survey: Survey, known: frozenset[str]) -> list[Text]:
    """Return what would be taken over."""
    rows = [
        (
            f"{one.instant:%Y-%m-%d}",
            display(one.instance.database) + " (taken over before)" * (one.origin in known),
        )
        for one in survey.pairs
    ]
    title = f"{count_of(len(survey.pairs), 'older backup')} to take over"
    return [heading(title), *facts([*rows, *_halves(survey)])]


def told_lines(survey: Survey, done: Sequence[Adoption]) -> list[Text]:
    """Return what came of each."""
    made = sum(one.snapshot is not None for one in done)
    rows = [(display(one.older.instance.database), _outcome(one)) for one in done]
    title = f"Took over {count_of(made, 'older backup')}"
    return [heading(title), *facts([*rows, *_halves(survey)])]


def _outcome(one: Adoption) -> str:
    if one.failure is not None:
        return f"NOT taken over: {one.failure.message}"
    return "taken over before" if one.snapshot is None else f"snapshot {one.snapshot.name}"


def _halves(survey: Survey) -> list[tuple[str, str]]:
    return [("left out", f"{display(path)}: its other half is missing") for path in survey.halves]


def planned_document(survey: Survey, known: frozenset[str]) -> dict[str, Any]:
    """Return what `adopt --dry-run --json` prints."""
    pairs = [
        {
            "day": f"{one.instant:%Y-%m-%d}",
            "database": display(one.instance.database),
            "known": one.origin in known,
        }
        for one in survey.pairs
    ]
    return _document(survey, pairs, ok=True, dry_run=True)


def told_document(survey: Survey, done: Sequence[Adoption]) -> dict[str, Any]:
    """Return what `adopt --json` prints."""
    pairs = [
        {
            "day": f"{one.older.instant:%Y-%m-%d}",
            "database": display(one.older.instance.database),
            "known": one.known,
            "snapshot": None if one.snapshot is None else one.snapshot.name,
            "failure": None if one.failure is None else one.failure.message,
        }
        for one in done
    ]
    return _document(survey, pairs, ok=all(one.failure is None for one in done), dry_run=False)


def _document(
    survey: Survey, pairs: list[dict[str, Any]], *, ok: bool, dry_run: bool
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "adopt",
        "ok": ok,
        "dry_run": dry_run,
        "pairs": pairs,
        "halves": [display(path) for path in survey.halves],
    }
