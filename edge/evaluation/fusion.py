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
    EASIER,
    PAIRING,
    Sample,
    answers,
    draw_others,
    draw_pairs,
    main_answers,
    merge_calm,
    some_pairs,
    wrong_answers,
)
from moodring.evaluation.speech import clip_outputs, select_clips
from moodring.features.face.crop import resize_crop
from moodring.fusion import Fuser, Method
from moodring.types import F32, U8, BranchOutput, FaceCrop

I64 = NDArray[np.int64]
Voices = list[list[BranchOutput]]
FRESHNESS = (1.0, 0.5, 0.2)
UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class Pairing:
    """Where the pictures and the clips of the pairs come from; with `ferplus` pairs are drawn by its majority as well."""

    fer2013: Path
    split: str
    ravdess: Path
    actors: Sequence[int] | None
    ferplus: Path | None = None


@dataclass(frozen=True, slots=True)
class Pictures:
    """One part of FER2013: `faces` uint8 [N, 48, 48]; `labels` int64 [N] by label set, -1 where it has none."""

    faces: U8
    labels: dict[str, I64]


def read_pictures(fer2013: Path, ferplus: Path | None, split: str) -> Pictures:
    """Read one part of FER2013 with its official labels and, where FER+ is given, the majority of its voters."""
    data = read_fer2013(fer2013)
    part = data.usage == split
    if not part.any():
        raise DataError(f"{fer2013}: has no rows of {split}; it may be a partial download")
    labels = {"official": data.labels[part]}
    if ferplus is not None:
        labels["ferplus"] = ferplus_majority(read_ferplus(ferplus, len(data.labels)).votes[part])
    return Pictures(data.faces[part], labels)


def draw_sample(
    engine: Engine, head: str, pictures: Pictures, voices: Voices, clip_labels: I64, *, pairs: int, seed: int
) -> Sample:
    """Draw pairs by the labels of `head`, and let that head of the face branch read the pictures they need."""
    chosen, clips = draw_pairs(pictures.labels[head], clip_labels, pairs, seed)
    truth = clip_labels[clips]
    other_pictures = draw_others(_known(pictures.labels[head]), truth, seed)
    known = np.flatnonzero(pictures.labels[head] != UNKNOWN)
    other_pictures = known[other_pictures]
    other_clips = draw_others(clip_labels, truth, seed)
    branch, size = engine.face(head), engine.bundle.spec.face.size
    wanted = np.unique(np.concatenate([chosen, other_pictures])).tolist()
    faces = {
        index: branch.run(FaceCrop(resize_crop(pictures.faces[index], size), 0, 1.0))
        for index in progress(wanted, f"pictures, {head}")
    }
    return Sample(faces, voices, chosen, clips, truth, other_pictures, other_clips)


def _known(labels: I64) -> I64:
    return np.asarray(labels[labels != UNKNOWN], np.int64)


def evaluate_pairs(engine: Engine, pairing: Pairing, *, pairs: int, seed: int, method: Method) -> dict[str, Any]:
    """Evaluate fusion on pairs, beside each branch alone on the same pairs, and with one modality missing or wrong.

    The top-level figures are those of pairs by FER2013's official label, read by the official head; `by_label_set` has them
    by FER+ too, where it is given.
    """
    pictures = read_pictures(pairing.fer2013, pairing.ferplus, pairing.split)
    clips = select_clips(pairing.ravdess, pairing.actors)
    truth_of_clip = np.array([clip.label for clip in clips], np.int64)
    voices = voice_outputs(engine, clips)
    by_label_set = {}
    for head in pictures.labels:
        sample = draw_sample(engine, head, pictures, voices, truth_of_clip, pairs=pairs, seed=seed)
        fuser = engine.fuser(method, head)
        said = main_answers(sample, fuser)
        few = some_pairs(sample)
        wrong = wrong_answers(few, fuser, FRESHNESS)
        confident = (engine.bundle.models["fusion"].confident or {}).get(head) if method == "feature" else None
        by_label_set[head] = pair_figures(said, sample.truth) | {
            "wrong": wrong_figures(wrong, said, few),
            "noise": noise_figures(engine, few, fuser, head, seed),
            "confident": confident_figures(said["fused"], sample.truth, confident),
        }
    return by_label_set["official"] | {
        "pairing": PAIRING,
        "easier": EASIER,
        "split": pairing.split,
        "actors": sorted({clip.actor for clip in clips}),
        "method": method,
        "pairs": pairs,
        "seed": seed,
        "by_label_set": by_label_set,
    }


def pair_figures(said: dict[str, F32], truth: I64) -> dict[str, Any]:
    """Return the figures of the fused answers, and under their names those of all others."""
    fused = said["fused"]
    return classification_metrics(fused, truth) | {
        "reliability": reliability(fused, truth),
        "risk_coverage": risk_coverage(fused, truth),
        "merged_calm": classification_metrics(*merge_calm(fused, truth)),
        **{name: classification_metrics(each, truth) for name, each in said.items() if name != "fused"},
        "face_alone_merged_calm": classification_metrics(*merge_calm(said["face_alone"], truth)),
        "speech_alone_merged_calm": classification_metrics(*merge_calm(said["speech_alone"], truth)),
    }


def wrong_figures(wrong: dict[str, dict[str, F32]], said: dict[str, F32], sample: Sample) -> dict[str, Any]:
    """Return how often the fused answer stays with the right side when the other one shows another class."""
    alone = {"face": said["speech_alone"], "speech": said["face_alone"]}
    count = len(sample.truth)  # these are the first of all pairs
    return {
        side: {
            "pairs": count,
            "right_side_alone": accuracy(alone[side][:count], sample.truth),
            "fused_by_freshness": {fresh: accuracy(each, sample.truth) for fresh, each in by_freshness.items()},
            "confidence_by_freshness": {fresh: float(each.max(axis=1).mean()) for fresh, each in by_freshness.items()},
        }
        for side, by_freshness in wrong.items()
    }


def noise_figures(engine: Engine, sample: Sample, fuser: Fuser, head: str, seed: int) -> dict[str, Any]:
    """Return what becomes of pairs when one side is noise: what is no face or no speech is refused, as the daemon does."""
    rng = np.random.default_rng([seed, 2])
    size, branch = engine.bundle.spec.face.size, engine.face(head)
    blank = [branch.run(FaceCrop(rng.integers(0, 256, (size, size)).astype(np.uint8), 0, 1.0)) for _ in range(64)]
    spec = engine.bundle.spec.speech
    sounds = [(0.1 * rng.standard_normal(3 * spec.mfcc.rate_hz)).astype(np.float32) for _ in range(8)]
    hiss = [hop for sound in sounds for hop in clip_outputs(engine.speech(), sound, spec)[-1:]]
    models = engine.bundle.models

    def refused(output: BranchOutput) -> bool:
        return output.usable < models[output.modality].usable_threshold

    def noisy(others: list[BranchOutput], *, face: bool) -> Callable[[BranchOutput, BranchOutput], F32]:
        def fuse(seen: BranchOutput, heard: BranchOutput) -> F32:
            other = others[int(rng.integers(len(others)))]
            kept = None if refused(other) else other
            return fuser.fuse(kept, heard) if face else fuser.fuse(seen, kept)

        return fuse

    return {
        "face": {
            "refused": float(np.mean([refused(output) for output in blank])),
            "accuracy": accuracy(answers(sample, noisy(blank, face=True)), sample.truth),
        },
        "speech": {
            "refused": float(np.mean([refused(output) for output in hiss])),
            "accuracy": accuracy(answers(sample, noisy(hiss, face=False)), sample.truth),
        },
    }


def confident_figures(fused: F32, truth: I64, stated: dict[str, float] | None) -> dict[str, Any] | None:
    """Hold a bundle's statement, that answers from a confidence on are right so often, against these pairs."""
    if stated is None:
        return None
    above = fused.max(axis=1) >= stated["threshold"]
    right = fused.argmax(axis=1) == truth
    return {
        "threshold": stated["threshold"],
        "stated": stated["right"],
        "right": float(right[above].mean()) if above.any() else None,
        "coverage": float(above.mean()),
    }


def voice_outputs(engine: Engine, clips: Sequence[RavdessClip]) -> Voices:
    """Return what the speech branch says at each hop of each clip."""
    branch, spec = engine.speech(), engine.bundle.spec.speech
    return [clip_outputs(branch, read_sound(clip.path), spec) for clip in progress(clips, "clips")]
