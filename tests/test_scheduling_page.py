"""The recipes of docs/scheduling.md, taken out of the page and run."""

import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # it has no types of its own

from ops.demo_instance import build_instance
from ops.model import Instance
from ops.schedule.program import installed_command
from tests.command import ROOT
from tests.worlds import TREE, World, cron_world, mailing, systemd_world

PAGE = (ROOT / "docs" / "scheduling.md").read_text("utf-8")
UNIT = "ciso-ops-backup-daily"


def blocks(heading: str, language: str = "sh") -> list[str]:
    """Take the blocks of a language out of a section; the empty heading is what comes first."""
    sections = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)
    named = dict(zip(["", *sections[1::2]], sections[::2], strict=True))
    found = re.findall(rf"```{language}\n(.*?)```", named[heading], re.DOTALL)
    assert found, heading
    return found


def as_is_here(text: str, instance: Instance, store: Path) -> str:
    """Put this test's paths into a recipe, and an answer to its question."""
    text = text.replace("/srv/backups/ciso", str(store))
    text = text.replace("/app/db/ciso-assistant.sqlite3", str(instance.database))
    text = text.replace("/app/db/attachments", str(instance.attachments))
    assert "/app" not in text
    return re.sub(r"(--install|--remove)\b", r"\1 --force", text)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a directory to be written in a world."""
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


@pytest.fixture
def in_world(tree: Path) -> Instance:
    """Make an instance in it, and name that as it is called in the world."""
    made = build_instance(tree / "production", evidences=12)
    return Instance(
        database=TREE / made.database.relative_to(tree),
        attachments=TREE / made.attachments.relative_to(tree),
    )


def follow(world: World, text: str) -> str:
    """Run a recipe in a world, each line of it; return what it printed."""
    place = installed_command().parent
    ran = world.run("/bin/sh", "-ec", f"PATH={place}:$PATH\ncd {TREE}\n{text}")
    assert ran.code == 0, ran
    return ran.out


def test_the_recipe_for_systemd_and_that_for_its_alarm(tree: Path, in_world: Instance) -> None:
    store = TREE / "store"
    (alarm,) = blocks("When it fails", "ini")
    path = re.match(r"# (/etc/systemd/system/ciso-ops-alarm@\.service)\n", alarm)
    assert path is not None
    (tree / "alarm").write_text(alarm)
    install, remove = (as_is_here(text, in_world, store) for text in blocks("systemd"))
    with systemd_world(tree, mailing(tree)) as world:
        if world.run("sh", "-c", "command -v mail").code:
            pytest.skip("mail is not installed")
        follow(world, f"cp alarm {path[1]}")
        (first,) = blocks("")
        follow(world, as_is_here(first, in_world, store))
        assert f"{UNIT}.timer" in follow(world, install)
        assert len(list((tree / "store").glob("2*Z*"))) == 2
        (tree / in_world.database.relative_to(TREE)).unlink()
        assert world.run("systemctl", "start", f"{UNIT}.service").code == 1
        deadline = time.monotonic() + 20
        while not list((tree / "mail").glob("*.mail")):
            assert time.monotonic() < deadline, "no mail came"
            time.sleep(0.1)
        (mail,) = (path.read_text() for path in (tree / "mail").glob("*.mail"))
        assert f"Subject: {UNIT}.service failed on" in mail
        assert "status=3" in mail
        follow(world, remove)
        assert UNIT not in follow(world, "ls /etc/systemd/system")


def test_the_recipe_for_cron(tree: Path, in_world: Instance) -> None:
    store = TREE / "store"
    with cron_world(tree) as world:
        (first,) = blocks("")
        follow(world, as_is_here(first, in_world, store))
        (recipe,) = blocks("cron")
        listed = follow(world, as_is_here(recipe, in_world, store))
        assert f"\n30 3 * * * cd / && {installed_command()} backup-daily --store {store} " in listed


def test_the_recipes_for_runners(tmp_path: Path, instance: Instance) -> None:
    store = tmp_path / "store"
    environment = {"PATH": f"{installed_command().parent}:/usr/bin:/bin"}
    (first,), (recipe,) = blocks(""), blocks("GitHub Actions and GitLab CI")
    text = as_is_here(first + recipe, instance, store)
    done = subprocess.run(
        ["/bin/sh", "-ec", text], check=False, capture_output=True, cwd=tmp_path, env=environment
    )
    assert done.returncode == 0, done.stderr
    workflow = tmp_path / ".github" / "workflows" / f"{UNIT}.yml"
    assert yaml.safe_load(workflow.read_text())["jobs"]["snapshot"]["runs-on"] == [
        "self-hosted",
        "ciso-ops",
    ]
    (included,) = blocks("GitHub Actions and GitLab CI", "yaml")
    local = yaml.safe_load(included)["include"][0]["local"]
    assert UNIT in yaml.safe_load((tmp_path / local).read_text())
