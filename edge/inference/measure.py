"""Latency of networks on this machine: hot, one call after another, and paced, at the frame rate of a run (15 Hz).

A hot loop underestimates the latency: caches stay warm and the core stays awake. The latency in a run is the paced one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from moodring.clock import NS_PER_MS, NS_PER_S
from moodring.inference.base import Model, Shapes
from moodring.types import F32

K = TypeVar("K")

FRAME_RATE_HZ = 15.0
HOT_ROUNDS = 10  # each round measures all models in turn
HOT_CALLS = 20  # of each model in a round
WARM_UP_CALLS = 20  # before them; after another model ran, a model needs this many calls to reach its full speed


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of a latency in ms."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Timing:
    """Latency of one call, and the share of one core that calls at `FRAME_RATE_HZ` take. `samples` counts the paced calls."""

    hot_ms: Quantiles
    paced_ms: Quantiles
    cpu_share: float
    samples: int


def random_inputs(shapes: Shapes) -> dict[str, F32]:
    """Return random inputs of these shapes by name, the same at every call."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def measure(models: Mapping[K, Model], shapes: Shapes, samples: int = 100) -> dict[K, Timing]:
    """Measure the latency of models with the same input shapes. Calls are interleaved, so that other load affects all alike.

    Each model is called `samples` times at `FRAME_RATE_HZ`. The models share each period evenly, so the core sleeps before
    every call.
    """
    inputs = random_inputs(shapes)
    hot: dict[K, list[int]] = {key: [] for key in models}
    paced: dict[K, list[int]] = {key: [] for key in models}
    cpu_ns = dict.fromkeys(models, 0)
    for _ in range(HOT_ROUNDS):
        for key, model in models.items():
            for _ in range(WARM_UP_CALLS):
                model.run(inputs)
            for _ in range(HOT_CALLS):
                hot[key].append(_timed(model, inputs))
    step_ns = int(NS_PER_S / FRAME_RATE_HZ / len(models))
    due_ns = time.monotonic_ns()
    for _ in range(samples):
        for key, model in models.items():
            due_ns += step_ns
            time.sleep(max(0, due_ns - time.monotonic_ns()) / NS_PER_S)
            before_ns = time.process_time_ns()
            paced[key].append(_timed(model, inputs))
            cpu_ns[key] += time.process_time_ns() - before_ns
    return {
        key: Timing(_quantiles(hot[key]), _quantiles(paced[key]), cpu_ns[key] / samples * FRAME_RATE_HZ / NS_PER_S, samples)
        for key in models
    }


def _timed(model: Model, inputs: Mapping[str, F32]) -> int:
    start_ns = time.perf_counter_ns()
    model.run(inputs)
    return time.perf_counter_ns() - start_ns


def _quantiles(times_ns: list[int]) -> Quantiles:
    return Quantiles(*(float(q) / NS_PER_MS for q in np.percentile(times_ns, (50, 95, 99))))
