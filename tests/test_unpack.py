"""Unpacking: hostile, damaged and foreign archives leave nothing; what is whole is a snapshot."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from ops.archive.age import age_module, decrypt, encrypt
from ops.archive.ahead import ahead
from ops.archive.opening import most_bytes
from ops.demo_instance import build_instance
from ops.errors import (
    BusyError,
    DestinationError,
    InterruptedRunError,
    OpsError,
    SourceError,
    UsageError,
    VerificationError,
)
from ops.model import Instance, Progress
from ops.pack import PackRequest, plan_pack, run_pack
from ops.profile import Profile, load_profile
from ops.prune import plan_removal, prune
from ops.store import LATEST, list_snapshots, make_store
from ops.storing import locked_store
from ops.unpack import UnpackRequest, look_into, run_unpack
from tests.archives import (
    BLOCK,
    END,
    Part,
    edited,
    extension,
    header,
    index_of,
    long_file,
    noise,
    parts_of,
    squeeze,
    squeeze_all,
    stretch,
    whole,
)
from tests.command import INV, ROOT, run, run_here
from tests.filesystem import build, footprint, read
from tests.mounting import tmpfs
from tests.pipeline import CLOCK, quiet
from tests.test_backup import NIGHT, ODD
from tests.test_pack import contents, key_pair
from tests.test_store import at, back_up, check_up, litter_in, names_in, put_back, reader_of

_LIMIT_SECONDS = 60
NAME = "2026-03-01T010000Z"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a store with one snapshot and its archive beside it, for all tests to read."""
    directory = tmp_path_factory.mktemp("made").resolve()
    instance = build_instance(directory / "production", evidences=12)
    build(instance.attachments / "odd", ODD)
    back_up(instance, directory / "store", clock=at(NIGHT))
    assert names_in(directory / "store") == [NAME]
    request = PackRequest(
        snapshot=list_snapshots(directory / "store")[0], archive=directory / "good.tar.zst"
    )
    run_pack(plan_pack(request), clock=CLOCK, progress=quiet)
    return directory


@pytest.fixture(scope="module")
def good(made: Path) -> Path:
    """Name the archive."""
    return made / "good.tar.zst"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Name a store that is not there yet."""
    return tmp_path.resolve() / "store"


def chosen(made_with: str) -> Profile:
    """Check by the profile that the snapshot was made with."""
    return load_profile(made_with)


def unpack(archive: Path, store: Path) -> Path:
    """Unpack an archive, and return the path of the snapshot."""
    request = UnpackRequest(archive=archive, store=store)
    return run_unpack(request, chosen, clock=CLOCK, progress=quiet).path


# What is whole


def test_a_snapshot_comes_back_whole(made: Path, good: Path, store: Path, tmp_path: Path) -> None:
    ran = run("unpack", "--archive", good, "--store", store, "--json")
    assert ran.code == 0, ran.err
    assert (ran.document["ok"], ran.document["errors"]) == (True, 0)
    assert ran.document["snapshot"] == NAME
    assert ran.document["encrypted"] is False
    assert ran.document["sha256"] == hashlib.sha256(good.read_bytes()).hexdigest()
    assert (store / LATEST).readlink() == Path(NAME)
    (snapshot,) = list_snapshots(store)
    (original,) = list_snapshots(made / "store")
    assert snapshot.verified
    assert snapshot.summary == original.summary
    assert check_up(store).sound
    came = contents(snapshot.path)
    assert '"event":"verified"' in came.pop("history.jsonl").decode()
    assert came == contents(original.path)
    restored = []
    for number, root in enumerate((store, made / "store")):
        place = tmp_path / f"restored-{number}"
        place.mkdir()
        copy = Instance(database=place / "db", attachments=place / "files")
        put_back(root, NAME, copy)
        restored.append((copy.database.read_bytes(), read(copy.attachments)))
    assert restored[0] == restored[1]


def test_the_report_tells_what_arrived(good: Path, store: Path) -> None:
    told = run("unpack", "--archive", good, "--store", store, "--check", "disk", "--jobs", "1")
    assert told.code == 0, told.err
    assert told.out.startswith(f"Unpacked {NAME} in ")
    assert "not encrypted; SHA-256" in told.out
    assert "12 recorded digests right" in told.out


@pytest.mark.parametrize("kind", ["age", "ssh-ed25519"])
def test_an_encrypted_one_takes_a_key(made: Path, tmp_path: Path, store: Path, kind: str) -> None:
    key, public = key_pair(tmp_path, kind)
    archive = tmp_path / "secret.tar.zst.age"
    ran = run("pack", "--store", made / "store", "--archive", archive, "--recipient", public)
    assert ran.code == 0, ran.err
    flags = ("unpack", "--archive", archive, "--store", store)
    for wrong, code, said in (
        ((), 2, "the archive is encrypted"),
        (("--identity-file", key_pair(tmp_path, "other")[0]), 3, "none of the keys opens it"),
        (("--identity-file", archive), 2, "no file of secret keys"),
        (("--identity-file", tmp_path / "none"), 2, "cannot read the keys"),
    ):
        refused = run(*flags, *wrong)
        assert refused.code == code
        assert said in refused.error_line
        assert refused.hint_line or "cannot read" in said
    assert not store.exists()
    assert run(*flags, "--identity-file", key).code == 0
    assert names_in(store) == [NAME]


def test_a_key_for_what_is_not_encrypted_is_told(good: Path, tmp_path: Path, store: Path) -> None:
    key, _ = key_pair(tmp_path, "age")
    ran = run("unpack", "--archive", good, "--store", store, "--identity-file", key)
    assert ran.code == 2
    assert "is not encrypted" in ran.error_line
    key.write_text("# nothing\n")
    assert run("unpack", "--archive", good, "--store", store, "--identity-file", key).code == 2


def test_a_dry_run_reads_all_and_keeps_nothing(good: Path, store: Path, tmp_path: Path) -> None:
    before = footprint(tmp_path)
    ran = run("unpack", "--archive", good, "--store", store, "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["snapshot"] == NAME
    assert "checks" not in ran.document
    told = run("unpack", "--archive", good, "--store", store, "--dry-run")
    assert "compared with its own manifest" in told.out
    assert footprint(tmp_path) == before


def test_one_made_without_a_profile_is_checked_without(
    instance: Instance, tmp_path: Path, store: Path
) -> None:
    (instance.attachments / "-rf.txt").unlink()
    first = tmp_path / "first"
    snapshot = back_up(instance, first, profile="none", clock=at(NIGHT))
    archive = tmp_path / "a.tar.zst"
    request = PackRequest(snapshot=snapshot, archive=archive)
    run_pack(plan_pack(request), clock=CLOCK, progress=quiet)
    refused = run("unpack", "--archive", archive, "--store", store, "--profile", "ciso_assistant")
    assert refused.code == 5
    assert "did not pass its check" in refused.error_line
    assert "-rf.txt" in refused.err
    assert names_in(store) == []
    assert litter_in(store) == []
    assert run("unpack", "--archive", archive, "--store", store).code == 0
    assert run("unpack", "--archive", archive, "--store", store, "--profile", "no").code == 2


# What means harm


def below(name: str) -> bytes:
    """Name a path in the attachments of the archive."""
    return f"{NAME}/data/attachments/{name}".encode()


def appended(*more: Part) -> Callable[[list[Part]], bytes]:
    """Put entries behind all others."""
    return lambda parts: whole([*parts, *more])


def entry(name: bytes, content: bytes = b"", kind: bytes = b"0") -> Part:
    """Make an entry."""
    return Part(header=header(name, len(content), kind=kind), content=content)


def linked(kind: bytes, target: bytes) -> Part:
    """Make a link out of the archive."""
    block = edited(header(below("link"), kind=kind), (157, target))
    return Part(header=block)


def extended(*records: tuple[bytes, bytes], kind: bytes = b"x") -> Part:
    """Make a file whose pax header says more than it may."""
    start = extension(*records, kind=kind)
    return Part(header=start + header(below("file"), 4), content=b"evil")


def with_header(ending: str, *changes: tuple[int, bytes]) -> Callable[[list[Part]], bytes]:
    """Change the header of an entry, with a checksum that is right."""

    def change(parts: list[Part]) -> bytes:
        place = index_of(parts, ending)
        block = edited(parts[place].header, *changes)
        return whole([*parts[:place], replace(parts[place], header=block), *parts[place + 1 :]])

    return change


def with_content(ending: str, content: Callable[[bytes], bytes]) -> Callable[[list[Part]], bytes]:
    """Change the content of an entry, and its size with it."""

    def change(parts: list[Part]) -> bytes:
        place = index_of(parts, ending)
        made = content(parts[place].content)
        block = edited(parts[place].header, (124, b"%011o\0" % len(made)))
        changed = Part(header=block, content=made)
        return whole([*parts[:place], changed, *parts[place + 1 :]])

    return change


def signed_with(name: str, content: Callable[[bytes], bytes]) -> Callable[[list[Part]], bytes]:
    """Change a tag file, and sign all of them anew."""

    def change(parts: list[Part]) -> bytes:
        parts = parts_of(with_content(name, content)(parts))
        tags = {part.name.partition("/")[2]: part.content for part in parts}
        lines = [
            f"{hashlib.sha256(tags[one]).hexdigest()}  {one}\n"
            for one in sorted(tags)
            if "/" not in one and one in _SIGNED
        ]
        return with_content("/tagmanifest-sha256.txt", lambda _: "".join(lines).encode())(parts)

    return change


_SIGNED = {"bagit.txt", "bag-info.txt", "manifest-sha256.txt", "snapshot.json", "ledger.jsonl"}


def without(ending: str) -> Callable[[list[Part]], bytes]:
    """Leave an entry out."""
    return lambda parts: whole([part for part in parts if not part.name.endswith(ending)])


def twice(ending: str) -> Callable[[list[Part]], bytes]:
    """Repeat an entry at the end."""
    return lambda parts: whole([*parts, parts[index_of(parts, ending)]])


def huge_declaration(content: bytes) -> bytes:
    """Declare a payload of an exabyte."""
    return re.sub(rb"Oxum: \d+", b"Oxum: 1000000000000000000", content)


def swapped(one: str, other: str) -> Callable[[list[Part]], bytes]:
    """Let two entries change places."""

    def change(parts: list[Part]) -> bytes:
        first, second = index_of(parts, one), index_of(parts, other)
        parts[first], parts[second] = parts[second], parts[first]
        return whole(parts)

    return change


HARM: dict[str, tuple[Callable[[list[Part]], bytes], str]] = {
    # paths
    "an absolute path": (appended(entry(b"/etc/cron.d/evil", b"evil")), "outside of itself"),
    "an absolute path in a pax header": (
        appended(long_file(b"/tmp/" + b"x" * 200, b"evil")),
        "outside of itself",
    ),
    "a path that climbs": (appended(entry(below("../../../../evil"))), "a path that no snapshot"),
    "a path that climbs to the store": (
        appended(entry(f"{NAME}/../evil".encode())),
        "a path that no snapshot",
    ),
    "a path with a dot": (appended(entry(below("./evil"))), "a path that no snapshot"),
    "a path with two slashes": (appended(entry(below("odd//evil"))), "a path that no snapshot"),
    "a path with a control character": (appended(entry(below("a\nb"))), "a path that no snapshot"),
    "a path that is no text": (
        appended(long_file(below("") + b"\xff", b"")),
        "a path that no snapshot",
    ),
    "a path with a NUL": (
        appended(long_file(below("a\0b"), b"")),
        "not written by this tool",
    ),
    "a path without composed letters": (
        appended(long_file(below("e\u0301"), b"")),
        "a path that no snapshot",
    ),
    "a name that is too long": (appended(long_file(below("x" * 256), b"")), "a path that no"),
    "a path that is too long": (appended(long_file(below("x/" * 20_000), b"")), "too long"),
    "no path": (appended(entry(b"", b"evil")), "outside of itself"),
    "another top directory": (appended(entry(b"other/", kind=b"5")), "outside of itself"),
    "another snapshot": (
        lambda parts: whole([*parts, *parts_of(whole(parts).replace(b"2026-03", b"2026-04"))]),
        "not written by this tool",
    ),
    "a top directory that is no snapshot": (
        lambda parts: whole([entry(b"snapshot/", kind=b"5"), *parts[1:]]),
        "does not begin with the directory of a snapshot",
    ),
    "a file at the top": (
        lambda parts: whole([entry(NAME.encode()), *parts[1:]]),
        "does not begin with the directory of a snapshot",
    ),
    "nothing": (lambda _: END, "does not begin with the directory of a snapshot"),
    "a file beside the tag files": (
        lambda parts: whole([parts[0], entry(f"{NAME}/evil".encode()), *parts[1:]]),
        "where bagit.txt should come",
    ),
    "a file beside the payload": (
        appended(entry(f"{NAME}/data/evil".encode())),
        "a path that no snapshot",
    ),
    "a file under a file": (appended(entry(below("-rf.txt/evil"))), "more than it declares"),
    "a directory that is a file": (
        appended(entry(below("-rf.txt/"), kind=b"5")),
        "twice or too late",
    ),
    "a file in a directory that was not made": (
        lambda parts: whole([*parts[:-1], replace(parts[-1], header=_moved(parts[-1]))]),
        "no directory for",
    ),
    "a directory in one that was not made": (
        appended(entry(below("odd/nowhere/below/"), kind=b"5")),
        "no directory for",
    ),
    # links, devices and the rest of what tar has
    "a symbolic link": (appended(linked(b"2", b"/etc/passwd")), "a symbolic link"),
    "a hard link": (appended(linked(b"1", b"/etc/passwd")), "a hard link"),
    "a character device": (appended(entry(below("null"), kind=b"3")), "a character device"),
    "a block device": (appended(entry(below("disk"), kind=b"4")), "a block device"),
    "a pipe": (appended(entry(below("pipe"), kind=b"6")), "a pipe"),
    "a contiguous file": (appended(entry(below("file"), kind=b"7")), "an unusual kind"),
    "a sparse file": (appended(entry(below("file"), kind=b"S")), "a sparse file"),
    "a GNU long name": (appended(entry(b"././@LongLink", b"x\0", kind=b"L")), "GNU long name"),
    "a GNU long link": (appended(entry(b"././@LongLink", b"x\0", kind=b"K")), "name of a link"),
    "a volume": (appended(entry(b"label", kind=b"V")), "a name of a volume"),
    "another volume": (appended(entry(below("file"), kind=b"M")), "another volume"),
    "a kind that is not known": (appended(entry(below("file"), kind=b"!")), "no known kind"),
    "a kind of old": (appended(entry(below("file"), kind=b"\0")), "no known kind"),
    "a link in the header of a file": (with_header("/-rf.txt", (157, b"/etc/passwd")), "not writ"),
    "a file whose first tag is a link": (
        lambda parts: whole([parts[0], linked(b"2", b"/etc/passwd"), *parts[1:]]),
        "a symbolic link",
    ),
    # pax headers
    "a global pax header": (appended(extended((b"path", below("x")), kind=b"g")), "for all that"),
    "a pax header with a link": (
        appended(extended((b"path", below("x")), (b"size", b"4"), (b"linkpath", b"/etc/passwd"))),
        "not written by this tool",
    ),
    "a pax header of a sparse file": (
        appended(extended((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"9" * 15))),
        "not written by this tool",
    ),
    "a pax header with a time": (
        appended(extended((b"path", below("x")), (b"size", b"4"), (b"mtime", b"1.5"))),
        "not written by this tool",
    ),
    "a pax header that lies about the size": (
        appended(extended((b"path", below("x" * 100)), (b"size", b"4000"))),
        "not written by this tool",
    ),
    "a pax header that was not needed": (
        appended(extended((b"path", below("file")), (b"size", b"4"))),
        "not written by this tool",
    ),
    "a pax header with a size below zero": (
        appended(extended((b"path", below("x" * 100)), (b"size", b"-4"))),
        "not written by this tool",
    ),
    "a pax header on a pax header": (
        appended(Part(header=extension((b"path", b"a")) + extension((b"path", b"b")))),
        "not written by this tool",
    ),
    "a pax header that is too long": (
        appended(Part(header=extension((b"comment", b"x" * 70_000)))),
        "too long",
    ),
    # headers
    "a set-user-ID bit": (with_header("/-rf.txt", (100, b"0004755\0")), "not written by this"),
    "an owner": (with_header("/-rf.txt", (108, b"0001750\0")), "not written by this tool"),
    "a device number": (with_header("/-rf.txt", (329, b"0000001\0")), "not written by this tool"),
    "a size in base 256": (with_header("/-rf.txt", (124, b"\x80" + b"\xff" * 11)), "not written"),
    "a size that is no number": (with_header("/-rf.txt", (124, b"99999999999\0")), "not written"),
    "a directory with content": (with_header("/attachments/", (124, b"00000000777\0")), "not wri"),
    "a directory without its slash": (with_header("/odd/", (39, b"\0")), "not written"),
    "another magic": (with_header("/-rf.txt", (257, b"ustar  \0")), "not written by this tool"),
    "something behind a name": (with_header("/-rf.txt", (90, b"evil")), "not written by this"),
    "something behind a header": (with_header("/-rf.txt", (500, b"evil")), "not written by this"),
    "a checksum that is wrong": (
        lambda parts: whole(parts).replace(parts[1].header, _unsigned(parts[1].header)),
        "not written by this tool",
    ),
    "something behind a content": (
        lambda parts: whole(parts).replace(
            parts[1].content + bytes(8), parts[1].content + b"evil" + bytes(4), 1
        ),
        "behind the end of a file",
    ),
    "something behind a pax header": (
        lambda parts: whole([*parts, Part(header=_dirty(extension((b"path", below("é")))))]),
        "behind the end of a header",
    ),
    # what is there and what is said to be
    "a file twice": (twice("/-rf.txt"), "more than it declares"),
    "a directory twice": (twice("/odd/"), "a directory twice"),
    "one file less": (without("/-rf.txt"), "less than it declares"),
    "one file more": (appended(entry(below("evil"))), "more than it declares"),
    "a file that is larger": (with_content("/-rf.txt", lambda old: old + b"!"), "more than it"),
    "a file that is smaller": (with_content("/-rf.txt", lambda old: old[:-1]), "less than it"),
    "a file with another content": (
        with_content("/-rf.txt", lambda old: old[:-1] + bytes([old[-1] ^ 1])),
        "-rf.txt",
    ),
    "a database with another content": (
        with_content("/database.sqlite3", lambda old: old[:-1] + bytes([old[-1] ^ 1])),
        "database",
    ),
    "a tag file with another content": (
        with_content("/bagit.txt", lambda old: old + b"\n"),
        "bagit.txt was changed",
    ),
    "tag files in another order": (swapped("/bagit.txt", "/snapshot.json"), "should come"),
    "no manifest": (without("/manifest-sha256.txt"), "where manifest-sha256.txt should come"),
    "no payload": (
        lambda parts: whole(parts[: index_of(parts, "/data/")]),
        "it has no history.jsonl",
    ),
    "no attachments": (
        lambda parts: whole(parts[: index_of(parts, "/attachments/")]),
        "it has no data/attachments",
    ),
    "a database that is a directory": (
        lambda parts: whole(
            [
                entry(f"{NAME}/data/database.sqlite3/".encode(), kind=b"5")
                if part.name.endswith("/database.sqlite3")
                else part
                for part in parts
            ]
        ),
        "of the wrong kind",
    ),
    "no summary of a snapshot": (signed_with("/snapshot.json", lambda _: b"[]"), "snapshot.json"),
    "the summary of another one": (
        signed_with("/snapshot.json", lambda old: old.replace(b"2026-03-01T0", b"2026-04-01T0")),
        "it calls itself",
    ),
    "no bag": (signed_with("/bagit.txt", lambda _: b"BagIt-Version: 9\n"), "it is a bag"),
    "no size": (signed_with("/bag-info.txt", lambda _: b"Contact: me\n"), "no Payload-Oxum"),
    "a manifest without a line": (
        signed_with("/manifest-sha256.txt", lambda old: old[old.index(b"\n") + 1 :]),
        "manifest",
    ),
    "a manifest that is none": (
        signed_with("/manifest-sha256.txt", lambda _: b"evil\n"),
        "manifest",
    ),
    "a manifest with a line more": (
        signed_with("/manifest-sha256.txt", lambda old: old + old.splitlines(keepends=True)[-1]),
        "manifest",
    ),
    "a history that is too large": (
        lambda parts: whole(
            [*parts[:7], entry(f"{NAME}/history.jsonl".encode(), bytes((64 << 20) + 1)), *parts[7:]]
        ),
        "history.jsonl is too large",
    ),
    "a manifest with a line that is too long": (
        signed_with("/manifest-sha256.txt", lambda _: b"x" * 100_000 + b"\n"),
        "manifest",
    ),
    "a summary that is too large": (
        with_content("/snapshot.json", lambda _: bytes((64 << 20) + 1)),
        "snapshot.json is too large",
    ),
    # ends
    "no end": (lambda parts: whole(parts)[: -len(END)], "cut short"),
    "half an end": (lambda parts: whole(parts)[:-BLOCK], "cut short"),
    "one empty block": (
        lambda parts: whole(parts)[:-BLOCK] + whole(parts),
        "something follows its end",
    ),
    "something after the end": (lambda parts: whole(parts) + b"evil", "something follows"),
    "an archive after the end": (lambda parts: whole(parts) + whole(parts), "something follows"),
}
"""What is done to an archive, and what is said of it."""


NOT_COMPARED = {"a directory in one that was not made"}
"""What a manifest does not tell of, so that comparing with it does not find it."""


def _moved(part: Part) -> bytes:
    """Put a file into a directory of which nothing is known."""
    return edited(
        part.header[-BLOCK:], (0, below("nowhere/file").ljust(100, b"\0")), (345, bytes(155))
    )


def _unsigned(block: bytes) -> bytes:
    return edited(block, (0, b"\x01"), signed=False)


def _dirty(blocks: bytes) -> bytes:
    return blocks[:-1] + b"!"


@pytest.mark.parametrize("name", HARM)
def test_an_archive_that_means_harm_leaves_nothing(good: Path, tmp_path: Path, name: str) -> None:
    change, said = HARM[name]
    archive, store = tmp_path / "in" / "bad.tar.zst", tmp_path / "store"
    archive.parent.mkdir()
    archive.write_bytes(squeeze(change(parts_of(stretch(good)))))
    make_store(store)
    before = set(footprint(tmp_path, ctime=False))
    with pytest.raises(VerificationError) as caught:
        unpack(archive, store)
    assert said in str(caught.value) + "".join(
        f"{one.where} {one.found}" for one in caught.value.findings
    )
    assert "\n" not in str(caught.value)
    assert set(footprint(tmp_path, ctime=False)) == before
    if name not in NOT_COMPARED:
        with pytest.raises(VerificationError):
            look_into(UnpackRequest(archive=archive, store=store), progress=quiet)
        assert set(footprint(tmp_path, ctime=False)) == before


# What takes too much


def test_a_bomb_is_refused_before_it_goes_off(good: Path, tmp_path: Path, store: Path) -> None:
    parts = parts_of(stretch(good))
    place = index_of(parts, "/ledger.jsonl")
    size = 8 << 30
    block = edited(parts[place].header, (124, b"%011o\0" % (size - 1)))
    bomb = whole(parts[:place])[: -len(END)] + block + bytes(64 << 20)
    archive = tmp_path / "bomb.tar.zst"
    archive.write_bytes(squeeze(bomb))
    assert archive.stat().st_size < 1 << 20
    with pytest.raises(SourceError, match="it would become larger than 1,073,741,824 bytes"):
        unpack(archive, store)
    assert litter_in(store) == []


def test_what_may_come_can_be_said(good: Path, store: Path) -> None:
    refused = run("unpack", "--archive", good, "--store", store, "--max-bytes", "100KiB")
    assert refused.code == 3
    assert "it would become larger than 102,400 bytes" in refused.error_line
    assert "--max-bytes" in refused.hint_line
    assert run("unpack", "--archive", good, "--store", store, "--max-bytes", "1M").code == 0


def test_an_archive_may_expand_to_200_times_its_size() -> None:
    assert most_bytes(1) == most_bytes(5_000_000) == 1 << 30
    assert most_bytes(10 << 20) == 2000 << 20


def test_a_mass_of_directories_is_refused(good: Path, tmp_path: Path, store: Path) -> None:
    parts = parts_of(stretch(good))
    start = index_of(parts, "/attachments/") + 1
    before, after = whole(parts[:start])[: -len(END)], whole(parts[start:])
    many = (header(below(f"{number:06}/"), kind=b"5") for number in range(250_000))
    archive = tmp_path / "many.tar.zst"
    archive.write_bytes(squeeze_all(chain([before], many, [after])))
    with pytest.raises(SourceError, match=r"it holds more than \d+,\d+ entries"):
        look_into(UnpackRequest(archive=archive, store=store), progress=quiet)
    allowed = UnpackRequest(archive=archive, store=store, most_bytes=1 << 30)
    assert look_into(allowed, progress=quiet).name == NAME


def test_what_asks_for_much_memory_is_refused(good: Path, tmp_path: Path, store: Path) -> None:
    archive = tmp_path / "wide.tar.zst"
    archive.write_bytes(squeeze(stretch(good), window=27))
    with pytest.raises(VerificationError, match="cannot be decompressed"):
        unpack(archive, store)


def test_a_size_for_which_there_is_no_room_is_refused_at_once(
    good: Path, tmp_path: Path, store: Path
) -> None:
    archive = tmp_path / "huge.tar.zst"
    change = signed_with("/bag-info.txt", huge_declaration)
    archive.write_bytes(squeeze(change(parts_of(stretch(good)))))
    with pytest.raises(DestinationError, match="no room on the file system"):
        unpack(archive, store)
    assert litter_in(store) == []


# What was damaged on the way


def test_a_cut_at_any_place_is_noticed(good: Path, tmp_path: Path, store: Path) -> None:
    content = good.read_bytes()
    archive = tmp_path / "cut.tar.zst"
    places = [*range(23, len(content), len(content) // 40), len(content) - 1]
    for place in places:
        archive.write_bytes(content[:place])
        with pytest.raises(VerificationError, match="damaged"):
            unpack(archive, store)
    assert not store.exists() or litter_in(store) == []


def test_a_bit_at_any_place_is_noticed(good: Path, tmp_path: Path, store: Path) -> None:
    content = good.read_bytes()
    archive = tmp_path / "flipped.tar.zst"
    for place in (*range(6), *range(6, len(content), len(content) // 40), len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 0x10
        archive.write_bytes(changed)
        if place in {4, 5}:  # an unused bit, and how much memory it takes: the content is the same
            continue
        with pytest.raises(OpsError) as caught:
            unpack(archive, store)
        assert caught.value.exit_code in {3, 5}
    assert not store.exists() or litter_in(store) == []


def test_an_encrypted_one_is_whole_or_refused(made: Path, tmp_path: Path, store: Path) -> None:
    key, public = key_pair(tmp_path, "age")
    archive = tmp_path / "secret.age"
    ran = run("pack", "--store", made / "store", "--archive", archive, "--recipient", public)
    assert ran.code == 0, ran.err
    content = archive.read_bytes()
    secrets = (age_module().x25519.Identity.from_str(key.read_text().split()[-1]),)
    request = UnpackRequest(archive=archive, store=store, identities=secrets)
    middle = len(content) // 2
    for changed in (
        content[:-1],
        content[:middle],
        content[:100],
        content + b"x",
        content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        content[:30] + bytes([content[30] ^ 1]) + content[31:],
    ):
        archive.write_bytes(changed)
        with pytest.raises(OpsError) as caught:
            run_unpack(request, chosen, clock=CLOCK, progress=quiet)
        assert caught.value.exit_code in {3, 5}
        assert "\n" not in str(caught.value)
    assert not store.exists() or litter_in(store) == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "no archive"), (b"PK\x03\x04", "no archive"), (b"age-encryption.org/v2\n", "no arch")],
)
def test_what_is_no_archive_is_told(tmp_path: Path, store: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=said):
        unpack(path, store)
    assert not store.exists()


def test_what_cannot_be_read_is_told(tmp_path: Path, store: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        unpack(tmp_path / "nothing", store)
    with pytest.raises(SourceError, match="no regular file"):
        unpack(tmp_path, store)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="no regular file"):
        unpack(tmp_path / "pipe", store)


@pytest.mark.parametrize(
    "flags",
    [(), ("--archive", "a/"), ("--archive", "a"), ("--archive", "a", "--max-bytes", "much")],
)
def test_wrong_flags_are_told(capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]) -> None:
    ran = run_here(capsys, "unpack", *flags)
    assert ran.code == 2
    assert ran.error_line


# The store


def test_a_name_that_is_taken_is_refused(good: Path, store: Path) -> None:
    unpack(good, store)
    before = footprint(store)
    with pytest.raises(DestinationError, match="has a snapshot of this name"):
        unpack(good, store)
    with pytest.raises(DestinationError, match="has a snapshot of this name"):
        look_into(UnpackRequest(archive=good, store=store), progress=quiet)
    assert footprint(store) == before


def test_a_directory_that_is_no_store_is_refused(good: Path, tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "minutes.txt").touch()
    with pytest.raises(DestinationError, match="is no store and not empty"):
        unpack(good, tmp_path / "documents")
    assert os.listdir(tmp_path / "documents") == ["minutes.txt"]


def test_two_at_once_and_a_pruning_wait_for_nobody(good: Path, store: Path) -> None:
    seen: list[str] = []

    def meet(progress: Progress) -> None:
        if progress.step == "publish":
            with pytest.raises(BusyError, match="another run"):
                unpack(good, store)
            with pytest.raises(BusyError, match="another run"), locked_store(store):
                pytest.fail("the store was free")
            seen.append("met")

    request = UnpackRequest(archive=good, store=store)
    run_unpack(request, chosen, clock=CLOCK, progress=meet)
    assert seen == ["met"]
    assert names_in(store) == [NAME]
    with reader_of(store, "LOCK_EX"), pytest.raises((BusyError, DestinationError)):
        unpack(good, store)


def test_one_that_was_unpacked_is_pruned_as_any_other(
    instance: Instance, good: Path, store: Path
) -> None:
    unpack(good, store)
    newer = back_up(instance, store)
    assert names_in(store) == [NAME, newer.name]
    with locked_store(store):
        listed = list_snapshots(store)
        gone = prune(store, listed, plan_removal(listed, NAME), progress=quiet)
    assert gone.removed == (NAME,)
    assert (store / LATEST).readlink() == Path(newer.name)
    unpack(good, store)
    assert names_in(store) == [NAME, newer.name]


@pytest.mark.parametrize("step", ["read archive", "write to disk", "publish"])
def test_a_signal_leaves_nothing(good: Path, store: Path, step: str) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise InterruptedRunError(signal.SIGTERM)

    request = UnpackRequest(archive=good, store=store)
    with pytest.raises(InterruptedRunError):
        run_unpack(request, chosen, clock=CLOCK, progress=stop)
    assert names_in(store) == []
    assert litter_in(store) == []
    assert not (store / LATEST).is_symlink()


@pytest.mark.parametrize("pages", [0, 1, 2, 5, 8])
def test_a_disk_that_is_nearly_full_is_told(good: Path, tmp_path: Path, pages: int) -> None:
    (tmp_path / "mount").mkdir()
    with tmpfs("2m", at=tmp_path / "mount") as mount:
        store = mount / "store"
        make_store(store)
        free = os.statvfs(mount)
        (mount / "other").write_bytes(bytes((free.f_bavail - pages) * free.f_frsize))
        with pytest.raises(DestinationError, match=r"no room on|No space left"):
            unpack(good, store)
        assert litter_in(store) == []


def test_a_full_disk_is_told_and_leaves_nothing(good: Path, tmp_path: Path) -> None:
    (tmp_path / "mount").mkdir()
    with tmpfs("16m", at=tmp_path / "mount") as mount:
        store = mount / "store"
        make_store(store)

        def fill(progress: Progress) -> None:
            if progress.step == "read archive" and not (mount / "other").exists():
                free = os.statvfs(mount)
                (mount / "other").write_bytes(bytes(free.f_bavail * free.f_frsize))

        request = UnpackRequest(archive=good, store=store)
        with pytest.raises(DestinationError, match="No space left"):
            run_unpack(request, chosen, clock=CLOCK, progress=fill)
        assert litter_in(store) == []
        with pytest.raises(DestinationError, match=r"no room on|No space left"):
            unpack(good, store)


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (("backports.zstd", "compression.zstd", "compression", "backports"), "packing takes zstd"),
        (("pyrage",), "encryption takes pyrage"),
    ],
)
def test_without_the_libraries_it_says_what_to_install(
    made: Path, tmp_path: Path, missing: tuple[str, ...], said: str
) -> None:
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({missing}))\n"
        "from ops.cli import program; program.run()"
    )
    ran = run(
        *("pack", "--store", made / "store", "--archive", tmp_path / "a", "--recipient", "age1"),
        command=(sys.executable, "-c", script),
    )
    assert ran.code == 2
    assert said in ran.error_line
    assert "install -e '.[pack]'" in ran.hint_line


def test_a_key_that_is_not_needed_is_refused(good: Path, store: Path) -> None:
    secret = age_module().x25519.Identity.generate()
    request = UnpackRequest(archive=good, store=store, identities=(secret,))
    with pytest.raises(UsageError, match="is not encrypted"):
        run_unpack(request, chosen, clock=CLOCK, progress=quiet)


def test_a_killed_run_is_swept_up_by_the_next(made: Path, tmp_path: Path, store: Path) -> None:
    instance = build_instance(tmp_path / "production", evidences=3)
    with (instance.attachments / "large.bin").open("wb") as file:
        file.truncate(256 << 20)
    snapshot = back_up(instance, tmp_path / "first", clock=at(NIGHT))
    archive = tmp_path / "large.tar.zst"
    request = PackRequest(snapshot=snapshot, archive=archive)
    run_pack(plan_pack(request), clock=CLOCK, progress=quiet)
    process = subprocess.Popen(
        [*INV, "unpack", "--archive", archive, "--store", store],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    large = store / ".ciso-ops-new" / "data" / "attachments" / "large.bin"
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not large.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert names_in(store) == []
    assert litter_in(store) == [".ciso-ops-new"]
    unpack(made / "good.tar.zst", store)
    assert (names_in(store), litter_in(store)) == ([NAME], [])


def test_a_disk_that_fails_is_told(store: Path) -> None:
    unreadable = Path("/proc/self/mem")
    if not unreadable.exists():
        pytest.skip("takes /proc, for a file that cannot be read")
    with pytest.raises(SourceError, match=r"cannot read the archive .*: Input/output error"):
        unpack(unreadable, store)


def test_a_stream_that_nobody_reads_any_more_ends() -> None:
    """Also in the middle of what is being decrypted."""
    age = age_module()
    secret = age.x25519.Identity.generate()
    sealed: list[bytes] = []
    encrypt(iter([noise(4 << 20)] * 3), [secret.to_public()], sealed.append)
    assert max(map(len, sealed)) < 400_000
    pieces = iter([b"".join(sealed)])
    with ahead(lambda put: decrypt(pieces, [secret], put)) as clear:
        assert next(clear) == noise(4 << 20)[: 256 << 10]
    with pytest.raises(UsageError, match="cannot encrypt to these recipients"):
        encrypt(iter([b"x"]), [], sealed.append)
