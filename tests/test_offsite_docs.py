"""The recipes of docs/offsite.md, run as they stand but for names of places."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ops.model import Instance
from ops.snapshot import PULLED, VERIFIED
from ops.store import LATEST
from tests.backends import BACKENDS, require_program
from tests.command import ROOT
from tests.filesystem import read
from tests.test_audit import history
from tests.test_backup import NIGHT, require_valid
from tests.test_store import at, back_up, litter_in, names_in
from tests.worlds import ASKED

PAGE = (ROOT / "docs" / "offsite.md").read_text("utf-8")
SECTIONS = {"local": "A disk", "sftp": "A server with SSH", "rest": "A server of restic's own kind"}
SECTIONS |= {"s3": "S3"}
_SECONDS = 120


def recipe(section: str) -> str:
    """Return the commands of a section."""
    pattern = rf"^##+ {re.escape(section)}\n.*?^```sh\n(.*?)^```$"
    found = re.search(pattern, PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, section
    return found[1]


@pytest.mark.parametrize("kind", BACKENDS)
def test_the_recipes_do_what_they_say(instance: Instance, tmp_path: Path, kind: str) -> None:
    """Push, lose the store, pull, verify, drill: on each kind of place."""
    require_program("restic")
    if kind != "local" and not ASKED:
        pytest.skip("starts a server of its own, and takes long: nox -s real")
    store = tmp_path / "backups"
    back_up(instance, store, clock=at(NIGHT))
    (name,) = names_in(store)
    before = read(store / name, times=False)
    with BACKENDS[kind](tmp_path) as environment:
        places = {
            "/etc/ciso-ops": str(tmp_path / "etc"),
            "/srv/backups/ciso": str(store),
            **dict(zip(_addresses(kind), _given(environment), strict=True)),
        }
        variables = environment_of(instance, tmp_path, environment)

        def follow(*sections: str) -> str:
            commands = "".join(map(recipe, sections))
            for written, real in places.items():
                commands = commands.replace(written, real)
            done = subprocess.run(
                ["/bin/sh", "-eu", "-c", commands],
                check=False,
                cwd=ROOT,
                env=variables,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
            )
            assert done.returncode == 0, done.stderr + done.stdout
            return done.stdout

        told = follow("The password", SECTIONS[kind])
        assert f"Pushed {name} in " in told
        assert f"{name}  here and off-site; verified again " in told
        shutil.rmtree(store)
        opening = re.sub(r"^inv .*\n", "", recipe(SECTIONS[kind]), flags=re.MULTILINE)
        for written, real in places.items():
            opening = opening.replace(written, real)
        variables |= dict(re.findall(r"^export (\w+)=(\S+)$", opening, re.MULTILINE))
        told = follow("When the machine is gone")
        assert f"{name}  only off-site; " in told
        assert f"Pulled {name} in " in told
        assert f"Verified: {name}\n" in told
        assert "Drill passed\n" in told
        assert litter_in(store) == ["drills"]
        require_valid(store / name)
        assert history(store, name) == [VERIFIED, VERIFIED, PULLED, VERIFIED]
        after = read(store / name, times=False)
        del before[b""], after[b""], after[b"history.jsonl"]
        assert after == before
        if kind == "local":
            assert "  2 kept, 0 gone\n" in follow("Every night")
            last = names_in(store)[-1]
            told = follow("Those of before")
            assert told.startswith(f"{name} is off-site already\n")
            assert f"\n{last} is off-site already\n" in told
    assert (tmp_path / "etc" / "restic-password").stat().st_mode & 0o777 == 0o600
    assert (store / LATEST).is_symlink()


def _addresses(kind: str) -> list[str]:
    """Return what stands for the place on the page."""
    found = re.findall(
        r"RESTIC_REPOSITORY=(\S+)|echo '(rest:\S+)'|AWS_\w+=(\S+)", recipe(SECTIONS[kind])
    )
    return ["".join(each) for each in found]


def _given(environment: dict[str, str]) -> list[str]:
    return [value for name, value in environment.items() if name != "PATH"]


def environment_of(
    instance: Instance, directory: Path, environment: dict[str, str]
) -> dict[str, str]:
    """Return what a shell of an operator has, whose application tells where it keeps things."""
    path = environment.get("PATH", os.environ["PATH"])
    kept = {key: value for key, value in os.environ.items() if key.startswith("COVERAGE")}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{path}",
        "HOME": str(directory / "home"),
        "SQLITE_FILE": str(instance.database),
        "LOCAL_STORAGE_DIRECTORY": str(instance.attachments),
    }


def test_every_recipe_is_run() -> None:
    run = {*SECTIONS.values(), "The password", "Every night", "Those of before"}
    run |= {"When the machine is gone"}
    parts = re.split(r"^##+ ", PAGE, flags=re.MULTILINE)
    assert {part.splitlines()[0] for part in parts if "```sh" in part} == run
    assert PAGE.count("```sh") == len(run)
