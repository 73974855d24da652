"""Figures of fusion over the pairs of all folds together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from moodring.evaluation.fusion import FRESHNESS, conflict_metrics, pair_metrics, threshold_metrics
from moodring.evaluation.pairs import Sample
from moodring.types import F32

SPREAD_METRICS = ("accuracy", "macro_f1", "ece")


@dataclasses.dataclass(frozen=True, slots=True)
class FoldPredictions:
    """The predictions of one fold's fusers for its pairs, by label set.

    `main` is by method and ablation, `conflicting` (feature fusion with one modality of another class) by that modality and
    its freshness. `noise` holds figures, `summary` the calibration of the fusion network.
    """

    samples: dict[str, Sample]
    main: dict[str, dict[str, dict[str, F32]]]
    conflicting: dict[str, dict[str, dict[str, F32]]]
    noise: dict[str, Any]
    summary: dict[str, Any]
    bundle_id: str


def pooled_metrics(folds: Sequence[FoldPredictions], head: str, method: str) -> dict[str, Any]:
    """Return the figures of one method over the pairs of all folds together, and some of them by fold."""
    truth = np.concatenate([fold.samples[head].truth for fold in folds])
    names = folds[0].main[head][method]
    predictions = {name: np.concatenate([fold.main[head][method][name] for fold in folds]) for name in names}
    figures = pair_metrics(predictions, truth)
    by_fold = [pair_metrics(fold.main[head][method], fold.samples[head].truth) for fold in folds]
    better = max(figures["face_alone"]["accuracy"], figures["speech_alone"]["accuracy"])
    better_merged = max(figures[f"{branch}_alone_merged_calm"]["accuracy"] for branch in ("face", "speech"))
    return figures | {
        "over_folds": {name: [metrics[name] for metrics in by_fold] for name in SPREAD_METRICS},
        "over_the_better_branch": figures["accuracy"] - better,
        "over_the_better_branch_merged_calm": figures["merged_calm"]["accuracy"] - better_merged,
        "one_missing": {
            "speech": figures["speech_missing"]["accuracy"] - figures["face_alone"]["accuracy"],
            "face": figures["face_missing"]["accuracy"] - figures["speech_alone"]["accuracy"],
        },
    }


def pooled_conflict(folds: Sequence[FoldPredictions], head: str) -> dict[str, Any]:
    """Return the figures with one modality of another class, over the pairs of all folds together."""
    first = folds[0].conflicting[head]
    conflicting = {
        modality: {fresh: np.concatenate([fold.conflicting[head][modality][fresh] for fold in folds]) for fresh in by_freshness}
        for modality, by_freshness in first.items()
    }
    counts = [len(fold.conflicting[head]["face"][f"{FRESHNESS[0]:g}"]) for fold in folds]
    truth = np.concatenate([fold.samples[head].truth[:count] for fold, count in zip(folds, counts, strict=True)])
    alone = {
        name: np.concatenate([fold.main[head]["feature"][name][:count] for fold, count in zip(folds, counts, strict=True)])
        for name in ("face_alone", "speech_alone")
    }
    return conflict_metrics(conflicting, alone, dataclasses.replace(folds[0].samples[head], truth=truth))


def pooled_noise(folds: Sequence[FoldPredictions], head: str) -> dict[str, Any]:
    """Return the means over the folds of the figures with one modality replaced by noise."""
    parts = [fold.noise[head] for fold in folds]
    return {side: {key: float(np.mean([part[side][key] for part in parts])) for key in parts[0][side]} for side in parts[0]}


def pooled_confident(folds: Sequence[FoldPredictions], head: str) -> dict[str, Any]:
    """Return precision and coverage above each fold's confidence threshold, which was fitted without the fold's actors."""
    by_fold = []
    for fold in folds:
        fused, truth = fold.main[head]["feature"]["fused"], fold.samples[head].truth
        metrics = threshold_metrics(fused, truth, fold.summary["confident"][head])
        if metrics is not None:
            by_fold.append(metrics)
    coverage = [metrics["coverage"] for metrics in by_fold]
    precision = [metrics["right"] or 0.0 for metrics in by_fold]
    return {
        "stated": by_fold[0]["stated"],
        "right": float(np.average(precision, weights=coverage)),
        "coverage": float(np.mean(coverage)),
        "by_fold": by_fold,
    }
