"""An exported network to int8: static, per channel, symmetric weights, quantise-dequantise pairs that every engine reads.

What int8 costs is judged on inputs that set no range, and the way that changes the answers least is taken. Where each costs
too much, biases are corrected, then the layers that cause it stay in float32, and at last the network is trained on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from moodring.errors import ExportError
from moodring.export.quantization.bias_correction import correct_biases
from moodring.export.quantization.data import QuantizationData
from moodring.export.quantization.duplicate_qdq import duplicate_qdq
from moodring.inference.branches import softmax

F32 = NDArray[np.float32]
Inputs = Sequence[dict[str, F32]]

QUANTIZED_OPERATORS = ("Conv", "Gemm", "MatMul")  # what costs; the statistics over time stay in float32
FUSED_OPERATORS = ("Add", "Relu")  # joined with them where they lie between: each answer is then rounded once, not twice
MAX_FLOAT_LAYERS = 4
SMALL_LAYER_SHARE = 0.1  # of the weights: a first layer of no more may stay in float32 as a matter of course
MIN_AGREEMENT = 0.97  # of the inputs, between int8 and float32
LAYER_SEARCH_INPUTS = 200  # inputs on which layers are compared with each other
PERCENTAGE_POINTS = 100.0

# How ranges are set: by the extremes seen, by all but the outermost, or so that the distribution changes least.
Method = Literal["minmax", "percentile", "entropy"]
METHODS: dict[Method, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


class _CalibrationReader(CalibrationDataReader):  # type: ignore[misc]
    """Gives the quantiser one input after another."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs: Iterator[dict[str, F32]] = iter(inputs)

    def get_next(self) -> dict[str, F32] | None:
        return next(self._inputs, None)


@dataclass(frozen=True, slots=True)
class QuantizationConfig:
    """How int8 is made: how ranges are set, whether biases are corrected, and which layers stay in float32."""

    method: Method = "minmax"
    bias_corrected: bool = False
    float_layers: tuple[str, ...] = ()
    trained_on: bool = False

    def __str__(self) -> str:
        parts = [f"{self.method} ranges"]
        parts += ["biases corrected"] * self.bias_corrected
        parts += [f"{' and '.join(self.float_layers)} kept in float32"] * bool(self.float_layers)
        parts += ["trained on in int8"] * self.trained_on
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class QuantizedModel:
    """An int8 file, how it was made, and what it costs: points of accuracy, and agreement of first labels."""

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
        names = ("accuracy_fp32", "accuracy_int8", "same_label", "mean_abs_difference")
        measured = {name: getattr(self, name) for name in names}
        return {"bytes": len(self.onnx), **measured, **dataclasses.asdict(self.config)}


@dataclass(frozen=True, slots=True)
class Limits:
    """What int8 may cost: points of accuracy, and on which share of the inputs it must name float32's label."""

    max_drop_pp: float = 0.5
    min_agreement: float = MIN_AGREEMENT

    def allows(self, tried: QuantizedModel) -> bool:
        return tried.drop_pp <= self.max_drop_pp and tried.same_label >= self.min_agreement


def quantize_network(
    kind: str,
    exported: bytes,
    quantization_data: QuantizationData,
    limits: Limits,
    methods: Sequence[Method] = tuple(METHODS),
    *,
    train_qat: Callable[[], bytes] | None = None,
) -> QuantizedModel:
    """Quantise one network so that it costs no more than `limits`; ExportError where that cannot be.

    First come all plain ways, of which the nearest to float32 is taken; then these with corrected biases; then the best of
    them with more and more layers in float32; then the network that `train_on` returns, trained on under quantisation.
    """
    plain = [
        QuantizationConfig(method, float_layers=float_layers)
        for method in methods
        for float_layers in _initial_float_layers(exported)
    ]
    tried = [_evaluate_config(exported, quantization_data, config) for config in plain]
    if not any(map(limits.allows, tried)):
        tried += [
            _evaluate_config(exported, quantization_data, dataclasses.replace(config, bias_corrected=True)) for config in plain
        ]
    best = _closest(tried, limits)
    while not limits.allows(best) and len(best.config.float_layers) < min(
        MAX_FLOAT_LAYERS, len(_quantizable_layers(exported)) - 1
    ):
        float_layers = (*best.config.float_layers, _most_sensitive_layer(exported, quantization_data, best.config))
        best = _evaluate_config(exported, quantization_data, dataclasses.replace(best.config, float_layers=float_layers))
    if not limits.allows(best) and train_qat is not None:
        trained, reference = train_qat(), exported
        tried = [
            _evaluate_config(trained, quantization_data, dataclasses.replace(config, trained_on=True), reference)
            for config in plain
        ]
        best = _closest([best, *tried], limits)
    if not limits.allows(best):
        raise ExportError(
            f"{kind}: int8 loses {best.drop_pp:.2f} points over {len(quantization_data.validation)} inputs ({best.config}); allowed are "
            f"{limits.max_drop_pp:g}. It names float32's label on {PERCENTAGE_POINTS * best.same_label:.1f} % of them; "
            f"{PERCENTAGE_POINTS * limits.min_agreement:g} are asked for. Keep fp32, or allow more with --max-drop and --min-agreement"
        )
    return best


def quantize_closest(exported: bytes, quantization_data: QuantizationData) -> QuantizedModel:
    """Quantise one network in the plain way that changes its answers least, whatever that costs."""
    return min((_evaluate_config(exported, quantization_data, QuantizationConfig(method, float_layers=float_layers)) for method in METHODS for float_layers in _initial_float_layers(exported)),
               key=lambda one: one.mean_abs_difference)  # fmt: skip


def _closest(tried: Sequence[QuantizedModel], limits: Limits) -> QuantizedModel:
    """Return, of those within the limits or else of all, the one whose answers differ least from float32's."""
    return min([one for one in tried if limits.allows(one)] or tried, key=lambda one: one.mean_abs_difference)


def _initial_float_layers(exported: bytes) -> list[tuple[str, ...]]:
    """Return what may stay in float32 from the start: nothing, or the first layer where it is small and the only first one.

    Inputs spread wider than what lies within, and one scale for all of them is coarse. Of several layers that read the input
    side by side, one in float32 changes little.
    """
    sizes, first_layers = _quantizable_layers(exported), _first_layers(exported)
    return [
        (),
        *(
            (name,)
            for name in first_layers
            if len(first_layers) == 1 and sizes[name] <= SMALL_LAYER_SHARE * sum(sizes.values())
        ),
    ]


def _first_layers(exported: bytes) -> list[str]:
    """Return the layers that the input reaches through no other."""
    graph = onnx.load_from_string(_fold_batch_norm(exported)).graph
    before = {value.name for value in graph.input}
    first_layers = []
    for node in graph.node:
        if before.intersection(node.input):
            if node.op_type in QUANTIZED_OPERATORS:
                first_layers.append(node.name)
            else:
                before.update(node.output)
    return first_layers


def _quantizable_layers(exported: bytes) -> dict[str, int]:
    """Return the layers that int8 is for, in the order of computation, and how many weights each holds."""
    graph = onnx.load_from_string(_fold_batch_norm(exported)).graph
    sizes = {part.name: int(np.prod(part.dims)) for part in graph.initializer}
    return {
        node.name: sum(sizes.get(name, 0) for name in node.input) for node in graph.node if node.op_type in QUANTIZED_OPERATORS
    }


def _evaluate_config(
    exported: bytes, quantization_data: QuantizationData, config: QuantizationConfig, reference: bytes | None = None
) -> QuantizedModel:
    """Quantise in one way and judge what came of it, by `reference` where the network itself was changed."""
    int8 = to_int8(exported, quantization_data.calibration, config.float_layers, config.method)
    if config.bias_corrected:
        int8 = correct_biases(_fold_batch_norm(exported), int8, quantization_data.calibration)
    before, after = (
        predict_probabilities(data, quantization_data.validation, quantization_data.head)
        for data in (reference or exported, int8)
    )
    first = [probabilities.argmax(axis=1) for probabilities in (before, after)]
    return QuantizedModel(
        onnx=int8,
        config=config,
        accuracy_fp32=float((first[0] == quantization_data.labels).mean()),
        accuracy_int8=float((first[1] == quantization_data.labels).mean()),
        same_label=float((first[0] == first[1]).mean()),
        mean_abs_difference=float(np.abs(before - after).mean()),
    )


def to_int8(
    exported: bytes, inputs: Inputs, float_layers: Sequence[str] = (), method: Method = "minmax", *, single_qdq: bool = False
) -> bytes:
    """Quantise an ONNX file by the ranges that `inputs`, real ones of the training part, drive it through.

    `once` leaves the addends of sums rounded once, which OpenVINO takes for not at all.
    """
    log = logging.getLogger()
    level = log.level
    with tempfile.TemporaryDirectory() as folder:
        plain, out = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        folded = _fold_batch_norm(exported)
        plain.write_bytes(folded)
        log.setLevel(logging.ERROR)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # histograms are announced
                quantize_static(
                    str(plain),
                    str(out),
                    _CalibrationReader(inputs),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=[*QUANTIZED_OPERATORS, *FUSED_OPERATORS],
                    nodes_to_exclude=[*float_layers, *_excluded_nodes(folded)],
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                    calibrate_method=METHODS[method],
                )
        finally:
            log.setLevel(level)
        model = onnx.load(str(out))
    for holder in (model, model.graph):
        del holder.metadata_props[:]
        holder.doc_string = ""
    onnx.checker.check_model(model)
    int8 = bytes(model.SerializeToString(deterministic=True))
    return int8 if single_qdq else duplicate_qdq(int8)


def _fold_batch_norm(exported: bytes) -> bytes:
    """Fold normalisations into the convolutions before them, as the engine would: afterwards it is too late."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        ort.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
        return path.read_bytes()


def _excluded_nodes(folded: bytes) -> list[str]:
    """Return the sums and ReLUs that do not follow a convolution or product, directly or over one another."""
    fusable_outputs: set[str] = set()
    excluded = []
    for node in onnx.load_from_string(folded).graph.node:
        if node.op_type in QUANTIZED_OPERATORS or (node.op_type in FUSED_OPERATORS and fusable_outputs.issuperset(node.input)):
            fusable_outputs.update(node.output)
        elif node.op_type in FUSED_OPERATORS:
            excluded.append(node.name)
    return excluded


def _most_sensitive_layer(exported: bytes, quantization_data: QuantizationData, config: QuantizationConfig) -> str:
    """Return the layer which, left in float32 as well, brings the answers nearest to those of the original."""
    tried = quantization_data.validation[:: max(1, len(quantization_data.validation) // LAYER_SEARCH_INPUTS)]
    expected = predict_probabilities(exported, tried, quantization_data.head)

    def difference(layer: str) -> float:
        int8 = to_int8(exported, quantization_data.calibration, (*config.float_layers, layer), config.method)
        return float(np.abs(predict_probabilities(int8, tried, quantization_data.head) - expected).mean())

    return min((layer for layer in _quantizable_layers(exported) if layer not in config.float_layers), key=difference)


def predict_probabilities(data: bytes, inputs: Inputs, head: str) -> F32:
    """Run an ONNX file over inputs; return the probabilities of one head, float32 [N, classes]."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run([head], one)[0] for one in inputs])
    return softmax(logits, classes=logits.shape[1])


def agreement(first: bytes, second: bytes, inputs: Inputs, head: str = "logits") -> dict[str, Any]:
    """Compare two files of one network over inputs: how often the first label is the same, how far probabilities differ."""
    one, other = predict_probabilities(first, inputs, head), predict_probabilities(second, inputs, head)
    same = float((one.argmax(axis=1) == other.argmax(axis=1)).mean())
    return {"windows": len(inputs), "same_label": same, "max_difference": float(np.abs(one - other).max())}
