"""Cost of the daemon in real time: CPU, memory, latency and stage durations, with one stream or several.

    python -m benchmarks live --json docs/benchmarks/live.json
    python -m benchmarks live --streams 1,2,4,8 --seconds 30 --json docs/benchmarks/live_streams.json
    python -m benchmarks live --settle 120 --seconds 1800 --json docs/benchmarks/live_growth.json

The second command measures the cost of each further camera and microphone, the third one the growth of memory, threads and open
files over half an hour. All three take 45 minutes.

Runs `moodring run` with the shipped bundle on simulated devices: an HTTP camera that sends 640x480 JPEGs at 30 a second, and a
16 kHz microphone of a private PulseAudio. Both play the bundled clip in a loop, in separate processes. Each of several streams
starts at a different frame of the clip, so that the streams do not lose their faces at the same time. CPU time, memory, threads
and open files of the daemon are read from the kernel. The duration of every stage call is recorded
(benchmarks/watched_run.py), so the percentiles cover the whole run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.daemon import read_process_stats
from benchmarks.devices import camera, microphone
from benchmarks.report import machine, write_json
from benchmarks.watched_run import TIMED_STAGES
from moodring import process
from moodring.clock import NS_PER_MS, NS_PER_S
from tests.support.devices.microphone import SKIP_REASON, is_available

SETTLE_S = 10.0  # after the start, before the measurement
SAMPLE_INTERVAL_S = 5.0  # between two readings of the process
LONG_RUN_S, LONG_INTERVAL_S = 120.0, 15.0  # from this duration on, and the interval then
CONFIG = """
streams:
{streams}
events: {{path: "{events}", status: true}}
"""
STREAM = '  stream{index}: {{video: {{source: "{url}?from={first}"}}, audio: {{source: {audio}}}}}'


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the daemon with each number of streams and write the figures; return 0."""
    process.install()  # SIGTERM also ends the processes started here
    parser = argparse.ArgumentParser(prog="python -m benchmarks live", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0, metavar="N", help="duration of the measurement (300)")
    parser.add_argument("--settle", type=float, default=SETTLE_S, metavar="N", help="seconds before the measurement (10)")
    parser.add_argument(
        "--streams", type=lambda text: [int(part) for part in text.split(",")], default=[1], metavar="N,...",
        help="numbers of streams to measure (1)",
    )  # fmt: skip
    parser.add_argument("--tune", action="store_true", help="run `moodring doctor --tune` first")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="moodring-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        environment = stack.enter_context(microphone(folder)) if is_available() else {}
        if not environment:
            print(f"no microphone: {SKIP_REASON}; measuring video only", file=sys.stderr)
        url, frame_count = stack.enter_context(camera())
        setup = DaemonSetup(
            folder, url, frame_count, environment | {"XDG_CACHE_HOME": str(folder / "cache")}, bool(environment)
        )
        if arguments.tune:
            command = [sys.executable, "-m", "moodring.cli", "doctor", "--tune"]
            subprocess.run(command, env=os.environ | setup.environment, stdout=sys.stderr, check=False)
        measured = {count: measure(setup, count, arguments.settle, arguments.seconds) for count in arguments.streams}
    figures = measured[1] if arguments.streams == [1] else {"streams": measured}
    write_json(
        {"benchmark": "live", "machine": machine(), "microphone": bool(environment), "tuned": arguments.tune, **figures},
        arguments.json,
    )
    return 0


class DaemonSetup(NamedTuple):
    """How the daemon is started: its folder, the URL and number of frames of its camera, and its environment."""

    folder: Path
    url: str
    frame_count: int
    environment: dict[str, str]
    has_microphone: bool


def measure(setup: DaemonSetup, count: int, settle_s: float, seconds: float) -> dict[str, Any]:
    """Run the daemon with `count` streams and return its figures over `seconds`, after `settle_s`."""
    events, durations = setup.folder / f"events{count}.jsonl", setup.folder / f"durations{count}"
    config = setup.folder / "config.yaml"
    config.write_text(_config(setup, count, events), encoding="utf-8")
    process_start_ns = time.monotonic_ns()
    command = [sys.executable, "-m", "benchmarks.watched_run", str(durations), "run", "--config", str(config)]
    daemon = subprocess.Popen(command, env=os.environ | setup.environment)
    try:
        time.sleep(settle_s)
        process_stats = [read_process_stats(daemon.pid)]
        measure_start_ns = time.monotonic_ns()
        while time.monotonic_ns() - measure_start_ns < seconds * NS_PER_S:
            time.sleep(min(SAMPLE_INTERVAL_S if seconds < LONG_RUN_S else LONG_INTERVAL_S, seconds))
            process_stats.append(read_process_stats(daemon.pid))
        measure_end_ns = time.monotonic_ns()
    finally:
        daemon.terminate()
        daemon.wait(10)
    messages = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    return {
        **_process_figures(process_stats, count, measure_end_ns - measure_start_ns),
        **_event_figures(messages, process_start_ns, measure_start_ns),
        **_stage_figures(durations, measure_start_ns, measure_end_ns),
    }


def _config(setup: DaemonSetup, count: int, events: Path) -> str:
    audio = "default" if setup.has_microphone else "none"
    first_frames = [round(setup.frame_count * index / count) for index in range(count)]
    streams = [STREAM.format(index=i, url=setup.url, first=first, audio=audio) for i, first in enumerate(first_frames)]
    return CONFIG.format(streams="\n".join(streams), events=events)


def _process_figures(process_stats: Sequence[dict[str, float]], count: int, duration_ns: int) -> dict[str, Any]:
    """Return CPU time, memory, threads and open files of the daemon with `count` streams, from readings in order."""
    first, last = process_stats[0], process_stats[-1]
    return {
        "seconds": duration_ns / NS_PER_S,
        "cpu_percent_of_a_core": 100 * (last["cpu_s"] - first["cpu_s"]) * NS_PER_S / duration_ns,
        "rss_mb": {
            "first": first["rss_mb"],
            "last": last["rss_mb"],
            "most": max(stats["rss_mb"] for stats in process_stats),
            "growth_percent": 100 * (last["rss_mb"] / first["rss_mb"] - 1),
        },
        "threads": {"first": first["threads"], "last": last["threads"]},
        "open_files": {"first": first["files"], "last": last["files"]},
        "cpu_ms_a_stream_and_second": 1000 * (last["cpu_s"] - first["cpu_s"]) / count / (duration_ns / NS_PER_S),
    }


def _event_figures(messages: list[dict[str, Any]], process_start_ns: int, measure_start_ns: int) -> dict[str, Any]:
    """Return the figures in the emotion events and in the last status event."""
    emotions = [message["data"] for message in messages if message["type"] == "moodring.emotion.v1"]
    statuses = [message["data"] for message in messages if message["type"] == "moodring.status.v1"]
    first = next((data for data in emotions if "face" in data["modalities"] and data["label"]), None)
    measured = [data for data in emotions if data["capture_time_ns"] >= measure_start_ns]
    latencies = [data["latency_ms"] for data in measured if data["latency_ms"] is not None]
    return {
        "first_face_label_s": None if first is None else (first["capture_time_ns"] - process_start_ns) / NS_PER_S,
        "events": len(measured),
        "events_with_both": sum(len(data["modalities"]) == 2 for data in measured),
        "capture_to_event_ms": _percentiles(np.array(latencies)) if latencies else None,
        "counters": statuses[-1]["counters"],
        "dropped": statuses[-1]["dropped"],
    }


def _stage_figures(path: Path, measure_start_ns: int, measure_end_ns: int) -> dict[str, Any]:
    """Return the percentiles of each stage's durations in ms: of all streams, and of the classified faces of each stream."""
    records = np.fromfile(path, np.int64).reshape(-1, 5)
    records = records[(records[:, 2] >= measure_start_ns) & (records[:, 2] <= measure_end_ns)]
    stages: dict[str, dict[str, float]] = {}
    for number, stage in enumerate(TIMED_STAGES):
        of_stage = records[records[:, 1] == number]
        if of_stage.size:
            rate_hz = len(of_stage) * NS_PER_S / (measure_end_ns - measure_start_ns)
            cpu = {f"cpu_{name}": value for name, value in _percentiles(of_stage[:, 4] / NS_PER_MS).items()}
            stages[stage] = {"count": len(of_stage), "a_second": rate_hz, **_percentiles(of_stage[:, 3] / NS_PER_MS), **cpu}
    faces = records[records[:, 1] == TIMED_STAGES.index("face_result")]
    by_stream = [_percentiles(faces[faces[:, 0] == stream, 3] / NS_PER_MS) for stream in np.unique(faces[:, 0])]
    return {"stages": stages, "face_result_by_stream": by_stream}


def _percentiles(ms: NDArray[np.floating[Any]]) -> dict[str, float]:
    return {f"p{q}_ms": float(np.percentile(ms, q)) for q in (50, 95, 99)} | {"most_ms": float(ms.max())}
