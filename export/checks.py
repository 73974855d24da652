"""What an ONNX file must be before anything is made of it: valid, of a known opset, with finite weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import defs, numpy_helper

from moodring.errors import ExportError

OLDEST_OPSET = 13  # the first that quantises per channel
NEWEST_OPSET = 21  # the newest that every supported runtime reads


def check_onnx(source: str, data: bytes) -> None:
    """Raise ExportError, saying what to do, unless this runtime's engines can run the file and int8 can be made of it."""
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's own
        raise ExportError(f"{source}: is no ONNX file ({error}); export it again") from error
    _check_opset(source, model)
    _check_operators(source, model)
    _check_weights(source, model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"{source}: is no valid ONNX network ({reason}); export it again") from error


def _check_opset(source: str, model: onnx.ModelProto) -> None:
    opsets = {part.domain: part.version for part in model.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx", 0))
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ExportError(
            f"{source}: has opset {opset}; this version needs {OLDEST_OPSET} to {NEWEST_OPSET}: export it again with "
            f"opset_version={NEWEST_OPSET - 1}, or convert it with onnx.version_converter"
        )


def _check_operators(source: str, model: onnx.ModelProto) -> None:
    for node in _nodes(model.graph):
        if node.domain not in ("", "ai.onnx"):
            raise ExportError(
                f"{source}: operator {node.domain}.{node.op_type} (node {node.name or '-'}) is none of ONNX's own, and not every "
                "engine knows it; write the network with standard operators"
            )
        if not defs.has(node.op_type):
            raise ExportError(
                f"{source}: there is no operator {node.op_type!r} (node {node.name or '-'}) in ONNX; export it again"
            )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _check_weights(source: str, model: onnx.ModelProto) -> None:
    for part in model.graph.initializer:
        if part.data_location == onnx.TensorProto.EXTERNAL:
            raise ExportError(f"{source}: keeps {part.name} in another file; export it with its weights inside")
        values = numpy_helper.to_array(part)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise ExportError(f"{source}: {count} of {values.size} values of {part.name} are not finite; train it again")
