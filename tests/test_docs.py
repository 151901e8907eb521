"""README, docs, help and code say the same."""

import re
from pathlib import Path

import pytest

from ops import __version__, errors
from ops.cli import namespace
from ops.errors import InterruptedRunError, OpsError
from ops.settings import DEFAULTS
from tests.command import INV, PROGRAM, ROOT, run

README = (ROOT / "README.md").read_text("utf-8")
TASKS = sorted(namespace.task_names)


def page(name: str) -> str:
    """Read a page of docs/."""
    return (ROOT / "docs" / name).read_text("utf-8")


def rows(text: str) -> list[list[str]]:
    """Read the cells of every table row of a page."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith("| ---")
    ]


def test_every_task_is_in_the_readme_and_nothing_else() -> None:
    listed = {match[1] for row in rows(README) if (match := re.match(r"`inv ([\w-]+)`", row[0]))}
    assert listed == set(TASKS)


@pytest.mark.parametrize("command", [INV, PROGRAM], ids=["inv", "ciso-ops"])
def test_every_task_is_listed_with_its_first_line(command: tuple[str, ...]) -> None:
    listed = run("--list", command=command)
    assert listed.code == 0
    words = " ".join(listed.out.split())
    for name in TASKS:
        first = (namespace[name].__doc__ or "").splitlines()[0]
        assert f"{name} {first}" in words


def flags_of(name: str) -> set[str]:
    """Read the flags in a task's help; `--[no-]keep` are two."""
    helped = run("--help", name).out
    found: set[str] = set()
    for switch, rest in re.findall(r"^\s+--(\[no-\])?([\w-]+)", helped, re.MULTILINE):
        found |= {f"--{rest}", f"--no-{rest}"} if switch else {f"--{rest}"}
    return found


@pytest.mark.parametrize("name", TASKS)
def test_help_names_every_flag_that_the_pages_name(name: str) -> None:
    flags = flags_of(name)
    assert flags
    pages = README + "".join(path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md"))
    for line in pages.splitlines():
        if re.search(rf"\binv {name} --", line):
            assert set(re.findall(r"(?<![\w-])(--[\w-]+)", line)) <= flags, line


def test_every_flag_on_a_page_is_a_flag() -> None:
    known = {"--list", "--help", "--debug", "--without-pip", "--python", "--quiet", "--env"}
    known |= {"--link-dest"}  # rsync has it
    known |= {"--complete", "--print-completion-script"}
    known |= {"--collector"}  # node_exporter has it
    known |= {"--now", "--full", "--no-pager", "--failed"}  # of systemctl
    for name in TASKS:
        known |= flags_of(name)
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        used = set(re.findall(r"(?<![\w-])(--[a-z][\w-]+)", path.read_text("utf-8")))
        assert used <= known, path


def test_exit_codes_are_those_of_the_classes() -> None:
    listed: dict[str, set[str]] = {}
    for row in rows(page("exit-codes.md")):
        for name in re.findall(r"`(\w+Error)`", row[1]):
            listed.setdefault(name, set()).update(re.findall(r"\d+", row[0]))
    classes = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, OpsError)
    }
    assert listed.keys() == classes.keys()
    for name, value in classes.items():
        if value is InterruptedRunError:
            codes = {str(InterruptedRunError(number).exit_code) for number in (1, 2, 15)}
        else:
            codes = {str(value.exit_code)}
        assert listed[name] == codes, name


def test_every_kind_of_finding_has_its_row() -> None:
    listed = {row[0].strip("`") for row in rows(page("findings.md"))[1:]}
    used: set[str] = set()
    for path in (ROOT / "ops").rglob("*.py"):
        text = path.read_text("utf-8")
        used |= set(re.findall(r'Finding\(\s*kind="([a-z-]+)"', text))
        used |= set(re.findall(r'mismatches\.append\(\(\S+ "([a-z-]+)"', text))
    assert listed == used


def test_every_configuration_key_has_its_row() -> None:
    listed = [row[0].strip("`") for row in rows(page("configuration.md"))[1:]]
    assert listed == list(DEFAULTS)


def test_the_readme_s_test_command_is_what_ci_runs() -> None:
    commands = re.findall(r"```sh\n(python3 -m venv .*)\n```", README)
    assert len(commands) == 2
    assert commands[0].endswith("inv demo")
    ci = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert commands[1] in ci
    assert [line for line in ci if "nox" in line] == [commands[1]]


def test_links_lead_somewhere() -> None:
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text("utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), (path, target)


def test_the_version_is_one() -> None:
    assert run("--version", command=PROGRAM).out == f"ciso-ops {__version__}\n"


def test_the_profile_of_the_page_is_one(tmp_path: Path) -> None:
    from ops.profile import load_profile

    (document,) = re.findall(r"```toml\n(.*?)```", page("profiles.md"), re.DOTALL)
    path = tmp_path / "mine.toml"
    path.write_text(document)
    assert load_profile(str(path)).references[0].digest == "sha256"
