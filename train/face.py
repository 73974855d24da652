"""Training of the face branch on FER2013 labels and FER+ votes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import convert_conv2d_weight_memory_format

from moodring.evaluation.corruption import occlude_square
from moodring.evaluation.metrics import classification_metrics
from moodring.features.face.crop import normalize_crops
from moodring.labels import FACE_CLASSES, LABELS
from moodring.train.calibration import fit_temperature, softmax
from moodring.train.data.augment_images import apply_mixup, blur_faces, erase_patches, warp_faces
from moodring.train.data.faces import FaceData, load_faces, load_nonfaces
from moodring.train.loop import TrainingTask, fit
from moodring.train.losses import soft_cross_entropy
from moodring.train.models.face import FaceNet, predict
from moodring.train.recipe import FaceRecipe
from moodring.train.run_folder import load_weights, read_card, save_weights, write_run_folder
from moodring.types import U8

OCCLUDED_AREA = 0.3  # share of the image area that the validation occludes
Batch = tuple[Tensor, Tensor, Tensor, Tensor]  # crops [B,1,48,48], official [B,7], ferplus [B,7], usable [B]

DATA = [
    {"name": "FER2013", "licence": "Kaggle challenge 2013, research use", "part": "Training without copies of test pictures"},
    {"name": "FER+", "licence": "MIT", "part": "votes for the same pictures"},
]
PROTOCOL = "official parts; PublicTest never used; a tenth of Training, by duplicate group, chose and calibrated"


def batches(data: FaceData, nonfaces: U8, recipe: FaceRecipe, epoch: int) -> Iterator[Batch]:
    """Yield the batches of an epoch: augmented faces and `recipe.nonfaces` augmented non-faces each."""
    rng = np.random.default_rng([recipe.seed, epoch])
    order = rng.permutation(data.split.train)
    for start in range(0, len(order) - recipe.batch + 1, recipe.batch):
        rows = order[start : start + recipe.batch]
        others = nonfaces[rng.integers(0, len(nonfaces), recipe.nonfaces)]
        grey = blur_faces(warp_faces(np.concatenate([data.faces[rows], others]), rng, recipe), rng)
        if recipe.erase_grey:
            normal = normalize_crops(erase_patches(grey, rng, recipe))
        else:
            normal = erase_patches(normalize_crops(grey), rng, recipe)
        crops = torch.from_numpy(normal)
        official, ferplus, usable = (torch.from_numpy(part[rows]) for part in (data.official, data.ferplus, data.usable))
        faces, official, ferplus, usable = apply_mixup((crops[: recipe.batch], official, ferplus, usable), rng, recipe.mixup)
        faces = torch.cat([faces, crops[recipe.batch :]])
        if epoch < recipe.small_epochs:  # progressive resizing (Howard 2018): small crops in the first epochs cost less
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


def loss(model: nn.Module, batch: Batch, recipe: FaceRecipe) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of the losses of the three heads, and its parts."""
    crops, official, ferplus, usable = batch
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
        outputs = model(crops)
    _, official_logits, ferplus_logits, usable_logit = (output.float() for output in outputs)
    official_loss = soft_cross_entropy(official_logits, official, recipe.label_smoothing)
    ferplus_loss = soft_cross_entropy(ferplus_logits, ferplus)
    usable_loss = functional.binary_cross_entropy_with_logits(usable_logit[:, 0], usable)
    total = official_loss + recipe.ferplus_weight * ferplus_loss + recipe.usable_weight * usable_loss
    parts = {"loss_official": official_loss.item(), "loss_ferplus": ferplus_loss.item(), "loss_usable": usable_loss.item()}
    return total, parts


def validate(model: nn.Module, data: FaceData, nonfaces: U8) -> dict[str, float]:
    """Measure the network on the validation images and non-faces.

    The score is the mean accuracy of both heads on whole and on occluded images.
    """
    rows = data.split.validation
    faces = data.faces[rows]
    whole = predict(model, faces)
    occluded = predict(model, occlude_square(faces, OCCLUDED_AREA, np.random.default_rng(0)))
    labelled = data.official[rows].sum(axis=1) > 0
    voted = data.ferplus[rows].sum(axis=1) > 0
    target = torch.from_numpy(data.official[rows][labelled])
    official, official_occluded = (
        float((outputs["official"].argmax(1) == data.labels[rows])[labelled].mean()) for outputs in (whole, occluded)
    )
    ferplus, ferplus_occluded = (
        float((outputs["ferplus"].argmax(1) == data.ferplus[rows].argmax(1))[voted].mean()) if voted.any() else 0.0
        for outputs in (whole, occluded)
    )
    nonface_usable = predict(model, nonfaces)["usable"]
    return {
        "validation_loss": soft_cross_entropy(torch.from_numpy(whole["official"][labelled]), target).item(),
        "official": official,
        "ferplus": ferplus,
        "covered": official_occluded,
        "ferplus_covered": ferplus_occluded,
        "faces_usable": float((whole["usable"][labelled] > 0).mean()),
        "nonfaces_refused": float((nonface_usable <= 0).mean()),
        "score": (official + official_occluded + ferplus + ferplus_occluded) / (4 if voted.any() else 2),
    }


def summarize(model: nn.Module, data: FaceData) -> dict[str, Any]:
    """Fit the temperature of both heads on the validation images, and return temperatures and metrics by head."""
    rows = data.split.validation
    outputs = predict(model, data.faces[rows])
    heads: dict[str, Any] = {"temperature": {}, "validation": {}}
    for head, targets in (("official", data.official[rows]), ("ferplus", data.ferplus[rows])):
        known = targets.sum(axis=1) > 0
        if not known.any():
            heads["temperature"][head] = 1.0
            continue
        # The evaluation compares with the majority label. A temperature fitted to the vote shares would be too high for it.
        majority_onehot = np.eye(FACE_CLASSES, dtype=np.float32)[targets[known].argmax(axis=1)]
        heads["temperature"][head] = fit_temperature(outputs[head][known], majority_onehot)
        probabilities = softmax(outputs[head][known], heads["temperature"][head])
        heads["validation"][head] = classification_metrics(probabilities, targets[known].argmax(axis=1), LABELS[:FACE_CLASSES])
    return heads


def distil(data: FaceData, teacher: nn.Module, weight: float) -> FaceData:
    """Return `data` with the teacher's probabilities blended into the training targets, with a share of `weight`.

    The probabilities are the mean for the image and its mirror image. FER2013's labels are noisy, and the probabilities carry
    information on the other classes. Furlanello et al. 2018, "Born-again neural networks".
    """
    rows = data.split.train
    plain, mirrored = (predict(teacher, faces) for faces in (data.faces[rows], data.faces[rows][:, :, ::-1]))
    blended = {}
    for head in ("official", "ferplus"):
        targets = getattr(data, head).copy()
        soft_labels = (softmax(plain[head]) + softmax(mirrored[head])) / 2
        has_target = targets[rows].sum(axis=1, keepdims=True)  # 1, or 0 for a row without a target, which stays zero
        targets[rows] = (1 - weight) * targets[rows] + weight * has_target * soft_labels
        blended[head] = targets
    return replace(data, **blended)


@torch.no_grad()
def blend_heads(model: FaceNet, temperature: dict[str, float], share: float) -> None:
    """Blend `share` of the calibrated official head into the ferplus head, in place. Both are linear maps of one embedding.

    FER+ voters called one image in three neutral, so that the ferplus head alone misses frowns. The official head covers faint
    expressions better, but alone it takes too many calm faces for an expression.
    """
    for ferplus, official in zip(model.ferplus.parameters(), model.official.parameters(), strict=True):
        ferplus.copy_((1 - share) * ferplus / temperature["ferplus"] + share * official / temperature["official"])


def is_trained(out_dir: Path, recipes: Sequence[FaceRecipe]) -> bool:
    """Return whether `out_dir` holds the weights of a complete training by these recipes, the latest first."""
    if not (out_dir / "face.json").is_file():
        return False
    card = read_card(out_dir, "face")
    trained = [{**each, "threads": 0} for each in (card["recipe"], *card["before"])]
    return bool(card.get("finished")) and trained == [asdict(replace(each, threads=0)) for each in recipes]


def train_face(recipe: FaceRecipe, data_dir: Path, out_dir: Path, *ancestors: FaceRecipe) -> bool:
    """Train; write face.safetensors, its card and the run folder `face` into `out_dir`.

    Return whether all epochs are complete. `ancestors` are the recipes to train before this one, the latest first. The parent
    network goes into OUT/first, its own parent into OUT/first/first, and so on; a complete one there is reused. The training
    starts from the weights of the parent and uses its outputs as soft targets.
    """
    run_dir, first_dir = out_dir / "face", out_dir / "first"
    if ancestors and not is_trained(first_dir, ancestors) and not train_face(ancestors[0], data_dir, first_dir, *ancestors[1:]):
        return False
    data = load_faces(data_dir, out_dir / "cache")
    nonfaces, validation_nonfaces = load_nonfaces(data, data_dir, recipe.seed)
    split = data.split
    print(
        f"face: {len(split.train)} training images, {len(split.validation)} validation images, {len(split.dropped)} dropped as "
        f"copies of test images, {len(nonfaces)} non-faces",
        flush=True,
    )
    torch.manual_seed(recipe.seed)
    model = convert_conv2d_weight_memory_format(FaceNet(recipe.width, dropout=recipe.dropout), torch.channels_last)
    parent_weights = ""
    if ancestors:
        parent_weights = read_card(first_dir, "face")["sha256"]
        parent = load_weights(first_dir, "face", FaceNet(ancestors[0].width))
        parent = convert_conv2d_weight_memory_format(parent, torch.channels_last)
        model.load_state_dict(parent.state_dict())
        data = distil(data, parent, recipe.teacher_weight)
    task = TrainingTask(
        model=model,
        steps=len(split.train) // recipe.batch,
        batches=lambda epoch: batches(data, nonfaces, recipe, epoch),
        loss=lambda net, batch: loss(net, batch, recipe),
        validate=lambda net: validate(net, data, validation_nonfaces),
        parent_weights=parent_weights,
    )
    history, finished = fit(task, recipe, run_dir)
    share = recipe.official_share if data.ferplus[split.train].any() else 1.0  # without votes the ferplus head is untrained
    if share:
        blend_heads(model, summarize(model, data)["temperature"], share)
    summary = summarize(model, data)
    write_run_folder(run_dir, history, summary, head="official", labels=LABELS[:FACE_CLASSES], title="face, validation")
    provenance = {"recipe": asdict(recipe), "before": [asdict(each) for each in ancestors], "finished": finished}
    save_weights(out_dir, "face", model, {**provenance, **_card(model, recipe), **summary})
    return finished


def _card(model: FaceNet, recipe: FaceRecipe) -> dict[str, Any]:
    return {
        "network": {"width": recipe.width},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "data": DATA,
        "protocol": PROTOCOL,
    }
