"""Branch outputs as training data of the fusion, from networks that did not train on the same images and actors.

Face outputs are for FER2013 validation images, which selected the face network but did not train it. Speech outputs of an actor
come from the fold whose network did not train on that actor.
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
from moodring.train.calibration import softmax
from moodring.train.data.faces import FaceData
from moodring.train.data.splits import ACTORS_PER_FOLD, FOLDS
from moodring.train.models import face
from moodring.train.models.face import FaceNet
from moodring.train.models.fusion import OUTPUTS
from moodring.train.models.speech import SpeechNet
from moodring.train.run_folder import load_weights, read_card
from moodring.types import F32, BranchOutput

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
    """Outputs of the face branch for N images, by label set.

    `posteriors` [N, 7] are calibrated probabilities, `labels` [N] the labels (-1: none), `prior` [7] the class frequencies of
    the training images.
    """

    posteriors: dict[str, F32]
    labels: dict[str, I64]
    prior: dict[str, F32]


@dataclass(frozen=True, slots=True)
class SpeechOutputs:
    """Outputs of the speech branch for the W windows of C clips, one clip after another.

    `posteriors` [W, 8] are calibrated probabilities, `clip_index` [W] is the clip of each window, `labels` [C] the labels.
    """

    posteriors: F32
    clip_index: I64
    labels: I64

    def windows(self, clips: I64) -> tuple[I64, I64]:
        """Return the rows of all windows of `clips` [N], one clip after another, and the position in `clips` of each row."""
        first = np.searchsorted(self.clip_index, np.arange(len(self.labels)))
        length = np.bincount(self.clip_index, minlength=len(self.labels))[clips]
        owner = np.repeat(np.arange(len(clips)), length)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(length) - length, length)
        return first[clips][owner] + within, owner


def load_branches(out_dir: Path) -> Branches:
    """Load the face and speech networks from `out_dir`, each from the committed checkpoints if `out_dir` lacks it."""
    sources = {}
    for kind in ("face", "speech"):
        folder = out_dir if (out_dir / f"{kind}.safetensors").is_file() else CHECKPOINTS
        sources[kind] = (folder, read_card(folder, kind))
    (face_dir, face_card), (speech_dir, speech_card) = sources["face"], sources["speech"]
    face_net = load_weights(face_dir, "face", FaceNet(**face_card["network"]))
    speech_net = load_weights(speech_dir, "speech", SpeechNet(**speech_card["network"]))
    return Branches(face_net, speech_net, face_card, speech_card)


def predict_faces(branches: Branches, data: FaceData, rows: I64) -> FaceOutputs:
    """Run the face network on these rows of FER2013. Rows of the test parts get no labels, because `data` has none."""
    outputs = face.predict(branches.face, data.faces[rows])
    targets = {"official": data.official, "ferplus": data.ferplus}
    return FaceOutputs(
        posteriors={
            head: softmax(outputs[head], branches.face_card["temperature"][head]).astype(np.float32) for head in OUTPUTS
        },
        labels={head: majority_labels(targets[head][rows]) for head in OUTPUTS},
        prior={head: class_prior(majority_labels(targets[head][data.split.train])) for head in OUTPUTS},
    )


def majority_labels(targets: F32) -> I64:
    """Return the most likely class of each distribution [N, 7]; -1 for a row of zeros and for a tie."""
    top = targets.max(axis=1)
    tied = (targets >= top[:, None] - 1e-6).sum(axis=1) > 1
    return np.where((top > 0) & ~tied, targets.argmax(axis=1), NO_LABEL)


def class_prior(labels: I64) -> F32:
    """Return the class frequencies of labels [N] without the -1s, float32 [7], with one added to every count."""
    counts = np.bincount(labels[labels != NO_LABEL], minlength=FACE_CLASSES) + 1.0
    return np.asarray(counts / counts.sum(), np.float32)


def fold_of(actor: int) -> int:
    """Return a fold whose speech network did not train on this actor. No fold trained on actors beyond the last fold's."""
    return (actor - 1) // ACTORS_PER_FOLD % FOLDS


def fold_bundle(fold: int) -> Bundle:
    """Load the speech bundle of a fold; its network did not train on the actors of that fold."""
    return bundles.load(FOLD_BUNDLES / f"fold{fold}", ("speech",))


def predict_held_out(clips: Sequence[RavdessClip]) -> list[list[BranchOutput]]:
    """Run each clip through the speech network that did not train on its actor, window by window as the runtime does."""
    opened = [fold_bundle(fold) for fold in range(FOLDS)]
    branches = [SpeechBranch(bundle.open("speech"), bundle.models["speech"]) for bundle in opened]
    folds = [fold_of(clip.actor) for clip in clips]
    return [
        clip_outputs(branches[fold], read_sound(clip.path), opened[fold].spec.speech)
        for fold, clip in zip(folds, clips, strict=True)
    ]


def stack_speech_outputs(clips: Sequence[RavdessClip], outputs: Sequence[Sequence[BranchOutput]]) -> SpeechOutputs:
    """Concatenate the outputs for the windows of these clips."""
    clip_index = np.repeat(np.arange(len(clips)), [len(windows) for windows in outputs])
    posteriors = np.stack([output.probabilities for windows in outputs for output in windows])
    return SpeechOutputs(posteriors, clip_index, np.array([clip.label for clip in clips], np.int64))


def exclude_fold(clips: Sequence[RavdessClip], fold: int | None) -> list[RavdessClip]:
    """Return the clips without the test actors of a fold. Raise DataError if none remain."""
    kept = [clip for clip in clips if fold is None or fold_of(clip.actor) != fold or clip.actor > ACTORS_PER_FOLD * FOLDS]
    if not kept:
        raise DataError(
            f"fold {fold} holds out all actors of the recordings: no clips to train on; add actors or set another fold"
        )
    return kept


def calibrated_heads(branches: Branches) -> tuple[dict[str, tuple[Tensor, Tensor]], tuple[Tensor, Tensor]]:
    """Return weight and bias of each face head by name, and of the speech head, divided by their temperatures."""

    def calibrated(head: nn.Linear, temperature: float) -> tuple[Tensor, Tensor]:
        return head.weight.detach() / temperature, head.bias.detach() / temperature

    faces = {head: calibrated(getattr(branches.face, head), branches.face_card["temperature"][head]) for head in OUTPUTS}
    return faces, calibrated(branches.speech.logits, branches.speech_card["temperature"]["logits"])


@dataclass(frozen=True, slots=True)
class ClipPairs:
    """N pairs of an image and a whole clip, for one label set.

    `face_rows` [N] are rows of the face outputs. `windows` are rows of the speech outputs: all windows of the clip of every
    pair, with the pair of each in `pair_index`. `truth` [N] holds the labels.
    """

    face_rows: I64
    windows: I64
    pair_index: I64
    truth: I64

    def mean(self, by_window: NDArray[Any]) -> NDArray[np.float64]:
        """Return the mean [N, 8] over the windows of each pair, from probabilities of all windows."""
        sums = np.zeros((len(self.truth), CLASSES))
        np.add.at(sums, self.pair_index, by_window)
        return sums / np.bincount(self.pair_index)[:, None]


def draw_clip_pairs(face_labels: I64, voices: SpeechOutputs, count: int, seed: int) -> ClipPairs:
    """Draw `count` pairs of a clip and an image of the same class; calm clips are paired with neutral images."""
    face_rows, clips = draw_pairs(face_labels, voices.labels, count, seed)
    return ClipPairs(face_rows, *voices.windows(clips), voices.labels[clips])
