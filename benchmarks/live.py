"""What does the daemon cost while it watches and listens, and how fast does it answer?

    python -m benchmarks.live [--seconds 300] [--json FILE]
    python -m benchmarks.live --settle 300 --seconds 1800     does it grow? a look every minute
    python -m benchmarks.live --streams 1,2,4,8 --seconds 30  what does one more camera and microphone cost?

Runs `moodring run` with the shipped bundle on devices made of software: an HTTP camera that sends 640x480 JPEGs at 30 a
second and a 16 kHz microphone of a private PulseAudio, both playing the bundled clip over and over in processes of their own.
CPU, memory, threads and open files are the daemon's, as the kernel counts them; latencies are those it tells of itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
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
from edge.capture.media import AudioFile, VideoFile
from edge.clock import NS_PER_S
from edge.sources import SAMPLE_CLIP
from tests.support.microphone import REASON, SoftwareMicrophone, available
from tests.support.mjpeg import SoftwareCamera

SETTLE_S = 10.0  # after the start, before anything is measured
LOOK_S = 5.0  # between two looks at the process
CONFIG = """
streams:
{streams}
events: {{path: "{events}", status: true}}
"""
STREAM = '  stream{index}: {{video: {{source: "{url}"}}, audio: {{source: {audio}}}}}'
MINUTE = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--settle", type=float, default=SETTLE_S, help="before anything is measured, in seconds")
    parser.add_argument("--streams", type=lambda text: [int(part) for part in text.split(",")], default=[1])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="moodring-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        environment = stack.enter_context(microphone(folder)) if available() else {}
        if not environment:
            print(f"without a microphone: {REASON}", file=sys.stderr)
        url = stack.enter_context(camera())
        place = Place(folder, url, environment)
        measured = {count: measure(place, count, arguments.settle, arguments.seconds) for count in arguments.streams}
    figures = measured[1] if arguments.streams == [1] else {"streams": measured}
    write_json({"benchmark": "live", "machine": machine(), "microphone": bool(environment), **figures}, arguments.json)


class Place(NamedTuple):
    """Where the daemon is started: its folder, its camera, and the environment in which it finds its microphone."""

    folder: Path
    url: str
    environment: dict[str, str]


@contextlib.contextmanager
def camera() -> Iterator[str]:
    """Serve the bundled clip's pictures from a process of its own; yield the address."""
    context = multiprocessing.get_context("spawn")
    told: Any = context.SimpleQueue()
    stop = context.Event()
    process = context.Process(target=_serve, args=(told, stop), daemon=True)
    process.start()
    try:
        yield told.get()
    finally:
        stop.set()
        process.join(10)


def _serve(told: Any, stop: Event) -> None:
    with VideoFile(str(SAMPLE_CLIP)) as video:
        pictures = [cv2.cvtColor(frame.grey, cv2.COLOR_GRAY2BGR) for frame in video]
    with SoftwareCamera(lambda i: pictures[i], len(pictures)) as served:
        told.put(served.url)
        stop.wait()


@contextlib.contextmanager
def microphone(folder: Path) -> Iterator[dict[str, str]]:
    """Play the bundled clip's sound into a private microphone; yield the environment in which it is the default one."""
    with AudioFile(str(SAMPLE_CLIP)) as audio:
        sound = np.concatenate([block.samples for block in audio])
    with SoftwareMicrophone(folder, sound) as played:
        yield played.environment


def measure(place: Place, count: int, settle_s: float, seconds: float) -> dict[str, Any]:
    folder, url, environment = place
    events = folder / f"events{count}.jsonl"
    config = folder / "config.yaml"
    audio = "default" if environment else "none"
    streams = "\n".join(STREAM.format(index=index, url=url, audio=audio) for index in range(count))
    config.write_text(CONFIG.format(streams=streams, events=events), encoding="utf-8")
    started_ns = time.monotonic_ns()
    command = [sys.executable, "-m", "edge.cli", "run", "--config", str(config)]
    process = subprocess.Popen(command, env=os.environ | environment)
    try:
        time.sleep(settle_s)
        looks = [_look(process.pid)]
        begun_ns = time.monotonic_ns()
        while time.monotonic_ns() - begun_ns < seconds * NS_PER_S:
            time.sleep(min(LOOK_S if seconds < 2 * MINUTE else MINUTE / 4, seconds))
            looks.append(_look(process.pid))
        ended_ns = time.monotonic_ns()
    finally:
        process.terminate()
        process.wait(10)
    told = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    return {
        "seconds": (ended_ns - begun_ns) / NS_PER_S,
        "cpu_percent_of_a_core": 100 * (looks[-1]["cpu_s"] - looks[0]["cpu_s"]) * NS_PER_S / (ended_ns - begun_ns),
        "rss_mb": {
            "first": looks[0]["rss_mb"],
            "last": looks[-1]["rss_mb"],
            "most": max(look["rss_mb"] for look in looks),
            "growth_percent": 100 * (looks[-1]["rss_mb"] / looks[0]["rss_mb"] - 1),
        },
        "threads": {"first": looks[0]["threads"], "last": looks[-1]["threads"]},
        "open_files": {"first": looks[0]["files"], "last": looks[-1]["files"]},
        "cpu_ms_a_stream_and_second": 1000
        * (looks[-1]["cpu_s"] - looks[0]["cpu_s"])
        / count
        / ((ended_ns - begun_ns) / NS_PER_S),
        **_answers(told, started_ns, begun_ns),
    }


def _look(pid: int) -> dict[str, float]:
    """CPU seconds so far, resident megabytes, threads and open files of a process, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return {
        "cpu_s": (int(fields[11]) + int(fields[12])) / ticks,
        "threads": int(fields[17]),
        "rss_mb": int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "files": len(list(Path(f"/proc/{pid}/fd").iterdir())),
    }


def _answers(told: list[dict[str, Any]], started_ns: int, begun_ns: int) -> dict[str, Any]:
    """What the events and the once-a-second statuses say; a stage's p99 is that of its worst second and its median one."""
    emotions = [one["data"] for one in told if one["type"] == "moodring.emotion.v1"]
    statuses = [one["data"] for one in told if one["type"] == "moodring.status.v1"]
    settled = [data for data in statuses if data["time_ns"] >= begun_ns]
    stages: dict[str, dict[str, float]] = {}
    for stage in sorted({name for data in settled for name in data["latency"]}):
        seconds = [data["latency"][stage] for data in settled if stage in data["latency"]]
        stages[stage] = {
            "a_second": float(np.mean([second["count"] for second in seconds])),
            "p50_ms": float(np.median([second["p50_ms"] for second in seconds])),
            "p99_ms_median_second": float(np.median([second["p99_ms"] for second in seconds])),
            "p99_ms_worst_second": max(second["p99_ms"] for second in seconds),
        }
    first = next((data for data in emotions if "face" in data["modalities"] and data["label"]), None)
    measured = [data for data in emotions if data["capture_time_ns"] >= begun_ns]
    latencies = [data["latency_ms"] for data in measured if data["latency_ms"] is not None]
    return {
        "first_face_label_s": None if first is None else (first["capture_time_ns"] - started_ns) / NS_PER_S,
        "events": len(measured),
        "events_with_both": sum(len(data["modalities"]) == 2 for data in measured),
        "capture_to_event_ms": {f"p{q}": float(np.percentile(latencies, q)) for q in (50, 95, 99)},
        "stages": stages,
        "see_p99_ms_by_stream": {
            name: float(np.median([one["latency"]["see"]["p99_ms"] for one in seconds if "see" in one["latency"]]))
            for name, seconds in _by_stream(told, begun_ns).items()
        },
        "counters": statuses[-1]["counters"],
        "dropped": statuses[-1]["dropped"],
    }


def _by_stream(told: list[dict[str, Any]], begun_ns: int) -> dict[str, list[dict[str, Any]]]:
    """The statuses of each stream."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in told:
        if one["type"] == "moodring.status.v1" and one["data"]["time_ns"] >= begun_ns:
            found.setdefault(one["source"].split("/")[3], []).append(one["data"])
    return found


if __name__ == "__main__":
    main()
