"""The recipes of docs/monitoring.md, run as they stand but for names of places."""

import inspect
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped] # it has no types of its own

from ops.cli.program import namespace
from ops.cli.watching import WATCH
from ops.model import Instance
from ops.schedule.program import installed_command
from ops.settings import WATCHING
from ops.watch.exposition import METRICS
from tests.command import ROOT, Ran
from tests.monitors import Monitor, listening
from tests.test_docs import rows
from tests.test_metrics import parsed
from tests.test_store import flip, names_in

PAGE = (ROOT / "docs" / "monitoring.md").read_text("utf-8")
Follow = Callable[..., Ran]


def section(heading: str) -> str:
    """Take a section out of the page."""
    parts = re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]


def blocks(heading: str, language: str = "sh") -> list[str]:
    """Take the blocks of a language out of a section."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", section(heading), re.DOTALL | re.MULTILINE)
    assert found, heading
    return found


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    """Have a monitor."""
    with listening() as running:
        yield running


@pytest.fixture
def places(instance: Instance, tmp_path: Path, monitor: Monitor) -> dict[str, str]:
    """Say what stands here for the places that the page names."""
    for name in ("node_exporter", "log", "home"):
        (tmp_path / name).mkdir(exist_ok=True)
    return {
        "/srv/backups/ciso": str(tmp_path / "store"),
        "/app/db/ciso-assistant.sqlite3": str(instance.database),
        "/app/db/attachments": str(instance.attachments),
        "/var/lib/node_exporter": str(tmp_path / "node_exporter"),
        "/var/log": str(tmp_path / "log"),
        "https://hc-ping.com/your-uuid-here": f"{monitor.address}/your-uuid-here",
    }


@pytest.fixture
def follow(places: dict[str, str], tmp_path: Path) -> Follow:
    """Run a recipe, with hardly any environment."""
    kept = {key: value for key, value in os.environ.items() if key.startswith("COVERAGE")}
    environment = {
        **kept,
        "PATH": f"{installed_command().parent}:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
    }

    def run(text: str, *arguments: str) -> Ran:
        for written, real in places.items():
            text = text.replace(written, real)
        done = subprocess.run(
            ["/bin/sh", "-c", text, "sh", *arguments],
            check=False,
            capture_output=True,
            cwd=tmp_path,
            env=environment,
            timeout=120,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture
def store(follow: Follow, tmp_path: Path) -> Path:
    """Make the store with the first recipe of the page."""
    (recipe,) = blocks("Exit code and output")
    ran = follow(recipe)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    return tmp_path / "store"


def damage(store: Path) -> None:
    """Damage the newest snapshot."""
    flip(store / names_in(store)[-1] / "data" / "database.sqlite3")


def test_a_failing_job_of_cron_says_so_and_why(
    follow: Follow, store: Path, instance: Instance
) -> None:
    assert len(names_in(store)) == 1
    instance.database.unlink()
    ran = follow(*blocks("Exit code and output"))
    assert (ran.code, ran.out) == (3, "")
    assert ran.error_line
    assert ran.hint_line


def test_the_recipe_for_pings(
    follow: Follow, tmp_path: Path, instance: Instance, monitor: Monitor
) -> None:
    (recipe,) = blocks("Pings")
    ran = follow(recipe)
    assert ran.code == 0, ran.err
    assert monitor.paths == ["/your-uuid-here/start", "/your-uuid-here"]
    assert (tmp_path / "home" / ".invoke.yaml").stat().st_mode & 0o777 == 0o600
    assert "your-uuid-here" not in ran.out + ran.err
    instance.database.unlink()
    ran = follow(recipe.splitlines()[-1])
    assert ran.code == 3
    assert monitor.paths[2:] == ["/your-uuid-here/start", "/your-uuid-here/fail"]
    assert ran.error_line in monitor.pings[-1].body
    assert ran.hint_line in monitor.pings[-1].body


def test_the_recipe_for_metrics(follow: Follow, tmp_path: Path, store: Path) -> None:
    (recipe,) = blocks("Metrics")
    ran = follow(recipe)
    assert ran.code == 0, ran.err
    file = tmp_path / "node_exporter" / "ciso-ops.prom"
    assert ran.out.endswith(file.read_text())
    found = parsed(file)
    for task in ("backup-daily", "verify"):
        assert found["last_run_exit_code", task, str(store)] == 0
    damage(store)
    assert follow(recipe.splitlines()[1]).code == 5
    assert parsed(file)["last_run_exit_code", "verify", str(store)] == 5


def test_every_metric_has_its_row_and_every_rule_a_metric(tmp_path: Path) -> None:
    listed = [
        name
        for row in rows(section("Metrics"))[1:]
        for name in re.findall(r"`(ciso_ops_\w+)`", row[0])
    ]
    assert listed == list(METRICS)
    (text,) = blocks("Metrics", "yaml")
    (group,) = yaml.safe_load(text)["groups"]
    for rule in group["rules"]:
        used = re.findall(r"(ciso_ops_\w+)", rule["expr"])
        assert used
        assert set(used) <= set(METRICS)
        for task in re.findall(r'task="([^"]*)"', rule["expr"]):
            assert task in watched()
        assert rule["annotations"]["summary"]
    promtool = shutil.which("promtool")
    if promtool is not None:
        (tmp_path / "rules.yml").write_text(text)
        done = subprocess.run([promtool, "check", "rules", tmp_path / "rules.yml"], check=False)
        assert done.returncode == 0


def test_the_recipe_for_check_age(follow: Follow, store: Path) -> None:
    command, plugin, mailed = blocks("check-age")
    ran = follow(command)
    assert ran.code == 0, ran.err
    assert (store / names_in(store)[0]).is_dir()
    (example,) = blocks("check-age", "text")
    shape = (
        r"OK: the newest verified snapshot is \S+Z, .* old \(at most 26h\) \| age=\d+s;;93600;0\n"
    )
    assert re.fullmatch(shape, example)
    assert re.fullmatch(shape, ran.out)
    ran = follow(mailed)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    flags = ("--store", str(store), "--max")
    assert follow(plugin, *flags, "26h").code == 0
    assert follow(plugin, *flags, "26").code == 3
    assert follow(plugin, "--store", "/nowhere", "--max", "26h").code == 3
    os.rename(store / names_in(store)[0], store / "2001-01-01T000000Z")
    ran = follow(plugin, *flags, "26h")
    assert ran.code == 2
    assert ran.out.startswith("CRITICAL: ")
    assert ran.out.count("\n") == 1
    ran = follow(mailed)
    assert (ran.code, ran.out) == (5, "")
    assert ran.error_line


def test_the_exit_codes_of_check_age(follow: Follow, store: Path) -> None:
    listed = [row[0] for row in rows(section("check-age"))[1:]]
    assert listed == ["0", "2", "3", "5"]
    command = blocks("check-age")[0]
    codes = [
        follow(command).code,
        follow(command.replace("26h", "26")).code,
        follow(command.replace("/srv/backups/ciso", "/nowhere")).code,
    ]
    shutil.rmtree(store / names_in(store)[0])
    assert [*map(str, codes), str(follow(command).code)] == listed


def test_the_recipe_for_logs(follow: Follow, tmp_path: Path, store: Path) -> None:
    (recipe,) = blocks("Logs")
    assert follow(recipe).code == 0
    damage(store)
    assert follow(recipe).code == 5
    debugged = recipe.replace("ciso-ops", "ciso-ops --debug", 1)
    assert follow(debugged.replace("/srv/backups/ciso", "/nowhere")).code == 3
    assert follow(recipe.replace(" 2>>", " --metrics /nowhere/a.prom 2>>")).code == 3
    documented = {
        row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2])) for row in rows(section("Logs"))[1:]
    }
    text = (tmp_path / "log" / "ciso-ops.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    (sentence,) = re.findall(r"^Each object has .*$", section("Logs"), re.MULTILINE)
    usual = set(re.findall(r"`(\w+)`", sentence))
    usual -= {"info", "warning", "error"}
    assert {line["event"] for line in lines} | {"message"} == documented.keys()
    for line in lines:
        more = line.keys() - usual
        assert line.keys() >= usual
        assert more <= documented[line["event"]], line
    for event in ("progress", "failure", "end"):
        shown = [line.keys() - usual for line in lines if line["event"] == event]
        assert documented[event] - {"traceback"} <= set().union(*shown)


def watched() -> set[str]:
    """List the tasks that can be watched."""
    return {
        name
        for name, task in namespace.tasks.items()
        if WATCH.keys() <= inspect.signature(task.body).parameters.keys()
    }


def test_the_tasks_that_can_be_watched_are_named() -> None:
    (paragraph,) = (part for part in PAGE.split("\n\n") if part.startswith("`--ping`, "))
    flags, _, rest = paragraph.partition(" are flags of ")
    assert set(re.findall(r"--([a-z]+)", flags)) == set(WATCH)
    tasks, _, keys = rest.partition(". The configuration keys ")
    assert re.findall(r"`([\w-]+)`", tasks) == sorted(watched())
    assert re.findall(r"`ops\.(\w+)`", keys) == list(WATCHING)


def test_every_recipe_is_run() -> None:
    run = {"Exit code and output": 1, "Pings": 1, "Metrics": 1, "check-age": 3, "Logs": 1}
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    assert {part.splitlines()[0]: part.count("```sh") for part in parts if "```sh" in part} == run
