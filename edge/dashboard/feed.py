"""Distribution of events to the connected browsers. Keeps the newest events and two minutes of history for each stream.

All methods run on the server's event loop.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from moodring.dashboard.published import PublishedEvent
from moodring.labels import LABELS
from moodring.publish.cloudevents import stream_name

HISTORY_S = 120.0
HISTORY_HZ = 5.0  # rate of the history; finer than the pixels of a screen over two minutes
MAX_STREAMS = 32
CPU_INTERVAL_S = 1.0  # shortest interval over which the CPU share is measured
SILENCE_DBFS = -200.0  # a level at or below this is sent as null


class Client(Protocol):
    """A connected browser. `send` does not block; the connection drops a client that reads too slowly."""

    def send(self, data: bytes) -> None: ...


@dataclass(slots=True)
class _Stream:
    """Newest events of one stream, and its history as (milliseconds since 1970, probabilities per mille).

    The probabilities are in the order of `labels`.
    """

    labels: tuple[str, ...] = LABELS
    emotion: PublishedEvent | None = None
    status: PublishedEvent | None = None
    points: deque[tuple[int, tuple[int, ...] | None]] = field(default_factory=lambda: deque(maxlen=int(HISTORY_S * HISTORY_HZ)))


class Feed:
    """Sends every event to every client.

    `hello` returns the fields of the first message that a client gets; `level_dbfs` returns the current audio level.
    """

    def __init__(self, hello: Callable[[], dict[str, Any]], level_dbfs: Callable[[], float] | None) -> None:
        self._hello = hello
        self._level_dbfs = level_dbfs
        self._streams: dict[str, _Stream] = {}
        self._clients: set[Client] = set()
        self._websocket = Connection(ConnectionType.SERVER)
        self._cpu_percent = 0.0
        self._cpu_since = (time.monotonic(), time.process_time())

    def __len__(self) -> int:
        """Return the number of clients."""
        return len(self._clients)

    @property
    def streams(self) -> list[str]:
        """Names (HOST/STREAM) of the streams that have published."""
        return list(self._streams)

    def latest_events(self) -> list[dict[str, Any]]:
        """Return the newest emotion event and status event of each stream as JSON objects."""
        return [
            {
                "stream": name,
                "emotion": json.loads(stream.emotion.text) if stream.emotion else None,
                "status": json.loads(stream.status.text) if stream.status else None,
            }
            for name, stream in self._streams.items()
        ]

    def broadcast(self, published: PublishedEvent) -> None:
        """Store an event and send it to every client. Beyond `MAX_STREAMS` streams, forget the oldest stream."""
        name = stream_name(published.source)
        if name not in self._streams and len(self._streams) >= MAX_STREAMS:
            self._streams.pop(next(iter(self._streams)))
        stream = self._streams.setdefault(name, _Stream())
        if published.time_ms is None:
            stream.status = published
        else:
            stream.emotion = published
            self._append_point(stream, published)
        if self._clients:
            data = self._encode_message(published.text)
            if published.time_ms is not None:
                data += self._encode_message(self._gauge_message(published.source))
            for client in tuple(self._clients):
                client.send(data)

    @staticmethod
    def _append_point(stream: _Stream, event: PublishedEvent) -> None:
        assert event.time_ms is not None  # noqa: S101  for the type checker
        if event.labels is not None and event.labels != stream.labels:  # of another bundle
            stream.labels = event.labels
            stream.points.clear()
        if stream.points and event.time_ms < stream.points[-1][0]:  # a recording restarted
            stream.points.clear()
        if not stream.points or event.time_ms - stream.points[-1][0] >= 900 / HISTORY_HZ:
            stream.points.append((event.time_ms, event.per_mille))

    def join(self, client: Client) -> None:
        """Add a client and send it the hello message, then the history and the newest events of each stream."""
        texts = [_document("hello", **self._hello())]
        for stream in self._streams.values():
            if stream.emotion is not None:
                texts += [self._history_message(stream, stream.emotion.source), stream.emotion.text]
            if stream.status is not None:
                texts.append(stream.status.text)
        client.send(b"".join(map(self._encode_message, texts)))
        self._clients.add(client)

    def leave(self, client: Client) -> None:
        """Remove a client; do nothing if it was removed before."""
        self._clients.discard(client)

    @staticmethod
    def _history_message(stream: _Stream, source: str) -> str:
        return _document(
            "history",
            source=source,
            labels=stream.labels,
            times_ms=[time_ms for time_ms, _ in stream.points],
            per_mille=[point for _, point in stream.points],
        )

    def _gauge_message(self, source: str) -> str:
        """Return the values that no event holds: the current audio level and the CPU share of this process."""
        level = self._level_dbfs() if self._level_dbfs else None
        then_s, then_cpu_s = self._cpu_since
        now_s, now_cpu_s = time.monotonic(), time.process_time()
        if now_s - then_s >= CPU_INTERVAL_S:
            self._cpu_percent = 100 * (now_cpu_s - then_cpu_s) / (now_s - then_s)
            self._cpu_since = (now_s, now_cpu_s)
        return _document(
            "gauge",
            source=source,
            level_dbfs=None if level is None or level <= SILENCE_DBFS else round(level, 1),
            cpu_percent=round(self._cpu_percent, 1),
        )

    def _encode_message(self, text: str) -> bytes:
        """Return a text as one WebSocket message. The bytes are the same for every client."""
        return self._websocket.send(TextMessage(data=text))


def _document(kind: str, **fields: Any) -> str:
    return json.dumps({"type": f"moodring.page.{kind}.v1", **fields}, separators=(",", ":"))
