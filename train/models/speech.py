"""The speech branch: a residual 1-D network over cepstra with attentive statistics pooling (Okabe et al. 2018).

Input: windows float32 [B, 300, 42] from edge.features.speech_window. Outputs, by name and in this order:
embedding [B, 128], logits [B, 8], usable [B, 1] (speech at all). Plain convolutions, batch normalisation, ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge.features.spec import SpeechSpec
from edge.labels import CLASSES

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


class SpeechNet(nn.Module):
    """`early` channels at 20 ms a frame, then `width` at 40 ms."""

    def __init__(self, columns: int = SpeechSpec().columns, early: int = 96, width: int = 128, dropout: float = 0.3) -> None:
        super().__init__()
        self.standardise = nn.BatchNorm1d(columns, affine=False)
        self.stem = convolution(columns, early, 5, stride=2)
        self.early = Block(early, dropout / 3)
        self.widen = convolution(early, width, 3, stride=2)
        self.late = nn.ModuleList([Block(width, dropout / 3) for _ in range(2)])
        self.statistics = AttentiveStatistics(width)
        self.project = nn.Linear(2 * width, EMBEDDING)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(EMBEDDING, CLASSES)
        self.usable = nn.Linear(EMBEDDING, 1)

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.standardise(window.transpose(1, 2))  # [B, 42, 300]
        x = self.early(torch.relu(self.stem(x)))  # [B, e, 150]
        x = torch.relu(self.widen(x))  # [B, w, 75]
        for block in self.late:
            x = block(x)
        embedding = torch.relu(self.project(self.statistics(x)))  # [B, 128]
        features = self.dropout(embedding)
        return embedding, self.logits(features), self.usable(features)
