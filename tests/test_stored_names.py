"""Names in a payload: every one travels, and no two are confused."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ops.tree.stored import Payload, stored_name, stored_path
from tests.filesystem import Directory, File, build
from tests.strategies import names
from tests.test_tree_compare import few

_DIGITS = b"0123456789abcdef0123"

ODD = [
    b"\xff",
    b"\xff" * 255,
    b"a" * 255,
    b"a" * 254 + b"\xff",
    "é".encode() * 127,
    "報".encode() * 85,
    b"\xc3\xa9.txt",
    b"e\xcc\x81.txt",
    b"\xcc\x81",
    b"trailing ",
    b" leading",
    b" ",
    b"50%.txt",
    b"%0A",
    b"a\nb",
    b"a\rb",
    b"\x01",
    b"\x7f",
    b"tab\t",
    b"*star",
    b"back\\slash",
    b"\\",
    b"tilde~",
    b"~$open.docx",
    b"-rf",
    b"#1 \"quoted\" 'too'",
    b"_~" + _DIGITS,
    b"plain~" + _DIGITS,
    b"plain~" + _DIGITS + b"0",
    b"plain~" + _DIGITS[1:],
    b"plain~" + _DIGITS.upper(),
    "\u00a0".encode(),
    "a\u2028b".encode(),
    "\u200b".encode(),
    "\ufffd".encode(),
    "\ufeffmark".encode(),
    "\u212b".encode(),
    "\u1100\u1161".encode(),
    b"...",
    b"con.",
]
"""Names that some program or file system reads differently, or that look as if we had made them."""

any_names = st.one_of(
    names,
    st.sampled_from(ODD),
    names.map(stored_name),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=60)
    .map(lambda text: text.encode()[:255])
    .filter(bool),
    st.binary(min_size=200, max_size=255).map(
        lambda data: data.replace(b"/", b"_").replace(b"\0", b"_")
    ),
)
any_paths = st.lists(any_names, max_size=4).map(b"/".join)

# Names nobody should notice anything about: composed letters, digits, and what is usual between.
usual_names = (
    st.text(
        st.one_of(
            st.sampled_from("abcXYZ019 ._-()[]{}&+,;='!@#$^`*?<>|:\"\\"),
            st.sampled_from("éüßøñ中文字報告кириллицаעבריתกขひらカ한글😀"),
        ),
        min_size=1,
        max_size=60,
    )
    .map(lambda text: unicodedata.normalize("NFC", text).encode())
    .filter(lambda name: name not in {b".", b".."} and not name.endswith(b" "))
)


def _assert_travels(name: bytes) -> None:
    assert 0 < len(name) <= 255
    assert name not in {b".", b".."}
    assert b"/" not in name
    text = name.decode()
    assert not any(unicodedata.category(one) in {"Cc", "Zl", "Zp"} for one in text)
    assert "%" not in text
    assert text == text.rstrip()
    assert [text] == text.splitlines()
    if _is_known(text):
        assert unicodedata.is_normalized("NFC", text)


def _is_known(text: str) -> bool:
    """Tell whether all characters are of the Unicode that names go by."""
    return all(unicodedata.ucd_3_2_0.category(one) != "Cn" for one in text)


@given(any_names)
def test_a_stored_name_travels(name: bytes) -> None:
    _assert_travels(stored_name(name))


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_travels(name: bytes) -> None:
    _assert_travels(stored_name(name))


@given(usual_names)
@example(b"Rapport final (v2).pdf")
@example("Résumé (été).pdf".encode())
@example("報告書.docx".encode())
@example(b"~$open.docx")
@example(b"file~")
@example(b"a~b")
@example(b"a" * 255)
@example(b"plain~" + _DIGITS[1:])
@example(b"plain~" + _DIGITS.upper())
def test_a_usual_name_stays_as_it_is(name: bytes) -> None:
    assert stored_name(name) == name
    assert stored_path(b"a/" + name + b"/b") == b"a/" + name + b"/b"


def test_what_can_be_kept_of_a_name_is_kept() -> None:
    for name, kept in [
        (b"50%.txt", b"50_.txt"),
        (b"a\nb", b"a_b"),
        (b"caf\xe9", b"caf_"),
        (b"e\xcc\x81.txt", b"\xc3\xa9.txt"),
        (b"trailing ", b"trailing "),
        (b"\xff" + b"a" * 254, b"_" + b"a" * 233),
        (b"\xff" + "é".encode() * 127, b"_" + "é".encode() * 116),
    ]:
        digest = hashlib.sha256(name).hexdigest()[:20].encode()
        assert stored_name(name) == kept + b"~" + digest


_LATER = "".join(
    character
    for character in map(chr, range(sys.maxunicode + 1))
    if unicodedata.ucd_3_2_0.category(character) == "Cn"
    and (unicodedata.combining(character) or unicodedata.decomposition(character))
)
"""Characters of later versions of Unicode than the names go by, which are more than themselves."""


def test_no_later_unicode_has_a_say() -> None:
    # Another Python knows more or fewer of them, and must come to the same names.
    assert len(_LATER) > 500
    for character in _LATER:
        name = f"x\u0301{character}".encode()
        assert stored_name(name) == name
    pair = "\u1b05\u1b35".encode()  # U+1B06 is both in one, as of Unicode 5
    assert stored_name(pair) == pair
    digest = hashlib.sha256(b"%" + pair).hexdigest()[:20].encode()
    assert stored_name(b"%" + pair) == b"___~" + digest


@given(st.sets(any_names, min_size=2))
@example(set(ODD))
def test_distinct_names_get_distinct_stored_names(taken: set[bytes]) -> None:
    # Those that we gave, too: a name may look as if it were stored already.
    every = taken | set(map(stored_name, taken))
    every |= set(map(stored_name, every))
    stored = {stored_name(name) for name in every}
    assert len(stored) == len(every)
    known = {text for text in map(bytes.decode, stored) if _is_known(text)}
    for form in ("NFC", "NFD"):  # as macOS compares them
        assert len({unicodedata.normalize(form, text) for text in known}) == len(known)


@given(any_paths)
@example(b"")
@example(b"a/b")
@example(b"a /b")
@example(b"a/ b")
@example(b"a~/b")
@example(b"a%/b")
@example(b"plain~" + _DIGITS + b"/b")
@example(b"\xff/\xff")
def test_a_stored_path_is_made_of_stored_names(path: bytes) -> None:
    assert stored_path(path) == b"/".join(stored_name(name) for name in path.split(b"/"))


@given(st.lists(any_names, min_size=1, max_size=3))
@example([b"\xff", b"a\nb"])
def test_directories_of_a_payload_are_asked_for_by_their_true_names(path: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = os.fsencode(name)
        os.makedirs(root + b"/" + stored_path(b"/".join(path)))
        with Payload(Path(name)) as payload:
            assert payload.stored
            for depth in range(len(path) + 1):
                true = b"/".join(path[:depth])
                lies = root + b"/" + stored_path(true) if true else root
                for _ in range(2):
                    assert os.path.samestat(os.fstat(payload.open(true)), os.stat(lies))
                assert payload.full_path(true) == lies
                assert payload.on_disk(true) == stored_path(true)
            assert payload.leaf(path[-1]) == stored_name(path[-1])
            with pytest.raises(FileNotFoundError) as failed:
                payload.open(b"n\xfft/there")
            assert failed.value.filename == root + b"/" + stored_path(b"n\xfft/there")


def _bag(root: Path, taken: list[bytes]) -> Path:
    """Make a bag by hand, of files that have their own names as content."""
    files = {stored_name(name): File(name) for name in taken}
    inner = {
        stored_name(b"d" + name[:254]): Directory({stored_name(name): File(name)}) for name in taken
    }
    tree = Directory({b"files": Directory({**files}), b"dirs": Directory({**inner})})
    (root / "bag").mkdir()
    build(root / "bag/data", tree)
    lines = []
    for directory, _, here in os.walk(os.fsencode(root / "bag/data")):
        for name in here:
            with open(directory + b"/" + name, "rb") as file:
                digest = hashlib.sha256(file.read()).hexdigest().encode()
            path = os.path.relpath(directory + b"/" + name, os.fsencode(root / "bag"))
            lines.append(digest + b"  " + path + b"\n")
    (root / "bag/manifest-sha256.txt").write_bytes(b"".join(sorted(lines)))
    (root / "bag/bagit.txt").write_text("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
    return root / "bag"


def _sha256sum(bag: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [shutil.which("sha256sum") or "sha256sum", "-c", "--strict", "manifest-sha256.txt"],
        cwd=bag,
        check=False,
        capture_output=True,
    )


def _bagit(bag: Path) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "bagit", "--validate", str(bag)]
    return subprocess.run(command, check=False, capture_output=True)


@settings(few)
@given(st.lists(any_names, min_size=20, max_size=60, unique=True))
@example(ODD)
def test_other_programs_read_a_manifest_of_stored_names(taken: list[bytes]) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("takes sha256sum of the coreutils")
    with tempfile.TemporaryDirectory() as name:
        bag = _bag(Path(name), taken)
        for program in (_sha256sum, _bagit):
            done = program(bag)
            assert done.returncode == 0, done.stdout + done.stderr
        damaged = os.fsencode(bag) + b"/data/files/" + stored_name(taken[0])
        with open(damaged, "ab") as file:
            file.write(b"+")
        for program in (_sha256sum, _bagit):
            assert program(bag).returncode != 0
