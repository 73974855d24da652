"""One browser that watches: a WebSocket that is only ever written to, and pinged so that it is known to read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Pong, RejectConnection
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from moodring.dashboard.http import HttpError

PING_INTERVAL_S = 2.0
PONG_TIMEOUT_S = 6.0  # without an answer to a ping: gone within PING_S more
MAX_UNSENT_BYTES = 256 * 1024  # bytes that a client has not taken; its history alone is about 40,000
CHUNK = 1024
POLICY_VIOLATION = 1008


class LiveClient:
    """Owns a connection from the moment of its upgrade.

    TCP alone cannot tell a reader that stopped from an idle one: kernels buffer for minutes at this rate. An answered ping
    can: it comes from a client that has read everything before it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._websocket = WSConnection(ConnectionType.SERVER)
        self._pings = 0
        self.dropped = False

    def accept(self, headers: Mapping[str, str], path: str) -> None:
        """Upgrade; Refused where the request asks for no WebSocket, or for one that is not to be had."""
        if "websocket" not in headers.get("upgrade", "").lower():
            raise HttpError(426, "this is a WebSocket", (("Upgrade", "websocket"),))
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        try:
            self._websocket.initiate_upgrade_connection(pairs, path)
            self._writer.write(self._websocket.send(AcceptConnection()))
            list(self._websocket.events())  # the request that was just accepted, told once more
        except (RemoteProtocolError, LocalProtocolError) as error:
            hint = getattr(error, "event_hint", None)
            if isinstance(hint, RejectConnection) and hint.status_code == 426:
                raise HttpError(426, str(error), (("Sec-WebSocket-Version", "13"),)) from error
            raise HttpError(400, f"this is no upgrade to a WebSocket: {error}") from error

    def send(self, data: bytes) -> None:
        """Write what was framed already, unless the client has left too much untaken: then it is dropped."""
        if self._writer.transport.get_write_buffer_size() + len(data) > MAX_UNSENT_BYTES:
            self.drop()
        elif not self._writer.transport.is_closing():
            self._writer.write(data)

    def drop(self) -> None:
        self.dropped = True
        self._writer.transport.abort()

    async def listen(self) -> None:
        """Answer the protocol until the client leaves, says anything (it has nothing to say), or no longer reads."""
        loop = asyncio.get_running_loop()
        last_pong_s = loop.time()
        while not self.dropped:
            try:
                async with asyncio.timeout(PING_INTERVAL_S):
                    data = await self._reader.read(CHUNK)
            except TimeoutError:
                if loop.time() - last_pong_s >= PONG_TIMEOUT_S:
                    self.drop()
                    return
                self._pings += 1
                self.send(self._websocket.send(Ping(payload=b"%d" % self._pings)))
                continue
            if not data:
                return
            if self._process_data(data):
                last_pong_s = loop.time()
            if self._websocket.state.name in ("CLOSED", "REMOTE_CLOSING"):
                return

    def _process_data(self, data: bytes) -> bool:
        """Return whether the newest ping was answered."""
        answered = False
        self._websocket.receive_data(data)
        try:
            for event in self._websocket.events():
                if isinstance(event, Pong):
                    answered = answered or bytes(event.payload) == b"%d" % self._pings
                elif isinstance(event, Ping | CloseConnection):
                    self.send(self._websocket.send(event.response()))
                else:
                    self.send(self._websocket.send(CloseConnection(POLICY_VIOLATION, "there is nothing to say here")))
                    self.dropped = True
                    break
        except (RemoteProtocolError, LocalProtocolError):
            self.drop()
        return answered
