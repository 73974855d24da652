"""The speech branch as it is run: what is pooled of all its members stands in one tensor, and goes through one pooling.

The same numbers as `moodring.train.models.speech` gives, from two thirds as many operations: each costs an int8 network some
microseconds besides its arithmetic, and without them a window takes a sixth less. And from channels as many as the int8 kernels
want: those of the first layers, which see two frames at a time, and of the pooling, a fifteenth less once more.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from moodring.errors import MoodringError
from moodring.features.spec import SpeechSpec
from moodring.train.models.speech import VARIANCE_FLOOR, SpeechNet

LANES = 16  # channels a kernel of ONNX Runtime computes at once on x86; what is no multiple of it goes a slower way
ROW_FRAMES = math.gcd(SpeechSpec().window_frames, 12)  # standardised at once: calls on short rows cost more than the work


class MergedEnsemble(nn.Module):
    """A trained SpeechNet of any number of members, with its inputs and outputs."""

    def __init__(self, network: SpeechNet) -> None:
        super().__init__()
        self.members = copy.deepcopy(network.members)
        for member in self.members:
            member.stem[0] = _frame_pair_conv(member.stem[0])
        deviation = torch.sqrt(network.standardise.running_var + network.standardise.eps)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", (1 / deviation).repeat(ROW_FRAMES))
        self.register_buffer("shift", (-network.standardise.running_mean / deviation).repeat(ROW_FRAMES))
        pools = [member.statistics for member in network.members]
        hidden = sum(pool.hidden.out_channels for pool in pools)
        channel_padding = -hidden % LANES
        self.hidden = _block_diagonal_conv([pool.hidden for pool in pools], extra_outputs=channel_padding)
        self.score = _block_diagonal_conv([pool.score for pool in pools], extra_inputs=channel_padding)
        self.project = _block_diagonal_linear([member.project for member in network.members])
        self.logits, self.usable = network.logits, network.usable

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        frames, columns = window.shape[1:]
        rows = window.reshape(-1, frames // ROW_FRAMES, ROW_FRAMES * columns)
        x = (rows * self.scale + self.shift).reshape(-1, frames // 2, 2 * columns).transpose(1, 2)  # [B, 84, 150]
        x = torch.cat([member.frame_features(x) for member in self.members], dim=1)  # [B, all their widths, 75]
        weight = torch.softmax(self.score(torch.relu(self.hidden(x))), dim=2)
        weighted = weight * x
        mean = weighted.sum(dim=2)
        variance = (weighted * x).sum(dim=2) - mean * mean
        deviation = torch.sqrt(variance.clamp(min=0.0) + VARIANCE_FLOOR)
        embedding = torch.relu(self.project(torch.cat([mean, deviation], dim=1)))
        return embedding, self.logits(embedding), self.usable(embedding)


@torch.no_grad()
def merge_ensemble(module: nn.Module) -> nn.Module:
    """Return a speech branch as it is run, and every other network as it is."""
    return MergedEnsemble(module).eval() if isinstance(module, SpeechNet) else module


def _frame_pair_conv(layer: nn.Conv1d) -> nn.Conv1d:
    """Return a convolution over pairs of frames that gives what one with a stride of two and five taps gives over frames."""
    outputs, columns, taps = layer.weight.shape
    if (taps, layer.stride, layer.padding) != (5, (2,), (2,)):
        raise MoodringError(f"a voice network's first layer must have five taps at every second frame, found {layer}")
    padded = functional.pad(layer.weight, (0, 6 - taps))  # of three pairs, the last of which ends a frame later
    merged = nn.Conv1d(2 * columns, outputs, 3, padding=1, bias=False)
    weight = padded.reshape(outputs, columns, 3, 2).permute(0, 3, 1, 2).reshape(outputs, 2 * columns, 3)
    merged.load_state_dict({"weight": weight})
    return merged


def _block_diagonal_conv(layers: list[nn.Conv1d], extra_outputs: int = 0, extra_inputs: int = 0) -> nn.Conv1d:
    """Return one convolution of width 1 that does to its part of the channels what each layer did to its own.

    It has so many more channels, which are nought and not looked at.
    """
    weight = functional.pad(_block_diagonal([layer.weight[:, :, 0] for layer in layers]), (0, extra_inputs, 0, extra_outputs))
    merged = nn.Conv1d(weight.shape[1], weight.shape[0], 1)
    merged.load_state_dict({"weight": weight[:, :, None], "bias": functional.pad(_biases(layers), (0, extra_outputs))})
    return merged


def _block_diagonal_linear(layers: list[nn.Linear]) -> nn.Linear:
    """Return the members' projections as one, of all their means and then all their deviations."""
    halves = [layer.weight.chunk(2, dim=1) for layer in layers]
    weight = torch.cat([_block_diagonal([pair[half] for pair in halves]) for half in (0, 1)], dim=1)
    merged = nn.Linear(weight.shape[1], weight.shape[0])
    merged.load_state_dict({"weight": weight, "bias": _biases(layers)})
    return merged


def _biases(layers: Sequence[nn.Module]) -> Tensor:
    return torch.cat([layer.get_parameter("bias") for layer in layers])


def _block_diagonal(blocks: Sequence[Tensor]) -> Tensor:
    merged: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return merged
