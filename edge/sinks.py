"""From the configuration to the sinks of one run: what is asked for, checked before anything starts."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from collections.abc import Callable, Mapping

from edge.clock import Clock
from edge.config import Config
from edge.labels import LABELS
from edge.publish.base import Mutes, Publisher
from edge.publish.distributor import Distributor
from edge.publish.jsonl import FilePolicy, JsonLines
from edge.publish.outlet import Outlet
from edge.telemetry import Telemetry

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
        return "/".join(self.source.split("/")[2:4])


@dataclasses.dataclass(frozen=True, slots=True)
class Offers:
    """What the page may ask of a run, by stream name; a run enters itself once it stands."""

    mutes: dict[str, Mutes] = dataclasses.field(default_factory=dict)
    previews: dict[str, Callable[[], bytes | None]] = dataclasses.field(default_factory=dict)


def open_sinks(
    config: Config,
    stream: Stream,
    telemetry: Telemetry,
    clock: Clock,
    *,
    stack: contextlib.ExitStack,
    log: Callable[[str], None],
    level_dbfs: Callable[[], float],
    offers: Offers | None = None,
) -> Distributor:
    """Open every sink that is configured; `stack` closes them. UsageError or PublishError where one cannot be."""
    local = _local(config, stream, level_dbfs)
    outlets = [Outlet(name, sink, log) for name, sink in local.items()] if stream.live else []
    wait_s = 0.0 if stream.live else RECORDING_WAITS_S
    if config.metrics.enabled:
        importlib.import_module("edge.publish.metrics").load_prometheus()  # a missing extra is said before anything is opened
    if config.page.enabled:
        from edge.page.opening import open_page  # noqa: PLC0415  asyncio costs start-up time and memory
        from edge.page.server import Shown  # noqa: PLC0415

        offers = offers or Offers()
        shown = Shown("live" if stream.live else "recording", stream.title, level_dbfs, offers.mutes, offers.previews)
        outlets.append(Outlet("page", open_page(config.page, shown, log), log))
    if config.lsl.enabled:
        from edge.publish.lsl import LslOutlets  # noqa: PLC0415  its library opens sockets

        lsl = LslOutlets(config.lsl.name, f"moodring/{stream.name}", stream.labels)
        lsl.open()
        outlets.append(Outlet("lsl", lsl, log, wait_s=wait_s))
    mqtt = None
    if config.mqtt.url != "none":
        from edge.publish.mqtt_options import open_mqtt  # noqa: PLC0415  TLS and SQLite cost start-up time

        mqtt = open_mqtt(config.mqtt, stream.name, stream.labels, log)
        outlets.append(Outlet("mqtt", mqtt, log, wait_s=wait_s))
    distributor = Distributor(
        telemetry, clock,
        direct=[] if stream.live else list(local.values()), outlets=outlets, spooling=mqtt, with_status=stream.paced,
    )  # fmt: skip
    stack.enter_context(distributor)
    if config.metrics.enabled:
        stack.callback(_serve_metrics(config, stream, telemetry, distributor, log))
    return distributor


def _serve_metrics(
    config: Config, stream: Stream, telemetry: Telemetry, distributor: Distributor, log: Callable[[str], None]
) -> Callable[[], None]:
    """Begin to serve, and return what ends it."""
    from edge.publish.metrics import Collector, Health, MetricsServer  # noqa: PLC0415  an HTTP server costs start-up time

    health = Health(telemetry, max(2.0, 5.0 / stream.rate_hz))
    server = MetricsServer(config.metrics.host, config.metrics.port, Collector(telemetry, distributor.sinks), health)
    server.open()
    log(f"metrics on http://{config.metrics.host}:{server.port}/metrics")
    return server.close


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
