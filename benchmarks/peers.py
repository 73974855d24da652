"""What people use otherwise, on the same recording and in the same run as `moodring bench --peers`.

The naive chain does for every frame what most examples do: a JPEG decoded to colour, OpenCV's detector with its usual
arguments over the whole picture, python_speech_features over the last three seconds, both networks in sessions with their
default options (which spin on every core). It runs as fast as it goes and keeps no queue.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.bench.recording import RATE_HZ, Recording
from edge.capture.grey import decode_jpeg
from edge.features.face_crop import normalise_crops
from edge.features.haar import load_cascade
from edge.inference.bundle import Bundle

NAIVE_FRAMES, NAIVE_WARM = 24, 4
DETECTIONS = 10
CALLS = 60
WINDOW_S = 3
CHECKPOINTS = Path(__file__).resolve().parents[1] / "train" / "checkpoints"


def measure(recording: Recording, bundle: Bundle, fast: dict[str, Any], paced: dict[str, Any]) -> dict[str, Any]:
    """Return each peer's figures, and `ratios`: how many times ours is faster or cheaper. `missing` names what is not there."""
    missing: list[str] = []
    figures: dict[str, Any] = {"missing": missing}
    for name, part in (("naive", naive), ("features", features), ("detection", detection), ("branches", branches)):
        try:
            figures[name] = part(recording, bundle)
        except ModuleNotFoundError as error:
            missing.append(f"{name}: {error.name} is not installed")
    figures["ratios"] = _ratios(figures, fast, paced)
    return figures


def _ratios(figures: dict[str, Any], fast: dict[str, Any], paced: dict[str, Any]) -> dict[str, float]:
    ratios = {}
    if "naive" in figures:
        ratios["naive_cpu_per_frame"] = figures["naive"]["cpu_ms_per_frame"] / paced["cpu_ms_per_frame"]
        ratios["naive_answer"] = figures["naive"]["answer_ms"]["p50"] / paced["answer_ms"]["p50"]
    if "features" in figures:
        ratios |= figures["features"]["times_faster_than"]
    if "detection" in figures:
        ours_us = fast["stages"]["detect"]["cpu_us"]["p50"]
        ratios |= {f"detect, {name}": 1000 * ms / ours_us for name, ms in figures["detection"].items()}
    for name, by_engine in figures.get("branches", {}).items():
        ratios |= {f"{name}, {engine}": us / fast["stages"][name]["cpu_us"]["p50"] for engine, us in by_engine.items()}
    return ratios


def naive(recording: Recording, bundle: Bundle) -> dict[str, Any]:
    """CPU of the process and wall time from a frame's JPEG to its answer, frame by frame."""
    import onnxruntime
    import python_speech_features as psf

    face, speech = (
        onnxruntime.InferenceSession(str(bundle.models[name].files["fp32"]), providers=["CPUExecutionProvider"])
        for name in ("face", "speech")
    )
    window_shape = next(iter(bundle.models["speech"].inputs.values()))
    size = bundle.spec.face.size
    cascade = load_cascade()
    sound = np.resize((recording.sound * 32767).astype(np.int16), WINDOW_S * RATE_HZ)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(os.cpu_count() or 1)

    def answer(jpeg: np.ndarray) -> None:
        grey = cv2.cvtColor(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), cv2.COLOR_BGR2GRAY)
        found = cascade.detectMultiScale(grey)
        x, y, w, h = max(found, key=lambda box: box[2]) if len(found) else (0, 0, *grey.shape)
        crop = cv2.resize(grey[y : y + h, x : x + w], (size, size))
        face.run(None, {"crop": normalise_crops(crop[None])})
        cepstra = psf.mfcc(sound, RATE_HZ, nfft=512)
        speech.run(None, {"window": np.resize(cepstra.astype(np.float32), window_shape)})

    wall_ms = []
    cpu_s = begun_s = 0.0
    try:
        for index in range(NAIVE_WARM + NAIVE_FRAMES):
            if index == NAIVE_WARM:
                cpu_s, begun_s = time.process_time(), time.perf_counter()
            frame_s = time.perf_counter()
            answer(recording.jpegs[index * (len(recording.jpegs) // (NAIVE_WARM + NAIVE_FRAMES))])
            if index >= NAIVE_WARM:
                wall_ms.append(1000 * (time.perf_counter() - frame_s))
        cpu_s, taken_s = time.process_time() - cpu_s, time.perf_counter() - begun_s
    finally:
        cv2.setNumThreads(threads)
    return {
        "frames": NAIVE_FRAMES,
        "fps": NAIVE_FRAMES / taken_s,
        "cpu_ms_per_frame": 1000 * cpu_s / NAIVE_FRAMES,
        "answer_ms": {"p50": statistics.median(wall_ms), "max": max(wall_ms)},
    }


def features(_recording: Recording, _bundle: Bundle) -> dict[str, Any]:
    """Cepstra of three seconds by each extractor; the whole comparison is benchmarks/mfcc.py."""
    from benchmarks.mfcc import clip_calls, interleaved, speech_like

    clip = interleaved(clip_calls(speech_like(WINDOW_S)))
    us = {name: times["median_us"] for name, times in clip.items()}
    return {
        "median_us": us,
        "times_faster_than": {name: us[name] / us["moodring"] for name in us if name not in ("moodring", "floor")},
    }


def detection(recording: Recording, _bundle: Bundle) -> dict[str, float]:
    """Median thread CPU, in ms, of OpenCV's detector on whole pictures."""
    cascade = load_cascade()
    pictures = [decode_jpeg(jpeg, 1) for jpeg in recording.jpegs[:: max(1, len(recording.jpegs) // DETECTIONS)]]
    asked: dict[str, dict[str, Any]] = {"defaults": {}, "1.3 and 5 neighbours": {"scaleFactor": 1.3, "minNeighbors": 5}}
    return {
        name: statistics.median(_cpu_us(lambda p=picture, o=options: cascade.detectMultiScale(p, **o)) for picture in pictures)
        / 1000
        for name, options in asked.items()
    }


def branches(_recording: Recording, bundle: Bundle) -> dict[str, dict[str, float]]:
    """Median thread CPU, in us, of one call by engine, one thread each: eager PyTorch, and every form there is here."""
    import torch

    from edge.inference.forms import forms_of
    from export.networks import load_networks

    torch.set_num_threads(1)
    networks = load_networks(CHECKPOINTS, bundle.spec) if CHECKPOINTS.is_dir() else {}
    found: dict[str, dict[str, float]] = {}
    for name in ("face", "speech"):
        inputs = {key: np.random.default_rng(0).standard_normal(shape).astype(np.float32)
                  for key, shape in bundle.models[name].inputs.items()}  # fmt: skip
        calls: dict[str, Callable[[], Any]] = {}
        for form in forms_of(bundle, name):
            model = bundle.open(name, form.precision, form.backend)
            calls[str(form)] = lambda m=model, i=inputs: m.run(i)
        if name in networks:
            module = networks[name].module.eval()
            tensors = [torch.from_numpy(value) for value in inputs.values()]

            def eager(m: Any = module, t: Any = tensors) -> Any:
                with torch.inference_mode():
                    return m(*t)

            calls["PyTorch"] = eager
        times: dict[str, list[float]] = {engine: [] for engine in calls}
        for index in range(CALLS + 5):  # interleaved; the first ones are warm-up
            for engine, call in calls.items():
                taken = _cpu_us(call)
                if index >= 5:
                    times[engine].append(taken)
        found[name] = {engine: statistics.median(taken) for engine, taken in times.items()}
    return found


def _cpu_us(call: Callable[[], Any]) -> float:
    begun = time.thread_time_ns()
    call()
    return (time.thread_time_ns() - begun) / 1000
