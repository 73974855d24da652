"""How does the cost grow: with the frame rate, the size of the picture, and the number of streams?

    python -m benchmarks.scaling [--json FILE] [--seconds 6]

Each point is a run at the pace of life through the daemon's own threads, after a warm-up, on the bundled clip played as JPEGs
by cameras without a network. CPU is the process's; exponents are those of CPU over the varied quantity, fitted in logarithms.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.report import machine, write_json
from edge.bench import live, recording
from edge.bench.measured import MeasuredPipeline
from edge.bench.recording import Recording
from edge.bench.run import IDENTITY
from edge.config import Config, FaceConfig
from edge.inference import bundle as bundles
from edge.pipeline import open_networks
from edge.publish.jsonl import JsonLines
from edge.sources import SAMPLE_CLIP

RATES_HZ = (1, 5, 15, 30, 60)
SIZES = ((320, 240), (640, 480), (1280, 720), (1920, 1080))
STREAMS = (1, 2, 4, 8, 12, 16, 24, 32)
STREAM_HZ = 15.0
P99_MS = 100.0
KEPT = ("core_percent", "cpu_ms_per_frame", "answer_ms", "event_ms", "counted", "troubles", "rss_mb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=6.0)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    write_json({"benchmark": "scaling", "machine": machine(), **measure(arguments.seconds)}, arguments.json)


def measure(seconds: float) -> dict[str, Any]:
    clip = str(SAMPLE_CLIP)
    # Every frame is looked at, so that the rate is what varies, and not what is skipped above the face branch's own.
    rates = {str(hz): run(recording.load(clip, fps=hz), 1, seconds, face_rate_hz=60.0) for hz in RATES_HZ}
    sizes = {f"{w}x{h}": run(recording.load(clip, size=(w, h)), 1, seconds) for w, h in SIZES}
    streams: dict[str, Any] = {}
    most = 0
    for count in STREAMS:
        streams[str(count)] = found = run(recording.load(clip, fps=STREAM_HZ), count, seconds)
        if found["answer_ms"]["p99"] > P99_MS:
            break
        most = count
    return {
        "frame_rate": {"by": rates, "exponent": exponent(RATES_HZ, [point["core_percent"] for point in rates.values()])},
        "size": {
            "by": sizes,
            "exponent_of_pixels": exponent([w * h for w, h in SIZES], [point["core_percent"] for point in sizes.values()]),
        },
        "streams": {
            "by": streams,
            "exponent": exponent([int(n) for n in streams], [point["core_percent"] for point in streams.values()]),
            "most_with_answers_p99_within_100_ms": most,
        },
    }


def run(clip: Recording, count: int, seconds: float, face_rate_hz: float = FaceConfig().rate_hz) -> dict[str, Any]:
    """Return what `count` streams of a clip cost, each beginning at another picture."""
    config, bundle = Config(face=FaceConfig(rate_hz=face_rate_hz)), bundles.load(bundles.resolve("default"))
    networks = open_networks(config, bundle)
    pipelines = [MeasuredPipeline(config, bundle, IDENTITY, networks) for _ in range(count)]
    devices = [live.played(clip, first=7 * index) for index in range(count)]
    with tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        publisher = JsonLines(str(Path(folder) / "events.jsonl"))
        figures = live.measure(pipelines, devices, publisher, seconds)
        publisher.close()
    return {name: figures[name] for name in KEPT if name in figures}


def exponent(varied: Any, cost: Any) -> float | None:
    """Return b of cost = a * varied ** b; None for fewer than two points."""
    return float(np.polyfit(np.log(varied), np.log(cost), 1)[0]) if len(varied) > 1 else None


if __name__ == "__main__":
    main()
