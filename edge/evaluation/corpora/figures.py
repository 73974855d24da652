"""Figures of a speech corpus, whose classes can be fewer than those of the network.

`present` restricts each answer to the classes of the corpus: calm is added to neutral where the corpus has no calm, the other
absent classes are left out, and the rest is normalised to a sum of 1. The calibration error is that of these probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.evaluation.metrics import accuracy, classification_metrics, confusion_matrix

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]

AROUSAL = {"high": ("angry", "fear", "happy", "surprise"), "low": ("sad", "neutral", "calm")}  # disgust is in neither
QUIET = ("neutral", "calm")  # the right answers for people who read aloud


def restrict_to_present(probabilities: NDArray[Any], present: Sequence[str], labels: Sequence[str]) -> F64:
    """Return probabilities [N, C] over `labels`, restricted to the classes `present` and normalised, float64 [N, C].

    Where a row has no probability left, its classes are equally probable.
    """
    rows = np.array(probabilities, np.float64)
    if "neutral" in present and "calm" in labels and "calm" not in present:
        rows[:, labels.index("neutral")] += rows[:, labels.index("calm")]
    rows[:, [label not in present for label in labels]] = 0.0
    rows[rows.sum(axis=1) <= 0.0] = [float(label in present) for label in labels]
    return np.asarray(rows / rows.sum(axis=1, keepdims=True), np.float64)


def corpus_figures(
    probabilities: NDArray[Any], truth: I64, speakers: Sequence[str], labels: Sequence[str], sure_threshold: float | None
) -> dict[str, Any]:
    """Return the figures of every evaluation for probabilities [N, C] and truth [N], by speaker, and of the sure answers.

    `sure` is the share of answers with a confidence of at least the threshold, and their accuracy; None without a threshold.
    """
    names = np.array(speakers)
    figures = classification_metrics(probabilities, truth, labels)
    figures["by_speaker"] = {
        name: _brief(probabilities[names == name], truth[names == name], labels) for name in sorted(set(speakers))
    }
    figures["sure"] = None
    if sure_threshold is not None:
        sure = probabilities.max(axis=1) >= sure_threshold
        figures["sure"] = {
            "threshold": sure_threshold,
            "coverage": float(sure.mean()),
            "accuracy": accuracy(probabilities[sure], truth[sure]) if sure.any() else None,
        }
    return figures


def _brief(probabilities: NDArray[Any], truth: I64, labels: Sequence[str]) -> dict[str, Any]:
    figures = classification_metrics(probabilities, truth, labels)
    return {name: figures[name] for name in ("n", "accuracy", "balanced_accuracy")}


def arousal_figures(probabilities: F64, truth: I64, labels: Sequence[str]) -> dict[str, Any] | None:
    """Return how well `AROUSAL` is told apart, from probabilities [N, C]: the side with the larger sum is the answer.

    Clips of other classes do not count. None unless the truth has clips of both sides.
    """
    sides = [[label in names for label in labels] for names in AROUSAL.values()]
    sums = np.stack([probabilities[:, side].sum(axis=1) for side in sides], axis=1)
    true_sides = np.array([[side[label] for side in sides] for label in truth])
    counted = true_sides.any(axis=1)
    if not true_sides.any(axis=0).all():
        return None
    confusion = confusion_matrix(true_sides[counted].argmax(axis=1), sums[counted].argmax(axis=1), len(AROUSAL))
    return {
        "n": int(counted.sum()),
        "sides": {side: list(names) for side, names in AROUSAL.items()},
        "balanced_accuracy": float((np.diag(confusion) / confusion.sum(axis=1)).mean()),
        "confusion": confusion.tolist(),
    }


def answer_shares(probabilities: NDArray[Any], labels: Sequence[str]) -> dict[str, Any]:
    """Return the share of answers, from probabilities [N, C], by class, and of those that are neither neutral nor calm."""
    count = len(probabilities)
    counts = np.bincount(probabilities.argmax(axis=1), minlength=len(labels)) if count else np.zeros(len(labels))
    shares = {label: float(counts[place] / max(count, 1)) for place, label in enumerate(labels)}
    other = 1.0 - sum(shares.get(label, 0.0) for label in QUIET)
    return {"n": count, "by_class": shares, "not_neutral_or_calm": other if count else None}


def listener_figures(
    probabilities: F64, truth: I64, votes: Sequence[Mapping[str, float] | None], labels: Sequence[str]
) -> dict[str, Any] | None:
    """Return how answers, from probabilities [N, C], agree with the class that most listeners chose; None without votes.

    `agreement`, `balanced_agreement` and `named` are of the `decided` clips, where one class has most votes. The listeners
    themselves: `named` is the share of clips where that class is the intended one, `votes_named` the mean share of votes for
    the intended one over all rated clips.
    """
    rated = [row for row, shares in enumerate(votes) if shares]
    if not rated:
        return None
    winners = {row: _winner(votes[row] or {}) for row in rated}
    decided = [row for row in rated if winners[row] in labels]
    shares = [(votes[row] or {}).get(labels[truth[row]], 0.0) for row in rated]
    figures: dict[str, Any] = {
        "n": len(rated),
        "decided": len(decided),
        "agreement": None,
        "balanced_agreement": None,
        "named": None,
        "votes_named": float(np.mean(shares)),
    }
    if decided:
        most_voted = np.array([labels.index(str(winners[row])) for row in decided], np.int64)
        compared = classification_metrics(probabilities[decided], most_voted, labels)
        figures |= {"agreement": compared["accuracy"], "balanced_agreement": compared["balanced_accuracy"]}
        figures["named"] = float((most_voted == truth[decided]).mean())
    return figures


def _winner(shares: Mapping[str, float]) -> str | None:
    """Return the label with most votes; None if several have as many."""
    best = max(shares.values())
    winners = [label for label, share in shares.items() if share == best]
    return winners[0] if len(winners) == 1 else None
