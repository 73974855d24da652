"""The speech branch as it is run: what is pooled of all its members stands in one tensor, and goes through one pooling.

The same numbers as `train.models.speech` gives, from two thirds as many operations: each costs an int8 network some
microseconds besides its arithmetic, and without them a window takes a sixth less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge.features.spec import SpeechSpec
from train.models.speech import VARIANCE_FLOOR, SpeechNet

ROW_FRAMES = math.gcd(SpeechSpec().window_frames, 12)  # standardised at once: calls on short rows cost more than the work


class SideBySide(nn.Module):
    """A trained SpeechNet of any number of members, with its inputs and outputs."""

    def __init__(self, network: SpeechNet) -> None:
        super().__init__()
        self.members = network.members
        deviation = torch.sqrt(network.standardise.running_var + network.standardise.eps)
        self.scale: Tensor
        self.shift: Tensor
        self.register_buffer("scale", (1 / deviation).repeat(ROW_FRAMES))
        self.register_buffer("shift", (-network.standardise.running_mean / deviation).repeat(ROW_FRAMES))
        pools = [member.statistics for member in network.members]
        self.hidden = _diagonal([pool.hidden for pool in pools])
        self.score = _diagonal([pool.score for pool in pools])
        self.project = _project([member.project for member in network.members])
        self.logits, self.usable = network.logits, network.usable

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        frames, columns = window.shape[1:]
        rows = window.reshape(-1, frames // ROW_FRAMES, ROW_FRAMES * columns)
        x = (rows * self.scale + self.shift).reshape(-1, frames, columns).transpose(1, 2)  # [B, 42, 300]
        x = torch.cat([member.over_time(x) for member in self.members], dim=1)  # [B, all their widths, 75]
        weight = torch.softmax(self.score(torch.relu(self.hidden(x))), dim=2)
        weighted = weight * x
        mean = weighted.sum(dim=2)
        variance = (weighted * x).sum(dim=2) - mean * mean
        deviation = torch.sqrt(variance.clamp(min=0.0) + VARIANCE_FLOOR)
        embedding = torch.relu(self.project(torch.cat([mean, deviation], dim=1)))
        return embedding, self.logits(embedding), self.usable(embedding)


@torch.no_grad()
def side_by_side(module: nn.Module) -> nn.Module:
    """Return a speech branch as it is run, and every other network as it is."""
    return SideBySide(module).eval() if isinstance(module, SpeechNet) else module


def _diagonal(layers: list[nn.Conv1d]) -> nn.Conv1d:
    """Return one convolution of width 1 that does to its part of the channels what each layer did to its own."""
    weight = _block_diagonal([layer.weight[:, :, 0] for layer in layers])
    joint = nn.Conv1d(weight.shape[1], weight.shape[0], 1)
    joint.load_state_dict({"weight": weight[:, :, None], "bias": _biases(layers)})
    return joint


def _project(layers: list[nn.Linear]) -> nn.Linear:
    """Return the members' projections as one, of all their means and then all their deviations."""
    halves = [layer.weight.chunk(2, dim=1) for layer in layers]
    weight = torch.cat([_block_diagonal([pair[half] for pair in halves]) for half in (0, 1)], dim=1)
    joint = nn.Linear(weight.shape[1], weight.shape[0])
    joint.load_state_dict({"weight": weight, "bias": _biases(layers)})
    return joint


def _biases(layers: Sequence[nn.Module]) -> Tensor:
    return torch.cat([layer.get_parameter("bias") for layer in layers])


def _block_diagonal(blocks: Sequence[Tensor]) -> Tensor:
    joint: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return joint
