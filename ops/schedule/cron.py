"""A job as a line of a crontab, in a block that is ours."""

from ops.errors import UsageError
from ops.schedule.job import Job, shell_line

_MOST_CHARACTERS = 998
"""The longest line that the cron of Debian and its relatives takes (1,000 with its ends)."""


def cron_line(job: Job) -> str:
    r"""Return the line. Cron itself makes a line break of a bare percent sign (crontab(5)).

    Raises:
        UsageError: It holds a backslash, of which each cron makes something else, or is too long.
    """
    command = shell_line(job)
    if "\\" in command:
        raise UsageError(
            f"cron cannot be relied on for a backslash: {command}",
            hint="give the path a plain name, or a plain link; --kind systemd takes it",
        )
    line = f"{job.when.cron} {command.replace('%', chr(92) + '%')}"
    if len(line.encode()) > _MOST_CHARACTERS:
        raise UsageError(
            f"the line is longer than the {_MOST_CHARACTERS} bytes that cron takes",
            hint="put the paths and rules into a configuration file (section ops)",
        )
    return line


def block(job: Job) -> str:
    """Return the line between its marks."""
    first, last = _marks(job.name)
    return f"{first}\n{cron_line(job)}\n{last}\n"


def put_block(crontab: str, name: str, wanted: str) -> str:
    """Return a crontab with the block of this name as wanted; every other line stays as it is.

    Args:
        crontab: All of it.
        name: The job's.
        wanted: The block; empty to have none.

    Raises:
        UsageError: There is a beginning without an end, or more than one block.
    """
    first, last = _marks(name)
    lines = crontab.splitlines(keepends=True)
    begins = [number for number, line in enumerate(lines) if line.rstrip("\r\n") == first]
    ends = [number for number, line in enumerate(lines) if line.rstrip("\r\n") == last]
    if not begins and not ends:
        gap = "\n" if wanted and crontab and not crontab.endswith("\n") else ""
        return crontab + gap + wanted
    if len(begins) != 1 or len(ends) != 1 or begins[0] > ends[0]:
        raise UsageError(
            f"the crontab has marks of ciso-ops {name} that do not pair",
            hint="put them right by hand (crontab -e): one BEGIN line before one END line",
        )
    return "".join([*lines[: begins[0]], wanted, *lines[ends[0] + 1 :]])


def _marks(name: str) -> tuple[str, str]:
    return f"# BEGIN ciso-ops {name}", f"# END ciso-ops {name}"
