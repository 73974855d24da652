"""How does the cost grow: with rate and size of the pictures, with faces, window and hop, and with the number of streams?

    python -m benchmarks.scaling [--json FILE] [--seconds 6] [--only streams,http_streams]

Each point is a run at the pace of life through the daemon's own threads, after a warm-up. The cameras play JPEGs from memory,
but for `http_streams`: those are 640x480 at 15 Hz as MJPEG over HTTP with sound over HTTP, from a process of their own on the
same machine, and answers are timed from when the camera took the picture. CPU is that of the process that watches; exponents
are those of CPU over the varied quantity, fitted in logarithms. A longer or shorter window is measured up to the network's
input, which has one length.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.report import machine, write_json
from moodring.capture.grey import decode_jpeg
from moodring.capture.network import NetworkCamera, NetworkMicrophone
from moodring.clock import NS_PER_S
from moodring.config import Config, FaceConfig
from moodring.diagnostics.bench import paced as live
from moodring.diagnostics.bench import recording
from moodring.diagnostics.bench.hot import IDENTITY
from moodring.diagnostics.bench.measured import Measured, measured_pipeline
from moodring.diagnostics.bench.recording import BLOCK, JPEG_QUALITY, RATE_HZ, Recording
from moodring.diagnostics.peers import cameras
from moodring.features.audio.window import SpeechFrontEnd
from moodring.features.face.haar import FaceDetector
from moodring.inference import bundle as bundles
from moodring.inference.bundle import Bundle
from moodring.networks import open_networks
from moodring.publish.jsonl import JsonLines
from moodring.run.sources import SAMPLE_CLIP
from moodring.types import AudioBlock

RATES_HZ = (1, 5, 15, 30, 60)
SIZES = ((320, 240), (640, 480), (1280, 720), (1920, 1080))
STREAMS = (1, 2, 4, 8, 12, 16, 24, 32)
HTTP_STREAMS = (4, 8, 12, 16)
FACES = (0, 1, 2, 4, 8)
HOPS_MS = (250, 500, 1000, 2000)
WINDOWS_S = (1, 2, 3, 6)
STREAM_HZ = 15.0
MAX_P99_MS = 100.0
REPORTED_KEYS = ("core_percent", "cpu_ms_per_frame", "answer_ms", "event_ms", "counted", "machine", "troubles", "rss_mb")
FRAME_WH, FACE_SIDE_PX = (640, 480), 110  # of the pictures with several faces
COLUMNS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(AXES), metavar="AXIS,...", help=", ".join(AXES)
    )
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    found = {axis: AXES[axis](arguments.seconds) for axis in arguments.only}
    write_json({"benchmark": "scaling", "machine": machine(), "seconds": arguments.seconds, **found}, arguments.json)


def frame_rate(seconds: float) -> dict[str, Any]:
    # Every frame is looked at, so that the rate is what varies, and not what is skipped above the face branch's own.
    by = {str(hz): run(recording.load(str(SAMPLE_CLIP), fps=hz), 1, seconds, face_rate_hz=60.0) for hz in RATES_HZ}
    return {"by": by, "exponent": exponent(RATES_HZ, _cpu(by))}


def size(seconds: float) -> dict[str, Any]:
    by = {f"{w}x{h}": run(recording.load(str(SAMPLE_CLIP), size=(w, h)), 1, seconds) for w, h in SIZES}
    return {"by": by, "exponent_of_pixels": exponent([w * h for w, h in SIZES], _cpu(by))}


def faces(seconds: float) -> dict[str, Any]:
    """Each face is followed; one is read. The exponent leaves out no face at all: then all of the picture is searched."""
    clip = recording.load(str(SAMPLE_CLIP), fps=STREAM_HZ)
    by = {}
    for count in FACES:
        with_faces = composite_faces(clip, count)
        by[str(count)] = run(with_faces, 1, seconds)
    return {"by": by, "exponent": exponent(FACES[1:], _cpu(by)[1:])}


def hop(seconds: float) -> dict[str, Any]:
    clip = recording.load(str(SAMPLE_CLIP))
    by = {}
    for ms in HOPS_MS:
        bundle = bundles.load(bundles.resolve("default"))
        speech = dataclasses.replace(
            bundle.spec.speech, hop_frames=round(ms / 1000 * RATE_HZ / bundle.spec.speech.mfcc.hop_samples)
        )
        by[str(ms)] = run(
            clip, 1, seconds, bundle=dataclasses.replace(bundle, spec=dataclasses.replace(bundle.spec, speech=speech))
        )
    return {"by": by, "exponent": exponent(HOPS_MS, _cpu(by))}


def window(_seconds: float) -> dict[str, Any]:
    """Thread CPU of twenty seconds of speech up to the network's input, in percent of a core; no network."""
    bundle = bundles.load(bundles.resolve("default"))
    sound = np.resize(recording.load(str(SAMPLE_CLIP)).sound, 20 * RATE_HZ)
    by: dict[str, Any] = {}
    for length_s in WINDOWS_S:
        frames = round(length_s * RATE_HZ / bundle.spec.speech.mfcc.hop_samples)
        spec = dataclasses.replace(bundle.spec.speech, window_frames=frames, min_frames=min(98, frames))
        times = []
        for _ in range(3):
            front_end = SpeechFrontEnd(spec)
            start_ns, windows = time.thread_time_ns(), 0
            for start in range(0, sound.size - 5 * BLOCK, 5 * BLOCK):
                windows += len(list(front_end.push(AudioBlock(sound[start : start + 5 * BLOCK], start * NS_PER_S // RATE_HZ))))
            times.append((time.thread_time_ns() - start_ns) / NS_PER_S)
        by[str(length_s)] = {
            "core_percent": 100 * statistics.median(times) / 20,
            "windows": windows,
            "answer_ms": {},
            "troubles": [],
        }
    return {"by": by, "exponent": exponent(WINDOWS_S, _cpu(by))}


def streams(seconds: float) -> dict[str, Any]:
    clip = recording.load(str(SAMPLE_CLIP), fps=STREAM_HZ)
    return _until_latency_limit(STREAMS, lambda count: run(clip, count, seconds))


def http_streams(seconds: float) -> dict[str, Any]:
    clip = recording.load(str(SAMPLE_CLIP))
    return _until_latency_limit(HTTP_STREAMS, lambda count: run_http(clip, count, seconds))


AXES = {
    "frame_rate": frame_rate, "size": size, "faces": faces, "hop": hop, "window": window,
    "streams": streams, "http_streams": http_streams,
}  # fmt: skip


def _until_latency_limit(counts: tuple[int, ...], measured: Any) -> dict[str, Any]:
    by: dict[str, Any] = {}
    max_count = 0
    for count in counts:
        by[str(count)] = found = measured(count)
        if found["answer_ms"].get("p99", float("inf")) > MAX_P99_MS:
            break
        max_count = count
    return {"by": by, "exponent": exponent([int(n) for n in by], _cpu(by)), "most_with_answers_p99_within_100_ms": max_count}


def run(
    clip: Recording, count: int, seconds: float, face_rate_hz: float = FaceConfig().rate_hz, bundle: Bundle | None = None
) -> dict[str, Any]:
    """Return what `count` streams of a clip cost, each beginning at another picture."""
    pipelines = _pipelines(count, face_rate_hz, bundle)
    return _measure_streams(pipelines, [live.played(clip, first=7 * index) for index in range(count)], seconds)


def run_http(clip: Recording, count: int, seconds: float) -> dict[str, Any]:
    """The same over HTTP, each picture timed by its mark."""
    pipelines = _pipelines(count, FaceConfig().rate_hz)
    with cameras.serve_recording(clip) as endpoints:
        devices: list[live.Devices] = []
        for index, one in enumerate(pipelines):
            decoder = cameras.CaptureTimeDecoder(endpoints, STREAM_HZ, 7 * index)
            one.recorder.captured_at_ns = lambda frame, decoder=decoder: decoder.captured_at_ns(frame.grey, frame.reduction)  # type: ignore[misc]
            devices.append((NetworkCamera(endpoints.video(STREAM_HZ, 7 * index)), NetworkMicrophone(endpoints.sound())))
        return _measure_streams(pipelines, devices, seconds)


def _pipelines(count: int, face_rate_hz: float, bundle: Bundle | None = None) -> list[Measured]:
    config = Config(face=FaceConfig(rate_hz=face_rate_hz))
    bundle = bundle or bundles.load(bundles.resolve("default"))
    networks = open_networks(config, bundle)
    return [measured_pipeline(config, bundle, IDENTITY, networks) for _ in range(count)]


def _measure_streams(pipelines: list[Measured], devices: list[live.Devices], seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        publisher = JsonLines(str(Path(folder) / "events.jsonl"))
        figures = live.measure(pipelines, devices, publisher, seconds)
        publisher.close()
    found = {name: figures[name] for name in REPORTED_KEYS if name in figures}
    found["faces_followed"] = len(pipelines[0].pipeline.faces)
    return found


def composite_faces(clip: Recording, count: int) -> Recording:
    """Return a clip of 640x480 with `count` moving copies of its own face before a blurred wall."""
    greys = [decode_jpeg(jpeg, 1) for jpeg in clip.jpegs[:60]]
    detector = FaceDetector()
    boxes = detector.detect_in_image(greys[0])
    x, y, side, _ = boxes[0].xywh
    margin = side // 3
    frame_width, frame_height = FRAME_WH
    jpegs = []
    for index, grey in enumerate(greys):
        frame = cv2.GaussianBlur(cv2.resize(greys[0], FRAME_WH), (0, 0), 40)
        face = grey[max(0, y - margin) : y + side + margin, max(0, x - margin) : x + side + margin]
        small = cv2.resize(face, (round(FACE_SIDE_PX * 1.3), round(FACE_SIDE_PX * 1.3)), interpolation=cv2.INTER_AREA)
        for slot in range(count):
            left = slot % COLUMNS * frame_width // COLUMNS + 6 + index % 6
            top = slot // COLUMNS * frame_height // 2 + 40 + index % 5
            frame[top : top + small.shape[0], left : left + small.shape[1]] = small
        encoded = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        jpegs.append(np.asarray(encoded, np.uint8).reshape(-1))
    return dataclasses.replace(clip, jpegs=jpegs, size=FRAME_WH)


def _cpu(by: dict[str, Any]) -> list[float]:
    return [point["core_percent"] for point in by.values()]


def exponent(factor: Any, cost: Any) -> float | None:
    """Return b of cost = a * varied ** b; None for fewer than two points."""
    return float(np.polyfit(np.log(factor), np.log(cost), 1)[0]) if len(factor) > 1 else None


if __name__ == "__main__":
    main()
