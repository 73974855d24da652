"""Scaling of the cost: frame rate, frame size, number of faces, window, hop and number of streams.

    python -m benchmarks scaling [--json FILE] [--seconds 6] [--only streams,http_streams]

Each point is a run in real time with the daemon's threads, after a warm-up. The cameras play JPEGs from memory, except for
`http_streams`: a separate process on the same machine sends 640x480 MJPEG at 15 Hz and sound over HTTP, and latencies are
measured from the capture time in the mark of each frame. CPU time is that of the measuring process. An exponent is the slope of
log(CPU) over log(varied quantity). The window length is measured up to the input of the network, whose length is fixed. The
committed figures in docs/benchmarks/scaling.json are measured with OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.report import machine, write_json
from moodring.capture.grey import decode_jpeg
from moodring.capture.network import NetworkCamera, NetworkMicrophone
from moodring.clock import NS_PER_S
from moodring.config import Config, FaceConfig
from moodring.diagnostics.bench import paced, recording
from moodring.diagnostics.bench.hot import IDENTITY
from moodring.diagnostics.bench.measured import Measured, measured_pipeline
from moodring.diagnostics.bench.recording import BLOCK, JPEG_QUALITY, Recording
from moodring.diagnostics.peers.cameras import CaptureTimeDecoder, serve_recording
from moodring.features.audio.window import SpeechFrontEnd
from moodring.features.face.haar import FaceDetector
from moodring.inference import bundle as bundles
from moodring.inference.bundle import Bundle
from moodring.networks import open_networks
from moodring.publish.jsonl import JsonLines
from moodring.run.sources import SAMPLE_CLIP
from moodring.types import SAMPLE_RATE_HZ, U8, AudioBlock

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
FRAME_WH, FACE_SIDE_PX = (640, 480), 110  # of the composed frames with several faces
COLUMNS = 4
FRAME_STRIDE = 7  # each stream starts this many frames later in the clip than the one before it
WINDOW_RUN_S, WINDOW_RUNS = 20, 3  # sound for each window length, and how often


def main(argv: Sequence[str] | None = None) -> int:
    """Measure all axes, or the chosen ones, and write the figures; return 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    parser.add_argument("--seconds", type=float, default=6.0, metavar="N", help="duration of each run after its warm-up (6)")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=list(AXES), metavar="AXIS,...", help=", ".join(AXES)
    )
    arguments = parser.parse_args(argv)
    cv2.setNumThreads(1)
    found = {axis: AXES[axis](arguments.seconds) for axis in arguments.only}
    write_json({"benchmark": "scaling", "machine": machine(), "seconds": arguments.seconds, **found}, arguments.json)
    return 0


def vary_frame_rate(seconds: float) -> dict[str, Any]:
    """Vary the frame rate of the camera. The face rate is 60 Hz, so no frame is skipped."""
    by = {str(hz): run(recording.load(str(SAMPLE_CLIP), fps=hz), 1, seconds, face_rate_hz=60.0) for hz in RATES_HZ}
    return {"by": by, "exponent": exponent(RATES_HZ, _cpu(by))}


def vary_size(seconds: float) -> dict[str, Any]:
    """Vary the frame size."""
    by = {f"{w}x{h}": run(recording.load(str(SAMPLE_CLIP), size=(w, h)), 1, seconds) for w, h in SIZES}
    return {"by": by, "exponent_of_pixels": exponent([w * h for w, h in SIZES], _cpu(by))}


def vary_faces(seconds: float) -> dict[str, Any]:
    """Vary the number of faces: all are tracked, one is classified.

    The exponent excludes the run without a face, in which the whole frame is searched.
    """
    clip = recording.load(str(SAMPLE_CLIP), fps=STREAM_HZ)
    by = {}
    for count in FACES:
        with_faces = composite_faces(clip, count)
        by[str(count)] = run(with_faces, 1, seconds)
    return {"by": by, "exponent": exponent(FACES[1:], _cpu(by)[1:])}


def vary_hop(seconds: float) -> dict[str, Any]:
    """Vary the hop of the speech branch."""
    clip = recording.load(str(SAMPLE_CLIP))
    by = {}
    for ms in HOPS_MS:
        bundle = bundles.load(bundles.resolve("default"))
        hop_frames = round(ms / 1000 * SAMPLE_RATE_HZ / bundle.spec.speech.mfcc.hop_samples)
        spec = dataclasses.replace(bundle.spec, speech=dataclasses.replace(bundle.spec.speech, hop_frames=hop_frames))
        by[str(ms)] = run(clip, 1, seconds, bundle=dataclasses.replace(bundle, spec=spec))
    return {"by": by, "exponent": exponent(HOPS_MS, _cpu(by))}


def vary_window(_seconds: float) -> dict[str, Any]:
    """Vary the window length: thread CPU time of 20 s of speech up to the input of the network, in percent of a core."""
    bundle = bundles.load(bundles.resolve("default"))
    sound = np.resize(recording.load(str(SAMPLE_CLIP)).sound, WINDOW_RUN_S * SAMPLE_RATE_HZ)
    by: dict[str, Any] = {}
    for length_s in WINDOWS_S:
        frames = round(length_s * SAMPLE_RATE_HZ / bundle.spec.speech.mfcc.hop_samples)
        spec = dataclasses.replace(bundle.spec.speech, window_frames=frames, min_frames=min(98, frames))
        times = []
        for _ in range(WINDOW_RUNS):
            front_end = SpeechFrontEnd(spec)
            start_ns, windows = time.thread_time_ns(), 0
            for start in range(0, sound.size - 5 * BLOCK, 5 * BLOCK):
                block = AudioBlock(sound[start : start + 5 * BLOCK], start * NS_PER_S // SAMPLE_RATE_HZ)
                windows += len(list(front_end.push(block)))
            times.append((time.thread_time_ns() - start_ns) / NS_PER_S)
        by[str(length_s)] = {
            "core_percent": 100 * statistics.median(times) / WINDOW_RUN_S,
            "windows": windows,
            "answer_ms": {},
            "troubles": [],
        }
    return {"by": by, "exponent": exponent(WINDOWS_S, _cpu(by))}


def vary_streams(seconds: float) -> dict[str, Any]:
    """Vary the number of streams whose cameras play from memory."""
    clip = recording.load(str(SAMPLE_CLIP), fps=STREAM_HZ)
    return _until_latency_limit(STREAMS, lambda count: run(clip, count, seconds))


def vary_http_streams(seconds: float) -> dict[str, Any]:
    """Vary the number of streams whose cameras and microphones are HTTP streams."""
    clip = recording.load(str(SAMPLE_CLIP))
    return _until_latency_limit(HTTP_STREAMS, lambda count: run_http(clip, count, seconds))


AXES = {
    "frame_rate": vary_frame_rate, "size": vary_size, "faces": vary_faces, "hop": vary_hop, "window": vary_window,
    "streams": vary_streams, "http_streams": vary_http_streams,
}  # fmt: skip


def _until_latency_limit(counts: Sequence[int], measure: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
    """Measure increasing numbers of streams, up to the first whose p99 latency is above the limit."""
    by: dict[str, Any] = {}
    max_count = 0
    for count in counts:
        by[str(count)] = found = measure(count)
        if found["answer_ms"].get("p99", float("inf")) > MAX_P99_MS:
            break
        max_count = count
    return {"by": by, "exponent": exponent([int(n) for n in by], _cpu(by)), "most_with_answers_p99_within_100_ms": max_count}


def run(
    clip: Recording, count: int, seconds: float, face_rate_hz: float = FaceConfig().rate_hz, bundle: Bundle | None = None
) -> dict[str, Any]:
    """Measure `count` streams of a clip; each starts at a different frame."""
    pipelines = _pipelines(count, face_rate_hz, bundle)
    return _measure_streams(pipelines, [paced.played(clip, first=FRAME_STRIDE * index) for index in range(count)], seconds)


def run_http(clip: Recording, count: int, seconds: float) -> dict[str, Any]:
    """Measure `count` streams over HTTP; latencies are measured from the capture time in the mark of each frame."""
    pipelines = _pipelines(count, FaceConfig().rate_hz)
    with serve_recording(clip) as endpoints:
        devices: list[paced.Devices] = []
        for index, measured in enumerate(pipelines):
            first = FRAME_STRIDE * index
            measured.recorder.captured_at_ns = CaptureTimeDecoder(endpoints, STREAM_HZ, first).frame_captured_at_ns
            devices.append((NetworkCamera(endpoints.video(STREAM_HZ, first)), NetworkMicrophone(endpoints.sound())))
        return _measure_streams(pipelines, devices, seconds)


def _pipelines(count: int, face_rate_hz: float, bundle: Bundle | None = None) -> list[Measured]:
    config = Config(face=FaceConfig(rate_hz=face_rate_hz))
    bundle = bundle or bundles.load(bundles.resolve("default"))
    networks = open_networks(config, bundle)
    return [measured_pipeline(config, bundle, IDENTITY, networks) for _ in range(count)]


def _measure_streams(pipelines: list[Measured], devices: list[paced.Devices], seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        publisher = JsonLines(str(Path(folder) / "events.jsonl"))
        figures = paced.measure(pipelines, devices, publisher, seconds)
        publisher.close()
    found = {name: figures[name] for name in REPORTED_KEYS if name in figures}
    found["faces_followed"] = len(pipelines[0].pipeline.faces)
    return found


def composite_faces(clip: Recording, count: int) -> Recording:
    """Return a clip of 640x480 with `count` moving copies of its own face in front of a blurred background."""
    greys: list[U8] = [grey for jpeg in clip.jpegs[:60] if (grey := decode_jpeg(jpeg, 1)) is not None]
    x, y, side, _ = FaceDetector().detect_in_image(greys[0])[0].xywh
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


def exponent(varied: Sequence[float], cost: Sequence[float]) -> float | None:
    """Return b of the fit cost = a * varied ** b; None for fewer than two points."""
    return float(np.polyfit(np.log(varied), np.log(cost), 1)[0]) if len(varied) > 1 else None
