"""Break a clone at one system call, and judge what is there afterwards, independently of `ops`."""

import errno
import hashlib
import json
import os
import queue
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ops.demo_instance import build_instance, connect, insert_evidence
from ops.model import Instance
from tests.command import ROOT, from_flags, to_flags
from tests.filesystem import footprint, read

Item = TypeVar("Item")
Made = TypeVar("Made")

SECONDS = 30.0
"""The most that one run may take; it takes a twentieth of a second."""

_REST_SECONDS = 0.2
"""What was just written is read again and again until a tick of the clock has gone by."""

WORKERS = 2
SOURCE_FAILED, DESTINATION_FAILED = 3, 4
JOURNAL = "journal"
"""The name of the file, in a workspace, that says that a swap has begun."""

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
OPENING = frozenset({"open", "openat", "openat2", "creat"})
FLUSHING = frozenset({"fsync", "fdatasync", "syncfs", "sync"})
REMOVING = frozenset({"unlink", "unlinkat", "rmdir", "chmod", "fchmodat", "rename", "renameat2"})
CLEARING = REMOVING | OPENING | FLUSHING
"""Calls without which nothing that was made can be removed again."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What is done to a run: which call is hit (from 1 on), with what, and for how long.

    `span` is "once", "call" for every later call of the same name too, or "all" for every later
    modifying call. With `of` "worker", only the calls of workers are counted. A signal is sent to
    the "main" process, or, as the `victim`, to the "caller".
    """

    action: str = "none"
    at: int = 0
    number: int = 0
    span: str = "once"
    of: str = "any"
    victim: str = "main"

    @property
    def kind(self) -> str:
        """What the table calls it."""
        if self.action == "signal":
            name = signal.Signals(self.number).name
            return f"{name} to a worker" if self.victim == "caller" else name
        if self.action == "error":
            spans = {"once": "once", "call": "for good", "all": "everywhere, for good"}
            return f"{errno.errorcode[self.number]} {spans[self.span]}"
        return self.action

    @property
    def kills(self) -> bool:
        """Whether the run had no chance to say or to clean anything."""
        return self.kills_one and self.victim == "main"

    @property
    def kills_one(self) -> bool:
        """Whether any process is killed."""
        return self.action == "signal" and self.number == signal.SIGKILL


CLEAN = Fault()


def killed(at: int) -> Fault:
    """Kill the run before a call."""
    return Fault(action="signal", at=at, number=signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a run did: its exit code, the modifying calls it made, which ones were hit, its words.

    A call is its name and the paths it names. `by_workers` are the numbers of those that its
    workers made; it is `alone` if none of them outlived it.
    """

    code: int
    in_time: bool
    alone: bool
    calls: tuple[tuple[str, ...], ...]
    by_workers: tuple[int, ...]
    hits: tuple[int, ...]
    out: str
    err: str

    @property
    def hit(self) -> tuple[str, ...]:
        """The first call that was hit, or nothing."""
        return self.calls[self.hits[0] - 1] if self.hits else ()


class Zygote:
    """A process that runs the program in its children; see `tests.faults.zygote`."""

    def __init__(self) -> None:
        environment = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.zygote"],
            cwd=ROOT,
            env={**environment, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.package = Path(self._read()["ops"])

    def run(
        self,
        arguments: Sequence[str | Path],
        *,
        site: "Site",
        watched: Iterable[Path] = (),
        fault: Fault = CLEAN,
        free: bool = False,
    ) -> Answer:
        """Run the program once, its calls below the watched directories numbered from 1.

        Args:
            arguments: Command and flags.
            site: Where it runs.
            watched: Directories.
            fault: What is to happen to it.
            free: Nothing is watched at all, which is quicker.
        """
        job = {
            "arguments": ["ciso-ops", *map(str, arguments)],
            "environment": {"TMPDIR": str(site.temporary), "HOME": str(site.home)},
            "directory": str(site.home),
            "out": str(site.out),
            "err": str(site.err),
            "roots": [str(path) for path in watched],
            "action": "free" if free else fault.action,
            "at": fault.at,
            "number": int(fault.number),
            "span": fault.span,
            "of": fault.of,
            "victim": fault.victim,
            "seconds": SECONDS,
        }
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        return Answer(
            code=answer["code"],
            in_time=answer["in_time"],
            alone=answer["alone"],
            calls=tuple(tuple(call) for call in answer["calls"]),
            by_workers=tuple(answer["by_workers"]),
            hits=tuple(answer["hits"]),
            out=site.out.read_text(errors="replace"),
            err=site.err.read_text(errors="replace"),
        )

    def close(self) -> None:
        """End the process."""
        self._process.communicate(timeout=SECONDS)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that runs the program has gone"
        document: dict[str, Any] = json.loads(line)
        return document


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where one run takes place: its own directories, on one or two file systems."""

    directory: Path
    pair: Instance
    manifest: Path | None
    roots: tuple[Path, ...]

    @property
    def home(self) -> Path:
        """The working directory, which is also the home."""
        return self.directory / "home"

    @property
    def temporary(self) -> Path:
        """Where temporary files go."""
        return self.directory / "tmp"

    @property
    def out(self) -> Path:
        """Standard output."""
        return self.directory / "home" / "out"

    @property
    def err(self) -> Path:
        """Standard error."""
        return self.directory / "home" / "err"

    def listing(self) -> frozenset[str]:
        """Name everything at the destination and in TMPDIR, but for what is in the attachments."""
        names: set[str] = set()
        probes = re.compile(re.escape(str(self.temporary)) + r"/(?!ciso-ops-)[^/]+")
        for root in (*self.roots, self.temporary):
            for parent, directories, files in os.walk(root):
                names.update(os.path.join(parent, name) for name in (*directories, *files))
                if Path(parent) == self.pair.attachments.parent:
                    directories[:] = set(directories) - {self.pair.attachments.name}
        # Python's `tempfile` tries TMPDIR out with a file, which is not ours.
        return frozenset(name for name in names if not probes.fullmatch(name))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A kind of destination: what stands there, on which file systems, and with what record."""

    name: str
    apart: bool = False  # the two halves have directories of their own
    manifest: bool = False
    occupied: bool = True
    wal: bool = False  # the old application crashed, and left its WAL
    live: bool = False  # the source's application is running
    jobs: str = ""  # so many processes do the work


@dataclass(frozen=True, kw_only=True)
class State:
    """What each part of a destination is: "old", "new", "absent" or something else in words."""

    database: str
    attachments: str
    manifest: str
    journal: bool

    @property
    def name(self) -> str:
        """The verdict: OLD, NEW, UNFINISHED (a journal says how to go on) or BROKEN."""
        parts = {self.database, self.attachments, self.manifest} - {""}
        if parts <= {"old"}:
            return "OLD"
        if parts <= {"new"}:
            return "NEW"
        if self.journal and parts <= {"old", "new", "absent"}:
            return "UNFINISHED"
        return "BROKEN"


class Scenario:
    """A source and a kind of destination, and what the two look like before and after."""

    def __init__(
        self, shape: Shape, source: Instance, directory: Path, zygote: Zygote, other: Path | None
    ) -> None:
        """Make the old pair, and learn from a run without faults what the new one looks like.

        Args:
            shape: The kind of destination.
            source: What is cloned.
            directory: A new directory for everything.
            zygote: What runs the program.
            other: A directory on another file system, for the attachments.
        """
        self.shape = shape
        self.source = source
        self.directory = directory
        self.other = other
        self._numbers = iter(range(1_000_000))
        self._lock = threading.Lock()
        directory.mkdir()
        self._template = self._make_template(zygote) if shape.occupied else None
        self.before = footprint(source.database.parent, ctime=not shape.live)
        site = self.place()
        self.old = self._look(site)
        self.old_listing = site.listing()
        self.old_rows = _rows(site.pair.database) if shape.occupied else None
        answer = self.clone(zygote, site)
        assert answer.code == 0, answer.err
        self.calls = answer.calls
        self.by_workers = len(answer.by_workers)
        self.names = tuple(self.name_of(call, site) for call in answer.calls)
        self.new = self._look(site)
        self.new_listing = site.listing()
        self._check_new(site)
        self.remove(site)

    @property
    def publishing(self) -> int:
        """The number of the first call of the publishing: the first rename."""
        return next(at for at, name in enumerate(self.names, 1) if name.startswith("rename"))

    @property
    def committed(self) -> range:
        """The numbers of the calls before each of which a journal is there."""
        journal = [at for at, name in enumerate(self.names, 1) if name.endswith(f"/{JOURNAL}")]
        return range(journal[0] + 1, journal[-1] + 1)

    def _make_template(self, zygote: Zygote) -> Site:
        """Make the old pair as a clone of another instance, so that its record exists too."""
        earlier = build_instance(self.directory / "earlier", evidences=2, seed=2)
        (earlier.attachments / "folder").mkdir()
        (earlier.attachments / "folder" / "kept.txt").write_text("kept")
        site = self._new_site()
        answer = self.clone(zygote, site, source=earlier)
        assert answer.code == 0, answer.err
        if self.shape.wal:
            _leave_wal(site.pair)
        return site

    def _new_site(self) -> Site:
        with self._lock:
            number = next(self._numbers)
        directory = self.directory / f"{number}"
        elsewhere = (self.other or directory) / (f"{number}" if self.other else "elsewhere")
        halves = directory / "pair"
        apart = self.shape.apart or self.other is not None
        files = elsewhere if apart else halves
        if not self.shape.occupied:
            files = files / "a" / "b"  # directories that do not exist yet
        site = Site(
            directory=directory,
            pair=Instance(database=halves / "db.sqlite3", attachments=files / "attachments"),
            manifest=directory / "record" / "manifest.jsonl" if self.shape.manifest else None,
            roots=tuple(
                path
                for path, used in (
                    (halves, True),
                    (elsewhere, apart),
                    (directory / "record", self.shape.manifest),
                )
                if used
            ),
        )
        for path in (*site.roots, site.home, site.temporary):
            path.mkdir(parents=True)
        return site

    def place(self) -> Site:
        """Put the old pair at a new destination."""
        site = self._new_site()
        if self._template is not None:
            for theirs, ours in zip(self._template.roots, site.roots, strict=True):
                shutil.copytree(theirs, ours, symlinks=True, dirs_exist_ok=True)
        return site

    def remove(self, site: Site) -> None:
        """Delete a site, which must not hold anything immovable."""
        for path in (*site.roots, site.directory):
            shutil.rmtree(path, ignore_errors=True)

    def clone(
        self,
        zygote: Zygote,
        site: Site,
        fault: Fault = CLEAN,
        *,
        source: Instance | None = None,
        free: bool = False,
    ) -> Answer:
        """Run a clone of the source."""
        record = () if site.manifest is None else ("--manifest", site.manifest)
        # What mends the damage does so by itself, which is quicker.
        jobs = ("--jobs", self.shape.jobs) if self.shape.jobs and not free else ()
        flags = (*from_flags(source or self.source), *to_flags(site.pair), *record, *jobs)
        watched = (*site.roots, site.temporary, self.source.database.parent)
        return zygote.run(
            ("clone", "--force", *flags), site=site, watched=watched, fault=fault, free=free
        )

    def recover(
        self, zygote: Zygote, site: Site, fault: Fault = CLEAN, *flags: str, free: bool = False
    ) -> Answer:
        """Run the command that finishes what a killed run left."""
        watched = (*site.roots, site.temporary, self.source.database.parent)
        arguments = ("recover", *to_flags(site.pair), *flags)
        return zygote.run(arguments, site=site, watched=watched, fault=fault, free=free)

    def state(self, site: Site) -> State:
        """Judge what stands at a destination."""
        now = self._look(site)
        parts = {}
        for part in ("database", "attachments", "manifest"):
            value, old, new = now[part], self.old[part], self.new[part]
            if value == new:
                parts[part] = "new"
            elif value == old or (part == "database" and self._is_merged(site, value)):
                parts[part] = "old"
            else:
                parts[part] = "absent" if value is None else f"neither old nor new: {value!r}"
        journals = [name for name in site.listing() if os.path.basename(name) == JOURNAL]
        return State(
            database=parts["database"],
            attachments=parts["attachments"],
            manifest=parts["manifest"] if site.manifest is not None else "",
            journal=any("/.ciso-ops-" in name for name in journals),
        )

    def _is_merged(self, site: Site, value: object) -> bool:
        """Tell whether the old database is there with its WAL merged into it, or half of it."""
        return bool(value) and self.shape.wal and _rows(site.pair.database) == self.old_rows

    def strays(self, site: Site, state: State) -> frozenset[str]:
        """Name what does not belong at a destination that is in a state."""
        expected = set(self._relocated(self.old_listing | self.new_listing, site))
        if state.name == "OLD":
            expected = set(self._relocated(self.old_listing, site))
            if self.shape.wal:
                base = str(site.pair.database)
                expected |= {base + suffix for suffix in ("-wal", "-shm", "-journal")}
        if state.name == "NEW":
            expected = set(self._relocated(self.new_listing, site))
        return frozenset(site.listing() - expected)

    def source_changed(self) -> bool:
        """Tell whether anything of the source is not as it was."""
        return footprint(self.source.database.parent, ctime=not self.shape.live) != self.before

    def name_of(self, call: tuple[str, ...], site: Site) -> str:
        """Name a call so that it has the same name in every run."""
        words = []
        for word in call:
            text = word.replace(str(site.directory), "")
            if self.other is not None:
                text = text.replace(f"{self.other}/{site.directory.name}", "/other")
            text = text.replace(str(self.source.database.parent), "/source")
            text = re.sub(r"ciso-ops-[^/.]+", "ciso-ops-*", text)
            words.append(re.sub(r"^(/tmp)/(?!ciso-ops-)[^/]+$", r"\1/*", text))
        return " ".join(words)

    def _relocated(self, listing: Iterable[str], site: Site) -> Iterator[str]:
        for name in listing:
            for theirs, ours in self._pairs_of_roots(name, site):
                if Path(name).is_relative_to(theirs):
                    yield str(ours / Path(name).relative_to(theirs))

    def _pairs_of_roots(self, name: str, site: Site) -> Iterator[tuple[Path, Path]]:
        # A listing was made at another site: its number is the part of the path that differs.
        for base in filter(None, (self.directory, self.other)):
            if Path(name).is_relative_to(base):
                number = Path(name).relative_to(base).parts[0]
                yield base / number, base / site.directory.name

    def _look(self, site: Site) -> dict[str, object]:
        return {
            "database": _database(site.pair.database),
            "attachments": _tree(site.pair.attachments),
            "manifest": None if site.manifest is None else _record(site.manifest),
        }

    def _check_new(self, site: Site) -> None:
        """Check that the clone without faults is the source, by means of our own."""
        assert self.new["attachments"] == _tree(self.source.attachments)
        assert _rows(site.pair.database) == _rows(self.source.database)
        status, original = site.pair.database.stat(), self.source.database.stat()
        assert stat.S_IMODE(status.st_mode) == stat.S_IMODE(original.st_mode)
        assert site.manifest is None or self.new["manifest"] is not None
        assert self.old != self.new
        assert not self.source_changed()
        names = {name for name in self.new_listing if "ciso-ops-" in name}
        assert not names, names


def _database(path: Path) -> object:
    """Describe a database file and its sidecars; None where nothing is."""
    parts: list[object] = []
    for suffix in ("", "-wal", "-journal"):
        name = Path(f"{path}{suffix}")
        if not os.path.lexists(name):
            parts.append(None)
            continue
        status = name.lstat()
        content = bytearray(name.read_bytes()) if stat.S_ISREG(status.st_mode) else bytearray()
        for first, last in ((24, 28), (40, 44), (92, 100)) if not suffix else ():
            content[first:last] = bytes(last - first)  # change counters differ between clones
        mtime = status.st_mtime_ns
        parts.append(
            (hashlib.sha256(content).hexdigest(), status.st_mode, status.st_uid, status.st_gid)
        )
        parts.append(mtime)
    if parts == [None, None, None]:
        return None
    return tuple(parts)


def _tree(path: Path) -> object:
    if not os.path.lexists(path):
        return None
    return tuple(sorted(read(path).items()))


def _record(path: Path) -> object:
    """Read a manifest, but for when it was taken; None where nothing is."""
    try:
        *lines, last = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return None
    except ValueError:
        return "empty"
    if hashlib.sha256(b"".join(lines)).hexdigest().encode() not in last:
        return "not whole"
    what = re.sub(rb'"captured": ?"[^"]*"', b"", b"".join(lines))
    return hashlib.sha256(what).hexdigest(), stat.S_IMODE(path.stat().st_mode)


def _rows(database: Path) -> object:
    """Read all that SQLite finds in a copy of a database and its sidecars."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "copy"
        for suffix in ("", "-wal", "-journal"):
            if os.path.lexists(f"{database}{suffix}"):
                shutil.copy(f"{database}{suffix}", f"{copy}{suffix}")
        connection = sqlite3.connect(copy)
        try:
            connection.execute("PRAGMA synchronous = OFF")
            return tuple(connection.iterdump())
        except sqlite3.Error as error:
            return str(error)
        finally:
            connection.close()


def _leave_wal(pair: Instance) -> None:
    """Commit to a database, and leave what is committed in its WAL as a crash does."""
    connection = connect(pair.database)
    try:
        insert_evidence(connection, pair.attachments, "late.txt", b"late")
        for suffix in ("", "-wal"):
            shutil.copy2(f"{pair.database}{suffix}", f"{pair.database}{suffix}.kept")
    finally:
        connection.close()
    for suffix in ("", "-wal"):
        os.replace(f"{pair.database}{suffix}.kept", f"{pair.database}{suffix}")


def make_source(directory: Path) -> Instance:
    """Make the source of all: a few evidences, a directory, both kinds of links, an attribute."""
    source = build_instance(directory, evidences=3, seed=1)
    folder = source.attachments / "folder"
    folder.mkdir()
    (folder / "note.txt").write_text("note")
    (source.attachments / "link").symlink_to("folder/note.txt")
    os.link(folder / "note.txt", source.attachments / "hard link")
    (source.attachments / "empty").mkdir(mode=0o700)
    with suppress(OSError):  # not every file system has attributes
        os.setxattr(folder / "note.txt", "user.origin", b"scanner")
    time.sleep(_REST_SECONDS)
    return source


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run to be broken: where, how, and by what the damage is mended afterwards."""

    scenario: Scenario
    fault: Fault
    heal: str = "clone"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of a case: the state, and everything that ought not to be."""

    case: Case
    state: str
    call: str
    left_over: bool
    faults: tuple[str, ...]
    answer: Answer

    @property
    def keys(self) -> tuple[str, ...]:
        """Each thing that is wrong, with the call and the error line, to be recognised."""
        lines = [line for line in self.answer.err.splitlines() if line.startswith("error: ")]
        return tuple(f"{fault} | {self.call} | {''.join(lines)}" for fault in self.faults)

    def __str__(self) -> str:
        """Tell what is wrong, with what the run said."""
        fault = self.case.fault
        said = "\n      ".join(self.answer.err.splitlines()[-6:])
        return (
            f"[{self.case.scenario.shape.name}] {fault.kind} at {fault.at}: {self.call} -> "
            f"{self.answer.code}, {self.state}, mended by {self.case.heal}:\n    "
            + "\n    ".join(self.faults)
            + f"\n      {said}"
        )


def strike(case: Case, zygote: Zygote) -> Verdict | None:
    """Break one run and judge what it leaves; None when the call never came."""
    scenario, fault = case.scenario, case.fault
    site = scenario.place()
    answer = scenario.clone(zygote, site, fault)
    if not answer.hits:
        assert answer.code == 0, answer.err
        scenario.remove(site)
        return None
    state = scenario.state(site)
    strays = scenario.strays(site, state)
    wrong = [
        *_judge_state(state, answer, fault),
        *_judge_words(state, answer, fault, source=scenario.source.database),
        *_judge_strays(state, strays, answer, fault),
        *_judge_calls(answer, scenario),
    ]
    if scenario.source_changed():
        wrong.append("the source was changed")
    wrong += mend(scenario, site, zygote, state, how=case.heal)
    call = scenario.name_of(answer.hit, site)
    if not wrong:
        scenario.remove(site)
    return Verdict(
        case=case,
        state=state.name,
        call=call,
        left_over=bool(strays),
        faults=tuple(wrong),
        answer=answer,
    )


@dataclass(frozen=True, kw_only=True)
class Relapse:
    """A clone that is killed, and then the run that mends it is broken too.

    `mender` is "recover" or "clone".
    """

    scenario: Scenario
    killed_at: int
    fault: Fault
    mender: str = "recover"


def relapse(case: Relapse, zygote: Zygote) -> Verdict | None:
    """Kill a clone, break what mends it, and judge what is there; None if the call never came."""
    scenario, fault = case.scenario, case.fault
    site = scenario.place()
    scenario.clone(zygote, site, killed(case.killed_at))
    before = scenario.state(site)
    run = scenario.recover if case.mender == "recover" else scenario.clone
    answer = run(zygote, site, fault)
    if not answer.hits:
        assert answer.code == 0, answer.err
        scenario.remove(site)
        return None
    state = scenario.state(site)
    strays = scenario.strays(site, state)
    wrong = [
        *_judge_words(state, answer, fault, source=scenario.source.database, before=before.name),
        *_judge_calls(answer, scenario),
    ]
    allowed = {"OLD": {"OLD"}, "NEW": {"NEW"}, "UNFINISHED": {"UNFINISHED", "NEW"}}
    if case.mender == "clone":  # it replaces what it has mended
        allowed["OLD"] = {"OLD", "NEW", "UNFINISHED"}
        allowed["NEW"] = {"NEW", "UNFINISHED"}
    if state.name not in allowed[before.name]:
        wrong.append(f"from {before} to {state}")
    unmended = _left_to_recover(strays, site) if case.mender == "recover" else _left(strays, site)
    if answer.code == 0 and (state.name == "UNFINISHED" or unmended):
        wrong.append(f"exit code 0, and not all is mended: {state}, {sorted(strays)}")
    wrong += mend(scenario, site, zygote, state, how="recover")
    call = scenario.name_of(answer.hit, site)
    if not wrong:
        scenario.remove(site)
    return Verdict(
        case=Case(scenario=scenario, fault=fault, heal=f"{case.mender} after {case.killed_at}"),
        state=state.name,
        call=call,
        left_over=bool(strays),
        faults=tuple(wrong),
        answer=answer,
    )


def _judge_state(state: State, answer: Answer, fault: Fault) -> Iterator[str]:
    if not answer.in_time:
        yield "the run did not end"
    if not answer.alone:
        yield "a worker outlived the run"
    if state.name == "BROKEN":
        yield f"the destination is broken: {state}"
    if answer.code == 0 and state.name != "NEW":
        yield f"exit code 0, but the destination is not the new pair: {state}"
    if state.name == "UNFINISHED" and not fault.kills and fault.span == "once":
        yield f"half of a swap, though it could have been undone: {state}"
    if answer.code == 0 and fault.action == "error" and _is_unflushed(answer):
        yield "exit code 0, although the disk did not take it"


def _is_unflushed(answer: Answer) -> bool:
    """Tell whether a flush was refused, and not asked for again.

    SQLite, which alone says fdatasync, does not mind when the directory is not flushed.
    """
    name, *paths = answer.hit
    later = answer.calls[answer.hits[0] :]
    return name in FLUSHING and not (name == "fdatasync" and ("fsync", *paths) in later)


def _judge_words(
    state: State, answer: Answer, fault: Fault, *, source: Path, before: str = "OLD"
) -> Iterator[str]:
    if fault.kills:
        if answer.code != -signal.SIGKILL:
            yield f"killed, but it ended with {answer.code}"
        return
    lines = [line for line in answer.err.splitlines() if line.startswith("error: ")]
    if "Traceback" in answer.err + answer.out:
        yield "a traceback"
    if len(lines) != (answer.code != 0):
        yield f"{len(lines)} error lines with exit code {answer.code}"
    elif lines:
        yield from _judge_line(lines[0], answer, fault, source=source)
    if "nothing was published" in answer.err and state.name != before:
        yield f"it says that nothing was published, but: {state}"
    if state.name == "UNFINISHED" and before == "OLD" and "inv recover" not in answer.err:
        yield "half of a swap, and it does not say what to do"


def _judge_line(line: str, answer: Answer, fault: Fault, *, source: Path) -> Iterator[str]:
    if fault.kills_one:
        if (answer.code, line) != (1, "error: a worker process ended (killed by SIGKILL)"):
            yield f"exit code {answer.code} for a worker that was killed"
        return
    if fault.action == "signal":
        name = signal.Signals(fault.number).name
        if (answer.code, line) != (128 + fault.number, f"error: stopped by {name}"):
            yield f"exit code {answer.code} for {name}"
        return
    struck = [answer.calls[at - 1] for at in answer.hits]
    of_source = {call[-1].startswith(str(source)) for call in struck}
    if answer.code not in {SOURCE_FAILED if one else DESTINATION_FAILED for one in of_source}:
        yield f"exit code {answer.code} for an error of the other disk"
    if " /" not in line:
        yield "the error line names no path"


def _judge_strays(
    state: State, strays: frozenset[str], answer: Answer, fault: Fault
) -> Iterator[str]:
    if fault.kills:
        odd = [name for name in strays if "ciso-ops-" not in name]
        odd = [name for name in odd if not name.endswith(("/a", "/a/b"))]  # new parents
        if odd:
            yield f"left over, and not under a name of its own: {sorted(odd)}"
        return
    tops = {re.sub(r"(/\.?ciso-ops-[^/]*).*", r"\1", name) for name in strays}
    if state.name == "UNFINISHED":  # the next run finishes the swap with what is in the spaces
        tops = {name for name in tops if "/.ciso-ops-" not in name}
    if not tops:
        return
    hit = {answer.calls[number - 1][0] for number in answer.hits}
    if answer.code == 0:
        yield f"exit code 0, and left over: {sorted(tops)}"
    elif fault.action != "error" or not hit & CLEARING:
        yield f"left over: {sorted(tops)}"
    elif not any(name in answer.err for name in tops):
        yield f"left over without a word: {sorted(tops)}"


def _judge_calls(answer: Answer, scenario: Scenario) -> Iterator[str]:
    base = str(scenario.source.database.parent)
    sidecars = tuple(f"{scenario.source.database}{suffix}" for suffix in ("-wal", "-shm"))
    for call in answer.calls:
        if not any(word == base or word.startswith(base + "/") for word in call[1:]):
            continue
        # SQLite opens a WAL for writing also where it only reads, and gives it to its owner.
        usual = call[0] in {"openat", "fchown"} and call[1].startswith(sidecars)
        if not (usual and scenario.shape.live):
            yield f"a modifying call on the source: {call}"


def mend(
    scenario: Scenario, site: Site, zygote: Zygote, before: State, *, how: str
) -> Iterator[str]:
    """Have the damage mended, and tell what is not as promised afterwards."""
    if before.name == "BROKEN":
        return
    if how == "recover":
        listing = site.listing()
        tried = scenario.recover(zygote, site, CLEAN, "--dry-run", free=True)
        if tried.code != 0 or site.listing() != listing or scenario.state(site) != before:
            yield f"recover --dry-run: {tried.code}, {scenario.state(site)}: {tried.err}"
        answer = scenario.recover(zygote, site, free=True)
        state = scenario.state(site)
        expected = "NEW" if before.name == "UNFINISHED" else before.name
        if (answer.code, state.name) != (0, expected):
            yield f"after recover: {answer.code}, {state}: {answer.err[-500:]}"
        left = _left_to_recover(scenario.strays(site, state), site)
        if left:
            yield f"left over after recover: {left}"
    answer = scenario.clone(zygote, site, free=True)
    state = scenario.state(site)
    if (answer.code, state.name) != (0, "NEW"):
        yield f"after another clone: {answer.code}, {state}: {answer.err[-500:]}"
    left = _left(scenario.strays(site, state), site)
    if left:
        yield f"left over after another clone: {left}"
    if scenario.source_changed():
        yield "the source was changed by mending"


def _left(strays: Iterable[str], site: Site) -> list[str]:
    """Leave out the new parents of a destination: nobody can tell that a killed run made them."""
    parents = {*site.pair.attachments.parents, *site.pair.database.parents}
    return sorted(name for name in strays if Path(name) not in parents)


def _left_to_recover(strays: Iterable[str], site: Site) -> list[str]:
    """Leave out what only the next clone can find in TMPDIR: it goes by the source's name."""
    return [name for name in _left(strays, site) if not Path(name).is_relative_to(site.temporary)]


@dataclass
class Tally:
    """Counts for the table at the end, by scenario and kind of fault."""

    counts: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    covered: dict[str, set[str]] = field(default_factory=dict)
    known: dict[str, set[str]] = field(default_factory=dict)

    def add(self, name: str, verdict: Verdict) -> None:
        """Count a case."""
        counter = self.counts.setdefault((name, verdict.case.fault.kind), Counter())
        counter["cases"] += 1
        counter[verdict.state] += 1
        counter["left over"] += verdict.left_over and not verdict.case.fault.kills
        counter["wrong"] += bool(verdict.faults)
        self.covered.setdefault(name, set()).add(verdict.call)

    def table(self) -> str:
        """Draw the table."""
        columns = ("cases", "OLD", "NEW", "UNFINISHED", "BROKEN", "left over", "wrong")
        kinds: dict[str, Counter[str]] = {}
        for (_, kind), counter in self.counts.items():
            kinds.setdefault(kind, Counter()).update(counter)
        width = max(map(len, kinds), default=0)
        lines = [" ".join((" " * width, *(f"{name:>10}" for name in columns)))]
        for kind, counter in (*kinds.items(), ("in all", sum(kinds.values(), Counter()))):
            figures = (f"{counter[name]:>10}" for name in columns)
            lines.append(" ".join((f"{kind:<{width}}", *figures)))
        for name, known in self.known.items():
            covered = self.covered.get(name, set())
            lines.append(f"{name}: {len(covered & known)} of {len(known)} different calls were hit")
        return "\n".join(lines)


def in_parallel(
    items: Iterable[Item], work: Callable[[Item, Zygote], Made], zygotes: Sequence[Zygote]
) -> list[Made]:
    """Do work on items, one at a time for each zygote; the first exception ends it all."""
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    made: list[Made] = []
    failures: list[BaseException] = []

    def serve(zygote: Zygote) -> None:
        while not failures:
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                made.append(work(item, zygote))
            except BaseException as failure:  # noqa: BLE001 - handed to the caller's thread
                failures.append(failure)

    threads = [threading.Thread(target=serve, args=(zygote,)) for zygote in zygotes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return made


@contextmanager
def started_zygotes(number: int = WORKERS) -> Iterator[list[Zygote]]:
    """Start processes that run the program, and end them."""
    zygotes = [Zygote() for _ in range(number)]
    try:
        yield zygotes
    finally:
        for zygote in zygotes:
            zygote.close()
