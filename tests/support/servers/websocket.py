"""A WebSocket client that reads and answers pings only when the test calls it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any, Self

from wsproto import ConnectionType, WSConnection
from wsproto.events import CloseConnection, Ping, RejectConnection, RejectData, Request, TextMessage


class WebSocketClient:
    """A connection to the live page. `status` is the HTTP status of the upgrade; 0 if the server closed the connection."""

    def __init__(self, port: int, **headers: str) -> None:
        self.status: int | None = None
        self.is_open = False
        self.messages: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self._text = ""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._websocket = WSConnection(ConnectionType.CLIENT)
        host = headers.pop("Host", f"127.0.0.1:{port}")
        extra = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        self.socket.sendall(self._websocket.send(Request(host=host, target="/api/v1/live", extra_headers=extra)))
        while self.status is None:
            self.read()

    def read(self) -> None:
        """Wait for data and process it; answer pings."""
        data = self.socket.recv(65536)
        if not data:
            self.is_open = False
            self.status = self.status or 0
            return
        self._websocket.receive_data(data)
        for event in self._websocket.events():
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    self.messages.append(json.loads(self._text))
                    self._text = ""
            elif isinstance(event, Ping):
                self.socket.sendall(self._websocket.send(event.response()))
            elif isinstance(event, CloseConnection):
                self.close_code = event.code
            elif isinstance(event, RejectConnection):
                self.status = event.status_code
            elif not isinstance(event, RejectData):
                self.status, self.is_open = 101, True

    def wait_for(self, predicate: Callable[[dict[str, Any]], bool], seconds: float = 10) -> dict[str, Any]:
        """Return the first message, received or to come, that matches the predicate."""
        deadline, checked = time.monotonic() + seconds, 0
        while True:
            for message in self.messages[checked:]:
                if predicate(message):
                    return message
            checked = len(self.messages)
            assert time.monotonic() < deadline, f"no such message; the messages are {[m['type'] for m in self.messages]}"
            assert self.is_open, "the server closed the connection"
            self.read()

    def wait_for_type(self, kind: str) -> dict[str, Any]:
        return self.wait_for(lambda message: message["type"] == kind)

    def send_text(self, text: str) -> None:
        self.socket.sendall(self._websocket.send(TextMessage(data=text)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
