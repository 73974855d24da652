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
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
EPOCHS = 10
RATE = 1e-5  # small: the network is right already, and few inputs are there to learn from
BATCH = 16  # inputs a step; each passes by itself, since a network may take one alone
STEPS = 127  # either side of zero


class RoundedWeight(nn.Module):
    """Rounds weights [outputs, ...] to int8, each output by its own scale."""

    def forward(self, weight: Tensor) -> Tensor:
        scale = weight.detach().abs().flatten(1).amax(dim=1).clamp_min(1e-12) / STEPS
        zero = torch.zeros(len(scale), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -STEPS, STEPS)


class RoundedInput:
    """Rounds a layer's input to 256 steps between the extremes that it saw while `watching`."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.watching = True

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0]
        if self.watching:
            self.low, self.high = min(self.low, float(x.detach().min())), max(self.high, float(x.detach().max()))
            return inputs
        scale = max(self.high - self.low, 1e-12) / 255
        return (torch.fake_quantize_per_tensor_affine(x, scale, round(-self.low / scale), 0, 255), *inputs[1:])


def can_be_trained(network: Network) -> bool:
    """Say whether a network has layers whose weights PyTorch can move; one that came as ONNX has none."""
    return any(isinstance(module, LAYERS) for module in network.module.modules())


def trained_on(network: Network, inputs: Sequence[dict[str, F32]], epochs: int = EPOCHS, rate: float = RATE) -> Network:
    """Return a copy of the network, trained on `inputs` to answer in int8 as the original does in float32."""
    student, rounded = copy.deepcopy(network.module).eval(), []
    arguments = [tuple(torch.from_numpy(one[name]) for name in network.inputs) for one in inputs]
    layers = [module for module in student.modules() if isinstance(module, LAYERS)]
    handles = []
    for layer in layers:
        rounded.append(RoundedInput())
        handles.append(layer.register_forward_pre_hook(rounded[-1]))
    with torch.no_grad():
        expected = [_outputs(student(*given)) for given in arguments]
    for one in rounded:
        one.watching = False
    for layer in layers:
        layer.weight.requires_grad = True
        parametrize.register_parametrization(layer, "weight", RoundedWeight())
    spread = [torch.cat([answer[place] for answer in expected]).var().clamp_min(1e-6) for place in range(len(expected[0]))]
    optimiser = torch.optim.Adam([parameter for parameter in student.parameters() if parameter.requires_grad], lr=rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        order = torch.randperm(len(arguments), generator=generator).tolist()
        for chosen in (order[start : start + BATCH] for start in range(0, len(order), BATCH)):
            optimiser.zero_grad()
            for row in chosen:
                answers = zip(_outputs(student(*arguments[row])), expected[row], spread, strict=True)
                loss = sum(((found - wanted) ** 2).mean() / width for found, wanted, width in answers)
                (loss / len(chosen)).backward()
            optimiser.step()
    for layer in layers:
        _restore(layer)
    for handle in handles:
        handle.remove()
    return dataclasses.replace(network, module=student)


def _restore(layer: nn.Module) -> None:
    """Leave the layer its trained weights, unrounded: the quantiser rounds them."""
    held: Any = layer
    weight = held.parametrizations.weight.original.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    with torch.no_grad():
        held.weight.copy_(weight)


def _outputs(answers: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return answers if isinstance(answers, tuple) else (answers,)
