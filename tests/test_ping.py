"""Pings: what a monitor is told, and that nothing it does changes how a run ends."""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from ops import __version__
from ops.cli.clock import CLOCK
from ops.demo_instance import build_instance
from ops.errors import UsageError
from ops.model import Instance
from ops.watch.ping import MOST_BYTES, Patience, Signal, body_of, read_address, send_ping
from tests.command import Ran, from_flags, run, run_here, run_on_terminal, to_flags
from tests.monitors import Monitor, Ping, listening, reply
from tests.test_backup import NIGHT
from tests.test_json import document_of
from tests.test_signals import start_command, stop, wait_for
from tests.test_store import at, back_up, names_in

PLACE = "/a1b2c3d4-secret"
QUICK = Patience(attempt_seconds=0.3, attempts=3, seconds=0.6, pause_seconds=0.05)


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    """Have a monitor."""
    with listening() as running:
        yield running


def send(url: str, *, patience: Patience = QUICK, environment: dict[str, str] | None = None) -> str:
    """Send a success, and return why it did not arrive."""
    address = read_address(url, "--ping", environment or {})
    return send_ping(address, Signal.SUCCESS, "", patience=patience, seconds=CLOCK.seconds)


def hidden(ran: Ran) -> bool:
    """Tell whether the secret is nowhere in the output."""
    return PLACE not in ran.out + ran.err


# Addresses


@pytest.mark.parametrize(
    ("url", "start", "fail"),
    [
        ("https://hc-ping.com/id", "https://hc-ping.com/id/start", "https://hc-ping.com/id/fail"),
        ("http://h/id?create=1", "http://h/id/start?create=1", "http://h/id/fail?create=1"),
        ("http://h:8000/p/id/", "http://h:8000/p/id/start", "http://h:8000/p/id/fail"),
        ("http://[::1]:80/id", "http://[::1]:80/id/start", "http://[::1]:80/id/fail"),
        ("http://h", "http://h/start", "http://h/fail"),
    ],
)
def test_signals_stand_behind_the_path(url: str, start: str, fail: str) -> None:
    address = read_address(url, "--ping", {})
    assert address.url(Signal.SUCCESS) == url
    assert address.url(Signal.START) == start
    assert address.url(Signal.FAIL) == fail


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://host/id-secret", "file:///id-secret", "id-secret", "//host/id-secret"),
        *("https:///id-secret", "https://user:id-secret@host/", "http://host/id-secret#part"),
        *("http://host:x/id-secret", "http://host:0/id-secret", "http://host:99999/id-secret"),
        *("http://host/id secret", "http://host/id-secret\n", "http://hóst/id-secret"),
        *("http://[::1/id-secret", "http://host/id-secret\r\nX: y"),
    ],
)
def test_what_is_no_address_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_address(url, "ops.ping", {})
    assert caught.value.message.startswith("ops.ping ")
    assert "secret" not in caught.value.message + caught.value.hint


def test_an_address_shows_its_host_alone() -> None:
    address = read_address(f"https://hc-ping.com{PLACE}?key=x", "--ping", {})
    assert address.shown == "https://hc-ping.com/…"
    assert repr(address) == "PingAddress(https://hc-ping.com/…)"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {}),
        ({"https_proxy": "http://p:1"}, {"https": "http://p:1"}),
        ({"HTTPS_PROXY": "http://p:1"}, {"https": "http://p:1"}),
        ({"http_proxy": "http://p:1"}, {}),
        ({"https_proxy": "http://p:1", "no_proxy": "a, hc-ping.com"}, {}),
        ({"https_proxy": "http://p:1", "no_proxy": ".com"}, {}),
        ({"https_proxy": "http://p:1", "NO_PROXY": "*"}, {}),
        ({"https_proxy": "http://p:1", "no_proxy": "ping.com"}, {"https": "http://p:1"}),
    ],
)
def test_the_usual_variables_name_a_proxy(
    variables: dict[str, str], expected: dict[str, str]
) -> None:
    assert read_address("https://hc-ping.com/id", "--ping", variables).proxies == expected


def test_a_ping_goes_through_the_proxy(monitor: Monitor) -> None:
    assert send("http://nowhere.invalid/id", environment={"http_proxy": monitor.address}) == ""
    assert monitor.paths == ["http://nowhere.invalid/id"]


def test_a_body_is_cut_between_characters() -> None:
    assert body_of("short") == b"short"
    whole = body_of("é" * MOST_BYTES)
    assert MOST_BYTES - 1 <= len(whole) <= MOST_BYTES
    assert whole.decode().endswith("é\n… (cut short)\n")
    assert body_of("\udcff") == b"\\udcff"


# Servers that misbehave


def test_a_server_error_is_tried_again_and_a_refusal_is_not(monitor: Monitor) -> None:
    codes = iter([503, 200])
    monitor.answer = lambda _ping, handler: reply(handler, next(codes))
    assert send(f"{monitor.address}{PLACE}") == ""
    assert len(monitor.pings) == 2
    monitor.answer = lambda _ping, handler: reply(handler, 404)
    assert send(f"{monitor.address}{PLACE}") == "the server answered 404 Not Found"
    assert len(monitor.pings) == 3
    monitor.answer = lambda _ping, handler: reply(handler, 599)
    assert send(f"{monitor.address}{PLACE}") == "the server answered 599"
    assert len(monitor.pings) == 6


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirection_is_not_followed(monitor: Monitor, code: int) -> None:
    monitor.answer = lambda _ping, handler: reply(handler, code, Location=f"{monitor.address}/on")
    told = send(f"{monitor.address}{PLACE}")
    assert told.startswith(f"the server answered {code} ")
    assert told.endswith("redirections are not followed")
    assert monitor.paths == [PLACE]


def test_a_server_that_hangs_is_not_waited_for(monitor: Monitor) -> None:
    release = threading.Event()
    monitor.answer = lambda _ping, _handler: (release.wait(10), None)[1]
    began = time.monotonic()
    try:
        assert send(f"{monitor.address}{PLACE}") in {
            "no answer in time",
            "no answer within 0.6 seconds",
        }
        assert time.monotonic() - began < 3
    finally:
        release.set()


def test_a_server_that_answers_a_byte_at_a_time_is_not_waited_for(monitor: Monitor) -> None:
    release = threading.Event()

    def drip(_ping: Ping, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 ")
        for _ in range(100):
            if release.wait(0.1):
                return
            handler.wfile.write(b"x")

    monitor.answer = drip
    began = time.monotonic()
    try:
        assert send(f"{monitor.address}{PLACE}") == "no answer within 0.6 seconds"
        assert time.monotonic() - began < 3
    finally:
        release.set()


def test_waiting_can_be_given_up(monitor: Monitor) -> None:
    release = threading.Event()
    monitor.answer = lambda _ping, _handler: (release.wait(10), None)[1]
    address = read_address(monitor.address, "--ping", {})
    try:
        told = send_ping(
            address,
            Signal.FAIL,
            "",
            patience=Patience(),
            seconds=CLOCK.seconds,
            given_up=lambda: bool(monitor.pings),
        )
        assert told == "interrupted"
    finally:
        release.set()


def test_what_does_not_speak_http(monitor: Monitor) -> None:
    monitor.answer = lambda _ping, handler: (handler.wfile.write(b"SECRET\r\n\r\n"), None)[1]
    once = Patience(attempts=1, seconds=5)
    told = send(monitor.address, patience=once)
    assert told == "it does not speak HTTP as it should (BadStatusLine)"
    assert send(monitor.address.replace("http:", "https:"), patience=once)
    assert send("http://name.invalid/x", patience=once) == "the name of the server is not known"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert send(f"http://127.0.0.1:{port}/", patience=once) == "Connection refused"


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    made = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "1")
    files = ("-keyout", str(key), "-out", str(certificate))
    subprocess.run([openssl, *made, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with listening(context) as monitor:
        told = send(f"{monitor.address}{PLACE}", patience=Patience(attempts=1, seconds=10))
        assert told.startswith("the server's certificate is not accepted: self")
        assert monitor.pings == []


# Runs


def test_a_success_is_told_with_what_the_operator_sees(
    instance: Instance, tmp_path: Path, monitor: Monitor
) -> None:
    url = f"{monitor.address}{PLACE}?create=1"
    store = tmp_path / "store"
    ran = run("backup-daily", "--store", store, *from_flags(instance), "--ping", url)
    assert ran.code == 0, ran.err
    assert hidden(ran)
    start, success = monitor.pings
    assert (start.path, start.body) == (f"{PLACE}/start?create=1", "")
    assert success.path == f"{PLACE}?create=1"
    assert {ping.method for ping in monitor.pings} == {"POST"}
    assert success.kind == "text/plain; charset=utf-8"
    assert success.agent == f"ciso-ops/{__version__}"
    title, report = success.body.split("\n", 1)
    assert re.fullmatch(r"backup-daily: done after \d+\.\d s", title)
    assert report == ran.out.rstrip("\n")


def test_what_a_quiet_run_made_is_told_all_the_same(
    instance: Instance, tmp_path: Path, monitor: Monitor, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--quiet", "--ping", monitor.address)
    store = tmp_path / "store"
    ran = run_here(capsys, "backup-daily", "--store", store, *from_flags(instance), *flags)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert f"Snapshot {names_in(store)[0]} in " in monitor.pings[1].body


def test_a_failure_is_told_with_its_error_and_hint(
    tmp_path: Path, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVOKE_OPS_PING", f"{monitor.address}{PLACE}")
    ran = run("push", "--store", tmp_path / "none", environment={"RESTIC_REPOSITORY": "/nowhere"})
    assert ran.code != 0
    assert hidden(ran)
    assert monitor.paths == [f"{PLACE}/start", f"{PLACE}/fail"]
    lines = monitor.pings[1].body.splitlines()
    assert re.fullmatch(rf"push: failed with exit code {ran.code} after \d+\.\d s", lines[0])
    assert lines[1] == ran.error_line
    assert lines[2] == ran.hint_line


def test_what_a_failed_check_found_is_told(
    instance: Instance, monitor: Monitor, capsys: pytest.CaptureFixture[str]
) -> None:
    min(instance.attachments.iterdir()).unlink()
    flags = ("--dest-db", instance.database, "--dest-attachments", instance.attachments)
    ran = run_here(capsys, "verify", *flags, "--ping", monitor.address)
    assert ran.code == 5
    body = monitor.pings[1].body
    assert "\nerror missing-file: " in body
    assert "\nerror: verification failed with 1 error" in body


def test_a_copy_that_fails_its_check_is_told_with_what_was_found(
    instance: Instance, destination: Instance, monitor: Monitor, capsys: pytest.CaptureFixture[str]
) -> None:
    min(instance.attachments.iterdir()).unlink()
    flags = (*from_flags(instance), *to_flags(destination), "--force", "--ping", monitor.address)
    ran = run_here(capsys, "clone", *flags)
    assert ran.code != 0
    assert ran.error_line in monitor.pings[1].body


def test_each_task_can_have_a_check_of_its_own(
    tmp_path: Path, monitor: Monitor, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{monitor.address}/key/ciso-{{task}}?create=1"
    (Path.home() / ".invoke.yaml").write_text(f"ops:\n  ping: {url}\n")
    assert run_here(capsys, "check-age", "--store", tmp_path / "none", "--max", "1d").code == 3
    assert run_here(capsys, "drill", "--store", tmp_path / "none").code == 3
    assert monitor.paths == [
        *("/key/ciso-check-age/start?create=1", "/key/ciso-check-age/fail?create=1"),
        *("/key/ciso-drill/start?create=1", "/key/ciso-drill/fail?create=1"),
    ]


def test_a_broken_configuration_is_told(
    monitor: Monitor, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path.home() / ".invoke.yaml").write_text(f"ops:\n  ping: {monitor.address}\n  jobs: many\n")
    ran = run_here(capsys, "backup-daily")
    assert ran.code == 2
    assert monitor.paths == ["/start", "/fail"]
    assert "error: ops.jobs must be" in monitor.pings[1].body


def test_an_address_that_is_none_stops_the_run_before_it_begins(
    instance: Instance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--ping", f"ftp://host{PLACE}", "--json")
    ran = run_here(capsys, "backup-daily", "--store", tmp_path / "s", *from_flags(instance), *flags)
    assert ran.code == 2
    assert ran.error_line == "error: --ping is no URL of http or https that can be pinged"
    assert hidden(ran)
    document_of(ran, "backup-daily", ok=False)
    assert not (tmp_path / "s").exists()
    (Path.home() / ".invoke.yaml").write_text("ops:\n  ping: 5\n")
    assert run_here(capsys, "prune").error_line == "error: ops.ping must be a string, not 5"


def test_a_ping_that_does_not_arrive_fails_nothing(
    instance: Instance, tmp_path: Path, monitor: Monitor, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor.answer = lambda _ping, handler: reply(handler, 410)
    store = tmp_path / "store"
    flags = ("--ping", f"{monitor.address}{PLACE}", "--json")
    ran = run_here(capsys, "backup-daily", "--store", store, *from_flags(instance), *flags)
    assert ran.code == 0
    document_of(ran, "backup-daily", ok=True)
    warning = (
        f"warning: the ping to {monitor.address}/… did not arrive: the server answered 410 Gone"
    )
    assert ran.err.splitlines().count(warning) == 2
    assert hidden(ran)
    assert len(names_in(store)) == 1


def test_a_hook_that_fails_after_the_work_is_told_with_what_was_made(
    instance: Instance, tmp_path: Path, monitor: Monitor, capsys: pytest.CaptureFixture[str]
) -> None:
    (Path.home() / ".invoke.yaml").write_text('ops:\n  hook_after: ["false"]\n')
    flags = (*from_flags(instance), "--quiet", "--ping", monitor.address)
    ran = run_here(capsys, "backup-daily", "--store", tmp_path / "store", *flags)
    assert ran.code == 7
    assert monitor.paths == ["/start", "/fail"]
    lines = monitor.pings[1].body.splitlines()
    assert lines[1] == ran.error_line
    (name,) = names_in(tmp_path / "store")
    assert any(line.startswith(f"Snapshot {name} in ") for line in lines)


def test_a_dry_run_tells_nobody(
    instance: Instance, tmp_path: Path, monitor: Monitor, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("backup-daily", "--store", tmp_path / "s", *from_flags(instance))
    assert run_here(capsys, *command, "--ping", monitor.address, "--dry-run").code == 0
    assert run_here(capsys, "--dry", *command, "--ping", monitor.address).code == 0
    assert monitor.pings == []


def test_a_run_that_asks_tells_no_start_and_a_no_is_told_to_nobody(
    instance: Instance, destination: Instance, monitor: Monitor
) -> None:
    flags = (*from_flags(instance), *to_flags(destination), "--ping", monitor.address)
    code, screen = run_on_terminal("clone", *flags, answer="n\n")
    assert code == 2
    assert "not confirmed" in screen
    assert monitor.pings == []
    code, _ = run_on_terminal("clone", *flags, answer="y\n")
    assert code == 0
    assert monitor.paths == ["/"]


def test_nobody_there_to_answer_is_a_failure_that_is_told(
    instance: Instance, destination: Instance, monitor: Monitor
) -> None:
    flags = (*from_flags(instance), *to_flags(destination), "--ping", monitor.address)
    assert run("clone", *flags).code == 2
    assert monitor.paths == ["/fail"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_told_as_a_failure(
    instance: Instance, tmp_path: Path, monitor: Monitor, number: signal.Signals
) -> None:
    back_up(instance, tmp_path / "store", clock=at(NIGHT))
    flags = ("--store", tmp_path / "store", "--command", "sleep 60", "--ping", monitor.address)
    process = start_command("drill", *flags)
    try:
        wait_for(process, "run the command")
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    finally:
        stop(process)
    assert process.returncode == 128 + number, said
    assert monitor.paths == ["/start", "/fail"]
    assert f"error: stopped by {number.name}" in monitor.pings[1].body


def test_a_signal_during_the_last_ping_hurries_it_and_the_outcome_stands(
    instance: Instance, tmp_path: Path, monitor: Monitor
) -> None:
    release = threading.Event()
    monitor.answer = lambda ping, handler: (
        reply(handler, 200) if ping.path.endswith("/start") else (release.wait(20), None)[1]
    )
    flags = ("--store", str(tmp_path / "store"), *from_flags(instance), "--ping", monitor.address)
    process = start_command("backup-daily", *flags)
    try:
        deadline = time.monotonic() + 30
        while len(monitor.pings) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    finally:
        release.set()
        stop(process)
    assert process.returncode == 0, said
    assert time.monotonic() - began < 8
    assert said.endswith("did not arrive: interrupted\n")
    assert len(names_in(tmp_path / "store")) == 1


def test_a_run_needs_no_environment(tmp_path: Path, monitor: Monitor) -> None:
    """As cron starts it."""
    from ops.schedule.program import installed_command

    instance = build_instance(tmp_path / "app", evidences=3)
    command = (installed_command(), "backup-daily", "--quiet", "--store", tmp_path / "store")
    flags = (*from_flags(instance), "--ping", monitor.address)
    ran = run("-i", *command, *flags, command=("env",), directory=tmp_path)
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    assert monitor.paths == ["/start", "/"]
    os.remove(instance.database)
    ran = run("-i", *command, *flags, command=("env",), directory=tmp_path)
    assert (ran.code, ran.out) == (3, "")
    assert ran.error_line.startswith("error: ")
    assert monitor.paths[2:] == ["/start", "/fail"]
