"""What the page is told: events as they were published, and for who comes later the newest of each stream and two minutes.

Everything here belongs to the server's event loop.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from moodring.labels import LABELS
from moodring.publish.base import Event
from moodring.publish.cloudevents import stream_name, to_json
from moodring.types import StatusEvent

HISTORY_S = 120.0
HISTORY_HZ = 5.0  # of the history that a late comer gets; finer than a screen's pixels over two minutes
MAX_STREAMS = 32
CPU_INTERVAL_S = 1.0  # the processor's share is taken over at least this long


class Client(Protocol):
    """A browser that watches. `send` never waits; a client that does not keep up is dropped by its connection."""

    def send(self, data: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An event as it was published: its line of JSON, and of an emotion event what the timeline keeps."""

    source: str
    text: str
    time_ms: int | None = None  # None: a status
    per_mille: tuple[int, ...] | None = None  # probabilities in label order; None: no answer

    @classmethod
    def from_event(cls, event: Event) -> PublishedEvent:
        if isinstance(event, StatusEvent):
            return cls(event.source, to_json(event))
        return cls(event.source, to_json(event), to_epoch_ms(event.time_utc), per_mille(event.probabilities))


def to_epoch_ms(time_utc: str) -> int:
    return int(dt.datetime.fromisoformat(time_utc).timestamp() * 1000)


def per_mille(probabilities: Mapping[str, float] | None) -> tuple[int, ...] | None:
    if probabilities is None:
        return None
    return tuple(round(1000 * probabilities.get(label, 0.0)) for label in LABELS)


@dataclass(slots=True)
class _Stream:
    emotion: PublishedEvent | None = None
    status: PublishedEvent | None = None
    points: deque[tuple[int, tuple[int, ...] | None]] = field(default_factory=lambda: deque(maxlen=int(HISTORY_S * HISTORY_HZ)))


class Feed:
    """Hands every event to every client at once. `hello` says, when called, what the page must know of the server."""

    def __init__(self, hello: Callable[[], dict[str, Any]], level_dbfs: Callable[[], float] | None) -> None:
        self._hello = hello
        self._level_dbfs = level_dbfs
        self._streams: dict[str, _Stream] = {}
        self._clients: set[Client] = set()
        self._websocket = Connection(ConnectionType.SERVER)
        self._cpu_percent = 0.0
        self._cpu_since = (time.monotonic(), time.process_time())

    def __len__(self) -> int:
        return len(self._clients)

    @property
    def streams(self) -> list[str]:
        return list(self._streams)

    def latest_events(self) -> list[dict[str, Any]]:
        """Return the newest event and status of each stream, as they were published."""
        return [
            {
                "stream": name,
                "emotion": json.loads(stream.emotion.text) if stream.emotion else None,
                "status": json.loads(stream.status.text) if stream.status else None,
            }
            for name, stream in self._streams.items()
        ]

    def broadcast(self, published: PublishedEvent) -> None:
        """Keep an event and send it on."""
        name = stream_name(published.source)
        if name not in self._streams and len(self._streams) >= MAX_STREAMS:
            self._streams.pop(next(iter(self._streams)))
        stream = self._streams.setdefault(name, _Stream())
        if published.time_ms is None:
            stream.status = published
        else:
            stream.emotion = published
            self._append_point(stream, published.time_ms, published.per_mille)
        if self._clients:
            data = self._encode_message(published.text)
            if published.time_ms is not None:
                data += self._encode_message(self._gauge_message(published.source))
            for client in tuple(self._clients):
                client.send(data)

    @staticmethod
    def _append_point(stream: _Stream, time_ms: int, point: tuple[int, ...] | None) -> None:
        if stream.points and time_ms < stream.points[-1][0]:  # a recording that began again
            stream.points.clear()
        if not stream.points or time_ms - stream.points[-1][0] >= 900 / HISTORY_HZ:
            stream.points.append((time_ms, point))

    def join(self, client: Client) -> None:
        """Tell a new client how things stand; from now on it gets every event."""
        texts = [_document("hello", **self._hello())]
        for stream in self._streams.values():
            if stream.emotion is not None:
                texts += [self._history(stream), stream.emotion.text]
            if stream.status is not None:
                texts.append(stream.status.text)
        client.send(b"".join(map(self._encode_message, texts)))
        self._clients.add(client)

    def leave(self, client: Client) -> None:
        self._clients.discard(client)

    def _history(self, stream: _Stream) -> str:
        assert stream.emotion is not None  # noqa: S101  for the type checker
        return _document(
            "history",
            source=stream.emotion.source,
            times_ms=[time_ms for time_ms, _ in stream.points],
            per_mille=[point for _, point in stream.points],
        )

    def _gauge_message(self, source: str) -> str:
        """What no event says: the sound level of the moment, and what this process costs."""
        level = self._level_dbfs() if self._level_dbfs else None
        then_s, then_cpu_s = self._cpu_since
        now_s, now_cpu_s = time.monotonic(), time.process_time()
        if now_s - then_s >= CPU_INTERVAL_S:
            self._cpu_percent = 100 * (now_cpu_s - then_cpu_s) / (now_s - then_s)
            self._cpu_since = (now_s, now_cpu_s)
        return _document(
            "gauge",
            source=source,
            level_dbfs=None if level is None or level <= -200.0 else round(level, 1),
            cpu_percent=round(self._cpu_percent, 1),
        )

    def _encode_message(self, text: str) -> bytes:
        """Return a text as one message of the WebSocket protocol: the same bytes for every client."""
        return self._websocket.send(TextMessage(data=text))


def _document(kind: str, **fields: Any) -> str:
    return json.dumps({"type": f"moodring.page.{kind}.v1", **fields}, separators=(",", ":"))
