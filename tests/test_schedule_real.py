"""Schedules, started by the real programs: systemd as the first process, and Debian's cron."""

import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ops.demo_instance import build_instance
from ops.model import Instance
from ops.schedule.program import installed_command
from tests.command import from_flags
from tests.processes import held_open
from tests.worlds import TREE, World, cron_world, systemd_world

UNIT = "ciso-ops-backup-daily"
MINUTE_SECONDS = 75


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a directory with an instance, to be written in a world."""
    directory = tmp_path / "tree"
    build_instance(directory / "production", evidences=12)
    return directory


@pytest.fixture
def in_world(tree: Path) -> Instance:
    """Name that instance as it is called in the world."""
    production = TREE / "production"
    found = next((tree / "production").rglob("*.sqlite3")).relative_to(tree / "production")
    return Instance(
        database=production / found, attachments=production / found.parent / "attachments"
    )


STORE = TREE / 'the 100%n %% $HOME $$ "store"'
"""A name that every scheduler would make something else of, if it were not quoted."""


def ops(world: World, *arguments: str | Path) -> None:
    """Run the installed command, which must succeed."""
    ran = world.run(installed_command(), *arguments)
    assert ran.code == 0, ran


def snapshots(tree: Path) -> list[str]:
    """List the snapshots of the store."""
    return sorted(path.name for path in (tree / STORE.name).glob("2*Z"))


@pytest.fixture
def systemd(tree: Path) -> Iterator[World]:
    """Keep a world with systemd, and in the tree a unit that tells of alarms."""
    with systemd_world(tree) as world:
        alarm = (
            f"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo %i >> {TREE}/alarm'\n"
            f"ReadWritePaths={TREE}\n"
        )
        (tree / "alarm@.service").write_text(alarm)
        copied = world.run("cp", TREE / "alarm@.service", "/etc/systemd/system/alarm@.service")
        assert copied.code == 0, copied
        yield world


def install(world: World, instance: Instance, *more: str, store: Path = STORE) -> None:
    """Make a first snapshot by hand, and schedule the next ones."""
    ops(world, "backup-daily", "--quiet", "--store", store, *from_flags(instance))
    flags = ("--kind", "systemd", "--install", "--force", "--on-failure", "alarm@%n.service")
    ops(world, "schedule", *flags, "--store", store, *from_flags(instance), *more)
    assert world.run("systemctl", "daemon-reload").code == 0


@pytest.mark.parametrize("statements", [(), ("PRAGMA journal_mode=WAL", "BEGIN IMMEDIATE")])
def test_systemd_makes_a_snapshot_in_the_shut_in_unit(
    systemd: World, tree: Path, in_world: Instance, statements: tuple[str, ...]
) -> None:
    install(systemd, in_world, "--keep-daily", "14")
    database = tree / in_world.database.relative_to(TREE)
    before = snapshots(tree)
    if statements:
        with held_open(database, *statements):  # the application runs
            done = systemd.run("systemctl", "start", f"{UNIT}.service")
    else:
        done = systemd.run("systemctl", "start", f"{UNIT}.service")
    assert done.code == 0, systemd.run("systemctl", "status", f"{UNIT}.service")
    assert len(snapshots(tree)) == len(before) + 1
    ops(systemd, "verify", "--store", STORE, "--snapshot", "all")
    assert not (tree / "alarm").exists()


def test_a_snapshot_of_what_a_crash_left_needs_no_right_to_write_it(
    systemd: World, tree: Path, in_world: Instance
) -> None:
    install(systemd, in_world)
    database = tree / in_world.database.relative_to(TREE)
    crashed = tree / "crashed.sqlite3"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE late (id INTEGER)")
        connection.commit()
        crashed.write_bytes(database.read_bytes())
        wal = database.with_name(database.name + "-wal").read_bytes()
    connection.close()
    crashed.replace(database)
    database.with_name(database.name + "-wal").write_bytes(wal)
    time.sleep(0.2)
    assert systemd.run("systemctl", "start", f"{UNIT}.service").code == 0
    copy = tree / STORE.name / snapshots(tree)[-1] / "data" / "database.sqlite3"
    with sqlite3.connect(f"file:{copy}?immutable=1", uri=True) as connection:
        assert connection.execute("SELECT count(*) FROM late").fetchone() == (0,)
    connection.close()


def test_a_store_among_temporary_files_is_not_hidden(systemd: World, in_world: Instance) -> None:
    store = Path("/tmp/store")  # noqa: S108 - the world's own
    install(systemd, in_world, store=store)
    assert systemd.run("systemctl", "start", f"{UNIT}.service").code == 0
    assert systemd.run("ls", store).out.count("Z\n") == 2


def test_the_timer_is_armed_for_its_time(systemd: World, in_world: Instance) -> None:
    install(systemd, in_world, "--at", "Mon,Thu 04:15")
    assert systemd.run("systemctl", "enable", "--now", f"{UNIT}.timer").code == 0
    shown = systemd.run("systemctl", "show", f"{UNIT}.timer", "-p", "TimersCalendar", "-p",
                        "Persistent", "-p", "ActiveState").out  # fmt: skip
    assert "OnCalendar=Mon,Thu *-*-* 04:15:00" in shown
    assert "Persistent=yes" in shown
    assert "ActiveState=active" in shown
    refused = systemd.run(
        installed_command(), "schedule", "--kind", "systemd", "--remove", "--force"
    )
    assert refused.code == 6
    assert f"systemctl disable --now {UNIT}.timer" in refused.err
    assert systemd.run("systemctl", "disable", "--now", f"{UNIT}.timer").code == 0
    ops(systemd, "schedule", "--kind", "systemd", "--remove", "--force")
    assert UNIT not in systemd.run("ls", "/etc/systemd/system").out


def test_systemd_tells_of_a_failure_by_its_exit_code_and_by_the_unit_of_alarms(
    systemd: World, tree: Path, in_world: Instance
) -> None:
    install(systemd, in_world)
    before = snapshots(tree)
    (tree / in_world.database.relative_to(TREE)).unlink()
    assert systemd.run("systemctl", "start", f"{UNIT}.service").code == 1
    shown = systemd.run("systemctl", "show", f"{UNIT}.service", "-p", "Result", "-p",
                        "ExecMainStatus").out  # fmt: skip
    assert shown.split() == ["Result=exit-code", "ExecMainStatus=3"]
    deadline = time.monotonic() + 20
    while not (tree / "alarm").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (tree / "alarm").read_text() == f"{UNIT}.service\n"
    assert snapshots(tree) == before


PORT = 8009
PING = f"http://127.0.0.1:{PORT}/secret"
MONITOR = f"""
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        with open("{TREE}/pings", "a") as file:
            file.write(self.path + " " + body.partition(chr(10))[0] + chr(10))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        pass

HTTPServer(("127.0.0.1", {PORT}), Handler).serve_forever()
"""
"""A monitor that writes down what it is told, within the world, and ends with it."""


def start_monitor(world: World, tree: Path) -> None:
    """Start it, and wait until it answers."""
    (tree / "monitor.py").write_text(MONITOR)
    up = world.run("ip", "link", "set", "lo", "up")
    assert up.code == 0, up
    begin = 'nohup "$0" "$1" >/dev/null 2>&1 &'
    assert world.run("sh", "-c", begin, sys.executable, TREE / "monitor.py").code == 0
    answers = f"import socket; socket.create_connection(('127.0.0.1', {PORT}), 1).close()"
    deadline = time.monotonic() + 20
    while world.run(sys.executable, "-c", answers).code:
        assert time.monotonic() < deadline, "the monitor does not answer"
        time.sleep(0.2)


def test_a_failure_raises_each_alarm(systemd: World, tree: Path, in_world: Instance) -> None:
    """The exit code of the unit, the ping, the metrics and the lines in the journal's place."""
    metrics = TREE / "metrics" / "ciso-ops.prom"
    for directory in (tree / "metrics", tree / "dropin"):
        directory.mkdir()
    install(systemd, in_world, "--metrics", str(metrics))
    (tree / "dropin" / "told.conf").write_text(
        f"[Service]\nEnvironment=INVOKE_OPS_PING={PING}\n"
        f"StandardError=append:{TREE}/said\nReadWritePaths={TREE}\n"
    )
    start_monitor(systemd, tree)
    for command in (
        ("cp", "-r", str(TREE / "dropin"), f"/etc/systemd/system/{UNIT}.service.d"),
        ("systemctl", "daemon-reload"),
    ):
        ran = systemd.run(*command)
        assert ran.code == 0, ran
    assert systemd.run("systemctl", "start", f"{UNIT}.service").code == 0
    good = read_metrics(tree)
    (tree / in_world.database.relative_to(TREE)).unlink()
    assert systemd.run("systemctl", "start", f"{UNIT}.service").code == 1
    told = [line.split(" ")[0] for line in (tree / "pings").read_text().splitlines()]
    assert told == ["/secret/start", "/secret", "/secret/start", "/secret/fail"]
    assert "failed with exit code 3" in (tree / "pings").read_text().splitlines()[-1]
    bad = read_metrics(tree)
    assert (good["ciso_ops_last_run_exit_code"], bad["ciso_ops_last_run_exit_code"]) == (0, 3)
    success = "ciso_ops_last_success_timestamp_seconds"
    assert bad[success] == good[success] > 0
    assert "error: database not found" in (tree / "said").read_text()
    assert "secret" not in (tree / "said").read_text()


def read_metrics(tree: Path, name: str = "ciso-ops") -> dict[str, float]:
    """Read the metrics of backup-daily as Prometheus does."""
    families = text_string_to_metric_families((tree / "metrics" / f"{name}.prom").read_text())
    samples = [sample for family in families for sample in family.samples]
    return {one.name: one.value for one in samples if one.labels.get("task") == "backup-daily"}


def test_cron_makes_a_snapshot_says_nothing_and_mails_a_failure(
    tree: Path, in_world: Instance
) -> None:
    """One wait for the next minute, for all that cron does."""
    with cron_world(tree) as world:
        ops(world, "backup-daily", "--quiet", "--store", STORE, *from_flags(in_world))
        other = build_instance(tree / "second", evidences=3)
        broken = Instance(
            database=TREE / other.database.relative_to(tree),
            attachments=TREE / other.attachments.relative_to(tree),
        )
        before = snapshots(tree)
        start_monitor(world, tree)
        flags: tuple[str | Path, ...] = ("--kind", "cron", "--install", "--force")
        flags += ("--store", STORE, "--metrics")
        (tree / "metrics").mkdir()
        given = f"# of somebody else\n17 4 * * 0 true 100\\%\nINVOKE_OPS_PING={PING}\n"
        (tree / "given").write_text(given)
        assert world.run("crontab", TREE / "given").code == 0
        metrics = {name: TREE / "metrics" / f"{name}.prom" for name in ("good", "broken")}
        good = (*flags, metrics["good"], "--name", "good")
        ops(world, "schedule", *good, *from_flags(in_world))
        bad = (*flags, metrics["broken"], "--name", "broken")
        ops(world, "schedule", *bad, *from_flags(broken))
        other.database.unlink()
        listed = world.run("crontab", "-l").out
        assert listed.startswith(f"{given}# BEGIN")
        # The same lines at each minute, so that nobody waits until the night.
        assert listed.count("\n30 3 * * * ") == 2
        (tree / "given").write_text(listed.replace("\n30 3 * * * ", "\n* * * * * "))
        assert world.run("crontab", TREE / "given").code == 0
        deadline = time.monotonic() + MINUTE_SECONDS
        mails: list[str] = []
        while time.monotonic() < deadline and not (mails and len(snapshots(tree)) > len(before)):
            time.sleep(0.5)
            mails = [path.read_text() for path in (tree / "mail").glob("*.mail")]
        while world.run("pgrep", "-f", "ciso-ops backup-daily").code == 0:
            assert time.monotonic() < deadline, "a run does not end"
        time.sleep(1)  # what cron would mail of the good run, it would mail now
        mails = [path.read_text() for path in (tree / "mail").glob("*.mail")]
        assert len(snapshots(tree)) == len(before) + 1
        assert len(mails) == 1, mails
        (mail,) = mails
        assert "error: database not found: /run/tree/second" in mail
        assert "hint: " in mail
        assert "secret" not in mail.partition("\n\n")[2]  # cron itself lists its variables
        told = sorted(line.split(" ")[0] for line in (tree / "pings").read_text().splitlines())
        assert told == ["/secret", "/secret/fail", "/secret/start", "/secret/start"]
        codes = [read_metrics(tree, name)["ciso_ops_last_run_exit_code"] for name in metrics]
        assert codes == [0, 3]
        ops(world, "schedule", "--kind", "cron", "--remove", "--force", "--name", "good")
        ops(world, "schedule", "--kind", "cron", "--remove", "--force", "--name", "broken")
        left = world.run("crontab", "-l").out
        assert left == given
