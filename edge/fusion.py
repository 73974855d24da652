"""Fusion of face and voice: feature fusion and decision fusion behind one interface.

A missing branch is None; the output of a single branch is returned unchanged. Two branches are weighted by their trust: how
likely the input was a face or speech, the quality of the face crop, and the age of the output.
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

FULL_QUALITY = 0.5  # face quality from which the trust no longer grows
FRESH_SHARE = 0.5  # share of the staleness limit up to which an output has full weight
MIN_WEIGHT = 1e-9
FRESH = (1.0, 1.0)


class Fuser(Protocol):
    """Fuses branch outputs into probabilities, float32 over the bundle's labels. At least one branch must not be None.

    `fresh` is the freshness of face and voice in [0, 1], see `freshness`.
    """

    def fuse(self, face: BranchOutput | None, speech: BranchOutput | None, fresh: tuple[float, float] = FRESH) -> F32: ...


def freshness(age_s: float, stale_s: float) -> float:
    """Return the weight of an output by its age: 1 at first, then linearly down to 0 at `stale_s`."""
    return min(1.0, max(0.0, (1.0 - age_s / stale_s) / FRESH_SHARE))


def trust(output: BranchOutput, fresh: float) -> float:
    """Return the weight of an output in [0, 1]: usable x quality x freshness."""
    return output.usable * min(1.0, output.quality / FULL_QUALITY) * fresh


class FeatureFusion:
    """A small network over both embeddings and the trust in each."""

    def __init__(self, model: Model, info: ModelInfo, head: str | None = None) -> None:
        self._model = model
        self._head = head or info.published_head
        self._temperature = info.temperature[self._head]
        self._class_indices, self._classes = info.class_indices, info.classes

    def fuse(self, face: BranchOutput | None, speech: BranchOutput | None, fresh: tuple[float, float] = FRESH) -> F32:
        if face is None or speech is None:
            return _single(face, speech)
        inputs = {
            "face_embedding": face.embedding[None],
            "speech_embedding": speech.embedding[None],
            "presence": np.array([[trust(face, fresh[0]), trust(speech, fresh[1])]], np.float32),
        }
        return softmax(self._model.run(inputs)[self._head][0], self._temperature, self._class_indices, self._classes)


class WeightedAverage:
    """Decision fusion: the mean of both outputs, weighted by trust and by a weight of each branch, then calibrated."""

    def __init__(self, face_weight: float, speech_weight: float, temperature: float = 1.0) -> None:
        self._weights = (face_weight, speech_weight)
        self._temperature = temperature

    def fuse(self, face: BranchOutput | None, speech: BranchOutput | None, fresh: tuple[float, float] = FRESH) -> F32:
        if face is None or speech is None:
            return _single(face, speech)
        parts = [w * max(trust(b, f), MIN_WEIGHT) for w, b, f in zip(self._weights, (face, speech), fresh, strict=True)]
        share = parts[0] / sum(parts)
        return tempered(share * face.probabilities + (1.0 - share) * speech.probabilities, self._temperature)


class Voting:
    """Decision fusion: each branch votes for its top label; the higher product of confidence and trust wins.

    The probabilities are the mean of both outputs, with the winning class raised to at least that of any other class.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self._temperature = temperature

    def fuse(self, face: BranchOutput | None, speech: BranchOutput | None, fresh: tuple[float, float] = FRESH) -> F32:
        if face is None or speech is None:
            return _single(face, speech)
        votes = [(trust(b, f) * float(b.probabilities.max()), b) for b, f in zip((face, speech), fresh, strict=True)]
        winner = int(max(votes, key=lambda vote: vote[0])[1].probabilities.argmax())
        mean: F32 = np.asarray((face.probabilities + speech.probabilities) / 2.0, np.float32)
        mean[winner] = max(mean[winner], mean.max() * 1.0001)
        return tempered(mean / mean.sum(), self._temperature)


def tempered(probabilities: F32, temperature: float) -> F32:
    """Return probabilities, float32 [..., n], scaled by a temperature: above 1 less confident, below 1 more confident."""
    if temperature == 1.0:
        return np.asarray(probabilities, np.float32)
    powers = np.maximum(probabilities.astype(np.float64), MIN_WEIGHT) ** (1.0 / temperature)
    powers[probabilities == 0.0] = 0.0
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True), np.float32)


def open_fuser(
    bundle: Bundle, method: Method, precision: Precision, backend: BackendName, *, threads: int = 1, head: str | None = None
) -> Fuser:
    """Return the fuser of a method, built from the network or weights of a bundle. Raises BundleError where they are missing.

    `head` is the label set of the face branch; the default is the published one.
    """
    if "fusion" not in bundle.models:
        return _without_network(bundle, method)
    info = bundle.models["fusion"]
    head = head or info.published_head
    if method == "feature":
        return FeatureFusion(bundle.open("fusion", precision, backend, threads), info, head)
    if not info.weights or head not in info.weights:
        raise BundleError(
            f"bundle {bundle.path} has no weights for decision fusion; set fusion.method to feature, or export the bundle again"
        )
    temperature = info.temperature.get(f"{head}.{method}", 1.0)
    if method == "voting":
        return Voting(temperature)
    return WeightedAverage(info.weights[head]["face"], info.weights[head]["speech"], temperature)


def _without_network(bundle: Bundle, method: Method) -> Fuser:
    """Return decision fusion with equal weights, for bundles without a fusion network."""
    if method == "feature" and len(bundle.models) > 1:
        raise BundleError(f"bundle {bundle.path} has no fusion network; set fusion.method to weighted or voting")
    return Voting() if method == "voting" else WeightedAverage(0.5, 0.5)


def _single(face: BranchOutput | None, speech: BranchOutput | None) -> F32:
    """Return the probabilities of the branch that is not None."""
    output = face or speech
    if output is None:
        raise ValueError("nothing to fuse: both branches are missing")
    return output.probabilities.copy()
