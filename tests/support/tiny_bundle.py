"""A complete model bundle in a few kilobytes: random linear networks, the same in every call.

Its outputs have no meaning. Its interface, verification and determinism are those of a real bundle.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from moodring.features.spec import PreprocessSpec
from moodring.inference.bundle import SCHEMA_VERSION, add_hashes
from moodring.labels import CLASSES, FACE_CLASSES, LABELS

EMBEDDING = 8
USABLE_LOGIT = 6.0  # gives a `usable` that is always above the threshold

Shapes = Mapping[str, tuple[int, ...]]
INPUTS: dict[str, Shapes] = {
    "face": {"crop": (1, 1, 48, 48)},
    "speech": {"window": (1, 300, 42)},
    "fusion": {"face_embedding": (1, EMBEDDING), "speech_embedding": (1, EMBEDDING), "presence": (1, 2)},
}
OUTPUTS: dict[str, Shapes] = {
    "face": {
        "embedding": (1, EMBEDDING),
        "official": (1, FACE_CLASSES),
        "ferplus": (1, FACE_CLASSES),
        "usable": (1, 1),
    },
    "speech": {"embedding": (1, EMBEDDING), "logits": (1, CLASSES), "usable": (1, 1)},
    "fusion": {"official": (1, CLASSES), "ferplus": (1, CLASSES)},
}


def build_network(kind: str, usable_logit: float = USABLE_LOGIT) -> bytes:
    """Return the bytes of an ONNX file: every output is a random linear map of the flattened inputs."""
    rng = np.random.default_rng(len(kind))
    inputs, outputs = INPUTS[kind], OUTPUTS[kind]
    weights = []
    nodes = [helper.make_node("Flatten", [name], [f"{name}_flat"]) for name in inputs]
    nodes.append(helper.make_node("Concat", [f"{name}_flat" for name in inputs], ["flat"], axis=1))
    size = sum(int(np.prod(shape)) for shape in inputs.values())
    for name, shape in outputs.items():
        # Keep embeddings and logits near one for any input size.
        spread = 2.0 / np.sqrt(size)
        if kind == "speech":
            spread /= 10.0  # cepstra are larger than normalised pixels
        matrix = rng.normal(0.0, spread, (size, shape[1])).astype(np.float32)
        bias = np.zeros(shape, np.float32)
        if name == "usable":
            matrix[:], bias[:] = 0.0, usable_logit
        weights += [numpy_helper.from_array(matrix, f"{name}_w"), numpy_helper.from_array(bias, f"{name}_b")]
        nodes.append(helper.make_node("MatMul", ["flat", f"{name}_w"], [f"{name}_product"]))
        nodes.append(helper.make_node("Add", [f"{name}_product", f"{name}_b"], [name]))
    graph = helper.make_graph(nodes, kind, _values(inputs), _values(outputs), weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _values(shapes: Shapes) -> list[Any]:
    return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]


def bundle_document(files: dict[str, bytes]) -> dict[str, Any]:
    """Return the bundle.json of these networks, without its hashes."""
    models: dict[str, Any] = {}
    for kind, data in files.items():
        models[kind] = {
            "inputs": {name: list(shape) for name, shape in INPUTS[kind].items()},
            "outputs": {name: list(shape) for name, shape in OUTPUTS[kind].items()},
            "temperature": {name: 1.0 for name in ("official", "ferplus", "logits") if name in OUTPUTS[kind]},
            "opset": 20,
            "files": {"fp32": {"path": f"{kind}.fp32.onnx", "sha256": hashlib.sha256(data).hexdigest()}},
        }
    models["face"] |= {"usable_threshold": 0.5, "published_head": "ferplus"}
    models["speech"] |= {"usable_threshold": 0.5}
    models["fusion"] |= {
        "published_head": "ferplus",
        "weights": {head: {"face": 0.25, "speech": 0.75} for head in ("official", "ferplus")},
        "confident": {head: {"threshold": 0.6, "right": 0.9, "coverage": 0.5} for head in ("official", "ferplus")},
    }
    spec = PreprocessSpec()
    return {
        "schema": SCHEMA_VERSION,
        "name": "tiny",
        "labels": list(LABELS),
        "spec": spec.to_dict(),
        "spec_hash": spec.hash(),
        "models": models,
        "accuracy": {},
        "training": {"data": []},
    }


def write_tiny_bundle(folder: Path, **usable_logits: float) -> Path:
    """Write the bundle and return its folder. `face=-6.0` makes a face branch that rejects everything."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {kind: build_network(kind, usable_logits.get(kind, USABLE_LOGIT)) for kind in INPUTS}
    for kind, data in files.items():
        (folder / f"{kind}.fp32.onnx").write_bytes(data)
    write_document(folder, bundle_document(files))
    return folder


def write_document(folder: Path, document: dict[str, Any]) -> None:
    """Write bundle.json with its hashes and its id."""
    document = add_hashes(copy.deepcopy(document))
    (folder / "bundle.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def read_document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    return document
