"""Custom models: a YAML description of networks from other projects, read into networks that moodring can export.

docs/custom_models.md defines the keys. A network is an ONNX file, or a function that returns a PyTorch module.
"""

from __future__ import annotations

import hashlib
import importlib
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from moodring.config.document import read_plain
from moodring.errors import BundleError, ExportError, UsageError
from moodring.export.adapt_onnx import MIN_PROBABILITY, OnnxModule, adapt_onnx, read_onnx
from moodring.export.networks import BATCH, Network, Shapes
from moodring.export.quantization.data import I64, Inputs, QuantizationData
from moodring.export.verify import check_output_type
from moodring.features.face.crop import normalize_crops
from moodring.features.spec import PreprocessSpec

INPUT_NAMES = {"face": "crop", "speech": "window"}
OUTPUT_NAMES = ("logits", "usable", "embedding")
SECTION_KEYS = {"onnx", "module", "outputs", "answers", "labels", "temperature", "usable_threshold", "training", "judged"}
NUMBER_RANGES = {"temperature": (1e-3, 1e3), "usable_threshold": (0.0, 1.0)}
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
    document = read_plain(path)
    if not isinstance(document, dict):
        raise UsageError(f"{path}: must have keys such as `labels` and `face`; see docs/custom_models.md")
    labels = _read_labels(f"{path}: labels", document.get("labels", []))
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
        model_labels = _read_labels(f"{path}: {kind}.labels", section.get("labels", list(labels)))
        if not set(model_labels) <= set(labels) or len(set(model_labels)) != len(model_labels):
            raise UsageError(
                f"{path}: {kind}.labels must be different ones of {', '.join(labels)}; got {', '.join(model_labels)}"
            )
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


def _read_labels(source: str, labels: Any) -> tuple[str, ...]:
    """Return labels as texts. YAML reads yes, no, on and off as true or false: these need quotes."""
    if not isinstance(labels, list) or not all(type(label) in (str, int) for label in labels):
        raise UsageError(f"{source} must be a list of texts, each in quotes if it is a word such as yes or off; got {labels!r}")
    return tuple(map(str, labels))


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
    outputs = section.get("outputs", ["logits"])
    names = list(outputs.values()) if isinstance(outputs, dict) else outputs
    wrong = [key for key in ("onnx", "module", "training", "judged") if not isinstance(section.get(key, ""), str)]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in [*names, *outputs]):
        wrong.append("outputs")
    for key, (low, high) in NUMBER_RANGES.items():
        number = section.get(key, high)
        if type(number) not in (int, float) or not low <= number <= high:
            wrong.append(key)
    if wrong:
        raise UsageError(f"{path}: {kind}.{wrong[0]} cannot be {section[wrong[0]]!r}; see docs/custom_models.md")
    if "logits" not in outputs or not set(outputs) <= set(OUTPUT_NAMES):
        raise UsageError(
            f"{path}: {kind}.outputs must include logits, and may include usable and embedding; got {', '.join(outputs)}"
        )
    return dict(section)


def _build_network(
    path: Path, kind: str, section: dict[str, Any], spec: PreprocessSpec, model_labels: tuple[str, ...]
) -> tuple[Network, bytes | None]:
    """Return the network with moodring's tensor names, and its adapted ONNX file if it comes as ONNX."""
    inputs = _input_shapes(kind, spec)
    names = list(section.get("outputs", ["logits"]))
    output_type = section.get("answers", "logits")
    module, adapt = _load_module(path, kind, section, inputs)
    shapes = _output_shapes(path, kind, module, inputs, names)
    if shapes["logits"] != (BATCH, len(model_labels)):
        raise ExportError(
            f"{path}: {kind} gives logits of shape {shapes['logits']}, but has {len(model_labels)} labels: "
            f"{', '.join(model_labels)}"
        )
    check_output_type(str(path), Network(kind, module, inputs, shapes, {}), output_type)
    data = adapt(output_type) if adapt else None
    if output_type == "probabilities":
        module = OnnxModule(data, INPUT_NAMES[kind], names) if data else LogProbabilities(module, names.index("logits"))
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


def _load_module(
    path: Path, kind: str, section: dict[str, Any], inputs: Shapes
) -> tuple[nn.Module, Callable[[str], bytes] | None]:
    """Return a network as a module, and if it comes as ONNX the function that adapts it, from its type of output."""
    if "module" in section:
        return _float32(_call_function(path, kind, section["module"]), f"{path}: {kind}"), None
    source, file = f"{path}: {kind}", path.parent / section["onnx"]
    outputs = section.get("outputs", ["logits"])
    user_names = outputs if isinstance(outputs, dict) else {name: name for name in outputs}
    model = read_onnx(source, file)

    def adapt(output_type: str) -> bytes:
        return adapt_onnx(f"{source}: {file.name}", model, inputs, user_names, output_type)

    try:
        return OnnxModule(adapt("logits"), INPUT_NAMES[kind], list(user_names)), adapt
    except ExportError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no public base class
        raise ExportError(f"{source}: ONNX Runtime cannot load {file.name} ({error})") from error


def _float32(module: nn.Module, source: str) -> nn.Module:
    """Return a module with float32 weights, in which the runtime computes."""
    weights = [
        tensor for tensor in module.state_dict().values() if tensor.is_floating_point() and tensor.dtype != torch.float32
    ]
    if weights:
        dtypes = " and ".join(sorted({str(tensor.dtype).removeprefix("torch.") for tensor in weights}))
        count = sum(tensor.numel() for tensor in weights)
        print(f"{source}: {count} {dtypes} weights become float32, in which the runtime computes", flush=True)
    return module.float()


def _call_function(path: Path, kind: str, entry_point: str) -> nn.Module:
    """Call PACKAGE.MODULE:FUNCTION, found in the folder of the description or on Python's path; return its module."""
    package, _, function = str(entry_point).partition(":")
    sys.path.insert(0, str(path.parent))
    try:
        module = getattr(importlib.import_module(package), function)()
    except Exception as error:  # a user's module can raise anything
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
    for name, output in zip(names, outputs, strict=True):
        if not isinstance(output, torch.Tensor) or output.dtype != torch.float32:
            raise ExportError(f"{path}: {kind} gives {name} as {getattr(output, 'dtype', type(output))}; return torch.float32")
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
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:  # TypeError: an .npy file
        raise ExportError(f"{path}: must be an .npz file with `inputs` and `labels` ({error})") from error
    if kind == "face" and inputs.dtype == np.uint8 and inputs.ndim == 3:
        inputs = normalize_crops(inputs)
    return [{INPUT_NAMES[kind]: row[None]} for row in inputs], labels
