"""ONNX models as bytes: validity checks, inference sessions and reproducible serialisation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import AttributeProto, TensorProto, defs, numpy_helper

from moodring.errors import ExportError

OLDEST_OPSET = 13  # the first with per-channel quantisation
NEWEST_OPSET = 21  # the newest that every supported runtime reads
HALF_PRECISION = {TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
# Attributes of standard operators that hold the dtype of an output
DTYPE_ATTRIBUTES = {"to", "dtype", "output_dtype", "output_datatype", "stash_type"}
LOG_ERRORS_ONLY = 3  # ONNX Runtime's severity level


def open_session(data: bytes) -> ort.InferenceSession:
    """Open a model in ONNX Runtime on one CPU thread. Raise ONNX Runtime's own exceptions if it cannot be loaded."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = LOG_ERRORS_ONLY
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def serialize(model: onnx.ModelProto) -> bytes:
    """Return the bytes of a model; equal models give equal bytes."""
    return bytes(model.SerializeToString(deterministic=True))


def strip_metadata(parts: Iterable[Any]) -> None:
    """Remove metadata and documentation from parts of an ONNX model (protobuf messages), in place."""
    for part in parts:
        del part.metadata_props[:]
        part.doc_string = ""


def check_onnx(source: str, data: bytes) -> None:
    """Check that every supported engine can run a model and that it can be quantised to int8.

    `source` names the model in error messages. Raises ExportError if the file is not valid ONNX, has an unsupported opset or
    operator, external weights, or weights that are not finite.
    """
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf has its own exception types
        raise ExportError(f"{source}: not an ONNX file ({error}); export it again") from error
    _check_opset(source, model)
    _check_operators(source, model)
    _check_weights(source, model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"{source}: not a valid ONNX model ({reason}); export it again") from error


def _check_opset(source: str, model: onnx.ModelProto) -> None:
    opsets = {part.domain: part.version for part in model.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx", 0))
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ExportError(
            f"{source}: opset {opset} is not supported; this version needs {OLDEST_OPSET} to {NEWEST_OPSET}: export it again "
            f"with opset_version={NEWEST_OPSET - 1}, or convert it with onnx.version_converter"
        )


def _check_operators(source: str, model: onnx.ModelProto) -> None:
    for node in _nodes(model.graph):
        if node.domain not in ("", "ai.onnx"):
            raise ExportError(
                f"{source}: operator {node.domain}.{node.op_type} (node {node.name or '-'}) is not a standard ONNX operator; "
                "not every engine implements it: write the network with standard operators"
            )
        if not defs.has(node.op_type):
            raise ExportError(
                f"{source}: ONNX has no operator {node.op_type!r} (node {node.name or '-'}); export the network again"
            )


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a graph and of its subgraphs."""
    for node in graph.node:
        yield node
        for inner in _subgraphs(node):
            yield from _nodes(inner)


def _check_weights(source: str, model: onnx.ModelProto) -> None:
    for part in model.graph.initializer:
        if part.data_location == onnx.TensorProto.EXTERNAL:
            raise ExportError(f"{source}: {part.name} is stored in another file; export the model with embedded weights")
        values = numpy_helper.to_array(part)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            remedy = "train it again"
            if values.dtype == np.float16:
                remedy = "float16 holds at most 65504: export the float32 weights, or train it again"
            raise ExportError(f"{source}: {count} of {values.size} values of {part.name} are not finite; {remedy}")


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def to_float32(model: onnx.ModelProto) -> dict[str, int]:
    """Replace float16 and bfloat16 by float32 in a model, in place: weights, inputs, outputs, constants and casts.

    Return the number of weights and constants of each replaced dtype. The runtime computes in float32, and float32 holds every
    value of the others.
    """
    counts = dict.fromkeys(HALF_PRECISION.values(), 0)
    _graph_to_float32(model.graph, counts)
    return {dtype: count for dtype, count in counts.items() if count}


def _graph_to_float32(graph: onnx.GraphProto, counts: dict[str, int]) -> None:
    for tensor in graph.initializer:
        _tensor_to_float32(tensor, counts)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in HALF_PRECISION:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.INT and attribute.name in DTYPE_ATTRIBUTES and attribute.i in HALF_PRECISION:
                attribute.i = TensorProto.FLOAT
            elif attribute.type == AttributeProto.TENSOR:
                _tensor_to_float32(attribute.t, counts)
        for inner in _subgraphs(node):
            _graph_to_float32(inner, counts)


def _tensor_to_float32(tensor: onnx.TensorProto, counts: dict[str, int]) -> None:
    if tensor.data_type in HALF_PRECISION:
        counts[HALF_PRECISION[tensor.data_type]] += math.prod(tensor.dims)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
