"""The collection of tasks, and the program around it that the installed command runs."""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from invoke.collection import Collection
from invoke.config import Config
from invoke.exceptions import AmbiguousEnvVar, Exit, UncastableEnvVar
from invoke.program import Program
from invoke.util import helpline

from ops import __version__
from ops.cli import (
    adopting,
    aging,
    offsite,
    packing,
    restoring,
    scheduling,
    snapshots,
    staging,
    tasks,
)
from ops.cli.console import print_failure
from ops.cli.voice import speaking
from ops.cli.watching import unwatched
from ops.errors import OpsError, UsageError
from ops.settings import DEFAULTS

namespace = Collection(
    *(tasks.clone, tasks.verify, tasks.recover, tasks.status, tasks.demo),
    *(snapshots.backup_daily, snapshots.snapshots, snapshots.prune),
    *(restoring.restore, restoring.drill, adopting.adopt),
    *(staging.staging_refresh, staging.staging_rules),
    *(offsite.push, offsite.pull, offsite.offsite_status),
    *(scheduling.schedule, aging.check_age),
    *(packing.pack, packing.unpack),
)
namespace.configure({"ops": dict(DEFAULTS)})


def configuration_failure(error: BaseException) -> OpsError | None:
    """Explain an exception that Invoke raised over its configuration; None if it is another."""
    hint = "Invoke reads /etc/invoke.yaml, ~/.invoke.yaml, invoke.yaml here and INVOKE_… variables"
    kind = type(error)
    if kind.__module__.startswith(("yaml", "invoke.vendor.yaml")):
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        name = getattr(mark, "name", "a configuration file")
        problem = getattr(error, "problem", None) or str(error)
        return UsageError(f"broken configuration: {name}{where}: {problem}", hint=hint)
    if kind.__name__ == "AmbiguousMergeError":
        return UsageError(f"broken configuration: {error}", hint=f"ops is a section; {hint}")
    if isinstance(error, AmbiguousEnvVar | UncastableEnvVar):
        return UsageError(f"broken configuration: {error}", hint=hint)
    if _raised_by_configuration(error):
        said = str(error) or kind.__name__
        return UsageError(f"broken configuration: {said}", hint=f"each file is a mapping; {hint}")
    return None


def _raised_by_configuration(error: BaseException) -> bool:
    """Tell whether an exception came out of Invoke's reading of files and variables.

    What it raises there is whatever came up: a file may be no mapping, no text, or not readable.
    """
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") in {"invoke.config", "invoke.env"}:
            return True
        traceback = traceback.tb_next
    return False


def explain_broken_configuration() -> None:
    """Have `inv` tell a broken configuration in one line, with exit code 2, from now on."""
    usual = sys.excepthook

    def explain(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        failure = configuration_failure(error)
        if failure is None:
            usual(kind, error, traceback)
            return
        _stop(failure)

    sys.excepthook = explain


def _stop(failure: OpsError) -> NoReturn:
    with speaking(unwatched("").voice):
        print_failure(failure)
    raise SystemExit(failure.exit_code)


class OpsProgram(Program):
    """Invoke's program with our tasks built in, and a word for a broken configuration."""

    def parse_collection(self) -> None:
        """Read the configuration file here too, as `inv` does beside its tasks.py."""
        super().parse_collection()
        self.config.set_project_location(str(Path.cwd()))
        self.config.load_project()
        if self.args.complete.value:
            self._complete()

    def parse_core_args(self) -> None:
        """Print our own completion scripts: Invoke's complete no values, and no paths in fish."""
        super().parse_core_args()
        shell = self.args["print-completion-script"].value
        if shell:
            from ops.cli.completion import script_for

            sys.stdout.write(script_for(shell))
            raise Exit

    def print_help(self) -> None:
        """Print Invoke's help, and how to have the shell complete all of it."""
        super().print_help()
        print("Tab completion:\n")  # noqa: T201 - as Invoke prints the rest
        print('  eval "$(ciso-ops --print-completion-script bash)"   or zsh, fish\n')  # noqa: T201

    def _complete(self) -> NoReturn:
        """Answer a shell that asks what can come next."""
        from ops.cli.completion import complete

        argv = list(self.argv)
        words = argv[argv.index("--") + 2 :] if "--" in argv else []
        contexts = self.collection.to_contexts(ignore_unknown_help=None)
        section = self.config.get("ops", {})
        answer = complete(
            words,
            self.initial_context,
            {str(context.name): context for context in contexts},
            {name: helpline(task) or "" for name, task in sorted(self.collection.tasks.items())},
            str(section.get("store") or "") if isinstance(section, Mapping) else "",
        )
        sys.stdout.write(answer.text)
        raise Exit

    def run(self, argv: list[str] | None = None, exit: bool = True) -> None:  # noqa: A002 - Invoke's name
        """Run as `Program.run` does."""
        try:
            super().run(argv, exit=exit)
        except OpsError as refusal:
            _stop(refusal)
        except Exception as error:
            failure = configuration_failure(error)
            if failure is None:
                raise
            _stop(failure)


program = OpsProgram(
    name="ciso-ops",
    binary="ciso-ops",
    namespace=namespace,
    version=__version__,
    config_class=Config,
)
