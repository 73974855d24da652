"""The charts of the report, drawn from evaluation results. They contain no image or audio of a data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from docs.generate.models import wording
from moodring.labels import LABELS

mpl.use("Agg")
from matplotlib import pyplot as plt

DPI = 100
FACE, VOICE, BOTH, PALE = "#c8553d", "#3d6fb4", "#2e7d5b", "#c9d1d9"


def save(figure: Any, path: Path) -> None:
    """Write a matplotlib figure as a PNG without a software tag: equal input gives equal bytes."""
    figure.savefig(path, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def bar_chart(path: Path, groups: Mapping[str, Mapping[str, float]], colors: Mapping[str, str], title: str) -> None:
    """Draw groups of bars from fractions in [0, 1]; each bar carries its value in per cent."""
    names = list(next(iter(groups.values())))
    figure, axis = plt.subplots(figsize=(9, 4), layout="constrained")
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        positions = np.arange(len(groups)) + (index - (len(names) - 1) / 2) * width
        values = [100 * group[name] for group in groups.values()]
        drawn = axis.bar(positions, values, width * 0.92, label=name, color=colors.get(name, PALE))
        axis.bar_label(drawn, fmt="%.1f", fontsize=8)
    axis.set(xticks=range(len(groups)), xticklabels=list(groups), ylim=(0, 100), ylabel="accuracy, %", title=title)
    axis.legend(ncols=len(names), loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def confusion_matrices(path: Path, matrices: Mapping[str, Sequence[Sequence[int]]]) -> None:
    """Draw confusion matrices, counts[true][predicted], side by side, in per cent of the true class."""
    figure, axes = plt.subplots(1, len(matrices), figsize=(5.2 * len(matrices), 5.4), layout="constrained")
    for axis, (title, matrix) in zip(np.atleast_1d(axes), matrices.items(), strict=True):
        counts = np.asarray(matrix, float)
        shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        axis.set(xticks=range(len(LABELS)), yticks=range(len(LABELS)), xlabel="predicted", ylabel="true", title=title)
        axis.set_xticklabels(LABELS, rotation=45, ha="right")
        axis.set_yticklabels(LABELS)
        for (row, column), share in np.ndenumerate(shares):
            if counts[row].sum():
                line_color = "white" if share > 50 else "black"
                axis.text(column, row, f"{share:.0f}", ha="center", va="center", color=line_color, fontsize=8)
    save(figure, path)


def reliability_diagrams(path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Draw accuracy over confidence for each bin of each curve; the area of a dot shows the share of results in its bin."""
    figure, axes = plt.subplots(1, len(curves), figsize=(3.9 * len(curves), 3.9), layout="constrained", sharey=True)
    for axis, (title, bins) in zip(np.atleast_1d(axes), curves.items(), strict=True):
        total = sum(part["n"] for part in bins)
        axis.plot([0, 100], [0, 100], color=PALE, linewidth=1)
        axis.scatter(
            [100 * part["confidence"] for part in bins],
            [100 * part["accuracy"] for part in bins],
            s=[12 + 900 * part["n"] / total for part in bins],
            color=BOTH,
            alpha=0.75,
        )
        axis.set(xlim=(0, 100), ylim=(0, 100), xlabel="confidence, %", title=title, aspect="equal")
    np.atleast_1d(axes)[0].set_ylabel("accuracy, %")
    save(figure, path)


def risk_coverage(path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Draw accuracy over coverage, with the most confident results first, and a line at 90 %."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for (title, points), line_color in zip(curves.items(), (BOTH, FACE, VOICE, "#7d5ba6"), strict=False):
        coverage, right = ([100 * point[key] for point in points] for key in ("coverage", "accuracy"))
        axis.plot(coverage, right, label=title, color=line_color)
    axis.axhline(90, color=PALE, linewidth=1)
    axis.set(xlim=(0, 100), ylim=(50, 100), xlabel="coverage, most confident pairs first, %", ylabel="accuracy, %")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def curves(path: Path, histories: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    """Draw the validation accuracy of each epoch and, below it, the losses; one column for each training."""
    figure, axes = plt.subplots(2, len(histories), figsize=(4.6 * len(histories), 5.6), layout="constrained", squeeze=False)
    for column, (title, history) in enumerate(histories.items()):
        epochs = [row["epoch"] for row in history]
        for name in history[0]:
            if name in ("epoch", "score") or "usable" in name or "refused" in name:
                continue
            row = 1 if "loss" in name else 0
            scale = 1 if row else 100
            axes[row, column].plot(epochs, [scale * each[name] for each in history], label=wording.title(name))
        axes[0, column].set(title=title)
        axes[1, column].set(xlabel="epoch")
        for axis in axes[:, column]:
            axis.legend(fontsize=7, edgecolor="none", framealpha=0.8)
            axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("accuracy on validation data, %")
    axes[1, 0].set_ylabel("loss")
    save(figure, path)


def line_panels(path: Path, groups: Mapping[str, Mapping[str, Sequence[tuple[str, float]]]], ylabel: str) -> None:
    """Draw one panel for each group, with one line for each series of (strength, fraction) points, in per cent."""
    columns = min(4, len(groups))
    rows = -(-len(groups) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.6 * columns, 3.1 * rows), layout="constrained", squeeze=False, sharey=True
    )
    for axis in axes.flat[len(groups) :]:
        axis.set_visible(False)
    for axis, (title, series) in zip(axes.flat, groups.items(), strict=False):
        for name, points in series.items():
            axis.plot(
                [strength for strength, _ in points], [100 * value for _, value in points], marker="o", markersize=3, label=name
            )
        axis.set(title=title)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, frameon=False)
    for row in axes[:, 0]:
        row.set_ylabel(ylabel)
    save(figure, path)


def instants_sheet(path: Path, instants: Sequence[Mapping[str, Any]]) -> None:
    """Draw the probabilities of face, voice and both at some instants of a run, one column for each instant."""
    figure, axes = plt.subplots(
        3, len(instants), figsize=(2.3 * len(instants), 6.2), layout="constrained", sharey="row", sharex=True
    )
    kinds = (("face", FACE), ("speech", VOICE), ("fused", BOTH))
    for column, instant in enumerate(instants):
        for row, (kind, line_color) in enumerate(kinds):
            axis = axes[row, column]
            probabilities = instant[kind]
            if probabilities is None:
                axis.text(0.5, 0.5, "no output", transform=axis.transAxes, ha="center", va="center", color="#57606a")
            else:
                axis.barh(range(len(LABELS)), [100 * probabilities.get(label, 0.0) for label in LABELS], color=line_color)
            axis.set(xlim=(0, 100), yticks=range(len(LABELS)))
            axis.set_yticklabels(LABELS, fontsize=7)
            axis.invert_yaxis() if column == 0 else None
        axes[0, column].set_title(f"{instant['time_s']:.1f} s")
        axes[2, column].set_xlabel("probability, %")
    for row, (kind, _) in enumerate(kinds):
        axes[row, 0].set_ylabel({"speech": "voice", "fused": "both"}.get(kind, kind))
    save(figure, path)
