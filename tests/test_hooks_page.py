"""The recipes of docs/hooks.md, taken out of the page and run around a service that writes."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.hooks import VARIABLE
from ops.model import Instance
from ops.schedule.program import installed_command
from ops.store import list_snapshots
from tests.backends import write_script
from tests.command import ROOT, from_flags, run
from tests.processes import SERVICE, lives, wait_until_gone

PAGE = (ROOT / "docs" / "hooks.md").read_text("utf-8")


def block(language: str, holds: str) -> str:
    """Take the one block of a language out of the page that holds some text."""
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    (text,) = [one for one in found if holds in one]
    return text


class Machine:
    """A machine with a service manager, a mailer and one service, all of them stand-ins."""

    def __init__(self, directory: Path, instance: Instance) -> None:
        self.instance, self.directory, self.store = instance, directory, directory / "store"
        self.pid, self.mail = directory / "pid", directory / "mail"
        service, programs = directory / "service.py", directory / "bin"
        service.write_text(SERVICE)
        programs.mkdir()
        start = shlex.join(map(str, (sys.executable, service, instance.database, self.pid)))
        write_script(
            programs / "systemctl",
            '[ "$2" = ciso-assistant ] || exit 4',
            'case "$1" in',
            f"start) [ -s {self.pid} ] || {start} </dev/null >/dev/null 2>&1 &",
            f"    until [ -s {self.pid} ]; do sleep 0.05; done ;;",
            f"stop) kill -TERM $(cat {self.pid})",
            f"    while [ -e {self.pid} ]; do sleep 0.05; done ;;",
            "*) exit 5 ;;",
            "esac",
        )
        write_script(programs / "mail", f'echo "$*" >>{self.mail}; cat >>{self.mail}')
        self.path = f"{programs}:{installed_command().parent}:/usr/bin:/bin"

    def run(self, text: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run lines of a shell on it."""
        return subprocess.run(
            ["/bin/sh", "-ec", text],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.directory,
            env={"HOME": os.environ["HOME"], "PATH": self.path, **variables},
            timeout=120,
        )

    def put(self, text: str) -> str:
        """Put this machine's paths into a recipe."""
        text = text.replace("/srv/backups/ciso", str(self.store))
        text = text.replace("/app/db/ciso-assistant.sqlite3", str(self.instance.database))
        return text.replace("/app/db/attachments", str(self.instance.attachments))

    @property
    def service(self) -> int:
        """The number of the service's process."""
        return int(self.pid.read_text())


@pytest.fixture
def machine(tmp_path: Path, instance: Instance) -> Iterator[Machine]:
    """Start a machine with its service, and one snapshot in its store."""
    made = Machine(tmp_path, instance)
    assert run("backup-daily", "--store", made.store, *from_flags(instance)).code == 0
    assert made.run("systemctl start ciso-assistant").returncode == 0
    yield made
    if lives(made.service):
        os.kill(made.service, signal.SIGKILL)
        wait_until_gone(made.service)


def test_a_restore_stops_the_service_and_starts_it_again(machine: Machine) -> None:
    first, words = machine.service, machine.put(block("sh", "restore --force"))
    assert machine.run(f"{words.strip()} --store {machine.store}").returncode == 6
    assert machine.service == first
    (machine.directory / "invoke.yaml").write_text(machine.put(block("yaml", "hook_before")))
    ran = machine.run(words)
    assert ran.returncode == 0, ran.stderr
    assert machine.service != first
    assert lives(machine.service)
    assert not lives(first)
    assert len(list_snapshots(machine.store)) == 2, "what was replaced is kept"


def test_the_script_tells_root_when_a_run_failed(machine: Machine) -> None:
    script = machine.directory / "after-ciso-ops"
    text = block("sh", "#!/bin/sh")
    assert "/usr/local/bin/after-ciso-ops" in text
    script.write_text(text)
    script.chmod(0o755)
    source = " ".join(map(str, from_flags(machine.instance)))
    words = f"ciso-ops backup-daily --store {machine.store} {source}"
    ran = machine.run(words, INVOKE_OPS_HOOK_AFTER=str(script))
    assert ran.returncode == 0, ran.stderr
    assert not machine.mail.exists()
    stopped = {"INVOKE_OPS_HOOK_BEFORE": "sh -c 'systemctl stop ciso-assistant; exit 3'"}
    ran = machine.run(words, INVOKE_OPS_HOOK_AFTER=str(script), **stopped)
    assert ran.returncode == 7
    assert lives(machine.service)
    subject, body = machine.mail.read_text().splitlines()
    assert subject == "-s backup-daily: exit code 7 root"
    assert body.startswith("ops.hook_before failed with exit code 3: ")


def test_the_variables_are_those_of_the_page() -> None:
    """Every one that the code sets is in the table, and no other."""
    listed = set(re.findall(rf"^\|.*?{VARIABLE}.*$", PAGE, re.MULTILINE))
    named = {name for row in listed for name in re.findall(rf"`{VARIABLE}([A-Z_]+)`", row)}
    used: set[str] = set()
    for name in ("hooks.py", "cli/tasks.py", "cli/restoring.py", "cli/snapshots.py"):
        used |= set(re.findall(r'"([A-Z_]{4,})":', (ROOT / "ops" / name).read_text("utf-8")))
    assert named == used
