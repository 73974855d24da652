"""The live page: any bytes of a browser, before and after the upgrade to a WebSocket, on loopback and off it.

Rules: no exception leaves the connection; the response is valid HTTP with the security headers; without the token, no response
contains events or the anti-forgery value; a device is muted only with that value.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any, cast

import h11

from benchmarks.fuzz.harness import Harness, require
from moodring.dashboard.guard import CSRF_HEADER, Guard
from moodring.dashboard.http import SECURITY_HEADERS
from moodring.dashboard.published import PublishedEvent
from moodring.dashboard.server import PageServer
from moodring.publish.base import PageContent
from tests.support.page import SOURCE, STREAM, FakeMuteControl, event, status

TOKEN, CSRF = "t" * 20, "c" * 20
EVENT_ID = f'"{SOURCE}'.encode()
HOSTS = frozenset({"localhost", "127.0.0.1"})
STATUSES = {200, 204, 400, 401, 403, 404, 405, 408, 409, 413, 415, 421, 426, 429, 431}
METHODS, VERSIONS = ("GET", "POST", "HEAD", "PUT", "get"), ("1.1", "1.0", "2.0")
BLOCKS = (1, 3, 64, 4096, 65_536)
UPGRADE = (
    "GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
POST = f"Host: localhost\r\nContent-Type: application/json\r\n{CSRF_HEADER}: {CSRF}\r\n"
BODIES = (
    '{"stream":"host/live","device":"camera","muted":true}', '{"stream":"x","device":"microphone","muted":false}',
    '{"token":"' + TOKEN + '"}', '{"token":1}', "[" * 900, "{", '{"stream":"\\ud800","device":"camera","muted":true}',
)  # fmt: skip
HEADER_LINES = (
    "Host: localhost", "Host: 127.0.0.1:8737", "Host: [::1]", "Host: evil.example", "Origin: http://localhost", "Origin: null",
    "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", f"Authorization: Bearer {TOKEN}", "Authorization: Bearer é",
    f"Cookie: moodring={TOKEN}", f"{CSRF_HEADER}: {CSRF}", "Content-Length: 1024", "Content-Length: 99999999999999999999",
    "Transfer-Encoding: chunked", "Expect: 100-continue", "Upgrade: websocket", "Connection: close", "Sec-WebSocket-Version: 8",
    "Sec-WebSocket-Extensions: permessage-deflate", "Sec-WebSocket-Protocol: x", "Content-Type: application/json; charset=é",
)  # fmt: skip
TARGETS = (
    "/", "/api/v1/state", "/api/v1/preview?stream=host/live", "/api/v1/preview?stream=host%2Flive", "/api/v1/mute",
    "/api/v1/login", "/api/v1/live", "/openapi.json", "/../etc/passwd", "/%2e%2e/", "*", "http://localhost/", "/app.js?x", "//",
)  # fmt: skip


class _Transport:
    """The part of a transport that the server uses. All that is written counts as sent."""

    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def get_write_buffer_size(self) -> int:
        return 0


class _Writer:
    """Stands in for a StreamWriter; keeps what the server writes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.transport = _Transport()

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def can_write_eof(self) -> bool:
        return False

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    def close(self) -> None:
        self.transport.aborted = True


class _Page:
    """A server whose connections are called directly, without its thread and its sockets."""

    def __init__(self, token: str | None) -> None:
        self.muted = FakeMuteControl("camera")
        self._log: list[str] = []
        content = PageContent("live", "fuzzed", None, {STREAM: self.muted}, {STREAM: lambda: b"\xff\xd8\xff\xd9"})
        self._server = PageServer("127.0.0.1", 0, Guard(token, HOSTS, CSRF), content, self._log.append)
        for published in (event(0), status()):
            self._server._feed.broadcast(PublishedEvent.from_event(published))  # noqa: SLF001

    def connect(self, data: bytes, block: int) -> bytes:
        """Serve one connection and return what the server wrote."""
        self.muted.devices["camera"] = False
        loop = self._server._loop  # noqa: SLF001
        writer = loop.run_until_complete(self._connect(data, block))
        require(not any("bug" in line for line in self._log), f"the page logged {self._log}")
        self._log.clear()
        return bytes(writer.data)

    async def _connect(self, data: bytes, block: int) -> _Writer:
        reader, writer = asyncio.StreamReader(), _Writer()
        handled = asyncio.ensure_future(self._server._handle(reader, cast("Any", writer)))  # noqa: SLF001
        for start in range(0, len(data), block):
            reader.feed_data(data[start : start + block])
            await asyncio.sleep(0)
        reader.feed_eof()
        await handled
        return writer


def _check_response(written: bytes) -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x"), ("Upgrade", "websocket")]))
    client.send(h11.EndOfMessage())
    client.receive_data(written)
    response = client.next_event()
    while isinstance(response, h11.InformationalResponse) and response.status_code == 100:
        response = client.next_event()
    if isinstance(response, h11.InformationalResponse):
        require(response.status_code == 101, f"status {response.status_code}")
        return
    require(isinstance(response, h11.Response), f"the response is {response}")
    assert isinstance(response, h11.Response)  # noqa: S101  for the type checker
    require(response.status_code in STATUSES, f"status {response.status_code} is not documented")
    names = {name.decode() for name, _ in response.headers}
    missing = {name.lower() for name, _ in SECURITY_HEADERS} - names
    require(not missing, f"a response without {missing}")


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Replace the request line, or add, repeat or remove a header line, or replace the body."""
    first, head, body = data[:1] or b"\0", *data[1:].partition(b"\r\n\r\n")[::2]
    lines = head.split(b"\r\n")
    at, choice = rng.randrange(len(lines)), rng.random()
    if choice < 0.25:
        lines[0] = f"{rng.choice(METHODS)} {rng.choice(TARGETS)} HTTP/{rng.choice(VERSIONS)}".encode()
    elif choice < 0.7:
        lines.insert(at + 1, rng.choice(HEADER_LINES).encode("latin-1"))
    elif choice < 0.85 and at:
        del lines[at]
    else:
        body = rng.choice(BODIES).encode()
        lines = [line for line in lines if not line.lower().startswith(b"content-length")] + [b"Content-Length: %d" % len(body)]
    return first + b"\r\n".join(lines) + b"\r\n\r\n" + body


def make(_folder: Path) -> Harness:
    """Return the harness."""
    loopback, network = _Page(None), _Page(TOKEN)

    def check(data: bytes) -> None:
        """Send a request to both servers. The first byte gives the size of the blocks."""
        if not data:
            return
        block, request = BLOCKS[data[0] % len(BLOCKS)], data[1:]
        for page in (loopback, network):
            written = page.connect(request, block)
            if written:
                _check_response(written)
            may_read = page is loopback or TOKEN.encode() in request or b"cookie" in request.lower()
            require(may_read or (CSRF.encode() not in written and EVENT_ID not in written), "an answer without the token")
            require(not page.muted.devices["camera"] or CSRF.encode() in request, "muted without the anti-forgery value")

    frames = (b"\x81\x85\0\0\0\0hello", b"\x89\x80\0\0\0\0", b"\x8a\x81\0\0\0\x001", b"\x88\x82\0\0\0\0\x03\xe8", b"\xff" * 20)
    requests = [f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() for target in TARGETS]
    requests += [
        f"POST {path} HTTP/1.1\r\n{POST}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        for path in ("/api/v1/mute", "/api/v1/login") for body in BODIES
    ]  # fmt: skip
    requests += [UPGRADE.encode() + b"\r\n" + frame for frame in frames]
    requests.append(f"{UPGRADE}Authorization: Bearer {TOKEN}\r\n\r\n".encode() + b"".join(frames[1:3]))
    requests.append(b"POST /api/v1/mute HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}}\r\n0\r\n\r\n")
    words = [line.encode("latin-1") + b"\r\n" for line in HEADER_LINES] + [target.encode() for target in TARGETS]
    return Harness(check, [b"\3" + request for request in requests], [*words, *frames, b"\r\n\r\n"], mutate, max_bytes=10_000)
