"""Which file systems are mounted where, as Linux tells (proc(5), "/proc/pid/mountinfo")."""

import re
from dataclasses import dataclass
from pathlib import Path

_TABLE = Path("/proc/self/mountinfo")
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One mounted file system: where, and of which type, such as "ext4"."""

    point: Path
    kind: str


def list_mounts() -> tuple[Mount, ...]:
    """List what is mounted, in the order in which it was; nothing off Linux.

    Raises:
        OSError: The table cannot be read.
    """
    if not _TABLE.exists():
        return ()
    return tuple(_parse(line) for line in _TABLE.read_bytes().splitlines())


def _parse(line: bytes) -> Mount:
    # number parent device root point options [tags] - type source options
    before, _, after = line.partition(b" - ")
    point = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), before.split(b" ")[4])
    kind = after.split(b" ")[0].decode("ascii", "replace")
    return Mount(point=Path(point.decode("utf-8", "surrogateescape")), kind=kind)


def mount_of(path: Path, mounts: tuple[Mount, ...]) -> Mount | None:
    """Return the mount that a real path lies on: the deepest, and of equals the latest."""
    best: Mount | None = None
    for mount in mounts:
        lies_on = mount.point == path or mount.point in path.parents
        if lies_on and (best is None or len(mount.point.parts) >= len(best.point.parts)):
            best = mount
    return best


def mounts_below(path: Path, mounts: tuple[Mount, ...]) -> tuple[Mount, ...]:
    """List what is mounted at a real path or anywhere below it."""
    return tuple(mount for mount in mounts if mount.point == path or path in mount.point.parents)
