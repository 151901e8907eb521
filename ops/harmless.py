"""See that a copy is harmless, before anybody gets it."""

from ops.errors import VerificationError
from ops.model import Finding, Instance, Severity
from ops.sanitise.search import search_names
from ops.sanitise.transform import Sanitised, search_database
from ops.sanitise.tree import search_contents


def search_copy(sanitised: Sanitised, copy: Instance, *, contents: bool) -> tuple[Finding, ...]:
    """Look for what was in the source, in all of a copy.

    Args:
        sanitised: What was removed from the database, and which files there are.
        copy: The copy, which is private still.
        contents: Look into the files as well.

    Raises:
        OpsError: It cannot be read.
    """
    found = list(search_database(copy.database, sanitised.originals.found))
    finder = sanitised.originals.finder()
    found += search_names((place.new for place in sanitised.places), finder)
    if contents:
        found += search_contents(copy.attachments, sanitised.places, finder)
    return tuple(found)


def require_harmless(findings: tuple[Finding, ...]) -> None:
    """Refuse a copy in which something of the source is left.

    Raises:
        VerificationError: Something is.
    """
    left = [one for one in findings if one.severity is Severity.ERROR]
    if left:
        raise VerificationError(
            f"something of the source is left in the copy: {left[0].where}"
            + (f" (and {len(left) - 1} more places)" if left[1:] else ""),
            hint="add a rule for it to the profile; see docs/staging.md",
            findings=findings,
        )


def lack_of_rules(findings: tuple[Finding, ...]) -> VerificationError | None:
    """Return the failure for columns that look as if they needed a rule; None without any."""
    without = [one for one in findings if one.kind == "no-rule"]
    if not without:
        return None
    more = f" (and {len(without) - 1} more)" if without[1:] else ""
    return VerificationError(
        f"no rule for {without[0].where}, which has {without[0].found}{more}",
        hint="add a rule to the profile, `keep` where it is harmless; see docs/staging.md",
        findings=findings,
    )


def refuse_suspects(findings: tuple[Finding, ...], *, strict: bool) -> None:
    """Refuse such columns, where that was asked for.

    Raises:
        VerificationError: There are some.
    """
    failure = lack_of_rules(findings) if strict else None
    if failure is not None:
        raise failure
