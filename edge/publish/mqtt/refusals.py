"""Sets aside the events that the broker refuses, so that they do not block the others.

An MQTT 5 broker answers a message with a reason. A broker of MQTT 3.1.1 can only close the connection, or drop the message and
acknowledge it; the latter cannot be noticed.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from moodring.publish.mqtt.spool import Spool

TOO_LARGE, REFUSED = "too_large_for_broker", "refused_by_broker"
MAX_REFUSALS = 4  # of one event, before it is set aside
SIZE_REASON = "larger than the maximum packet size of the broker"
# Reason codes of MQTT 5, section 2.4
NOT_AUTHORIZED, TOPIC_NAME_INVALID, PACKET_TOO_LARGE, PAYLOAD_FORMAT_INVALID = 0x87, 0x90, 0x95, 0x99
FINAL = {TOPIC_NAME_INVALID, PACKET_TOO_LARGE, PAYLOAD_FORMAT_INVALID}
# Not about this message: busy, shutting down, keep-alive, session taken over, limits of packets, quota or rate, other server
TEMPORARY = {0x89, 0x8B, 0x8D, 0x8E, 0x91, 0x93, 0x96, 0x97, 0x98, 0x9C, 0x9D, 0x9F, 0xA0}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A message that the broker refused. `position` is that of an event in the spool; None for other messages.

    `closed`: the broker closed the connection when this was the only unacknowledged message.
    """

    topic: str
    position: int | None
    reason: str
    code: int
    closed: bool = False

    def __str__(self) -> str:
        advice = "; check that this user may publish to the topic" if self.code == NOT_AUTHORIZED else ""
        return f"{'the broker closes the connection: ' if self.closed else ''}{self.reason}{advice}"


class Refusals:
    """Counts the refusals of messages, and sets an event aside after `MAX_REFUSALS`.

    An event set aside leaves the spool, is counted there, and is appended to the file `path`. `max_bytes` limits this file.
    `where` names the broker in the log.
    """

    def __init__(self, spool: Spool, where: str, log: Callable[[str], None], *, max_bytes: int) -> None:
        self.path = spool.path.with_name(f"{spool.path.name}.refused.jsonl")
        self._spool = spool
        self._where = where
        self._log = log
        self._max_bytes = max_bytes
        self._events: Counter[str] = Counter()  # set aside in this run, by reason
        self._file_error = ""
        self._accepts_none = False  # the last events were set aside, and none was accepted since
        self._closings: Counter[str] = Counter()  # in a row, by topic
        self._named: set[str] = set()

    @property
    def events(self) -> int:
        """The number of events set aside in this run."""
        return self._events.total()

    def accept(self, acknowledged: Sequence[tuple[str, int | None]]) -> list[int]:
        """Note which messages the broker acknowledged, as topic and position. Return the positions of the events."""
        for topic, position in acknowledged:
            self._accepts_none = self._accepts_none and position is None
            del self._closings[topic]
        return [position for _, position in acknowledged if position is not None]

    def refuse(self, refusal: Refusal) -> bool:
        """Count a refusal. Return whether the message is an event that must be sent again."""
        if refusal.code in TEMPORARY:
            return refusal.position is not None
        if refusal.position is None:
            self._closings[refusal.topic] += refusal.closed
            if not refusal.closed or self.is_blocked(refusal.topic):
                self.name_topic(refusal.topic, str(refusal))
            return False
        is_last = self._spool.count_refusal(refusal.position) >= MAX_REFUSALS
        if not (is_last or refusal.code in FINAL or (self._accepts_none and not refusal.closed)):
            return True
        self.set_aside(refusal.position, TOO_LARGE if refusal.code == PACKET_TOO_LARGE else REFUSED, str(refusal))
        self._accepts_none = True
        return False

    def is_blocked(self, topic: str) -> bool:
        """Return whether messages to a topic are no longer sent, because each ended its connection."""
        return self._closings[topic] >= MAX_REFUSALS

    def is_refused(self, topic: str) -> bool:
        """Return whether a message to this topic, not an event, was refused in this run."""
        return topic in self._named

    def name_topic(self, topic: str, reason: str) -> None:
        """Log once that the broker refuses the messages to a topic that are not events."""
        if topic not in self._named:
            self._named.add(topic)
            self._log(f"{self._where}: messages to {topic} are refused ({reason}); moodring continues without them")

    def set_aside(self, position: int, kind: str, reason: str) -> None:
        """Move an event from the spool to the file, and count it as `kind`. Log the first one for each reason."""
        event = next(iter(self._spool.read_after(position - 1, 1)), None)
        if event is None or event.position != position:  # dropped meanwhile
            return
        self._append(event.body)
        self._spool.drop([position], kind)
        if not self._events[reason]:
            place = self._file_error or f"sets it aside in {self.path}"
            self._log(
                f"{self._where}: event {_event_id(event.body)} is refused: moodring {place}, counted as {kind} ({reason})"
            )
        self._events[reason] += 1

    def log_summary(self) -> None:
        """Log how many events were set aside in this run."""
        if self.events:
            reasons = ", ".join(f"{count} x {reason}" for reason, count in self._events.items())
            place = "not all of them are in" if self._file_error else "they are in"
            self._log(f"{self._where}: {self.events} events were refused; {place} {self.path} ({reasons})")

    def _append(self, body: str) -> None:
        line = f"{body}\n".encode()
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(file, "ab") as stream:
                if stream.tell() + len(line) > self._max_bytes:
                    self._file_error = f"drops it, because {self.path} has reached mqtt.spool.max_mb"
                else:
                    stream.write(line)
        except OSError as error:
            self._file_error = f"drops it, because {self.path} cannot be written ({error.strerror})"


def _event_id(body: str) -> str:
    try:
        return str(json.loads(body)["id"])
    except (ValueError, KeyError, TypeError):
        return "without an id"
