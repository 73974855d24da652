"""Writing model bundles: whole or not at all."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge.errors import BundleError, ExportError
from edge.features.spec import PreprocessSpec
from edge.inference.bundle import SCHEMA, bundle_id
from edge.labels import LABELS
from export.networks import Network
from export.to_onnx import OPSET

DOCUMENT = "bundle.json"
USABLE_THRESHOLD = 0.5
PUBLISHED_HEAD = "ferplus"  # nearer to what people see than FER2013's own label
PAIRING = "paired by class, different people"


def _model(network: Network, files: dict[str, bytes]) -> dict[str, Any]:
    """Describe one network; `files` are its bytes by precision."""
    entry: dict[str, Any] = {
        "inputs": {name: list(shape) for name, shape in network.inputs.items()},
        "outputs": {name: list(shape) for name, shape in network.outputs.items()},
        "temperature": network.card["temperature"],
        "opset": OPSET,
        "files": {
            precision: {"path": f"{network.kind}.{precision}.onnx", "sha256": hashlib.sha256(data).hexdigest()}
            for precision, data in files.items()
        },
    }
    if "usable" in network.outputs:
        entry["usable_threshold"] = USABLE_THRESHOLD
    if PUBLISHED_HEAD in network.outputs:
        entry["published_head"] = PUBLISHED_HEAD
    if "weights" in network.card:
        entry["weights"] = network.card["weights"]
    return entry


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
    networks: dict[str, Network], files: dict[str, dict[str, bytes]], spec: PreprocessSpec, name: str
) -> dict[str, Any]:
    """Return bundle.json's document; `files` are bytes by network and precision. The same input gives the same document."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "name": name,
        "labels": list(LABELS),
        "spec": spec.to_dict(),
        "spec_hash": spec.hash(),
        "models": {kind: _model(network, files[kind]) for kind, network in networks.items()},
        "accuracy": {},
        "training": _training(networks),
    }
    return {"id": bundle_id(document), **document}


def write_bundle(out: Path, document: dict[str, Any], files: dict[str, dict[str, bytes]]) -> None:
    """Write a bundle beside `out` and move it there; an older bundle in that place is replaced.

    Raises ExportError where `out` is something other than a bundle, or the disk does not take it; nothing is left behind.
    """
    if out.exists() and not (out / DOCUMENT).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} exists and is no model bundle; give another --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
            fresh, old = Path(temporary) / "new", Path(temporary) / "old"
            fresh.mkdir()
            for kind, by_precision in files.items():
                for precision, data in by_precision.items():
                    (fresh / document["models"][kind]["files"][precision]["path"]).write_bytes(data)
            (fresh / DOCUMENT).write_text(_text(document), encoding="utf-8")
            _swap(fresh, out, old)
    except OSError as error:
        raise ExportError(f"{out}: the bundle cannot be written ({error.strerror}); what was there is unchanged") from error


def _swap(fresh: Path, out: Path, old: Path) -> None:
    """Put `fresh` where `out` is, and `out`, if there is one, where `old` is; put it back where that fails."""
    replaced = out.exists()
    if replaced:
        out.replace(old)
    try:
        fresh.replace(out)
    except OSError:
        if replaced:
            old.replace(out)
        raise


def record_accuracy(bundle_dir: Path, evaluations: Iterable[Path]) -> str:
    """Put measured figures into bundle.json, keyed by the evaluation files' names without suffix; return the new id.

    The figures are kept, the bundle's own id, paths and timings are not: an id must not depend on itself.
    """
    path = bundle_dir / DOCUMENT
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        accuracy = {file.stem: _figures(json.loads(file.read_text(encoding="utf-8"))) for file in evaluations}
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} or an evaluation cannot be read ({error})") from error
    document["accuracy"] = dict(sorted(accuracy.items()))
    document["id"] = bundle_id(document)
    part = path.with_name(f".{DOCUMENT}.part")
    part.write_text(_text(document), encoding="utf-8")
    part.replace(path)
    return str(document["id"])


KEPT = (
    "n", "accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "ece", "precision", "split",
    "actors", "protocol", "pairing", "method",
)  # fmt: skip


def _figures(evaluation: dict[str, Any]) -> dict[str, Any]:
    figures = {key: evaluation[key] for key in KEPT if key in evaluation}
    if "by_label_set" in evaluation:
        figures["by_label_set"] = {name: _figures(part) for name, part in evaluation["by_label_set"].items()}
    return figures


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1) + "\n"
