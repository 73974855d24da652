"""The speech branch: residual 1-D networks over cepstra with attentive statistics pooling (Okabe et al. 2018), side by side.

Each was trained by itself; the answer is the mean of their logits (a deep ensemble: Lakshminarayanan et al. 2017).

Input: windows float32 [B, 300, 42] from moodring.features.audio.window. Outputs, by name and in this order:
embedding [B, 128 members], logits [B, 8], usable [B, 1] (speech at all). Plain convolutions, batch normalisation, ReLU.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from moodring.features.spec import SpeechSpec
from moodring.labels import CLASSES

EMBEDDING = 128
OUTPUTS = ("embedding", "logits", "usable")
VARIANCE_FLOOR = 1e-4


def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    convolve = nn.Conv1d(inputs, outputs, size, stride=stride, padding=size // 2, bias=False)
    return nn.Sequential(convolve, nn.BatchNorm1d(outputs))


class Block(nn.Module):
    """Two convolutions over time and the way past them."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.first = convolution(width, width, 3)
        self.second = convolution(width, width, 3)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.dropout(torch.relu(self.first(x))))
        return torch.relu(x + y)


class AttentiveStatistics(nn.Module):
    """Mean and deviation over time, [B, C, T] -> [B, 2C], each channel weighing the frames its own way."""

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
    """`early` channels at 20 ms a frame, then `width` at 40 ms: standardised [B, columns, 300] to an embedding [B, 128]."""

    def __init__(self, columns: int, early: int, width: int, dropout: float) -> None:
        super().__init__()
        self.stem = convolution(columns, early, 5, stride=2)
        self.early = Block(early, dropout / 3)
        self.widen = convolution(early, width, 3, stride=2)
        self.late = nn.ModuleList([Block(width, dropout / 3) for _ in range(2)])
        self.statistics = AttentiveStatistics(width)
        self.project = nn.Linear(2 * width, EMBEDDING)

    def frame_features(self, x: Tensor) -> Tensor:
        """Return what is pooled, [B, w, 75]."""
        x = self.early(torch.relu(self.stem(x)))  # [B, e, 150]
        x = torch.relu(self.widen(x))
        for block in self.late:
            x = block(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.project(self.statistics(self.frame_features(x))))


class SpeechNet(nn.Module):
    """Networks of these sizes, (early, width) each, whose embeddings stand one behind the other."""

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
    """Return one network of the members of several, whose logits are the mean of theirs.

    Its windows are standardised as the first network's are, and the other members' first layers set right for that. What they
    see beyond a window's ends is then the first one's mean and not their own, which moves a logit in its third decimal.
    """
    joined = SpeechNet(networks[0].columns, [size for network in networks for size in network.sizes])
    joined.standardise = networks[0].standardise
    members = []
    for network in networks:
        for member in network.members:
            members.append(copy.deepcopy(member))
            _rebase_standardisation(joined.standardise, network.standardise, members[-1])
    joined.members = nn.ModuleList(members)
    for name in ("logits", "usable"):
        head, heads = getattr(joined, name), [getattr(network, name) for network in networks]
        head.weight.copy_(torch.cat([each.weight for each in heads], dim=1) / len(heads))
        head.bias.copy_(torch.stack([each.bias for each in heads]).mean(dim=0))
    return joined.eval()


def _rebase_standardisation(target: nn.BatchNorm1d, source: nn.BatchNorm1d, member: Member) -> None:
    """Set a member's first layer so that it answers to windows standardised by `other` as it did to those by its `own`."""
    (target_std, source_std), stem = ((torch.sqrt(each.running_var + each.eps) for each in (target, source)), member.stem)
    scale, shift = (
        target_std / source_std,
        (target.running_mean - source.running_mean) / source_std,
    )  # own = scale * other + shift
    stem[1].running_mean -= (stem[0].weight * shift[:, None]).sum(dim=(1, 2))
    stem[0].weight *= scale[:, None]
