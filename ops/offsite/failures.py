"""What restic's exit codes and complaints mean for the operator."""

import re
import signal
from dataclasses import dataclass

from ops.errors import (
    BusyError,
    DestinationError,
    OpsError,
    SourceError,
    UsageError,
    VerificationError,
)
from ops.offsite.program import Ended, Restic, read_json, redacted

_END = re.compile(r"There were \d+ errors")
_LEFT_OUT = re.compile(r"ignoring error for|: \S")
_STOPPED = 128 + signal.SIGINT


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """One way in which restic fails: how it shows, and what to tell.

    `code` is restic's own exit code for it (since 0.17; before that nearly all are 1), 0 where it
    has none. `kind` is the class of failure, None for that of an unusable repository.
    """

    code: int = 0
    pattern: re.Pattern[str]
    kind: type[OpsError] | None = None
    said: str
    hint: str


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE)


_ABSENT = Meaning(
    code=10,
    pattern=_any_of("unable to open config file", "repository does not exist"),
    said="there is no repository yet",
    hint="`inv push --init` makes one; if there should be one, look at RESTIC_REPOSITORY",
)

_MEANINGS = (
    Meaning(
        code=11,
        pattern=_any_of("already locked"),
        kind=BusyError,
        said="another restic has locked the repository",
        hint="try again when that is done; if its process is gone, `restic unlock` removes it",
    ),
    Meaning(
        code=12,
        pattern=_any_of("wrong password", "no key found", "empty password", "password failed"),
        kind=UsageError,
        said="the password does not open the repository",
        hint="look at RESTIC_PASSWORD, RESTIC_PASSWORD_FILE or RESTIC_PASSWORD_COMMAND",
    ),
    Meaning(
        pattern=_any_of(
            "parsing repository location",
            "invalid backend",
            "mutually exclusive",
            r"^Fatal: \S+ does not exist$",
        ),
        kind=UsageError,
        said="this is no address of a repository",
        hint="look at RESTIC_REPOSITORY or RESTIC_REPOSITORY_FILE, of which there must be one",
    ),
    Meaning(
        pattern=_any_of("no space left", "quota (?:has been )?exceeded"),
        kind=DestinationError,
        said="no room for or from the repository",
        hint="make room where it says, and run again",
    ),
    Meaning(
        pattern=_any_of(
            "dial tcp",
            "connection (?:refused|reset|closed|lost|timed out)",
            "no such host",
            "could not resolve hostname",
            "i/o timeout",
            "network is unreachable",
            "no route to host",
            "TLS handshake",
            "context deadline exceeded",
            "x509: ",
        ),
        said="cannot reach the repository",
        hint="look at the network and the server, and run again",
    ),
    Meaning(
        pattern=_any_of(
            "permission denied",
            "access ?denied",
            "unauthorized",
            "forbidden",
            r"\((?:401|403)\)",
            "host key verification failed",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
        ),
        said="the repository does not let us in",
        hint="look at user, keys and rights; restic's password is another matter",
    ),
    Meaning(
        pattern=_any_of(
            "verification failed",
            "is damaged",
            "invalid data returned",
            "not found in (?:repository|index)",
            "wrong hash",
            "hash mismatch",
            "does not match",
            "invalid character",
            "StreamPack",
            "ignoring error for",
            r"there were \d+ errors",
            "truncated",
        ),
        kind=VerificationError,
        said="the repository is damaged",
        hint="`restic check --read-data` tells what is lost; keep it, and push to a new one",
    ),
    _ABSENT,
    Meaning(
        pattern=_any_of("create (?:repository|key) "),
        said="the repository cannot be made",
        hint="look at the place where it is to be",
    ),
    Meaning(
        pattern=_any_of("sftp session", "subprocess (?:ssh|rclone)"),
        said="cannot reach the repository",
        hint="try the same connection by hand: it must work without a question",
    ),
    Meaning(
        code=3,
        pattern=_any_of("source file could not be read"),
        kind=SourceError,
        said="restic could not read all of the snapshot for the repository",
        hint="`inv verify --store DIR` tells what is wrong with it; nothing was recorded",
    ),
)
"""restic's own code counts, then the first pattern that is found."""


def explain(restic: Restic, ended: Ended) -> OpsError:
    """Turn the end of a restic that failed into a failure, with the class that fits."""
    if ended.code < 0 or ended.code == _STOPPED:
        number = -ended.code if ended.code < 0 else signal.SIGINT
        return OpsError(
            f"restic was ended by {signal.Signals(number).name} before it was done",
            hint="run again; the kernel's log tells whether memory ran out",
        )
    said = _complaints(ended)
    meaning = _meaning(ended, said)
    if meaning is None:
        return OpsError(
            f"restic failed with exit code {ended.code}: {_line(said, None) or 'it says nothing'}",
            hint="its documentation is at https://restic.readthedocs.io",
        )
    kind = meaning.kind or restic.failure
    line = _line(said, meaning.pattern)
    return kind(f"{meaning.said}: {restic.location}{line and ': ' + line}", hint=meaning.hint)


def is_absent(ended: Ended) -> bool:
    """Tell whether the place could be looked at, and holds no repository."""
    return ended.code > 0 and _meaning(ended, _complaints(ended)) is _ABSENT


def left_out(ended: Ended) -> str:
    """Return what a restore complained of that came to its end all the same; empty if it did not.

    It may have left out an owner that this file system does not take, or a file that is lost.
    """
    said = _complaints(ended)
    return _line(said, _LEFT_OUT) if ended.code == 1 and any(map(_END.search, said)) else ""


def _meaning(ended: Ended, said: tuple[str, ...]) -> Meaning | None:
    text = "\n".join(said)
    by_code = (one for one in _MEANINGS if one.code and one.code == ended.code)
    by_pattern = (one for one in _MEANINGS if one.pattern.search(text))
    return next(by_code, None) or next(by_pattern, None)


def _complaints(ended: Ended) -> tuple[str, ...]:
    return tuple(redacted(_message(line)) for line in ended.complaints)


def _line(said: tuple[str, ...], pattern: re.Pattern[str] | None) -> str:
    """Return the complaint that matters most: the first that matches, else the last fatal one."""
    matching = [line for line in said if pattern is not None and pattern.search(line)]
    fatal = [line for line in said if line.startswith("Fatal: ")]
    chosen = matching[:1] or fatal[-1:] or list(said[-1:])
    return chosen[0].removeprefix("Fatal: ") if chosen else ""


def _message(line: str) -> str:
    """Return what a complaint says, also where it is a JSON message."""
    values = read_json(line.encode())
    if not isinstance(values, dict):
        return line
    error = values.get("error")
    inner = error.get("message") if isinstance(error, dict) else None
    said = values.get("message") or inner or values.get("during") or line
    item = values.get("item")
    return f"{item}: {said}" if item else str(said)
