"""Where a run took place: figures mean nothing without it."""

import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

WITHOUT_JOURNAL = "ext4 without a journal"
"""There the kernel looks at each inode removed in the last minutes whenever it makes a file."""

_JOURNALS = Path("/proc/fs/jbd2")
_VERSIONS = (("cp", "--version"), ("rsync", "--version"), ("sqlite3", "--version"))


def facts(directory: Path) -> tuple[str, ...]:
    """Tell kernel, file system, cores and versions, for data in a directory."""
    python = f"Python {platform.python_version()} with SQLite {sqlite3.sqlite_version}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = (_version(command) for command in _VERSIONS)
    return (
        f"{platform.system()} {platform.release().partition('-')[0]}",
        file_system(directory),
        f"{cores} cores",
        python,
        *(version for version in versions if version),
    )


def file_system(directory: Path) -> str:
    """Tell the type of the file system that a directory is on."""
    if shutil.which("df") is None:
        return "unknown file system"
    kind, device = _output(("df", "--output=fstype,source", str(directory))).split()[-2:]
    journals = [path.name for path in _JOURNALS.iterdir()] if _JOURNALS.is_dir() else None
    return describe(kind, Path(device).resolve().name, journals)


def describe(kind: str, device: str, journals: Collection[str] | None) -> str:
    """Say what a file system is.

    Args:
        kind: Its type.
        device: The last part of its device's path.
        journals: What the kernel keeps journals of, each a device and an inode; None if unknown.
    """
    if kind != "ext4" or journals is None:
        return kind
    journalled = {name.rpartition("-")[0] for name in journals} | set(journals)
    return kind if device in journalled else WITHOUT_JOURNAL


def _version(command: Sequence[str]) -> str:
    """Shorten the first line of what a program says of itself to its name and version."""
    if shutil.which(command[0]) is None:
        return ""
    words = _output(command).partition("\n")[0].split()
    number = next((word for word in words if word[0].isdigit()), "")
    return f"{command[0]} {number}"


def _output(command: Sequence[str]) -> str:
    """Return what a program prints, in the C locale."""
    variables = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, check=True, capture_output=True, env=variables)
    return done.stdout.decode("utf-8", "replace")
