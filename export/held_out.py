"""What forms are compared on: pictures and voices that trained, chose, calibrated and quantised nothing.

Of a speech network that was trained on everyone there are no such voices: its forms are compared on some that it knows, and the
comparison says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from moodring.evaluation.data.readers import list_ravdess, read_fer2013, read_sound
from moodring.evaluation.pairs import draw_pairs
from moodring.export.networks import Network
from moodring.export.quantization.data import FACE_HEAD, Inputs, QuantizationData
from moodring.features.face.crop import normalize_crops
from moodring.features.spec import PreprocessSpec
from moodring.train.data.faces import find_fer2013
from moodring.train.data.voices import clip_windows, find_ravdess

I64 = NDArray[np.int64]

SPLIT = "PublicTest"
PAIR_COUNT = 2000
SEED = 0


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Inputs of one network; input i belongs to answer `groups[i]`, whose truth is `labels[groups[i]]`.

    An answer is the mean over its inputs: a clip's over its hops. `head` is the output that answers.
    """

    description: str
    head: str
    inputs: Inputs
    groups: I64
    labels: I64


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pictures and clips joined by class: answer i is of `pictures[i]` with every hop of `clips[i]`, its truth `labels[i]`."""

    description: str
    images: I64
    clips: I64
    labels: I64


def held_out(networks: dict[str, Network], data_dir: Path, spec: PreprocessSpec) -> tuple[dict[str, HeldOut], Pairs]:
    """Read FER2013's PublicTest, the voices of actors whom the speech network never heard (if there are any), and pair them."""
    fer = read_fer2013(find_fer2013(data_dir)[0])
    rows = np.flatnonzero(fer.usage == SPLIT)
    crops = [{"crop": crop[None]} for crop in normalize_crops(fer.faces[rows])]
    face = HeldOut(f"FER2013 {SPLIT}, official labels", FACE_HEAD, crops, np.arange(len(rows)), fer.labels[rows])
    speech = _speech_data(networks["speech"], data_dir, spec)
    images, clips = draw_pairs(face.labels, speech.labels, PAIR_COUNT, SEED)
    description = f"{PAIR_COUNT} pairs by class of both, different people"
    return {"face": face, "speech": speech}, Pairs(description, images, clips, speech.labels[clips])


def _speech_data(network: Network, data_dir: Path, spec: PreprocessSpec) -> HeldOut:
    actors = network.card.get("actors", {})
    part = "test" if actors.get("test") else "validation"
    trained_actors = set(actors.get(part, ())) & set(actors.get("train", ()))
    note = " of those it was trained on" if trained_actors else ""
    chosen = [clip for clip in list_ravdess(find_ravdess(data_dir)) if clip.actor in actors.get(part, [clip.actor])]
    windows: Inputs = []
    groups: list[int] = []
    for index, clip in enumerate(chosen):
        pieces = clip_windows(read_sound(clip.path), spec.speech)
        windows += [{"window": piece[None]} for piece in pieces]
        groups += [index] * len(pieces)
    actors_text = ", ".join(map(str, sorted({clip.actor for clip in chosen})))
    labels = np.array([clip.label for clip in chosen], np.int64)
    return HeldOut(f"RAVDESS actors {actors_text} ({part}{note})", "logits", windows, np.array(groups, np.int64), labels)


def validation(kind: str, quantization_data: QuantizationData) -> HeldOut:
    """Return what a network of one's own brings along to be judged by, as held-out inputs."""
    count = len(quantization_data.labels)
    return HeldOut(
        f"{count} inputs given to judge {kind}",
        "logits",
        quantization_data.validation,
        np.arange(count),
        quantization_data.labels,
    )
