"""An MQTT sink for tests, its log and its events."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moodring.publish.mqtt.connection import BrokerAddress, Credentials
from moodring.publish.mqtt.sink import MqttSettings, MqttSink
from moodring.publish.mqtt.spool import Spool
from moodring.types import EmotionEvent
from tests.support.example_events import EVENT
from tests.support.servers.broker import Subscriber

TOPIC = "moodring/kitchen/live"


class Log:
    """Stores the log messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, message: str) -> None:
        with self._changed:
            self.messages.append(message)
            self._changed.notify_all()

    def wait_for(self, *texts: str, seconds: float = 15.0) -> str:
        """Wait for a message that contains all texts, and return it. Raises AssertionError after `seconds`."""
        with self._changed:
            found = self._changed.wait_for(lambda: any(all(t in m for t in texts) for m in self.messages), seconds)
        assert found, f"{texts} not logged; the log is {self.messages}"
        return next(m for m in self.messages if all(t in m for t in texts))


@contextmanager
def open_sink(port: int, folder: Path, log: Log, **options: Any) -> Iterator[MqttSink]:
    """Open a sink on a broker. `options` are `host`, `tls`, `credentials` and the optional fields of MqttSettings."""
    credentials = options.pop("credentials", Credentials("moodring-test"))
    address = BrokerAddress(options.pop("host", "127.0.0.1"), port, tls=options.pop("tls", False))
    spool = Spool(folder / "events.spool", max_bytes=10_000_000, max_age_s=1e6)
    sink = MqttSink(MqttSettings(address, credentials, TOPIC, **options), spool, log)
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def make_events(*numbers: int) -> Iterator[EmotionEvent]:
    """Yield one event for each sequence number."""
    return (dataclasses.replace(EVENT, seq=number) for number in numbers)


def received_numbers(subscriber: Subscriber) -> list[int]:
    """Return the sequence numbers of the events that arrived."""
    return [json.loads(body)["data"]["seq"] for body in subscriber.payloads("events")]
