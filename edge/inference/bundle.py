"""Model bundle: a folder with bundle.json and the files of the networks. Every file is verified before a network is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from moodring.errors import BundleError
from moodring.features.audio.baseline import BaselineInfo
from moodring.features.spec import PreprocessSpec
from moodring.inference import signature
from moodring.inference.base import Model, Shapes
from moodring.inference.bundle_entries import number, numbers_by_head, text, verify_file, verify_ir
from moodring.labels import CLASSES, FACE_CLASSES, LABELS

SCHEMA_VERSION = 1
BUNDLE_FILE = "bundle.json"
DEFAULT = Path(__file__).resolve().parent.parent / "bundles" / "default"
MIN_TEMPERATURE = 1e-3  # a smaller one overflows
MODELS = ("face", "speech", "fusion")

BackendName = Literal["onnx", "openvino"]
Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A network of a bundle: its inputs and outputs (shapes by name), its calibration, and its verified files by precision.

    `files` are ONNX files, `ir` the .xml files of OpenVINO's format (each .bin lies beside its .xml), `batched` ONNX files with
    a dynamic batch size. `class_indices` holds the index of each of the network's classes among the `classes` of the bundle.
    `baseline` is set if a speech network reads windows from which the baseline of the voice was subtracted.

    The fusion network has two more fields, by label set of the face branch (`official`, `ferplus`): `weights` holds the weights
    of both branches in decision fusion, `confident` a confidence `threshold`, its precision (`right`) and its `coverage`.
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
    baseline: BaselineInfo | None = None
    class_indices: tuple[int, ...] | None = None  # None: output i is class i
    classes: int = CLASSES

    def precisions(self, backend: BackendName) -> list[str]:
        """Return the precisions in which a backend can run this network."""
        return sorted(self.files if backend == "onnx" else self.files | self.ir)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. `accuracy` (measured figures) and `training` (data and recipes) are JSON as stored in bundle.json.

    `labels` names the classes in the order of the probabilities: moodring's eight, or those of a custom bundle.
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
        """Load one network. Raises BundleError if the bundle lacks it in that precision, BackendError if it cannot be loaded.

        OpenVINO reads the IR of that precision if the bundle contains one, else the same ONNX file as ONNX Runtime.
        """
        if model not in self.models:
            raise BundleError(f"bundle {self.path} contains no {model} network; choose another bundle or export it again")
        info = self.models[model]
        if precision not in info.precisions(backend):
            option = "--formats onnx,openvino" if precision == "fp16" else f"--precision {precision}"
            raise BundleError(
                f"bundle {self.path} contains the {model} network as {', '.join(info.precisions(backend))}, not {precision}; "
                f"choose one of these, or export it with {option}"
            )
        if backend == "openvino":
            return self.open_file(model, info.ir.get(precision) or info.files[precision], backend, threads)
        return self.open_file(model, info.files[precision], backend, threads)

    def open_batched(self, model: str, precision: Precision = "fp32", backend: BackendName = "onnx", threads: int = 1) -> Model:
        """Load a network with a dynamic batch size. Raises BundleError if the bundle does not contain it in that precision."""
        available = self.models[model].batched if model in self.models else {}
        if precision not in available:
            raise BundleError(
                f"bundle {self.path} contains no {model} network in {precision} with a dynamic batch size; export it with "
                "--formats onnx,batch"
            )
        return self.open_file(model, available[precision], backend, threads)

    def open_file(self, model: str, path: Path, backend: BackendName, threads: int = 1) -> Model:
        """Load one file of a network in a backend. Raises BackendError if it cannot be loaded."""
        info = self.models[model]
        if backend == "openvino":
            from moodring.inference.openvino import OpenVinoModel  # noqa: PLC0415  an extra

            return OpenVinoModel(path, info.inputs, info.outputs, threads)
        from moodring.inference.onnx import OnnxModel  # noqa: PLC0415  only the chosen backend is loaded

        return OnnxModel(path, info.inputs, info.outputs, threads)


def bundle_id(document: dict[str, Any]) -> str:
    """Return the id of a bundle: the first 16 hex digits of the SHA-256 of its bundle.json in canonical form.

    The measured figures are left out: an evaluation records the id of its bundle, and its figures are stored there afterwards.
    """
    return _canonical_hash(document, without=("id", "accuracy", "sha256"))[:16]


def add_hashes(document: dict[str, Any]) -> dict[str, Any]:
    """Add the id and the hash of the whole document to a bundle.json, in place; return it."""
    document["id"] = bundle_id(document)
    document["sha256"] = _canonical_hash(document, without=("sha256",))
    return document


def to_json_text(document: dict[str, Any]) -> str:
    """Return the text of bundle.json."""
    return json.dumps(document, indent=1) + "\n"


def _canonical_hash(document: dict[str, Any], without: tuple[str, ...]) -> str:
    hashed = {key: value for key, value in document.items() if key not in without}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def resolve(name: str) -> Path:
    """Return the folder of the bundle that a configuration names; `default` is the bundle that ships with moodring."""
    return DEFAULT if name == "default" else Path(name)


def load_configured(name: str, key: str) -> Bundle:
    """Load the bundle that the configuration names in `bundle`; `bundle_key` is the file of a public key, or `none`."""
    return load(resolve(name), required=(), key=None if key == "none" else Path(key))


def load(path: str | PathLike[str], required: Sequence[str] = MODELS, key: Path | None = None) -> Bundle:
    """Read and verify a bundle: schema, labels, preprocessing, interfaces and the hash of every file. Raises BundleError.

    `required` names the networks that the bundle must contain: all of them for a run, one for an evaluation of that one. With
    `key`, the file of a public key, the bundle must be signed as well.
    """
    path = Path(path)
    document = _read_document(path, key)
    _check_schema(path, document.get("schema"))
    try:
        if document["sha256"] != _canonical_hash(document, without=("sha256",)) or document["id"] != bundle_id(document):
            raise BundleError(f"{path / BUNDLE_FILE} was changed after it was written; restore it or export again")
        labels = _check_labels(path, document["labels"])
        spec = PreprocessSpec.from_dict(document["spec"])
        if spec.hash() != document["spec_hash"]:
            raise BundleError(
                f"bundle {path} was made for preprocessing {document['spec_hash'][:12]}, but this version computes "
                f"{spec.hash()[:12]}; export the model again with this version"
            )
        missing = [name for name in required if name not in document["models"]]
        if missing:
            raise BundleError(
                f"bundle {path} contains no network for {' and '.join(missing)}, only for "
                f"{' and '.join(document['models']) or 'nothing'}; choose another bundle or export it again"
            )
        available = document["models"]
        models = {name: _model_info(path, name, available[name], labels) for name in MODELS if name in available}
        _check_interfaces(path, spec, models)
        name, accuracy, training = document["name"], document["accuracy"], document["training"]
        return Bundle(path, document["id"], text(name), spec, models, dict(accuracy), dict(training), labels)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise BundleError(f"{path / BUNDLE_FILE} is incomplete ({error!r}); export the model again") from error


def _check_schema(path: Path, schema: Any) -> None:
    if schema == SCHEMA_VERSION and type(schema) is int:
        return
    advice = "export the model again with this version"
    if isinstance(schema, int) and schema > SCHEMA_VERSION:
        advice = "it was made by a newer version: update moodring, or export the model again with this version"
    raise BundleError(f"bundle {path} has schema {schema!r}, but this version reads {SCHEMA_VERSION}; {advice}")


def _check_labels(path: Path, labels: Any) -> tuple[str, ...]:
    are_names = isinstance(labels, list) and all(isinstance(label, str) and label.strip() for label in labels)
    if not are_names or len(set(labels)) != len(labels) or len(labels) < 2:
        raise BundleError(f"bundle {path} must name two or more different labels, got {labels}; export it again")
    return tuple(labels)


def _read_document(path: Path, key: Path | None) -> dict[str, Any]:
    """Read bundle.json, verify its signature if `key` is given, and parse it. Both use the same bytes."""
    file = path / BUNDLE_FILE
    try:
        data = file.read_bytes()
        if key is not None:
            signature.check(path, data, key)
        document = json.loads(data.decode("utf-8"))
    except FileNotFoundError as error:
        raise BundleError(f"{path} is not a model bundle: {file} does not exist; make one with `moodring export`") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{file} cannot be read ({error}); restore it or export again") from error
    if not isinstance(document, dict):
        raise BundleError(f"{file} does not contain a JSON object; restore it or export again")
    return document


def _model_info(path: Path, name: str, data: dict[str, Any], labels: tuple[str, ...]) -> ModelInfo:
    files = {precision: verify_file(path, entry) for precision, entry in data["files"].items()}
    if not files:
        raise BundleError(f"bundle {path} names no file for the {name} network; export it again")
    ir = {precision: verify_ir(path, entry) for precision, entry in data.get("ir", {}).items()}
    batched = {precision: verify_file(path, entry) for precision, entry in data.get("batched", {}).items()}
    class_labels = data.get("labels", labels[:FACE_CLASSES] if name == "face" and labels == LABELS else labels)
    unknown = [label for label in class_labels if label not in labels]
    if unknown or len(set(class_labels)) != len(class_labels):
        raise BundleError(
            f"bundle {path}: the labels of the {name} network are {list(class_labels)}, but must be different ones of "
            f"{list(labels)}; export it again"
        )
    return ModelInfo(
        inputs={key: tuple(shape) for key, shape in data["inputs"].items()},
        outputs={key: tuple(shape) for key, shape in data["outputs"].items()},
        temperature={key: number(value) for key, value in data["temperature"].items()},
        files=files,
        usable_threshold=number(data.get("usable_threshold", 0.5), maximum=1.0),
        published_head=str(data.get("published_head", "logits")),
        weights=numbers_by_head(data.get("weights"), ("face", "speech")),
        confident=numbers_by_head(data.get("confident"), ("threshold", "right", "coverage")),
        ir=ir,
        batched=batched,
        baseline=BaselineInfo.from_dict(data["baseline"], data["inputs"]["window"][-1]) if "baseline" in data else None,
        class_indices=tuple(labels.index(label) for label in class_labels),
        classes=len(labels),
    )


def _check_interfaces(path: Path, spec: PreprocessSpec, models: dict[str, ModelInfo]) -> None:
    """Raise BundleError unless the inputs match the preprocessing and the outputs are those that branches and fuser read."""
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
            raise BundleError(
                f"bundle {path}: the inputs of the {name} network are {model.inputs}, but must be {inputs[name]}; "
                "export it again"
            )
        expected: dict[str, tuple[int, ...]] = {model.published_head: (1, len(model.class_indices or ()))}
        if "usable" in model.outputs:
            expected["usable"] = (1, 1)
        for output, shape in expected.items():
            if model.outputs[output] != shape:
                found = model.outputs[output]
                raise BundleError(
                    f"bundle {path}: the output {output} of the {name} network has shape {found}, but must have {shape}; "
                    "export it again"
                )
        if min(model.temperature[model.published_head], *model.temperature.values()) < MIN_TEMPERATURE:
            raise BundleError(
                f"bundle {path}: each temperature of the {name} network must be at least {MIN_TEMPERATURE:g}; export it again"
            )
