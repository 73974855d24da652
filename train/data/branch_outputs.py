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
from moodring.train.data.splits import ACTORS_PER_FOLD, FOLDS
from moodring.train.models.face import FaceNet
from moodring.train.models.fusion import OUTPUTS
from moodring.train.models.speech import SpeechNet
from moodring.train.run_folder import load_weights, read_card, softmax
from moodring.types import BranchOutput

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
FOLD_BUNDLES = Path(__file__).parents[1] / "folds"
NO_LABEL = -1


@dataclass(frozen=True)
class Branches:
    """The two trained branches and their cards."""

    face: FaceNet
    speech: SpeechNet
    face_card: dict[str, Any]
    speech_card: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FaceOutputs:
    """What the face branch says of N pictures: by label set its calibrated `answers` [N, 7] and the `labels` [N], -1 for none.

    `prior` [7] are the shares of the classes in the pictures that trained it, by label set.
    """

    posteriors: dict[str, F32]
    labels: dict[str, I64]
    prior: dict[str, F32]


@dataclass(frozen=True, slots=True)
class SpeechOutputs:
    """What the speech branch says at H hops of C clips: calibrated `answers` [H, 8], whose clip each is, `labels` [C]."""

    posteriors: F32
    clip: I64
    labels: I64

    def windows(self, clips: I64) -> tuple[I64, I64]:
        """Return the rows of all hops of these clips, one clip after another, and which of the clips each is of."""
        first = np.searchsorted(self.clip, np.arange(len(self.labels)))
        length = np.bincount(self.clip, minlength=len(self.labels))[clips]
        owner = np.repeat(np.arange(len(clips)), length)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(length) - length, length)
        return first[clips][owner] + within, owner


def load_branches(out_dir: Path) -> Branches:
    """Load the branches from the same folder, or the committed ones where it has none."""
    found = {}
    for kind in ("face", "speech"):
        folder = out_dir if (out_dir / f"{kind}.safetensors").is_file() else CHECKPOINTS
        found[kind] = (folder, read_card(folder, kind))
    face_net = load_weights(found["face"][0], "face", FaceNet(**found["face"][1]["network"]))
    speech_net = load_weights(found["speech"][0], "speech", SpeechNet(**found["speech"][1]["network"]))
    return Branches(face_net, speech_net, found["face"][1], found["speech"][1])


def predict_faces(branches: Branches, data: FaceData, rows: I64) -> FaceOutputs:
    """Let the face network read pictures of FER2013; `data` holds no labels of its test parts, so they have none here."""
    outs = face.predict(branches.face, data.faces[rows])
    targets = {"official": data.official, "ferplus": data.ferplus}
    return FaceOutputs(
        posteriors={head: softmax(outs[head], branches.face_card["temperature"][head]).astype(np.float32) for head in OUTPUTS},
        labels={head: majority_labels(targets[head][rows]) for head in OUTPUTS},
        prior={head: class_prior(majority_labels(targets[head][data.split.train])) for head in OUTPUTS},
    )


def majority_labels(targets: F32) -> I64:
    """Return the first class of each distribution [N, 7]; -1 where there is none, or two are as likely."""
    top = targets.max(axis=1)
    tied = (targets >= top[:, None] - 1e-6).sum(axis=1) > 1
    return np.where((top > 0) & ~tied, targets.argmax(axis=1), NO_LABEL)


def class_prior(labels: I64) -> F32:
    counts = np.bincount(labels[labels != NO_LABEL], minlength=FACE_CLASSES) + 1.0
    return (counts / counts.sum()).astype(np.float32)


def fold_of(actor: int) -> int:
    """Return the fold whose speech network never heard this actor; none of them heard those beyond the folds'."""
    return (actor - 1) // ACTORS_PER_FOLD % FOLDS


def fold_bundle(fold: int) -> Bundle:
    """Load the speech bundle of a fold, whose network never heard that fold's actors."""
    return bundles.load(FOLD_BUNDLES / f"fold{fold}", ("speech",))


def predict_held_out(clips: Sequence[RavdessClip]) -> list[list[BranchOutput]]:
    """Let each clip be read, hop by hop as the runtime would, by the speech network that never heard its actor."""
    opened = [fold_bundle(fold) for fold in range(FOLDS)]
    branches = [SpeechBranch(bundle.open("speech"), bundle.models["speech"]) for bundle in opened]
    folds = [fold_of(clip.actor) for clip in clips]
    return [
        clip_outputs(branches[fold], read_sound(clip.path), opened[fold].spec.speech)
        for fold, clip in zip(folds, clips, strict=True)
    ]


def stack_speech_outputs(clips: Sequence[RavdessClip], outputs: Sequence[Sequence[BranchOutput]]) -> SpeechOutputs:
    """Put what was said at the hops of these clips one after another."""
    clip_of_hop = np.repeat(np.arange(len(clips)), [len(windows) for windows in outputs])
    posteriors = np.stack([output.probabilities for windows in outputs for output in windows])
    return SpeechOutputs(posteriors, clip_of_hop, np.array([clip.label for clip in clips], np.int64))


def exclude_fold(clips: Sequence[RavdessClip], fold: int | None) -> list[RavdessClip]:
    """Return the clips of all actors but those that a fold keeps unheard."""
    kept = [clip for clip in clips if fold is None or fold_of(clip.actor) != fold or clip.actor > ACTORS_PER_FOLD * FOLDS]
    if not kept:
        raise DataError(f"all recordings are of actors that fold {fold} keeps unheard: none are left to train the fusion on")
    return kept


def calibrated_heads(branches: Branches) -> tuple[dict[str, tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
    """Return what the heads of both branches read in their embeddings, their temperatures applied."""

    def calibrated(head: nn.Linear, temperature: float) -> tuple[Tensor, Tensor]:
        return head.weight.detach() / temperature, head.bias.detach() / temperature

    faces = {head: calibrated(getattr(branches.face, head), branches.face_card["temperature"][head]) for head in OUTPUTS}
    return faces, calibrated(branches.speech.logits, branches.speech_card["temperature"]["logits"])


@dataclass(frozen=True, slots=True)
class ClipPairs:
    """Whole clips paired with pictures by one label set: rows of faces, all hops of each pair's clip, and the truth [N]."""

    face_rows: I64
    windows: I64
    pair_index: I64  # whose pair each hop is
    truth: I64

    def mean(self, by_hop: NDArray[Any]) -> NDArray[np.float64]:
        """Average what was said at each pair's hops, [N, 8]."""
        sums = np.zeros((len(self.truth), CLASSES))
        np.add.at(sums, self.pair_index, by_hop)
        return sums / np.bincount(self.pair_index)[:, None]


def draw_clip_pairs(face_labels: I64, voices: SpeechOutputs, count: int, seed: int) -> ClipPairs:
    face_rows, clips = draw_pairs(face_labels, voices.labels, count, seed)
    return ClipPairs(face_rows, *voices.windows(clips), voices.labels[clips])
