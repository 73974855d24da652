"""The face branch and the speech branch: from a face crop or a feature window to a calibrated `BranchOutput`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from moodring.features.face.crop import normalize_crops
from moodring.inference.base import Model
from moodring.inference.bundle import ModelInfo
from moodring.labels import CLASSES
from moodring.types import F32, BranchOutput, FaceCrop, FeatureWindow

EMPTY_EMBEDDING = np.zeros((1, 0), np.float32)


def softmax(logits: F32, temperature: float = 1.0, class_indices: Sequence[int] | None = None, classes: int = CLASSES) -> F32:
    """Return the probabilities, float32 [..., classes], of logits [..., n]. Classes without a logit get 0.

    `class_indices` holds the class of each logit; without it, logit i belongs to class i.
    """
    if logits.ndim > 1:
        rows = [softmax(row, temperature, class_indices, classes) for row in logits]
        return np.array(rows, np.float32).reshape(*logits.shape[:-1], classes)
    # For eight numbers, plain Python takes a quarter of NumPy's time: NumPy's code is not in the cache at this point.
    scaled = [logit / temperature for logit in logits.tolist()]
    highest = max(scaled)
    weights = [math.exp(value - highest) for value in scaled]
    total = sum(weights)
    probabilities = [0.0] * classes
    for class_index, weight in zip(range(len(weights)) if class_indices is None else class_indices, weights, strict=True):
        probabilities[class_index] = weight / total
    return np.array(probabilities, np.float32)


def sigmoid(logit: float) -> float:
    """Return the logistic function of a logit, which is clipped to [-60, 60] to avoid an overflow."""
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))


def _usable_probability(outputs: Mapping[str, F32]) -> float:
    """Return the probability that the input is a face or speech at all; 1 if the network has no such output."""
    return sigmoid(float(outputs["usable"][0, 0])) if "usable" in outputs else 1.0


class FaceBranch:
    """Classifies the expression of a face crop.

    `head` names the output of the network to use; without it, the one that the bundle publishes.
    """

    def __init__(self, model: Model, info: ModelInfo, head: str | None = None) -> None:
        self._model = model
        self.head = head or info.published_head
        self._temperature = info.temperature[self.head]
        self._class_indices, self._classes = info.class_indices, info.classes

    def run(self, crop: FaceCrop) -> BranchOutput:
        outputs = self._model.run({"crop": normalize_crops(crop.pixels[None])})
        return BranchOutput(
            modality="face",
            capture_time_ns=crop.capture_time_ns,
            probabilities=softmax(outputs[self.head][0], self._temperature, self._class_indices, self._classes),
            embedding=outputs.get("embedding", EMPTY_EMBEDDING)[0],
            usable=_usable_probability(outputs),
            quality=crop.quality,
        )


class SpeechBranch:
    """Classifies the vocal expression of a feature window."""

    def __init__(self, model: Model, info: ModelInfo) -> None:
        self._model = model
        self._temperature = info.temperature["logits"]
        self._class_indices, self._classes = info.class_indices, info.classes

    def run(self, window: FeatureWindow) -> BranchOutput:
        outputs = self._model.run({"window": window.features[None]})
        return BranchOutput(
            modality="speech",
            capture_time_ns=window.capture_time_ns,
            probabilities=softmax(outputs["logits"][0], self._temperature, self._class_indices, self._classes),
            embedding=outputs.get("embedding", EMPTY_EMBEDDING)[0],
            usable=_usable_probability(outputs),
            quality=window.voiced,
            settled=window.settled,
        )
