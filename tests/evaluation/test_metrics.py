"""Classification metrics against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from moodring.evaluation.metrics import classification_metrics, confusion_matrix, expected_calibration_error

LABELS = ("a", "b", "c", "d")


def onehot(predicted: list[int], confidence: float = 1.0) -> np.ndarray:
    rest = (1 - confidence) / (len(LABELS) - 1)
    return np.where(np.eye(len(LABELS))[predicted] > 0, confidence, rest)


def test_metrics_match_values_computed_by_hand() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1, 2, 2])  # d does not occur
    predicted = [0, 0, 0, 1, 1, 3, 0, 2]
    figures = classification_metrics(onehot(predicted), truth, LABELS)
    assert figures["n"] == 8
    assert figures["accuracy"] == pytest.approx(5 / 8)
    assert figures["confusion"] == [[3, 1, 0, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0]]
    recall, precision = (3 / 4, 1 / 2, 1 / 2), (3 / 4, 1 / 2, 1.0)
    f1 = [2 * p * r / (p + r) for p, r in zip(precision, recall, strict=True)]
    assert figures["balanced_accuracy"] == figures["macro_recall"] == pytest.approx(np.mean(recall))
    assert figures["macro_precision"] == pytest.approx(np.mean(precision))
    assert figures["macro_f1"] == pytest.approx(np.mean(f1))
    assert figures["per_class"]["b"] == {"n": 2, "precision": 0.5, "recall": 0.5, "f1": 0.5}
    assert figures["per_class"]["d"] == {"n": 0, "precision": 0.0, "recall": 0.0, "f1": 0.0}


def test_confusion_matrix_is_indexed_by_true_then_predicted() -> None:
    assert confusion_matrix(np.array([0, 1]), np.array([1, 1]), 2).tolist() == [[0, 1], [0, 1]]


def test_calibration_error_matches_a_value_computed_by_hand() -> None:
    # Four predictions at confidence 0.9, two of them right; four at 0.5, all right.
    probabilities = np.concatenate([onehot([0] * 4, 0.9), onehot([0] * 4, 0.5)])
    truth = np.array([0, 0, 1, 1, 0, 0, 0, 0])
    assert expected_calibration_error(probabilities, truth) == pytest.approx(0.5 * 0.4 + 0.5 * 0.5)
    assert expected_calibration_error(onehot([0, 1]), np.array([0, 1])) == pytest.approx(0.0)


def test_metrics_reject_empty_or_mismatched_input() -> None:
    with pytest.raises(ValueError, match="no examples: there is nothing to measure"):
        classification_metrics(np.zeros((0, 4)), np.zeros(0, np.int64), LABELS)
    with pytest.raises(ValueError, match="expected probabilities"):
        classification_metrics(np.zeros((3, 2)), np.zeros(3, np.int64), LABELS)
