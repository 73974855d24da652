"""True pairs against pairs by class: facial action units and voice of one recording, or of two people.

A linear classifier predicts the class from the action units (OpenFace, means over a clip). The voice is read by the speech
network that was trained without its actor. The same fusion rules join both, first as recorded, then across people; the
difference shows by how much pairs by class inflate the figures.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from moodring.errors import DataError
from moodring.evaluation.data.readers import RavdessClip
from moodring.evaluation.metrics import classification_metrics
from moodring.evaluation.pairs import PAIRING, merge_calm
from moodring.fusion import MIN_WEIGHT
from moodring.labels import CALM, CLASSES, FACE_CLASSES, NEUTRAL
from moodring.train.calibration import softmax
from moodring.train.data.branch_outputs import SpeechOutputs, fold_of
from moodring.train.data.splits import FOLDS
from moodring.train.decision import fit_face_weight, vote
from moodring.train.models.fusion import FusionHead, class_frequencies
from moodring.types import F32

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
DRAWINGS = 20  # other actors drawn for each recording
FITTED_DRAWINGS = 4  # of these, those that the rules are fitted on
PENALTY = 1e-3  # on the squared weights of the classifier
RULES = ("feature", "weighted", "voting")


def read_action_units(folder: Path, clips: Sequence[RavdessClip]) -> F64:
    """Read the action units of each clip's video, float64 [clips, units]. Raise DataError if a clip has none."""
    path = folder / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        names = [name for name in rows[0] if name.startswith("AU")]
        by_key = {row["clip"].split("-", 1)[1]: [float(row[name]) for name in names] for row in rows}
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path}: cannot be read as a table of action units ({error!r})") from error
    missing = [clip.recording_key for clip in clips if clip.recording_key not in by_key]
    if missing:
        raise DataError(f"{path}: has no action units for {len(missing)} recordings, such as 01-{missing[0]}")
    return np.array([by_key[clip.recording_key] for clip in clips])


def fit_linear(inputs: F64, labels: I64, classes: int) -> tuple[F64, F64]:
    """Fit multinomial logistic regression; return its weights [units, classes] and bias [classes]."""
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)
    weight = torch.zeros(inputs.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        return functional.cross_entropy(x @ weight + bias, y) + PENALTY * (weight**2).sum()

    _minimise(loss, [weight, bias], max_iter=300)
    return weight.detach().numpy(), bias.detach().numpy()


def _minimise(loss: Callable[[], torch.Tensor], parameters: Iterable[torch.Tensor], max_iter: int) -> None:
    optimizer: torch.optim.Optimizer = torch.optim.LBFGS(parameters, max_iter=max_iter, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        value = loss()
        torch.autograd.backward(value)
        return float(value.detach())

    optimizer.step(closure)


def predict_from_action_units(units: F64, labels: I64, folds: I64) -> F64:
    """Return probabilities [clips, 8] from action units, by a classifier that was trained without the clip's actor.

    The face labels have no calm: calm clips count as neutral.
    """
    face_labels = _merge_calm_labels(labels)
    posteriors = np.zeros((len(units), CLASSES))
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        if not test.any():
            continue
        mean, deviation = units[train].mean(axis=0), units[train].std(axis=0) + 1e-3
        weight, bias = fit_linear((units[train] - mean) / deviation, face_labels[train], FACE_CLASSES)
        posteriors[test, :FACE_CLASSES] = softmax(((units[test] - mean) / deviation) @ weight + bias)
    return posteriors


def _merge_calm_labels(labels: I64) -> I64:
    return np.where(labels == CALM, NEUTRAL, labels)


def draw_other_actors(labels: I64, actors: I64, folds: I64, rng: np.random.Generator) -> I64:
    """Draw for each clip one of the same class (calm counts as neutral) by another actor of the same fold; return rows [clips].

    Raises DataError if there is none.
    """
    face_labels = _merge_calm_labels(labels)
    rows = np.empty(len(labels), np.int64)
    for row in range(len(labels)):
        others = np.flatnonzero((face_labels == face_labels[row]) & (folds == folds[row]) & (actors != actors[row]))
        if not len(others):
            raise DataError(
                f"recording {row}: no other actor of fold {folds[row]} has a clip of its class, so no pairs by class can be "
                "drawn; complete the RAVDESS recordings"
            )
        rows[row] = rng.choice(others)
    return rows


def fit_fusion_head(faces: F64, voices: F64, labels: I64) -> FusionHead:
    """Fit feature fusion to pairs of probabilities [N, 8] with the given labels [N]."""
    head = FusionHead()
    face_labels = _merge_calm_labels(labels)
    prior = np.bincount(face_labels, minlength=FACE_CLASSES) / len(face_labels)
    head.initialise_from_priors(torch.from_numpy(prior), class_frequencies(torch.from_numpy(labels)))
    face, voice, target = (torch.from_numpy(part) for part in (_log(faces)[:, :FACE_CLASSES], _log(voices), labels))
    presence = torch.ones(len(labels), 2)
    _minimise(lambda: functional.cross_entropy(head(face, voice, presence), target), head.parameters(), max_iter=100)
    return head.eval()


def _log(probabilities: F64) -> F32:
    return np.log(np.maximum(probabilities, MIN_WEIGHT)).astype(np.float32)


def fuse_by_rule(rule: str, faces: F64, voices: F64, head: FusionHead, weight: float) -> F64:
    """Fuse probabilities [N, 8] of face and voice by one of RULES; `weight` is that of the face in weighted fusion."""
    if rule == "weighted":
        return weight * faces + (1 - weight) * voices
    if rule == "voting":
        return vote(faces, voices)
    with torch.no_grad():
        logits: torch.Tensor = head(
            torch.from_numpy(_log(faces)[:, :FACE_CLASSES]), torch.from_numpy(_log(voices)), torch.ones(len(faces), 2)
        )
    return softmax(logits.numpy())


def compare(units: F64, clips: Sequence[RavdessClip], voices: SpeechOutputs, seed: int) -> dict[str, Any]:
    """Return the figures of each rule on true pairs and on pairs by class, pooled over the folds.

    Rules are fitted on pairs by class of the other folds, as the shipped fusion is, and never on the tested actors.
    """
    labels, actors = voices.labels, np.array([clip.actor for clip in clips])
    folds = np.array([fold_of(actor) for actor in actors])
    faces, rng = predict_from_action_units(units, labels, folds), np.random.default_rng(seed)
    speech_mean = _mean_by_clip(voices)
    partners = [draw_other_actors(labels, actors, folds, rng) for _ in range(DRAWINGS)]
    return {
        "what": "action units of the face and the voice of one recording (true pairs), beside pairs by class",
        "by_class_pairing": PAIRING,
        "seed": seed,
        "drawings": DRAWINGS,
        "face_alone": classification_metrics(faces, _merge_calm_labels(labels)),
        "speech_alone": classification_metrics(speech_mean, labels),
        "speech_alone_merged_calm": classification_metrics(*merge_calm(speech_mean.astype(np.float32), labels)),
        "errors_together": _joint_error_rates(faces, speech_mean, labels, partners),
        "rules": _compare_rules(faces, speech_mean, labels, folds, partners),
    }


def _mean_by_clip(voices: SpeechOutputs) -> F64:
    sums = np.zeros((len(voices.labels), CLASSES))
    np.add.at(sums, voices.clip_index, voices.posteriors)
    return sums / np.bincount(voices.clip_index)[:, None]


def _compare_rules(faces: F64, voices: F64, labels: I64, folds: I64, partners: Sequence[I64]) -> dict[str, dict[str, Any]]:
    """Return the figures of each rule on true pairs and on pairs by class; the rules are fitted fold by fold."""
    predictions: dict[str, dict[str, list[F64]]] = {rule: {"true": [], "by_class": []} for rule in RULES}
    truth: dict[str, list[I64]] = {"true": [], "by_class": []}
    for fold in np.unique(folds).tolist():
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        train_faces = np.concatenate([faces[partner[train]] for partner in partners[:FITTED_DRAWINGS]])
        train_voices = np.tile(voices[train], (FITTED_DRAWINGS, 1))
        train_labels = np.tile(labels[train], FITTED_DRAWINGS)
        head = fit_fusion_head(train_faces, train_voices, train_labels)
        weight = fit_face_weight(train_faces.astype(np.float32), train_voices, train_labels)
        truth["true"].append(labels[test])
        truth["by_class"] += [labels[test]] * len(partners)
        for rule in RULES:
            predictions[rule]["true"].append(fuse_by_rule(rule, faces[test], voices[test], head, weight))
            predictions[rule]["by_class"] += [
                fuse_by_rule(rule, faces[partner[test]], voices[test], head, weight) for partner in partners
            ]
    return {
        rule: {
            pairing: _figures(np.concatenate(parts), np.concatenate(truth[pairing])) for pairing, parts in by_pairing.items()
        }
        for rule, by_pairing in predictions.items()
    }


def _figures(predictions: F64, truth: I64) -> dict[str, Any]:
    figures = classification_metrics(predictions, truth)
    return figures | {"merged_calm": classification_metrics(*merge_calm(predictions.astype(np.float32), truth))}


def _joint_error_rates(faces: F64, speech_mean: F64, labels: I64, partners: Sequence[I64]) -> dict[str, float]:
    """Return the share of pairs in which both modalities are wrong, as recorded and across people; calm counts as neutral."""
    face_labels = _merge_calm_labels(labels)
    merged, _ = merge_calm(speech_mean.astype(np.float32), labels)
    face_wrong, voice_wrong = faces.argmax(axis=1) != face_labels, merged.argmax(axis=1) != face_labels
    across = float(np.mean([(face_wrong[partner] & voice_wrong).mean() for partner in partners]))
    return {"true": float((face_wrong & voice_wrong).mean()), "by_class": across}
