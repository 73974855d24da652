"""The two branches: a crop or a window in, a calibrated `BranchOutput` out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from moodring.features.face.crop import normalise_crops
from moodring.inference.base import Model
from moodring.inference.bundle import ModelInfo
from moodring.labels import CLASSES
from moodring.types import F32, BranchOutput, FaceCrop, FeatureWindow

NO_EMBEDDING = np.zeros((1, 0), np.float32)


def softmax(logits: F32, temperature: float = 1.0, places: Sequence[int] | None = None, classes: int = CLASSES) -> F32:
    """Return probabilities float32 [..., classes] of logits [..., n]; classes that a network never answers get 0.

    `places` says which class each logit is of; without it they are the first ones.
    """
    if logits.ndim > 1:
        rows = [softmax(row, temperature, places, classes) for row in logits]
        return np.array(rows, np.float32).reshape(*logits.shape[:-1], classes)
    # In a frame's path NumPy's own code is cold: for eight numbers Python takes a quarter of the time.
    scaled = [logit / temperature for logit in logits.tolist()]
    highest = max(scaled)
    weights = [math.exp(value - highest) for value in scaled]
    total = sum(weights)
    probabilities = [0.0] * classes
    for place, weight in zip(range(len(weights)) if places is None else places, weights, strict=True):
        probabilities[place] = weight / total
    return np.array(probabilities, np.float32)


def sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))


def _usable(outputs: Mapping[str, F32]) -> float:
    """Say how likely this is a face or speech at all; a network that does not know leaves it at 1."""
    return sigmoid(float(outputs["usable"][0, 0])) if "usable" in outputs else 1.0


class FaceBranch:
    """What the visible expression suggests. `head` is one of the network's outputs; the bundle says which is published."""

    def __init__(self, model: Model, info: ModelInfo, head: str | None = None) -> None:
        self._model = model
        self.head = head or info.published_head
        self._temperature = info.temperature[self.head]
        self._places, self._classes = info.places, info.classes

    def run(self, crop: FaceCrop) -> BranchOutput:
        outputs = self._model.run({"crop": normalise_crops(crop.pixels[None])})
        return BranchOutput(
            modality="face",
            capture_time_ns=crop.capture_time_ns,
            probabilities=softmax(outputs[self.head][0], self._temperature, self._places, self._classes),
            embedding=outputs.get("embedding", NO_EMBEDDING)[0],
            usable=_usable(outputs),
            quality=crop.quality,
        )


class SpeechBranch:
    """What the voice suggests."""

    def __init__(self, model: Model, info: ModelInfo) -> None:
        self._model = model
        self._temperature = info.temperature["logits"]
        self._places, self._classes = info.places, info.classes

    def run(self, window: FeatureWindow) -> BranchOutput:
        outputs = self._model.run({"window": window.features[None]})
        return BranchOutput(
            modality="speech",
            capture_time_ns=window.capture_time_ns,
            probabilities=softmax(outputs["logits"][0], self._temperature, self._places, self._classes),
            embedding=outputs.get("embedding", NO_EMBEDDING)[0],
            usable=_usable(outputs),
            quality=window.voiced,
        )
