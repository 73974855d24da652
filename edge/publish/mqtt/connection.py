"""One connection to an MQTT broker, from its opening to its loss; a lost one is never mended but made anew.

paho-mqtt is driven from outside (its "external loop"), by one thread at a time, so that nothing here needs a lock, and a
fresh client a link, so that paho keeps nothing to send again: what was not acknowledged is still in the spool.
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

from moodring.errors import ConfigError, PublishError, UsageError, without_credentials
from moodring.types import MqttVersion

MAX_INFLIGHT = 20  # messages on their way at a time; Mosquitto's own limit
CONNECT_TIMEOUT_S = 10.0
POLL_INTERVAL_S = 1.0  # between two looks at the keep-alive
MAX_HEADER_BYTES = 16  # of a message, at most, beside its topic and its payload
DEFAULT_PORTS = {"mqtts": 8883, "mqtt": 1883}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is, and whether the way there is TLS: decided by the configuration, never by what happens."""

    host: str
    port: int
    tls: bool

    def __str__(self) -> str:
        return f"MQTT broker {self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who we are to the broker. Its password is read when a link opens and is never logged."""

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
    """What the broker says for us when we are gone without a word."""

    topic: str
    payload: str


def parse_address(url: str) -> BrokerAddress:
    """Read mqtts://HOST[:PORT] (TLS, verified) or mqtt://HOST[:PORT] (plain)."""
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or parts.path.strip("/"):
        raise ConfigError(
            f"mqtt.url must be mqtts://HOST[:PORT], or mqtt://HOST[:PORT] for no TLS; got {without_credentials(url)}"
        )
    if parts.username or parts.password:
        raise ConfigError("mqtt.url must hold no user name and no password: set mqtt.username and mqtt.password_file")
    try:
        port = parts.port or DEFAULT_PORTS[parts.scheme]
    except ValueError as error:
        raise ConfigError(f"mqtt.url names no port from 1 to 65535: {url}") from error
    return BrokerAddress(parts.hostname, port, tls=parts.scheme == "mqtts")


def load_paho() -> Any:
    """Import the client library, or say which extra brings it."""
    try:
        return importlib.import_module("paho.mqtt.client")
    except ModuleNotFoundError as error:
        raise UsageError("publishing over MQTT needs paho-mqtt: pip install 'moodring[mqtt]'") from error


def tls_context(credentials: Credentials) -> ssl.SSLContext:
    """Return a context that verifies the broker's certificate and name; PublishError where a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=str(credentials.ca_file) if credentials.ca_file else None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if credentials.certificate_file:
            context.load_cert_chain(credentials.certificate_file, credentials.key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(
            str(file) for file in (credentials.ca_file, credentials.certificate_file, credentials.key_file) if file
        )
        raise PublishError(f"the certificates for MQTT cannot be read ({files}): {error}") from error
    return context


class BrokerConnection:
    """Sends at QoS 1 and collects what was acknowledged. Every failure is a PublishError that says what to do."""

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
        self._inflight: dict[int, int | None] = {}
        self._acknowledged: list[int] = []
        self._max_packet_bytes: int | None = None
        self._fault: str | None = None
        self._is_accepted = False
        self._max_inflight = MAX_INFLIGHT
        self._next_misc_s = 0.0
        self._client: Any = None

    @property
    def free_slots(self) -> int:
        """How many messages may be sent before one is acknowledged."""
        return self._max_inflight - len(self._inflight)

    @property
    def events_inflight(self) -> int:
        """How many messages with a position are not acknowledged yet."""
        return sum(position is not None for position in self._inflight.values())

    @property
    def is_idle(self) -> bool:
        return not self._inflight

    def open(self) -> None:
        """Connect and log in, or raise PublishError."""
        self._client = self._create_client()
        options = {"clean_start": True} if self._is_v5 else {}
        try:
            self._client.connect(self._address.host, self._address.port, self._keepalive_s, **options)
        except (OSError, ValueError) as error:  # every error of TLS is an OSError
            raise PublishError(f"{self._address} {self._explain_error(error)}") from error
        deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
        while not self._is_accepted:
            if time.monotonic() > deadline_s:
                raise PublishError(f"{self._address} takes the connection but does not answer; does this port speak MQTT?")
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
            client.tls_set_context(tls_context(self._credentials))
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_publish = self._on_publish
        client.on_socket_register_write = lambda *_: None  # so that only `step` writes to the socket
        return client

    def _explain_error(self, error: OSError | ValueError) -> str:
        never = "moodring does not fall back to a plain connection"
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"is not trusted: {error.verify_message}; check the broker's certificate and mqtt.ca_file ({never})"
        if isinstance(error, ssl.SSLError) or (self._address.tls and isinstance(error, ConnectionError | TimeoutError)):
            if isinstance(error, ConnectionRefusedError):
                return "refuses the connection: is it running, and is this its port?"
            return f"does not speak TLS on this port ({error}); name its TLS port in mqtt.url ({never})"
        if isinstance(error, socket.gaierror):
            return f"cannot be found: {error.strerror}; check the name in mqtt.url"
        if isinstance(error, ConnectionRefusedError):
            return "refuses the connection: is it running, and is this its port?"
        return f"cannot be reached: {error.strerror if isinstance(error, OSError) and error.strerror else error}"

    def accepts(self, topic: str, payload: bytes) -> bool:
        """Whether a message is within the size that the broker (MQTT 5) says it takes."""
        return self._max_packet_bytes is None or len(topic.encode()) + len(payload) + MAX_HEADER_BYTES <= self._max_packet_bytes

    def send(self, topic: str, payload: bytes, *, retain: bool = False, position: int | None = None) -> None:
        """Send one message; a position comes back from `take_delivered` once the broker has it."""
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc not in (self._paho.MQTT_ERR_SUCCESS, self._paho.MQTT_ERR_NO_CONN):
            raise PublishError(f"{self._address} was given a message it cannot take: {self._paho.error_string(info.rc)}")
        self._inflight[info.mid] = position

    def pop_acknowledged(self) -> list[int]:
        """Return the positions acknowledged since the last call."""
        acknowledged, self._acknowledged = self._acknowledged, []
        return acknowledged

    def flush(self) -> bool:
        """Write what was sent, without waiting; return whether nothing is left to write."""
        if self._client.want_write():
            self._client.loop_write()
        return not self._client.want_write()

    def poll(self) -> None:
        """Read what has come and keep the connection alive, without waiting; raises PublishError once the link is lost."""
        if self._client.socket() is not None:
            self._client.loop_read()
            if time.monotonic() >= self._next_misc_s:  # the keep-alive is counted in whole seconds
                self._client.loop_misc()
                self._next_misc_s = time.monotonic() + POLL_INTERVAL_S
        if self._fault or self._client.socket() is None:
            raise PublishError(f"{self._address} {self._fault or 'closed the connection'}")

    def wait(self, timeout_s: float, *, watch_broker: bool) -> None:
        """Wait to be woken and, if wanted, for what the broker sends or takes."""
        sock = self._client.socket()
        if sock is None or (
            watch_broker and getattr(sock, "pending", int)()
        ):  # what TLS has decrypted already, no select tells of
            return
        reads = [sock, self._notify_socket] if watch_broker else [self._notify_socket]
        writes = [sock] if watch_broker and self._client.want_write() else []
        try:
            readable, _, _ = select.select(reads, writes, [], timeout_s)
        except (OSError, ValueError):  # the other thread found the link lost, and its socket is closed: `look` will say so
            return
        if self._notify_socket in readable:
            self._notify_socket.recv(4096)

    def loop_once(self, timeout_s: float) -> None:
        """Move what there is to move, waiting for it or to be woken; raises PublishError once the link is lost."""
        self.flush()
        self.wait(timeout_s, watch_broker=True)
        self.poll()
        self.flush()

    def close(self) -> None:
        """Say goodbye, so that the broker does not speak our last will."""
        if self._client is not None and self._client.socket() is not None:
            self._client.disconnect()
            self._client.loop_write()

    # What paho calls, from within `step`

    def _on_connect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._fault = f"refuses the login: {reason}; check mqtt.username, mqtt.password_file and the broker's access list"
            return
        self._is_accepted = True
        self._max_inflight = min(MAX_INFLIGHT, getattr(properties, "ReceiveMaximum", MAX_INFLIGHT))
        self._max_packet_bytes = getattr(properties, "MaximumPacketSize", None)

    def _on_disconnect(self, _client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if self._fault is None:
            hint = "" if self._is_accepted else "; does it ask for TLS (mqtts://) or for a client certificate on this port?"
            self._fault = f"closed the connection ({reason}){hint}"

    def _on_publish(self, _client: Any, _userdata: Any, mid: int, reason: Any, _properties: Any) -> None:
        position = self._inflight.pop(mid, None)
        if reason.is_failure:
            self._fault = f"refuses a message: {reason}; may this user publish to the topic?"
        elif position is not None:
            self._acknowledged.append(position)
