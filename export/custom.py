"""Custom models: a YAML description of networks from other projects, read into networks that moodring can export.

docs/custom_models.md defines the keys. A network is an ONNX file, or a function that returns a PyTorch module.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from moodring.errors import BundleError, ExportError, UsageError
from moodring.export.adapt_onnx import MIN_PROBABILITY, OnnxModule, adapt_onnx
from moodring.export.networks import BATCH, Network, Shapes
from moodring.export.quantization.data import I64, Inputs, QuantizationData
from moodring.features.face.crop import normalize_crops
from moodring.features.spec import PreprocessSpec

INPUT_NAMES = {"face": "crop", "speech": "window"}
OUTPUT_NAMES = ("logits", "usable", "embedding")
SECTION_KEYS = {"onnx", "module", "outputs", "answers", "labels", "temperature", "usable_threshold", "training", "judged"}
PROTOCOL = "custom model"


@dataclass(frozen=True, slots=True)
class CustomModels:
    """The content of a description; the dicts are by network (face, speech).

    `source` holds the adapted ONNX file of networks that come as ONNX, `quantization_data` the data of networks that can be
    quantised, `thresholds` the `usable_threshold` where the description sets one.
    """

    name: str
    labels: tuple[str, ...]
    spec: PreprocessSpec
    networks: dict[str, Network]
    source: dict[str, bytes]
    quantization_data: dict[str, QuantizationData]
    thresholds: dict[str, float]


def read_custom_models(path: Path) -> CustomModels:
    """Read a description and load the files that it names, relative to its folder.

    Raises UsageError if the description is wrong, ExportError if a file or network cannot be used.
    """
    document = _read_yaml(path)
    labels = tuple(str(label) for label in document.get("labels") or ())
    kinds = [kind for kind in INPUT_NAMES if kind in document]
    unknown = set(document) - {"name", "labels", "spec", *INPUT_NAMES}
    if len(labels) < 2 or len(set(labels)) != len(labels) or not kinds or unknown:
        raise UsageError(
            f"{path}: must have `labels` (two or more, each once) and `face`, `speech` or both{_list_unknown(unknown)}"
        )
    spec = _read_spec(path, document.get("spec") or {})
    sections = {kind: _check_section(path, kind, document[kind]) for kind in kinds}
    networks, source = {}, {}
    for kind, section in sections.items():
        model_labels = tuple(str(label) for label in section.get("labels", labels))
        networks[kind], data = _build_network(path, kind, section, spec, model_labels)
        if data is not None:
            source[kind] = data
    return CustomModels(
        name=str(document.get("name", path.stem)),
        labels=labels,
        spec=spec,
        networks=networks,
        source=source,
        quantization_data={
            kind: _read_quantization_data(path, kind, section) for kind, section in sections.items() if "training" in section
        },
        thresholds={
            kind: float(section["usable_threshold"]) for kind, section in sections.items() if "usable_threshold" in section
        },
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: must have keys such as `labels` and `face`; see docs/custom_models.md")
    return document


def _list_unknown(unknown: set[Any]) -> str:
    return f"; unknown: {', '.join(map(str, sorted(unknown, key=str)))}" if unknown else ""


def _read_spec(path: Path, changes: Any) -> PreprocessSpec:
    """Apply the changes of a description to the default spec. Raise UsageError if the runtime does not implement the result."""
    document = PreprocessSpec().to_dict()
    try:
        _merge(document, changes)
        return PreprocessSpec.from_dict(document)
    except (BundleError, AttributeError) as error:
        raise UsageError(f"{path}: spec: {error}") from error


def _merge(document: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _merge(document[key], value)
        else:
            document[key] = value


def _check_section(path: Path, kind: str, section: Any) -> dict[str, Any]:
    unknown = set(section) - SECTION_KEYS if isinstance(section, dict) else {"no keys"}
    if unknown or ("onnx" in section) == ("module" in section):
        raise UsageError(
            f"{path}: {kind} must name either `onnx` or `module`, and may have "
            f"{', '.join(sorted(SECTION_KEYS - {'onnx', 'module'}))}{_list_unknown(unknown)}"
        )
    if section.get("answers", "logits") not in ("logits", "probabilities"):
        raise UsageError(f"{path}: {kind}.answers must be logits or probabilities, got {section['answers']!r}")
    return dict(section)


def _build_network(
    path: Path, kind: str, section: dict[str, Any], spec: PreprocessSpec, model_labels: tuple[str, ...]
) -> tuple[Network, bytes | None]:
    """Return the network with moodring's tensor names, and its adapted ONNX file if it comes as ONNX."""
    inputs = _input_shapes(kind, spec)
    module, outputs, data = _load_module(path, kind, section, inputs)
    if "logits" not in outputs or not set(outputs) <= set(OUTPUT_NAMES):
        raise UsageError(
            f"{path}: {kind}.outputs must include logits, and may include usable and embedding; got {', '.join(outputs)}"
        )
    shapes = _output_shapes(path, kind, module, inputs, outputs)
    if shapes["logits"] != (BATCH, len(model_labels)):
        raise ExportError(
            f"{path}: {kind} gives logits of shape {shapes['logits']}, but has {len(model_labels)} labels: "
            f"{', '.join(model_labels)}"
        )
    digest = hashlib.sha256(data or b"".join(t.numpy().tobytes() for t in module.state_dict().values())).hexdigest()
    card = {
        "temperature": {"logits": float(section.get("temperature", 1.0))},
        "labels": list(model_labels),
        "data": [],
        "recipe": {},
        "sha256": digest,
        "protocol": PROTOCOL,
    }
    return Network(kind, module, inputs, shapes, card), data


def _input_shapes(kind: str, spec: PreprocessSpec) -> Shapes:
    if kind == "face":
        return {INPUT_NAMES[kind]: (BATCH, 1, spec.face.size, spec.face.size)}
    return {INPUT_NAMES[kind]: (BATCH, spec.speech.window_frames, spec.speech.columns)}


def _load_module(path: Path, kind: str, section: dict[str, Any], inputs: Shapes) -> tuple[nn.Module, list[str], bytes | None]:
    """Return a network as a module, the names of its outputs in order, and its adapted ONNX file if it comes as ONNX."""
    outputs = section.get("outputs", ["logits"])
    output_type = section.get("answers", "logits")
    if "onnx" in section:
        user_names = outputs if isinstance(outputs, dict) else {name: name for name in outputs}
        data = adapt_onnx(f"{path}: {kind}", path.parent / section["onnx"], inputs, user_names, output_type)
        return OnnxModule(data, INPUT_NAMES[kind], list(user_names)), list(user_names), data
    module = _call_function(path, kind, section["module"])
    if output_type == "probabilities":
        module = LogProbabilities(module, list(outputs).index("logits"))
    return module, list(outputs), None


def _call_function(path: Path, kind: str, entry_point: str) -> nn.Module:
    """Call PACKAGE.MODULE:FUNCTION, found in the folder of the description or on Python's path; return its module."""
    package, _, function = str(entry_point).partition(":")
    sys.path.insert(0, str(path.parent))
    try:
        module = getattr(importlib.import_module(package), function)()
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"{path}: {kind}.module must be PACKAGE.MODULE:FUNCTION; {entry_point!r} cannot be called ({error})"
        ) from error
    finally:
        sys.path.remove(str(path.parent))
    if not isinstance(module, nn.Module):
        raise UsageError(f"{path}: {kind}.module: {entry_point} must return a torch.nn.Module, got {type(module).__name__}")
    return module.eval()


def _output_shapes(path: Path, kind: str, module: nn.Module, inputs: Shapes, names: list[str]) -> Shapes:
    """Run the network once on zeros; return the shapes of its outputs by name."""
    try:
        with torch.no_grad():
            outputs = module(*(torch.zeros(shape) for shape in inputs.values()))
    except Exception as error:  # a user's network can raise anything
        shapes = " and ".join(f"{name} {shape}" for name, shape in inputs.items())
        raise ExportError(f"{path}: {kind} does not run on {shapes} ({' '.join(str(error).split())[:200]})") from error
    outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
    if len(outputs) != len(names):
        raise ExportError(f"{path}: {kind} gives {len(outputs)} outputs, but `outputs` names {', '.join(names)}")
    return {name: tuple(output.shape) for name, output in zip(names, outputs, strict=True)}


class LogProbabilities(nn.Module):
    """A network that outputs probabilities, with their logarithm as logits, so that a temperature can be applied."""

    def __init__(self, network: nn.Module, index: int) -> None:
        super().__init__()
        self.network, self.index = network, index

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.network(x)
        outputs = list(outputs) if isinstance(outputs, tuple | list) else [outputs]
        outputs[self.index] = torch.log(outputs[self.index].clamp_min(MIN_PROBABILITY))
        return tuple(outputs)


def _read_quantization_data(path: Path, kind: str, section: dict[str, Any]) -> QuantizationData:
    """Read the `training` (calibration) and `judged` (validation) files of a section."""
    if "judged" not in section:
        raise UsageError(
            f"{path}: {kind}.training needs {kind}.judged: int8 is validated on other inputs than those that calibrate it"
        )
    calibration, _ = _read_npz(path.parent / section["training"], kind)
    validation, labels = _read_npz(path.parent / section["judged"], kind)
    return QuantizationData(calibration, validation, labels)


def _read_npz(path: Path, kind: str) -> tuple[Inputs, I64]:
    """Read `inputs` (uint8 crops [N, S, S], or float32 network inputs) and `labels` (empty if there are none)."""
    try:
        with np.load(path, allow_pickle=False) as file:
            inputs = file["inputs"]
            labels = file["labels"].astype(np.int64) if "labels" in file else np.zeros(0, np.int64)
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(f"{path}: must be an .npz file with `inputs` and `labels` ({error})") from error
    if kind == "face" and inputs.dtype == np.uint8 and inputs.ndim == 3:
        inputs = normalize_crops(inputs)
    return [{INPUT_NAMES[kind]: row[None]} for row in inputs], labels
