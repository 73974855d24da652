"""What most examples do, live: every frame that cv2.VideoCapture gives, in order, through OpenCV's detector as it comes.

For every frame: decoded to colour, searched whole by `detectMultiScale` with its defaults, cropped; python_speech_features over
the last three seconds; both networks in sessions with their default options (which spin on every core). Three ways to feed it:

    in_order   one loop: read, answer, read. It takes longer than a frame lasts, so frames wait in the buffers of camera,
               kernel and FFmpeg, and each answer is about an older picture than the one before, until the buffers are full
    newest     a thread reads all frames and keeps the newest one, as people do who have met that
    memory     JPEGs from memory, one after the other: its time by itself, with no camera and no queue
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
from moodring.diagnostics.bench.recording import RATE_HZ, Recording
from moodring.diagnostics.bench.timing import NS_PER_US, quantiles_us
from moodring.diagnostics.peers.cameras import CameraEndpoints, CaptureTimeDecoder
from moodring.features.face.crop import normalize_crops
from moodring.features.face.haar import load_cascade
from moodring.inference import bundle as bundles
from moodring.inference.bundle import Bundle

WINDOW_S = 3
WARM_UP_S = 3.0
MEMORY_FRAMES, MEMORY_WARM_UP_FRAMES = 24, 4
FEED_MODES = ("in_order", "newest")


class NaivePipeline:
    """The chain, frame by frame."""

    def __init__(self, bundle: Bundle, sound: np.ndarray) -> None:
        import onnxruntime

        self._face, self._speech = (
            onnxruntime.InferenceSession(str(bundle.models[name].files["fp32"]), providers=["CPUExecutionProvider"])
            for name in ("face", "speech")
        )
        self._window_shape = next(iter(bundle.models["speech"].inputs.values()))
        self._size = bundle.spec.face.size
        self._cascade = load_cascade()
        self._sound = np.resize((sound * 32767).astype(np.int16), WINDOW_S * RATE_HZ)

    def process_frame(self, bgr: np.ndarray) -> np.ndarray:
        """Return the picture in grey, when both networks have answered."""
        import python_speech_features as psf

        grey = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.uint8)
        found = self._cascade.detectMultiScale(grey)
        x, y, w, h = max(found, key=lambda box: box[2]) if len(found) else (0, 0, *grey.shape[::-1])
        crop = np.asarray(cv2.resize(grey[y : y + h, x : x + w], (self._size, self._size)), np.uint8)
        self._face.run(None, {"crop": normalize_crops(crop[None])})
        cepstra = psf.mfcc(self._sound, RATE_HZ, nfft=512)
        self._speech.run(None, {"window": np.resize(cepstra.astype(np.float32), self._window_shape)})
        return grey


def measure_from_memory(recording: Recording, bundle: Bundle) -> dict[str, Any]:
    """CPU of the process and wall time from a frame's JPEG to its answer, frame by frame, from memory."""
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
            pipeline.process_frame(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))
            if index >= MEMORY_WARM_UP_FRAMES:
                wall_ns.append(time.perf_counter_ns() - frame_ns)
        cpu_s, taken_s = time.process_time() - cpu_s, time.perf_counter() - start_s
    finally:
        cv2.setNumThreads(threads)
    return {
        "frames": MEMORY_FRAMES,
        "fps": MEMORY_FRAMES / taken_s,
        "cpu_ms_per_frame": 1000 * cpu_s / MEMORY_FRAMES,
        "answer_ms": _quantiles_ms(wall_ns),
    }


def live(
    cameras: CameraEndpoints, fps: float, recording: Recording, bundle: Bundle, *, feed_mode: str, seconds: float
) -> dict[str, Any]:
    """Run it in a process of its own on a camera for some seconds after a warm-up."""
    with tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        np.save(Path(folder) / "sound.npy", recording.sound)
        command = [
            sys.executable, "-m", "moodring.diagnostics.peers.naive", str(bundle.path), folder, feed_mode, str(seconds), str(fps),
            str(cameras.port), str(cameras.start_ns), str(cameras.frame_count),
        ]  # fmt: skip
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"the naive chain failed: {run.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("folder", type=Path)
    parser.add_argument("feed_mode", choices=FEED_MODES)
    parser.add_argument("seconds", type=float)
    parser.add_argument("fps", type=float)
    for name in ("port", "start_ns", "frame_count"):
        parser.add_argument(name, type=int)
    arguments = parser.parse_args()
    cameras = CameraEndpoints(arguments.port, arguments.start_ns, arguments.frame_count)
    pipeline = NaivePipeline(bundles.load(bundles.resolve(arguments.bundle)), np.load(arguments.folder / "sound.npy"))
    capture = cv2.VideoCapture(cameras.video(arguments.fps))
    frames = _read_in_order(capture) if arguments.feed_mode == "in_order" else _read_newest(capture)
    print(
        json.dumps(
            _measure_answers(frames, pipeline, CaptureTimeDecoder(cameras, arguments.fps), arguments.seconds, arguments.fps)
        )
    )


def _measure_answers(
    frames: Iterator[np.ndarray], pipeline: NaivePipeline, decoder: CaptureTimeDecoder, seconds: float, fps: float
) -> dict[str, Any]:
    """The first frames are answered too, and count as what waited when the time that counts began."""
    latencies_ns, at_s = [], []
    start_s = time.monotonic()
    cpu_s, measure_start_s, before = 0.0, 0.0, 0
    while (now_s := time.monotonic()) < start_s + WARM_UP_S + seconds:
        if not measure_start_s and now_s >= start_s + WARM_UP_S:
            cpu_s, measure_start_s, before = time.process_time(), now_s, len(latencies_ns)
        grey = pipeline.process_frame(next(frames))
        answered_ns = time.monotonic_ns()
        latencies_ns.append(answered_ns - decoder.captured_at_ns(grey))
        at_s.append(answered_ns / NS_PER_S - start_s)
    taken_s, cpu_s = time.monotonic() - measure_start_s, time.process_time() - cpu_s
    answered = len(latencies_ns) - before
    return {
        "answered": answered,
        "fps": answered / taken_s,
        "cpu_ms_per_frame": 1000 * cpu_s / answered,
        "cpu_ms_per_camera_frame": 1000 * cpu_s / (taken_s * fps),
        "core_percent": 100 * cpu_s / taken_s,
        "answer_ms": _quantiles_ms(latencies_ns[before:]),
        "answer_ms_at_s": [[round(s, 2), round(ns / 1e6, 1)] for s, ns in zip(at_s, latencies_ns, strict=True)],
    }


def _read_in_order(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while True:
        ok, frame = capture.read()
        if not ok:
            raise RuntimeError("the camera gives no more frames")
        yield frame


def _read_newest(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    ready = threading.Condition()
    newest: list[np.ndarray] = []

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
    os._exit(0)  # a thread that reads for ever holds nobody up
