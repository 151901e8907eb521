"""A job: the command that a scheduler starts, and where and as whom."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from ops.errors import UsageError
from ops.names import display
from ops.schedule.when import When


def unit_name(name: str) -> str:
    """Return what a schedule of ours is called among those of other programs."""
    return f"ciso-ops-{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is to be started. Every path is absolute, so that it runs with an empty environment.

    `arguments` begin with the program. `variables` are what of today's environment matters to it.
    `directory` is where its configuration file is found. `writes` is the one place that it
    changes, but for the directory `tells`, where it leaves metrics; `reads` are those that must be
    mounted. `system` tells whether root schedules it, for `user`; otherwise `user` does so himself.
    `on_failure` is a systemd unit, or empty.
    """

    name: str
    arguments: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()
    directory: Path
    writes: Path
    tells: Path | None = None
    reads: tuple[Path, ...] = ()
    user: str
    system: bool
    when: When
    on_failure: str = ""

    @property
    def unit(self) -> str:
        """Its name among those of other programs."""
        return unit_name(self.name)

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"Snapshot of the compliance evidence ({self.name})"


def require_plain(job: Job) -> Job:
    """Return a job that can be written down in a text file as it is.

    Raises:
        UsageError: A value holds a line break, another control character, or bytes that are no
            UTF-8; or the name of the configuration's directory cannot be written without quotes.
    """
    directory = str(job.directory)
    if "\\" in directory or directory != directory.strip():
        raise UsageError(
            f"a schedule cannot name this directory: {display(directory)}",
            hint="give the directory of the configuration file a plain name",
        )
    variables = [f"{name}={value}" for name, value in job.variables]
    places = [*job.reads, *([job.tells] if job.tells else [])]
    for value in (*job.arguments, *variables, directory, *map(str, places)):
        if display(value) != value.replace("\\", "\\\\"):
            raise UsageError(
                f"a schedule cannot hold this: {display(value)}",
                hint="control and invisible characters, and bytes that are no UTF-8, do not"
                " survive in configuration files: give the path a plain name, or a plain link",
            )
    return job


def shell_line(job: Job) -> str:
    """Return the job as one line for any POSIX shell."""
    words = list(job.arguments)
    if job.variables:
        words = ["env", *(f"{name}={value}" for name, value in job.variables), *words]
    return f"cd {shlex.quote(str(job.directory))} && {shlex.join(words)}"
