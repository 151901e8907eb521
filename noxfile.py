# /// script
# dependencies = ["nox>=2025.5.1"]
# ///
"""Development of the project: `nox` runs everything a change must pass."""

import os
import shutil
import subprocess
import sys

import nox

nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"

PYPROJECT = nox.project.load_toml("pyproject.toml")
VERSIONS = nox.project.python_versions(PYPROJECT)
CURRENT = f"{sys.version_info.major}.{sys.version_info.minor}"

PROCESSES = min((os.cpu_count() or 1) + 1, 5)
PARALLEL = (f"--numprocesses={PROCESSES}", "--dist=worksteal")
"""Run tests in one process more than there are cores, for many wait for the disk or a time limit;
`-- -n0` runs them one after the other."""


def works(version: str) -> bool:
    """Tell whether an interpreter of this version is found and starts.

    A version manager's shim is on the path also where its version is not active.
    """
    interpreter = shutil.which(f"python{version}")
    if interpreter is None:
        return False
    question = "import sqlite3, sys; print(*sys.version_info[:2], sep='.')"
    answer = subprocess.run(
        [interpreter, "-c", question], check=False, capture_output=True, text=True
    )
    return answer.stdout.strip() == version


FOUND = [version for version in VERSIONS if version == CURRENT or works(version)]
"""The versions to test with. One asked for by name (`nox -s tests-3.14`) must be there."""


def install(session: nox.Session, *groups: str) -> None:
    """Install the project, editable, with some of its dependency groups."""
    session.install("-e", ".", *nox.project.dependency_groups(PYPROJECT, *groups))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with Ruff."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy --strict, tests and this file included."""
    install(session, "types")
    session.run("mypy")


@nox.session(python=FOUND)
def tests(session: nox.Session) -> None:
    """Run the tests with one version of Python; on the current one, measure coverage."""
    absent = [version for version in VERSIONS if version not in FOUND]
    if absent:
        session.warn(f"not found here, so not tested: Python {', '.join(absent)}")
    install(session, "tests", "coverage")
    if session.python != CURRENT:
        session.run("pytest", *PARALLEL, *session.posargs)
        return
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *PARALLEL, *session.posargs)
    session.notify("coverage")


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """Report branch coverage of the last run of the tests; it must hold its floor."""
    session.install(*nox.project.dependency_groups(PYPROJECT, "coverage"))
    session.run("coverage", "combine")
    partial = [] if complete() else ["--fail-under=0"]
    session.run("coverage", "report", *partial)
    for reason in missing():
        session.warn(f"coverage is not judged here: {reason}")


@nox.session
def faults(session: nox.Session) -> None:
    """Break runs for real, at their system calls; `nox -s faults -- full` at every one of them."""
    install(session, "tests")
    full = "full" in session.posargs
    arguments = [argument for argument in session.posargs if argument != "full"]
    parallel = () if full else PARALLEL  # the tables of a full run are printed as they come
    session.run(
        *("pytest", *parallel, "tests/faults", *arguments),
        env={"OPS_FAULTS": "full" if full else "quick"},
    )


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Run the property tests with many more examples; takes a long time."""
    install(session, "tests")
    session.run("pytest", *PARALLEL, *session.posargs, env={"HYPOTHESIS_PROFILE": "soak"})


@nox.session(default=False)
def real(session: nox.Session) -> None:
    """Run what starts an init system, a cron or a server of its own; takes root for most of it."""
    install(session, "tests")
    files = ("test_schedule_real", "test_scheduling_page", "test_offsite_docs")
    names = [f"tests/{name}.py" for name in files]
    session.run("pytest", *PARALLEL, *names, *session.posargs, env={"CISO_OPS_REAL": "1"})


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure us and the peers in turn (`-- --help`); `-- durability` what flushing costs."""
    install(session, "tests")
    module, arguments = "tests.bench", session.posargs
    if arguments[:1] == ["durability"]:
        module, arguments = "tests.bench.durability", arguments[1:]
    # When it is interrupted it has gigabytes to remove, and needs time for that.
    session.run("python", "-m", module, *arguments, interrupt_timeout=None)


def missing() -> list[str]:
    """Say why some tests skip on this machine, so that coverage cannot be complete."""
    reasons: list[str] = []
    if sys.platform != "linux":
        reasons.append("not Linux")
    elif os.geteuid() != 0:
        reasons.append("not root, so nothing can be mounted and nobody else can be")
    elif not all(map(shutil.which, ("strace", "chattr", "mount", "mkfs.xfs"))):
        reasons.append("strace, chattr, mount or mkfs.xfs is not installed")
    if not all(map(shutil.which, ("restic", "openssl"))):
        reasons.append("restic or openssl is not installed, so nothing is pushed off-site")
    return reasons


def complete() -> bool:
    """Tell whether every test can run on this machine."""
    return not missing()
