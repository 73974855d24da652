"""Quantisation-aware training, the last resort where int8 costs too much: the network learns to answer as before despite it.

Weights are rounded per channel and the inputs of layers to 256 steps, as int8 will round them; gradients pass the rounding as
if it were not there (Jacob et al. 2018). The teacher is the network itself in float32, so no labels are needed.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from moodring.export.networks import Network

F32 = NDArray[np.float32]
QUANTIZED_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
EPOCHS = 10
LEARNING_RATE = 1e-5  # small: the network is right already, and few inputs are there to learn from
BATCH_SIZE = 16  # inputs a step; each passes by itself, since a network may take one alone
INT8_MAX = 127  # either side of zero


class FakeQuantWeight(nn.Module):
    """Rounds weights [outputs, ...] to int8, each output by its own scale."""

    def forward(self, weight: Tensor) -> Tensor:
        scale = weight.detach().abs().flatten(1).amax(dim=1).clamp_min(1e-12) / INT8_MAX
        zero = torch.zeros(len(scale), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -INT8_MAX, INT8_MAX)


class FakeQuantInput:
    """Rounds a layer's input to 256 steps between the extremes that it saw while `watching`."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.observing = True

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0]
        if self.observing:
            self.low, self.high = min(self.low, float(x.detach().min())), max(self.high, float(x.detach().max()))
            return inputs
        scale = max(self.high - self.low, 1e-12) / 255
        return (torch.fake_quantize_per_tensor_affine(x, scale, round(-self.low / scale), 0, 255), *inputs[1:])


def supports_qat(network: Network) -> bool:
    """Say whether a network has layers whose weights PyTorch can move; one that came as ONNX has none."""
    return any(isinstance(module, QUANTIZED_LAYERS) for module in network.module.modules())


def quantization_aware_training(
    network: Network, inputs: Sequence[dict[str, F32]], epochs: int = EPOCHS, learning_rate: float = LEARNING_RATE
) -> Network:
    """Return a copy of the network, trained on `inputs` to answer in int8 as the original does in float32."""
    student, input_quantizers = copy.deepcopy(network.module).eval(), []
    arguments = [tuple(torch.from_numpy(one[name]) for name in network.inputs) for one in inputs]
    layers = [module for module in student.modules() if isinstance(module, QUANTIZED_LAYERS)]
    handles = []
    for layer in layers:
        input_quantizers.append(FakeQuantInput())
        handles.append(layer.register_forward_pre_hook(input_quantizers[-1]))
    with torch.no_grad():
        expected = [_outputs(student(*example)) for example in arguments]
    for one in input_quantizers:
        one.observing = False
    for layer in layers:
        layer.weight.requires_grad = True
        parametrize.register_parametrization(layer, "weight", FakeQuantWeight())
    variances = [torch.cat([output[index] for output in expected]).var().clamp_min(1e-6) for index in range(len(expected[0]))]
    optimiser = torch.optim.Adam([parameter for parameter in student.parameters() if parameter.requires_grad], lr=learning_rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        order = torch.randperm(len(arguments), generator=generator).tolist()
        for batch in (order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)):
            optimiser.zero_grad()
            for row in batch:
                outputs = zip(_outputs(student(*arguments[row])), expected[row], variances, strict=True)
                loss = sum(((found - wanted) ** 2).mean() / variance for found, wanted, variance in outputs)
                (loss / len(batch)).backward()
            optimiser.step()
    for layer in layers:
        _remove_fake_quant(layer)
    for handle in handles:
        handle.remove()
    return dataclasses.replace(network, module=student)


def _remove_fake_quant(layer: nn.Module) -> None:
    """Leave the layer its trained weights, unrounded: the quantiser rounds them."""
    parametrized: Any = layer
    weight = parametrized.parametrizations.weight.original.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    with torch.no_grad():
        parametrized.weight.copy_(weight)


def _outputs(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
