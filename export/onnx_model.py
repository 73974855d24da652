"""ONNX models as bytes: validity checks, inference sessions and reproducible serialisation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import defs, numpy_helper

from moodring.errors import ExportError

OLDEST_OPSET = 13  # the first with per-channel quantisation
NEWEST_OPSET = 21  # the newest that every supported runtime reads
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
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _check_weights(source: str, model: onnx.ModelProto) -> None:
    for part in model.graph.initializer:
        if part.data_location == onnx.TensorProto.EXTERNAL:
            raise ExportError(f"{source}: {part.name} is stored in another file; export the model with embedded weights")
        values = numpy_helper.to_array(part)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            count = int((~np.isfinite(values)).sum())
            raise ExportError(f"{source}: {count} of {values.size} values of {part.name} are not finite; train it again")
