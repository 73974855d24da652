"""The page's server: what it serves, and that it serves nothing else, nobody else and not for ever."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import moodring.dashboard
from moodring.address import is_loopback
from moodring.config import PageConfig
from moodring.dashboard import http, live, server
from moodring.dashboard.feed import HISTORY_HZ, HISTORY_S
from moodring.dashboard.guard import create_guard
from moodring.dashboard.opening import open_page
from moodring.dashboard.server import PageServer
from moodring.errors import ConfigError, PublishError, UsageError
from moodring.publish.base import PageContent
from tests.support.page import SOURCE, STREAM, DashboardHarness, event, serve_dashboard, status
from tests.support.websocket import WebSocketClient

ANYWHERE = "0.0.0.0"  # noqa: S104  nothing is bound to it but for one test of what is said then
ROOT = Path(__file__).resolve().parents[2]
STATIC = Path(moodring.dashboard.__file__).parent / "static"
OPENAPI = json.loads((STATIC.parent / "openapi.json").read_text(encoding="utf-8"))


@pytest.fixture
def page() -> Iterator[DashboardHarness]:
    with serve_dashboard() as served:
        yield served


def raw(port: int, data: bytes, seconds: float = 5) -> bytes:
    """Send bytes as they are and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        return rest(connection)


def rest(connection: socket.socket) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            got += data
    return got


def code(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


# what it serves


def test_the_page_is_whole_small_and_asks_nobody_else(page: DashboardHarness):
    weight = 0
    for path in ("/", *(f"/{file.name}" for file in STATIC.iterdir() if file.name != "index.html")):
        found, headers, body = page.send_request("GET", path)
        assert found == 200
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        foreign = [address for address in re.findall(rb"https?://[^\s\"'<]+", body) if b"www.w3.org" not in address]
        assert not foreign, path
        weight += len(body) + sum(len(name) + len(value) + 4 for name, value in headers.items())
    assert weight <= 120_000


def test_head_is_get_without_the_body(page: DashboardHarness):
    found, headers, body = page.send_request("HEAD", "/")
    assert (found, body) == (200, b"")
    assert int(headers["content-length"]) == (STATIC / "index.html").stat().st_size


def test_the_state_is_the_newest_of_each_stream_as_it_was_published(page: DashboardHarness):
    page.publish("happy", "sad")
    page.server.publish(status())
    page.server.publish(event(0, "calm", source="/moodring/other/live/1"))
    with WebSocketClient(page.port) as watcher:
        watcher.wait_for(lambda message: message.get("source") == "/moodring/other/live/1")
    told = json.loads(page.send_request("GET", "/api/v1/state")[2])
    assert [one["stream"] for one in told["streams"]] == [STREAM, "other/live"]
    assert told["streams"][0]["emotion"]["data"]["label"] == "sad"
    assert told["streams"][0]["status"]["data"]["level_dbfs"] == -31.2
    assert told["streams"][1]["status"] is None


def test_who_comes_late_is_told_the_last_two_minutes(page: DashboardHarness):
    page.publish(*["happy", None] * 1000)
    with WebSocketClient(page.port) as watcher:
        history = watcher.wait_for_type("moodring.page.history.v1")
        newest = watcher.wait_for_type("moodring.emotion.v1")
    assert len(history["times_ms"]) == len(history["per_mille"]) == HISTORY_S * HISTORY_HZ
    assert newest["data"]["seq"] == 1999
    assert history["per_mille"][-1] is None
    assert sum(history["per_mille"][-2]) == pytest.approx(1000, abs=4)


def test_a_recording_that_begins_again_begins_its_history_again(page: DashboardHarness):
    page.publish("happy", "happy", "happy")
    page.server.publish(event(0, "sad"))
    with WebSocketClient(page.port) as watcher:
        assert len(watcher.wait_for_type("moodring.page.history.v1")["times_ms"]) == 1


def test_every_event_reaches_every_watcher_in_order_with_the_level_of_the_moment(page: DashboardHarness):
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(WebSocketClient(page.port)) for _ in range(5)]
        for watcher in watchers:
            watcher.wait_for_type("moodring.page.hello.v1")
        page.publish(*["happy", "sad"] * 20)
        for watcher in watchers:
            watcher.wait_for(lambda message: message.get("data", {}).get("seq") == 39)
            told = [message["data"]["seq"] for message in watcher.messages if message["type"] == "moodring.emotion.v1"]
            assert told == list(range(40))
            assert watcher.wait_for_type("moodring.page.gauge.v1")["level_dbfs"] == -31.2


# muting


def test_muting_takes_the_anti_forgery_value_and_nothing_less(page: DashboardHarness):
    page.publish("happy")
    csrf_token = json.loads(page.send_request("GET", "/api/v1/state")[2])["anti_forgery"]
    assert csrf_token == page.guard.csrf_token
    assert page.mute(**{"X-Moodring-Anti-Forgery": ""}) == 403
    assert page.mute(**{"X-Moodring-Anti-Forgery": csrf_token[:-1]}) == 403
    assert not page.run.devices["camera"]
    assert page.mute() == 200
    assert page.run.devices["camera"]
    assert page.mute(muted=False) == 200
    assert not page.run.devices["camera"]
    assert any("camera" in line and "muted" in line for line in page.said)


def test_what_cannot_be_muted_is_refused(page: DashboardHarness):
    page.publish("happy")
    page.server.publish(event(0, source="/moodring/replay/clip.mp4/1"))
    with WebSocketClient(page.port) as watcher:
        watcher.wait_for(lambda message: message.get("source") == "/moodring/replay/clip.mp4/1")
    assert page.mute("window") == 400
    assert page.mute(muted="yes") == 400
    assert page.mute(stream="nobody/nothing") == 404
    assert page.mute(stream="replay/clip.mp4") == 409
    assert page.mute(Content_Type="text/plain", **{"Content-Type": "text/plain"}) == 415
    page.run.devices.pop("microphone")
    assert page.mute("microphone") == 409


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b"[" * 1000, b"\xff\xfe", b'{"stream":1,"device":"camera","muted":true}', b'{"muted":true}', b"null"],
)
def test_a_body_that_is_none_is_refused(page: DashboardHarness, body: bytes):
    headers = {"Content-Type": "application/json", "X-Moodring-Anti-Forgery": page.guard.csrf_token}
    assert page.send_request("POST", "/api/v1/mute", body, **headers)[0] == 400


def test_get_changes_nothing_and_other_methods_are_refused(page: DashboardHarness):
    for path, methods in OPENAPI["paths"].items():
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            if method.lower() not in methods:
                found, headers, _ = page.send_request(method, path)
                assert found == 405, (method, path)
                assert headers["allow"]


# who may ask


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]", "", "a:b:c"]
)
def test_a_name_that_is_not_ours_is_refused(page: DashboardHarness, host: str):
    assert page.send_request("GET", "/api/v1/state", Host=host)[0] in (400, 421)
    assert page.send_request("GET", "/", Host=host)[0] in (400, 421)
    with pytest.raises(AssertionError), WebSocketClient(page.port, Host=host or "x") as watcher:
        watcher.wait_for_type("moodring.page.hello.v1")


def test_every_name_of_loopback_is_ours(page: DashboardHarness):
    for host in ("127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:9", f"127.0.0.1:{page.port}"):
        assert page.send_request("GET", "/", Host=host)[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example", "http://127.0.0.1:1"])
def test_a_page_of_another_origin_is_refused(page: DashboardHarness, origin: str):
    page.publish("happy")
    assert page.send_request("GET", "/api/v1/state", Origin=origin)[0] == 403
    assert page.mute(Origin=origin) == 403
    with WebSocketClient(page.port, Origin=origin) as watcher:
        assert watcher.status == 403
    assert page.mute(Origin=f"http://127.0.0.1:{page.port}") == 200


def test_a_picture_or_script_in_a_page_of_another_site_is_refused(page: DashboardHarness):
    assert page.send_request("GET", "/api/v1/state", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403
    assert page.send_request("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200


@pytest.mark.parametrize(
    "path", ["/../openapi.json", "/%2e%2e/openapi.json", "/static/../../session.py", "//etc/passwd", "/..%2f..%2fetc/passwd",
             "/index.html", "/page.css/", "/PAGE.css", "/page.css%00", "/api/v1/state/..", "/%"],
)  # fmt: skip
def test_there_is_nothing_beside_the_files_of_the_page(page: DashboardHarness, path: str):
    assert code(raw(page.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())) == 404


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[DashboardHarness]:
    """A page as it is off loopback: with a token."""
    with serve_dashboard(guard=create_guard(ANYWHERE, "none", str(tmp_path / "token"))) as served:
        yield served


def test_off_loopback_the_token_opens_what_is_sensed_and_nothing_else_does(guarded: DashboardHarness, tmp_path: Path):
    token = (tmp_path / "token").read_text().strip()
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    guarded.publish("happy")
    assert guarded.send_request("GET", "/")[0] == 200  # the form that asks for it
    for headers in (
        {},
        {"Authorization": f"Bearer {token}x"},
        {"Cookie": f"moodring={token}"},
        {"Authorization": f"Basic {token}"},
    ):
        assert guarded.send_request("GET", "/api/v1/state", **headers)[0] == 401
        assert guarded.mute(**headers) == 401
        with WebSocketClient(guarded.port, **headers) as watcher:
            assert watcher.status == 401
    assert guarded.send_request("GET", f"/api/v1/state?token={token}")[0] == 401
    assert guarded.mute(Authorization=f"Bearer {token}") == 200
    asked = {"Content-Type": "application/json"}
    assert guarded.send_request("POST", "/api/v1/login", json.dumps({"token": "x"}), **asked)[0] == 401
    found, headers, _ = guarded.send_request("POST", "/api/v1/login", json.dumps({"token": token}), **asked)
    assert found == 204
    cookie, attributes = headers["set-cookie"].split("; ", 1)
    assert token not in cookie
    assert {"HttpOnly", "SameSite=Strict"} <= set(attributes.split("; "))
    assert guarded.send_request("GET", "/api/v1/state", Cookie=f"other=1; {cookie}")[0] == 200
    with WebSocketClient(guarded.port, Cookie=cookie) as watcher:
        watcher.wait_for_type("moodring.emotion.v1")


def test_the_token_outlives_a_restart_and_a_weak_one_is_refused(tmp_path: Path):
    first = create_guard(ANYWHERE, "none", str(tmp_path / "a" / "token"))
    assert create_guard(ANYWHERE, "none", str(tmp_path / "a" / "token")).token == first.token
    (tmp_path / "weak").write_text("secret\n")
    with pytest.raises(ConfigError, match="at least 16"):
        create_guard(ANYWHERE, "none", str(tmp_path / "weak"))
    with pytest.raises(ConfigError, match="cannot be used"):
        create_guard(ANYWHERE, "none", str(tmp_path))


def test_what_listens_off_loopback_says_so_and_shows_no_picture(tmp_path: Path):
    said: list[str] = []
    config = PageConfig(host=ANYWHERE, port=0, token_file=str(tmp_path / "token"))
    open_page(config, PageContent("live", ""), said.append).close()
    assert any("open to the network" in line and str(tmp_path / "token") in line for line in said)
    with pytest.raises(UsageError, match="this machine alone"):
        open_page(config, PageContent("live", "", previews={STREAM: lambda: None}), said.append)


def test_loopback_is_known():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, (ANYWHERE, "::", "192.168.1.2", "localhost.example", "")))


# what is malformed, too large, too slow or too many


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"POST /api/v1/mute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n401\r\n" + b"a" * 1025 + b"\r\n", 413),
        (b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n", 200),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(page: DashboardHarness, data: bytes, status: int):
    assert code(raw(page.port, data)) == status


@settings(max_examples=50)
@given(st.binary(max_size=400))
def test_any_bytes_get_an_answer_of_4xx_or_none(data: bytes):
    with serving_once() as page, socket.create_connection(("127.0.0.1", page.port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = rest(connection)
    assert code(answer) in (0, 400, 404, 405, 408, 413, 421, 431)


ONCE: list[DashboardHarness] = []


@contextlib.contextmanager
def serving_once() -> Iterator[DashboardHarness]:
    """Hypothesis asks many times; one server is enough for them."""
    with contextlib.ExitStack() as stack:
        if not ONCE:
            ONCE.append(stack.enter_context(serve_dashboard()))
        yield ONCE[0]
        ONCE.clear()


def test_a_gigabyte_is_refused_before_it_is_read(page: DashboardHarness):
    head = b"POST /api/v1/mute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", page.port), timeout=10) as connection:
        connection.sendall(head)
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1000):
                sent += connection.send(b"a" * 1_000_000)
        assert sent < 50_000_000
        with contextlib.suppress(ConnectionResetError):
            assert code(connection.recv(4096)) == 413


def test_a_request_that_dribbles_is_ended(page: DashboardHarness, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "REQUEST_TIMEOUT_S", 0.2)
    with socket.create_connection(("127.0.0.1", page.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        assert code(rest(connection)) == 408


def test_however_many_dribble_who_asks_properly_is_answered(page: DashboardHarness):
    with contextlib.ExitStack() as stack:
        for _ in range(3 * server.MAX_CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", page.port)))
            connection.sendall(b"GET / HTTP/1.1\r\n")
        assert page.send_request("GET", "/")[0] == 200
    assert page.server.connections_refused >= 2 * server.MAX_CONNECTIONS


def test_more_watchers_than_there_may_be_are_refused(page: DashboardHarness, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "MAX_CLIENTS", 3)
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(WebSocketClient(page.port)) for _ in range(3)]
        assert [watcher.status for watcher in watchers] == [101] * 3
        with WebSocketClient(page.port) as fourth:
            assert fourth.status == 429
        watchers[0].socket.close()
        deadline = time.monotonic() + 10
        while (again := WebSocketClient(page.port)).status != 101:
            again.socket.close()
            assert time.monotonic() < deadline
        again.socket.close()


def test_a_watcher_that_stops_reading_is_dropped_and_one_that_reads_is_not(
    page: DashboardHarness, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(live, "PING_INTERVAL_S", 0.05)
    monkeypatch.setattr(live, "PONG_TIMEOUT_S", 0.3)
    with WebSocketClient(page.port) as deaf, WebSocketClient(page.port) as reader:
        page.publish("happy")
        while page.server.clients_dropped == 0:
            reader.read()
        with contextlib.suppress(ConnectionError):
            assert rest(deaf.socket)[-1:] != b"x"  # ends: the server has closed it
        page.publish("sad")
        reader.wait_for(lambda message: message.get("data", {}).get("label") == "sad")
    assert page.server.clients_dropped == 1


def test_a_watcher_that_takes_nothing_holds_no_more_than_its_buffer(page: DashboardHarness):
    with WebSocketClient(page.port) as deaf, WebSocketClient(page.port) as reader:
        last = 0
        while page.server.clients_dropped == 0:
            page.publish(*["happy"] * 200)
            last += 200
            reader.wait_for(lambda message, seq=last - 1: message.get("data", {}).get("seq") == seq)
            assert last < 20_000
        assert reader.is_open
        deaf.socket.close()


def test_a_watcher_that_speaks_is_shown_out(page: DashboardHarness):
    with WebSocketClient(page.port) as watcher:
        watcher.send_text("hello")
        while watcher.is_open:
            watcher.read()
        assert watcher.close_code == live.POLICY_VIOLATION


@pytest.mark.parametrize("change", [{"Sec_WebSocket_Version": "8"}, {"Upgrade": "h2c"}])
def test_another_upgrade_is_refused(page: DashboardHarness, change: dict[str, str]):
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec_WebSocket_Version": "13",
    }
    found, told, _ = page.send_request("GET", "/api/v1/live", **headers | change)
    assert found == 426
    assert told.get("upgrade") or told.get("sec-websocket-version")
    assert page.send_request("GET", "/api/v1/live")[0] == 426


# opening and closing


def test_a_port_that_is_taken_is_said_with_what_to_do(page: DashboardHarness):
    with pytest.raises(PublishError, match=r"cannot be served on 127\.0\.0\.1:\d+: .*--page-port"):
        PageServer("127.0.0.1", page.port, page.guard, PageContent("live", ""), print).open()


def test_closing_ends_the_thread_the_watchers_and_the_socket():
    before = set(threading.enumerate())
    with serve_dashboard() as page:
        port = page.port
        watcher = WebSocketClient(port)
        dribbler = socket.create_connection(("127.0.0.1", port))
    while watcher.is_open:
        watcher.read()
    dribbler.close()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "page"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with serve_dashboard(port=port) as again:  # the very same address, at once
        assert again.send_request("GET", "/")[0] == 200


def test_a_preview_is_served_only_where_it_is_asked_for(page: DashboardHarness):
    page.publish("happy")
    assert page.send_request("GET", f"/api/v1/preview?stream={STREAM}")[0] == 404
    pictures = [b"\xff\xd8picture", None]
    with serve_dashboard(previews={STREAM: lambda: pictures.pop(0)}) as shown:
        for stream in (STREAM, STREAM.replace("/", "%2F")):
            found, headers, body = shown.send_request("GET", f"/api/v1/preview?stream={stream}")
            assert (found, body) in ((200, b"\xff\xd8picture"), (204, b""))
            assert headers["cache-control"] == "no-store"


# the description


def test_the_description_and_the_routes_agree(page: DashboardHarness):
    assert OPENAPI["openapi"].startswith("3.1")
    described = set(OPENAPI["paths"])
    assert described == {"/", *(f"/{f.name}" for f in STATIC.iterdir() if f.name != "index.html"), "/openapi.json",
                         "/api/v1/state", "/api/v1/live", "/api/v1/preview", "/api/v1/mute", "/api/v1/login"}  # fmt: skip
    assert json.loads(page.send_request("GET", "/openapi.json")[2]) == OPENAPI
    for path in described:
        assert page.send_request("GET", path)[0] in (200, 404, 405, 426)


def test_the_source_of_a_stream_is_the_one_published(page: DashboardHarness):
    page.publish("happy")
    with WebSocketClient(page.port) as watcher:
        assert watcher.wait_for_type("moodring.page.history.v1")["source"] == SOURCE
        assert watcher.messages[0]["may_mute"] == [STREAM]


def test_schemathesis_finds_nothing_that_the_description_does_not_say(page: DashboardHarness):
    """All its checks on all paths but the WebSocket's, which OpenAPI cannot say how to ask for."""
    pytest.importorskip("schemathesis", reason="no schemathesis: pip install 'moodring[dev]'")
    page.publish("happy")
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{page.server.address}openapi.json", "-n", "20", "--no-color"]
    header = f"X-Moodring-Anti-Forgery: {page.guard.csrf_token}"
    database = ["--generation-database", "none", "--seed", "1"]
    done = subprocess.run(
        [*command, *database, "-H", header, "--exclude-path", "/api/v1/live"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tested: 10" in done.stdout


def test_without_the_page_nothing_listens_and_none_of_its_modules_is_loaded(
    tiny_bundle: Path, talking_face: Path, tmp_path: Path
):
    (tmp_path / "config.yaml").write_text(f"bundle: {tiny_bundle}\n")
    look = """
import json, sys
from moodring.cli import main
opened = []
sys.addaudithook(lambda event, arguments: opened.append(event) if event.startswith("socket.") else None)
code = main(sys.argv[1:])
print(json.dumps({"code": code, "opened": opened, "modules": sorted(sys.modules)}), file=sys.stderr)
"""
    seen = {}
    for options in ([], ["--page-port", "0"]):
        command = ["run", str(talking_face), "--pace", "max", "--config", str(tmp_path / "config.yaml"), *options]
        done = subprocess.run([sys.executable, "-c", look, *command], capture_output=True, text=True, cwd=ROOT, check=True)
        told = json.loads(done.stderr.splitlines()[-1])
        assert told["code"] == 0
        page_only = {"asyncio", "h11", "wsproto", "moodring.dashboard", "moodring.dashboard.server"}
        seen[bool(options)] = (page_only & set(told["modules"]), "socket.bind" in told["opened"])
    assert seen == {False: (set(), False), True: (page_only, True)}
