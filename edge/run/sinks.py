"""From the configuration to the sinks of one run: what is asked for, checked before anything starts."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from moodring.clock import Clock
from moodring.config import Config, MqttConfig
from moodring.labels import LABELS
from moodring.publish.base import Mutes, Publisher
from moodring.publish.distributor import Distributor, Shared
from moodring.publish.jsonl import FilePolicy, JsonLines
from moodring.publish.queue import Inline, Outlet
from moodring.run.stream import RunningStream
from moodring.telemetry import Telemetry
from moodring.types import SinkState

if TYPE_CHECKING:  # paho is an extra
    from moodring.publish.mqtt.sink import MqttSink

RECORDING_WAITS_S = 5.0  # a recording that is read at full speed waits this long for a sink's queue


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """What the sinks must know of the run: its name (/moodring/HOST/STREAM/RUN), and how its events come."""

    source: str
    title: str
    live: bool  # nobody waits: devices, and streams from the network
    paced: bool
    rate_hz: float
    panel: bool  # a terminal is there and shows the panel
    labels: tuple[str, ...] = LABELS  # all that events may name

    @property
    def name(self) -> str:
        """HOST/STREAM: what stays the same from run to run."""
        return name_of(self.source)


def name_of(source: str) -> str:
    """Return HOST/STREAM of a CloudEvents source /moodring/HOST/STREAM/RUN."""
    return "/".join(source.split("/")[2:4])


@dataclasses.dataclass(frozen=True, slots=True)
class Offers:
    """What the page may ask of a run, by stream name; a run enters itself once it stands."""

    mutes: dict[str, Mutes] = dataclasses.field(default_factory=dict)
    previews: dict[str, Callable[[], bytes | None]] = dataclasses.field(default_factory=dict)


def open_sinks(
    config: Config,
    streams: Sequence[tuple[RunningStream, Stream]],
    clock: Clock,
    *,
    stack: contextlib.ExitStack,
    log: Callable[[str], None],
    offers: Offers,
) -> list[Distributor]:
    """Open every sink that is configured, and return what publishes each stream's events; `stack` closes them.

    File, metrics and page are one for all streams; brokers and the Lab Streaming Layer see each stream by its name.
    UsageError or PublishError where a sink cannot be opened.
    """
    if config.metrics.enabled:
        importlib.import_module(
            "moodring.publish.metrics"
        ).load_prometheus()  # a missing extra is said before anything is opened
    running, first = streams[0]
    level_dbfs = (lambda: running.pipeline.level_dbfs) if len(streams) == 1 else None
    local = _local(config, first, level_dbfs)
    shared = [Outlet(name, sink, log) for name, sink in local.items()] if first.live else []
    if config.page.enabled:
        from moodring.dashboard.opening import open_page  # noqa: PLC0415  asyncio costs start-up time and memory
        from moodring.dashboard.server import Shown  # noqa: PLC0415

        title = first.title if len(streams) == 1 else ", ".join(stream.title for _, stream in streams)
        shown = Shown("live" if first.live else "recording", title, level_dbfs, offers.mutes, offers.previews)
        shared.append(Outlet("page", open_page(config.page, shown, log), log))
    distributors = []
    for one, stream in streams:
        outlets, mqtt = _remote(config, stream, log, alone=len(streams) == 1)
        distributor = Distributor(
            one.telemetry, clock,
            direct=[] if first.live else list(local.values()), shared=shared, outlets=outlets, spooling=mqtt,
            with_status=stream.paced,
        )  # fmt: skip
        distributors.append(stack.enter_context(distributor))
    stack.enter_context(Shared(shared))
    if config.metrics.enabled:
        parts = {
            stream.name.rpartition("/")[2]: (one.telemetry, d.sinks)
            for (one, stream), d in zip(streams, distributors, strict=True)
        }
        stack.callback(_serve_metrics(config, parts, log))
    return distributors


def _remote(
    config: Config, stream: Stream, log: Callable[[str], None], *, alone: bool
) -> tuple[list[Outlet | Inline], MqttSink | None]:  # fmt: skip
    """Open the sinks that a stream has for itself; of several streams, each adds its name to what the configuration names."""
    wait_s = 0.0 if stream.live else RECORDING_WAITS_S
    own = "" if alone else stream.name.rpartition("/")[2]
    outlets: list[Outlet | Inline] = []
    if config.lsl.enabled:
        from moodring.publish.lsl import LslOutlets  # noqa: PLC0415  its library opens sockets

        lsl = LslOutlets(f"{config.lsl.name} {own}".strip(), f"moodring/{stream.name}", stream.labels)
        lsl.open()
        # The library copies a sample to threads of its own and never waits. First, before other sinks' threads are woken.
        outlets.insert(0, Inline("lsl", lsl, log))
    mqtt = None
    if config.mqtt.url != "none":
        from moodring.publish.mqtt.options import open_mqtt  # noqa: PLC0415  TLS and SQLite cost start-up time

        mqtt = open_mqtt(_of_stream(config.mqtt, own), stream.name, stream.labels, log)
        outlets.append(Outlet("mqtt", mqtt, log, wait_s=wait_s))
    return outlets, mqtt


def _of_stream(mqtt: MqttConfig, own: str) -> MqttConfig:
    """Give one of several streams a topic, a client and a spool of its own; by default they carry its name anyway."""
    if not own:
        return mqtt
    return dataclasses.replace(
        mqtt,
        topic=mqtt.topic if mqtt.topic == "default" else f"{mqtt.topic}/{own}",
        client_id=mqtt.client_id if mqtt.client_id == "default" else f"{mqtt.client_id}-{own}",
        spool=mqtt.spool if mqtt.spool.path == "default" else dataclasses.replace(mqtt.spool, path=f"{mqtt.spool.path}.{own}"),
    )


def _serve_metrics(
    config: Config, parts: Mapping[str, tuple[Telemetry, Callable[[], dict[str, SinkState]]]], log: Callable[[str], None]
) -> Callable[[], None]:
    """Begin to serve, and return what ends it."""
    from moodring.publish.metrics import Collector, Health, MetricsServer  # noqa: PLC0415  an HTTP server costs start-up time

    too_old_s = max(2.0, 5.0 / config.fusion.rate_hz)
    health = Health({name: telemetry for name, (telemetry, _) in parts.items()}, too_old_s)
    server = MetricsServer(config.metrics.host, config.metrics.port, Collector(parts), health)
    server.open()
    log(f"metrics on http://{config.metrics.host}:{server.port}/metrics")
    return server.close


def _local(config: Config, stream: Stream, level_dbfs: Callable[[], float] | None) -> Mapping[str, Publisher]:
    """Return the file or standard output, and the panel where people watch, by name."""
    sinks: dict[str, Publisher] = {}
    to = config.events
    to_stdout = to.path == "-" and not stream.panel
    if to_stdout or to.path not in ("-", "none"):
        policy = FilePolicy(to.rotate_mb, to.rotate_h, to.keep_files, to.fsync, to.status)
        sinks["jsonl"] = JsonLines(to.path, policy)
    if stream.panel and level_dbfs is not None:
        from moodring.publish.terminal import TerminalView  # noqa: PLC0415  rich costs start-up time

        sinks["terminal"] = TerminalView(f"moodring: {stream.title}", level_dbfs)
    return sinks
