"""Opens the MQTT sink from the configuration. All options are checked before anything is opened."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from pathlib import Path

from moodring.address import file_mode, is_loopback
from moodring.config import MqttConfig
from moodring.errors import ConfigError, UsageError
from moodring.folders import state_dir
from moodring.publish.base import BYTES_PER_MB, S_PER_H
from moodring.publish.mqtt.connection import Credentials, parse_address
from moodring.publish.mqtt.sink import MqttSettings, MqttSink
from moodring.publish.mqtt.spool import Spool

# Wildcards, control characters, surrogates and noncharacters (MQTT 5, sections 1.5.4 and 4.7), and the topics of the broker
INVALID_TOPIC = re.compile("[#+\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef]|^[$/]|/$")
MAX_TOPIC_BYTES, MAX_TOPIC_LEVELS = 1000, 100  # of 65,535 bytes, and of 200 levels in Mosquitto


def open_mqtt(config: MqttConfig, stream_name: str, labels: tuple[str, ...], log: Callable[[str], None]) -> MqttSink:
    """Open a sink, which starts to connect, and return it.

    Raises ConfigError if an option is wrong, and PublishError if the spool cannot be opened.
    """
    settings = check_mqtt(config, stream_name, labels)
    address, credentials = settings.address, settings.credentials
    if credentials.username and not address.tls and not is_loopback(address.host):
        log(f"{address}: the password is sent without encryption; use mqtts:// if the broker supports TLS")
    spool = Spool(
        _spool_path(config.spool.path, credentials.client_id),
        max_bytes=int(config.spool.max_mb * BYTES_PER_MB),
        max_age_s=config.spool.max_age_h * S_PER_H,
        fsync=config.spool.fsync,
    )
    sink = MqttSink(settings, spool, log)
    sink.open()
    return sink


def check_mqtt(config: MqttConfig, stream_name: str, labels: tuple[str, ...]) -> MqttSettings:
    """Return the settings of a sink; opens nothing but the files that the configuration names.

    `stream_name` is HOST/STREAM: the default topic and client id contain it. Raises ConfigError if an option is wrong.
    """
    address = parse_address(config.url)
    topic = f"moodring/{stream_name}" if config.topic == "default" else config.topic
    _check_topic("mqtt.topic", topic)
    client_id = re.sub(r"[^A-Za-z0-9-]", "-", f"moodring-{stream_name}") if config.client_id == "default" else config.client_id
    credentials = Credentials(
        client_id=client_id,
        username=None if config.username == "none" else config.username,
        password=_read_password(config.password_file),
        ca_file=_existing_file("mqtt.ca_file", config.ca_file),
        certificate_file=_existing_file("mqtt.certificate_file", config.certificate_file),
        key_file=_existing_file("mqtt.key_file", config.key_file),
    )
    if credentials.password and credentials.username is None:
        raise ConfigError("mqtt.password_file is set but mqtt.username is not; set both")
    prefix = config.home_assistant.prefix if config.home_assistant.enabled else None
    if prefix is not None:
        _check_topic("mqtt.home_assistant.prefix", prefix)
    return MqttSettings(address, credentials, topic, config.protocol, config.keepalive_s, prefix, labels)


def _check_topic(key: str, topic: str) -> None:
    """Raise ConfigError for a topic, or a prefix of topics, that a broker refuses. With MQTT 3.1.1 it may do so silently."""
    if not topic or INVALID_TOPIC.search(topic) or any(ord(char) & 0xFFFE == 0xFFFE for char in topic):
        raise ConfigError(
            f"{key} must not be empty, contain #, + or control characters, start with $, or start or end with /; got {topic!a}"
        )
    if len(topic.encode()) > MAX_TOPIC_BYTES or topic.count("/") >= MAX_TOPIC_LEVELS:
        raise ConfigError(
            f"{key} must have at most {MAX_TOPIC_BYTES} bytes and {MAX_TOPIC_LEVELS} levels; got {topic[:40]!a} and more"
        )


def _read_password(path: str) -> str | None:
    """Return the password in a file, without a newline at its end. Raises ConfigError if the file cannot be read."""
    if path == "none":
        return None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise ConfigError(f"mqtt.password_file {path} cannot be read: {getattr(error, 'strerror', 'not UTF-8')}") from error


def _existing_file(key: str, path: str) -> Path | None:
    if path == "none":
        return None
    if not stat.S_ISREG(file_mode(path)):
        raise ConfigError(f"{key} {path} is not a file")
    return Path(path)


def _spool_path(path: str, client_id: str) -> Path:
    """Return the path of the spool. The default contains the client id: two streams of a machine do not share a spool."""
    if path != "default":
        return Path(path)
    try:
        folder = state_dir()
    except UsageError as error:
        raise ConfigError(f"mqtt.spool.path is default, and {error}, or set mqtt.spool.path") from error
    return folder / (re.sub(r"[^A-Za-z0-9._-]", "_", client_id) + ".spool")
