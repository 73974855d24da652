"""int8: what it is made from, what it may cost, and what happens where it costs more."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from moodring.errors import ExportError
from moodring.export import run
from moodring.export.dynamic_batch import dynamic_batch, verify_dynamic_batch
from moodring.export.networks import Network
from moodring.export.quantization import quantize
from moodring.export.quantization.bias_correction import _channel_means, correct_biases
from moodring.export.quantization.data import QuantizationData
from moodring.export.quantization.gather import gather
from moodring.export.quantization.qat import quantization_aware_training
from moodring.export.quantization.quantize import (
    Limits,
    QuantizationConfig,
    QuantizedModel,
    predict_probabilities,
    quantize_network,
    to_int8,
)
from moodring.export.to_onnx import to_onnx
from moodring.export.to_openvino import predict_ir, to_ir
from moodring.export.verify import VerifiedExport
from moodring.features.spec import PreprocessSpec
from moodring.labels import LABELS
from moodring.train.models.face import FaceNet

HEADS = {"embedding": (1, 128), "official": (1, 7), "ferplus": (1, 7), "usable": (1, 1)}


@pytest.fixture(scope="module")
def face() -> bytes:
    torch.manual_seed(0)
    return to_onnx(Network("face", FaceNet(width=8).eval(), {"crop": (1, 1, 48, 48)}, HEADS, {}))


def crops(count: int, seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"crop": rng.standard_normal((1, 1, 48, 48), np.float32)} for _ in range(count)]


@pytest.fixture(scope="module")
def quantization_data(face: bytes) -> QuantizationData:
    validation = crops(60, seed=1)
    return QuantizationData(
        crops(32), validation, predict_probabilities(face, validation, "official").argmax(axis=1), "official"
    )  # the original is always right


def test_int8_is_smaller_quantised_and_much_the_same(face: bytes, quantization_data: QuantizationData):
    done = quantize_network("face", face, quantization_data, Limits(60.0, 0.4), methods=("minmax",))
    assert len(done.onnx) < 0.6 * len(face)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load_from_string(done.onnx).graph.node}
    assert done.accuracy_fp32 == 1.0
    assert done.same_label == done.accuracy_int8
    assert done.mean_abs_difference < 0.05
    assert done.config.method in quantize.METHODS
    assert not done.config.bias_corrected


def test_the_same_inputs_give_the_same_bytes(face: bytes, quantization_data: QuantizationData):
    assert to_int8(face, quantization_data.calibration) == to_int8(face, quantization_data.calibration)


def test_layers_that_cost_too_much_stay_in_float32(
    face: bytes, quantization_data: QuantizationData, monkeypatch: pytest.MonkeyPatch
):
    """The judge is rigged: it takes int8 for worse until two layers are left out."""
    really = quantize._evaluate_config

    def rigged(exported: bytes, given: QuantizationData, config: QuantizationConfig) -> QuantizedModel:
        validation = 1.0 if len(config.float_layers) >= 2 else 0.5
        return dataclasses.replace(really(exported, given, config), accuracy_int8=validation)

    monkeypatch.setattr(quantize, "_evaluate_config", rigged)
    done = quantize_network("face", face, quantization_data, Limits(0.5, 0.0), methods=("minmax",))
    assert len(set(done.config.float_layers)) == 2
    layers = {node.name for node in onnx.load_from_string(done.onnx).graph.node if node.op_type in quantize.QUANTIZED_OPERATORS}
    assert set(done.config.float_layers) <= layers
    assert "kept in float32" in str(done.config)


@pytest.mark.parametrize(
    "enough",
    [
        QuantizationConfig(bias_corrected=True),
        QuantizationConfig("percentile"),
        QuantizationConfig("entropy", bias_corrected=True),
    ],
)
def test_other_ways_come_before_float32(
    enough: QuantizationConfig, face: bytes, quantization_data: QuantizationData, monkeypatch: pytest.MonkeyPatch
):
    """The judge is rigged: it is content with one way alone."""
    really = quantize._evaluate_config

    def rigged(exported: bytes, given: QuantizationData, config: QuantizationConfig) -> QuantizedModel:
        return dataclasses.replace(really(exported, given, config), accuracy_int8=1.0 if config == enough else 0.5)

    monkeypatch.setattr(quantize, "_evaluate_config", rigged)
    methods = tuple(dict.fromkeys(("minmax", enough.method)))
    assert quantize_network("face", face, quantization_data, Limits(0.5, 0.0), methods).config == enough


def test_the_way_nearest_to_float32_is_taken(face: bytes, quantization_data: QuantizationData):
    done = quantize_network("face", face, quantization_data, Limits(60.0, 0.0), methods=("minmax",))
    for kept in quantize._initial_float_layers(face):
        assert (
            done.mean_abs_difference
            <= quantize._evaluate_config(face, quantization_data, QuantizationConfig(float_layers=kept)).mean_abs_difference
        )
    assert quantize.quantize_closest(face, quantization_data).mean_abs_difference <= done.mean_abs_difference


def test_a_small_first_layer_may_stay_in_float32_and_a_large_one_may_not(face: bytes):
    first = next(iter(quantize._quantizable_layers(face)))
    assert quantize._initial_float_layers(face) == [(), (first,)]
    torch.manual_seed(0)
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48 * 48, 7))
    large = to_onnx(Network("face", flat, {"crop": (1, 1, 48, 48)}, {"logits": (1, 7)}, {}))
    assert quantize._initial_float_layers(large) == [()]


def test_too_little_agreement_is_too_much_as_well(
    face: bytes, quantization_data: QuantizationData, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(quantize, "MAX_FLOAT_LAYERS", 1)
    with pytest.raises(ExportError, match=r"names float32's label on .* % of them; 101 are asked for"):
        quantize_network("face", face, quantization_data, Limits(100.0, 1.01), methods=("minmax",))


def test_training_on_is_the_last_resort(face: bytes, quantization_data: QuantizationData, monkeypatch: pytest.MonkeyPatch):
    """The judge is rigged: it is content with a network that was trained on alone."""
    really = quantize._evaluate_config

    def rigged(
        exported: bytes, given: QuantizationData, config: QuantizationConfig, reference: bytes | None = None
    ) -> QuantizedModel:
        assert (reference == face) is config.trained_on
        return dataclasses.replace(really(exported, given, config, reference), accuracy_int8=1.0 if config.trained_on else 0.5)

    monkeypatch.setattr(quantize, "_evaluate_config", rigged)
    monkeypatch.setattr(quantize, "MAX_FLOAT_LAYERS", 0)
    asked = []
    done = quantize_network(
        "face", face, quantization_data, Limits(0.5, 0.0), ("minmax",), train_qat=lambda: asked.append(1) or face
    )
    assert asked == [1]
    assert done.config.trained_on
    assert str(done.config).endswith("trained on in int8")
    with pytest.raises(ExportError, match="Keep fp32"):
        quantize_network("face", face, quantization_data, Limits(0.5, 0.0), ("minmax",))


def test_a_network_trained_on_answers_nearer_in_int8():
    """Its layers have weights that int8 rounds badly: one of each output's is far larger than all others."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)).eval()
    with torch.no_grad():
        model[0].weight[:, 0], model[2].weight[:, 0] = 5.0, 3.0
    network = Network("face", model, {"crop": (1, 16)}, {"logits": (1, 4)}, {})
    rng = np.random.default_rng(0)
    inputs = [{"crop": rng.random((1, 16), np.float32)} for _ in range(64)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = quantization_aware_training(network, inputs, epochs=20, learning_rate=3e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())  # the original is as it was
    assert set(trained.module.state_dict()) == set(before)  # and nothing of the rounding is left in the copy
    plain = to_onnx(network)
    wanted = rawly(plain, inputs)
    errors = [np.abs(rawly(to_int8(data, inputs), inputs) - wanted).mean() for data in (plain, to_onnx(trained))]
    assert errors[1] < 0.8 * errors[0]


def rawly(data: bytes, inputs: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Return the logits themselves."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], one)[0] for one in inputs])


def test_both_engines_round_a_sum_alike(face: bytes, quantization_data: QuantizationData):
    """What OpenVINO leaves out of a residual block is asked for twice; ONNX Runtime answers as if it were asked for once."""
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    with_one = to_int8(face, quantization_data.calibration, single_qdq=True)
    with_two = to_int8(face, quantization_data.calibration)
    nodes = [[node.op_type for node in onnx.load_from_string(data).graph.node].count("QuantizeLinear")
             for data in (with_one, with_two)]  # fmt: skip
    assert nodes[1] == nodes[0] + 8  # five sums, three of them of two convolutions
    here = predict_probabilities(with_two, quantization_data.validation, "official")
    np.testing.assert_array_equal(here, predict_probabilities(with_one, quantization_data.validation, "official"))
    single_qdq, twice = (
        np.abs(predict_ir(to_ir(data), quantization_data.validation, "official") - here).mean() for data in (with_one, with_two)
    )
    assert twice < 0.3 * single_qdq


def test_a_network_for_any_batch_answers_as_one_by_one(face: bytes, quantization_data: QuantizationData):
    inputs = quantization_data.validation[:10]
    batched_model = dynamic_batch(face)
    verify_dynamic_batch("face", face, batched_model, inputs, "official", exact=True)
    int8 = to_int8(face, quantization_data.calibration)
    verify_dynamic_batch("face", int8, dynamic_batch(int8), inputs, "official", exact=False)
    other = to_int8(face, quantization_data.validation[:16])
    with pytest.raises(ExportError, match="1 inputs at once give another"):
        verify_dynamic_batch("face", face, dynamic_batch(other), inputs, "official", exact=True)
    with pytest.raises(ExportError, match="cannot take several inputs at once"):
        verify_dynamic_batch("face", face, face, inputs, "official", exact=True)


def test_corrected_biases_bring_the_means_back(face: bytes, quantization_data: QuantizationData):
    inputs = quantization_data.calibration
    plain = quantize._fold_batch_norm(face)
    int8 = to_int8(face, inputs)
    mended = correct_biases(plain, int8, inputs)
    assert mended != int8
    assert correct_biases(plain, int8, inputs) == mended
    last = ["usable", "official", "ferplus"]
    wanted, before, after = (np.concatenate(_channel_means(data, last, inputs)) for data in (plain, int8, mended))
    assert np.abs(after - wanted).mean() < 0.8 * np.abs(before - wanted).mean()


def test_where_int8_costs_too_much_whatever_is_kept_it_is_refused(
    face: bytes, quantization_data: QuantizationData, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(quantize, "MAX_FLOAT_LAYERS", 1)
    wrong = dataclasses.replace(quantization_data, labels=(quantization_data.labels + 1) % 7)
    with pytest.raises(ExportError, match=r"int8 loses .* allowed are -200"):
        quantize_network("face", face, wrong, Limits(-200.0), methods=("minmax",))


def test_a_bundle_then_holds_fp32_alone(face: bytes, quantization_data: QuantizationData, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quantize, "MAX_FLOAT_LAYERS", 0)
    options = run.Options(max_drop_pp=-200.0, methods=("minmax",))
    network = Network("face", torch.nn.Identity(), {"crop": (1, 1, 48, 48)}, HEADS, {})
    state = run.ExportState(
        "toy", LABELS, PreprocessSpec(), {"face": network}, {"face": VerifiedExport(face, 0.0, 1)}, {"face": quantization_data}
    )
    assert "Keep fp32" in str(run._make_variants(state, options))
    assert state.files() == {"face": {"fp32": face}}


def test_too_few_samples_are_refused(tmp_path: Path):
    with pytest.raises(ExportError, match="3 calibration samples are too few"):
        gather({}, tmp_path, PreprocessSpec(), 3)
