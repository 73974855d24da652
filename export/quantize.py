"""An exported network to int8: static, per channel, symmetric weights, quantise-dequantise pairs that every engine reads.

What int8 costs is judged on inputs that set no range. Where it is too much, the layers that cause it stay in float32.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from edge.errors import ExportError
from edge.inference.branches import softmax
from export.calibration import HEADS, Material

F32 = NDArray[np.float32]
Inputs = Sequence[dict[str, F32]]

OPERATORS = ("Conv", "Gemm", "MatMul")  # what costs; the statistics over time stay in float32
MOST_FLOAT_LAYERS = 4
TRIED_ON = 200  # inputs on which layers are compared with each other
PP = 100.0


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives the quantiser one input after another."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs: Iterator[dict[str, F32]] = iter(inputs)

    def get_next(self) -> dict[str, F32] | None:
        return next(self._inputs, None)


@dataclass(frozen=True, slots=True)
class Quantised:
    """An int8 file and what it costs: points of accuracy, agreement of first labels, layers that stayed in float32."""

    onnx: bytes
    accuracy_fp32: float
    accuracy_int8: float
    same_label: float
    mean_abs_difference: float
    float_layers: tuple[str, ...]

    @property
    def drop_pp(self) -> float:
        return PP * (self.accuracy_fp32 - self.accuracy_int8)

    def figures(self) -> dict[str, Any]:
        names = ("accuracy_fp32", "accuracy_int8", "same_label", "mean_abs_difference", "float_layers")
        return {"bytes": len(self.onnx), **{name: getattr(self, name) for name in names}}


def quantise(kind: str, exported: bytes, material: Material, max_drop_pp: float) -> Quantised:
    """Quantise one network; raise ExportError where it loses more than `max_drop_pp` whatever is kept in float32."""
    head = HEADS[kind]
    kept: tuple[str, ...] = ()
    done = _judged(exported, to_int8(exported, material.training), material, head, kept)
    while done.drop_pp > max_drop_pp and len(kept) < MOST_FLOAT_LAYERS:
        kept = (*kept, _worst_layer(exported, material, head, kept))
        done = _judged(exported, to_int8(exported, material.training, kept), material, head, kept)
    if done.drop_pp > max_drop_pp:
        raise ExportError(
            f"{kind}: int8 loses {done.drop_pp:.2f} points over {len(material.judged)} inputs, even with {', '.join(kept)} in "
            f"float32; allowed are {max_drop_pp:g}. Keep fp32, or allow more with --max-drop"
        )
    return done


def to_int8(exported: bytes, inputs: Inputs, float_layers: Sequence[str] = ()) -> bytes:
    """Quantise an ONNX file by the ranges that `inputs`, real ones of the training part, drive it through."""
    log = logging.getLogger()
    level = log.level
    with tempfile.TemporaryDirectory() as folder:
        plain, out = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        plain.write_bytes(_folded(exported))
        log.setLevel(logging.ERROR)
        try:
            quantize_static(
                str(plain),
                str(out),
                _Reader(inputs),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(OPERATORS),
                nodes_to_exclude=list(float_layers),
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


def _folded(exported: bytes) -> bytes:
    """Fold normalisations into the convolutions before them, as the engine would: afterwards it is too late."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        ort.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
        return path.read_bytes()


def _worst_layer(exported: bytes, material: Material, head: str, kept: tuple[str, ...]) -> str:
    """Return the layer which, left in float32 as well, brings the answers nearest to those of the original."""
    layers: list[str] = [node.name for node in onnx.load_from_string(_folded(exported)).graph.node if node.op_type in OPERATORS]
    tried = material.judged[:: max(1, len(material.judged) // TRIED_ON)]
    expected = answers(exported, tried, head)

    def difference(layer: str) -> float:
        return float(np.abs(answers(to_int8(exported, material.training, (*kept, layer)), tried, head) - expected).mean())

    return min((layer for layer in layers if layer not in kept), key=difference)


def _judged(exported: bytes, int8: bytes, material: Material, head: str, kept: tuple[str, ...]) -> Quantised:
    before, after = (answers(data, material.judged, head) for data in (exported, int8))
    first = [probabilities.argmax(axis=1) for probabilities in (before, after)]
    return Quantised(
        onnx=int8,
        accuracy_fp32=float((first[0] == material.labels).mean()),
        accuracy_int8=float((first[1] == material.labels).mean()),
        same_label=float((first[0] == first[1]).mean()),
        mean_abs_difference=float(np.abs(before - after).mean()),
        float_layers=kept,
    )


def answers(data: bytes, inputs: Inputs, head: str) -> F32:
    """Run an ONNX file over inputs; return the probabilities of one head, float32 [N, 8]."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return softmax(np.concatenate([session.run([head], one)[0] for one in inputs]))


def agreement(first: bytes, second: bytes, inputs: Inputs, head: str = "logits") -> dict[str, Any]:
    """Compare two files of one network over inputs: how often the first label is the same, how far probabilities differ."""
    one, other = answers(first, inputs, head), answers(second, inputs, head)
    same = float((one.argmax(axis=1) == other.argmax(axis=1)).mean())
    return {"windows": len(inputs), "same_label": same, "max_difference": float(np.abs(one - other).max())}
