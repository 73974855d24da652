"""Face and voice together: feature fusion and decision fusion behind one Fuser.

Both take what is there: a missing branch is None, and one branch alone is answered by itself. Where both are there, each
counts as far as it is trusted: how surely it saw a face or heard speech, how fit the face was to be read, and how fresh it is.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from moodring.errors import BundleError
from moodring.inference.base import Model
from moodring.inference.branches import softmax
from moodring.inference.bundle import BackendName, Bundle, ModelInfo, Precision
from moodring.types import F32, BranchOutput

Method = Literal["feature", "weighted", "voting"]
METHODS: tuple[Method, ...] = ("feature", "weighted", "voting")

FULL_QUALITY = 0.5  # a face at least this fit is read as well as any
FRESH_SHARE = 0.5  # of the time after which an output is stale: until then it counts in full
LEAST = 1e-9
NEW = (1.0, 1.0)


class Fuser(Protocol):
    """Joins what the branches say, float32 over the bundle's labels. At least one of them must be there.

    `fresh` in [0, 1] says for face and voice how far their age still lets them count.
    """

    def fuse(self, face: BranchOutput | None, speech: BranchOutput | None, fresh: tuple[float, float] = NEW) -> F32: ...


def freshness(age_s: float, stale_s: float) -> float:
    """Return how far an output counts at an age: in full at first, then less and less until it is stale."""
    return min(1.0, max(0.0, (1.0 - age_s / stale_s) / FRESH_SHARE))


def trust(output: BranchOutput, fresh: float) -> float:
    """Return how likely an output speaks of what is there now, in [0, 1]."""
    return output.usable * min(1.0, output.quality / FULL_QUALITY) * fresh


class FeatureFusion:
    """A small network over both embeddings and how far each is trusted."""

    def __init__(self, model: Model, info: ModelInfo, head: str | None = None) -> None:
        self._model = model
        self._head = head or info.published_head
        self._temperature = info.temperature[self._head]
        self._class_indices, self._classes = info.class_indices, info.classes

    def fuse(self, face: BranchOutput | None, speech: BranchOutput | None, fresh: tuple[float, float] = NEW) -> F32:
        if face is None or speech is None:
            return _alone(face, speech)
        inputs = {
            "face_embedding": face.embedding[None],
            "speech_embedding": speech.embedding[None],
            "presence": np.array([[trust(face, fresh[0]), trust(speech, fresh[1])]], np.float32),
        }
        return softmax(self._model.run(inputs)[self._head][0], self._temperature, self._class_indices, self._classes)


class WeightedAverage:
    """Decision fusion: the mean of both answers, weighted by how far each branch is to be believed; then calibrated."""

    def __init__(self, face_weight: float, speech_weight: float, temperature: float = 1.0) -> None:
        self._weights = (face_weight, speech_weight)
        self._temperature = temperature

    def fuse(self, face: BranchOutput | None, speech: BranchOutput | None, fresh: tuple[float, float] = NEW) -> F32:
        if face is None or speech is None:
            return _alone(face, speech)
        parts = [w * max(trust(b, f), LEAST) for w, b, f in zip(self._weights, (face, speech), fresh, strict=True)]
        share = parts[0] / sum(parts)
        return tempered(share * face.probabilities + (1.0 - share) * speech.probabilities, self._temperature)


class Voting:
    """Decision fusion: each branch votes for its first label; where they differ, the surer and more trusted one wins.

    The probabilities are the mean of both answers, with the winner's share raised to at least that of any other class.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self._temperature = temperature

    def fuse(self, face: BranchOutput | None, speech: BranchOutput | None, fresh: tuple[float, float] = NEW) -> F32:
        if face is None or speech is None:
            return _alone(face, speech)
        votes = [(trust(b, f) * float(b.probabilities.max()), b) for b, f in zip((face, speech), fresh, strict=True)]
        winner = int(max(votes, key=lambda vote: vote[0])[1].probabilities.argmax())
        mean: F32 = np.asarray((face.probabilities + speech.probabilities) / 2.0, np.float32)
        mean[winner] = max(mean[winner], mean.max() * 1.0001)
        return tempered(mean / mean.sum(), self._temperature)


def tempered(probabilities: F32, temperature: float) -> F32:
    """Return probabilities float32 [..., 8] made less sure (or, below 1, surer) by a temperature; 1 leaves them alone."""
    if temperature == 1.0:
        return np.asarray(probabilities, np.float32)
    powers = np.maximum(probabilities.astype(np.float64), LEAST) ** (1.0 / temperature)
    powers[probabilities == 0.0] = 0.0
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def open_fuser(
    bundle: Bundle, method: Method, precision: Precision, backend: BackendName, *, threads: int = 1, head: str | None = None
) -> Fuser:
    """Build the fuser that a configuration names from a bundle's network or weights.

    `head` is the face's label set that is asked for; without one it is the published one.
    """
    if "fusion" not in bundle.models:
        return _without_network(bundle, method)
    info = bundle.models["fusion"]
    head = head or info.published_head
    if method == "feature":
        return FeatureFusion(bundle.open("fusion", precision, backend, threads), info, head)
    if not info.weights or head not in info.weights:
        raise BundleError(f"bundle {bundle.path} holds no weights for decision fusion; use feature fusion or export again")
    temperature = info.temperature.get(f"{head}.{method}", 1.0)
    if method == "voting":
        return Voting(temperature)
    return WeightedAverage(info.weights[head]["face"], info.weights[head]["speech"], temperature)


def _without_network(bundle: Bundle, method: Method) -> Fuser:
    """Decision fusion that trusts both branches alike; with one branch alone there is nothing to join."""
    if method == "feature" and len(bundle.models) > 1:
        raise BundleError(f"bundle {bundle.path} holds no network for fusion; set fusion.method to weighted or voting")
    return Voting() if method == "voting" else WeightedAverage(0.5, 0.5)


def _alone(face: BranchOutput | None, speech: BranchOutput | None) -> F32:
    """Return the one answer there is."""
    there = face or speech
    if there is None:
        raise ValueError("nothing to fuse: both branches are missing")
    return there.probabilities.copy()
