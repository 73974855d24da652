"""An exported network to int8: static, per channel, symmetric weights, quantise-dequantise pairs that every engine reads."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from edge.inference.branches import softmax

F32 = NDArray[np.float32]
OPERATORS = ("Conv", "Gemm", "MatMul")  # what costs; the statistics over time stay in float32


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives the quantiser one input after another."""

    def __init__(self, inputs: Sequence[dict[str, F32]]) -> None:
        self._inputs: Iterator[dict[str, F32]] = iter(inputs)

    def get_next(self) -> dict[str, F32] | None:
        return next(self._inputs, None)


def to_int8(exported: bytes, inputs: Sequence[dict[str, F32]]) -> bytes:
    """Quantise an ONNX file by the ranges that `inputs`, real ones of the training part, drive it through."""
    log = logging.getLogger()
    level = log.level
    with tempfile.TemporaryDirectory() as folder:
        plain, out = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        _fold(exported, plain)
        log.setLevel(logging.ERROR)
        try:
            quantize_static(
                str(plain),
                str(out),
                _Reader(inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(OPERATORS),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
        finally:
            log.setLevel(level)
        model = onnx.load(str(out))
    for holder in (model, model.graph):
        del holder.metadata_props[:]
        holder.doc_string = ""
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _fold(exported: bytes, path: Path) -> None:
    """Fold normalisations into the convolutions before them, as the engine would: afterwards it is too late."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    ort.InferenceSession(exported, options, providers=["CPUExecutionProvider"])


def agreement(first: bytes, second: bytes, inputs: Sequence[dict[str, F32]], head: str = "logits") -> dict[str, Any]:
    """Compare two files of one network over inputs: how often the first label is the same, how far probabilities differ."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = [ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]) for data in (first, second)]
    answers = [softmax(np.concatenate([session.run([head], one)[0] for one in inputs])) for session in sessions]
    same = float((answers[0].argmax(axis=1) == answers[1].argmax(axis=1)).mean())
    return {"windows": len(inputs), "same_label": same, "max_difference": float(np.abs(answers[0] - answers[1]).max())}
