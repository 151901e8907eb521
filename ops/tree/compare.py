"""Compare what a tree should hold with what it holds; re-read every byte."""

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ops.errors import OpsError, os_failure
from ops.model import Entry, Kind, narrowed_mode
from ops.names import display
from ops.tree.directories import Directories, open_quietly, split_path
from ops.tree.metadata import ACCESS_LIST, mode_without_acl, reach, read_xattrs
from ops.tree.scan import walk
from ops.tree.transfer import BUFFER_BYTES


def read_tree(
    root: Path,
    *,
    error: type[OpsError],
    contents: bool = True,
    advance: Callable[[int], None] = lambda _count: None,
) -> Iterator[Entry]:
    """Walk a tree and read it: the SHA-256 of every file, and extended attributes.

    Args:
        root: The directory.
        error: The class of failure to raise where it cannot be read.
        contents: Read the files. Otherwise digests stay empty.
        advance: Called with the number of bytes after each piece read.

    Yields:
        The entries, the second name of a hard link with `link` set to its first.

    Raises:
        OpsError: Of the class given, naming the path and the cause.
    """
    buffer = mmap.mmap(-1, BUFFER_BYTES)
    first_names: dict[tuple[int, int], Entry] = {}
    try:
        with Directories(root) as tree:
            for entry in walk(tree):
                first = first_names.get(entry.identity) if entry.links > 1 else None
                if first is not None and entry.kind is not Kind.DIRECTORY:
                    yield replace(entry, link=first.path, digest=first.digest, xattrs=first.xattrs)
                    continue
                read = _read_entry(tree, entry, buffer, contents=contents, advance=advance)
                if read is None:
                    continue
                if read.links > 1:
                    first_names[read.identity] = read
                yield read
    except OSError as failure:
        raise os_failure(error, "read", failure.filename or root, failure) from failure


def _read_entry(
    tree: Directories,
    entry: Entry,
    buffer: mmap.mmap,
    *,
    contents: bool,
    advance: Callable[[int], None],
) -> Entry | None:
    try:
        if entry.kind is Kind.SYMLINK:
            return entry
        if entry.kind is Kind.DIRECTORY:
            return replace(entry, xattrs=read_xattrs(tree.open(entry.path)))
        directory, name = split_path(entry.path)
        descriptor = tree.open(directory)
        if entry.kind is not Kind.FILE or not contents:
            return replace(entry, xattrs=read_xattrs(reach(name, descriptor)))
        reader = open_quietly(name, directory=descriptor)
        try:
            digest = _hash_descriptor(reader, buffer, advance)
            return replace(entry, digest=digest, xattrs=read_xattrs(reader))
        finally:
            os.close(reader)
    except FileNotFoundError:
        return None
    except OSError as error:
        error.filename = tree.full_path(entry.path)
        raise


def _hash_descriptor(reader: int, buffer: mmap.mmap, advance: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with memoryview(buffer) as view:
        while count := os.readv(reader, [view]):
            digest.update(view[:count])
            advance(count)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One way in which two entries of the same path differ, ready to print."""

    field: str
    expected: str
    found: str


def differences(expected: Entry, found: Entry) -> tuple[Difference, ...]:
    """List how an entry differs from what it should be.

    Access times are left out, since reading changes them. Digests count where both sides have
    one. "xattrs lost" means that some are missing and the rest are right, as on a file system
    that has none. A mode counts as kept when it is the narrowed one that a copy gets whose
    owner or group could not be kept (see `narrowed_mode`); the owner itself is a difference of
    its own.
    """
    if expected.kind is not found.kind:
        return (Difference(field="kind", expected=expected.kind, found=found.kind),)
    pairs = [("size", str(expected.size), str(found.size))]
    if expected.digest and found.digest:
        pairs.append(("content", expected.digest, found.digest))
    pairs.append(("link", display(expected.target), display(found.target)))
    pairs.append(("device", str(expected.device), str(found.device)))
    if expected.kind is not Kind.SYMLINK:  # Linux gives symbolic links no mode of their own
        mode = expected.mode
        if found.mode != mode:
            mode = narrowed_mode(
                mode_without_acl(expected) if _lost_acl(expected, found) else mode,
                owner_kept=expected.uid == found.uid,
                group_kept=expected.gid == found.gid,
            )
        pairs.append(("mode", f"{mode:04o}", f"{found.mode:04o}"))
    pairs.append(("mtime", _seconds(expected.modified_ns), _seconds(found.modified_ns)))
    pairs.append(("hard link", display(expected.link), display(found.link)))
    lost = set(found.xattrs) < set(expected.xattrs)
    name = "xattrs lost" if lost else "xattrs"
    pairs.append((name, _xattrs(expected), _xattrs(found)))
    pairs.append(("owner", f"{expected.uid}:{expected.gid}", f"{found.uid}:{found.gid}"))
    return tuple(
        Difference(field=field, expected=before, found=after)
        for field, before, after in pairs
        if before != after
    )


def _lost_acl(expected: Entry, found: Entry) -> bool:
    return ACCESS_LIST in dict(expected.xattrs) and ACCESS_LIST not in dict(found.xattrs)


def _seconds(nanoseconds: int) -> str:
    return f"{nanoseconds // 10**9}.{nanoseconds % 10**9:09d}"


def _xattrs(entry: Entry) -> str:
    # Values may be long or binary: a short digest of each is enough to see a difference.
    return " ".join(
        f"{display(name)}={hashlib.sha256(value).hexdigest()[:12]}" for name, value in entry.xattrs
    )
