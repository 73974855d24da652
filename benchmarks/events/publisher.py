"""The process that publishes events to the broker, and reports each one that its sink has published."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from moodring.clock import MonotonicClock
from moodring.labels import LABELS
from moodring.publish.base import Event
from moodring.publish.mqtt.connection import BrokerAddress, Credentials
from moodring.publish.mqtt.sink import MqttSettings, MqttSink
from moodring.publish.mqtt.spool import Spool
from moodring.publish.queue import QueuedSink
from moodring.types import BranchView, EmotionEvent

ROOT = Path(__file__).resolve().parents[2]
TOPIC = "moodring/soak"
SPOOL = "events.spool"  # the file in the folder of the process
REPORT = "reported"  # the file that holds one line, source/seq, for each published event
RATE_HZ = 500.0
UNIFORM_PROBABILITIES = dict.fromkeys(LABELS, 0.125)


def log(message: str) -> None:
    """Print a message with the time to standard error."""
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


def make_event(source: str, seq: int) -> EmotionEvent:
    """Return an event of typical size."""
    view = BranchView("happy", UNIFORM_PROBABILITIES, 0.9, 12.5)
    now_ns = time.monotonic_ns()
    return EmotionEvent(
        source=source, time_utc="2026-01-01T00:00:00.000000Z", seq=seq, capture_time_ns=now_ns, state="ok", label="happy",
        confidence=0.125, probabilities=UNIFORM_PROBABILITIES, modalities=("face", "speech"), face=view, speech=view, faces=(),
        latency_ms=5.0, bundle_id="0123456789abcdef", devices={"camera": "ok", "microphone": "ok"},
    )  # fmt: skip


def make_mqtt_sink(port: int, folder: Path) -> tuple[MqttSink, Spool]:
    """Return an MQTT sink for the broker at a port of this machine, and its spool in the folder."""
    spool = Spool(folder / SPOOL, max_bytes=500_000_000, max_age_s=86_400.0)
    settings = MqttSettings(BrokerAddress("127.0.0.1", port, tls=False), Credentials("moodring-soak"), TOPIC)
    return MqttSink(settings, spool, log), spool


class ReportingSink:
    """Appends a line to a file for each event that the sink has published. An event in that file must not be lost."""

    def __init__(self, sink: MqttSink, path: Path) -> None:
        self._sink = sink
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def publish(self, event: Event) -> None:
        """Publish an event, then report it."""
        self._sink.publish(event)
        os.write(self._fd, f"{event.source}/{event.seq}\n".encode())

    def close(self) -> None:
        """Close the sink."""
        self._sink.close()


def publish_events(count: int, port: int, folder: Path, run: int) -> None:
    """Publish `count` events at `RATE_HZ`, then wait until the broker has acknowledged all of them."""
    sink, spool = make_mqtt_sink(port, folder)
    sink.open()
    queued_sink = QueuedSink("mqtt", ReportingSink(sink, folder / REPORT), log, capacity=5000, wait_s=60.0)
    queued_sink.open()
    clock, start_ns = MonotonicClock(), time.monotonic_ns()
    for seq in range(count):
        clock.sleep_until_ns(start_ns + int(seq * 1e9 / RATE_HZ))
        queued_sink.publish(make_event(f"/moodring/soak/live/run{run}", seq))
    while queued_sink.pending or spool.pending:
        clock.sleep_until_ns(time.monotonic_ns() + 50_000_000)
    queued_sink.close()


def start_publisher(count: int, port: int, folder: Path, run: int) -> subprocess.Popen[bytes]:
    """Start `publish_events` in a new process."""
    arguments = ["publish", str(count), str(port), str(folder), str(run)]
    return subprocess.Popen([sys.executable, "-m", "benchmarks", "events", *arguments], cwd=ROOT)


def reported_ids(folder: Path) -> list[str]:
    """Return the ids of the events that were reported as published so far."""
    path = folder / REPORT
    return path.read_text().splitlines() if path.exists() else []
