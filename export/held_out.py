"""Held-out data for the comparison of variants: images and clips that were not used to train, select, calibrate or quantise.

A speech network that was trained on every actor has no held-out clips. Its variants are then compared on clips of the
validation actors, and the description says that they were used for training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moodring.evaluation.data.readers import list_ravdess, read_fer2013, read_sound
from moodring.evaluation.pairs import draw_pairs
from moodring.export.networks import Network
from moodring.export.quantization.data import FACE_HEAD, I64, Feed, Inputs, QuantizationData
from moodring.features.face.crop import normalize_crops
from moodring.features.spec import PreprocessSpec
from moodring.train.data.faces import find_fer2013
from moodring.train.data.voices import clip_windows, find_ravdess

SPLIT = "PublicTest"  # the FER2013 split that selects, trains and calibrates nothing
PAIR_COUNT = 2000
SEED = 0


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Inputs of one network in groups: input i belongs to group `groups[i]`, whose label is `labels[groups[i]]`.

    The prediction of a group is the mean over its inputs, for example over the windows of a clip. `head` is the output that is
    compared with the labels.
    """

    description: str
    head: str
    inputs: Inputs
    groups: I64
    labels: I64


@dataclass(frozen=True, slots=True)
class Pairs:
    """Images and clips paired by class: pair i is image `images[i]` with every window of clip `clips[i]`, label `labels[i]`."""

    description: str
    images: I64
    clips: I64
    labels: I64


def held_out(networks: dict[str, Network], data_dir: Path, spec: PreprocessSpec) -> tuple[dict[str, HeldOut], Pairs]:
    """Read the held-out data of face and speech by network, and pair them for fusion.

    Face uses FER2013's PublicTest; speech uses the test actors of its card, or else its validation actors.
    """
    fer = read_fer2013(find_fer2013(data_dir)[0])
    rows = np.flatnonzero(fer.usage == SPLIT)
    crops = [{"crop": crop[None]} for crop in normalize_crops(fer.faces[rows])]
    face = HeldOut(f"FER2013 {SPLIT}, official labels", FACE_HEAD, crops, np.arange(len(rows)), fer.labels[rows])
    speech = _speech_data(networks["speech"], data_dir, spec)
    images, clips = draw_pairs(face.labels, speech.labels, PAIR_COUNT, SEED)
    description = f"{PAIR_COUNT} pairs of these images and clips, paired by class, different people"
    return {"face": face, "speech": speech}, Pairs(description, images, clips, speech.labels[clips])


def _speech_data(network: Network, data_dir: Path, spec: PreprocessSpec) -> HeldOut:
    actors = network.card.get("actors", {})
    part = "test" if actors.get("test") else "validation"
    trained_actors = set(actors.get(part, ())) & set(actors.get("train", ()))
    note = ", also used for training" if trained_actors else ""
    chosen = [clip for clip in list_ravdess(find_ravdess(data_dir)) if clip.actor in actors.get(part, [clip.actor])]
    windows: list[Feed] = []
    groups: list[int] = []
    for index, clip in enumerate(chosen):
        pieces = clip_windows(read_sound(clip.path), spec.speech)
        windows += [{"window": piece[None]} for piece in pieces]
        groups += [index] * len(pieces)
    actors_text = ", ".join(map(str, sorted({clip.actor for clip in chosen})))
    labels = np.array([clip.label for clip in chosen], np.int64)
    return HeldOut(f"RAVDESS actors {actors_text} ({part}{note})", "logits", windows, np.array(groups, np.int64), labels)


def validation(kind: str, quantization_data: QuantizationData) -> HeldOut:
    """Return the validation data of a custom model as held-out data."""
    count = len(quantization_data.labels)
    return HeldOut(
        f"{count} validation inputs of the custom {kind} network",
        "logits",
        quantization_data.validation,
        np.arange(count),
        quantization_data.labels,
    )
