"""Search for the int8 variant of a network that stays closest to float32 within a limit on the accuracy loss.

The cost of int8 is measured on validation inputs, which set no range. If all calibration methods cost too much, biases are
corrected; then the layers that cause the loss stay in float32; the last resort is quantisation-aware training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from moodring.errors import ExportError
from moodring.export.onnx_model import open_session
from moodring.export.quantization.bias_correction import correct_biases
from moodring.export.quantization.data import PERCENTAGE_POINTS, Inputs, QuantizationData, same_label_share
from moodring.export.quantization.static_qdq import (
    METHODS,
    Method,
    first_layers,
    fold_batch_norm,
    quantizable_layers,
    to_int8,
)
from moodring.inference.branches import softmax
from moodring.types import F32

MAX_DROP_PP = 0.5
MIN_AGREEMENT = 0.97
MAX_FLOAT_LAYERS = 4
SMALL_LAYER_SHARE = 0.1  # of the weights: a first layer up to this share may stay in float32 without a need
LAYER_SEARCH_INPUTS = 200  # validation inputs for the comparison of layers


@dataclass(frozen=True, slots=True)
class QuantizationConfig:
    """How an int8 model is made: calibration method, bias correction, float32 layers, quantisation-aware training."""

    method: Method = "minmax"
    bias_corrected: bool = False
    float_layers: tuple[str, ...] = ()
    trained_on: bool = False

    def __str__(self) -> str:
        parts = [f"{self.method} ranges"]
        parts += ["corrected biases"] * self.bias_corrected
        parts += [f"{' and '.join(self.float_layers)} kept in float32"] * bool(self.float_layers)
        parts += ["quantisation-aware training"] * self.trained_on
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """An int8 ONNX model, its configuration, and its cost on the validation inputs compared with float32.

    `same_label` is the share of inputs with the same label, `mean_abs_difference` that of the probabilities.
    """

    onnx: bytes
    config: QuantizationConfig
    accuracy_fp32: float
    accuracy_int8: float
    same_label: float
    mean_abs_difference: float

    @property
    def drop_pp(self) -> float:
        return PERCENTAGE_POINTS * (self.accuracy_fp32 - self.accuracy_int8)

    def metrics(self) -> dict[str, Any]:
        """Return size, cost and configuration as JSON values."""
        names = ("accuracy_fp32", "accuracy_int8", "same_label", "mean_abs_difference")
        measured = {name: getattr(self, name) for name in names}
        return {"bytes": len(self.onnx), **measured, **dataclasses.asdict(self.config)}


@dataclass(frozen=True, slots=True)
class Limits:
    """The accepted cost of int8: accuracy drop in percentage points, and share of inputs with float32's label."""

    max_drop_pp: float = MAX_DROP_PP
    min_agreement: float = MIN_AGREEMENT

    def allows(self, candidate: QuantizedModel) -> bool:
        return candidate.drop_pp <= self.max_drop_pp and candidate.same_label >= self.min_agreement


def quantize_network(
    kind: str,
    exported: bytes,
    quantization_data: QuantizationData,
    limits: Limits,
    methods: Sequence[Method] = tuple(METHODS),
    *,
    train_qat: Callable[[], bytes] | None = None,
) -> QuantizedModel:
    """Quantise one network within `limits`.

    Tries in this order, and stops at the first step that meets the limits: the calibration `methods` (of several results, the
    one closest to float32), the same with corrected biases, more and more layers in float32, and the network that `train_qat`
    returns. Raises ExportError if nothing meets the limits.
    """
    configs = [
        QuantizationConfig(method, float_layers=float_layers)
        for method in methods
        for float_layers in initial_float_layers(exported)
    ]
    candidates = [evaluate_config(exported, quantization_data, config) for config in configs]
    if not any(map(limits.allows, candidates)):
        candidates += [
            evaluate_config(exported, quantization_data, dataclasses.replace(config, bias_corrected=True)) for config in configs
        ]
    best = _closest(candidates, limits)
    most_float_layers = min(MAX_FLOAT_LAYERS, len(quantizable_layers(exported)) - 1)
    while not limits.allows(best) and len(best.config.float_layers) < most_float_layers:
        float_layers = (*best.config.float_layers, _most_sensitive_layer(exported, quantization_data, best.config))
        best = evaluate_config(exported, quantization_data, dataclasses.replace(best.config, float_layers=float_layers))
    if not limits.allows(best) and train_qat is not None:
        trained, reference = train_qat(), exported
        candidates = [
            evaluate_config(trained, quantization_data, dataclasses.replace(config, trained_on=True), reference)
            for config in configs
        ]
        best = _closest([best, *candidates], limits)
    if not limits.allows(best):
        raise ExportError(_refusal(kind, best, limits, len(quantization_data.validation)))
    return best


def _refusal(kind: str, best: QuantizedModel, limits: Limits, inputs: int) -> str:
    return (
        f"{kind}: int8 loses {best.drop_pp:.2f} percentage points of accuracy on {inputs} validation inputs ({best.config}); "
        f"the limit is {limits.max_drop_pp:g}. It gives float32's label for {PERCENTAGE_POINTS * best.same_label:.1f} % of "
        f"them; the limit is {PERCENTAGE_POINTS * limits.min_agreement:g} %. "
        "Keep fp32, or change --max-drop and --min-agreement"
    )


def quantize_closest(exported: bytes, quantization_data: QuantizationData) -> QuantizedModel:
    """Quantise one network by the calibration method whose probabilities are closest to float32, without a limit."""
    candidates = [
        evaluate_config(exported, quantization_data, QuantizationConfig(method, float_layers=float_layers))
        for method in METHODS
        for float_layers in initial_float_layers(exported)
    ]
    return min(candidates, key=_distance)


def _closest(candidates: Sequence[QuantizedModel], limits: Limits) -> QuantizedModel:
    """Return the candidate closest to float32 among those within the limits, or among all if there are none."""
    return min([candidate for candidate in candidates if limits.allows(candidate)] or candidates, key=_distance)


def _distance(candidate: QuantizedModel) -> float:
    return candidate.mean_abs_difference


def initial_float_layers(exported: bytes) -> list[tuple[str, ...]]:
    """Return the sets of layers that may stay in float32 from the start: none, or a small first layer.

    Inputs have a wider range than inner tensors, and one scale for them is coarse. A network with several first layers in
    parallel gains little from one of them in float32, so it gets none.
    """
    sizes, names = quantizable_layers(exported), first_layers(exported)
    small = len(names) == 1 and sizes[names[0]] <= SMALL_LAYER_SHARE * sum(sizes.values())
    return [(), (names[0],)] if small else [()]


def evaluate_config(
    exported: bytes, quantization_data: QuantizationData, config: QuantizationConfig, reference: bytes | None = None
) -> QuantizedModel:
    """Quantise with one configuration and measure the cost, compared with `reference` (default: `exported`)."""
    int8 = to_int8(exported, quantization_data.calibration, config.float_layers, config.method)
    if config.bias_corrected:
        int8 = correct_biases(fold_batch_norm(exported), int8, quantization_data.calibration)
    fp32_probabilities, int8_probabilities = (
        predict_probabilities(data, quantization_data.validation, quantization_data.head)
        for data in (reference or exported, int8)
    )
    return QuantizedModel(
        onnx=int8,
        config=config,
        accuracy_fp32=float((fp32_probabilities.argmax(axis=1) == quantization_data.labels).mean()),
        accuracy_int8=float((int8_probabilities.argmax(axis=1) == quantization_data.labels).mean()),
        same_label=same_label_share(fp32_probabilities, int8_probabilities),
        mean_abs_difference=float(np.abs(fp32_probabilities - int8_probabilities).mean()),
    )


def _most_sensitive_layer(exported: bytes, quantization_data: QuantizationData, config: QuantizationConfig) -> str:
    """Return the layer that, kept in float32 as well, brings the probabilities closest to float32."""
    inputs = quantization_data.validation[:: max(1, len(quantization_data.validation) // LAYER_SEARCH_INPUTS)]
    expected = predict_probabilities(exported, inputs, quantization_data.head)

    def difference(layer: str) -> float:
        int8 = to_int8(exported, quantization_data.calibration, (*config.float_layers, layer), config.method)
        return float(np.abs(predict_probabilities(int8, inputs, quantization_data.head) - expected).mean())

    return min((layer for layer in quantizable_layers(exported) if layer not in config.float_layers), key=difference)


def predict_probabilities(data: bytes, inputs: Inputs, head: str) -> F32:
    """Run an ONNX model over inputs; return the probabilities of one head, float32 [N, classes]."""
    session = open_session(data)
    logits = np.concatenate([session.run([head], feed)[0] for feed in inputs])
    return softmax(logits, classes=logits.shape[1])


def agreement(first: bytes, second: bytes, inputs: Inputs, head: str = "logits") -> dict[str, Any]:
    """Compare two models over inputs: share of inputs with the same label, and largest difference of a probability."""
    some, others = predict_probabilities(first, inputs, head), predict_probabilities(second, inputs, head)
    return {
        "windows": len(inputs),
        "same_label": same_label_share(some, others),
        "max_difference": float(np.abs(some - others).max()),
    }
