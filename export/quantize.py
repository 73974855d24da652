"""An exported network to int8: static, per channel, symmetric weights, quantise-dequantise pairs that every engine reads.

What int8 costs is judged on inputs that set no range. Where it is too much, biases are corrected, ranges are set in another
way, and at last the layers that cause it stay in float32.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from edge.errors import ExportError
from edge.inference.branches import softmax
from export.bias import corrected
from export.material import Material

F32 = NDArray[np.float32]
Inputs = Sequence[dict[str, F32]]

OPERATORS = ("Conv", "Gemm", "MatMul")  # what costs; the statistics over time stay in float32
BETWEEN = ("Add", "Relu")  # joined with them where they lie between: each answer is then rounded once, not twice
MOST_FLOAT_LAYERS = 4
TRIED_ON = 200  # inputs on which layers are compared with each other
PP = 100.0

# How ranges are set: by the extremes seen, by all but the outermost, or so that the distribution changes least.
Method = Literal["minmax", "percentile", "entropy"]
METHODS: dict[Method, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives the quantiser one input after another."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs: Iterator[dict[str, F32]] = iter(inputs)

    def get_next(self) -> dict[str, F32] | None:
        return next(self._inputs, None)


@dataclass(frozen=True, slots=True)
class Way:
    """How int8 is made: how ranges are set, whether biases are corrected, and which layers stay in float32."""

    method: Method = "minmax"
    bias_corrected: bool = False
    float_layers: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = [f"{self.method} ranges"]
        said += ["biases corrected"] * self.bias_corrected
        said += [f"{' and '.join(self.float_layers)} kept in float32"] * bool(self.float_layers)
        return ", ".join(said)


@dataclass(frozen=True, slots=True)
class Quantised:
    """An int8 file, how it was made, and what it costs: points of accuracy, and agreement of first labels."""

    onnx: bytes
    way: Way
    accuracy_fp32: float
    accuracy_int8: float
    same_label: float
    mean_abs_difference: float

    @property
    def drop_pp(self) -> float:
        return PP * (self.accuracy_fp32 - self.accuracy_int8)

    def figures(self) -> dict[str, Any]:
        names = ("accuracy_fp32", "accuracy_int8", "same_label", "mean_abs_difference")
        measured = {name: getattr(self, name) for name in names}
        return {"bytes": len(self.onnx), **measured, **dataclasses.asdict(self.way)}


def quantise(
    kind: str, exported: bytes, material: Material, max_drop_pp: float, methods: Sequence[Method] = tuple(METHODS)
) -> Quantised:
    """Quantise one network in the first way that loses no more than `max_drop_pp`; ExportError where none does.

    The ways, in order: ranges by each of the methods, without and with corrected biases; then the best of these with more
    and more layers in float32.
    """
    best: Quantised | None = None
    for way in (Way(method, corrects) for method in methods for corrects in (False, True)):
        tried = _tried(exported, material, way)
        if tried.drop_pp <= max_drop_pp:
            return tried
        best = min(best or tried, tried, key=lambda one: one.drop_pp)
    assert best is not None  # noqa: S101  for the type checker
    while best.drop_pp > max_drop_pp and len(best.way.float_layers) < MOST_FLOAT_LAYERS:
        kept = (*best.way.float_layers, _worst_layer(exported, material, best.way))
        best = _tried(exported, material, dataclasses.replace(best.way, float_layers=kept))
    if best.drop_pp > max_drop_pp:
        raise ExportError(
            f"{kind}: int8 loses {best.drop_pp:.2f} points over {len(material.judged)} inputs ({best.way}); allowed are "
            f"{max_drop_pp:g}. Keep fp32, or allow more with --max-drop"
        )
    return best


def _tried(exported: bytes, material: Material, way: Way) -> Quantised:
    """Quantise in one way and judge what came of it."""
    int8 = to_int8(exported, material.training, way.float_layers, way.method)
    if way.bias_corrected:
        int8 = corrected(_folded(exported), int8, material.training)
    before, after = (answers(data, material.judged, material.head) for data in (exported, int8))
    first = [probabilities.argmax(axis=1) for probabilities in (before, after)]
    return Quantised(
        onnx=int8,
        way=way,
        accuracy_fp32=float((first[0] == material.labels).mean()),
        accuracy_int8=float((first[1] == material.labels).mean()),
        same_label=float((first[0] == first[1]).mean()),
        mean_abs_difference=float(np.abs(before - after).mean()),
    )


def to_int8(exported: bytes, inputs: Inputs, float_layers: Sequence[str] = (), method: Method = "minmax") -> bytes:
    """Quantise an ONNX file by the ranges that `inputs`, real ones of the training part, drive it through."""
    log = logging.getLogger()
    level = log.level
    with tempfile.TemporaryDirectory() as folder:
        plain, out = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        folded = _folded(exported)
        plain.write_bytes(folded)
        log.setLevel(logging.ERROR)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # histograms are announced
                quantize_static(
                    str(plain),
                    str(out),
                    _Reader(inputs),
                    quant_format=QuantFormat.QDQ,
                    op_types_to_quantize=[*OPERATORS, *BETWEEN],
                    nodes_to_exclude=[*float_layers, *_apart(folded)],
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


def _apart(folded: bytes) -> list[str]:
    """Return the sums and ReLUs that do not follow a convolution or product, directly or over one another."""
    joined: set[str] = set()
    apart = []
    for node in onnx.load_from_string(folded).graph.node:
        if node.op_type in OPERATORS or (node.op_type in BETWEEN and joined.issuperset(node.input)):
            joined.update(node.output)
        elif node.op_type in BETWEEN:
            apart.append(node.name)
    return apart


def _worst_layer(exported: bytes, material: Material, way: Way) -> str:
    """Return the layer which, left in float32 as well, brings the answers nearest to those of the original."""
    layers: list[str] = [node.name for node in onnx.load_from_string(_folded(exported)).graph.node if node.op_type in OPERATORS]
    tried = material.judged[:: max(1, len(material.judged) // TRIED_ON)]
    expected = answers(exported, tried, material.head)

    def difference(layer: str) -> float:
        int8 = to_int8(exported, material.training, (*way.float_layers, layer), way.method)
        return float(np.abs(answers(int8, tried, material.head) - expected).mean())

    return min((layer for layer in layers if layer not in way.float_layers), key=difference)


def answers(data: bytes, inputs: Inputs, head: str) -> F32:
    """Run an ONNX file over inputs; return the probabilities of one head, float32 [N, classes]."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run([head], one)[0] for one in inputs])
    return softmax(logits, classes=logits.shape[1])


def agreement(first: bytes, second: bytes, inputs: Inputs, head: str = "logits") -> dict[str, Any]:
    """Compare two files of one network over inputs: how often the first label is the same, how far probabilities differ."""
    one, other = answers(first, inputs, head), answers(second, inputs, head)
    same = float((one.argmax(axis=1) == other.argmax(axis=1)).mean())
    return {"windows": len(inputs), "same_label": same, "max_difference": float(np.abs(one - other).max())}
