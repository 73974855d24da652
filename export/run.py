"""`moodring export`: from checkpoints to a verified model bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from edge.errors import UsageError
from edge.features.spec import PreprocessSpec
from export.networks import load_networks
from export.to_onnx import to_onnx
from export.verify import TOLERANCE, real_inputs, verify
from export.write import describe, write_bundle

FORMATS = ("onnx",)
PRECISIONS = ("fp32",)


def export(  # noqa: PLR0917  the command line's order
    checkpoints: Path,
    out: Path,
    data_dir: Path,
    formats: Sequence[str] = FORMATS,
    precision: Sequence[str] = PRECISIONS,
    json_path: Path | None = None,
) -> int:
    """Export face, speech and fusion, compare each with PyTorch on real inputs, and only then write the bundle.

    Returns the exit code 0; raises UsageError, DataError or ExportError.
    """
    for asked, known, what in ((formats, FORMATS, "format"), (precision, PRECISIONS, "precision")):
        unknown = [name for name in asked if name not in known]
        if unknown or not asked:
            raise UsageError(f"--{what} must be of {', '.join(known)}, got {', '.join(unknown) or 'nothing'}")
    torch.set_num_threads(1)
    spec = PreprocessSpec()
    networks = load_networks(Path(checkpoints), spec)
    inputs = real_inputs(networks, Path(data_dir), spec)
    verified = {}
    for kind, network in networks.items():
        verified[kind] = verify(network, to_onnx(network), inputs[kind])
        done = verified[kind]
        print(f"{kind}: {len(done.onnx) / 1e6:.2f} MB, at most {done.max_abs_difference:.1e} from PyTorch over "
              f"{done.compared} real inputs", flush=True)  # fmt: skip
    files = {kind: {"fp32": done.onnx} for kind, done in verified.items()}
    out = Path(out)
    document = describe(networks, files, spec, out.name)
    write_bundle(out, document, files)
    print(f"bundle {document['id']} -> {out}")
    if json_path is not None:
        measured: dict[str, Any] = {
            "bundle": document["id"],
            "tolerance": TOLERANCE,
            "models": {
                kind: {
                    "bytes": len(done.onnx),
                    "sha256": document["models"][kind]["files"]["fp32"]["sha256"],
                    "max_abs_difference": done.max_abs_difference,
                    "compared": done.compared,
                }
                for kind, done in verified.items()
            },
        }
        Path(json_path).write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0
