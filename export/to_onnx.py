"""A PyTorch network to the bytes of one ONNX file: fixed shapes, named inputs and outputs, nothing that varies between runs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings

import onnx
import torch

from moodring.errors import ExportError
from moodring.export.merge_ensemble import merge_ensemble
from moodring.export.networks import Network

OPSET = 20


def to_onnx(network: Network) -> bytes:
    """Export for batch 1, a speech branch as it is run (`side_by_side`).

    Raises ExportError where PyTorch cannot express the network in ONNX.
    """
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                merge_ensemble(network.module.eval()),
                network.zeros(),
                dynamo=True,
                external_data=False,
                opset_version=OPSET,
                input_names=list(network.inputs),
                output_names=list(network.outputs),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(f"{network.kind}: PyTorch cannot export this network to ONNX ({error})") from error
    finally:
        log.setLevel(level)
    if program is None:
        raise ExportError(f"{network.kind}: PyTorch exported nothing")
    return _strip_metadata(program.model_proto)


def _strip_metadata(model: onnx.ModelProto) -> bytes:
    """Drop where nodes came from (source paths, stack traces): a bundle holds what it computes, not who made it."""
    for holder in (model, model.graph):
        del holder.metadata_props[:]
        holder.doc_string = ""
    graph = model.graph
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
