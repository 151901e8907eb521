"""Install a schedule, or take it away: see what would change, then change that and nothing else."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ops.disk import DISK, Disk, replace_file
from ops.errors import BusyError, DestinationError, UsageError, os_failure
from ops.names import display
from ops.schedule.cron import put_block
from ops.schedule.job import unit_name
from ops.schedule.kinds import Kind, disarming, names_of

_TIMEOUT_SECONDS = 60
_NOTHING_YET = ("no crontab for", "no such file")
"""How the crontab programs say that a user has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A file, or a crontab where `path` is None, as it is and as it shall be; None is absence."""

    label: str
    path: Path | None = None
    before: bytes | None
    after: bytes | None

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return self.before != self.after

    @property
    def words(self) -> str:
        """What it is, in one word."""
        if not self.needed:
            return "unchanged"
        if self.before is None:
            return "new"
        return "removed" if self.after is None else "changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crontab:
    """The crontab of a user, through the program of that name.

    `user` is empty for whoever runs us.
    """

    user: str
    environment: Mapping[str, str]

    def read(self) -> bytes | None:
        """Return all of it; None where there is none.

        Raises:
            DestinationError: It cannot be read: then it must not be written either.
        """
        done = self._run("-l")
        if done.returncode == 0:
            return done.stdout
        said = done.stderr.decode("utf-8", "replace").strip()
        if not done.stdout and any(words in said.lower() for words in _NOTHING_YET):
            return None
        raise DestinationError(
            f"cannot read the crontab: {display(said) or f'exit code {done.returncode}'}",
            hint="try it yourself: crontab -l",
        )

    def write(self, content: bytes) -> None:
        """Replace all of it, and read it again to see.

        Raises:
            DestinationError: It was not taken.
        """
        done = self._run("-", content)
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip()
            raise DestinationError(f"crontab did not take it: {display(said)}")
        # Some put a header of their own before what they were given.
        if not (self.read() or b"").endswith(content):
            raise DestinationError(
                "the crontab is not what was written", hint="look at it: crontab -l"
            )

    def _run(self, action: str, content: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        program = shutil.which("crontab", path=self.environment.get("PATH", os.defpath))
        if program is None:
            raise UsageError(
                "there is no crontab program here", hint="install cron, or use --kind systemd"
            )
        user = ["-u", self.user] if self.user else []
        try:
            return subprocess.run(
                [program, *user, action],
                check=False,
                capture_output=True,
                input=content,
                env={**self.environment, "LC_ALL": "C"},
                timeout=_TIMEOUT_SECONDS,
            )
        except OSError as error:
            raise os_failure(DestinationError, "run", program, error) from error
        except subprocess.TimeoutExpired as error:
            raise DestinationError(f"crontab took longer than {_TIMEOUT_SECONDS} s") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a schedule of a kind and name goes: into a directory, or into a crontab.

    `usual` tells that the directory is the one that the scheduler itself reads.
    """

    kind: Kind
    name: str
    directory: Path
    crontab: Crontab
    usual: bool
    system: bool

    @property
    def unit(self) -> str:
        """The name of its files."""
        return unit_name(self.name)


def plan_changes(target: Target, texts: Sequence[str] | None) -> tuple[Change, ...]:
    """Compare what is there with what shall be; without texts nothing of it shall be.

    Raises:
        UsageError: Nothing would ever start it there, or something else stands there.
        BusyError: It is to go, and still armed.
        DestinationError: What is there cannot be read.
    """
    if target.kind is Kind.CRON:
        return (_plan_crontab(target, texts[0] if texts else ""),)
    systemd = target.kind is Kind.SYSTEMD
    if systemd and target.usual and target.system and texts is not None:
        _require_systemd(target.directory)
    if systemd and texts is None:
        _refuse_armed(target)
    names = names_of(target.kind, target.unit)
    wanted = texts if texts is not None else [None] * len(names)
    pairs = zip(names, wanted, strict=True)
    return tuple(_plan_file(target.directory / name, text) for name, text in pairs)


def _plan_crontab(target: Target, wanted: str) -> Change:
    """Compare a crontab with what it shall hold: only the block of this name is ours."""
    before = target.crontab.read()
    text = (before or b"").decode("utf-8", "surrogateescape")
    after = put_block(text, target.name, wanted).encode("utf-8", "surrogateescape")
    user = target.crontab.user
    label = f"crontab of {user}" if user else "crontab"
    return Change(label=label, before=before, after=after if after or before else before)


def _plan_file(path: Path, text: str | None) -> Change:
    """Compare a file with what it shall hold; None to have none."""
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise UsageError(
                f"this is no regular file: {display(path)}",
                hint="somebody linked or masked it: see what it is, and remove it first",
            )
        before = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise os_failure(DestinationError, "read", path, error) from error
    after = None if text is None else text.encode()
    return Change(label=display(path), path=path, before=before, after=after)


def carry_out(target: Target, changes: Sequence[Change], disk: Disk = DISK) -> None:
    """Make the changes that are needed; each file is replaced as a whole, by one rename.

    Raises:
        BusyError: Somebody changed one meanwhile; it stays as it is.
        DestinationError: One cannot be written.
    """
    for change in changes:
        if not change.needed:
            continue
        if change.path is None:
            if target.crontab.read() != change.before:
                raise _changed(change)
            target.crontab.write(change.after or b"")
        else:
            _replace(change, change.path, disk)


def _replace(change: Change, path: Path, disk: Disk) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = None if change.after is None else change.after.decode()
        if _plan_file(path, text).before != change.before:
            raise _changed(change)
        if change.after is None:
            disk.unlink(path)
        else:
            draft = f".{path.name}.ciso-ops-new"
            replace_file(path, change.after, draft=draft, mode=0o644, disk=disk)
        disk.sync(path.parent)
    except OSError as error:
        raise os_failure(DestinationError, "write", path, error) from error


def _changed(change: Change) -> BusyError:
    return BusyError(
        f"somebody changed this meanwhile: {change.label}", hint="run again to see what is there"
    )


def _refuse_armed(target: Target) -> None:
    """Refuse to take away the files of a timer that is still enabled."""
    link = target.directory / "timers.target.wants" / f"{target.unit}.timer"
    if os.path.lexists(link):
        command, _ = disarming(target.kind, target.unit, system=target.system)
        raise BusyError(f"the timer is still armed: {display(link)}", hint=f"first: {command}")


def _require_systemd(directory: Path) -> None:
    """Refuse to install where systemd would never see it (sd_booted(3))."""
    if not Path("/run/systemd/system").is_dir():
        raise UsageError(
            f"systemd does not run this machine: nothing in {display(directory)} would ever start",
            hint="use --kind cron; or --into DIR writes the files elsewhere",
        )
