"""An ONNX file of others, made to fit: moodring's names, batch 1, and logits where it gave probabilities."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from torch import nn

from moodring.errors import ExportError
from moodring.export.checks import check_onnx
from moodring.export.networks import BATCH, Shapes

PREFIX = "own/"  # so that no name within is one of ours
MIN_PROBABILITY = 1e-7  # a probability, before its logarithm
IR_VERSION = 10  # the newest that every supported runtime reads


class OnnxModule(nn.Module):
    """An ONNX file as a module, so that what is made of it can be compared with it."""

    def __init__(self, data: bytes, name: str, outputs: list[str]) -> None:
        super().__init__()
        self.session, self.name, self.outputs = ort.InferenceSession(data, providers=["CPUExecutionProvider"]), name, outputs

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(value) for value in self.session.run(self.outputs, {self.name: x.numpy()}))


def adapt_onnx(source: str, path: Path, inputs: Shapes, outputs: dict[str, str], output_type: str) -> bytes:
    """Return a user's ONNX file with moodring's names, batch 1 and logits; `outputs` maps ours to theirs.

    Raises ExportError where it is no file that can be used, or takes or gives something else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ExportError(f"{source}: {path} cannot be read ({error.strerror})") from error
    check_onnx(str(path), data)
    model = onnx.compose.add_prefix(onnx.load_from_string(data), PREFIX)
    taken = _single_input_name(f"{source}: {path.name}", model, inputs)
    source_outputs = {value.name.removeprefix(PREFIX): value for value in model.graph.output}
    missing = [theirs for theirs in outputs.values() if theirs not in source_outputs]
    if missing:
        raise ExportError(
            f"{source}: {path.name} gives {', '.join(source_outputs)}, not {', '.join(missing)}; say so under `outputs`"
        )
    ((name, shape),) = inputs.items()
    nodes = [helper.make_node("Identity", [name], [taken], name=f"{PREFIX}from_{name}"), *model.graph.node]
    weights = list(model.graph.initializer)
    output_infos = []
    for output_name, theirs in outputs.items():
        if output_name == "logits" and output_type == "probabilities":
            weights.append(helper.make_tensor(f"{PREFIX}least", TensorProto.FLOAT, [], [MIN_PROBABILITY]))
            nodes.append(
                helper.make_node("Max", [PREFIX + theirs, f"{PREFIX}least"], [f"{PREFIX}positive"], name=f"{PREFIX}max")
            )
            nodes.append(helper.make_node("Log", [f"{PREFIX}positive"], [output_name], name=f"{PREFIX}log"))
        else:
            nodes.append(helper.make_node("Identity", [PREFIX + theirs], [output_name], name=f"{PREFIX}to_{output_name}"))
        dims = [part.dim_value for part in source_outputs[theirs].type.tensor_type.shape.dim][1:]
        output_infos.append(helper.make_tensor_value_info(output_name, TensorProto.FLOAT, [BATCH, *dims]))
    graph = helper.make_graph(
        nodes, "network", [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)], output_infos, weights
    )
    adapted = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=min(model.ir_version, IR_VERSION))
    return bytes(adapted.SerializeToString(deterministic=True))


def _single_input_name(source: str, model: onnx.ModelProto, inputs: Shapes) -> str:
    """Return the name of the one input, which must take what the spec makes."""
    weights = {part.name for part in model.graph.initializer}
    taken = [value for value in model.graph.input if value.name not in weights]
    if len(taken) != 1:
        raise ExportError(f"{source} must take one input, and takes {len(taken)}")
    (shape,) = inputs.values()
    tensor_type_proto = taken[0].type.tensor_type
    theirs = tuple(part.dim_value if part.HasField("dim_value") else -1 for part in tensor_type_proto.shape.dim)
    fits = len(theirs) == len(shape) and all(actual in (expected, -1) for expected, actual in zip(shape, theirs, strict=True))
    if not fits or tensor_type_proto.elem_type != TensorProto.FLOAT:
        raise ExportError(f"{source} takes {theirs}, but the spec makes float32 {shape}; change one of them")
    return str(taken[0].name)
