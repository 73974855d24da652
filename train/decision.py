"""Decision fusion's weights, every fuser's temperature, and from which confidence on an answer is to be relied on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.evaluation.metrics import risk_coverage
from moodring.fusion import MIN_WEIGHT

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

TARGET_PRECISION = 0.9  # how often answers that count as confident shall be right
TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4.0), 201))


def select_temperature(probabilities: list[NDArray[Any]], truth: I64) -> float:
    """Return the temperature whose answers are as sure, on average, as they are right; `said` are those of `TEMPERATURES`."""

    def gap(index: int) -> float:
        return abs(float(probabilities[index].max(axis=1).mean() - (probabilities[index].argmax(axis=1) == truth).mean()))

    return round(float(TEMPERATURES[min(range(len(TEMPERATURES)), key=gap)]), 4)


def fit_face_weight(face: F32, voice: NDArray[Any], truth: I64) -> float:
    """Return the face's weight, of 1, at which the average of both answers [N, 8] loses least."""

    def negative_log(weight: float) -> float:
        mixed = weight * face + (1 - weight) * voice
        return float(-np.log(np.maximum(mixed[np.arange(len(truth)), truth], MIN_WEIGHT)).mean())

    return round(float(min(np.linspace(0.05, 0.95, 91), key=negative_log)), 4)


def vote(face: NDArray[Any], voice: NDArray[Any]) -> NDArray[np.float64]:
    """Return what moodring.fusion.Voting makes of answers [N, 8], before its temperature."""
    mean = (face + voice) / 2.0
    winner = np.where(face.max(axis=1) >= voice.max(axis=1), face.argmax(axis=1), voice.argmax(axis=1))
    rows = np.arange(len(mean))
    mean[rows, winner] = np.maximum(mean[rows, winner], mean.max(axis=1) * 1.0001)
    normalised: NDArray[np.float64] = mean / mean.sum(axis=1, keepdims=True)
    return normalised


def confidence_threshold(probabilities: NDArray[Any], truth: I64, precision: float = TARGET_PRECISION) -> dict[str, float]:
    """Return from which confidence on the answers are right at least so often, and which share of them that is.

    All answers where they are all together; the surest twentieth where not even those are.
    """
    curve = risk_coverage(probabilities, truth, steps=200)
    good = [point for point in curve if point["accuracy"] >= precision]
    point = good[-1] if good else curve[len(curve) // 20]
    return {"threshold": round(point["threshold"], 4), "right": precision, "coverage": round(point["coverage"], 4)}
