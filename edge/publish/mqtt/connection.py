"""One connection to an MQTT broker. A lost connection is not repaired; the sink opens a new one.

paho-mqtt runs with an external event loop, in one thread at a time, so this module needs no lock. Each connection has a new
paho client, so paho resends nothing: unacknowledged events are still in the spool.
"""

from __future__ import annotations

import importlib
import select
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from moodring.errors import ConfigError, PublishError, UsageError
from moodring.publish.mqtt.refusals import TOPIC_NAME_INVALID, Refusal
from moodring.publish.mqtt.tls import tls_context
from moodring.types import MqttVersion

MAX_INFLIGHT = 20  # unacknowledged messages at a time; the default limit of Mosquitto
CONNECT_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 1.0  # between two keep-alive checks
MAX_HEADER_BYTES = 16  # upper bound of a message's size without topic and payload
DEFAULT_PORTS = {"mqtts": 8883, "mqtt": 1883}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Host and port of the broker, and whether to use TLS. Only the configuration decides on TLS; there is no fallback."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"MQTT broker {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Client id, login and certificates for the broker. The password is never logged: `repr` omits it."""

    client_id: str
    username: str | None = None
    password: str | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    def __repr__(self) -> str:
        return f"Credentials({self.client_id!r})"


@dataclass(frozen=True, slots=True)
class LastWill:
    """The message that the broker publishes if the connection ends without a disconnect."""

    topic: str
    payload: str


def parse_address(url: str) -> BrokerAddress:
    """Parse mqtts://HOST[:PORT] (TLS, verified) or mqtt://HOST[:PORT] (not encrypted).

    Raises ConfigError if the URL has another form or contains credentials.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:  # [ without ]
        raise ConfigError(f"mqtt.url: {error}; got {url}") from error
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or parts.path.strip("/"):
        raise ConfigError(f"mqtt.url must be mqtts://HOST[:PORT], or mqtt://HOST[:PORT] without TLS; got {url}")
    if parts.username or parts.password:
        raise ConfigError("mqtt.url must not contain a user name or a password: set mqtt.username and mqtt.password_file")
    try:
        port = parts.port or DEFAULT_PORTS[parts.scheme]
    except ValueError as error:
        raise ConfigError(f"mqtt.url: the port must be from 1 to 65535; got {url}") from error
    return BrokerAddress(parts.hostname, port, tls=parts.scheme == "mqtts")


def load_paho() -> Any:
    """Return the module paho.mqtt.client. Raises UsageError if it is not installed."""
    try:
        return importlib.import_module("paho.mqtt.client")
    except ModuleNotFoundError as error:
        raise UsageError("publishing over MQTT needs paho-mqtt: pip install 'moodring[mqtt]'") from error


class BrokerConnection:
    """Sends messages at QoS 1 and collects the acknowledged positions. A failure raises PublishError with advice.

    `keepalive_s` is the MQTT keep-alive in seconds. A byte on `notify_socket` ends `wait`.
    """

    def __init__(
        self,
        address: BrokerAddress,
        credentials: Credentials,
        will: LastWill,
        *,
        protocol: MqttVersion,
        keepalive_s: int,
        notify_socket: socket.socket,
    ) -> None:
        self._paho = load_paho()
        self._address = address
        self._credentials = credentials
        self._will = will
        self._keepalive_s = keepalive_s
        self._notify_socket = notify_socket
        self._is_v5 = protocol == "mqtt5"
        self._inflight: dict[int, tuple[str, int | None]] = {}  # topic and position by message id
        self._acknowledged: list[tuple[str, int | None]] = []  # the same
        self._refused: list[Refusal] = []
        self._closed_by_broker: tuple[str, int] | None = None  # reason and code
        self._max_packet_bytes: int | None = None
        self._fault: str | None = None
        self._is_accepted = False
        self._max_inflight = MAX_INFLIGHT
        self._next_misc_s = 0.0
        self._client: Any = None

    @property
    def free_slots(self) -> int:
        """The number of messages that can be sent before the next acknowledgement."""
        return self._max_inflight - len(self._inflight)

    @property
    def is_idle(self) -> bool:
        """Whether all messages are acknowledged."""
        return not self._inflight

    def open(self) -> None:
        """Connect and log in. Raises PublishError."""
        self._client = self._create_client()
        options = {"clean_start": True} if self._is_v5 else {}
        try:
            self._client.connect(self._address.host, self._address.port, self._keepalive_s, **options)
        except (OSError, ValueError) as error:  # TLS errors are OSErrors
            raise PublishError(f"{self._address}: {self._explain_error(error)}") from error
        deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
        while not self._is_accepted:
            if time.monotonic() > deadline_s:
                raise PublishError(
                    f"{self._address}: no response within {CONNECT_TIMEOUT_S:g} s; check that mqtt.url has an MQTT port"
                )
            self.loop_once(0.2)

    def _create_client(self) -> Any:
        paho = self._paho
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=self._credentials.client_id,
            protocol=paho.MQTTv5 if self._is_v5 else paho.MQTTv311,
            **({} if self._is_v5 else {"clean_session": True}),
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(MAX_INFLIGHT)
        client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        if self._credentials.username:
            client.username_pw_set(self._credentials.username, self._credentials.password)
        if self._address.tls:
            files = self._credentials
            client.tls_set_context(tls_context(files.ca_file, files.certificate_file, files.key_file))
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish = self._on_publish
        client.on_socket_register_write = lambda *_: None  # so that paho writes in `loop_write` only
        return client

    def _explain_error(self, error: OSError | ValueError) -> str:
        no_fallback = "moodring does not fall back to an unencrypted connection"
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f"TLS certificate rejected: {error.verify_message}"
            return f"{reason}; check the broker's certificate and mqtt.ca_file ({no_fallback})"
        if isinstance(error, ConnectionRefusedError):
            return "connection refused; check that the broker runs and that mqtt.url has its port"
        if isinstance(error, ssl.SSLError) or (self._address.tls and isinstance(error, ConnectionError | TimeoutError)):
            return f"no TLS on this port ({error}); set mqtt.url to the broker's TLS port ({no_fallback})"
        if isinstance(error, socket.gaierror):
            return f"host name not found: {error.strerror}; check mqtt.url"
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return f"connection failed: {reason}; check mqtt.url and the network"

    def accepts(self, topic: str, payload: bytes) -> bool:
        """Return whether a message is within the maximum packet size that an MQTT 5 broker announced."""
        return self._max_packet_bytes is None or len(topic.encode()) + len(payload) + MAX_HEADER_BYTES <= self._max_packet_bytes

    def send(self, topic: str, payload: bytes, *, retain: bool = False, position: int | None = None) -> None:
        """Send one message. `pop_acknowledged` returns its position after the broker has acknowledged it.

        Raises PublishError if paho cannot send now. A message that no broker can accept counts as refused.
        """
        try:
            info = self._client.publish(topic, payload, qos=1, retain=retain)
        except ValueError as error:
            self._refused.append(Refusal(topic, position, str(error), TOPIC_NAME_INVALID))
            return
        if info.rc not in (self._paho.MQTT_ERR_SUCCESS, self._paho.MQTT_ERR_NO_CONN):
            raise PublishError(f"{self._address}: message rejected by paho-mqtt: {self._paho.error_string(info.rc)}")
        self._inflight[info.mid] = topic, position

    def pop_acknowledged(self) -> list[tuple[str, int | None]]:
        """Return topic and position of the messages that were acknowledged since the last call."""
        acknowledged, self._acknowledged = self._acknowledged, []
        return acknowledged

    def pop_refused(self) -> list[Refusal]:
        """Return the messages that the broker refused since the last call."""
        refused, self._refused = self._refused, []
        return refused

    def refused_by_closing(self) -> Refusal | None:
        """Return the message for which the broker closed the connection: the only unacknowledged one; None if unknown."""
        if self._closed_by_broker is None or len(self._inflight) != 1:
            return None
        ((topic, position),) = self._inflight.values()
        return Refusal(topic, position, *self._closed_by_broker, closed=True)

    def flush(self) -> bool:
        """Write sent messages to the socket without blocking. Return whether all are written."""
        if self._client.want_write():
            self._client.loop_write()
        return not self._client.want_write()

    def poll(self) -> None:
        """Read received data and keep the connection alive, without blocking. Raises PublishError if the connection is lost."""
        if self._client.socket() is not None:
            self._client.loop_read()
            if time.monotonic() >= self._next_misc_s:  # the keep-alive has a resolution of 1 s
                self._client.loop_misc()
                self._next_misc_s = time.monotonic() + POLL_INTERVAL_S
        if self._fault or self._client.socket() is None:
            raise PublishError(f"{self._address}: {self._fault or 'connection closed'}")

    def wait(self, timeout_s: float, *, watch_broker: bool) -> None:
        """Wait up to `timeout_s` for a notification and, with `watch_broker`, until the connection can be read or written."""
        sock = self._client.socket()
        if sock is None:
            return
        if watch_broker and getattr(sock, "pending", int)():  # select does not report data that TLS has already decrypted
            return
        reads = [sock, self._notify_socket] if watch_broker else [self._notify_socket]
        writes = [sock] if watch_broker and self._client.want_write() else []
        try:
            readable, _, _ = select.select(reads, writes, [], timeout_s)
        except (OSError, ValueError):  # another thread closed the socket of a lost connection: `poll` will raise
            return
        if self._notify_socket in readable:
            self._notify_socket.recv(4096)

    def loop_once(self, timeout_s: float) -> None:
        """Wait up to `timeout_s`, then read and write. Raises PublishError if the connection is lost."""
        self.flush()
        self.wait(timeout_s, watch_broker=True)
        self.poll()
        self.flush()

    def close(self) -> None:
        """Disconnect, so that the broker does not publish the last will."""
        if self._client is not None and self._client.socket() is not None:
            self._client.disconnect()
            self._client.loop_write()

    # Callbacks of paho, called by `poll` and `flush`

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._fault = f"login refused: {reason}; check mqtt.username, mqtt.password_file and the broker's access list"
            return
        self._is_accepted = True
        self._max_inflight = min(MAX_INFLIGHT, getattr(properties, "ReceiveMaximum", MAX_INFLIGHT))
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", None)

    def _on_disconnect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self._is_accepted:
            self._closed_by_broker = str(reason), reason.value
        if self._fault is None:
            hint = "" if self._is_accepted else "; check whether this port requires TLS (mqtts://) or a client certificate"
            self._fault = f"connection closed ({reason}){hint}"

    def _on_publish(self, _client: Any, _userdata: Any, mid: int, reason: Any, _properties: Any) -> None:
        topic, position = self._inflight.pop(mid, ("", None))
        if reason.is_failure:
            self._refused.append(Refusal(topic, position, str(reason), reason.value))
        else:
            self._acknowledged.append((topic, position))
