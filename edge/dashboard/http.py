"""HTTP exchange: reads one request with h11, within limits, writes the response and closes the connection.

One request for each connection avoids pipelining, idle connections and request smuggling.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
from collections.abc import Mapping
from dataclasses import dataclass

import h11

MAX_HEAD_BYTES = 8192  # request line and headers
MAX_BODY_BYTES = 1024  # the page sends fewer than 100
REQUEST_TIMEOUT_S = 5.0  # for the whole request to arrive
RESPONSE_TIMEOUT_S = 10.0  # for the client to read the response
LINGER_TIMEOUT_S, LINGER_BYTES = 1.0, 1 << 20  # limits for reading the rest of a rejected request
READ_BYTES = 4096
VERSIONS = (b"1.0", b"1.1")

# The browser runs only the page's own files, refuses to frame the page, and hides it from other origins.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = (
    ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)


class HttpError(Exception):
    """A request that gets a response with a 4xx status. The message is the reason; `headers` are sent with it."""

    def __init__(self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `path` is not decoded and has no query; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """A response. `headers` are added to the security headers."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def json_response(status: int, document: object, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    """Return a response with a JSON document."""
    return Response(status, json.dumps(document, separators=(",", ":")).encode(), headers=headers)


def error_response(http_error: HttpError) -> Response:
    """Return the response to a rejected request: {"error": REASON}."""
    return json_response(http_error.status, {"error": str(http_error)}, http_error.headers)


def upgrade_required() -> HttpError:
    """Return the error for a request that does not ask for the WebSocket at a WebSocket path."""
    return HttpError(426, "this path is a WebSocket; send an upgrade request", (("Upgrade", "websocket"),))


class Exchange:
    """Reads the request of one connection and writes its response."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._is_request_complete = False

    async def request(self) -> Request:
        """Return the request.

        Raises HttpError if it is malformed, too large or too slow, ConnectionError if the client closes the connection.
        """
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                return await self._request()
        except TimeoutError as error:
            raise HttpError(408, f"the request did not arrive within {REQUEST_TIMEOUT_S:g} s") from error
        except h11.RemoteProtocolError as error:
            status = 431 if error.error_status_hint == 431 else 400
            reason = str(error).partition(": ")[0]  # without the bytes of the request, which h11 appends
            raise HttpError(status, f"not a valid HTTP/1.1 request: {reason}") from error

    async def _request(self) -> Request:
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            raise ConnectionResetError
        if head.http_version not in VERSIONS:
            raise HttpError(400, "the server supports HTTP/1.0 and HTTP/1.1 only")
        target = head.target.decode("ascii")  # h11 accepts only ASCII
        if not target.startswith("/"):
            raise HttpError(400, "the request target must be a path")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        length = headers.get("content-length", "0")
        if int(length) > MAX_BODY_BYTES:  # h11 accepts only digits
            raise HttpError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        if self._h11.they_are_waiting_for_100_continue:
            self._writer.write(
                self._h11.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")) or b""
            )
        body = await self._body()
        self._is_request_complete = True
        path, _, query = target.partition("?")
        return Request(head.method.decode("ascii"), path, query, headers, body)

    async def _body(self) -> bytes:
        body = bytearray()
        while isinstance(event := await self._next_event(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                raise HttpError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        return bytes(body)

    async def _next_event(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self._reader.read(READ_BYTES))
        return event

    async def respond(self, response: Response, *, is_head: bool = False) -> None:
        """Write the response and wait until the client has read it. Raises TimeoutError if the client is too slow."""
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
            *SECURITY_HEADERS,
            *response.headers,
        ]
        if response.status in (204, 304):
            headers = headers[2:]
        reason = http.HTTPStatus(response.status).phrase.encode()
        # A new h11 connection: the one that read a malformed request cannot send.
        sender = h11.Connection(h11.SERVER)
        sender.receive_data(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" if is_head else b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        sender.next_event()
        parts = [sender.send(h11.Response(status_code=response.status, headers=headers, reason=reason))]
        if response.body and not is_head:
            parts.append(sender.send(h11.Data(data=response.body)))
        parts.append(sender.send(h11.EndOfMessage()))
        self._writer.write(b"".join(part or b"" for part in parts))
        async with asyncio.timeout(RESPONSE_TIMEOUT_S):
            await self._writer.drain()
            if not self._is_request_complete:
                await self._linger()

    async def _linger(self) -> None:
        """Discard the rest of the request: closing with unread data resets the connection and loses the response."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        remaining = LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_TIMEOUT_S):
                while remaining > 0 and (data := await self._reader.read(1 << 16)):
                    remaining -= len(data)
