"""A repository of restic's: what of ours it holds, and the few things that are done to it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ops.errors import OpsError, VerificationError
from ops.model import Progress, ReportProgress
from ops.names import display
from ops.offsite.failures import explain, is_absent, left_out
from ops.offsite.program import Restic, read_json, run_restic
from ops.offsite.tally import Tally
from ops.snapshot import is_snapshot_name

TAG = "ciso-ops"
_AT_ONCE = 500
_SHORT = 8
_TIME = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A snapshot in a repository: restic's id, and what its tags tell.

    `store` is the number of the store that pushed it, `bag` the SHA-256 of its tag manifest, and
    so of all it holds. `replaced` is what a restore took out of its place. `directory` is where it
    lay, `host` on which machine.
    """

    id: str
    name: str
    store: str
    bag: str
    replaced: bool
    directory: str
    host: str

    @property
    def short(self) -> str:
        """The id as restic shows it."""
        return self.id[:_SHORT]


@dataclass(frozen=True, slots=True, kw_only=True)
class Complaint:
    """Something that restic could not do at a restore, and the failure if it mattered."""

    line: str
    failure: OpsError


def repository_id(restic: Restic, *, required: bool = True) -> str:
    """Return the number of a repository; empty where there need not be one, and is none.

    Raises:
        OpsError: It cannot be opened.
    """
    lines: list[bytes] = []
    ended = run_restic(restic, ["cat", "config", "--no-lock", "--json"], take=lines.append)
    if ended.code and not required and is_absent(ended):
        return ""
    if ended.code:
        raise explain(restic, ended)
    values = read_json(b"\n".join(lines))
    found = values.get("id") if isinstance(values, dict) else None
    if not isinstance(found, str):
        raise _not_understood("cat config")
    return found


def make_repository(restic: Restic) -> str:
    """Make a repository, and return its number.

    Raises:
        OpsError: It cannot be made.
    """
    _do(restic, ["init"])
    return repository_id(restic)


def list_copies(restic: Restic) -> tuple[Copy, ...]:
    """List the snapshots of ours in a repository, the oldest first.

    Raises:
        OpsError: It cannot be read.
    """
    lines: list[bytes] = []
    _do(restic, ["snapshots", "--no-lock", "--json", "--tag", TAG], lines)
    listed = read_json(b"\n".join(lines))
    if not isinstance(listed, list):
        raise _not_understood("snapshots")
    found = [copy for values in listed if (copy := _read_copy(values)) is not None]
    return tuple(sorted(found, key=lambda copy: copy.name))


def _read_copy(values: Any) -> Copy | None:
    """Read what restic tells of a snapshot; None for one that is not ours."""
    tags = dict(tag.partition("=")[::2] for tag in values.get("tags") or ())
    name = tags.get("snapshot", "")
    if not is_snapshot_name(name):
        return None
    return Copy(
        id=str(values["id"]),
        name=name,
        store=tags.get("store", ""),
        bag=tags.get("bag", ""),
        replaced="replaced" in tags,
        directory=str((values.get("paths") or [""])[0]),
        host=str(values.get("hostname", "")),
    )


def list_contents(restic: Restic, copy: str) -> Tally:
    """Add up what a snapshot in a repository holds, by its id.

    Raises:
        OpsError: It cannot be read, or is not there.
    """
    tally = Tally()

    def take(line: bytes) -> None:
        values = read_json(line)
        if isinstance(values, dict) and "path" in values and "name" in values:
            is_file = values.get("type") == "file"
            tally.add(str(values["path"]), int(values.get("size", 0)) if is_file else None)

    ended = run_restic(restic, ["ls", "--no-lock", "--json", copy], take=take)
    if ended.code:
        raise explain(restic, ended)
    return tally


def back_up(
    restic: Restic,
    directory: Path,
    *,
    instant: datetime,
    tags: Iterable[str],
    parent: str,
    keep: tuple[int, ...],
    progress: ReportProgress,
) -> str:
    """Have restic take in a directory; only what it confirms with a number is there.

    Args:
        restic: The program.
        directory: What to take in; its own name does not matter.
        instant: What it is to be listed under.
        tags: What is to be told of it.
        parent: The number of an earlier one: a file that has its inode, size and mtime is not read
            again. Empty to read all.
        keep: Descriptors that it inherits.
        progress: Called as the work goes on.

    Returns:
        The number, as far as restic tells it.

    Raises:
        OpsError: It failed.
    """
    arguments = ["backup", "--json", "--time", instant.astimezone(UTC).strftime(_TIME)]
    for tag in tags:
        arguments += ["--tag", tag]
    # A snapshot that shares a file changes its ctime, and nothing else of it.
    arguments += ["--parent", parent, "--ignore-ctime"] if parent else ["--force"]
    told: list[str] = []

    def take(line: bytes) -> None:
        values = read_json(line)
        if not isinstance(values, dict):
            return
        if values.get("message_type") == "summary":
            told.append(str(values.get("snapshot_id", "")))
        elif values.get("message_type") == "status":
            progress(_status("push", values, "bytes_done", "files_done"))

    ended = run_restic(
        restic,
        [*arguments, "."],
        take=take,
        retrying=_retrying(progress),
        directory=directory,
        keep=keep,
    )
    if ended.code:
        failure = explain(restic, ended)
        if told and told[0]:
            withdraw(restic, told[0], failure)
        raise failure
    if not told or not told[0]:
        raise _not_understood("backup")
    return told[0]


def withdraw(restic: Restic, copy: str, failure: OpsError) -> None:
    """Forget what restic took in although something was missing; a failure to do so is noted."""
    try:
        _do(restic, ["forget", copy])
    except OpsError as error:
        failure.add_note(f"restic has kept an incomplete copy, {copy}: {error.message}")


def restore(
    restic: Restic,
    copy: str,
    directory: Path,
    *,
    keep: tuple[int, ...],
    progress: ReportProgress,
) -> Complaint | None:
    """Have restic put a snapshot's entries into a directory.

    Returns:
        What it complained of, where it came to its end all the same. Whether that was the owner of
        a file, or its content, what came back tells.

    Raises:
        OpsError: It failed.
    """
    progress(Progress(step="pull"))

    def take(line: bytes) -> None:
        values = read_json(line)  # since 0.17 it tells how far it is
        if isinstance(values, dict) and values.get("message_type") == "status":
            progress(_status("pull", values, "bytes_restored", "files_restored"))

    arguments = ["restore", "--json", copy, "--target", str(directory)]
    ended = run_restic(restic, arguments, take=take, retrying=_retrying(progress), keep=keep)
    if not ended.code:
        return None
    failure, line = explain(restic, ended), left_out(ended)
    if not line:
        raise failure
    return Complaint(line=line, failure=failure)


def forget(restic: Restic, copies: Sequence[str]) -> None:
    """Take snapshots off the list of a repository; their content stays until it is reclaimed.

    Raises:
        OpsError: It failed.
    """
    for begin in range(0, len(copies), _AT_ONCE):
        _do(restic, ["forget", *copies[begin : begin + _AT_ONCE]])


def reclaim(restic: Restic, *, progress: ReportProgress) -> None:
    """Free the room of what no snapshot needs any more.

    Raises:
        OpsError: It failed.
    """
    progress(Progress(step="free room off-site"))
    _do(restic, ["prune"])


def _do(restic: Restic, arguments: list[str], lines: list[bytes] | None = None) -> None:
    """Run restic to a good end, and keep what it says.

    Raises:
        OpsError: It failed.
    """
    said: list[bytes] = [] if lines is None else lines
    ended = run_restic(restic, arguments, take=said.append)
    if ended.code:
        raise explain(restic, ended)


def _status(step: str, values: dict[str, Any], done: str, files: str) -> Progress:
    return Progress(
        step=step,
        bytes_done=int(values.get(done, 0)),
        bytes_total=int(values.get("total_bytes", 0)),
        files_done=int(values.get(files, 0)),
        files_total=int(values.get("total_files", 0)),
    )


def _retrying(progress: ReportProgress) -> Callable[[], None]:
    return lambda: progress(Progress(step="restic tries again to reach the repository"))


def _not_understood(command: str) -> VerificationError:
    return VerificationError(
        f"restic ended well, but did not confirm it: {display(command)} said nothing known",
        hint="look at `restic version`; nothing was recorded as pushed",
    )
