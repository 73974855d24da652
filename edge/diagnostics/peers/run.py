"""Other implementations of the same task, on the recording and in the run of `moodring bench --peers`.

naive.py contains the naive chain and the ways to feed it, cameras.py its camera, extractors.py the MFCC extractors.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.capture.grey import decode_jpeg
from moodring.capture.network import NetworkCamera
from moodring.config import Config
from moodring.diagnostics.bench import paced
from moodring.diagnostics.bench.hot import IDENTITY
from moodring.diagnostics.bench.measured import measured_pipeline
from moodring.diagnostics.bench.recording import Recording
from moodring.diagnostics.peers import cameras, naive
from moodring.diagnostics.peers.extractors import cpu_ns
from moodring.features.face.haar import load_cascade
from moodring.features.spec import PreprocessSpec
from moodring.inference.bundle import Bundle
from moodring.inference.variants import VariantPlan, available_variants
from moodring.networks import open_networks
from moodring.publish.jsonl import JsonLines

CAMERA_FPS = 30.0
LIVE_S = 20.0
REPORTED_KEYS = (
    "core_percent",
    "cpu_ms_per_frame",
    "cpu_ms_per_answer",
    "answer_ms",
    "answers_ms",
    "event_ms",
    "counted",
    "spread",
    "troubles",
)
FER_PYTHON = "MOODRING_FER_PYTHON"
DETECTION_FRAMES = 10
TIMED_CALLS = 60
WARM_UP_CALLS = 5
FER_IMAGES = 30
COARSE_SCAN = {"scaleFactor": 1.3, "minNeighbors": 5}  # the arguments of `detectMultiScale` in many examples

# Eager PyTorch: returns, for a preprocessing spec and by network, a function from inputs to the call to time.
EagerCalls = Callable[[PreprocessSpec], dict[str, Callable[[dict[str, NDArray[np.float32]]], Callable[[], Any]]]]


def measure(
    eager: EagerCalls, recording: Recording, bundle: Bundle, plan: VariantPlan, hot_figures: dict[str, Any]
) -> dict[str, Any]:
    """Return the figures of each peer.

    `ratios` are the peers' times relative to moodring's. `missing` names the peers that are not installed.
    """
    missing: list[str] = []
    figures: dict[str, Any] = {"missing": missing}
    for name, part in (
        ("live", lambda: measure_live(recording, bundle, plan)),
        ("features", measure_extractors),
        ("detection", lambda: measure_detection(recording)),
        ("branches", lambda: measure_branches(bundle, eager)),
        ("fer", lambda: measure_fer(recording)),
    ):
        try:
            figures[name] = part()
        except ModuleNotFoundError as error:
            missing.append(f"{name}: {error.name} is not installed")
    figures["ratios"] = _ratios(figures, hot_figures)
    figures["troubles"] = figures["live"]["ours"]["troubles"] if "live" in figures else []
    return figures


def _ratios(figures: dict[str, Any], hot_figures: dict[str, Any]) -> dict[str, float]:
    ratios = {}
    if "live" in figures:
        ours, by_feed_mode = figures["live"]["ours"], figures["live"]["naive"]
        ratios["naive_cpu_per_frame"] = by_feed_mode["in_order"]["cpu_ms_per_frame"] / ours["cpu_ms_per_frame"]
        ratios["naive_cpu_per_answer"] = by_feed_mode["in_order"]["cpu_ms_per_frame"] / ours["cpu_ms_per_answer"]
        for feed_mode, found in by_feed_mode.items():
            ratios[f"naive_answer_{feed_mode}"] = found["answer_ms"]["p50"] / ours["answer_ms"]["p50"]
    if "features" in figures:
        ratios |= figures["features"]["times_faster_than"]
    if "detection" in figures:
        # The search for new faces belongs to the detection of each frame.
        ours_us = sum(hot_figures["stages"][name]["cpu_us_mean"] for name in ("detect", "search"))
        ratios |= {f"detect, {name}": 1000 * ms / ours_us for name, ms in figures["detection"].items()}
    for name, by_engine in figures.get("branches", {}).items():
        ratios |= {f"{name}, {engine}": us / hot_figures["stages"][name]["cpu_us"]["p50"] for engine, us in by_engine.items()}
    if "fer" in figures:
        ratios["fer package, CPU per frame"] = 1000 * figures["fer"]["cpu_ms"] / hot_figures["frame_mean_us"]
    return ratios


def measure_live(recording: Recording, bundle: Bundle, plan: VariantPlan) -> dict[str, Any]:
    """Run moodring and the naive chain on the same camera, one after the other; the marks in the frames give the latencies.

    moodring runs with the daemon's threads and camera reader. Its microphone plays the recording. The naive chain has three
    seconds of sound in memory.
    """
    config = Config()
    naive_figures: dict[str, Any] = {"memory": naive.measure_from_memory(recording, bundle)}
    with cameras.serve_recording(recording) as endpoints, tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        measured = measured_pipeline(config, bundle, IDENTITY, open_networks(config, bundle, plan))
        decoder = cameras.CaptureTimeDecoder(endpoints, CAMERA_FPS)
        measured.recorder.captured_at_ns = decoder.frame_captured_at_ns
        publisher = JsonLines(str(Path(folder) / "events.jsonl"))
        devices = (NetworkCamera(endpoints.video(CAMERA_FPS)), paced.played(recording)[1])
        ours = paced.measure([measured], [devices], publisher, LIVE_S)
        publisher.close()
        for feed_mode in naive.FEED_MODES:
            naive_figures[feed_mode] = naive.measure_live(
                endpoints, CAMERA_FPS, recording, bundle, feed_mode=feed_mode, seconds=LIVE_S
            )
    return {
        "fps": CAMERA_FPS,
        "seconds": LIVE_S,
        "ours": {name: ours[name] for name in REPORTED_KEYS if name in ours},
        "naive": naive_figures,
    }


def measure_extractors() -> dict[str, Any]:
    """Time the cepstra of three seconds by each extractor. benchmarks/sound/mfcc.py contains the whole comparison."""
    from moodring.diagnostics.peers.extractors import clip_calls, synthetic_speech, time_interleaved

    clip = time_interleaved(clip_calls(synthetic_speech(naive.WINDOW_S)))
    us = {name: times["median_us"] for name, times in clip.items()}
    return {
        "median_us": us,
        "times_faster_than": {name: us[name] / us["moodring"] for name in us if name not in ("moodring", "floor")},
    }


def measure_detection(recording: Recording) -> dict[str, float]:
    """Return the median thread CPU time of OpenCV's detector on whole frames, in ms, by its arguments."""
    cascade = load_cascade()
    jpegs = recording.jpegs[:: max(1, len(recording.jpegs) // DETECTION_FRAMES)]
    frames = [frame for jpeg in jpegs if (frame := decode_jpeg(jpeg, 1)) is not None]
    detector_options: dict[str, dict[str, Any]] = {"defaults": {}, "1.3 and 5 neighbours": COARSE_SCAN}
    return {
        name: statistics.median(_cpu_us(functools.partial(cascade.detectMultiScale, frame, **options)) for frame in frames)
        / 1000
        for name, options in detector_options.items()
    }


def measure_branches(bundle: Bundle, eager: EagerCalls) -> dict[str, dict[str, float]]:
    """Return the median thread CPU time of one call in us, by network and engine, on one thread.

    The engines are eager PyTorch and every variant that is available on this machine.
    """
    networks = eager(bundle.spec)
    found: dict[str, dict[str, float]] = {}
    for name in ("face", "speech"):
        inputs = {key: np.random.default_rng(0).standard_normal(shape).astype(np.float32)
                  for key, shape in bundle.models[name].inputs.items()}  # fmt: skip
        calls: dict[str, Callable[[], Any]] = {}
        for variant in available_variants(bundle, name):
            model = bundle.open(name, variant.precision, variant.backend)
            calls[str(variant)] = functools.partial(model.run, inputs)
        if name in networks:
            calls["PyTorch"] = networks[name](inputs)
        times: dict[str, list[float]] = {engine: [] for engine in calls}
        for index in range(TIMED_CALLS + WARM_UP_CALLS):  # interleaved
            for engine, call in calls.items():
                elapsed_us = _cpu_us(call)
                if index >= WARM_UP_CALLS:
                    times[engine].append(elapsed_us)
        found[name] = {engine: statistics.median(elapsed) for engine, elapsed in times.items()}
    return found


def _cpu_us(call: Callable[[], Any]) -> float:
    return cpu_ns(call) / 1000


def measure_fer(recording: Recording) -> dict[str, Any]:
    """Time the `fer` package on frames of the recording. It needs a separate Python: it pins old versions of libraries.

    Raises ModuleNotFoundError if the environment variable MOODRING_FER_PYTHON does not name that Python.
    """
    python = os.environ.get(FER_PYTHON)
    if not python:
        raise ModuleNotFoundError(name=f"fer (in a Python that {FER_PYTHON} names)")
    with tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        for index, jpeg in enumerate(recording.jpegs[:: max(1, len(recording.jpegs) // FER_IMAGES)]):
            (Path(folder) / f"{index:03d}.jpg").write_bytes(jpeg.tobytes())
        script = Path(__file__).with_name("fer_package.py")
        run = subprocess.run([python, str(script), folder], capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"the process of the fer package failed: {run.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found
