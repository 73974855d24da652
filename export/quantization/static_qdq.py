"""Static int8 quantisation of an ONNX model: per-channel symmetric weights and QDQ pairs that every engine reads."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from moodring.export.onnx_model import LOG_ERRORS_ONLY, serialize, strip_metadata
from moodring.export.quantization.data import Feed, Inputs
from moodring.export.quantization.duplicate_qdq import duplicate_qdq

QUANTIZED_OPERATORS = ("Conv", "Gemm", "MatMul")  # nearly all of the cost; the statistics over time stay in float32
FUSED_OPERATORS = ("Add", "Relu")  # quantised if they follow one of the above, so that each output is rounded once, not twice

# Ranges from the extremes, from a percentile, or from the smallest change of the distribution.
Method = Literal["minmax", "percentile", "entropy"]
METHODS: dict[Method, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


class _CalibrationReader(CalibrationDataReader):  # type: ignore[misc]
    """The calibration inputs as ONNX Runtime's quantiser reads them."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs: Iterator[Feed] = iter(inputs)

    def get_next(self) -> Feed | None:
        return next(self._inputs, None)


def to_int8(exported: bytes, inputs: Inputs, float_layers: Sequence[str] = (), method: Method = "minmax") -> bytes:
    """Quantise an ONNX model so that ONNX Runtime and OpenVINO round alike (`duplicate_qdq`).

    `inputs` set the ranges, `float_layers` names the layers that stay in float32. Equal arguments give equal bytes.
    """
    return duplicate_qdq(quantize_qdq(exported, inputs, float_layers, method))


def quantize_qdq(exported: bytes, inputs: Inputs, float_layers: Sequence[str], method: Method) -> bytes:
    """Quantise an ONNX model with one QDQ pair per tensor."""
    log = logging.getLogger()
    level = log.level
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        folded = fold_batch_norm(exported)
        source.write_bytes(folded)
        log.setLevel(logging.ERROR)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the quantiser prints its progress
                quantize_static(
                    str(source),
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
    strip_metadata((model, model.graph))
    onnx.checker.check_model(model)
    return serialize(model)


def fold_batch_norm(exported: bytes) -> bytes:
    """Fold batch normalisations into the convolutions before them, which is not possible after quantisation."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = LOG_ERRORS_ONLY
        ort.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
        return path.read_bytes()


def _excluded_nodes(folded: bytes) -> list[str]:
    """Return the sums and ReLUs that do not follow a convolution or product, directly or through other sums and ReLUs."""
    fusable_outputs: set[str] = set()
    excluded = []
    for node in onnx.load_from_string(folded).graph.node:
        if node.op_type in QUANTIZED_OPERATORS or (node.op_type in FUSED_OPERATORS and fusable_outputs.issuperset(node.input)):
            fusable_outputs.update(node.output)
        elif node.op_type in FUSED_OPERATORS:
            excluded.append(node.name)
    return excluded


def quantizable_layers(exported: bytes) -> dict[str, int]:
    """Return the names of the layers that int8 applies to, in the order of computation, with their numbers of weights."""
    graph = onnx.load_from_string(fold_batch_norm(exported)).graph
    sizes = {part.name: int(np.prod(part.dims)) for part in graph.initializer}
    return {
        node.name: sum(sizes.get(name, 0) for name in node.input) for node in graph.node if node.op_type in QUANTIZED_OPERATORS
    }


def first_layers(exported: bytes) -> list[str]:
    """Return the names of the quantisable layers that no other quantisable layer precedes."""
    graph = onnx.load_from_string(fold_batch_norm(exported)).graph
    reached = {value.name for value in graph.input}
    names = []
    for node in graph.node:
        if reached.intersection(node.input):
            if node.op_type in QUANTIZED_OPERATORS:
                names.append(node.name)
            else:
                reached.update(node.output)
    return names
