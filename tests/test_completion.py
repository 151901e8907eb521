"""Completion: what fits, and what real shells make of it when the tab key is pressed."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ops.cli.completion import SHELLS
from ops.cli.program import namespace
from ops.model import Instance
from ops.schedule.program import installed_command
from tests.command import PROGRAM, ROOT, from_flags, run, run_here

PLACE = installed_command().parent
_TIMEOUT_SECONDS = 30
_READY = "READY: "
_RC = {
    "bash": "PS1='READY: '; bind 'set enable-bracketed-paste off'\n",
    "zsh": "PS1='READY: '; setopt no_prompt_sp; unset zle_bracketed_paste\n"
    'autoload -Uz compinit && compinit -i -d "$ZDOTDIR/dump"\n',
    "fish": "function fish_prompt; echo -n 'READY: '; end\nset -g fish_greeting\n"
    "set -g fish_autosuggestion_enabled 0\n",
}
_LOAD = {
    "bash": 'eval "$(ciso-ops --print-completion-script bash)"\n',
    "zsh": 'eval "$(ciso-ops --print-completion-script zsh)"\n',
    "fish": "ciso-ops --print-completion-script fish | source\n",
}


def answer(capture: pytest.CaptureFixture[str], *words: str) -> tuple[str, dict[str, str]]:
    """Ask what fits after some words, the last of which is the one that is completed."""
    ran = run_here(capture, "--complete", "--", "ciso-ops", *words)
    assert ran.code == 0
    paths, *lines = ran.out.splitlines()
    return paths, dict(line.split("\t", 1) for line in lines)


# What fits


def test_tasks_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("",), ("cl",), ("--debug", "")):
        paths, found = answer(capsys, *words)
        assert paths == "words"
        assert list(found) == sorted(namespace.tasks)
    assert found["clone"].startswith("Copy a running instance")


def test_flags_of_the_task_and_each_once(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = answer(capsys, "restore", "--store", "/x", "--force", "")
    assert {"--dest-db", "--keep", "--no-keep", "--help"} <= found.keys()
    assert not {"--store", "--force"} & found.keys()
    told = run("--complete", "--", "ciso-ops", "restore", "", command=PROGRAM)
    assert "--dest-db\tWhere the database goes. Required.\n" in told.out
    assert "--no-keep\tFirst make a snapshot" in told.out
    assert answer(capsys, "restore", "-")[1].keys() >= found.keys()
    assert answer(capsys, "restore", "word")[1] == {}


def test_invokes_own_flags_before_a_task(capsys: pytest.CaptureFixture[str]) -> None:
    _, found = answer(capsys, "--")
    assert {"--help", "--debug", "--version", "--print-completion-script"} <= found.keys()
    assert "--dest-db" not in found
    assert list(answer(capsys, "--help", "")[1]) == sorted(namespace.tasks)
    assert list(answer(capsys, "--print-completion-script", "")[1]) == list(SHELLS)
    assert answer(capsys, "--config", "")[0] == "files"
    assert answer(capsys, "clone", "--config", "")[0] == "files"


@pytest.mark.parametrize(
    ("words", "paths", "found"),
    [
        (("clone", "--dest-db", ""), "files", []),
        (("backup-daily", "--log", ""), "words", ["text", "json"]),
        (("backup-daily", "--metrics", ""), "files", []),
        (("clone", "--dest-attachments", ""), "directories", []),
        (("clone", "--dest-in-use", ""), "words", ["refuse", "wait"]),
        (
            (
                "clone",
                "--check=",
            ),
            "words",
            ["memory", "disk"],
        ),
        (("clone", "--check", "="), "words", ["memory", "disk"]),
        (("clone", "--check", "=", "d"), "words", ["memory", "disk"]),
        (("clone", "--profile", ""), "files", ["ciso_assistant", "none"]),
        (("backup-daily", "--keep-last", ""), "words", []),
        (("backup-daily", "--unknown", "--store", ""), "directories", []),
        (("demo", "--keep", ""), "directories", []),
        (("schedule", "--kind", ""), "words", ["systemd", "cron", "launchd", "github", "gitlab"]),
        (("restore", "--snapshot", ""), "words", ["latest"]),
        (("verify", "--store", "/nowhere", "--snapshot", ""), "words", ["latest", "all"]),
        (("verify", "--store", "'unfinished", "--snapshot", ""), "words", ["latest", "all"]),
        (("verify", "--store=~nobody-here/x", "--snapshot", ""), "words", ["latest", "all"]),
    ],
)
def test_values(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], paths: str, found: list[str]
) -> None:
    said, listed = answer(capsys, *words)
    assert (said, list(listed)) == (paths, found)


def test_time_zones(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Europe/Berlin" in answer(capsys, "prune", "--time-zone", "")[1]


@pytest.fixture
def store(tmp_path: Path, instance: Instance, capsys: pytest.CaptureFixture[str]) -> Path:
    """Make a store with one snapshot."""
    path = tmp_path / "my store"
    ran = run_here(capsys, "backup-daily", "--quiet", "--store", path, *from_flags(instance))
    assert ran.code == 0
    return path


def test_snapshots_of_the_store(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = (path.name for path in store.glob("2*Z"))
    quoted = str(store).replace(" ", "\\ ")
    for named in (("--store", str(store)), ("--store", quoted), (f"--store='{store}'",)):
        assert list(answer(capsys, "prune", *named, "--remove", "")[1]) == [name]
    assert answer(capsys, "prune", "--remove", "")[1] == {}
    monkeypatch.chdir(store.parent)
    (store.parent / "invoke.yaml").write_text(f'ops: {{"store": "{store}"}}')
    assert list(answer(capsys, "restore", "--snapshot", "")[1]) == ["latest", name]
    (store.parent / "invoke.yaml").write_text("ops: text")
    assert list(answer(capsys, "restore", "--snapshot", "")[1]) == ["latest"]


def test_without_words_there_are_the_tasks() -> None:
    ran = run("--complete", command=PROGRAM)
    assert ran.out.startswith("words\nadopt\t")


def test_a_shell_that_is_not_known() -> None:
    ran = run("--print-completion-script", "tcsh", command=PROGRAM)
    assert (ran.code, ran.out) == (2, "")
    assert ran.error_line == "error: there is no completion for tcsh"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_says_how_it_is_loaded(shell: str) -> None:
    ran = run("--print-completion-script", shell, command=PROGRAM)
    page = (ROOT / "docs" / "completion.md").read_text("utf-8")
    (recipe,) = re.findall(rf"```{shell}\n(.*)\n```", page)
    assert f"#   {recipe}\n" in ran.out
    assert recipe == _LOAD[shell].strip() or shell == "fish"
    assert "--print-completion-script bash" in run("--help", command=PROGRAM).out


# Real shells

FLAGS = {"--store", "--snapshot", "--sample", "--source-db"}
"""Those of `verify` that begin with --s."""


class Terminal:
    """A shell on a pseudo-terminal, with the script loaded as the pages say."""

    def __init__(self, shell: str, home: Path) -> None:
        """Start it and wait for its prompt."""
        program = shutil.which(shell)
        if program is None:
            pytest.skip(f"{shell} is not installed")
        home.chmod(0o700)  # so that fish takes it for its files too, and leaves nothing in /tmp
        (home / "rc").write_text(_RC[shell] + _LOAD[shell])
        (home / ".zshrc").write_text(_RC[shell] + _LOAD[shell])
        arguments = {
            "bash": ["--noprofile", "--rcfile", str(home / "rc"), "-i"],
            "zsh": ["-i"],
            "fish": ["--no-config", "--init-command", f"source '{home}/rc'", "-i"],
        }[shell]
        variables = {
            "PATH": f"{PLACE}:/usr/bin:/bin",
            "HOME": str(home),
            "ZDOTDIR": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "TERM": "dumb",
            "LANG": "C.UTF-8",
        }
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:  # pragma: no cover - the child is another program at once
            os.chdir(home)
            os.execve(program, [program, *arguments], variables)
        self._screen = ""
        self.wait(lambda text: _READY in text)

    def wait(self, until: Callable[[str], object]) -> str:
        """Read until the screen is as wanted, and has been for a moment."""
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while time.monotonic() < deadline:
            if select.select([self._terminal], [], [], 0.1)[0]:
                self._screen += os.read(self._terminal, 65536).decode("utf-8", "replace")
            elif until(self._screen):
                return self._screen
        raise AssertionError(f"this is on the screen: {self._screen!r}")

    def press(self, text: str, until: Callable[[str], object] = bool) -> str:
        """Type, and return what that brought to the screen."""
        self._screen = ""
        os.write(self._terminal, text.encode())
        return self.wait(until)

    def completed(self, typed: str) -> list[str]:
        """Type the beginning of a command and the tab key; return the words of the line then."""
        self.press(typed)
        screen = self.press(
            "\t\x01printf '<%s>' \r",  # the second key goes to the beginning of the line
            lambda text: re.search(r"\n[^\n]*ciso-ops>[^\n]*READY: ", text),
        )
        return re.findall(r"<([^<>]*)>", screen.partition("\n")[2])

    def close(self) -> None:
        """End it."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._terminal)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_tab_key(shell: str, store: Path, tmp_path: Path) -> None:
    home = tmp_path / "shell home"
    (home / "a directory").mkdir(parents=True)
    (home / "a file.toml").write_text("")
    (home / "my store").symlink_to(store)
    (name,) = (path.name for path in store.glob("2*Z"))
    terminal = Terminal(shell, home)
    try:
        for typed, words in (
            ("ciso-ops clo", ["clone"]),
            ("ciso-ops clone --dest-d", ["clone", "--dest-db"]),
            ("ciso-ops clone --dest-in-use w", ["clone", "--dest-in-use", "wait"]),
            ("ciso-ops clone --check=d", ["clone", "--check=disk"]),
            ("ciso-ops clone --dest-db a\\ f", ["clone", "--dest-db", "a file.toml"]),
            (
                "ciso-ops clone --dest-attachments a",
                ["clone", "--dest-attachments", "a directory"],
            ),
            ("ciso-ops clone --profile non", ["clone", "--profile", "none"]),
            (
                f"ciso-ops verify --store my\\ store --snapshot {name[:4]}",
                ["verify", "--store", "my store", "--snapshot", name],
            ),
            ("ciso-ops --help adop", ["--help", "adopt"]),
        ):
            found = [word.rstrip("/") for word in terminal.completed(typed)]  # zsh takes it off
            assert found == ["ciso-ops", *words], typed
        assert terminal.completed(f"{PLACE}/ciso-ops snap") == [f"{PLACE}/ciso-ops", "snapshots"]
        if shell != "fish":  # it lists nothing on a terminal without a size; see below
            terminal.press("ciso-ops verify --s")
            keys = "\t\t" if shell == "bash" else "\t"
            shown = terminal.press(keys, lambda text: set(text.split()) >= FLAGS)
            assert ("Verify snapshots" in shown) is (shell == "zsh")
    finally:
        terminal.close()


def test_fish_is_asked_without_a_terminal(tmp_path: Path) -> None:
    fish = shutil.which("fish")
    if fish is None:
        pytest.skip("fish is not installed")

    def asked(line: str) -> dict[str, str]:
        script = f"{_LOAD['fish']}complete -C '{line}'"
        done = subprocess.run(
            [fish, "--no-config", "-c", script],
            check=True, capture_output=True, text=True,
            env={"PATH": f"{PLACE}:/usr/bin:/bin", "HOME": str(tmp_path),
                 "XDG_RUNTIME_DIR": str(tmp_path)},
        )  # fmt: skip
        return dict(line.split("\t") for line in done.stdout.splitlines())

    assert list(asked("ciso-ops clone --check ")) == ["memory", "disk"]
    found = asked("ciso-ops verify --s")
    assert found.keys() >= FLAGS
    assert found["--store"] == "Verify snapshots of this store instead."
