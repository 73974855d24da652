"""How long networks take here: hot, one call after another, and paced, as a run of 15 pictures a second calls them.

A hot loop flatters: caches stay warm and the core stays awake. What a user meets is the paced figure.
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
HOT_ROUNDS = 10
HOT_CALLS = 20  # a round; rounds of the models follow one another
WARM_UP_CALLS = 20  # before them: so many it takes until a call is as fast as it gets after another model's


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Milliseconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class Timing:
    """How long one call takes, and which share of one core all calls take at the pace; over `samples` paced calls."""

    hot_ms: Quantiles
    paced_ms: Quantiles
    cpu_share: float
    samples: int


def random_inputs(shapes: Shapes) -> dict[str, F32]:
    """Return an input of these shapes: random, the same every time."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def measure(models: Mapping[K, Model], shapes: Shapes, samples: int = 100) -> dict[K, Timing]:
    """Time models that take the same input against each other, interleaved, so that what else runs here meets all alike.

    Each is called at the pace, and they share the time between its calls: before every call the core has slept.
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
