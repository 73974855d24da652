"""The speech branch: a residual 1-D network over cepstra with attentive statistics pooling (Okabe et al. 2018).

Input: windows float32 [B, 300, 40] from edge.features.speech_window. Outputs, by name and in this order:
embedding [B, 128], logits [B, 8], usable [B, 1] (speech at all). Plain convolutions, batch normalisation, ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge.labels import CLASSES

EMBEDDING = 128
OUTPUTS = ("embedding", "logits", "usable")
VARIANCE_FLOOR = 1e-4


def convolution(inputs: int, outputs: int, size: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv1d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm1d(outputs))


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
    def __init__(self, cepstra: int = 40, width: int = 128, dropout: float = 0.3) -> None:
        super().__init__()
        self.standardise = nn.BatchNorm1d(cepstra, affine=False)
        self.stem = convolution(cepstra, width, 5)  # [B, w, 300]
        self.blocks = nn.ModuleList([Block(width, dropout / 3) for _ in range(3)])
        self.pool = nn.MaxPool1d(2)
        self.statistics = AttentiveStatistics(width)
        self.project = nn.Linear(2 * width, EMBEDDING)
        self.dropout = nn.Dropout(dropout)
        self.logits = nn.Linear(EMBEDDING, CLASSES)
        self.usable = nn.Linear(EMBEDDING, 1)

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.standardise(window.transpose(1, 2))  # [B, 40, 300]
        x = self.pool(torch.relu(self.stem(x)))  # [B, w, 150]
        x = self.pool(self.blocks[0](x))  # [B, w, 75]
        x = self.blocks[2](self.blocks[1](x))
        embedding = torch.relu(self.project(self.statistics(x)))  # [B, 128]
        features = self.dropout(embedding)
        return embedding, self.logits(features), self.usable(features)
