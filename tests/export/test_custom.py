"""Custom models: another architecture and other labels, from PyTorch or ONNX to a bundle that the daemon runs."""

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

def missing_file():
    return torch.load("no-such-weights.pt")

class Last(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.network, self.last = Depthwise(), last

    def forward(self, crop):
        return self.last(self.network(crop))

def softmax():
    return Last(nn.Softmax(1))

def log_softmax():
    return Last(nn.LogSoftmax(1))

def sigmoid():
    return Last(nn.Sigmoid())

def two_outputs():
    class Two(Last):
        def forward(self, crop):
            scores = self.network(crop)
            return scores[:, :1], scores.softmax(1)
    return Two(None)

def half():
    return Depthwise().half()

def brain():
    return Depthwise().to(torch.bfloat16)

def double():
    return Depthwise().double()

class ReturnsHalf(Depthwise):
    def forward(self, crop):
        return self.layers(crop).half()

def returns_half():
    return ReturnsHalf()

class Speech(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(42, 5), nn.Softmax(2))

    def forward(self, window):
        return self.layers(window).mean(1)

def speech():
    return Speech()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the networks, and calibration and validation data for int8."""
    folder = tmp_path_factory.mktemp("custom")
    (folder / "custom_networks.py").write_text(NETWORKS)
    sys.path.insert(0, str(folder))
    rng = np.random.default_rng(0)
    for name, count in (("training", 24), ("judged", 30)):
        np.savez(folder / f"{name}.npz", inputs=rng.integers(0, 256, (count, 64, 64), np.uint8), labels=np.arange(count) % 5)
    return folder


def write_description(folder: Path, text: str, name: str = "custom.yaml") -> Path:
    """Write a description with the labels and the size of the crops of this file, unless the text names others."""
    path, text = folder / name, textwrap.dedent(text)
    defaults = {"labels": f"[{', '.join(MOODS)}]", "spec": "{face: {size: 64}}"}
    lines = [f"{key}: {value}" for key, value in defaults.items() if f"\n{key}:" not in text]
    path.write_text("\n".join([*lines, text]))
    return path


FACE = """
name: moods
face:
  module: custom_networks:face
  temperature: 1.5
  training: training.npz
  judged: judged.npz
"""


@pytest.fixture(scope="module")
def bundle_dir(folder: Path) -> Path:
    out = folder / "bundle"
    options = run.Options(max_drop_pp=100.0, methods=("minmax",))
    assert run.export(write_description(folder, FACE), out, None, options) == 0
    return out


def test_runtime_loads_bundle_with_custom_labels(bundle_dir: Path):
    bundle = load(bundle_dir, required=())
    assert bundle.name == "moods"
    assert bundle.labels == tuple(MOODS)
    assert bundle.spec.face.size == 64
    assert list(bundle.models) == ["face"]
    assert bundle.models["face"].precisions("onnx") == ["fp32", "int8"]
    with pytest.raises(BundleError, match="contains no network for speech and fusion, only for face"):
        load(bundle_dir)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_run_publishes_events_with_custom_labels(bundle_dir: Path, talking_face: Path, tmp_path: Path, precision: str):
    config, events = tmp_path / "custom.yaml", tmp_path / "events.jsonl"
    config.write_text(f"bundle: {bundle_dir}\ninference: {{precision: {precision}}}\n")
    assert cli.main(["run", str(talking_face), "--pace", "max", "--events", str(events), "--config", str(config)]) == 0
    read = [json.loads(line) for line in events.read_text().splitlines()]
    ok_data = [event["data"] for event in read if event["data"]["state"] == "ok"]
    assert ok_data
    validator = jsonschema.Draft202012Validator(emotion_schema(MOODS))
    for event in read:
        validator.validate(event)
    for data in ok_data:
        assert data["label"] in MOODS
        assert list(data["probabilities"]) == MOODS
        assert data["modalities"] == ["face"]
        assert data["speech"] is None
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(emotion_schema()).validate(read[-1])


def test_merge_calm_needs_labels_calm_and_neutral(bundle_dir: Path, talking_face: Path, tmp_path: Path, capsys):
    config = tmp_path / "custom.yaml"
    config.write_text(f"bundle: {bundle_dir}\nlabels: {{merge_calm: true}}\n")
    assert cli.main(["run", str(talking_face), "--events", str(tmp_path / "e"), "--config", str(config)]) == 2
    assert "does not have both labels, calm and neutral; set it to false" in capsys.readouterr().err


def test_evaluate_rejects_bundle_with_custom_labels(bundle_dir: Path, tmp_path: Path, capsys):
    command = ["evaluate", "face", "--bundle", str(bundle_dir), "--images", str(tmp_path), "--json", str(tmp_path / "f.json")]
    assert cli.main(command) == 2
    assert "has the labels bored, delighted" in capsys.readouterr().err


def user_onnx(path: Path, *, opset: int = 17, batch: int | str = "n", broken: str = "") -> Path:
    """Write a user's network with other tensor names and a final softmax; `broken` names the defect."""
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 0.05, (64 * 64, 5)).astype(np.float32)
    if broken == "nan":
        weight[3, 2] = np.nan
    last = helper.make_node("Softmx" if broken == "operator" else "Softmax", ["logits"], ["probs"], axis=1)
    if broken == "domain":
        last = helper.make_node("FusedMatMul", ["logits"], ["probs"], domain="com.microsoft")
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"]), last]
    graph = helper.make_graph(
        nodes, "user",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 1, 64, 64])],
        [helper.make_tensor_value_info("probs", TensorProto.FLOAT, [batch, 5])],
        [numpy_helper.from_array(weight, "w")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid("com.microsoft", 1)] * (broken == "domain")
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path


USER_ONNX = """
face:
  onnx: user.onnx
  outputs: {logits: probs}
  answers: probabilities
"""


@pytest.mark.parametrize("batch", ["n", 1])
def test_exported_user_onnx_gives_same_probabilities(folder: Path, tmp_path: Path, batch: int | str):
    path = user_onnx(folder / "user.onnx", batch=batch)
    assert run.export(write_description(folder, USER_ONNX), tmp_path / "bundle", None) == 0
    bundle = load(tmp_path / "bundle", required=())
    assert bundle.models["face"].precisions("onnx") == ["fp32"]
    crop = normalize_crops(np.random.default_rng(1).integers(0, 256, (1, 64, 64), np.uint8))
    import onnxruntime as ort  # noqa: PLC0415

    expected = ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(["probs"], {"image": crop})[0]
    logits = bundle.open("face").run({"crop": crop})["logits"]
    np.testing.assert_allclose(torch.softmax(torch.from_numpy(logits), 1).numpy(), expected, atol=1e-5)
    exit_code = run.export(write_description(folder, USER_ONNX), tmp_path / "repeated" / "bundle", None)
    assert exit_code == 0
    for file in (tmp_path / "bundle").iterdir():
        assert (tmp_path / "repeated" / "bundle" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"broken": "operator"}, r"user\.onnx: ONNX has no operator 'Softmx'"),
        ({"broken": "domain"}, r"operator com\.microsoft\.FusedMatMul .* is not a standard ONNX operator"),
        ({"broken": "nan"}, r"1 of 20480 values of w are not finite; train it again"),
        ({"opset": 9}, r"opset 9 is not supported; this version needs 13 to 21: export it again with opset_version=20"),
        ({"batch": 4}, r"takes float32 \(4, 1, 64, 64\), but the spec produces float32 \(1, 1, 64, 64\)"),
    ],
)
def test_export_rejects_unusable_onnx_file(folder: Path, tmp_path: Path, options: dict, message: str):
    user_onnx(folder / "user.onnx", **options)
    with pytest.raises(ExportError, match=message):
        run.export(write_description(folder, USER_ONNX), tmp_path / "bundle", None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("face: {onnx: nothing.onnx}", ExportError, r"nothing\.onnx cannot be read \(No such file"),
        ("face: {module: custom_networks:absent}", UsageError, r"must be PACKAGE\.MODULE:FUNCTION"),
        ("face: {module: custom_networks:no_module}", UsageError, r"must return a torch\.nn\.Module, got int"),
        (
            "face: {module: custom_networks:face, labels: [bored, calm]}",
            ExportError,
            r"logits of shape \(1, 5\), but has 2 labels",
        ),
        (
            "face: {module: custom_networks:face, outputs: [logits, usable]}",
            ExportError,
            "gives 1 outputs, but `outputs` names",
        ),
        ("face: {module: custom_networks:face, outputs: [scores]}", UsageError, "must include logits"),
        ("face: {module: custom_networks:face, colour: blue}", UsageError, "unknown: colour"),
        ("face: {module: custom_networks:face, answers: yes}", UsageError, "must be logits or probabilities"),
        (
            "face: {module: custom_networks:face, training: training.npz}",
            UsageError,
            r"training needs face\.judged: int8 is validated on other inputs",
        ),
        (
            "face: {module: custom_networks:face, training: custom_networks.py, judged: judged.npz}",
            ExportError,
            r"must be an \.npz file",
        ),
        ("face: {}", UsageError, "must name either `onnx` or `module`"),
        ("face: {module: custom_networks:missing_file}", UsageError, "cannot be called .*no-such-weights"),
        ("face: {module: custom_networks:returns_half}", ExportError, r"gives logits as torch\.float16; return torch\.float32"),
        ("face: {module: 3}", UsageError, r"face\.module cannot be 3"),
        ("face: {onnx: [a]}", UsageError, r"face\.onnx cannot be \['a'\]"),
        ("face: {module: custom_networks:face, outputs: 3}", UsageError, r"face\.outputs cannot be 3"),
        ("face: {module: custom_networks:face, outputs: {logits: 3}}", UsageError, r"face\.outputs cannot be"),
        (
            "face: {module: custom_networks:softmax, outputs: [scores], answers: probabilities}",
            UsageError,
            "must include logits",
        ),
        ("face: {module: custom_networks:face, temperature: hot}", UsageError, r"face\.temperature cannot be 'hot'"),
        ("face: {module: custom_networks:face, temperature: 0}", UsageError, r"face\.temperature cannot be 0"),
        ("face: {module: custom_networks:face, usable_threshold: 2}", UsageError, r"face\.usable_threshold cannot be 2"),
        ("face: {module: custom_networks:face, labels: [a, b, c, d, e]}", UsageError, "must be different ones of bored"),
        (
            "face: {module: custom_networks:face}\nlabels: [yes, no, 1, 2, 3]",
            UsageError,
            "in quotes if it is a word such as yes",
        ),
        ("face: {module: custom_networks:face}\nlabels: text", UsageError, "labels must be a list of texts"),
        ("faces: {}", UsageError, "must have `labels`"),
        ("face: {module: custom_networks:face}\nlabels: [one]", UsageError, "two or more, each once"),
        ("speech: {module: custom_networks:face}", ExportError, r"speech does not run on window \(1, 300, 42\)"),
        (
            "face: {module: custom_networks:face}\nspec: {face: {normalisation: unit}}",
            UsageError,
            "not one this runtime implements",
        ),
        ("face: {module: custom_networks:face}\nspec: 3", UsageError, "spec: "),
        ("face: [", UsageError, r"wrong\.yaml:3: the file is not valid YAML"),
        (
            "face: {module: custom_networks:face}\nface: {onnx: user.onnx}",
            UsageError,
            r"wrong\.yaml:4: the key face is given twice, first in line 3",
        ),
    ],
)
def test_description_error_names_the_reason(folder: Path, text: str, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        read_custom_models(write_description(folder, text, "wrong.yaml"))


@pytest.mark.parametrize(
    ("training", "message"),
    [
        (np.zeros((3, 64, 64), np.uint8), "face: 3 calibration samples are too few to set the ranges"),
        (
            np.zeros((20, 1, 48, 48), np.float32),
            "a calibration or validation input is {'crop': (1, 1, 48, 48)}, but the network takes",
        ),
        (np.full((20, 1, 64, 64), np.nan, np.float32), "a calibration or validation input has values that are not finite"),
    ],
)
def test_unusable_calibration_data_leaves_fp32_alone_and_fails(
    folder: Path, tmp_path: Path, training: np.ndarray, message: str, capsys
):
    np.savez(folder / "few.npz", inputs=training)
    path = write_description(folder, FACE.replace("training.npz", "few.npz"), "few.yaml")
    assert run.export(path, tmp_path / "bundle", None) == 1
    assert message in capsys.readouterr().err
    assert load(tmp_path / "bundle", required=()).models["face"].precisions("onnx") == ["fp32"]


def test_export_rejects_weights_that_are_not_finite(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import custom_networks  # noqa: PLC0415

    damaged = custom_networks.face()
    torch.nn.init.constant_(damaged.layers[0].weight, float("nan"))
    monkeypatch.setattr(custom_networks, "face", lambda: damaged)
    with pytest.raises(ExportError, match="are not finite; train it again"):
        run.export(write_description(folder, "face: {module: custom_networks:face}"), tmp_path / "bundle", None)
    assert list(tmp_path.iterdir()) == []


def test_table_of_custom_model(folder: Path, bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(run, "PACED_CALLS", 2)
    options = run.Options(max_drop_pp=100.0, methods=("minmax",), table=tmp_path / "table")
    assert run.export(write_description(folder, FACE), tmp_path / "bundle", None, options) == 0
    table = json.loads((tmp_path / "table" / "forms.json").read_text())
    assert {row["precision"] for row in table["rows"]} == {"fp32", "int8"}
    reference = next(row for row in table["rows"] if (row["precision"], row["engine"]) == ("fp32", "onnx"))
    assert reference["same_label"] == 1.0
    assert reference["change_pp"] == 0.0
    assert all(row["rss_mb"] > 10 and row["load_ms"] > 0 for row in table["rows"])
    for use in ("fastest", "smallest", "most accurate"):
        assert sum(use in row["best"] for row in table["rows"]) == 1
    text = (tmp_path / "table" / "forms.md").read_text()
    assert text.count("\n| face |") == len(table["rows"])
    assert onnx.load(tmp_path / "bundle" / "face.int8.onnx").opset_import


# Output type


ADD_LINE = (
    r"outputs probabilities, not logits: .* no value is negative and each row sums to 1.*`answers: probabilities` below `{}:`"
)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("face: {module: custom_networks:softmax}", "face"),
        ("face: {module: custom_networks:two_outputs, outputs: [usable, logits]}", "face"),
        ("face: {module: custom_networks:softmax, answers: logits}", "face"),
        ("speech: {module: custom_networks:speech}", "speech"),
        ("face: {onnx: user.onnx, outputs: {logits: probs}}", "face"),
        ("face: {onnx: half.onnx, outputs: {logits: probs}}", "face"),
    ],
)
def test_an_undeclared_softmax_is_refused_with_the_line_to_add(folder: Path, text: str, kind: str, capsys):
    user_onnx(folder / "user.onnx")
    half_onnx(folder / "half.onnx", io="half")
    path = write_description(folder, text, "wrong.yaml")
    with pytest.raises(UsageError, match=ADD_LINE.format(kind)):
        read_custom_models(path)
    assert cli.main(["export", str(path), "--out", str(folder / "not_written")]) == 2
    assert "add the line `answers: probabilities`" in capsys.readouterr().err
    assert not (folder / "not_written").exists()


def test_the_added_line_is_accepted(folder: Path):
    sections = [("face", "softmax"), ("speech", "speech")]
    lines = [f"{kind}: {{module: custom_networks:{name}, answers: probabilities}}" for kind, name in sections]
    assert list(read_custom_models(write_description(folder, "\n".join(lines))).networks) == ["face", "speech"]


@pytest.mark.parametrize("name", ["face", "log_softmax", "sigmoid"])
def test_logits_of_other_forms_are_accepted(folder: Path, name: str):
    read_custom_models(write_description(folder, f"face: {{module: custom_networks:{name}}}"))


@pytest.mark.parametrize("name", ["face", "log_softmax"])
def test_logits_that_are_called_probabilities_are_refused(folder: Path, name: str):
    with pytest.raises(UsageError, match=r"face outputs no probabilities: .*remove the line `answers: probabilities`"):
        read_custom_models(write_description(folder, f"face: {{module: custom_networks:{name}, answers: probabilities}}"))


# float16


def half_onnx(path: Path, *, io: str, dtype: int = TensorProto.FLOAT16) -> Path:
    """Write a user's network with float16 weights, a float16 constant and float16 or float32 inputs and outputs."""
    rng = np.random.default_rng(0)
    weight = numpy_helper.from_array(rng.normal(0, 0.05, (64 * 64, 5)).astype(np.float32), "w")
    parts = [weight, numpy_helper.from_array(np.float32(0.5), "scale")]
    for part in parts:
        values = numpy_helper.to_array(part)
        part.CopyFrom(helper.make_tensor(part.name, dtype, values.shape, values.ravel().tolist()))
    weight, scale = parts
    outside = TensorProto.FLOAT if io == "float" else dtype
    nodes = [
        helper.make_node("Cast", ["image"], ["half"], to=dtype),
        helper.make_node("Flatten", ["half"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["product"]),
        helper.make_node("Constant", [], ["scale"], value=scale),
        helper.make_node("Mul", ["product", "scale"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["half_probs"], axis=1),
        helper.make_node("Cast", ["half_probs"], ["probs"], to=outside),
    ]
    graph = helper.make_graph(
        nodes, "user",
        [helper.make_tensor_value_info("image", outside, ["n", 1, 64, 64])],
        [helper.make_tensor_value_info("probs", outside, ["n", 5])],
        [weight],
    )  # fmt: skip
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    return path


@pytest.mark.parametrize("io", ["half", "float"])
@pytest.mark.parametrize(("dtype", "name"), [(TensorProto.FLOAT16, "float16"), (TensorProto.BFLOAT16, "bfloat16")])
def test_half_precision_onnx_is_named_and_exported_as_float32(
    folder: Path, tmp_path: Path, io: str, dtype: int, name: str, capsys
):
    path = half_onnx(folder / "user.onnx", io=io, dtype=dtype)
    assert run.export(write_description(folder, USER_ONNX), tmp_path / "bundle", None) == 0
    assert f"face: 20481 {name} weights of user.onnx become float32, in which the runtime computes" in capsys.readouterr().out
    bundle = load(tmp_path / "bundle", required=())
    crop = normalize_crops(np.random.default_rng(1).integers(0, 256, (1, 64, 64), np.uint8))
    weight = numpy_helper.to_array(onnx.load(path).graph.initializer[0]).astype(np.float32)
    expected = torch.softmax(torch.from_numpy(crop.reshape(1, -1) @ weight * 0.5), 1).numpy()
    logits = bundle.open("face").run({"crop": crop})["logits"]
    np.testing.assert_allclose(torch.softmax(torch.from_numpy(logits), 1).numpy(), expected, atol=1e-5)
    assert not {part.data_type for part in onnx.load(tmp_path / "bundle" / "face.fp32.onnx").graph.initializer} & {dtype}


@pytest.mark.parametrize(("name", "dtype"), [("half", "float16"), ("brain", "bfloat16"), ("double", "float64")])
def test_modules_of_other_precision_are_named_and_exported_as_float32(
    folder: Path, tmp_path: Path, name: str, dtype: str, capsys
):
    description = write_description(folder, FACE.replace("custom_networks:face", f"custom_networks:{name}"))
    options = run.Options(max_drop_pp=100.0, methods=("minmax",))
    assert run.export(description, tmp_path / "bundle", None, options) == 0
    assert f"{dtype} weights become float32, in which the runtime computes" in capsys.readouterr().out
    assert load(tmp_path / "bundle", required=()).models["face"].precisions("onnx") == ["fp32", "int8"]


def test_an_infinite_float16_weight_names_float16(folder: Path):
    path = half_onnx(folder / "user.onnx", io="float")
    model = onnx.load(path)
    values = numpy_helper.to_array(model.graph.initializer[0]).copy()
    values[0, 0] = np.inf
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))
    onnx.save(model, path)
    with pytest.raises(ExportError, match=r"1 of 20480 values of w are not finite; float16 holds at most 65504"):
        read_custom_models(write_description(folder, USER_ONNX))


@pytest.mark.parametrize(
    ("taken", "given", "message"),
    [
        (TensorProto.UINT8, TensorProto.FLOAT, r"takes uint8 \(-1, 1, 64, 64\), but the spec produces float32"),
        (TensorProto.DOUBLE, TensorProto.FLOAT, r"takes float64 \(-1, 1, 64, 64\)"),
        (TensorProto.FLOAT, TensorProto.DOUBLE, r"user\.onnx has the output probs as float64; export it as float32"),
        (TensorProto.FLOAT, TensorProto.INT64, r"user\.onnx has the output probs as int64; export it as float32"),
    ],
)
def test_another_dtype_is_named(folder: Path, taken: int, given: int, message: str):
    nodes = [helper.make_node("Flatten", ["image"], ["flat"]), helper.make_node("Cast", ["flat"], ["probs"], to=given)]
    graph = helper.make_graph(
        nodes, "user",
        [helper.make_tensor_value_info("image", taken, ["n", 1, 64, 64])],
        [helper.make_tensor_value_info("probs", given, ["n", 4096])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / "user.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match=message):
        read_custom_models(write_description(folder, USER_ONNX))
