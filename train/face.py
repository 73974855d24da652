"""Train the face branch on FER2013 with FER+'s votes beside its labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from moodring.evaluation.corruption import occlude_square
from moodring.evaluation.metrics import classification_metrics
from moodring.features.face.crop import normalize_crops
from moodring.labels import FACE_CLASSES, LABELS
from moodring.train.data.augment_images import apply_mixup, blur_faces, erase_patches, warp_faces
from moodring.train.data.faces import FaceData, load_faces, nonfaces
from moodring.train.loop import TrainingTask, fit
from moodring.train.models.face import OUTPUTS, FaceNet
from moodring.train.recipe import FaceRecipe
from moodring.train.run_folder import (
    fit_temperature,
    load_weights,
    plot_confusion,
    plot_curves,
    read_card,
    save_weights,
    softmax,
    write_json,
)

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
OCCLUDED_AREA = 0.3  # of a picture's area, of those that choose the epoch
Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # crops [B,1,48,48], official [B,7], ferplus [B,7], usable [B]

DATA = [
    {"name": "FER2013", "licence": "Kaggle challenge 2013, research use", "part": "Training without copies of test pictures"},
    {"name": "FER+", "licence": "MIT", "part": "votes for the same pictures"},
]


def network_input(crops: F32) -> Tensor:
    return torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)


def batches(data: FaceData, pool: U8, recipe: FaceRecipe, epoch: int) -> Iterator[Batch]:
    """Yield an epoch of augmented faces, each batch with a few pictures that are none."""
    rng = np.random.default_rng([recipe.seed, epoch])
    order = rng.permutation(data.split.train)
    for start in range(0, len(order) - recipe.batch + 1, recipe.batch):
        rows = order[start : start + recipe.batch]
        others = pool[rng.integers(0, len(pool), recipe.nonfaces)]
        grey = blur_faces(warp_faces(np.concatenate([data.faces[rows], others]), rng, recipe), rng)
        if recipe.erase_grey:
            normal = normalize_crops(erase_patches(grey, rng, recipe))
        else:
            normal = erase_patches(normalize_crops(grey), rng, recipe)
        crops = torch.from_numpy(normal)
        official, ferplus, usable = (torch.from_numpy(part[rows]) for part in (data.official, data.ferplus, data.usable))
        faces, official, ferplus, usable = apply_mixup((crops[: recipe.batch], official, ferplus, usable), rng, recipe.mixup)
        faces = torch.cat([faces, crops[recipe.batch :]])
        if epoch < recipe.small_epochs:  # progressive resizing (Howard 2018): coarse first, at a fraction of the cost
            faces = functional.interpolate(
                faces, (recipe.small_side,) * 2, mode="bilinear", antialias=True, align_corners=False
            )
        nonface_values = torch.zeros(recipe.nonfaces, FACE_CLASSES)
        yield (
            faces.contiguous(memory_format=torch.channels_last),
            torch.cat([official, nonface_values]),
            torch.cat([ferplus, nonface_values]),
            torch.cat([usable, torch.zeros(recipe.nonfaces)]),
        )


def soft_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with distributions [B, C]; a row counts by its sum, so that a row of zeros does not count."""
    weight = targets.sum(dim=1, keepdim=True)
    smooth = targets * (1 - smoothing) + weight * smoothing / targets.shape[1]
    return -(smooth * torch.log_softmax(logits, dim=1)).sum() / weight.sum().clamp(min=1.0)


def loss(model: nn.Module, batch: Batch, recipe: FaceRecipe) -> tuple[Tensor, dict[str, float]]:
    crops, official, ferplus, usable = batch
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
        outputs = model(crops)
    _, official_logits, ferplus_logits, usable_logit = (output.float() for output in outputs)
    by_label = soft_cross_entropy(official_logits, official, recipe.label_smoothing)
    by_votes = soft_cross_entropy(ferplus_logits, ferplus)
    usable_loss = functional.binary_cross_entropy_with_logits(usable_logit[:, 0], usable)
    total = by_label + recipe.ferplus_weight * by_votes + recipe.usable_weight * usable_loss
    parts = {"loss_official": by_label.item(), "loss_ferplus": by_votes.item(), "loss_usable": usable_loss.item()}
    return total, parts


@torch.no_grad()
def predict(model: nn.Module, faces: U8, batch: int = 256) -> dict[str, F32]:
    """Run the network over uint8 [N, 48, 48]; return its outputs by name."""
    pieces: list[list[F32]] = [[], [], [], []]
    for start in range(0, len(faces), batch):
        outputs = model(network_input(normalize_crops(faces[start : start + batch])))
        for piece, output in zip(pieces, outputs, strict=True):
            piece.append(output.numpy())
    return {name: np.concatenate(piece) for name, piece in zip(OUTPUTS, pieces, strict=True)}


def validate(model: nn.Module, data: FaceData, pool: U8) -> dict[str, float]:
    """Figures on the validation pictures. The score is the mean of both heads' accuracies, seen whole and partly covered."""
    rows = data.split.validation
    faces = data.faces[rows]
    outs = predict(model, faces)
    occluded_outputs = predict(model, occlude_square(faces, OCCLUDED_AREA, np.random.default_rng(0)))
    labelled = data.official[rows].sum(axis=1) > 0
    voted = data.ferplus[rows].sum(axis=1) > 0
    target = torch.from_numpy(data.official[rows][labelled])
    official, occluded = (
        float((o["official"].argmax(1) == data.labels[rows])[labelled].mean()) for o in (outs, occluded_outputs)
    )
    ferplus, ferplus_occluded = (
        float((o["ferplus"].argmax(1) == data.ferplus[rows].argmax(1))[voted].mean()) if voted.any() else 0.0
        for o in (outs, occluded_outputs)
    )
    nonface_values = predict(model, pool)["usable"]
    return {
        "validation_loss": soft_cross_entropy(torch.from_numpy(outs["official"][labelled]), target).item(),
        "official": official,
        "ferplus": ferplus,
        "covered": occluded,
        "ferplus_covered": ferplus_occluded,
        "faces_usable": float((outs["usable"][labelled] > 0).mean()),
        "nonfaces_refused": float((nonface_values <= 0).mean()),
        "score": (official + occluded + ferplus + ferplus_occluded) / (4 if voted.any() else 2),
    }


def summarize(model: nn.Module, data: FaceData) -> dict[str, Any]:
    """Calibrate on the validation pictures and measure there: temperatures and figures for both heads."""
    rows = data.split.validation
    outs = predict(model, data.faces[rows])
    heads: dict[str, Any] = {"temperature": {}, "validation": {}}
    for head, targets in (("official", data.official[rows]), ("ferplus", data.ferplus[rows])):
        known = targets.sum(axis=1) > 0
        if not known.any():
            heads["temperature"][head] = 1.0
            continue
        # By what an answer is held against, the label most voters chose: the votes themselves would leave it too modest.
        majority_onehot = np.eye(FACE_CLASSES, dtype=np.float32)[targets[known].argmax(axis=1)]
        heads["temperature"][head] = fit_temperature(outs[head][known], majority_onehot)
        probabilities = softmax(outs[head][known], heads["temperature"][head])
        heads["validation"][head] = classification_metrics(probabilities, targets[known].argmax(axis=1), LABELS[:FACE_CLASSES])
    return heads


def distil(data: FaceData, teacher: nn.Module, weight: float) -> FaceData:
    """Blend a network's answers into the training targets, by half as it sees each picture and half its mirror image.

    Furlanello et al. 2018, "Born-again neural networks". FER2013's labels are noisy, and answers tell of the other classes too.
    """
    rows = data.split.train
    seen, mirrored = (predict(teacher, faces) for faces in (data.faces[rows], data.faces[rows][:, :, ::-1]))
    blended = {}
    for head in ("official", "ferplus"):
        targets = getattr(data, head).copy()
        soft_labels = (softmax(seen[head]) + softmax(mirrored[head])) / 2
        counted = targets[rows].sum(axis=1, keepdims=True)  # a row without a target stays without
        targets[rows] = (1 - weight) * targets[rows] + weight * counted * soft_labels
        blended[head] = targets
    return replace(data, **blended)


@torch.no_grad()
def blend_heads(model: FaceNet, temperature: dict[str, float], share: float) -> None:
    """Put `share` of what the official head says, calibrated, into the ferplus head: two linear maps of one embedding make one.

    FER+'s voters called every third picture neutral, and their head alone takes a frown for that; FER2013's own labels say more
    of faint expressions, and their head alone takes too many calm faces for one.
    """
    for published, official in zip(model.ferplus.parameters(), model.official.parameters(), strict=True):
        published.copy_((1 - share) * published / temperature["ferplus"] + share * official / temperature["official"])


def is_trained(out_dir: Path, recipes: Sequence[FaceRecipe]) -> bool:
    """Whether OUT holds weights that these recipes, the latest first, were trained to the end for: they may be shipped ones."""
    if not (out_dir / "face.json").is_file():
        return False
    card = read_card(out_dir, "face")
    made = [{**each, "threads": 0} for each in (card["recipe"], *card["before"])]
    return bool(card.get("finished")) and made == [asdict(replace(each, threads=0)) for each in recipes]


def train_face(recipe: FaceRecipe, data_dir: Path, out_dir: Path, *ancestors: FaceRecipe) -> bool:
    """Train, write OUT/face.safetensors, its card and the run folder OUT/face; return whether every epoch was done.

    `before` are the recipes to train before, the latest first. That one goes into OUT/first (the one before it into
    OUT/first/first), and is not trained again where it lies there; its weights are the start, its answers the teacher.
    """
    run_dir, first_dir = out_dir / "face", out_dir / "first"
    if ancestors and not is_trained(first_dir, ancestors) and not train_face(ancestors[0], data_dir, first_dir, *ancestors[1:]):
        return False
    data = load_faces(data_dir, out_dir / "cache")
    pool, pool_validation = nonfaces(data, data_dir, recipe.seed)
    split = data.split
    print(
        f"face: {len(split.train)} pictures train, {len(split.validation)} validate, {len(split.dropped)} dropped as copies "
        f"of test pictures, {len(pool)} that are no face",
        flush=True,
    )
    torch.manual_seed(recipe.seed)
    model = FaceNet(width=recipe.width, dropout=recipe.dropout).to(memory_format=torch.channels_last)
    parent_weights = ""
    if ancestors:
        parent_weights = read_card(first_dir, "face")["sha256"]
        start = load_weights(first_dir, "face", FaceNet(width=ancestors[0].width)).to(memory_format=torch.channels_last)
        model.load_state_dict(start.state_dict())
        data = distil(data, start, recipe.teacher_weight)
    task = TrainingTask(
        model=model,
        steps=len(split.train) // recipe.batch,
        batches=lambda epoch: batches(data, pool, recipe, epoch),
        loss=lambda net, batch: loss(net, batch, recipe),
        validate=lambda net: validate(net, data, pool_validation),
        parent_weights=parent_weights,
    )
    history, finished = fit(task, recipe, run_dir)
    share = recipe.official_share if data.ferplus[split.train].any() else 1.0  # without votes that head learned nothing
    if share:
        blend_heads(model, summarize(model, data)["temperature"], share)
    summary = summarize(model, data)
    write_json(run_dir / "metrics.json", {"history": history, **summary})
    plot_curves(run_dir / "curves.png", history)
    plot_confusion(
        run_dir / "confusion.png", summary["validation"]["official"]["confusion"], LABELS[:FACE_CLASSES], "face, validation"
    )
    card = {
        "network": {"width": recipe.width},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "data": DATA,
        "protocol": "official parts; PublicTest never used; a tenth of Training, by duplicate group, chose and calibrated",
        **summary,
    }
    provenance = {"recipe": asdict(recipe), "before": [asdict(each) for each in ancestors], "finished": finished}
    save_weights(out_dir, "face", model, {**provenance, **card})
    return finished
