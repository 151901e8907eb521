"""What travels between processes: records, blocks, and parts that cover everything once."""

import os
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.errors import SourceError
from ops.model import Entry, Kind
from ops.tree.blocks import BLOCK_RECORDS, pack, unpack
from ops.tree.directories import Directories
from ops.tree.listing import Name, list_directory
from ops.tree.metadata import ALL_KEPT, Kept, entry_from_stat
from ops.tree.parts import Part, Parts, cut
from ops.tree.records import (
    DIGEST,
    FLAGS,
    LINK,
    NAME,
    Record,
    altered,
    entry_of,
    record_from_stat,
    record_of,
)
from ops.tree.scan import scan_tree
from ops.tree.walking import lots, walk_order
from ops.tree.work import MOST_NAMES, Trees
from tests.filesystem import Directory, File, Link, Pipe, build
from tests.strategies import names, trees
from tests.test_engine_catalogue import entries_at

if TYPE_CHECKING:
    from random import Random

    from ops.tree.parts import Piece

# Parts


def _record(name: bytes) -> Record:
    return record_of(name, Entry(path=name, kind=Kind.FILE, size=1, digest="00" * 32), ALL_KEPT)


def _assert_cut_right(listed: list[Name]) -> list[Part]:
    parts = list(cut(listed))
    assert parts
    assert [name for part in parts for name in part.names] == listed
    assert all(len(part.names) <= BLOCK_RECORDS for part in parts)
    for part in parts:
        assert all(part.covers(name) for name, _ in part.names)
    assert parts[0].covers(b"")
    assert parts[-1].covers(b"\xff" * 300)
    return parts


_listings = st.lists(names, unique=True).map(
    lambda found: [(name, len(name) % 2 == 0) for name in sorted(found)]
)


@given(_listings, names)
@example([], b"any")
def test_a_few_names_are_one_part_that_covers_all(listed: list[Name], name: bytes) -> None:
    (part,) = _assert_cut_right(listed)
    assert part.covers(name)


@given(st.integers(0, 3 * MOST_NAMES), st.lists(names, max_size=20))
@example(BLOCK_RECORDS, [])
@example(BLOCK_RECORDS + 1, [b"00200", b"00200-", b"002", b"\0"])
@example(2 * BLOCK_RECORDS, [b"00199", b"00199\xff"])
def test_every_name_falls_into_one_part(count: int, others: list[bytes]) -> None:
    listed = [(b"%05d" % number, True) for number in range(count)]
    parts = _assert_cut_right(listed)
    assert len(parts) == max(1, -(-count // BLOCK_RECORDS))
    for name in [*others, *(name for name, _ in listed)]:
        assert sum(part.covers(name) for part in parts) == 1
        # What travels as a plain tuple is a part again.
        pieces = [cast("Piece", tuple(part)) for part in parts]
        assert sum(Part(*piece).covers(name) for piece in pieces) == 1


@given(st.integers(0, MOST_NAMES), st.sets(st.integers(0, 99_999), max_size=50))
def test_every_record_is_known_to_the_part_of_its_name(count: int, known: set[int]) -> None:
    listed = [(b"%05d" % number, True) for number in range(0, 2 * count, 2)]
    records = [_record(b"%05d" % number) for number in sorted(known)]
    blocks = [pack(records[at : at + 7])[1] for at in range(0, len(records), 7)]
    found = [part.known(blocks) for part in cut(listed)]
    assert sorted(name for one in found for name in one) == [record[NAME] for record in records]
    assert all(one[name][NAME] == name for one in found for name in one)


@given(st.integers(0, 900), st.randoms(use_true_random=False))
def test_parts_are_whole_once_all_have_come_and_then_in_order(count: int, random: "Random") -> None:
    listed = [(b"%05d" % number, True) for number in range(count)]
    parts = list(cut(listed))
    order = list(range(len(parts)))
    random.shuffle(order)
    collected = Parts(listed)
    for done, index in enumerate(order, 1):
        # Of some parts, nothing is left.
        kept = parts[index].names if index % 3 else ()
        whole = collected.add(pack([_record(name) for name, _ in kept]))
        assert whole is (done == len(parts))
    found = [record[NAME] for block in collected.blocks() for record in unpack(block[1])]
    assert found == [
        name for index, part in enumerate(parts) if index % 3 for name, _ in part.names
    ]


@given(st.lists(st.integers(), max_size=3 * BLOCK_RECORDS))
@example(list(range(BLOCK_RECORDS + 1)))
def test_lots_hold_everything_in_order(items: list[int]) -> None:
    found = list(lots(items))
    assert [item for lot in found for item in lot] == items
    assert all(0 < len(lot) <= BLOCK_RECORDS for lot in found)


# Records and blocks

_any_kind = st.sampled_from(list(Kind))
_entries = st.builds(lambda name: name, names).flatmap(lambda name: entries_at(name, _any_kind))


@given(_entries, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_a_record_is_the_whole_entry(
    entry: Entry, owner: bool, group: bool, xattrs: bool, settled: bool
) -> None:
    kept = Kept(owner=owner, group=group, xattrs=xattrs)
    record = record_of(entry.path, entry, kept, settled=settled)
    assert entry_of(b"", record) == entry
    assert entry_of(b"d", record).path == b"d/" + entry.path
    assert record[FLAGS] == (not owner) + 2 * (not group) + 4 * (not xattrs) + 8 * (not settled)
    (unpacked,) = unpack(pack([record])[1])
    assert unpacked == record
    other = altered(record, {LINK: b"first", DIGEST: b""})
    assert (other[LINK], other[DIGEST]) == (b"first", b"")
    assert altered(other, {LINK: record[LINK], DIGEST: record[DIGEST]}) == record


@given(st.lists(_entries, max_size=5), st.lists(st.booleans(), min_size=5, max_size=5))
def test_a_block_adds_its_records_up(entries: list[Entry], kept: list[bool]) -> None:
    records = [
        record_of(entry.path, entry, Kept(owner=one, group=not one, xattrs=one))
        for entry, one in zip(entries, kept, strict=False)
    ]
    first, packed, tally = pack(records)
    assert unpack(packed) == records
    assert first == (records[0][NAME] if records else b"")
    files = [entry for entry in entries if entry.kind is Kind.FILE]
    lost = sum(not one for one in kept[: len(entries)])
    read = sum(entry.size for entry in files if entry.digest)
    kept_count = len(entries) - lost
    assert tally == (len(entries), len(files), read, lost, kept_count, lost)


def test_a_record_of_what_stat_says_is_that_of_the_entry(tmp_path: Path) -> None:
    tree = Directory({b"f": File(b"xyz", mode=0o4711), b"d": Directory(), b"l": Link(b"f")})
    build(tmp_path / "tree", Directory({**tree.children, b"p": Pipe()}))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "tree/s"))
    if os.geteuid() == 0:
        os.mknod(tmp_path / "tree/c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(tmp_path / "tree/b", stat.S_IFBLK | 0o600, os.makedev(7, 200))
    found = sorted(os.listdir(os.fsencode(tmp_path / "tree")))
    assert len(found) >= 5
    for name in found:
        status = os.lstat(os.fsencode(tmp_path / "tree") + b"/" + name)
        record = record_from_stat(name, status)
        assert record == record_of(name, entry_from_stat(name, status), ALL_KEPT)
        digest, xattrs = bytes(32), (("user.a", b"b"),)
        record = record_from_stat(name, status, digest=digest, xattrs=xattrs)
        entry = entry_of(b"", record)
        assert (entry.digest, entry.xattrs) == ("00" * 32, xattrs)


@given(names, st.one_of(names, st.none()), st.booleans(), st.booleans())
def test_the_trees_travel_as_plain_values(
    source: bytes, copy: bytes | None, digests: bool, from_disk: bool
) -> None:
    trees = Trees(
        source=Path(os.fsdecode(source)),
        copy=None if copy is None else Path(os.fsdecode(copy)),
        blame="destination",
        digests=digests,
        from_disk=from_disk,
    )
    assert Trees.unpacked(trees.packed()) == trees


# Listings and their order


@given(trees())
def test_a_listing_tells_directories_and_files_apart(tree: Directory) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "tree"
        build(root, tree)
        with Directories(root) as directories:
            listed = list_directory(directories.open(b""))
        found = os.listdir(os.fsencode(root))
        kinds = {one: os.lstat(os.fsencode(root) + b"/" + one).st_mode for one in found}
        below = [one for one in sorted(kinds) if stat.S_ISDIR(kinds[one])]
        assert listed.directories == below
        assert listed.others == [
            (one, stat.S_ISREG(kinds[one])) for one in sorted(kinds.keys() - set(below))
        ]


@given(trees())
def test_the_order_of_the_walk_is_that_in_which_a_tree_is_walked(tree: Directory) -> None:
    with tempfile.TemporaryDirectory() as name:
        build(Path(name) / "tree", tree)
        walked = [
            entry.path
            for entry in scan_tree(Path(name) / "tree", error=SourceError)
            if entry.kind is not Kind.DIRECTORY
        ]
        assert sorted(walked, key=walk_order) == walked


@pytest.mark.parametrize(
    "walked", [[b"b", b"a/b", b"a/a/a", b"a-/a"], [b"z", b"a/z", b"a/b/c", b"a/b-/c", b"a-/b"]]
)
def test_files_come_before_what_lies_in_directories(walked: list[bytes]) -> None:
    backwards = walked[::-1]
    assert sorted(backwards, key=walk_order) == walked
