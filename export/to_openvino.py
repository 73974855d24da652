"""An exported network to OpenVINO's own format: float32, float16 weights, or int8 by NNCF, which watches the accuracy.

The same input gives the same bytes: what OpenVINO writes of versions, paths and running numbers is taken out. Neither
OpenVINO's converter nor NNCF is let report to its makers.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moodring.errors import ExportError, UsageError
from moodring.export.quantization.data import QuantizationData
from moodring.inference.branches import softmax

F32 = NDArray[np.float32]
PERCENTAGE_POINTS = 100.0
SETTINGS = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}


@dataclass(frozen=True, slots=True)
class Ir:
    """A network in OpenVINO's format: its operations, and its weights."""

    xml: bytes
    weights: bytes

    def __len__(self) -> int:
        return len(self.xml) + len(self.weights)


def to_ir(exported: bytes, half: bool = False) -> Ir:
    """Convert an ONNX file; `half` keeps the weights in float16, while the arithmetic stays in float32."""
    return _serialize(_openvino().Core().read_model(io.BytesIO(exported)), half)


def to_int8_ir(kind: str, exported: bytes, quantization_data: QuantizationData, max_drop_pp: float) -> Ir:
    """Quantise by NNCF: where int8 costs more than allowed, it puts the layers that cause it back into float32.

    Raises ExportError where that does not help.
    """
    openvino, nncf, head = _openvino(), _nncf(), quantization_data.head

    def accuracy(compiled: Any, labelled_inputs: Iterable[tuple[dict[str, F32], int]]) -> tuple[float, None]:
        return float(np.mean([int(compiled(one)[head].argmax()) == label for one, label in labelled_inputs])), None

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
    done = _serialize(quantized, half=False)
    cost = compare_ir(exported, done, quantization_data)
    if cost.drop_pp > max_drop_pp:
        raise ExportError(
            f"{kind}: int8 by NNCF loses {cost.drop_pp:.2f} points over {len(labelled_inputs)} inputs; allowed are "
            f"{max_drop_pp:g}. Keep fp32, or allow more with --max-drop"
        )
    return done


@dataclass(frozen=True, slots=True)
class IrComparison:
    """What a form costs in OpenVINO, compared with float32 there: points of accuracy, and agreement of first labels."""

    drop_pp: float
    same_label: float
    mean_abs_difference: float


def compare_ir(exported: bytes, ir: Ir, quantization_data: QuantizationData) -> IrComparison:
    """Compare a form with the network's float32 form over the inputs that judge it."""
    before, after = (predict_ir(one, quantization_data.validation, quantization_data.head) for one in (to_ir(exported), ir))
    first = [probabilities.argmax(axis=1) for probabilities in (before, after)]
    accuracies = [float((labels == quantization_data.labels).mean()) for labels in first]
    return IrComparison(
        PERCENTAGE_POINTS * (accuracies[0] - accuracies[1]),
        float((first[0] == first[1]).mean()),
        float(np.abs(before - after).mean()),
    )


def predict_ir(ir: Ir, inputs: Iterable[dict[str, F32]], head: str) -> F32:
    """Run a network in OpenVINO over inputs; return the probabilities of one head, float32 [N, classes]."""
    compiled = compile_ir(ir)
    logits = np.concatenate([compiled(one)[head].copy() for one in inputs])
    return softmax(logits, classes=logits.shape[1])


def compile_ir(ir: Ir) -> Any:
    """Load a network in OpenVINO."""
    core = _openvino().Core()
    return core.compile_model(core.read_model(ir.xml, ir.weights), "CPU", SETTINGS)


def _serialize(model: Any, half: bool) -> Ir:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.xml"
        _openvino().save_model(model, str(path), compress_to_fp16=half)
        interface = {port.any_name for port in (*model.inputs, *model.outputs)}
        return Ir(_canonical(path.read_bytes(), interface), path.with_suffix(".bin").read_bytes())


def _canonical(xml: bytes, interface: set[str]) -> bytes:
    """Name layers by their place in the file, and drop notes on how it was made."""
    root = ET.fromstring(xml)  # noqa: S314  just written by OpenVINO
    root.set("name", "network")
    for layer in root.iter("layer"):
        layer.set("name", f"{layer.get('type')}_{layer.get('id')}")
        for note in layer.findall("rt_info"):
            layer.remove(note)
    for note in root.findall("rt_info"):
        root.remove(note)
    for port in root.iter("port"):
        if not interface.intersection(port.get("names", "").split(",")):
            port.attrib.pop("names", None)  # what lies within has running numbers
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True))


def _openvino() -> Any:
    try:
        import openvino  # noqa: PLC0415  an extra
    except ImportError as error:
        raise UsageError("--formats openvino needs OpenVINO: pip install 'moodring[export]'") from error
    return openvino


def _nncf() -> Any:
    os.environ["NNCF_CI"] = "1"  # or it reports its use
    try:
        import nncf  # noqa: PLC0415  an extra, and two seconds
    except ImportError as error:
        raise UsageError("int8 for OpenVINO needs NNCF: pip install 'moodring[export]'") from error
    nncf.set_log_level(40)  # errors
    return nncf
