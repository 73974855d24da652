"""Train feature fusion on pairs drawn by class, a picture of one person and a voice of another, and calibrate every fuser.

Neither side has been learnt by heart: pictures are those that chose the face network and did not train it, and a voice is
read by the one of five speech networks that never heard its actor. Every report says "paired by class, different people".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from moodring.evaluation.data.readers import list_ravdess
from moodring.evaluation.metrics import classification_metrics
from moodring.evaluation.pairs import PAIRING, draw_pairs
from moodring.fusion import LEAST, tempered
from moodring.labels import CLASSES, FACE_CLASSES, LABELS
from moodring.train.data.branch_outputs import (
    Faces,
    Voices,
    heads_of,
    load_branches,
    read_faces,
    read_unheard,
    voices_of,
    whole_pairs,
    without_fold,
)
from moodring.train.data.faces import load_faces
from moodring.train.data.voices import find_ravdess
from moodring.train.decision import TEMPERATURES, confident_from, decision_weight, surest, vote
from moodring.train.loop import Task, fit
from moodring.train.models.fusion import OUTPUTS, FusionNet, Joint, shares_of
from moodring.train.recipe import FusionRecipe
from moodring.train.run_folder import plot_confusion, plot_curves, save_weights, softmax, write_json

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Batch = tuple[
    dict[str, Tensor], ...
]  # by label set, at all hops of B clips: face [H,7], voice [H,8], presence [H,2], pair [H]; truth [B]


def batches(faces: Faces, voices: Voices, recipe: FusionRecipe, epoch: int) -> Iterator[Batch]:
    """Yield an epoch of pairs, by each label set. Some have a side that is trusted less, and wrong as often as it should be."""
    rng = np.random.default_rng([recipe.seed, epoch])
    drawn = {head: draw_pairs(faces.labels[head], voices.labels, recipe.pairs, int(rng.integers(2**31))) for head in OUTPUTS}
    for start in range(0, recipe.pairs - recipe.batch + 1, recipe.batch):
        cut = slice(start, start + recipe.batch)
        yield tuple(
            _batch(faces.answers[head], voices, (drawn[head][0][cut], drawn[head][1][cut]), recipe, rng) for head in OUTPUTS
        )


def _batch(
    faces: F32, voices: Voices, pairs: tuple[I64, I64], recipe: FusionRecipe, rng: np.random.Generator
) -> dict[str, Tensor]:
    pictures, clips = pairs
    count = len(clips)
    rows_f, heard = pictures.copy(), clips.copy()
    presence = np.ones((count, 2), np.float32)
    doubted = rng.random(count) < recipe.modality_dropout
    side = rng.integers(0, 2, count)
    presence[doubted, side[doubted]] = rng.random(int(doubted.sum()))
    wrong = rng.random(count) >= presence[np.arange(count), side]
    lost_face, lost_voice = doubted & wrong & (side == 0), doubted & wrong & (side == 1)
    rows_f[lost_face] = rng.integers(0, len(faces), int(lost_face.sum()))
    heard[lost_voice] = rng.integers(0, len(voices.labels), int(lost_voice.sum()))
    hops, pair = voices.hops(heard)
    return {
        "face": _log(faces[rows_f][pair]),
        "voice": _log(voices.answers[hops]),
        "presence": torch.from_numpy(presence[pair]),
        "pair": torch.from_numpy(pair),
        "truth": torch.from_numpy(voices.labels[clips]),
    }


def _log(probabilities: F32) -> Tensor:
    return torch.log(torch.from_numpy(np.maximum(probabilities, LEAST)))


def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of the mean over each clip's hops, by each label set, since that mean is what is reported.

    It is taken in the space of the heads' answers: their reading of the embeddings is fixed.
    """
    parts = [_clip_loss(joint, part) for joint, part in zip(joints(model), batch, strict=True)]
    total: Tensor = torch.stack(parts).sum()
    return total, {f"loss_{head}": part.item() for head, part in zip(OUTPUTS, parts, strict=True)}


def _clip_loss(joint: Joint, part: dict[str, Tensor]) -> Tensor:
    said = torch.softmax(joint(part["face"], part["voice"], part["presence"]), dim=1)
    sums = torch.zeros(len(part["truth"]), CLASSES).index_add(0, part["pair"], said)
    mean = sums / torch.bincount(part["pair"])[:, None]
    return -torch.log(torch.clamp(mean[torch.arange(len(mean)), part["truth"]], min=LEAST)).mean()


def joints(model: nn.Module) -> list[Joint]:
    assert isinstance(model, FusionNet)  # noqa: S101  for the type checker
    return [model.joint[head] for head in OUTPUTS]  # type: ignore[misc]


@torch.no_grad()
def joint_logits(joint: Joint, faces: F32, voices: F32) -> F32:
    said: F32 = joint(_log(faces), _log(voices), torch.ones(len(faces), 2)).numpy()
    return said


def validate(model: nn.Module, faces: Faces, voices: Voices, recipe: FusionRecipe) -> dict[str, float]:
    """Figures on whole clips paired with pictures, by each label set."""
    figures: dict[str, float] = {}
    total = 0.0
    for head, joint in zip(OUTPUTS, joints(model), strict=True):
        pairs = whole_pairs(faces.labels[head], voices, recipe.validation_pairs, recipe.seed)
        logits = joint_logits(joint, faces.answers[head][pairs.pictures][pairs.pair], voices.answers[pairs.hops])
        said = pairs.mean(softmax(logits))
        figures[f"accuracy_{head}"] = float((said.argmax(axis=1) == pairs.truth).mean())
        total += float(-np.log(np.maximum(said[np.arange(len(said)), pairs.truth], LEAST)).mean())
    return {"validation_loss": total, **figures, "score": -total}


def summarise(model: nn.Module, faces: Faces, voices: Voices, recipe: FusionRecipe) -> dict[str, Any]:
    """Calibrate every fuser on whole clips, learn decision fusion's weights, and say which answers are to be relied on."""
    summary: dict[str, Any] = {"temperature": {}, "weights": {}, "confident": {}, "validation": {}}
    for head, joint in zip(OUTPUTS, joints(model), strict=True):
        pairs = whole_pairs(faces.labels[head], voices, recipe.validation_pairs, recipe.seed + 1)
        seen = np.concatenate([faces.answers[head], np.zeros((len(faces.answers[head]), CLASSES - FACE_CLASSES))], axis=1)
        seen = seen[pairs.pictures][pairs.pair].astype(np.float32)
        heard = voices.answers[pairs.hops]
        logits = joint_logits(joint, seen[:, :FACE_CLASSES], heard)
        by_temperature = [pairs.mean(softmax(logits, t)) for t in TEMPERATURES]
        temperature = surest(by_temperature, pairs.truth)
        weight = decision_weight(seen[np.unique(pairs.pair, return_index=True)[1]], pairs.mean(heard), pairs.truth)
        mixed = {"weighted": weight * seen + (1 - weight) * heard, "voting": vote(seen, heard)}
        summary["temperature"][head] = temperature
        for method, said in mixed.items():
            summary["temperature"][f"{head}.{method}"] = surest(
                [pairs.mean(tempered(said, t)) for t in TEMPERATURES], pairs.truth
            )
        fused = pairs.mean(softmax(logits, temperature))
        summary["weights"][head] = {"face": weight, "speech": round(1.0 - weight, 4)}
        summary["confident"][head] = confident_from(fused, pairs.truth)
        summary["validation"][head] = classification_metrics(fused, pairs.truth)
    return summary


def begin(faces: Faces, voices: Voices, recipe: FusionRecipe) -> FusionNet:
    """Return a network that multiplies both answers."""
    torch.manual_seed(recipe.seed)
    model = FusionNet()
    of_pairs = shares_of(torch.from_numpy(voices.labels))
    for head, joint in zip(OUTPUTS, joints(model), strict=True):
        joint.start_from(torch.from_numpy(faces.prior[head]), of_pairs)
    return model


def learn(
    faces: Faces, voices: Voices, recipe: FusionRecipe, run_dir: Path, basis: str = ""
) -> tuple[FusionNet, list[dict[str, float]], dict[str, Any], bool]:
    """Train on pairs and calibrate; return the network, its history, the summary, and whether every epoch was done."""
    model = begin(faces, voices, recipe)
    task = Task(
        model=model,
        steps=recipe.pairs // recipe.batch,
        batches=lambda epoch: batches(faces, voices, recipe, epoch),
        loss=loss,
        validate=lambda net: validate(net, faces, voices, recipe),
        basis=basis,
    )
    history, finished = fit(task, recipe, run_dir)
    return model, history, summarise(model, faces, voices, recipe), finished


def train_fusion(recipe: FusionRecipe, data_dir: Path, out_dir: Path) -> bool:
    """Train, write OUT/fusion.safetensors, its card and the run folder OUT/fusion; return whether every epoch was done."""
    run_dir = out_dir / "fusion"
    branches = load_branches(out_dir)
    data = load_faces(data_dir, out_dir / "cache")
    faces = read_faces(branches, data, data.split.validation)
    clips = without_fold(list_ravdess(find_ravdess(data_dir)), recipe.fold)
    voices = voices_of(clips, read_unheard(clips))
    print(f"fusion ({PAIRING}): {len(data.split.validation)} pictures, {len(clips)} clips", flush=True)
    basis = f"{branches.face_card['sha256']} {branches.speech_card['sha256']}"
    model, history, summary, finished = learn(faces, voices, recipe, run_dir, basis)
    model.read_by(*heads_of(branches))
    write_json(run_dir / "metrics.json", {"history": history, **summary})
    plot_curves(run_dir / "curves.png", history)
    plot_confusion(run_dir / "confusion.png", summary["validation"]["official"]["confusion"], LABELS, f"fusion, {PAIRING}")
    card = {
        "network": {"voice": branches.speech.logits.in_features},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "data": [*branches.face_card["data"], *branches.speech_card["data"]],
        "pairing": PAIRING,
        "protocol": "pairs of pictures and actors that trained neither branch: validation pictures, and each voice read by "
        "the fold's network that never heard it",
        "branches": {"face": branches.face_card["sha256"], "speech": branches.speech_card["sha256"]},
        **summary,
    }
    save_weights(out_dir, "fusion", model, {"recipe": asdict(recipe), **card})
    return finished
