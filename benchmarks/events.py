"""Do events survive? And what do the sinks cost? Against a real Mosquitto.

    python -m benchmarks.events soak [--events 100000] [--broker-kills 10] [--daemon-kills 5] [--json FILE]
    python -m benchmarks.events outage [--minutes 10] [--json FILE]
    python -m benchmarks.events overhead [--seconds 60] [--json FILE]

soak      broker and publishing process are killed with -9 at random moments (the broker with --broker-signal TERM more
          gently); every event that was reported as published must arrive, in order per source, twice only with the same id.
outage    `moodring run` watches a software camera at 5 Hz; the broker goes away for some minutes and comes back.
overhead  CPU and memory of a process that publishes at 10 Hz to every sink, less those of one that publishes to none.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.recorder import MqttRecorder
from benchmarks.report import machine, write_json
from moodring import process
from moodring.clock import MonotonicClock
from moodring.labels import LABELS
from moodring.publish.base import Event
from moodring.publish.distributor import Distributor
from moodring.publish.jsonl import JsonLines
from moodring.publish.lsl import LslSink
from moodring.publish.metrics import Collector, Health, MetricsServer
from moodring.publish.mqtt.connection import BrokerAddress, Credentials
from moodring.publish.mqtt.sink import MqttSettings, MqttSink
from moodring.publish.mqtt.spool import Spool
from moodring.publish.queue import DirectSink, QueuedSink
from moodring.telemetry import Telemetry
from moodring.types import BranchView, EmotionEvent

ROOT = Path(__file__).resolve().parents[1]
TOPIC = "moodring/soak"
SOAK_HZ = 500.0
# Mosquitto holds back no more than it can pass on, and drops nothing for want of room in its own queues.
BROKER_OPTIONS = ("allow_anonymous true", "max_inflight_messages 0", "max_queued_messages 0")
UNIFORM_PROBABILITIES = dict.fromkeys(LABELS, 0.125)


def make_event(source: str, seq: int) -> EmotionEvent:
    """Return an event of everyday size."""
    view = BranchView("happy", UNIFORM_PROBABILITIES, 0.9, 12.5)
    now_ns = time.monotonic_ns()
    return EmotionEvent(
        source=source, time_utc="2026-01-01T00:00:00.000000Z", seq=seq, capture_time_ns=now_ns, state="ok", label="happy",
        confidence=0.125, probabilities=UNIFORM_PROBABILITIES, modalities=("face", "speech"), face=view, speech=view, faces=(), latency_ms=5.0,
        bundle_id="0123456789abcdef", devices={"camera": "ok", "microphone": "ok"},
    )  # fmt: skip


def log(message: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {message}", file=sys.stderr, flush=True)


def make_mqtt_sink(port: int, folder: Path) -> tuple[MqttSink, Spool]:
    spool = Spool(folder / "events.spool", max_bytes=500_000_000, max_age_s=86_400.0)
    settings = MqttSettings(BrokerAddress("127.0.0.1", port, tls=False), Credentials("moodring-soak"), TOPIC)
    return MqttSink(settings, spool, log), spool


# --- soak: the publishing process -------------------------------------------------------------------------------------


class PublishLogSink:
    """Writes down each event once the sink has said that it is published: what is written here must never be lost."""

    def __init__(self, sink: MqttSink, path: Path) -> None:
        self._sink = sink
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def publish(self, event: Event) -> None:
        self._sink.publish(event)
        os.write(self._fd, f"{event.source}/{event.seq}\n".encode())

    def close(self) -> None:
        self._sink.close()


def publish_events(count: int, port: int, folder: Path, run: int) -> None:
    """Publish so many events at a steady rate, then wait until the broker has them all."""
    sink, spool = make_mqtt_sink(port, folder)
    sink.open()
    queued_sink = QueuedSink("mqtt", PublishLogSink(sink, folder / "reported"), log, capacity=5000, wait_s=60.0)
    queued_sink.open()
    clock, start_ns = MonotonicClock(), time.monotonic_ns()
    for seq in range(count):
        clock.sleep_until_ns(start_ns + int(seq * 1e9 / SOAK_HZ))
        queued_sink.publish(make_event(f"/moodring/soak/live/run{run}", seq))
    while queued_sink.pending or spool.pending:
        clock.sleep_until_ns(time.monotonic_ns() + 50_000_000)
    queued_sink.close()


# --- soak: who kills and who counts -----------------------------------------------------------------------------------


def soak(events: int, broker_kills: int, daemon_kills: int, seed: int, broker_signal: signal.Signals) -> dict[str, Any]:
    from tests.support.broker import Broker  # needs the tests' tools

    rng = random.Random(seed)
    seconds = events / SOAK_HZ
    kill_schedule = sorted(
        [(rng.uniform(0.03, 0.95) * seconds, "broker") for _ in range(broker_kills)]
        + [(rng.uniform(0.05, 0.9) * seconds, "daemon") for _ in range(daemon_kills)]
    )
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        broker = stack.enter_context(Broker(folder, *BROKER_OPTIONS))
        subscriber = stack.enter_context(MqttRecorder(broker.port, f"{TOPIC}/#"))
        broker.save()
        runs = itertools.count()

        def start() -> subprocess.Popen[bytes]:
            left = max(1, events - len(reported_ids(folder)))
            arguments = ["publish", str(left), str(broker.port), str(folder), str(next(runs))]
            return subprocess.Popen([sys.executable, "-m", "benchmarks.events", *arguments], cwd=ROOT)

        daemon = start()
        start_s = time.monotonic()
        for at_s, target in kill_schedule:
            time.sleep(max(0.0, start_s + at_s - time.monotonic()))
            log(f"kill {target}; {len(subscriber.messages)} messages so far")
            if target == "broker":
                subscriber.wait_until_connected()
                broker.kill(broker_signal)
                time.sleep(rng.uniform(0.2, 3.0))
                broker.start()
            elif daemon.poll() is None:
                daemon.send_signal(signal.SIGKILL)
                daemon.wait()
                daemon = start()
        if daemon.wait(600) != 0:
            raise SystemExit("the publishing process failed; its message is above")
        expected_ids = reported_ids(folder)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and not set(expected_ids) <= received_ids(subscriber):
            time.sleep(0.2)
        with Spool(folder / "events.spool", max_bytes=1, max_age_s=1e9) as spool:
            spool_counts = {"acknowledged_by_the_broker": len(expected_ids) - spool.pending, "spool_dropped": spool.dropped}
        return spool_counts | check_delivery(expected_ids, [json.loads(body) for body in subscriber.payloads("events")]) | {
            "broker_kills": broker_kills, "broker_signal": broker_signal.name, "daemon_kills": daemon_kills,
            "seconds": round(time.monotonic() - start_s, 1), "rate_hz": SOAK_HZ, "seed": seed,
            "availability": subscriber.payloads("availability"),
        }  # fmt: skip


def reported_ids(folder: Path) -> list[str]:
    path = folder / "reported"
    return path.read_text().splitlines() if path.exists() else []


def received_ids(subscriber: Any) -> set[str]:
    return {json.loads(body)["id"] for body in subscriber.payloads("events")}


def check_delivery(expected_ids: list[str], received: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare what was reported as published with what a subscriber got."""
    first: dict[str, dict[str, Any]] = {}
    payload_mismatches = 0
    for event in received:
        payload_mismatches += first.setdefault(event["id"], event) != event
    by_source: dict[str, list[int]] = {}
    for event in first.values():
        by_source.setdefault(event["source"], []).append(event["data"]["seq"])
    return {
        "reported": len(expected_ids),
        "arrived": len(received),
        "distinct": len(first),
        "lost": len(set(expected_ids) - set(first)),
        "duplicates": len(received) - len(first),
        "duplicates_that_differ": payload_mismatches,
        "out_of_order": sum(a > b for seqs in by_source.values() for a, b in itertools.pairwise(seqs)),
        "gaps": sum(max(seqs) + 1 - len(seqs) for seqs in by_source.values()),
        "sources": len(by_source),
    }


# --- a broker that is away --------------------------------------------------------------------------------------------


def outage(minutes: float) -> dict[str, Any]:
    from tests.support.broker import Broker, Subscriber
    from tests.support.devices.mjpeg import SoftwareCamera
    from tests.support.signals import face_frame

    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        broker = stack.enter_context(Broker(folder))
        subscriber = stack.enter_context(Subscriber(broker.port, f"{TOPIC}/#"))
        broker.save()
        camera = stack.enter_context(SoftwareCamera(face_frame))
        events = folder / "events.jsonl"
        config = folder / "config.yaml"
        config.write_text(
            f"events: {{path: {events}}}\nmqtt: {{url: 'mqtt://127.0.0.1:{broker.port}', topic: {TOPIC}, "
            f"spool: {{path: {folder / 'events.spool'}}}}}\n"
        )
        arguments = ["run", "--config", str(config), "--video", camera.url, "--audio", "none"]
        daemon = stack.enter_context(run_process([sys.executable, "-m", "moodring.cli", *arguments]))
        time.sleep(10)  # caches warm, face found
        line_offsets = []
        for seconds, broker_up in ((60.0, True), (60.0 * minutes, False), (60.0, True)):
            if not broker_up:
                broker.kill()
            elif line_offsets:
                broker.start()
                delivered_s = wait_for_backlog_s(subscriber, events)
            line_offsets.append(line_count(events))
            spool_bytes = max(sample_spool_bytes(folder, seconds), default=0)
            if not broker_up:
                max_spool_bytes = spool_bytes
        line_offsets.append(line_count(events))
        daemon.send_signal(signal.SIGINT)
        daemon.wait(20)
        lines = [json.loads(line) for line in events.read_text().splitlines()]
        deadline = time.monotonic() + 10  # a busy machine may be slow to hand the last ones to the subscriber
        while time.monotonic() < deadline and not {line["id"] for line in lines} <= received_ids(subscriber):
            time.sleep(0.2)
        parts = {
            part: latencies(lines[start:end])
            for part, (start, end) in zip(("before", "away", "after"), itertools.pairwise(line_offsets), strict=True)
        }
        up_p99 = (parts["before"]["p99_ms"] + parts["after"]["p99_ms"]) / 2
        got = check_delivery([line["id"] for line in lines], [json.loads(body) for body in subscriber.payloads("events")])
        return got | {
            "minutes_away": minutes, "delivered_after_s": delivered_s, "spool_bytes_at_most": max_spool_bytes,
            "latency": parts, "p99_away_over_up": parts["away"]["p99_ms"] / up_p99,
        }  # fmt: skip


def line_count(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def latencies(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Latency from capture to event, and how evenly events come: the gap between two of them."""
    found = sorted(line["data"]["latency_ms"] for line in lines if line["data"]["latency_ms"] is not None)
    times = [line["time"] for line in lines]
    return {
        "events": len(times),
        "p50_ms": statistics.median(found),
        "p99_ms": found[int(0.99 * (len(found) - 1))],
    }


def wait_for_backlog_s(subscriber: Any, events: Path) -> float:
    """Return how long it takes from now until all that was published until now has arrived."""
    start_s = time.monotonic()
    expected_ids = {json.loads(line)["id"] for line in events.read_text().splitlines()}
    while not expected_ids <= received_ids(subscriber):
        if time.monotonic() - start_s > 120:
            raise SystemExit("the backlog was not delivered in two minutes")
        time.sleep(0.2)
    return round(time.monotonic() - start_s, 2)


def sample_spool_bytes(folder: Path, seconds: float) -> list[int]:
    sizes, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        sizes.append(sum(path.stat().st_size for path in folder.glob("events.spool*")))
        time.sleep(1.0)
    return sizes


@contextlib.contextmanager
def run_process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


# --- what the sinks cost ----------------------------------------------------------------------------------------------


def overhead(seconds: float) -> dict[str, Any]:
    from tests.support.broker import Broker

    with tempfile.TemporaryDirectory() as name, Broker(Path(name)) as broker:
        rows = {}
        for target in ("none", "all", "none", "all"):  # twice: the second pair counts, caches are warm
            command = [sys.executable, "-m", "benchmarks.events", "tick", target, str(seconds), str(broker.port), name]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            rows[target] = json.loads(done.stdout)
        return {
            "rate_hz": 10.0, "seconds": seconds, "none": rows["none"], "all": rows["all"],
            "cpu_percent": rows["all"]["cpu_percent"] - rows["none"]["cpu_percent"],
            "rss_mb": rows["all"]["rss_mb"] - rows["none"]["rss_mb"],
        }  # fmt: skip


def measure_sink_cost(target: str, seconds: float, port: int, folder: Path) -> None:
    """Publish at 10 Hz to no sink or to all of them, and print what it cost. Both import what the runtime imports."""
    import moodring.run.session  # noqa: F401

    clock = MonotonicClock()
    telemetry = Telemetry(clock, counters=lambda: {"events": 1}, dropped=dict, level_dbfs=lambda: -30.0)
    with contextlib.ExitStack() as stack:
        isolated_sinks, mqtt = open_all_sinks(port, folder) if target == "all" else ([], None)
        distributor = stack.enter_context(Distributor(telemetry, clock, isolated_sinks=isolated_sinks, spooling=mqtt))
        server = None
        if target == "all":
            collector = Collector({"bench": (telemetry, distributor.sinks)})
            server = MetricsServer("127.0.0.1", 0, collector, Health({"bench": telemetry}, 2.0))
            server.open()
            stack.callback(server.close)
        cpu_s, start_ns = 0.0, time.monotonic_ns()
        for index in range(int(10 * seconds)):
            if index == 20:  # what starting costs is not counted
                cpu_s = time.process_time()
            clock.sleep_until_ns(start_ns + index * 100_000_000)
            distributor.publish(make_event("/moodring/bench/live/0", index))
            if server is not None and index % 150 == 149:  # a scrape every 15 s
                urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics").read()
        cpu_s = time.process_time() - cpu_s
        rss_kb = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)
    print(json.dumps({"cpu_percent": 100 * cpu_s / (seconds - 2), "rss_mb": rss_kb / 1024}))


def open_all_sinks(port: int, folder: Path) -> tuple[list[QueuedSink | DirectSink], MqttSink]:
    mqtt, _ = make_mqtt_sink(port, folder)
    mqtt.open()
    lsl = LslSink("bench", "bench")
    lsl.open()
    lines = JsonLines(str(folder / "events.jsonl"))
    return [
        DirectSink("lsl", lsl, log),
        QueuedSink("jsonl", lines, log),
        QueuedSink("mqtt", mqtt, log),
    ], mqtt  # as `open_sinks` does


def main() -> None:
    process.install()  # a benchmark that is told to end takes what it started with it
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    for part, options in (
        ("soak", {"events": 100_000, "broker-kills": 10, "daemon-kills": 5, "seed": 0}),
        ("outage", {"minutes": 10.0}),
        ("overhead", {"seconds": 60.0}),
    ):
        command = parts.add_parser(part)
        for option, default in options.items():
            command.add_argument(f"--{option}", type=type(default), default=default)
        command.add_argument("--json", type=Path)
        if part == "soak":
            command.add_argument("--broker-signal", choices=("TERM", "KILL"), default="KILL")
    publish_parser = parts.add_parser("publish")
    for name, kind in (("count", int), ("port", int), ("folder", Path), ("run", int)):
        publish_parser.add_argument(name, type=kind)
    tick_parser = parts.add_parser("tick")
    for name, kind in (("target", str), ("seconds", float), ("port", int), ("folder", Path)):
        tick_parser.add_argument(name, type=kind)
    a = parser.parse_args()
    if a.part == "publish":
        publish_events(a.count, a.port, a.folder, a.run)
    elif a.part == "tick":
        measure_sink_cost(a.target, a.seconds, a.port, a.folder)
    else:
        figures = (
            soak(a.events, a.broker_kills, a.daemon_kills, a.seed, signal.Signals[f"SIG{a.broker_signal}"]) if a.part == "soak"
            else outage(a.minutes) if a.part == "outage"
            else overhead(a.seconds)
        )  # fmt: skip
        write_json({"benchmark": f"events_{a.part}", "machine": machine()} | figures, a.json)


if __name__ == "__main__":
    main()
