"""What was recovered, as lines and as a document."""

from typing import Any

from rich.text import Text

from ops.cli.render import facts, heading
from ops.names import display
from ops.recover import Recovery
from ops.report import SCHEMA_VERSION
from ops.settlement import Left, Settled

FOUND = {
    Left.NOTHING: "nothing left behind",
    Left.RUNNING: "a run at work",
    Left.LITTER: "private files of a killed run",
    Left.UNFINISHED: "an unfinished swap",
}
"""How to say what a run left at a place."""

_DONE = {
    Settled.NOTHING: "Nothing to recover",
    Settled.REMOVED: "Removed what a killed run left; nothing of it had been put in place",
    Settled.DROPPED: "The old pair stays: nothing of the new one had been put in place",
    Settled.COMPLETED: "The new pair is in place: its swap was completed",
}


def recovery_lines(recovery: Recovery, *, dry_run: bool) -> list[Text]:
    """Return what was recovered for people."""
    left = any(found is not Left.NOTHING for _, found in recovery.found)
    told = "To be recovered" if dry_run and left else _DONE[recovery.done]
    rows = ((display(place), FOUND[found]) for place, found in recovery.found)
    return [heading(told), *facts(rows)]


def recovery_document(recovery: Recovery, *, dry_run: bool) -> dict[str, Any]:
    """Return what `recover --json` prints."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": "recover",
        "ok": True,
        "dry_run": dry_run,
        "places": [
            {"path": display(place), "left": found.value} for place, found in recovery.found
        ],
        "done": recovery.done.value,
    }
