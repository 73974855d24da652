"""The two branches: a crop or a window in, a calibrated `BranchOutput` out."""

from __future__ import annotations

import math

import numpy as np

from edge.features.face_crop import normalise_crops
from edge.inference.base import Model
from edge.inference.bundle import ModelInfo
from edge.labels import CLASSES
from edge.types import F32, BranchOutput, FaceCrop, FeatureWindow


def softmax(logits: F32, temperature: float = 1.0) -> F32:
    """Return probabilities float32 [..., 8] of logits [..., n <= 8]; classes that a network never answers get 0."""
    scaled = logits.astype(np.float64) / temperature
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    probabilities = np.zeros((*logits.shape[:-1], CLASSES), np.float32)
    probabilities[..., : logits.shape[-1]] = scaled / scaled.sum(axis=-1, keepdims=True)
    return probabilities


def sigmoid(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))


class FaceBranch:
    """What the visible expression suggests. `head` is one of the network's outputs; the bundle says which is published."""

    def __init__(self, model: Model, info: ModelInfo, head: str | None = None) -> None:
        self._model = model
        self.head = head or info.published_head
        self._temperature = info.temperature[self.head]

    def run(self, crop: FaceCrop) -> BranchOutput:
        outputs = self._model.run({"crop": normalise_crops(crop.pixels[None])})
        return BranchOutput(
            modality="face",
            capture_time_ns=crop.capture_time_ns,
            probabilities=softmax(outputs[self.head][0], self._temperature),
            embedding=outputs["embedding"][0],
            usable=sigmoid(float(outputs["usable"][0, 0])),
            quality=crop.quality,
        )


class SpeechBranch:
    """What the voice suggests."""

    def __init__(self, model: Model, info: ModelInfo) -> None:
        self._model = model
        self._temperature = info.temperature["logits"]

    def run(self, window: FeatureWindow) -> BranchOutput:
        outputs = self._model.run({"window": window.features[None]})
        return BranchOutput(
            modality="speech",
            capture_time_ns=window.capture_time_ns,
            probabilities=softmax(outputs["logits"][0], self._temperature),
            embedding=outputs["embedding"][0],
            usable=sigmoid(float(outputs["usable"][0, 0])),
        )
