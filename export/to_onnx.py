"""Export of a PyTorch network to ONNX: fixed shapes, named inputs and outputs, the same bytes for the same weights."""

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
from moodring.export.onnx_model import serialize, strip_metadata

OPSET = 20


def to_onnx(network: Network) -> bytes:
    """Export a network for batch 1; a speech network is merged first (`merge_ensemble`).

    Raises ExportError if PyTorch cannot express the network in ONNX.
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
        raise ExportError(f"{network.kind}: PyTorch returned no ONNX model; check the installed version of PyTorch")
    model = program.model_proto  # a new message on each access
    graph = model.graph
    # Source paths and stack traces would make the bytes depend on the machine.
    strip_metadata((model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info))
    onnx.checker.check_model(model, full_check=True)
    return serialize(model)
