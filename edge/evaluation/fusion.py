"""How well face and voice are read together, on pairs drawn by class: a picture and a clip of different people.

The errors of such pairs are independent, which makes them easier than life: every result says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.errors import DataError
from moodring.evaluation.data.readers import RavdessClip, read_fer2013, read_ferplus, read_sound
from moodring.evaluation.engine import Engine, progress
from moodring.evaluation.face import ferplus_majority
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
FRESHNESS = (1.0, 0.5, 0.2)
NO_LABEL = -1


@dataclass(frozen=True, slots=True)
class Pairing:
    """Where the pictures and the clips of the pairs come from; with `ferplus` pairs are drawn by its majority as well."""

    fer2013: Path
    split: str
    ravdess: Path
    actors: Sequence[int] | None
    ferplus: Path | None = None


@dataclass(frozen=True, slots=True)
class FaceImages:
    """One part of FER2013: `faces` uint8 [N, 48, 48]; `labels` int64 [N] by label set, -1 where it has none."""

    faces: U8
    labels: dict[str, I64]


def read_face_images(fer2013: Path, ferplus: Path | None, split: str) -> FaceImages:
    """Read one part of FER2013 with its official labels and, where FER+ is given, the majority of its voters."""
    data = read_fer2013(fer2013)
    part = data.usage == split
    if not part.any():
        raise DataError(f"{fer2013}: has no rows of {split}; it may be a partial download")
    labels = {"official": data.labels[part]}
    if ferplus is not None:
        labels["ferplus"] = ferplus_majority(read_ferplus(ferplus, len(data.labels)).votes[part])
    return FaceImages(data.faces[part], labels)


def draw_sample(
    engine: Engine, head: str, images: FaceImages, speech_outputs: ClipOutputs, clip_labels: I64, *, pairs: int, seed: int
) -> Sample:
    """Draw pairs by the labels of `head`, and let that head of the face branch read the pictures they need."""
    chosen, clips = draw_pairs(images.labels[head], clip_labels, pairs, seed)
    truth = clip_labels[clips]
    mismatched_images = draw_others(_labelled(images.labels[head]), truth, seed)
    labelled_rows = np.flatnonzero(images.labels[head] != NO_LABEL)
    mismatched_images = labelled_rows[mismatched_images]
    mismatched_clips = draw_others(clip_labels, truth, seed)
    branch, size = engine.face(head), engine.bundle.spec.face.size
    wanted = np.unique(np.concatenate([chosen, mismatched_images])).tolist()
    faces = {
        index: branch.run(FaceCrop(resize_crop(images.faces[index], size), 0, 1.0))
        for index in progress(wanted, f"pictures, {head}")
    }
    return Sample(faces, speech_outputs, chosen, clips, truth, mismatched_images, mismatched_clips)


def _labelled(labels: I64) -> I64:
    return np.asarray(labels[labels != NO_LABEL], np.int64)


def evaluate_pairs(engine: Engine, pairing: Pairing, *, pairs: int, seed: int, method: Method) -> dict[str, Any]:
    """Evaluate fusion on pairs, beside each branch alone on the same pairs, and with one modality missing or wrong.

    The top-level figures are those of pairs by FER2013's official label, read by the official head; `by_label_set` has them
    by FER+ too, where it is given.
    """
    images = read_face_images(pairing.fer2013, pairing.ferplus, pairing.split)
    clips = select_clips(pairing.ravdess, pairing.actors)
    truth_of_clip = np.array([clip.label for clip in clips], np.int64)
    speech_outputs = run_speech_branch(engine, clips)
    by_label_set = {}
    for head in images.labels:
        sample = draw_sample(engine, head, images, speech_outputs, truth_of_clip, pairs=pairs, seed=seed)
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
    """Return the figures of the fused answers, and under their names those of all others."""
    fused = outputs["fused"]
    return classification_metrics(fused, truth) | {
        "reliability": reliability(fused, truth),
        "risk_coverage": risk_coverage(fused, truth),
        "merged_calm": classification_metrics(*merge_calm(fused, truth)),
        **{name: classification_metrics(each, truth) for name, each in outputs.items() if name != "fused"},
        "face_alone_merged_calm": classification_metrics(*merge_calm(outputs["face_alone"], truth)),
        "speech_alone_merged_calm": classification_metrics(*merge_calm(outputs["speech_alone"], truth)),
    }


def conflict_metrics(conflicting: dict[str, dict[str, F32]], outputs: dict[str, F32], sample: Sample) -> dict[str, Any]:
    """Return how often the fused answer stays with the right side when the other one shows another class."""
    alone = {"face": outputs["speech_alone"], "speech": outputs["face_alone"]}
    count = len(sample.truth)  # these are the first of all pairs
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
    """Return what becomes of pairs when one side is noise: what is no face or no speech is refused, as the daemon does."""
    rng = np.random.default_rng([seed, 2])
    size, branch = engine.bundle.spec.face.size, engine.face(head)
    noise_faces = [branch.run(FaceCrop(rng.integers(0, 256, (size, size)).astype(np.uint8), 0, 1.0)) for _ in range(64)]
    spec = engine.bundle.spec.speech
    sounds = [(0.1 * rng.standard_normal(3 * spec.mfcc.rate_hz)).astype(np.float32) for _ in range(8)]
    noise_outputs = [hop for sound in sounds for hop in clip_outputs(engine.speech(), sound, spec)[-1:]]
    models = engine.bundle.models

    def rejected(output: BranchOutput) -> bool:
        return output.usable < models[output.modality].usable_threshold

    def noisy(others: list[BranchOutput], *, face: bool) -> Callable[[BranchOutput, BranchOutput], F32]:
        def fuse(seen: BranchOutput, heard: BranchOutput) -> F32:
            other = others[int(rng.integers(len(others)))]
            kept = None if rejected(other) else other
            return fuser.fuse(kept, heard) if face else fuser.fuse(seen, kept)

        return fuse

    return {
        "face": {
            "refused": float(np.mean([rejected(output) for output in noise_faces])),
            "accuracy": accuracy(fuse_pairs(sample, noisy(noise_faces, face=True)), sample.truth),
        },
        "speech": {
            "refused": float(np.mean([rejected(output) for output in noise_outputs])),
            "accuracy": accuracy(fuse_pairs(sample, noisy(noise_outputs, face=False)), sample.truth),
        },
    }


def threshold_metrics(fused: F32, truth: I64, stated: dict[str, float] | None) -> dict[str, Any] | None:
    """Hold a bundle's statement, that answers from a confidence on are right so often, against these pairs."""
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
    """Return what the speech branch says at each hop of each clip."""
    branch, spec = engine.speech(), engine.bundle.spec.speech
    return [clip_outputs(branch, read_sound(clip.path), spec) for clip in progress(clips, "clips")]
