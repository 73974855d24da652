"""Quantisation-aware training (Jacob et al. 2018), the last resort if int8 costs too much accuracy.

Weights are rounded per output channel and the inputs of layers to 256 steps, as int8 rounds them; gradients pass through the
rounding unchanged. The teacher is the same network in float32, so no labels are needed.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from moodring.export.networks import Network
from moodring.export.quantization.data import Inputs

QUANTIZED_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
EPOCHS = 10
LEARNING_RATE = 1e-5  # small, because the network is already trained and there are few inputs
BATCH_SIZE = 16  # inputs per optimiser step; each runs alone, because some networks take batch 1 only
INT8_MAX = 127  # symmetric around zero
MIN_SCALE_RANGE = 1e-12
MIN_VARIANCE = 1e-6


class FakeQuantWeight(nn.Module):
    """Round weights [outputs, ...] to int8 with one scale per output."""

    def forward(self, weight: Tensor) -> Tensor:
        scale = weight.detach().abs().flatten(1).amax(dim=1).clamp_min(MIN_SCALE_RANGE) / INT8_MAX
        zero = torch.zeros(len(scale), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -INT8_MAX, INT8_MAX)


class FakeQuantInput:
    """Round a layer's input to 256 steps between the extremes that were recorded while `observing`."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.observing = True

    def __call__(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0]
        if self.observing:
            self.low, self.high = min(self.low, float(x.detach().min())), max(self.high, float(x.detach().max()))
            return inputs
        scale = max(self.high - self.low, MIN_SCALE_RANGE) / 255
        return (torch.fake_quantize_per_tensor_affine(x, scale, round(-self.low / scale), 0, 255), *inputs[1:])


def supports_qat(network: Network) -> bool:
    """Return whether a network has PyTorch layers to train; a network that comes as ONNX has none."""
    return any(isinstance(module, QUANTIZED_LAYERS) for module in network.module.modules())


def quantization_aware_training(
    network: Network, inputs: Inputs, epochs: int = EPOCHS, learning_rate: float = LEARNING_RATE
) -> Network:
    """Return a trained copy of a network whose outputs under int8 rounding are close to the original's in float32.

    The loss is the squared error of each output, divided by the variance of that output over `inputs`.
    """
    student = copy.deepcopy(network.module).eval()
    examples = [tuple(torch.from_numpy(feed[name]) for name in network.inputs) for feed in inputs]
    layers = [module for module in student.modules() if isinstance(module, QUANTIZED_LAYERS)]
    quantizers = [FakeQuantInput() for _ in layers]
    handles = [layer.register_forward_pre_hook(quantizer) for layer, quantizer in zip(layers, quantizers, strict=True)]
    with torch.no_grad():
        expected = [_as_tuple(student(*example)) for example in examples]
    for quantizer in quantizers:
        quantizer.observing = False
    for layer in layers:
        layer.weight.requires_grad = True
        parametrize.register_parametrization(layer, "weight", FakeQuantWeight())
    _train(student, examples, expected, epochs, learning_rate)
    for layer in layers:
        _remove_fake_quant(layer)
    for handle in handles:
        handle.remove()
    return dataclasses.replace(network, module=student)


def _train(
    student: nn.Module,
    examples: Sequence[tuple[Tensor, ...]],
    expected: Sequence[tuple[Tensor, ...]],
    epochs: int,
    learning_rate: float,
) -> None:
    variances = [
        torch.cat([outputs[index] for outputs in expected]).var().clamp_min(MIN_VARIANCE) for index in range(len(expected[0]))
    ]
    optimiser = torch.optim.Adam([parameter for parameter in student.parameters() if parameter.requires_grad], lr=learning_rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        order = torch.randperm(len(examples), generator=generator).tolist()
        for batch in (order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)):
            optimiser.zero_grad()
            for row in batch:
                outputs = zip(_as_tuple(student(*examples[row])), expected[row], variances, strict=True)
                loss = sum(((found - wanted) ** 2).mean() / variance for found, wanted, variance in outputs)
                (loss / len(batch)).backward()
            optimiser.step()


def _remove_fake_quant(layer: nn.Module) -> None:
    """Restore a plain layer with the trained, unrounded weights."""
    parametrized: Any = layer
    weight = parametrized.parametrizations.weight.original.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    with torch.no_grad():
        parametrized.weight.copy_(weight)


def _as_tuple(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)
