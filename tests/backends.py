"""Places for repositories of restic's, each a real server on the loopback interface."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

WORD = "not-shown"
"""With which a REST server knows its user."""

_SECONDS = 30
_SSHD = ("/usr/sbin/sshd", "/usr/local/sbin/sshd")
_SEPARATION = Path("/run/sshd")


def require_program(name: str) -> str:
    """Find a program; skip where it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    command: Sequence[str | Path], port: int, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends, which begins once it answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*map(str, command)], stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + _SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def local(directory: Path) -> Iterator[dict[str, str]]:
    """Name a directory."""
    yield {"RESTIC_REPOSITORY": str(directory / "repository")}


@contextmanager
def rest(directory: Path) -> Iterator[dict[str, str]]:
    """Serve restic's REST protocol."""
    rclone = require_program("rclone")
    port = free_port()
    address = f"127.0.0.1:{port}"
    users = ("--user", "me", "--pass", WORD)
    command = [rclone, "serve", "restic", "--addr", address, *users, str(directory / "served")]
    with serving(command, port, directory / "rclone.log"):
        yield {"RESTIC_REPOSITORY": f"rest:http://me:{WORD}@{address}/"}


@contextmanager
def s3(directory: Path) -> Iterator[dict[str, str]]:
    """Serve S3, from memory."""
    pytest.importorskip("moto.server")
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with serving(command, port, directory / "moto.log"):
        yield {
            "RESTIC_REPOSITORY": f"s3:http://127.0.0.1:{port}/evidences",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
        }


@contextmanager
def sftp(directory: Path) -> Iterator[dict[str, str]]:
    """Serve SFTP with keys of its own; a wrapper of ssh finds them, wherever home is."""
    sshd = next((path for path in _SSHD if Path(path).exists()), None)
    if sshd is None:
        pytest.skip("sshd is not installed")
    ssh, keygen = require_program("ssh"), require_program("ssh-keygen")
    own = directory / "ssh"
    own.mkdir(mode=0o700)
    for name in ("host", "user"):
        command = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", own / name]
        subprocess.run([*map(str, command)], check=True, stdin=subprocess.DEVNULL)
    port = free_port()
    (own / "keys").write_bytes((own / "user.pub").read_bytes())
    (own / "known").write_text(f"[127.0.0.1]:{port} {(own / 'host.pub').read_text()}")
    (own / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {own / 'host'}\nPidFile none\n"
        f"AuthorizedKeysFile {own / 'keys'}\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nSubsystem sftp internal-sftp\n"
    )
    (own / "config").write_text(
        f"UserKnownHostsFile {own / 'known'}\nIdentityFile {own / 'user'}\nBatchMode yes\n"
        "IdentitiesOnly yes\nStrictHostKeyChecking yes\n"
    )
    programs = directory / "programs"
    programs.mkdir(exist_ok=True)
    write_script(programs / "ssh", f'exec {ssh} -F {own / "config"} "$@"')
    user = pwd.getpwuid(os.geteuid()).pw_name
    server = [sshd, "-D", "-e", "-f", str(own / "sshd_config")]
    with _separation(), serving(server, port, directory / "sshd.log"):
        yield {
            "RESTIC_REPOSITORY": f"sftp://{user}@127.0.0.1:{port}/{directory / 'by-sftp'}",
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        }


@contextmanager
def _separation() -> Iterator[None]:
    """Have the empty directory that sshd wants as root, where the system has not made it yet."""
    made = os.geteuid() == 0 and not _SEPARATION.exists()
    if made:
        _SEPARATION.mkdir(mode=0o755, exist_ok=True)
    try:
        yield
    finally:
        if made:
            _SEPARATION.rmdir()


BACKENDS = {"local": local, "sftp": sftp, "rest": rest, "s3": s3}


def write_script(path: Path, *lines: str) -> Path:
    """Write a program for the shell."""
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path
