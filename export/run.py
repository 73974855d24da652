"""`moodring export`: from checkpoints to a verified model bundle."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edge.errors import ExportError, UsageError
from edge.features.spec import PreprocessSpec
from export.calibration import Material, gather, usable_threshold
from export.networks import load_networks
from export.quantize import Quantised, quantise
from export.to_onnx import to_onnx
from export.verify import TOLERANCE, Verified, real_inputs, verify
from export.write import describe, write_bundle

FORMATS = ("onnx",)
PRECISIONS = ("fp32", "int8")
SAMPLES = 256
MAX_DROP_PP = 0.5


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked for; `max_drop_pp` are the points of accuracy that int8 may cost, judged on validation inputs."""

    formats: Sequence[str] = FORMATS
    precisions: Sequence[str] = PRECISIONS
    max_drop_pp: float = MAX_DROP_PP
    samples: int = SAMPLES


def export(checkpoints: Path, out: Path, data_dir: Path, options: Options | None = None, json_path: Path | None = None) -> int:
    """Export face, speech and fusion, compare each with PyTorch on real inputs, quantise, and only then write the bundle.

    Returns the exit code: 0, or 1 where a network is worse in int8 than allowed (the bundle then holds fp32 alone). Raises
    UsageError, DataError or ExportError.
    """
    asked = options or Options()
    _check(asked)
    torch.set_num_threads(1)
    spec = PreprocessSpec()
    networks = load_networks(Path(checkpoints), spec)
    inputs = real_inputs(networks, Path(data_dir), spec)
    verified = {}
    for kind, network in networks.items():
        done = verified[kind] = verify(network, to_onnx(network), inputs[kind])
        print(f"{kind}: {len(done.onnx) / 1e6:.2f} MB, at most {done.max_abs_difference:.1e} from PyTorch over "
              f"{done.compared} real inputs", flush=True)  # fmt: skip
    files = {kind: {"fp32": done.onnx} for kind, done in verified.items()}
    material = gather(networks, Path(data_dir), spec, asked.samples)
    quantised, trouble = _quantise(verified, material, asked)
    for kind, small in quantised.items():
        files[kind]["int8"] = small.onnx
    out = Path(out)
    threshold = usable_threshold(networks["speech"], material["speech"])
    print(f"speech: nothing below {threshold:.3f} usable is taken for speech", flush=True)
    document = describe(networks, files, spec, out.name, {"speech": threshold})
    write_bundle(out, document, files)
    print(f"bundle {document['id']} -> {out}")
    if json_path is not None:
        models: dict[str, Any] = {
            kind: {
                "bytes": len(done.onnx),
                "sha256": document["models"][kind]["files"]["fp32"]["sha256"],
                "max_abs_difference": done.max_abs_difference,
                "compared": done.compared,
                **({"int8": quantised[kind].figures()} if kind in quantised else {}),
            }
            for kind, done in verified.items()
        }
        measured = {"bundle": document["id"], "tolerance": TOLERANCE, "max_drop_pp": asked.max_drop_pp, "models": models}
        Path(json_path).write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    if trouble is not None:
        print(f"moodring: {trouble}; the bundle holds fp32 alone", file=sys.stderr)
        return 1
    return 0


def _check(asked: Options) -> None:
    for given, known, what in ((asked.formats, FORMATS, "formats"), (asked.precisions, PRECISIONS, "precision")):
        unknown = [name for name in given if name not in known]
        if unknown or not given:
            raise UsageError(f"--{what} must be of {', '.join(known)}, got {', '.join(unknown) or 'nothing'}")
    if "fp32" not in asked.precisions:
        raise UsageError("--precision must hold fp32: int8 is made from it and judged by it")


def _quantise(
    verified: dict[str, Verified], material: dict[str, Material], asked: Options
) -> tuple[dict[str, Quantised], ExportError | None]:
    """Return every network in int8, or none and why not."""
    if "int8" not in asked.precisions:
        return {}, None
    quantised: dict[str, Quantised] = {}
    for kind, done in verified.items():
        try:
            small = quantised[kind] = quantise(kind, done.onnx, material[kind], asked.max_drop_pp)
        except ExportError as error:
            return {}, error
        kept = f", {', '.join(small.float_layers)} kept in float32" if small.float_layers else ""
        agreed = f"{100 * small.same_label:.1f} % of {len(material[kind].judged)} validation labels as in fp32"
        print(f"{kind} int8: {len(small.onnx) / 1e6:.2f} MB, {small.drop_pp:+.2f} points lost, {agreed}{kept}", flush=True)
    return quantised, None
