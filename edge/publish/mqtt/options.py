"""From the configuration of MQTT to a sink that is connecting: every option is checked before anything is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from moodring.address import is_loopback
from moodring.config import MqttConfig
from moodring.errors import ConfigError
from moodring.publish.mqtt.connection import Credentials, parse_address
from moodring.publish.mqtt.sink import MqttSettings, MqttSink
from moodring.publish.mqtt.spool import Spool

BYTES_PER_MB = 1_000_000
S_PER_H = 3600.0


def open_mqtt(config: MqttConfig, stream_name: str, labels: tuple[str, ...], log: Callable[[str], None]) -> MqttSink:
    """Return a sink that is connecting already."""
    address = parse_address(config.url)
    topic = f"moodring/{stream_name}" if config.topic == "default" else config.topic
    if re.search(r"[#+\x00]|^/|/$|^$", topic):
        raise ConfigError(f"mqtt.topic must be a plain topic without # and +, and without / at its ends; got {topic!r}")
    client_id = re.sub(r"[^A-Za-z0-9-]", "-", f"moodring-{stream_name}") if config.client_id == "default" else config.client_id
    credentials = Credentials(
        client_id=client_id,
        username=None if config.username == "none" else config.username,
        password=read_password(config.password_file),
        ca_file=_existing_file("mqtt.ca_file", config.ca_file),
        certificate_file=_existing_file("mqtt.certificate_file", config.certificate_file),
        key_file=_existing_file("mqtt.key_file", config.key_file),
    )
    if credentials.password and credentials.username is None:
        raise ConfigError("mqtt.password_file is set but mqtt.username is not")
    if credentials.username and not address.tls and not is_loopback(address.host):
        log(f"the password for {address} travels in clear text; use mqtts:// where the broker can")
    spool = Spool(
        _spool_path(config.spool.path, client_id),
        max_bytes=int(config.spool.max_mb * BYTES_PER_MB),
        max_age_s=config.spool.max_age_h * S_PER_H,
        fsync=config.spool.fsync,
    )
    prefix = config.home_assistant.prefix if config.home_assistant.enabled else None
    sink = MqttSink(MqttSettings(address, credentials, topic, config.protocol, config.keepalive_s, prefix, labels), spool, log)
    sink.open()
    return sink


def read_password(path: str) -> str | None:
    """Return the password that a file holds, without its line's end; ConfigError where it cannot be read."""
    if path == "none":
        return None
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"mqtt.password_file {path} cannot be read: {getattr(error, 'strerror', 'not UTF-8')}") from error


def _existing_file(key: str, path: str) -> Path | None:
    if path == "none":
        return None
    found = Path(path).expanduser()
    if not found.is_file():
        raise ConfigError(f"{key} {path} is no file")
    return found


def _spool_path(path: str, client_id: str) -> Path:
    """The spool is kept under the client's name, so that two streams of one machine do not share it."""
    if path != "default":
        return Path(path).expanduser()
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "moodring" / (re.sub(r"[^A-Za-z0-9._-]", "_", client_id) + ".spool")
