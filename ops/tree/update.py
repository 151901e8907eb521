"""Bring a copy of a tree up to date with its source, in one pass."""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from ops.model import Entry, Kind
from ops.tree.copying import Copier, VanishedError
from ops.tree.directories import Directories
from ops.tree.metadata import ALL_KEPT, Kept
from ops.tree.scan import walk

_NEVER = -1


@dataclass(slots=True, kw_only=True)
class TreeCopy:
    """What a copy holds so far, kept between passes because a live tree needs several.

    `entries` maps each path to the entry as it was read. `unsettled` are files that changed
    each time they were read; `narrowed` are entries whose owner, group or attributes the
    process could not keep.
    """

    entries: dict[bytes, Entry] = field(default_factory=dict)
    unsettled: set[bytes] = field(default_factory=set)
    narrowed: dict[bytes, Kept] = field(default_factory=dict)

    def forget(self, path: bytes) -> None:
        """Drop everything known of one path."""
        del self.entries[path]
        self.unsettled.discard(path)
        self.narrowed.pop(path, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one pass did.

    `copied` are the paths copied, `new` those of them that the copy did not have, `gone` those
    of the copy that the source has no more.
    """

    copied: frozenset[bytes]
    new: frozenset[bytes]
    gone: frozenset[bytes]


def update_copy(
    source: Directories,
    copier: Copier,
    copy: TreeCopy,
    *,
    delete: bool,
    advance: Callable[[Entry], None],
) -> Pass:
    """Copy what is new or changed in the source since the last pass; the first copies all.

    Unchanged is decided by inode, size, mtime and ctime, without reading. Hard links within
    the tree stay hard links. Directories get their metadata from `finish_copy`.

    Args:
        source: The tree to read.
        copier: Writes into the copy.
        copy: What the copy holds; brought up to date.
        delete: Remove from the copy what the source has no more. Otherwise it stays, and is
            only told in the result.
        advance: Called for each entry of the source once it is dealt with.

    Raises:
        OSError: A directory of the source cannot be read; `filename` is its path.
        SourceError: A file of the source cannot be read.
        DestinationError: The copy cannot be written.
    """
    first_names: dict[tuple[int, int], bytes] = {}
    seen: set[bytes] = set()
    copied: set[bytes] = set()
    new: set[bytes] = set()
    lost: set[bytes] = set()
    for entry in walk(source):
        known = entry.path in copy.entries
        try:
            if _bring_over(copier, copy, entry, first_names):
                copied.add(entry.path)
                if not known:
                    new.add(entry.path)
        except VanishedError:
            lost.add(entry.path)
            continue  # the old copy, if any, is gone too: the next pass sees what came instead
        seen.add(entry.path)
        advance(entry)
    _mend_links(copy, copied | lost)
    gone = frozenset(path for path in copy.entries if path not in seen)
    if delete:
        remove_entries(copier, copy, gone)
    return Pass(copied=frozenset(copied), new=frozenset(new), gone=gone)


def finish_copy(copier: Copier, copy: TreeCopy) -> None:
    """Give every directory of the copy its metadata, the deepest first.

    Raises:
        DestinationError: It cannot be set.
    """
    directories = [entry for entry in copy.entries.values() if entry.kind is Kind.DIRECTORY]
    for entry in sorted(directories, key=lambda entry: entry.path, reverse=True):
        _note(copy, entry.path, copier.finish_directory(entry))


def remove_entries(copier: Copier, copy: TreeCopy, paths: frozenset[bytes]) -> None:
    """Remove some entries from the copy; directories must be emptied by the same call.

    Raises:
        DestinationError: One cannot be removed.
    """
    for path in sorted(paths, reverse=True):
        _remove(copier, copy, path)
    _mend_links(copy, paths)


def _mend_links(copy: TreeCopy, moved: AbstractSet[bytes]) -> None:
    """Let the names of a file whose first name is gone or another file refer to the next one."""
    heirs: dict[bytes, bytes] = {}
    orphaned = [
        entry
        for entry in copy.entries.values()
        if entry.link and entry.link in moved and entry.path not in moved
    ]
    for entry in sorted(orphaned, key=lambda entry: _walk_order(entry.path)):
        heir = heirs.setdefault(entry.link, entry.path)
        copy.entries[entry.path] = replace(entry, link=b"" if heir == entry.path else heir)


def _walk_order(path: bytes) -> list[tuple[bool, bytes]]:
    """Order paths as `walk` does: the files of a directory before what lies in its directories."""
    *directories, name = path.split(b"/")
    return [*((True, directory) for directory in directories), (False, name)]


def _bring_over(
    copier: Copier, copy: TreeCopy, entry: Entry, first_names: dict[tuple[int, int], bytes]
) -> bool:
    """Copy one entry unless the copy has it as it is; tell whether it was copied."""
    known = copy.entries.get(entry.path)
    if entry.kind is Kind.DIRECTORY:
        return _bring_directory(copier, copy, entry, known)
    linked = entry.links > 1
    if known is not None and known.same_inode_state(entry):
        if linked:
            first_names.setdefault(entry.identity, entry.path)
        return False
    if known is not None:
        _remove_all(copier, copy, entry.path)
    first = first_names.get(entry.identity) if linked else None
    if first is not None:
        copier.link(entry, first)
        model = copy.entries[first]
        copy.entries[entry.path] = replace(model, path=entry.path, link=first)
        return True
    result = copier.copy(entry)
    # What would not settle, or may have changed unseen, is copied again by the next pass.
    again = result.fresh or not result.settled
    stored = replace(result.entry, changed_ns=_NEVER) if again else result.entry
    copy.entries[entry.path] = stored
    if not result.settled:
        copy.unsettled.add(entry.path)
    _note(copy, entry.path, result.kept)
    if result.entry.links > 1:  # maybe linked since it was listed
        first_names[result.entry.identity] = entry.path
    return True


def _bring_directory(copier: Copier, copy: TreeCopy, entry: Entry, known: Entry | None) -> bool:
    if known is not None and known.same_inode_state(entry):
        return False
    xattrs = copier.directory_xattrs(entry.path)
    if known is None or known.kind is not Kind.DIRECTORY:
        if known is not None:
            _remove(copier, copy, entry.path)
        if entry.path:  # the root is made by whoever owns the copy
            copier.make_directory(entry.path)
    copy.entries[entry.path] = replace(entry, xattrs=xattrs)
    return known is None


def _remove_all(copier: Copier, copy: TreeCopy, path: bytes) -> None:
    """Remove one entry and, when it was a directory, all below it."""
    if copy.entries[path].kind is Kind.DIRECTORY:
        inside = frozenset(name for name in copy.entries if name.startswith(path + b"/"))
        remove_entries(copier, copy, inside)
    _remove(copier, copy, path)


def _remove(copier: Copier, copy: TreeCopy, path: bytes) -> None:
    copier.remove(path, directory=copy.entries[path].kind is Kind.DIRECTORY)
    copy.forget(path)


def _note(copy: TreeCopy, path: bytes, kept: Kept) -> None:
    if kept != ALL_KEPT:
        copy.narrowed[path] = kept
