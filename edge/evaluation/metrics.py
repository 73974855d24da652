"""Classification metrics as fractions in [0, 1]; macro averages cover the classes that the true labels contain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.labels import LABELS

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


def accuracy(probabilities: NDArray[Any], truth: I64) -> float:
    """Return the share of rows of `probabilities` [N, C] whose most probable class is the true label [N]."""
    return float((probabilities.argmax(axis=1) == truth).mean())


def confusion_matrix(truth: I64, predicted: I64, classes: int) -> I64:
    """Return the counts int64 [C, C], indexed by [true][predicted]."""
    counts = np.bincount(np.asarray(truth) * classes + np.asarray(predicted), minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def expected_calibration_error(probabilities: NDArray[Any], truth: I64, bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy over bins of equal width, weighted by count (Guo et al. 2017)."""
    confidence, correct = _confidence_and_correct(probabilities, truth)
    index = _bin_indices(confidence, bins)
    gap = np.abs(np.bincount(index, weights=correct - confidence, minlength=bins))
    return float(gap.sum() / len(truth))


def reliability(probabilities: NDArray[Any], truth: I64, bins: int = 15) -> list[dict[str, float]]:
    """Return the bars of a reliability diagram: count, mean confidence and accuracy of each bin that is not empty."""
    confidence, correct = _confidence_and_correct(probabilities, truth)
    index = _bin_indices(confidence, bins)
    return [
        {"n": int(where.sum()), "confidence": float(confidence[where].mean()), "accuracy": float(correct[where].mean())}
        for where in (index == each for each in range(bins))
        if where.any()
    ]


def risk_coverage(probabilities: NDArray[Any], truth: I64, steps: int = 20) -> list[dict[str, float]]:
    """Return the risk-coverage curve: confidence threshold and accuracy by the share of most confident examples."""
    confidence, correct = _confidence_and_correct(probabilities, truth)
    order = np.argsort(-confidence, kind="stable")
    correct = correct[order]
    counts = [max(1, round(len(correct) * step / steps)) for step in range(1, steps + 1)]
    return [
        {
            "coverage": count / len(correct),
            "threshold": float(confidence[order[count - 1]]),
            "accuracy": float(correct[:count].mean()),
        }
        for count in counts
    ]


def _confidence_and_correct(probabilities: NDArray[Any], truth: I64) -> tuple[F64, NDArray[np.bool_]]:
    """Return the probability of the predicted class, float64 [N], and whether it is the true one, bool [N]."""
    return probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == truth


def _bin_indices(confidence: F64, bins: int) -> I64:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _ratio(numerator: F64, denominator: F64) -> F64:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def classification_metrics(probabilities: NDArray[Any], truth: I64, labels: Sequence[str] = LABELS) -> dict[str, Any]:
    """Return the metrics that every evaluation reports, from probabilities [N, C] and true labels [N].

    A class that is present but never predicted has precision 0, as with `zero_division=0` in scikit-learn. Raises ValueError if
    the shapes do not match or there are no examples.
    """
    truth = np.asarray(truth, np.int64)
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape != (len(truth), len(labels)):
        raise ValueError(f"expected probabilities [{len(truth)}, {len(labels)}], got {list(probabilities.shape)}")
    if len(truth) == 0:
        raise ValueError("no examples: there is nothing to measure")
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(truth, predicted, len(labels))
    hits = np.diag(confusion).astype(np.float64)
    support = confusion.sum(axis=1).astype(np.float64)
    recall = _ratio(hits, support)
    precision = _ratio(hits, confusion.sum(axis=0).astype(np.float64))
    f1 = _ratio(2 * precision * recall, precision + recall)
    present = support > 0
    return {
        "n": len(truth),
        "accuracy": float(hits.sum() / len(truth)),
        "balanced_accuracy": float(recall[present].mean()),
        "macro_precision": float(precision[present].mean()),
        "macro_recall": float(recall[present].mean()),
        "macro_f1": float(f1[present].mean()),
        "ece": expected_calibration_error(probabilities, truth),
        "per_class": {
            label: {
                "n": int(support[i]),
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
            }
            for i, label in enumerate(labels)
        },
        "confusion": confusion.tolist(),
    }
