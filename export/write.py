"""Model bundles: the document, and writing it with its files as a whole or not at all."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

from moodring.errors import ExportError
from moodring.evaluation.pairs import PAIRING
from moodring.export.networks import Network
from moodring.export.to_openvino import Ir
from moodring.features.spec import PreprocessSpec
from moodring.inference.bundle import BUNDLE_FILE, SCHEMA_VERSION, add_hashes, to_json_text
from moodring.labels import LABELS

USABLE_THRESHOLD = 0.5  # default, as in `moodring.inference.bundle`
PUBLISHED_HEAD = "ferplus"  # closer to what people perceive than FER2013's own labels


@dataclass(frozen=True, slots=True)
class ModelVariants:
    """The files of a bundle by network and precision: ONNX, OpenVINO IR, and ONNX with a dynamic batch size."""

    onnx: Mapping[str, Mapping[str, bytes]]
    irs: Mapping[str, Mapping[str, Ir]] = field(default_factory=dict)
    batched: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)


def _model_entry(network: Network, variants: ModelVariants, usable_threshold: float) -> dict[str, Any]:
    """Return the entry of one network in bundle.json: interface, calibration and files."""
    files, batched = (by_kind.get(network.kind, {}) for by_kind in (variants.onnx, variants.batched))
    irs = variants.irs.get(network.kind, {})
    entry: dict[str, Any] = {
        "inputs": {name: list(shape) for name, shape in network.inputs.items()},
        "outputs": {name: list(shape) for name, shape in network.outputs.items()},
        "temperature": network.card["temperature"],
        "opset": onnx.load_from_string(files["fp32"]).opset_import[0].version,
        "files": {precision: _file(f"{network.kind}.{precision}.onnx", data) for precision, data in files.items()},
    }
    if irs:
        entry["ir"] = {
            precision: {
                "xml": _file(f"{network.kind}.{precision}.xml", ir.xml),
                "bin": _file(f"{network.kind}.{precision}.bin", ir.weights),
            }
            for precision, ir in irs.items()
        }
    if batched:
        entry["batched"] = {p: _file(f"{network.kind}.{p}.batch.onnx", data) for p, data in batched.items()}
    if "labels" in network.card:
        entry["labels"] = network.card["labels"]
    if "usable" in network.outputs:
        entry["usable_threshold"] = usable_threshold
    if PUBLISHED_HEAD in network.outputs:
        entry["published_head"] = PUBLISHED_HEAD
    entry |= {key: network.card[key] for key in ("weights", "confident", "baseline") if key in network.card}
    return entry


def _file(name: str, data: bytes) -> dict[str, str]:
    return {"path": name, "sha256": hashlib.sha256(data).hexdigest()}


def _training(networks: dict[str, Network]) -> dict[str, Any]:
    data: list[dict[str, str]] = []
    for network in networks.values():
        data += [entry for entry in network.card["data"] if entry not in data]
    return {
        "data": data,
        "recipe": {kind: network.card["recipe"] for kind, network in networks.items()},
        "checkpoints": {kind: network.card["sha256"] for kind, network in networks.items()},
        "protocol": "; ".join(f"{kind}: {network.card['protocol']}" for kind, network in networks.items()),
        "pairing": PAIRING,
    }


def describe(
    networks: dict[str, Network],
    variants: ModelVariants,
    spec: PreprocessSpec,
    name: str,
    usable_thresholds: Mapping[str, float] | None = None,
    *,
    labels: Sequence[str] = LABELS,
) -> dict[str, Any]:
    """Return the document of bundle.json. Equal arguments give equal documents.

    A branch abstains if `usable` is below its threshold in `usable_thresholds` (default USABLE_THRESHOLD).
    """
    thresholds = usable_thresholds or {}
    document: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "name": name,
        "labels": list(labels),
        "spec": spec.to_dict(),
        "spec_hash": spec.hash(),
        "models": {
            kind: _model_entry(network, variants, thresholds.get(kind, USABLE_THRESHOLD)) for kind, network in networks.items()
        },
        "accuracy": {},
        "training": _training(networks),
    }
    return add_hashes({"id": "", **document})


def write_bundle(out: Path, document: dict[str, Any], variants: ModelVariants) -> None:
    """Write a bundle to a temporary folder next to `out` and rename it; replaces an older bundle at `out`.

    Raises ExportError if `out` is not a bundle, or if writing fails. `out` is then unchanged and the temporary folder removed.
    """
    if out.exists() and not (out / BUNDLE_FILE).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} exists and is not a model bundle; give another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
            staged, previous = Path(temporary) / "new", Path(temporary) / "old"
            staged.mkdir()
            for by_network, entries in ((variants.onnx, "files"), (variants.batched, "batched")):
                for kind, by_precision in by_network.items():
                    for precision, data in by_precision.items():
                        (staged / document["models"][kind][entries][precision]["path"]).write_bytes(data)
            for kind, by_ir in variants.irs.items():
                for precision, ir in by_ir.items():
                    names = document["models"][kind]["ir"][precision]
                    (staged / names["xml"]["path"]).write_bytes(ir.xml)
                    (staged / names["bin"]["path"]).write_bytes(ir.weights)
            (staged / BUNDLE_FILE).write_text(to_json_text(document), encoding="utf-8")
            _swap(staged, out, previous)
    except OSError as error:
        raise ExportError(
            f"{out}: the bundle cannot be written ({error.strerror}); the folder is unchanged; check the disk and --out"
        ) from error


def _swap(staged: Path, out: Path, previous: Path) -> None:
    """Rename `out`, if it exists, to `previous`, and `staged` to `out`. Undo the first if the second fails."""
    replaced = out.exists()
    if replaced:
        out.replace(previous)
    try:
        staged.replace(out)
    except OSError:
        if replaced:
            previous.replace(out)
        raise
