"""Metrics for Prometheus and two pages for whoever watches over a service, on loopback unless configured otherwise.

/metrics   latency histograms, counters, drops by reason, device states, event age, spool depth
/healthz   200 while the run lives: events are made; 503 with the reason otherwise
/readyz    200 while data flows: that, and a device that works
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from moodring.errors import PublishError, UsageError
from moodring.publish.base import Event
from moodring.telemetry import BOUNDS_S, Histogram, Telemetry
from moodring.types import SinkState

DEVICE_STATES = ("ok", "lost", "muted", "absent")
CLIENT_TIMEOUT_S = 5.0


def load_prometheus(name: str = "prometheus_client") -> Any:
    """Import the library, or say which extra brings it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError("metrics need prometheus_client: pip install 'moodring[metrics]'") from error


class Health:
    """Judges a run from outside: `too_old_s` without an event is not alive. Every stream must be well."""

    def __init__(self, streams: Mapping[str, Telemetry], max_age_s: float) -> None:
        self._streams = dict(streams)
        self._max_age_s = max_age_s

    def liveness_fault(self) -> str | None:
        """Return what is wrong, or None."""
        return self._first_fault(self._liveness_fault_of)

    def readiness_fault(self) -> str | None:
        """Return why no data flows, or None."""
        return self._first_fault(self._readiness_fault_of)

    def _first_fault(self, check: Callable[[Telemetry], str | None]) -> str | None:
        faults = ((name, check(telemetry)) for name, telemetry in self._streams.items())
        name, fault = next(((name, fault) for name, fault in faults if fault), ("", None))
        return fault if fault is None or len(self._streams) == 1 else f"{name}: {fault}"

    def _liveness_fault_of(self, telemetry: Telemetry) -> str | None:
        age_s = telemetry.event_age_s()
        if age_s is None:
            return "no event yet"
        return f"the last event is {age_s:.1f} s old" if age_s > self._max_age_s else None

    def _readiness_fault_of(self, telemetry: Telemetry) -> str | None:
        event = telemetry.last_event
        if event is not None and "ok" not in event.devices.values():
            return "no device works: " + ", ".join(f"{name} {state}" for name, state in event.devices.items())
        return self._liveness_fault_of(telemetry)


class Collector:
    """Turns what the run knows into metric families at each scrape; keeps nothing of its own.

    Where there are several streams, every sample carries the label `stream`.
    """

    def __init__(self, streams: Mapping[str, tuple[Telemetry, Callable[[], dict[str, SinkState]]]]) -> None:
        load_prometheus()
        self._core = load_prometheus("prometheus_client.core")
        self._streams = dict(streams)
        self._labels = ["stream"] if len(self._streams) > 1 else []

    def collect(self) -> Iterator[Any]:
        core, labels = self._core, self._labels
        latency = core.HistogramMetricFamily(
            "moodring_stage_latency_seconds",
            "How long a stage takes; capture_to_event from capture to event.",
            labels=[*labels, "stage"],
        )
        processed = self._counter("moodring_processed", "What the pipeline took in and made, by kind.", "kind")
        dropped = self._counter("moodring_dropped", "What was captured and not used, by reason.", "reason")
        devices = self._gauge("moodring_device_state", "1 for the state a device is in.", "device", "state")
        age = self._gauge("moodring_event_age_seconds", "Time since the last event.")
        published = self._counter("moodring_published", "Events a sink took.", "sink")
        lost = self._counter("moodring_sink_dropped", "Events a sink lost.", "sink", "reason")
        waiting = self._gauge("moodring_sink_waiting", "Events that wait.", "sink", "where")
        connected = self._gauge("moodring_sink_connected", "Whether the other side answers.", "sink")
        for name, (telemetry, sinks) in self._streams.items():
            stream_label = [name] if labels else []
            for stage, histogram in telemetry.histograms.items():
                latency.add_metric([*stream_label, stage], _cumulative_buckets(histogram), histogram.sum_s)
            _add_all(processed, stream_label, telemetry.counters())
            _add_all(dropped, stream_label, telemetry.dropped())
            event = telemetry.last_event
            for device, current in (event.devices if event else {}).items():
                for state in DEVICE_STATES:
                    devices.add_metric([*stream_label, device, state], float(state == current))
            age_s = telemetry.event_age_s()
            if age_s is not None:
                age.add_metric(stream_label, age_s)
            for sink, sink_state in sinks().items():
                published.add_metric([*stream_label, sink], sink_state.published)
                _add_all(
                    lost,
                    [*stream_label, sink],
                    {"queue_full": sink_state.dropped, "failed": sink_state.failed, "spool_cap": sink_state.spool_dropped},
                )
                _add_all(waiting, [*stream_label, sink], {"queue": sink_state.queued, "spool": sink_state.spooled})
                if sink_state.connected is not None:
                    connected.add_metric([*stream_label, sink], float(sink_state.connected))
        yield from (latency, processed, dropped, devices, age, published, lost, waiting, connected)

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return self._core.CounterMetricFamily(name, text, labels=[*self._labels, *labels])

    def _gauge(self, name: str, text: str, *labels: str) -> Any:
        return self._core.GaugeMetricFamily(name, text, labels=[*self._labels, *labels])


def _add_all(family: Any, labels: list[str], values: dict[str, int]) -> None:
    for name, value in values.items():
        family.add_metric([*labels, name], value)


def _cumulative_buckets(histogram: Histogram) -> list[tuple[str, int]]:
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
        routes: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/metrics": self._metrics,
            "/healthz": lambda: _health_response(self._health.liveness_fault()),
            "/readyz": lambda: _health_response(self._health.readiness_fault()),
        }
        try:
            self._server = _Server(self._address, _handler(routes))
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


def _health_response(fault: str | None) -> tuple[int, str, bytes]:
    return (503 if fault else 200), "text/plain; charset=utf-8", f"{fault or 'ok'}\n".encode()


def _handler(routes: dict[str, Callable[[], tuple[int, str, bytes]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT_S
        server_version = "moodring"
        sys_version = ""

        def do_GET(self) -> None:
            route = routes.get(self.path.split("?", maxsplit=1)[0])
            code, kind, body = route() if route else (404, "text/plain", b"there are /metrics, /healthz and /readyz\n")
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: a scrape every few seconds is no news."""

    return Handler
