"""Decide whether a copied tree and a pinned database belong together."""

from collections.abc import Set as AbstractSet

from ops.references import follow_links, normal_path
from ops.sqlite.content import NamedFile
from ops.tree.update import TreeCopy


def absent_files(named: tuple[NamedFile, ...], tree: TreeCopy) -> frozenset[bytes]:
    """List the paths that rows name and the copy does not have."""
    paths = {normal_path(row.path) for row in named}
    return frozenset(
        path for path in paths if path is not None and follow_links(path, tree.entries) is None
    )


def moving_files(
    named: tuple[NamedFile, ...], tree: TreeCopy, moving: AbstractSet[bytes]
) -> frozenset[bytes]:
    """List the paths that changed just now and are not what their rows recorded.

    Those that changed each time they were read count too. A file at rest whose digest is not
    the recorded one is the application's own mistake.

    Args:
        named: The rows that name files.
        tree: The copy.
        moving: The paths that were copied again in this round.
    """
    paths: set[bytes] = set()
    for row in named:
        path = normal_path(row.path)
        entry = follow_links(path, tree.entries) if path is not None else None
        if entry is None or entry.path not in moving:
            continue
        wrong = row.digest and entry.digest and row.digest != entry.digest
        if wrong or entry.path in tree.unsettled:
            paths.add(entry.path)
    return frozenset(paths)
