"""Temperatures and confidence thresholds, fitted on held-out data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from moodring.evaluation.metrics import risk_coverage
from moodring.types import F32

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

TARGET_PRECISION = 0.9  # precision of the outputs above the confidence threshold
TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(4.0), 201))  # candidates


def softmax(logits: NDArray[Any], temperature: float = 1.0) -> F64:
    """Return the probabilities [N, C] of logits [N, C]."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    powers = np.exp(scaled)
    probabilities: F64 = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def fit_temperature(logits: F32, targets: F32) -> float:
    """Return the temperature that minimises the cross-entropy of logits [N, C] with target distributions [N, C].

    Guo et al. 2017, "On calibration of modern neural networks".
    """
    scores, goals = torch.from_numpy(np.asarray(logits)).double(), torch.from_numpy(np.asarray(targets)).double()
    losses = [float(-(goals * torch.log_softmax(scores / t, dim=1)).sum(dim=1).mean()) for t in TEMPERATURES]
    return round(float(TEMPERATURES[int(np.argmin(losses))]), 4)


def select_temperature(probabilities: Sequence[NDArray[Any]], truth: I64) -> float:
    """Return the temperature at which the mean confidence is closest to the accuracy.

    `probabilities` holds one array [N, C] for each of `TEMPERATURES`; `truth` [N] holds the labels. Clarté et al. 2023,
    "Expectation consistency for calibration of neural networks".
    """

    def gap(index: int) -> float:
        return abs(float(probabilities[index].max(axis=1).mean() - (probabilities[index].argmax(axis=1) == truth).mean()))

    return round(float(TEMPERATURES[min(range(len(TEMPERATURES)), key=gap)]), 4)


def confidence_threshold(probabilities: NDArray[Any], truth: I64, precision: float = TARGET_PRECISION) -> dict[str, float]:
    """Return the lowest confidence threshold that reaches `precision`, and the coverage at that threshold.

    `probabilities` [N, C], `truth` [N]. If no coverage reaches the precision, the threshold is that of the 5.5 % most confident
    outputs.
    """
    curve = risk_coverage(probabilities, truth, steps=200)
    sufficient = [point for point in curve if point["accuracy"] >= precision]
    point = sufficient[-1] if sufficient else curve[len(curve) // 20]
    return {"threshold": round(point["threshold"], 4), "right": precision, "coverage": round(point["coverage"], 4)}
