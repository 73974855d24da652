"""Export from checkpoints: ONNX and IR verified against the original, and the bundle that is written."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from moodring.errors import BundleError, DataError, ExportError, UsageError
from moodring.evaluation.record import record_accuracy
from moodring.export import run, write
from moodring.export.networks import Network, load_network, load_networks
from moodring.export.quantization.data import QuantizationData
from moodring.export.quantization.gather import real_inputs
from moodring.export.quantization.quantize import agreement, initial_float_layers, predict_probabilities
from moodring.export.quantization.static_qdq import to_int8
from moodring.export.to_onnx import OPSET, to_onnx
from moodring.export.to_openvino import to_int8_ir, to_ir
from moodring.export.verify import random_inputs, run_torch, verify, verify_ir
from moodring.features.spec import PreprocessSpec
from moodring.inference import bundle as reader
from moodring.train.models.face import FaceNet
from moodring.train.models.fusion import FusionNet
from moodring.train.models.speech import SpeechNet, build_ensemble
from moodring.train.run_folder import read_card, save_weights

SPEC = PreprocessSpec()
ROOT = Path(__file__).resolve().parents[2]
HEADS = ("official", "ferplus")
FUSION_CARD: dict[str, Any] = {
    "temperature": dict.fromkeys(HEADS, 1.0),
    "weights": {head: {"face": 0.4, "speech": 0.6} for head in HEADS},
    "confident": {head: {"threshold": 0.7, "right": 0.9, "coverage": 0.6} for head in HEADS},
}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write checkpoints and cards of small untrained networks."""
    folder = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    for kind, model, network, extra in (
        ("face", FaceNet(width=4), {"width": 4}, {"temperature": {"official": 1.1, "ferplus": 0.9}}),
        ("speech", SpeechNet(members=[(8, 16)]), {"members": [[8, 16]]}, {"temperature": {"logits": 1.2}}),
        ("fusion", FusionNet(), {}, FUSION_CARD),
    ):
        data = [{"name": "toy", "licence": "none", "part": kind}]
        if kind == "fusion":
            extra["branches"] = {branch: read_card(folder, branch)["sha256"] for branch in ("face", "speech")}
        save_weights(folder, kind, model.eval(), {"network": network, "data": data, "recipe": {}, "protocol": "none", **extra})
    return folder


@pytest.fixture(scope="session")
def networks(checkpoints: Path) -> dict[str, Network]:
    return load_networks(checkpoints, SPEC)


@pytest.fixture(scope="session")
def exported(networks: dict[str, Network]) -> dict[str, bytes]:
    return {kind: to_onnx(network) for kind, network in networks.items()}


def test_usable_is_one_half_at_the_threshold_of_the_card(checkpoints: Path, tmp_path: Path):
    for file in checkpoints.glob("speech.*"):
        shutil.copy(file, tmp_path)
    card = json.loads((tmp_path / "speech.json").read_text())
    (tmp_path / "speech.json").write_text(json.dumps(card | {"usable_line": 2.5}))
    original, shifted = (load_network(folder, "speech", SPEC) for folder in (checkpoints, tmp_path))
    for inputs in random_inputs(original, 3):
        assert run_torch(shifted, inputs)["usable"] == pytest.approx(run_torch(original, inputs)["usable"] - 2.5, abs=1e-5)


@pytest.mark.parametrize("kind", ["face", "speech", "fusion"])
def test_exported_onnx_equals_original(kind: str, networks: dict[str, Network], exported: dict[str, bytes]) -> None:
    done = verify(networks[kind], exported[kind], random_inputs(networks[kind], 3))
    assert done.max_abs_difference <= 1e-4
    assert done.compared == 3
    model = onnx.load_from_string(exported[kind])
    assert model.opset_import[0].version == OPSET
    assert not model.metadata_props
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert {node.op_type for node in model.graph.node}.isdisjoint({"HardSwish", "HardSigmoid", "LSTM", "GRU", "Loop", "If"})


def test_to_onnx_is_reproducible(networks: dict[str, Network], exported: dict[str, bytes]) -> None:
    assert to_onnx(networks["fusion"]) == exported["fusion"]


def test_exported_ensemble_has_one_pooling(networks: dict[str, Network]) -> None:
    torch.manual_seed(0)
    singles = [SpeechNet(members=[size]) for size in ((8, 16), (16, 12))]
    for single in singles:
        single.standardise.running_mean += torch.randn(42)
        single.standardise.running_var *= 1 + torch.rand(42)
    module = build_ensemble(singles)
    wide = {**networks["speech"].outputs, "embedding": (1, 256)}
    network = replace(networks["speech"], module=module, outputs=wide)
    done = verify(network, to_onnx(network), random_inputs(network, 3))
    assert done.max_abs_difference <= 1e-4
    operators = [node.op_type for node in onnx.load_from_string(done.onnx).graph.node]
    assert operators.count("Softmax") == 1
    assert operators.count("ReduceSum") == 2
    assert initial_float_layers(done.onnx) == [()]  # one of several first layers in float32 gains little


@pytest.mark.parametrize("value", [1e-2, float("nan")])
def test_verify_rejects_other_outputs(value: float, networks: dict[str, Network], exported: dict[str, bytes]) -> None:
    model = onnx.load_from_string(exported["fusion"])
    (bias,) = (part for part in model.graph.initializer if part.name == "voice.bias")
    changed = numpy_helper.to_array(bias).copy()
    changed[3] += value
    bias.CopyFrom(numpy_helper.from_array(changed, bias.name))
    with pytest.raises(ExportError, match="fusion: output 'official' differs from PyTorch's by"):
        verify(networks["fusion"], model.SerializeToString(), random_inputs(networks["fusion"], 3))


def test_verify_rejects_other_interface_or_no_model(networks: dict[str, Network], exported: dict[str, bytes]) -> None:
    with pytest.raises(ExportError, match="speech: the exported inputs are"):
        verify(networks["speech"], exported["face"], random_inputs(networks["speech"], 3))
    with pytest.raises(ExportError, match="face: ONNX Runtime cannot load the exported file"):
        verify(networks["face"], b"no model", random_inputs(networks["face"], 3))
    with pytest.raises(ExportError, match="face: no inputs to compare the export with its original"):
        verify(networks["face"], exported["face"], [])


def test_absent_branch_equals_zero_embedding(networks: dict[str, Network]) -> None:
    one = random_inputs(networks["fusion"], 1)[0]
    one["presence"] = np.array([[1.0, 0.0]], np.float32)
    silent = {**one, "speech_embedding": np.zeros_like(one["speech_embedding"])}
    for head in HEADS:
        assert np.array_equal(run_torch(networks["fusion"], one)[head], run_torch(networks["fusion"], silent)[head])


def small_fusion(prior: torch.Tensor, shares: torch.Tensor) -> tuple[FusionNet, torch.nn.Linear, torch.nn.Linear]:
    """Return an untrained fusion network that assumes no branch errors, and its face and speech heads."""
    torch.manual_seed(0)
    face, speech = FaceNet(width=4).official, SpeechNet(members=[(8, 16)]).logits
    net = FusionNet().eval()
    net.set_heads(dict.fromkeys(HEADS, (face.weight, face.bias)), (speech.weight, speech.bias))
    for joint in net.joint.values():
        joint.initialise_from_priors(prior, shares)  # type: ignore[operator]
        joint.wrong.data.fill_(-30.0)  # type: ignore[operator, union-attr]
    return net, face, speech


def test_initial_fusion_is_the_product_of_both_branches() -> None:
    prior, shares = torch.tensor([0.1, 0.05, 0.15, 0.25, 0.15, 0.1, 0.2]), torch.tensor([2, 2, 2, 2, 2, 2, 1, 2.0]) / 15
    net, face, speech = small_fusion(prior, shares)
    ef, es = torch.rand(2, 128), torch.rand(2, 128)
    rows = [*range(7), 6]
    with torch.no_grad():
        face_posterior, speech_posterior = torch.softmax(face(ef), 1), torch.softmax(speech(es), 1)
        expected = face_posterior[:, rows] / prior[rows] * speech_posterior
        expected /= expected.sum(dim=1, keepdim=True)
        both, face_only, speech_only = (
            torch.softmax(net(ef, es, torch.tensor([presence]).expand(2, 2))[0], 1)
            for presence in ([1.0, 1.0], [1.0, 0.0], [0.0, 1.0])
        )
    assert torch.allclose(both, expected, atol=1e-3)
    assert torch.allclose(face_only[:, :7], face_posterior, atol=2e-3)
    assert torch.allclose(speech_only, speech_posterior, atol=1e-3)


def test_fusion_is_continuous_in_presence() -> None:
    net, _, _ = small_fusion(torch.full((7,), 1 / 7), torch.full((8,), 1 / 8))
    ef, es = torch.rand(1, 128), torch.rand(1, 128)
    with torch.no_grad():
        steps = [torch.softmax(net(ef, es, torch.tensor([[1.0, presence]]))[1], 1) for presence in np.linspace(0, 1, 21)]
    jumps = [float((after - before).abs().max()) for before, after in itertools.pairwise(steps)]
    assert max(jumps) < 0.2


def write_toy_bundle(tmp_path: Path, networks: dict[str, Network], exported: dict[str, bytes]) -> Path:
    files = {kind: {"fp32": data} for kind, data in exported.items()}
    out = tmp_path / "bundle"
    variants = write.ModelVariants(files)
    write.write_bundle(out, write.describe(networks, variants, SPEC, "toy"), variants)
    return out


def test_runtime_loads_written_bundle(tmp_path: Path, networks: dict[str, Network], exported: dict[str, bytes]) -> None:
    out = write_toy_bundle(tmp_path, networks, exported)
    bundle = reader.load(out)
    assert bundle.name == "toy"
    assert bundle.models["face"].published_head == "ferplus"
    assert bundle.models["fusion"].weights == FUSION_CARD["weights"]
    assert bundle.models["fusion"].confident == FUSION_CARD["confident"]
    assert bundle.models["fusion"].published_head == "ferplus"
    assert bundle.training["pairing"] == "paired by class, different people"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write_toy_bundle(tmp_path, networks, exported)  # replaces the first
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    for kind in ("face", "speech", "fusion"):
        model = bundle.open(kind)
        inputs = random_inputs(networks[kind], 1)[0]
        for name, value in run_torch(networks[kind], inputs).items():
            assert np.allclose(model.run(inputs)[name], value, atol=1e-4)


def test_write_bundle_does_not_replace_other_folders(
    tmp_path: Path, networks: dict[str, Network], exported: dict[str, bytes]
) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("years of work")
    with pytest.raises(ExportError, match="exists and is not a model bundle"):
        write_toy_bundle(tmp_path, networks, exported)
    assert (tmp_path / "bundle" / "thesis.txt").read_text() == "years of work"


def test_write_error_leaves_the_old_bundle(
    tmp_path: Path, networks: dict[str, Network], exported: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = write_toy_bundle(tmp_path, networks, exported)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    real, calls = Path.write_bytes, []

    def write_until_full(path: Path, data: bytes) -> int:
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_until_full)
    with pytest.raises(ExportError, match="No space left on device"):
        write_toy_bundle(tmp_path, networks, exported)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


FILL = """
import os, pathlib, sys
from moodring.errors import ExportError
from moodring.features.spec import PreprocessSpec
from moodring.export import write
from moodring.export.networks import load_networks

networks = load_networks(pathlib.Path(sys.argv[1]), PreprocessSpec())
data = {kind: pathlib.Path(sys.argv[2], f"{kind}.onnx").read_bytes() for kind in networks}
files = write.ModelVariants({kind: {"fp32": exported} for kind, exported in data.items()})
document = write.describe(networks, files, PreprocessSpec(), "toy")
place = pathlib.Path(sys.argv[3])
write.write_bundle(place / "bundle", document, files)
before = {path.name: path.read_bytes() for path in (place / "bundle").iterdir()}
room = os.statvfs(place)
(place / "filler").write_bytes(bytes(room.f_bavail * room.f_frsize - len(data["face"])))
document["name"] = "another"
try:
    write.write_bundle(place / "bundle", document, files)
except ExportError as error:
    print(error)
assert {path.name: path.read_bytes() for path in (place / "bundle").iterdir()} == before
assert sorted(path.name for path in place.iterdir()) == ["bundle", "filler"]
"""


def test_full_file_system_leaves_the_old_bundle(tmp_path: Path, checkpoints: Path, exported: dict[str, bytes]) -> None:
    """A private file system of one megabyte has room for the first file only."""
    for kind, data in exported.items():
        (tmp_path / f"{kind}.onnx").write_bytes(data)
    place = tmp_path / "small"
    place.mkdir()
    mounted = f"mount -t tmpfs -o size=1m tmpfs {place} && exec {sys.executable} -c '{FILL}' {checkpoints} {tmp_path} {place}"
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not allow a private mount namespace")
    done = subprocess.run([*unshare, "sh", "-c", mounted], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "the bundle cannot be written (No space left on device); the folder is unchanged" in done.stdout


def test_record_accuracy_writes_into_the_measured_bundle(
    tmp_path: Path, networks: dict[str, Network], exported: dict[str, bytes]
) -> None:
    out = write_toy_bundle(tmp_path, networks, exported)
    first = reader.load(out).id
    evaluation = tmp_path / "face.json"
    evaluation.write_text(json.dumps({"n": 10, "accuracy": 0.6, "bundle": first, "seconds": 3.1}))
    second = record_accuracy(out, [evaluation])
    assert second == first == reader.load(out).id
    assert reader.load(out).accuracy == {"face": {"n": 10, "accuracy": 0.6}}
    assert record_accuracy(out, [evaluation]) == second
    with pytest.raises(BundleError, match="cannot be read"):
        record_accuracy(out, [tmp_path / "nothing.json"])
    recipe = reader.load(out).training["recipe"]["speech"]
    folds = tmp_path / "speech_folds.json"
    folds.write_text(
        json.dumps({"pooled": {"n": 8, "accuracy": 0.5}, "recipe": recipe | {"fold": [0, 1]}, "protocol": "folds"})
    )
    record_accuracy(out, [folds])
    assert reader.load(out).accuracy == {"speech": {"n": 8, "accuracy": 0.5, "protocol": "folds"}}
    folds.write_text(json.dumps({"pooled": {"n": 8, "accuracy": 0.5}, "recipe": recipe | {"epochs": 99}}))
    with pytest.raises(BundleError, match="folds of another recipe"):
        record_accuracy(out, [folds])
    evaluation.write_text(json.dumps({"n": 10, "accuracy": 0.6, "bundle": "another"}))
    with pytest.raises(BundleError, match="measured bundle another"):
        record_accuracy(out, [evaluation])


def test_load_networks_rejects_missing_or_changed_checkpoints(tmp_path: Path, checkpoints: Path) -> None:
    with pytest.raises(DataError, match="run `moodring train face` first"):
        load_networks(tmp_path, SPEC)
    for path in checkpoints.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "face.safetensors").write_bytes((tmp_path / "speech.safetensors").read_bytes())
    with pytest.raises(DataError, match=r"SHA-256 differs from face\.json"):
        load_networks(tmp_path, SPEC)


@pytest.mark.parametrize(
    ("kind", "changed", "message"),
    [
        ("speech", {"spec_hash": "0" * 64}, "speech: trained with other preprocessing than this version implements"),
        (
            "fusion",
            {"branches": {"face": "0" * 64}},
            "the fusion network was trained with another face network than the one in this folder",
        ),
    ],
)
def test_load_networks_rejects_checkpoints_that_do_not_match(
    tmp_path: Path, checkpoints: Path, kind: str, changed: dict[str, Any], message: str
) -> None:
    for path in checkpoints.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    card = json.loads((tmp_path / f"{kind}.json").read_text())
    (tmp_path / f"{kind}.json").write_text(json.dumps(card | changed))
    with pytest.raises(ExportError, match=message):
        load_networks(tmp_path, SPEC)


def test_export_rejects_wrong_options(tmp_path: Path, checkpoints: Path) -> None:
    with pytest.raises(UsageError, match="--formats must be one or more of onnx, openvino, batch; got coreml"):
        run.export(checkpoints, tmp_path / "out", tmp_path, run.Options(formats=("coreml",)))
    with pytest.raises(UsageError, match="--formats must include onnx"):
        run.export(checkpoints, tmp_path / "out", tmp_path, run.Options(formats=("openvino",)))
    with pytest.raises(UsageError, match="give --data DIR"):
        run.export(checkpoints, tmp_path / "out", None)
    with pytest.raises(UsageError, match="--precision must include fp32"):
        run.export(checkpoints, tmp_path / "out", tmp_path, run.Options(precisions=("int8",)))


def real_folder(tmp_path: Path, data_dir: Path, fer2013_csv: Path) -> Path:
    """Link the unpacked FER2013 and RAVDESS in one folder, as `make data` does."""
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "fer2013.csv").symlink_to(fer2013_csv)
    (folder / "ravdess").symlink_to(data_dir / "ravdess")
    return folder


@pytest.mark.data
def test_export_on_real_inputs(
    tmp_path: Path, checkpoints: Path, data_dir: Path, fer2013_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real = real_folder(tmp_path, data_dir, fer2013_csv)
    # The limits are loose because the networks are untrained.
    options = run.Options(("onnx", "batch"), max_drop_pp=100.0, samples=64, min_agreement=0.5, methods=("minmax",))
    assert run.export(checkpoints, tmp_path / "out", real, options, tmp_path / "export.json") == 0
    assert "real inputs" in capsys.readouterr().out
    measured = json.loads((tmp_path / "export.json").read_text())
    bundle = reader.load(tmp_path / "out")
    assert measured["bundle"] == bundle.id
    assert all(model["compared"] >= 100 and model["max_abs_difference"] <= 1e-4 for model in measured["models"].values())
    for kind, model in measured["models"].items():
        assert model["int8"]["same_label"] > 0.5
        assert len(model["int8"]["float_layers"]) <= 1  # the first layer
        feeds = {name: np.zeros(shape, np.float32) for name, shape in bundle.models[kind].inputs.items()}
        assert set(bundle.open(kind, "int8").run(feeds)) == set(bundle.models[kind].outputs)
    assert run.export(checkpoints, tmp_path / "repeated" / "out", real, options) == 0
    for file in (tmp_path / "out").iterdir():
        assert (tmp_path / "repeated" / "out" / file.name).read_bytes() == file.read_bytes()


def test_ir_equals_onnx_and_is_reproducible(
    tmp_path: Path, checkpoints: Path, networks: dict[str, Network], exported: dict[str, bytes]
) -> None:
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    kind = "speech"
    irs = {kind: {"fp32": to_ir(exported[kind]), "fp16": to_ir(exported[kind], half=True)}}
    assert irs == {kind: {"fp32": to_ir(exported[kind]), "fp16": to_ir(exported[kind], half=True)}}
    assert b"/" not in irs[kind]["fp32"].xml.replace(b"</", b"").replace(b"/>", b"")  # contains no path
    inputs = random_inputs(networks[kind], 3)
    assert verify_ir(networks[kind], exported[kind], irs[kind]["fp32"], inputs) <= 1e-4
    with pytest.raises(ExportError, match="an output in OpenVINO differs from ONNX Runtime's by"):
        verify_ir(networks[kind], exported[kind], irs[kind]["fp32"], inputs, tolerance=-1.0)
    variants = write.ModelVariants({kind: {"fp32": exported[kind]}}, irs)
    write.write_bundle(tmp_path / "out", write.describe({kind: networks[kind]}, variants, SPEC, "toy"), variants)
    bundle = reader.load(tmp_path / "out", required=(kind,))
    assert bundle.models[kind].precisions("onnx") == ["fp32"]
    assert bundle.models[kind].precisions("openvino") == ["fp16", "fp32"]
    half = bundle.open(kind, "fp16", "openvino").run(inputs[0])
    np.testing.assert_allclose(half["logits"], bundle.open(kind).run(inputs[0])["logits"], atol=1e-2)
    weights = tmp_path / "out" / f"{kind}.fp16.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(BundleError, match=r"speech\.fp16\.bin is not the file that the bundle was made with"):
        reader.load(tmp_path / "out", required=(kind,))


def test_nncf_int8_is_smaller_and_reproducible(networks: dict[str, Network], exported: dict[str, bytes]) -> None:
    pytest.importorskip("nncf", reason="the extra export is not completely installed")
    inputs = random_inputs(networks["fusion"], 40)
    labels = predict_probabilities(exported["fusion"], inputs, "official").argmax(axis=1)
    quantization_data = QuantizationData(inputs[:20], inputs[20:], labels[20:], "official")
    ir = to_int8_ir("fusion", exported["fusion"], quantization_data, 100.0)
    assert ir == to_int8_ir("fusion", exported["fusion"], quantization_data, 100.0)
    assert len(ir.weights) < len(to_ir(exported["fusion"]).weights)
    with pytest.raises(ExportError, match=r"int8 by NNCF loses .* the limit is -50"):
        to_int8_ir("fusion", exported["fusion"], quantization_data, -50.0)


@pytest.mark.data
def test_export_writes_nothing_if_outputs_differ(
    tmp_path: Path, checkpoints: Path, data_dir: Path, fer2013_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = real_folder(tmp_path, data_dir, fer2013_csv)
    inputs = real_inputs(load_networks(checkpoints, SPEC), real, SPEC)
    monkeypatch.setattr(run, "real_inputs", lambda *_: inputs)
    other = {"face": FaceNet(width=4).eval(), "speech": SpeechNet(members=[(8, 16)]).eval(), "fusion": FusionNet().eval()}

    def export_other_weights(network: Network) -> bytes:
        return to_onnx(Network(network.kind, other[network.kind], network.inputs, network.outputs, network.card))

    monkeypatch.setattr(run, "to_onnx", export_other_weights)
    with pytest.raises(ExportError, match="differs from PyTorch's"):
        run.export(checkpoints, tmp_path / "out", real, run.Options(precisions=("fp32",)))
    assert list(tmp_path.iterdir()) == [real]


def test_int8_probabilities_are_close_to_float32(networks: dict[str, Network], exported: dict[str, bytes]) -> None:
    inputs = random_inputs(networks["speech"], 20)
    quantized = to_int8(exported["speech"], inputs)
    assert quantized == to_int8(exported["speech"], inputs)
    nodes = [node.op_type for node in onnx.load_from_string(quantized).graph.node]
    assert "QuantizeLinear" in nodes
    assert "BatchNormalization" not in nodes  # merged into a product and a sum, or folded into convolutions
    found = agreement(exported["speech"], quantized, inputs)
    assert found["windows"] == 20
    assert found["max_difference"] < 0.05
