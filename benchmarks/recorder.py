"""An MQTT 3.1.1 subscriber that reads every byte that a killed broker has sent.

Client libraries drop the data that they have not read when a write fails, so the end of a broker looks like lost events. This
subscriber acknowledges while the broker accepts data, reads the connection to its end, and then resumes its session.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time

RETRY_S = 0.05
CONNECT, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 0x10, 3, b"\x40\x02", 0x82, 9
CLIENT_ID = b"moodring-recorder"


class MqttRecorder:
    """Collects the messages under a topic as (topic, payload), at QoS 1, in a session that persists across connections."""

    def __init__(self, port: int, topic: str) -> None:
        self.messages: list[tuple[str, str]] = []
        self._port = port
        self._topic = topic.encode()
        self._stop = threading.Event()
        self._subscribed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def __enter__(self) -> MqttRecorder:  # noqa: PYI034
        self._thread.start()
        self.wait_until_connected()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(5)

    def wait_until_connected(self) -> None:
        """Wait until the broker has confirmed the subscription. Raises TimeoutError after 30 s."""
        if not self._subscribed.wait(30):
            raise TimeoutError("the broker has not confirmed the subscription within 30 s")

    def payloads(self, topic: str) -> list[str]:
        """Return the payloads of the topics whose last part is `topic`, in the order of their arrival."""
        return [payload for name, payload in list(self.messages) if name.endswith("/" + topic)]

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 5) as connection:
                self._read_connection(connection)
            self._subscribed.clear()
            time.sleep(RETRY_S)

    def _read_connection(self, connection: socket.socket) -> None:
        """Subscribe and read one connection to its end."""
        connect_body = b"\x00\x04MQTT\x04\x00\x00\x00" + _utf8_field(CLIENT_ID)  # no clean session, no keep-alive
        connection.sendall(bytes([CONNECT, len(connect_body)]) + connect_body)
        subscribe_body = b"\x00\x01" + _utf8_field(self._topic) + b"\x01"
        connection.sendall(bytes([SUBSCRIBE, len(subscribe_body)]) + subscribe_body)
        connection.settimeout(0.5)
        buffer = b""
        while not self._stop.is_set():
            try:
                chunk = connection.recv(65536)
            except TimeoutError:
                continue
            if not chunk:
                return
            buffer, acknowledgements = self._parse_packets(buffer + chunk)
            with contextlib.suppress(OSError):  # the broker is gone, but its data may not be read yet
                connection.sendall(acknowledgements)

    def _parse_packets(self, data: bytes) -> tuple[bytes, bytes]:
        """Store the messages of the complete packets; return the remaining bytes and the acknowledgements to send."""
        acknowledgements = b""
        while (packet := _first_packet(data)) is not None:
            head, body, data = packet
            if head >> 4 == SUBACK:
                self._subscribed.set()
            elif head >> 4 == PUBLISH:
                (length,) = struct.unpack_from(">H", body)
                topic, rest = body[2 : 2 + length].decode(), body[2 + length :]
                if head & 0x06:  # QoS 1: the packet id precedes the payload
                    acknowledgements += PUBACK + rest[:2]
                    rest = rest[2:]
                self.messages.append((topic, rest.decode()))
        return data, acknowledgements


def _utf8_field(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _first_packet(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Return head and body of the first packet and the bytes after it; None if the packet is not complete."""
    length, shift = 0, 0
    for index in range(1, min(len(data), 5)):
        length |= (data[index] & 0x7F) << shift
        shift += 7
        if not data[index] & 0x80:
            end = index + 1 + length
            return (data[0], data[index + 1 : end], data[end:]) if len(data) >= end else None
    return None
