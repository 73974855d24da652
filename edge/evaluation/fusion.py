"""Evaluation of the fusion on pairs: a FER2013 image and a RAVDESS clip with the same label (`moodring.evaluation.pairs`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.evaluation.data.readers import RavdessClip, read_fer2013, read_sound
from moodring.evaluation.engine import Engine, progress
from moodring.evaluation.face import NO_LABEL, labels_by_set, select_split
from moodring.evaluation.metrics import accuracy, classification_metrics, reliability, risk_coverage
from moodring.evaluation.pairs import (
    PAIRING,
    PAIRING_CAVEAT,
    Sample,
    draw_others,
    draw_pairs,
    fuse_conflicting,
    fuse_pairs,
    fuse_with_ablations,
    merge_calm,
    subsample_pairs,
)
from moodring.evaluation.speech import clip_outputs, select_clips
from moodring.features.face.crop import resize_crop
from moodring.fusion import Fuser, Method
from moodring.types import F32, U8, BranchOutput, FaceCrop

I64 = NDArray[np.int64]
ClipOutputs = list[list[BranchOutput]]
FRESHNESS = (1.0, 0.5, 0.2)  # of the mismatched modality
NOISE_FACES, NOISE_SOUNDS = 64, 8


@dataclass(frozen=True, slots=True)
class Pairing:
    """The sources of the images and clips. With `ferplus`, pairs are drawn a second time by the FER+ majority labels."""

    fer2013: Path
    split: str
    ravdess: Path
    actors: Sequence[int] | None
    ferplus: Path | None = None


@dataclass(frozen=True, slots=True)
class FaceImages:
    """One split of FER2013: `faces` uint8 [N, 48, 48]; `labels` int64 [N] by label set, -1 for an image without a label."""

    faces: U8
    labels: dict[str, I64]


def read_face_images(fer2013: Path, ferplus: Path | None, split: str) -> FaceImages:
    """Read one split of FER2013 with its official labels and, if `ferplus` is given, the FER+ majority labels.

    Raises DataError if the split has no rows.
    """
    data = read_fer2013(fer2013)
    rows = select_split(data, split, fer2013)
    return FaceImages(data.faces[rows], labels_by_set(data, rows, ferplus))


def draw_sample(
    engine: Engine, head: str, images: FaceImages, speech_outputs: ClipOutputs, clip_labels: I64, *, pairs: int, seed: int
) -> Sample:
    """Draw pairs by the labels of the label set `head` and run that head of the face branch on their images."""
    chosen, clips = draw_pairs(images.labels[head], clip_labels, pairs, seed)
    truth = clip_labels[clips]
    labelled = np.flatnonzero(images.labels[head] != NO_LABEL)
    mismatched_images = labelled[draw_others(images.labels[head][labelled], truth, seed)]
    mismatched_clips = draw_others(clip_labels, truth, seed)
    branch, size = engine.face_branch(head), engine.bundle.spec.face.size
    needed = np.unique(np.concatenate([chosen, mismatched_images])).tolist()
    faces = {
        index: branch.run(FaceCrop(resize_crop(images.faces[index], size), 0, 1.0))
        for index in progress(needed, f"images, {head}")
    }
    return Sample(faces, speech_outputs, chosen, clips, truth, mismatched_images, mismatched_clips)


def evaluate_pairs(engine: Engine, pairing: Pairing, *, pairs: int, seed: int, method: Method) -> dict[str, Any]:
    """Evaluate the fusion on pairs: both modalities, each branch alone, one modality missing, conflicting or noise.

    The top-level figures are for pairs by the official labels of FER2013, read by the official head. `by_label_set` has the
    figures of each label set.
    """
    images = read_face_images(pairing.fer2013, pairing.ferplus, pairing.split)
    clips = select_clips(pairing.ravdess, pairing.actors)
    clip_labels = np.array([clip.label for clip in clips], np.int64)
    speech_outputs = run_speech_branch(engine, clips)
    by_label_set = {}
    for head in images.labels:
        sample = draw_sample(engine, head, images, speech_outputs, clip_labels, pairs=pairs, seed=seed)
        fuser = engine.fuser(method, head)
        outputs = fuse_with_ablations(sample, fuser)
        subset = subsample_pairs(sample)
        conflicting = fuse_conflicting(subset, fuser, FRESHNESS)
        confident = (engine.bundle.models["fusion"].confident or {}).get(head) if method == "feature" else None
        by_label_set[head] = pair_metrics(outputs, sample.truth) | {
            "wrong": conflict_metrics(conflicting, outputs, subset),
            "noise": noise_metrics(engine, subset, fuser, head, seed),
            "confident": threshold_metrics(outputs["fused"], sample.truth, confident),
        }
    return by_label_set["official"] | {
        "pairing": PAIRING,
        "easier": PAIRING_CAVEAT,
        "split": pairing.split,
        "actors": sorted({clip.actor for clip in clips}),
        "method": method,
        "pairs": pairs,
        "seed": seed,
        "by_label_set": by_label_set,
    }


def pair_metrics(outputs: dict[str, F32], truth: I64) -> dict[str, Any]:
    """Return the metrics of the fused outputs, float32 [N, 8], at the top level and those of each other output by its name."""
    fused = outputs["fused"]
    return classification_metrics(fused, truth) | {
        "reliability": reliability(fused, truth),
        "risk_coverage": risk_coverage(fused, truth),
        "merged_calm": classification_metrics(*merge_calm(fused, truth)),
        **{name: classification_metrics(probabilities, truth) for name, probabilities in outputs.items() if name != "fused"},
        "face_alone_merged_calm": classification_metrics(*merge_calm(outputs["face_alone"], truth)),
        "speech_alone_merged_calm": classification_metrics(*merge_calm(outputs["speech_alone"], truth)),
    }


def conflict_metrics(conflicting: dict[str, dict[str, F32]], outputs: dict[str, F32], sample: Sample) -> dict[str, Any]:
    """Return the accuracy of the fusion by the modality that is of another class than the truth, and by its freshness."""
    alone = {"face": outputs["speech_alone"], "speech": outputs["face_alone"]}
    count = len(sample.truth)  # the sample holds the first of the pairs in `outputs`
    return {
        side: {
            "pairs": count,
            "right_side_alone": accuracy(alone[side][:count], sample.truth),
            "fused_by_freshness": {fresh: accuracy(each, sample.truth) for fresh, each in by_freshness.items()},
            "confidence_by_freshness": {fresh: float(each.max(axis=1).mean()) for fresh, each in by_freshness.items()},
        }
        for side, by_freshness in conflicting.items()
    }


def noise_metrics(engine: Engine, sample: Sample, fuser: Fuser, head: str, seed: int) -> dict[str, Any]:
    """Return the rejection rate of noise and the accuracy of pairs in which noise replaces one modality.

    As in the daemon, the fuser does not get an output below the `usable` threshold of its network.
    """
    rng = np.random.default_rng([seed, 2])
    size, branch = engine.bundle.spec.face.size, engine.face_branch(head)
    noise_faces = [
        branch.run(FaceCrop(rng.integers(0, 256, (size, size)).astype(np.uint8), 0, 1.0)) for _ in range(NOISE_FACES)
    ]
    spec = engine.bundle.spec.speech
    sounds = [(0.1 * rng.standard_normal(3 * spec.mfcc.rate_hz)).astype(np.float32) for _ in range(NOISE_SOUNDS)]
    noise_outputs = [hop for sound in sounds for hop in clip_outputs(engine.speech_branch(), sound, spec)[-1:]]
    models = engine.bundle.models

    def rejected(output: BranchOutput) -> bool:
        return output.usable < models[output.modality].usable_threshold

    def fuse_with_noise(noise: list[BranchOutput], *, face: bool) -> Callable[[BranchOutput, BranchOutput], F32]:
        def fuse(face_output: BranchOutput, speech_output: BranchOutput) -> F32:
            drawn = noise[int(rng.integers(len(noise)))]
            accepted = None if rejected(drawn) else drawn
            return fuser.fuse(accepted, speech_output) if face else fuser.fuse(face_output, accepted)

        return fuse

    return {
        "face": {
            "refused": float(np.mean([rejected(output) for output in noise_faces])),
            "accuracy": accuracy(fuse_pairs(sample, fuse_with_noise(noise_faces, face=True)), sample.truth),
        },
        "speech": {
            "refused": float(np.mean([rejected(output) for output in noise_outputs])),
            "accuracy": accuracy(fuse_pairs(sample, fuse_with_noise(noise_outputs, face=False)), sample.truth),
        },
    }


def threshold_metrics(fused: F32, truth: I64, stated: dict[str, float] | None) -> dict[str, Any] | None:
    """Compare the precision that a bundle states for its confidence threshold with the one measured on these pairs.

    Returns None if the bundle states none. `right` is None if no output reaches the threshold.
    """
    if stated is None:
        return None
    above = fused.max(axis=1) >= stated["threshold"]
    correct = fused.argmax(axis=1) == truth
    return {
        "threshold": stated["threshold"],
        "stated": stated["right"],
        "right": float(correct[above].mean()) if above.any() else None,
        "coverage": float(above.mean()),
    }


def run_speech_branch(engine: Engine, clips: Sequence[RavdessClip]) -> ClipOutputs:
    """Return the outputs of the speech branch at each hop of each clip."""
    branch, spec = engine.speech_branch(), engine.bundle.spec.speech
    return [clip_outputs(branch, read_sound(clip.path), spec) for clip in progress(clips, "clips")]
