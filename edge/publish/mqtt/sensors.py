"""The Home Assistant sensors of a stream: what to announce on a connection, and what to withdraw."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from moodring.publish.mqtt.home_assistant import discovery
from moodring.publish.mqtt.spool import Spool

WILDCARDS = ("#", "+", "\0")


class Sensors:
    """Announces the sensors of a stream, and withdraws those of an earlier configuration. The spool records their topics.

    `prefix` is the discovery prefix of Home Assistant; None announces nothing.
    """

    def __init__(self, spool: Spool, prefix: str | None, topic: str, labels: Sequence[str]) -> None:
        self._spool = spool
        self._wanted = discovery(prefix, topic, labels) if prefix else {}

    def messages(self) -> Iterator[tuple[str, bytes]]:
        """Record the sensors, then yield the retained messages: topic and payload. An empty payload withdraws a sensor."""
        recorded = self._spool.announced()
        # No broker has accepted a topic with wildcards, so there is nothing to withdraw.
        announced = {topic for topic in recorded if not any(wildcard in topic for wildcard in WILDCARDS)}
        if recorded != announced | self._wanted.keys():
            self._spool.store_announced(announced | self._wanted.keys())
        yield from ((topic, json.dumps(payload).encode()) for topic, payload in self._wanted.items())
        yield from ((topic, b"") for topic in sorted(announced - self._wanted.keys()))

    def confirm(self, topic: str) -> None:
        """Remove a sensor from the record if the broker has accepted that it is withdrawn."""
        if topic not in self._wanted:
            self._spool.store_announced(self._spool.announced() - {topic})
