"""Compare a database with what it should be: facts go in, findings come out."""

from collections.abc import Iterator, Mapping

from ops.model import Finding, PageDigests, Severity
from ops.names import display
from ops.sqlite.pages import changed_pages


def compare_databases(
    expected: PageDigests, found: PageDigests, owners: Mapping[int, str]
) -> Iterator[Finding]:
    """List the differences of two databases, one finding for each table or index.

    Args:
        expected: The digests of the database as it should be.
        found: Those of the one there is.
        owners: Whose page each differing page is, as `page_owners` says.
    """
    if expected.size != found.size:
        yield _changed("database: size", f"{expected.size} bytes", f"{found.size} bytes")
    pages: dict[str, list[int]] = {}
    for number in changed_pages(expected, found):
        pages.setdefault(owners.get(number, "unknown"), []).append(number)
    for owner, numbers in sorted(pages.items()):
        listed = ", ".join(str(number) for number in numbers[:8])
        more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""  # noqa: PLR2004
        yield _changed(
            f"database: {display(owner)}, page {listed}{more}",
            "the same bytes",
            "other bytes",
        )
    if expected.digest != found.digest and not pages and expected.size == found.size:
        yield _changed("database: content", expected.digest, found.digest)


def _changed(where: str, expected: str, found: str) -> Finding:
    return Finding(
        kind="changed", severity=Severity.ERROR, where=where, expected=expected, found=found
    )
