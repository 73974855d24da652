"""Decision fusion: the weight of each branch, and voting over arrays of probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.fusion import MIN_WEIGHT
from moodring.types import F32

I64 = NDArray[np.int64]


def fit_face_weight(face: F32, voice: NDArray[Any], truth: I64) -> float:
    """Return the weight of the face branch, in 0.05..0.95, that minimises the cross-entropy of the weighted mean.

    `face` and `voice` are probabilities [N, 8], `truth` the labels [N]. The weight of the voice is one minus the result.
    """

    def cross_entropy(weight: float) -> float:
        mixed = weight * face + (1 - weight) * voice
        return float(-np.log(np.maximum(mixed[np.arange(len(truth)), truth], MIN_WEIGHT)).mean())

    return round(float(min(np.linspace(0.05, 0.95, 91), key=cross_entropy)), 4)


def vote(face: NDArray[Any], voice: NDArray[Any]) -> NDArray[np.float64]:
    """Fuse probabilities [N, 8] as `moodring.fusion.Voting` does, without its temperature; return probabilities [N, 8]."""
    mean = (face + voice) / 2.0
    winner = np.where(face.max(axis=1) >= voice.max(axis=1), face.argmax(axis=1), voice.argmax(axis=1))
    rows = np.arange(len(mean))
    mean[rows, winner] = np.maximum(mean[rows, winner], mean.max(axis=1) * 1.0001)
    normalised: NDArray[np.float64] = mean / mean.sum(axis=1, keepdims=True)
    return normalised
