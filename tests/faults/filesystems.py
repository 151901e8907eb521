"""Small file systems of several kinds, and what each of them can hold."""

import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command import mounted
from tests.mounting import tmpfs

_MAKE = {
    # Blocks as large as a page, and inodes with room for nanoseconds, on any size of disk.
    "ext4": "-q -F -b 4096 -I 256 -E lazy_itable_init=0,lazy_journal_init=0",
    "xfs": "-q -f",
    "btrfs": "-q -f",
}
_BYTES = {"ext4": 256 << 20, "xfs": 320 << 20, "btrfs": 320 << 20}
"""The images are mostly holes; XFS takes no less than 300 MB."""

_GUARDS = "nodev,nosuid"
"""Whatever lies in a tree: none of its devices can be opened, none of its programs gets rights."""

_FAR_SECONDS = 1 << 40
_NAMESPACES = ("user.", "trusted.", "security.", "system.posix_acl_")


@contextmanager
def volume(kind: str) -> Iterator[Path]:
    """Make a file system of a kind in a file (or a tmpfs), and mount it for a block's length.

    Skips where root, the program that makes it, or the kernel's support is missing.

    Args:
        kind: "ext4", "xfs", "btrfs" or "tmpfs".
    """
    if kind == "tmpfs":
        with tmpfs("256m", options=_GUARDS) as point:
            yield point
        return
    make = shutil.which(f"mkfs.{kind}")
    if make is None or os.geteuid() != 0:
        pytest.skip(f"takes root and mkfs.{kind}, to make a small file system")
    with tempfile.TemporaryDirectory(dir=_quick_place()) as name:
        image = Path(name) / "image"
        with image.open("wb") as file:
            file.truncate(_BYTES[kind])
        done = subprocess.run([make, *_MAKE[kind].split(), image], check=False, capture_output=True)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        with mounted(Path(name) / "mount", kind, f"loop,{_GUARDS}", source=image) as point:
            yield point


def _quick_place() -> Path | None:
    """Name a directory in memory, where there is one with room, so that no flush is waited for."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own in it
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * max(_BYTES.values()):
        return memory
    return None


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a file system can hold: the first and last time, and kinds of extended attributes."""

    earliest_ns: int
    latest_ns: int
    namespaces: frozenset[str]

    def __and__(self, other: "Limits") -> "Limits":
        """Tell what both can hold."""
        return Limits(
            earliest_ns=max(self.earliest_ns, other.earliest_ns),
            latest_ns=min(self.latest_ns, other.latest_ns),
            namespaces=self.namespaces & other.namespaces,
        )

    def time(self, nanoseconds: int) -> int:
        """Move a time to the nearest one that can be held."""
        return min(max(nanoseconds, self.earliest_ns), self.latest_ns)

    def knows(self, attribute: str) -> bool:
        """Tell whether an extended attribute is of a kind that can be held."""
        return attribute.startswith(tuple(self.namespaces))


def limits_of(point: Path) -> Limits:
    """Ask a file system: the kernel moves a time that it cannot hold to the nearest it can."""
    probe = point / "probe"
    probe.touch()
    try:
        ends = []
        for seconds in (-_FAR_SECONDS, _FAR_SECONDS):
            os.utime(probe, ns=(0, seconds * 10**9))
            ends.append(probe.stat().st_mtime_ns)
        known = frozenset(name for name in _NAMESPACES if _knows(probe, name))
        return Limits(earliest_ns=ends[0], latest_ns=ends[1], namespaces=known)
    finally:
        probe.unlink()


def _knows(path: Path, namespace: str) -> bool:
    name = f"{namespace}access" if namespace.startswith("system.") else f"{namespace}probe"
    try:
        os.getxattr(path, name)
    except OSError as error:
        return error.errno not in {errno.ENOTSUP, errno.EOPNOTSUPP}
    return True
