"""int8 quantisation: the search within the limits, bias correction, quantisation-aware training and dynamic batch."""

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
from moodring.export.quantization.bias_correction import channel_means, correct_biases
from moodring.export.quantization.data import QuantizationData
from moodring.export.quantization.gather import gather
from moodring.export.quantization.qat import quantization_aware_training
from moodring.export.quantization.quantize import (
    Limits,
    QuantizationConfig,
    QuantizedModel,
    predict_probabilities,
    quantize_network,
)
from moodring.export.quantization.static_qdq import (
    METHODS,
    QUANTIZED_OPERATORS,
    fold_batch_norm,
    quantizable_layers,
    quantize_qdq,
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
    )  # float32 has accuracy 1


def test_quantize_network_gives_small_and_similar_model(face: bytes, quantization_data: QuantizationData):
    done = quantize_network("face", face, quantization_data, Limits(60.0, 0.4), methods=("minmax",))
    assert len(done.onnx) < 0.6 * len(face)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load_from_string(done.onnx).graph.node}
    assert done.accuracy_fp32 == 1.0
    assert done.same_label == done.accuracy_int8
    assert done.mean_abs_difference < 0.05
    assert done.config.method in METHODS
    assert not done.config.bias_corrected


def test_to_int8_is_reproducible(face: bytes, quantization_data: QuantizationData):
    assert to_int8(face, quantization_data.calibration) == to_int8(face, quantization_data.calibration)


def test_quantize_network_keeps_sensitive_layers_in_float32(
    face: bytes, quantization_data: QuantizationData, monkeypatch: pytest.MonkeyPatch
):
    """A fake evaluation exceeds the limit until two layers are in float32."""
    real_evaluate = quantize.evaluate_config

    def fake_evaluate(exported: bytes, given: QuantizationData, config: QuantizationConfig) -> QuantizedModel:
        accuracy = 1.0 if len(config.float_layers) >= 2 else 0.5
        return dataclasses.replace(real_evaluate(exported, given, config), accuracy_int8=accuracy)

    monkeypatch.setattr(quantize, "evaluate_config", fake_evaluate)
    done = quantize_network("face", face, quantization_data, Limits(0.5, 0.0), methods=("minmax",))
    assert len(set(done.config.float_layers)) == 2
    layers = {node.name for node in onnx.load_from_string(done.onnx).graph.node if node.op_type in QUANTIZED_OPERATORS}
    assert set(done.config.float_layers) <= layers
    assert "kept in float32" in str(done.config)


@pytest.mark.parametrize(
    "accepted",
    [
        QuantizationConfig(bias_corrected=True),
        QuantizationConfig("percentile"),
        QuantizationConfig("entropy", bias_corrected=True),
    ],
)
def test_quantize_network_tries_methods_and_bias_correction_before_float32_layers(
    accepted: QuantizationConfig, face: bytes, quantization_data: QuantizationData, monkeypatch: pytest.MonkeyPatch
):
    """A fake evaluation meets the limit for one configuration only."""
    real_evaluate = quantize.evaluate_config

    def fake_evaluate(exported: bytes, given: QuantizationData, config: QuantizationConfig) -> QuantizedModel:
        return dataclasses.replace(real_evaluate(exported, given, config), accuracy_int8=1.0 if config == accepted else 0.5)

    monkeypatch.setattr(quantize, "evaluate_config", fake_evaluate)
    methods = tuple(dict.fromkeys(("minmax", accepted.method)))
    assert quantize_network("face", face, quantization_data, Limits(0.5, 0.0), methods).config == accepted


def test_quantize_network_takes_candidate_closest_to_float32(face: bytes, quantization_data: QuantizationData):
    done = quantize_network("face", face, quantization_data, Limits(60.0, 0.0), methods=("minmax",))
    for float_layers in quantize.initial_float_layers(face):
        candidate = quantize.evaluate_config(face, quantization_data, QuantizationConfig(float_layers=float_layers))
        assert done.mean_abs_difference <= candidate.mean_abs_difference
    assert quantize.quantize_closest(face, quantization_data).mean_abs_difference <= done.mean_abs_difference


def test_initial_float_layers_has_small_first_layer_only(face: bytes):
    first = next(iter(quantizable_layers(face)))
    assert quantize.initial_float_layers(face) == [(), (first,)]
    torch.manual_seed(0)
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48 * 48, 7))
    large = to_onnx(Network("face", flat, {"crop": (1, 1, 48, 48)}, {"logits": (1, 7)}, {}))
    assert quantize.initial_float_layers(large) == [()]


def test_quantize_network_rejects_low_agreement(
    face: bytes, quantization_data: QuantizationData, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(quantize, "MAX_FLOAT_LAYERS", 1)
    with pytest.raises(ExportError, match=r"gives float32's label for .* % of them; the limit is 101 %"):
        quantize_network("face", face, quantization_data, Limits(100.0, 1.01), methods=("minmax",))


def test_quantize_network_uses_qat_last(face: bytes, quantization_data: QuantizationData, monkeypatch: pytest.MonkeyPatch):
    """A fake evaluation meets the limit only after quantisation-aware training."""
    real_evaluate = quantize.evaluate_config

    def fake_evaluate(
        exported: bytes, given: QuantizationData, config: QuantizationConfig, reference: bytes | None = None
    ) -> QuantizedModel:
        assert (reference == face) is config.trained_on
        return dataclasses.replace(
            real_evaluate(exported, given, config, reference), accuracy_int8=1.0 if config.trained_on else 0.5
        )

    monkeypatch.setattr(quantize, "evaluate_config", fake_evaluate)
    monkeypatch.setattr(quantize, "MAX_FLOAT_LAYERS", 0)
    calls = []
    done = quantize_network(
        "face", face, quantization_data, Limits(0.5, 0.0), ("minmax",), train_qat=lambda: calls.append(1) or face
    )
    assert calls == [1]
    assert done.config.trained_on
    assert str(done.config).endswith("quantisation-aware training")
    with pytest.raises(ExportError, match="Keep fp32"):
        quantize_network("face", face, quantization_data, Limits(0.5, 0.0), ("minmax",))


def test_qat_reduces_int8_error():
    """One weight per output is much larger than the others, so that int8 rounds the others coarsely."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)).eval()
    with torch.no_grad():
        model[0].weight[:, 0], model[2].weight[:, 0] = 5.0, 3.0
    network = Network("face", model, {"crop": (1, 16)}, {"logits": (1, 4)}, {})
    rng = np.random.default_rng(0)
    inputs = [{"crop": rng.random((1, 16), np.float32)} for _ in range(64)]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trained = quantization_aware_training(network, inputs, epochs=20, learning_rate=3e-4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())  # the original is unchanged
    assert set(trained.module.state_dict()) == set(before)  # the copy has no fake quantisation left
    original = to_onnx(network)
    expected = run_logits(original, inputs)
    errors = [np.abs(run_logits(to_int8(data, inputs), inputs) - expected).mean() for data in (original, to_onnx(trained))]
    assert errors[1] < 0.8 * errors[0]


def run_logits(data: bytes, inputs: list[dict[str, np.ndarray]]) -> np.ndarray:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["logits"], feed)[0] for feed in inputs])


def test_duplicate_qdq_makes_engines_round_sums_alike(face: bytes, quantization_data: QuantizationData):
    """OpenVINO removes one quantisation in a residual block; the duplicate stays, and ONNX Runtime merges the two."""
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    single = quantize_qdq(face, quantization_data.calibration, (), "minmax")
    duplicated = to_int8(face, quantization_data.calibration)
    single_count, duplicated_count = (
        [node.op_type for node in onnx.load_from_string(data).graph.node].count("QuantizeLinear")
        for data in (single, duplicated)
    )
    assert duplicated_count == single_count + 8  # five sums, three of them of two convolutions
    inputs = quantization_data.validation
    expected = predict_probabilities(duplicated, inputs, "official")
    np.testing.assert_array_equal(expected, predict_probabilities(single, inputs, "official"))
    single_error, duplicated_error = (
        np.abs(predict_ir(to_ir(data), inputs, "official") - expected).mean() for data in (single, duplicated)
    )
    assert duplicated_error < 0.3 * single_error


def test_dynamic_batch_equals_single_inputs(face: bytes, quantization_data: QuantizationData):
    inputs = quantization_data.validation[:10]
    batched_model = dynamic_batch(face)
    verify_dynamic_batch("face", face, batched_model, inputs, "official", exact=True)
    int8 = to_int8(face, quantization_data.calibration)
    verify_dynamic_batch("face", int8, dynamic_batch(int8), inputs, "official", exact=False)
    other = to_int8(face, quantization_data.validation[:16])
    with pytest.raises(ExportError, match="a batch of 1 gives another"):
        verify_dynamic_batch("face", face, dynamic_batch(other), inputs, "official", exact=True)
    with pytest.raises(ExportError, match="cannot run a batch of inputs"):
        verify_dynamic_batch("face", face, face, inputs, "official", exact=True)


def test_correct_biases_restores_channel_means(face: bytes, quantization_data: QuantizationData):
    inputs = quantization_data.calibration
    float_model = fold_batch_norm(face)
    int8 = to_int8(face, inputs)
    corrected = correct_biases(float_model, int8, inputs)
    assert corrected != int8
    assert correct_biases(float_model, int8, inputs) == corrected
    outputs = ["usable", "official", "ferplus"]
    expected, before, after = (np.concatenate(channel_means(data, outputs, inputs)) for data in (float_model, int8, corrected))
    assert np.abs(after - expected).mean() < 0.8 * np.abs(before - expected).mean()


def test_quantize_network_rejects_accuracy_loss(
    face: bytes, quantization_data: QuantizationData, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(quantize, "MAX_FLOAT_LAYERS", 1)
    wrong = dataclasses.replace(quantization_data, labels=(quantization_data.labels + 1) % 7)
    with pytest.raises(ExportError, match=r"int8 loses .* the limit is -200\."):
        quantize_network("face", face, wrong, Limits(-200.0), methods=("minmax",))


def test_rejected_int8_leaves_fp32_alone(face: bytes, quantization_data: QuantizationData, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quantize, "MAX_FLOAT_LAYERS", 0)
    options = run.Options(max_drop_pp=-200.0, methods=("minmax",))
    network = Network("face", torch.nn.Identity(), {"crop": (1, 1, 48, 48)}, HEADS, {})
    state = run.ExportState(
        "toy", LABELS, PreprocessSpec(), {"face": network}, {"face": VerifiedExport(face, 0.0, 1)}, {"face": quantization_data}
    )
    assert "Keep fp32" in str(run.make_variants(state, options))
    assert state.files() == {"face": {"fp32": face}}


def test_gather_rejects_too_few_samples(tmp_path: Path):
    with pytest.raises(ExportError, match="3 calibration samples are too few to set the ranges"):
        gather({}, tmp_path, PreprocessSpec(), 3)
