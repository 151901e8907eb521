"""Pings: telling a monitor over HTTP that a run began, did its work, or failed.

The conventions are those of healthchecks.io: the URL itself for success, `/start` and `/fail`
behind its path, and what happened as the body. Whoever knows the URL can say that all is well, so
it is a secret: nothing here shows more of it than its host.
"""

import http
import http.client
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import SplitResult, urlsplit, urlunsplit

from ops import __version__
from ops.errors import UsageError

MOST_BYTES = 10_000
"""Of a body: what the oldest servers take."""

_CUT = "\n… (cut short)\n".encode()
_PORTS = 65535
_AGAIN = frozenset({408, 425, 429})
_SERVER_ERRORS = 500
_HINT = "it is an address such as https://hc-ping.com/UUID, without a user name"


class Signal(StrEnum):
    """What a ping says, by what is put behind the URL's path."""

    START = "/start"
    SUCCESS = ""
    FAIL = "/fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to try: seconds for one attempt, how many of them, seconds for all together."""

    attempt_seconds: float = 10.0
    attempts: int = 3
    seconds: float = 20.0
    pause_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PingAddress:
    """Where pings go. `proxies` are addresses by scheme, of those that are in the way.

    It shows itself without what is secret in it.
    """

    parts: SplitResult
    proxies: Mapping[str, str]

    def __repr__(self) -> str:
        return f"PingAddress({self.shown})"

    @property
    def shown(self) -> str:
        """What may be printed of it."""
        return f"{self.parts.scheme}://{self.parts.netloc}/…"

    def url(self, signal: Signal) -> str:
        """Return the URL for a signal; a query stays behind the path."""
        path = self.parts.path
        if signal is not Signal.SUCCESS:
            path = path.rstrip("/") + signal
        return urlunsplit(self.parts._replace(path=path))


def read_address(value: str, origin: str, environment: Mapping[str, str]) -> PingAddress:
    """Read the URL that pings go to.

    Args:
        value: The URL.
        origin: What gave it: `--ping`, or a key of the configuration.
        environment: Says which proxy is in the way.

    Raises:
        UsageError: It is none; the message does not repeat it.
    """
    if not value.isascii() or not value.isprintable() or " " in value:
        raise UsageError(f"{origin} holds a character that no URL has", hint=_HINT)
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
        usable = usable and (parts.port is None or 0 < parts.port <= _PORTS)
    except ValueError as error:
        raise UsageError(f"{origin} is no URL", hint=_HINT) from error
    if not usable or "@" in parts.netloc or parts.fragment:
        raise UsageError(f"{origin} is no URL of http or https that can be pinged", hint=_HINT)
    return PingAddress(parts=parts, proxies=_proxies(parts, environment))


def _proxies(parts: SplitResult, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the proxy for an address, as curl and Python read the usual variables."""
    host = parts.hostname or ""
    spared = [name.strip().lower() for name in _variable(environment, "no_proxy").split(",")]
    for name in filter(None, spared):
        if name == "*" or name in {host, parts.netloc.lower()}:
            return {}
        if host.endswith("." + name.lstrip(".")):
            return {}
    proxy = _variable(environment, f"{parts.scheme}_proxy")
    return {parts.scheme: proxy} if proxy else {}


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.upper(), "")


def body_of(text: str) -> bytes:
    """Return a text as the body of a ping, cut to what servers take."""
    whole = text.encode("utf-8", "backslashreplace")
    if len(whole) <= MOST_BYTES:
        return whole
    kept = whole[: MOST_BYTES - len(_CUT)].decode("utf-8", "ignore")
    return kept.encode() + _CUT


def send_ping(
    address: PingAddress,
    signal: Signal,
    text: str,
    *,
    patience: Patience,
    seconds: Callable[[], float],
    given_up: Callable[[], bool] = lambda: False,
) -> str:
    """Send a ping; return why it did not arrive, empty if it did. Nothing is raised.

    Neither a server that answers a byte at a time nor a name that takes long to be looked up
    can hold this up: the sending is left to a thread, which is not waited for any longer.

    Args:
        address: Where to.
        signal: What it says.
        text: The body.
        patience: How long to try.
        seconds: Counts them.
        given_up: Asked now and then whether to stop waiting.
    """
    told: list[str] = []
    stop = threading.Event()
    sender = threading.Thread(
        target=lambda: told.append(_try_all(address, signal, body_of(text), patience, stop)),
        name="ping",
        daemon=True,
    )
    deadline = seconds() + patience.seconds
    sender.start()
    try:
        while sender.is_alive() and seconds() < deadline and not given_up():
            sender.join(0.05)
    finally:
        stop.set()
    if told:
        return told[0]
    return "interrupted" if given_up() else f"no answer within {patience.seconds:g} seconds"


def _try_all(
    address: PingAddress, signal: Signal, body: bytes, patience: Patience, stop: threading.Event
) -> str:
    problem = ""
    for attempt in range(patience.attempts):
        if attempt and stop.wait(patience.pause_seconds * attempt):
            break
        problem, again = _try_once(address, signal, body, patience.attempt_seconds)
        if not again:
            break
    return problem


def _try_once(
    address: PingAddress, signal: Signal, body: bytes, seconds: float
) -> tuple[str, bool]:
    """Send once; return what went wrong, and whether to try again."""
    request = urllib.request.Request(  # noqa: S310 - `read_address` lets http and https through only
        address.url(signal),
        data=body,
        headers={
            "Content-Type": "text/plain; charset=utf-8",
            "User-Agent": f"ciso-ops/{__version__}",
        },
        method="POST",
    )
    try:
        _opener(address.proxies).open(request, timeout=seconds).close()
    except urllib.error.HTTPError as error:
        error.close()
        again = error.code in _AGAIN or error.code >= _SERVER_ERRORS
        return _answer_words(error.code), again
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _trouble_words(error), True
    return "", False


def _opener(proxies: Mapping[str, str]) -> urllib.request.OpenerDirector:
    """Return what speaks HTTP and nothing else, and goes nowhere it was not sent.

    A redirection is not followed: it would hand the secret to whoever is named in it, and turn a
    POST into a GET without its body.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(dict(proxies)),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


def _answer_words(code: int) -> str:
    """Say what a server answered, in our own words: its own may hold anything."""
    try:
        phrase = f"{code} {http.HTTPStatus(code).phrase}"
    except ValueError:
        phrase = str(code)
    moved = "; redirections are not followed" if 300 <= code < 400 else ""  # noqa: PLR2004 - that class of answers
    return f"the server answered {phrase}{moved}"


def _trouble_words(error: OSError | http.client.HTTPException | ValueError) -> str:
    """Say why there was no answer; what an exception says may hold the URL."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "no answer in time"
    if isinstance(reason, socket.gaierror):
        return "the name of the server is not known"
    verdict = getattr(reason, "verify_message", "")
    if verdict:
        return f"the server's certificate is not accepted: {verdict}"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return f"it does not speak HTTP as it should ({type(reason).__name__})"
