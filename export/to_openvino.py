"""Conversion of an ONNX network to OpenVINO IR: float32, float16 weights, or int8 by NNCF with accuracy control.

The same input gives the same bytes: versions, paths and running numbers are removed from OpenVINO's output. The telemetry of
NNCF is switched off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from moodring.errors import ExportError, UsageError
from moodring.export.quantization.data import PERCENTAGE_POINTS, Feed, QuantizationData, same_label_share
from moodring.export.quantization.quantize import Limits
from moodring.inference.branches import softmax
from moodring.types import F32

SETTINGS = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
NNCF_LOG_LEVEL = 40  # errors only


@dataclass(frozen=True, slots=True)
class Ir:
    """A network in OpenVINO IR: the operations (.xml) and the weights (.bin)."""

    xml: bytes
    weights: bytes


def to_ir(exported: bytes, half: bool = False) -> Ir:
    """Convert an ONNX model to IR. `half` stores the weights in float16; the arithmetic stays in float32."""
    return _serialize(_openvino().Core().read_model(io.BytesIO(exported)), half)


def to_int8_ir(kind: str, exported: bytes, quantization_data: QuantizationData, max_drop_pp: float) -> Ir:
    """Quantise an ONNX model with NNCF's accuracy control, which reverts the most harmful layers to float32.

    Raises ExportError if the accuracy still drops by more than `max_drop_pp` percentage points on the validation data.
    """
    openvino, nncf, head = _openvino(), _nncf(), quantization_data.head

    def accuracy(compiled: Any, labelled_inputs: Iterable[tuple[Feed, int]]) -> tuple[float, None]:
        return float(np.mean([int(compiled(feed)[head].argmax()) == label for feed, label in labelled_inputs])), None

    labelled_inputs = list(zip(quantization_data.validation, quantization_data.labels.tolist(), strict=True))
    model = openvino.Core().read_model(io.BytesIO(exported))
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            quantized = nncf.quantize_with_accuracy_control(
                model,
                nncf.Dataset(quantization_data.calibration),
                nncf.Dataset(labelled_inputs),
                accuracy,
                max_drop=max_drop_pp / PERCENTAGE_POINTS,
                drop_type=nncf.DropType.ABSOLUTE,
                subset_size=len(quantization_data.calibration),
            )
        except RuntimeError as error:
            raise ExportError(f"{kind}: NNCF cannot quantise this network ({error})") from error
    ir = _serialize(quantized, half=False)
    cost = compare_ir(exported, ir, quantization_data)
    if cost.drop_pp > max_drop_pp:
        raise ExportError(
            f"{kind}: int8 by NNCF loses {cost.drop_pp:.2f} percentage points of accuracy on {len(labelled_inputs)} validation "
            f"inputs; the limit is {max_drop_pp:g}. Keep fp32, or raise --max-drop"
        )
    return ir


@dataclass(frozen=True, slots=True)
class IrComparison:
    """The cost of a variant in OpenVINO, compared with float32 in OpenVINO.

    `drop_pp` is the accuracy drop in percentage points, `same_label` the share of inputs with the same label and
    `mean_abs_difference` that of the probabilities.
    """

    drop_pp: float
    same_label: float
    mean_abs_difference: float


def compare_ir(exported: bytes, ir: Ir, quantization_data: QuantizationData) -> IrComparison:
    """Compare an IR with the float32 IR of the ONNX model `exported` on the validation data."""
    validation, head = quantization_data.validation, quantization_data.head
    reference, found = predict_ir(to_ir(exported), validation, head), predict_ir(ir, validation, head)
    accuracies = [
        float((probabilities.argmax(axis=1) == quantization_data.labels).mean()) for probabilities in (reference, found)
    ]
    return IrComparison(
        PERCENTAGE_POINTS * (accuracies[0] - accuracies[1]),
        same_label_share(reference, found),
        float(np.abs(reference - found).mean()),
    )


@dataclass(frozen=True, slots=True)
class Int8Ir:
    """The int8 IR of one network, its `source` ("qdq": the int8 ONNX file, or "nncf"), and the cost of each source tried."""

    ir: Ir
    source: str
    costs: dict[str, IrComparison]

    def metrics(self) -> dict[str, Any]:
        """Return source and costs as JSON values."""
        return {"taken": self.source, **{name: dataclasses.asdict(cost) for name, cost in self.costs.items()}}


def choose_int8_ir(kind: str, exported: bytes, int8: bytes, quantization_data: QuantizationData, limits: Limits) -> Int8Ir:
    """Return the int8 IR of one network from its float32 and int8 ONNX models.

    The IR of the int8 ONNX model is preferred, because both engines then give the same labels. NNCF's is used if it meets the
    limits and the other does not.
    """
    irs = {"qdq": to_ir(int8)}
    try:
        irs["nncf"] = to_int8_ir(kind, exported, quantization_data, limits.max_drop_pp)
    except ExportError as error:
        print(str(error), flush=True)
    costs = {name: compare_ir(exported, ir, quantization_data) for name, ir in irs.items()}
    fits = {
        name: cost.drop_pp <= limits.max_drop_pp and cost.same_label >= limits.min_agreement for name, cost in costs.items()
    }
    source = "nncf" if fits.get("nncf") and not fits["qdq"] else "qdq"
    summary = "; ".join(
        f"{name} accuracy loss {cost.drop_pp:+.2f} pp, same label as fp32 for {PERCENTAGE_POINTS * cost.same_label:.1f} %"
        for name, cost in costs.items()
    )
    print(f"{kind} int8 IR: {summary}; the bundle gets {source}", flush=True)
    return Int8Ir(irs[source], source, costs)


def predict_ir(ir: Ir, inputs: Iterable[Feed], head: str) -> F32:
    """Run an IR over inputs; return the probabilities of one head, float32 [N, classes]."""
    compiled = compile_ir(ir)
    logits = np.concatenate([compiled(feed)[head].copy() for feed in inputs])
    return softmax(logits, classes=logits.shape[1])


def compile_ir(ir: Ir) -> Any:
    """Compile an IR for the CPU with one thread and float32 arithmetic."""
    core = _openvino().Core()
    return core.compile_model(core.read_model(ir.xml, ir.weights), "CPU", SETTINGS)


def _serialize(model: Any, half: bool) -> Ir:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.xml"
        _openvino().save_model(model, str(path), compress_to_fp16=half)
        interface = {port.any_name for port in (*model.inputs, *model.outputs)}
        return Ir(_canonical(path.read_bytes(), interface), path.with_suffix(".bin").read_bytes())


def _canonical(xml: bytes, interface: set[str]) -> bytes:
    """Name layers by type and position, and remove metadata and the names of internal ports."""
    root = ET.fromstring(xml)  # noqa: S314  OpenVINO wrote it just now
    root.set("name", "network")
    for layer in root.iter("layer"):
        layer.set("name", f"{layer.get('type')}_{layer.get('id')}")
        for metadata in layer.findall("rt_info"):
            layer.remove(metadata)
    for metadata in root.findall("rt_info"):
        root.remove(metadata)
    for port in root.iter("port"):
        if not interface.intersection(port.get("names", "").split(",")):
            port.attrib.pop("names", None)  # internal names contain running numbers
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _openvino() -> Any:
    try:
        import openvino  # noqa: PLC0415  an extra
    except ImportError as error:
        raise UsageError("--formats openvino needs OpenVINO: pip install 'moodring[export]'") from error
    return openvino


def _nncf() -> Any:
    os.environ["NNCF_CI"] = "1"  # switches NNCF's telemetry off
    try:
        import nncf  # noqa: PLC0415  an extra; the import takes two seconds
    except ImportError as error:
        raise UsageError("int8 for OpenVINO needs NNCF: pip install 'moodring[export]'") from error
    nncf.set_log_level(NNCF_LOG_LEVEL)
    return nncf
