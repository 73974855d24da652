"""What people use otherwise, on the same recording and in the same run as `moodring bench --peers`.

The naive chain and the ways to feed it are in edge/diagnostics/peers/naive.py, its camera in benchmarks/cameras.py.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.capture.grey import decode_jpeg
from moodring.capture.network import NetworkCamera
from moodring.config import Config
from moodring.diagnostics.bench import paced as edge_live
from moodring.diagnostics.bench.hot import IDENTITY
from moodring.diagnostics.bench.measured import measured_pipeline
from moodring.diagnostics.bench.paced import played
from moodring.diagnostics.bench.recording import Recording
from moodring.diagnostics.peers import cameras, naive
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
WINDOW_S = 3
FER_IMAGES = 30

# From the preprocessing spec to a function of inputs for each network, which returns the call to time: eager PyTorch.
EagerCalls = Callable[[PreprocessSpec], dict[str, Callable[[dict[str, NDArray[np.float32]]], Callable[[], Any]]]]


def measure(
    eager: EagerCalls, recording: Recording, bundle: Bundle, plan: VariantPlan, hot_figures: dict[str, Any]
) -> dict[str, Any]:
    """Return each peer's figures, and `ratios`: how many times ours is faster or cheaper. `missing` names what is not there."""
    missing: list[str] = []
    figures: dict[str, Any] = {"missing": missing}
    for name, part in (
        ("live", lambda: live(recording, bundle, plan)),
        ("features", features),
        ("detection", lambda: detection(recording)),
        ("branches", lambda: branches(bundle, eager)),
        ("fer", lambda: fer(recording)),
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
        # With the search for new faces that goes on beside it, frame by frame.
        ours_us = sum(hot_figures["stages"][name]["cpu_us_mean"] for name in ("detect", "search"))
        ratios |= {f"detect, {name}": 1000 * ms / ours_us for name, ms in figures["detection"].items()}
    for name, by_engine in figures.get("branches", {}).items():
        ratios |= {f"{name}, {engine}": us / hot_figures["stages"][name]["cpu_us"]["p50"] for engine, us in by_engine.items()}
    if "fer" in figures:
        ratios["fer package, CPU per frame"] = 1000 * figures["fer"]["cpu_ms"] / hot_figures["frame_mean_us"]
    return ratios


def live(recording: Recording, bundle: Bundle, plan: VariantPlan) -> dict[str, Any]:
    """Our chain and the naive one on the same camera, one after the other; both are timed by the marks in the pictures.

    Ours runs as in the daemon: its own threads, its own reader of the camera. Its sound comes from a microphone that plays the
    recording; the naive chain has its three seconds in memory.
    """
    config = Config()
    naive_figures: dict[str, Any] = {"memory": naive.measure_from_memory(recording, bundle)}
    with cameras.serve_recording(recording) as endpoints, tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        measured = measured_pipeline(config, bundle, IDENTITY, open_networks(config, bundle, plan))
        decoder = cameras.CaptureTimeDecoder(endpoints, CAMERA_FPS)
        measured.recorder.captured_at_ns = lambda frame: decoder.captured_at_ns(frame.grey, frame.reduction)
        publisher = JsonLines(str(Path(folder) / "events.jsonl"))
        devices = (NetworkCamera(endpoints.video(CAMERA_FPS)), played(recording)[1])
        ours = edge_live.measure([measured], [devices], publisher, LIVE_S)
        publisher.close()
        for feed_mode in naive.FEED_MODES:
            naive_figures[feed_mode] = naive.live(endpoints, CAMERA_FPS, recording, bundle, feed_mode=feed_mode, seconds=LIVE_S)
    return {
        "fps": CAMERA_FPS,
        "seconds": LIVE_S,
        "ours": {name: ours[name] for name in REPORTED_KEYS if name in ours},
        "naive": naive_figures,
    }


def features() -> dict[str, Any]:
    """Cepstra of three seconds by each extractor; the whole comparison is benchmarks/mfcc.py."""
    from moodring.diagnostics.peers.extractors import clip_calls, synthetic_speech, time_interleaved

    clip = time_interleaved(clip_calls(synthetic_speech(WINDOW_S)))
    us = {name: times["median_us"] for name, times in clip.items()}
    return {
        "median_us": us,
        "times_faster_than": {name: us[name] / us["moodring"] for name in us if name not in ("moodring", "floor")},
    }


def detection(recording: Recording) -> dict[str, float]:
    """Median thread CPU, in ms, of OpenCV's detector on whole pictures."""
    cascade = load_cascade()
    frames = [decode_jpeg(jpeg, 1) for jpeg in recording.jpegs[:: max(1, len(recording.jpegs) // DETECTION_FRAMES)]]
    detector_options: dict[str, dict[str, Any]] = {
        "defaults": {},
        "1.3 and 5 neighbours": {"scaleFactor": 1.3, "minNeighbors": 5},
    }
    return {
        name: statistics.median(_cpu_us(lambda p=frame, o=options: cascade.detectMultiScale(p, **o)) for frame in frames) / 1000
        for name, options in detector_options.items()
    }


def branches(bundle: Bundle, eager: EagerCalls) -> dict[str, dict[str, float]]:
    """Median thread CPU, in us, of one call by engine, one thread each: eager PyTorch, and every form there is here."""
    networks = eager(bundle.spec)
    found: dict[str, dict[str, float]] = {}
    for name in ("face", "speech"):
        inputs = {key: np.random.default_rng(0).standard_normal(shape).astype(np.float32)
                  for key, shape in bundle.models[name].inputs.items()}  # fmt: skip
        calls: dict[str, Callable[[], Any]] = {}
        for variant in available_variants(bundle, name):
            model = bundle.open(name, variant.precision, variant.backend)
            calls[str(variant)] = lambda m=model, i=inputs: m.run(i)
        if name in networks:
            calls["PyTorch"] = networks[name](inputs)
        times: dict[str, list[float]] = {engine: [] for engine in calls}
        for index in range(TIMED_CALLS + 5):  # interleaved; the first ones are warm-up
            for engine, call in calls.items():
                taken = _cpu_us(call)
                if index >= 5:
                    times[engine].append(taken)
        found[name] = {engine: statistics.median(taken) for engine, taken in times.items()}
    return found


def _cpu_us(call: Callable[[], Any]) -> float:
    start_ns = time.thread_time_ns()
    call()
    return (time.thread_time_ns() - start_ns) / 1000


def fer(recording: Recording) -> dict[str, Any]:
    """Each picture through the `fer` package, in a Python of its own: it pins old libraries that nothing else can live with."""
    python = os.environ.get(FER_PYTHON)
    if not python:
        raise ModuleNotFoundError(name=f"fer (in a Python that {FER_PYTHON} names)")
    with tempfile.TemporaryDirectory(prefix="moodring-") as folder:
        for index, jpeg in enumerate(recording.jpegs[:: max(1, len(recording.jpegs) // FER_IMAGES)]):
            (Path(folder) / f"{index:03d}.jpg").write_bytes(jpeg.tobytes())
        script = Path(__file__).with_name("fer_package.py")
        run = subprocess.run([python, str(script), folder], capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"the fer package failed: {run.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found
