"""The two sides of a fusion, as what their branches say: pictures that trained nothing, and voices that were never heard.

A picture is one that chose the face network and did not train it. A voice is read by the one of five speech networks that
never heard its actor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from moodring.errors import DataError
from moodring.evaluation.data.readers import RavdessClip, read_sound
from moodring.evaluation.pairs import draw_pairs
from moodring.evaluation.speech import clip_outputs
from moodring.inference import bundle as bundles
from moodring.inference.branches import SpeechBranch
from moodring.inference.bundle import Bundle
from moodring.labels import CLASSES, FACE_CLASSES
from moodring.train import face
from moodring.train.data.faces import FaceData
from moodring.train.data.splits import ACTORS_A_FOLD, FOLDS
from moodring.train.models.face import FaceNet
from moodring.train.models.fusion import OUTPUTS
from moodring.train.models.speech import SpeechNet
from moodring.train.run_folder import load_weights, read_card, softmax
from moodring.types import BranchOutput

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
FOLD_BUNDLES = Path(__file__).parents[1] / "folds"
UNKNOWN = -1


@dataclass(frozen=True)
class Branches:
    """The two trained branches and their cards."""

    face: FaceNet
    speech: SpeechNet
    face_card: dict[str, Any]
    speech_card: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Faces:
    """What the face branch says of N pictures: by label set its calibrated `answers` [N, 7] and the `labels` [N], -1 for none.

    `prior` [7] are the shares of the classes in the pictures that trained it, by label set.
    """

    answers: dict[str, F32]
    labels: dict[str, I64]
    prior: dict[str, F32]


@dataclass(frozen=True, slots=True)
class Voices:
    """What the speech branch says at H hops of C clips: calibrated `answers` [H, 8], whose clip each is, `labels` [C]."""

    answers: F32
    clip: I64
    labels: I64

    def hops(self, clips: I64) -> tuple[I64, I64]:
        """Return the rows of all hops of these clips, one clip after another, and which of the clips each is of."""
        first = np.searchsorted(self.clip, np.arange(len(self.labels)))
        length = np.bincount(self.clip, minlength=len(self.labels))[clips]
        whose = np.repeat(np.arange(len(clips)), length)
        within = np.arange(len(whose)) - np.repeat(np.cumsum(length) - length, length)
        return first[clips][whose] + within, whose


def load_branches(out_dir: Path) -> Branches:
    """Load the branches from the same folder, or the committed ones where it has none."""
    found = {}
    for kind in ("face", "speech"):
        folder = out_dir if (out_dir / f"{kind}.safetensors").is_file() else CHECKPOINTS
        found[kind] = (folder, read_card(folder, kind))
    face_net = load_weights(found["face"][0], "face", FaceNet(**found["face"][1]["network"]))
    speech_net = load_weights(found["speech"][0], "speech", SpeechNet(**found["speech"][1]["network"]))
    return Branches(face_net, speech_net, found["face"][1], found["speech"][1])


def read_faces(branches: Branches, data: FaceData, rows: I64) -> Faces:
    """Let the face network read pictures of FER2013; `data` holds no labels of its test parts, so they have none here."""
    outs = face.answers(branches.face, data.faces[rows])
    targets = {"official": data.official, "ferplus": data.ferplus}
    return Faces(
        answers={head: softmax(outs[head], branches.face_card["temperature"][head]).astype(np.float32) for head in OUTPUTS},
        labels={head: majority(targets[head][rows]) for head in OUTPUTS},
        prior={head: shares(majority(targets[head][data.split.train])) for head in OUTPUTS},
    )


def majority(targets: F32) -> I64:
    """Return the first class of each distribution [N, 7]; -1 where there is none, or two are as likely."""
    top = targets.max(axis=1)
    tied = (targets >= top[:, None] - 1e-6).sum(axis=1) > 1
    return np.where((top > 0) & ~tied, targets.argmax(axis=1), UNKNOWN)


def shares(labels: I64) -> F32:
    counts = np.bincount(labels[labels != UNKNOWN], minlength=FACE_CLASSES) + 1.0
    return (counts / counts.sum()).astype(np.float32)


def fold_of(actor: int) -> int:
    """Return the fold whose speech network never heard this actor; none of them heard those beyond the folds'."""
    return (actor - 1) // ACTORS_A_FOLD % FOLDS


def fold_bundle(fold: int) -> Bundle:
    """Load the speech bundle of a fold, whose network never heard that fold's actors."""
    return bundles.load(FOLD_BUNDLES / f"fold{fold}", ("speech",))


def read_unheard(clips: Sequence[RavdessClip]) -> list[list[BranchOutput]]:
    """Let each clip be read, hop by hop as the runtime would, by the speech network that never heard its actor."""
    opened = [fold_bundle(fold) for fold in range(FOLDS)]
    branches = [SpeechBranch(bundle.open("speech"), bundle.models["speech"]) for bundle in opened]
    folds = [fold_of(clip.actor) for clip in clips]
    return [
        clip_outputs(branches[fold], read_sound(clip.path), opened[fold].spec.speech)
        for fold, clip in zip(folds, clips, strict=True)
    ]


def voices_of(clips: Sequence[RavdessClip], outputs: Sequence[Sequence[BranchOutput]]) -> Voices:
    """Put what was said at the hops of these clips one after another."""
    clip_of_hop = np.repeat(np.arange(len(clips)), [len(hops) for hops in outputs])
    answers = np.stack([output.probabilities for hops in outputs for output in hops])
    return Voices(answers, clip_of_hop, np.array([clip.label for clip in clips], np.int64))


def without_fold(clips: Sequence[RavdessClip], fold: int | None) -> list[RavdessClip]:
    """Return the clips of all actors but those that a fold keeps unheard."""
    kept = [clip for clip in clips if fold is None or fold_of(clip.actor) != fold or clip.actor > ACTORS_A_FOLD * FOLDS]
    if not kept:
        raise DataError(f"all recordings are of actors that fold {fold} keeps unheard: none are left to train the fusion on")
    return kept


def heads_of(branches: Branches) -> tuple[dict[str, tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
    """Return what the heads of both branches read in their embeddings, their temperatures applied."""

    def calibrated(head: nn.Linear, temperature: float) -> tuple[Tensor, Tensor]:
        return head.weight.detach() / temperature, head.bias.detach() / temperature

    faces = {head: calibrated(getattr(branches.face, head), branches.face_card["temperature"][head]) for head in OUTPUTS}
    return faces, calibrated(branches.speech.logits, branches.speech_card["temperature"]["logits"])


@dataclass(frozen=True, slots=True)
class Pairs:
    """Whole clips paired with pictures by one label set: rows of faces, all hops of each pair's clip, and the truth [N]."""

    pictures: I64
    hops: I64
    pair: I64  # whose pair each hop is
    truth: I64

    def mean(self, by_hop: NDArray[Any]) -> NDArray[np.float64]:
        """Average what was said at each pair's hops, [N, 8]."""
        sums = np.zeros((len(self.truth), CLASSES))
        np.add.at(sums, self.pair, by_hop)
        return sums / np.bincount(self.pair)[:, None]


def whole_pairs(face_labels: I64, voices: Voices, count: int, seed: int) -> Pairs:
    pictures, clips = draw_pairs(face_labels, voices.labels, count, seed)
    return Pairs(pictures, *voices.hops(clips), voices.labels[clips])
