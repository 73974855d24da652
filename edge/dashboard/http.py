"""One HTTP request over one connection: h11 reads it, within limits, and the answer closes the connection.

One request each keeps the server simple to reason about: no pipelining, no idle connections, nothing to smuggle a request in.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import json
from collections.abc import Mapping
from dataclasses import dataclass

import h11

MAX_HEAD_BYTES = 8192  # bytes of request line and headers
MAX_BODY_BYTES = 1024  # bytes; what the page sends has fewer than a hundred
REQUEST_TIMEOUT_S = 5.0  # for a whole request to arrive
RESPONSE_TIMEOUT_S = 10.0  # for an answer to be taken
LINGER_TIMEOUT_S, LINGER_BYTES = 1.0, 1 << 20  # what a refused client still sends is read this long, so that it sees the answer
CHUNK = 4096
VERSIONS = (b"1.0", b"1.1")

# Nothing but the page's own files runs, nothing frames it, and no other origin reads it.
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


class HttpError(Exception):  # noqa: N818  not an error of ours: the answer to a request
    """A request that is answered with a status of 4xx, and why; `headers` go with it."""

    def __init__(self, status: int, reason: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Request:
    """`path` as it was sent, without its query: nothing is decoded, so nothing can be hidden in it. Header names are lower."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


def json_response(status: int, document: object, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(status, json.dumps(document, separators=(",", ":")).encode(), headers=headers)


def error_response(http_error: HttpError) -> Response:
    return json_response(http_error.status, {"error": str(http_error)}, http_error.headers)


class Exchange:
    """Reads the request of a connection and writes its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._is_request_complete = False

    async def request(self) -> Request:
        """Return the whole request; Refused where it is malformed, too large or too slow, ConnectionError where it ends."""
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                return await self._request()
        except TimeoutError as error:
            raise HttpError(408, "the request did not arrive in time") from error
        except h11.RemoteProtocolError as error:
            status = 431 if error.error_status_hint == 431 else 400
            raise HttpError(status, f"this is no request of HTTP/1.1 that can be served: {error}") from error

    async def _request(self) -> Request:
        head = await self._next_event()
        if not isinstance(head, h11.Request):
            raise ConnectionResetError
        if head.http_version not in VERSIONS:
            raise HttpError(400, "this server speaks HTTP/1.1")
        target = head.target.decode("ascii")  # h11 lets nothing else through
        if not target.startswith("/"):
            raise HttpError(400, "the target of a request must be a path")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        length = headers.get("content-length", "0")
        if int(length) > MAX_BODY_BYTES:  # h11 has seen to it that these are digits
            raise HttpError(413, f"a body may have {MAX_BODY_BYTES} bytes")
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
                raise HttpError(413, f"a body may have {MAX_BODY_BYTES} bytes")
        return bytes(body)

    async def _next_event(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self._reader.read(CHUNK))
        return event

    async def respond(self, response: Response, *, is_head: bool = False) -> None:
        """Send the answer and close the connection."""
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
        # Made anew: the one that read the request refuses to speak where that was malformed.
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
        """Read on for a moment: closing on unread data would reset the connection and take the answer with it."""
        if self._writer.can_write_eof():
            self._writer.write_eof()
        left = LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_TIMEOUT_S):
                while left > 0 and (data := await self._reader.read(1 << 16)):
                    left -= len(data)
