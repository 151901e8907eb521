"""File systems whose power can be cut, runs that die at a call, and a judge independent of `ops`.

A file system in a file is shut down by an ioctl(2), which drops what is not on its disk yet, and is
mounted again, which replays its journal: what is there then is what a power cut leaves.
"""

import fcntl
import hashlib
import importlib
import os
import pkgutil
import re
import select
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

import pytest

import ops
from ops.cli.program import program
from ops.demo_instance import build_instance, connect, insert_evidence
from ops.model import Instance
from tests.command import from_flags, to_flags
from tests.filesystem import footprint, read

SECONDS = 60.0
"""The most that one run may take; it takes a fraction of one."""

_LOOK_SECONDS = 0.002
_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN of <linux/fs.h>
_SIDECARS = ("-wal", "-shm", "-journal")

OLD, NEW, ABSENT = "old", "new", "absent"


class Cut(IntEnum):
    """What a file system still does with what its journal has in memory only."""

    KEEPS_JOURNAL = 1  # writes it out, but not the files' contents
    LOSES_JOURNAL = 2


LOSES, KEEPS = Cut.LOSES_JOURNAL, Cut.KEEPS_JOURNAL

_MAKE = {
    # Nothing is left for a kernel thread to initialise, and times have nanoseconds.
    "ext4": "-q -F -I 256 -N 4096 -E lazy_itable_init=0,lazy_journal_init=0",
    "xfs": "-q -f",
}
_SIZE = {"ext4": 96 << 20, "xfs": 320 << 20}
_ROOM = 256 << 20
"""What the images take of it, with their copies; they are mostly holes."""

_MOUNT = {
    # The journal is written when asked for, and a rename does not wait for what is renamed.
    "ext4": "loop,noauto_da_alloc,commit=300",
    "xfs": "loop",
}


def require_tools(kinds: Sequence[str]) -> None:
    """Skip where no file system can be made, mounted, or a run be traced."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("takes root and Linux, to cut the power of a file system")
    for tool in ("mount", "umount", "strace", "cp", *(f"mkfs.{kind}" for kind in kinds)):
        if shutil.which(tool) is None:
            pytest.skip(f"takes {tool}, to cut the power of a file system")


def _call(*command: str | Path) -> None:
    done = subprocess.run(command, check=False, capture_output=True, timeout=SECONDS)
    assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')}"


@dataclass
class Volume:
    """A file system in a file, mounted or not."""

    kind: str
    image: Path
    point: Path

    def make(self) -> None:
        """Create it, empty; skip where such a one cannot be mounted or shut down."""
        with self.image.open("wb") as file:
            file.truncate(_SIZE[self.kind])
        _call(f"mkfs.{self.kind}", *_MAKE[self.kind].split(), self.image)
        self.point.mkdir()
        try:
            self.mount()
        except AssertionError as error:
            pytest.skip(f"no {self.kind} can be mounted here: {error}")
        try:
            self.shut_down(LOSES)
        except OSError as error:
            pytest.skip(f"{self.kind} cannot be shut down here: {error}")
        self.unmount()

    def mount(self) -> None:
        """Mount it, which replays its journal."""
        _call("mount", "-t", self.kind, "-o", _MOUNT[self.kind], self.image, self.point)

    def unmount(self) -> None:
        """Take it off, if it is mounted; the loop device goes with it."""
        for _ in range(50):
            if not self._is_mounted():
                return
            umount = shutil.which("umount") or "umount"
            done = subprocess.run([umount, self.point], check=False, capture_output=True)
            if done.returncode:  # somebody may just be looking at it
                time.sleep(0.1)
        _call("umount", "--lazy", self.point)
        pytest.fail(f"{self.point} stayed in use")

    def _is_mounted(self) -> bool:
        """Look at the list: one that is shut down may not say anything itself."""
        mounted = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
        return str(self.point) in {line.split()[1] for line in mounted}

    def shut_down(self, cut: Cut) -> None:
        """Drop what is not on its disk; every later call on it fails."""
        descriptor = os.open(self.point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", cut))
        finally:
            os.close(descriptor)

    def store(self, name: str) -> None:
        """Keep a copy of what is on its disk."""
        self._copy(self.image, self.image.with_suffix(f".{name}"))

    def fetch(self, name: str) -> None:
        """Put back what was kept."""
        self._copy(self.image.with_suffix(f".{name}"), self.image)

    @staticmethod
    def _copy(source: Path, target: Path) -> None:
        _call("cp", "--sparse=always", "--reflink=auto", source, target)


@dataclass(frozen=True, kw_only=True)
class Call:
    """A system call of a run: the n-th of its name that names a path, and what it says.

    Others vary from run to run: those that look through /proc, or tell the progress.
    """

    name: str
    path: str
    number: int
    words: str = ""

    def __str__(self) -> str:
        """Say which."""
        return f"{self.name} {self.words}"


CHANGING = (
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,symlink,symlinkat,mkdir,mkdirat,rmdir,"
    "mknod,mknodat,fsync,fdatasync,syncfs,open,openat,creat,write,pwrite64,writev,pwritev,"
    "sendfile,copy_file_range,fallocate,ftruncate,truncate,chmod,fchmod,fchmodat,chown,fchown,"
    "lchown,fchownat,utimensat,setxattr,lsetxattr,fsetxattr"
)
_LINE = re.compile(r"\d+ +(\w+)\((.*)\) += ")
_PATH = re.compile(r"[\"<](/[^\">]*)[\">]")
_OPENS = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a run did."""

    code: int
    err: str
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, kw_only=True)
class State:
    """What each half of a pair is (old, new, absent, or else in words), and if there is a journal.

    Of a destination where nothing was, absent is old.
    """

    database: str
    attachments: str
    journal: bool

    @property
    def name(self) -> str:
        """The verdict."""
        parts = {self.database, self.attachments}
        if not parts <= {OLD, NEW, ABSENT} or (len(parts) > 1 and not self.journal):
            return "BROKEN"
        if parts == {ABSENT}:
            return "BROKEN"
        return "UNFINISHED" if self.journal else self.end

    @property
    def end(self) -> str:
        """What recovery has to make of it: a swap of which nothing is in place is dropped."""
        return "OLD" if self.database == self.attachments == OLD else "NEW"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """On which file systems the halves lie, and what stands there before.

    `before` is a pair, a pair with the WAL of an application that crashed, or nothing.
    """

    database: str
    attachments: str = ""
    before: str = "pair"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the file systems; one where both halves share it."""
        return (self.database, *filter(None, [self.attachments]))

    def __str__(self) -> str:
        """Name it for the table."""
        return f"{'+'.join(self.kinds)}, {self.before}"


@dataclass
class Known:
    """What the two generations look like."""

    old_rows: object = None
    old_tree: object = None
    new_bytes: str = ""
    new_tree: object = None


class Machine:
    """A source, and a destination on file systems whose power can be cut."""

    def __init__(self, layout: Layout, source: Instance, directory: Path, images: Path) -> None:
        self.layout = layout
        self.source = source
        self.directory = directory
        self.volumes = [
            Volume(kind, images / f"{index}.image", directory / f"volume{index}")
            for index, kind in enumerate(layout.kinds)
        ]
        self.pair = Instance(
            database=self.volumes[0].point / "data" / "db.sqlite3",
            attachments=self.volumes[-1].point / "data" / "attachments",
        )
        self.known = Known()
        self.calls: tuple[Call, ...] = ()
        for path in (self.temporary, self.home):
            path.mkdir(parents=True)

    @property
    def publishing(self) -> int:
        """The index of the first rename, with which publishing begins."""
        names = [call.name for call in self.calls]
        return next(index for index, name in enumerate(names) if name.startswith("rename"))

    @property
    def committed(self) -> range:
        """The indices of the calls before each of which there is a journal."""
        words = [call.words for call in self.calls]
        journal = [index for index, one in enumerate(words) if '/journal"' in one]
        return range(journal[0] + 1, journal[-1] + 1)

    @property
    def temporary(self) -> Path:
        """Where temporary files of a run go, which is not on one of the file systems."""
        return self.directory / "tmp"

    @property
    def home(self) -> Path:
        """The working directory of a run."""
        return self.directory / "home"

    def prepare(self, old: Instance | None, *, traced: bool) -> None:
        """Make the file systems with the old pair, and learn from a run without faults."""
        for volume in self.volumes:
            volume.make()
            volume.mount()
        if old is not None:
            self._put(old)
        self.unmount()
        for volume in self.volumes:
            volume.store("old")
            volume.mount()
        if old is not None:
            self.known.old_rows = _rows(self.pair.database, self.temporary)
            self.known.old_tree = read(self.pair.attachments)
            assert isinstance(self.known.old_rows, tuple), self.known.old_rows
        self.footprint = footprint(self.source.database.parent)
        answer = self.clone(traced=traced)
        assert answer.code == 0, (answer.code, answer.err)
        self.calls = answer.calls
        self.known.new_bytes = _digest(self.pair.database)
        self.known.new_tree = read(self.pair.attachments)
        assert self.known.new_tree == read(self.source.attachments)
        rows = [_rows(one, self.temporary) for one in (self.pair.database, self.source.database)]
        assert rows[0] == rows[1]
        assert self.known.new_tree != self.known.old_tree
        assert self.state().name == "NEW"
        assert self.strays() == []
        self.unmount()

    def _put(self, old: Instance) -> None:
        for path in (self.pair.database.parent, self.pair.attachments.parent):
            path.mkdir(exist_ok=True)
        shutil.copytree(old.attachments, self.pair.attachments, symlinks=True)
        shutil.copy2(old.database, self.pair.database)
        if self.layout.before == "wal":
            _leave_wal(self.pair)

    def start(self, name: str = "old") -> None:
        """Mount what was stored, by default the old pair."""
        self.unmount()
        for volume in self.volumes:
            volume.fetch(name)
            volume.mount()
        for path in self.temporary.iterdir():
            shutil.rmtree(path)

    def unmount(self) -> None:
        """Take all off."""
        for volume in self.volumes:
            volume.unmount()

    def cut(self, *cuts: Cut, store: str = "") -> None:
        """Cut the power of all at once, and mount them again."""
        for volume, cut in zip(self.volumes, cuts * 2, strict=False):
            volume.shut_down(cut)
        self.unmount()
        for volume in self.volumes:
            if store:
                volume.store(store)
            volume.mount()

    def clone(
        self, call: Call | None = None, *, traced: bool = False, unflushed: bool = False
    ) -> Answer:
        """Clone the source; killed at a call, with its calls listed, or without any flush."""
        flags = (*from_flags(self.source), *to_flags(self.pair))
        return self.run(("clone", "--force", *flags), call=call, traced=traced, unflushed=unflushed)

    def recover(self, call: Call | None = None, *, traced: bool = False) -> Answer:
        """Finish what a killed run left."""
        return self.run(("recover", *to_flags(self.pair)), call=call, traced=traced)

    def run(
        self,
        arguments: Sequence[str | Path],
        *,
        call: Call | None = None,
        traced: bool = False,
        unflushed: bool = False,
    ) -> Answer:
        """Run the program in a child of this process, which has imported it already."""
        log = self.directory / "log"
        options: list[str] = []
        if call is not None:
            # A signal comes before the call is made, and this one ends all.
            options = ["-e", f"inject={call.name}:signal=KILL:when={call.number}"]
            options += ["-e", f"trace={call.name}", "-P", call.path]
        elif unflushed:
            options = ["-e", "inject=fsync,fdatasync,syncfs:retval=0"]
            options += ["-e", "trace=fsync,fdatasync,syncfs"]
        elif traced:
            options = ["-y", "-e", f"trace={CHANGING}"]
        gate, opener = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(opener)
            _be_the_program(["ciso-ops", *map(str, arguments)], gate, self)
        os.close(gate)
        tracer: subprocess.Popen[bytes] | None = None
        try:
            if options:
                command = ["strace", "-f", "-qq", "-o", str(log), *options, "-p", str(child)]
                tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
                _await_tracer(child, tracer)
            os.write(opener, b"!")
            status = _await_end(child)
        finally:
            os.close(opener)  # a child that still waits for it ends
            if tracer is not None:
                tracer.communicate(timeout=SECONDS)
        return Answer(
            code=os.waitstatus_to_exitcode(status),
            err=(self.home / "err").read_text(errors="replace"),
            calls=tuple(self._changing(log.read_text(errors="replace"))) if traced else (),
        )

    def _changing(self, log: str) -> Iterator[Call]:
        """List the calls that change one of the file systems."""
        counts: Counter[tuple[str, str]] = Counter()
        points = tuple(str(volume.point) for volume in self.volumes)
        for line in log.splitlines():
            match = _LINE.match(line)
            if match is None:
                continue
            name, words = match.groups()
            paths = [_unescape(one) for one in dict.fromkeys(_PATH.findall(words))]
            counts.update((name, path) for path in paths)
            reads = name in {"open", "openat"} and not _OPENS.search(words)
            ours = [path for path in paths if path.startswith(points)]
            if ours and not reads:
                words = re.sub(r"\.ciso-ops-[0-9a-f]+", "SPACE", words)
                words = words.replace(f"{self.directory}/", "")
                yield Call(name=name, path=ours[0], number=counts[name, ours[0]], words=words)

    def state(self) -> State:
        """Judge what stands at the destination."""
        journals = [
            path for path in self._private() if os.path.lexists(path / "journal") and path.is_dir()
        ]
        return State(
            database=self._database(), attachments=self._attachments(), journal=bool(journals)
        )

    def _database(self) -> str:
        database, known = self.pair.database, self.known
        sidecars = [one for one in _SIDECARS if os.path.lexists(f"{database}{one}")]
        if not os.path.lexists(database):
            if sidecars:
                return f"absent, but not its {sidecars}"
            return OLD if known.old_rows is None else ABSENT
        if _digest(database) == known.new_bytes:
            return f"new, with {sidecars}" if sidecars else NEW
        rows = _rows(database, self.temporary)
        if known.old_rows is not None and rows == known.old_rows:
            return OLD
        return f"{database.stat().st_size} bytes, neither old nor new: {str(rows)[:200]}"

    def _attachments(self) -> str:
        if not os.path.lexists(self.pair.attachments):
            return OLD if self.known.old_tree is None else ABSENT
        tree = read(self.pair.attachments)
        for generation, known in ((OLD, self.known.old_tree), (NEW, self.known.new_tree)):
            if tree == known:
                return generation
        return f"{len(tree)} entries, neither old nor new"

    def _private(self) -> list[Path]:
        parents = {self.pair.database.parent, self.pair.attachments.parent}
        return sorted(path for parent in parents for path in parent.glob(".ciso-ops-*"))

    def strays(self) -> list[str]:
        """Name all that does not belong at a destination."""
        parents = {self.pair.database.parent, self.pair.attachments.parent}
        usual = {self.pair.database.name, self.pair.attachments.name}
        usual |= {f"{self.pair.database.name}{one}" for one in _SIDECARS}
        found = [path for parent in parents if parent.exists() for path in parent.iterdir()]
        return sorted(str(path) for path in found if path.name not in usual)

    def strays_elsewhere(self) -> list[str]:
        """Name what a run left among the temporary files."""
        return sorted(path.name for path in self.temporary.iterdir() if "ciso-ops" in path.name)


def _import_everything() -> None:
    """Import what a run imports, once, before it is run in children time and again."""
    for name in ("rich.pretty", "rich.progress", "rich.traceback"):
        importlib.import_module(name)
    for module in pkgutil.walk_packages(ops.__path__, "ops."):
        importlib.import_module(module.name)


def _quick_place() -> Path | None:
    """Name a directory in memory, where there is one with room, so that no flush is waited for."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of our own in it
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM:
        return memory
    return None


@contextmanager
def machine(
    layout: Layout, source: Instance, directory: Path, *, traced: bool = True
) -> Iterator[Machine]:
    """Make a machine ready, and take off whatever is mounted at the end."""
    require_tools(layout.kinds)
    _import_everything()
    with ExitStack() as volumes:
        images = Path(volumes.enter_context(tempfile.TemporaryDirectory(dir=_quick_place())))
        made = Machine(layout, source, directory / str(layout).replace(", ", "-"), images)
        for volume in made.volumes:
            volumes.callback(volume.unmount)
        if layout.before == "nothing":
            made.prepare(None, traced=traced)
        else:
            earlier = build_instance(made.directory / "earlier", evidences=3, seed=2)
            made.prepare(earlier, traced=traced)
        yield made


def _be_the_program(arguments: list[str], gate: int, site: Machine) -> None:
    """Become a run of the program, in a child of this process, and never return."""
    code: object = 99
    try:
        os.chdir(site.home)
        os.environ.update({"TMPDIR": str(site.temporary), "HOME": str(site.home)})
        tempfile.tempdir = None
        warnings.simplefilter("default")
        for target, name, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, "out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, "err", os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            descriptor = os.open(name, flags, 0o600)
            os.dup2(descriptor, target)
            os.close(descriptor)
        sys.stdin, sys.stdout, sys.stderr = (
            open(target, mode, closefd=False)  # noqa: SIM115 - for as long as the process lives
            for target, mode in ((0, "r"), (1, "w"), (2, "w"))
        )
        if os.read(gate, 1):
            program.run(arguments)
            code = 0
    except SystemExit as stop:
        code = stop.code or 0
    except BaseException:  # noqa: BLE001 - the interpreter would end so as well
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _await_tracer(child: int, tracer: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS
    status = Path(f"/proc/{child}/status")
    while "TracerPid:\t0\n" in status.read_text():
        if tracer.poll() is not None:
            pytest.skip("no process can be traced here")
        assert time.monotonic() < deadline, "strace does not begin"
        time.sleep(_LOOK_SECONDS)


def _await_end(child: int) -> int:
    """Wait for a child, for a while at most, and return its status."""
    ended = os.pidfd_open(child)
    try:
        if not select.select([ended], [], [], SECONDS)[0]:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(ended)
    return os.waitpid(child, 0)[1]


def _unescape(path: str) -> str:
    """Read a path as strace writes it, with octal escapes."""
    octal = re.compile(rb"\\([0-7]{1,3})")
    decoded = octal.sub(lambda match: bytes([int(match[1], 8)]), path.encode())
    return os.fsdecode(decoded)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _rows(database: Path, scratch: Path) -> tuple[str, ...] | str:
    """Read all of a database, from a copy with its sidecars; or say why it cannot be read."""
    with tempfile.TemporaryDirectory(dir=scratch) as name:
        copy = Path(name) / "copy"
        for suffix in ("", "-wal", "-journal"):
            if os.path.lexists(f"{database}{suffix}"):
                shutil.copy(f"{database}{suffix}", f"{copy}{suffix}")
        connection = sqlite3.connect(copy)
        try:
            connection.execute("PRAGMA synchronous = OFF")
            found = connection.execute("PRAGMA integrity_check").fetchall()
            return tuple(connection.iterdump()) if found == [("ok",)] else str(found)
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


@dataclass(frozen=True, kw_only=True)
class Case:
    """A clone that dies at a call, a power cut, and what then mends it."""

    call: Call
    cuts: tuple[Cut, ...]
    mender: str


@dataclass
class Tally:
    """Counts for the table, and all that is wrong."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def count(self, row: str, *columns: str) -> None:
        """Count a case."""
        self.counts.setdefault(row, Counter()).update(("cases", *columns))

    @property
    def total(self) -> Counter[str]:
        """The counts of all rows."""
        return sum(self.counts.values(), Counter[str]())

    def table(self) -> str:
        """Draw the table."""
        columns = ("cases", "OLD", "NEW", "UNFINISHED", "BROKEN", "to OLD", "to NEW", "wrong")
        width = max(map(len, self.counts), default=0)
        lines = [" ".join((" " * width, *(f"{name:>10}" for name in columns)))]
        rows = [*self.counts.items(), ("in all", self.total)]
        for row, counter in rows:
            figures = (f"{counter[name]:>10}" for name in columns)
            lines.append(" ".join((f"{row:<{width}}", *figures)))
        return "\n".join(lines)


LEFT = "left"
"""The name under which what a power cut left is stored."""


def strike(site: Machine, case: Case, tally: Tally) -> State:
    """Kill a clone at a call, cut the power, store and judge what is there; have it mended."""
    site.start()
    answer = site.clone(case.call)
    site.cut(*case.cuts, store=LEFT)
    state = site.state()
    wrong = []
    if answer.code != -signal.SIGKILL:
        wrong.append(f"it was not killed, but ended with {answer.code}: {answer.err[-500:]}")
    wrong += _mend(site, state, case)
    _count(tally, f"{site.layout}", case, state, wrong)
    return state


def relapse(site: Machine, before: State, case: Case, tally: Tally) -> None:
    """Kill a recovery of what was stored, cut the power again, judge, and have it mended."""
    site.start(LEFT)
    answer = site.recover(case.call)
    site.cut(*case.cuts)
    state = site.state()
    wrong = []
    if answer.code != -signal.SIGKILL:
        wrong.append(f"recover was not killed, but ended with {answer.code}: {answer.err[-500:]}")
    if state.name != "BROKEN" and state.end != before.end:
        wrong.append(f"recovery was on the way from {before} to {before.end}, but left {state}")
    wrong += _mend(site, state, case)
    _count(tally, f"{site.layout}, in recovery", case, state, wrong)


def _count(tally: Tally, row: str, case: Case, state: State, wrong: list[str]) -> None:
    cuts = "+".join(f"{cut.name.lower().partition('_')[0]}" for cut in case.cuts)
    ends = [] if state.name == "BROKEN" else [f"to {state.end}"]
    tally.count(f"{row} ({cuts})", state.name, *ends, *(["wrong"] if wrong else []))
    said = "".join(f"\n    {one}" for one in wrong)
    if wrong:
        tally.wrong.append(f"{row} ({cuts}), {case.call}, {case.mender}: {state}{said}")


def _mend(site: Machine, state: State, case: Case) -> Iterator[str]:
    """Have it mended in the case's way, and tell what is not as promised."""
    if state.name == "BROKEN":
        yield "neither old nor new, nor can it become so"
        return
    if case.mender == "recover":
        answer = site.recover()
        after = site.state()
        if (answer.code, after.name) != (0, state.end):
            yield f"after recover: {answer.code}, {after}: {answer.err[-500:]}"
        if site.strays():
            yield f"left over after recover: {site.strays()}"
        site.cut(LOSES)  # what recover says is so has to stay so
        if site.state().name != state.end:
            yield f"not durable after recover: {site.state()}"
    answer = site.clone()
    after = site.state()
    if (answer.code, after.name) != (0, "NEW"):
        yield f"after another clone: {answer.code}, {after}: {answer.err[-500:]}"
    left = [*site.strays(), *site.strays_elsewhere()]
    if left:
        yield f"left over after another clone: {left}"
    if footprint(site.source.database.parent) != site.footprint:
        yield "the source was changed"


def recovering(site: Machine) -> tuple[Call, ...]:
    """List the calls of a recovery of what was stored."""
    site.start(LEFT)
    answer = site.recover(traced=True)
    assert answer.code == 0, answer.err
    return answer.calls
