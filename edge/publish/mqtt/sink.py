"""MQTT sink. No event is lost while the broker is away.

    publish -> spool (on disk) -> broker, in order -> removed from the spool after the acknowledgement, or set aside if refused

If there is no backlog, `publish` sends the event that it has stored. A thread connects, sends the backlog and reads the
acknowledgements. It does so once a second, or earlier if it is notified, because waking a thread costs more than a message.

Topics under the configured one: `events` (every event, in order), `state` (the newest event, retained), `status`, and
`availability` (online or offline, retained; the broker publishes offline if moodring dies).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from moodring.errors import PublishError
from moodring.labels import LABELS
from moodring.publish.base import Event
from moodring.publish.cloudevents import to_json
from moodring.publish.fault_log import FaultLog
from moodring.publish.mqtt.connection import POLL_INTERVAL_S, BrokerAddress, BrokerConnection, Credentials, LastWill, load_paho
from moodring.publish.mqtt.notifier import Notifier
from moodring.publish.mqtt.refusals import SIZE_REASON, TOO_LARGE, Refusals
from moodring.publish.mqtt.sensors import Sensors
from moodring.publish.mqtt.spool import Spool
from moodring.publish.mqtt.state_topic import StateMessage, StateTopic
from moodring.types import EmotionEvent, MqttVersion

ONLINE, OFFLINE = "online", "offline"
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.25, 15.0
# After this many lost connections in a row, each shorter than STABLE_AFTER_S, messages are sent one at a time for that time, so
# that a lost connection names the message that the broker refuses
ONE_AT_A_TIME_AFTER, STABLE_AFTER_S = 2, 10.0
# Acknowledged events stay in the spool until there are 20, or for 1 s
REMOVE_BATCH_EVENTS, REMOVE_INTERVAL_S = 20, 1.0
MIN_FREE_SLOTS = 5  # with fewer free slots, the thread reads acknowledgements at once
SENSORS_TIMEOUT_S = 1.0  # to announce and withdraw sensors one at a time; then all at once
# Limits of `close`: to deliver the spool, to publish offline, and to end the thread while there is no connection
DRAIN_TIMEOUT_S, OFFLINE_TIMEOUT_S, DISCONNECTED_TIMEOUT_S = 2.0, 1.0, 0.5


@dataclass(frozen=True, slots=True)
class MqttSettings:
    """Broker, credentials and topic. `discovery_prefix` is the prefix of Home Assistant; None disables the discovery."""

    address: BrokerAddress
    credentials: Credentials
    topic: str
    protocol: MqttVersion = "mqtt5"
    keepalive_s: int = 15
    discovery_prefix: str | None = None
    labels: tuple[str, ...] = LABELS


class MqttSink:
    """Stores each event on disk and sends it to the broker from a thread."""

    def __init__(self, settings: MqttSettings, spool: Spool, log: Callable[[str], None]) -> None:
        load_paho()
        self.connected = False
        self._settings = settings
        self._spool = spool
        self._log = log
        self._fault_log = FaultLog(log)
        self._stopping = threading.Event()
        self._notifier = Notifier()
        self._connection_lock = threading.Lock()  # held to send: guards the connection and the state of sending
        self._connection: BrokerConnection | None = None
        self._sent_position = 0
        self._short_connections, self._connected_s = 0, 0.0
        self._refusals = Refusals(spool, str(settings.address), log, max_bytes=spool.max_bytes)
        self._sensors = Sensors(spool, settings.discovery_prefix, settings.topic, settings.labels)
        self._state = StateTopic()
        self._newest: StateMessage | None = None
        self._delivered = 0
        self._acknowledged: list[int] = []
        self._next_removal_s = 0.0
        self._status: bytes | None = None
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    @property
    def spooled(self) -> int:
        """The number of events in the spool."""
        return self._spool.pending

    @property
    def spool_dropped(self) -> dict[str, int]:
        """The number of events dropped from the spool over its life, by reason."""
        return self._spool.dropped

    def open(self) -> None:
        """Open the spool and start to connect. Raises PublishError if the spool cannot be opened."""
        self._spool.open()
        if self._spool.damaged_path:
            self._log(
                f"spool {self._spool.path}: damaged; moodring renamed it to {self._spool.damaged_path} and created a new one"
            )
        if self._spool.pending:
            self._log(
                f"{self._settings.address}: {self._spool.pending} events of earlier runs are in the spool; sending them first"
            )
        self._thread.start()

    def publish(self, event: Event) -> None:
        """Store an emotion event in the spool; of status events keep only the newest. Never waits for the broker.

        An emotion event is safe on disk when this returns. Raises PublishError if the spool cannot be written.
        """
        body = to_json(event)
        if isinstance(event, EmotionEvent):
            self._spool.append(body)
            self._newest = StateMessage(event, body.encode())
        else:
            self._status = body.encode()
        if not self._connection_lock.acquire(blocking=False):  # the thread is sending: it checks again after the notification
            self._notifier.notify()
            return
        try:
            if self._connection is not None and not self._send_pending(self._connection):
                self._notifier.notify()
        except PublishError:
            self._notifier.notify()  # the thread meets the same error and logs it
        finally:
            self._connection_lock.release()

    def close(self) -> None:
        """Deliver events for up to `DRAIN_TIMEOUT_S`, publish offline, and leave the rest in the spool."""
        self._stopping.set()
        self._notifier.notify()
        if self._thread.ident is not None:
            self._thread.join(
                DRAIN_TIMEOUT_S + OFFLINE_TIMEOUT_S + DISCONNECTED_TIMEOUT_S if self.connected else DISCONNECTED_TIMEOUT_S
            )
        self._refusals.log_summary()
        if self._spool.pending:
            self._log(
                f"{self._settings.address}: {self._spool.pending} events are not delivered; "
                f"they stay in {self._spool.path} for the next run"
            )
        self._spool.close()
        self._notifier.close()

    # In the thread

    def _run(self) -> None:
        wait_s = BACKOFF_MIN_S
        while not self._stopping.is_set():
            progress = self._delivered + self._refusals.events
            try:
                self._run_connection()
            except PublishError as error:
                self._report_fault(str(error))
            except Exception as error:  # noqa: BLE001  the supervision boundary: connect again after any error
                self._report_fault(f"{self._settings.address}: unexpected error {error!r}; please report this bug")
            if self._delivered + self._refusals.events > progress:  # a login alone does not reset the back-off
                wait_s = BACKOFF_MIN_S
            # Random, so that many devices do not reconnect at the same moment
            self._stopping.wait(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, BACKOFF_MAX_S)

    def _run_connection(self) -> None:
        """Open one connection and use it until it is lost (PublishError) or the sink closes."""
        settings = self._settings
        will = LastWill(f"{settings.topic}/availability", OFFLINE)
        connection = BrokerConnection(
            settings.address, settings.credentials, will,
            protocol=settings.protocol, keepalive_s=settings.keepalive_s, notify_socket=self._notifier.receiver,
        )  # fmt: skip
        try:
            connection.open()
            self.connected, self._connected_s = True, time.monotonic()
            if not self._stopping.is_set():
                self._fault_log.clear(f"{settings.address}: connected")
            self._send(connection, will.topic, ONLINE.encode(), retain=True)
            self._forward_spool(connection)
            self._send(connection, will.topic, OFFLINE.encode(), retain=True)
            self._wait_acknowledged(connection, time.monotonic() + OFFLINE_TIMEOUT_S)
        except PublishError:
            with self._connection_lock:
                if self.connected:
                    self._short_connections = self._short_connections + 1 if self._is_new() else 0
                if refusal := connection.refused_by_closing():
                    self._refusals.refuse(refusal)
            raise
        finally:
            with self._connection_lock:
                self._connection = None
            self.connected = False
            connection.close()
            self._spool.remove_delivered(self._acknowledged + self._refusals.accept(connection.pop_acknowledged()))
            self._acknowledged = []

    def _send(self, connection: BrokerConnection, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        """Send a message that is not in the spool, unless the broker refuses it. Return whether it was sent."""
        if self._refusals.is_blocked(topic):
            return False
        if not connection.accepts(topic, payload):
            self._refusals.name_topic(topic, SIZE_REASON)
            return False
        connection.send(topic, payload, retain=retain)
        return True

    def _announce_sensors(self, connection: BrokerConnection) -> None:
        """Announce the sensors, one at a time, so that a lost connection names the message that the broker refuses."""
        deadline_s = time.monotonic() + SENSORS_TIMEOUT_S
        self._wait_acknowledged(connection, deadline_s)
        for topic, payload in self._sensors.messages():
            if self._send(connection, topic, payload, retain=True):
                self._wait_acknowledged(connection, deadline_s)
                if connection.is_idle and not self._refusals.is_refused(topic):
                    self._sensors.confirm(topic)

    def _forward_spool(self, connection: BrokerConnection) -> None:
        """Send the spool in order, oldest event first, until the sink closes.

        The sensors follow the first event that is acknowledged: if the broker refuses them, it does not refuse the events.
        """
        drain_deadline_s: float | None = None
        delivered_before, are_sensors_due = self._delivered, True
        with self._connection_lock:
            self._sent_position = 0
            self._state = StateTopic()
            self._connection = connection
        while True:
            with self._connection_lock:
                connection.poll()
                self._process_answers(connection)
                if are_sensors_due and (self._spool.pending == 0 or self._delivered > delivered_before):
                    self._announce_sensors(connection)
                    are_sensors_due = False
                is_all_sent = self._send_pending(connection)
            if self._stopping.is_set():
                drain_deadline_s = drain_deadline_s or time.monotonic() + DRAIN_TIMEOUT_S
                if self._spool.pending == 0 or time.monotonic() > drain_deadline_s:
                    return
            connection.wait(POLL_INTERVAL_S, watch_broker=self._stopping.is_set() or not is_all_sent or are_sensors_due)

    def _send_pending(self, connection: BrokerConnection) -> bool:
        """Send as many messages as there are free slots, without blocking.

        Return whether everything is sent and at least `MIN_FREE_SLOTS` slots are free; all, if messages are sent one at a time.
        """
        topic = self._settings.topic
        for pending in self._spool.read_after(self._sent_position, self._free_slots(connection)):
            body = pending.body.encode()
            if connection.accepts(f"{topic}/events", body):
                connection.send(f"{topic}/events", body, position=pending.position)
            else:
                self._refusals.set_aside(pending.position, TOO_LARGE, SIZE_REASON)
            self._sent_position = pending.position
        if self._free_slots(connection) > 0 and (newest := self._state.due(self._newest)):
            self._send(connection, f"{topic}/state", newest.body, retain=True)
        if self._free_slots(connection) > 0 and self._status:
            status, self._status = self._status, None
            self._send(connection, f"{topic}/status", status)
        is_ready = connection.is_idle if self._is_cautious() else connection.free_slots >= MIN_FREE_SLOTS
        return connection.flush() and is_ready and self._sent_position >= self._spool.last_position

    def _free_slots(self, connection: BrokerConnection) -> int:
        """Return the number of messages that can be sent now."""
        return int(connection.is_idle) if self._is_cautious() else connection.free_slots

    def _is_cautious(self) -> bool:
        return self._short_connections >= ONE_AT_A_TIME_AFTER and self._is_new()

    def _is_new(self) -> bool:
        return time.monotonic() < self._connected_s + STABLE_AFTER_S

    def _process_answers(self, connection: BrokerConnection) -> None:
        """Remove acknowledged events from the spool, in batches: after a crash, the others are sent again. Count refused ones.

        Raises PublishError if an event must be sent again.
        """
        acknowledged = self._refusals.accept(connection.pop_acknowledged())
        self._delivered += len(acknowledged)
        self._acknowledged += acknowledged
        if self._acknowledged and (
            self._stopping.is_set() or len(self._acknowledged) >= REMOVE_BATCH_EVENTS or time.monotonic() > self._next_removal_s
        ):
            self._spool.remove_delivered(self._acknowledged)
            self._acknowledged = []
            self._next_removal_s = time.monotonic() + REMOVE_INTERVAL_S
        if pending := [refusal for refusal in connection.pop_refused() if self._refusals.refuse(refusal)]:
            raise PublishError(f"{self._settings.address}: message refused: {pending[0]}")

    def _wait_acknowledged(self, connection: BrokerConnection, deadline_s: float) -> None:
        while not connection.is_idle and time.monotonic() < deadline_s:
            connection.loop_once(0.1)
            self._process_answers(connection)

    def _report_fault(self, fault: str) -> None:
        """Log a fault of the connection. While the sink closes, `close` logs what is left instead."""
        if not self._stopping.is_set():
            self._fault_log.report(fault, f"; retrying, {self._spool.pending} events in the spool")
