"""The table of variants: each network in each file format, precision, engine and number of threads.

Predictions are compared on held-out inputs; times and memory are measured on this machine.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moodring.errors import ExportError
from moodring.evaluation.provenance import commit
from moodring.export.held_out import HeldOut, Pairs
from moodring.export.quantization.data import FACE_HEAD, PERCENTAGE_POINTS, Feed, same_label_share
from moodring.inference.base import Model
from moodring.inference.branches import softmax
from moodring.inference.bundle import BUNDLE_FILE, BackendName, Bundle
from moodring.inference.measure import measure
from moodring.inference.tuning import machine_key
from moodring.inference.variants import BACKENDS, is_installed
from moodring.types import F32

ENGINE_NAMES: dict[BackendName, str] = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
DYNAMIC_BATCH_SIZE = 8  # inputs per call of files with a dynamic batch size
REFERENCE: tuple[str, str, BackendName] = (
    "onnx",
    "fp32",
    "onnx",
)  # format, precision and engine that every variant is compared with

VariantKey = tuple[str, str, str, BackendName]  # network, format, precision, engine


@dataclass(frozen=True, slots=True)
class MeasuredVariant:
    """One row of the table: a file of a network in an engine, with a number of threads."""

    network: str
    format: str  # onnx, ir, or batch (ONNX with a dynamic batch size)
    precision: str
    backend: BackendName
    path: Path
    threads: int = 1

    @property
    def key(self) -> VariantKey:
        """What determines the predictions: everything but the number of threads."""
        return self.network, self.format, self.precision, self.backend

    @property
    def bytes(self) -> int:
        weights = self.path.with_suffix(".bin")
        return self.path.stat().st_size + (weights.stat().st_size if self.format == "ir" else 0)


@dataclass(frozen=True, slots=True)
class Predictions:
    """The outputs of a variant for N inputs: probabilities float32 [N, C] and embeddings float32 [N, D]."""

    probabilities: F32
    embeddings: F32


def variants(bundle: Bundle, network: str, threads: Sequence[int] = (1,)) -> list[MeasuredVariant]:
    """List the variants of a network that this machine can run."""
    info = bundle.models[network]
    installed = [backend for backend in BACKENDS if is_installed(backend)]
    files = [("onnx", precision, backend, path) for precision, path in info.files.items() for backend in installed]
    files += [("ir", precision, "openvino", path) for precision, path in info.ir.items() if "openvino" in installed]
    files += [("batch", precision, backend, path) for precision, path in info.batched.items() for backend in installed]
    return [MeasuredVariant(network, *file, count) for file in files for count in threads]


def make_table(
    bundle: Bundle, held_out_sets: Mapping[str, HeldOut], pairs: Pairs | None, threads: Sequence[int] = (1,), samples: int = 100
) -> dict[str, Any]:
    """Measure every variant; return the table as a JSON document.

    `held_out_sets` holds the data of face and speech by network, `pairs` that of fusion; `samples` is the number of paced calls
    of each variant. Raises ExportError if a fusion network has no pairs, or a variant cannot be loaded.
    """
    rows: list[dict[str, Any]] = []
    predictions: dict[VariantKey, Predictions] = {}
    for network in bundle.models:
        candidates = variants(bundle, network, threads)
        timings = _time_variants(bundle, network, candidates, samples)
        for variant in candidates:
            if network in held_out_sets:
                held_out_set = held_out_sets[network]
            else:
                held_out_set = _fusion_inputs(pairs, held_out_sets, predictions, variant)
            if variant.key not in predictions:
                batch_size = DYNAMIC_BATCH_SIZE if variant.format == "batch" else 1
                model = bundle.open_file(network, variant.path, variant.backend)
                predictions[variant.key] = _predict(model, held_out_set, batch_size)
            row: dict[str, Any] = {"network": network, "format": variant.format, "precision": variant.precision,
                   "engine": variant.backend, "threads": variant.threads, "bytes": variant.bytes}  # fmt: skip
            row |= score(predictions[variant.key], predictions[(network, *REFERENCE)], held_out_set)
            row |= timings[variant] | _measure_cost(bundle, variant)
            rows.append(row)
            print(f"{network} {variant.format} {variant.precision} in {ENGINE_NAMES[variant.backend]}: "
                  f"accuracy {PERCENTAGE_POINTS * row['accuracy']:.2f} %, {row['hot_ms']['p50']:.2f} ms hot, "
                  f"{row['paced_ms']['p50']:.2f} ms paced", flush=True)  # fmt: skip
    add_accuracy_change(rows)
    mark_best(rows)
    descriptions = {name: held_out_set.description for name, held_out_set in held_out_sets.items()}
    return {
        "bundle": bundle.id,
        "files": {path.name: digest for path, digest in sorted(_digests(bundle).items())},
        "machine": _machine(bundle),
        "judged_on": descriptions | ({"fusion": pairs.description} if pairs else {}),
        "samples": samples,
        "rows": rows,
        "engines_agree": engine_agreement(predictions),
        "warnings": warnings(rows),
    }


def _machine(bundle: Bundle) -> dict[str, Any]:
    key = machine_key(bundle, 1)
    return {
        **key["versions"],
        "processor": key["processor"],
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "commit": commit(),
    }


def _time_variants(
    bundle: Bundle, network: str, candidates: Sequence[MeasuredVariant], samples: int
) -> dict[MeasuredVariant, dict[str, Any]]:
    """Time the variants for one input, then those for a batch; times and CPU share of a batch are divided by its size."""
    shapes = bundle.models[network].inputs
    timings: dict[MeasuredVariant, dict[str, Any]] = {}
    for batch_size in (1, DYNAMIC_BATCH_SIZE):
        group = [variant for variant in candidates if (variant.format == "batch") == (batch_size > 1)]
        models = {variant: bundle.open_file(network, variant.path, variant.backend, variant.threads) for variant in group}
        batch_shapes = {name: (batch_size, *shape[1:]) for name, shape in shapes.items()}
        for variant, timing in measure(models, batch_shapes, samples).items() if group else ():
            row = dataclasses.asdict(timing)
            for how in ("hot_ms", "paced_ms"):
                row[how] = {quantile: ms / batch_size for quantile, ms in row[how].items()}
            timings[variant] = row | {"cpu_share": row["cpu_share"] / batch_size, "at_once": batch_size}
    return timings


def _predict(model: Model, held_out_set: HeldOut, batch_size: int = 1) -> Predictions:
    """Run a model over all inputs, `batch_size` at a time."""
    outputs = []
    for start in range(0, len(held_out_set.inputs), batch_size):
        group = held_out_set.inputs[start : start + batch_size]
        outputs.append(model.run({name: np.concatenate([feed[name] for feed in group]) for name in group[0]}))
    logits = np.concatenate([output[held_out_set.head] for output in outputs])
    empty = np.zeros((1, 0), np.float32)
    embeddings = np.concatenate(
        [output.get("embedding", empty.repeat(len(output[held_out_set.head]), 0)) for output in outputs]
    )
    return Predictions(softmax(logits, classes=logits.shape[1]), embeddings)


def _fusion_inputs(
    pairs: Pairs | None,
    held_out_sets: Mapping[str, HeldOut],
    predictions: Mapping[VariantKey, Predictions],
    variant: MeasuredVariant,
) -> HeldOut:
    """Build the fusion inputs from the embeddings that both branches give in the same variant, as at run time."""
    if pairs is None:
        raise ExportError("a bundle with a fusion network needs pairs to compare its variants on; export from checkpoints")
    face, speech = (predictions[(branch, *variant.key[1:])].embeddings for branch in ("face", "speech"))
    windows_by_clip = [
        np.flatnonzero(held_out_sets["speech"].groups == clip) for clip in range(len(held_out_sets["speech"].labels))
    ]
    presence = np.ones((1, 2), np.float32)
    inputs: list[Feed] = []
    groups: list[int] = []
    for index, (image, clip) in enumerate(zip(pairs.images, pairs.clips, strict=True)):
        for window in windows_by_clip[clip]:
            embeddings = {"face_embedding": face[image][None], "speech_embedding": speech[window][None]}
            inputs.append(embeddings | {"presence": presence})
            groups.append(index)
    return HeldOut(pairs.description, FACE_HEAD, inputs, np.array(groups, np.int64), pairs.labels)


def score(prediction: Predictions, reference: Predictions, held_out_set: HeldOut) -> dict[str, float]:
    """Return the accuracy over groups of inputs, and the difference from the reference over inputs."""
    counts = np.bincount(held_out_set.groups, minlength=len(held_out_set.labels))[:, None]
    sums = np.zeros((len(held_out_set.labels), prediction.probabilities.shape[1]))
    np.add.at(sums, held_out_set.groups, prediction.probabilities)
    return {
        "accuracy": float(((sums / counts).argmax(axis=1) == held_out_set.labels).mean()),
        "same_label": same_label_share(prediction.probabilities, reference.probabilities),
        "mean_abs_difference": float(np.abs(prediction.probabilities - reference.probabilities).mean()),
    }


def _measure_cost(bundle: Bundle, variant: MeasuredVariant) -> dict[str, float]:
    """Measure load time and memory in a separate process."""
    command = [
        sys.executable, "-m", "moodring.inference.cost",
        str(bundle.path), variant.network, variant.path.name, variant.backend, str(variant.threads),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        raise ExportError(f"{variant.path} cannot be loaded in a separate process: {reason}")
    return dict(json.loads(done.stdout))


def add_accuracy_change(rows: list[dict[str, Any]]) -> None:
    """Add to each row the change of accuracy from float32 ONNX in ONNX Runtime, in percentage points."""
    reference = {
        row["network"]: row["accuracy"] for row in rows if (row["format"], row["precision"], row["engine"]) == REFERENCE
    }
    for row in rows:
        row["change_pp"] = PERCENTAGE_POINTS * (row["accuracy"] - reference[row["network"]])


def mark_best(rows: list[dict[str, Any]]) -> None:
    """Mark, for each network, the fastest (paced), the smallest and the most accurate variant; the faster one wins a tie.

    Files with a dynamic batch size do not take part, because the runtime does not use them.
    """
    uses = {"fastest": lambda r: r["paced_ms"]["p50"], "smallest": lambda r: (r["bytes"], r["paced_ms"]["p50"]),
            "most accurate": lambda r: (-r["accuracy"], r["paced_ms"]["p50"])}  # fmt: skip
    for row in rows:
        row["best"] = []
    for network in {row["network"] for row in rows}:
        network_rows = [row for row in rows if row["network"] == network and row["format"] != "batch"]
        for use, key in uses.items():
            min(network_rows, key=key)["best"].append(use)


def warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe each int8 variant that is slower on this machine than float32 in the same format, engine and threads."""
    result = []
    same = ("network", "format", "engine", "threads")
    for row in rows:
        if row["precision"] != "int8":
            continue
        for other in (r for r in rows if r["precision"] == "fp32" and all(r[key] == row[key] for key in same)):
            slower = [how for how in ("hot", "paced") if row[f"{how}_ms"]["p50"] > other[f"{how}_ms"]["p50"]]
            if slower:
                ratio = row[f"{slower[-1]}_ms"]["p50"] / other[f"{slower[-1]}_ms"]["p50"]
                result.append(
                    f"{row['network']}: int8 ({row['format']}, {ENGINE_NAMES[row['engine']]}, threads: {row['threads']}) is "
                    f"slower than fp32, {' and '.join(slower)}: {ratio:.2f}x its {slower[-1]} time"
                )
    return result


def engine_agreement(predictions: Mapping[VariantKey, Predictions]) -> dict[str, dict[str, float]]:
    """Return, by network and precision, the share of inputs for which both engines give the same label.

    OpenVINO runs the IR if the bundle has one of that precision, and otherwise the ONNX file (`Bundle.open`). ONNX Runtime is
    compared with both; the smaller share counts.
    """
    result: dict[str, dict[str, float]] = {}
    for (network, file_format, precision, backend), prediction in predictions.items():
        others = [predictions.get((network, other, precision, "openvino")) for other in ("onnx", "ir")]
        if file_format == "onnx" and backend == "onnx":
            shares = [same_label_share(prediction.probabilities, other.probabilities) for other in others if other is not None]
            if shares:
                result.setdefault(network, {})[precision] = min(shares)
    return result


def _digests(bundle: Bundle) -> dict[Path, str]:
    models = json.loads((bundle.path / BUNDLE_FILE).read_text(encoding="utf-8"))["models"].values()
    files = [entry for model in models for entry in model["files"].values()]
    files += [part for model in models for entry in model.get("ir", {}).values() for part in entry.values()]
    files += [entry for model in models for entry in model.get("batched", {}).values()]
    return {Path(entry["path"]): entry["sha256"] for entry in files}
