"""The ledger: whatever a tree may hold is read back, and nothing else is taken for a ledger."""

import base64
import errno
import json
import os
import stat
import tempfile
from bisect import bisect_right
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ops.tree.blocks import BLOCK_RECORDS, unpack
from ops.tree.catalogue import Catalogue
from ops.tree.directories import join_path
from ops.tree.ledger import (
    COLUMNS,
    LedgerError,
    decode_block,
    encode_block,
    encode_folder,
    encode_head,
    read_ledger,
    read_lines,
)
from ops.tree.ledger_index import LedgerIndex
from ops.tree.records import (
    ACCESSED,
    ALLOCATED,
    CHANGED,
    DEVICE,
    DIGEST,
    FLAGS,
    GID,
    HOST,
    INODE,
    LINK,
    LINKS,
    MODE,
    NAME,
    NEVER,
    SHARED,
    SIZE,
    TARGET,
    UID,
    Record,
    Xattrs,
    altered,
)
from tests.filesystem import with_refusal
from tests.strategies import names

_KINDS = [
    stat.S_IFREG,
    stat.S_IFREG,
    stat.S_IFLNK,
    stat.S_IFIFO,
    stat.S_IFSOCK,
    stat.S_IFCHR,
    stat.S_IFBLK,
]
_paths = st.lists(names, min_size=1, max_size=3).map(b"/".join)
_targets = st.binary(min_size=1, max_size=30).map(lambda data: data.replace(b"\0", b"/"))
_times = st.integers(-(10**9 << 40), 10**9 << 40)
"""Nanoseconds of 64 bits end in 2262; some file systems go on for as long as anybody asks."""

_counts = st.integers(0, (1 << 63) - 1)
_owners = st.integers(0, (1 << 32) - 1)
_xattrs = st.dictionaries(
    st.one_of(st.sampled_from(["user.origin", "system.posix_acl_access"]), names.map(os.fsdecode)),
    st.binary(max_size=40),
    max_size=2,
).map(lambda pairs: tuple(sorted(pairs.items())))


def _record(
    name: bytes = b"file",
    *,
    mode: int = 0o100644,
    size: int = 5,
    digest: bytes = bytes(32),
    target: bytes = b"",
    link: bytes = b"",
    xattrs: Xattrs = (),
) -> Record:
    return (
        *(name, mode, 1000, 1000, 1_700_000_000_123_456_789, size, 0, digest),
        *(target, xattrs, link, 1_700_000_000_123_456_789, 0, 12, 1_700_000_000_000_000_001),
        *(1, size, 0),
    )


def _own(mode: int = 0o040755) -> Record:
    return _record(b"", mode=mode, size=0, digest=b"")


@st.composite
def _records(draw: st.DrawFn) -> Record:
    """Draw whatever the record of a file, a link, a pipe, a socket or a device can be."""
    kind = draw(st.sampled_from(_KINDS))
    regular = kind == stat.S_IFREG
    return (
        draw(names),
        kind | draw(st.integers(0, 0o7777)),
        draw(_owners),
        draw(_owners),
        draw(_times),
        draw(_counts) if regular else 0,
        draw(_counts) if kind in {stat.S_IFCHR, stat.S_IFBLK} else 0,
        draw(st.binary(min_size=32, max_size=32)) if regular else b"",
        draw(_targets) if kind == stat.S_IFLNK else b"",
        draw(_xattrs),
        draw(st.one_of(st.just(b""), _paths)),
        draw(_times),
        draw(_counts),
        draw(_counts),
        draw(st.one_of(st.just(NEVER), _times)),
        draw(st.integers(1, 65_000)),
        draw(_counts),
        draw(st.sampled_from([0, SHARED])),
    )


def _as_written(record: Record) -> Record:
    """Return a record without what belongs to the run alone that wrote it."""
    return altered(record, {HOST: 0, LINKS: 1, ALLOCATED: record[SIZE], FLAGS: 0})


_folders = st.builds(
    lambda own, mode, records: (
        altered(
            own,
            {
                NAME: b"",
                MODE: 0o040000 | mode,
                SIZE: 0,
                DEVICE: 0,
                DIGEST: b"",
                TARGET: b"",
                LINK: b"",
            },
        ),
        sorted({record[NAME]: record for record in records}.values()),
    ),
    _records(),
    st.integers(0, 0o7777),
    st.lists(_records(), max_size=5),
)


@dataclass(frozen=True)
class Tree:
    """Directories in the order of the walk: the path of each, its own record, and its others."""

    folders: tuple[tuple[bytes, Record, list[Record]], ...]

    def ledger(self) -> bytes:
        return encode_head() + b"".join(encode_folder(*folder) for folder in self.folders)


@st.composite
def ledgers(draw: st.DrawFn) -> Tree:
    folders = {b"": draw(_folders)}
    for name in draw(st.lists(names, max_size=4)):
        path = join_path(draw(st.sampled_from(sorted(folders))), name)
        folders[path] = draw(_folders)
    ordered = sorted(folders, key=lambda path: path.split(b"/") if path else [])
    return Tree(tuple((path, *folders[path]) for path in ordered))


def _written(ledger: bytes, directory: str) -> Path:
    path = Path(directory) / "ledger.jsonl"
    path.write_bytes(ledger)
    return path


def _flat(entries: Catalogue) -> list[tuple[bytes, Record, list[Record]]]:
    return [
        (path, own, [record for part in packed for record in unpack(part)])
        for path, own, packed, _ in entries.in_order()
    ]


# What is written is read


@given(names, _folders)
def test_a_directory_reads_back_as_it_was_written(
    path: bytes, folder: tuple[Record, list[Record]]
) -> None:
    own, records = folder
    (line,) = encode_folder(path, own, records).splitlines(keepends=True)
    line.decode("ascii")  # so that no program may stumble over it
    assert decode_block(line) == (path, [_as_written(one) for one in (own, *records)])


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 399, 400, 401])
def test_large_directories_are_cut_into_lines(tmp_path: Path, count: int) -> None:
    records = [_record(b"%05d" % number) for number in range(count)]
    encoded = encode_folder(b"", _own(), records)
    lines = encoded.splitlines(keepends=True)
    assert len(lines) == max(1, -(-count // BLOCK_RECORDS))
    blocks = [decode_block(line)[1] for line in lines]
    assert [record for block in blocks for record in block] == [_own(), *records]
    entries = read_ledger(_written(encode_head() + encoded, str(tmp_path)))
    assert _flat(entries) == [(b"", _own(), records)]
    assert entries.tally()[:2] == (count, count)


@given(ledgers())
def test_any_ledger_reads_back_as_it_was_written(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = _written(tree.ledger(), name)
        assert len(list(read_lines(path))) == len(tree.folders)
        entries = read_ledger(path, Path(name))
        assert _flat(entries) == [
            (folder, _as_written(own), [_as_written(one) for one in records])
            for folder, own, records in tree.folders
        ]


def test_a_ctime_that_does_not_count_is_written_as_none() -> None:
    line = encode_block(b"", [altered(_record(), {CHANGED: NEVER})])
    (entry,) = json.loads(line)[1]
    assert dict(zip(COLUMNS, entry, strict=True))["ctime_ns"] is None
    assert decode_block(line)[1][0][CHANGED] == NEVER


def test_a_ledger_is_read_by_any_program_that_reads_json() -> None:
    record = altered(
        _record(
            b"caf\xe9",
            xattrs=(("user.origin", b"\0\xff"),),
            mode=0o104755,
            digest=b"\x01" * 32,
            link=b"a/b",
        ),
        {CHANGED: 7},
    )
    head, line = (encode_head() + encode_block(b"d\xff", [record])).splitlines()
    assert json.loads(head) == {
        "format": "ciso-ops ledger",
        "schema_version": 1,
        "columns": list(COLUMNS),
    }
    path, (entry,) = json.loads(line)
    assert path == "d\udcff"
    assert dict(zip(COLUMNS, entry, strict=True)) == {
        "name": "caf\udce9",
        "mode": "104755",
        "uid": 1000,
        "gid": 1000,
        "mtime_ns": 1_700_000_000_123_456_789,
        "size": 5,
        "sha256": "01" * 32,
        "atime_ns": 1_700_000_000_123_456_789,
        "inode": 12,
        "ctime_ns": 7,
        "more": {
            "hard_link": "a/b",
            "xattrs": {"user.origin": base64.b64encode(b"\0\xff").decode()},
        },
    }


# One directory is found without reading the others


def _assert_index_agrees(ledger: Path) -> None:
    entries = read_ledger(ledger)
    with closing(LedgerIndex(ledger)) as index:
        for path, own, records in _flat(entries):
            known = {record[NAME]: record for record in records}
            picked = {*list(known)[:: 1 + len(known) // 20], *list(known)[::BLOCK_RECORDS]}
            picked |= {name + b"\x01" for name in picked} | {*list(known)[199::BLOCK_RECORDS]}
            for name in [b"\x01", *sorted(picked), b"\xff" * 255]:
                low, high, found = index.records(path, name)
                assert low <= name
                assert high is None or name < high
                assert found.get(name) == known.get(name)
                inside = {
                    one: record
                    for one, record in known.items()
                    if low <= one and (high is None or one < high)
                }
                assert {one: record for one, record in found.items() if one} == inside
                if b"" in found:
                    assert found[b""] == own
        assert index.records(b"no/such", b"name") == (b"", None, {})


@given(ledgers())
def test_the_index_agrees_with_the_whole_ledger(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        _assert_index_agrees(_written(tree.ledger(), name))


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 399, 400, 401])
def test_the_index_agrees_on_large_directories(tmp_path: Path, count: int) -> None:
    crowd = [_record(b"%05d" % number) for number in range(count)]
    folders = ((b"", _own(), [_record()]), (b"crowd", _own(), crowd), (b"d", _own(), crowd[:1]))
    path = _written(Tree(folders).ledger(), str(tmp_path))
    _assert_index_agrees(path)
    with closing(LedgerIndex(path)) as index:
        firsts = [b"%05d" % number for number in range(0, count, BLOCK_RECORDS)] or [b""]
        for record in crowd[::7] + crowd[-1:]:
            low, high, found = index.records(b"crowd", record[NAME])
            place = bisect_right(firsts, record[NAME]) - 1
            assert low == (firsts[place] if place else b"")
            assert high == (firsts[place + 1] if place + 1 < len(firsts) else None)
            assert len(found) <= BLOCK_RECORDS + 1


# What is none


_LEDGER = Tree(
    (
        (b"", _own(), [_record(b"a"), _record(b"b", mode=0o120777, digest=b"", target=b"a")]),
        (b"d", _own(), [_record(b"c", link=b"a"), _record(b"n\xff\n")]),
        (b"d/e", _own(), []),
    )
)


def _assert_sane(path: bytes, records: list[Record]) -> None:
    """Require that a restore would not leave its tree, nor meet what it cannot use."""
    places = [path, *(record[LINK] for record in records)]
    for place in filter(None, places):
        assert not {b"", b".", b".."} & set(place.split(b"/"))
        assert b"\0" not in place
    for record in records:
        name = record[NAME]
        assert b"/" not in name
        assert b"\0" not in name
        assert name not in {b".", b".."}
        assert len(record[DIGEST]) == 32 * stat.S_ISREG(record[MODE])
        numbers = [record[one] for one in (*range(MODE, DIGEST), ACCESSED, INODE, CHANGED)]
        assert {type(number) for number in numbers} == {int}
        assert min(record[UID], record[GID], record[SIZE]) >= 0
        assert stat.S_IFMT(record[MODE]) in ({*_KINDS} if name else {stat.S_IFDIR})
        assert b"\0" not in record[TARGET]


def _assert_noticed_or_sane(ledger: bytes) -> bool:
    """Read what may be no ledger; tell whether that was noticed."""
    with tempfile.TemporaryDirectory() as name:
        path = _written(ledger, name)
        try:
            entries = read_ledger(path)
        except LedgerError:
            noticed = True
        else:
            noticed = False
            for directory, own, records in _flat(entries):
                _assert_sane(directory, [own, *records])
        try:
            index = LedgerIndex(path)
        except LedgerError:
            return noticed
        with closing(index):
            for place in (b"", b"d", b"d/e"):
                try:
                    records = list(index.records(place, b"a")[2].values())
                except LedgerError:
                    continue
                _assert_sane(place, records)
        return noticed


@pytest.mark.parametrize("line", [[], {}, "", "[]", [[]], ["", 5], ["", [[]]], ["", [5]], 5, None])
def test_a_line_that_is_none_is_refused(line: object) -> None:
    with pytest.raises(LedgerError, match="cannot be read"):
        decode_block(json.dumps(line).encode())


@settings(max_examples=settings().max_examples * 4)
@given(ledgers(), st.integers(0), st.integers(0, 255))
@example(_LEDGER, 1, 0)
def test_a_changed_byte_is_noticed_or_does_no_harm(tree: Tree, place: int, byte: int) -> None:
    ledger = bytearray(tree.ledger())
    ledger[place % len(ledger)] = byte
    _assert_noticed_or_sane(bytes(ledger))


@pytest.mark.parametrize("byte", b'-.05eE"\\[],:{} \n\0/')
def test_no_byte_in_place_of_another_does_harm(byte: int) -> None:
    for folder in _LEDGER.folders:
        line = encode_folder(*folder)
        for place in range(len(line)):
            changed = bytearray(line)
            changed[place] = byte
            try:
                path, records = decode_block(bytes(changed))
            except LedgerError:
                continue
            _assert_sane(path, records)


@pytest.mark.parametrize("mask", [0x01, 0x20, 0x80])
def test_no_flipped_bit_does_harm(mask: int) -> None:
    ledger = _LEDGER.ledger()
    noticed = 0
    for place in range(len(ledger)):
        flipped = bytearray(ledger)
        flipped[place] ^= mask
        noticed += _assert_noticed_or_sane(bytes(flipped))
    assert noticed > len(ledger) // 4


def test_no_cut_does_harm() -> None:
    ledger = _LEDGER.ledger()
    lines = {0}
    for line in ledger.splitlines(keepends=True):
        lines.add(max(lines) + len(line))
    for place in range(len(ledger)):
        noticed = _assert_noticed_or_sane(ledger[:place])
        # What ends with a line, or without its end, is a ledger of less.
        whole = place in lines or place + 1 in lines
        assert noticed == (not whole or place <= len(encode_head()))


def _changed(**values: Any) -> bytes:
    """Return a line with one entry that has other values in some columns."""
    _, (entry,) = json.loads(encode_block(b"", [_record()]))
    return json.dumps(
        ["", [list((dict(zip(COLUMNS, entry, strict=True)) | values).values())]]
    ).encode()


HOSTILE: dict[str, bytes] = {
    "a name with a slash": _changed(name="a/b"),
    "an absolute name": _changed(name="/etc"),
    "the directory itself": _changed(name="."),
    "the directory above": _changed(name=".."),
    "a name with NUL": _changed(name="a\0b"),
    "a name that is no text": _changed(name=5),
    "a name of surrogates that stand for no byte": _changed(name="\ud800"),
    "no name": _changed(name=None),
    "a mode that is no text": _changed(mode=33188),
    "a mode that is not octal": _changed(mode="100888"),
    "an owner that is a text": _changed(uid="0"),
    "an owner that is true": _changed(uid=True),
    "a group that is a fraction": _changed(gid=1.5),
    "no group": _changed(gid=None),
    "a time that is a text": _changed(mtime_ns="1"),
    "a size that is a fraction": _changed(size=5.0),
    "no size": _changed(size=None),
    "a file without a digest": _changed(sha256=""),
    "a short digest": _changed(sha256="00" * 31),
    "a digest that is none": _changed(sha256="xx" * 32),
    "a digest of what is no file": _changed(mode="120777"),
    "an absolute hard link": _changed(more={"hard_link": "/etc/passwd"}),
    "a hard link that leaves the tree": _changed(more={"hard_link": "../../a"}),
    "a hard link through the directory above": _changed(more={"hard_link": "d/../a"}),
    "a hard link that ends with a slash": _changed(more={"hard_link": "d/"}),
    "a hard link with NUL": _changed(more={"hard_link": "a\0b"}),
    "a hard link that is no text": _changed(more={"hard_link": 5}),
    "a target that is no text": _changed(mode="120777", sha256="", more={"target": ["a"]}),
    "a device that is a text": _changed(mode="20666", sha256="", more={"device": "5"}),
    "attributes that are a text": _changed(more={"xattrs": "user.a"}),
    "an attribute that is no base64": _changed(more={"xattrs": {"user.a": "!"}}),
    "an attribute that is a number": _changed(more={"xattrs": {"user.a": 5}}),
    "more that is a text": _changed(more="x"),
    "a column too many": json.dumps(["", [[*range(12)]]]).encode(),
    "a column too few": json.dumps(["", [[*range(10)]]]).encode(),
    "an entry that is a text": json.dumps(["", ["x" * 11]]).encode(),
    "an absolute directory": encode_block(b"/d", [_own()]),
    "a directory above": encode_block(b"d/../..", [_own()]),
    "a directory with an empty name": encode_block(b"d//e", [_own()]),
    "a directory with NUL": encode_block(b"d\0", [_own()]),
    "a negative mode": _changed(mode="-100644"),
    "a mode beyond all bounds": _changed(mode="7" * 40),
    "a mode of no kind": _changed(mode="644", sha256=""),
    "a directory among the files": _changed(mode="40755", sha256=""),
    "a negative size": _changed(size=-1),
    "a negative owner": _changed(uid=-5),
    "a time beyond all bounds": _changed(mtime_ns=10**30),
    "an access time that is a text": _changed(atime_ns="1"),
    "an access time that is a fraction": _changed(atime_ns=1.5),
    "no inode": _changed(inode=None),
    "a ctime that is a text": _changed(ctime_ns="1"),
    "a target with NUL": _changed(mode="120777", sha256="", more={"target": "a\0b"}),
    "an attribute with NUL": _changed(more={"xattrs": {"user.\0": ""}}),
    "an attribute of surrogates": _changed(more={"xattrs": {"user.\ud800": ""}}),
    "a directory that is a number": b"[5,[]]",
    "no directory": b"[null,[]]",
    "a directory that is a list": b"[[],[]]",
    "a directory of surrogates that stand for no byte": b'["\\ud800",[]]',
    "the directory's own entry twice": encode_block(b"", [_own(), _own()]),
    "lists in lists": b"[" * 100_000,
    "lists in lists, with their ends": b'["",' + b"[" * 50_000 + b"]" * 50_000 + b"]",
    "no end": encode_block(b"", [_own()])[:-2],
    "two values": encode_block(b"", [_own()])[:-1] + b" []",
    "bytes that are no text": b'["\xff",[]]',
    "an empty line": b"\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_line_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(LedgerError):
        decode_block(HOSTILE[name])
    ledger = Tree(_LEDGER.folders[:1]).ledger()
    with pytest.raises(LedgerError):
        read_ledger(_written(ledger + HOSTILE[name], str(tmp_path)))


def _folders_of(*paths: bytes, own: Callable[[], Record] | None = _own) -> bytes:
    records = [own()] if own is not None else []
    return encode_head() + b"".join(encode_block(path, [*records, _record()]) for path in paths)


@pytest.mark.parametrize(
    ("ledger", "said"),
    [
        (_folders_of(b"", b"d/e"), "lacks the directory of b'd/e'"),
        (_folders_of(b"d", b""), "lacks the directory of b'd'"),
        (_folders_of(b"", b"d", b"e", b"d"), "no entry for the directory b'd'"),
        (_folders_of(b"", b"d", b""), "no entry for the directory b''"),
        (_folders_of(b"", b"d", b"d"), "b'd'"),
        (_folders_of(b"", own=None), "no entry for the directory b''"),
        (encode_head() + b'["",[]]\n', "no entry for the directory b''"),
        (encode_head(), "the ledger is empty"),
    ],
)
def test_directories_that_make_no_tree_are_refused(
    tmp_path: Path, ledger: bytes, said: str
) -> None:
    with pytest.raises(LedgerError, match=said):
        read_ledger(_written(ledger, str(tmp_path)))


_HEAD = json.loads(encode_head())


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (_HEAD | {"schema_version": 2}, "a newer version of this tool wrote it"),
        (_HEAD | {"schema_version": 2, "columns": ["name"]}, "a newer version"),
        (_HEAD | {"schema_version": "1"}, "it is no ledger of this tool"),
        (_HEAD | {"columns": [*COLUMNS, "more"]}, "it is no ledger of this tool"),
        (_HEAD | {"columns": list(reversed(COLUMNS))}, "it is no ledger of this tool"),
        (_HEAD | {"format": "something else"}, "it is no ledger of this tool"),
        ({"format": "ciso-ops ledger"}, "it is no ledger of this tool"),
        ([], "it is no ledger of this tool"),
        (5, "it is no ledger of this tool"),
    ],
)
def test_another_head_is_refused(tmp_path: Path, head: object, said: str) -> None:
    lines = b"".join(encode_folder(*folder) for folder in _LEDGER.folders)
    path = _written(json.dumps(head).encode() + b"\n" + lines, str(tmp_path))
    for reader in (read_ledger, LedgerIndex, lambda ledger: list(read_lines(ledger))):
        with pytest.raises(LedgerError, match=said):
            reader(path)


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"x", b"\xff\n", b"SQLite format 3\0", b" " * 100_000, b"[" * 100_000]
)
def test_what_is_no_ledger_is_refused(tmp_path: Path, content: bytes) -> None:
    path = _written(content, str(tmp_path))
    for reader in (read_ledger, LedgerIndex, lambda ledger: list(read_lines(ledger))):
        with pytest.raises(LedgerError, match="it is no ledger of this tool"):
            reader(path)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"[\n",
        b"[5,[[5\n",
        b'["d"]\n',
        b'["d",[]]\n',
        b'["d",[[5]]]\n',
        b'{"d",[["a"]]}\n',
        b'["\\ud800",[["a"]]]\n',
        b'["\xff",[["a"]]]\n',
        b"[" * 100_000,
    ],
)
def test_an_index_of_lines_that_are_none_is_refused(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(LedgerError, match="a line of the ledger cannot be read"):
        LedgerIndex(_written(_LEDGER.ledger() + line, str(tmp_path)))


def test_a_ledger_that_is_not_there_is_told(tmp_path: Path) -> None:
    for reader in (read_ledger, LedgerIndex, lambda ledger: list(read_lines(ledger))):
        with pytest.raises(FileNotFoundError):
            reader(tmp_path / "ledger.jsonl")


_PREAD64 = 17


def test_a_line_that_cannot_be_read_any_more_is_told(tmp_path: Path) -> None:
    with closing(LedgerIndex(_written(_LEDGER.ledger(), str(tmp_path)))) as index:
        assert b"c" in index.records(b"d", b"c")[2]
        with pytest.raises(OSError, match="Input/output"):
            with_refusal(_PREAD64, errno.EIO, lambda: index.records(b"d", b"c"))
