"""The tar stream of an archive: what is written any tar reads, and nothing else is read."""

import io
import tarfile
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.archive.ahead import Put, StoppedError, ahead
from ops.archive.compression import compress, decompress
from ops.archive.headers import (
    BLOCK,
    MOST_PATH_BYTES,
    ArchiveError,
    Header,
    HeaderReader,
    encode_header,
)
from ops.errors import UsageError
from ops.tree.stored import is_stored_name, stored_name
from ops.unpack import parse_bytes
from tests.archives import header, noise, squeeze

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
PATHS = st.lists(NAMES, min_size=1, max_size=40).map("/".join)
HEADERS = st.builds(
    Header,
    path=PATHS.map(str.encode),
    directory=st.just(value=False),
    size=st.integers(0, 1 << 50),
    modified=st.integers(0, 8**11 - 1),
) | st.builds(
    Header,
    path=PATHS.map(str.encode),
    directory=st.just(value=True),
    modified=st.integers(0, 8**11 - 1),
)


def read_back(blocks: bytes) -> Header:
    """Read a header as it comes, block by block."""
    reader = HeaderReader()
    size = reader.extension_bytes(blocks[:BLOCK])
    if size:
        reader.extend(blocks[BLOCK : BLOCK + size])
        end = BLOCK + size + -size % BLOCK
        assert not any(blocks[BLOCK + size : end])
        blocks = blocks[end:]
        assert reader.extension_bytes(blocks) == 0
    assert len(blocks) == BLOCK
    return reader.entry(blocks)


@given(HEADERS)
def test_a_header_reads_back_equal_here_and_elsewhere(one: Header) -> None:
    blocks = encode_header(one)
    assert read_back(blocks) == one
    with tarfile.open(fileobj=io.BytesIO(blocks + bytes(2 * BLOCK))) as archive:
        member = archive.next()
    assert member is not None
    assert member.name.encode() == one.path.rstrip(b"/")
    assert (member.size, member.mtime, member.isdir()) == (one.size, one.modified, one.directory)


@given(HEADERS, st.data())
def test_a_header_with_any_bit_changed_is_another_or_none(one: Header, data: st.DataObject) -> None:
    blocks = bytearray(encode_header(one))
    at = data.draw(st.integers(0, len(blocks) * 8 - 1))
    blocks[at // 8] ^= 1 << at % 8
    try:
        found = read_back(bytes(blocks))
    except (ArchiveError, AssertionError):
        return
    assert found != one  # the content of a pax header has no checksum of its own


def test_times_that_do_not_fit_are_brought_near() -> None:
    assert read_back(encode_header(Header(path=b"a", modified=-5))).modified == 0
    assert read_back(encode_header(Header(path=b"a", modified=1 << 40))).modified == 8**11 - 1


def test_a_path_that_nobody_could_read_is_not_written() -> None:
    with pytest.raises(ValueError, match="32769 bytes"):
        encode_header(Header(path=b"a" * (MOST_PATH_BYTES + 1)))


def test_the_samples_of_these_tests_are_in_the_form_that_is_written() -> None:
    assert header(b"a/b", 7) == encode_header(Header(path=b"a/b", size=7, modified=1))
    assert header(b"a/", kind=b"5") == encode_header(Header(path=b"a", directory=True, modified=1))


@given(st.binary(max_size=40) | NAMES.map(str.encode))
def test_whatever_a_payload_names_a_file_it_may_be_named(name: bytes) -> None:
    if name and b"/" not in name and b"\0" not in name and name not in {b".", b".."}:
        assert is_stored_name(stored_name(name))


@pytest.mark.parametrize(
    "name",
    [
        *(b"", b".", b"..", b"a/b", b"\xff", b"a%b", b"line\nbreak", b"end ", b"a" * 256),
        *("e\u0301".encode(), b"\xff~" + b"0" * 20, b"a\n~" + b"0" * 20, b"\0"),
    ],
)
def test_what_no_payload_names_a_file_is_refused(name: bytes) -> None:
    assert not is_stored_name(name)


# Compression


def test_the_bytes_do_not_depend_on_the_number_of_threads() -> None:
    content = noise(3 << 20) * 2
    pieces = [content[at : at + 100_000] for at in range(0, len(content), 100_000)]
    made = [b"".join(compress(map(memoryview, pieces), threads=count)) for count in (1, 2, 3)]
    assert made[0] == made[1] == made[2]
    assert b"".join(decompress(iter(made[0:1]))) == content


def test_no_piece_is_large_whatever_comes() -> None:
    packed = squeeze(bytes(50 << 20))
    assert len(packed) < 10_000
    sizes = [len(piece) for piece in decompress(iter([packed]))]
    assert sum(sizes) == 50 << 20
    assert max(sizes) <= 256 << 10


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_stream_in_small_pieces_is_the_same(size: int) -> None:
    packed = squeeze(noise(5000) + bytes(5000))
    pieces = (packed[at : at + size] for at in range(0, len(packed), size))
    assert b"".join(decompress(pieces)) == noise(5000) + bytes(5000)


@pytest.mark.parametrize(
    ("pieces", "said"),
    [
        ([], "cut short"),
        ([squeeze(b"a" * 999)[:-1]], "cut short"),
        ([squeeze(b"a"), b"x"], "something follows"),
        ([squeeze(b"a") + b"x"], "something follows"),
        ([squeeze(b"a") + squeeze(b"b")], "something follows"),
        ([squeeze(b"a") + b"\x50\x2a\x4d\x18\0\0\0\0"], "something follows"),
        ([b"nothing of the kind"], "cannot be decompressed"),
        ([squeeze(noise(1 << 20), window=27)], "cannot be decompressed"),
    ],
)
def test_what_is_no_frame_or_more_than_one_is_refused(pieces: list[bytes], said: str) -> None:
    with pytest.raises(ArchiveError, match=said):
        list(decompress(iter(pieces)))


# The thread that goes ahead


def test_pieces_come_in_order_and_failures_at_their_place() -> None:
    def produce(put: Put) -> None:
        for number in range(100):
            put(b"%d" % number)
        raise ArchiveError("here")

    seen: list[bytes] = []

    def use(pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            seen.append(piece)  # noqa: PERF402 - what came before the failure counts

    with pytest.raises(ArchiveError, match="here"), ahead(produce) as pieces:
        use(pieces)
    assert seen == [b"%d" % number for number in range(100)]


def test_a_block_that_ends_early_ends_the_thread() -> None:
    stopped = threading.Event()

    def produce(put: Put) -> None:
        try:
            while True:
                put(b"more")
        except StoppedError:
            stopped.set()
            raise

    def use(pieces: Iterator[bytes]) -> None:
        assert next(pieces) == b"more"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ahead(produce) as pieces:
        use(pieces)
    assert stopped.is_set()


# Amounts


def test_an_amount_of_bytes_is_read() -> None:
    assert [parse_bytes(one, "--max-bytes") for one in ("5", "5K", "5KiB", "2GiB", "1T")] == [
        *(5, 5 << 10, 5 << 10, 2 << 30, 1 << 40)
    ]


@pytest.mark.parametrize("value", ["", "0", "-1", "5 G", "1e9", "5GB", "many", "9" * 20, "٣"])
def test_what_is_no_amount_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match="must be an amount"):
        parse_bytes(value, "--max-bytes")
