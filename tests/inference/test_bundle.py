"""Bundles: one that is whole is loaded; one that was changed, or made for another runtime, is refused with advice."""

from __future__ import annotations

import hashlib
import json
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
def copied(tiny_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def changed(folder: Path, path: str, value: Any) -> Path:
    """Change one entry of bundle.json, such as `spec/speech/hop_frames`, and give it the id that then belongs to it."""
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
    """Change the spec and give it the hash that then belongs to it."""
    document = read_document(folder)
    change(document["spec"])
    canonical = json.dumps(document["spec"], sort_keys=True, separators=(",", ":"))
    document["spec_hash"] = hashlib.sha256(canonical.encode()).hexdigest()
    write_document(folder, document)
    return folder


def test_a_whole_bundle_is_loaded(tiny_bundle: Path):
    bundle = load(tiny_bundle)
    assert isinstance(bundle, Bundle)
    assert set(bundle.models) == set(MODELS) == {"face", "speech", "fusion"}
    assert bundle.spec == PreprocessSpec()
    assert bundle.models["face"].published_head == "ferplus"
    assert bundle.models["speech"].inputs == {"window": (1, 300, 42)}
    assert len(bundle.id) == 16


@pytest.mark.parametrize("kind", MODELS)
def test_its_networks_answer_with_the_names_and_shapes_it_states(tiny_bundle: Path, kind: str):
    answers = load(tiny_bundle).open(kind).run({name: np.zeros(shape, np.float32) for name, shape in INPUTS[kind].items()})
    assert {name: value.shape for name, value in answers.items()} == OUTPUTS[kind]


def test_the_id_follows_the_content_and_not_the_order(tiny_bundle: Path):
    document = read_document(tiny_bundle)
    assert bundle_id(dict(reversed(document.items()))) == document["id"]
    assert bundle_id(document | {"name": "other"}) != document["id"]
    assert bundle_id(document | {"accuracy": {"face": {"accuracy": 0.5}}}) == document["id"]


def test_a_figure_changed_by_hand_is_noticed(copied: Path):
    document = read_document(copied)
    document["accuracy"] = {"face": {"accuracy": 1.0}}
    (copied / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match="was changed after it was written"):
        load(copied)


def test_default_is_what_ships():
    assert resolve("default") == DEFAULT
    assert resolve("some/where") == Path("some/where")


def test_every_flipped_byte_of_bundle_json_is_noticed(copied: Path):
    file = copied / "bundle.json"
    whole = file.read_bytes()
    for position in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        file.write_bytes(bytes(damaged))
        with pytest.raises(BundleError, match="bundle"):
            load(copied)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("where", [0.0, 0.5, 0.999])
def test_a_flipped_byte_of_a_network_is_noticed_and_named(copied: Path, kind: str, where: float):
    file = copied / f"{kind}.fp32.onnx"
    data = bytearray(file.read_bytes())
    data[int(where * len(data))] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(BundleError, match=rf"{kind}\.fp32\.onnx is not the file .* restore it or export again"):
        load(copied)


def test_a_missing_network_is_named(copied: Path):
    (copied / "speech.fp32.onnx").unlink()
    with pytest.raises(BundleError, match=r"speech\.fp32\.onnx cannot be read \(No such file"):
        load(copied)


def test_a_folder_without_bundle_json_and_no_folder_say_how_to_make_one(tmp_path: Path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match=r"is no model bundle.*moodring export"):
            load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"3", b"\xff\xff", b"{}", b'{"schema": 1}', b"[" * 100_000])
def test_a_bundle_json_that_is_none_is_refused(copied: Path, content: bytes):
    (copied / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match="bundle"):
        load(copied)


@pytest.mark.parametrize("key", ["id", "labels", "spec", "spec_hash", "models", "accuracy", "training", "name"])
def test_a_missing_part_is_refused(copied: Path, key: str):
    document = read_document(copied)
    del document[key]
    if key != "id":
        add_hashes(document)
    (copied / "bundle.json").write_text(json.dumps(document))
    with pytest.raises(BundleError, match=r"incomplete|was changed"):
        load(copied)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", 2, "has schema 2, this moodring reads 1; a newer moodring made it: update this one"),
        ("schema", 0, "has schema 0, this moodring reads 1; export the model again"),
        ("schema", True, "has schema True"),
        ("schema", "1", "has schema '1'"),
        ("labels", list(LABELS[:7]), r"speech gives logits as \(1, 8\), which does not fit \(1, 7\)"),
        ("labels", ["happy", "happy"], "two labels or more, each once"),
        ("labels", ["happy"], "two labels or more, each once"),
        ("labels", ["happy", ""], "two labels or more, each once"),
        ("labels", "happy", "two labels or more, each once"),
        ("models/speech/labels", ["happy", "bored"], r"speech answers \['happy', 'bored'\], not each once of"),
        ("models/speech/labels", ["happy", "happy"], "not each once of"),
        ("models/speech/labels", ["happy", "sad"], "which does not fit"),
        ("spec_hash", "0" * 64, "was made for preprocessing 000000000000"),
        ("spec/speech/hop_frames", 25, "was made for preprocessing"),
        ("models/speech", None, "holds no network for speech"),
        ("models/speech/files", {}, "names no file for speech"),
        ("models/speech/inputs", None, "incomplete"),
        ("models/face/temperature", "warm", "incomplete"),
        ("models/face/temperature", {}, "incomplete"),
        ("models/face/temperature/ferplus", 0, "temperature of face must be more than 0"),
        ("models/speech/outputs/logits", [1, 7], "gives logits as .*, which does not fit"),
        ("models/fusion/inputs/speech_embedding", [1, 9], "which does not fit"),
    ],
)
def test_a_bundle_for_another_runtime_is_refused(copied: Path, path: str, value: Any, message: str):
    with pytest.raises(BundleError, match=message):
        load(changed(copied, path, value))


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
def test_a_spec_that_this_runtime_does_not_implement_is_refused(copied: Path, change: str):
    with pytest.raises(BundleError, match=r"not one this runtime implements.*export the model again"):
        load(with_spec(copied, SPEC_CHANGES[change]))


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["speech"]["mfcc"].update(cepstra=30),
        lambda spec: spec["speech"].update(window_frames=200),
        lambda spec: spec["face"].update(size=64),
    ],
)
def test_a_spec_that_does_not_fit_the_bundles_own_networks_is_refused(copied: Path, change):
    with pytest.raises(BundleError, match="does not fit"):
        load(with_spec(copied, change))


@pytest.mark.parametrize(("kind", "output"), [("speech", "embedding"), ("fusion", "ferplus"), ("face", "ferplus")])
def test_a_bundle_without_an_output_the_runtime_needs_is_refused(copied: Path, kind: str, output: str):
    with pytest.raises(BundleError, match=output):
        load(changed(copied, f"models/{kind}/outputs/{output}", None))


def test_a_precision_it_does_not_hold_is_refused_with_those_it_holds(tiny_bundle: Path):
    with pytest.raises(BundleError, match=r"holds face as fp32, not int8; .* --precision int8"):
        load(tiny_bundle).open("face", "int8")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("models/speech/outputs/extra", [1, 3], "outputs are .* but the bundle says"),
        ("models/speech/outputs/extra", [2], "outputs are .* but the bundle says"),
    ],
)
def test_a_network_that_is_not_what_the_bundle_states_is_refused(copied: Path, path: str, value: Any, message: str):
    changed(copied, path, value)
    with pytest.raises(BackendError, match=message):
        load(copied).open("speech")


def test_a_network_of_another_shape_than_the_bundle_states_is_refused(copied: Path):
    changed(copied, "models/face/outputs/official", [1, 9])
    with pytest.raises(BackendError, match=r"output 'official' has shape \(1, 7\), but the bundle says \(1, 9\)"):
        load(copied).open("face")


def test_a_file_that_is_no_network_is_refused_by_the_engine(copied: Path):
    data = b"not a network"
    (copied / "face.fp32.onnx").write_bytes(data)
    changed(copied, "models/face/files/fp32/sha256", hashlib.sha256(data).hexdigest())
    with pytest.raises(BackendError, match=r"ONNX Runtime .* cannot load .*face\.fp32\.onnx"):
        load(copied).open("face")


def test_another_network_in_the_place_of_one_is_refused(copied: Path):
    data = build_network("speech")
    (copied / "face.fp32.onnx").write_bytes(data)
    changed(copied, "models/face/files/fp32/sha256", hashlib.sha256(data).hexdigest())
    with pytest.raises(BackendError, match="inputs are"):
        load(copied).open("face")


def test_openvino_without_its_extra_says_which(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(BackendError, match=r"pip install 'moodring\[openvino\]'"):
        load(tiny_bundle).open("face", backend="openvino")


def test_openvino_answers_as_onnx_runtime_does(tiny_bundle: Path):
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    rng = np.random.default_rng(0)
    for kind in MODELS:
        inputs = {name: rng.normal(size=shape).astype(np.float32) for name, shape in INPUTS[kind].items()}
        bundle = load(tiny_bundle)
        one, other = bundle.open(kind).run(inputs), bundle.open(kind, backend="openvino").run(inputs)
        for name, value in one.items():
            np.testing.assert_allclose(value, other[name], atol=1e-4)


def test_what_ships_is_whole_and_says_how_good_it_is():
    bundle = load(DEFAULT)
    for kind in MODELS:
        bundle.open(kind)
    assert bundle.accuracy
    assert bundle.training["data"]


def voices_alone(folder: Path) -> Path:
    """Leave a copied bundle its speech network only, as the bundles of the folds have it."""
    document = read_document(folder)
    document["models"] = {"speech": document["models"]["speech"]}
    write_document(folder, document)
    return folder


def test_a_bundle_of_one_network_serves_what_needs_that_one_and_nothing_else(copied: Path):
    bundle = load(voices_alone(copied), ("speech",))
    assert list(bundle.models) == ["speech"]
    with pytest.raises(BundleError, match="holds no network for face and fusion, but for speech alone"):
        load(copied)
    with pytest.raises(BundleError, match="holds no network for face"):
        load(copied, ("face",))
