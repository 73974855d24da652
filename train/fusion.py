"""Training of the feature fusion on pairs of an image and a voice of the same class, and calibration of all fusers.

Neither branch trained on its part of a pair. The images are the validation images of the face network. The outputs for a voice
come from one of five speech networks that did not train on its actor. Every report says "paired by class, different people".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moodring.evaluation.data.readers import list_ravdess
from moodring.evaluation.metrics import classification_metrics
from moodring.evaluation.pairs import PAIRING, draw_pairs
from moodring.fusion import MIN_WEIGHT, tempered
from moodring.labels import CLASSES, FACE_CLASSES, LABELS
from moodring.train.calibration import TEMPERATURES, confidence_threshold, select_temperature, softmax
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
from moodring.train.decision import fit_face_weight, vote
from moodring.train.loop import TrainingTask, fit
from moodring.train.models.fusion import OUTPUTS, FusionHead, FusionNet, class_frequencies
from moodring.train.recipe import FusionRecipe
from moodring.train.run_folder import save_weights, write_run_folder
from moodring.types import F32

I64 = NDArray[np.int64]
# By label set, for the W windows of B clips: face [W,7], voice [W,8], presence [W,2], pair [W]; truth [B].
Batch = tuple[dict[str, Tensor], ...]


def batches(faces: FaceOutputs, voices: SpeechOutputs, recipe: FusionRecipe, epoch: int) -> Iterator[Batch]:
    """Yield the batches of an epoch: pairs by each label set.

    In a share `recipe.modality_dropout` of the pairs, one modality gets a random presence p and, with probability 1 - p, the
    input of a random image or clip.
    """
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
    face_input, speech_input = face_rows.copy(), clips.copy()
    presence = np.ones((count, 2), np.float32)
    degraded = rng.random(count) < recipe.modality_dropout
    modality = rng.integers(0, 2, count)
    presence[degraded, modality[degraded]] = rng.random(int(degraded.sum()))
    replaced = degraded & (rng.random(count) >= presence[np.arange(count), modality])
    replaced_face, replaced_voice = replaced & (modality == 0), replaced & (modality == 1)
    face_input[replaced_face] = rng.integers(0, len(faces), int(replaced_face.sum()))
    speech_input[replaced_voice] = rng.integers(0, len(voices.labels), int(replaced_voice.sum()))
    windows, pair_index = voices.windows(speech_input)
    return {
        "face": _log(faces[face_input][pair_index]),
        "voice": _log(voices.posteriors[windows]),
        "presence": torch.from_numpy(presence[pair_index]),
        "pair": torch.from_numpy(pair_index),
        "truth": torch.from_numpy(voices.labels[clips]),
    }


def _log(probabilities: F32) -> Tensor:
    return torch.log(torch.from_numpy(np.maximum(probabilities, MIN_WEIGHT)))


def loss(model: FusionNet, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Return the sum over the label sets of the cross-entropy of each clip's mean probabilities, and its parts.

    The mean over the windows of a clip is what the evaluation reports. The inputs are the outputs of the branch heads, because
    the heads of the fusion network are fixed.
    """
    parts = [_clip_loss(head, part) for head, part in zip(fusion_heads(model), batch, strict=True)]
    total: Tensor = torch.stack(parts).sum()
    return total, {f"loss_{name}": part.item() for name, part in zip(OUTPUTS, parts, strict=True)}


def _clip_loss(head: FusionHead, part: dict[str, Tensor]) -> Tensor:
    prediction = torch.softmax(head(part["face"], part["voice"], part["presence"]), dim=1)
    sums = torch.zeros(len(part["truth"]), CLASSES).index_add(0, part["pair"], prediction)
    mean = sums / torch.bincount(part["pair"])[:, None]
    return -torch.log(torch.clamp(mean[torch.arange(len(mean)), part["truth"]], min=MIN_WEIGHT)).mean()


def fusion_heads(model: FusionNet) -> list[FusionHead]:
    """Return the fusion head of each label set, in the order of `OUTPUTS`."""
    return [cast("FusionHead", model.joint[name]) for name in OUTPUTS]


@torch.no_grad()
def fused_logits(head: FusionHead, faces: F32, voices: F32) -> F32:
    """Fuse probabilities of faces [W, 7] and voices [W, 8], both with presence 1, to logits [W, 8]."""
    logits: F32 = head(_log(faces), _log(voices), torch.ones(len(faces), 2)).numpy()
    return logits


def validate(model: FusionNet, faces: FaceOutputs, voices: SpeechOutputs, recipe: FusionRecipe) -> dict[str, float]:
    """Measure the network on pairs of an image and a whole clip, by each label set. The score is the log-likelihood."""
    figures: dict[str, float] = {}
    total = 0.0
    for name, head in zip(OUTPUTS, fusion_heads(model), strict=True):
        pairs = draw_clip_pairs(faces.labels[name], voices, recipe.validation_pairs, recipe.seed)
        face_input = faces.posteriors[name][pairs.face_rows][pairs.pair_index]
        prediction = pairs.mean(softmax(fused_logits(head, face_input, voices.posteriors[pairs.windows])))
        figures[f"accuracy_{name}"] = float((prediction.argmax(axis=1) == pairs.truth).mean())
        total += float(-np.log(np.maximum(prediction[np.arange(len(prediction)), pairs.truth], MIN_WEIGHT)).mean())
    return {"validation_loss": total, **figures, "score": -total}


def summarize(model: FusionNet, faces: FaceOutputs, voices: SpeechOutputs, recipe: FusionRecipe) -> dict[str, Any]:
    """Fit temperatures, decision weights and confidence thresholds on pairs with whole clips; return them with the metrics."""
    summary: dict[str, Any] = {"temperature": {}, "weights": {}, "confident": {}, "validation": {}}
    for name, head in zip(OUTPUTS, fusion_heads(model), strict=True):
        pairs = draw_clip_pairs(faces.labels[name], voices, recipe.validation_pairs, recipe.seed + 1)
        without_calm = faces.posteriors[name]
        with_calm = np.concatenate([without_calm, np.zeros((len(without_calm), CLASSES - FACE_CLASSES))], axis=1)
        face_input = with_calm[pairs.face_rows][pairs.pair_index].astype(np.float32)
        speech_input = voices.posteriors[pairs.windows]
        logits = fused_logits(head, face_input[:, :FACE_CLASSES], speech_input)
        temperature = select_temperature([pairs.mean(softmax(logits, t)) for t in TEMPERATURES], pairs.truth)
        first_windows = np.unique(pairs.pair_index, return_index=True)[1]
        weight = fit_face_weight(face_input[first_windows], pairs.mean(speech_input), pairs.truth)
        mixed = {"weighted": weight * face_input + (1 - weight) * speech_input, "voting": vote(face_input, speech_input)}
        summary["temperature"][name] = temperature
        for method, prediction in mixed.items():
            summary["temperature"][f"{name}.{method}"] = select_temperature(
                [pairs.mean(tempered(prediction, t)) for t in TEMPERATURES], pairs.truth
            )
        fused = pairs.mean(softmax(logits, temperature))
        summary["weights"][name] = {"face": weight, "speech": round(1.0 - weight, 4)}
        summary["confident"][name] = confidence_threshold(fused, pairs.truth)
        summary["validation"][name] = classification_metrics(fused, pairs.truth)
    return summary


def initial_network(faces: FaceOutputs, voices: SpeechOutputs, recipe: FusionRecipe) -> FusionNet:
    """Return an untrained network, which multiplies the likelihoods of both branches."""
    torch.manual_seed(recipe.seed)
    model = FusionNet()
    pair_frequencies = class_frequencies(torch.from_numpy(voices.labels))
    for name, head in zip(OUTPUTS, fusion_heads(model), strict=True):
        head.initialise_from_priors(torch.from_numpy(faces.prior[name]), pair_frequencies)
    return model


def fit_fusion(
    faces: FaceOutputs, voices: SpeechOutputs, recipe: FusionRecipe, run_dir: Path, parent_weights: str = ""
) -> tuple[FusionNet, list[dict[str, float]], dict[str, Any], bool]:
    """Train and calibrate; return the network, its history, the summary, and whether all epochs are complete."""
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
    """Train; write fusion.safetensors, its card and the run folder `fusion` into `out_dir`.

    The branches are those in `out_dir`, else the committed ones. Return whether all epochs are complete.
    """
    run_dir = out_dir / "fusion"
    branches = load_branches(out_dir)
    data = load_faces(data_dir, out_dir / "cache")
    faces = predict_faces(branches, data, data.split.validation)
    clips = exclude_fold(list_ravdess(find_ravdess(data_dir)), recipe.fold)
    voices = stack_speech_outputs(clips, predict_held_out(clips))
    print(f"fusion ({PAIRING}): {len(data.split.validation)} images, {len(clips)} clips", flush=True)
    parent_weights = f"{branches.face_card['sha256']} {branches.speech_card['sha256']}"
    model, history, summary, finished = fit_fusion(faces, voices, recipe, run_dir, parent_weights)
    model.set_heads(*calibrated_heads(branches))
    write_run_folder(run_dir, history, summary, head="official", labels=LABELS, title=f"fusion, {PAIRING}")
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
