"""Small file systems of our own, and files that cannot be changed; undone whatever happens."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def tmpfs(size: str, *, options: str = "", at: Path | None = None) -> Iterator[Path]:
    """Mount a tmpfs of a size, such as "1m", for the length of a block.

    Args:
        size: As mount(8) takes it.
        options: More mount options, separated by commas.
        at: Where; a new directory otherwise.
    """
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("takes root, to mount a small file system")
    with tempfile.TemporaryDirectory() as name:
        point = at or Path(name)
        listed = ",".join(filter(None, (f"size={size}", "mode=755", options)))
        done = subprocess.run(
            [mount, "-t", "tmpfs", "-o", listed, "tmpfs", point], check=False, capture_output=True
        )
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")
        try:
            yield point
        finally:
            subprocess.run([shutil.which("umount") or "umount", point], check=True)


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Forbid even root to change a file or directory, for the length of a block."""
    chattr = shutil.which("chattr")
    if chattr is None or subprocess.run([chattr, "+i", path], check=False).returncode:
        pytest.skip("takes root and a file system that knows the immutable flag")
    try:
        yield
    finally:
        subprocess.run([chattr, "-i", path], check=True)
