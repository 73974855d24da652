"""How well the face branch reads pictures: FER2013 with both label sets, and photographs through detection and crop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.errors import DataError
from moodring.evaluation.corruption import CORRUPTIONS
from moodring.evaluation.data.readers import Fer2013, list_class_folders, read_fer2013, read_ferplus, read_grey
from moodring.evaluation.engine import Engine, progress
from moodring.evaluation.metrics import classification_metrics, reliability
from moodring.features.face.crop import crop_face, resize_crop
from moodring.features.face.haar import FaceDetector
from moodring.inference.branches import FaceBranch
from moodring.labels import FERPLUS
from moodring.types import F32, U8, FaceCrop

I64 = NDArray[np.int64]

CORRUPTION_SEED = 0


def ferplus_majority(votes: NDArray[np.uint8]) -> I64:
    """Return the label that most of FER+'s ten raters chose, int64 [N]; -1 where it ties or is no class of ours."""
    top = votes.max(axis=1)
    tied = (votes == top[:, None]).sum(axis=1) > 1
    ours = np.array([-1 if label is None else label for label in FERPLUS])
    return np.where(tied | (top == 0), -1, ours[votes.argmax(axis=1)])


def evaluate_fer2013(engine: Engine, csv: Path, ferplus: Path | None, split: str) -> dict[str, Any]:
    """Evaluate one part of FER2013; the top-level figures are those of the official labels.

    Pictures that stand, byte for byte, in Training as well are counted, and the figures are given without them too.
    """
    data = read_fer2013(csv)
    rows = _select_split(data, split, csv)
    faces, truth = data.faces[rows], data.labels[rows]
    official, usable = _predict(engine.face("official"), faces, engine, f"official labels, {split}")
    figures = classification_metrics(official, truth) | {"reliability": reliability(official, truth)}
    result = figures | {"split": split, "usable_rate": float((usable >= 0.5).mean()), "by_label_set": {"official": figures}}
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
        raise DataError(f"no picture of {split} has a majority among its FER+ votes")
    predictions, _ = _predict(engine.face("ferplus"), faces[counted], engine, f"FER+ majority, {split}")
    left_out = {"left_out": int((~counted).sum()), "left_out_why": "tied votes, or contempt, unknown, not a face"}
    found = classification_metrics(predictions, majority[counted]) | {
        "reliability": reliability(predictions, majority[counted])
    }
    return found | left_out


def _select_split(data: Fer2013, split: str, csv: Path) -> I64:
    rows = np.flatnonzero(data.usage == split)
    if not len(rows):
        raise DataError(f"{csv}: has no rows of {split}; it may be a partial download")
    return rows


def _find_training_duplicates(data: Fer2013, rows: I64) -> NDArray[np.bool_]:
    training = {face.tobytes() for face in data.faces[data.usage == "Training"]}
    return np.array([data.faces[row].tobytes() in training for row in rows])


def _predict(branch: FaceBranch, faces: U8, engine: Engine, description: str) -> tuple[F32, F32]:
    """Return probabilities float32 [N, 8] and usable [N] for pictures that are crops already, uint8 [N, H, W]."""
    size = engine.bundle.spec.face.size
    outputs = [branch.run(FaceCrop(resize_crop(face, size), 0, 1.0)) for face in progress(list(faces), description)]
    return np.stack([o.probabilities for o in outputs]), np.array([o.usable for o in outputs], np.float32)


def evaluate_robustness(engine: Engine, csv: Path, ferplus: Path | None, split: str) -> dict[str, Any]:
    """Evaluate one part of FER2013 as it is and under each kind of `moodring.evaluation.corruption`, at each strength.

    Gives accuracy on the official labels and, with `ferplus`, on FER+'s majority, and how many crops stay usable.
    """
    data = read_fer2013(csv)
    rows = _select_split(data, split, csv)
    faces = data.faces[rows]
    truth = {"official": data.labels[rows]}
    if ferplus is not None:
        truth["ferplus"] = ferplus_majority(read_ferplus(ferplus, len(data.labels)).votes[rows])

    def figures(images: U8, description: str) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for head, labels in truth.items():
            probabilities, usable = _predict(engine.face(head), images, engine, f"{description}, {head}")
            known = labels >= 0
            result[head] = float((probabilities.argmax(axis=1) == labels)[known].mean())
            result["usable_rate"] = float((usable >= 0.5).mean())
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
    """Evaluate class folders of photographs through detection and crop.

    A picture in which no face is found is read whole, so that every picture counts; `detected` gives the figures of the others.
    """
    listed = list_class_folders(folder)
    branch, detector, spec = engine.face("ferplus"), FaceDetector(), engine.bundle.spec.face
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
