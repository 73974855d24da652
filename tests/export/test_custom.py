"""Networks of one's own: another architecture, five classes, PyTorch or ONNX, into a bundle that the daemon runs."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from moodring import cli
from moodring.errors import BundleError, ExportError, UsageError
from moodring.export import run
from moodring.export.custom import read_custom_models
from moodring.features.face.crop import normalize_crops
from moodring.inference.bundle import load
from moodring.publish.cloudevents import emotion_schema

MOODS = ["bored", "delighted", "frustrated", "puzzled", "calm"]
NETWORKS = """
import torch
from torch import nn

class Depthwise(nn.Module):
    "Another architecture: depthwise convolutions, hard swish, no embedding."
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), nn.Hardswish(), nn.Conv2d(8, 8, 3, 2, 1, groups=8), nn.Hardswish(), nn.Conv2d(8, 16, 1),
            nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))

    def forward(self, crop):
        return self.layers(crop)

def face():
    return Depthwise()

def no_module():
    return 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the networks and the inputs that int8 needs."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_networks.py").write_text(NETWORKS)
    sys.path.insert(0, str(folder))
    rng = np.random.default_rng(0)
    for name, count in (("training", 24), ("judged", 30)):
        np.savez(folder / f"{name}.npz", inputs=rng.integers(0, 256, (count, 64, 64), np.uint8), labels=np.arange(count) % 5)
    return folder


def described(folder: Path, text: str, name: str = "own.yaml") -> Path:
    path = folder / name
    path.write_text(f"labels: [{', '.join(MOODS)}]\nspec: {{face: {{size: 64}}}}\n{textwrap.dedent(text)}")
    return path


FACE = """
name: moods
face:
  module: own_networks:face
  temperature: 1.5
  training: training.npz
  judged: judged.npz
"""


@pytest.fixture(scope="module")
def bundle_dir(folder: Path) -> Path:
    out = folder / "bundle"
    options = run.Options(max_drop_pp=100.0, methods=("minmax",))
    assert run.export(described(folder, FACE), out, None, options) == 0
    return out


def test_a_bundle_of_five_classes_is_what_the_runtime_reads(bundle_dir: Path):
    bundle = load(bundle_dir, required=())
    assert bundle.name == "moods"
    assert bundle.labels == tuple(MOODS)
    assert bundle.spec.face.size == 64
    assert list(bundle.models) == ["face"]
    assert bundle.models["face"].precisions("onnx") == ["fp32", "int8"]
    with pytest.raises(BundleError, match="contains no network for speech and fusion, only for face"):
        load(bundle_dir)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_daemon_runs_it(bundle_dir: Path, talking_face: Path, tmp_path: Path, precision: str):
    config, events = tmp_path / "own.yaml", tmp_path / "events.jsonl"
    config.write_text(f"bundle: {bundle_dir}\ninference: {{precision: {precision}}}\n")
    assert cli.main(["run", str(talking_face), "--pace", "max", "--events", str(events), "--config", str(config)]) == 0
    read = [json.loads(line) for line in events.read_text().splitlines()]
    said = [event["data"] for event in read if event["data"]["state"] == "ok"]
    assert said
    validator = jsonschema.Draft202012Validator(emotion_schema(MOODS))
    for event in read:
        validator.validate(event)
    for data in said:
        assert data["label"] in MOODS
        assert list(data["probabilities"]) == MOODS
        assert data["modalities"] == ["face"]
        assert data["speech"] is None
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(emotion_schema()).validate(read[-1])


def test_calm_is_merged_only_where_there_is_something_to_merge(bundle_dir: Path, talking_face: Path, tmp_path: Path, capsys):
    config = tmp_path / "own.yaml"
    config.write_text(f"bundle: {bundle_dir}\nlabels: {{merge_calm: true}}\n")
    assert cli.main(["run", str(talking_face), "--events", str(tmp_path / "e"), "--config", str(config)]) == 2
    assert "does not answer both calm and neutral" in capsys.readouterr().err


def test_moodrings_data_sets_do_not_judge_other_labels(bundle_dir: Path, tmp_path: Path, capsys):
    given = ["evaluate", "face", "--bundle", str(bundle_dir), "--images", str(tmp_path), "--json", str(tmp_path / "f.json")]
    assert cli.main(given) == 2
    assert "has the labels bored, delighted" in capsys.readouterr().err


def own_onnx(path: Path, *, opset: int = 17, batch: int | str = "n", broken: str = "") -> Path:
    """Write a network of others: its own names, a batch of any size, a softmax at its end."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.05, (64 * 64, 5)).astype(np.float32)
    if broken == "nan":
        weight[3, 2] = np.nan
    last = helper.make_node("Softmx" if broken == "operator" else "Softmax", ["logits"], ["probs"], axis=1)
    if broken == "domain":
        last = helper.make_node("FusedMatMul", ["logits"], ["probs"], domain="com.microsoft")
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"]), last]
    graph = helper.make_graph(
        nodes, "theirs",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 1, 64, 64])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid("com.microsoft", 1)] * (broken == "domain")
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path


THEIRS = """
face:
  onnx: theirs.onnx
  outputs: {logits: probs}
  answers: probabilities
"""


@pytest.mark.parametrize("batch", ["n", 1])
def test_an_onnx_file_of_others_answers_as_before(folder: Path, tmp_path: Path, batch: int | str):
    path = own_onnx(folder / "theirs.onnx", batch=batch)
    assert run.export(described(folder, THEIRS), tmp_path / "bundle", None) == 0
    bundle = load(tmp_path / "bundle", required=())
    assert bundle.models["face"].precisions("onnx") == ["fp32"]
    crop = normalize_crops(np.random.default_rng(1).integers(0, 256, (1, 64, 64), np.uint8))
    import onnxruntime as ort  # noqa: PLC0415

    expected = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["probs"], {"image": crop})[0]
    logits = bundle.open("face").run({"crop": crop})["logits"]
    np.testing.assert_allclose(torch.softmax(torch.from_numpy(logits), 1).numpy(), expected, atol=1e-5)
    again = run.export(described(folder, THEIRS), tmp_path / "again" / "bundle", None)
    assert again == 0
    for file in (tmp_path / "bundle").iterdir():
        assert (tmp_path / "again" / "bundle" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"broken": "operator"}, r"theirs\.onnx: there is no operator 'Softmx'"),
        ({"broken": "domain"}, r"operator com\.microsoft\.FusedMatMul .* is none of ONNX's own"),
        ({"broken": "nan"}, r"1 of 20480 values of w are not finite; train it again"),
        ({"opset": 9}, r"has opset 9; this version needs 13 to 21: export it again with opset_version=20"),
        ({"batch": 4}, r"takes \(4, 1, 64, 64\), but the spec makes float32 \(1, 1, 64, 64\)"),
    ],
)
def test_an_onnx_file_that_cannot_be_used_is_refused(folder: Path, tmp_path: Path, options: dict, message: str):
    own_onnx(folder / "theirs.onnx", **options)
    with pytest.raises(ExportError, match=message):
        run.export(described(folder, THEIRS), tmp_path / "bundle", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("face: {onnx: nothing.onnx}", ExportError, r"nothing\.onnx cannot be read \(No such file"),
        ("face: {module: own_networks:absent}", UsageError, r"must be PACKAGE\.MODULE:FUNCTION"),
        ("face: {module: own_networks:no_module}", UsageError, r"must return a torch\.nn\.Module, got int"),
        (
            "face: {module: own_networks:face, labels: [bored, calm]}",
            ExportError,
            r"logits of shape \(1, 5\), but answers 2 labels",
        ),
        ("face: {module: own_networks:face, outputs: [logits, usable]}", ExportError, "gives 1 outputs, but `outputs` names"),
        ("face: {module: own_networks:face, outputs: [scores]}", UsageError, "must hold logits"),
        ("face: {module: own_networks:face, colour: blue}", UsageError, "unknown: colour"),
        ("face: {module: own_networks:face, answers: yes}", UsageError, "must be logits or probabilities"),
        ("face: {module: own_networks:face, training: training.npz}", UsageError, r"needs face\.judged beside it"),
        (
            "face: {module: own_networks:face, training: own_networks.py, judged: judged.npz}",
            ExportError,
            r"must be an \.npz file",
        ),
        ("face: {}", UsageError, "must name either `onnx` or `module`"),
        ("faces: {}", UsageError, "must hold `labels`"),
        ("face: {module: own_networks:face}\nlabels: [one]", UsageError, "two or more, each once"),
        ("speech: {module: own_networks:face}", ExportError, r"speech does not run on window \(1, 300, 42\)"),
        (
            "face: {module: own_networks:face}\nspec: {face: {normalisation: unit}}",
            UsageError,
            "not one this runtime implements",
        ),
        ("face: {module: own_networks:face}\nspec: 3", UsageError, "spec: "),
        ("face: [", UsageError, "cannot be read as YAML"),
    ],
)
def test_a_description_that_cannot_be_used_says_why(folder: Path, text: str, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        read_custom_models(described(folder, text, "wrong.yaml"))


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (np.zeros((3, 64, 64), np.uint8), "face: 3 calibration samples are too few"),
        (np.zeros((20, 1, 48, 48), np.float32), "a calibration sample is {'crop': (1, 1, 48, 48)}, but the network takes"),
        (np.full((20, 1, 64, 64), np.nan, np.float32), "holds what is no finite number"),
    ],
)
def test_a_calibration_set_that_cannot_be_used_leaves_fp32_and_fails(
    folder: Path, tmp_path: Path, training: np.ndarray, message: str, capsys
):
    np.savez(folder / "few.npz", inputs=training)
    path = described(folder, FACE.replace("training.npz", "few.npz"), "few.yaml")
    assert run.export(path, tmp_path / "bundle", None) == 1
    assert message in capsys.readouterr().err
    assert load(tmp_path / "bundle", required=()).models["face"].precisions("onnx") == ["fp32"]


def test_a_network_whose_weights_are_not_finite_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import own_networks  # noqa: PLC0415

    spoilt = own_networks.face()
    torch.nn.init.constant_(spoilt.layers[0].weight, float("nan"))
    monkeypatch.setattr(own_networks, "face", lambda: spoilt)
    with pytest.raises(ExportError, match="are not finite; train it again"):
        run.export(described(folder, "face: {module: own_networks:face}"), tmp_path / "bundle", None)
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_ones_own(folder: Path, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(run, "PACED_CALLS", 2)
    options = run.Options(max_drop_pp=100.0, methods=("minmax",), table=tmp_path / "table")
    assert run.export(described(folder, FACE), tmp_path / "bundle", None, options) == 0
    table = json.loads((tmp_path / "table" / "forms.json").read_text())
    assert {row["precision"] for row in table["rows"]} == {"fp32", "int8"}
    plain = next(row for row in table["rows"] if (row["precision"], row["engine"]) == ("fp32", "onnx"))
    assert plain["same_label"] == 1.0
    assert plain["change_pp"] == 0.0
    assert all(row["rss_mb"] > 10 and row["load_ms"] > 0 for row in table["rows"])
    for use in ("fastest", "smallest", "most accurate"):
        assert sum(use in row["best"] for row in table["rows"]) == 1
    text = (tmp_path / "table" / "forms.md").read_text()
    assert text.count("\n| face |") == len(table["rows"])
    assert onnx.load(tmp_path / "bundle" / "face.int8.onnx").opset_import
