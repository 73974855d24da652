"""Files of a training: weights with their card, and the run folder's metrics.json, curves.png and confusion.png."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
from safetensors.torch import load_file, save_file
from torch import nn

from moodring.errors import DataError
from moodring.evaluation.provenance import commit
from moodring.features.spec import PreprocessSpec
from moodring.train.loop import write_atomically

mpl.use("Agg")
from matplotlib import pyplot as plt

Net = TypeVar("Net", bound=nn.Module)


def write_json(path: Path, document: Any) -> None:
    def write(part: Path) -> None:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    write_atomically(path, write)


def write_run_folder(
    folder: Path, history: list[dict[str, float]], summary: dict[str, Any], *, head: str, labels: Sequence[str], title: str
) -> None:
    """Write metrics.json with `history` and `summary`, curves.png, and confusion.png with the validation of `head`."""
    write_json(folder / "metrics.json", {"history": history, **summary})
    plot_curves(folder / "curves.png", history)
    plot_confusion(folder / "confusion.png", summary["validation"][head]["confusion"], labels, title)


def plot_curves(path: Path, history: list[dict[str, float]]) -> None:
    """Plot the losses and the other figures over the epochs, side by side."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for name in history[0]:
        if name in ("epoch", "score"):
            continue
        axis = axes[0] if "loss" in name else axes[1]
        axis.plot(epochs, [row[name] for row in history], label=name.replace("_", " "))
    for axis, title in zip(axes, ("loss", "fraction of the validation data"), strict=True):
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
        axis.legend()
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=110))
    plt.close(figure)


def plot_confusion(path: Path, confusion: Sequence[Sequence[int]], labels: Sequence[str], title: str) -> None:
    """Plot the confusion matrix [true, predicted]; each row shows percentages of the true class."""
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
    """Write KIND.safetensors and its card KIND.json, which holds the SHA-256 of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{kind}.safetensors"
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    write_atomically(path, lambda part: save_file(tensors, part))
    provenance = {"kind": kind, "sha256": sha256(path), "spec_hash": PreprocessSpec().hash_for(kind), "commit": commit()}
    write_json(folder / f"{kind}.json", {**provenance, **card})


def read_card(folder: Path, kind: str) -> dict[str, Any]:
    """Read KIND.json. Raise DataError if a file is missing or damaged, or if the SHA-256 of KIND.safetensors differs."""
    weights, path = folder / f"{kind}.safetensors", folder / f"{kind}.json"
    for required in (weights, path):
        if not required.is_file():
            raise DataError(f"{required}: checkpoint not found; run `moodring train {kind}` first")
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        recorded = card["sha256"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: invalid checkpoint card ({error}); run `moodring train {kind}` again") from error
    if recorded != sha256(weights):
        raise DataError(f"{weights}: SHA-256 differs from {path.name}; copy both files again or train again")
    return dict(card)


def load_weights(folder: Path, kind: str, model: Net) -> Net:
    """Load KIND.safetensors into `model` and return it in inference mode. Raise DataError if the weights do not fit."""
    path = folder / f"{kind}.safetensors"
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, OSError) as error:
        raise DataError(f"{path}: weights do not fit the {kind} network of this version ({error}); train again") from error
    return model.eval()


def mean_and_deviation(values: Sequence[float]) -> dict[str, float]:
    """Return the mean and the sample standard deviation of two or more values."""
    return {"mean": float(np.mean(values)), "deviation": float(np.std(values, ddof=1))}
