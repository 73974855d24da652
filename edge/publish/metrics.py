"""Metrics for Prometheus and two pages for whoever watches over a service, on loopback unless configured otherwise.

/metrics   latency histograms, counters, drops by reason, device states, event age, spool depth
/healthz   200 while the run lives: events are made; 503 with the reason otherwise
/readyz    200 while data flows: that, and a device that works
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from edge.errors import PublishError, UsageError
from edge.publish.base import Event
from edge.telemetry import BOUNDS_S, Histogram, Telemetry
from edge.types import SinkState

STATES = ("ok", "lost", "muted", "absent")
CLIENT_TIMEOUT_S = 5.0


def load_prometheus(name: str = "prometheus_client") -> Any:
    """Import the library, or say which extra brings it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError("metrics need prometheus_client: pip install 'moodring[metrics]'") from error


class Health:
    """Judges a run from outside: `too_old_s` without an event is not alive."""

    def __init__(self, telemetry: Telemetry, too_old_s: float) -> None:
        self._telemetry = telemetry
        self._too_old_s = too_old_s

    def alive(self) -> str | None:
        """Return what is wrong, or None."""
        age_s = self._telemetry.event_age_s()
        if age_s is None:
            return "no event yet"
        return f"the last event is {age_s:.1f} s old" if age_s > self._too_old_s else None

    def ready(self) -> str | None:
        """Return why no data flows, or None."""
        event = self._telemetry.last_event
        if event is not None and "ok" not in event.devices.values():
            return "no device works: " + ", ".join(f"{name} {state}" for name, state in event.devices.items())
        return self.alive()


class Collector:
    """Turns what the run knows into metric families at each scrape; keeps nothing of its own."""

    def __init__(self, telemetry: Telemetry, sinks: Callable[[], dict[str, SinkState]]) -> None:
        load_prometheus()
        self._core = load_prometheus("prometheus_client.core")
        self._telemetry = telemetry
        self._sinks = sinks

    def collect(self) -> Iterator[Any]:
        yield self._latency()
        yield self._counted(
            "moodring_processed", "What the pipeline took in and made, by kind.", "kind", self._telemetry.counters()
        )
        yield self._counted(
            "moodring_dropped", "What was captured and not used, by reason.", "reason", self._telemetry.dropped()
        )
        yield self._devices()
        age = self._core.GaugeMetricFamily("moodring_event_age_seconds", "Time since the last event.")
        age_s = self._telemetry.event_age_s()
        if age_s is not None:
            age.add_metric([], age_s)
        yield age
        yield from self._sink_families()

    def _latency(self) -> Any:
        family = self._core.HistogramMetricFamily(
            "moodring_stage_latency_seconds",
            "How long a stage takes; capture_to_event from capture to event.",
            labels=["stage"],
        )
        for stage, histogram in self._telemetry.histograms.items():
            family.add_metric([stage], _cumulated(histogram), histogram.sum_s)
        return family

    def _counted(self, name: str, text: str, label: str, values: dict[str, int]) -> Any:
        family = self._core.CounterMetricFamily(name, text, labels=[label])
        for key, value in values.items():
            family.add_metric([key], value)
        return family

    def _devices(self) -> Any:
        family = self._core.GaugeMetricFamily(
            "moodring_device_state", "1 for the state a device is in.", labels=["device", "state"]
        )
        event = self._telemetry.last_event
        for device, current in (event.devices if event else {}).items():
            for state in STATES:
                family.add_metric([device, state], float(state == current))
        return family

    def _sink_families(self) -> Iterator[Any]:
        sinks = self._sinks()
        yield self._counted("moodring_published", "Events a sink took.", "sink", {n: s.published for n, s in sinks.items()})
        lost = self._core.CounterMetricFamily("moodring_sink_dropped", "Events a sink lost.", labels=["sink", "reason"])
        waiting = self._core.GaugeMetricFamily("moodring_sink_waiting", "Events that wait.", labels=["sink", "where"])
        connected = self._core.GaugeMetricFamily("moodring_sink_connected", "Whether the other side answers.", labels=["sink"])
        for name, state in sinks.items():
            for reason, count in (("queue_full", state.dropped), ("failed", state.failed), ("spool_cap", state.spool_dropped)):
                lost.add_metric([name, reason], count)
            for where, count in (("queue", state.queued), ("spool", state.spooled)):
                waiting.add_metric([name, where], count)
            if state.connected is not None:
                connected.add_metric([name], float(state.connected))
        yield from (lost, waiting, connected)


def _cumulated(histogram: Histogram) -> list[tuple[str, int]]:
    total, buckets = 0, []
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), tuple(histogram.counts), strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


class MetricsServer:
    """Serves the three pages from a thread of its own; a sink only in that it opens and closes with the others."""

    def __init__(self, host: str, port: int, collector: Collector, health: Health) -> None:
        self._prometheus = load_prometheus()
        self._address = (host, port)
        self._health = health
        self._registry = self._prometheus.CollectorRegistry(auto_describe=False)
        self._registry.register(collector)
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        return self._server.server_address[1] if self._server else self._address[1]

    def open(self) -> None:
        """Listen; PublishError where the port is taken or not permitted."""
        pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/metrics": self._metrics,
            "/healthz": lambda: _answer(self._health.alive()),
            "/readyz": lambda: _answer(self._health.ready()),
        }
        try:
            self._server = _Server(self._address, _handler(pages))
        except OSError as error:
            where = f"{self._address[0]}:{self._address[1]}"
            raise PublishError(f"metrics cannot be served on {where}: {error.strerror}; change metrics.port") from error
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def _metrics(self) -> tuple[int, str, bytes]:
        return 200, self._prometheus.CONTENT_TYPE_LATEST, self._prometheus.generate_latest(self._registry)

    def publish(self, event: Event) -> None:
        """Nothing: each scrape looks for itself."""

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True


def _answer(trouble: str | None) -> tuple[int, str, bytes]:
    return (503 if trouble else 200), "text/plain; charset=utf-8", f"{trouble or 'ok'}\n".encode()


def _handler(pages: dict[str, Callable[[], tuple[int, str, bytes]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT_S
        server_version = "moodring"
        sys_version = ""

        def do_GET(self) -> None:
            page = pages.get(self.path.split("?", maxsplit=1)[0])
            code, kind, body = page() if page else (404, "text/plain", b"there are /metrics, /healthz and /readyz\n")
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: a scrape every few seconds is no news."""

    return Handler
