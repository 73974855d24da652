"""From the configuration to the sinks of one run: what is asked for, checked before anything starts."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from edge.clock import Clock
from edge.config import Config, MqttConfig
from edge.errors import ConfigError
from edge.publish.base import Publisher
from edge.publish.broker import Login, parse_address
from edge.publish.distributor import Distributor
from edge.publish.jsonl import FilePolicy, JsonLines
from edge.publish.lsl import LslOutlets
from edge.publish.metrics import Collector, Health, MetricsServer, load_prometheus
from edge.publish.mqtt import MqttSettings, MqttSink
from edge.publish.outlet import Outlet
from edge.publish.spool import Spool
from edge.telemetry import Telemetry

RECORDING_WAITS_S = 5.0  # a recording that is read at full speed waits this long for a sink's queue
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
BYTES_PER_MB = 1_000_000
S_PER_H = 3600.0


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """What the sinks must know of the run: its name (/moodring/HOST/STREAM/RUN), and how its events come."""

    source: str
    title: str
    live: bool
    paced: bool
    rate_hz: float
    panel: bool  # a terminal is there and shows the panel

    @property
    def name(self) -> str:
        """HOST/STREAM: what stays the same from run to run."""
        return "/".join(self.source.split("/")[2:4])


def open_sinks(
    config: Config,
    stream: Stream,
    telemetry: Telemetry,
    clock: Clock,
    *,
    stack: contextlib.ExitStack,
    log: Callable[[str], None],
    level_dbfs: Callable[[], float],
) -> Distributor:
    """Open every sink that is configured; `stack` closes them. UsageError or PublishError where one cannot be."""
    local = _local(config, stream, level_dbfs)
    outlets = [Outlet(name, sink, log) for name, sink in local.items()] if stream.live else []
    wait_s = 0.0 if stream.live else RECORDING_WAITS_S
    if config.metrics.enabled:
        load_prometheus()  # so that a missing extra is said before anything is opened
    if config.lsl.enabled:
        lsl = LslOutlets(config.lsl.name, f"moodring/{stream.name}")
        lsl.open()
        outlets.append(Outlet("lsl", lsl, log, wait_s=wait_s))
    mqtt = open_mqtt(config.mqtt, stream, log) if config.mqtt.url != "none" else None
    if mqtt is not None:
        outlets.append(Outlet("mqtt", mqtt, log, wait_s=wait_s))
    distributor = Distributor(
        telemetry, clock,
        direct=[] if stream.live else list(local.values()), outlets=outlets, spooling=mqtt, with_status=stream.paced,
    )  # fmt: skip
    stack.enter_context(distributor)
    if config.metrics.enabled:
        health = Health(telemetry, max(2.0, 5.0 / stream.rate_hz))
        server = MetricsServer(config.metrics.host, config.metrics.port, Collector(telemetry, distributor.sinks), health)
        server.open()
        stack.callback(server.close)
        log(f"metrics on http://{config.metrics.host}:{server.port}/metrics")
    return distributor


def _local(config: Config, stream: Stream, level_dbfs: Callable[[], float]) -> Mapping[str, Publisher]:
    """Return the file or standard output, and the panel where people watch, by name."""
    sinks: dict[str, Publisher] = {}
    to = config.events
    to_stdout = to.path == "-" and not stream.panel
    if to_stdout or to.path not in ("-", "none"):
        policy = FilePolicy(to.rotate_mb, to.rotate_h, to.keep_files, to.fsync, to.status)
        sinks["jsonl"] = JsonLines(to.path, policy)
    if stream.panel:
        from edge.publish.terminal import TerminalView  # noqa: PLC0415  rich costs start-up time

        sinks["terminal"] = TerminalView(f"moodring: {stream.title}", level_dbfs)
    return sinks


def open_mqtt(config: MqttConfig, stream: Stream, log: Callable[[str], None]) -> MqttSink:
    """Return a sink that is connecting already."""
    address = parse_address(config.url)
    topic = f"moodring/{stream.name}" if config.topic == "default" else config.topic
    if re.search(r"[#+\x00]|^/|/$|^$", topic):
        raise ConfigError(f"mqtt.topic must be a plain topic without # and +, and without / at its ends; got {topic!r}")
    client_id = re.sub(r"[^A-Za-z0-9-]", "-", f"moodring-{stream.name}") if config.client_id == "default" else config.client_id
    login = Login(
        client_id=client_id,
        username=None if config.username == "none" else config.username,
        password=read_password(config.password_file),
        ca_file=_existing("mqtt.ca_file", config.ca_file),
        certificate_file=_existing("mqtt.certificate_file", config.certificate_file),
        key_file=_existing("mqtt.key_file", config.key_file),
    )
    if login.password and login.username is None:
        raise ConfigError("mqtt.password_file is set but mqtt.username is not")
    if login.username and not address.tls and address.host not in LOOPBACK:
        log(f"the password for {address} travels in clear text; use mqtts:// where the broker can")
    spool = Spool(
        _spool_path(config.spool.path, client_id),
        max_bytes=int(config.spool.max_mb * BYTES_PER_MB),
        max_age_s=config.spool.max_age_h * S_PER_H,
        fsync=config.spool.fsync,
    )
    prefix = config.home_assistant.prefix if config.home_assistant.enabled else None
    sink = MqttSink(MqttSettings(address, login, topic, config.protocol, config.keepalive_s, prefix), spool, log)
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


def _existing(key: str, path: str) -> Path | None:
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
