"""Every way a run can fail, each with the exit code that scripts rely on."""

import errno
import os
import signal

from ops.model import Finding
from ops.names import AnyPath, display

_HINTS = {
    errno.EACCES: "run as the owner of the path, or as root",
    errno.EPERM: "run as the owner of the path, or as root",
    errno.EROFS: "the file system is mounted read-only: choose another place",
    errno.ENOSPC: "free some space or inodes, or choose another file system",
    errno.EDQUOT: "the disk quota is used up: free some space, or choose another file system",
    errno.EIO: "the disk reports an error: look at the kernel log before anything else",
    errno.ENAMETOOLONG: "the file system does not take names this long: choose another one",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


class OpsError(Exception):
    """A failure the operator can act on: what is wrong and where, then what to do next.

    Args:
        message: One line that names the path and the cause.
        hint: What to do next, one line; empty when there is nothing to add.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(OpsError):
    """The flags or the configuration are wrong, or nobody is there to answer the question."""

    exit_code = 2


class SourceError(OpsError):
    """The source cannot be used as it is."""

    exit_code = 3


class DamagedError(SourceError):
    """The file is there and can be read, but it is no sound database."""


class DestinationError(OpsError):
    """The destination cannot be written as asked."""

    exit_code = 4


class UnfinishedSwapError(DestinationError):
    """A swap is half done and can neither be completed nor undone without help."""


class VerificationError(OpsError):
    """A check failed: do not trust this copy.

    Args:
        message: As for every failure.
        hint: As for every failure.
        findings: All that was found, for the report.
    """

    exit_code = 5

    def __init__(self, message: str, *, hint: str = "", findings: tuple[Finding, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.findings = findings


class BusyError(OpsError):
    """Somebody else holds a lock: try again later."""

    exit_code = 6


class HookError(OpsError):
    """A hook failed; the run itself may have gone well."""

    exit_code = 7


class InterruptedRunError(OpsError):
    """A signal stopped the run; its exit code is 128 plus the signal's number.

    Args:
        number: The signal that arrived, for example `signal.SIGTERM`.
    """

    exit_code = 128 + signal.SIGINT

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


def failure_for(error: BaseException) -> OpsError:
    """Return the failure that stands for an exception, which is itself where it is one of ours."""
    if isinstance(error, OpsError):
        return error
    if isinstance(error, KeyboardInterrupt):
        failure: OpsError = InterruptedRunError(signal.SIGINT)
    elif isinstance(error, BrokenPipeError):
        failure = OpsError("standard output was closed before the result was written")
    else:
        failure = OpsError(
            f"unexpected: {type(error).__name__}: {error}",
            hint="run again with --debug, and report what it prints",
        )
    failure.__cause__ = error
    for note in getattr(error, "__notes__", ()):
        failure.add_note(note)
    return failure


def missing_extra(what: str, extra: str) -> UsageError:
    """Return the failure for a library that only some of the work takes, to be raised from it.

    Args:
        what: The work and the library, for example "packing takes zstd".
        extra: The extra of this package that brings it.
    """
    return UsageError(
        f"{what}, which is not installed here",
        hint="in the checkout, where .venv is the environment: "
        f"python3 -m pip --python .venv/bin/python install -e '.[{extra}]'",
    )


def os_failure(kind: type[OpsError], action: str, path: AnyPath, error: OSError) -> OpsError:
    """Turn an operating system error into a failure that names the path and the cause.

    Args:
        kind: The class of failure, which decides the exit code.
        action: What was tried, as it stands after "cannot", for example "read".
        path: What it was tried on.
        error: The error itself.

    Returns:
        The failure, to be raised with `from error`.
    """
    cause = error.strerror or str(error)
    return kind(f"cannot {action} {display(path)}: {cause}", hint=_HINTS.get(error.errno or 0, ""))


def reach_failure(
    kind: type[OpsError], action: str, path: AnyPath, error: OSError | RuntimeError
) -> OpsError:
    """Do the same for what `Path.resolve` raises: a loop of links is a `RuntimeError` before 3.13.

    Returns:
        The failure, to be raised with `from error`.
    """
    if isinstance(error, RuntimeError):
        error = OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return os_failure(kind, action, path, error)
