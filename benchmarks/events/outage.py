"""Outage: a run on a simulated camera, whose broker is stopped for some minutes and started again."""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.events.delivery import Received, check_delivery, received_events, wait_for_events
from benchmarks.events.publisher import ROOT, SPOOL, TOPIC

WARM_UP_S = 10.0  # until the caches are warm and the face is found
UP_S = 60.0  # before and after the outage
BACKLOG_TIMEOUT_S = 120.0
LAST_EVENTS_S = 10.0  # timeout for the last events on a busy machine


def measure(minutes: float) -> dict[str, Any]:
    """Stop the broker for this time; return what arrived, how fast the backlog was delivered, and the latencies of events."""
    from tests.support.devices.mjpeg import SoftwareCamera
    from tests.support.servers.broker import Broker, Subscriber  # needs the tools of the tests
    from tests.support.signals import face_frame

    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        broker = stack.enter_context(Broker(folder))
        subscriber = stack.enter_context(Subscriber(broker.port, f"{TOPIC}/#"))
        broker.save()
        camera = stack.enter_context(SoftwareCamera(face_frame))
        events = folder / "events.jsonl"
        daemon = stack.enter_context(_run_daemon(folder, events, broker.port, camera.url))
        time.sleep(WARM_UP_S)
        line_offsets: list[int] = []
        max_spool_bytes, delivered_s = 0, 0.0
        for seconds, broker_up in ((UP_S, True), (60.0 * minutes, False), (UP_S, True)):
            if not broker_up:
                broker.kill()
            elif line_offsets:
                broker.start()
                delivered_s = _wait_for_backlog_s(subscriber, events)
            line_offsets.append(_line_count(events))
            spool_bytes = max(_sample_spool_bytes(folder, seconds), default=0)
            if not broker_up:
                max_spool_bytes = spool_bytes
        line_offsets.append(_line_count(events))
        daemon.send_signal(signal.SIGINT)
        daemon.wait(20)
        lines = [json.loads(line) for line in events.read_text().splitlines()]
        wait_for_events(subscriber, {line["id"] for line in lines}, LAST_EVENTS_S)
        delivery = check_delivery([line["id"] for line in lines], received_events(subscriber))
        return delivery | {
            "minutes_away": minutes, "delivered_after_s": delivered_s, "spool_bytes_at_most": max_spool_bytes,
            **_latency_figures(lines, line_offsets),
        }  # fmt: skip


@contextlib.contextmanager
def _run_daemon(folder: Path, events: Path, broker_port: int, camera_url: str) -> Iterator[subprocess.Popen[bytes]]:
    config = folder / "config.yaml"
    config.write_text(
        f"events: {{path: {events}}}\n"
        f"mqtt: {{url: 'mqtt://127.0.0.1:{broker_port}', topic: {TOPIC}, spool: {{path: {folder / SPOOL}}}}}\n"
    )
    arguments = ["run", "--config", str(config), "--video", camera_url, "--audio", "none"]
    daemon = subprocess.Popen([sys.executable, "-m", "moodring.cli", *arguments], cwd=ROOT)
    try:
        yield daemon
    finally:
        daemon.kill()
        daemon.wait()


def _line_count(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def _wait_for_backlog_s(subscriber: Received, events: Path) -> float:
    """Wait until the events that are published so far have arrived; return the time in seconds."""
    start_s = time.monotonic()
    expected_ids = {json.loads(line)["id"] for line in events.read_text().splitlines()}
    if not wait_for_events(subscriber, expected_ids, BACKLOG_TIMEOUT_S):
        raise SystemExit(f"the backlog was not delivered within {BACKLOG_TIMEOUT_S:.0f} s")
    return round(time.monotonic() - start_s, 2)


def _sample_spool_bytes(folder: Path, seconds: float) -> list[int]:
    """Return the size of the spool files once a second."""
    sizes, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        sizes.append(sum(path.stat().st_size for path in folder.glob(f"{SPOOL}*")))
        time.sleep(1.0)
    return sizes


def _latency_figures(lines: list[dict[str, Any]], line_offsets: list[int]) -> dict[str, Any]:
    """Return the latencies before, during and after the outage, and the ratio of p99 during it to p99 otherwise."""
    parts = {
        part: _latencies(lines[start:end])
        for part, (start, end) in zip(("before", "away", "after"), itertools.pairwise(line_offsets), strict=True)
    }
    up_p99 = (parts["before"]["p99_ms"] + parts["after"]["p99_ms"]) / 2
    return {"latency": parts, "p99_away_over_up": parts["away"]["p99_ms"] / up_p99}


def _latencies(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Return the number of events, and the median and p99 of the latency from capture to event."""
    found = sorted(line["data"]["latency_ms"] for line in lines if line["data"]["latency_ms"] is not None)
    return {"events": len(lines), "p50_ms": statistics.median(found), "p99_ms": found[int(0.99 * (len(found) - 1))]}
