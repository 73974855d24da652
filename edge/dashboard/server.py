"""The page's server: an asyncio loop in a thread of its own, which events are handed to as to any other sink."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any

from moodring import __version__
from moodring.dashboard.feed import Feed, PublishedEvent
from moodring.dashboard.guard import Guard
from moodring.dashboard.http import MAX_HEAD_BYTES, Exchange, HttpError, Request, error_response
from moodring.dashboard.live import LiveClient
from moodring.dashboard.routes import LIVE_PATH, Routes
from moodring.errors import PublishError
from moodring.publish.base import Event, PageContent

MAX_CONNECTIONS = 64  # of all kinds; beyond it the one that has been asking longest makes room
MAX_CLIENTS = 24  # that watch
SEND_BUFFER_BYTES = 65536  # bytes that the kernel keeps for a client


class PageServer:
    """Listens from `open` to `close`. `publish` may be called from any thread between the two."""

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
        self._requests: dict[asyncio.Task[None], asyncio.StreamWriter] = {}  # in the order in which they came
        self._websockets: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self.clients_dropped = 0
        self.connections_refused = 0

    @property
    def port(self) -> int:
        return int(self._sockets[0].getsockname()[1]) if self._sockets else self._port

    @property
    def address(self) -> str:
        """Where a browser on this machine finds the page."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104  compared, not bound
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    def open(self) -> None:
        """Listen; PublishError where the port is taken or not permitted."""
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
        self.broadcast(PublishedEvent.from_event(event))

    def broadcast(self, told: PublishedEvent) -> None:
        """Hand over what was published, here or long ago."""
        self._loop.call_soon_threadsafe(self._feed.broadcast, told)

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()
        elif not self._loop.is_closed():
            self._loop.close()

    # in the thread

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop.set_exception_handler(
            lambda _, told: self._log(f"a bug in the page: {told.get('exception', told['message'])!r}")
        )
        servers = [await asyncio.start_server(self._accept, sock=listener, limit=MAX_HEAD_BYTES) for listener in self._sockets]
        await self._stopping.wait()
        for server in servers:
            server.close()
        tasks = [*self._requests, *self._websockets]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Begin to serve a connection. Where there are too many, the one that has been asking longest goes."""
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
            self._log(f"a bug in the page ended a connection: {error!r}")

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = Exchange(reader, writer)
        is_head = False
        try:
            with contextlib.suppress(OSError):  # whatever becomes of one connection
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
            self._loop.call_later(1.0, writer.transport.abort)  # what was not taken by then never will be

    async def _serve_websocket(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._guard.check_token(request.headers)
        if len(self._feed) >= MAX_CLIENTS:
            raise HttpError(429, f"{MAX_CLIENTS} browsers watch already", (("Retry-After", "10"),))
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
