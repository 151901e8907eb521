"""The text format of Prometheus: writing our metrics, and reading back what we wrote.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

MARKER = "# Written by ciso-ops, which replaces this file as a whole."
"""The first line, by which a file is known to be ours; scrapers take it for a comment."""

METRICS = {
    "ciso_ops_last_run_timestamp_seconds": "When the last run ended.",
    "ciso_ops_last_run_exit_code": "The exit code of the last run.",
    "ciso_ops_last_run_duration_seconds": "How long the last run took.",
    "ciso_ops_last_run_findings": "What the last run found, by severity.",
    "ciso_ops_last_success_timestamp_seconds": "When the last run that succeeded ended; 0: none.",
    "ciso_ops_last_success_files": "The files that it copied or checked.",
    "ciso_ops_last_success_bytes": "The bytes that it copied or checked.",
    "ciso_ops_last_success_snapshot_timestamp_seconds": (
        "The instant that the snapshot shows with which it worked."
    ),
}
"""Each metric and its help, in the order of the file."""

_SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z]+="(?:[^"\\\n]|\\[\\"n])*",?)*)\} (\S+)')
_LABEL = re.compile(r'([a-z]+)="((?:[^"\\\n]|\\[\\"n])*)"')
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


class ExpositionError(ValueError):
    """A text that we did not write; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value of a metric, with its labels in order."""

    metric: str
    labels: tuple[tuple[str, str], ...]
    value: float


def write_samples(samples: Iterable[Sample]) -> str:
    """Return the text of a file; samples of one metric stand together, as the format wants."""
    listed = list(samples)
    lines = [MARKER]
    for metric, meaning in METRICS.items():
        some = [sample for sample in listed if sample.metric == metric]
        if some:
            lines += [f"# HELP {metric} {meaning}", f"# TYPE {metric} gauge"]
            lines += map(_line, some)
    return "\n".join(lines) + "\n"


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escape(value)}"' for name, value in sample.labels)
    return f"{sample.metric}{{{labels}}} {sample.value!r}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def is_ours(text: str) -> bool:
    """Tell whether we wrote a text, whatever became of it since; an empty one is nobody's."""
    return not text or text.startswith(MARKER + "\n")


def read_samples(text: str) -> tuple[Sample, ...]:
    """Read what `write_samples` wrote.

    Raises:
        ExpositionError: It is something else.
    """
    if not text:
        return ()
    first, *lines = text.removesuffix("\n").split("\n")
    if first != MARKER:
        raise ExpositionError("line 1: not the mark of a file of ours")
    known = {f"# HELP {metric} {meaning}" for metric, meaning in METRICS.items()}
    known |= {f"# TYPE {metric} gauge" for metric in METRICS}
    found = []
    for number, line in enumerate(lines, start=2):
        if line not in known:
            found.append(_read(line, number))
    return tuple(found)


def _read(line: str, number: int) -> Sample:
    matched = _SAMPLE.fullmatch(line)
    if matched is None or matched[1] not in METRICS:
        raise ExpositionError(f"line {number}: not a sample of ours")
    labels = tuple(
        (name, re.sub(r"\\.", lambda escape: _ESCAPES[escape[0]], value))
        for name, value in _LABEL.findall(matched[2])
    )
    try:
        value = float(matched[3])
    except ValueError as error:
        raise ExpositionError(f"line {number}: not a number") from error
    if not math.isfinite(value):
        raise ExpositionError(f"line {number}: not a number")
    return Sample(metric=matched[1], labels=labels, value=value)
