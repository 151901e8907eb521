"""Run the real command in a process of its own."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ops.cli.program import program
from ops.model import Instance

ROOT = Path(__file__).parents[1]
INV = (sys.executable, "-m", "invoke")
PROGRAM = (sys.executable, "-c", "from ops.cli import program; program.run()")
_TIMEOUT_SECONDS = 120
NOBODY = 65534
"""A user who owns nothing."""

# The interpreter may lie where that user cannot look: everything is imported first.
AS_USER = """
import importlib, os, pkgutil, sys
import ops, rich.progress, rich.pretty, rich.traceback
for module in pkgutil.walk_packages(ops.__path__, "ops."):
    importlib.import_module(module.name)
ops.profile.load_profile("none")
"".encode("unicode_escape"), "".encode("idna")
user = int(sys.argv.pop(1))
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(user, user, user)
from ops.cli import program
program.run()
"""


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

    @property
    def hint_line(self) -> str:
        """The one line that begins with "hint: ", or nothing where there is none."""
        lines = [line for line in self.err.splitlines() if line.startswith("hint: ")]
        assert len(lines) <= 1, self.err
        return lines[0] if lines else ""


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
        user: Run the installed command as this user and group, which takes root.
    """
    variables = {**os.environ, **(environment or {})}
    if user is not None:
        _require_open(ROOT)
        command = (sys.executable, "-c", AS_USER, str(user))
        variables.pop("COVERAGE_PROCESS_CONFIG", None)  # that user cannot write the figures
    done = subprocess.run(
        [*command, *map(str, arguments)],
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        cwd=directory,
        env=variables,
        timeout=_TIMEOUT_SECONDS,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def _require_open(directory: Path) -> None:
    """Skip where another user cannot reach a directory, or nobody else can be."""
    if os.geteuid() != 0:
        pytest.skip("takes root, to be somebody else")
    if not all(path.stat().st_mode & 0o005 == 0o005 for path in (directory, *directory.parents)):
        pytest.skip(f"another user cannot reach {directory}")


def run_here(capture: pytest.CaptureFixture[str], *arguments: str | Path) -> Ran:
    """Run the installed command in this process, which is quicker, without a terminal."""
    capture.readouterr()
    code = 0
    try:
        program.run(["ciso-ops", *map(str, arguments)])
    except SystemExit as stop:
        code = int(stop.code or 0)
    said = capture.readouterr()
    return Ran(code, said.out, said.err)


def from_flags(instance: Instance) -> tuple[str | Path, ...]:
    """Name an instance as the source."""
    return "--source-db", instance.database, "--source-attachments", instance.attachments


def to_flags(instance: Instance) -> tuple[str | Path, ...]:
    """Name an instance as the destination."""
    return "--dest-db", instance.database, "--dest-attachments", instance.attachments


@contextmanager
def mounted(directory: Path, kind: str, options: str, source: Path | None = None) -> Iterator[Path]:
    """Mount a file system on a new directory, and take it off again; skip where that is refused.

    Args:
        directory: The mount point; created where it is missing.
        kind: The type, for example "tmpfs"; or "bind", with a source.
        options: As `mount -o` takes them.
        source: What to mount.
    """
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if os.geteuid() != 0 or mount is None or unmount is None or sys.platform != "linux":
        pytest.skip("takes root, mount and Linux")
    directory.mkdir(exist_ok=True)
    how = ["--bind"] if kind == "bind" else ["-t", kind, "-o", options]
    what = os.fsencode(source or kind)
    done = subprocess.run(
        [mount, *how, what, os.fsencode(directory)], check=False, capture_output=True
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.decode('utf-8', 'replace').strip()}")
    try:
        yield directory
    finally:
        subprocess.run([unmount, os.fsencode(directory)], check=True)


@contextmanager
def acting_as(user: int) -> Iterator[None]:
    """Be another user for the duration of a block; skip where that is not to be had."""
    _require_open(ROOT)
    groups, group = os.getgroups(), os.getegid()
    os.setgroups([])
    os.setegid(user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def run_on_terminal(
    *arguments: str | Path,
    answer: str = "",
    directory: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    prompt: str = "[y/N]",
    before_answer: Callable[[], None] | None = None,
) -> tuple[int, str]:
    """Run `inv` on a pseudo-terminal, type an answer once "[y/N]" is asked, and read the screen.

    Args:
        arguments: Task and flags.
        answer: What to type; lone surrogates stand for bytes that are not UTF-8.
        directory: Where to run it.
        environment: Variables on top of the process's own.
        prompt: What to wait for before typing.
        before_answer: Called before typing.

    Returns:
        The exit code and everything that appeared.
    """
    variables = {**os.environ, "TERM": "xterm", **(environment or {})}
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child is another program at once
        os.chdir(directory)
        os.execve(INV[0], [*INV, *map(str, arguments)], variables)
    screen = b""
    asked = False
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    try:
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
            if prompt.encode() in screen and not asked:
                asked = True
                if before_answer is not None:
                    before_answer()
                os.write(terminal, answer.encode("utf-8", "surrogateescape"))
    finally:
        if time.monotonic() >= deadline:
            os.kill(pid, signal.SIGKILL)
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), screen.decode("utf-8", "replace")
