"""The naive chain that most examples show: every frame of cv2.VideoCapture, in order, through OpenCV's default detector.

Each frame is decoded to colour, searched whole by `detectMultiScale` with default arguments, and cropped.
python_speech_features runs over the last three seconds of sound. Both networks run in sessions with default options, whose
threads spin on every core. There are three ways to feed it:

    in_order   one loop: read a frame, process it, read the next. Processing takes longer than the frame interval, so frames
               queue up in the buffers of camera, kernel and FFmpeg. The age of the results grows until the buffers are full
    newest     a thread reads all frames and keeps the newest one, the usual remedy
    memory     JPEGs from memory, one after the other: the processing time without a camera and without a queue
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from moodring.clock import NS_PER_S
from moodring.diagnostics.bench.recording import Recording
from moodring.diagnostics.bench.timing import NS_PER_US, quantiles_us
from moodring.diagnostics.peers.cameras import CameraEndpoints, CaptureTimeDecoder
from moodring.features.face.crop import normalize_crops
from moodring.features.face.haar import load_cascade
from moodring.inference import bundle as bundles
from moodring.inference.bundle import Bundle
from moodring.types import F32, SAMPLE_RATE_HZ, U8

WINDOW_S = 3
WARM_UP_S = 3.0
MEMORY_FRAMES, MEMORY_WARM_UP_FRAMES = 24, 4
FEED_MODES = ("in_order", "newest")


class NaivePipeline:
    """The naive chain. `sound` is float32 [N] at 16 kHz; the first three seconds of it are used for every frame."""

    def __init__(self, bundle: Bundle, sound: F32) -> None:
        import onnxruntime

        self._face, self._speech = (
            onnxruntime.InferenceSession(str(bundle.models[name].files["fp32"]), providers=["CPUExecutionProvider"])
            for name in ("face", "speech")
        )
        self._window_shape = next(iter(bundle.models["speech"].inputs.values()))
        self._size = bundle.spec.face.size
        self._cascade = load_cascade()
        self._sound = np.resize((sound * 32767).astype(np.int16), WINDOW_S * SAMPLE_RATE_HZ)

    def process_frame(self, bgr: U8) -> U8:
        """Run both networks on a frame, uint8 [H, W, 3]; return the frame in grey, uint8 [H, W]."""
        import python_speech_features as psf

        grey = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8)
        found = self._cascade.detectMultiScale(grey)
        x, y, w, h = max(found, key=lambda box: box[2]) if len(found) else (0, 0, *grey.shape[::-1])
        crop = np.asarray(cv2.resize(grey[y : y + h, x : x + w], (self._size, self._size)), np.uint8)
        self._face.run(None, {"crop": normalize_crops(crop[None])})
        cepstra = psf.mfcc(self._sound, SAMPLE_RATE_HZ, nfft=512)
        self._speech.run(None, {"window": np.resize(cepstra.astype(np.float32), self._window_shape)})
        return grey


def measure_from_memory(recording: Recording, bundle: Bundle) -> dict[str, Any]:
    """Return the CPU time of the process and the wall time from JPEG to result, frame by frame, without a camera."""
    pipeline = NaivePipeline(bundle, recording.sound)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(os.cpu_count() or 1)
    wall_ns: list[int] = []
    cpu_s = start_s = 0.0
    try:
        for index in range(MEMORY_WARM_UP_FRAMES + MEMORY_FRAMES):
            if index == MEMORY_WARM_UP_FRAMES:
                cpu_s, start_s = time.process_time(), time.perf_counter()
            frame_ns = time.perf_counter_ns()
            jpeg = recording.jpegs[index * (len(recording.jpegs) // (MEMORY_WARM_UP_FRAMES + MEMORY_FRAMES))]
            pipeline.process_frame(_decoded(jpeg))
            if index >= MEMORY_WARM_UP_FRAMES:
                wall_ns.append(time.perf_counter_ns() - frame_ns)
        cpu_s, elapsed_s = time.process_time() - cpu_s, time.perf_counter() - start_s
    finally:
        cv2.setNumThreads(threads)
    return {
        "frames": MEMORY_FRAMES,
        "fps": MEMORY_FRAMES / elapsed_s,
        "cpu_ms_per_frame": 1000 * cpu_s / MEMORY_FRAMES,
        "answer_ms": _quantiles_ms(wall_ns),
    }


def _decoded(jpeg: U8) -> U8:
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), np.uint8)


def measure_live(
    cameras: CameraEndpoints, fps: float, recording: Recording, bundle: Bundle, *, feed_mode: str, seconds: float
) -> dict[str, Any]:
    """Run the chain in a separate process on a camera, for `seconds` after a warm-up; return what that process printed."""
    with tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        np.save(Path(folder) / "sound.npy", recording.sound)
        command = [
            sys.executable, "-m", "moodring.diagnostics.peers.naive", str(bundle.path), folder, feed_mode, str(seconds),
            str(fps), str(cameras.port), str(cameras.start_ns), str(cameras.frame_count),
        ]  # fmt: skip
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"the process of the naive chain failed: {run.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure the chain on a camera, in this process, and print the figures as JSON."""
    parser = argparse.ArgumentParser(prog="python -m moodring.diagnostics.peers.naive", description=__doc__.splitlines()[0])
    parser.add_argument("bundle", help="folder of the model bundle")
    parser.add_argument("folder", type=Path, help="folder that contains sound.npy")
    parser.add_argument("feed_mode", choices=FEED_MODES)
    parser.add_argument("seconds", type=float, help="duration of the measurement after the warm-up")
    parser.add_argument("fps", type=float, help="frame rate of the camera")
    for name in ("port", "start_ns", "frame_count"):
        parser.add_argument(name, type=int, help=f"CameraEndpoints.{name}")
    arguments = parser.parse_args()
    cameras = CameraEndpoints(arguments.port, arguments.start_ns, arguments.frame_count)
    pipeline = NaivePipeline(bundles.load(bundles.resolve(arguments.bundle)), np.load(arguments.folder / "sound.npy"))
    capture = cv2.VideoCapture(cameras.video(arguments.fps))
    frames = _read_in_order(capture) if arguments.feed_mode == "in_order" else _read_newest(capture)
    decoder = CaptureTimeDecoder(cameras, arguments.fps)
    print(json.dumps(_measure_answers(frames, pipeline, decoder, arguments.seconds, arguments.fps)))


def _measure_answers(
    frames: Iterator[U8], pipeline: NaivePipeline, decoder: CaptureTimeDecoder, seconds: float, fps: float
) -> dict[str, Any]:
    """Return rates, CPU time and latencies from capture to result.

    The frames of the warm-up are processed too: they leave the queue that exists when the measurement starts.
    """
    latencies_ns: list[int] = []
    at_s: list[float] = []
    start_s = time.monotonic()
    cpu_s, measure_start_s, before = 0.0, 0.0, 0
    while (now_s := time.monotonic()) < start_s + WARM_UP_S + seconds:
        if not measure_start_s and now_s >= start_s + WARM_UP_S:
            cpu_s, measure_start_s, before = time.process_time(), now_s, len(latencies_ns)
        grey = pipeline.process_frame(next(frames))
        result_ns = time.monotonic_ns()
        latencies_ns.append(result_ns - decoder.captured_at_ns(grey))
        at_s.append(result_ns / NS_PER_S - start_s)
    elapsed_s, cpu_s = time.monotonic() - measure_start_s, time.process_time() - cpu_s
    count = len(latencies_ns) - before
    return {
        "answered": count,
        "fps": count / elapsed_s,
        "cpu_ms_per_frame": 1000 * cpu_s / count,
        "cpu_ms_per_camera_frame": 1000 * cpu_s / (elapsed_s * fps),
        "core_percent": 100 * cpu_s / elapsed_s,
        "answer_ms": _quantiles_ms(latencies_ns[before:]),
        "answer_ms_at_s": [[round(s, 2), round(ns / 1e6, 1)] for s, ns in zip(at_s, latencies_ns, strict=True)],
    }


def _read_in_order(capture: cv2.VideoCapture) -> Iterator[U8]:
    while True:
        ok, frame = capture.read()
        if not ok:
            raise RuntimeError("the camera sends no more frames")
        yield np.asarray(frame, np.uint8)


def _read_newest(capture: cv2.VideoCapture) -> Iterator[U8]:
    ready = threading.Condition()
    newest: list[U8] = []

    def read_frames() -> None:
        for frame in _read_in_order(capture):
            with ready:
                newest[:] = [frame]
                ready.notify()

    threading.Thread(target=read_frames, daemon=True).start()
    while True:
        with ready:
            ready.wait_for(lambda: newest, 5)
            frame = newest.pop()
        yield frame


def _quantiles_ms(durations_ns: list[int]) -> dict[str, float]:
    return {name: us * NS_PER_US / 1e6 for name, us in quantiles_us(durations_ns).items()}


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # without waiting for the reading thread, which never ends
