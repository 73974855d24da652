"""HTTP server with Prometheus metrics and two health checks. It listens on loopback unless configured otherwise.

/metrics   latency histograms, counters, drops by reason, device states, event age, queue and spool lengths
/healthz   200 while events are published; otherwise 503 with the reason
/readyz    200 while events are published and at least one device works; otherwise 503 with the reason
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from moodring.errors import PublishError, UsageError
from moodring.publish.base import DEVICE_STATES
from moodring.telemetry import BOUNDS_S, Histogram, Telemetry
from moodring.types import SinkState

CLIENT_TIMEOUT_S = 5.0

Response = tuple[int, str, bytes]  # status code, content type, body
NOT_FOUND: Response = (404, "text/plain", b"not found; the paths are /metrics, /healthz and /readyz\n")


def load_prometheus(name: str = "prometheus_client") -> Any:
    """Return the module `name` of prometheus_client. Raises UsageError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError("metrics need prometheus_client: pip install 'moodring[metrics]'") from error


class Health:
    """Liveness and readiness of a run. All streams must be healthy.

    A stream is live if its last event is at most `max_age_s` old, in seconds. It is ready if it is live and a device works.
    """

    def __init__(self, streams: Mapping[str, Telemetry], max_age_s: float) -> None:
        self._streams = dict(streams)
        self._max_age_s = max_age_s

    def liveness_fault(self) -> str | None:
        """Return why the run is not live, or None."""
        return self._first_fault(self._liveness_fault_of)

    def readiness_fault(self) -> str | None:
        """Return why the run is not ready, or None."""
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
    """Collector of prometheus_client: reads the telemetry and the sink counters at each scrape and stores nothing.

    `streams` maps a stream name to its telemetry and a function that returns its sinks by name. With several streams, every
    sample has the label `stream`.
    """

    def __init__(self, streams: Mapping[str, tuple[Telemetry, Callable[[], dict[str, SinkState]]]]) -> None:
        load_prometheus()
        self._core = load_prometheus("prometheus_client.core")
        self._streams = dict(streams)
        self._labels = ["stream"] if len(self._streams) > 1 else []

    def collect(self) -> Iterator[Any]:
        """Yield the metric families of all streams."""
        yield from self._pipeline_families()
        yield from self._sink_families()

    def _pipeline_families(self) -> Iterator[Any]:
        latency = self._core.HistogramMetricFamily(
            "moodring_stage_latency_seconds",
            "Duration of each stage; capture_to_event runs from capture to publication.",
            labels=[*self._labels, "stage"],
        )
        processed = self._counter("moodring_processed", "Frames, samples, windows and events processed, by kind.", "kind")
        dropped = self._counter("moodring_dropped", "Captured data that was not processed, by reason.", "reason")
        devices = self._gauge("moodring_device_state", "1 for the current state of a device, otherwise 0.", "device", "state")
        age = self._gauge("moodring_event_age_seconds", "Time since the last event.")
        for name, (telemetry, _) in self._streams.items():
            stream_label = self._stream_label(name)
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
        yield from (latency, processed, dropped, devices, age)

    def _sink_families(self) -> Iterator[Any]:
        published = self._counter("moodring_published", "Events that a sink accepted.", "sink")
        lost = self._counter("moodring_sink_dropped", "Events that a sink lost, by reason.", "sink", "reason")
        waiting = self._gauge(
            "moodring_sink_waiting", "Undelivered events in the queue or the spool of a sink.", "sink", "where"
        )
        connected = self._gauge("moodring_sink_connected", "1 while a sink is connected to its server, otherwise 0.", "sink")
        for name, (_, sinks) in self._streams.items():
            for sink, state in sinks().items():
                labels = [*self._stream_label(name), sink]
                published.add_metric(labels, state.published)
                reasons = {"queue_full": state.dropped, "failed": state.failed, "spool_cap": state.spool_dropped}
                _add_all(lost, labels, reasons)
                _add_all(waiting, labels, {"queue": state.queued, "spool": state.spooled})
                if state.connected is not None:
                    connected.add_metric(labels, float(state.connected))
        yield from (published, lost, waiting, connected)

    def _stream_label(self, name: str) -> list[str]:
        return [name] if self._labels else []

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return self._core.CounterMetricFamily(name, text, labels=[*self._labels, *labels])

    def _gauge(self, name: str, text: str, *labels: str) -> Any:
        return self._core.GaugeMetricFamily(name, text, labels=[*self._labels, *labels])


def _add_all(family: Any, labels: list[str], values: dict[str, int]) -> None:
    for name, value in values.items():
        family.add_metric([*labels, name], value)


def _cumulative_buckets(histogram: Histogram) -> list[tuple[str, int]]:
    """Return the upper bound of each bucket, as text, with the number of durations up to it."""
    total, buckets = 0, []
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), tuple(histogram.counts), strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


class MetricsServer:
    """Serves the three paths from its own thread."""

    def __init__(self, host: str, port: int, collector: Collector, health: Health) -> None:
        self._prometheus = load_prometheus()
        self._address = (host, port)
        self._health = health
        self._registry = self._prometheus.CollectorRegistry(auto_describe=False)
        self._registry.register(collector)
        self._server: ThreadingHTTPServer | None = None

    @property
    def port(self) -> int:
        """The port that the server listens on; before `open`, the configured port."""
        return self._server.server_address[1] if self._server else self._address[1]

    def open(self) -> None:
        """Start to listen. Raises PublishError if the port is in use or not permitted."""
        routes: dict[str, Callable[[], Response]] = {
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

    def _metrics(self) -> Response:
        return 200, self._prometheus.CONTENT_TYPE_LATEST, self._prometheus.generate_latest(self._registry)

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True


def _health_response(fault: str | None) -> Response:
    return (503 if fault else 200), "text/plain; charset=utf-8", f"{fault or 'ok'}\n".encode()


def _handler(routes: dict[str, Callable[[], Response]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_TIMEOUT_S
        server_version = "moodring"
        sys_version = ""

        def do_GET(self) -> None:
            route = routes.get(self.path.split("?", maxsplit=1)[0])
            code, content_type, body = route() if route else NOT_FOUND
            self.send_response(code)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Log no requests: a scrape arrives every few seconds."""

    return Handler
