"""The metrics server: Prometheus metrics and the two health checks, over HTTP."""

from __future__ import annotations

import dataclasses
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from moodring.clock import NS_PER_MS, NS_PER_S, SimulatedClock
from moodring.errors import PublishError
from moodring.publish.metrics import Collector, Health, MetricsServer
from moodring.telemetry import Telemetry
from moodring.types import SinkState
from tests.support.example_events import EVENT

pytest.importorskip("prometheus_client", reason="no prometheus_client: pip install 'moodring[metrics]'")
pytestmark = pytest.mark.live


def sinks() -> dict[str, SinkState]:
    return {"mqtt": SinkState(10, 1, 2, 3, spooled=4, spool_dropped=5, connected=False), "jsonl": SinkState(16, 0, 0, 0)}


class FakeRun:
    def __init__(self) -> None:
        self.clock = SimulatedClock(NS_PER_S)
        self.telemetry = Telemetry(
            self.clock, counters=lambda: {"frames_seen": 30}, dropped=lambda: {"damaged_packets": 7}, level_dbfs=lambda: -20.0
        )

    def record_event(self, **changes: object) -> None:
        self.telemetry.record(dataclasses.replace(EVENT, **changes))


@contextmanager
def serve(run: FakeRun) -> Iterator[MetricsServer]:
    server = MetricsServer("127.0.0.1", 0, Collector({"live": (run.telemetry, sinks)}), Health({"live": run.telemetry}, 2.0))
    server.open()
    try:
        yield server
    finally:
        server.close()
        server.close()


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_health_checks_follow_events_and_devices():
    run = FakeRun()
    with serve(run) as server:
        assert get(server, "/healthz") == (503, "no event yet\n")
        run.record_event()
        assert get(server, "/healthz") == get(server, "/readyz") == (200, "ok\n")
        run.record_event(devices={"camera": "lost", "microphone": "absent"})
        assert get(server, "/healthz") == (200, "ok\n")
        assert get(server, "/readyz") == (503, "no device works: camera lost, microphone absent\n")
        run.clock.sleep_until_ns(4 * NS_PER_S)
        assert get(server, "/healthz") == (503, "the last event is 3.0 s old\n")
        assert get(server, "/other") == (404, "not found; the paths are /metrics, /healthz and /readyz\n")


def test_metrics_are_parsed_by_prometheus_client():
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415  an extra

    run = FakeRun()
    run.record_event(latency_ms=4.0)
    run.record_event(latency_ms=40.0, devices={"camera": "ok", "microphone": "lost"})
    run.clock.sleep_until_ns(NS_PER_S + 500 * NS_PER_MS)
    with serve(run) as server:
        code, text = get(server, "/metrics")
    assert code == 200
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    latency = "moodring_stage_latency_seconds"
    assert found[f"{latency}_count", "capture_to_event"] == 2
    assert found[f"{latency}_sum", "capture_to_event"] == pytest.approx(0.044)
    assert found[f"{latency}_bucket", "0.005", "capture_to_event"] == 1
    assert found[f"{latency}_bucket", "0.05", "capture_to_event"] == 2
    assert found["moodring_processed_total", "frames_seen"] == 30
    assert found["moodring_dropped_total", "damaged_packets"] == 7
    assert found["moodring_device_state", "microphone", "ok"] == 0
    assert found["moodring_device_state", "lost", "microphone"] == 1
    assert found["moodring_event_age_seconds",] == pytest.approx(0.5)
    assert found["moodring_sink_dropped_total", "mqtt", "spool_cap"] == 5
    assert found["moodring_sink_waiting", "mqtt", "spool"] == 4
    assert found["moodring_sink_connected", "mqtt"] == 0


def test_port_in_use_raises():
    run = FakeRun()
    with socket.socket() as other_server:
        other_server.bind(("127.0.0.1", 0))
        other_server.listen()
        server = MetricsServer(
            "127.0.0.1",
            other_server.getsockname()[1],
            Collector({"live": (run.telemetry, sinks)}),
            Health({"live": run.telemetry}, 2.0),
        )
        with pytest.raises(PublishError, match=r"metrics cannot be served on 127.0.0.1:\d+: .*; change metrics.port"):
            server.open()
