"""What can come next on a command line, for the completion of shells.

A shell's script asks `ciso-ops --complete -- ciso-ops WORD…`, the last word being the one that is
completed. The answer's first line says whether paths fit there as well (`files`, `directories` or
`words`); each other line is a word, a tab and what it means.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from ops.errors import UsageError
from ops.snapshot import is_snapshot_name

if TYPE_CHECKING:
    from invoke.parser.context import ParserContext

SHELLS = ("bash", "zsh", "fish")

_DIRECTORIES = frozenset(
    {"source_attachments", "dest_attachments", "store", "older", "into", "report", "keep"}
)
_FILES = frozenset({"source_db", "dest_db", "manifest", "profile", "config", "key_file", "metrics"})
_SNAPSHOTS = frozenset({"snapshot", "remove", "accept"})
_CHOICES: Mapping[str, Sequence[tuple[str, str]]] = {
    "check": (
        ("memory", "what the kernel still has (the default)"),
        ("disk", "the disk itself"),
    ),
    "dest_in_use": (("refuse", "stop (the default)"), ("wait", "until it is free")),
    "attachments": (
        ("placeholder", "small files of the same type (the default)"),
        ("keep", "as they are"),
        ("none", "no files"),
    ),
    "profile": (
        ("ciso_assistant", "CISO Assistant (the default)"),
        ("none", "any SQLite database"),
    ),
    "kind": (
        ("systemd", "a service and a timer"),
        ("cron", "a line of a crontab"),
        ("launchd", "a property list (macOS)"),
        ("github", "a workflow of GitHub Actions"),
        ("gitlab", "a job of GitLab CI"),
    ),
    "log": (("text", "for people (the default)"), ("json", "an object on each line")),
    "at": (("hourly", "at :00"), ("daily", "at midnight"), ("03:30", "each day")),
    "print-completion-script": tuple((shell, "") for shell in SHELLS),
    "list-format": (("flat", ""), ("nested", ""), ("json", "")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What fits: words with what they mean, and which paths."""

    words: tuple[tuple[str, str], ...] = ()
    paths: str = "words"

    @property
    def text(self) -> str:
        """The answer as a shell's script reads it."""
        lines = (f"{word}\t{meaning}\n" for word, meaning in self.words)
        return f"{self.paths}\n{''.join(lines)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What was typed before the word that is completed.

    `task` is the last one named, `flag` the one whose value comes next, both empty for none;
    `used` are the flags since the task, and `values` what they were given.
    """

    task: str = ""
    flag: str = ""
    used: frozenset[str] = frozenset()
    values: Mapping[str, str]


def script_for(shell: str) -> str:
    """Return the script that a shell loads.

    Raises:
        UsageError: There is none for it.
    """
    if shell not in SHELLS:
        raise UsageError(
            f"there is no completion for {shell}", hint=f"there is for {', '.join(SHELLS)}"
        )
    return resources.files("ops.cli").joinpath(f"completions/ciso-ops.{shell}").read_text("utf-8")


def complete(
    words: Sequence[str],
    core: "ParserContext",
    tasks: "Mapping[str, ParserContext]",
    meanings: Mapping[str, str],
    store: str,
) -> Answer:
    """Tell what can come next.

    Args:
        words: All words up to the one that is completed, without the program's name. Bash gives
            `--flag=value` as three of them.
        core: The flags that come before a task.
        tasks: The flags of each task.
        meanings: The first line of each task's help.
        store: The store that the configuration names, or empty.
    """
    *before, current = words or [""]
    if current == "=":  # bash's own word
        before, current = [*before, "="], ""
    line = _read(before, core, tasks)
    context = tasks.get(line.task, core)
    if line.flag:
        return _values(line, line.flag, meanings, store)
    name, equals, _ = current.partition("=")
    if equals and name in context.flags:
        return _values(line, context.flags[name].name, meanings, store)
    if current.startswith("-") or (line.task and not current):
        helped = (("--help", "Show this help and exit."),) if line.task else ()
        return Answer(words=(*_flags(context, line.used), *helped))
    return Answer(words=() if line.task else tuple(meanings.items()))


def _read(
    words: Iterable[str], core: "ParserContext", tasks: "Mapping[str, ParserContext]"
) -> Line:
    task = flag = ""
    used: set[str] = set()
    values: dict[str, str] = {}
    for word in words:
        if word == "=":
            continue
        if flag:
            values[flag], flag = _unquoted(word), ""
        elif word.startswith("-"):
            name, equals, value = word.partition("=")
            context = tasks.get(task, core)
            context = context if name in context.flags else core
            used.add(name)
            if name not in context.flags or not context.flags[name].takes_value:
                continue
            argument = context.flags[name]
            if equals:
                values[argument.name] = _unquoted(value)
            else:
                flag = argument.name
        elif word in tasks:
            task, used, values = word, set(), {}
    return Line(task=task, flag=flag, used=frozenset(used), values=values)


def _unquoted(word: str) -> str:
    """Read a word as a shell would; fish has done so already, and an unfinished one stays."""
    try:
        parts = shlex.split(word)
    except ValueError:
        return word
    return parts[0] if len(parts) == 1 else word


def _flags(context: "ParserContext", used: frozenset[str]) -> Iterable[tuple[str, str]]:
    for name in context.flag_names():
        if name.startswith("--") and name not in used:
            yield name, context.flags[context.inverse_flags.get(name, name)].help or ""


def _values(line: Line, flag: str, meanings: Mapping[str, str], store: str) -> Answer:
    """Tell what a flag's value can be."""
    key = flag.replace("-", "_")
    if flag in {"help", "list"}:
        return Answer(words=tuple(meanings.items()))
    if key in _SNAPSHOTS:
        return Answer(words=tuple(_snapshots(line, key, store)))
    if key == "time_zone":
        from zoneinfo import available_timezones

        return Answer(words=tuple((zone, "") for zone in sorted(available_timezones())))
    paths = "directories" if key in _DIRECTORIES else "files" if key in _FILES else "words"
    return Answer(words=tuple(_CHOICES.get(key, _CHOICES.get(flag, ()))), paths=paths)


def _snapshots(line: Line, key: str, store: str) -> Iterable[tuple[str, str]]:
    """List the snapshots of the store that was named, the newest first."""
    if key == "snapshot":
        yield "latest", "the newest verified one"
        if line.task == "verify":
            yield "all", "each of them"
    place = line.values.get("store", "") or store
    try:
        names = [path.name for path in Path(place).expanduser().iterdir()] if place else []
    except (OSError, RuntimeError):
        return  # the command itself will tell
    for name in sorted(filter(is_snapshot_name, names), reverse=True):
        yield name, ""
