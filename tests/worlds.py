"""A private world for programs that look after a whole machine: its own mounts and processes.

The machine's files can be read in it and not be written, nor can the kernel's settings. What is
written to the places that are mounted is gone with it, and so is every process.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.command import Ran

ASKED = os.environ.get("CISO_OPS_REAL") == "1"
"""Whether tests with an init system, a cron or servers of their own were asked for."""

TREE = Path("/run/tree")
"""Where a world has the one directory of the machine that it may write."""

_TIMEOUT_SECONDS = 120
_NEW = ("/tmp", "/dev/shm", "/var/tmp", "/var/lib", "/var/log", "/var/spool")  # noqa: S108 - they are mounted over
_READ_ONLY = ("/", "/dev", "/proc/sys", "/sys")
_SETTLE_SECONDS = 20


@dataclass(frozen=True)
class World:
    """A running one, by the number of its first process."""

    pid: int

    def run(self, *arguments: str | Path) -> Ran:
        """Run a program in it, with no more environment than a path and a home."""
        done = subprocess.run(
            [
                _program("nsenter"),
                "-t",
                str(self.pid),
                "-m",
                "-p",
                "-n",
                "--",
                *map(str, arguments),
            ],
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": "/root"},
            timeout=_TIMEOUT_SECONDS,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def require_programs(*names: str) -> None:
    """Skip where one is missing, there is no private world to be had, or none is asked for.

    An init system is not started by whoever happens to run the tests as root.
    """
    if not ASKED:
        pytest.skip("starts an init system or servers of its own: nox -s real")
    prefix = os.path.realpath(sys.prefix)
    if any(prefix.startswith(f"{place}/") for place in _NEW):
        pytest.skip(f"{prefix} cannot be seen in a private world")
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("takes Linux and root, to make a private world")
    for name in ("unshare", "nsenter", *names):
        if not Path(name).exists() and shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")


def _program(name: str) -> str:
    """Return the full path of a program; `require_programs` saw that it is there."""
    return shutil.which(name) or name


@contextmanager
def private_world(tree: Path, setup: Sequence[str], main: str) -> Iterator[World]:
    """Keep a world for the length of a block.

    Args:
        tree: The directory that is writable in it, as `TREE`.
        setup: Commands of a shell that come first, such as mounts. Each must succeed.
        main: What the first process then becomes.
    """
    mounts = [
        "mount -t tmpfs none /run",
        f"mkdir {TREE} && mount --bind {shlex.quote(str(tree))} {TREE}",
        *(f"mount --bind {place} {place}" for place in _READ_ONLY[1:]),
        *(f"mount -o remount,bind,ro {place}" for place in _READ_ONLY),
        *(f"mount -t tmpfs none {place}" for place in _NEW),
    ]
    script = "\n".join(["set -e", *mounts, *setup, f"exec {main}"])
    with _control_group() as group:
        enter = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
        kinds = ("--mount", "--pid", "--cgroup", "--ipc", "--uts", "--net", "--mount-proc")
        unshare = (_program("unshare"), *kinds, "--fork", "--kill-child")
        process = subprocess.Popen(
            ["/bin/sh", "-c", enter, group, *unshare, "/bin/sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            yield World(pid=_first_process(process, main))
        finally:
            process.kill()  # the kernel kills the first process with it, and that all others
            process.communicate(timeout=_TIMEOUT_SECONDS)


def _first_process(process: subprocess.Popen[bytes], main: str) -> int:
    """Wait until the world is set up."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for child in children.read_text().split():
            line = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            if line[0].decode() == main.split(maxsplit=1)[0]:
                return int(child)
        time.sleep(0.05)
    process.kill()
    said = process.communicate()[0].decode("utf-8", "replace").strip()
    pytest.skip(f"no private world to be had: {said}")


@contextmanager
def _control_group() -> Iterator[str]:
    """Make a control group, and remove it with all that was made in it."""
    root = next(
        (path for path in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"))
         if (path / "cgroup.procs").exists()),
        None,
    )  # fmt: skip
    if root is None:
        pytest.skip("no control groups of version 2")
    group = root / f"ciso-ops-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group to be had: {error}")
    try:
        yield str(group)
    finally:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while not _is_gone(group):
            assert time.monotonic() < deadline, f"{group} is still in use"
            time.sleep(0.1)


def _is_gone(group: Path) -> bool:
    for directory, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:  # a process in it has not ended yet
            return False
    return True


_STUBS = ("sysinit", "basic", "shutdown", "timers", "quiet")


@contextmanager
def systemd_world(tree: Path, more: Sequence[str] = ()) -> Iterator[World]:
    """Keep a world whose first process is systemd, with no units but what is installed in it.

    None of the machine's own units is found: its boot must not happen again.

    Args:
        tree: As for `private_world`.
        more: Commands of a shell that come first.
    """
    systemd = next((path for path in map(Path, ("/lib/systemd/systemd", "/usr/lib/systemd/systemd"))
                    if path.exists()), Path("/lib/systemd/systemd"))  # fmt: skip
    require_programs(str(systemd), "systemctl")
    units = "/run/stubs"
    stub = "[Unit]\\nDefaultDependencies=no\\n"
    setup = [
        f"mkdir -p {units} /run/nothing /run/systemd/system",
        *(f"printf '{stub}' > {units}/{name}.target" for name in _STUBS),
        "mount -t tmpfs none /etc/systemd/system",
        "mount -t cgroup2 none /sys/fs/cgroup",
        *more,
    ]
    variables = (
        "container=test",
        f"SYSTEMD_UNIT_PATH=/etc/systemd/system:{units}",
        "SYSTEMD_GENERATOR_PATH=/run/nothing",
        "SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/run/nothing",
    )
    setup += [f"export {variable}" for variable in variables]
    arguments = "--system --unit=quiet.target --show-status=false --log-target=null"
    with private_world(tree, setup, f"{systemd} {arguments}") as world:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while world.run("systemctl", "is-system-running").out.strip() != "running":
            if time.monotonic() > deadline:
                pytest.skip("systemd does not start in a private world here")
            time.sleep(0.1)
        yield world


def mailing(tree: Path) -> list[str]:
    """Return what gives a world a mailer that keeps all mail, each as a file in `mail`."""
    require_programs("/usr/sbin/sendmail")
    mail = f"{TREE}/mail/$$"
    mailer = tree / "mailer"
    mailer.write_text(f'#!/bin/sh\ncat > "{mail}.part" && mv "{mail}.part" "{mail}.mail"\n')
    mailer.chmod(0o755)
    (tree / "mail").mkdir()
    return [f"mount --bind {TREE}/mailer {os.path.realpath('/usr/sbin/sendmail')}"]


@contextmanager
def cron_world(tree: Path) -> Iterator[World]:
    """Keep a world with an empty place for crontabs, a cron, and a mailer that keeps all mail."""
    require_programs("cron", "crontab", "/etc/crontab")
    setup = mailing(tree)
    setup += [
        "mkdir -p /var/spool/cron/crontabs",
        "chgrp crontab /var/spool/cron/crontabs",
        "chmod 1730 /var/spool/cron/crontabs",
        "mount -t tmpfs none /etc/cron.d",
        "mount --bind /dev/null /etc/crontab",
    ]
    with private_world(tree, setup, "cron -f") as world:
        yield world
