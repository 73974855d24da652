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
from moodring.export.quantization.data import FACE_HEAD, Inputs, Material
from moodring.features.face.crop import normalise_crops
from moodring.features.spec import PreprocessSpec
from moodring.train.data.faces import find_fer2013
from moodring.train.data.voices import clip_windows, find_ravdess

I64 = NDArray[np.int64]

SPLIT = "PublicTest"
PAIRS = 2000
SEED = 0


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Inputs of one network; input i belongs to answer `groups[i]`, whose truth is `labels[groups[i]]`.

    An answer is the mean over its inputs: a clip's over its hops. `head` is the output that answers.
    """

    what: str
    head: str
    inputs: Inputs
    groups: I64
    labels: I64


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pictures and clips joined by class: answer i is of `pictures[i]` with every hop of `clips[i]`, its truth `labels[i]`."""

    what: str
    pictures: I64
    clips: I64
    labels: I64


def held_out(networks: dict[str, Network], data_dir: Path, spec: PreprocessSpec) -> tuple[dict[str, HeldOut], Pairs]:
    """Read FER2013's PublicTest, the voices of actors whom the speech network never heard (if there are any), and pair them."""
    fer = read_fer2013(find_fer2013(data_dir)[0])
    rows = np.flatnonzero(fer.usage == SPLIT)
    crops = [{"crop": crop[None]} for crop in normalise_crops(fer.faces[rows])]
    face = HeldOut(f"FER2013 {SPLIT}, official labels", FACE_HEAD, crops, np.arange(len(rows)), fer.labels[rows])
    speech = _voices(networks["speech"], data_dir, spec)
    pictures, clips = draw_pairs(face.labels, speech.labels, PAIRS, SEED)
    what = f"{PAIRS} pairs by class of both, different people"
    return {"face": face, "speech": speech}, Pairs(what, pictures, clips, speech.labels[clips])


def _voices(network: Network, data_dir: Path, spec: PreprocessSpec) -> HeldOut:
    actors = network.card.get("actors", {})
    part = "test" if actors.get("test") else "validation"
    heard = set(actors.get(part, ())) & set(actors.get("train", ()))
    known = " of those it was trained on" if heard else ""
    chosen = [clip for clip in list_ravdess(find_ravdess(data_dir)) if clip.actor in actors.get(part, [clip.actor])]
    windows: Inputs = []
    groups: list[int] = []
    for index, clip in enumerate(chosen):
        pieces = clip_windows(read_sound(clip.path), spec.speech)
        windows += [{"window": piece[None]} for piece in pieces]
        groups += [index] * len(pieces)
    who = ", ".join(map(str, sorted({clip.actor for clip in chosen})))
    labels = np.array([clip.label for clip in chosen], np.int64)
    return HeldOut(f"RAVDESS actors {who} ({part}{known})", "logits", windows, np.array(groups, np.int64), labels)


def judged(kind: str, material: Material) -> HeldOut:
    """Return what a network of one's own brings along to be judged by, as held-out inputs."""
    count = len(material.labels)
    return HeldOut(f"{count} inputs given to judge {kind}", "logits", material.judged, np.arange(count), material.labels)
