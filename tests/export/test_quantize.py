"""int8: what it is made from, what it may cost, and what happens where it costs more."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from edge.errors import ExportError
from edge.features.spec import PreprocessSpec
from edge.labels import LABELS
from export import quantize, run
from export.bias import _means, corrected
from export.calibration import gather, usable_threshold
from export.material import Material
from export.networks import Network
from export.quantize import Quantised, Way, answers, quantise, to_int8
from export.to_onnx import to_onnx
from export.verify import Verified
from train.models.face import FaceNet
from train.models.speech import SpeechNet

HEADS = {"embedding": (1, 128), "official": (1, 7), "ferplus": (1, 7), "usable": (1, 1)}


@pytest.fixture(scope="module")
def face() -> bytes:
    torch.manual_seed(0)
    return to_onnx(Network("face", FaceNet(width=8).eval(), {"crop": (1, 1, 48, 48)}, HEADS, {}))


def crops(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"crop": rng.standard_normal((1, 1, 48, 48), np.float32)} for _ in range(count)]


@pytest.fixture(scope="module")
def material(face: bytes) -> Material:
    judged = crops(60, seed=1)
    return Material(
        crops(32), judged, answers(face, judged, "official").argmax(axis=1), "official"
    )  # the original is always right


def test_int8_is_smaller_quantised_and_much_the_same(face: bytes, material: Material):
    done = quantise("face", face, material, max_drop_pp=60.0)
    assert len(done.onnx) < 0.6 * len(face)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load_from_string(done.onnx).graph.node}
    assert done.accuracy_fp32 == 1.0
    assert done.same_label == done.accuracy_int8
    assert done.mean_abs_difference < 0.05
    assert done.way == Way()


def test_the_same_inputs_give_the_same_bytes(face: bytes, material: Material):
    assert to_int8(face, material.training) == to_int8(face, material.training)


def test_layers_that_cost_too_much_stay_in_float32(face: bytes, material: Material, monkeypatch: pytest.MonkeyPatch):
    """The judge is rigged: it takes int8 for worse until two layers are left out."""
    really = quantize._tried

    def rigged(exported: bytes, given: Material, way: Way) -> Quantised:
        judged = 1.0 if len(way.float_layers) >= 2 else 0.5
        return dataclasses.replace(really(exported, given, way), accuracy_int8=judged)

    monkeypatch.setattr(quantize, "_tried", rigged)
    done = quantise("face", face, material, max_drop_pp=0.5, methods=("minmax",))
    assert len(set(done.way.float_layers)) == 2
    layers = {node.name for node in onnx.load_from_string(done.onnx).graph.node if node.op_type in quantize.OPERATORS}
    assert set(done.way.float_layers) <= layers
    assert "kept in float32" in str(done.way)


@pytest.mark.parametrize("enough", [Way(bias_corrected=True), Way("percentile"), Way("entropy", bias_corrected=True)])
def test_other_ways_come_before_float32(enough: Way, face: bytes, material: Material, monkeypatch: pytest.MonkeyPatch):
    """The judge is rigged: it is content with one way alone."""
    really = quantize._tried

    def rigged(exported: bytes, given: Material, way: Way) -> Quantised:
        return dataclasses.replace(really(exported, given, way), accuracy_int8=1.0 if way == enough else 0.5)

    monkeypatch.setattr(quantize, "_tried", rigged)
    assert quantise("face", face, material, max_drop_pp=0.5).way == enough


def test_corrected_biases_bring_the_means_back(face: bytes, material: Material):
    inputs = material.training
    plain = quantize._folded(face)
    int8 = to_int8(face, inputs)
    mended = corrected(plain, int8, inputs)
    assert mended != int8
    assert corrected(plain, int8, inputs) == mended
    last = ["usable", "official", "ferplus"]
    wanted, before, after = (np.concatenate(_means(data, last, inputs)) for data in (plain, int8, mended))
    assert np.abs(after - wanted).mean() < 0.8 * np.abs(before - wanted).mean()


def test_where_int8_costs_too_much_whatever_is_kept_it_is_refused(
    face: bytes, material: Material, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(quantize, "MOST_FLOAT_LAYERS", 1)
    wrong = dataclasses.replace(material, labels=(material.labels + 1) % 7)
    with pytest.raises(ExportError, match=r"int8 loses .* allowed are -200"):
        quantise("face", face, wrong, max_drop_pp=-200.0, methods=("minmax",))


def test_a_bundle_then_holds_fp32_alone(face: bytes, material: Material, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quantize, "MOST_FLOAT_LAYERS", 0)
    options = run.Options(max_drop_pp=-200.0, methods=("minmax",))
    network = Network("face", torch.nn.Identity(), {"crop": (1, 1, 48, 48)}, HEADS, {})
    work = run.Work(
        "toy", LABELS, PreprocessSpec(), {"face": network}, {"face": Verified(face, 0.0, 1)}, {"face": material}, {}
    )
    assert "Keep fp32" in str(run._make_forms(work, options))
    assert work.files() == {"face": {"fp32": face}}


def test_too_few_samples_are_refused(tmp_path: Path):
    with pytest.raises(ExportError, match="3 calibration samples are too few"):
        gather({}, tmp_path, PreprocessSpec(), 3)


@pytest.mark.parametrize(("bias", "low", "high"), [(-6.0, 0.5, 0.5), (2.0, 0.5, 0.95), (9.0, 0.97, 0.97)])
def test_what_is_less_usable_than_nearly_all_speech_is_no_speech(bias: float, low: float, high: float):
    torch.manual_seed(0)
    model = SpeechNet(width=16).eval()
    torch.nn.init.constant_(model.usable.bias, bias)
    spec = PreprocessSpec().speech
    inputs = {"window": (1, spec.window_frames, spec.columns)}
    outputs = {"embedding": (1, 128), "logits": (1, 8), "usable": (1, 1)}
    rng = np.random.default_rng(0)
    windows = [{"window": rng.standard_normal(inputs["window"], np.float32)} for _ in range(20)]
    material = Material(windows, windows, np.zeros(20, np.int64))
    assert low <= usable_threshold(Network("speech", model, inputs, outputs, {}), material) <= high
