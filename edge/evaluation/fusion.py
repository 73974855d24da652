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

from edge.errors import DataError
from edge.evaluation.engine import Engine, progress
from edge.evaluation.metrics import classification_metrics
from edge.evaluation.readers import RavdessClip, read_fer2013, read_sound
from edge.evaluation.speech import clip_outputs, select_clips
from edge.features.face_crop import resize_crop
from edge.fusion import Method
from edge.labels import CALM, LABELS, NEUTRAL
from edge.types import F32, U8, BranchOutput, FaceCrop

PAIRING = "paired by class, different people"
I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pairing:
    """Where the pictures and the clips of the pairs come from."""

    fer2013: Path
    split: str
    ravdess: Path
    actors: Sequence[int] | None


def draw_pairs(face_labels: I64, clip_labels: I64, pairs: int, seed: int) -> tuple[I64, I64]:
    """Draw `pairs` clips evenly, and for each a picture of its class (calm voices: neutral faces); return both indices."""
    rng = np.random.default_rng(seed)
    clips = rng.integers(len(clip_labels), size=pairs)
    wanted = np.where(clip_labels[clips] == CALM, NEUTRAL, clip_labels[clips])
    pictures = np.empty(pairs, np.int64)
    for label in np.unique(wanted):
        pool = np.flatnonzero(face_labels == label)
        if not len(pool):
            raise DataError(f"there is no {LABELS[label]} picture to pair with the {LABELS[label]} clips")
        places = wanted == label
        pictures[places] = rng.choice(pool, int(places.sum()))
    return pictures, clips


def evaluate_pairs(engine: Engine, pairing: Pairing, *, pairs: int, seed: int, method: Method) -> dict[str, Any]:
    """Evaluate fusion on pairs, beside each branch alone on the same pairs, and with one modality missing."""
    data = read_fer2013(pairing.fer2013)
    part = data.usage == pairing.split
    if not part.any():
        raise DataError(f"{pairing.fer2013}: has no rows of {pairing.split}; it may be a partial download")
    clips = select_clips(pairing.ravdess, pairing.actors)
    truth_of_clip = np.array([clip.label for clip in clips], np.int64)
    pictures, chosen = draw_pairs(data.labels[part], truth_of_clip, pairs, seed)
    faces = _face_outputs(engine, data.faces[part], pictures)
    voices = _voice_outputs(engine, clips)
    truth = truth_of_clip[chosen]
    fuser = engine.fuser(method)

    def answers(fuse: Callable[[BranchOutput, BranchOutput], F32]) -> F32:
        """A pair's answer is the mean over the clip's hops."""
        return np.stack(
            [
                np.mean([fuse(faces[picture], hop) for hop in voices[clip]], axis=0)
                for picture, clip in zip(pictures.tolist(), chosen.tolist(), strict=True)
            ]
        )

    fused = answers(fuser.fuse)
    return classification_metrics(fused, truth) | {
        "pairing": PAIRING,
        "split": pairing.split,
        "actors": sorted({clip.actor for clip in clips}),
        "method": method,
        "pairs": pairs,
        "seed": seed,
        "merged_calm": _merged(fused, truth),
        "face_alone": classification_metrics(answers(lambda face, _: face.probabilities), truth),
        "speech_alone": classification_metrics(answers(lambda _, voice: voice.probabilities), truth),
        "speech_missing": classification_metrics(answers(lambda face, _: fuser.fuse(face, None)), truth),
        "face_missing": classification_metrics(answers(lambda _, voice: fuser.fuse(None, voice)), truth),
    }


def _face_outputs(engine: Engine, faces: U8, wanted: I64) -> dict[int, BranchOutput]:
    """The pairs' truth is FER2013's official label, so the official head answers."""
    branch, size = engine.face("official"), engine.bundle.spec.face.size
    return {
        index: branch.run(FaceCrop(resize_crop(faces[index], size), 0, 1.0))
        for index in progress(np.unique(wanted).tolist(), "pictures")
    }


def _voice_outputs(engine: Engine, clips: Sequence[RavdessClip]) -> list[list[BranchOutput]]:
    branch, spec = engine.speech(), engine.bundle.spec.speech
    return [clip_outputs(branch, read_sound(clip.path), spec) for clip in progress(clips, "clips")]


def _merged(probabilities: F32, truth: I64) -> dict[str, Any]:
    """Return the figures with calm counted as neutral, on both sides."""
    merged = probabilities.copy()
    merged[:, NEUTRAL] += merged[:, CALM]
    merged[:, CALM] = 0.0
    return classification_metrics(merged, np.where(truth == CALM, NEUTRAL, truth))
