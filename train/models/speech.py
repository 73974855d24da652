"""Speech network: residual 1-D networks over cepstra with attentive statistics pooling (Okabe et al. 2018).

The members of an ensemble are trained separately; the ensemble outputs the mean of their logits (deep ensemble,
Lakshminarayanan et al. 2017).

Input: windows float32 [B, 300, 42] from moodring.features.audio.window. Outputs, in this order: embedding [B, 128 members],
logits [B, 8], usable logit [B, 1] (speech or not). All convolutions are plain, with batch normalisation and ReLU.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from moodring.features.spec import SpeechSpec
from moodring.labels import CLASSES
from moodring.types import F32

EMBEDDING = 128
OUTPUTS = ("embedding", "logits", "usable")
VARIANCE_FLOOR = 1e-4


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    convolve = nn.Conv1d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(convolve, nn.BatchNorm1d(outputs))


class Block(nn.Module):
    """Residual block: two convolutions over time and a shortcut."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.first = convolution(width, width, 3)
        self.second = convolution(width, width, 3)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.dropout(torch.relu(self.first(x))))
        return torch.relu(x + y)


class AttentiveStatistics(nn.Module):
    """Weighted mean and standard deviation over time, [B, C, T] to [B, 2C], with separate frame weights for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.hidden = nn.Conv1d(width, width // 2, 1)
        self.score = nn.Conv1d(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = torch.softmax(self.score(torch.relu(self.hidden(x))), dim=2)  # [B, C, T], sums to 1 over T
        mean = (weight * x).sum(dim=2)
        centred = x - mean.unsqueeze(2)
        variance = (weight * centred * centred).sum(dim=2)
        return torch.cat([mean, torch.sqrt(variance + VARIANCE_FLOOR)], dim=1)


class Member(nn.Module):
    """One network of the ensemble: standardised windows [B, columns, 300] to an embedding [B, 128].

    It has `early` channels at 20 ms a frame, then `width` channels at 40 ms a frame.
    """

    def __init__(self, columns: int, early: int, width: int, dropout: float) -> None:
        super().__init__()
        self.stem = convolution(columns, early, 5, stride=2)
        self.early = Block(early, dropout / 3)
        self.widen = convolution(early, width, 3, stride=2)
        self.late = nn.ModuleList([Block(width, dropout / 3) for _ in range(2)])
        self.statistics = AttentiveStatistics(width)
        self.project = nn.Linear(2 * width, EMBEDDING)

    def frame_features(self, x: Tensor) -> Tensor:
        """Return the features before pooling, [B, width, 75]."""
        x = self.early(torch.relu(self.stem(x)))  # [B, e, 150]
        x = torch.relu(self.widen(x))
        for block in self.late:
            x = block(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.project(self.statistics(self.frame_features(x))))


class SpeechNet(nn.Module):
    """An ensemble with one member for each (early, width) of `members`; the embedding concatenates theirs."""

    def __init__(
        self, columns: int = SpeechSpec().columns, members: Sequence[Sequence[int]] = ((64, 112),), dropout: float = 0.3
    ) -> None:
        super().__init__()
        self.columns, self.sizes = columns, [tuple(size) for size in members]
        self.standardise = nn.BatchNorm1d(columns, affine=False)
        self.members = nn.ModuleList([Member(columns, early, width, dropout) for early, width in members])
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(len(members) * EMBEDDING, CLASSES)
        self.usable = nn.Linear(len(members) * EMBEDDING, 1)

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.standardise(window.transpose(1, 2))  # [B, 42, 300]
        embedding = torch.cat([member(x) for member in self.members], dim=1)
        features = self.dropout(embedding)
        return embedding, self.logits(features), self.usable(features)


@torch.no_grad()
def build_ensemble(networks: Sequence[SpeechNet]) -> SpeechNet:
    """Return one network with the members of `networks`; its logits are the mean of theirs.

    It standardises windows as the first network does; the first layer of each other member is adapted to that. Beyond the
    ends of a window, these members then see the mean of the first network, which changes a logit in its third decimal.
    """
    joined = SpeechNet(networks[0].columns, [size for network in networks for size in network.sizes])
    joined.standardise = networks[0].standardise
    members = []
    for network in networks:
        for member in network.members:
            adapted = cast("Member", copy.deepcopy(member))
            _rebase_standardisation(joined.standardise, network.standardise, adapted)
            members.append(adapted)
    joined.members = nn.ModuleList(members)
    for name in ("logits", "usable"):
        head, heads = getattr(joined, name), [getattr(network, name) for network in networks]
        head.weight.copy_(torch.cat([each.weight for each in heads], dim=1) / len(heads))
        head.bias.copy_(torch.stack([each.bias for each in heads]).mean(dim=0))
    return joined.eval()


def _rebase_standardisation(target: nn.BatchNorm1d, source: nn.BatchNorm1d, member: Member) -> None:
    """Adapt the first layer of `member`, trained on windows standardised by `source`, to windows standardised by `target`."""
    target_mean, target_std = _statistics(target)
    source_mean, source_std = _statistics(source)
    scale, shift = target_std / source_std, (target_mean - source_mean) / source_std  # of source = scale * target + shift
    convolve, normalise = cast("nn.Conv1d", member.stem[0]), cast("nn.BatchNorm1d", member.stem[1])
    mean, _ = _statistics(normalise)
    mean -= (convolve.weight * shift[:, None]).sum(dim=(1, 2))
    convolve.weight *= scale[:, None]


def _statistics(normalisation: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Return the running mean and standard deviation of each column."""
    mean, variance = normalisation.running_mean, normalisation.running_var
    if mean is None or variance is None:
        raise ValueError("batch normalisation without running statistics")
    return mean, torch.sqrt(variance + normalisation.eps)


@torch.no_grad()
def predict(model: nn.Module, windows: F32, batch: int = 128) -> dict[str, F32]:
    """Run the network on windows float32 [N, 300, columns]; return its outputs by name, float32 [N, ...]."""
    pieces: list[list[F32]] = [[], [], []]
    for start in range(0, len(windows), batch):
        for piece, output in zip(pieces, model(torch.from_numpy(windows[start : start + batch])), strict=True):
            piece.append(output.numpy())
    return {name: np.concatenate(piece) for name, piece in zip(OUTPUTS, pieces, strict=True)}
