"""Verification of an exported network against its original: names, shapes and output values, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from moodring.errors import ExportError, UsageError
from moodring.export.networks import Network
from moodring.export.onnx_model import open_session
from moodring.export.quantization.data import Feed, Inputs
from moodring.export.to_openvino import Ir, compile_ir

TOLERANCE = 1e-4  # largest absolute difference of any output
RANDOM_INPUTS = 32
PROBABILITY_TOLERANCE = 2e-3  # of a probability and of the sum of a row; float16 rounds to about 1e-3


@dataclass(frozen=True, slots=True)
class VerifiedExport:
    """An ONNX model that agrees with its original, and the largest absolute difference over the `compared` inputs."""

    onnx: bytes
    max_abs_difference: float
    compared: int


@torch.no_grad()
def run_torch(network: Network, inputs: Feed) -> Feed:
    """Run the PyTorch network on one input; return its outputs by name."""
    outputs: Any = network.module(*(torch.from_numpy(inputs[name]) for name in network.inputs))
    if isinstance(outputs, torch.Tensor):
        outputs = (outputs,)
    return {name: output.numpy() for name, output in zip(network.outputs, outputs, strict=True)}


def verify(network: Network, exported: bytes, inputs: Inputs, tolerance: float = TOLERANCE) -> VerifiedExport:
    """Compare an ONNX model with the PyTorch network over inputs.

    Raises ExportError if a name or shape differs, or an output by more than `tolerance`.
    """
    try:
        session = open_session(exported)
    except Exception as error:  # ONNX Runtime's exceptions have no public base class
        raise ExportError(f"{network.kind}: ONNX Runtime cannot load the exported file ({error})") from error
    _check_interface(network, "inputs", {node.name: tuple(node.shape) for node in session.get_inputs()})
    _check_interface(network, "outputs", {node.name: tuple(node.shape) for node in session.get_outputs()})
    if not inputs:
        raise ExportError(f"{network.kind}: no inputs to compare the export with its original; check the data folder")
    max_difference = 0.0
    for feed in inputs:
        expected = run_torch(network, feed)
        found = dict(zip(network.outputs, session.run(list(network.outputs), feed), strict=True))
        for name, value in expected.items():
            difference = float(np.abs(found[name] - value).max())
            if not difference <= tolerance:  # also rejects NaN
                raise ExportError(
                    f"{network.kind}: output {name!r} differs from PyTorch's by {difference:.2g} (allowed {tolerance:g}); "
                    "nothing was written"
                )
            max_difference = max(max_difference, difference)
    return VerifiedExport(exported, max_difference, len(inputs))


def random_inputs(network: Network, count: int = RANDOM_INPUTS) -> Inputs:
    """Return standard normal inputs with the shapes of the network, the same on every call."""
    rng = np.random.default_rng(0)
    return [{name: rng.standard_normal(shape, np.float32) for name, shape in network.inputs.items()} for _ in range(count)]


def check_output_type(source: str, network: Network, output_type: str) -> None:
    """Compare what a description calls `logits` with what the network outputs for random inputs.

    `source` names the description, `output_type` is its "logits" or "probabilities".
    Raises UsageError with the line to write.
    """
    rows = np.concatenate([run_torch(network, feed)["logits"] for feed in random_inputs(network)])
    rows = rows[np.isfinite(rows).all(axis=1)].astype(np.float64)
    if not len(rows):
        return
    if output_type == "logits":
        if rows.min() >= 0 and (np.abs(rows.sum(axis=1) - 1) < PROBABILITY_TOLERANCE).all():
            raise UsageError(
                f"{source}: {network.kind} outputs probabilities, not logits: on {len(rows)} random inputs no value is "
                f"negative and each row sums to 1, as after a softmax; add the line `answers: probabilities` below "
                f"`{network.kind}:`"
            )
        return
    if rows.min() < -PROBABILITY_TOLERANCE or rows.max() > 1 + PROBABILITY_TOLERANCE:
        raise UsageError(
            f"{source}: {network.kind} outputs no probabilities: on {len(rows)} random inputs its values lie between "
            f"{rows.min():.3g} and {rows.max():.3g}; remove the line `answers: probabilities` below `{network.kind}:` if these "
            "are logits"
        )


def verify_ir(network: Network, exported: bytes, ir: Ir, inputs: Inputs, tolerance: float = TOLERANCE) -> float:
    """Compare an IR with the ONNX model; return the largest absolute difference of any output.

    Raises ExportError if that is more than `tolerance`.
    """
    session, compiled = open_session(exported), compile_ir(ir)
    max_difference = 0.0
    for feed in inputs:
        expected = session.run(list(network.outputs), feed)
        found = compiled(feed)
        max_difference = max(
            max_difference,
            *(float(np.abs(found[name] - value).max()) for name, value in zip(network.outputs, expected, strict=True)),
        )
    if not max_difference <= tolerance:
        raise ExportError(
            f"{network.kind}: an output in OpenVINO differs from ONNX Runtime's by {max_difference:.2g} "
            f"(allowed {tolerance:g}); nothing was written"
        )
    return max_difference


def _check_interface(network: Network, which: str, found: dict[str, tuple[Any, ...]]) -> None:
    expected = network.inputs if which == "inputs" else network.outputs
    if found != expected:
        raise ExportError(f"{network.kind}: the exported {which} are {found}, expected {expected}; nothing was written")
