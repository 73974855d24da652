"""The table that tells which form to run: each network in each file format, precision, engine and number of threads.

What a form answers is compared on held-out inputs, what it costs is measured on this machine.
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
from numpy.typing import NDArray

from moodring.errors import ExportError
from moodring.evaluation.provenance import commit
from moodring.export.held_out import HeldOut, Pairs
from moodring.export.quantization.data import FACE_HEAD, Inputs
from moodring.inference.base import Model
from moodring.inference.branches import softmax
from moodring.inference.bundle import BackendName, Bundle
from moodring.inference.measure import measure
from moodring.inference.tuning import machine_key
from moodring.inference.variants import BACKENDS, is_installed

F32 = NDArray[np.float32]
ENGINE_NAMES: dict[BackendName, str] = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
PERCENTAGE_POINTS = 100.0
DYNAMIC_BATCH_SIZE = 8  # inputs, for files that take any number


@dataclass(frozen=True, slots=True)
class MeasuredVariant:
    """One row of the table: a file of a network, in an engine."""

    network: str
    format: str  # onnx, ir, or batch: ONNX for any number of inputs
    precision: str
    backend: BackendName
    path: Path
    threads: int = 1

    @property
    def bytes(self) -> int:
        weights = self.path.with_suffix(".bin")
        return self.path.stat().st_size + (weights.stat().st_size if self.format == "ir" else 0)


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a variant says of every input: probabilities float32 [N, C] and embeddings [N, D]."""

    probabilities: F32
    embeddings: F32


def variants(bundle: Bundle, network: str, threads: Sequence[int] = (1,)) -> list[MeasuredVariant]:
    """List what this machine can run of a network."""
    info = bundle.models[network]
    installed = [backend for backend in BACKENDS if is_installed(backend)]
    files = [("onnx", precision, backend, path) for precision, path in info.files.items() for backend in installed]
    files += [("ir", precision, "openvino", path) for precision, path in info.ir.items() if "openvino" in installed]
    files += [("batch", precision, backend, path) for precision, path in info.batched.items() for backend in installed]
    return [MeasuredVariant(network, *file, count) for file in files for count in threads]


def make_table(
    bundle: Bundle, held_out_sets: Mapping[str, HeldOut], pairs: Pairs | None, threads: Sequence[int] = (1,), samples: int = 100
) -> dict[str, Any]:
    """Measure all of it; return the table as a JSON document. `held` names what each branch is judged on."""
    rows: list[dict[str, Any]] = []
    predictions: dict[tuple[str, str, str, BackendName], Predictions] = {}
    for network in bundle.models:
        candidates = variants(bundle, network, threads)
        timings = _time_variants(bundle, network, candidates, samples)
        for one in candidates:
            key = (network, one.format, one.precision, one.backend)
            held_out_set = (
                held_out_sets[network] if network in held_out_sets else _fusion_inputs(pairs, held_out_sets, predictions, one)
            )
            if key not in predictions:
                batch_size = DYNAMIC_BATCH_SIZE if one.format == "batch" else 1
                predictions[key] = _predict(bundle.open_file(network, one.path, one.backend), held_out_set, batch_size)
            reference = predictions[(network, "onnx", "fp32", "onnx")]
            row: dict[str, Any] = {"network": network, "format": one.format, "precision": one.precision, "engine": one.backend,
                   "threads": one.threads, "bytes": one.bytes}  # fmt: skip
            row |= _score(predictions[key], reference, held_out_set) | timings[one] | _measure_cost(bundle, one)
            rows.append(row)
            print(f"{network} {one.format} {one.precision} in {ENGINE_NAMES[one.backend]}: {PERCENTAGE_POINTS * row['accuracy']:.2f} %, "
                  f"{row['hot_ms']['p50']:.2f} ms hot, {row['paced_ms']['p50']:.2f} ms paced", flush=True)  # fmt: skip
    _add_accuracy_change(rows)
    _mark_best(rows)
    descriptions = {name: one.description for name, one in held_out_sets.items()} | (
        {"fusion": pairs.description} if pairs else {}
    )
    return {
        "bundle": bundle.id,
        "files": {path.name: digest for path, digest in sorted(_digests(bundle).items())},
        "machine": {
            **machine_key(bundle, 1)["versions"],
            "processor": machine_key(bundle, 1)["processor"],
            "cores": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "commit": commit(),
        },
        "judged_on": descriptions,
        "samples": samples,
        "rows": rows,
        "engines_agree": _engines_agree(predictions),
        "warnings": warnings(rows),
    }


def _time_variants(
    bundle: Bundle, network: str, candidates: Sequence[MeasuredVariant], samples: int
) -> dict[MeasuredVariant, dict[str, Any]]:
    """Time what takes one input, and then what takes several: its times and its share of a core are those of one of them."""
    shapes = bundle.models[network].inputs
    timings: dict[MeasuredVariant, dict[str, Any]] = {}
    for batch_size in (1, DYNAMIC_BATCH_SIZE):
        group = [one for one in candidates if (one.format == "batch") == (batch_size > 1)]
        models = {one: bundle.open_file(network, one.path, one.backend, one.threads) for one in group}
        many = {name: (batch_size, *shape[1:]) for name, shape in shapes.items()}
        for one, timing in measure(models, many, samples).items() if group else ():
            row = dataclasses.asdict(timing)
            for how in ("hot_ms", "paced_ms"):
                row[how] = {quantile: ms / batch_size for quantile, ms in row[how].items()}
            timings[one] = row | {"cpu_share": row["cpu_share"] / batch_size, "at_once": batch_size}
    return timings


def _predict(model: Model, held_out_set: HeldOut, batch_size: int = 1) -> Predictions:
    """Ask for all answers, several inputs at once where the network takes them."""
    outputs = []
    for start in range(0, len(held_out_set.inputs), batch_size):
        group = held_out_set.inputs[start : start + batch_size]
        outputs.append(model.run({name: np.concatenate([one[name] for one in group]) for name in group[0]}))
    logits = np.concatenate([output[held_out_set.head] for output in outputs])
    empty = np.zeros((1, 0), np.float32)
    embeddings = np.concatenate(
        [output.get("embedding", empty.repeat(len(output[held_out_set.head]), 0)) for output in outputs]
    )
    return Predictions(softmax(logits, classes=logits.shape[1]), embeddings)


def _fusion_inputs(
    pairs: Pairs | None,
    held_out_sets: Mapping[str, HeldOut],
    predictions: Mapping[tuple[str, str, str, BackendName], Predictions],
    one: MeasuredVariant,
) -> HeldOut:
    """Build the fusion's inputs of what both branches say in the same form, as they would at run time."""
    if pairs is None:
        raise ExportError("a bundle with a fusion network is judged on pairs, and there are none")
    face, speech = (predictions[(branch, one.format, one.precision, one.backend)].embeddings for branch in ("face", "speech"))
    windows_by_clip = [
        np.flatnonzero(held_out_sets["speech"].groups == clip) for clip in range(len(held_out_sets["speech"].labels))
    ]
    both = np.ones((1, 2), np.float32)
    inputs: Inputs = []
    groups: list[int] = []
    for index, (image, clip) in enumerate(zip(pairs.images, pairs.clips, strict=True)):
        for window in windows_by_clip[clip]:
            inputs.append({"face_embedding": face[image][None], "speech_embedding": speech[window][None], "presence": both})
            groups.append(index)
    return HeldOut(pairs.description, FACE_HEAD, inputs, np.array(groups, np.int64), pairs.labels)


def _score(prediction: Predictions, reference: Predictions, held_out_set: HeldOut) -> dict[str, float]:
    counts = np.bincount(held_out_set.groups, minlength=len(held_out_set.labels))[:, None]
    sums = np.zeros((len(held_out_set.labels), prediction.probabilities.shape[1]))
    np.add.at(sums, held_out_set.groups, prediction.probabilities)
    one, other = prediction.probabilities, reference.probabilities
    return {
        "accuracy": float(((sums / counts).argmax(axis=1) == held_out_set.labels).mean()),
        "same_label": float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
        "mean_abs_difference": float(np.abs(one - other).mean()),
    }


def _measure_cost(bundle: Bundle, one: MeasuredVariant) -> dict[str, float]:
    """Load it in a process of its own."""
    command = [sys.executable, "-m", "moodring.inference.cost", str(bundle.path), one.network, one.path.name, one.backend]
    done = subprocess.run([*command, str(one.threads)], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise ExportError(f"{one.path} cannot be loaded in a process of its own: {done.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(done.stdout))


def _add_accuracy_change(rows: list[dict[str, Any]]) -> None:
    """Say how many points of accuracy each row has more than float32 ONNX in ONNX Runtime."""
    plain = {row["network"]: row["accuracy"] for row in rows
             if (row["format"], row["precision"], row["engine"]) == ("onnx", "fp32", "onnx")}  # fmt: skip
    for row in rows:
        row["change_pp"] = PERCENTAGE_POINTS * (row["accuracy"] - plain[row["network"]])


def _mark_best(rows: list[dict[str, Any]]) -> None:
    """Mark, for each network, the fastest (paced), the smallest file and the most accurate; ties go to the faster."""
    uses = {"fastest": lambda r: r["paced_ms"]["p50"], "smallest": lambda r: (r["bytes"], r["paced_ms"]["p50"]),
            "most accurate": lambda r: (-r["accuracy"], r["paced_ms"]["p50"])}  # fmt: skip
    for row in rows:
        row["best"] = []
    for network in {row["network"] for row in rows}:
        network_rows = [
            row for row in rows if row["network"] == network and row["format"] != "batch"
        ]  # the runtime runs none of these
        for use, key in uses.items():
            min(network_rows, key=key)["best"].append(use)


def warnings(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say where int8 is slower than float32 of the same file format, engine and threads, on this machine."""
    result = []
    for row in rows:
        same = ("network", "format", "engine", "threads")
        others = [r for r in rows if r["precision"] == "fp32" and all(r[key] == row[key] for key in same)]
        for other in others if row["precision"] == "int8" else ():
            slower = [how for how in ("hot", "paced") if row[f"{how}_ms"]["p50"] > other[f"{how}_ms"]["p50"]]
            if slower:
                ratio = row[f"{slower[-1]}_ms"]["p50"] / other[f"{slower[-1]}_ms"]["p50"]
                result.append(
                    f"{row['network']}: int8 ({row['format']}, {ENGINE_NAMES[row['engine']]}, {row['threads']} thread(s)) is "
                    f"slower here than fp32, {' and '.join(slower)}: {ratio:.2f} times its time {slower[-1]}"
                )
    return result


def _engines_agree(predictions: Mapping[tuple[str, str, str, BackendName], Predictions]) -> dict[str, dict[str, float]]:
    """Return on which share of inputs both engines give the same first label, by network and precision.

    OpenVINO runs the bundle's IR where there is one, and else the ONNX file: as `Bundle.open` has it. Both must agree, so the
    smaller share counts.
    """
    result: dict[str, dict[str, float]] = {}
    for (network, file_format, precision, backend), prediction in predictions.items():
        others = [predictions.get((network, other, precision, "openvino")) for other in ("onnx", "ir")]
        if file_format == "onnx" and backend == "onnx":
            first = prediction.probabilities.argmax(axis=1)
            same = [float((first == other.probabilities.argmax(axis=1)).mean()) for other in others if other is not None]
            if same:
                result.setdefault(network, {})[precision] = min(same)
    return result


def _digests(bundle: Bundle) -> dict[Path, str]:
    document = json.loads((bundle.path / "bundle.json").read_text(encoding="utf-8"))
    files = [entry for model in document["models"].values() for entry in model["files"].values()]
    files += [
        part for model in document["models"].values() for entry in model.get("ir", {}).values() for part in entry.values()
    ]
    files += [entry for model in document["models"].values() for entry in model.get("batched", {}).values()]
    return {Path(entry["path"]): entry["sha256"] for entry in files}
