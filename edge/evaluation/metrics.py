"""Classification figures, as fractions in [0, 1]; macro figures are over the classes present in the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.labels import LABELS

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


def accuracy(probabilities: NDArray[Any], truth: I64) -> float:
    """Return the share of rows [N, C] whose first class is the true one."""
    return float((probabilities.argmax(axis=1) == truth).mean())


def confusion_matrix(truth: I64, predicted: I64, classes: int) -> I64:
    """Count [true][predicted], int64 [C, C]."""
    counts = np.bincount(np.asarray(truth) * classes + np.asarray(predicted), minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def expected_calibration_error(probabilities: NDArray[Any], truth: I64, bins: int = 15) -> float:
    """Mean gap between confidence and accuracy over equally wide bins (Guo et al. 2017), weighted by their counts."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gap = np.abs(np.bincount(index, weights=correct - confidence, minlength=bins))
    return float(gap.sum() / len(truth))


def reliability(probabilities: NDArray[Any], truth: I64, bins: int = 15) -> list[dict[str, float]]:
    """Return a reliability diagram's bars: of each bin that holds any, how many, how sure and how often right."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == truth
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return [
        {"n": int(where.sum()), "confidence": float(confidence[where].mean()), "accuracy": float(correct[where].mean())}
        for where in (index == each for each in range(bins))
        if where.any()
    ]


def risk_coverage(probabilities: NDArray[Any], truth: I64, steps: int = 20) -> list[dict[str, float]]:
    """Return what answering only the surest shares of all examples gives: from which confidence on, and how often right."""
    confidence = probabilities.max(axis=1).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    correct = (probabilities.argmax(axis=1) == truth)[order]
    counts = [max(1, round(len(correct) * step / steps)) for step in range(1, steps + 1)]
    return [
        {
            "coverage": count / len(correct),
            "threshold": float(confidence[order[count - 1]]),
            "accuracy": float(correct[:count].mean()),
        }
        for count in counts
    ]


def _ratio(numerator: F64, denominator: F64) -> F64:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def classification_metrics(probabilities: NDArray[Any], truth: I64, labels: Sequence[str] = LABELS) -> dict[str, Any]:
    """Return every figure an evaluation reports, from probabilities [N, C] and labels [N] in label order.

    A class that is present but never predicted has precision 0 (as scikit-learn's zero_division=0).
    """
    truth = np.asarray(truth, np.int64)
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.shape != (len(truth), len(labels)):
        raise ValueError(f"expected probabilities [{len(truth)}, {len(labels)}], got {list(probabilities.shape)}")
    if len(truth) == 0:
        raise ValueError("there is nothing to measure: no examples")
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
