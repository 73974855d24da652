"""Bundles: an intact bundle is loaded; one that was changed, or made for another version, is rejected with advice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moodring.errors import BackendError, BundleError
from moodring.features.spec import PreprocessSpec
from moodring.inference.bundle import DEFAULT, MODELS, Bundle, add_hashes, bundle_id, load, resolve
from moodring.labels import LABELS
from tests.support.tiny_bundle import INPUTS, OUTPUTS, build_network, read_document, write_document


@pytest.fixture
def bundle_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def with_entry(folder: Path, path: str, value: Any) -> Path:
    """Change one entry of bundle.json, such as `spec/speech/hop_frames`, or delete it; update the id and the hash."""
    document = read_document(folder)
    *sections, last = path.split("/")
    part = document
    for section in sections:
        part = part[section]
    if value is None:
        del part[last]
    else:
        part[last] = value
    write_document(folder, document)
    return folder


def with_spec(folder: Path, change) -> Path:
    """Change the preprocessing spec; update its hash, the id and the hash of bundle.json."""
    document = read_document(folder)
    change(document["spec"])
    canonical = json.dumps(document["spec"], sort_keys=True, separators=(",", ":"))
    document["spec_hash"] = hashlib.sha256(canonical.encode()).hexdigest()
    write_document(folder, document)
    return folder


def test_load_returns_an_intact_bundle(tiny_bundle: Path):
    bundle = load(tiny_bundle)
    assert isinstance(bundle, Bundle)
    assert set(bundle.models) == set(MODELS) == {"face", "speech", "fusion"}
    assert bundle.spec == PreprocessSpec()
    assert bundle.models["face"].published_head == "ferplus"
    assert bundle.models["speech"].inputs == {"window": (1, 300, 42)}
    assert len(bundle.id) == 16


@pytest.mark.parametrize("kind", MODELS)
def test_networks_have_the_outputs_that_the_bundle_declares(tiny_bundle: Path, kind: str):
    outputs = load(tiny_bundle).open(kind).run({name: np.zeros(shape, np.float32) for name, shape in INPUTS[kind].items()})
    assert {name: value.shape for name, value in outputs.items()} == OUTPUTS[kind]


def test_bundle_id_depends_on_the_content_but_not_on_key_order_or_figures(tiny_bundle: Path):
    document = read_document(tiny_bundle)
    assert bundle_id(dict(reversed(document.items()))) == document["id"]
    assert bundle_id(document | {"name": "other"}) != document["id"]
    assert bundle_id(document | {"accuracy": {"face": {"accuracy": 0.5}}}) == document["id"]


def test_an_edited_figure_is_detected(bundle_copy: Path):
    document = read_document(bundle_copy)
    document["accuracy"] = {"face": {"accuracy": 1.0}}
    (bundle_copy / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="was changed after it was written"):
        load(bundle_copy)


def test_resolve_default_returns_the_shipped_bundle():
    assert resolve("default") == DEFAULT
    assert resolve("some/where") == Path("some/where")


def test_a_flipped_bit_in_bundle_json_is_detected(bundle_copy: Path):
    file = bundle_copy / "bundle.json"
    intact = file.read_bytes()
    for position in range(0, len(intact), 3):
        damaged = bytearray(intact)
        damaged[position] ^= 1
        file.write_bytes(bytes(damaged))
        with pytest.raises(BundleError, match="bundle"):
            load(bundle_copy)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("relative_position", [0.0, 0.5, 0.999])
def test_a_flipped_bit_in_a_network_is_detected_and_the_file_named(bundle_copy: Path, kind: str, relative_position: float):
    file = bundle_copy / f"{kind}.fp32.onnx"
    data = bytearray(file.read_bytes())
    data[int(relative_position * len(data))] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=rf"{kind}\.fp32\.onnx is not the file .* restore it or export again"):
        load(bundle_copy)


def test_a_missing_file_is_named(bundle_copy: Path):
    (bundle_copy / "speech.fp32.onnx").unlink()
    with pytest.raises(BundleError, match=r"speech\.fp32\.onnx cannot be read \(No such file"):
        load(bundle_copy)


def test_a_folder_that_is_not_a_bundle_is_rejected_with_advice(tmp_path: Path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match=r"is not a model bundle: .*bundle\.json does not exist; .*moodring export"):
            load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xff", b"{}", b'{"schema": 1}', b"[" * 100_000])
def test_an_invalid_bundle_json_is_rejected(bundle_copy: Path, content: bytes):
    (bundle_copy / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match="bundle"):
        load(bundle_copy)


@pytest.mark.parametrize("key", ["id", "labels", "spec", "spec_hash", "models", "accuracy", "training", "name"])
def test_a_missing_key_is_rejected(bundle_copy: Path, key: str):
    document = read_document(bundle_copy)
    del document[key]
    if key != "id":
        add_hashes(document)
    (bundle_copy / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"incomplete|was changed"):
        load(bundle_copy)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 2, "has schema 2, but this version reads 1; it was made by a newer version: update moodring"),
        ("schema", 0, "has schema 0, but this version reads 1; export the model again"),
        ("schema", True, "has schema True"),
        ("schema", "1", "has schema '1'"),
        ("labels", list(LABELS[:7]), r"output logits of the speech network has shape \(1, 8\), but must have \(1, 7\)"),
        ("labels", ["happy", "happy"], "must name two or more different labels"),
        ("labels", ["happy"], "must name two or more different labels"),
        ("labels", ["happy", ""], "must name two or more different labels"),
        ("labels", "happy", "must name two or more different labels"),
        (
            "models/speech/labels",
            ["happy", "bored"],
            r"labels of the speech network are \['happy', 'bored'\], but must be different ones of",
        ),
        ("models/speech/labels", ["happy", "happy"], "but must be different ones of"),
        ("models/speech/labels", ["happy", "sad"], "output logits of the speech network has shape .*, but must have"),
        ("spec_hash", "0" * 64, "was made for preprocessing 000000000000"),
        ("spec/speech/hop_frames", 25, "was made for preprocessing"),
        ("models/speech", None, "contains no network for speech"),
        ("models/speech/files", {}, "names no file for the speech network"),
        ("models/speech/inputs", None, "incomplete"),
        ("models/face/temperature", "warm", "incomplete"),
        ("models/face/temperature", {}, "incomplete"),
        ("models/face/temperature/ferplus", 0, "temperature of the face network must be at least 0.001"),
        ("models/speech/outputs/logits", [1, 7], "output logits of the speech network has shape .*, but must have"),
        ("models/fusion/inputs/speech_embedding", [1, 9], "inputs of the fusion network are .*, but must be"),
    ],
)
def test_a_bundle_for_another_version_is_rejected(bundle_copy: Path, path: str, value: Any, message: str):
    with pytest.raises(BundleError, match=message):
        load(with_entry(bundle_copy, path, value))


SPEC_CHANGES = {
    "version": lambda spec: spec.update(version=2),
    "unknown field": lambda spec: spec["speech"].update(colour="blue"),
    "missing version": lambda spec: spec.pop("version"),
    "missing part": lambda spec: spec["speech"].pop("mfcc"),
    "other normalisation": lambda spec: spec["face"].update(normalisation="unit"),
    "other detector": lambda spec: spec["face"].update(detector="yunet"),
    "impossible": lambda spec: spec["speech"]["mfcc"].update(fft_size=500),
    "other sample rate": lambda spec: spec["speech"]["mfcc"].update(rate_hz=8000, high_hz=4000.0),
    "no object": lambda spec: spec.update(speech=3),
}


@pytest.mark.parametrize("change", SPEC_CHANGES)
def test_a_spec_that_this_version_does_not_implement_is_rejected(bundle_copy: Path, change: str):
    with pytest.raises(BundleError, match=r"not one this runtime implements.*export the model again"):
        load(with_spec(bundle_copy, SPEC_CHANGES[change]))


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["speech"]["mfcc"].update(cepstra=30),
        lambda spec: spec["speech"].update(window_frames=200),
        lambda spec: spec["face"].update(size=64),
    ],
)
def test_a_spec_that_does_not_match_the_networks_is_rejected(bundle_copy: Path, change):
    with pytest.raises(BundleError, match=r"inputs of the .* network are .*, but must be"):
        load(with_spec(bundle_copy, change))


@pytest.mark.parametrize(("kind", "output"), [("speech", "embedding"), ("fusion", "ferplus"), ("face", "ferplus")])
def test_a_bundle_without_a_required_output_is_rejected(bundle_copy: Path, kind: str, output: str):
    with pytest.raises(BundleError, match=output):
        load(with_entry(bundle_copy, f"models/{kind}/outputs/{output}", None))


@pytest.mark.parametrize(
    "name",
    [
        "../outside.onnx",
        "{folder}/outside.onnx",
        "x/../../outside.onnx",
        "/dev/zero",
        "..",
        ".",
        "",
        None,
        3,
        "a\0b",
        "x" * 5000,
    ],
)
@pytest.mark.parametrize("files", ["files", "ir", "batched"])
def test_a_file_outside_the_folder_is_not_opened(bundle_copy: Path, name: Any, files: str):
    """A bundle from elsewhere must not make moodring read other files, or one without an end."""
    outside = bundle_copy.parent / "outside.onnx"
    shutil.copy(bundle_copy / "speech.fp32.onnx", outside)
    entry = {
        "path": name.format(folder=outside.parent) if isinstance(name, str) else name,
        "sha256": hashlib.sha256(outside.read_bytes()).hexdigest(),
    }
    with_entry(bundle_copy, f"models/speech/{files}", {"fp32": {"xml": entry, "bin": entry} if files == "ir" else entry})
    with pytest.raises(BundleError, match=r"which is not in its folder|cannot be read|is not a text|null byte"):
        load(bundle_copy)


def test_a_file_of_a_bundle_may_lie_in_a_folder_of_it_or_be_a_link(bundle_copy: Path):
    """Tools that store large files elsewhere leave links."""
    (bundle_copy / "networks").mkdir()
    stored = (bundle_copy / "speech.fp32.onnx").rename(bundle_copy.parent / "stored")
    (bundle_copy / "networks" / "speech.onnx").symlink_to(stored)
    with_entry(bundle_copy, "models/speech/files/fp32/path", "networks/speech.onnx")
    load(bundle_copy).open("speech")


def test_a_pipe_in_place_of_a_network_is_rejected(bundle_copy: Path):
    (bundle_copy / "speech.fp32.onnx").unlink()
    os.mkfifo(bundle_copy / "speech.fp32.onnx")
    with pytest.raises(BundleError, match=r"speech\.fp32\.onnx cannot be read \(it is not a file\)"):
        load(bundle_copy)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("models/fusion/weights/ferplus", {}),
        ("models/fusion/weights/ferplus/face", "0.5"),
        ("models/fusion/weights/ferplus", {"face": 0, "speech": 0}),
        ("models/fusion/weights", [1, 2]),
        ("models/fusion/confident/ferplus", {"threshold": 0.5}),
        ("models/fusion/temperature/ferplus.voting", -1),
        ("models/fusion/temperature/ferplus.voting", 1e-320),
        ("models/speech/temperature/logits", True),
        ("models/speech/temperature/logits", float("nan")),
        ("models/speech/temperature/logits", 2**2000),
        ("models/speech/usable_threshold", 2),
        ("models/speech/usable_threshold", float("nan")),
        ("name", ["x"]),
        ("accuracy", 3),
    ],
)
def test_a_wrong_number_or_text_is_rejected_before_the_run(bundle_copy: Path, path: str, value: Any):
    with pytest.raises(BundleError, match=r"bundle\.json is incomplete|must be at least 0.001"):
        load(with_entry(bundle_copy, path, value))


def test_open_with_a_missing_precision_names_the_available_ones(tiny_bundle: Path):
    with pytest.raises(BundleError, match=r"contains the face network as fp32, not int8; .* --precision int8"):
        load(tiny_bundle).open("face", "int8")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("models/speech/outputs/extra", [1, 3], "outputs are .* but the bundle declares"),
        ("models/speech/outputs/extra", [2], "outputs are .* but the bundle declares"),
    ],
)
def test_a_network_with_other_outputs_than_the_bundle_declares_is_rejected(
    bundle_copy: Path, path: str, value: Any, message: str
):
    with_entry(bundle_copy, path, value)
    with pytest.raises(BackendError, match=message):
        load(bundle_copy).open("speech")


def test_a_network_with_another_shape_than_the_bundle_declares_is_rejected(bundle_copy: Path):
    with_entry(bundle_copy, "models/face/outputs/official", [1, 9])
    with pytest.raises(BackendError, match=r"output 'official' has shape \(1, 7\), but the bundle declares \(1, 9\)"):
        load(bundle_copy).open("face")


def test_a_file_that_is_not_a_network_raises_backend_error(bundle_copy: Path):
    data = b"not a network"
    (bundle_copy / "face.fp32.onnx").write_bytes(data)
    with_entry(bundle_copy, "models/face/files/fp32/sha256", hashlib.sha256(data).hexdigest())
    with pytest.raises(BackendError, match=r"ONNX Runtime .* cannot load .*face\.fp32\.onnx"):
        load(bundle_copy).open("face")


def test_a_network_of_another_kind_is_rejected(bundle_copy: Path):
    data = build_network("speech")
    (bundle_copy / "face.fp32.onnx").write_bytes(data)
    with_entry(bundle_copy, "models/face/files/fp32/sha256", hashlib.sha256(data).hexdigest())
    with pytest.raises(BackendError, match="inputs are"):
        load(bundle_copy).open("face")


def test_openvino_without_its_extra_raises_backend_error_with_the_command(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(BackendError, match=r"pip install 'moodring\[openvino\]'"):
        load(tiny_bundle).open("face", backend="openvino")


def test_openvino_outputs_equal_those_of_onnx_runtime(tiny_bundle: Path):
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    rng = np.random.default_rng(0)
    for kind in MODELS:
        inputs = {name: rng.normal(size=shape).astype(np.float32) for name, shape in INPUTS[kind].items()}
        bundle = load(tiny_bundle)
        expected, outputs = bundle.open(kind).run(inputs), bundle.open(kind, backend="openvino").run(inputs)
        for name, value in expected.items():
            np.testing.assert_allclose(value, outputs[name], atol=1e-4)


def test_the_shipped_bundle_is_intact_and_contains_figures():
    bundle = load(DEFAULT)
    for kind in MODELS:
        bundle.open(kind)
    assert bundle.accuracy
    assert bundle.training["data"]


def with_speech_only(folder: Path) -> Path:
    """Remove the face and fusion networks from a bundle. The bundles of the folds contain only a speech network."""
    document = read_document(folder)
    document["models"] = {"speech": document["models"]["speech"]}
    write_document(folder, document)
    return folder


def test_a_bundle_of_one_network_is_loaded_only_if_no_other_is_required(bundle_copy: Path):
    bundle = load(with_speech_only(bundle_copy), ("speech",))
    assert list(bundle.models) == ["speech"]
    with pytest.raises(BundleError, match="contains no network for face and fusion, only for speech"):
        load(bundle_copy)
    with pytest.raises(BundleError, match="contains no network for face, only for speech"):
        load(bundle_copy, ("face",))
