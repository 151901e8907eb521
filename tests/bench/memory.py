"""How much memory a process and its descendants have: their proportional set size."""

from collections.abc import Iterable, Mapping
from pathlib import Path

_PROC = Path("/proc")
_KIB = 1024


def family_bytes(process: int) -> int:
    """Sum the memory of a process and its descendants; each shared page counts once in all.

    A process that ends meanwhile counts as nothing, as does everything where there is no /proc.
    """
    return sum(map(_proportional_bytes, family(process, _parents())))


def family(process: int, parents: Mapping[int, int]) -> frozenset[int]:
    """Find a process and its descendants.

    Args:
        process: Whose.
        parents: The parent of every process.
    """
    children: dict[int, list[int]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    found = {process}
    waiting = [process]
    while waiting:
        new = [child for child in children.get(waiting.pop(), []) if child not in found]
        found.update(new)
        waiting.extend(new)
    return frozenset(found)


def parse_parent(status: str) -> int:
    """Read the parent out of `/proc/PID/stat`; the name before it may hold anything."""
    return int(status.rpartition(")")[2].split()[1])


def parse_proportional(rollup: Iterable[str]) -> int:
    """Read the proportional set size, in bytes, out of `/proc/PID/smaps_rollup`."""
    for line in rollup:
        if line.startswith("Pss:"):
            return int(line.split()[1]) * _KIB
    return 0


def _parents() -> dict[int, int]:
    parents: dict[int, int] = {}
    for path in _PROC.glob("[0-9]*"):
        try:
            status = (path / "stat").read_text("utf-8", "replace")
        except OSError:
            continue
        parents[int(path.name)] = parse_parent(status)
    return parents


def _proportional_bytes(process: int) -> int:
    try:
        rollup = (_PROC / str(process) / "smaps_rollup").read_text("utf-8", "replace")
    except OSError:
        return 0
    return parse_proportional(rollup.splitlines())
