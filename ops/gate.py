"""Decide whether a copied tree and a pinned database belong together."""

from collections.abc import Iterator

from ops.references import normal_path
from ops.sqlite.content import NamedFile
from ops.tree.update import Pass, TreeCopy


def lacking_files(
    named: tuple[NamedFile, ...], tree: TreeCopy, mirrored: Pass, added: Pass
) -> frozenset[bytes]:
    """List the paths whose file is not there, or changed just now and is not the row's."""
    moving = mirrored.copied | added.copied
    paths: set[bytes] = set()
    for row in named:
        path = normal_path(row.path)
        if path is None:
            continue
        entry = tree.entries.get(path)
        if entry is None or (
            path in moving and row.digest and entry.digest and row.digest != entry.digest
        ):
            paths.add(path)
    return frozenset(paths)


def late_entries(named: tuple[NamedFile, ...], tree: TreeCopy, added: Pass) -> frozenset[bytes]:
    """List what came or went after the pin and belongs to no row.

    A directory stays when anything in it stays.
    """
    wanted = {normal_path(row.path) for row in named}
    late = {path for path in added.new | added.gone if path not in wanted}
    if late:
        late -= {parent for path in tree.entries.keys() - late for parent in _parents(path)}
    return frozenset(late)


def _parents(path: bytes) -> Iterator[bytes]:
    while path:
        path = path.rpartition(b"/")[0]
        yield path
