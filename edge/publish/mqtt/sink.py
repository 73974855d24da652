"""Events to an MQTT broker, none of them lost while it is away.

    publish -> spool (on disk) -> the broker, in order -> forgotten, once the broker has acknowledged it

Where nothing is behind, `publish` itself sends what it has just stored. A thread connects, sends what is behind, and looks at
what the broker has acknowledged, once a second unless there is reason to hurry: waking a thread costs more than a message.

Topics under the configured one: `events` (every event, in order), `state` (the newest, retained), `status`, and
`availability` (online or offline, retained; the broker says offline for us when we are killed).
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from moodring.errors import PublishError
from moodring.labels import LABELS
from moodring.publish.base import Event
from moodring.publish.cloudevents import to_json
from moodring.publish.mqtt.connection import LOOP_S, BrokerAddress, BrokerLink, Farewell, Login, load_paho
from moodring.publish.mqtt.home_assistant import discovery
from moodring.publish.mqtt.spool import Spool
from moodring.types import EmotionEvent, MqttVersion

ONLINE, OFFLINE = "online", "offline"
RETRY_FIRST_S, RETRY_LAST_S = 0.25, 15.0
TOO_LARGE, REFUSED = "too_large_for_broker", "refused_by_broker"
# Connections in a row that were lost with events on their way and none acknowledged, until events go one at a time, and until
# the oldest is passed over to see whether it alone is what the broker will not have.
ALONE_AFTER, PASS_OVER_AFTER = 3, 5
STATE_EVERY_S = 1.0  # the retained state follows at once where it says something new, else this often
FORGET_EVENTS, FORGET_S = 20, 1.0  # so many acknowledged events, or for so long, may stay in the spool
HURRY_ROOM = 5  # with room for fewer messages, acknowledgements are read at once
DRAIN_S, FAREWELL_S = 2.0, 1.0  # at the end, for what is still on its way, and for saying that we are offline
ABANDON_S = 0.5  # and where there is no connection


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Which broker, as whom, and under which topic. `discovery_prefix` is Home Assistant's, or None for no discovery."""

    address: BrokerAddress
    login: Login
    topic: str
    protocol: MqttVersion = "mqtt5"
    keepalive_s: int = 15
    discovery_prefix: str | None = None
    labels: tuple[str, ...] = LABELS


class MqttSink:
    """`publish` returns once the event is safe on disk; it never waits for the broker."""

    def __init__(self, settings: MqttSettings, spool: Spool, log: Callable[[str], None]) -> None:
        load_paho()
        self.connected = False
        self.delivered = 0
        self._settings = settings
        self._spool = spool
        self._log = log
        self._stopping = threading.Event()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._turn = threading.Lock()  # whoever holds it may use the link and what follows
        self._link: BrokerLink | None = None
        self._sent_position = 0
        self._sent_events = 0
        self._stalled = 0
        self._passed_over: int | None = None
        self._state = _StateTopic()
        self._newest: _Newest | None = None
        self._delivered: list[int] = []
        self._forget_s = 0.0
        self._status: bytes | None = None
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._serve, name="mqtt", daemon=True)

    @property
    def spooled(self) -> int:
        return self._spool.waiting

    @property
    def spool_dropped(self) -> dict[str, int]:
        return self._spool.dropped

    def open(self) -> None:
        """Open the spool (PublishError where it cannot be) and begin to connect."""
        self._spool.open()
        if self._spool.set_aside:
            self._log(f"the spool was damaged and is now {self._spool.set_aside}; a new one was begun")
        if self._spool.waiting:
            self._log(f"{self._spool.waiting} events of earlier runs wait for {self._settings.address}")
        self._thread.start()

    def publish(self, event: Event) -> None:
        """Keep an emotion event until the broker has it; of statuses only the newest counts."""
        body = to_json(event)
        if isinstance(event, EmotionEvent):
            self._spool.append(body)
            self._newest = _Newest(event, body.encode())
        else:
            self._status = body.encode()
        if not self._turn.acquire(blocking=False):  # the thread is at it: it looks again when it is woken
            self._wake()
            return
        try:
            if self._link is not None and not self._send_what_waits(self._link):
                self._wake()
        except PublishError:
            self._wake()  # the thread finds the same and says it
        finally:
            self._turn.release()

    def _wake(self) -> None:
        try:
            self._wake_write.send(b"w")
        except BlockingIOError:
            pass  # so many wake-ups wait that one more says nothing
        except OSError:  # closed
            pass

    def close(self) -> None:
        """Deliver what can be delivered at once, say offline, and leave the rest in the spool."""
        self._stopping.set()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(DRAIN_S + FAREWELL_S + ABANDON_S if self.connected else ABANDON_S)
        if self._spool.waiting:
            self._log(f"{self._spool.waiting} events wait in {self._spool.path} for the next run")
        self._spool.close()
        self._wake_read.close()
        self._wake_write.close()

    # In the thread

    def _serve(self) -> None:
        wait_s = RETRY_FIRST_S
        while not self._stopping.is_set():
            delivered, self._sent_events = self.delivered, 0
            try:
                self._converse()
            except PublishError as error:
                self._say(str(error))
            except Exception as error:  # noqa: BLE001  the supervision boundary: whatever it was, connect anew
                self._say(f"a bug ended the connection to {self._settings.address}: {error!r}")
            if self.delivered > delivered:  # a broker that lets us in and takes nothing is not asked more often for it
                wait_s = RETRY_FIRST_S
                self._stalled = 0
            elif self._sent_events:
                self._stalled += 1
            # Spread, so that many devices do not all come back in the same moment.
            self._stopping.wait(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, RETRY_LAST_S)

    def _converse(self) -> None:
        """Keep one connection for as long as it lasts."""
        settings = self._settings
        will = Farewell(f"{settings.topic}/availability", OFFLINE)
        link = BrokerLink(
            settings.address, settings.login, will,
            protocol=settings.protocol, keepalive_s=settings.keepalive_s, wake=self._wake_read,
        )  # fmt: skip
        try:
            link.open()
            self.connected = True
            self._say(None)
            self._introduce(link)
            self._feed(link)
            link.send(will.topic, OFFLINE.encode(), retain=True)
            self._finish(link, time.monotonic() + FAREWELL_S)
        finally:
            with self._turn:
                self._link = None
            self.connected = False
            link.close()
            self._spool.delivered(self._delivered + link.take_delivered())
            self._delivered = []

    def _introduce(self, link: BrokerLink) -> None:
        """Say that we are there, announce our sensors, and withdraw those that an earlier configuration announced."""
        settings = self._settings
        link.send(f"{settings.topic}/availability", ONLINE.encode(), retain=True)
        prefix = settings.discovery_prefix
        wanted = discovery(prefix, settings.topic, settings.labels) if prefix else {}
        announced = self._spool.announced()
        if not wanted.keys() <= announced:
            self._spool.announce(announced | wanted.keys())  # first: what was sent must never be forgotten
        for topic, payload in wanted.items():
            link.send(topic, json.dumps(payload).encode(), retain=True)
        for topic in sorted(announced - wanted.keys()):
            link.send(topic, b"", retain=True)
        if announced - wanted.keys():
            self._finish(link, time.monotonic() + FAREWELL_S)
            if link.is_idle:  # else they are withdrawn again when we come back
                self._spool.announce(set(wanted))

    def _feed(self, link: BrokerLink) -> None:
        """Send the spool in order, from its oldest event on, until the run ends."""
        ends_s: float | None = None
        with self._turn:
            oldest = self._spool.after(0, 1) if self._stalled >= PASS_OVER_AFTER else ()
            self._passed_over = oldest[0].position if oldest else None
            self._sent_position = self._passed_over or 0
            self._state = _StateTopic()
            self._link = link
        while True:
            with self._turn:
                link.look()
                is_all_sent = self._send_what_waits(link)
                self._forget(link)
            if self._stopping.is_set():
                ends_s = ends_s or time.monotonic() + DRAIN_S
                if self._spool.waiting == 0 or time.monotonic() > ends_s:
                    return
            link.wait(LOOP_S, for_broker=self._stopping.is_set() or not is_all_sent)

    def _send_what_waits(self, link: BrokerLink) -> bool:
        """Send as much as there is room for, without waiting; return whether nothing is left, and there is room for more."""
        topic = self._settings.topic
        room = link.room if self._stalled < ALONE_AFTER else min(link.room, 1 - link.events_on_way)
        for waiting in self._spool.after(self._sent_position, room):
            body = waiting.body.encode()
            if link.takes(f"{topic}/events", body):
                link.send(f"{topic}/events", body, position=waiting.position)
                self._sent_events += 1
            else:
                self._give_up(waiting.position, TOO_LARGE)
            self._sent_position = waiting.position
        if link.room > 0 and (newest := self._state.due(self._newest)) and link.takes(f"{topic}/state", newest.body):
            link.send(f"{topic}/state", newest.body, retain=True)
        if link.room > 0 and self._status:
            status, self._status = self._status, None
            if link.takes(f"{topic}/status", status):
                link.send(f"{topic}/status", status)
        return link.flush() and link.room >= HURRY_ROOM and self._sent_position >= self._spool.newest

    def _give_up(self, position: int, reason: str) -> None:
        """Drop an event that the broker will never take; it is counted, and the first is said."""
        if not self._spool.dropped.get(reason):
            self._log(f"{self._settings.address} does not take an event for its size or content; such events are dropped")
        self._spool.drop([position], reason)

    def _forget(self, link: BrokerLink) -> None:
        """Take what was acknowledged out of the spool, many at a time: what is forgotten late may at worst be sent twice."""
        acknowledged = link.take_delivered()
        self.delivered += len(acknowledged)
        self._delivered += acknowledged
        if acknowledged:
            self._stalled = 0
            if self._passed_over is not None:  # what comes after it is taken: it was this one
                self._give_up(self._passed_over, REFUSED)
                self._passed_over = None
        ending = self._stopping.is_set()
        if self._delivered and (ending or len(self._delivered) >= FORGET_EVENTS or time.monotonic() > self._forget_s):
            self._spool.delivered(self._delivered)
            self._delivered = []
            self._forget_s = time.monotonic() + FORGET_S

    def _finish(self, link: BrokerLink, deadline_s: float) -> None:
        while not link.is_idle and time.monotonic() < deadline_s:
            link.step(0.1)
            self._forget(link)

    def _say(self, trouble: str | None) -> None:
        """Log a trouble when it begins and when it is over, not at every try; at the end `close` says what is left."""
        if self._stopping.is_set():
            return
        if trouble and trouble != self._trouble:
            self._log(f"{trouble}; trying again, {self._spool.waiting} events wait")
        elif self._trouble and not trouble:
            self._log(f"{self._settings.address}: connected")
        self._trouble = trouble


@dataclass(frozen=True, slots=True)
class _Newest:
    event: EmotionEvent
    body: bytes


class _StateTopic:
    """Decides when the retained state is due: at once where it says something new, else once a second."""

    def __init__(self) -> None:
        self._sent: _Newest | None = None
        self._sent_s = 0.0

    def due(self, newest: _Newest | None) -> _Newest | None:
        if newest is None or newest is self._sent:
            return None
        now_s = time.monotonic()
        is_news = self._sent is None or _said(newest.event) != _said(self._sent.event)
        if not is_news and now_s - self._sent_s < STATE_EVERY_S:
            return None
        self._sent, self._sent_s = newest, now_s
        return newest


def _said(event: EmotionEvent) -> tuple[object, ...]:
    return event.state, event.label, event.devices
