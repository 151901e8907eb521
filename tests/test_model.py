"""The values that everything else speaks in."""

import os
import socket
import stat
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.model import (
    PAGE_DIGEST_BYTES,
    Entry,
    Finding,
    Kind,
    PageDigests,
    Severity,
    count_severity,
    kind_of,
    narrowed_mode,
)


def _mode(path: Path) -> int:
    return path.lstat().st_mode


def test_each_kind_is_told_from_what_the_kernel_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket must be short
    Path("file").touch()
    Path("link").symlink_to("file")
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    assert kind_of(_mode(Path("file"))) is Kind.FILE
    assert kind_of(_mode(tmp_path)) is Kind.DIRECTORY
    assert kind_of(_mode(Path("link"))) is Kind.SYMLINK
    assert kind_of(_mode(Path("pipe"))) is Kind.FIFO
    assert kind_of(_mode(Path("socket"))) is Kind.SOCKET
    assert kind_of(_mode(Path("/dev/null"))) is Kind.CHARACTER_DEVICE
    assert kind_of(stat.S_IFBLK | 0o660) is Kind.BLOCK_DEVICE


ENTRY = Entry(
    path=b"a", kind=Kind.FILE, size=3, modified_ns=5, identity=(1, 2), changed_ns=7, mode=0o644
)


@pytest.mark.parametrize(
    "other",
    [
        replace(ENTRY, identity=(1, 3)),
        replace(ENTRY, identity=(2, 2)),
        replace(ENTRY, changed_ns=8),
        replace(ENTRY, modified_ns=6),
        replace(ENTRY, size=4),
        replace(ENTRY, kind=Kind.FIFO),
    ],
)
def test_a_changed_inode_is_not_taken_for_the_same(other: Entry) -> None:
    assert not ENTRY.same_inode_state(other)
    assert not other.same_inode_state(ENTRY)


def test_what_was_read_of_an_inode_does_not_make_it_another() -> None:
    read = replace(ENTRY, digest="00", xattrs=(("user.a", b""),), accessed_ns=9, link=b"z")
    assert ENTRY.same_inode_state(read)


@given(st.lists(st.binary(min_size=PAGE_DIGEST_BYTES, max_size=PAGE_DIGEST_BYTES), max_size=8))
def test_pages_are_counted_from_0_and_empty_past_the_end(digests: list[bytes]) -> None:
    pages = PageDigests(size=0, digest="", page_size=4096, pages=b"".join(digests))
    assert pages.count == len(digests)
    assert [pages.page(index) for index in range(len(digests))] == digests
    assert pages.page(len(digests)) == b""


modes = st.integers(0, 0o7777)


@given(modes)
def test_a_mode_stays_when_owner_and_group_are_kept(mode: int) -> None:
    assert narrowed_mode(mode, owner_kept=True, group_kept=True) == mode


@given(modes, st.booleans(), st.booleans())
def test_a_narrowed_mode_grants_nothing_new_and_narrows_no_further(
    mode: int, owner: bool, group: bool
) -> None:
    once = narrowed_mode(mode, owner_kept=owner, group_kept=group)
    assert once & ~mode == 0
    assert narrowed_mode(once, owner_kept=owner, group_kept=group) == once
    assert once & 0o700 == mode & 0o700
    if not owner:
        assert not once & stat.S_ISUID
    if not group:
        assert not once & stat.S_ISGID


def _bits(mode: int, *, member: bool) -> int:
    """Return what a user who is not the owner may do."""
    return (mode >> 3 if member else mode) & 0o7


@pytest.mark.parametrize(("of_the_source", "of_the_copy"), list(product([False, True], repeat=2)))
def test_a_copy_in_another_group_is_open_to_nobody_who_could_not_open_the_source(
    *, of_the_source: bool, of_the_copy: bool
) -> None:
    # Mode 0604 denies the group what it grants all others: its members must not become others.
    opened = [
        f"{mode:04o}"
        for mode in range(0o1000)
        if _bits(narrowed_mode(mode, owner_kept=True, group_kept=False), member=of_the_copy)
        & ~_bits(mode, member=of_the_source)
    ]
    assert opened == []


@given(st.lists(st.sampled_from(Severity), max_size=20))
def test_every_finding_is_counted_under_its_severity_alone(severities: list[Severity]) -> None:
    findings = tuple(Finding(kind="changed", severity=one, where="x") for one in severities)
    counts = {severity: count_severity(findings, severity) for severity in Severity}
    assert counts == {severity: severities.count(severity) for severity in Severity}
