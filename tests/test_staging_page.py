"""The recipes of docs/staging.md, taken out of the page and run on an instance of our own."""

import os
import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from ops.model import Instance
from ops.profile import parse_profile
from ops.rules import Action
from ops.schedule.program import installed_command
from tests.command import ROOT, from_flags, run

PAGE = (ROOT / "docs" / "staging.md").read_text("utf-8")
RECIPES: list[str] = [
    text for text in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if text.startswith("inv ")
]


def follow(recipe: str, directory: Path) -> str:
    """Run lines of a shell; return what they print."""
    path = f"{installed_command().parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["/bin/sh", "-ec", recipe.replace("inv ", "ciso-ops ")],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
        env={"HOME": os.environ["HOME"], "PATH": path},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_recipes_for_a_laptop(instance: Instance, tmp_path: Path) -> None:
    desk = tmp_path / "desk"
    desk.mkdir()
    shutil.copy(instance.database, desk / "ciso-assistant.sqlite3")
    shutil.copytree(instance.attachments, desk / "attachments")
    backup = run("backup-daily", "--store", desk / "backups", *from_flags(instance))
    assert backup.code == 0, backup.err
    review, from_instance, from_snapshot = RECIPES
    assert "iam_user.email" in follow(review, desk)
    for recipe in (from_instance, from_snapshot):
        assert "STAGING refreshed" in follow(recipe, desk)
        with closing(sqlite3.connect(desk / "staging" / "db.sqlite3")) as connection:
            addresses = [each for (each,) in connection.execute("SELECT email FROM iam_user")]
        assert all(address.endswith("@staging.invalid") for address in addresses)
        assert (desk / "staging" / "attachments" / "STAGING.txt").exists()
    assert (desk / "staging.key").stat().st_mode & 0o777 == 0o600


def test_the_rules_of_the_page_are_rules() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    rules = parse_profile(text, name="page", origin="the page").sanitising.rules
    assert len(rules) == len(text.strip().splitlines()) - 3
    listed = re.findall(r"^\| `([a-z-]+)` \|", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(Action)
