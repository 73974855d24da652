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
from moodring.fusion import MIN_WEIGHT, tempered
from moodring.labels import CLASSES, FACE_CLASSES, LABELS
from moodring.train.data.branch_outputs import (
    FaceOutputs,
    SpeechOutputs,
    calibrated_heads,
    draw_clip_pairs,
    exclude_fold,
    load_branches,
    predict_faces,
    predict_held_out,
    stack_speech_outputs,
)
from moodring.train.data.faces import load_faces
from moodring.train.data.voices import find_ravdess
from moodring.train.decision import TEMPERATURES, confidence_threshold, fit_face_weight, select_temperature, vote
from moodring.train.loop import TrainingTask, fit
from moodring.train.models.fusion import OUTPUTS, FusionHead, FusionNet, class_frequencies
from moodring.train.recipe import FusionRecipe
from moodring.train.run_folder import plot_confusion, plot_curves, save_weights, softmax, write_json

F32 = NDArray[np.float32]
I64 = NDArray[np.int64]
Batch = tuple[
    dict[str, Tensor], ...
]  # by label set, at all hops of B clips: face [H,7], voice [H,8], presence [H,2], pair [H]; truth [B]


def batches(faces: FaceOutputs, voices: SpeechOutputs, recipe: FusionRecipe, epoch: int) -> Iterator[Batch]:
    """Yield an epoch of pairs, by each label set. Some have a side that is trusted less, and wrong as often as it should be."""
    rng = np.random.default_rng([recipe.seed, epoch])
    drawn = {head: draw_pairs(faces.labels[head], voices.labels, recipe.pairs, int(rng.integers(2**31))) for head in OUTPUTS}
    for start in range(0, recipe.pairs - recipe.batch + 1, recipe.batch):
        cut = slice(start, start + recipe.batch)
        yield tuple(
            _batch(faces.posteriors[head], voices, (drawn[head][0][cut], drawn[head][1][cut]), recipe, rng) for head in OUTPUTS
        )


def _batch(
    faces: F32, voices: SpeechOutputs, pairs: tuple[I64, I64], recipe: FusionRecipe, rng: np.random.Generator
) -> dict[str, Tensor]:
    face_rows, clips = pairs
    count = len(clips)
    input_rows, speech_input = face_rows.copy(), clips.copy()
    presence = np.ones((count, 2), np.float32)
    degraded = rng.random(count) < recipe.modality_dropout
    side = rng.integers(0, 2, count)
    presence[degraded, side[degraded]] = rng.random(int(degraded.sum()))
    wrong = rng.random(count) >= presence[np.arange(count), side]
    replaced_face, replaced_voice = degraded & wrong & (side == 0), degraded & wrong & (side == 1)
    input_rows[replaced_face] = rng.integers(0, len(faces), int(replaced_face.sum()))
    speech_input[replaced_voice] = rng.integers(0, len(voices.labels), int(replaced_voice.sum()))
    windows, pair_index = voices.windows(speech_input)
    return {
        "face": _log(faces[input_rows][pair_index]),
        "voice": _log(voices.posteriors[windows]),
        "presence": torch.from_numpy(presence[pair_index]),
        "pair": torch.from_numpy(pair_index),
        "truth": torch.from_numpy(voices.labels[clips]),
    }


def _log(probabilities: F32) -> Tensor:
    return torch.log(torch.from_numpy(np.maximum(probabilities, MIN_WEIGHT)))


def loss(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of the mean over each clip's hops, by each label set, since that mean is what is reported.

    It is taken in the space of the heads' answers: their reading of the embeddings is fixed.
    """
    parts = [_clip_loss(joint, part) for joint, part in zip(fusion_heads(model), batch, strict=True)]
    total: Tensor = torch.stack(parts).sum()
    return total, {f"loss_{head}": part.item() for head, part in zip(OUTPUTS, parts, strict=True)}


def _clip_loss(joint: FusionHead, part: dict[str, Tensor]) -> Tensor:
    prediction = torch.softmax(joint(part["face"], part["voice"], part["presence"]), dim=1)
    sums = torch.zeros(len(part["truth"]), CLASSES).index_add(0, part["pair"], prediction)
    mean = sums / torch.bincount(part["pair"])[:, None]
    return -torch.log(torch.clamp(mean[torch.arange(len(mean)), part["truth"]], min=MIN_WEIGHT)).mean()


def fusion_heads(model: nn.Module) -> list[FusionHead]:
    assert isinstance(model, FusionNet)  # noqa: S101  for the type checker
    return [model.joint[head] for head in OUTPUTS]  # type: ignore[misc]


@torch.no_grad()
def fused_logits(joint: FusionHead, faces: F32, voices: F32) -> F32:
    prediction: F32 = joint(_log(faces), _log(voices), torch.ones(len(faces), 2)).numpy()
    return prediction


def validate(model: nn.Module, faces: FaceOutputs, voices: SpeechOutputs, recipe: FusionRecipe) -> dict[str, float]:
    """Figures on whole clips paired with pictures, by each label set."""
    figures: dict[str, float] = {}
    total = 0.0
    for head, joint in zip(OUTPUTS, fusion_heads(model), strict=True):
        pairs = draw_clip_pairs(faces.labels[head], voices, recipe.validation_pairs, recipe.seed)
        logits = fused_logits(
            joint, faces.posteriors[head][pairs.face_rows][pairs.pair_index], voices.posteriors[pairs.windows]
        )
        prediction = pairs.mean(softmax(logits))
        figures[f"accuracy_{head}"] = float((prediction.argmax(axis=1) == pairs.truth).mean())
        total += float(-np.log(np.maximum(prediction[np.arange(len(prediction)), pairs.truth], MIN_WEIGHT)).mean())
    return {"validation_loss": total, **figures, "score": -total}


def summarize(model: nn.Module, faces: FaceOutputs, voices: SpeechOutputs, recipe: FusionRecipe) -> dict[str, Any]:
    """Calibrate every fuser on whole clips, learn decision fusion's weights, and say which answers are to be relied on."""
    summary: dict[str, Any] = {"temperature": {}, "weights": {}, "confident": {}, "validation": {}}
    for head, joint in zip(OUTPUTS, fusion_heads(model), strict=True):
        pairs = draw_clip_pairs(faces.labels[head], voices, recipe.validation_pairs, recipe.seed + 1)
        face_input = np.concatenate(
            [faces.posteriors[head], np.zeros((len(faces.posteriors[head]), CLASSES - FACE_CLASSES))], axis=1
        )
        face_input = face_input[pairs.face_rows][pairs.pair_index].astype(np.float32)
        speech_input = voices.posteriors[pairs.windows]
        logits = fused_logits(joint, face_input[:, :FACE_CLASSES], speech_input)
        by_temperature = [pairs.mean(softmax(logits, t)) for t in TEMPERATURES]
        temperature = select_temperature(by_temperature, pairs.truth)
        weight = fit_face_weight(
            face_input[np.unique(pairs.pair_index, return_index=True)[1]], pairs.mean(speech_input), pairs.truth
        )
        mixed = {"weighted": weight * face_input + (1 - weight) * speech_input, "voting": vote(face_input, speech_input)}
        summary["temperature"][head] = temperature
        for method, prediction in mixed.items():
            summary["temperature"][f"{head}.{method}"] = select_temperature(
                [pairs.mean(tempered(prediction, t)) for t in TEMPERATURES], pairs.truth
            )
        fused = pairs.mean(softmax(logits, temperature))
        summary["weights"][head] = {"face": weight, "speech": round(1.0 - weight, 4)}
        summary["confident"][head] = confidence_threshold(fused, pairs.truth)
        summary["validation"][head] = classification_metrics(fused, pairs.truth)
    return summary


def initial_network(faces: FaceOutputs, voices: SpeechOutputs, recipe: FusionRecipe) -> FusionNet:
    """Return a network that multiplies both answers."""
    torch.manual_seed(recipe.seed)
    model = FusionNet()
    pair_frequencies = class_frequencies(torch.from_numpy(voices.labels))
    for head, joint in zip(OUTPUTS, fusion_heads(model), strict=True):
        joint.initialise_from_priors(torch.from_numpy(faces.prior[head]), pair_frequencies)
    return model


def fit_fusion(
    faces: FaceOutputs, voices: SpeechOutputs, recipe: FusionRecipe, run_dir: Path, parent_weights: str = ""
) -> tuple[FusionNet, list[dict[str, float]], dict[str, Any], bool]:
    """Train on pairs and calibrate; return the network, its history, the summary, and whether every epoch was done."""
    model = initial_network(faces, voices, recipe)
    task = TrainingTask(
        model=model,
        steps=recipe.pairs // recipe.batch,
        batches=lambda epoch: batches(faces, voices, recipe, epoch),
        loss=loss,
        validate=lambda net: validate(net, faces, voices, recipe),
        parent_weights=parent_weights,
    )
    history, finished = fit(task, recipe, run_dir)
    return model, history, summarize(model, faces, voices, recipe), finished


def train_fusion(recipe: FusionRecipe, data_dir: Path, out_dir: Path) -> bool:
    """Train, write OUT/fusion.safetensors, its card and the run folder OUT/fusion; return whether every epoch was done."""
    run_dir = out_dir / "fusion"
    branches = load_branches(out_dir)
    data = load_faces(data_dir, out_dir / "cache")
    faces = predict_faces(branches, data, data.split.validation)
    clips = exclude_fold(list_ravdess(find_ravdess(data_dir)), recipe.fold)
    voices = stack_speech_outputs(clips, predict_held_out(clips))
    print(f"fusion ({PAIRING}): {len(data.split.validation)} pictures, {len(clips)} clips", flush=True)
    parent_weights = f"{branches.face_card['sha256']} {branches.speech_card['sha256']}"
    model, history, summary, finished = fit_fusion(faces, voices, recipe, run_dir, parent_weights)
    model.set_heads(*calibrated_heads(branches))
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
