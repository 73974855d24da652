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
from moodring.export.held_out import HeldOut, Pairs
from moodring.export.quantization.data import FACE_HEAD, Inputs
from moodring.inference.base import Model
from moodring.inference.branches import softmax
from moodring.inference.bundle import BackendName, Bundle
from moodring.inference.measure import measure
from moodring.inference.tuning import machine_key
from moodring.inference.variants import BACKENDS, is_installed
from moodring.train.run_folder import commit

F32 = NDArray[np.float32]
ENGINE_NAMES: dict[BackendName, str] = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}
PP = 100.0
AT_ONCE = 8  # inputs, for files that take any number


@dataclass(frozen=True, slots=True)
class Variant:
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
class Answers:
    """What a variant says of every input: probabilities float32 [N, C] and embeddings [N, D]."""

    probabilities: F32
    embeddings: F32


def variants(bundle: Bundle, network: str, threads: Sequence[int] = (1,)) -> list[Variant]:
    """List what this machine can run of a network."""
    info = bundle.models[network]
    there = [backend for backend in BACKENDS if is_installed(backend)]
    files = [("onnx", precision, backend, path) for precision, path in info.files.items() for backend in there]
    files += [("ir", precision, "openvino", path) for precision, path in info.ir.items() if "openvino" in there]
    files += [("batch", precision, backend, path) for precision, path in info.batched.items() for backend in there]
    return [Variant(network, *file, count) for file in files for count in threads]


def make_table(
    bundle: Bundle, held: Mapping[str, HeldOut], pairs: Pairs | None, threads: Sequence[int] = (1,), samples: int = 100
) -> dict[str, Any]:
    """Measure all of it; return the table as a JSON document. `held` names what each branch is judged on."""
    rows: list[dict[str, Any]] = []
    said: dict[tuple[str, str, str, BackendName], Answers] = {}
    for network in bundle.models:
        found = variants(bundle, network, threads)
        timings = _timed(bundle, network, found, samples)
        for one in found:
            key = (network, one.format, one.precision, one.backend)
            on = held[network] if network in held else _joined(pairs, held, said, one)
            if key not in said:
                at_once = AT_ONCE if one.format == "batch" else 1
                said[key] = _answers(bundle.open_file(network, one.path, one.backend), on, at_once)
            reference = said[(network, "onnx", "fp32", "onnx")]
            row: dict[str, Any] = {"network": network, "format": one.format, "precision": one.precision, "engine": one.backend,
                   "threads": one.threads, "bytes": one.bytes}  # fmt: skip
            row |= _judged(said[key], reference, on) | timings[one] | _cost(bundle, one)
            rows.append(row)
            print(f"{network} {one.format} {one.precision} in {ENGINE_NAMES[one.backend]}: {PP * row['accuracy']:.2f} %, "
                  f"{row['hot_ms']['p50']:.2f} ms hot, {row['paced_ms']['p50']:.2f} ms paced", flush=True)  # fmt: skip
    _change(rows)
    _mark(rows)
    on_what = {name: one.what for name, one in held.items()} | ({"fusion": pairs.what} if pairs else {})
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
        "judged_on": on_what,
        "samples": samples,
        "rows": rows,
        "engines_agree": _engines_agree(said),
        "warnings": warnings(rows),
    }


def _timed(bundle: Bundle, network: str, found: Sequence[Variant], samples: int) -> dict[Variant, dict[str, Any]]:
    """Time what takes one input, and then what takes several: its times and its share of a core are those of one of them."""
    shapes = bundle.models[network].inputs
    timings: dict[Variant, dict[str, Any]] = {}
    for at_once in (1, AT_ONCE):
        group = [one for one in found if (one.format == "batch") == (at_once > 1)]
        models = {one: bundle.open_file(network, one.path, one.backend, one.threads) for one in group}
        many = {name: (at_once, *shape[1:]) for name, shape in shapes.items()}
        for one, timing in measure(models, many, samples).items() if group else ():
            row = dataclasses.asdict(timing)
            for how in ("hot_ms", "paced_ms"):
                row[how] = {quantile: ms / at_once for quantile, ms in row[how].items()}
            timings[one] = row | {"cpu_share": row["cpu_share"] / at_once, "at_once": at_once}
    return timings


def _answers(model: Model, on: HeldOut, at_once: int = 1) -> Answers:
    """Ask for all answers, several inputs at once where the network takes them."""
    outputs = []
    for start in range(0, len(on.inputs), at_once):
        group = on.inputs[start : start + at_once]
        outputs.append(model.run({name: np.concatenate([one[name] for one in group]) for name in group[0]}))
    logits = np.concatenate([output[on.head] for output in outputs])
    empty = np.zeros((1, 0), np.float32)
    embeddings = np.concatenate([output.get("embedding", empty.repeat(len(output[on.head]), 0)) for output in outputs])
    return Answers(softmax(logits, classes=logits.shape[1]), embeddings)


def _joined(
    pairs: Pairs | None,
    held: Mapping[str, HeldOut],
    said: Mapping[tuple[str, str, str, BackendName], Answers],
    one: Variant,
) -> HeldOut:
    """Build the fusion's inputs of what both branches say in the same form, as they would at run time."""
    if pairs is None:
        raise ExportError("a bundle with a fusion network is judged on pairs, and there are none")
    face, speech = (said[(branch, one.format, one.precision, one.backend)].embeddings for branch in ("face", "speech"))
    hops = [np.flatnonzero(held["speech"].groups == clip) for clip in range(len(held["speech"].labels))]
    both = np.ones((1, 2), np.float32)
    inputs: Inputs = []
    groups: list[int] = []
    for index, (picture, clip) in enumerate(zip(pairs.pictures, pairs.clips, strict=True)):
        for hop in hops[clip]:
            inputs.append({"face_embedding": face[picture][None], "speech_embedding": speech[hop][None], "presence": both})
            groups.append(index)
    return HeldOut(pairs.what, FACE_HEAD, inputs, np.array(groups, np.int64), pairs.labels)


def _judged(answers: Answers, reference: Answers, on: HeldOut) -> dict[str, float]:
    counts = np.bincount(on.groups, minlength=len(on.labels))[:, None]
    sums = np.zeros((len(on.labels), answers.probabilities.shape[1]))
    np.add.at(sums, on.groups, answers.probabilities)
    one, other = answers.probabilities, reference.probabilities
    return {
        "accuracy": float(((sums / counts).argmax(axis=1) == on.labels).mean()),
        "same_label": float((one.argmax(axis=1) == other.argmax(axis=1)).mean()),
        "mean_abs_difference": float(np.abs(one - other).mean()),
    }


def _cost(bundle: Bundle, one: Variant) -> dict[str, float]:
    """Load it in a process of its own."""
    command = [sys.executable, "-m", "moodring.inference.cost", str(bundle.path), one.network, one.path.name, one.backend]
    done = subprocess.run([*command, str(one.threads)], capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise ExportError(f"{one.path} cannot be loaded in a process of its own: {done.stderr.strip().splitlines()[-1]}")
    return dict(json.loads(done.stdout))


def _change(rows: list[dict[str, Any]]) -> None:
    """Say how many points of accuracy each row has more than float32 ONNX in ONNX Runtime."""
    plain = {row["network"]: row["accuracy"] for row in rows
             if (row["format"], row["precision"], row["engine"]) == ("onnx", "fp32", "onnx")}  # fmt: skip
    for row in rows:
        row["change_pp"] = PP * (row["accuracy"] - plain[row["network"]])


def _mark(rows: list[dict[str, Any]]) -> None:
    """Mark, for each network, the fastest (paced), the smallest file and the most accurate; ties go to the faster."""
    uses = {"fastest": lambda r: r["paced_ms"]["p50"], "smallest": lambda r: (r["bytes"], r["paced_ms"]["p50"]),
            "most accurate": lambda r: (-r["accuracy"], r["paced_ms"]["p50"])}  # fmt: skip
    for row in rows:
        row["best"] = []
    for network in {row["network"] for row in rows}:
        own = [row for row in rows if row["network"] == network and row["format"] != "batch"]  # the runtime runs none of these
        for use, key in uses.items():
            min(own, key=key)["best"].append(use)


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


def _engines_agree(said: Mapping[tuple[str, str, str, BackendName], Answers]) -> dict[str, dict[str, float]]:
    """Return on which share of inputs both engines give the same first label, by network and precision.

    OpenVINO runs the bundle's IR where there is one, and else the ONNX file: as `Bundle.open` has it. Both must agree, so the
    smaller share counts.
    """
    result: dict[str, dict[str, float]] = {}
    for (network, form, precision, backend), answers in said.items():
        others = [said.get((network, other, precision, "openvino")) for other in ("onnx", "ir")]
        if form == "onnx" and backend == "onnx":
            first = answers.probabilities.argmax(axis=1)
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
