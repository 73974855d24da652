"""Face and voice together: feature fusion and decision fusion behind one Fuser.

Both take what is there: a missing branch is None. With one branch alone decision fusion gives that branch's answer, feature
fusion what its network learnt to say of it.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from edge.errors import BundleError
from edge.inference.base import Model
from edge.inference.branches import softmax
from edge.inference.bundle import BackendName, Bundle, ModelInfo, Precision
from edge.types import F32, BranchOutput

Method = Literal["feature", "weighted", "voting"]


class Fuser(Protocol):
    """Joins what the branches say, float32 over the bundle's labels. At least one of them must be there."""

    def fuse(self, face: BranchOutput | None, speech: BranchOutput | None) -> F32: ...


class FeatureFusion:
    """A small network over both embeddings and which of them are present."""

    def __init__(self, model: Model, info: ModelInfo) -> None:
        self._model = model
        self._temperature = info.temperature["logits"]
        self._places, self._classes = info.places, info.classes
        self._absent = {name: np.zeros(info.inputs[f"{name}_embedding"], np.float32) for name in ("face", "speech")}

    def fuse(self, face: BranchOutput | None, speech: BranchOutput | None) -> F32:
        _require_one(face, speech)
        inputs = {
            "face_embedding": self._absent["face"] if face is None else face.embedding[None],
            "speech_embedding": self._absent["speech"] if speech is None else speech.embedding[None],
            "presence": np.array([[face is not None, speech is not None]], np.float32),
        }
        return softmax(self._model.run(inputs)["logits"][0], self._temperature, self._places, self._classes)


class WeightedAverage:
    """Decision fusion: the mean of both answers, weighted by how far each branch is to be believed."""

    def __init__(self, face_weight: float, speech_weight: float) -> None:
        self._weights = (face_weight, speech_weight)

    def fuse(self, face: BranchOutput | None, speech: BranchOutput | None) -> F32:
        _require_one(face, speech)
        answers = [(w, b.probabilities) for w, b in zip(self._weights, (face, speech), strict=True) if b is not None]
        total = sum(weight for weight, _ in answers)
        return np.asarray(sum(weight / total * answer for weight, answer in answers), np.float32)


class Voting:
    """Decision fusion: each branch votes for its first label; where they differ, the surer one wins.

    The probabilities are the mean of both answers, with the winner's share raised to at least that of any other class.
    """

    def fuse(self, face: BranchOutput | None, speech: BranchOutput | None) -> F32:
        _require_one(face, speech)
        answers = [b.probabilities for b in (face, speech) if b is not None]
        winner = int(max(answers, key=lambda answer: float(answer.max())).argmax())
        mean: F32 = np.asarray(np.mean(answers, axis=0), np.float32)
        mean[winner] = max(mean[winner], mean.max() * 1.0001)
        return np.asarray(mean / mean.sum(), np.float32)


def open_fuser(bundle: Bundle, method: Method, precision: Precision, backend: BackendName, threads: int = 1) -> Fuser:
    """Build the fuser that a configuration names from a bundle's network or weights."""
    if "fusion" not in bundle.models:
        return _without_network(bundle, method)
    info = bundle.models["fusion"]
    if method == "feature":
        return FeatureFusion(bundle.open("fusion", precision, backend, threads), info)
    if method == "voting":
        return Voting()
    if not info.weights:
        raise BundleError(f"bundle {bundle.path} holds no weights for decision fusion; use feature fusion or export again")
    return WeightedAverage(info.weights["face"], info.weights["speech"])


def _without_network(bundle: Bundle, method: Method) -> Fuser:
    """Decision fusion that trusts both branches alike; with one branch alone there is nothing to join."""
    if method == "feature" and len(bundle.models) > 1:
        raise BundleError(f"bundle {bundle.path} holds no network for fusion; set fusion.method to weighted or voting")
    return Voting() if method == "voting" else WeightedAverage(0.5, 0.5)


def _require_one(face: BranchOutput | None, speech: BranchOutput | None) -> None:
    if face is None and speech is None:
        raise ValueError("nothing to fuse: both branches are missing")
