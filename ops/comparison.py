"""Compare an instance with what it should be: facts go in, findings come out."""

from collections.abc import Iterator, Mapping

from ops.model import Entry, Finding, PageDigests, Severity
from ops.names import display
from ops.sqlite.pages import changed_pages
from ops.tree.compare import differences


def compare_trees(
    expected: Mapping[bytes, Entry],
    found: Mapping[bytes, Entry],
    *,
    unknown_xattrs: frozenset[str] = frozenset(),
) -> Iterator[Finding]:
    """List everything in which a tree differs from what it should be, in order of the paths.

    Other owners, as the copy of anybody but root has them, and attributes that the file system
    does not know are warnings, one for each sort.

    Args:
        expected: The entries that should be there, by path.
        found: Those that are.
        unknown_xattrs: Attributes whose absence is only a warning.
    """
    sorts: dict[tuple[str, str, str], int] = {}
    for path in sorted(expected.keys() | found.keys()):
        where = display(path) if path else "the attachments directory itself"
        before, after = expected.get(path), found.get(path)
        if after is None:
            kind = before.kind if before else ""
            yield _changed("missing", where, kind, "nothing")
        elif before is None:
            yield _changed("unexpected", where, "nothing", after.kind)
        else:
            lost = {name for name, _ in before.xattrs} - {name for name, _ in after.xattrs}
            for difference in differences(before, after):
                excused = difference.field == "xattrs lost" and lost <= unknown_xattrs
                if difference.field == "owner" or excused:
                    key = (difference.field, difference.expected, difference.found)
                    sorts[key] = sorts.get(key, 0) + 1
                    continue
                where_field = f"{where}: {difference.field}"
                yield _changed("changed", where_field, difference.expected, difference.found)
    for (field, wanted, got), count in sorted(sorts.items()):
        yield Finding(
            kind="changed",
            severity=Severity.WARNING,
            where=f"{count} {'entry' if count == 1 else 'entries'}: {field}",
            expected=wanted,
            found=got,
        )


def _changed(kind: str, where: str, expected: str, found: str) -> Finding:
    return Finding(kind=kind, severity=Severity.ERROR, where=where, expected=expected, found=found)


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
        yield _changed("changed", "database: size", f"{expected.size} bytes", f"{found.size} bytes")
    pages: dict[str, list[int]] = {}
    for number in changed_pages(expected, found):
        pages.setdefault(owners.get(number, "unknown"), []).append(number)
    for owner, numbers in sorted(pages.items()):
        listed = ", ".join(str(number) for number in numbers[:8])
        more = f" and {len(numbers) - 8} more" if len(numbers) > 8 else ""  # noqa: PLR2004
        yield _changed(
            "changed",
            f"database: {display(owner)}, page {listed}{more}",
            "the same bytes",
            "other bytes",
        )
    if expected.digest != found.digest and not pages and expected.size == found.size:
        yield _changed("changed", "database: content", expected.digest, found.digest)
