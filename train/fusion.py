"""Train feature fusion on pairs drawn by class: a picture of one person, a voice of another, the same label.

Paired recordings of face and voice are not at hand; every report of these figures says "paired by class, different people".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge.errors import DataError
from edge.evaluation.fusion import PAIRING
from edge.evaluation.metrics import classification_metrics
from edge.features.spec import SpeechSpec
from edge.labels import CALM, CLASSES, FACE_CLASSES, LABELS, NEUTRAL
from train import face, speech
from train.augment import warp_faces
from train.datasets import FaceData, load_faces
from train.face import soft_cross_entropy
from train.loop import Task, fit
from train.models.face import FaceNet
from train.models.fusion import FusionNet
from train.models.speech import SpeechNet
from train.pool import WindowDrawer, open_pool
from train.recipe import FaceRecipe, FusionRecipe, SpeechRecipe
from train.report import (
    fit_temperature,
    load_weights,
    plot_confusion,
    plot_curves,
    read_card,
    save_weights,
    softmax,
    write_json,
)
from train.splits import split_actors
from train.voices import load_noises, load_voices

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # face [B,128], speech [B,128], presence [B,2], targets [B,8]

CHECKPOINTS = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True)
class Branches:
    """The two trained branches and their cards."""

    face: FaceNet
    speech: SpeechNet
    face_card: dict[str, Any]
    speech_card: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Side:
    """One modality's examples: `embeddings` [N, 128], the branch's own `probabilities` [N, 8], `labels` [N]."""

    embeddings: F32
    probabilities: F32
    labels: I64

    def rows_of(self, label: int) -> I64:
        return np.flatnonzero(self.labels == label)


def load_branches(out_dir: Path) -> Branches:
    """Load the branches from the same folder, or the committed ones where it has none."""
    found = {}
    for kind in ("face", "speech"):
        folder = out_dir if (out_dir / f"{kind}.safetensors").is_file() else CHECKPOINTS
        found[kind] = (folder, read_card(folder, kind))
    face_net = load_weights(found["face"][0], "face", FaceNet(**found["face"][1]["network"]))
    speech_net = load_weights(found["speech"][0], "speech", SpeechNet(**found["speech"][1]["network"]))
    return Branches(face_net, speech_net, found["face"][1], found["speech"][1])


def face_side(branches: Branches, faces: NDArray[np.uint8], labels: I64) -> Side:
    outs = face.answers(branches.face, faces)
    seven = softmax(outs["official"], branches.face_card["temperature"]["official"])
    eight = np.concatenate([seven, np.zeros((len(seven), 1))], axis=1).astype(np.float32)
    return Side(outs["embedding"], eight, labels)


def speech_side(branches: Branches, windows: F32, labels: I64) -> Side:
    outs = speech.answers(branches.speech, windows)
    probabilities = softmax(outs["logits"], branches.speech_card["temperature"]["logits"]).astype(np.float32)
    return Side(outs["embedding"], probabilities, labels)


def training_sides(branches: Branches, data: FaceData, data_dir: Path, recipe: FusionRecipe, cache: Path) -> tuple[Side, Side]:
    """Embed augmented training pictures and voices, by the branches' own recipes: plain ones would be too sure."""
    rng = np.random.default_rng([recipe.seed, 5])
    known = data.split.train[data.official[data.split.train].sum(axis=1) > 0]
    rows = rng.choice(known, min(recipe.pictures, len(known)), replace=False)
    pictures = warp_faces(data.faces[rows], rng, FaceRecipe(**branches.face_card["recipe"]))
    spec = SpeechSpec()
    voices = load_voices(data_dir, spec)
    actors = split_actors([voice.clip.actor for voice in voices], recipe.fold).train
    speech_recipe = SpeechRecipe(**branches.speech_card["recipe"])
    pool = open_pool(speech_recipe, spec, voices, load_noises(data_dir, spec.mfcc.rate_hz), cache)
    rows_v = [row for row, voice in enumerate(voices) if voice.clip.actor in actors for _ in range(recipe.views)]
    windows = WindowDrawer(pool, speech_recipe, spec, voices).voices(rows_v, rng)
    labels = np.array([voices[row].clip.label for row in rows_v])
    return face_side(branches, pictures, data.labels[rows]), speech_side(branches, windows, labels)


def validation_sides(branches: Branches, data: FaceData, data_dir: Path, recipe: FusionRecipe) -> tuple[Side, Side]:
    """Embed the validation pictures and the validation actors' windows, as they are."""
    rows = data.split.validation[data.official[data.split.validation].sum(axis=1) > 0]
    spec = SpeechSpec()
    voices = load_voices(data_dir, spec)
    actors = split_actors([voice.clip.actor for voice in voices], recipe.fold).validation
    hops = speech.hops_of([voice for voice in voices if voice.clip.actor in actors], spec)
    return face_side(branches, data.faces[rows], data.labels[rows]), speech_side(branches, hops.windows, hops.labels[hops.clip])


def draw_pairs(faces: Side, voices: Side, count: int, rng: np.random.Generator) -> tuple[I64, I64, I64]:
    """Draw `count` pairs, every class as often: rows of `faces`, rows of `voices`, labels. Calm voices take neutral faces."""
    labels = rng.permutation(np.arange(count) % CLASSES)
    face_rows, voice_rows = np.empty(count, np.int64), np.empty(count, np.int64)
    for label in range(CLASSES):
        where = labels == label
        matching = faces.rows_of(NEUTRAL if label == CALM else label), voices.rows_of(label)
        if not (len(matching[0]) and len(matching[1])):
            raise DataError(f"no pairs can be drawn for {LABELS[label]}: {len(matching[0])} faces, {len(matching[1])} voices")
        face_rows[where], voice_rows[where] = (rng.choice(rows, where.sum()) for rows in matching)
    return face_rows, voice_rows, labels


def batches(faces: Side, voices: Side, recipe: FusionRecipe, epoch: int) -> Iterator[Batch]:
    """Yield an epoch of noisy pairs; some lose one side, and then come as often as that side's data has them."""
    rng = np.random.default_rng([recipe.seed, epoch])
    spread = (faces.embeddings.std(axis=0), voices.embeddings.std(axis=0))
    face_rows, voice_rows, labels = draw_pairs(faces, voices, recipe.pairs, rng)
    for start in range(0, recipe.pairs - recipe.batch + 1, recipe.batch):
        cut = slice(start, start + recipe.batch)
        rows_f, rows_v, target = face_rows[cut].copy(), voice_rows[cut].copy(), labels[cut].copy()
        presence = np.ones((recipe.batch, 2), np.float32)
        lost = rng.random(recipe.batch) < recipe.modality_dropout
        face_only, voice_only = lost & (rng.random(recipe.batch) < 0.5), lost
        voice_only = lost & ~face_only
        presence[face_only, 1] = presence[voice_only, 0] = 0.0
        rows_f[face_only] = rng.integers(0, len(faces.labels), face_only.sum())
        rows_v[voice_only] = rng.integers(0, len(voices.labels), voice_only.sum())
        target[face_only], target[voice_only] = faces.labels[rows_f[face_only]], voices.labels[rows_v[voice_only]]
        noisy = [
            side.embeddings[rows] + recipe.embedding_noise * std * rng.standard_normal((len(rows), len(std)), np.float32)
            for side, rows, std in zip((faces, voices), (rows_f, rows_v), spread, strict=True)
        ]
        onehot = np.eye(CLASSES, dtype=np.float32)[target]
        yield tuple(torch.from_numpy(part.astype(np.float32)) for part in (*noisy, presence, onehot))  # type: ignore[misc]


@torch.no_grad()
def fused_logits(model: nn.Module, faces: F32, voices: F32, presence: tuple[float, float] = (1.0, 1.0)) -> F32:
    flags = torch.tensor([presence]).expand(len(faces), 2)
    answer: F32 = model(torch.from_numpy(faces), torch.from_numpy(voices), flags).numpy()
    return answer


def validate(model: nn.Module, faces: Side, voices: Side, recipe: FusionRecipe) -> dict[str, float]:
    """Figures on pairs of validation pictures and actors, whole and with one side missing."""
    rng = np.random.default_rng([recipe.seed, 9])
    rows_f, rows_v, labels = draw_pairs(faces, voices, recipe.validation_pairs, rng)
    logits = fused_logits(model, faces.embeddings[rows_f], voices.embeddings[rows_v])
    onehot = torch.eye(CLASSES)[labels]
    negative_log = soft_cross_entropy(torch.from_numpy(logits), onehot).item()
    only_face = fused_logits(model, faces.embeddings, np.zeros_like(faces.embeddings), (1.0, 0.0))
    only_voice = fused_logits(model, np.zeros_like(voices.embeddings), voices.embeddings, (0.0, 1.0))
    figures = {
        "accuracy": float((logits.argmax(1) == labels).mean()),
        "face_only": float((only_face.argmax(1) == faces.labels).mean()),
        "speech_only": float((only_voice.argmax(1) == voices.labels).mean()),
    }
    score = figures["accuracy"] + 0.25 * (figures["face_only"] + figures["speech_only"]) - 0.1 * negative_log
    return {"validation_loss": negative_log, **figures, "score": score}


def decision_weights(faces: Side, voices: Side, recipe: FusionRecipe) -> dict[str, float]:
    """Learn the weighted average of both calibrated answers on validation pairs: the weights that lose least, summing to 1."""
    rows_f, rows_v, labels = draw_pairs(faces, voices, recipe.validation_pairs, np.random.default_rng([recipe.seed, 9]))
    p_face, p_voice = faces.probabilities[rows_f], voices.probabilities[rows_v]

    def negative_log(weight: float) -> float:
        mixed = weight * p_face + (1 - weight) * p_voice
        return float(-np.log(np.maximum(mixed[np.arange(len(labels)), labels], 1e-9)).mean())

    best = min(np.linspace(0.05, 0.95, 91), key=negative_log)
    return {"face": round(float(best), 4), "speech": round(1.0 - float(best), 4)}


def summarise(model: nn.Module, faces: Side, voices: Side, recipe: FusionRecipe) -> dict[str, Any]:
    """Calibrate on validation pairs, measure there, and learn decision fusion's weights."""
    rows_f, rows_v, labels = draw_pairs(faces, voices, recipe.validation_pairs, np.random.default_rng([recipe.seed, 9]))
    logits = fused_logits(model, faces.embeddings[rows_f], voices.embeddings[rows_v])
    temperature = fit_temperature(logits, np.eye(CLASSES, dtype=np.float32)[labels])
    return {
        "temperature": {"logits": temperature},
        "weights": decision_weights(faces, voices, recipe),
        "validation": {"logits": classification_metrics(softmax(logits, temperature), labels)},
    }


def begin(branches: Branches, data: FaceData, recipe: FusionRecipe) -> FusionNet:
    torch.manual_seed(recipe.seed)
    model = FusionNet(recipe.hidden, recipe.dropout)
    shares = torch.from_numpy(data.official[data.split.train].sum(axis=0))
    temperatures = (branches.face_card["temperature"]["official"], branches.speech_card["temperature"]["logits"])
    model.start_from(branches.face.official, branches.speech.logits, temperatures, shares[:FACE_CLASSES] / shares.sum())
    return model


def train_fusion(recipe: FusionRecipe, data_dir: Path, out_dir: Path) -> bool:
    """Train, write OUT/fusion.safetensors, its card and the run folder OUT/fusion; return whether every epoch was done."""
    run_dir = out_dir / "fusion"
    branches = load_branches(out_dir)
    data = load_faces(data_dir, out_dir / "cache")
    faces, voices = training_sides(branches, data, data_dir, recipe, out_dir / "cache")
    faces_validation, voices_validation = validation_sides(branches, data, data_dir, recipe)
    model = begin(branches, data, recipe)
    before = validate(model.eval(), faces_validation, voices_validation, recipe)
    print(f"fusion ({PAIRING}): {len(faces.labels)} pictures, {len(voices.labels)} windows; product of both branches: "
          + " ".join(f"{name} {value:.3f}" for name, value in before.items()), flush=True)  # fmt: skip
    task = Task(
        model=model,
        steps=recipe.pairs // recipe.batch,
        batches=lambda epoch: batches(faces, voices, recipe, epoch),
        loss=lambda net, batch: (soft_cross_entropy(net(*batch[:3]), batch[3], recipe.label_smoothing), {}),
        validate=lambda net: validate(net, faces_validation, voices_validation, recipe),
        basis=f"{branches.face_card['sha256']} {branches.speech_card['sha256']}",
    )
    history, finished = fit(task, recipe, run_dir)
    summary = summarise(model, faces_validation, voices_validation, recipe)
    write_json(run_dir / "metrics.json", {"history": history, "before": before, **summary})
    plot_curves(run_dir / "curves.png", history)
    plot_confusion(run_dir / "confusion.png", summary["validation"]["logits"]["confusion"], LABELS, f"fusion, {PAIRING}")
    card = {
        "network": {"hidden": recipe.hidden},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "data": [*branches.face_card["data"], *branches.speech_card["data"]],
        "pairing": PAIRING,
        "protocol": "pairs of training pictures and training actors; validation pictures and actors chose and calibrated",
        "branches": {"face": branches.face_card["sha256"], "speech": branches.speech_card["sha256"]},
        **summary,
    }
    save_weights(out_dir, "fusion", model, {"recipe": asdict(recipe), **card})
    return finished
