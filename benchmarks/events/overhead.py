"""Cost of the sinks: CPU time and memory of a process that publishes to all sinks, minus those of one without sinks."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import moodring.run.session  # noqa: F401  both processes import everything that the runtime imports
from benchmarks.events.publisher import ROOT, log, make_event, make_mqtt_sink
from moodring.clock import NS_PER_S, MonotonicClock
from moodring.publish.distributor import Distributor
from moodring.publish.jsonl import JsonLines
from moodring.publish.lsl import LslSink
from moodring.publish.metrics import Collector, Health, MetricsServer
from moodring.publish.mqtt.sink import MqttSink
from moodring.publish.queue import DirectSink, QueuedSink
from moodring.telemetry import Telemetry

RATE_HZ = 10
START_S = 2  # not counted
SCRAPE_S = 15


def measure(seconds: float) -> dict[str, Any]:
    """Run each process twice, alternately, for this time; return the figures of the second pair and their difference."""
    from tests.support.servers.broker import Broker  # needs the tools of the tests

    with tempfile.TemporaryDirectory() as name, Broker(Path(name)) as broker:
        rows = {}
        for target in ("none", "all", "none", "all"):  # in the second pair the file caches are warm
            arguments = ["tick", target, str(seconds), str(broker.port), name]
            command = [sys.executable, "-m", "benchmarks", "events", *arguments]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            rows[target] = json.loads(done.stdout)
        return {
            "rate_hz": float(RATE_HZ), "seconds": seconds, "none": rows["none"], "all": rows["all"],
            "cpu_percent": rows["all"]["cpu_percent"] - rows["none"]["cpu_percent"],
            "rss_mb": rows["all"]["rss_mb"] - rows["none"]["rss_mb"],
        }  # fmt: skip


def measure_sink_cost(target: str, seconds: float, port: int, folder: Path) -> None:
    """Publish at 10 Hz to no sink (`none`) or to all of them (`all`); print CPU time and resident memory as JSON."""
    clock = MonotonicClock()
    telemetry = Telemetry(clock, counters=lambda: {"events": 1}, dropped=dict, level_dbfs=lambda: -30.0)
    with contextlib.ExitStack() as stack:
        isolated_sinks, mqtt = _open_all_sinks(port, folder) if target == "all" else ([], None)
        distributor = stack.enter_context(Distributor(telemetry, clock, isolated_sinks=isolated_sinks, spooling=mqtt))
        server = None
        if target == "all":
            collector = Collector({"bench": (telemetry, distributor.sinks)})
            server = MetricsServer("127.0.0.1", 0, collector, Health({"bench": telemetry}, 2.0))
            server.open()
            stack.callback(server.close)
        cpu_s, start_ns = 0.0, time.monotonic_ns()
        for index in range(int(RATE_HZ * seconds)):
            if index == RATE_HZ * START_S:
                cpu_s = time.process_time()
            clock.sleep_until_ns(start_ns + index * NS_PER_S // RATE_HZ)
            distributor.publish(make_event("/moodring/bench/live/0", index))
            if server is not None and index % (RATE_HZ * SCRAPE_S) == RATE_HZ * SCRAPE_S - 1:
                urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics").read()
        cpu_s = time.process_time() - cpu_s
        rss_kb = next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)
    print(json.dumps({"cpu_percent": 100 * cpu_s / (seconds - START_S), "rss_mb": rss_kb / 1024}))


def _open_all_sinks(port: int, folder: Path) -> tuple[list[QueuedSink | DirectSink], MqttSink]:
    """Open the sinks in the way of `open_sinks`; return them, and the one with a spool."""
    mqtt, _ = make_mqtt_sink(port, folder)
    mqtt.open()
    lsl = LslSink("bench", "bench")
    lsl.open()
    lines = JsonLines(str(folder / "events.jsonl"))
    return [DirectSink("lsl", lsl, log), QueuedSink("jsonl", lines, log), QueuedSink("mqtt", mqtt, log)], mqtt
