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
from moodring.export.adapt_onnx import LEAST, OnnxModule, conformed
from moodring.export.networks import BATCH, Network, Shapes
from moodring.export.quantization.data import Material
from moodring.features.face.crop import normalise_crops
from moodring.features.spec import PreprocessSpec

INPUTS = {"face": "crop", "speech": "window"}
OUTPUTS = ("logits", "usable", "embedding")
KEYS = {"onnx", "module", "outputs", "answers", "labels", "temperature", "usable_threshold", "training", "judged"}


@dataclass(frozen=True, slots=True)
class Own:
    """What the YAML file describes. `source` is each network's ONNX file where it has one, `material` what int8 needs."""

    name: str
    labels: tuple[str, ...]
    spec: PreprocessSpec
    networks: dict[str, Network]
    source: dict[str, bytes]
    material: dict[str, Material]
    thresholds: dict[str, float]


def read_own(path: Path) -> Own:
    """Read a description and load what it names; paths are beside it. Raises UsageError or ExportError."""
    document = _read_yaml(path)
    labels = tuple(str(label) for label in document.get("labels") or ())
    kinds = [kind for kind in INPUTS if kind in document]
    unknown = set(document) - {"name", "labels", "spec", *INPUTS}
    if len(labels) < 2 or len(set(labels)) != len(labels) or not kinds or unknown:
        raise UsageError(
            f"{path}: must hold `labels` (two or more, each once) and `face`, `speech` or both"
            + (f"; unknown: {', '.join(map(str, sorted(unknown, key=str)))}" if unknown else "")
        )
    spec = _spec(path, document.get("spec") or {})
    parts = {kind: _part(path, kind, document[kind]) for kind in kinds}
    networks, source = {}, {}
    for kind, part in parts.items():
        answered = tuple(str(label) for label in part.get("labels", labels))
        networks[kind], data = _network(path, kind, part, spec, answered)
        if data is not None:
            source[kind] = data
    return Own(
        name=str(document.get("name", path.stem)),
        labels=labels,
        spec=spec,
        networks=networks,
        source=source,
        material={kind: _material(path, kind, part) for kind, part in parts.items() if "training" in part},
        thresholds={kind: float(part.get("usable_threshold", 0.5)) for kind, part in parts.items()},
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: must hold keys such as `labels` and `face`; see docs/custom_models.md")
    return document


def _spec(path: Path, changes: Any) -> PreprocessSpec:
    """Lay what the file says over moodring's own preprocessing; refuse what this runtime does not implement."""
    document = PreprocessSpec().to_dict()
    try:
        _lay_over(document, changes)
        return PreprocessSpec.from_dict(document)
    except (BundleError, AttributeError) as error:
        raise UsageError(f"{path}: spec: {error}") from error


def _lay_over(document: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(document.get(key), dict):
            _lay_over(document[key], value)
        else:
            document[key] = value


def _part(path: Path, kind: str, part: Any) -> dict[str, Any]:
    unknown = set(part) - KEYS if isinstance(part, dict) else {"no keys"}
    if unknown or ("onnx" in part) == ("module" in part):
        raise UsageError(
            f"{path}: {kind} must name either `onnx` or `module`, and may have {', '.join(sorted(KEYS - {'onnx', 'module'}))}"
            + (f"; unknown: {', '.join(map(str, sorted(unknown, key=str)))}" if unknown else "")
        )
    if part.get("answers", "logits") not in ("logits", "probabilities"):
        raise UsageError(f"{path}: {kind}.answers must be logits or probabilities, got {part['answers']!r}")
    return dict(part)


def _network(
    path: Path, kind: str, part: dict[str, Any], spec: PreprocessSpec, answered: tuple[str, ...]
) -> tuple[Network, bytes | None]:
    """Return the network as moodring calls it, and the ONNX file of one that comes as such."""
    name = INPUTS[kind]
    size = spec.face.size
    inputs: Shapes = {name: (BATCH, 1, size, size) if kind == "face" else
                      (BATCH, spec.speech.window_frames, spec.speech.columns)}  # fmt: skip
    given = part.get("outputs", ["logits"])
    data: bytes | None = None
    module: nn.Module
    if "onnx" in part:
        renamed = given if isinstance(given, dict) else {output: output for output in given}
        data = conformed(f"{path}: {kind}", path.parent / part["onnx"], inputs, renamed, part.get("answers", "logits"))
        outputs, module = list(renamed), OnnxModule(data, name, list(renamed))
    else:
        outputs, module = list(given), _built(path, kind, part["module"])
        if part.get("answers") == "probabilities":
            module = Logarithm(module, outputs.index("logits"))
    if "logits" not in outputs or not set(outputs) <= set(OUTPUTS):
        raise UsageError(
            f"{path}: {kind}.outputs must hold logits, and may hold usable and embedding; got {', '.join(outputs)}"
        )
    shapes = _shapes(path, kind, module, inputs, outputs)
    if shapes["logits"] != (BATCH, len(answered)):
        said = ", ".join(answered)
        raise ExportError(
            f"{path}: {kind} gives logits of shape {shapes['logits']}, but answers {len(answered)} labels: {said}"
        )
    digest = hashlib.sha256(data or b"".join(t.numpy().tobytes() for t in module.state_dict().values())).hexdigest()
    card = {
        "temperature": {"logits": float(part.get("temperature", 1.0))},
        "labels": list(answered),
        "data": [],
        "recipe": {},
        "sha256": digest,
        "protocol": "a network of its maker's own",
    }
    return Network(kind, module, inputs, shapes, card), data


def _built(path: Path, kind: str, where: str) -> nn.Module:
    """Call PACKAGE.MODULE:FUNCTION, found beside the description or on Python's path."""
    package, _, function = str(where).partition(":")
    sys.path.insert(0, str(path.parent))
    try:
        built = getattr(importlib.import_module(package), function)()
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"{path}: {kind}.module must be PACKAGE.MODULE:FUNCTION; {where!r} is not there ({error})") from error
    finally:
        sys.path.remove(str(path.parent))
    if not isinstance(built, nn.Module):
        raise UsageError(f"{path}: {kind}.module: {where} must return a torch.nn.Module, got {type(built).__name__}")
    return built.eval()


def _shapes(path: Path, kind: str, module: nn.Module, inputs: Shapes, names: list[str]) -> Shapes:
    """Run the network once on zeros; return what shapes it gives."""
    try:
        with torch.no_grad():
            answers = module(*(torch.zeros(shape) for shape in inputs.values()))
    except Exception as error:  # whatever a network of others raises
        what = " and ".join(f"{name} {shape}" for name, shape in inputs.items())
        raise ExportError(f"{path}: {kind} does not run on {what} ({' '.join(str(error).split())[:200]})") from error
    answers = answers if isinstance(answers, tuple | list) else (answers,)
    if len(answers) != len(names):
        raise ExportError(f"{path}: {kind} gives {len(answers)} outputs, but `outputs` names {', '.join(names)}")
    return {name: tuple(answer.shape) for name, answer in zip(names, answers, strict=True)}


class Logarithm(nn.Module):
    """A network whose softmax is taken back, so that it can be calibrated."""

    def __init__(self, network: nn.Module, index: int) -> None:
        super().__init__()
        self.network, self.index = network, index

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        answers = self.network(x)
        answers = list(answers) if isinstance(answers, tuple | list) else [answers]
        answers[self.index] = torch.log(answers[self.index].clamp_min(LEAST))
        return tuple(answers)


def _material(path: Path, kind: str, part: dict[str, Any]) -> Material:
    """Read `training` and `judged`, .npz files with `inputs` (uint8 crops, or float32 windows) and, to judge, `labels`."""
    if "judged" not in part:
        raise UsageError(
            f"{path}: {kind}.training needs {kind}.judged beside it: int8 is judged on other inputs than it is made by"
        )
    training, _ = _npz(path.parent / part["training"], kind)
    judged, labels = _npz(path.parent / part["judged"], kind)
    return Material(training, judged, labels)


def _npz(path: Path, kind: str) -> tuple[list[dict[str, NDArray[np.float32]]], NDArray[np.int64]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            inputs = file["inputs"]
            labels = file["labels"].astype(np.int64) if "labels" in file else np.zeros(0, np.int64)
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(f"{path}: must be an .npz file with `inputs` and `labels` ({error})") from error
    if kind == "face" and inputs.dtype == np.uint8 and inputs.ndim == 3:
        inputs = normalise_crops(inputs)
    return [{INPUTS[kind]: one[None]} for one in inputs], labels
