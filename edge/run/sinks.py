"""The sinks of one run: opened from the configuration, which is checked before anything starts."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from moodring.address import is_url
from moodring.clock import Clock
from moodring.config import Config, MqttConfig, PageConfig
from moodring.labels import LABELS
from moodring.publish.base import MuteControl, PageContent, Publisher
from moodring.publish.cloudevents import stream_name
from moodring.publish.distributor import Distributor, SinkGroup
from moodring.publish.jsonl import FilePolicy, JsonLines
from moodring.publish.queue import DirectSink, QueuedSink
from moodring.redaction import without_credentials
from moodring.run.counters import StreamCounters
from moodring.run.options import RunOptions
from moodring.telemetry import Telemetry
from moodring.types import SinkState

if TYPE_CHECKING:  # paho is an extra
    from moodring.publish.mqtt.sink import MqttSink

RECORDING_WAIT_S = 5.0  # how long a recording at full speed waits for room in a sink's queue

Log = Callable[[str], None]
OpenPage = Callable[[PageConfig, PageContent, Log], Publisher]


@dataclasses.dataclass(frozen=True, slots=True)
class StreamInfo:
    """What the sinks need of a stream. `source` is its CloudEvents source, /moodring/HOST/STREAM/RUN."""

    source: str
    title: str
    live: bool  # devices, or a network stream in real time: nothing may wait
    paced: bool
    rate_hz: float
    panel: bool  # standard output is a terminal and shows the panel
    telemetry: Telemetry
    level_dbfs: Callable[[], float]
    labels: tuple[str, ...] = LABELS  # all labels that events may carry

    @property
    def name(self) -> str:
        """HOST/STREAM, which is the same in every run."""
        return stream_name(self.source)

    @property
    def short_name(self) -> str:
        """STREAM, which is unique on its host."""
        return self.name.rpartition("/")[2]


def stream_info(
    counters: StreamCounters, config: Config, options: RunOptions, *, alone: bool = True
) -> StreamInfo:  # fmt: skip
    """Return what the sinks need of a stream; `alone` where it is the only one."""
    on_terminal = sys.stdout is not None and sys.stdout.isatty()  # None: closed before the start
    sources = counters.sources
    paced = sources.live or options.pace == "realtime"
    from_network = any(source is not None and is_url(source) for source in (sources.video, sources.audio))
    return StreamInfo(
        source=counters.pipeline.source,
        title=without_credentials(sources.title),
        live=sources.live or (from_network and paced),
        paced=paced,
        rate_hz=config.fusion.rate_hz,
        panel=on_terminal and alone and options.events != "-",
        telemetry=counters.telemetry,
        level_dbfs=lambda: counters.pipeline.level_dbfs,
        labels=counters.pipeline.labels,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class PageControls:
    """What the page may control, by stream name. A run adds its streams when they have started."""

    mutes: dict[str, MuteControl] = dataclasses.field(default_factory=dict)
    previews: dict[str, Callable[[], bytes | None]] = dataclasses.field(default_factory=dict)


def open_sinks(
    config: Config,
    streams: Sequence[StreamInfo],
    clock: Clock,
    *,
    stack: contextlib.ExitStack,
    log: Log,
    open_page: OpenPage,
    controls: PageControls,
) -> list[Distributor]:
    """Open all configured sinks and return the distributor of each stream; `stack` closes them.

    All streams share the event file, metrics and page. MQTT and the Lab Streaming Layer get one sink per stream. Raises
    UsageError or PublishError where a sink cannot be opened.
    """
    if config.metrics.enabled:
        importlib.import_module("moodring.publish.metrics").load_prometheus()  # report a missing extra before opening anything
    first, alone = streams[0], len(streams) == 1
    level_dbfs = first.level_dbfs if alone else None
    local = _local(config, first, level_dbfs)
    shared_sinks = [QueuedSink(name, sink, log) for name, sink in local.items()] if first.live else []
    if config.page.enabled:
        title = ", ".join(stream.title for stream in streams)
        content = PageContent("live" if first.live else "recording", title, level_dbfs, controls.mutes, controls.previews)
        shared_sinks.append(QueuedSink("page", open_page(config.page, content, log), log))
    distributors = []
    for stream in streams:
        isolated_sinks, mqtt = _remote(config, stream, log, suffix="" if alone else stream.short_name)
        distributor = Distributor(
            stream.telemetry,
            clock,
            fail_fast=[] if first.live else list(local.values()),
            shared_sinks=shared_sinks,
            isolated_sinks=isolated_sinks,
            spooling=mqtt,
            with_status=stream.paced,
        )
        distributors.append(stack.enter_context(distributor))
    stack.enter_context(SinkGroup(shared_sinks))
    if config.metrics.enabled:
        parts = {
            stream.short_name: (stream.telemetry, distributor.sinks)
            for stream, distributor in zip(streams, distributors, strict=True)
        }
        stack.callback(_serve_metrics(config, parts, log))
    return distributors


def _remote(
    config: Config, stream: StreamInfo, log: Log, *, suffix: str
) -> tuple[list[QueuedSink | DirectSink], MqttSink | None]:  # fmt: skip
    """Open the sinks that each stream has for itself. `suffix` tells the sinks of several streams apart."""
    isolated_sinks: list[QueuedSink | DirectSink] = []
    if config.lsl.enabled:
        from moodring.publish.lsl import LslSink  # noqa: PLC0415  its library opens sockets

        lsl = LslSink(f"{config.lsl.name} {suffix}".strip(), f"moodring/{stream.name}", stream.labels)
        lsl.open()
        # First, before the threads of other sinks are woken: the library copies a sample and never waits.
        isolated_sinks.insert(0, DirectSink("lsl", lsl, log))
    mqtt = None
    if config.mqtt.url != "none":
        from moodring.publish.mqtt.options import open_mqtt  # noqa: PLC0415  TLS and SQLite cost start-up time

        mqtt = open_mqtt(_with_suffix(config.mqtt, suffix), stream.name, stream.labels, log)
        isolated_sinks.append(QueuedSink("mqtt", mqtt, log, wait_s=0.0 if stream.live else RECORDING_WAIT_S))
    return isolated_sinks, mqtt


def _with_suffix(mqtt: MqttConfig, suffix: str) -> MqttConfig:
    """Give one of several streams its own topic, client id and spool. The default values contain the stream's name already."""
    if not suffix:
        return mqtt
    spool = mqtt.spool
    return dataclasses.replace(
        mqtt,
        topic=mqtt.topic if mqtt.topic == "default" else f"{mqtt.topic}/{suffix}",
        client_id=mqtt.client_id if mqtt.client_id == "default" else f"{mqtt.client_id}-{suffix}",
        spool=spool if spool.path == "default" else dataclasses.replace(spool, path=f"{spool.path}.{suffix}"),
    )


def _serve_metrics(
    config: Config, parts: Mapping[str, tuple[Telemetry, Callable[[], dict[str, SinkState]]]], log: Log
) -> Callable[[], None]:
    """Start the metrics server and return the function that stops it."""
    from moodring.publish.metrics import Collector, Health, MetricsServer  # noqa: PLC0415  an HTTP server costs start-up time

    max_age_s = max(2.0, 5.0 / config.fusion.rate_hz)
    health = Health({name: telemetry for name, (telemetry, _) in parts.items()}, max_age_s)
    server = MetricsServer(config.metrics.host, config.metrics.port, Collector(parts), health)
    server.open()
    log(f"metrics on http://{config.metrics.host}:{server.port}/metrics")
    return server.close


def _local(config: Config, stream: StreamInfo, level_dbfs: Callable[[], float] | None) -> Mapping[str, Publisher]:
    """Return the event file or standard output, and the terminal panel, by name."""
    sinks: dict[str, Publisher] = {}
    events = config.events
    to_stdout = events.path == "-" and not stream.panel
    if to_stdout or events.path not in ("-", "none"):
        policy = FilePolicy(events.rotate_mb, events.rotate_h, events.keep_files, events.fsync, events.status)
        sinks["jsonl"] = JsonLines(events.path, policy)
    if stream.panel and level_dbfs is not None:
        from moodring.publish.terminal import TerminalView  # noqa: PLC0415  rich costs start-up time

        sinks["terminal"] = TerminalView(f"moodring: {stream.title}", level_dbfs)
    return sinks
