"""Schedules as text, and what installing them changes."""

import json
import os
import plistlib
import pwd
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped] # it has no types of its own
from hypothesis import given
from hypothesis import strategies as st

from ops.cli.schedule import done_lines
from ops.demo_instance import build_instance
from ops.errors import BusyError, DestinationError, UsageError
from ops.model import Instance
from ops.schedule.cron import cron_line, put_block
from ops.schedule.install import Change, Crontab, Target, carry_out, plan_changes
from ops.schedule.job import Job, require_plain, shell_line
from ops.schedule.kinds import Kind, arming, disarming, logs_directory, names_of, usual_directory
from ops.schedule.launchd import property_list
from ops.schedule.pipelines import github, gitlab
from ops.schedule.program import installed_command
from ops.schedule.request import read_name, read_unit, read_user
from ops.schedule.systemd import service, timer
from ops.schedule.when import When, parse_when
from tests.command import NOBODY, PROGRAM, Ran, from_flags, run, run_here, run_on_terminal

UNIT = "ciso-ops-backup-daily"
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="takes root")


@pytest.fixture
def store(tmp_path: Path, instance: Instance, capsys: pytest.CaptureFixture[str]) -> Path:
    """Make a store with one snapshot, under a name that needs quoting everywhere."""
    path = tmp_path / "the 100% $HOME ${{ x }} 'st\"ore"
    ran = run_here(capsys, "backup-daily", "--quiet", "--store", path, *from_flags(instance))
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    return path


def snapshots(store: Path) -> list[str]:
    """List the snapshots of a store."""
    return sorted(path.name for path in store.glob("2*Z*"))


def job(*arguments: str, **more: Any) -> Job:
    """Make a job."""
    given: dict[str, Any] = {
        "name": "backup-daily",
        "arguments": ("/opt/ciso-ops", *arguments),
        "directory": Path("/"),
        "writes": Path("/srv/store"),
        "user": "root",
        "system": True,
        "when": When(minute=30, hour=3),
    }
    return Job(**{**given, **more})


# When


@pytest.mark.parametrize(
    ("value", "cron", "calendar", "intervals"),
    [
        ("03:30", "30 3 * * *", "*-*-* 03:30:00", [{"Minute": 30, "Hour": 3}]),
        ("3:05", "5 3 * * *", "*-*-* 03:05:00", [{"Minute": 5, "Hour": 3}]),
        ("daily", "0 0 * * *", "*-*-* 00:00:00", [{"Minute": 0, "Hour": 0}]),
        ("Hourly", "0 * * * *", "*-*-* *:00:00", [{"Minute": 0}]),
        (":15", "15 * * * *", "*-*-* *:15:00", [{"Minute": 15}]),
        (
            "thu,mon,Mon 23:59",
            "59 23 * * 1,4",
            "Mon,Thu *-*-* 23:59:00",
            [{"Weekday": 1, "Minute": 59, "Hour": 23}, {"Weekday": 4, "Minute": 59, "Hour": 23}],
        ),
        ("Sun 00:00", "0 0 * * 0", "Sun *-*-* 00:00:00", [{"Weekday": 0, "Minute": 0, "Hour": 0}]),
    ],
)
def test_times(value: str, cron: str, calendar: str, intervals: list[dict[str, int]]) -> None:
    when = parse_when(value)
    assert (when.cron, when.calendar, when.intervals) == (cron, calendar, intervals)


@pytest.mark.parametrize(
    "value", ["24:00", "3:60", "3", "weekly", "Mon", "Montag 03:30", "Mon, 03:30", ":60", "*:15"]
)
def test_times_that_not_every_scheduler_knows_are_refused(value: str) -> None:
    with pytest.raises(UsageError, match="--at is no time"):
        parse_when(value)


@pytest.mark.parametrize("value", ["03:30", ":15", "Mon,Thu 04:15", "Sun 00:00", "hourly"])
def test_systemd_reads_the_times(value: str) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    calendar = parse_when(value).calendar
    done = subprocess.run([analyze, "calendar", calendar], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr


# Texts

WORDS = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S"], include_characters=" "),
    min_size=1,
    max_size=20,
)


@given(st.lists(WORDS, max_size=4), WORDS)
def test_a_shell_reads_the_words_back(words: list[str], value: str) -> None:
    line = shell_line(job(*words, variables=(("INVOKE_OPS_X", value),)))
    expected = ["cd", "/", "&&", "env", f"INVOKE_OPS_X={value}", "/opt/ciso-ops", *words]
    assert shlex.split(line) == expected
    for text, at in ((github, ("jobs", "snapshot", "steps", 0, "run")), (gitlab, ())):
        document: Any = yaml.safe_load(text(job(*words)))
        for key in at:
            document = document[key]
        command = document if at else document[UNIT]["script"][0]
        if text is github:
            command = command.replace("${{ '${{' }}", "${{")
        assert shlex.split(command)[3:] == ["/opt/ciso-ops", *words]


@given(st.lists(WORDS, max_size=4), WORDS)
def test_a_property_list_reads_the_words_back(words: list[str], value: str) -> None:
    made = job(*words, variables=(("INVOKE_OPS_X", value),))
    document = plistlib.loads(property_list(made, Path("/logs")).encode())
    assert document["ProgramArguments"] == ["/opt/ciso-ops", *words]
    assert document["EnvironmentVariables"] == {"INVOKE_OPS_X": value}
    assert document["UserName"] == "root"
    assert document["StandardErrorPath"] == f"/logs/{UNIT}.log"
    agent = plistlib.loads(property_list(job(system=False), Path("/logs")).encode())
    assert not {"UserName", "EnvironmentVariables"} & agent.keys()


def test_github_evaluates_nothing_of_a_path() -> None:
    text = github(job("/srv/${{ secrets.TOKEN }}"))
    assert "${{ '${{' }} secrets.TOKEN }}" in text


def test_cron_gets_its_percent_signs_escaped() -> None:
    assert cron_line(job("100%", "$HOME x")) == "30 3 * * * cd / && /opt/ciso-ops 100\\% '$HOME x'"


@pytest.mark.parametrize("words", [("a\\b",), ("x" * 999,)])
def test_cron_cannot_be_given_everything(words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"cannot be relied on|longer than the 998 bytes"):
        cron_line(job(*words))


@pytest.mark.parametrize("word", ["a\nb", "a\tb", "\udcff", "\u202e", "a\0"])
def test_what_would_forge_a_line_is_refused(word: str) -> None:
    with pytest.raises(UsageError, match="a schedule cannot hold this"):
        require_plain(job(word))
    with pytest.raises(UsageError, match="a schedule cannot hold this"):
        require_plain(job(variables=(("INVOKE_OPS_X", word),)))
    assert require_plain(job("back\\slash and ü")) == job("back\\slash and ü")


@pytest.mark.parametrize("name", ["/a\\", "/a ", "/b\\c"])
def test_a_directory_that_systemd_would_misread_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot name this directory"):
        require_plain(job(directory=Path(name)))


def verify_units(directory: Path, made: Job) -> None:
    """Have systemd itself judge the units of a job."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    (directory / f"{UNIT}.service").write_text(service(made))
    (directory / f"{UNIT}.timer").write_text(timer(made))
    done = subprocess.run(
        [analyze, "verify", "--man=no", directory / f"{UNIT}.service", directory / f"{UNIT}.timer"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert UNIT not in done.stderr


@pytest.mark.parametrize("system", [True, False])
def test_systemd_finds_nothing_to_complain_of(tmp_path: Path, *, system: bool) -> None:
    made = job(
        "--store",
        "/srv/100% 'of' \"$HOME\" \\ $$",
        arguments=(str(installed_command()), "--store", "/srv/100% 'of' \"$HOME\" \\ $$"),
        variables=(("INVOKE_OPS_X", 'a "b" 100% $C \\'),),
        reads=(Path("/app/d b"),),
        system=system,
    )
    verify_units(tmp_path, made)
    assert ("ProtectSystem=strict" in service(made)) is system
    assert ("User=root" in service(made)) is system


def test_a_private_place_for_temporary_files_unless_it_would_hide_something() -> None:
    usual = service(job(reads=(Path("/app/db"),)))
    assert '\nPrivateTmp=yes\nReadWritePaths="/srv/store"\n' in usual
    places = Path("/tmp"), Path("/var/tmp/a/store")  # noqa: S108 - nothing is made there
    for made in (job(reads=places[:1]), job(writes=places[1])):
        assert "PrivateTmp" not in service(made)
        assert f'ReadWritePaths="{made.writes}" /tmp /var/tmp\n' in service(made)


def test_where_metrics_go_may_be_written_and_may_be_missing() -> None:
    text = service(job(tells=Path("/var/lib/node 100%")))
    assert 'PrivateTmp=yes\nReadWritePaths="/srv/store" "-/var/lib/node 100%%"\n' in text
    text = service(job(tells=Path("/var/tmp/metrics")))  # noqa: S108 - it lies among temporary files
    assert 'ReadWritePaths="/srv/store" /tmp /var/tmp "-/var/tmp/metrics"\n' in text
    with pytest.raises(UsageError):
        require_plain(job(tells=Path("/a\nb")))


def test_systemd_does_complain_of_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        verify_units(tmp_path, job(arguments=("relative/path",)))


# The crontab

LINES = st.lists(st.sampled_from(["# mine", "5 * * * * true", "", "MAILTO=a", "# END x"]))


@given(before=LINES, after=LINES, ends=st.booleans())
def test_other_lines_of_a_crontab_stay(before: list[str], after: list[str], *, ends: bool) -> None:
    mine = "# BEGIN ciso-ops a\n30 3 * * * x\n# END ciso-ops a\n"
    top, end = "".join(f"{line}\n" for line in before), "".join(f"{line}\n" for line in after)
    if not ends:
        end = end.rstrip("\n")
    changed = put_block(top + mine + end, "a", mine.replace("x", "y"))
    assert changed == top + mine.replace("x", "y") + end
    assert put_block(changed, "a", "") == top + end
    assert put_block(changed, "b", "") == changed
    added = put_block(end, "a", mine)
    assert put_block(added, "a", mine) == added
    assert added.endswith(mine)
    assert put_block(added, "a", "").rstrip("\n") == end.rstrip("\n")


@pytest.mark.parametrize(
    "text",
    [
        "# BEGIN ciso-ops a\n",
        "# END ciso-ops a\n",
        "# END ciso-ops a\n# BEGIN ciso-ops a\n",
        "# BEGIN ciso-ops a\n# END ciso-ops a\n" * 2,
    ],
)
def test_marks_that_do_not_pair_are_left_alone(text: str) -> None:
    with pytest.raises(UsageError, match="do not pair"):
        put_block(text, "a", "new\n")


def crontab_program(directory: Path, body: str) -> Crontab:
    """Put a crontab program of our own on the path; it keeps the crontab in a file."""
    program = directory / "crontab"
    program.write_text(f'#!/bin/sh\nfile="{directory}/kept"\n{body}\n')
    program.chmod(0o755)
    return Crontab(user="", environment={"PATH": f"{directory}:/usr/bin:/bin"})


KEEPS = (
    'if [ "$1" = -u ]; then file="$file.$2"; shift 2; fi\n'
    'if [ "$1" = - ]; then cat > "$file"; elif [ -e "$file" ]; then cat "$file";\n'
    'else echo "no crontab for you" >&2; exit 1; fi'
)


def cron_target(crontab: Crontab) -> Target:
    """Name the crontab as the place for a schedule."""
    return Target(kind=Kind.CRON, name="a", directory=Path("/"), crontab=crontab,
                  usual=True, system=False)  # fmt: skip


def test_a_crontab_is_made_and_emptied(tmp_path: Path) -> None:
    crontab = crontab_program(tmp_path, KEEPS)
    target = cron_target(crontab)
    assert [one.needed for one in plan_changes(target, None)] == [False]
    made = plan_changes(target, ["line\n"])
    assert [one.words for one in made] == ["new"]
    carry_out(target, made)
    assert crontab.read() == b"line\n"
    named = Crontab(user="ciso", environment=crontab.environment)
    assert plan_changes(cron_target(named), ["line\n"])[0].label == "crontab of ciso"


def test_a_crontab_that_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    crontab = crontab_program(tmp_path, KEEPS)
    target = cron_target(crontab)
    made = plan_changes(target, ["line\n"])
    crontab.write(b"of somebody else\n")
    with pytest.raises(BusyError, match="somebody changed this meanwhile"):
        carry_out(target, made)
    assert crontab.read() == b"of somebody else\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo 'you are not allowed' >&2; exit 1", "cannot read the crontab: you are not allowed"),
        ("exit 3", "cannot read the crontab: exit code 3"),
        ("echo half; echo 'no such file' >&2; exit 1", "cannot read the crontab: no such file"),
    ],
)
def test_a_crontab_that_cannot_be_read_is_not_written(tmp_path: Path, body: str, said: str) -> None:
    crontab = crontab_program(tmp_path, body)
    with pytest.raises(DestinationError, match=said):
        plan_changes(cron_target(crontab), ["line\n"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("echo 'bad minute' >&2; exit 1", "crontab did not take it: bad minute"),
        ('[ "$1" = -l ] && echo other; exit 0', "the crontab is not what was written"),
    ],
)
def test_a_crontab_that_was_not_taken_is_told(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(DestinationError, match=said):
        crontab_program(tmp_path, body).write(b"line\n")


def test_without_a_crontab_program_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no crontab program"):
        Crontab(user="", environment={"PATH": str(tmp_path)}).read()
    (tmp_path / "crontab").write_text("#!/nowhere/sh\n")
    (tmp_path / "crontab").chmod(0o755)
    with pytest.raises(DestinationError, match="cannot run"):
        Crontab(user="", environment={"PATH": str(tmp_path)}).read()


# Files


def files_target(directory: Path, *, usual: bool = False, system: bool = True) -> Target:
    """Name a directory as the place for a timer."""
    crontab = Crontab(user="", environment={})
    return Target(kind=Kind.SYSTEMD, name="a", directory=directory, crontab=crontab,
                  usual=usual, system=system)  # fmt: skip


def test_files_are_put_there_and_taken_away(tmp_path: Path) -> None:
    target = files_target(tmp_path / "new" / "units")
    carry_out(target, plan_changes(target, ["one\n", "two\n"]))
    made = target.directory / "ciso-ops-a.service"
    assert made.read_text() == "one\n"
    assert made.stat().st_mode & 0o777 == 0o644
    assert {one.words for one in plan_changes(target, ["one\n", "two\n"])} == {"unchanged"}
    (target.directory / ".ciso-ops-a.timer.ciso-ops-new").write_text("of a killed run")
    again = plan_changes(target, ["one\n", "three\n"])
    assert [one.words for one in again] == ["unchanged", "changed"]
    carry_out(target, again)
    assert sorted(os.listdir(target.directory)) == ["ciso-ops-a.service", "ciso-ops-a.timer"]
    gone = plan_changes(target, None)
    assert [one.words for one in gone] == ["removed", "removed"]
    carry_out(target, gone)
    assert os.listdir(target.directory) == []


def test_a_file_that_changed_meanwhile_is_left_alone(tmp_path: Path) -> None:
    target = files_target(tmp_path)
    made = plan_changes(target, ["one\n", "two\n"])
    (tmp_path / "ciso-ops-a.service").write_text("of somebody else\n")
    with pytest.raises(BusyError, match="somebody changed this meanwhile"):
        carry_out(target, made)
    assert (tmp_path / "ciso-ops-a.service").read_text() == "of somebody else\n"
    assert not (tmp_path / "ciso-ops-a.timer").exists()


def test_what_somebody_masked_stays_masked(tmp_path: Path) -> None:
    (tmp_path / "ciso-ops-a.timer").symlink_to("/dev/null")
    with pytest.raises(UsageError, match="this is no regular file"):
        plan_changes(files_target(tmp_path), ["one\n", "two\n"])


def test_a_timer_that_is_armed_is_not_taken_away(tmp_path: Path) -> None:
    wants = tmp_path / "timers.target.wants"
    wants.mkdir()
    (wants / "ciso-ops-a.timer").symlink_to("../ciso-ops-a.timer")
    with pytest.raises(BusyError, match="still armed") as caught:
        plan_changes(files_target(tmp_path, system=False), None)
    assert caught.value.hint == "first: systemctl --user disable --now ciso-ops-a.timer"


def test_files_that_cannot_be_written_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    target = files_target(tmp_path / "file" / "below")
    change = Change(label="x", path=target.directory / "x", before=None, after=b"x")
    with pytest.raises(DestinationError, match="cannot write"):
        carry_out(target, [change])
    long = files_target(tmp_path / ("x" * 300))
    with pytest.raises(DestinationError, match="cannot read"):
        plan_changes(long, ["one\n", "two\n"])


@pytest.mark.skipif(Path("/run/systemd/system").exists(), reason="systemd runs this machine")
def test_nothing_is_installed_where_systemd_would_never_see_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="systemd does not run this machine"):
        plan_changes(files_target(tmp_path, usual=True), ["one\n", "two\n"])


@pytest.mark.parametrize(
    ("kind", "system", "environment", "expected"),
    [
        (Kind.SYSTEMD, True, {}, "/etc/systemd/system"),
        (Kind.SYSTEMD, False, {}, "/home/me/.config/systemd/user"),
        (Kind.SYSTEMD, False, {"XDG_CONFIG_HOME": "/cfg"}, "/cfg/systemd/user"),
        (Kind.SYSTEMD, False, {"XDG_CONFIG_HOME": "x"}, "/home/me/.config/systemd/user"),
        (Kind.LAUNCHD, True, {}, "/Library/LaunchDaemons"),
        (Kind.LAUNCHD, False, {}, "/home/me/Library/LaunchAgents"),
    ],
)
def test_where_files_belong(
    kind: Kind, environment: Mapping[str, str], expected: str, *, system: bool
) -> None:
    home = Path("/home/me")
    found = usual_directory(kind, system=system, home=home, environment=environment)
    assert found == Path(expected)


def test_where_files_belong_to_no_place() -> None:
    with pytest.raises(UsageError, match="is installed into a repository"):
        usual_directory(Kind.GITHUB, system=True, home=None, environment={})
    with pytest.raises(UsageError, match="HOME is not set"):
        usual_directory(Kind.SYSTEMD, system=False, home=None, environment={})
    assert logs_directory(system=False, home=Path("/home/me")) == Path("/home/me/Library/Logs")
    assert logs_directory(system=True, home=Path("/home/me")) == Path("/Library/Logs")


def test_what_is_left_to_do() -> None:
    user = arming(Kind.SYSTEMD, UNIT, Path("/x"), system=False)
    assert user[0] == "loginctl enable-linger"
    assert f"systemctl --user enable --now {UNIT}.timer" in user
    agent = arming(Kind.LAUNCHD, UNIT, Path("/x y"), system=False)
    assert agent[0] == f"launchctl bootstrap gui/$(id -u) '/x y/{UNIT}.plist'"
    daemon = disarming(Kind.LAUNCHD, UNIT, system=True)
    assert daemon == (f"launchctl bootout system/{UNIT}",)
    user = disarming(Kind.SYSTEMD, UNIT, system=False)
    assert user == (
        f"systemctl --user disable --now {UNIT}.timer",
        "systemctl --user daemon-reload",
    )
    assert arming(Kind.CRON, UNIT, Path("/"), system=True) == ()
    assert disarming(Kind.CRON, UNIT, system=True) == ()


# The task


def schedule(*arguments: str | Path, **more: Any) -> Ran:
    """Run the task with the installed command."""
    return run("schedule", *arguments, command=PROGRAM, **more)


def test_each_kind_is_printed_as_it_is(store: Path, instance: Instance, tmp_path: Path) -> None:
    """And starts a run with an empty environment, in the way in which its program would."""
    flags = ("--store", store, *from_flags(instance), "--keep-last", "9", "--jobs", "1")
    nothing: dict[str, str] = {}

    def runs(arguments: list[str], directory: str = "/") -> None:
        before = snapshots(store)
        done = subprocess.run(
            arguments, check=False, capture_output=True, env=nothing, cwd=directory, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert len(snapshots(store)) == len(before) + 1

    agent = plistlib.loads(schedule("--kind", "launchd", *flags).out.encode())
    runs(agent["ProgramArguments"], agent["WorkingDirectory"])
    workflow = yaml.safe_load(schedule("--kind", "github", *flags).out)
    assert workflow[True]["schedule"] == [{"cron": "30 3 * * *"}]  # YAML 1.1 reads "on" as true
    command = workflow["jobs"]["snapshot"]["steps"][0]["run"].replace("${{ '${{' }}", "${{")
    runs(["/bin/bash", "-e", "-c", command], str(tmp_path))
    pipeline = yaml.safe_load(schedule("--kind", "gitlab", *flags).out)
    runs(["/bin/sh", "-e", "-c", pipeline[UNIT]["script"][0]], str(tmp_path))
    first, line, last = schedule("--kind", "cron", *flags).out.splitlines()
    assert (first, last) == ("# BEGIN ciso-ops backup-daily", "# END ciso-ops backup-daily")
    assert "--keep-last 9 --jobs 1 --quiet" in line
    printed = schedule("--kind", "systemd", *flags).out
    assert printed.count("[Unit]\n") == 2
    assert "OnCalendar=*-*-* 03:30:00\n" in printed


def test_what_fails_says_so_on_standard_error(store: Path, instance: Instance) -> None:
    flags = ("--kind", "gitlab", "--store", store, *from_flags(instance))
    pipeline = yaml.safe_load(schedule(*flags).out)
    instance.database.unlink()
    done = subprocess.run(
        ["/bin/sh", "-e", "-c", pipeline[UNIT]["script"][0]], check=False, capture_output=True,
        env={}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stdout == b""
    assert b"error: database not found" in done.stderr


def arguments_of(ran: Ran) -> list[str]:
    """Read the command out of a property list."""
    assert ran.code == 0, ran
    found: list[str] = plistlib.loads(ran.out.encode())["ProgramArguments"]
    return found


def test_what_variables_say_is_written_down(store: Path, instance: Instance) -> None:
    variables = {
        "SQLITE_FILE": str(instance.database),
        "LOCAL_STORAGE_DIRECTORY": str(instance.attachments),
        "INVOKE_OPS_STORE": str(store),
        "INVOKE_OPS_LOCK_TIMEOUT": "60",
        "INVOKE_OPS_KEEP_DAILY": "14",
        "INVOKE_OPS_PROFILE": "ciso_assistant",
    }
    ran = schedule("--kind", "launchd", environment=variables)
    assert arguments_of(ran)[1:] == [
        *("backup-daily", "--store", str(store.resolve())),
        *map(str, from_flags(instance)),
        *("--profile", "ciso_assistant"),
    ]
    kept = plistlib.loads(ran.out.encode())["EnvironmentVariables"]
    assert kept == {"INVOKE_OPS_LOCK_TIMEOUT": "60", "INVOKE_OPS_KEEP_DAILY": "14"}
    assert "note: " not in ran.err


@pytest.mark.parametrize("by_root", [True, False])
def test_a_source_that_only_a_variable_of_ours_names_is_written_down(
    store: Path, instance: Instance, tmp_path: Path, *, by_root: bool
) -> None:
    root = tmp_path / "app"
    usual = Instance(
        database=root / "db" / "ciso-assistant.sqlite3", attachments=root / "db" / "attachments"
    )
    usual.database.parent.mkdir(parents=True)
    instance.database.rename(usual.database)
    instance.attachments.rename(usual.attachments)
    variables = {"INVOKE_OPS_INSTANCE_ROOT": "app"}
    if not by_root:
        variables = {
            "INVOKE_OPS_SOURCE_DB": "app/db/ciso-assistant.sqlite3",
            "INVOKE_OPS_SOURCE_ATTACHMENTS": "app/db/attachments",
        }
    ran = schedule("--kind", "launchd", "--store", store, environment=variables, directory=tmp_path)
    assert arguments_of(ran)[4:] == [*map(str, from_flags(usual))]
    assert "EnvironmentVariables" not in plistlib.loads(ran.out.encode())


def test_metrics_are_written_down_wherever_they_were_named(
    store: Path, instance: Instance, tmp_path: Path
) -> None:
    common = ("--store", store, *from_flags(instance))
    more: dict[str, Any] = {"environment": {"INVOKE_OPS_METRICS": "b.prom"}, "directory": tmp_path}
    ran = schedule("--kind", "launchd", *common, "--metrics", tmp_path / "a.prom")
    assert arguments_of(ran)[-2:] == ["--metrics", str(tmp_path / "a.prom")]
    ran = schedule("--kind", "launchd", *common, **more)
    assert arguments_of(ran)[-2:] == ["--metrics", str(tmp_path / "b.prom")]
    assert "INVOKE_OPS_METRICS" not in ran.out
    (Path.home() / ".invoke.yaml").write_text(f"ops:\n  metrics: {tmp_path}/c.prom\n")
    ran = schedule("--kind", "launchd", *common)
    assert "--metrics" not in arguments_of(ran), "the job reads it there"
    ran = schedule("--kind", "systemd", *common)
    assert (f' "-{tmp_path}"\n' in ran.out) is (os.geteuid() == 0)
    ran = schedule("--kind", "systemd", *common, "--metrics", tmp_path / "a.txt")
    assert (ran.code, ran.out) == (2, "")


def test_a_secret_is_not_written_into_a_schedule(store: Path, instance: Instance) -> None:
    common = ("--kind", "github", "--store", store, *from_flags(instance))
    ran = schedule(*common, environment={"INVOKE_OPS_PING": "https://hc-ping.com/secret-id"})
    assert (ran.code, ran.out) == (2, "")
    assert ran.error_line.startswith("error: INVOKE_OPS_PING is a secret")
    assert "secret-id" not in ran.err


def test_what_files_say_stays_there(store: Path, instance: Instance, tmp_path: Path) -> None:
    section = {"source_db": str(instance.database), "store": str(store), "keep_last": "3",
               "source_attachments": str(instance.attachments)}  # fmt: skip
    (tmp_path / "invoke.yaml").write_text(json.dumps({"ops": section}))
    ran = schedule("--kind", "launchd", directory=tmp_path)
    assert arguments_of(ran)[1:] == ["backup-daily", "--store", str(store.resolve())]
    assert plistlib.loads(ran.out.encode())["WorkingDirectory"] == str(tmp_path)
    other = tmp_path / "elsewhere" / "settings.yaml"
    other.parent.mkdir()
    (tmp_path / "invoke.yaml").rename(other)
    named = run("-f", "elsewhere/settings.yaml", "schedule", "--kind", "launchd",
                command=PROGRAM, directory=tmp_path)  # fmt: skip
    assert arguments_of(named)[1:4] == ["-f", str(other), "backup-daily"]
    assert plistlib.loads(named.out.encode())["WorkingDirectory"] == "/"


def test_a_profile_of_ones_own_is_named_by_its_full_path(
    store: Path, instance: Instance, tmp_path: Path
) -> None:
    built_in = Path(__file__).parents[1] / "ops" / "profiles" / "ciso_assistant.toml"
    (tmp_path / "mine.toml").write_text(built_in.read_text())
    ran = schedule(
        "--kind", "launchd", "--store", store, *from_flags(instance), "--profile", "mine.toml",
        directory=tmp_path,
    )  # fmt: skip
    assert arguments_of(ran)[-2:] == ["--profile", str(tmp_path / "mine.toml")]


def test_without_rules_a_note_says_that_nothing_is_pruned(store: Path, instance: Instance) -> None:
    ran = schedule("--kind", "gitlab", "--store", store, *from_flags(instance), "--json")
    assert ran.document["remarks"] == [
        "no --keep flag and no ops.keep_… says what to keep, so nothing is ever pruned"
    ]
    assert ran.document["changed"] is False
    (file,) = ran.document["files"]
    assert (file["path"], file["change"]) == (f"{UNIT}.gitlab-ci.yml", "printed")
    assert UNIT in yaml.safe_load(file["content"])


def test_invokes_own_dry_run_prints_too(store: Path, instance: Instance, tmp_path: Path) -> None:
    flags = ("--kind", "github", "--store", store, *from_flags(instance))
    assert run("--dry", "schedule", *flags, command=PROGRAM).out.startswith("# Runs on a runner")
    into = ("--install", "--into", tmp_path)
    assert run("--dry", "schedule", *flags, *into, command=PROGRAM).out.startswith("Would change")
    assert not (tmp_path / ".github").exists()


def test_install_twice_then_remove(store: Path, instance: Instance, tmp_path: Path) -> None:
    units = tmp_path / "units"
    flags = ("--kind", "systemd", "--into", units, "--store", store, *from_flags(instance))
    tried = schedule(*flags, "--install", "--dry-run")
    assert tried.out.startswith("Would change\n")
    assert not units.exists()
    first = schedule(*flags, "--install", "--force")
    assert first.out.startswith("Installed\n")
    assert f"+++ {units / UNIT}.service" in first.err
    assert sorted(os.listdir(units)) == [f"{UNIT}.service", f"{UNIT}.timer"]
    again = schedule(*flags, "--install", "--force", "--json")
    assert again.document["changed"] is False
    assert {file["change"] for file in again.document["files"]} == {"unchanged"}
    later = schedule(*flags, "--install", "--force", "--at", "04:00", "--json")
    assert [file["change"] for file in later.document["files"]] == ["unchanged", "changed"]
    assert "-OnCalendar=*-*-* 03:30:00\n+OnCalendar=*-*-* 04:00:00\n" in later.err
    gone = schedule("--kind", "systemd", "--into", units, "--remove", "--force", "--json")
    assert gone.document["changed"] is True
    assert [file["content"] for file in gone.document["files"]] == [None, None]
    assert os.listdir(units) == []
    nothing = schedule("--kind", "systemd", "--into", units, "--remove", "--force")
    assert nothing.out.startswith("Nothing to change\n")


@pytest.mark.parametrize(("answer", "code"), [("n\n", 2), ("y\n", 0)])
def test_it_asks(store: Path, instance: Instance, tmp_path: Path, answer: str, code: int) -> None:
    flags = ("--kind", "github", "--into", tmp_path, "--store", store, *from_flags(instance))
    ended, screen = run_on_terminal("schedule", *flags, "--install", answer=answer)
    assert ended == code
    assert "+name:" in screen
    assert (tmp_path / ".github" / "workflows" / f"{UNIT}.yml").exists() is (code == 0)


def test_the_installed_crontab_is_that_of_the_user(
    store: Path, instance: Instance, tmp_path: Path
) -> None:
    crontab_program(tmp_path, KEEPS)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    flags = ("--kind", "cron", "--store", store, *from_flags(instance), "--install", "--force")
    assert schedule(*flags, environment=path).out.startswith("Installed\n  crontab  new\n")
    assert "--quiet\n" in (tmp_path / "kept").read_text()
    ran = schedule(*flags, environment=path)
    assert ran.out == "Nothing to change\n  crontab  unchanged\n"


@ROOT_ONLY
def test_root_schedules_for_others(store: Path, instance: Instance, tmp_path: Path) -> None:
    user = pwd.getpwuid(NOBODY).pw_name
    crontab_program(tmp_path, KEEPS)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    flags = ("--store", store, *from_flags(instance), "--run-as", user)
    ran = schedule("--kind", "cron", *flags, "--install", "--force", environment=path)
    assert ran.code == 0
    assert (tmp_path / f"kept.{user}").exists()
    assert f"\nUser={user}\n" in schedule("--kind", "systemd", *flags).out
    (Path(os.environ["HOME"]) / ".invoke.yaml").write_text('ops: {keep_last: "3"}')
    refused = schedule("--kind", "systemd", *flags)
    assert refused.code == 2
    assert refused.error_line == f"error: {user} will not read what your ~/.invoke.yaml says of ops"


def test_names_units_and_users() -> None:
    assert read_name("hourly-2") == "hourly-2"
    assert read_unit("") == ""
    assert read_unit("alarm@%n.service") == "alarm@%n.service"
    name = pwd.getpwuid(os.getuid()).pw_name
    assert read_user("", os.getuid()) == read_user(name, os.getuid()) == name
    for bad in ("../x", "", "-x", "a b", "x" * 65, "a\n"):
        with pytest.raises(UsageError, match="--name must consist"):
            read_name(bad)
    for bad in ("x", "a b.service", "x.service\n", "x.timer"):
        with pytest.raises(UsageError, match="--on-failure must name"):
            read_unit(bad)
    with pytest.raises(UsageError, match="there is no such user: nobody-here"):
        read_user("nobody-here", 0)
    with pytest.raises(UsageError, match="there is no such user: 999999"):
        read_user("", 999999)
    with pytest.raises(UsageError, match="only root can schedule for root"):
        read_user("root", NOBODY)


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        ((), 2, "--kind is required"),
        (("--kind", "at"), 2, "--kind must be one of systemd, cron, launchd, github, gitlab"),
        (("--kind", "cron", "--install", "--remove"), 2, "exclude each other"),
        (("--kind", "cron", "--install"), 2, "nobody can answer the question"),
        (("--kind", "cron", "--remove"), 2, "nobody can answer the question"),
        (("--kind", "cron", "--install", "--into", "x"), 2, "--into does not go with cron"),
        (("--kind", "systemd", "--into", "x"), 2, "--into goes with --install or --remove"),
        (("--kind", "systemd", "--dry-run"), 2, "--dry-run goes with --install or --remove"),
        (("--kind", "cron", "--on-failure", "x.service"), 2, "--on-failure is for --kind systemd"),
        (("--kind", "gitlab", "--run-as", "root"), 2, "--run-as does not go with a runner"),
        (("--kind", "github", "--install", "--force"), 2, "is installed into a repository"),
        (("--kind", "cron", "--at", "noon"), 2, "--at is no time that every scheduler knows"),
        (("--kind", "cron", "--keep-daily", "x"), 2, "--keep-daily"),
        (("--kind", "cron", "--hold-writers", "x"), 2, "--hold-writers must be a number"),
        (("--kind", "cron", "--name", "a/b"), 2, "--name must consist of letters"),
        (("--kind", "cron", "--source-db", "/nowhere"), 3, "database not found: /nowhere"),
        (("--kind", "cron", "--source-attachments", "/nowhere"), 3, "attachments not found"),
        (("--kind", "cron", "--store", "/nowhere"), 3, "there is no store: /nowhere"),
        (("--kind", "cron", "--store", ""), 2, "--store is required"),
    ],
)
def test_what_cannot_be_scheduled_is_told(
    store: Path,
    instance: Instance,
    capsys: pytest.CaptureFixture[str],
    *,
    flags: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    given = dict(zip(("--store", "--source-db", "--source-attachments"),
                     (store, instance.database, instance.attachments), strict=True))  # fmt: skip
    usual = [word for flag, value in given.items() if flag not in flags for word in (flag, value)]
    ran = run_here(capsys, "schedule", *flags, *usual)
    assert ran.code == code
    assert said in ran.error_line


def test_the_command_is_that_of_this_installation() -> None:
    found = installed_command()
    assert found == Path(sys.executable).parent / "ciso-ops"
    assert os.access(found, os.X_OK)
    for package, command in (("nothing-of-this-name", "ciso-ops"), ("pytest", "ciso-ops")):
        with pytest.raises(UsageError, match="is not installed with this Python"):
            installed_command(package, command)


def test_the_commands_that_are_left_are_told() -> None:
    change = Change(label="x", before=None, after=b"x")
    told = done_lines([change], ["systemctl x"], removed=False, dry_run=False)
    assert [line.plain for line in told] == [
        *("Installed", "  x  new", "Arm it, start it once, and see it work:", "  systemctl x"),
    ]
    gone = Change(label="x", before=b"x", after=None)
    told = done_lines([gone], ["systemctl x"], removed=True, dry_run=False)
    assert [line.plain for line in told] == ["Removed", "  x  removed", "Then:", "  systemctl x"]


def test_quiet_still_tells_of_a_snapshot_that_shrank(
    store: Path, instance: Instance, tmp_path: Path
) -> None:
    smaller = build_instance(tmp_path / "smaller", evidences=2)
    ran = run("backup-daily", "--quiet", "--store", store, *from_flags(smaller))
    assert ran.code == 0
    assert "warning: much smaller than the one before" in ran.out
    assert instance.database.exists()


def test_every_kind_has_its_names() -> None:
    assert {kind: len(names_of(kind, "u")) for kind in Kind} == {
        Kind.SYSTEMD: 2, Kind.CRON: 1, Kind.LAUNCHD: 1, Kind.GITHUB: 1, Kind.GITLAB: 1,
    }  # fmt: skip
