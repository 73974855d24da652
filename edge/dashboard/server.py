"""Server of the page: a sink that runs an asyncio event loop in its own thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

from moodring import __version__
from moodring.dashboard.feed import Feed
from moodring.dashboard.guard import Guard
from moodring.dashboard.http import MAX_HEAD_BYTES, Exchange, HttpError, Request, error_response
from moodring.dashboard.live import LiveClient
from moodring.dashboard.published import PublishedEvent
from moodring.dashboard.routes import LIVE_PATH, Routes
from moodring.errors import PublishError
from moodring.publish.base import Event, PageContent

MAX_CONNECTIONS = 64  # of all kinds; beyond it, the oldest pending request is aborted
MAX_CLIENTS = 24  # WebSockets
SEND_BUFFER_BYTES = 65536  # kernel buffer of one connection


class PageServer:
    """Serves the page from `open` to `close`. In between, `publish` and `broadcast` may be called from any thread.

    `clients_dropped` counts the WebSocket clients that were dropped, `connections_refused` the connections over the limit.
    """

    def __init__(self, host: str, port: int, guard: Guard, content: PageContent, log: Callable[[str], None]) -> None:
        self._host, self._port = host, port
        self._guard = guard
        self._content = content
        self._log = log
        self._feed = Feed(self._hello, content.level_dbfs)
        self._routes = Routes(guard, self._feed, content.mutes, content.previews, log)
        self._sockets: list[socket.socket] = []
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._requests: dict[asyncio.Task[None], asyncio.StreamWriter] = {}  # oldest first
        self._websockets: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self.clients_dropped = 0
        self.connections_refused = 0

    @property
    def port(self) -> int:
        """Port of the server: the actual one if it is open, else the configured one."""
        return int(self._sockets[0].getsockname()[1]) if self._sockets else self._port

    @property
    def address(self) -> str:
        """URL of the page for a browser on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104  compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def open(self) -> None:
        """Start to listen. Raises PublishError if the port is in use or not permitted."""
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            listener = socket.create_server(address[:2], family=family, backlog=128)
        except OSError as error:
            raise PublishError(
                f"the page cannot be served on {self._host}:{self._port}: {error.strerror}; change page.port or --page-port"
            ) from error
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._sockets = [listener]
        self._thread.start()

    def publish(self, event: Event) -> None:
        """Send an event to every client. Does not block."""
        self.broadcast(PublishedEvent.from_event(event))

    def broadcast(self, published: PublishedEvent) -> None:
        """Send a new or recorded event to every client. Does not block."""
        self._loop.call_soon_threadsafe(self._feed.broadcast, published)

    def close(self) -> None:
        """Close every connection and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        elif not self._loop.is_closed():
            self._loop.close()

    # Methods that run in the thread

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop.set_exception_handler(self._log_bug)
        servers = [await asyncio.start_server(self._accept, sock=listener, limit=MAX_HEAD_BYTES) for listener in self._sockets]
        await self._stopping.wait()
        for server in servers:
            server.close()
        tasks = [*self._requests, *self._websockets]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _log_bug(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._log(f"bug in the page: {context.get('exception', context['message'])!r}; the page stays open; please report it")

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection in a task. Over the limit, abort the oldest pending request, else the new connection."""
        if len(self._requests) + len(self._websockets) >= MAX_CONNECTIONS:
            self.connections_refused += 1
            oldest = next(iter(self._requests), None)
            if oldest is None:
                writer.transport.abort()
                return
            self._requests.pop(oldest).transport.abort()
        task = self._loop.create_task(self._handle(reader, writer))
        self._requests[task] = writer
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._requests.pop(task, None)
        self._websockets.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log(f"bug in the page: {error!r}; the connection is closed; please report it")

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = Exchange(reader, writer)
        is_head = False
        try:
            with contextlib.suppress(OSError):  # of this connection only
                try:
                    request = await exchange.request()
                    is_head = request.method == "HEAD"
                    self._guard.check_host(request.headers, writer.get_extra_info("sockname")[0])
                    self._guard.check_origin(request.headers)
                    if request.path == LIVE_PATH and request.method == "GET" and "upgrade" in request.headers:
                        await self._serve_websocket(request, reader, writer)
                    else:
                        await exchange.respond(self._routes.respond(request), is_head=is_head)
                except HttpError as http_error:
                    await exchange.respond(error_response(http_error), is_head=is_head)
        finally:
            writer.close()
            self._loop.call_later(1.0, writer.transport.abort)  # drops what the client has not read

    async def _serve_websocket(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._guard.check_token(request.headers)
        if len(self._feed) >= MAX_CLIENTS:
            raise HttpError(429, f"the limit of {MAX_CLIENTS} clients is reached; try again later", (("Retry-After", "10"),))
        client = LiveClient(reader, writer)
        client.accept(request.headers, request.path)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  for the type checker
        self._requests.pop(task, None)
        self._websockets.add(task)
        self._feed.join(client)
        try:
            await client.listen()
        finally:
            self._feed.leave(client)
            self.clients_dropped += client.dropped

    def _hello(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "build": self._routes.build,
            "mode": self._content.mode,
            "title": self._content.title,
            "anti_forgery": self._guard.csrf_token,
            "may_mute": list(self._content.mutes),
            "previews": list(self._content.previews),
        }
