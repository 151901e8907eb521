"""Figures and names as people, and shells, read them."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ops.cli.format import count_of, format_bytes, format_duration, shell_quote
from tests.strategies import names


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5_872_026, "5.6 MiB"),
        (1 << 30, "1.0 GiB"),
        (1 << 40, "1.0 TiB"),
        (1 << 50, "1.0 PiB"),
        (5 << 60, "5120.0 PiB"),
        (0.6, "1 byte"),
        (1.4, "1 byte"),
    ],
)
def test_bytes(count: float, said: str) -> None:
    assert format_bytes(count) == said


@given(st.integers(0, 2**60))
def test_bytes_are_close_to_what_they_were(count: int) -> None:
    number, unit = format_bytes(count).split()
    units = ["byte", "KiB", "MiB", "GiB", "TiB", "PiB"]
    factor = 1024 ** units.index(unit.removesuffix("s"))
    assert abs(float(number) * factor - count) <= 0.051 * factor


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"),
        (0.0404, "40 ms"),
        (0.9994, "999 ms"),
        (0.9999, "1.0 s"),
        (1.0, "1.0 s"),
        (1.34, "1.3 s"),
        (9.97, "10 s"),
        (12.4, "12 s"),
        (89.4, "89 s"),
        (89.6, "90 s"),
        (90, "2 min"),
        (720, "12 min"),
        (3599, "1 h 00 min"),
        (3600, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (7199, "2 h 00 min"),
    ],
)
def test_duration(seconds: float, said: str) -> None:
    assert format_duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "plural", "said"),
    [
        (0, "", "0 files"),
        (1, "", "1 file"),
        (1200, "", "1,200 files"),
        (1, "entries", "1 file"),
        (2, "entries", "2 entries"),
    ],
)
def test_count(count: int, plural: str, said: str) -> None:
    assert count_of(count, "file", plural) == said


@pytest.mark.parametrize(
    ("path", "quoted"),
    [
        ("/srv/data", "/srv/data"),
        ("/srv/my data", "'/srv/my data'"),
        ("/srv/it's", "'/srv/it'\"'\"'s'"),
        ("/srv/été", "'/srv/été'"),
        ("/srv/$HOME", "'/srv/$HOME'"),
        ("/srv/a\nb", "$'/srv/a\\x0ab'"),
        ("/srv/\udcff", "$'/srv/\\xff'"),
    ],
)
def test_quotes_only_what_needs_it(path: str, quoted: str) -> None:
    assert shell_quote(Path(path)) == quoted


@given(st.lists(names, min_size=1, max_size=3))
@example([b"\xff", b"1"])
@example([b"\xffa"])
@example([b"\n0", b"'\\", b'"$(reboot)`'])
@example([b"\xc2\x9b", b"\\"])
@example([bytes(range(1, 47)) + bytes(range(48, 256))])
def test_a_shell_reads_the_exact_bytes_back(parts: list[bytes]) -> None:
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("no bash here")
    path = b"/" + b"/".join(parts)
    script = b"printf %s " + os.fsencode(shell_quote(Path(os.fsdecode(path))))
    told = subprocess.run([shell, "-c", script], check=True, capture_output=True)
    assert told.stdout == os.fsencode(Path(os.fsdecode(path)))
    assert told.stderr == b""


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=30))
@example('it\'s $HOME `x` "y"')
def test_any_posix_shell_reads_printable_names_back(text: str) -> None:
    shell = shutil.which("sh")
    if shell is None:
        pytest.skip("no sh here")
    path = Path("/srv") / text.replace("/", "_")
    quoted = shell_quote(path)
    if quoted.startswith("$'"):
        return  # unusual bytes: bash's form, tested above
    told = subprocess.run(
        [shell, "-c", b"printf %s " + os.fsencode(quoted)], check=True, capture_output=True
    )
    assert told.stdout == os.fsencode(path)
