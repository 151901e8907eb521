"""A process that has imported the program already, and runs it time and again in children.

Each child puts itself under a seccomp filter that hands every file-modifying system call to this
process before the kernel carries it out (seccomp_unotify(2)). So each can be let through, refused
with an error, or be the last one that child ever made. Nothing else of the child is slowed down.
The processes that the child starts inherit the filter: they are its workers, and are told apart.

One JSON document a line comes in on standard input, one goes out on standard output.
"""

import ctypes
import errno
import fcntl
import importlib
import json
import os
import pkgutil
import platform
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

PATH, AT, DESCRIPTOR = "path", "at", "descriptor"
"""How a call names a file: by path, by directory and path, by descriptor."""

# Numbers on x86-64 (<asm/unistd_64.h>), and the arguments that name what the call changes.
CALLS: dict[str, tuple[int, tuple[tuple[str, int], ...]]] = {
    "write": (1, ((DESCRIPTOR, 0),)),
    "open": (2, ((PATH, 0),)),
    "ioctl": (16, ((DESCRIPTOR, 0),)),
    "pwrite64": (18, ((DESCRIPTOR, 0),)),
    "writev": (20, ((DESCRIPTOR, 0),)),
    "sendfile": (40, ((DESCRIPTOR, 0),)),
    "flock": (73, ((DESCRIPTOR, 0),)),
    "fsync": (74, ((DESCRIPTOR, 0),)),
    "fdatasync": (75, ((DESCRIPTOR, 0),)),
    "truncate": (76, ((PATH, 0),)),
    "ftruncate": (77, ((DESCRIPTOR, 0),)),
    "rename": (82, ((PATH, 0), (PATH, 1))),
    "mkdir": (83, ((PATH, 0),)),
    "rmdir": (84, ((PATH, 0),)),
    "creat": (85, ((PATH, 0),)),
    "link": (86, ((PATH, 0), (PATH, 1))),
    "unlink": (87, ((PATH, 0),)),
    "symlink": (88, ((PATH, 1),)),
    "chmod": (90, ((PATH, 0),)),
    "fchmod": (91, ((DESCRIPTOR, 0),)),
    "chown": (92, ((PATH, 0),)),
    "fchown": (93, ((DESCRIPTOR, 0),)),
    "lchown": (94, ((PATH, 0),)),
    "utime": (132, ((PATH, 0),)),
    "mknod": (133, ((PATH, 0),)),
    "sync": (162, ()),
    "setxattr": (188, ((PATH, 0),)),
    "lsetxattr": (189, ((PATH, 0),)),
    "fsetxattr": (190, ((DESCRIPTOR, 0),)),
    "removexattr": (197, ((PATH, 0),)),
    "lremovexattr": (198, ((PATH, 0),)),
    "fremovexattr": (199, ((DESCRIPTOR, 0),)),
    "utimes": (235, ((PATH, 0),)),
    "openat": (257, ((AT, 0),)),
    "mkdirat": (258, ((AT, 0),)),
    "mknodat": (259, ((AT, 0),)),
    "fchownat": (260, ((AT, 0),)),
    "futimesat": (261, ((AT, 0),)),
    "unlinkat": (263, ((AT, 0),)),
    "renameat": (264, ((AT, 0), (AT, 2))),
    "linkat": (265, ((AT, 0), (AT, 2))),
    "symlinkat": (266, ((AT, 1),)),
    "fchmodat": (268, ((AT, 0),)),
    "splice": (275, ((DESCRIPTOR, 2),)),
    "sync_file_range": (277, ((DESCRIPTOR, 0),)),
    "utimensat": (280, ((AT, 0),)),
    "fallocate": (285, ((DESCRIPTOR, 0),)),
    "pwritev": (296, ((DESCRIPTOR, 0),)),
    "syncfs": (306, ((DESCRIPTOR, 0),)),
    "renameat2": (316, ((AT, 0), (AT, 2))),
    "copy_file_range": (326, ((DESCRIPTOR, 2),)),
    "pwritev2": (328, ((DESCRIPTOR, 0),)),
    "openat2": (437, ((AT, 0),)),
    "fchmodat2": (452, ((AT, 0),)),
}

# Calls that modify only with some bits, or only as one of some commands, of an argument.
_OPENS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_BITS = {"open": (1, _OPENS), "openat": (2, _OPENS)}
_COMMANDS = {"ioctl": (1, (0x40049409, 0x4020940D))}  # FICLONE, FICLONERANGE

_NAMES = {number: name for name, (number, _) in CALLS.items()}
_AT_FDCWD = -100
_PAGE = 4096

_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1


def supported() -> bool:
    """Tell whether this machine's calls are the ones listed here."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def _filter() -> bytes:
    """Compile the filter: seccomp(2), struct sock_filter of <linux/filter.h>."""
    steps = [(_LOAD, 0, 0, 0)]
    for name, (number, _) in CALLS.items():
        if name in _BITS:
            argument, mask = _BITS[name]
            steps += [
                (_EQUAL, 0, 4, number),
                (_LOAD, 0, 0, 16 + 8 * argument),
                (_ANY_BIT, 0, 1, mask),
                (_RETURN, 0, 0, _NOTIFY),
                (_RETURN, 0, 0, _ALLOW),
            ]
        elif name in _COMMANDS:
            argument, (first, second) = _COMMANDS[name]
            steps += [
                (_EQUAL, 0, 5, number),
                (_LOAD, 0, 0, 16 + 8 * argument),
                (_EQUAL, 1, 0, first),
                (_EQUAL, 0, 1, second),
                (_RETURN, 0, 0, _NOTIFY),
                (_RETURN, 0, 0, _ALLOW),
            ]
        else:
            steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _NOTIFY)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def _install_filter() -> int:
    """Put this process under the filter, for good, and return the listener's descriptor."""
    library = ctypes.CDLL(None, use_errno=True)
    code = _filter()
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    no_new_privileges, seccomp, set_filter = 38, 317, 1
    library.prctl(no_new_privileges, 1, 0, 0, 0)
    for flags in (_NEW_LISTENER | _WAIT_KILLABLE, _NEW_LISTENER):
        listener = int(library.syscall(seccomp, set_filter, flags, program))
        if listener >= 0:
            return listener
    raise OSError(ctypes.get_errno(), "seccomp")


_ALONE_SECONDS = 10.0
"""How long workers may live on after the child: the kernel kills them, on a busy machine later."""


@dataclass(frozen=True)
class End:
    """How a child ended: its status, whether it did so in time, and whether its workers did too."""

    status: int
    in_time: bool
    alone: bool


class Supervisor:
    """Decides about each modifying call of one child and its workers, and keeps the list of them.

    With the job's `of` "worker", only the calls of workers are counted, and `victim` says who is
    sent a signal: the "main" process, or the "caller".
    """

    def __init__(self, child: int, listener: int, job: dict[str, Any]) -> None:
        self.child = child
        self.listener = listener
        self.roots = tuple(os.fsencode(root).rstrip(b"/") for root in job["roots"])
        self.action: str = job["action"]
        self.at: int = job["at"]
        self.number: int = job["number"]
        self.span: str = job["span"]
        self.of: str = job["of"]
        self.victim: str = job["victim"]
        self.calls: list[list[str]] = []
        self.by_workers: list[int] = []
        self.hits: list[int] = []
        self._first = ""
        self._counted = 0

    def watch(self, seconds: float) -> End:
        """Serve the child until it ends, and its workers until they do.

        Whoever takes too long is killed, and told in the result.
        """
        deadline = time.monotonic() + seconds
        ended = os.pidfd_open(self.child)
        poll = select.poll()
        poll.register(self.listener, select.POLLIN)
        poll.register(ended, select.POLLIN)
        status: int | None = None
        in_time, anybody = True, True
        try:
            while status is None or anybody:
                left = deadline - time.monotonic()
                if left <= 0 and status is not None:
                    self._kill_workers()
                    return End(status, in_time, alone=False)
                if left <= 0:
                    os.kill(self.child, signal.SIGKILL)
                    in_time, deadline = False, deadline + seconds
                events = dict(poll.poll(max(0, left) * 1000))
                if events.get(self.listener, 0) & select.POLLIN:
                    self._serve(dying=status is not None)
                elif self.listener in events:  # nobody is left under the filter
                    poll.unregister(self.listener)
                    anybody = False
                elif ended in events:
                    poll.unregister(ended)
                    _, status = os.waitpid(self.child, 0)
                    deadline = time.monotonic() + _ALONE_SECONDS
        finally:
            os.close(ended)
        return End(status, in_time, alone=True)

    def _kill_workers(self) -> None:
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if b"ops.tree.worker" in b"".join(words[2:3]) and words[5:6] == [b"%d" % self.child]:
                os.kill(int(name), signal.SIGKILL)

    def _serve(self, *, dying: bool) -> None:
        notice = bytearray(80)
        try:
            fcntl.ioctl(self.listener, _RECEIVE, notice, True)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.EINTR}:  # the child is gone, or looks again
                return
            raise
        identity, thread, _, number, *_, a, b, c, d, e, f = struct.unpack("QIIiIQ6Q", notice)
        name = _NAMES[number]
        paths = [self._path(thread, kind, (a, b, c, d, e, f), at) for kind, at in CALLS[name][1]]
        refusal = 0
        if not dying and (name == "sync" or any(self._watched(path) for path in paths)):
            self.calls.append([name, *map(os.fsdecode, paths)])
            refusal = self._decide(name, thread)
        if refusal < 0:  # killed: an answer now might let the call through all the same
            return
        flags = 0 if refusal else _CONTINUE
        answer = bytearray(struct.pack("QqiI", identity, 0, -refusal, flags))
        try:
            fcntl.ioctl(self.listener, _SEND, answer, True)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _decide(self, name: str, thread: int) -> int:
        """Let a call through (0), answer it with an error (its number), or with the end (-1)."""
        worker = not os.path.exists(f"/proc/{self.child}/task/{thread}")
        if worker:
            self.by_workers.append(len(self.calls))
        elif self.of == "worker":
            return 0
        self._counted += 1
        ordinal = self._counted
        if self.action == "none" or ordinal < self.at:
            return 0
        if ordinal == self.at:
            self._first = name
        elif self.span == "once" or (self.span == "call" and name != self._first):
            return 0
        self.hits.append(len(self.calls))
        if self.action == "error":
            return self.number
        caller = not worker or self.victim == "caller"
        os.kill(thread if worker and caller else self.child, self.number)
        # The call of a worker may go on for a moment after the end of the main process.
        return -1 if caller and self.number == signal.SIGKILL else 0

    def _watched(self, path: bytes) -> bool:
        return any(path == root or path.startswith(root + b"/") for root in self.roots)

    def _path(self, thread: int, kind: str, arguments: tuple[int, ...], at: int) -> bytes:
        if kind == PATH:
            return self._join(self._link(thread, _AT_FDCWD), self._text(thread, arguments[at]))
        descriptor = ctypes.c_int32(arguments[at] & 0xFFFFFFFF).value
        base = self._link(thread, descriptor)
        if kind == DESCRIPTOR:
            return base
        return self._join(base, self._text(thread, arguments[at + 1]))

    @staticmethod
    def _join(base: bytes, path: bytes) -> bytes:
        return os.path.normpath(os.path.join(base, path)) if path else base

    @staticmethod
    def _link(thread: int, descriptor: int) -> bytes:
        entry = "cwd" if descriptor == _AT_FDCWD else f"fd/{descriptor}"
        try:
            return os.readlink(os.fsencode(f"/proc/{thread}/{entry}"))
        except OSError:
            return b""

    @staticmethod
    def _text(thread: int, address: int) -> bytes:
        """Read a string out of a process's memory, page by page."""
        text = b""
        try:
            memory = os.open(f"/proc/{thread}/mem", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it has been killed meanwhile
            return text
        try:
            while address and b"\0" not in text:
                piece = os.pread(memory, _PAGE - address % _PAGE, address)
                if not piece:
                    break
                text += piece
                address += len(piece)
        except OSError:
            return b""
        finally:
            os.close(memory)
        return text.partition(b"\0")[0]


def _become(job: dict[str, Any]) -> None:
    """Take on the job's surroundings, as a fresh process would have them."""
    os.environ.update(job["environment"])
    os.chdir(job["directory"])
    tempfile.tempdir = None
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for target, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, job["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, job["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        descriptor = os.open(name, flags, 0o600)
        os.dup2(descriptor, target)
        os.close(descriptor)


def _run(arguments: Iterable[str]) -> int:
    """Run the program and return its exit code, as the interpreter would end with it."""
    from ops.cli import program

    code: object = 0
    try:
        program.run(list(arguments))
    except SystemExit as stop:
        code = stop.code
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 130
    except BaseException:  # noqa: BLE001 - the interpreter would end so as well
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = 120
    return code if isinstance(code, int) else int(code is not None)


def _child(job: dict[str, Any], channel: socket.socket) -> int:
    _become(job)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != channel.fileno():
            try:
                os.close(int(name))
            except OSError:
                continue
    if job["action"] != "free":
        listener = _install_filter()
        socket.send_fds(channel, [b"f"], [listener])
        os.close(listener)
    channel.close()
    return _run(job["arguments"])


def _perform(job: dict[str, Any]) -> dict[str, Any]:
    here, there = socket.socketpair()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            here.close()
            code = _child(job, there)
        finally:
            os._exit(code)
    there.close()
    answer: dict[str, Any] = {"calls": [], "by_workers": [], "hits": []}
    listener = -1
    try:
        _, descriptors, _, _ = socket.recv_fds(here, 1, 1)
        if descriptors:
            listener = descriptors[0]
            supervisor = Supervisor(child, listener, job)
            end = supervisor.watch(job["seconds"])
            answer = {name: getattr(supervisor, name) for name in answer}
        else:
            in_time = _wait(child, job["seconds"])
            end = End(os.waitpid(child, 0)[1], in_time, alone=True)
    finally:
        here.close()
        if listener >= 0:
            os.close(listener)
    code = os.waitstatus_to_exitcode(end.status)
    return {"code": code, "in_time": end.in_time, "alone": end.alone, **answer}


def _wait(child: int, seconds: float) -> bool:
    ended = os.pidfd_open(child)
    try:
        if select.select([ended], [], [], seconds)[0]:
            return True
        os.kill(child, signal.SIGKILL)
        return False
    finally:
        os.close(ended)


def main() -> None:
    """Import everything, say so, and then do one job after another until the input ends."""
    import ops

    for name in ("rich.pretty", "rich.progress", "rich.traceback"):
        importlib.import_module(name)
    for module in pkgutil.walk_packages(ops.__path__, "ops."):
        importlib.import_module(module.name)
    ops.profile.load_profile("none")
    answers = os.fdopen(os.dup(1), "w")
    jobs = os.fdopen(os.dup(0), "r")
    os.dup2(2, 1)
    answers.write(json.dumps({"ops": ops.__file__}) + "\n")
    answers.flush()
    for line in jobs:
        answer = _perform(json.loads(line))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
