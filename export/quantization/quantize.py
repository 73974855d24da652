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
from moodring.export.quantization.bias_correction import corrected
from moodring.export.quantization.data import Material
from moodring.export.quantization.duplicate_qdq import rounded_twice
from moodring.inference.branches import softmax

F32 = NDArray[np.float32]
Inputs = Sequence[dict[str, F32]]

OPERATORS = ("Conv", "Gemm", "MatMul")  # what costs; the statistics over time stay in float32
BETWEEN = ("Add", "Relu")  # joined with them where they lie between: each answer is then rounded once, not twice
MOST_FLOAT_LAYERS = 4
SMALL_SHARE = 0.1  # of the weights: a first layer of no more may stay in float32 as a matter of course
LEAST_SAME_LABEL = 0.97  # of the inputs, between int8 and float32
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
    trained_on: bool = False

    def __str__(self) -> str:
        said = [f"{self.method} ranges"]
        said += ["biases corrected"] * self.bias_corrected
        said += [f"{' and '.join(self.float_layers)} kept in float32"] * bool(self.float_layers)
        said += ["trained on in int8"] * self.trained_on
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


@dataclass(frozen=True, slots=True)
class Limits:
    """What int8 may cost: points of accuracy, and on which share of the inputs it must name float32's label."""

    max_drop_pp: float = 0.5
    least_same_label: float = LEAST_SAME_LABEL

    def hold(self, tried: Quantised) -> bool:
        return tried.drop_pp <= self.max_drop_pp and tried.same_label >= self.least_same_label


def quantise(
    kind: str,
    exported: bytes,
    material: Material,
    limits: Limits,
    methods: Sequence[Method] = tuple(METHODS),
    *,
    train_on: Callable[[], bytes] | None = None,
) -> Quantised:
    """Quantise one network so that it costs no more than `limits`; ExportError where that cannot be.

    First come all plain ways, of which the nearest to float32 is taken; then these with corrected biases; then the best of
    them with more and more layers in float32; then the network that `train_on` returns, trained on under quantisation.
    """
    plain = [Way(method, float_layers=kept) for method in methods for kept in _starts(exported)]
    tried = [_tried(exported, material, way) for way in plain]
    if not any(map(limits.hold, tried)):
        tried += [_tried(exported, material, dataclasses.replace(way, bias_corrected=True)) for way in plain]
    best = _nearest(tried, limits)
    while not limits.hold(best) and len(best.way.float_layers) < min(MOST_FLOAT_LAYERS, len(_layers(exported)) - 1):
        kept = (*best.way.float_layers, _worst_layer(exported, material, best.way))
        best = _tried(exported, material, dataclasses.replace(best.way, float_layers=kept))
    if not limits.hold(best) and train_on is not None:
        trained, reference = train_on(), exported
        tried = [_tried(trained, material, dataclasses.replace(way, trained_on=True), reference) for way in plain]
        best = _nearest([best, *tried], limits)
    if not limits.hold(best):
        raise ExportError(
            f"{kind}: int8 loses {best.drop_pp:.2f} points over {len(material.judged)} inputs ({best.way}); allowed are "
            f"{limits.max_drop_pp:g}. It names float32's label on {PP * best.same_label:.1f} % of them; "
            f"{PP * limits.least_same_label:g} are asked for. Keep fp32, or allow more with --max-drop and --min-agreement"
        )
    return best


def nearest(exported: bytes, material: Material) -> Quantised:
    """Quantise one network in the plain way that changes its answers least, whatever that costs."""
    return min((_tried(exported, material, Way(method, float_layers=kept)) for method in METHODS for kept in _starts(exported)),
               key=lambda one: one.mean_abs_difference)  # fmt: skip


def _nearest(tried: Sequence[Quantised], limits: Limits) -> Quantised:
    """Return, of those within the limits or else of all, the one whose answers differ least from float32's."""
    return min([one for one in tried if limits.hold(one)] or tried, key=lambda one: one.mean_abs_difference)


def _starts(exported: bytes) -> list[tuple[str, ...]]:
    """Return what may stay in float32 from the start: nothing, or the first layer where it is small and the only first one.

    Inputs spread wider than what lies within, and one scale for all of them is coarse. Of several layers that read the input
    side by side, one in float32 changes little.
    """
    sizes, firsts = _layers(exported), _firsts(exported)
    return [(), *((name,) for name in firsts if len(firsts) == 1 and sizes[name] <= SMALL_SHARE * sum(sizes.values()))]


def _firsts(exported: bytes) -> list[str]:
    """Return the layers that the input reaches through no other."""
    graph = onnx.load_from_string(_folded(exported)).graph
    before = {value.name for value in graph.input}
    firsts = []
    for node in graph.node:
        if before.intersection(node.input):
            if node.op_type in OPERATORS:
                firsts.append(node.name)
            else:
                before.update(node.output)
    return firsts


def _layers(exported: bytes) -> dict[str, int]:
    """Return the layers that int8 is for, in the order of computation, and how many weights each holds."""
    graph = onnx.load_from_string(_folded(exported)).graph
    sizes = {part.name: int(np.prod(part.dims)) for part in graph.initializer}
    return {node.name: sum(sizes.get(name, 0) for name in node.input) for node in graph.node if node.op_type in OPERATORS}


def _tried(exported: bytes, material: Material, way: Way, reference: bytes | None = None) -> Quantised:
    """Quantise in one way and judge what came of it, by `reference` where the network itself was changed."""
    int8 = to_int8(exported, material.training, way.float_layers, way.method)
    if way.bias_corrected:
        int8 = corrected(_folded(exported), int8, material.training)
    before, after = (answers(data, material.judged, material.head) for data in (reference or exported, int8))
    first = [probabilities.argmax(axis=1) for probabilities in (before, after)]
    return Quantised(
        onnx=int8,
        way=way,
        accuracy_fp32=float((first[0] == material.labels).mean()),
        accuracy_int8=float((first[1] == material.labels).mean()),
        same_label=float((first[0] == first[1]).mean()),
        mean_abs_difference=float(np.abs(before - after).mean()),
    )


def to_int8(
    exported: bytes, inputs: Inputs, float_layers: Sequence[str] = (), method: Method = "minmax", *, once: bool = False
) -> bytes:
    """Quantise an ONNX file by the ranges that `inputs`, real ones of the training part, drive it through.

    `once` leaves the addends of sums rounded once, which OpenVINO takes for not at all.
    """
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
    int8 = bytes(model.SerializeToString(deterministic=True))
    return int8 if once else rounded_twice(int8)


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
    tried = material.judged[:: max(1, len(material.judged) // TRIED_ON)]
    expected = answers(exported, tried, material.head)

    def difference(layer: str) -> float:
        int8 = to_int8(exported, material.training, (*way.float_layers, layer), way.method)
        return float(np.abs(answers(int8, tried, material.head) - expected).mean())

    return min((layer for layer in _layers(exported) if layer not in way.float_layers), key=difference)


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
