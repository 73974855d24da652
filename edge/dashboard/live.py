"""WebSocket of one browser. The server only writes, and detects a stalled client by its missing pongs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Pong, RejectConnection
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from moodring.dashboard.http import HttpError, upgrade_required

PING_INTERVAL_S = 2.0
PONG_TIMEOUT_S = 6.0  # the client is dropped at most PING_INTERVAL_S later
MAX_UNSENT_BYTES = 256 * 1024  # the history of one stream is about 40,000
READ_BYTES = 1024
POLICY_VIOLATION = 1008


class LiveClient:
    """Owns a connection from its upgrade on.

    TCP alone does not show that a client stopped reading: at this rate, the kernels buffer for minutes. A pong does: the
    client has read everything before the ping.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._websocket = WSConnection(ConnectionType.SERVER)
        self._pings = 0
        self.dropped = False

    def accept(self, headers: Mapping[str, str], path: str) -> None:
        """Upgrade the connection. Raises HttpError if the request is no upgrade or asks for an unsupported version."""
        if "websocket" not in headers.get("upgrade", "").lower():
            raise upgrade_required()
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        try:
            self._websocket.initiate_upgrade_connection(pairs, path)
            self._writer.write(self._websocket.send(AcceptConnection()))
            list(self._websocket.events())  # discard the request event
        except (RemoteProtocolError, LocalProtocolError) as error:
            hint = getattr(error, "event_hint", None)
            if isinstance(hint, RejectConnection) and hint.status_code == 426:
                raise HttpError(426, str(error), (("Sec-WebSocket-Version", "13"),)) from error
            raise HttpError(400, f"not a valid WebSocket upgrade: {error}") from error
        except UnicodeDecodeError as error:
            raise HttpError(400, "not a valid WebSocket upgrade: its headers must be ASCII text") from error

    def send(self, data: bytes) -> None:
        """Write encoded messages. Drop the client instead if it has more than `MAX_UNSENT_BYTES` to read."""
        if self._writer.transport.get_write_buffer_size() + len(data) > MAX_UNSENT_BYTES:
            self.drop()
        elif not self._writer.transport.is_closing():
            self._writer.write(data)

    def drop(self) -> None:
        """Abort the connection without sending what is buffered."""
        self.dropped = True
        self._writer.transport.abort()

    async def listen(self) -> None:
        """Answer control frames until the client leaves, sends a message (a protocol violation) or stops reading."""
        loop = asyncio.get_running_loop()
        last_pong_s = loop.time()
        while not self.dropped:
            try:
                async with asyncio.timeout(PING_INTERVAL_S):
                    data = await self._reader.read(READ_BYTES)
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
        """Process received bytes; return whether they hold the pong of the newest ping."""
        answered = False
        self._websocket.receive_data(data)
        try:
            for event in self._websocket.events():
                if isinstance(event, Pong):
                    answered = answered or bytes(event.payload) == b"%d" % self._pings
                elif isinstance(event, Ping | CloseConnection):
                    self.send(self._websocket.send(event.response()))
                else:
                    self.send(self._websocket.send(CloseConnection(POLICY_VIOLATION, "clients must not send messages")))
                    self.dropped = True
                    break
        except (RemoteProtocolError, LocalProtocolError):
            self.drop()
        return answered
