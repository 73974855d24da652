"""Server of the page: content, access control, limits, opening and closing."""

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
from tests.support.page import CUSTOM_LABELS, SOURCE, STREAM, DashboardHarness, custom_event, event, serve_dashboard, status
from tests.support.servers.websocket import WebSocketClient

ALL_ADDRESSES = "0.0.0.0"  # noqa: S104  only the test of the log lines binds it
ROOT = Path(__file__).resolve().parents[2]
STATIC = Path(moodring.dashboard.__file__).parent / "static"
OPENAPI = json.loads((STATIC.parent / "openapi.json").read_text(encoding="utf-8"))


@pytest.fixture
def page() -> Iterator[DashboardHarness]:
    with serve_dashboard() as served:
        yield served


def raw(port: int, data: bytes, seconds: float = 5) -> bytes:
    """Send bytes and return everything that the server sends until it closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(data)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


def code(answer: bytes) -> int:
    """Return the status of a response; 0 if there is none."""
    return int(answer.split(b" ", 2)[1]) if answer else 0


# Content


def test_static_files_are_small_and_reference_no_other_host(page: DashboardHarness):
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


def test_head_returns_headers_of_get(page: DashboardHarness):
    found, headers, body = page.send_request("HEAD", "/")
    assert (found, body) == (200, b"")
    assert int(headers["content-length"]) == (STATIC / "index.html").stat().st_size


def test_state_returns_newest_events_of_each_stream(page: DashboardHarness):
    page.publish("happy", "sad")
    page.server.publish(status())
    page.server.publish(event(0, "calm", source="/moodring/other/live/1"))
    with WebSocketClient(page.port) as watcher:
        watcher.wait_for(lambda message: message.get("source") == "/moodring/other/live/1")
    state = json.loads(page.send_request("GET", "/api/v1/state")[2])
    assert [stream["stream"] for stream in state["streams"]] == [STREAM, "other/live"]
    assert state["streams"][0]["emotion"]["data"]["label"] == "sad"
    assert state["streams"][0]["status"]["data"]["level_dbfs"] == -31.2
    assert state["streams"][1]["status"] is None


def test_new_client_receives_history_of_two_minutes(page: DashboardHarness):
    page.publish(*["happy", None] * 1000)
    with WebSocketClient(page.port) as watcher:
        history = watcher.wait_for_type("moodring.page.history.v1")
        newest = watcher.wait_for_type("moodring.emotion.v1")
    assert len(history["times_ms"]) == len(history["per_mille"]) == HISTORY_S * HISTORY_HZ
    assert newest["data"]["seq"] == 1999
    assert history["per_mille"][-1] is None
    assert sum(history["per_mille"][-2]) == pytest.approx(1000, abs=4)


def test_history_has_the_labels_of_the_newest_bundle(page: DashboardHarness):
    page.publish("happy", "happy")
    for seq in range(2, 5):
        page.server.publish(custom_event(seq, "cross"))
    page.server.publish(event(5, None))
    with WebSocketClient(page.port) as watcher:
        history = watcher.wait_for_type("moodring.page.history.v1")
    assert history["labels"] == list(CUSTOM_LABELS)
    assert history["per_mille"] == [*[[100, 100, 800]] * 3, None]


def test_restarted_recording_clears_history(page: DashboardHarness):
    page.publish("happy", "happy", "happy")
    page.server.publish(event(0, "sad"))
    with WebSocketClient(page.port) as watcher:
        assert len(watcher.wait_for_type("moodring.page.history.v1")["times_ms"]) == 1


def test_every_client_receives_every_event_and_the_level(page: DashboardHarness):
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(WebSocketClient(page.port)) for _ in range(5)]
        for watcher in watchers:
            watcher.wait_for_type("moodring.page.hello.v1")
        page.publish(*["happy", "sad"] * 20)
        for watcher in watchers:
            watcher.wait_for(lambda message: message.get("data", {}).get("seq") == 39)
            events = [message for message in watcher.messages if message["type"] == "moodring.emotion.v1"]
            assert [message["data"]["seq"] for message in events] == list(range(40))
            assert watcher.wait_for_type("moodring.page.gauge.v1")["level_dbfs"] == -31.2


# Muting


def test_mute_requires_anti_forgery_value(page: DashboardHarness):
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
    assert page.log_lines == [f"stream {STREAM}: camera {change} on the page" for change in ("muted", "unmuted")]


def test_mute_rejects_unknown_stream_device_and_recording(page: DashboardHarness):
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
def test_mute_rejects_invalid_body(page: DashboardHarness, body: bytes):
    headers = {"Content-Type": "application/json", "X-Moodring-Anti-Forgery": page.guard.csrf_token}
    assert page.send_request("POST", "/api/v1/mute", body, **headers)[0] == 400


def test_other_methods_are_rejected(page: DashboardHarness):
    for path, methods in OPENAPI["paths"].items():
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            if method.lower() not in methods:
                found, headers, _ = page.send_request(method, path)
                assert found == 405, (method, path)
                assert headers["allow"]


# Access control


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]", "", "a:b:c"]
)
def test_unknown_host_name_is_rejected(page: DashboardHarness, host: str):
    assert page.send_request("GET", "/api/v1/state", Host=host)[0] in (400, 421)
    assert page.send_request("GET", "/", Host=host)[0] in (400, 421)
    with pytest.raises(AssertionError), WebSocketClient(page.port, Host=host or "x") as watcher:
        watcher.wait_for_type("moodring.page.hello.v1")


def test_every_loopback_name_is_accepted(page: DashboardHarness):
    for host in ("127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:9", f"127.0.0.1:{page.port}"):
        assert page.send_request("GET", "/", Host=host)[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example", "http://127.0.0.1:1"])
def test_other_origin_is_rejected(page: DashboardHarness, origin: str):
    page.publish("happy")
    assert page.send_request("GET", "/api/v1/state", Origin=origin)[0] == 403
    assert page.mute(Origin=origin) == 403
    with WebSocketClient(page.port, Origin=origin) as watcher:
        assert watcher.status == 403
    assert page.mute(Origin=f"http://127.0.0.1:{page.port}") == 200


def test_cross_site_subresource_is_rejected(page: DashboardHarness):
    assert page.send_request("GET", "/api/v1/state", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403
    assert page.send_request("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")[0] == 200


@pytest.mark.parametrize(
    "path", ["/../openapi.json", "/%2e%2e/openapi.json", "/static/../../session.py", "//etc/passwd", "/..%2f..%2fetc/passwd",
             "/index.html", "/page.css/", "/PAGE.css", "/page.css%00", "/api/v1/state/..", "/%"],
)  # fmt: skip
def test_unknown_path_is_rejected(page: DashboardHarness, path: str):
    assert code(raw(page.port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())) == 404


@pytest.fixture
def remote_page(tmp_path: Path) -> Iterator[DashboardHarness]:
    """A page with a token, as on an address off loopback."""
    with serve_dashboard(guard=create_guard(ALL_ADDRESSES, "none", str(tmp_path / "token"))) as served:
        yield served


def test_token_is_required_off_loopback(remote_page: DashboardHarness, tmp_path: Path):
    token = (tmp_path / "token").read_text().strip()
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    remote_page.publish("happy")
    assert remote_page.send_request("GET", "/")[0] == 200  # the login form
    for headers in (
        {},
        {"Authorization": f"Bearer {token}x"},
        {"Cookie": f"moodring={token}"},
        {"Authorization": f"Basic {token}"},
    ):
        assert remote_page.send_request("GET", "/api/v1/state", **headers)[0] == 401
        assert remote_page.mute(**headers) == 401
        with WebSocketClient(remote_page.port, **headers) as watcher:
            assert watcher.status == 401
    assert remote_page.send_request("GET", f"/api/v1/state?token={token}")[0] == 401
    assert remote_page.mute(Authorization=f"Bearer {token}") == 200
    json_type = {"Content-Type": "application/json"}
    assert remote_page.send_request("POST", "/api/v1/login", json.dumps({"token": "x"}), **json_type)[0] == 401
    found, headers, _ = remote_page.send_request("POST", "/api/v1/login", json.dumps({"token": token}), **json_type)
    assert found == 204
    cookie, attributes = headers["set-cookie"].split("; ", 1)
    assert token not in cookie
    assert {"HttpOnly", "SameSite=Strict"} <= set(attributes.split("; "))
    assert remote_page.send_request("GET", "/api/v1/state", Cookie=f"other=1; {cookie}")[0] == 200
    with WebSocketClient(remote_page.port, Cookie=cookie) as watcher:
        watcher.wait_for_type("moodring.emotion.v1")


def test_token_survives_restart_and_short_token_is_rejected(tmp_path: Path):
    first = create_guard(ALL_ADDRESSES, "none", str(tmp_path / "a" / "token"))
    assert create_guard(ALL_ADDRESSES, "none", str(tmp_path / "a" / "token")).token == first.token
    (tmp_path / "weak").write_text("secret\n")
    with pytest.raises(ConfigError, match="at least 16"):
        create_guard(ALL_ADDRESSES, "none", str(tmp_path / "weak"))
    with pytest.raises(ConfigError, match="cannot be used"):
        create_guard(ALL_ADDRESSES, "none", str(tmp_path))


def test_open_page_off_loopback_logs_token_file_and_rejects_preview(tmp_path: Path):
    log_lines: list[str] = []
    config = PageConfig(host=ALL_ADDRESSES, port=0, token_file=str(tmp_path / "token"))
    open_page(config, PageContent("live", ""), log_lines.append).close()
    assert any("open to the network" in line and str(tmp_path / "token") in line for line in log_lines)
    with pytest.raises(UsageError, match=rf"this machine only, but page\.host is {re.escape(ALL_ADDRESSES)}"):
        open_page(config, PageContent("live", "", previews={STREAM: lambda: None}), log_lines.append)


def test_is_loopback_recognises_addresses_and_names():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, (ALL_ADDRESSES, "::", "192.168.1.2", "localhost.example", "")))


# Limits


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
def test_malformed_or_oversized_request_is_rejected(page: DashboardHarness, data: bytes, status: int):
    assert code(raw(page.port, data)) == status


def test_an_error_does_not_repeat_the_request(page: DashboardHarness):
    """The bytes of a malformed line can be a token."""
    answer = raw(page.port, b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorizati\xf6n: Bearer s3cret\r\n\r\n")
    assert code(answer) == 400
    assert answer.endswith(b'{"error":"not a valid HTTP/1.1 request: illegal header line"}')


@settings(max_examples=50)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_get_4xx_or_no_response(data: bytes):
    with serve_dashboard() as page, socket.create_connection(("127.0.0.1", page.port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)
    assert code(answer) in (0, 400, 404, 405, 408, 413, 421, 431)


def test_body_of_a_gigabyte_is_rejected_before_it_is_read(page: DashboardHarness):
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


def test_slow_request_times_out(page: DashboardHarness, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(http, "REQUEST_TIMEOUT_S", 0.2)
    with socket.create_connection(("127.0.0.1", page.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        assert code(read_all(connection)) == 408


def test_valid_request_is_answered_among_many_slow_ones(page: DashboardHarness):
    with contextlib.ExitStack() as stack:
        for _ in range(3 * server.MAX_CONNECTIONS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", page.port)))
            connection.sendall(b"GET / HTTP/1.1\r\n")
        assert page.send_request("GET", "/")[0] == 200
    assert page.server.connections_refused >= 2 * server.MAX_CONNECTIONS


def test_clients_over_limit_are_rejected(page: DashboardHarness, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "MAX_CLIENTS", 3)
    with contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(WebSocketClient(page.port)) for _ in range(3)]
        assert [watcher.status for watcher in watchers] == [101] * 3
        with WebSocketClient(page.port) as fourth:
            assert fourth.status == 429
        watchers[0].socket.close()
        deadline = time.monotonic() + 10
        while (client := WebSocketClient(page.port)).status != 101:
            client.socket.close()
            assert time.monotonic() < deadline
        client.socket.close()


def test_stalled_client_is_dropped_and_reading_client_is_not(page: DashboardHarness, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(live, "PING_INTERVAL_S", 0.05)
    monkeypatch.setattr(live, "PONG_TIMEOUT_S", 0.3)
    with WebSocketClient(page.port) as stalled, WebSocketClient(page.port) as reader:
        page.publish("happy")
        while page.server.clients_dropped == 0:
            reader.read()
        with contextlib.suppress(ConnectionError):
            assert read_all(stalled.socket)[-1:] != b"x"  # ends because the server closes the connection
        page.publish("sad")
        reader.wait_for(lambda message: message.get("data", {}).get("label") == "sad")
    assert page.server.clients_dropped == 1


def test_client_with_full_buffer_is_dropped(page: DashboardHarness):
    with WebSocketClient(page.port) as stalled, WebSocketClient(page.port) as reader:
        count = 0
        while page.server.clients_dropped == 0:
            page.publish(*["happy"] * 200)
            count += 200
            reader.wait_for(lambda message, seq=count - 1: message.get("data", {}).get("seq") == seq)
            assert count < 20_000
        assert reader.is_open
        stalled.socket.close()


def test_client_that_sends_a_message_is_disconnected(page: DashboardHarness):
    with WebSocketClient(page.port) as watcher:
        watcher.send_text("hello")
        while watcher.is_open:
            watcher.read()
        assert watcher.close_code == live.POLICY_VIOLATION


@pytest.mark.parametrize(
    "line", ["Upgrade: websocket\xa3", "Connection: \xe9", "Sec-WebSocket-Key: \xff", "Sec-WebSocket-Extensions: \xff"]
)
def test_an_upgrade_with_other_characters_than_ascii_is_rejected_or_accepted(page: DashboardHarness, line: str):
    """A header that is not ASCII text raised an exception, which closed the connection without a response."""
    lines = [
        "GET /api/v1/live HTTP/1.1", "Host: localhost", "Sec-WebSocket-Version: 13", line,
        *(each for each in ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
          if each.partition(":")[0] not in line),
    ]  # fmt: skip
    with socket.create_connection(("127.0.0.1", page.port), timeout=5) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        answer = connection.recv(65536)
    assert code(answer) in (400, 101)
    assert not any("bug" in logged for logged in page.log_lines)


@pytest.mark.parametrize("change", [{"Sec_WebSocket_Version": "8"}, {"Upgrade": "h2c"}])
def test_unsupported_upgrade_is_rejected(page: DashboardHarness, change: dict[str, str]):
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec_WebSocket_Version": "13",
    }
    found, answer, _ = page.send_request("GET", "/api/v1/live", **headers | change)
    assert found == 426
    assert answer.get("upgrade") or answer.get("sec-websocket-version")
    assert page.send_request("GET", "/api/v1/live")[0] == 426


# Opening and closing


def test_port_in_use_is_reported_with_advice(page: DashboardHarness):
    with pytest.raises(PublishError, match=r"cannot be served on 127\.0\.0\.1:\d+: .*--page-port"):
        PageServer("127.0.0.1", page.port, page.guard, PageContent("live", ""), print).open()


def test_close_ends_thread_clients_and_socket():
    before = set(threading.enumerate())
    with serve_dashboard() as page:
        port = page.port
        watcher = WebSocketClient(port)
        slow_client = socket.create_connection(("127.0.0.1", port))
    while watcher.is_open:
        watcher.read()
    slow_client.close()
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name == "page"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    with serve_dashboard(port=port) as restarted:  # the same address without delay
        assert restarted.send_request("GET", "/")[0] == 200


def test_preview_is_served_only_if_enabled(page: DashboardHarness):
    page.publish("happy")
    assert page.send_request("GET", f"/api/v1/preview?stream={STREAM}")[0] == 404
    frames = [b"\xff\xd8frame", None]
    with serve_dashboard(previews={STREAM: lambda: frames.pop(0)}) as shown:
        for stream in (STREAM, STREAM.replace("/", "%2F")):
            found, headers, body = shown.send_request("GET", f"/api/v1/preview?stream={stream}")
            assert (found, body) in ((200, b"\xff\xd8frame"), (204, b""))
            assert headers["cache-control"] == "no-store"


# Description


def test_openapi_lists_every_route(page: DashboardHarness):
    assert OPENAPI["openapi"].startswith("3.1")
    described = set(OPENAPI["paths"])
    assert described == {"/", *(f"/{f.name}" for f in STATIC.iterdir() if f.name != "index.html"), "/openapi.json",
                         "/api/v1/state", "/api/v1/live", "/api/v1/preview", "/api/v1/mute", "/api/v1/login"}  # fmt: skip
    assert json.loads(page.send_request("GET", "/openapi.json")[2]) == OPENAPI
    for path in described:
        assert page.send_request("GET", path)[0] in (200, 404, 405, 426)


def test_history_names_source_and_hello_lists_mutable_streams(page: DashboardHarness):
    page.publish("happy")
    with WebSocketClient(page.port) as watcher:
        assert watcher.wait_for_type("moodring.page.history.v1")["source"] == SOURCE
        assert watcher.messages[0]["may_mute"] == [STREAM]


def test_responses_conform_to_openapi(page: DashboardHarness):
    """Run all checks of Schemathesis on all paths except the WebSocket, which OpenAPI cannot describe."""
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


def test_run_without_page_opens_no_socket_and_imports_no_server(tiny_bundle: Path, talking_face: Path, tmp_path: Path):
    (tmp_path / "config.yaml").write_text(f"bundle: {tiny_bundle}\n")
    look = """
import json, sys
from moodring.cli import main
opened = []
sys.addaudithook(lambda event, arguments: opened.append(event) if event.startswith("socket.") else None)
code = main(sys.argv[1:])
print(json.dumps({"code": code, "opened": opened, "modules": sorted(sys.modules)}), file=sys.stderr)
"""
    results = {}
    for options in ([], ["--page-port", "0"]):
        command = ["run", str(talking_face), "--pace", "max", "--config", str(tmp_path / "config.yaml"), *options]
        done = subprocess.run([sys.executable, "-c", look, *command], capture_output=True, text=True, cwd=ROOT, check=True)
        report = json.loads(done.stderr.splitlines()[-1])
        assert report["code"] == 0
        page_only = {"asyncio", "h11", "wsproto", "moodring.dashboard", "moodring.dashboard.server"}
        results[bool(options)] = (page_only & set(report["modules"]), "socket.bind" in report["opened"])
    assert results == {False: (set(), False), True: (page_only, True)}
