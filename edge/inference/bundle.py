"""The model bundle: a folder with bundle.json and the networks it names, verified before anything runs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from moodring.errors import BundleError
from moodring.features.spec import PreprocessSpec
from moodring.inference import signature
from moodring.inference.base import Model, Shapes
from moodring.labels import CLASSES, FACE_CLASSES, LABELS

SCHEMA_VERSION = 1
BUNDLE_FILE = "bundle.json"
DEFAULT = Path(__file__).resolve().parent.parent / "bundles" / "default"
MODELS = ("face", "speech", "fusion")

BackendName = Literal["onnx", "openvino"]
Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One network of the bundle: its interface, its calibration, and its verified files by precision.

    `files` are ONNX, `ir` OpenVINO's own (the .xml; its .bin lies beside it), `batched` ONNX for any number of inputs at once.
    `places` says where each class that the network
    answers stands among the bundle's `classes`.

    A fusion holds, by the face's label set, the `weights` of both branches in decision fusion, and in `confident` from which
    `threshold` on its answers are right how often (`right`), and how many of them are (`coverage`).
    """

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    temperature: dict[str, float]
    files: dict[str, Path]
    usable_threshold: float = 0.5
    published_head: str = "logits"
    weights: dict[str, dict[str, float]] | None = None
    confident: dict[str, dict[str, float]] | None = None
    ir: dict[str, Path] = field(default_factory=dict)
    batched: dict[str, Path] = field(default_factory=dict)
    class_indices: tuple[int, ...] | None = None  # None: the first ones
    classes: int = CLASSES

    def precisions(self, backend: BackendName) -> list[str]:
        """Return the precisions in which an engine can run this network."""
        return sorted(self.files if backend == "onnx" else self.files | self.ir)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. `accuracy` and `training` are what its makers measured and said, as JSON.

    Its answers are over `labels`, in that order: moodring's own eight, or those of whoever made it.
    """

    path: Path
    id: str
    name: str
    spec: PreprocessSpec
    models: dict[str, ModelInfo]
    accuracy: dict[str, Any]
    training: dict[str, Any]
    labels: tuple[str, ...] = LABELS

    def open(self, model: str, precision: Precision = "fp32", backend: BackendName = "onnx", threads: int = 1) -> Model:
        """Load one network; raise BundleError where the bundle does not hold it, or not in that precision.

        OpenVINO reads the bundle's IR where there is one of that precision, and else the same ONNX file as ONNX Runtime.
        """
        if model not in self.models:
            raise BundleError(f"bundle {self.path} holds no network for {model}; choose another bundle, or export it again")
        info = self.models[model]
        if precision not in info.precisions(backend):
            also = " --formats onnx,openvino" if precision == "fp16" else f" --precision {precision}"
            raise BundleError(
                f"bundle {self.path} holds {model} as {', '.join(info.precisions(backend))}, not {precision}; choose one of "
                f"these, or export it with{also}"
            )
        if backend == "openvino":
            return self.open_file(model, info.ir.get(precision) or info.files[precision], backend, threads)
        return self.open_file(model, info.files[precision], backend, threads)

    def open_batched(self, model: str, precision: Precision = "fp32", backend: BackendName = "onnx", threads: int = 1) -> Model:
        """Load a network that takes any number of inputs at once; BundleError where the bundle does not hold it."""
        available = self.models[model].batched if model in self.models else {}
        if precision not in available:
            raise BundleError(
                f"bundle {self.path} holds no {model} in {precision} for several inputs at once; export it with "
                "--formats onnx,batch"
            )
        return self.open_file(model, available[precision], backend, threads)

    def open_file(self, model: str, path: Path, backend: BackendName, threads: int = 1) -> Model:
        """Load one file of a network in an engine."""
        info = self.models[model]
        if backend == "openvino":
            from moodring.inference.openvino import OpenVinoModel  # noqa: PLC0415  an extra

            return OpenVinoModel(path, info.inputs, info.outputs, threads)
        from moodring.inference.onnx import OnnxModel  # noqa: PLC0415  an engine is loaded where it is chosen

        return OnnxModel(path, info.inputs, info.outputs, threads)


def bundle_id(document: dict[str, Any]) -> str:
    """Return the id of what a bundle.json describes: 16 hex digits of the SHA-256 of its canonical form.

    Measured figures are no part of it: an evaluation names the bundle it measured, and is then recorded there.
    """
    return _canonical_hash(document, without=("id", "accuracy", "sha256"))[:16]


def add_hashes(document: dict[str, Any]) -> dict[str, Any]:
    """Give a bundle.json its id and the hash of all of it, in place; return it."""
    document["id"] = bundle_id(document)
    document["sha256"] = _canonical_hash(document, without=("sha256",))
    return document


def to_json_text(document: dict[str, Any]) -> str:
    """Return bundle.json's text."""
    return json.dumps(document, indent=1) + "\n"


def _canonical_hash(document: dict[str, Any], without: tuple[str, ...]) -> str:
    rest = {key: value for key, value in document.items() if key not in without}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def resolve(name: str) -> Path:
    """Return the folder that a configuration's `bundle` names: `default` is the one that ships."""
    return DEFAULT if name == "default" else Path(name)


def load_configured(name: str, key: str) -> Bundle:
    """Load what a configuration's `bundle` names, verified by its `bundle_key` where that is not `none`."""
    return load(resolve(name), required=(), key=None if key == "none" else Path(key))


def load(path: Path, required: Sequence[str] = MODELS, key: Path | None = None) -> Bundle:
    """Read and verify a bundle: schema, labels, spec, every file's hash. Raises BundleError saying what to do.

    `needed` are the networks it must hold: all of them to run, one of them to evaluate a bundle made for that alone. With a
    public `key` it must be signed too.
    """
    document = _read_document(path, key)
    _check_schema(path, document.get("schema"))
    try:
        if document["sha256"] != _canonical_hash(document, without=("sha256",)) or document["id"] != bundle_id(document):
            raise BundleError(f"{path / 'bundle.json'} was changed after it was written; restore it or export again")
        labels = _check_labels(path, document["labels"])
        spec = PreprocessSpec.from_dict(document["spec"])
        if spec.hash() != document["spec_hash"]:
            raise BundleError(
                f"bundle {path} was made for preprocessing {document['spec_hash'][:12]}, this runtime computes "
                f"{spec.hash()[:12]}; export the model again with this version"
            )
        absent = [name for name in required if name not in document["models"]]
        if absent:
            raise BundleError(
                f"bundle {path} holds no network for {' and '.join(absent)}, but for "
                f"{' and '.join(document['models']) or 'nothing'} alone; choose another bundle, or export it again"
            )
        available = document["models"]
        models = {name: _model_info(path, name, available[name], labels) for name in MODELS if name in available}
        _check_interfaces(path, spec, models)
        return Bundle(path, document["id"], document["name"], spec, models, document["accuracy"], document["training"], labels)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{path / 'bundle.json'} is incomplete ({error!r}); export the model again") from error


def _check_schema(path: Path, schema: Any) -> None:
    if schema == SCHEMA_VERSION and type(schema) is int:
        return
    advice = "export the model again with this version"
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        advice = "a newer moodring made it: update this one, or export the model again with this version"
    raise BundleError(f"bundle {path} has schema {schema!r}, this moodring reads {SCHEMA_VERSION}; {advice}")


def _check_labels(path: Path, labels: Any) -> tuple[str, ...]:
    named = isinstance(labels, list) and all(isinstance(label, str) and label.strip() for label in labels)
    if not named or len(set(labels)) != len(labels) or len(labels) < 2:
        raise BundleError(f"bundle {path} must name two labels or more, each once, got {labels}; export it again")
    return tuple(labels)


def _read_document(path: Path, key: Path | None) -> dict[str, Any]:
    """Read bundle.json once: what is parsed is what was signed."""
    file = path / BUNDLE_FILE
    try:
        data = file.read_bytes()
        if key is not None:
            signature.check(path, data, key)
        document = json.loads(data.decode("utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{path} is no model bundle: there is no {file}; make one with `moodring export`") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{file} cannot be read ({error}); restore it or export again") from error
    if not isinstance(document, dict):
        raise BundleError(f"{file} holds no JSON object; restore it or export again")
    return document


def _model_info(path: Path, name: str, data: dict[str, Any], labels: tuple[str, ...]) -> ModelInfo:
    files = {precision: _verify_file(path / entry["path"], entry["sha256"]) for precision, entry in data["files"].items()}
    if not files:
        raise BundleError(f"bundle {path} names no file for {name}; export it again")
    ir = {precision: _verify_ir(path, entry) for precision, entry in data.get("ir", {}).items()}
    batched = {p: _verify_file(path / entry["path"], entry["sha256"]) for p, entry in data.get("batched", {}).items()}
    class_labels = data.get("labels", labels[:FACE_CLASSES] if name == "face" and labels == LABELS else labels)
    unknown = [label for label in class_labels if label not in labels]
    if unknown or len(set(class_labels)) != len(class_labels):
        raise BundleError(
            f"bundle {path}: {name} answers {list(class_labels)}, not each once of {list(labels)}; export it again"
        )
    return ModelInfo(
        inputs={key: tuple(shape) for key, shape in data["inputs"].items()},
        outputs={key: tuple(shape) for key, shape in data["outputs"].items()},
        temperature={key: float(value) for key, value in data["temperature"].items()},
        files=files,
        usable_threshold=float(data.get("usable_threshold", 0.5)),
        published_head=str(data.get("published_head", "logits")),
        weights=data.get("weights"),
        confident=data.get("confident"),
        ir=ir,
        batched=batched,
        class_indices=tuple(labels.index(label) for label in class_labels),
        classes=len(labels),
    )


def _check_interfaces(path: Path, spec: PreprocessSpec, models: dict[str, ModelInfo]) -> None:
    """Raise BundleError unless the networks take what the spec makes and give what the branches and the fuser read."""
    size, speech_spec = spec.face.size, spec.speech
    inputs: dict[str, Shapes] = {
        "face": {"crop": (1, 1, size, size)},
        "speech": {"window": (1, speech_spec.window_frames, speech_spec.columns)},
    }
    if "fusion" in models:
        inputs["fusion"] = {
            "face_embedding": models["face"].outputs["embedding"],
            "speech_embedding": models["speech"].outputs["embedding"],
            "presence": (1, 2),
        }
    for name, model in models.items():
        if model.inputs != inputs[name]:
            raise BundleError(f"bundle {path}: {name} takes {model.inputs}, which does not fit {inputs[name]}; export it again")
        expected: dict[str, tuple[int, ...]] = {model.published_head: (1, len(model.class_indices or ()))}
        if "usable" in model.outputs:
            expected["usable"] = (1, 1)
        for output, shape in expected.items():
            if model.outputs[output] != shape:
                found = model.outputs[output]
                raise BundleError(
                    f"bundle {path}: {name} gives {output} as {found}, which does not fit {shape}; export it again"
                )
        if not 0 < model.temperature[model.published_head] < math.inf:
            raise BundleError(f"bundle {path}: the temperature of {name} must be more than 0; export it again")


def _verify_ir(path: Path, entry: dict[str, Any]) -> Path:
    """Verify both files of a network in OpenVINO's format; return the one that names the operations."""
    xml, weights = (_verify_file(path / entry[part]["path"], entry[part]["sha256"]) for part in ("xml", "bin"))
    if weights != xml.with_suffix(".bin"):
        raise BundleError(f"bundle {path}: {xml.name} and {weights.name} do not belong together; export it again")
    return xml


def _verify_file(file: Path, sha256: str) -> Path:
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"the bundle's file {file} cannot be read ({error.strerror}); restore it or export again") from error
    if found != sha256:
        raise BundleError(
            f"{file} is not the file the bundle was made with (sha256 {found[:12]}, expected {sha256[:12]}); "
            "restore it or export again"
        )
    return file
