"""A job as a systemd service and its timer."""

from pathlib import Path

from ops.schedule.job import Job

_EVERYWHERE = (
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    "SystemCallArchitectures=native",
)
_CAPABILITIES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_SYS_PTRACE"
)
# These need root, or a user namespace, in which files of others have no owner: the snapshot would
# record the wrong ones. So they are for the system's own manager alone.
_SYSTEM = (
    "ProtectSystem=strict",
    "ProtectHome=read-only",
    "PrivateDevices=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "RestrictNamespaces=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
    # What it takes root to read files of others, to keep owners, and to tell who holds a lock.
    f"CapabilityBoundingSet={_CAPABILITIES}",
)
_TEMPORARY = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108 - what PrivateTmp= covers
_DELAY = "5min"
_LIMIT = "12h"


def service(job: Job) -> str:
    """Return the service: it runs once, is shut in, and fails where the command does."""
    mounts = " ".join(_word(str(path)) for path in (*job.reads, job.writes))
    lines = [
        "[Unit]",
        f"Description={_specifiers(job.title)}",
        f"RequiresMountsFor={mounts}",
        *([f"OnFailure={job.on_failure}"] if job.on_failure else []),
        "",
        "[Service]",
        "Type=oneshot",
        *([f"User={_specifiers(job.user)}"] if job.system else []),
        f"WorkingDirectory={_specifiers(str(job.directory))}",
        *(f"Environment={_word(f'{name}={value}')}" for name, value in job.variables),
        f"ExecStart={command_line(job)}",
        # A run that hangs would keep the next ones from starting, and nobody would be told.
        f"TimeoutStartSec={_LIMIT}",
        "UMask=0077",
        "Nice=10",
        "IOSchedulingClass=best-effort",
        "IOSchedulingPriority=7",
        *_EVERYWHERE,
    ]
    if job.system:
        lines += [*_SYSTEM, *_places(job)]
    return "\n".join(lines) + "\n"


def _places(job: Job) -> list[str]:
    """Return what may be written: the store, and a place for temporary files.

    That is a private one, unless source or store would be hidden by it. Where metrics go may be
    missing: that fails no backup.
    """
    told = [job.tells] if job.tells else []
    also = "".join(f" {_word(f'-{path}')}" for path in told)
    named = (*job.reads, job.writes, *told)
    used = [place for path in named for place in (path, *path.parents)]
    if any(place in used for place in _TEMPORARY):
        temporary = " ".join(map(str, _TEMPORARY))
        return [f"ReadWritePaths={_word(str(job.writes))} {temporary}{also}"]
    return ["PrivateTmp=yes", f"ReadWritePaths={_word(str(job.writes))}{also}"]


def timer(job: Job) -> str:
    """Return the timer: it makes up for a run that was missed while the machine was off."""
    delay = _DELAY if job.when.hour is not None else "0"
    lines = [
        "[Unit]",
        f"Description={_specifiers(job.title)}",
        "",
        "[Timer]",
        f"OnCalendar={job.when.calendar}",
        "Persistent=true",
        f"RandomizedDelaySec={delay}",
        "",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return "\n".join(lines) + "\n"


def command_line(job: Job) -> str:
    """Return the value of `ExecStart=`.

    The manager puts variables into arguments but not into the program's own path, so a dollar sign
    is doubled in the former only (systemd.service(5), "Command lines").
    """
    program, *rest = job.arguments
    return " ".join([_word(program), *(_word(one).replace("$", "$$") for one in rest)])


def _word(text: str) -> str:
    """Quote one word of a list (systemd.syntax(7), "Quoting")."""
    return '"' + _specifiers(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")
