"""The rules of STYLE.md section 5 and the arrows of DESIGN.md, enforced."""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from invoke.collection import Collection
from invoke.parser.argument import Argument
from invoke.program import Program
from invoke.tasks import Task

import ops.errors
from ops.cli.program import namespace, program
from ops.errors import OpsError
from ops.settings import DEFAULTS
from tests.command import ROOT, run, run_here

OPS = ROOT / "ops"
EXIT_CODES = ROOT / "docs" / "exit-codes.md"
TASKS: dict[str, Task[Any]] = dict(namespace.tasks)
MOST_LINES = 300


def parameters() -> Iterator[tuple[str, str, Argument]]:
    """List every parameter of every task."""
    for name, task in TASKS.items():
        for argument in task.get_arguments():
            yield name, argument.names[0], argument


PARAMETERS = list(parameters())
EACH_TASK = pytest.mark.parametrize("name", TASKS)
EACH_PARAMETER = pytest.mark.parametrize(
    "argument", [row[2] for row in PARAMETERS], ids=[f"{row[0]}-{row[1]}" for row in PARAMETERS]
)


# Tasks


def test_the_tasks_are_those_that_are_documented() -> None:
    assert sorted(TASKS) == [
        *("adopt", "backup-daily", "check-age", "clone", "demo", "drill", "offsite-status"),
        *("pack", "prune", "pull", "push", "recover", "restore", "schedule", "snapshots"),
        *("staging-refresh", "staging-rules", "status", "unpack", "verify"),
    ]


def test_root_names_are_flat_and_hyphenated() -> None:
    assert not namespace.collections
    assert namespace.default is None
    for name in TASKS:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)


def test_no_aliases() -> None:
    assert not namespace.tasks.aliases
    assert not any(task.aliases for task in TASKS.values())


def test_no_task_runs_others() -> None:
    assert not any(task.pre or task.post for task in TASKS.values())


@EACH_TASK
def test_docstring_is_one_line_and_at_most_one_paragraph(name: str) -> None:
    text = inspect.getdoc(TASKS[name].body) or ""
    first, *rest = text.split("\n\n")
    assert re.fullmatch(r"[A-Z][a-z]+\b[^\n]*\.", first)
    assert not first.split()[0].endswith("s"), "the imperative"
    assert len(rest) <= 1
    assert not re.search(r"^\s*(Args|Returns|Raises|Yields):", text, re.MULTILINE)


@EACH_PARAMETER
def test_every_parameter_has_help(argument: Argument) -> None:
    assert argument.help
    assert argument.help[0].isupper()
    assert argument.help.endswith(".")


@EACH_PARAMETER
def test_no_short_flags_and_no_positionals(argument: Argument) -> None:
    assert len(argument.names) == 1
    assert len(argument.names[0]) > 1
    assert not argument.positional
    assert not argument.optional
    assert not argument.incrementable


@EACH_PARAMETER
def test_strings_and_booleans_only(argument: Argument) -> None:
    assert (argument.kind, argument.default) in [(str, ""), (bool, False), (bool, True)]


@EACH_PARAMETER
def test_booleans_name_their_effect(argument: Argument) -> None:
    assert not re.match(r"(no|skip)[-_]", argument.names[0])


@EACH_PARAMETER
def test_no_flag_of_invoke_is_taken(argument: Argument) -> None:
    core = {name for each in Program().core_args() for name in each.names}
    core |= {name for each in Program().task_args() for name in each.names}
    assert argument.names[0].replace("_", "-") not in core


@EACH_TASK
def test_signature_and_flags_agree(name: str) -> None:
    body = inspect.signature(TASKS[name].body).parameters
    assert next(iter(body)) == "context"
    for parameter in list(body.values())[1:]:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert parameter.annotation in {str, bool, "str", "bool"}


def test_what_writes_can_be_tried() -> None:
    names = "adopt clone recover backup-daily prune restore push pull pack unpack schedule"
    names += " staging-refresh"
    for task in names.split():
        assert "dry-run" in {row[1] for row in PARAMETERS if row[0] == task}


@pytest.mark.parametrize("task", sorted({*TASKS} - {"demo"}))
def test_what_reports_can_do_it_in_json(task: str) -> None:
    assert "json" in {row[1] for row in PARAMETERS if row[0] == task}


# Configuration


def test_configuration_is_one_section_of_strings() -> None:
    configured = namespace.configuration()
    assert list(configured) == ["ops"]
    assert dict(configured["ops"]) == DEFAULTS
    assert all(isinstance(value, str) for value in DEFAULTS.values())


def test_defaults_are_not_shared_with_the_collection() -> None:
    Collection.configuration(namespace)["ops"]["profile"] = "changed"
    assert DEFAULTS["profile"] == ""


# Help


@EACH_TASK
def test_help_tells_every_flag(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    ran = run_here(capsys, "--help", name)
    assert ran.code == 0
    for task, parameter, _ in PARAMETERS:
        if task == name:
            flag = parameter.replace("_", "-")
            assert f"--{flag}" in ran.out or f"--[no-]{flag}" in ran.out


def test_both_front_doors_list_the_same_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    by_invoke, installed = run("--list"), run_here(capsys, "--list")
    assert by_invoke.code == installed.code == 0

    def listed(text: str) -> list[str]:
        return re.findall(r"^  ([a-z-]+)  ", text, re.MULTILINE)

    assert listed(by_invoke.out) == listed(installed.out) == sorted(TASKS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here(capsys, "--version").out == f"ciso-ops {ops.__version__}\n"
    assert program.version == ops.__version__


def test_listing_is_quick() -> None:
    """Tasks import their use case when they run (pyproject.toml, PLC0415)."""
    script = (
        "import sys, ops.cli\n"
        "heavy = ('ops.clone', 'ops.verify', 'ops.status', 'ops.demo', 'rich.progress')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    ran = run(command=(sys.executable, "-c", script))
    assert ran.out == "[]\n"


# Exit codes


def _errors(kind: type[OpsError]) -> Iterator[type[OpsError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _errors(below)


def test_exit_codes_are_those_of_the_design() -> None:
    codes = {kind.__name__: kind.exit_code for kind in _errors(OpsError)}
    own = {
        name: code for name, code in codes.items() if getattr(ops.errors, name, None) is not None
    }
    assert own == {
        "OpsError": 1,
        "UsageError": 2,
        "SourceError": 3,
        "DamagedError": 3,
        "DestinationError": 4,
        "UnfinishedSwapError": 4,
        "VerificationError": 5,
        "BusyError": 6,
        "HookError": 7,
        "InterruptedRunError": 130,
    }


def test_the_list_of_exit_codes_and_the_classes_are_equal() -> None:
    table = re.findall(r"^\| ([\d, ]+) \| ([^|]*) \|", EXIT_CODES.read_text(), re.MULTILINE)
    listed = {
        name: {int(code) for code in codes.split(",")}
        for codes, names in table
        for name in re.findall(r"`(\w+)`", names)
    }
    assert listed.pop("InterruptedRunError") == {129, 130, 143}
    kinds = {kind.__name__: kind.exit_code for kind in _errors(OpsError)}
    assert {name: {kinds[name]} for name in listed} == listed
    own = {name for name in kinds if hasattr(ops.errors, name)}
    assert own - set(listed) == {"InterruptedRunError"}


# The import graph

LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "ops",
        "ops.model",
        "ops.names",
        "ops.mounts",
        "ops.interrupts",
        "ops.archive",
        "ops.profiles",
        "ops.offsite",
        "ops.sanitise",
        "ops.tree",
        "ops.sqlite",
    ),
    ("ops.errors", "ops.commands"),
    ("ops.fields",),
    ("ops.rules",),
    ("ops.manifest", "ops.report", "ops.profile", "ops.retention"),
    ("ops.settings",),
    ("ops.hooks",),
    ("ops.tree.*",),
    ("ops.sqlite.*", "ops.source"),
    ("ops.staging",),
    ("ops.disk", "ops.holders", "ops.references", "ops.comparison", "ops.snapshot"),
    ("ops.sanitise.*",),
    ("ops.harmless",),
    ("ops.bag",),
    ("ops.archive.*",),
    ("ops.spaces",),
    ("ops.journal",),
    ("ops.swap", "ops.claims"),
    ("ops.settlement", "ops.scratch"),
    ("ops.workspace", "ops.publish", "ops.filing"),
    ("ops.gate", "ops.checks", "ops.destination", "ops.overlap"),
    ("ops.store",),
    ("ops.storing",),
    ("ops.survey", "ops.inspection", "ops.passes"),
    ("ops.rounds", "ops.room", "ops.counterpart", "ops.record", "ops.recover"),
    ("ops.capture",),
    ("ops.verdict", "ops.flusher"),
    ("ops.replacing", "ops.making", "ops.unpacking"),
    ("ops.clone", "ops.backup", "ops.restore", "ops.audit", "ops.prune", "ops.keeping", "ops.age"),
    ("ops.nightly", "ops.replaced", "ops.drill", "ops.adopt", "ops.extract", "ops.offsite.*"),
    ("ops.watch", "ops.watch.*"),
    ("ops.schedule", "ops.schedule.*"),
    ("ops.taking", "ops.refreshing"),
    ("ops.refresh",),
    ("ops.pack", "ops.unpack"),
    ("ops.verify", "ops.status", "ops.demo_instance"),
    ("ops.demo_writer",),
    ("ops.demo",),
    ("ops.cli.*", "ops.cli"),
    ("tasks",),
)
"""From the leaves up; a module imports from lower layers, or within its own package."""


def modules() -> dict[str, Path]:
    """List every module of the project by its name."""
    found = {"tasks": ROOT / "tasks.py"}
    for path in sorted(OPS.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()
EACH_MODULE = pytest.mark.parametrize("name", MODULES)


def layer_of(name: str) -> int:
    """Return the layer of a module, counted from the leaves."""
    for number, layer in enumerate(LAYERS):
        if name in layer or f"{name.rpartition('.')[0]}.*" in layer:
            return number
    raise AssertionError(f"{name} has no place in LAYERS")


def imports(name: str) -> set[str]:
    """List what a module imports, wherever in it: modules of the project and top-level names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import"
            module = node.module or ""
            below = {f"{module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= below or {module}
    return found


@EACH_MODULE
def test_imports_point_down(name: str) -> None:
    mine = layer_of(name)
    for other in imports(name) & set(MODULES):
        same_room = name != "ops" and other.startswith(f"{name}.")
        same_room |= name.rpartition(".")[0] == other.rpartition(".")[0] != "ops"
        assert layer_of(other) < mine or same_room, f"{name} imports {other}"


def test_there_are_no_circles() -> None:
    graph = {name: imports(name) & set(MODULES) for name in MODULES}
    while graph:
        leaves = [name for name, needs in graph.items() if not needs & set(graph) - {name}]
        assert leaves, f"a circle among {sorted(graph)}"
        for name in leaves:
            del graph[name]


def test_every_layer_is_inhabited() -> None:
    for layer in LAYERS:
        for name in layer:
            wanted = name.removesuffix("*")
            assert any(module == name or module.startswith(wanted) for module in MODULES), name


OPTIONAL = {
    "ops.archive.compression": {"backports", "compression"},
    "ops.archive.age": {"pyrage"},
    "ops.sanitise.account": {"argon2", "django"},
    "ops.sanitise.finder": {"ahocorasick_rs"},
}
"""The libraries of extras (pyproject.toml), and the one module that imports each."""


@EACH_MODULE
def test_only_the_command_line_knows_invoke_and_rich(name: str) -> None:
    roots = {module.partition(".")[0] for module in imports(name)}
    if not name.startswith("ops.cli"):
        assert not roots & {"invoke", "rich"}
    known = {"ops", "invoke", "rich"} | OPTIONAL.get(name, set())
    assert not roots - known - sys.stdlib_module_names


@EACH_MODULE
def test_invoke_is_imported_from_its_submodules(name: str) -> None:
    assert "invoke" not in imports(name)


def attributes(name: str) -> Iterator[str]:
    """List the dotted names that a module uses."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Attribute | ast.Name):
            yield ast.unparse(node)


@EACH_MODULE
def test_only_settings_reads_the_environment(name: str) -> None:
    ambient = {"os.environ", "os.getenv", "os.environb", "os.putenv", "os.getenvb"}
    if name != "ops.settings":
        assert not ambient & set(attributes(name))


@EACH_MODULE
def test_nothing_ambient_below_the_command_line(name: str) -> None:
    if name.startswith(("ops.cli", "ops.demo_writer", "tasks")):
        return
    ambient = {
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "time.time",
        "time.monotonic",
        "time.perf_counter",
        "os.chdir",
        "os.getcwd",
        "Path.cwd",
        "Path.home",
        "print",
        "input",
        "sys.stdin",
        "sys.stdout",
        "sys.stderr",
        "os.system",
    }
    used = ambient & set(attributes(name))
    assert not used, f"{name} uses {used}"


@EACH_MODULE
def test_no_shell(name: str) -> None:
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.keyword):
            assert node.arg != "shell"


@EACH_MODULE
def test_no_blanket_except(name: str) -> None:
    """Raise or handle; only what cleans up and raises again may catch everything.

    The program around Invoke looks at every exception and lets go of those it does not know.
    """
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = ast.unparse(node.type) if node.type else "everything"
        if caught in {"everything", "Exception", "BaseException"}:
            raises = [each for each in ast.walk(node) if isinstance(each, ast.Raise)]
            assert any(each.exc is None for each in raises), f"{name}, line {node.lineno}"


@EACH_MODULE
def test_modules_are_short(name: str) -> None:
    assert len(MODULES[name].read_text().splitlines()) < MOST_LINES


@EACH_MODULE
def test_modules_say_what_they_are(name: str) -> None:
    assert ast.get_docstring(ast.parse(MODULES[name].read_text()))
