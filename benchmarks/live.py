"""What does the daemon cost while it watches and listens, and how fast does it answer?

    python -m benchmarks.live [--seconds 300] [--json FILE]
    python -m benchmarks.live --settle 300 --seconds 1800     does it grow? a look every minute
    python -m benchmarks.live --streams 1,2,4,8 --seconds 30  what does one more camera and microphone cost?

Runs `moodring run` with the shipped bundle on devices made of software: an HTTP camera that sends 640x480 JPEGs at 30 a
second and a 16 kHz microphone of a private PulseAudio, both playing the bundled clip over and over in processes of their own.
Of several streams each begins elsewhere in the clip: cameras of different rooms do not lose their faces at one instant.
CPU, memory, threads and open files are the daemon's, as the kernel counts them. Durations are all of them, each written down
as it is measured (benchmarks/watched_run.py), and percentiles are over the whole run.
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
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from benchmarks.report import machine, write_json
from benchmarks.watched_run import TIMED_STAGES
from moodring import process
from moodring.capture.media import AudioFile, VideoFile
from moodring.clock import NS_PER_MS, NS_PER_S
from moodring.diagnostics.peers.cameras import run_in_process
from moodring.run.sources import SAMPLE_CLIP
from tests.support.devices.microphone import SKIP_REASON, SoftwareMicrophone, is_available
from tests.support.devices.mjpeg import SoftwareCamera

SETTLE_S = 10.0  # after the start, before anything is measured
SAMPLE_INTERVAL_S = 5.0  # between two looks at the process
CONFIG = """
streams:
{streams}
events: {{path: "{events}", status: true}}
"""
STREAM = '  stream{index}: {{video: {{source: "{url}?from={first}"}}, audio: {{source: {audio}}}}}'
MINUTE_S = 60.0


def main() -> None:
    process.install()  # a benchmark that is told to end takes what it started with it
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--settle", type=float, default=SETTLE_S, help="before anything is measured, in seconds")
    parser.add_argument("--streams", type=lambda text: [int(part) for part in text.split(",")], default=[1])
    parser.add_argument("--tune", action="store_true", help="run `moodring doctor --tune` before, as a user may")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moodring-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        environment = stack.enter_context(microphone(folder)) if is_available() else {}
        if not environment:
            print(f"without a microphone: {SKIP_REASON}", file=sys.stderr)
        url, frame_count = stack.enter_context(camera())
        setup = DaemonSetup(folder, url, frame_count, environment | {"XDG_CACHE_HOME": str(folder / "cache")}, arguments.tune)
        if setup.tuned:
            command = [sys.executable, "-m", "moodring.cli", "doctor", "--tune"]
            subprocess.run(command, env=os.environ | setup.environment, stdout=sys.stderr, check=False)
        measured = {count: measure(setup, count, arguments.settle, arguments.seconds) for count in arguments.streams}
    figures = measured[1] if arguments.streams == [1] else {"streams": measured}
    write_json(
        {"benchmark": "live", "machine": machine(), "microphone": bool(environment), "tuned": arguments.tune, **figures},
        arguments.json,
    )


class DaemonSetup(NamedTuple):
    """Where the daemon is started: its folder, its camera, and the environment in which it finds its microphone."""

    folder: Path
    url: str
    frame_count: int
    environment: dict[str, str]
    tuned: bool


@contextlib.contextmanager
def camera() -> Iterator[tuple[str, int]]:
    """Serve the bundled clip's pictures from a process of its own; yield the address, and how many they are."""
    with run_in_process(_serve) as (url, frame_count):
        yield url, frame_count


def _serve(messages: Any, stop: Event) -> None:
    with VideoFile(str(SAMPLE_CLIP)) as video:
        frame_count = [cv2.cvtColor(frame.grey, cv2.COLOR_GRAY2BGR) for frame in video]
    with SoftwareCamera(lambda i: frame_count[i], len(frame_count)) as served:
        messages.put((served.url, len(frame_count)))
        stop.wait()


@contextlib.contextmanager
def microphone(folder: Path) -> Iterator[dict[str, str]]:
    """Play the bundled clip's sound into a private microphone; yield the environment in which it is the default one."""
    with AudioFile(str(SAMPLE_CLIP)) as audio:
        sound = np.concatenate([block.samples for block in audio])
    with SoftwareMicrophone(folder, sound) as played:
        yield played.environment


def measure(setup: DaemonSetup, count: int, settle_s: float, seconds: float) -> dict[str, Any]:
    folder, url, environment = setup.folder, setup.url, setup.environment
    events = folder / f"events{count}.jsonl"
    config = folder / "config.yaml"
    audio = "default" if environment else "none"
    first_frames = [round(setup.frame_count * index / count) for index in range(count)]
    streams = "\n".join(STREAM.format(index=i, url=url, first=first, audio=audio) for i, first in enumerate(first_frames))
    config.write_text(CONFIG.format(streams=streams, events=events), encoding="utf-8")
    process_start_ns = time.monotonic_ns()
    durations = folder / f"durations{count}"
    command = [sys.executable, "-m", "benchmarks.watched_run", str(durations), "run", "--config", str(config)]
    process = subprocess.Popen(command, env=os.environ | environment)
    try:
        time.sleep(settle_s)
        process_stats = [_read_process_stats(process.pid)]
        measure_start_ns = time.monotonic_ns()
        while time.monotonic_ns() - measure_start_ns < seconds * NS_PER_S:
            time.sleep(min(SAMPLE_INTERVAL_S if seconds < 2 * MINUTE_S else MINUTE_S / 4, seconds))
            process_stats.append(_read_process_stats(process.pid))
        measure_end_ns = time.monotonic_ns()
    finally:
        process.terminate()
        process.wait(10)
    messages = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    return {
        "seconds": (measure_end_ns - measure_start_ns) / NS_PER_S,
        "cpu_percent_of_a_core": 100
        * (process_stats[-1]["cpu_s"] - process_stats[0]["cpu_s"])
        * NS_PER_S
        / (measure_end_ns - measure_start_ns),
        "rss_mb": {
            "first": process_stats[0]["rss_mb"],
            "last": process_stats[-1]["rss_mb"],
            "most": max(stats["rss_mb"] for stats in process_stats),
            "growth_percent": 100 * (process_stats[-1]["rss_mb"] / process_stats[0]["rss_mb"] - 1),
        },
        "threads": {"first": process_stats[0]["threads"], "last": process_stats[-1]["threads"]},
        "open_files": {"first": process_stats[0]["files"], "last": process_stats[-1]["files"]},
        "cpu_ms_a_stream_and_second": 1000
        * (process_stats[-1]["cpu_s"] - process_stats[0]["cpu_s"])
        / count
        / ((measure_end_ns - measure_start_ns) / NS_PER_S),
        **_event_figures(messages, process_start_ns, measure_start_ns),
        **_stage_figures(durations, measure_start_ns, measure_end_ns),
    }


def _read_process_stats(pid: int) -> dict[str, float]:
    """CPU seconds so far, resident megabytes, threads and open files of a process, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return {
        "cpu_s": (int(fields[11]) + int(fields[12])) / ticks,
        "threads": int(fields[17]),
        "rss_mb": int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }


def _event_figures(messages: list[dict[str, Any]], process_start_ns: int, measure_start_ns: int) -> dict[str, Any]:
    """What the events and the last status say."""
    emotions = [one["data"] for one in messages if one["type"] == "moodring.emotion.v1"]
    statuses = [one["data"] for one in messages if one["type"] == "moodring.status.v1"]
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
    """How long everything took that was timed, in milliseconds, over the whole run: of all streams, and a face of each."""
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


def _percentiles(ms: Any) -> dict[str, float]:
    return {f"p{q}_ms": float(np.percentile(ms, q)) for q in (50, 95, 99)} | {"most_ms": float(ms.max())}


if __name__ == "__main__":
    main()
