"""Evaluation of the face branch: FER2013 with both label sets, and photographs with face detection and crop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.errors import DataError
from moodring.evaluation.corruption import CORRUPTIONS
from moodring.evaluation.data.readers import Fer2013, list_class_folders, read_fer2013, read_ferplus, read_grey
from moodring.evaluation.engine import SEED, Engine, progress
from moodring.evaluation.metrics import classification_metrics, reliability
from moodring.features.face.crop import crop_face, resize_crop
from moodring.features.face.haar import FaceDetector
from moodring.inference.branches import FaceBranch
from moodring.labels import FERPLUS
from moodring.types import F32, U8, FaceCrop

I64 = NDArray[np.int64]

CORRUPTION_SEED = SEED
NO_LABEL = -1


def ferplus_majority(votes: NDArray[np.uint8]) -> I64:
    """Return the label with the most of ten FER+ votes, uint8 [N, 10] -> int64 [N].

    -1 marks a tie, no votes, and the FER+ classes without a label: contempt, unknown, not a face.
    """
    top = votes.max(axis=1)
    tied = (votes == top[:, None]).sum(axis=1) > 1
    labels = np.array([NO_LABEL if label is None else label for label in FERPLUS])
    return np.where(tied | (top == 0), NO_LABEL, labels[votes.argmax(axis=1)])


def select_split(data: Fer2013, split: str, csv: Path) -> I64:
    """Return the rows of one split, int64 [n]. Raises DataError if there are none."""
    rows = np.flatnonzero(data.usage == split)
    if not len(rows):
        raise DataError(f"{csv}: has no rows of {split}; it may be a partial download")
    return rows


def labels_by_set(data: Fer2013, rows: I64, ferplus: Path | None) -> dict[str, I64]:
    """Return the labels of rows of FER2013, int64 [n]: `official` and, with a FER+ file, `ferplus` with -1 for no label."""
    labels = {"official": data.labels[rows]}
    if ferplus is not None:
        labels["ferplus"] = ferplus_majority(read_ferplus(ferplus, len(data.labels)).votes[rows])
    return labels


def evaluate_fer2013(engine: Engine, csv: Path, ferplus: Path | None, split: str) -> dict[str, Any]:
    """Evaluate one split of FER2013 and return the figures; the top-level ones are for the official labels.

    `without_training_copies` counts the images of the split that are byte for byte in Training, and gives the figures without
    them.
    """
    data = read_fer2013(csv)
    rows = select_split(data, split, csv)
    faces, truth = data.faces[rows], data.labels[rows]
    official, usable = _predict(engine.face_branch("official"), faces, engine, f"official labels, {split}")
    figures = classification_metrics(official, truth) | {"reliability": reliability(official, truth)}
    result = figures | {"split": split, "usable_rate": _usable_rate(engine, usable), "by_label_set": {"official": figures}}
    duplicates = _find_training_duplicates(data, rows) if split != "Training" else np.zeros(len(rows), np.bool_)
    if duplicates.any():
        result["without_training_copies"] = {"copies": int(duplicates.sum())} | classification_metrics(
            official[~duplicates], truth[~duplicates]
        )
    if ferplus is not None:
        votes = read_ferplus(ferplus, len(data.labels)).votes[rows]
        result["by_label_set"]["ferplus"] = _evaluate_ferplus(engine, faces, votes, split)
    return result


def _evaluate_ferplus(engine: Engine, faces: U8, votes: NDArray[np.uint8], split: str) -> dict[str, Any]:
    majority = ferplus_majority(votes)
    counted = majority >= 0
    if not counted.any():
        raise DataError(f"no image of {split} has a majority among its FER+ votes; check that the FER+ file is complete")
    predictions, _ = _predict(engine.face_branch("ferplus"), faces[counted], engine, f"FER+ majority, {split}")
    return classification_metrics(predictions, majority[counted]) | {
        "reliability": reliability(predictions, majority[counted]),
        "left_out": int((~counted).sum()),
        "left_out_why": "tied votes, or contempt, unknown, not a face",
    }


def _find_training_duplicates(data: Fer2013, rows: I64) -> NDArray[np.bool_]:
    training = {face.tobytes() for face in data.faces[data.usage == "Training"]}
    return np.array([data.faces[row].tobytes() in training for row in rows])


def _predict(branch: FaceBranch, faces: U8, engine: Engine, description: str) -> tuple[F32, F32]:
    """Return probabilities float32 [N, 8] and `usable` float32 [N] of images that are face crops, uint8 [N, H, W]."""
    size = engine.bundle.spec.face.size
    outputs = [branch.run(FaceCrop(resize_crop(face, size), 0, 1.0)) for face in progress(list(faces), description)]
    return np.stack([o.probabilities for o in outputs]), np.array([o.usable for o in outputs], np.float32)


def _usable_rate(engine: Engine, usable: F32) -> float:
    return float((usable >= engine.bundle.models["face"].usable_threshold).mean())


def evaluate_robustness(engine: Engine, csv: Path, ferplus: Path | None, split: str) -> dict[str, Any]:
    """Evaluate one split of FER2013 without corruption, and under each of `CORRUPTIONS` at each strength.

    Each result has the accuracy on the official labels, the accuracy on the FER+ majority if `ferplus` is given, and the share
    of usable crops.
    """
    data = read_fer2013(csv)
    rows = select_split(data, split, csv)
    faces, truth = data.faces[rows], labels_by_set(data, rows, ferplus)

    def figures(images: U8, description: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for head, labels in truth.items():
            probabilities, usable = _predict(engine.face_branch(head), images, engine, f"{description}, {head}")
            labelled = labels != NO_LABEL
            result[head] = float((probabilities.argmax(axis=1) == labels)[labelled].mean())
            result["usable_rate"] = _usable_rate(engine, usable)
        return result

    by_corruption = {
        name: {
            "unit": corruption.unit,
            "by_strength": {
                f"{strength:g}": figures(
                    corruption.apply(faces, strength, np.random.default_rng(CORRUPTION_SEED)), f"{name} {strength:g}"
                )
                for strength in corruption.strengths
            },
        }
        for name, corruption in CORRUPTIONS.items()
    }
    return {"split": split, "n": len(rows), "undisturbed": figures(faces, "undisturbed"), "by_disturbance": by_corruption}


def evaluate_photographs(engine: Engine, folder: Path) -> dict[str, Any]:
    """Evaluate class folders of photographs with face detection and crop.

    Every photograph counts: without a detected face, the face branch gets the full image. `detected` gives the figures of the
    photographs with a detected face.
    """
    listed = list_class_folders(folder)
    branch, detector, spec = engine.face_branch("ferplus"), FaceDetector(), engine.bundle.spec.face
    predictions, found = [], []
    for path in progress(listed.paths, "photographs"):
        grey = read_grey(path)
        boxes = detector.detect_in_image(grey)
        found.append(bool(boxes))
        box = boxes[0].xywh if boxes else (0, 0, grey.shape[1], grey.shape[0])
        predictions.append(branch.run(FaceCrop(crop_face(grey, box, spec), 0, 1.0)).probabilities)
    probabilities, detected = np.stack(predictions), np.array(found)
    result = classification_metrics(probabilities, listed.labels) | {
        "head": "ferplus",
        "detection_rate": float(detected.mean()),
        "skipped_folders": list(listed.skipped),
    }
    if detected.any():
        result["detected"] = classification_metrics(probabilities[detected], listed.labels[detected])
    return result
