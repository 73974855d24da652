"""True pairs: the facial action units and the voice of one recording, beside pairs by class of different people.

A small classifier reads the action units (OpenFace, means over a clip); the voice is read by the network that never heard
its actor. The same fusion rules join both, first as they were recorded, then across people: the difference is what pairs by
class flatter.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
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

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
SEEDS = 20  # drawings of other people for each recording
PENALTY = 1e-3  # on the squared weights of the classifier
RULES = ("feature", "weighted", "voting")


def read_action_units(folder: Path, clips: Sequence[RavdessClip]) -> F64:
    """Read the action units of each clip's video, float64 [C, units]; raise DataError where one has none."""
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
    """Return weights [units, classes] and bias of multinomial logistic regression."""
    x, y = torch.from_numpy(inputs), torch.from_numpy(labels)
    weight = torch.zeros(inputs.shape[1], classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(x @ weight + bias, y) + PENALTY * (weight**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach().numpy(), bias.detach().numpy()


def predict_from_action_units(units: F64, labels: I64, folds: I64) -> F64:
    """Return what a classifier that never saw the actor says of each clip's action units, [C, 8]: as faces, calm is neutral."""
    seen = np.where(labels == CALM, NEUTRAL, labels)
    posteriors = np.zeros((len(units), CLASSES))
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        if not test.any():
            continue
        mean, deviation = units[train].mean(axis=0), units[train].std(axis=0) + 1e-3
        weight, bias = fit_linear((units[train] - mean) / deviation, seen[train], FACE_CLASSES)
        posteriors[test, :FACE_CLASSES] = softmax(((units[test] - mean) / deviation) @ weight + bias)
    return posteriors


def draw_other_actors(labels: I64, actors: I64, folds: I64, rng: np.random.Generator) -> I64:
    """Draw for each clip one of the same class, of another actor of the same fold; [C]."""
    seen = np.where(labels == CALM, NEUTRAL, labels)
    rows = np.empty(len(labels), np.int64)
    for row in range(len(labels)):
        others = np.flatnonzero((seen == seen[row]) & (folds == folds[row]) & (actors != actors[row]))
        if not len(others):
            raise DataError(f"nobody else in fold {folds[row]} shows what recording {row} does: no pairs by class can be drawn")
        rows[row] = rng.choice(others)
    return rows


def fit_fusion_head(faces: F64, voices: F64, labels: I64) -> FusionHead:
    """Fit the rule of feature fusion to pairs of answers [N, 8] each."""
    joint = FusionHead()
    seen = np.where(labels == CALM, NEUTRAL, labels)
    prior = np.bincount(seen, minlength=FACE_CLASSES) / len(seen)
    joint.initialise_from_priors(torch.from_numpy(prior), class_frequencies(torch.from_numpy(labels)))
    optimizer = torch.optim.LBFGS(joint.parameters(), max_iter=100, line_search_fn="strong_wolfe")
    face, voice, target = (torch.from_numpy(part) for part in (_log(faces)[:, :FACE_CLASSES], _log(voices), labels))
    presence = torch.ones(len(labels), 2)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(joint(face, voice, presence), target)
        loss.backward()
        return loss

    optimizer.step(closure)
    return joint.eval()


def _log(probabilities: NDArray[Any]) -> NDArray[np.float32]:
    return np.log(np.maximum(probabilities, MIN_WEIGHT)).astype(np.float32)


def fuse_by_rule(rule: str, faces: F64, voices: F64, joint: FusionHead, weight: float) -> F64:
    """Join answers [N, 8] of faces and voices by a rule."""
    if rule == "weighted":
        return weight * faces + (1 - weight) * voices
    if rule == "voting":
        return vote(faces, voices)
    with torch.no_grad():
        predictions = joint(
            torch.from_numpy(_log(faces)[:, :FACE_CLASSES]), torch.from_numpy(_log(voices)), torch.ones(len(faces), 2)
        )
    return softmax(predictions.numpy())


def compare(units: F64, clips: Sequence[RavdessClip], voices: SpeechOutputs, seed: int) -> dict[str, Any]:
    """Return the figures of each rule on true pairs and on pairs by class, pooled over the folds.

    Rules are fitted on the other folds' pairs by class, as the shipped fusion is, and see the tested actors in neither case.
    """
    labels, actors = voices.labels, np.array([clip.actor for clip in clips])
    folds = np.array([fold_of(actor) for actor in actors])
    faces, rng = predict_from_action_units(units, labels, folds), np.random.default_rng(seed)
    speech_mean = np.zeros((len(labels), CLASSES))
    np.add.at(speech_mean, voices.clip_index, voices.posteriors)
    speech_mean /= np.bincount(voices.clip_index)[:, None]
    partners = [draw_other_actors(labels, actors, folds, rng) for _ in range(SEEDS)]
    predictions: dict[str, dict[str, list[F64]]] = {rule: {"true": [], "by_class": []} for rule in RULES}
    truth: dict[str, list[I64]] = {"true": [], "by_class": []}
    for fold in np.unique(folds).tolist():
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        seen, train_speech_mean = (np.concatenate([part[rows] for rows in index]) for part, index in (
            (faces, [partner[train] for partner in partners[:4]]), (speech_mean, [train] * 4)))  # fmt: skip
        joint = fit_fusion_head(seen, train_speech_mean, np.tile(labels[train], 4))
        weight = fit_face_weight(seen.astype(np.float32), train_speech_mean, np.tile(labels[train], 4))
        truth["true"].append(labels[test])
        truth["by_class"] += [labels[test]] * SEEDS
        for rule in RULES:
            predictions[rule]["true"].append(fuse_by_rule(rule, faces[test], speech_mean[test], joint, weight))
            predictions[rule]["by_class"] += [
                fuse_by_rule(rule, faces[each[test]], speech_mean[test], joint, weight) for each in partners
            ]
    whole = {kind: np.concatenate(parts) for kind, parts in truth.items()}
    merged_labels = np.where(labels == CALM, NEUTRAL, labels)
    return {
        "what": "action units of the face and the voice of one recording (true pairs), beside pairs by class",
        "by_class_pairing": PAIRING,
        "seed": seed,
        "drawings": SEEDS,
        "face_alone": classification_metrics(faces, merged_labels),
        "speech_alone": classification_metrics(speech_mean, labels),
        "speech_alone_merged_calm": classification_metrics(*merge_calm(speech_mean.astype(np.float32), labels)),
        "errors_together": _joint_error_rates(faces, speech_mean, labels, partners),
        "rules": {
            rule: {kind: _figures(np.concatenate(parts), whole[kind]) for kind, parts in by_kind.items()}
            for rule, by_kind in predictions.items()
        },
    }  # fmt: skip


def _figures(predictions: F64, truth: I64) -> dict[str, Any]:
    figures = classification_metrics(predictions, truth)
    return figures | {"merged_calm": classification_metrics(*merge_calm(predictions.astype(np.float32), truth))}


def _joint_error_rates(faces: F64, speech_mean: F64, labels: I64, partners: list[I64]) -> dict[str, float]:
    """Return how often both sides are wrong at once, as recorded and across people, calm counting as neutral."""
    seen = np.where(labels == CALM, NEUTRAL, labels)
    merged, _ = merge_calm(speech_mean.astype(np.float32), labels)
    face_wrong, voice_wrong = faces.argmax(axis=1) != seen, merged.argmax(axis=1) != seen
    across = float(np.mean([(face_wrong[partner] & voice_wrong).mean() for partner in partners]))
    return {"true": float((face_wrong & voice_wrong).mean()), "by_class": across}
