"""Adaptation of a user's ONNX model: moodring's tensor names, batch 1, and logits instead of probabilities."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from moodring.errors import ExportError
from moodring.export.networks import BATCH, Shapes
from moodring.export.onnx_model import check_onnx, open_session, serialize, to_float32

PREFIX = "own/"  # keeps the names inside the model apart from moodring's; part of the bundle's bytes
MIN_PROBABILITY = 1e-7  # lower bound of a probability before its logarithm
IR_VERSION = 10  # the newest that every supported runtime reads


class OnnxModule(nn.Module):
    """An ONNX model with one input as a PyTorch module, so that its variants can be compared with it."""

    def __init__(self, data: bytes, name: str, outputs: list[str]) -> None:
        super().__init__()
        self.session, self.name, self.outputs = open_session(data), name, outputs

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(value) for value in self.session.run(self.outputs, {self.name: x.numpy()}))


def read_onnx(source: str, path: Path) -> onnx.ModelProto:
    """Return a user's ONNX model with prefixed names and float32 weights. Raises ExportError if it cannot be used.

    `source` names the description and section in errors. A line is printed where float16 weights become float32.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{source}: {path} cannot be read ({error.strerror})") from error
    check_onnx(str(path), data)
    model = onnx.compose.add_prefix(onnx.load_from_string(data), PREFIX)
    for dtype, count in to_float32(model).items():
        print(f"{source}: {count} {dtype} weights of {path.name} become float32, in which the runtime computes", flush=True)
    return model


def adapt_onnx(source: str, model: onnx.ModelProto, inputs: Shapes, outputs: dict[str, str], output_type: str) -> bytes:
    """Return the model of `read_onnx` with moodring's tensor names, batch 1 and logits.

    `source` names the section and the file in errors. `inputs` is the one input by moodring's name, `outputs` maps moodring's
    output names to the user's, `output_type` is "logits" or "probabilities". Raises ExportError if the model has other inputs
    or outputs.
    """
    user_input = _single_input_name(source, model, inputs)
    user_outputs = {value.name.removeprefix(PREFIX): value for value in model.graph.output}
    missing = [user_name for user_name in outputs.values() if user_name not in user_outputs]
    if missing:
        raise ExportError(
            f"{source} has the outputs {', '.join(user_outputs)}, not {', '.join(missing)}; name its outputs under `outputs`"
        )
    ((name, shape),) = inputs.items()
    nodes = [helper.make_node("Identity", [name], [user_input], name=f"{PREFIX}from_{name}"), *model.graph.node]
    weights = list(model.graph.initializer)
    output_infos = []
    for output_name, user_name in outputs.items():
        if output_name == "logits" and output_type == "probabilities":
            weights.append(helper.make_tensor(f"{PREFIX}least", TensorProto.FLOAT, [], [MIN_PROBABILITY]))
            nodes += _logarithm(PREFIX + user_name, output_name)
        else:
            nodes.append(helper.make_node("Identity", [PREFIX + user_name], [output_name], name=f"{PREFIX}to_{output_name}"))
        elem_type = user_outputs[user_name].type.tensor_type.elem_type
        if elem_type != TensorProto.FLOAT:
            raise ExportError(f"{source} has the output {user_name} as {_dtype_name(elem_type)}; export it as float32")
        dims = [part.dim_value for part in user_outputs[user_name].type.tensor_type.shape.dim][1:]
        output_infos.append(helper.make_tensor_value_info(output_name, TensorProto.FLOAT, [BATCH, *dims]))
    graph = helper.make_graph(
        nodes, "network", [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)], output_infos, weights
    )
    opsets, ir_version = list(model.opset_import), min(model.ir_version, IR_VERSION)
    return serialize(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version))


def _logarithm(probabilities: str, logits: str) -> list[onnx.NodeProto]:
    """Return the nodes that compute logits as the logarithm of clipped probabilities."""
    return [
        helper.make_node("Max", [probabilities, f"{PREFIX}least"], [f"{PREFIX}positive"], name=f"{PREFIX}max"),
        helper.make_node("Log", [f"{PREFIX}positive"], [logits], name=f"{PREFIX}log"),
    ]


def _single_input_name(source: str, model: onnx.ModelProto, inputs: Shapes) -> str:
    """Return the name of the model's only input. Raise ExportError if its shape or dtype does not match the spec."""
    weights = {part.name for part in model.graph.initializer}
    user_inputs = [value for value in model.graph.input if value.name not in weights]
    if len(user_inputs) != 1:
        raise ExportError(f"{source} must have one input, but has {len(user_inputs)}")
    (shape,) = inputs.values()
    tensor_type = user_inputs[0].type.tensor_type
    found = tuple(part.dim_value if part.HasField("dim_value") else -1 for part in tensor_type.shape.dim)
    fits = len(found) == len(shape) and all(actual in (expected, -1) for expected, actual in zip(shape, found, strict=True))
    if not fits or tensor_type.elem_type != TensorProto.FLOAT:
        dtype = _dtype_name(tensor_type.elem_type)
        raise ExportError(f"{source} takes {dtype} {found}, but the spec produces float32 {shape}; change one of them")
    return str(user_inputs[0].name)


def _dtype_name(elem_type: int) -> str:
    """Return the name of an ONNX element type as NumPy writes it: int64."""
    names = {TensorProto.DOUBLE: "float64", TensorProto.FLOAT: "float32"}
    return names.get(elem_type) or str(TensorProto.DataType.Name(elem_type)).lower()
