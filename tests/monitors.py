"""A monitor on the loopback interface that writes down the pings it gets, and answers as told."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast


@dataclass(frozen=True)
class Ping:
    """What came: the method, the path with its query, the body, and some headers."""

    method: str
    path: str
    body: str
    kind: str
    agent: str


@dataclass
class Monitor:
    """A running one."""

    address: str = ""
    pings: list[Ping] = field(default_factory=list)
    answer: Callable[[Ping, BaseHTTPRequestHandler], None] = field(
        default=lambda _ping, handler: reply(handler, 200)
    )

    @property
    def paths(self) -> list[str]:
        """The paths of all pings, in order."""
        return [ping.path for ping in self.pings]


def reply(handler: BaseHTTPRequestHandler, code: int, **headers: str) -> None:
    """Answer with a code and nothing else."""
    handler.send_response(code)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    monitor: Monitor


class _Handler(BaseHTTPRequestHandler):
    def _take(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        ping = Ping(
            method=self.command,
            path=self.path,
            body=self.rfile.read(length).decode(),
            kind=self.headers.get("Content-Type") or "",
            agent=self.headers.get("User-Agent") or "",
        )
        monitor = cast("_Server", self.server).monitor
        monitor.pings.append(ping)
        monitor.answer(ping, self)

    do_GET = do_POST = do_HEAD = _take  # noqa: N815 - the names that the base class looks for

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def listening(context: ssl.SSLContext | None = None) -> Iterator[Monitor]:
    """Have a monitor for the length of a block; with a context, one that speaks TLS."""
    server = _Server(("127.0.0.1", 0), _Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if context is None else "https"
    server.monitor = Monitor(address=f"{scheme}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.monitor
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
