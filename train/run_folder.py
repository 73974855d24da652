"""A run folder's figures and pictures: metrics.json, curves.png, confusion.png; and the card beside the weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn

from moodring.errors import DataError
from moodring.evaluation.provenance import commit
from moodring.features.spec import PreprocessSpec
from moodring.train.loop import write_atomically

mpl.use("Agg")
from matplotlib import pyplot as plt


def write_json(path: Path, document: Any) -> None:
    write_atomically(path, lambda part: part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8") and None)


def plot_curves(path: Path, history: list[dict[str, float]]) -> None:
    """Draw loss and accuracy over epochs, side by side."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for name in history[0]:
        if name in ("epoch", "score"):
            continue
        axis = axes[0] if "loss" in name else axes[1]
        axis.plot(epochs, [row[name] for row in history], label=name.replace("_", " "))
    for axis, title in zip(axes, ("loss", "fraction right (validation)"), strict=True):
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
        axis.legend()
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=110))
    plt.close(figure)


def plot_confusion(path: Path, confusion: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> None:
    """Draw the confusion matrix, each row in shares of the true class."""
    counts = np.asarray(confusion, float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    figure, axis = plt.subplots(figsize=(6.5, 6), layout="constrained")
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axis.set(xticks=range(len(labels)), yticks=range(len(labels)), xlabel="predicted", ylabel="true", title=title)
    axis.set_xticklabels(labels, rotation=45, ha="right")
    axis.set_yticklabels(labels)
    for (row, column), share in np.ndenumerate(shares):
        axis.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color="white" if share > 0.5 else "black")
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=110))
    plt.close(figure)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save_weights(folder: Path, kind: str, model: nn.Module, card: dict[str, Any]) -> None:
    """Write KIND.safetensors and its card KIND.json, which names the file's hash."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}.safetensors"
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    write_atomically(path, lambda part: save_file(tensors, part))
    provenance = {"kind": kind, "sha256": sha256(path), "spec_hash": PreprocessSpec().hash_for(kind), "commit": commit()}
    write_json(folder / f"{kind}.json", {**provenance, **card})


def read_card(folder: Path, kind: str) -> dict[str, Any]:
    """Read KIND.json and check that KIND.safetensors is the file it speaks of."""
    weights, path = folder / f"{kind}.safetensors", folder / f"{kind}.json"
    for wanted in (weights, path):
        if not wanted.is_file():
            raise DataError(f"{wanted}: there is no such checkpoint; run `moodring train {kind}` first")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        recorded = card["sha256"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: is no checkpoint card ({error})") from error
    if recorded != sha256(weights):
        raise DataError(f"{weights}: is not the file that {path.name} speaks of (sha256 differs)")
    return dict(card)


def load_weights(folder: Path, kind: str, model: nn.Module) -> nn.Module:
    """Fill `model` from KIND.safetensors, ready for inference."""
    path = folder / f"{kind}.safetensors"
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, OSError) as error:
        raise DataError(f"{path}: does not fit the {kind} network ({error})") from error
    return model.eval()


def mean_and_deviation(values: Sequence[float]) -> dict[str, float]:
    """Return the mean of two or more values and their sample deviation."""
    return {"mean": float(np.mean(values)), "deviation": float(np.std(values, ddof=1))}


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.float32]) -> float:
    """Return the temperature that minimises cross-entropy of logits [N, C] with target distributions [N, C].

    After Guo et al. 2017.
    """
    scores, goals = torch.from_numpy(np.asarray(logits)).double(), torch.from_numpy(np.asarray(targets)).double()
    grid = np.exp(np.linspace(np.log(0.25), np.log(4.0), 201))
    losses = [float(-(goals * torch.log_softmax(scores / t, dim=1)).sum(dim=1).mean()) for t in grid]
    return round(float(grid[int(np.argmin(losses))]), 4)


def softmax(logits: NDArray[Any], temperature: float = 1.0) -> NDArray[np.float64]:
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    powers = np.exp(scaled)
    return powers / powers.sum(axis=1, keepdims=True)
