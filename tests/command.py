"""Run the real command in a process of its own."""

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
INV = (sys.executable, "-m", "invoke")
PROGRAM = (sys.executable, "-c", "from ops.cli import program; program.run()")
_TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Ran:
    """What a command did: its exit code and its two streams."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on standard output."""
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def error_line(self) -> str:
        """The one line that begins with "error: "; there must be exactly one."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0]


def run(
    *arguments: str | Path,
    command: Sequence[str] = INV,
    environment: Mapping[str, str] | None = None,
    directory: Path = ROOT,
    user: int | None = None,
) -> Ran:
    """Run `inv` (or another front door) with arguments, without a terminal.

    Args:
        arguments: Task and flags.
        command: The program and its first arguments.
        environment: Variables on top of the process's own.
        directory: Where to run it.
        user: Run as this user and group, which takes root.
    """
    done = subprocess.run(
        [*command, *map(str, arguments)],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        cwd=directory,
        env={**os.environ, **(environment or {})},
        timeout=_TIMEOUT_SECONDS,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_on_terminal(
    *arguments: str | Path, answer: str = "", directory: Path = ROOT
) -> tuple[int, str]:
    """Run `inv` on a pseudo-terminal, type an answer once "[y/N]" is asked, and read the screen.

    Returns:
        The exit code and everything that appeared.
    """
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child is another program at once
        os.chdir(directory)
        os.execve(INV[0], [*INV, *map(str, arguments)], {**os.environ, "TERM": "xterm"})
    screen = b""
    asked = False
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 1)[0]:
            continue
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # Linux answers EIO once the other side is closed
            break
        if not piece:
            break
        screen += piece
        if b"[y/N]" in screen and not asked:
            asked = True
            os.write(terminal, answer.encode())
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), screen.decode("utf-8", "replace")
