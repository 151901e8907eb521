"""A manifest reads back as it was written, or it is refused."""

import base64
import hashlib
import io
import json
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.manifest import Head, ManifestError, decode_manifest, encode_manifest
from ops.model import Entry, Kind, PageDigests
from tests.strategies import names, times

_paths = st.lists(names, max_size=3).map(b"/".join)

# An attribute's name is text, or bytes in disguise.
_attribute_names = st.one_of(
    st.sampled_from(["user.origin", "user.\udcff", 'user."\\n', "user.\x85\u2028é"]),
    st.binary(min_size=1, max_size=8).map(lambda name: name.decode("utf-8", "surrogateescape")),
)
_xattrs = st.dictionaries(_attribute_names, st.binary(max_size=20), max_size=2).map(
    lambda pairs: tuple(pairs.items())
)


@st.composite
def _entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(Kind))
    device = kind in {Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE}
    return Entry(
        path=draw(_paths),
        kind=kind,
        mode=draw(st.integers(0, 0o7777)),
        uid=draw(st.integers(0, 2**32 - 1)),
        gid=draw(st.integers(0, 2**32 - 1)),
        modified_ns=draw(times),
        size=draw(st.integers(0, 2**63 - 1)) if kind is Kind.FILE else 0,
        digest=draw(st.sampled_from(["", "0a" * 32])) if kind is Kind.FILE else "",
        target=draw(_paths) if kind is Kind.SYMLINK else b"",
        link=draw(_paths) if kind is not Kind.DIRECTORY else b"",
        device=draw(st.integers(0, 2**32)) if device else 0,
        xattrs=draw(_xattrs),
    )


_heads = st.builds(
    Head,
    captured=st.text(max_size=20),
    tool=st.text(max_size=10),
    profile=st.text(st.characters(exclude_categories=["Cs"]) | st.just("\udcff"), max_size=10),
    mode=st.integers(0, 0o7777),
    database=st.builds(
        PageDigests,
        size=st.integers(0, 2**50),
        digest=st.sampled_from(["", "ff" * 32]),
        page_size=st.sampled_from([512, 65536]),
        pages=st.binary(max_size=64),
    ),
)


def _document(head: Head, entries: tuple[Entry, ...]) -> bytes:
    return b"".join(encode_manifest(head, entries))


def _read(document: bytes) -> tuple[Head, tuple[Entry, ...]]:
    """Read a document as a file is read, line by line, to its end."""
    head, entries = decode_manifest(io.BytesIO(document))
    return head, tuple(entries)


@given(_heads, st.lists(_entries(), max_size=5).map(tuple))
def test_a_manifest_reads_back_as_it_was_written(head: Head, entries: tuple[Entry, ...]) -> None:
    document = _document(head, entries)

    assert _read(document) == (head, entries)


@given(_heads, st.lists(_entries(), max_size=5).map(tuple))
def test_a_manifest_is_json_lines_whatever_the_names(
    head: Head, entries: tuple[Entry, ...]
) -> None:
    lines = list(encode_manifest(head, entries))

    assert len(lines) == len(entries) + 2
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    assert all(isinstance(json.loads(line.decode("utf-8")), dict) for line in lines)
    assert json.loads(lines[-1])["entries"] == len(entries)


_HEAD = Head(
    captured="2026-07-01T12:00:00+00:00",
    tool="1.0",
    profile="ciso_assistant",
    database=PageDigests(size=1024, digest="ab" * 32, page_size=512, pages=bytes(range(16))),
    mode=0o640,
)
_ENTRIES = (
    Entry(path=b"", kind=Kind.DIRECTORY, mode=0o755, modified_ns=1),
    Entry(
        path=b"\xff.pdf",
        kind=Kind.FILE,
        mode=0o644,
        uid=10,
        gid=20,
        modified_ns=-5,
        size=12,
        digest="cd" * 32,
        xattrs=(("user.a", b"value"),),
    ),
    Entry(path=b"link", kind=Kind.SYMLINK, mode=0o777, target=b"a b"),
    Entry(path=b"second", kind=Kind.FILE, mode=0o644, size=12, link=b"\xff.pdf"),
)
_WRITTEN = _document(_HEAD, _ENTRIES)
_CLOSING = _WRITTEN.rindex(b"\n", 0, -1) + 1
"""Where the last line begins."""


def _changes(start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """Replace each byte in turn by a few others: near ones, and those with a meaning."""
    for place in range(start, end):
        byte = _WRITTEN[place]
        others = {byte ^ 1, byte ^ 0x20, byte ^ 0x80, *b' \n\r\t"0123456789'} - {byte}
        for other in sorted(others):
            yield place, _WRITTEN[:place] + bytes([other]) + _WRITTEN[place + 1 :]


def _accepted(documents: Iterator[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """List the documents that are not refused, by where they were changed."""
    accepted: list[tuple[int, bytes]] = []
    for place, document in documents:
        try:
            _read(document)
        except ManifestError:
            continue
        accepted.append((place, document[max(0, place - 20) : place + 20]))
    return accepted


def test_any_single_byte_changed_before_the_last_line_is_refused() -> None:
    assert _accepted(_changes(0, _CLOSING)) == []


def test_any_single_byte_changed_in_the_last_line_is_refused() -> None:
    accepted = _accepted(_changes(_CLOSING, len(_WRITTEN)))

    assert accepted == []


@given(st.integers(0, _CLOSING - 1), st.integers(1, 255))
@example(_WRITTEN.index(b"\n"), ord("\n") ^ ord("\r"))
def test_any_change_to_any_byte_before_the_last_line_is_refused(place: int, flip: int) -> None:
    document = bytearray(_WRITTEN)
    document[place] ^= flip

    with pytest.raises(ManifestError):
        _read(bytes(document))


def test_a_manifest_cut_short_anywhere_is_refused() -> None:
    cuts = ((length, _WRITTEN[:length]) for length in range(len(_WRITTEN)))

    assert _accepted(cuts) == []


@pytest.mark.parametrize("added", [b"\n", b" ", b"{}", b"\0", _WRITTEN])
def test_a_manifest_with_something_added_is_refused(added: bytes) -> None:
    with pytest.raises(ManifestError):
        _read(_WRITTEN + added)


_LINES = _WRITTEN.splitlines(keepends=True)
_PLACES = range(len(_LINES))


def _refused(lines: list[bytes]) -> bool:
    try:
        _read(b"".join(lines))
    except ManifestError:
        return True
    return False


@pytest.mark.parametrize("place", _PLACES)
def test_a_line_left_out_or_twice_is_refused(place: int) -> None:
    assert _refused(_LINES[:place] + _LINES[place + 1 :])
    assert _refused(_LINES[: place + 1] + _LINES[place:])


@pytest.mark.parametrize("place", _PLACES)
def test_any_line_repeated_or_put_anywhere_else_is_refused(place: int) -> None:
    others = _LINES[:place] + _LINES[place + 1 :]
    for where in range(len(_LINES) + 1):
        assert _refused([*_LINES[:where], _LINES[place], *_LINES[where:]]), where
        moved = [*others[:where], _LINES[place], *others[where:]]
        assert _refused(moved) == (moved != _LINES), where


@pytest.mark.parametrize("place", _PLACES)
@pytest.mark.parametrize("end", ["of this", "of what precedes it"])
def test_an_end_in_the_middle_is_refused(place: int, end: str) -> None:
    """Also one that would be right for what precedes it, so that the rest would be left out."""
    closing = _LINES[-1]
    if end == "of what precedes it":
        digest = hashlib.sha256(b"".join(_LINES[:place])).hexdigest()
        closing = b'{"entries":%d,"sha256":"%s"}\n' % (place - 1, digest.encode())
    assert _refused([*_LINES[:place], closing, *_LINES[place:]])


@given(st.permutations(_LINES))
def test_lines_in_any_other_order_are_refused(lines: list[bytes]) -> None:
    assert _refused(lines) == (lines != _LINES)


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=3), st.data())
def test_lines_put_in_anywhere_are_refused(added: list[bytes], data: st.DataObject) -> None:
    where = data.draw(st.integers(0, len(_LINES)))

    assert _refused([*_LINES[:where], *(line + b"\n" for line in added), *_LINES[where:]])


def test_lines_are_read_as_they_are_wanted() -> None:
    """A manifest of a million entries is never in memory as a whole."""
    taken: list[int] = []

    def lines() -> Iterator[bytes]:
        for number, line in enumerate(_LINES):
            taken.append(number)
            yield line

    head, entries = decode_manifest(lines())
    assert (head, taken) == (_HEAD, [0])
    for number, entry in enumerate(_ENTRIES, 1):
        assert next(entries) == entry
        assert taken[-1] == number + 1, "one more is looked at, which may be the last"
    assert next(entries, None) is None
    assert taken == [*_PLACES]


def test_the_end_is_judged_when_all_entries_are_taken() -> None:
    broken = _WRITTEN.replace(b'"gid":20', b'"gid":21')
    _, entries = decode_manifest(io.BytesIO(broken))
    for _ in _ENTRIES:
        next(entries)
    with pytest.raises(ManifestError, match="changed after it was written"):
        next(entries)


@given(st.binary(max_size=200))
@example(b"")
@example(b"\n")
@example(b"[]\n[]\n")
@example(b'1\n{"entries":0}\n')
@example(b'{"format":"ciso-ops manifest"}\n{"entries":0}\n')
def test_what_is_no_manifest_is_refused(document: bytes) -> None:
    with pytest.raises(ManifestError):
        _read(document)


def test_what_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(ManifestError):
        _read(b"[" * 100_000)


def _sealed(*lines: object) -> bytes:
    """Write any lines as a manifest would be, with the right digest."""

    def written(line: object) -> bytes:
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"

    body = b"".join(written(line) for line in lines)
    closing = {"entries": len(lines) - 1, "sha256": hashlib.sha256(body).hexdigest()}
    return body + written(closing)


def _head_with(**fields: object) -> dict[str, object]:
    head: dict[str, object] = json.loads(_WRITTEN.splitlines()[0])
    return {**head, **fields}


_ENTRY = json.loads(_WRITTEN.splitlines()[2])


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([_head_with(format="bagit")], "no manifest of this tool"),
        ([_head_with(schema_version=2)], "a newer version of this tool wrote it"),
        ([_head_with(schema_version="1")], "no manifest"),
        ([_head_with(database=None)], "no manifest"),
        ([_head_with(database={"mode": "8"})], "no manifest"),
        ([_head_with(), 7], "no manifest"),
        ([_head_with(), {**_ENTRY, "kind": "door"}], "door"),
        ([_head_with(), {**_ENTRY, "mode": "9"}], "no manifest"),
        ([_head_with(), {**_ENTRY, "path_base64": "!"}], "no manifest"),
        ([_head_with(), {**_ENTRY, "path_base64": 1}], "neither path nor path_base64"),
        ([_head_with(), {**_ENTRY, "xattrs": {"user.a": "!"}}], "no manifest"),
        ([_head_with(), {**_ENTRY, "xattrs": []}], "no manifest"),
    ],
)
def test_a_sealed_document_that_makes_no_sense_is_refused(lines: list[object], reason: str) -> None:
    with pytest.raises(ManifestError, match=reason):
        _read(_sealed(*lines))


@pytest.mark.parametrize(
    "field",
    [
        {"sha256": "zz" * 32},
        {"sha256": "abc"},
        {"sha256": 5},
        {"sha256": None},
        {"size": "12"},
        {"size": None},
        {"size": -1},
        {"mode": "-1"},
        {"mode": "100644"},
        {"mtime_ns": "1"},
        {"mtime_ns": None},
        {"mtime_ns": 1.5},
        {"uid": None},
        {"gid": "x"},
        *({"path_base64": base64.b64encode(path).decode()} for path in (b"/", b"//", b"/a", b"a/")),
        *({"path_base64": base64.b64encode(path).decode()} for path in (b"a//b", b".", b"..")),
        *({"path_base64": base64.b64encode(path).decode()} for path in (b"../a", b"a/./b", b"a\0")),
    ],
    ids=lambda field: "-".join(map(str, next(iter(field.items())))),
)
def test_a_sealed_entry_that_nothing_can_be_is_refused(field: dict[str, object]) -> None:
    """Nobody writes such a thing by accident; all the same, it must not end in a traceback."""
    for kind in ("file", "directory"):
        with pytest.raises(ManifestError):
            _read(_sealed(_head_with(), {**_ENTRY, "kind": kind, **field}))


def test_a_document_sealed_in_the_test_is_read() -> None:
    """The refusals above are for the reasons given, not for the seal."""
    head, entries = _read(_sealed(_head_with(), _ENTRY))

    assert head == _HEAD
    assert entries == (_ENTRIES[1],)
