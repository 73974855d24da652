"""Pairs of a face image and a speech clip of different people with the same label, and the fused outputs for them.

Face and voice of such a pair have independent errors, so pairs are easier than recordings of one person. Every result states
this (`PAIRING`, `PAIRING_CAVEAT`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from moodring.errors import DataError
from moodring.fusion import FRESH, Fuser
from moodring.labels import CALM, LABELS, NEUTRAL
from moodring.types import F32, BranchOutput

PAIRING = "paired by class, different people"
PAIRING_CAVEAT = "independent errors make this easier than life"
SUBSAMPLE_FACTOR = 4  # experiments with many variants use one pair in this many
I64 = NDArray[np.int64]
FuseFunction = Callable[[BranchOutput, BranchOutput], F32]


@dataclass(frozen=True, slots=True)
class Sample:
    """N pairs: row i joins image `image_indices[i]` and clip `clip_indices[i]`, both of class `truth[i]`; all int64 [N].

    `face_outputs` has the face branch's output for each image, `speech_outputs` the speech branch's outputs at each hop of each
    clip. `mismatched_images` and `mismatched_clips` index an image and a clip of another class than the pair's.
    """

    face_outputs: Sequence[BranchOutput] | dict[int, BranchOutput]
    speech_outputs: Sequence[Sequence[BranchOutput]]
    image_indices: I64
    clip_indices: I64
    truth: I64
    mismatched_images: I64
    mismatched_clips: I64


def draw_pairs(face_labels: I64, clip_labels: I64, pairs: int, seed: int) -> tuple[I64, I64]:
    """Draw `pairs` clips uniformly, and for each an image of its class; return image and clip indices, int64 [pairs] each.

    A calm clip gets a neutral image. Raises DataError if a class has no image.
    """
    rng = np.random.default_rng(seed)
    clip_indices = rng.integers(len(clip_labels), size=pairs)
    return _draw_of_class(face_labels, _merge_calm_labels(clip_labels[clip_indices]), rng), clip_indices


def draw_others(labels: I64, wanted: I64, seed: int) -> I64:
    """Draw for each label of `wanted` a row of `labels` with another class; return int64 [N]. Calm counts as neutral.

    Raises DataError if `labels` has fewer than two classes.
    """
    rng = np.random.default_rng([seed, 1])
    merged_labels, merged_wanted = _merge_calm_labels(labels), _merge_calm_labels(wanted)
    present = np.unique(merged_labels)
    if len(present) < 2:
        raise DataError("all labels are of one class; conflicting pairs need at least two classes")
    shifted = rng.integers(1, len(present), len(merged_wanted)) + np.searchsorted(present, merged_wanted)
    return _draw_of_class(merged_labels, present[shifted % len(present)], rng)


def _merge_calm_labels(labels: I64) -> I64:
    """Replace calm with neutral: the face branch has no calm."""
    return np.where(labels == CALM, NEUTRAL, labels)


def _draw_of_class(labels: I64, wanted: I64, rng: np.random.Generator) -> I64:
    rows = np.empty(len(wanted), np.int64)
    for label in np.unique(wanted):
        pool = np.flatnonzero(labels == label)
        if not len(pool):
            raise DataError(f"the data has {LABELS[label]} clips but no {LABELS[label]} image to pair with them")
        mask = wanted == label
        rows[mask] = rng.choice(pool, int(mask.sum()))
    return rows


def subsample_pairs(sample: Sample) -> Sample:
    """Return the first of a sample's pairs, one in `SUBSAMPLE_FACTOR`."""
    count = max(1, len(sample.truth) // SUBSAMPLE_FACTOR)
    names = ("image_indices", "clip_indices", "truth", "mismatched_images", "mismatched_clips")
    return dataclasses.replace(sample, **{name: getattr(sample, name)[:count] for name in names})


def fuse_pairs(sample: Sample, fuse: FuseFunction, *, conflicting_face: bool = False, conflicting_voice: bool = False) -> F32:
    """Return the fused probabilities of each pair, float32 [N, 8]: the mean of `fuse` over the hops of the clip.

    A conflicting modality comes from the pair's mismatched image or clip.
    """
    image_indices = sample.mismatched_images if conflicting_face else sample.image_indices
    clip_indices = sample.mismatched_clips if conflicting_voice else sample.clip_indices
    return np.stack(
        [
            np.mean([fuse(sample.face_outputs[image_index], hop) for hop in sample.speech_outputs[clip]], axis=0)
            for image_index, clip in zip(image_indices.tolist(), clip_indices.tolist(), strict=True)
        ]
    )


def fuse_with_ablations(sample: Sample, fuser: Fuser) -> dict[str, F32]:
    """Return the probabilities of both modalities fused, of each branch alone, and of the fuser with one modality missing.

    Each is float32 [N, 8].
    """
    return {
        "fused": fuse_pairs(sample, fuser.fuse),
        "face_alone": fuse_pairs(sample, lambda face, _: face.probabilities),
        "speech_alone": fuse_pairs(sample, lambda _, voice: voice.probabilities),
        "speech_missing": fuse_pairs(sample, lambda face, _: fuser.fuse(face, None)),
        "face_missing": fuse_pairs(sample, lambda _, voice: fuser.fuse(None, voice)),
    }


def fuse_conflicting(sample: Sample, fuser: Fuser, freshness: Sequence[float]) -> dict[str, dict[str, F32]]:
    """Return the fused probabilities when one modality is of another class, as with a frozen camera or a radio.

    The result is keyed by the conflicting modality and its freshness, float32 [N, 8] each.
    """

    def fused(**fresh: float) -> FuseFunction:
        both = (fresh.get("face", FRESH[0]), fresh.get("speech", FRESH[1]))
        return lambda face, voice: fuser.fuse(face, voice, both)

    return {
        "face": {f"{f:g}": fuse_pairs(sample, fused(face=f), conflicting_face=True) for f in freshness},
        "speech": {f"{f:g}": fuse_pairs(sample, fused(speech=f), conflicting_voice=True) for f in freshness},
    }


def merge_calm(probabilities: F32, truth: I64) -> tuple[F32, I64]:
    """Add calm to neutral in the probabilities, float32 [N, 8], and in the true labels, int64 [N]."""
    merged = probabilities.copy()
    merged[:, NEUTRAL] += merged[:, CALM]
    merged[:, CALM] = 0.0
    return merged, _merge_calm_labels(truth)
