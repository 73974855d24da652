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
from moodring.publish.mqtt.connection import POLL_INTERVAL_S, BrokerAddress, BrokerConnection, Credentials, LastWill, load_paho
from moodring.publish.mqtt.home_assistant import discovery
from moodring.publish.mqtt.spool import Spool
from moodring.types import EmotionEvent, MqttVersion

ONLINE, OFFLINE = "online", "offline"
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.25, 15.0
TOO_LARGE, REFUSED = "too_large_for_broker", "refused_by_broker"
# Connections in a row that were lost with events on their way and none acknowledged, until events go one at a time, and until
# the oldest is passed over to see whether it alone is what the broker will not have.
SINGLE_INFLIGHT_AFTER, SKIP_OLDEST_AFTER = 3, 5
STATE_INTERVAL_S = 1.0  # the retained state follows at once where it says something new, else this often
REMOVE_BATCH_EVENTS, REMOVE_INTERVAL_S = 20, 1.0  # so many acknowledged events, or for so long, may stay in the spool
MIN_FREE_SLOTS = 5  # with room for fewer messages, acknowledgements are read at once
DRAIN_TIMEOUT_S, OFFLINE_TIMEOUT_S = 2.0, 1.0  # at the end, for what is still on its way, and for saying that we are offline
DISCONNECTED_TIMEOUT_S = 0.5  # and where there is no connection


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Which broker, as whom, and under which topic. `discovery_prefix` is Home Assistant's, or None for no discovery."""

    address: BrokerAddress
    credentials: Credentials
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
        self._notify_read, self._notify_write = socket.socketpair()
        self._notify_read.setblocking(False)
        self._notify_write.setblocking(False)
        self._connection_lock = threading.Lock()  # whoever holds it may use the link and what follows
        self._connection: BrokerConnection | None = None
        self._sent_position = 0
        self._sent_events = 0
        self._stalled_connections = 0
        self._skipped_position: int | None = None
        self._state = _StateTopic()
        self._newest: _StateMessage | None = None
        self._acknowledged: list[int] = []
        self._next_removal_s = 0.0
        self._status: bytes | None = None
        self._fault: str | None = None
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    @property
    def spooled(self) -> int:
        return self._spool.pending

    @property
    def spool_dropped(self) -> dict[str, int]:
        return self._spool.dropped

    def open(self) -> None:
        """Open the spool (PublishError where it cannot be) and begin to connect."""
        self._spool.open()
        if self._spool.damaged_path:
            self._log(f"the spool was damaged and is now {self._spool.damaged_path}; a new one was begun")
        if self._spool.pending:
            self._log(f"{self._spool.pending} events of earlier runs wait for {self._settings.address}")
        self._thread.start()

    def publish(self, event: Event) -> None:
        """Keep an emotion event until the broker has it; of statuses only the newest counts."""
        body = to_json(event)
        if isinstance(event, EmotionEvent):
            self._spool.append(body)
            self._newest = _StateMessage(event, body.encode())
        else:
            self._status = body.encode()
        if not self._connection_lock.acquire(blocking=False):  # the thread is at it: it looks again when it is woken
            self._notify_worker()
            return
        try:
            if self._connection is not None and not self._send_pending(self._connection):
                self._notify_worker()
        except PublishError:
            self._notify_worker()  # the thread finds the same and says it
        finally:
            self._connection_lock.release()

    def _notify_worker(self) -> None:
        try:
            self._notify_write.send(b"w")
        except BlockingIOError:
            pass  # so many wake-ups wait that one more says nothing
        except OSError:  # closed
            pass

    def close(self) -> None:
        """Deliver what can be delivered at once, say offline, and leave the rest in the spool."""
        self._stopping.set()
        self._notify_worker()
        if self._thread.ident is not None:
            self._thread.join(
                DRAIN_TIMEOUT_S + OFFLINE_TIMEOUT_S + DISCONNECTED_TIMEOUT_S if self.connected else DISCONNECTED_TIMEOUT_S
            )
        if self._spool.pending:
            self._log(f"{self._spool.pending} events wait in {self._spool.path} for the next run")
        self._spool.close()
        self._notify_read.close()
        self._notify_write.close()

    # In the thread

    def _run(self) -> None:
        wait_s = BACKOFF_MIN_S
        while not self._stopping.is_set():
            delivered, self._sent_events = self.delivered, 0
            try:
                self._run_connection()
            except PublishError as error:
                self._log_fault(str(error))
            except Exception as error:  # noqa: BLE001  the supervision boundary: whatever it was, connect anew
                self._log_fault(f"a bug ended the connection to {self._settings.address}: {error!r}")
            if self.delivered > delivered:  # a broker that lets us in and takes nothing is not asked more often for it
                wait_s = BACKOFF_MIN_S
                self._stalled_connections = 0
            elif self._sent_events:
                self._stalled_connections += 1
            # Spread, so that many devices do not all come back in the same moment.
            self._stopping.wait(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, BACKOFF_MAX_S)

    def _run_connection(self) -> None:
        """Keep one connection for as long as it lasts."""
        settings = self._settings
        will = LastWill(f"{settings.topic}/availability", OFFLINE)
        connection = BrokerConnection(
            settings.address, settings.credentials, will,
            protocol=settings.protocol, keepalive_s=settings.keepalive_s, notify_socket=self._notify_read,
        )  # fmt: skip
        try:
            connection.open()
            self.connected = True
            self._log_fault(None)
            self._announce_presence(connection)
            self._forward_spool(connection)
            connection.send(will.topic, OFFLINE.encode(), retain=True)
            self._wait_acknowledged(connection, time.monotonic() + OFFLINE_TIMEOUT_S)
        finally:
            with self._connection_lock:
                self._connection = None
            self.connected = False
            connection.close()
            self._spool.delivered(self._acknowledged + connection.pop_acknowledged())
            self._acknowledged = []

    def _announce_presence(self, connection: BrokerConnection) -> None:
        """Say that we are there, announce our sensors, and withdraw those that an earlier configuration announced."""
        settings = self._settings
        connection.send(f"{settings.topic}/availability", ONLINE.encode(), retain=True)
        prefix = settings.discovery_prefix
        wanted = discovery(prefix, settings.topic, settings.labels) if prefix else {}
        announced = self._spool.announced()
        if not wanted.keys() <= announced:
            self._spool.store_announced(announced | wanted.keys())  # first: what was sent must never be forgotten
        for topic, payload in wanted.items():
            connection.send(topic, json.dumps(payload).encode(), retain=True)
        for topic in sorted(announced - wanted.keys()):
            connection.send(topic, b"", retain=True)
        if announced - wanted.keys():
            self._wait_acknowledged(connection, time.monotonic() + OFFLINE_TIMEOUT_S)
            if connection.is_idle:  # else they are withdrawn again when we come back
                self._spool.store_announced(set(wanted))

    def _forward_spool(self, connection: BrokerConnection) -> None:
        """Send the spool in order, from its oldest event on, until the run ends."""
        drain_deadline_s: float | None = None
        with self._connection_lock:
            oldest = self._spool.read_after(0, 1) if self._stalled_connections >= SKIP_OLDEST_AFTER else ()
            self._skipped_position = oldest[0].position if oldest else None
            self._sent_position = self._skipped_position or 0
            self._state = _StateTopic()
            self._connection = connection
        while True:
            with self._connection_lock:
                connection.poll()
                is_all_sent = self._send_pending(connection)
                self._remove_acknowledged(connection)
            if self._stopping.is_set():
                drain_deadline_s = drain_deadline_s or time.monotonic() + DRAIN_TIMEOUT_S
                if self._spool.pending == 0 or time.monotonic() > drain_deadline_s:
                    return
            connection.wait(POLL_INTERVAL_S, watch_broker=self._stopping.is_set() or not is_all_sent)

    def _send_pending(self, connection: BrokerConnection) -> bool:
        """Send as much as there is room for, without waiting; return whether nothing is left, and there is room for more."""
        topic = self._settings.topic
        free_slots = (
            connection.free_slots
            if self._stalled_connections < SINGLE_INFLIGHT_AFTER
            else min(connection.free_slots, 1 - connection.events_inflight)
        )
        for pending in self._spool.read_after(self._sent_position, free_slots):
            body = pending.body.encode()
            if connection.accepts(f"{topic}/events", body):
                connection.send(f"{topic}/events", body, position=pending.position)
                self._sent_events += 1
            else:
                self._drop_rejected(pending.position, TOO_LARGE)
            self._sent_position = pending.position
        if (
            connection.free_slots > 0
            and (newest := self._state.due(self._newest))
            and connection.accepts(f"{topic}/state", newest.body)
        ):
            connection.send(f"{topic}/state", newest.body, retain=True)
        if connection.free_slots > 0 and self._status:
            status, self._status = self._status, None
            if connection.accepts(f"{topic}/status", status):
                connection.send(f"{topic}/status", status)
        return connection.flush() and connection.free_slots >= MIN_FREE_SLOTS and self._sent_position >= self._spool.newest

    def _drop_rejected(self, position: int, reason: str) -> None:
        """Drop an event that the broker will never take; it is counted, and the first is said."""
        if not self._spool.dropped.get(reason):
            self._log(f"{self._settings.address} does not take an event for its size or content; such events are dropped")
        self._spool.drop([position], reason)

    def _remove_acknowledged(self, connection: BrokerConnection) -> None:
        """Take what was acknowledged out of the spool, many at a time: what is forgotten late may at worst be sent twice."""
        acknowledged = connection.pop_acknowledged()
        self.delivered += len(acknowledged)
        self._acknowledged += acknowledged
        if acknowledged:
            self._stalled_connections = 0
            if self._skipped_position is not None:  # what comes after it is taken: it was this one
                self._drop_rejected(self._skipped_position, REFUSED)
                self._skipped_position = None
        ending = self._stopping.is_set()
        if self._acknowledged and (
            ending or len(self._acknowledged) >= REMOVE_BATCH_EVENTS or time.monotonic() > self._next_removal_s
        ):
            self._spool.delivered(self._acknowledged)
            self._acknowledged = []
            self._next_removal_s = time.monotonic() + REMOVE_INTERVAL_S

    def _wait_acknowledged(self, connection: BrokerConnection, deadline_s: float) -> None:
        while not connection.is_idle and time.monotonic() < deadline_s:
            connection.loop_once(0.1)
            self._remove_acknowledged(connection)

    def _log_fault(self, fault: str | None) -> None:
        """Log a trouble when it begins and when it is over, not at every try; at the end `close` says what is left."""
        if self._stopping.is_set():
            return
        if fault and fault != self._fault:
            self._log(f"{fault}; trying again, {self._spool.pending} events wait")
        elif self._fault and not fault:
            self._log(f"{self._settings.address}: connected")
        self._fault = fault


@dataclass(frozen=True, slots=True)
class _StateMessage:
    event: EmotionEvent
    body: bytes


class _StateTopic:
    """Decides when the retained state is due: at once where it says something new, else once a second."""

    def __init__(self) -> None:
        self._sent: _StateMessage | None = None
        self._sent_s = 0.0

    def due(self, newest: _StateMessage | None) -> _StateMessage | None:
        if newest is None or newest is self._sent:
            return None
        now_s = time.monotonic()
        is_changed = self._sent is None or _state_key(newest.event) != _state_key(self._sent.event)
        if not is_changed and now_s - self._sent_s < STATE_INTERVAL_S:
            return None
        self._sent, self._sent_s = newest, now_s
        return newest


def _state_key(event: EmotionEvent) -> tuple[object, ...]:
    return event.state, event.label, event.devices
