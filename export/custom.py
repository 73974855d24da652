"""Networks of one's own: a YAML file says what they are, and a bundle that the daemon runs is made of them.

docs/custom_models.md is the contract. A network is an ONNX file, or a function that returns a PyTorch module.
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
from numpy.typing import NDArray
from torch import nn

from moodring.errors import BundleError, ExportError, UsageError
from moodring.export.adapt_onnx import MIN_PROBABILITY, OnnxModule, adapt_onnx
from moodring.export.networks import BATCH, Network, Shapes
from moodring.export.quantization.data import QuantizationData
from moodring.features.face.crop import normalize_crops
from moodring.features.spec import PreprocessSpec

INPUT_NAMES = {"face": "crop", "speech": "window"}
OUTPUT_NAMES = ("logits", "usable", "embedding")
SECTION_KEYS = {"onnx", "module", "outputs", "answers", "labels", "temperature", "usable_threshold", "training", "judged"}


@dataclass(frozen=True, slots=True)
class CustomModels:
    """What the YAML file describes. `source` is each network's ONNX file where it has one, `material` what int8 needs."""

    name: str
    labels: tuple[str, ...]
    spec: PreprocessSpec
    networks: dict[str, Network]
    source: dict[str, bytes]
    quantization_data: dict[str, QuantizationData]
    thresholds: dict[str, float]


def read_custom_models(path: Path) -> CustomModels:
    """Read a description and load what it names; paths are beside it. Raises UsageError or ExportError."""
    document = _read_yaml(path)
    labels = tuple(str(label) for label in document.get("labels") or ())
    kinds = [kind for kind in INPUT_NAMES if kind in document]
    unknown = set(document) - {"name", "labels", "spec", *INPUT_NAMES}
    if len(labels) < 2 or len(set(labels)) != len(labels) or not kinds or unknown:
        raise UsageError(
            f"{path}: must hold `labels` (two or more, each once) and `face`, `speech` or both"
            + (f"; unknown: {', '.join(map(str, sorted(unknown, key=str)))}" if unknown else "")
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
        thresholds={kind: float(section.get("usable_threshold", 0.5)) for kind, section in sections.items()},
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: must hold keys such as `labels` and `face`; see docs/custom_models.md")
    return document


def _read_spec(path: Path, changes: Any) -> PreprocessSpec:
    """Lay what the file says over moodring's own preprocessing; refuse what this runtime does not implement."""
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
            f"{path}: {kind} must name either `onnx` or `module`, and may have {', '.join(sorted(SECTION_KEYS - {'onnx', 'module'}))}"
            + (f"; unknown: {', '.join(map(str, sorted(unknown, key=str)))}" if unknown else "")
        )
    if section.get("answers", "logits") not in ("logits", "probabilities"):
        raise UsageError(f"{path}: {kind}.answers must be logits or probabilities, got {section['answers']!r}")
    return dict(section)


def _build_network(
    path: Path, kind: str, section: dict[str, Any], spec: PreprocessSpec, model_labels: tuple[str, ...]
) -> tuple[Network, bytes | None]:
    """Return the network as moodring calls it, and the ONNX file of one that comes as such."""
    name = INPUT_NAMES[kind]
    size = spec.face.size
    inputs: Shapes = {name: (BATCH, 1, size, size) if kind == "face" else
                      (BATCH, spec.speech.window_frames, spec.speech.columns)}  # fmt: skip
    declared_outputs = section.get("outputs", ["logits"])
    data: bytes | None = None
    module: nn.Module
    if "onnx" in section:
        output_names = (
            declared_outputs if isinstance(declared_outputs, dict) else {output: output for output in declared_outputs}
        )
        data = adapt_onnx(
            f"{path}: {kind}", path.parent / section["onnx"], inputs, output_names, section.get("answers", "logits")
        )
        outputs, module = list(output_names), OnnxModule(data, name, list(output_names))
    else:
        outputs, module = list(declared_outputs), _build_module(path, kind, section["module"])
        if section.get("answers") == "probabilities":
            module = LogProbabilities(module, outputs.index("logits"))
    if "logits" not in outputs or not set(outputs) <= set(OUTPUT_NAMES):
        raise UsageError(
            f"{path}: {kind}.outputs must hold logits, and may hold usable and embedding; got {', '.join(outputs)}"
        )
    shapes = _output_shapes(path, kind, module, inputs, outputs)
    if shapes["logits"] != (BATCH, len(model_labels)):
        label_list = ", ".join(model_labels)
        raise ExportError(
            f"{path}: {kind} gives logits of shape {shapes['logits']}, but answers {len(model_labels)} labels: {label_list}"
        )
    digest = hashlib.sha256(data or b"".join(t.numpy().tobytes() for t in module.state_dict().values())).hexdigest()
    card = {
        "temperature": {"logits": float(section.get("temperature", 1.0))},
        "labels": list(model_labels),
        "data": [],
        "recipe": {},
        "sha256": digest,
        "protocol": "a network of its maker's own",
    }
    return Network(kind, module, inputs, shapes, card), data


def _build_module(path: Path, kind: str, entry_point: str) -> nn.Module:
    """Call PACKAGE.MODULE:FUNCTION, found beside the description or on Python's path."""
    package, _, function = str(entry_point).partition(":")
    sys.path.insert(0, str(path.parent))
    try:
        module = getattr(importlib.import_module(package), function)()
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(
            f"{path}: {kind}.module must be PACKAGE.MODULE:FUNCTION; {entry_point!r} is not there ({error})"
        ) from error
    finally:
        sys.path.remove(str(path.parent))
    if not isinstance(module, nn.Module):
        raise UsageError(f"{path}: {kind}.module: {entry_point} must return a torch.nn.Module, got {type(module).__name__}")
    return module.eval()


def _output_shapes(path: Path, kind: str, module: nn.Module, inputs: Shapes, names: list[str]) -> Shapes:
    """Run the network once on zeros; return what shapes it gives."""
    try:
        with torch.no_grad():
            outputs = module(*(torch.zeros(shape) for shape in inputs.values()))
    except Exception as error:  # whatever a network of others raises
        what = " and ".join(f"{name} {shape}" for name, shape in inputs.items())
        raise ExportError(f"{path}: {kind} does not run on {what} ({' '.join(str(error).split())[:200]})") from error
    outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
    if len(outputs) != len(names):
        raise ExportError(f"{path}: {kind} gives {len(outputs)} outputs, but `outputs` names {', '.join(names)}")
    return {name: tuple(output.shape) for name, output in zip(names, outputs, strict=True)}


class LogProbabilities(nn.Module):
    """A network whose softmax is taken back, so that it can be calibrated."""

    def __init__(self, network: nn.Module, index: int) -> None:
        super().__init__()
        self.network, self.index = network, index

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.network(x)
        outputs = list(outputs) if isinstance(outputs, tuple | list) else [outputs]
        outputs[self.index] = torch.log(outputs[self.index].clamp_min(MIN_PROBABILITY))
        return tuple(outputs)


def _read_quantization_data(path: Path, kind: str, section: dict[str, Any]) -> QuantizationData:
    """Read `training` and `judged`, .npz files with `inputs` (uint8 crops, or float32 windows) and, to judge, `labels`."""
    if "judged" not in section:
        raise UsageError(
            f"{path}: {kind}.training needs {kind}.judged beside it: int8 is judged on other inputs than it is made by"
        )
    calibration, _ = _read_npz(path.parent / section["training"], kind)
    validation, labels = _read_npz(path.parent / section["judged"], kind)
    return QuantizationData(calibration, validation, labels)


def _read_npz(path: Path, kind: str) -> tuple[list[dict[str, NDArray[np.float32]]], NDArray[np.int64]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            inputs = file["inputs"]
            labels = file["labels"].astype(np.int64) if "labels" in file else np.zeros(0, np.int64)
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(f"{path}: must be an .npz file with `inputs` and `labels` ({error})") from error
    if kind == "face" and inputs.dtype == np.uint8 and inputs.ndim == 3:
        inputs = normalize_crops(inputs)
    return [{INPUT_NAMES[kind]: one[None]} for one in inputs], labels
