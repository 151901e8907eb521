"""The metrics of runs in a file that node_exporter's textfile collector reads."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.claims import try_lock
from ops.disk import DISK, Disk, replace_file
from ops.errors import BusyError, DestinationError, UsageError, os_failure
from ops.names import display
from ops.settings import absolute_path
from ops.watch.exposition import (
    ExpositionError,
    Sample,
    is_ours,
    read_samples,
    write_samples,
)
from ops.watch.run import Ending

SUFFIX = ".prom"
_MODE = 0o644
_MOST_BYTES = 1 << 20
_WAIT_SECONDS = 10.0
_PAUSE_SECONDS = 0.05
_KEPT = "ciso_ops_last_success_"


class ForeignFileError(DestinationError):
    """A file stands there that we did not write."""


def read_place(value: str, origin: str) -> Path:
    """Read the name of the file, and look whether it may be replaced.

    Raises:
        UsageError: It is no such name, or the file is somebody else's.
    """
    path = absolute_path(value, origin)
    if path.suffix != SUFFIX:
        raise UsageError(
            f"{origin} must name a file that ends in {SUFFIX}: {display(path)}",
            hint="node_exporter reads no others in its textfile directory",
        )
    try:
        _read(path)
    except ForeignFileError as error:
        raise UsageError(error.message, hint=error.hint) from error
    except DestinationError:
        pass  # that it cannot be read is told when it is to be written: it stops no backup
    return path


def record_run(
    path: Path,
    ending: Ending,
    place: str,
    *,
    seconds: Callable[[], float],
    disk: Disk = DISK,
) -> str:
    """Write the metrics of a run into the file, among those of other tasks and places.

    Args:
        path: The file.
        ending: How the run ended.
        place: What it worked on, as a label.
        seconds: Counts them.
        disk: Makes the change.

    Returns:
        What of the file could not be read, so that it is gone; empty where all of it stays.

    Raises:
        DestinationError: It cannot be written, or is not ours.
        BusyError: Somebody kept it locked.
    """
    with _locked(path.parent, seconds):
        lost = ""
        try:
            before = read_samples(_read(path))
        except ExpositionError as error:
            before, lost = (), str(error)
        samples = renewed(before, ending, place)
        content = write_samples(samples).encode()
        replace_file(path, content, draft=f".{path.name}.new", mode=_MODE, disk=disk)
        disk.sync(path.parent)
    return lost


def renewed(before: Iterable[Sample], ending: Ending, place: str) -> tuple[Sample, ...]:
    """Return all samples after a run: its own are replaced, but for those of the last success."""
    labels = (("task", ending.task), ("place", place))
    failed = ending.failure is not None
    samples = list(before)
    own = {one.metric for one in samples if one.labels[:2] == labels}
    samples = [
        one
        for one in samples
        if one.labels[:2] != labels or (failed and one.metric.startswith(_KEPT))
    ]
    ended, figures = ending.instant.timestamp(), ending.figures

    def add(name: str, value: float | None, *more: tuple[str, str]) -> None:
        if value is not None:
            metric = f"ciso_ops_{name}"
            samples.append(Sample(metric=metric, labels=(*labels, *more), value=float(value)))

    add("last_run_timestamp_seconds", ended)
    add("last_run_exit_code", ending.exit_code)
    add("last_run_duration_seconds", round(ending.seconds, 6))
    for severity, count in figures.findings:
        add("last_run_findings", count, ("severity", severity))
    if not failed:
        add("last_success_timestamp_seconds", ended)
        add("last_success_files", figures.files)
        add("last_success_bytes", figures.bytes)
        shown = None if figures.snapshot is None else figures.snapshot.timestamp()
        add("last_success_snapshot_timestamp_seconds", shown)
    elif f"{_KEPT}timestamp_seconds" not in own:
        add("last_success_timestamp_seconds", 0)
    return tuple(samples)


def _read(path: Path) -> str:
    """Read a file of ours; empty where there is none.

    Raises:
        ForeignFileError: It is somebody else's.
        DestinationError: It cannot be read.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
            content = file.read(_MOST_BYTES) if regular else b""
    except FileNotFoundError:
        return ""
    except IsADirectoryError:
        regular, content = False, b""
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENXIO}:
            raise os_failure(DestinationError, "read", path, error) from error
        regular, content = False, b""
    text = content.decode("utf-8", "backslashreplace")
    if not regular or not is_ours(text):
        raise ForeignFileError(
            f"this is no file of metrics that ciso-ops wrote: {display(path)}",
            hint="name another file, of a name that nothing else writes",
        )
    return text


@contextmanager
def _locked(directory: Path, seconds: Callable[[], float]) -> Iterator[None]:
    """Let one run at a time change a file in a directory, by a lock on that (flock(2)).

    The file itself would not do, since it is replaced; and nothing is left behind.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise os_failure(DestinationError, "open", directory, error) from error
    try:
        deadline = seconds() + _WAIT_SECONDS
        while not try_lock(descriptor, fcntl.LOCK_EX):
            if seconds() >= deadline:
                raise BusyError(f"somebody keeps this directory locked: {display(directory)}")
            time.sleep(_PAUSE_SECONDS)
        yield
    except OSError as error:
        raise os_failure(DestinationError, "lock", directory, error) from error
    finally:
        os.close(descriptor)
